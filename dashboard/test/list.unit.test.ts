import { describe, expect, it } from 'vitest';
import type { Row } from '../src/api.js';
import { change, type Page, turn } from '../src/list.js';

interface Item extends Row {
  readonly queue?: number;
  readonly timeline?: readonly { readonly id: number }[];
}

const page = (revision: number, rows: readonly Item[]): Page<Item> => ({ revision, at: 'then', total: 9, matched: rows.length, rows });

describe('a page', () => {
  it('is taken over as it is', () => {
    const first = page(1, [{ id: 'a' }]);
    expect(turn(null, first)).toBe(first);
  });

  it('keeps the objects of rows that say the same, in the new order', () => {
    const held = page(1, [{ id: 'a', queue: 1, timeline: [{ id: 1 }] }, { id: 'b', queue: 2 }]);
    const next = turn(held, page(2, [{ id: 'b', queue: 3 }, { id: 'a', queue: 1, timeline: [{ id: 1 }] }]));
    expect(next.rows.map(({ id }) => id)).toEqual(['b', 'a']);
    expect(next.rows[1]).toBe(held.rows[0]);
    expect(next.rows[0]).toEqual({ id: 'b', queue: 3 });
  });

  it('does not keep a row that has lost a field, or had been gone', () => {
    const held = page(1, [{ id: 'a', queue: 1 }, { id: 'b', gone: true }]);
    expect(turn(held, page(2, [{ id: 'a' }, { id: 'b' }])).rows).toEqual([{ id: 'a' }, { id: 'b' }]);
  });
});

describe('changes', () => {
  const held = page(4, [{ id: 'a', queue: 1 }, { id: 'b', queue: 2 }]);

  it('alter the fields they name and leave all else', () => {
    const next = change(held, { revision: 5, base: 4, at: 'now', matched: 3, rows: [{ id: 'b', queue: 7 }] });
    expect(next).toEqual({ ...page(5, [{ id: 'a', queue: 1 }, { id: 'b', queue: 7 }]), at: 'now', matched: 3 });
    expect(next?.rows[0]).toBe(held.rows[0]);
  });

  it('keep all rows if none changed', () => {
    expect(change(held, { revision: 5, base: 4, rows: [] })?.rows).toBe(held.rows);
  });

  it('mark rows that are gone, which stay where they are', () => {
    expect(change(held, { revision: 5, base: 4, rows: [{ id: 'a', gone: true }] })?.rows[0]).toEqual({ id: 'a', queue: 1, gone: true });
  });

  it('do not bring rows that the page did not hold', () => {
    expect(change(held, { revision: 5, base: 4, rows: [{ id: 'c', queue: 1 }] })?.rows).toHaveLength(2);
  });

  it.each([[null, 4], [held, 3], [held, 5]])('that follow something else are refused', (before, base) => {
    expect(change(before, { revision: base + 1, base, rows: [] })).toBeNull();
  });

  it('lengthen what grows, without repeating, and only so far', () => {
    const before = page(1, [{ id: 'a', timeline: [{ id: 1 }, { id: 2 }] }]);
    const next = change(before, { revision: 2, base: 1, rows: [{ id: 'a', timeline: [{ id: 2 }, { id: 3 }] }] }, { timeline: 2 });
    expect(next?.rows[0]?.timeline).toEqual([{ id: 2 }, { id: 3 }]);
  });
});

describe('a page and its changes', () => {
  it('give the next page', () => {
    // Any two pages of the same rows: what differs, told as changes, leads from one to the other.
    let state = 11;
    const dice = (sides: number): number => (state = (Math.imul(state, 48271) + 7) >>> 0) % sides;
    for (let round = 0; round < 200; round++) {
      const make = (): Item[] => Array.from({ length: 5 }, (_, index) => ({ id: `r${index}`, queue: dice(3) }));
      const [one, other] = [make(), make()];
      const rows = other.filter((row, index) => row.queue !== one[index]?.queue) as (Item & { [field: string]: unknown })[];
      expect(change(page(1, one), { revision: 2, base: 1, rows })?.rows).toEqual(other);
    }
  });
});
