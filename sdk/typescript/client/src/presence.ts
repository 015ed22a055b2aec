import { PRESENCE_THROTTLE_MS } from './defaults.js';
import { writable } from './readable.js';
import type { Client, Json, Member, Presence, Schema, ServerMessage } from './types.js';

/** What the server says of who is in a channel, protocol R56. */
interface Told extends ServerMessage {
  readonly node?: unknown;
  readonly version?: number;
  readonly members?: readonly Member[];
  readonly joined?: readonly Member[];
  readonly left?: readonly string[];
  readonly sessions?: Readonly<Record<string, number>>;
  readonly cursors?: Readonly<Record<string, Json>>;
}

/**
 * Who is in a channel, as long as somebody watches `members` or {@link Presence.leave} was not called: it subscribes to the channel with
 * presence, to be seen or (`watch`) only to see. Who subscribes to the channel before must ask for `presence` in its options.
 */
export function presence<S extends Schema>(client: Client<S>, name: keyof S & string, attend: true | 'watch' = true): Presence {
  const channel = client.channel(name, { presence: attend });
  const members = writable<readonly Member[]>([]);
  let node: unknown;
  let version = 0;
  let cursor: Json | undefined;
  let toldAt = -Infinity;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const say = (message: { cursor?: Json }): Promise<unknown> => client.request({ type: 'presence', channel: name, ...message });

  /** Tells the cursor: its time has come, or the server does not know it. */
  const tell = (): void => {
    clearTimeout(timer);
    timer = undefined;
    if (cursor === undefined || channel.state() !== 'subscribed') return;
    toldAt = performance.now();
    // What is refused or lost is told again with the next subscription.
    say({ cursor }).catch(() => undefined);
  };

  const hear = (told: Told): void => {
    if (!told.members && (told.node !== node || told.version !== version + 1)) {
      // Something before it is missing.
      say({}).then((answer) => hear(answer as Told), () => undefined);
      return;
    }
    node = told.node;
    version = told.version ?? 0;
    const all = new Map((told.members ?? members()).map((member) => [member.user, member]));
    const change = (user: string, change: Partial<Member>): void => {
      const member = all.get(user);
      if (member) all.set(user, { ...member, ...change });
    };
    for (const member of told.joined ?? []) all.set(member.user, member);
    for (const user of told.left ?? []) all.delete(user);
    for (const [user, sessions] of Object.entries(told.sessions ?? {})) change(user, { sessions });
    for (const [user, place] of Object.entries(told.cursors ?? {})) change(user, { cursor: place });
    members.set([...all.values()]
      .map(({ cursor, ...member }) => (cursor == null ? member : { ...member, cursor }))
      .sort((one, other) => (one.user < other.user ? -1 : 1)));
  };

  const stop = [
    channel.onMessage((message) => message.type === 'presence' && hear(message)),
    channel.state.subscribe((state) => state === 'subscribed' && tell()),
  ];
  return {
    members,
    update(place) {
      cursor = place;
      timer ??= setTimeout(tell, Math.max(0, toldAt + PRESENCE_THROTTLE_MS - performance.now()));
    },
    leave() {
      clearTimeout(timer);
      for (const run of stop) run();
      members.set([]);
    },
  };
}
