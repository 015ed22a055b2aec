import { createCursor, type Cursor } from './cursor.js';
import { RealtimeError } from './error.js';
import { type Readable, type Unsubscribe, writable, type Writable } from './readable.js';
import type {
  Ack, Channel, ChannelEvent, ChannelOptions, ClientEvents, Position, PublishOptions, ReplayPage, ServerMessage,
} from './types.js';

/** What a channel needs of its client. */
export interface Wire {
  /** A channel gained its first listener or lost its last. */
  changed(channel: Stream): void;
  /** Something is missing: subscribe again from the cursor. */
  repair(channel: Stream): void;
  publish(channel: string, type: string, data: unknown, options?: PublishOptions): Promise<Ack>;
  send(message: Record<string, unknown>): boolean;
  request(message: { type: string; [member: string]: unknown }): Promise<ServerMessage>;
  emit<E extends keyof ClientEvents>(event: E, detail: ClientEvents[E]): void;
  /** Listeners ran for so many milliseconds. */
  handled(channel: string, sequence: number | undefined, milliseconds: number): void;
}

type State = 'unsubscribed' | 'subscribing' | 'subscribed';

/** A channel as its client sees it. */
export interface Stream {
  readonly channel: Channel;
  readonly name: string;
  readonly wanted: boolean;
  readonly options: ChannelOptions;
  readonly cursor: Cursor;
  /** The subscribe request that was not answered yet: what arrives meanwhile belongs to an older one. */
  pending: unknown;
  /** Takes options over if nobody listens yet. */
  configure(options: ChannelOptions | undefined): Channel;
  /** The server confirmed the subscription. */
  subscribed(position?: Position): void;
  /** HTTP has read up to here, and nothing behind it can be missed; null where nothing is kept. */
  place(position: Position | null): void;
  /** Nothing comes until it is subscribed again. */
  lost(): void;
  /** The server refused it for good. */
  refused(error: RealtimeError): void;
  /** A message of the server about this channel. While a socket is asked for it, what comes by HTTP counts as before. */
  hear(message: ServerMessage, http: boolean): void;
}

/** An event of the server, protocol R28. */
interface EventMessage extends ServerMessage {
  readonly event: string;
  readonly sequence?: number;
  readonly previous?: number;
  readonly user?: string;
  readonly critical?: boolean;
}

/** A page of the past, protocol R27. */
interface Page {
  readonly epoch: string;
  readonly events: readonly EventMessage[];
  readonly gap?: ReplayPage['gap'];
  readonly has_more: boolean;
  readonly next_sequence?: number;
}

/** Hears an event, or a message that is none. */
type Listener = (event: ChannelEvent | undefined, message: ServerMessage) => unknown;

