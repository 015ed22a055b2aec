import { asJson, Stream, type Wire } from './channel.js';
import { json } from './codec.js';
import { type ErrorCode, RealtimeError, UnauthorizedError } from './error.js';
import * as DEFAULTS from './defaults.js';
import { Meter } from './health.js';
import { type Effect, type Input, Machine } from './machine.js';
import { type Now, Outbox, uuid } from './outbox.js';
import { defaultStorage } from './storage.js';
import { type Readable, type Unsubscribe, writable } from './readable.js';
import type {
  Ack, AnySchema, ChannelOptions, Client, ClientEvents, ClientOptions, ConnectionHealth, FallbackSession,
  PublishOptions, QueueStorage, Schema, ServerMessage, Status,
} from './types.js';

/** The longest time that timers can wait for. */
const TIMER_MAX = 2 ** 31 - 1;
/** Volatile messages are left out while more than this waits in the socket, in bytes. */
const SOCKET_FULL = 65_536;
/** Closes a socket without ending the session: this client comes back. */
const LEFT = 4000;

interface Question {
  readonly message: Record<string, unknown>;
  readonly due: number;
  readonly resolve: (answer: ServerMessage) => void;
  readonly reject: (error: RealtimeError) => void;
}

/** Makes a client. It connects with the first `connect()`, `subscribe` or `publish`. */
export function createClient<S extends Schema = AnySchema>(options: ClientOptions): Client<S> {
  // What a schema says is a matter of types alone: the connection carries JSON.
  return new Connection(options) as unknown as Client<S>;
}

/** Performs what the {@link Machine} decides and moves messages between the socket, the channels and the queue. */
class Connection implements Wire {
  id: string | null = null;
  readonly status = writable<Status>('idle');
  readonly queuedMessageCount = writable(0);
  readonly usingFallback = writable(false);
  readonly connectionHealth: Readable<ConnectionHealth>;
  readonly #health;
  readonly #options: ClientOptions;
  readonly #machine: Machine;
  readonly #outbox: Outbox;
  readonly #meter: Meter;
  readonly #storage: QueueStorage | null;
  readonly #codec;
  readonly #streams = new Map<string, Stream>();
  readonly #changed = new Set<Stream>();
  /** Subscribe requests that were not answered. */
  readonly #asked = new Map<unknown, Stream[]>();
  readonly #questions = new Map<unknown, Question>();
  readonly #listeners = new Map<keyof ClientEvents, Set<(event: never) => void>>();
  #token: ClientOptions['token'];
  #lastToken: string | null = null;
  #aborter: AbortController | null = null;
  #socket: WebSocket | null = null;
  #fallback: FallbackSession | null = null;
  #origin = '';
  #requests = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #pingAt = Infinity;
  #renewAt = Infinity;
  /** When service went missing, and when that is to be told. */
  #lostSince: number | null = null;
  #tellLostAt = Infinity;
  #told = false;
  #connects = 0;
  #connectedSince: number | null = null;
  #lastMessageAt: number | null = null;
  #lastError: RealtimeError | null = null;
  /** For the server: the slowest listener and the holes healed since the last report. */
  #slowest = 0;
  #healed = 0;
  #loading = false;
  #saving = false;
  #unlisten: Unsubscribe = () => undefined;

