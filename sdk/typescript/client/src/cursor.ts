import type { ChannelOptions, Position } from './types.js';

/** What to do with an event that has a sequence. */
export type Step = 'deliver' | 'drop' | 'repair' | { readonly from: number; readonly to: number };

/** Where a client is in a channel's log: which events are new, which were had, which are missing. */
export interface Cursor {
  /** Null until the server has said where events follow. */
  position: Position | null;
  /** What comes now was asked for from the past. */
  readonly replaying: boolean;
  /** Where to begin now: at the position that was reached, else where the application asked. */
  start(): { replay?: 'critical'; since?: Position; last?: number | undefined };
  /** The server confirmed a subscription. True if the history is another one, which nobody else will say. */
  subscribed(position: Position | undefined): boolean;
  /** Judges an event; `advance` afterwards, when it was handled. */
  judge(sequence: number, previous?: number): Step;
  /** Everything up to here was handled, skipped or is gone. */
  advance(sequence: number): void;
  /** What was asked for from the past is there. */
  replayed(sequence?: number): void;
}

/** Sans I/O. */
export function createCursor({ since, last, replay }: ChannelOptions): Cursor {
  let replaying = false;
  /** A hole was noticed and asked for again; what is missing in the answer is gone. */
  let repaired = false;
  /** Critical events were asked for and have not all come. */
  let critical = replay === 'critical';

  const cursor: Cursor = {
    position: since ?? null,
    get replaying() {
      return replaying;
    },
    start: () => (critical ? { replay: 'critical' } : cursor.position ? { since: cursor.position } : { last }),
    subscribed(position) {
      if (!position) return false;
      const known = cursor.position;
      const reset = critical && known !== null && known.epoch !== position.epoch;
      replaying = critical || known !== null || last !== undefined;
      if (!known || reset) cursor.position = position;
      return reset;
    },
    judge(sequence, previous = sequence - 1) {
      const last = cursor.position?.sequence ?? previous;
      if (sequence <= last) return 'drop';
      if (previous <= last) return 'deliver';
      if (repaired) return { from: last + 1, to: previous };
      repaired = true;
      return 'repair';
    },
    advance(sequence) {
      repaired = false;
      const { position } = cursor;
      if (position && sequence > position.sequence) cursor.position = { ...position, sequence };
    },
    replayed(sequence) {
      replaying = critical = false;
      if (sequence !== undefined) cursor.advance(sequence);
    },
  };
  return cursor;
}
