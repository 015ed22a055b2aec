import { useEffect, useRef, useState, useSyncExternalStore } from 'react';
import { presence } from './presence.js';
import { type Readable, writable } from './readable.js';
import type {
  AnySchema, ChannelEvent, ChannelName, ChannelOptions, Client, ConnectionHealth, Json, Member, Presence, Schema, Status,
} from './types.js';

/** The value of a {@link Readable}; renders again with every new one. */
export function useReadable<T>(readable: Readable<T>): T {
  return useSyncExternalStore(readable.subscribe, readable, readable);
}

/** Where the connection is. */
export function useStatus<S extends Schema = AnySchema>(client: Client<S>): Status {
  return useReadable(client.status);
}

/** How the connection is. */
export function useConnectionHealth<S extends Schema = AnySchema>(client: Client<S>): ConnectionHealth {
  return useReadable(client.connectionHealth);
}

/**
 * Subscribes while the component is there. The handler may be another function in every render: the newest is called, and the
 * subscription stays. `options` count when the subscription begins.
 */
export function useChannel<S extends Schema, K extends ChannelName<S>>(
  client: Client<S>, name: K, handler: (event: ChannelEvent<S, K>) => unknown, options?: ChannelOptions,
): void {
  const newest = useRef(handler);
  useEffect(() => {
    newest.current = handler;
  });
  // The options are left out on purpose: they are a new object in every render.
  useEffect(() => client.channel(name, options).subscribe((event) => newest.current(event)), [client, name]);
}

/** Until the component is there. */
const nowhere: Pick<Presence, 'members' | 'update'> = { members: writable<readonly Member[]>([]), update: () => undefined };

/**
 * Takes part in a channel while the component is there, or with `watch` only looks: who is there, and how to say where this user's
 * cursor is (`null` takes it away). Who subscribes to a channel first decides how: a component that uses {@link useChannel} with
 * options for the same channel must say `presence` there, too.
 */
export function usePresence<S extends Schema>(
  client: Client<S>, name: ChannelName<S>, attend: true | 'watch' = true,
): { readonly members: readonly Member[]; readonly update: (cursor: Json) => void } {
  const [there, setThere] = useState<Presence>();
  useEffect(() => {
    const joined = presence(client, name, attend);
    setThere(joined);
    return joined.leave;
  }, [client, name, attend]);
  const { members, update } = there ?? nowhere;
  return { members: useReadable(members), update };
}
