/// <reference lib="esnext.disposable" preserve="true" />
import type { Codec } from './codec.js';
import type { RealtimeError } from './error.js';
import type { Readable, Unsubscribe } from './readable.js';

/** What an application sees of the connection; the ten states of a connection in six words. */
export type Status = 'idle' | 'connecting' | 'connected' | 'reconnecting' | 'polling' | 'disconnected';

/** One light for everything: `down` nothing gets through, `poor` and `degraded` by the limits of {@link HealthThresholds}. */
export type Level = 'good' | 'degraded' | 'poor' | 'down';

/** The way messages go. */
export type Transport = 'websocket' | 'sse' | 'polling';

/** How the connection is. A superset of document 003's `{ latency, reconnectionCount, messageDeliveryRate, isHealthy }`. */
export interface ConnectionHealth {
  readonly status: Status;
  readonly transport: Transport | null;
  readonly level: Level;
  /** The level is `good` or `degraded`. */
  readonly isHealthy: boolean;
  /** The last round trip in milliseconds; null before the first. */
  readonly latency: number | null;
  /** Percentiles of the last 100 round trips, in milliseconds. */
  readonly latencyP50: number | null;
  readonly latencyP95: number | null;
  readonly latencyP99: number | null;
  /** How often the connection was lost and came back. */
  readonly reconnectionCount: number;
  /** Acknowledged of the last 200 publishes that were settled, 0 to 1; 1 before the first. */
  readonly messageDeliveryRate: number;
  /** Publishes that wait to be sent, first or again; those that are on their way are not counted. */
  readonly queuedMessages: number;
  readonly usingFallback: boolean;
  /** Milliseconds since 1970. */
  readonly connectedSince: number | null;
  /** Milliseconds since 1970. */
  readonly lastMessageAt: number | null;
  /** When the next attempt comes, in milliseconds since 1970. */
  readonly nextRetryAt: number | null;
  readonly lastError: RealtimeError | null;
}

/** Any JSON value. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/**
 * The events of an application by channel: `{ 'run:${string}': { GRAFT: Graft } }`. Keys may be template literal types.
 */
export type Schema = { readonly [channel: string]: { readonly [eventType: string]: unknown } };

/** The schema of who has none: every channel, every type, any JSON. */
export type AnySchema = { readonly [channel: string]: { readonly [eventType: string]: Json } };

/** The names of channels that a schema knows. */
export type ChannelName<S extends Schema> = keyof S & string;

/** The event types of a channel. */
export type EventType<S extends Schema, K extends string> = K extends keyof S ? keyof S[K] & string : never;

/** The data of an event. */
export type EventData<S extends Schema, K extends string, T extends string> = K extends keyof S
  ? T extends keyof S[K] ? S[K][T] : never
  : never;

/** A place in a channel's log: everything up to `sequence` of `epoch` has been seen. Protocol R30. */
export interface Position {
  readonly epoch: string;
  readonly sequence: number;
}

/** An event as it was delivered. */
export type ChannelEvent<S extends Schema = AnySchema, K extends string = string, T extends EventType<S, K> = EventType<S, K>> = {
  [E in T]: {
    readonly channel: K;
    readonly type: E;
    readonly data: EventData<S, K, E>;
    /** Absent on channels that keep nothing. */
    readonly sequenceNumber?: number;
    /** The publisher's idempotency key. */
    readonly id?: string;
    readonly userId?: string;
    readonly key?: string;
    readonly tags?: { readonly [tag: string]: string };
    /** Milliseconds since 1970. */
    readonly timestamp: number;
    /** A critical event is kept longer and replayed to late joiners. */
    readonly isCritical: boolean;
    /** It was published before this subscription became live, or while the connection was away. */
    readonly replayed: boolean;
  };
}[T];

/** What the server made of a publish. */
export interface Ack {
  readonly id: string;
  /** The place in the channel's log; null where nothing is kept. */
  readonly sequenceNumber: number | null;
  /** The server had it already: this was a repetition. */
  readonly duplicate: boolean;
}

/** How to publish. */
export interface PublishOptions {
  /** The idempotency key, 1 to 64 bytes of printable ASCII. Default: a new UUIDv7. */
  id?: string;
  key?: string;
  tags?: { readonly [tag: string]: string };
  critical?: boolean;
  /** When it happened, in milliseconds since 1970. Default: when the server accepts it. */
  timestamp?: number;
}

