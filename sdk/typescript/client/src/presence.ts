import * as DEFAULTS from './defaults.js';
import { type Readable, type Writable, writable } from './readable.js';
import type { Json, Member, Presence, ServerMessage } from './types.js';

/** Who is in one channel, from what the server says of it (protocol R56, R57). */
export class Room implements Presence {
  readonly #members: Writable<readonly Member[]> = writable<readonly Member[]>([]);
  #node: unknown;
  #version = 0;
  #cursor: Json | undefined;
  #toldAt = -Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #tell: (cursor: Json) => void;

  /** `tell` sends a cursor if the channel is subscribed. */
  constructor(tell: (cursor: Json) => void) {
    this.#tell = tell;
  }

  get members(): Readable<readonly Member[]> {
    return this.#members;
  }

  update(cursor: Json): void {
    this.#cursor = cursor;
    this.#timer ??= setTimeout(() => this.again(), Math.max(0, this.#toldAt + DEFAULTS.PRESENCE_THROTTLE_MS - performance.now()));
  }

  leave(): void {
    this.update(null);
  }

  /** Tells the cursor: its time has come, or the server does not know it. */
  again(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#cursor === undefined) return;
    this.#toldAt = performance.now();
    this.#tell(this.#cursor);
  }

  /** Takes in what the server said. False if something before it is missing: ask who is there. */
  hear(message: ServerMessage): boolean {
    const { node, version, members, joined, left, sessions, cursors } = message as ServerMessage & Change;
    if (!members && (node !== this.#node || version !== this.#version + 1)) return false;
    this.#node = node;
    this.#version = version;
    const all = new Map((members ?? this.#members()).map((member) => [member.user, member]));
    for (const member of joined ?? []) all.set(member.user, member);
    for (const user of left ?? []) all.delete(user);
    for (const [user, count] of Object.entries(sessions ?? {})) merge(all, user, { sessions: count });
    for (const [user, cursor] of Object.entries(cursors ?? {})) merge(all, user, { cursor });
    this.#members.set([...all.values()].sort((a, b) => (a.user < b.user ? -1 : 1)));
    return true;
  }

  /** Nobody is known to be here any more. */
  forget(): void {
    clearTimeout(this.#timer);
    this.#timer = this.#cursor = this.#node = undefined;
    if (this.#members().length > 0) this.#members.set([]);
  }
}

interface Change {
  readonly node: unknown;
  readonly version: number;
  readonly members?: readonly Member[];
  readonly joined?: readonly Member[];
  readonly left?: readonly string[];
  readonly sessions?: Readonly<Record<string, number>>;
  readonly cursors?: Readonly<Record<string, Json>>;
}

function merge(all: Map<string, Member>, user: string, change: { sessions: number } | { cursor: Json }): void {
  const member = all.get(user);
  if (!member) return;
  const { cursor, ...without } = { ...member, ...change };
  all.set(user, cursor == null ? without : { ...without, cursor });
}
