import { Cursor } from './cursor.js';
import { RealtimeError } from './error.js';
import { type Readable, type Unsubscribe, writable } from './readable.js';
import type {
  Ack, ChannelEvent, ChannelOptions, ClientEvents, HistoryQuery, Json, Position, PublishOptions, ReplayPage,
  ServerMessage,
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
  /** A listener ran for so many milliseconds. */
  handled(channel: Stream, sequence: number | undefined, milliseconds: number): void;
}

/** An event of the server, protocol R28. */
interface EventMessage extends ServerMessage {
  readonly channel: string;
  readonly event: string;
  readonly sequence?: number;
  readonly previous?: number;
  readonly user?: string;
  readonly critical?: boolean;
}

/** A page of the past, protocol R27. */
interface Page {
  readonly epoch: string;
  readonly events: readonly ChannelEvent[];
  readonly gap?: ReplayPage['gap'];
  readonly has_more: boolean;
  readonly next_sequence?: number;
}

/** Hears an event, or a message that is none. */
type Listener = (event: ChannelEvent | undefined, message: ServerMessage) => unknown;

/** One channel: who listens, where it is, what the server says of it. The schema is a matter of types alone. */
export class Stream {
  readonly name: string;
  readonly wire: Wire;
  readonly status = writable<'unsubscribed' | 'subscribing' | 'subscribed'>('unsubscribed');
  /** The subscribe request that was not answered yet: what arrives meanwhile belongs to an older one. */
  pending: unknown = null;
  options: ChannelOptions = {};
  cursor = new Cursor({});
  readonly #listeners = new Set<Listener>();

  constructor(name: string, wire: Wire) {
    this.name = name;
    this.wire = wire;
  }

  get wanted(): boolean {
    return this.#listeners.size > 0;
  }

  /** Takes options over if nobody listens yet. */
  configure(options: ChannelOptions | undefined): this {
    if (options && !this.wanted) this.options = options;
    return this;
  }

  get sequence(): number {
    return this.cursor.position?.sequence ?? 0;
  }

  get state(): Readable<'unsubscribed' | 'subscribing' | 'subscribed'> {
    return this.status;
  }

  subscribe(listener: (event: ChannelEvent) => unknown = () => undefined): Unsubscribe {
    return this.#join((event) => event && listener(event));
  }

  on(type: string, listener: (event: ChannelEvent) => unknown): Unsubscribe {
    return this.subscribe((event) => event.type === type && listener(event));
  }

  onMessage(listener: (message: ServerMessage) => unknown): Unsubscribe {
    return this.#join((event, message) => event ?? listener(message));
  }

  #join(run: Listener): Unsubscribe {
    // The same function may listen twice.
    const listener: Listener = (...heard) => run(...heard);
    const first = !this.wanted;
    this.#listeners.add(listener);
    if (first) {
      this.cursor = new Cursor(this.options);
      this.wire.changed(this);
    }
    return () => {
      if (this.#listeners.delete(listener) && !this.wanted) this.wire.changed(this);
    };
  }

  /** Tells all listeners; what one throws is told and stops nobody else. */
  #tell(message: ServerMessage, event?: ChannelEvent): void {
    const report = (cause: unknown): void => {
      this.wire.emit('error', new RealtimeError('listener', `${this.name}: ${String(cause)}`, false, { cause }));
    };
    for (const listener of [...this.#listeners]) {
      // One that has left meanwhile hears nothing more.
      if (!this.#listeners.has(listener)) continue;
      try {
        const result = listener(event, message);
        if (result instanceof Promise) result.catch(report);
      } catch (cause) {
        report(cause);
      }
    }
  }

  publish(type: string, data: Json, options?: PublishOptions): Promise<Ack> {
    return this.wire.publish(this.name, type, data, options);
  }

  send(type: string, data: Json): boolean {
    return this.wire.send({ type: 'publish', channel: this.name, event: type, data });
  }

  async replay({ fromSequence, limit }: { fromSequence: number; limit?: number }): Promise<ReplayPage> {
    // A position needs an epoch: ours, or that of whatever the channel has now.
    const epoch = this.cursor.position?.epoch ?? (await this.#ask({ limit: 1 })).epoch;
    const since = { epoch, sequence: Math.max(fromSequence - 1, 0) };
    const { events, gap = null, has_more: hasMore, next_sequence: next } = await this.#ask({ since, limit });
    const through = next ?? events.at(-1)?.sequenceNumber ?? since.sequence;
    return { events, nextSequence: through + 1, hasMore, gap };
  }

  async history({ start, end, limit }: HistoryQuery = {}): Promise<readonly ChannelEvent[]> {
    return (await this.#ask({ start_time: start, end_time: end, limit })).events;
  }

  async #ask(query: Record<string, unknown>): Promise<Page> {
    const page = (await this.wire.request({ type: 'get_history', channel: this.name, ...query })) as Page & ServerMessage;
    return { ...page, events: page.events.map((event) => this.#event(event as unknown as EventMessage, true)) };
  }

  /** The server confirmed the subscription. */
  subscribed(position: Position | undefined): void {
    this.pending = null;
    const last = this.sequence;
    if (this.cursor.subscribed(position)) this.#gap(last + 1, this.sequence, 'epoch');
    this.status.set('subscribed');
  }

  /** Nothing comes until it is subscribed again. */
  lost(): void {
    this.status.set(this.wanted ? 'subscribing' : 'unsubscribed');
  }

  /** The server refused it for good. */
  refused(error: RealtimeError): void {
    this.pending = null;
    this.status.set('unsubscribed');
    this.wire.emit('error', new RealtimeError(error.code, `${this.name}: ${error.message}`));
  }

  /** A message of the server about this channel. */
  hear(message: ServerMessage): void {
    if (this.pending !== null || !this.wanted) return;
    const { type } = message;
    const sequence = message['sequence'] as number;
    switch (type) {
      case 'event':
        return this.#hearEvent(message as EventMessage);
      case 'gap': {
        const { from, to } = message as unknown as { from: number; to: number };
        this.#gap(Math.max(from, this.sequence + 1), to, 'expired');
        return this.cursor.advance(to);
      }
      case 'reset': {
        const last = this.sequence;
        this.cursor.position = { epoch: String(message['epoch']), sequence };
        this.cursor.replayed(undefined);
        return this.#gap(last + 1, sequence, 'epoch');
      }
      case 'pos':
        return this.cursor.advance(sequence);
      case 'replay_end':
        return this.cursor.replayed(sequence);
      case 'dropped':
        this.#gap(1, message['count'] as number, 'overflow');
    }
    this.#tell(message);
  }

  #hearEvent(message: EventMessage): void {
    const { sequence, previous } = message;
    if (sequence !== undefined) {
      const step = this.cursor.judge(sequence, previous);
      if (step === 'drop') return;
      if (step === 'repair') return this.wire.repair(this);
      if (step !== 'deliver') this.#gap(step.from, step.to, 'expired');
    }
    const began = performance.now();
    this.#tell(message, this.#event(message, this.cursor.replaying));
    if (sequence !== undefined) this.cursor.advance(sequence);
    this.wire.handled(this, sequence, performance.now() - began);
  }

  #event(message: EventMessage, replayed: boolean): ChannelEvent {
    const { event: type, user: userId, critical = false, sequence: sequenceNumber, previous: _, ...rest } = message;
    return { ...rest, type, userId, sequenceNumber, isCritical: critical, replayed } as unknown as ChannelEvent;
  }

  #gap(from: number, to: number, reason: ClientEvents['gap']['reason']): void {
    this.wire.emit('gap', { channel: this.name, from, to, reason });
  }
}