/** A tag's condition, protocol R25. */
export type Condition =
  | string
  | {
      readonly eq?: string; readonly ne?: string; readonly in?: readonly string[]; readonly nin?: readonly string[];
      readonly prefix?: string; readonly exists?: boolean; readonly gt?: number; readonly lt?: number;
    };

/** Where a subscription begins and what passes it. The first `channel(name, options)` decides for all that share it. */
export interface ChannelOptions {
  /** Begin after this position. Only one of `since`, `last` and `replay`. */
  since?: Position;
  /** Begin with so many of the newest events. */
  last?: number;
  /** Begin with all critical events that are kept. */
  replay?: 'critical';
  /** Begin with the newest event of each key. */
  state?: boolean;
  /** Be seen and see who is there, or only see. */
  presence?: true | 'watch';
  /** Only events with all of these tags. */
  tags?: { readonly [tag: string]: string };
  /** Only events whose tags meet all of these. */
  filter?: { readonly [tag: string]: Condition };
  /** Metric channels: windows instead of values. */
  aggregation_interval?: '1s' | '5s' | '1m' | '5m' | '1h';
  /** Metric channels: one message for each series, or one document for each moment. */
  shape?: 'points' | 'grouped';
  /** Metric channels: as MessagePack, which needs a codec that reads it (`@pulsewire/client/msgpack`). */
  compression?: boolean;
  /** Metric channels: begin with the past, such as `15m`. */
  history?: string | undefined;
}

/** What an application asks of a channel's past. */
export interface HistoryQuery {
  /** Milliseconds since 1970, inclusive. */
  start?: number;
  /** Milliseconds since 1970, inclusive. */
  end?: number;
  /** At most so many, up to 1,000. Default 100. */
  limit?: number;
}

/** A page of the past. */
export interface ReplayPage<S extends Schema = AnySchema, K extends string = string> {
  readonly events: readonly ChannelEvent<S, K>[];
  /** Ask again from here while `hasMore`. */
  readonly nextSequence: number;
  readonly hasMore: boolean;
  /** Events that are gone: they lie before the first of the page. */
  readonly gap: { readonly from: number; readonly to: number; readonly reason: string } | null;
}

/** Somebody who is in a channel. */
export interface Member<C = Json> {
  readonly user: string;
  /** With how many sessions (tabs, devices). */
  readonly sessions: number;
  /** Milliseconds since 1970. */
  readonly since: number;
  readonly cursor?: C;
}

/** Who is in a channel: `presence(client, name)` of `@pulsewire/client/collab`. */
export interface Presence {
  /** Everybody, by name. Empty until the server has said it. */
  readonly members: Readable<readonly Member[]>;
  /** Puts this user's cursor somewhere: told at most every 50 ms, the newest wins. `null` takes it away. */
  update(cursor: Json): void;
  /** Goes: this user is no longer seen here, and `members` is empty. */
  leave(): void;
}

/** A message of the server as it came, for modules that read more than events. */
export interface ServerMessage {
  readonly type?: string;
  readonly channel?: string;
  readonly id?: string | number;
  readonly [member: string]: unknown;
}

/** A channel of one client. All that ask for the same name share it, and one subscription on the wire. */
export interface Channel<S extends Schema = AnySchema, K extends string = string> {
  readonly name: K;
  /** The last sequence that was handed to listeners; 0 before the first. */
  readonly sequence: number;
  readonly state: Readable<'unsubscribed' | 'subscribing' | 'subscribed'>;
  /** Subscribes; the last listener that leaves unsubscribes. Without a listener it only keeps the subscription alive. */
  subscribe(listener?: (event: ChannelEvent<S, K>) => unknown): Unsubscribe;
  /** Subscribes to events of one type. */
  on<T extends EventType<S, K>>(type: T, listener: (event: ChannelEvent<S, K, T>) => unknown): Unsubscribe;
  /** Subscribes to everything the server says of the channel besides events: metric data, presence, state, `stale`, `dropped`. */
  onMessage(listener: (message: ServerMessage) => void): Unsubscribe;
  /** Publishes for sure: queued, acknowledged, retried under one id. Settles in every case. */
  publish<T extends EventType<S, K>>(type: T, data: EventData<S, K, T>, options?: PublishOptions): Promise<Ack>;
  /** Says it once, now or never: `false` if there is no WebSocket. */
  send<T extends EventType<S, K>>(type: T, data: EventData<S, K, T>): boolean;
  /** A page of the channel's log from a sequence on, which is included. */
  replay(query: { fromSequence: number; limit?: number }): Promise<ReplayPage<S, K>>;
  /** Events by time. */
  history(query?: HistoryQuery): Promise<readonly ChannelEvent<S, K>[]>;
}

