import { type Readable, type Unsubscribe, writable } from './readable.js';
import type { ChannelEvent, ChannelName, ChannelOptions, Client, Schema } from './types.js';

/**
 * The newest events of a channel as a store, oldest first: `const events = channelStore(client, 'run:42')`, then `$events`. It
 * subscribes while somebody watches, and begins empty each time. `keep`: so many events at most, at least 1, default 100.
 *
 * All other values of a client are stores as they are: `const { status } = client`, then `$status`.
 */
export function channelStore<S extends Schema, K extends ChannelName<S>>(
  client: Client<S>, name: K, { keep = 100, ...options }: ChannelOptions & { keep?: number } = {},
): Readable<readonly ChannelEvent<S, K>[]> {
  const events = writable<readonly ChannelEvent<S, K>[]>([]);
  const watchers = new Set<object>();
  let leave: Unsubscribe;
  return Object.assign(() => events(), {
    subscribe(run: (value: readonly ChannelEvent<S, K>[]) => void): Unsubscribe {
      if (watchers.size === 0) {
        events.set([]);
        leave = client.channel(name, options).subscribe((event) => events.set([...events(), event].slice(-Math.max(keep, 1))));
      }
      const stop = events.subscribe(run);
      watchers.add(stop);
      return () => {
        stop();
        if (watchers.delete(stop) && watchers.size === 0) leave();
      };
    },
  });
}
