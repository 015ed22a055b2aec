import { presence } from './presence.js';
import { derived, type Readable, type Unsubscribe } from './readable.js';
import type {
  Ack, Channel, ChannelEvent, ChannelOptions, Client, EventData, EventType, Json, PublishOptions, ReplayPage, Schema,
} from './types.js';

export { presence };

/** The channels of runs. */
export type RunName = `run:${string}`;

/** A schema that has runs: `{ [run: RunName]: { GRAFT: Graft; PRUNE: Prune; FLAG: Flag } }`. */
export type RunSchema = Schema & { readonly [run: RunName]: { readonly [eventType: string]: unknown } };

/** A run that this user takes part in, in the words of document 003. */
export interface Run<S extends RunSchema> {
  readonly id: string;
  /** For everything else: state, history, position. */
  readonly channel: Channel<S, RunName>;
  /** Who is there, in alphabetical order. */
  readonly activeUsers: Readable<readonly string[]>;
  /** Where they are; those that have not said so are left out. */
  readonly cursorPositions: Readable<Readonly<Record<string, Json>>>;
  /** Hears every event; `replayed` tells those of before from new ones. */
  subscribe(listener: (event: ChannelEvent<S, RunName>) => unknown): Unsubscribe;
  /** Hears the events of one type. */
  on<T extends EventType<S, RunName>>(type: T, listener: (event: ChannelEvent<S, RunName, T>) => unknown): Unsubscribe;
  /** Publishes for sure. */
  publish<T extends EventType<S, RunName>>(type: T, data: EventData<S, RunName, T>, options?: PublishOptions): Promise<Ack>;
  /** Puts this user's cursor somewhere: told at most every 50 ms, the newest wins. `null` takes it away. */
  moveCursor(cursor: Json): void;
  /** What was said from a sequence on, which is included. */
  replay(query: { fromSequence: number; limit?: number }): Promise<ReplayPage<S, RunName>>;
  /** Ends it: nobody who subscribed here hears more, and the others see that this user has gone. */
  leave(): void;
}

/**
 * Joins a run: first come all of its critical events that are kept, however old, and who is there, then whatever comes. Listeners
 * that are added before anything else is awaited hear all of it.
 *
 * `options` change that: `{ last: 50 }` begins with the newest events instead of the critical ones, `{ presence: 'watch' }` looks
 * without being seen. Whoever subscribed to the channel of the run before decided already.
 */
export function joinRun<S extends RunSchema>(client: Client<S>, runId: string, options: ChannelOptions = {}): Run<S> {
  const begin = options.since || options.last !== undefined ? {} : { replay: 'critical' } as const;
  const name: RunName = `run:${runId}`;
  const attend = options.presence ?? true;
  const channel = client.channel(name, { ...begin, ...options, presence: attend });
  const joined = new Set<Unsubscribe>();
  const join = (end: Unsubscribe): Unsubscribe => {
    joined.add(end);
    return () => {
      joined.delete(end);
      end();
    };
  };
  join(channel.subscribe());
  const { members, update, leave } = presence(client, name, attend);
  join(leave);
  return {
    id: runId,
    channel,
    activeUsers: derived(members, (all) => all.map(({ user }) => user)),
    cursorPositions: derived(members, (all) =>
      Object.fromEntries(all.flatMap(({ user, cursor }) => (cursor === undefined ? [] : [[user, cursor]])))),
    subscribe: (listener) => join(channel.subscribe(listener)),
    on: (type, listener) => join(channel.on(type, listener)),
    publish: (type, data, how) => channel.publish(type, data, how),
    moveCursor: update,
    replay: (query) => channel.replay(query),
    leave() {
      for (const end of joined) end();
      joined.clear();
    },
  };
}