/** A publish that waits or failed. */
export interface QueuedMessage {
  readonly id: string;
  readonly channel: string;
  readonly type: string;
  readonly data: Json;
  /** Milliseconds since 1970. */
  readonly queuedAt: number;
}

/** What happens to a client. */
export interface ClientEvents {
  status: { readonly from: Status; readonly to: Status; readonly reason: string };
  /** Nothing got through for five seconds; quick reconnects are not told. */
  lost: { readonly since: number };
  /** After `lost`: messages flow again. */
  restored: { readonly afterMs: number };
  /** Ended for good: `connect()`, `reconnect()` or `setToken()` begin again. */
  failed: RealtimeError;
  /**
   * Events are missing for good. `epoch`: the channel has a new history, what was built from the old one is void. `expired`:
   * they are no longer kept. `overflow`: a channel that keeps nothing had to drop them; then `to - from + 1` is how many.
   */
  gap: { readonly channel: string; readonly from: number; readonly to: number; readonly reason: 'expired' | 'epoch' | 'overflow' };
  /** The queue was full: so many messages were refused or dropped. */
  overflow: { readonly count: number };
  /** A queued message was given up. Its promise, if it is of this page, is rejected too. */
  undeliverable: { readonly message: QueuedMessage; readonly error: RealtimeError };
  /** Something went wrong that nobody waits for: a listener threw, a subscription was refused. */
  error: RealtimeError;
}

/** Gives tokens. Throw {@link UnauthorizedError} to stop for good. */
export type TokenProvider = (context: {
  readonly reason: 'initial' | 'expiring' | 'rejected';
  /** Aborted when the token is no longer wanted, or after ten seconds. */
  readonly signal: AbortSignal;
}) => Promise<string | null>;

/** Where queued messages are kept. Both may throw; the queue then lives on in memory and says so with `error`. */
export interface QueueStorage {
  load(): Promise<string | null> | string | null;
  save(text: string): Promise<void> | void;
}

/** The bounds of the queue. */
export interface QueueOptions {
  /** Default 1,000. */
  maxMessages?: number;
  /** Bytes of JSON of all messages. Default 1 MiB. One of more than 65,000, which the server closes on, is refused with `too_large`. */
  maxBytes?: number;
  /** Milliseconds. Default 24 hours. */
  maxAgeMs?: number;
  /** What gives way when the queue is full. Default `reject`: the new message. */
  overflow?: 'reject' | 'drop-oldest';
  /** So that the queue survives a reload: `sessionQueue()` of `@pulsewire/client/queue`. Default: memory alone. */
  storage?: QueueStorage;
}

/** Waits between attempts: `minMs` plus a random time below `2 · minMs · factorⁿ`, at most `maxMs`. */
export interface BackoffOptions {
  /** Default 250. */
  minMs?: number;
  /** Default 10,000. */
  maxMs?: number;
  /** Default 2. */
  factor?: number;
}

/** How long things may take, in milliseconds. */
export interface Timeouts {
  /** Opening and being welcomed. Default 5,000. */
  connectMs?: number;
  /** Until a publish is sent again. Default 5,000. */
  ackMs?: number;
  /** Until a silent connection is given up after a probe. Default 3,000. */
  probeMs?: number;
  /** Until being without a connection is called `lost`. Default 5,000. */
  lostAfterMs?: number;
  /** Asking for a token. Default 10,000. */
  tokenMs?: number;
  /** A question such as `history()`. Default 10,000. */
  requestMs?: number;
}

