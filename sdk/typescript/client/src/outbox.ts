import * as DEFAULTS from './defaults.js';
import { type ErrorCode, RealtimeError } from './error.js';
import type { Ack, PublishOptions, QueuedMessage, QueueOptions, ServerMessage, Timeouts } from './types.js';

/** The server's default limit of a message, less what the message has around what was published. */
const MESSAGE_BYTES_MAX = 65_000;

/** A publish as it is kept: what was asked for, and how far it got. */
interface Entry extends QueuedMessage {
  readonly options: PublishOptions;
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

/** The clocks of the queue, and what becomes of its contents. */
export interface OutboxHost {
  /** Milliseconds since 1970. */
  wall(): number;
  /** Milliseconds of a clock that is never set. */
  steady(): number;
  /** A message was given up. */
  failed(message: QueuedMessage, error: RealtimeError): void;
  /** So many were refused or dropped because the queue is full. */
  overflowed(count: number): void;
  settled(delivered: boolean): void;
  /** The contents changed. */
  changed(): void;
}

/** The publishes that are not settled: which go out when, and what their answers mean. */
export type Outbox = ReturnType<typeof createOutbox>;

/** Sans I/O: the clocks are the host's. */
export function createOutbox(
  {
    maxMessages = DEFAULTS.QUEUE_MESSAGES_MAX, maxBytes = DEFAULTS.QUEUE_BYTES_MAX, maxAgeMs = DEFAULTS.QUEUE_AGE_MAX_MS, overflow,
    ackMs = DEFAULTS.ACK_TIMEOUT_MS,
  }: QueueOptions & Pick<Timeouts, 'ackMs'>,
  host: OutboxHost,
) {
  let entries: Entry[] = [];
  let bytes = 0;

  const flying = (): number => entries.filter((entry) => entry.flying).length;

  function settle(entry: Entry, outcome: Ack | RealtimeError): void {
    if (!entries.includes(entry)) return;
    entries = entries.filter((other) => other !== entry);
    bytes -= entry.bytes;
    entry.settle?.(outcome);
    const failed = outcome instanceof Error;
    host.settled(!failed);
    host.changed();
    const { id, channel, type, data, queuedAt } = entry;
    if (failed) host.failed({ id, channel, type, data, queuedAt }, outcome);
  }

  function give(entry: Entry, code: ErrorCode, message?: string, cause?: RealtimeError): void {
    settle(entry, new RealtimeError(code, message, true, { cause }));
  }

  function again(entry: Entry, due: number, code: ErrorCode, cause?: RealtimeError): void {
    if (entry.sends > DEFAULTS.PUBLISH_RETRIES || host.wall() - entry.firstSentAt > DEFAULTS.PUBLISH_RETRY_FOR_MS) {
      give(entry, code, `sent ${entry.sends} times`, cause);
    }
    entry.flying = false;
    entry.due = due;
  }

  return {
    /** How many wait to be sent, first or again. */
    waiting: () => entries.length - flying(),

    /** When {@link tick} or {@link next} has something to do. */
    deadline: () => Math.min(...entries.map(({ due, queuedAt }) => Math.min(due || Infinity, host.steady() + queuedAt + maxAgeMs + 1 - host.wall()))),

    /** Takes a publish; its promise settles in every case. */
    add: (
      channel: string, type: string, data: unknown, { id = uuid(host.wall()), ...options }: PublishOptions = {},
    ) => new Promise<Ack>((resolve, reject) => {
      // A copy: what the application does with its data later changes nothing. What is no JSON is null, as the server would have it.
      const text = JSON.stringify({ channel, type, data: data ?? null, options });
      const entry: Entry = {
        ...(JSON.parse(text) as Pick<Entry, 'channel' | 'type' | 'data' | 'options'>),
        id, bytes: new TextEncoder().encode(text).length, queuedAt: host.wall(), sends: 0, firstSentAt: 0, flying: false, due: 0,
        settle: (outcome) => (outcome instanceof Error ? reject(outcome) : resolve(outcome)),
      };
      const full = (): boolean => entries.length >= maxMessages || bytes + entry.bytes > maxBytes;
      let lost = 0;
      // The server closes on what is larger than its limit, and every attempt would end the same way.
      const tooLarge = entry.bytes > Math.min(maxBytes, MESSAGE_BYTES_MAX);
      // What is on its way may be stored already: it stays.
      for (const oldest of entries.filter((entry) => !entry.flying)) {
        if (tooLarge || overflow !== 'drop-oldest' || !full()) break;
        give(oldest, 'queue_full');
        lost++;
      }
      if (tooLarge) reject(new RealtimeError('too_large'));
      else if (full()) {
        lost++;
        reject(new RealtimeError('queue_full', undefined, true));
      } else {
        entries.push(entry);
        bytes += entry.bytes;
        host.changed();
      }
      if (lost > 0) host.overflowed(lost);
    }),

    /** What is to be sent now, in order; it counts as sent. */
    next(): Record<string, unknown>[] {
      const held = new Set<string>();
      let places = DEFAULTS.PUBLISH_IN_FLIGHT - flying();
      const ready = entries.filter((entry) => {
        // What is behind a message that has to wait, waits with it: the order of a channel is kept.
        const waits = !entry.flying && (places <= 0 || entry.due > host.steady() || held.has(entry.channel));
        if (waits) held.add(entry.channel);
        return !entry.flying && !waits && places-- > 0;
      });
      if (ready.length > 0) host.changed();
      return ready.map((entry) => {
        const { id, channel, type, data, options } = entry;
        entry.flying = true;
        entry.sends++;
        entry.firstSentAt ||= host.wall();
        entry.due = host.steady() + ackMs;
        return { type: 'publish', id, channel, event: type, data, message_id: id, ...options };
      });
    },

    /** The server accepted a message, refused it, or asks to come later. */
    answer({ id, sequence, duplicate }: ServerMessage, error: RealtimeError | undefined): void {
      const entry = entries.find((entry) => entry.id === id);
      if (!entry) return;
      if (error?.retryable) {
        const wait = error.retryMs ?? DEFAULTS.BACKOFF_MIN_MS * 2 ** entry.sends;
        again(entry, host.steady() + wait, 'retries_exhausted', error);
      } else {
        settle(entry, error ?? {
          id: entry.id, sequenceNumber: (sequence as number | undefined) ?? null, duplicate: duplicate === true,
        });
      }
    },

    /** The connection is gone: what was on its way goes out again, in order. */
    disconnected(): void {
      for (const entry of entries) if (entry.flying) Object.assign(entry, { flying: false, due: 0 });
    },

    /** Gives up what is too old and repeats what is overdue. True if an answer is late: is the server there? */
    tick(): boolean {
      const late = entries.filter((entry) => entry.flying && entry.due <= host.steady());
      for (const entry of late) again(entry, 0, 'no_ack');
      for (const entry of entries) if (host.wall() - entry.queuedAt > maxAgeMs) give(entry, entry.sends ? 'no_ack' : 'expired');
      return late.length > 0;
    },

    /** Gives up everything. */
    clear(): void {
      for (const entry of entries) give(entry, 'disconnected');
    },

    /** As text, for a storage. */
    save: () => JSON.stringify(entries),

    /** Takes in what was saved, before everything that came since. Throws if it is something else. */
    load(text: string): void {
      const kept = (JSON.parse(text) as Entry[]).filter(({ id, channel }) => id && channel);
      entries = [...kept.map((entry) => ({ ...entry, flying: false, due: 0 })), ...entries];
      bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
    },
  };
}

/** A UUIDv7 (RFC 9562): its order is that of time. It need not be hard to guess, only unlike others of the same publisher. */
export function uuid(wall: number): string {
  const time = wall.toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7xxx-8xxx-xxxxxxxxxxxx`
    .replace(/x/g, () => Math.floor(Math.random() * 16).toString(16));
}
