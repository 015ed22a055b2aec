import { createStream, type Stream, type Wire } from './channel.js';
import { json } from './codec.js';
import * as DEFAULTS from './defaults.js';
import { type ErrorCode, RealtimeError, UnauthorizedError } from './error.js';
import { createMeter } from './health.js';
import { createMachine, type Input } from './machine.js';
import { createOutbox, uuid } from './outbox.js';
import { type Unsubscribe, writable } from './readable.js';
import type {
  AnySchema, ChannelOptions, Client, ClientEvents, ClientOptions, ConnectionHealth, FallbackSession, Position, Schema, ServerMessage, Status,
} from './types.js';

/** Volatile messages are left out while more than this waits in the socket, in bytes. */
const SOCKET_FULL = 65_536;
/** Closes a socket without ending the session: this client comes back. */
const LEFT = 4000;

type Message = Record<string, unknown>;

/** Takes the answer to a request, which may be a refusal. */
type Handler = (answer: ServerMessage, error: RealtimeError | undefined) => void;

/**
 * Makes a client. It connects with the first `connect()`, `subscribe` or `publish`, performs what the machine decides, and
 * moves messages between the socket, the channels and the queue.
 */
export function createClient<S extends Schema = AnySchema>(options: ClientOptions): Client<S> {
  const { fallback, queue = {}, timeouts = {}, codec = json } = options;
  const { tokenMs = DEFAULTS.TOKEN_TIMEOUT_MS, requestMs = DEFAULTS.REQUEST_TIMEOUT_MS } = timeouts;
  const machine = createMachine({
    ...options.backoff, ...timeouts, fallback: !!fallback, renewable: typeof options.token === 'function',
  });
  const meter = createMeter(options.health);
  const outbox = createOutbox({ ...queue, ...timeouts }, {
    wall: Date.now,
    steady: now,
    failed: (message, error) => emit('undeliverable', { message, error }),
    overflowed: (count) => emit('overflow', { count }),
    settled: (delivered) => meter.settled(delivered),
    changed: save,
  });
  const { storage } = queue;
  const streams = new Map<string, Stream>();
  const changed = new Set<Stream>();
  /** What is done with answers, by the request's id, and the questions that are asked again after a reconnect. */
  const answers = new Map<unknown, Handler>();
  const questions = new Map<Message, Handler>();
  const listeners = new Set<readonly [keyof ClientEvents, (event: never) => void]>();
  const [machineAlarm, pingAlarm, renewAlarm, lostAlarm] = [alarm(), alarm(), alarm(), alarm()] as const;
  const status = writable<Status>('idle');
  const queuedMessageCount = writable(0);
  const usingFallback = writable(false);
  let { token } = options;
  let lastToken: string | null = null;
  let id: string | null = null;
  let aborter = new AbortController();
  let socket: WebSocket | null = null;
  let session: FallbackSession | null = null;
  let origin = '';
  let requests = 0;
  let connects = 0;
  let connectedSince: number | null = null;
  let lastMessageAt: number | null = null;
  let lastError: RealtimeError | null = null;
  /** When service went missing, and whether that was told. */
  let lostSince = 0;
  let lostTold = false;
  /** For the server: the slowest listener and the holes healed since the last report. */
  let slowest = 0;
  let healed = 0;
  let loading = true;
  let saving = false;
  let unlisten: Unsubscribe | undefined;

  // ---- telling

  function emit<E extends keyof ClientEvents>(event: E, detail: ClientEvents[E]): void {
    for (const [wanted, run] of [...listeners]) {
      try {
        if (wanted === event) run(detail as never);
      } catch (error) {
        // Nobody is left to tell but the page.
        queueMicrotask(() => { throw error; });
      }
    }
  }

  function on<E extends keyof ClientEvents>(event: E, run: (event: ClientEvents[E]) => void): Unsubscribe {
    const listener = [event, run] as const;
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  function fail(cause: unknown, code: ErrorCode = 'disconnected'): void {
    lastError = cause instanceof RealtimeError ? cause : new RealtimeError(code, String(cause), true, { cause });
    emit('error', lastError);
  }

  function measure(): ConnectionHealth {
    const { status, nextRetryAt } = machine;
    const usingFallback = status === 'polling';
    return meter.health({
      status,
      transport: status === 'connected' ? 'websocket' : (usingFallback && fallback && fallback.transport) || null,
      reconnectionCount: Math.max(connects - 1, 0),
      queuedMessages: outbox.waiting(),
      usingFallback,
      connectedSince,
      lastMessageAt,
      nextRetryAt: nextRetryAt && Date.now() + nextRetryAt - now(),
      lastError,
    });
  }

  const connectionHealth = writable(measure());

  /** Whatever happened: tells what is different now, and waits for what is next. */
  function update(): void {
    const from = status();
    const to = machine.status;
    if (from !== to) {
      const { ending } = machine;
      const failed = ending && ending !== 'client' && (lastError = new RealtimeError(ending, lastError?.message));
      usingFallback.set(to === 'polling');
      status.set(to);
      outbox.disconnected();
      if (to === 'connected' || to === 'polling') {
        lostAlarm(Infinity);
        if (lostTold) emit('restored', { afterMs: now() - lostSince });
        lostTold = false;
        connectedSince ??= Date.now();
        if (to === 'connected') connects++;
        else wanted().forEach((stream) => stream.cursor.position && stream.place(null));
        flush();
      } else {
        connectedSince = null;
        pingAlarm(Infinity);
        renewAlarm(Infinity);
        streams.forEach((stream) => stream.lost());
        if (to === 'disconnected') {
          unlisten?.();
          lostAlarm(Infinity);
          lostTold = false;
        } else if (from !== 'connecting') {
          lostSince = now();
          lostAlarm(timeouts.lostAfterMs ?? DEFAULTS.LOST_AFTER_MS, () => {
            lostTold = true;
            emit('lost', { since: Date.now() - (now() - lostSince) });
          });
        }
      }
      emit('status', { from, to, reason: ending ?? lastError?.message ?? '' });
      if (failed) emit('failed', failed);
    }
    queuedMessageCount.set(outbox.waiting());
    const health = measure();
    if (differ(health, connectionHealth())) connectionHealth.set(health);
    machineAlarm(Math.min(machine.deadline, outbox.deadline()) - now(), tick);
  }

  // ---- the machine and its effects

  function run(input: Input): void {
    const before = machine.status;
    for (const effect of machine.step(input, now(), Math.random)) perform[effect]();
    // Most messages change nothing, and there are many.
    if (input.type !== 'heard' || before !== machine.status) update();
  }

  /** Whoever wants something wants a connection. */
  function wake(): void {
    if (machine.state === 'idle') run({ type: 'connect' });
  }

  function tick(): void {
    run({ type: 'tick' });
    if (outbox.tick()) run({ type: 'suspect' });
    flush();
    update();
  }

  const perform = {
    authorize(): void {
      unlisten?.();
      unlisten = listenToPage((type) => run({ type }), () => {
        // A page with an open socket could not go into the back-forward cache.
        if (socket) {
          perform.drop();
          run({ type: 'closed', code: 1001 });
        }
      });
      const { signal } = (aborter = new AbortController());
      const given = token;
      attempt(() => (typeof given === 'function' ? given({ reason: machine.tokenReason, signal }) : given ?? null)).then((given) => {
        if (!signal.aborted) lastToken = given;
        return 'token' as const;
      }, (error: unknown) => {
        fail(error);
        return error instanceof UnauthorizedError ? 'token_refused' : 'token_failed';
      }).then((type) => signal.aborted || run({ type }));
    },

    open(): void {
      const { signal } = (aborter = new AbortController());
      const { url } = options;
      attempt(() => (typeof url === 'function' ? url() : url)).then((given) => {
        if (signal.aborted) return;
        const target = new URL(given, globalThis.location?.href);
        target.protocol = target.protocol.replace('http', 'ws');
        if (target.pathname === '/') target.pathname = '/ws';
        origin = target.origin.replace('ws', 'http');
        socket = new (options.WebSocket ?? WebSocket)(target.href, codec.protocol);
        socket.binaryType = 'arraybuffer';
        // What went wrong is said by the close that follows. Without a listener `ws` throws, and never says that it closed.
        socket.onerror = () => undefined;
        socket.onopen = () => run({ type: 'opened' });
        socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => receive(data);
        socket.onclose = ({ code, reason }) => {
          forget();
          lastError = new RealtimeError('disconnected', `${code} ${reason}`, true);
          run({ type: 'closed', code });
        };
      }).catch((error: unknown) => {
        fail(error);
        run({ type: 'closed', code: 0 });
      });
    },

    greet(): void {
      // Until they are asked for, what comes belongs to the session that may be resumed.
      const all = wanted();
      for (const stream of all) stream.pending = '';
      const [group] = groups(all);
      hello(group && wish(group));
    },

    ready(): void {
      // Also what was wanted, or wanted otherwise, after the greeting had left.
      const left = wanted().filter((stream) => !stream.pending);
      update();
      groups(left).forEach(subscribe);
      questions.forEach((handler, message) => call(message, handler));
      perform.probe();
    },

    probe(): void {
      const began = now();
      answers.set('rtt', () => meter.roundTrip(now() - began));
      transmit({ type: 'ping', id: 'rtt' });
      const again = (): void => (hidden() ? pingAlarm(DEFAULTS.RTT_INTERVAL_MS, again) : perform.probe());
      pingAlarm(DEFAULTS.RTT_INTERVAL_MS, again);
    },

    drop(): void {
      const ends = machine.ending === 'client';
      aborter.abort();
      forget()?.close(ends ? 1000 : LEFT);
      if (ends) id = null;
    },

    poll(): void {
      if (!fallback) return;
      session = fallback.start({
        origin,
        session: id ?? uuid(Date.now()),
        fetch: options.fetch ?? ((...request) => fetch(...request)),
        token: () => lastToken,
        channels: () => wanted().map(({ name, options, cursor }) => ({ name, options, position: cursor.position })),
        place: (name, position) => streams.get(name)?.place(position),
        deliver: (message) => hear(message, true),
        succeeded: () => run({ type: 'poll_ok' }),
        failed(error) {
          fail(error);
          run({ type: 'poll_failed' });
        },
      });
    },

    stop_poll(): void {
      session?.stop();
      session = null;
    },
  };

  /** The socket is nothing to us any more; nobody will answer what it was asked. */
  function forget(): WebSocket | null {
    const gone = socket;
    socket = null;
    if (gone) gone.onopen = gone.onmessage = gone.onclose = null;
    if (!session) answers.clear();
    return gone;
  }

  function transmit(message: Message): void {
    if (socket?.readyState === 1) socket.send(codec.encode(message));
  }

  function call(message: Message, handler: Handler): void {
    if (send(message)) answers.set(message['id'], handler);
  }

  function send(message: Message): boolean {
    const can = status() === 'connected' && (message['id'] !== undefined || Number(socket?.bufferedAmount) < SOCKET_FULL);
    if (can) transmit(message);
    return can;
  }

  // ---- subscriptions

  const wanted = (): Stream[] => [...streams.values()].filter((stream) => stream.wanted);

  const wire: Wire = {
    changed(stream) {
      if (changed.size === 0) queueMicrotask(synchronise);
      changed.add(stream);
      stream.lost();
      if (stream.wanted) wake();
    },
    repair(stream) {
      healed++;
      subscribe([stream]);
    },
    publish,
    send,
    request,
    emit,
    handled(channel, sequence, milliseconds) {
      slowest = Math.max(slowest, milliseconds);
      // A sequence of 0 stands for none.
      if (sequence && sequence % (options.receiptEvery ?? DEFAULTS.RECEIPT_EVERY) === 0) {
        send({ type: 'receipt', channel, sequence });
      }
    },
  };

  /** Tells the server which channels are wanted now and which no longer. */
  function synchronise(): void {
    const all = [...changed];
    changed.clear();
    const joined = all.filter((stream) => stream.wanted);
    unsubscribe(all.filter((stream) => !stream.wanted).map((stream) => stream.name));
    groups(joined).forEach(subscribe);
    if (machine.state === 'polling') session?.changed();
  }

  function unsubscribe(channels: string[]): void {
    // Whether it was subscribed is not of interest any more.
    if (channels.length > 0) call({ type: 'unsubscribe', id: ++requests, channels }, () => undefined);
  }

  function subscribe(group: Stream[]): void {
    if (status() === 'connected') transmit(wish(group));
  }

  /** Greets the server, with a subscribe message in the same breath. */
  function hello({ id: request = ++requests, type: _, ...subscribe }: Message = {}): void {
    transmit({
      type: 'connect', id: request, heartbeat: 'message', token: lastToken ?? undefined, session: id ?? undefined,
      subscribe: subscribe['channels'] && subscribe,
    });
  }

  /** A subscribe message for channels that are narrowed alike. */
  function wish(group: Stream[]): Message {
    const id = ++requests;
    answers.set(id, ({ positions }, error) => {
      const left = group.filter((stream) => stream.pending === id);
      // What cannot be asked for must not keep the client from connecting: it is asked for again behind the welcome.
      if (error && machine.state === 'greeting') {
        left.forEach((stream) => (stream.pending = ''));
        hello();
      } else if (!error) left.forEach((stream) => stream.subscribed((positions as Record<string, Position> | undefined)?.[stream.name]));
      else if (error.retryable) setTimeout(() => left.forEach(wire.changed), error.retryMs ?? DEFAULTS.BACKOFF_MAX_MS);
      // One channel refuses all that were asked for with it, so they are asked for alone.
      else if (left.length > 1) left.forEach((stream) => subscribe([stream]));
      else left.forEach((stream) => stream.refused(error));
    });
    const channels = group.map((stream) => {
      stream.pending = id;
      return { channel: stream.name, ...split(stream).each, ...stream.cursor.start() };
    });
    return { type: 'subscribe', id, channels, ...group[0] && split(group[0]).all };
  }

  // ---- messages

  function receive(frame: string | ArrayBuffer): void {
    let message: unknown;
    try {
      message = codec.decode(frame);
    } catch (cause) {
      return fail(cause, 'protocol');
    }
    lastMessageAt = Date.now();
    run({ type: 'heard' });
    if (message && typeof message === 'object') hear(message as ServerMessage);
  }

  function hear(message: ServerMessage, http = false): void {
    const { type, id: request, channel, message: text, retry_after_ms: retryMs } = message;
    const error = type === 'error'
      ? new RealtimeError(message['code'] as ErrorCode, String(text), message['retryable'] === true, { retryMs })
      : undefined;
    switch (type) {
      case 'connected':
        id = message['session'] as string;
        expires(message['expires_at']);
        return run({ type: 'welcome', heartbeatMs: message['heartbeat_ms'], retryMaxMs: message['retry_max_ms'] });
      case 'ping':
        transmit({ type: 'pong', timestamp: message['timestamp'], report: report() });
        break;
      case 'token_expiring':
        return renew();
      case 'reconnect':
        return run({ type: 'advice', retryMs: message['retry_ms'] });
      case 'subscribed':
        // A resumed session brings back what is wanted no longer.
        unsubscribe((message['channels'] as string[]).filter((name) => !streams.get(name)?.wanted));
    }
    // The id of an event is its publisher's: it may be one of ours, but it answers nothing.
    const handler = type !== 'event' && answers.get(request);
    if (handler) {
      answers.delete(request);
      handler(message, error);
      flush();
      update();
    } else if (error) fail(error);
    else if (channel !== undefined) streams.get(channel)?.hear(message, http);
  }

  function request(message: { readonly type: string; readonly [member: string]: unknown }): Promise<ServerMessage> {
    return new Promise((resolve, reject) => {
      const question = { ...message, id: ++requests };
      const settle: Handler = (answer, error) => {
        clearTimeout(timer);
        questions.delete(question);
        if (error) reject(error);
        else resolve(answer);
      };
      const timer = setTimeout(() => settle({}, new RealtimeError('timeout', undefined, true)), requestMs);
      questions.set(question, settle);
      call(question, settle);
    });
  }

  /** How this client was since the last report. */
  function report(): Message {
    const said = { queued: outbox.waiting(), handler_ms: slowest, gaps_healed: healed, visible: !hidden() };
    slowest = healed = 0;
    return said;
  }

  // ---- tokens

  function expires(at: unknown): void {
    // At 80 % of what is left, a little sooner or later; never if nothing was said.
    renewAlarm((Number(at) - Date.now()) * (0.75 + Math.random() / 10), renew);
  }

  function renew(): void {
    if (typeof token !== 'function') return;
    token({ reason: 'expiring', signal: AbortSignal.timeout(tokenMs) })
      .then((given) => (given === null ? undefined : refresh(given)))
      .catch((error: unknown) => {
        fail(error);
        if (error instanceof UnauthorizedError) run({ type: 'token_refused' });
      });
  }

  async function refresh(given: string): Promise<void> {
    const answer = await request({ type: 'refresh', token: given });
    lastToken = given;
    expires(answer['expires_at']);
  }

  // ---- the queue

  async function publish(...message: Parameters<Wire['publish']>): ReturnType<Wire['publish']> {
    const settled = outbox.add(...message);
    wake();
    flush();
    update();
    return settled;
  }

  /** Sends what may be sent. */
  function flush(): void {
    // While the server is asked whether it is there, nothing goes out.
    const over = machine.state === 'live' ? transmit : machine.state === 'polling' && session?.publish;
    if (loading || !over) return;
    for (const message of outbox.next()) {
      answers.set(message['id'], outbox.answer);
      over(message);
    }
  }

  function save(): void {
    if (!storage || saving) return;
    saving = true;
    queueMicrotask(() => {
      saving = false;
      attempt(() => (loading ? undefined : storage.save(outbox.save()))).catch((cause: unknown) => fail(cause, 'storage'));
    });
  }

  attempt(() => storage?.load())
    .then((text) => text && outbox.load(text))
    .catch((cause: unknown) => fail(cause, 'storage'))
    .then(() => {
      loading = false;
      save();
      flush();
      update();
    });

  const connect = (): void => run({ type: 'connect' });
  const disconnect = (): void => run({ type: 'disconnect' });
  const client = {
    get id() {
      return id;
    },
    status,
    connectionHealth,
    queuedMessageCount,
    usingFallback,
    connect,
    disconnect,
    reconnect: () => run({ type: 'reconnect' }),

    async ready({ signal }: { signal?: AbortSignal } = {}) {
      let stop: Unsubscribe | undefined;
      wake();
      await new Promise<void>((resolve, reject) => {
        stop = status.subscribe((now) => {
          if (now === 'connected' || now === 'polling') resolve();
          else if (machine.ending && machine.ending !== 'client') reject(lastError);
        });
        signal?.addEventListener('abort', () => reject(signal.reason));
        if (signal?.aborted) reject(signal.reason);
      }).finally(() => stop?.());
    },

    setToken(given: string | null) {
      token = given ?? undefined;
      if (given === null) {
        disconnect();
        outbox.clear();
      } else if (status() === 'connected') {
        // Another user's token does not renew this session: begin another one.
        refresh(given).catch(() => (disconnect(), connect()));
      } else {
        run({ type: 'token_set' });
      }
    },

    channel(name: string, options?: ChannelOptions) {
      const stream = streams.get(name) ?? createStream(name, wire);
      streams.set(name, stream);
      return stream.configure(options);
    },

    publish,
    request,
    on,
    [Symbol.asyncDispose]: async () => disconnect(),
  };
  // What a schema says is a matter of types alone: the connection carries JSON.
  return client as unknown as Client<S>;
}

const now = (): number => performance.now();

const hidden = (): boolean => globalThis.document?.visibilityState === 'hidden';

/** Calls what may answer now, later, or throw. */
async function attempt<T>(call: () => T | Promise<T>): Promise<T> {
  return call();
}

/** A timer that is set anew each time; `Infinity` only stops it. */
function alarm(): (milliseconds: number, run?: () => void) => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  return (milliseconds, run) => {
    clearTimeout(timer);
    // Timers cannot wait for longer; what is later is set again then.
    if (run && milliseconds < Infinity) timer = setTimeout(run, Math.min(milliseconds, 2 ** 31 - 1));
  };
}

