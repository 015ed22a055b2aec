import type { ChannelOptions, Position } from './types.js';

/** What to do with an event that has a sequence. */
export type Step = 'deliver' | 'drop' | 'repair' | { readonly from: number; readonly to: number };

/** Where a client is in a channel's log: which events are new, which were had, which are missing. Sans I/O. */
export class Cursor {
  /** Null until the server has said where events follow. */
  position: Position | null;
  /** What comes now was asked for from the past. */
  replaying = false;
  /** A hole was noticed and asked for again; what is missing in the answer is gone. */
  #repaired = false;
  /** Critical events were asked for and have not all come. */
  #critical: boolean;
  readonly #options: ChannelOptions;

  constructor(options: ChannelOptions) {
    this.#options = options;
    this.position = options.since ?? null;
    this.#critical = options.replay === 'critical';
  }

  /** Where to begin now: at the position that was reached, else where the application asked. */
  start(): { replay?: 'critical'; since?: Position; last?: number | undefined } {
    return this.#critical ? { replay: 'critical' } : this.position ? { since: this.position } : { last: this.#options.last };
  }

  /** The server confirmed a subscription. True if the history is another one, which nobody else will say. */
  subscribed(position: Position | undefined): boolean {
    if (!position) return false;
    const { replay, since, last } = this.start();
    const reset = replay !== undefined && this.position !== null && this.position.epoch !== position.epoch;
    this.replaying = (replay ?? since ?? last) !== undefined;
    if (!this.position || reset) this.position = position;
    return reset;
  }

  /** Judges an event; `advance` afterwards, when it was handled. */
  judge(sequence: number, previous: number = sequence - 1): Step {
    const last = this.position?.sequence ?? previous;
    if (sequence <= last) return 'drop';
    if (previous <= last) return 'deliver';
    if (this.#repaired) return { from: last + 1, to: previous };
    this.#repaired = true;
    return 'repair';
  }

  /** Everything up to here was handled, skipped or is gone. */
  advance(sequence: number): void {
    this.#repaired = false;
    if (this.position && sequence > this.position.sequence) this.position = { ...this.position, sequence };
  }

  /** What was asked for from the past is there. */
  replayed(sequence: number | undefined): void {
    this.replaying = this.#critical = false;
    if (sequence !== undefined) this.advance(sequence);
  }
}
