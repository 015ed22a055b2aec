import { type ErrorCode, RealtimeError } from './error.js';
import * as DEFAULTS from './defaults.js';
import type { Ack, Json, PublishOptions, QueuedMessage, QueueOptions } from './types.js';

/** A publish as it is kept: what was asked for, and how far it got. Short names, because it is written often. */
interface Entry extends QueuedMessage {
  readonly options: Omit<PublishOptions, 'id' | 'signal'>;
  readonly bytes: number;
  /** How often it was really sent. */
  sends: number;
  /** When it was sent first, in milliseconds since 1970. */
  firstSentAt: number;
  /** On its way now; then `due` is when the answer is late, otherwise when it may be sent. */
  flying: boolean;
  due: number;
  settle?: (outcome: Ack | RealtimeError) => void;
}

/** What became of the queue's contents, for its owner. */
export interface OutboxHost {
  /** A message was given up. */
  failed(message: QueuedMessage, error: RealtimeError): void;
  /** So many were refused or dropped because the queue is full. */
  overflowed(count: number): void;
  settled(delivered: boolean): void;
  /** The contents changed. */
  changed(): void;
}

/**
 * The publishes that are not settled: which go out when, and what their answers mean. Sans I/O: `wall` is milliseconds since 1970, `steady`
 * those of a clock that is never set.
 */
export class Outbox {
  #entries: Entry[] = [];
  #bytes = 0;
  readonly #options: Required<Omit<QueueOptions, 'storage'>>;
  readonly #ackMs: number;
  readonly #host: OutboxHost;

