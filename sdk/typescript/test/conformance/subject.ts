import WebSocket from 'ws';
import {
  type Ack, type Channel, type ChannelEvent, type ChannelOptions, type Client, type ClientEvents, type ClientOptions, createClient, json,
  type Presence, type RealtimeError, type ServerMessage, type Status, UnauthorizedError,
} from '@pulsewire/client';
import { msgpack } from '@pulsewire/client/msgpack';
import { polling } from '@pulsewire/client/polling';
import { sse } from '@pulsewire/client/sse';
import { type Claims, isObject, PATIENCE_MS, sign } from '../gateway.js';
import { isNumber, Reader } from './scenario.js';

/** What a scenario's client can do; a scenario that needs something else is not run. */
export const ABLE = [
  'polling', 'sse', 'presence', 'metrics', 'msgpack', 'subscribe_later', 'unsubscribe', 'handlers', 'filters', 'disconnect', 'volatile', 'lost',
  'sessions', 'levels', 'queue_after_end', 'refused_alone',
];

/** One listener and all it heard. */
export interface Handler {
  readonly channel: Channel;
  readonly events: ChannelEvent[];
  readonly messages: ServerMessage[];
  /** Everything that the channel says from its beginning on is for it: nothing may be missing in the end. */
  readonly whole: boolean;
  /** Behind which of the events another history began. */
  readonly breaks: number[];
  leave(): void;
}

/** What a listener listens to. */
export interface Listening {
  readonly channel: string;
  readonly options: ChannelOptions | undefined;
  readonly kind: 'events' | 'messages';
  /** Events of this type alone. */
  readonly type: string | null;
}

/** A publish and what became of it. */
export interface Publish {
  readonly id: string;
  readonly channel: string;
  outcome: Ack | RealtimeError | null;
}

/** A client under test and everything it said. */
export class Subject {
  readonly client: Client;
  readonly statuses: Status[] = [];
  readonly gaps: ClientEvents['gap'][] = [];
  readonly errors: RealtimeError[] = [];
  readonly failures: RealtimeError[] = [];
  readonly undeliverable: ClientEvents['undeliverable'][] = [];
  readonly handlers = new Map<string, Handler>();
  /** Where it is seen, or sees who is there. */
  readonly rooms = new Map<string, Presence>();
  /** The sessions it had, one after the other. */
  readonly sessions: string[] = [];
  /** Why tokens were asked for. */
  readonly asked: string[] = [];
  overflowed = 0;
  lost = 0;
  restored = 0;

  constructor(options: unknown, address: string) {
    const reader = new Reader(options);
    this.client = createClient(this.#options(reader, address));
    reader.done();
    this.client.on('status', ({ to }) => {
      this.statuses.push(to);
      const { id } = this.client;
      if (to === 'connected' && id !== null && this.sessions.at(-1) !== id) this.sessions.push(id);
    });
    this.client.on('error', (error) => void this.errors.push(error));
    this.client.on('failed', (error) => void this.failures.push(error));
    this.client.on('undeliverable', (what) => void this.undeliverable.push(what));
    this.client.on('overflow', ({ count }) => void (this.overflowed += count));
    this.client.on('lost', () => void this.lost++);
    this.client.on('restored', () => void this.restored++);
    this.client.on('gap', (gap) => {
      this.gaps.push(gap);
      if (gap.reason !== 'epoch') return;
      for (const { channel, events, breaks } of this.handlers.values()) if (channel.name === gap.channel) breaks.push(events.length);
    });
  }

  /** Makes a listener; `heard` is told how many events it has had. */
  listen(name: string, { channel, options, kind, type }: Listening, heard: (count: number) => void): void {
    const events: ChannelEvent[] = [];
    const messages: ServerMessage[] = [];
    const on = this.client.channel(channel, options);
    const hear = (event: ChannelEvent): void => heard(events.push(event));
    const leave = kind === 'messages' ? on.onMessage((message) => void messages.push(message))
      : type === null ? on.subscribe(hear) : on.on(type, hear);
    const { tags, filter, replay } = options ?? {};
    const whole = kind === 'events' && type === null && !tags && !filter && !replay;
    this.handlers.set(name, { channel: on, events, messages, whole, breaks: [], leave });
  }

  #options(reader: Reader, address: string): ClientOptions {
    const number = (name: string): number | undefined => reader.maybe(name, isNumber);
    const given = <T extends object>(members: T): { [K in keyof T]: Exclude<T[K], undefined> } => {
      // An option that is not there is not the same as one that is undefined.
      return JSON.parse(JSON.stringify(members)) as { [K in keyof T]: Exclude<T[K], undefined> };
    };
    const queue = reader.object('queue');
    const fallback = reader.text('fallback', 'none');
    const options: ClientOptions = {
      url: `ws://${address}`,
      token: this.#token(reader.any('token') ?? { user: 'ada' }),
      WebSocket: WebSocket as unknown as NonNullable<ClientOptions['WebSocket']>,
      backoff: given({ minMs: number('backoff_min_ms') ?? 10, maxMs: number('backoff_max_ms') ?? 200 }),
      timeouts: given({
        connectMs: number('connect_ms'), ackMs: number('ack_ms'), probeMs: number('probe_ms'), tokenMs: number('token_ms'),
        requestMs: number('request_ms') ?? PATIENCE_MS, lostAfterMs: number('lost_after_ms'),
      }),
      queue: {
        ...given({ maxMessages: queue.maybe('messages', isNumber), maxBytes: queue.maybe('bytes', isNumber), maxAgeMs: queue.maybe('age_ms', isNumber) }),
        overflow: queue.text('overflow', 'reject') === 'drop_oldest' ? 'drop-oldest' : 'reject',
      },
      fallback: fallback === 'polling' ? polling({ intervalMs: number('poll_ms') ?? 50 }) : fallback === 'sse' ? sse() : false,
      codec: reader.text('codec', 'json') === 'msgpack' ? msgpack : json,
      ...given({ receiptEvery: number('receipt_every') }),
    };
    queue.done();
    return options;
  }

  #token(raw: unknown): NonNullable<ClientOptions['token']> {
    if (!isObject(raw) || !Array.isArray(raw['asks'])) return token(raw);
    const answers = raw['asks'].slice();
    return async ({ reason, signal }) => {
      this.asked.push(reason);
      // The last answer is given again and again.
      const answer: unknown = answers.length > 1 ? answers.shift() : answers[0];
      if (answer === 'throws') throw new Error('the application has no token now');
      if (answer === 'unauthorized') throw new UnauthorizedError();
      if (answer === 'hangs') return new Promise<string>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      return token(answer);
    };
  }
}

/** A token as a scenario describes it: `bad`, or an object with its claims. */
export function token(raw: unknown): string {
  return raw === 'bad' ? `${sign({ user: 'ada' })}x` : sign(claims(raw));
}

/** `{user, ttl_seconds?, role?, grants?}`. */
export function claims(raw: unknown): Claims {
  const reader = new Reader(raw);
  const ttlSeconds = reader.maybe('ttl_seconds', isNumber);
  const grants = reader.maybe('grants', isGrants);
  const found = { user: reader.text('user'), role: reader.text('role', 'user'), ...(ttlSeconds === undefined ? {} : { ttlSeconds }), ...(grants && { grants }) };
  reader.done();
  return found;
}

function isGrants(value: unknown): value is NonNullable<Claims['grants']> {
  return isObject(value) && Object.values(value).every(Array.isArray);
}
