import { describe, expect, it } from 'vitest';
import { append, type History, newest, times } from '../src/series.js';

const held: History = { fromMs: 10_000, stepSeconds: 1, recordingSince: null, figures: { a: [1, 2, 3], b: [null, 5, null] } };

describe('a history', () => {
  it('says when its steps ended', () => {
    expect(times(held)).toEqual([11, 12, 13]);
    expect(times({ ...held, figures: {} })).toEqual([]);
  });

  it('moves on by one step', () => {
    expect(append(held, 14_000, { a: 4, b: 6 })).toEqual({ ...held, fromMs: 11_000, figures: { a: [2, 3, 4], b: [5, null, 6] } });
  });

  it('takes a moment for the step it is nearest to', () => {
    expect(append(held, 14_400, { a: 4 }).figures['a']).toEqual([2, 3, 4]);
    expect(append(held, 13_600, { a: 4 }).figures['a']).toEqual([2, 3, 4]);
  });

  it('has holes where nobody told of a step, and for figures that were not told', () => {
    expect(append(held, 15_000, { a: 4 }).figures).toEqual({ a: [3, null, 4], b: [null, null, null] });
    expect(append(held, 90_000, { a: 4 }).figures['a']).toEqual([null, null, 4]);
    expect(append(held, 90_000, { a: 4 }).fromMs).toBe(87_000);
  });

  it('does not go back', () => {
    expect(append(held, 13_000, { a: 9 })).toBe(held);
    expect(append(held, 2_000, { a: 9 })).toBe(held);
  });
});

describe('the newest value', () => {
  it('is that of the last steps that has one', () => {
    expect([newest([1, 2, null]), newest([1, null, null, null]), newest([]), newest(undefined)]).toEqual([2, null, null, null]);
  });
});