  constructor(options: ClientOptions) {
    const { backoff, timeouts, queue } = options;
    this.#options = options;
    this.#token = options.token;
    this.#codec = options.codec ?? json;
    this.#meter = new Meter(options.health);
    this.#machine = new Machine({
      backoff: {
        minMs: backoff?.minMs ?? DEFAULTS.BACKOFF_MIN_MS,
        maxMs: backoff?.maxMs ?? DEFAULTS.BACKOFF_MAX_MS,
        factor: backoff?.factor ?? 2,
      },
      connectMs: timeouts?.connectMs ?? DEFAULTS.CONNECT_TIMEOUT_MS,
      probeMs: timeouts?.probeMs ?? DEFAULTS.PROBE_TIMEOUT_MS,
      tokenMs: timeouts?.tokenMs ?? DEFAULTS.TOKEN_TIMEOUT_MS,
      fallback: !!options.fallback,
      renewable: typeof options.token === 'function',
    });
    this.#outbox = new Outbox(queue ?? {}, timeouts?.ackMs ?? DEFAULTS.ACK_TIMEOUT_MS, {
      failed: (message, error) => this.emit('undeliverable', { message, error }),
      overflowed: (count) => this.emit('overflow', { count }),
      settled: (delivered) => this.#meter.settled(delivered),
      changed: () => this.#save(),
    });
    this.#storage = queue?.storage === false ? null : queue?.storage ?? defaultStorage(options.url);
    this.connectionHealth = this.#health = writable(this.#measure());
    this.#load();
  }

  // ---- what an application calls

  connect(): void {
    this.#run({ type: 'connect' });
  }

  disconnect(): void {
    this.#run({ type: 'disconnect' });
  }

  reconnect(): void {
    this.#run({ type: 'reconnect' });
  }

  ready({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop: Unsubscribe[] = [];
      const done = (error?: unknown): void => {
        queueMicrotask(() => stop.forEach((run) => run()));
        if (error === undefined) resolve();
        else reject(error);
      };
      stop.push(this.status.subscribe((status) => {
        if (status === 'connected' || status === 'polling') done();
      }), this.on('failed', done));
      signal?.addEventListener('abort', () => done(signal.reason), { once: true });
      if (signal?.aborted) done(signal.reason);
    });
  }

  setToken(token: string | null): void {
    this.#token = token ?? undefined;
    if (token === null) {
      this.disconnect();
      this.#outbox.clear();
    } else if (this.#live) {
      // Another user's token does not renew this session: begin another one.
      this.#refresh(token).catch(() => {
        this.disconnect();
        this.connect();
      });
    } else {
      this.#run({ type: 'token_set' });
    }
  }

  channel(name: string, options?: ChannelOptions): Stream {
    let stream = this.#streams.get(name);
    if (!stream) this.#streams.set(name, (stream = new Stream(name, this)));
    return stream.configure(options);
  }

  async publish(channel: string, type: string, data: unknown, options: PublishOptions = {}): Promise<Ack> {
    const settled = this.#outbox.add(channel, type, asJson(data), options, this.#now());
    if (this.#machine.state === 'idle') this.connect();
    this.#flush();
    this.#after();
    return settled;
  }

  request(message: { readonly type: string; readonly [member: string]: unknown }): Promise<ServerMessage> {
    return new Promise((resolve, reject) => {
      const id = ++this.#requests;
      const due = performance.now() + (this.#options.timeouts?.requestMs ?? DEFAULTS.REQUEST_TIMEOUT_MS);
      this.#questions.set(id, { message: { ...message, id }, due, resolve, reject });
      if (this.#live) this.send({ ...message, id });
      this.#schedule();
    });
  }

  on<E extends keyof ClientEvents>(event: E, listener: (event: ClientEvents[E]) => void): Unsubscribe {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.disconnect();
    await Promise.resolve();
  }

  // ---- what channels call

  changed(stream: Stream): void {
    if (this.#changed.size === 0) queueMicrotask(() => this.#synchronise());
    this.#changed.add(stream);
    if (stream.wanted) {
      stream.status.set('subscribing');
      if (this.#machine.state === 'idle') this.connect();
    } else {
      stream.status.set('unsubscribed');
    }
  }

  repair(stream: Stream): void {
    this.#healed++;
    this.#subscribe([stream]);
  }

  send(message: Record<string, unknown>): boolean {
    const socket = this.#socket;
    if (!socket || !this.#live) return false;
    if (message['type'] === 'publish' && message['id'] === undefined && socket.bufferedAmount > SOCKET_FULL) return false;
    socket.send(this.#codec.encode(message));
    return true;
  }

  emit<E extends keyof ClientEvents>(event: E, detail: ClientEvents[E]): void {
    this.#log(event, detail);
    for (const run of [...(this.#listeners.get(event) ?? [])]) {
      try {
        (run as (detail: ClientEvents[E]) => void)(detail);
      } catch (error) {
        // Nobody is left to tell but the page.
        queueMicrotask(() => { throw error; });
      }
    }
  }

  handled(stream: Stream, sequence: number | undefined, milliseconds: number): void {
    this.#slowest = Math.max(this.#slowest, milliseconds);
    const every = this.#options.receiptEvery ?? DEFAULTS.RECEIPT_EVERY;
    if (sequence !== undefined && every > 0 && sequence % every === 0) {
      this.send({ type: 'receipt', channel: stream.name, sequence });
    }
  }

  // ---- the machine and its effects

  get #live(): boolean {
    return this.status() === 'connected';
  }

  #now(): Now {
    return { wall: Date.now(), steady: performance.now() };
  }

  #run(input: Input): void {
    if (input.type !== 'heard') this.#log('input', input);
    for (const effect of this.#machine.step(input, performance.now(), Math.random)) this.#perform(effect);
    if (input.type !== 'heard' || this.#machine.status !== this.status()) this.#after();
  }

  #perform(effect: Effect): void {
    switch (effect) {
      case 'authorize':
        this.#unlisten();
        this.#unlisten = listenToPage((type) => this.#run({ type }), () => this.#hide());
        return void this.#authorize();
      case 'open':
        return void this.#open();
      case 'greet':
        return this.#greet();
      case 'ready':
        this.#after();
        for (const group of groups([...this.#streams.values()].filter((stream) => stream.pending === '')) ) this.#subscribe(group);
        for (const { message } of this.#questions.values()) this.send(message);
        return this.#ping();
      case 'probe':
        return this.#ping();
      case 'drop':
        return this.#drop(this.#machine.ending === 'client' ? 1000 : LEFT);
      case 'poll':
        return this.#poll();
      case 'stop_poll':
        this.#fallback?.stop();
        this.#fallback = null;
    }
  }

  /** Whatever happened: tells what is different now. */
  #after(): void {
    const from = this.status();
    const to = this.#machine.status;
    const serving = to === 'connected' || to === 'polling';
    this.usingFallback.set(to === 'polling');
    this.status.set(to);
    if (from !== to) {
      this.#changedStatus(from, to, serving);
      this.emit('status', { from, to, reason: this.#machine.ending ?? this.#lastError?.message ?? '' });
      const { ending } = this.#machine;
      if (to === 'disconnected' && ending && ending !== 'client') {
        this.#unlisten();
        this.#lastError = new RealtimeError(ENDINGS[ending], this.#lastError?.message ?? ending);
        this.emit('failed', this.#lastError);
      }
    }
    this.queuedMessageCount.set(this.#outbox.waiting);
    this.#tell();
    this.#schedule();
  }

  #changedStatus(from: Status, to: Status, serving: boolean): void {
    const now = performance.now();
    if (serving) {
      if (this.#told) this.emit('restored', { afterMs: now - (this.#lostSince ?? now) });
      this.#lostSince = null;
      this.#told = false;
      this.#tellLostAt = Infinity;
      this.#connectedSince ??= Date.now();
      if (to === 'polling') for (const stream of this.#streams.values()) if (stream.wanted) stream.subscribed(undefined);
      if (to === 'connected' && this.#connects++ > 0) this.#lastError = null;
      this.#flush();
    } else {
      this.#connectedSince = null;
      if (to === 'disconnected' || to === 'idle') {
        this.#tellLostAt = Infinity;
        this.#lostSince = null;
      } else if (this.#lostSince === null) {
        this.#lostSince = now;
        this.#tellLostAt = now + (this.#options.timeouts?.lostAfterMs ?? DEFAULTS.LOST_AFTER_MS);
      }
    }
    if (from === 'connected' || from === 'polling') this.#outbox.disconnected();
    if (from === 'connected' || (from === 'polling' && !serving)) {
      this.#pingAt = this.#renewAt = Infinity;
      for (const stream of this.#streams.values()) stream.lost();
    }
  }

  async #authorize(): Promise<void> {
    const token = this.#token;
    if (typeof token !== 'function') {
      this.#lastToken = token ?? null;
      return this.#run({ type: 'token' });
    }
    const aborter = (this.#aborter = new AbortController());
    let input: Input;
    try {
      const given = await token({ reason: this.#machine.tokenReason, signal: aborter.signal });
      if (!aborter.signal.aborted) this.#lastToken = given;
      input = { type: 'token' };
    } catch (error) {
      this.#fail(error);
      input = { type: error instanceof UnauthorizedError ? 'token_refused' : 'token_failed' };
    }
    if (this.#aborter === aborter && !aborter.signal.aborted) this.#run(input);
  }

  async #open(): Promise<void> {
    const aborter = (this.#aborter = new AbortController());
    try {
      const { url } = this.#options;
      const raw = typeof url === 'string' ? url : await url();
      if (aborter.signal.aborted) return;
      const target = new URL(raw, globalThis.location?.href);
      target.protocol = target.protocol.replace('http', 'ws');
      if (target.pathname === '/') target.pathname = '/ws';
      this.#origin = target.origin.replace('ws', 'http');
      const Socket = this.#options.WebSocket ?? WebSocket;
      const socket = (this.#socket = new Socket(target.href, this.#codec.protocol));
      socket.binaryType = 'arraybuffer';
      socket.onopen = () => this.#run({ type: 'opened' });
      socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => this.#receive(data);
      socket.onclose = ({ code, reason }) => {
        this.#forget();
        this.#lastError = new RealtimeError('disconnected', `closed with ${code} ${reason}`.trim(), true);
        this.#run({ type: 'closed', code });
      };
    } catch (error) {
      this.#fail(error);
      this.#run({ type: 'closed', code: 1006 });
    }
  }

  /** The socket is nothing to us any more. */
  #forget(): WebSocket | null {
    const socket = this.#socket;
    this.#socket = null;
    if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
    // Nobody will answer what was asked.
    this.#asked.clear();
    for (const stream of this.#streams.values()) stream.pending = null;
    return socket;
  }

  #drop(code: number): void {
    this.#aborter?.abort();
    this.#forget()?.close(code);
    if (code === 1000) {
      this.id = null;
      this.#unlisten();
    }
  }

  /** The page goes into the back-forward cache, which an open socket would prevent. */
  #hide(): void {
    if (!this.#socket) return;
    this.#drop(LEFT);
    this.#run({ type: 'closed', code: 1001 });
  }

  #greet(): void {
    const wanted = [...this.#streams.values()].filter((stream) => stream.wanted);
    // Until they are asked for, what comes belongs to the session that may be resumed.
    for (const stream of wanted) stream.pending = '';
    const subscribe = this.#wish(groups(wanted)[0] ?? []);
    const id = subscribe ? this.#requests : ++this.#requests;
    const { id: _, type: __, ...wish } = subscribe ?? {};
    this.#socket?.send(this.#codec.encode({
      type: 'connect', id, heartbeat: 'message',
      token: this.#lastToken ?? undefined, session: this.id ?? undefined, subscribe: subscribe ? wish : undefined,
    }));
  }

  #ping(): void {
    this.#pingAt = performance.now() + DEFAULTS.RTT_INTERVAL_MS;
    if (this.#socket?.readyState === 1) {
      this.#socket.send(this.#codec.encode({ type: 'ping', id: 'rtt', timestamp: performance.now() }));
    }
  }

  #poll(): void {
    const { fallback } = this.#options;
    if (!fallback) return;
    const client = this;
    const session = (this.#fallback = fallback.start({
      origin: this.#origin,
      session: this.id ?? uuid(Date.now()),
      fetch: this.#options.fetch ?? globalThis.fetch.bind(globalThis),
      token: () => this.#lastToken,
      * channels() {
        for (const { wanted, name, options, cursor } of client.#streams.values()) {
          if (wanted) yield { name, options, position: cursor.position };
        }
      },
      place: (name, position) => {
        const stream = this.#streams.get(name);
        if (stream?.pending === null) stream.cursor.position = position;
      },
      deliver: (message) => {
        if (session === this.#fallback) this.#hear(message);
      },
      succeeded: () => {
        if (session === this.#fallback) this.#run({ type: 'poll_ok' });
      },
      failed: (error) => {
        if (session !== this.#fallback) return;
        this.#fail(error);
        this.#run({ type: 'poll_failed' });
      },
    }));
  }

  // ---- subscriptions

  /** Tells the server which channels are wanted now and which no longer. */
  #synchronise(): void {
    const changed = [...this.#changed];
    this.#changed.clear();
    const left = changed.filter((stream) => !stream.wanted);
    for (const stream of left) stream.lost();
    if (this.#machine.state === 'polling') {
      for (const stream of changed) if (stream.wanted) stream.subscribed(undefined);
      this.#fallback?.changed();
    }
    if (!this.#live) return;
    if (left.length > 0) this.#unsubscribe(left.map((stream) => stream.name));
    for (const group of groups(changed.filter((stream) => stream.wanted))) this.#subscribe(group);
    this.#schedule();
  }

  #unsubscribe(channels: string[]): void {
    // Whether it was subscribed is not of interest any more.
    this.#asked.set(++this.#requests, []);
    this.send({ type: 'unsubscribe', id: this.#requests, channels });
  }

  #subscribe(streams: Stream[]): void {
    const message = this.#live && this.#wish(streams);
    if (message) this.send(message);
  }

  /** A subscribe message for channels that are narrowed alike. */
  #wish(streams: Stream[]): Record<string, unknown> | null {
    const [first] = streams;
    if (!first) return null;
    const id = ++this.#requests;
    this.#asked.set(id, streams);
    const channels = streams.map((stream) => {
      stream.pending = id;
      const { state, presence, history } = stream.options;
      return { channel: stream.name, ...stream.cursor.start(), state, presence, history };
    });
    return { type: 'subscribe', id, channels, ...narrow(first.options) };
  }

  #subscribed(message: ServerMessage): void {
    const streams = this.#asked.get(message.id) ?? [];
    this.#asked.delete(message.id);
    const positions = (message['positions'] ?? {}) as Record<string, NonNullable<ChannelOptions['since']>>;
    for (const stream of streams) if (stream.pending === message.id) stream.subscribed(positions[stream.name]);
    // A resumed session brings back what is wanted no longer.
    const names = (message['channels'] as string[]).filter((name) => !this.#streams.get(name)?.wanted);
    if (names.length > 0) this.#unsubscribe(names);
  }

  /** A subscription was refused. One channel refuses all that were asked for with it, so they are asked for alone. */
  #refused(streams: Stream[], error: RealtimeError, retryMs: number): void {
    const wanted = streams.filter((stream) => stream.wanted);
    if (error.retryable) return void setTimeout(() => wanted.forEach((stream) => this.changed(stream)), retryMs);
    if (streams.length > 1) return wanted.forEach((stream) => this.#subscribe([stream]));
    for (const stream of wanted) {
      stream.pending = null;
      stream.status.set('unsubscribed');
      this.#fail(new RealtimeError(error.code, `${stream.name}: ${error.message}`));
    }
  }

  // ---- messages

  #receive(frame: string | ArrayBuffer): void {
    let message: unknown;
    try {
      message = this.#codec.decode(frame);
      if (typeof message !== 'object' || message === null) throw new TypeError('not an object');
    } catch (cause) {
      return this.#fail(new RealtimeError('protocol', `a message cannot be read: ${String(cause)}`, false, { cause }));
    }
    this.#lastMessageAt = Date.now();
    this.#run({ type: 'heard' });
    this.#hear(message as ServerMessage);
  }

  #hear(message: ServerMessage): void {
    const { type, id, channel } = message;
    switch (type) {
      case 'connected':
        return this.#welcome(message);
      case 'subscribed':
        return this.#subscribed(message);
      case 'ack':
      case 'error':
        return this.#answer(message, type === 'error');
      case 'ping':
        return void this.send({ type: 'pong', timestamp: message['timestamp'], report: this.#report() });
      case 'pong':
        if (id === 'rtt') {
          this.#meter.roundTrip(performance.now() - (message['timestamp'] as number));
          this.#tell();
        }
        return;
      case 'token_expiring':
        return this.#renew();
      case 'reconnect':
        return this.#run({ type: 'advice', retryMs: message['retry_ms'] as number });
      case 'unsubscribed':
        return void this.#asked.delete(id);
    }
    const question = id === undefined ? undefined : this.#questions.get(id);
    if (question) {
      this.#questions.delete(id);
      question.resolve(message);
    } else if (channel !== undefined) {
      this.#streams.get(channel)?.hear(message);
    }
  }

  #welcome(message: ServerMessage): void {
    this.id = message['session'] as string;
    this.#expires(message['expires_at'] as number | undefined);
    this.#run({
      type: 'welcome',
      heartbeatMs: message['heartbeat_ms'] as number | undefined,
      retryMaxMs: message['retry_max_ms'] as number | undefined,
    });
  }

  #answer(message: ServerMessage, refused: boolean): void {
    const { id } = message;
    const now = this.#now();
    if (!refused) {
      const sequence = (message['sequence'] as number | undefined) ?? null;
      if (!this.#outbox.acknowledged(String(id), sequence, message['duplicate'] === true)) {
        this.#questions.get(id)?.resolve(message);
        this.#questions.delete(id);
      }
    } else {
      const error = new RealtimeError(message['code'] as ErrorCode, String(message['message']), message['retryable'] === true);
      const backoff = DEFAULTS.BACKOFF_MIN_MS + Math.random() * DEFAULTS.BACKOFF_STEP_MS;
      const retryMs = (message['retry_after_ms'] as number | undefined) ?? backoff;
      const streams = this.#asked.get(id);
      const question = this.#questions.get(id);
      this.#asked.delete(id);
      this.#questions.delete(id);
      if (streams) this.#refused(streams, error, retryMs);
      else if (question) question.reject(error);
      else if (id === undefined || !this.#outbox.refused(String(id), error, retryMs, now)) this.#fail(error);
    }
    this.#flush();
    this.#after();
  }

  /** How this client is, for the server's metrics. */
  #report(): Record<string, unknown> {
    const report = {
      queued: this.#outbox.waiting,
      handler_ms: Math.round(this.#slowest * 10) / 10,
      gaps_healed: this.#healed,
      visible: globalThis.document?.visibilityState !== 'hidden',
    };
    this.#slowest = this.#healed = 0;
    return report;
  }

  // ---- tokens

  #expires(at: number | undefined): void {
    const remaining = (at ?? Infinity) - Date.now();
    const share = 0.75 + Math.random() / 10;
    this.#renewAt = remaining > 0 && typeof this.#token === 'function' ? performance.now() + remaining * share : Infinity;
  }

  #renew(): void {
    this.#renewAt = Infinity;
    const token = this.#token;
    if (typeof token !== 'function') return;
    token({ reason: 'expiring', signal: AbortSignal.timeout(this.#options.timeouts?.tokenMs ?? DEFAULTS.TOKEN_TIMEOUT_MS) })
      .then((given) => (given === null ? undefined : this.#refresh(given)))
      .catch((error: unknown) => this.#fail(error));
  }

  async #refresh(token: string): Promise<void> {
    const answer = await this.request({ type: 'refresh', token });
    this.#lastToken = token;
    this.#expires(answer['expires_at'] as number | undefined);
    this.#schedule();
  }

  // ---- the queue

  /** Sends what may be sent. */
  #flush(): void {
    const polling = this.#machine.state === 'polling' && this.#fallback;
    if (this.#loading || !(this.#live || polling)) return;
    const messages = this.#outbox.next(this.#now());
    for (const message of messages) {
      if (polling) polling.publish(message);
      else this.send(message);
    }
    if (messages.length > 0) this.#save();
  }

  #load(): void {
    const take = (text: string | null): void => {
      try {
        if (text) this.#outbox.load(text);
      } catch (cause) {
        this.#storageFailed(cause);
      }
      this.#loading = false;
      this.#flush();
      this.#after();
    };
    try {
      const loaded = this.#storage?.load() ?? null;
      this.#loading = true;
      if (loaded instanceof Promise) loaded.then(take, (cause: unknown) => (this.#storageFailed(cause), take(null)));
      else take(loaded);
    } catch (cause) {
      this.#storageFailed(cause);
      take(null);
    }
  }

  #save(): void {
    if (!this.#storage || this.#saving || this.#loading) return;
    this.#saving = true;
    queueMicrotask(async () => {
      this.#saving = false;
      try {
        await this.#storage?.save(this.#outbox.save());
      } catch (cause) {
        this.#storageFailed(cause);
      }
    });
  }

  #storageFailed(cause: unknown): void {
    this.#fail(new RealtimeError('storage', `the queue is in memory only: ${String(cause)}`, false, { cause }));
  }

  // ---- time and health

  #schedule(): void {
    clearTimeout(this.#timer);
    const questions = [...this.#questions.values()].map(({ due }) => due);
    const due = Math.min(
      this.#machine.deadline, this.#outbox.deadline, this.#pingAt, this.#renewAt, this.#tellLostAt, ...questions,
    );
    if (due === Infinity) return;
    this.#timer = setTimeout(() => this.#tick(), Math.min(Math.max(due - performance.now(), 0), TIMER_MAX));
  }

  #tick(): void {
    const now = this.#now();
    this.#run({ type: 'tick' });
    if (now.steady >= this.#tellLostAt) {
      this.#tellLostAt = Infinity;
      this.#told = true;
      this.emit('lost', { since: now.wall - (now.steady - (this.#lostSince ?? now.steady)) });
    }
    if (now.steady >= this.#pingAt) {
      this.#pingAt = now.steady + DEFAULTS.RTT_INTERVAL_MS;
      if (globalThis.document?.visibilityState !== 'hidden') this.#ping();
    }
    if (now.steady >= this.#renewAt) this.#renew();
    for (const [id, { due, reject }] of this.#questions) {
      if (due > now.steady) continue;
      this.#questions.delete(id);
      reject(new RealtimeError('timeout', 'no answer in time', true));
    }
    if (this.#outbox.tick(now)) this.#run({ type: 'suspect' });
    this.#flush();
    this.#after();
  }

  #measure(): ConnectionHealth {
    const status = this.#machine.status;
    const { nextRetryAt } = this.#machine;
    const transport = status === 'connected' ? 'websocket' : status === 'polling' ? (this.#options.fallback || null)?.transport : null;
    return this.#meter.health({
      status,
      transport: transport ?? null,
      reconnectionCount: Math.max(this.#connects - 1, 0),
      queuedMessages: this.#outbox.waiting,
      usingFallback: status === 'polling',
      connectedSince: this.#connectedSince,
      lastMessageAt: this.#lastMessageAt,
      nextRetryAt: nextRetryAt === null ? null : Math.round(Date.now() + nextRetryAt - performance.now()),
      lastError: this.#lastError,
    });
  }

  /** Tells the health if anything but the time of the last message is different. */
  #tell(): void {
    const next = this.#measure();
    const last = this.#health();
    const keys = Object.keys(next) as (keyof ConnectionHealth)[];
    const differs = (key: keyof ConnectionHealth): boolean =>
      key === 'nextRetryAt'
        ? Math.abs((next[key] ?? 0) - (last[key] ?? 0)) > 50
        : key !== 'lastMessageAt' && next[key] !== last[key];
    if (keys.some(differs)) this.#health.set(next);
  }

  #fail(cause: unknown): void {
    const error = cause instanceof RealtimeError ? cause : new RealtimeError('disconnected', String(cause), true, { cause });
    this.#lastError = error;
    this.emit('error', error);
  }

  #log(message: string, detail: unknown): void {
    this.#options.logger?.({ at: Date.now(), message, detail });
  }
}

const ENDINGS = {
  client: 'disconnected', unauthorized: 'unauthorized', forbidden: 'forbidden', kicked: 'disconnected', protocol: 'protocol',
} as const satisfies Record<string, ErrorCode>;

/** What holds for a whole subscribe message. */
function narrow({ tags, filter, aggregation_interval, shape, compression }: ChannelOptions): Record<string, unknown> {
  return { tags, filter, aggregation_interval, shape, compression };
}

/** Channels that can be asked for together. */
function groups(streams: Stream[]): Stream[][] {
  const found = new Map<string, Stream[]>();
  for (const stream of streams) {
    const key = JSON.stringify(narrow(stream.options));
    found.set(key, [...(found.get(key) ?? []), stream]);
  }
  return [...found.values()];
}

/** Hears of the network and of the page's coming and going, where there are such things. */
function listenToPage(run: (type: 'online' | 'offline' | 'visible') => void, hide: () => void): Unsubscribe {
  if (typeof addEventListener !== 'function' || typeof document === 'undefined') return () => undefined;
  const stop = new AbortController();
  const { signal } = stop;
  addEventListener('online', () => run('online'), { signal });
  addEventListener('offline', () => run('offline'), { signal });
  addEventListener('pageshow', ({ persisted }) => persisted && run('visible'), { signal });
  addEventListener('pagehide', hide, { signal });
  document.addEventListener('resume', () => run('visible'), { signal });
  document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && run('visible'), { signal });
  return () => stop.abort();
}