  constructor(options: QueueOptions, ackMs: number, host: OutboxHost) {
    this.#options = {
      maxMessages: options.maxMessages ?? DEFAULTS.QUEUE_MESSAGES_MAX,
      maxBytes: options.maxBytes ?? DEFAULTS.QUEUE_BYTES_MAX,
      maxAgeMs: options.maxAgeMs ?? DEFAULTS.QUEUE_AGE_MAX_MS,
      overflow: options.overflow ?? 'reject',
    };
    this.#ackMs = ackMs;
    this.#host = host;
  }

  /** How many wait to be sent, first or again. */
  get waiting(): number {
    return this.#entries.filter((entry) => !entry.flying).length;
  }

  get size(): number {
    return this.#entries.length;
  }

  /** When {@link Outbox.tick} or {@link Outbox.next} has something to do. */
  get deadline(): number {
    return this.#entries.reduce((due, entry) => (entry.due > 0 ? Math.min(due, entry.due) : due), Infinity);
  }

  /** Takes a publish; its promise settles in every case. */
  add(channel: string, type: string, data: Json, options: PublishOptions, wall: number): Promise<Ack> {
    const { id = uuid(wall), signal, ...rest } = options;
    return new Promise((resolve, reject) => {
      const bytes = new TextEncoder().encode(JSON.stringify([channel, type, data, rest])).length;
      const known = this.#find(id);
      if (signal?.aborted) return reject(new RealtimeError('aborted'));
      const entry: Entry = known ?? {
        id, channel, type, data, options: rest, bytes, queuedAt: wall, sends: 0, firstSentAt: 0, flying: false, due: 0,
      };
      if (!known && !this.#admit(entry)) return reject(new RealtimeError('queue_full', 'the queue is full', true));
      const others = entry.settle;
      entry.settle = (outcome) => {
        others?.(outcome);
        if (outcome instanceof Error) reject(outcome);
        else resolve(outcome);
      };
      signal?.addEventListener('abort', () => {
        if (entry.sends === 0) this.#settle(entry, new RealtimeError('aborted'));
      }, { once: true });
      this.#host.changed();
    });
  }

  #admit(entry: Entry): boolean {
    const { maxMessages, maxBytes, overflow } = this.#options;
    const full = (): boolean => this.#entries.length >= maxMessages || this.#bytes + entry.bytes > maxBytes;
    let dropped = 0;
    while (full() && overflow === 'drop-oldest' && entry.bytes <= maxBytes) {
      const oldest = this.#entries[0];
      if (!oldest) break;
      this.#give(oldest, 'queue_full', 'newer messages took its place');
      dropped++;
    }
    const admitted = !full();
    if (dropped > 0 || !admitted) this.#host.overflowed(dropped || 1);
    if (admitted) {
      this.#entries.push(entry);
      this.#bytes += entry.bytes;
    }
    return admitted;
  }

  /** What is to be sent now, in order; it counts as sent. */
  next(wall: number, steady: number): Record<string, unknown>[] {
    const out: Record<string, unknown>[] = [];
    const held = new Set<string>();
    let flying = this.#entries.filter((entry) => entry.flying).length;
    for (const entry of this.#entries) {
      if (entry.flying || held.has(entry.channel)) continue;
      // What is behind a message that has to wait, waits with it: the order of a channel is kept.
      if (flying >= DEFAULTS.PUBLISH_IN_FLIGHT || entry.due > steady) {
        held.add(entry.channel);
        continue;
      }
      flying++;
      entry.flying = true;
      entry.sends++;
      entry.firstSentAt ||= wall;
      entry.due = steady + this.#ackMs;
      const { id, channel, type, data, options } = entry;
      out.push({ type: 'publish', id, channel, event: type, data, message_id: id, ...options });
    }
    if (out.length > 0) this.#host.changed();
    return out;
  }

  /** The server accepted it. */
  acknowledged(id: unknown, sequenceNumber: number | null, duplicate: boolean): void {
    const entry = this.#find(id);
    if (entry) this.#settle(entry, { id: entry.id, sequenceNumber, duplicate });
  }

  /** The server refused it, or asks to come later. False if it is nobody's. */
  refused(id: unknown, error: RealtimeError, retryMs: number, wall: number, steady: number): boolean {
    const entry = this.#find(id);
    if (entry && error.retryable) this.#again(entry, steady + retryMs, 'retries_exhausted', wall, error);
    else if (entry) this.#fail(entry, error);
    return entry !== undefined;
  }

  /** The connection is gone: what was on its way goes out again, in order. */
  disconnected(): void {
    for (const entry of this.#entries) {
      if (entry.flying) Object.assign(entry, { flying: false, due: 0 });
    }
  }

  /** Gives up what is too old and repeats what is overdue. True if an answer is late: is the server there? */
  tick(wall: number, steady: number): boolean {
    let late = false;
    for (const entry of [...this.#entries]) {
      if (wall - entry.queuedAt > this.#options.maxAgeMs) this.#give(entry, 'expired', 'it waited for too long');
      else if (entry.flying && entry.due <= steady) {
        late = true;
        this.#again(entry, 0, 'no_ack', wall);
      }
    }
    return late;
  }

  /** Gives up everything. */
  clear(): void {
    for (const entry of [...this.#entries]) this.#give(entry, 'disconnected', 'logged out');
  }

  /** As text, for a storage. */
  save(): string {
    return JSON.stringify(this.#entries.map(({ flying: _, due: __, settle: ___, ...kept }) => kept));
  }

  /** Takes in what {@link Outbox.save} wrote, before everything that came since. Throws if it is something else. */
  load(text: string): void {
    const kept: unknown = JSON.parse(text);
    if (!Array.isArray(kept)) throw new TypeError('not a queue');
    const entries = kept.filter(isKept).filter((entry) => !this.#find(entry.id));
    this.#entries.unshift(...entries.map((entry) => ({ ...entry, flying: false, due: 0 })));
    this.#bytes = this.#entries.reduce((sum, entry) => sum + entry.bytes, 0);
  }

  #find(id: unknown): Entry | undefined {
    return this.#entries.find((entry) => entry.id === id);
  }

  #again(entry: Entry, due: number, code: ErrorCode, wall: number, cause?: RealtimeError): void {
    if (entry.sends > DEFAULTS.PUBLISH_RETRIES || wall - entry.firstSentAt > DEFAULTS.PUBLISH_RETRY_FOR_MS) {
      return this.#give(entry, code, `sent ${entry.sends} times`, cause);
    }
    entry.flying = false;
    entry.due = due;
  }

  #give(entry: Entry, code: ErrorCode, message: string, cause?: RealtimeError): void {
    this.#fail(entry, new RealtimeError(code, message, true, { cause }));
  }

  #fail(entry: Entry, error: RealtimeError): void {
    this.#settle(entry, error);
    const { id, channel, type, data, queuedAt } = entry;
    this.#host.failed({ id, channel, type, data, queuedAt }, error);
  }

  #settle(entry: Entry, outcome: Ack | RealtimeError): void {
    const index = this.#entries.indexOf(entry);
    if (index < 0) return;
    this.#entries.splice(index, 1);
    this.#bytes -= entry.bytes;
    entry.settle?.(outcome);
    this.#host.settled(!(outcome instanceof Error));
    this.#host.changed();
  }
}

function isKept(value: unknown): value is Omit<Entry, 'flying' | 'due' | 'settle'> {
  if (typeof value !== 'object' || value === null) return false;
  const { id, channel, type, options, bytes, queuedAt, sends, firstSentAt } = value as Partial<Record<keyof Entry, unknown>>;
  return [id, channel, type].every((text) => typeof text === 'string')
    && [bytes, queuedAt, sends, firstSentAt].every((number) => typeof number === 'number')
    && typeof options === 'object';
}

/** A UUIDv7 (RFC 9562): its order is that of time. */
export function uuid(wall: number): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes.forEach((byte, index) => {
    if (index < 6) bytes[index] = Math.floor(wall / 256 ** (5 - index));
    else if (index === 6) bytes[index] = (byte & 15) | 112;
    else if (index === 8) bytes[index] = (byte & 63) | 128;
  });
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
    .replace(/(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