/** One channel: who listens, where it is, what the server says of it. The schema is a matter of types alone. */
export function createStream(name: string, wire: Wire): Stream {
  const { emit, publish, request } = wire;
  const listeners = new Set<Listener>();
  const state: Writable<State> = writable<State>('unsubscribed');
  let options: ChannelOptions = {};
  let cursor = createCursor(options);

  const sequence = (): number => cursor.position?.sequence ?? 0;

  function join(run: Listener): Unsubscribe {
    // The same function may listen twice.
    const listener: Listener = (...heard) => run(...heard);
    const first = listeners.size === 0;
    listeners.add(listener);
    if (first) {
      cursor = createCursor(options);
      wire.changed(stream);
    }
    return () => {
      if (listeners.delete(listener) && listeners.size === 0) wire.changed(stream);
    };
  }

  /** Tells all listeners; what one throws is told and stops nobody else. */
  function tell(message: ServerMessage, event?: ChannelEvent): void {
    const report = (cause: unknown): void => {
      emit('error', new RealtimeError('listener', `${name}: ${cause}`, false, { cause }));
    };
    for (const listener of [...listeners]) {
      try {
        // One that has left meanwhile hears nothing more.
        const result = listeners.has(listener) && listener(event, message);
        if (result instanceof Promise) result.catch(report);
      } catch (cause) {
        report(cause);
      }
    }
  }

  function gap(from: number, to: number, reason: ClientEvents['gap']['reason']): void {
    emit('gap', { channel: name, from, to, reason });
  }

  function toEvent(message: EventMessage, replayed: boolean): ChannelEvent {
    const { event: type, user: userId, critical = false, sequence: sequenceNumber, previous: _, ...rest } = message;
    return { ...rest, type, userId, sequenceNumber, isCritical: critical, replayed } as unknown as ChannelEvent;
  }

  const past = (page: Page): ChannelEvent[] => page.events.map((event) => toEvent(event, true));

  const ask = (query: object): Promise<Page> =>
    request({ type: 'get_history', channel: name, ...query }) as Promise<ServerMessage & Page>;

  function hearEvent(message: EventMessage): void {
    const { sequence, previous } = message;
    if (sequence !== undefined) {
      const step = cursor.judge(sequence, previous);
      if (step === 'drop') return;
      if (step === 'repair') return wire.repair(stream);
      if (step !== 'deliver') gap(step.from, step.to, 'expired');
    }
    const began = performance.now();
    tell(message, toEvent(message, cursor.replaying));
    if (sequence !== undefined) cursor.advance(sequence);
    wire.handled(name, sequence, performance.now() - began);
  }

  const channel = {
    name,
    get sequence() {
      return sequence();
    },
    state: state as Readable<State>,
    subscribe: (listener?: (event: ChannelEvent) => unknown) => join((event) => event && listener?.(event)),
    on: (type: string, listener: (event: ChannelEvent) => unknown) => join((event) => event?.type === type && listener(event)),
    onMessage: (listener: (message: ServerMessage) => unknown) => join((event, message) => event ?? listener(message)),
    publish: publish.bind(null, name),
    send: (type: string, data: unknown) => wire.send({ type: 'publish', channel: name, event: type, data }),

    async replay({ fromSequence, limit }: { fromSequence: number; limit?: number }): Promise<ReplayPage> {
      // A position needs an epoch: ours, or that of whatever the channel has now.
      const epoch = cursor.position?.epoch ?? (await ask({ limit: 1 })).epoch;
      const since = { epoch, sequence: Math.max(fromSequence - 1, 0) };
      const page = await ask({ since, limit });
      const through = page.next_sequence ?? page.events.at(-1)?.sequence ?? since.sequence;
      return { events: past(page), nextSequence: through + 1, hasMore: page.has_more, gap: page.gap ?? null };
    },

    history: async ({ start, end, limit }: { start?: number; end?: number; limit?: number } = {}) =>
      past(await ask({ start_time: start, end_time: end, limit })),
  };

  const stream: Stream = {
    channel: channel as unknown as Channel,
    name,
    pending: null,
    get wanted() {
      return listeners.size > 0;
    },
    get options() {
      return options;
    },
    get cursor() {
      return cursor;
    },
    configure(given) {
      if (given && listeners.size === 0) options = given;
      return stream.channel;
    },
    subscribed(position) {
      const last = sequence();
      stream.pending = null;
      if (cursor.subscribed(position)) gap(last + 1, sequence(), 'epoch');
      state.set('subscribed');
    },
    place(position) {
      cursor.position = position ?? cursor.position;
      if (listeners.size > 0) state.set('subscribed');
    },
    lost() {
      stream.pending = null;
      state.set(listeners.size > 0 ? 'subscribing' : 'unsubscribed');
    },
    refused(error) {
      stream.pending = null;
      state.set('unsubscribed');
      emit('error', new RealtimeError(error.code, `${name}: ${error.message}`));
    },
    hear(message, http) {
      if ((stream.pending !== null && !http) || listeners.size === 0) return;
      const last = sequence();
      const reached = message['sequence'] as number;
      switch (message.type) {
        case 'event':
          return hearEvent(message as EventMessage);
        case 'gap': {
          const { from, to } = message as unknown as { from: number; to: number };
          gap(Math.max(from, last + 1), to, 'expired');
          return cursor.advance(to);
        }
        case 'reset':
          cursor.position = { epoch: String(message['epoch']), sequence: reached };
          cursor.replayed();
          return gap(last + 1, reached, 'epoch');
        case 'pos':
          return cursor.advance(reached);
        case 'replay_end':
          return cursor.replayed(reached);
        case 'dropped':
          gap(1, message['count'] as number, 'overflow');
      }
      tell(message);
    },
  };
  return stream;
}
