import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createCursor, type Cursor } from '../src/cursor.js';
import type { ChannelOptions } from '../src/types.js';

const at = (sequence: number, epoch = 'e1') => ({ epoch, sequence });

function cursorAt(sequence: number, options: ChannelOptions = {}): Cursor {
  const cursor = createCursor(options);
  cursor.subscribed(at(sequence));
  return cursor;
}

describe('a position', () => {
  it('begins where the application asked, and goes on where it was', () => {
    expect(createCursor({}).start()).toEqual({});
    expect(createCursor({ last: 3 }).start()).toEqual({ last: 3 });
    const cursor = cursorAt(5, { last: 3 });
    expect(cursor.start()).toEqual({ since: at(5) });
    cursor.advance(7);
    expect(cursor.start()).toEqual({ since: at(7) });
  });

  it('takes the next event, drops what it had, and asks again for a hole once', () => {
    const cursor = cursorAt(5);
    expect(cursor.judge(6)).toBe('deliver');
    cursor.advance(6);
    expect(cursor.judge(6)).toBe('drop');
    expect(cursor.judge(8)).toBe('repair');
    expect(cursor.judge(8)).toEqual({ from: 7, to: 7 });
    cursor.advance(8);
    expect(cursor.judge(10)).toBe('repair');
  });

  it('knows that a filter skips on purpose', () => {
    const cursor = cursorAt(5);
    expect(cursor.judge(9, 5)).toBe('deliver');
    cursor.advance(12);
    expect(cursor.judge(14, 12)).toBe('deliver');
    expect(cursor.judge(14, 13)).toBe('repair');
  });

  it('asks for critical events until all of them have come', () => {
    const cursor = cursorAt(0, { replay: 'critical' });
    expect(cursor.replaying).toBe(true);
    cursor.advance(4);
    expect(cursor.start()).toEqual({ replay: 'critical' });
    // The connection broke; they come again from the beginning.
    expect(cursor.subscribed(at(0))).toBe(false);
    expect(cursor.judge(4, 2)).toBe('drop');
    expect(cursor.judge(9, 4)).toBe('deliver');
    cursor.replayed(20);
    expect(cursor.start()).toEqual({ since: at(20) });
    expect(cursor.replaying).toBe(false);
  });

  it('notices that the history is another one while it asks for critical events', () => {
    const cursor = cursorAt(0, { replay: 'critical' });
    cursor.advance(4);
    expect(cursor.subscribed(at(0, 'e2'))).toBe(true);
    expect(cursor.judge(1)).toBe('deliver');
  });

  it('calls what follows a live subscription live, and what was asked for replayed', () => {
    expect(cursorAt(5).replaying).toBe(false);
    expect(cursorAt(5, { last: 2 }).replaying).toBe(true);
    const cursor = cursorAt(5);
    cursor.subscribed(at(5));
    expect(cursor.replaying).toBe(true);
  });

  it('hands on every event once and in order, and tells every hole, whatever is lost or repeated', () => {
    fc.assert(fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 30 }), fc.boolean())), (wire) => {
      const cursor = cursorAt(0);
      let seen = 0;
      let asked = false;
      for (const [sequence, lose] of wire) {
        if (lose) continue;
        const step = cursor.judge(sequence);
        if (step === 'repair') {
          expect(asked).toBe(false);
          asked = true;
          continue;
        }
        if (step === 'drop') {
          expect(sequence).toBeLessThanOrEqual(seen);
          continue;
        }
        if (step !== 'deliver') {
          expect(step).toEqual({ from: seen + 1, to: sequence - 1 });
          seen = step.to;
        }
        expect(sequence).toBe(seen + 1);
        seen = sequence;
        asked = false;
        cursor.advance(sequence);
      }
    }));
  });
});
