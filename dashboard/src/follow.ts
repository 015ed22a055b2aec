import { effect, type ReadonlySignal, signal } from '@preact/signals';
import type { ChannelEvent, ChannelOptions, ServerMessage } from '@pulsewire/client';
import { useEffect, useMemo } from 'preact/hooks';
import { claims, Problem } from './session.js';
import { client, live, soon } from './store.js';

/** Whether publishing is offered: the server lets only this role, and where its grants say. */
export function mayPublish(): boolean {
  return claims.value?.role === 'admin';
}

/** What is heard of a channel of an application. */
export interface Followed {
  /** Why it cannot be listened to. */
  readonly problem: ReadonlySignal<Problem | null>;
  /** The server has said that it is subscribed. */
  readonly subscribed: ReadonlySignal<boolean>;
}

/** What to do with what comes. All of it runs once a frame. */
export interface Hearing {
  event?(event: ChannelEvent): void;
  /** What is no event: metrics, their past, presence. */
  message?(message: ServerMessage): void;
}

/**
 * Listens to a channel as any client would, while the component is there: the reader counts as a subscriber meanwhile. Null hears
 * nothing. `options` are looked at when their JSON is another.
 */
export function useFollow(name: string | null, hearing: Hearing, options: ChannelOptions = {}): Followed {
  const followed = useMemo(() => ({ problem: signal<Problem | null>(null), subscribed: signal(false) }), []);
  const newest = useMemo(() => ({ hearing }), []);
  newest.hearing = hearing;
  const key = JSON.stringify(options);
  useEffect(() => {
    followed.problem.value = null;
    followed.subscribed.value = false;
    if (name === null) return undefined;
    return effect(() => {
      const connection = client.value;
      if (!connection || !live.value) return undefined;
      const channel = connection.channel(name, options);
      const stops = [
        channel.subscribe((event) => void soon(() => newest.hearing.event?.(event))),
        channel.onMessage((message) => void soon(() => newest.hearing.message?.(message))),
        channel.state.subscribe((state) => soon(() => (followed.subscribed.value = state === 'subscribed'))),
        connection.on('error', ({ code, message }) => {
          if (message.startsWith(`${name}: `)) soon(() => (followed.problem.value = new Problem(403, code, message, REFUSED[code] ?? '')));
        }),
      ];
      return () => stops.forEach((stop) => stop());
    });
  }, [name, key]);
  return followed;
}

/** What to do about a refusal. */
const REFUSED: Readonly<Record<string, string>> = {
  forbidden: 'The token you signed in with does not allow it: sign in with one that is granted subscribe on this channel.',
  unknown_channel: 'No namespace of the settings has a place for this name.',
  unsupported: 'Channels of this kind do not have it.',
};