/** Whether anything but the time of the last message is different; the next attempt's time is not exact. */
function differ(one: ConnectionHealth, other: ConnectionHealth): boolean {
  const seen = ({ lastMessageAt: _, nextRetryAt, lastError, ...rest }: ConnectionHealth): string =>
    JSON.stringify([rest, nextRetryAt && Math.round(nextRetryAt / 100), lastError?.message]);
  return seen(one) !== seen(other);
}

/** What is said for each channel, and what for a whole subscribe message. */
function split({ options }: Stream): { each: ChannelOptions; all: ChannelOptions } {
  const { since: _, last: __, replay: ___, state, presence, history, ...all } = options;
  return { each: { state, presence, history } as ChannelOptions, all };
}

/** Channels that can be asked for together. */
function groups(streams: Stream[]): Stream[][] {
  const found: Record<string, Stream[]> = {};
  for (const stream of streams) (found[JSON.stringify(split(stream).all)] ??= []).push(stream);
  return Object.values(found);
}

/** Hears of the network and of the page's coming and going, where there are such things. */
function listenToPage(run: (type: 'online' | 'offline' | 'visible') => void, hide: () => void): Unsubscribe | undefined {
  if (!globalThis.document) return undefined;
  const stop = new AbortController();
  const hear = ({ type }: Event): void => {
    if (type === 'pagehide') hide();
    else if (type === 'online' || type === 'offline') run(type);
    else if (!hidden()) run('visible');
  };
  for (const type of ['online', 'offline', 'pagehide', 'pageshow']) addEventListener(type, hear, stop);
  for (const type of ['resume', 'visibilitychange']) document.addEventListener(type, hear, stop);
  return () => stop.abort();
}