/** When a connection is called degraded or poor. */
export interface HealthThresholds {
  /** Milliseconds. Default 100. */
  degradedRttMs?: number;
  /** Milliseconds. Default 500. */
  poorRttMs?: number;
  /** Default 50. */
  poorQueued?: number;
}

/** Makes sockets; the browser's `WebSocket` or one for Node. */
export type WebSocketConstructor = new (url: string, protocols?: string | string[]) => WebSocket;

/** What a fallback may use of its client. */
export interface FallbackHost {
  /** `http(s)://host` of the server, without a path. */
  readonly origin: string;
  readonly fetch: typeof fetch;
  /** The newest token. */
  token(): string | null;
  /** The session that fell back, for the server's count. */
  readonly session: string;
  /** The subscribed channels with what was asked of them and the position that was reached. */
  channels(): Iterable<{ readonly name: string; readonly options: ChannelOptions; readonly position: Position | null }>;
  /** Says where a channel stands; null on one that keeps nothing. From the first time on it is subscribed. */
  place(channel: string, position: Position | null): void;
  /** Hands on a message as if it had come over the socket. */
  deliver(message: ServerMessage): void;
  /** Service was had: the first one starts the fallback. Nothing may be said any more after `stop()`. */
  succeeded(): void;
  failed(error: unknown): void;
}

/** A fallback at work. */
export interface FallbackSession {
  /** Sends a `publish` message; the answer is delivered as `ack` or `error` with its `id`. */
  publish(message: Record<string, unknown>): void;
  /** The channels are others now. */
  changed(): void;
  stop(): void;
}

/** A way besides WebSocket: {@link polling}, {@link sse}. */
export interface Fallback {
  readonly transport: Transport;
  /** Begins; what succeeds and fails is told to the host. */
  start(host: FallbackHost): FallbackSession;
}

/** How to connect. */
export interface ClientOptions {
  /** `wss://host/ws`, `https://host` or a path of this page; `/ws` if there is no path. */
  url: string | (() => string | Promise<string>);
  /** A JWT, or what gives one. */
  token?: string | TokenProvider;
  /** Default: JSON. */
  codec?: Codec;
  /** Node 20 has none of its own. */
  WebSocket?: WebSocketConstructor;
  fetch?: typeof fetch;
  /** What to do where WebSocket does not get through. Default: nothing. */
  fallback?: false | Fallback;
  backoff?: BackoffOptions;
  queue?: QueueOptions;
  timeouts?: Timeouts;
  health?: HealthThresholds;
  /** One event in so many is confirmed with a receipt, which measures the way to the handler. 0: none. Default 100. */
  receiptEvery?: number;
}

/** A connection to a server and everything that goes over it. */
export interface Client<S extends Schema = AnySchema> extends AsyncDisposable {
  /** The session's id; null before the first connection. */
  readonly id: string | null;
  readonly status: Readable<Status>;
  readonly connectionHealth: Readable<ConnectionHealth>;
  readonly queuedMessageCount: Readable<number>;
  readonly usingFallback: Readable<boolean>;
  /** Begins. Subscribing, publishing and `ready()` do so too. */
  connect(): void;
  /** Ends: subscriptions and queued messages stay for the next `connect()`. */
  disconnect(): void;
  /** Tries now instead of later; valid in every state. */
  reconnect(): void;
  /** Resolves when messages flow. Rejects when the client failed for good, or by the signal. */
  ready(options?: { signal?: AbortSignal }): Promise<void>;
  /** Logs in, renews or, with null, logs out: disconnects and gives up what was queued. Revives a client that failed. */
  setToken(token: string | null): void;
  channel<K extends ChannelName<S>>(name: K, options?: ChannelOptions): Channel<S, K>;
  publish<K extends ChannelName<S>, T extends EventType<S, K>>(
    channel: K, type: T, data: EventData<S, K, T>, options?: PublishOptions,
  ): Promise<Ack>;
  /** Asks the server something and waits for the answer. Rejects with the server's error or after `timeouts.requestMs`. */
  request(message: { readonly type: string; readonly [member: string]: unknown }): Promise<ServerMessage>;
  on<E extends keyof ClientEvents>(event: E, listener: (event: ClientEvents[E]) => void): Unsubscribe;
}
