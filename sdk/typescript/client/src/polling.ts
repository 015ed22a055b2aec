import * as DEFAULTS from './defaults.js';
import { type Ask, asker, isHopeless, publisher, query, type Wanted } from './http.js';
import { RealtimeError } from './error.js';
import type { Fallback, FallbackHost, ServerMessage } from './types.js';

/** How to poll. */
export interface PollingOptions {
  /** Between two polls, in milliseconds, unless the server asks for longer. Default 2,000. */
  intervalMs?: number;
  /** Seconds that the server may hold a poll back until there is something to say. Default 0; at most 30. */
  waitSeconds?: number;
}

/** What a poll answers, protocol R83 and R91. */
interface Page {
  readonly epoch: string;
  readonly events: readonly (ServerMessage & { readonly sequence: number })[];
  readonly nextSequence: number;
  readonly hasMore: boolean;
  readonly retryAfterMs?: number;
  readonly head?: number;
  readonly gap?: { readonly from: number; readonly to: number; readonly reason: string };
  readonly reset?: { readonly epoch: string; readonly sequence: number };
  readonly activeUsers?: readonly string[];
  readonly cursorPositions?: Readonly<Record<string, unknown>>;
}

/**
 * Reads by HTTP polling: every channel every two seconds, from where it is. Channels that keep no events (ephemeral, metrics)
 * cannot be polled, which is told once as `error`; {@link sse} can read them.
 */
export function polling({ intervalMs = DEFAULTS.POLL_INTERVAL_MS, waitSeconds = 0 }: PollingOptions = {}): Fallback {
  return {
    transport: 'polling',
    start(host) {
      const stop = new AbortController();
      const ask = asker(host, stop.signal);
      const unreadable = new Set<string>();
      const { signal } = stop;
      let timer: ReturnType<typeof setTimeout>;

      const round = async (): Promise<void> => {
        let wait = intervalMs;
        try {
          const wanted = [...host.channels()].filter(({ name }) => !unreadable.has(name));
          // With nothing to read, reaching the server is all there is to try.
          if (!wanted[0]) await host.fetch(`${host.origin}/livez`, { mode: 'no-cors' });
          const waits = await Promise.all(wanted.map((channel) => poll(host, ask, signal, channel, waitSeconds).catch((error: unknown) => {
            if (!isHopeless(host, channel.name, error)) throw error;
            unreadable.add(channel.name);
            return wait;
          })));
          wait = waits.includes(0) ? 0 : Math.max(wait, ...waits);
          if (!signal.aborted) host.succeeded();
        } catch (error) {
          wait = (error instanceof RealtimeError && error.retryMs) || wait;
          if (!signal.aborted) host.failed(error);
        }
        if (!signal.aborted) timer = setTimeout(round, wait);
      };
      void round();
      return {
        publish: publisher(host, ask),
        changed: () => undefined,
        stop() {
          clearTimeout(timer);
          stop.abort();
        },
      };
    },
  };
}

/** Asks once for one channel; gives the milliseconds until it should be asked again. */
async function poll(host: FallbackHost, ask: Ask, signal: AbortSignal, channel: Wanted, waitSeconds: number): Promise<number> {
  const { name, options, position } = channel;
  const isRun = name.startsWith('run:') && position !== null;
  const critical = position === null && options.replay === 'critical';
  const path = isRun
    ? `runs/${encodeURIComponent(name.slice(4))}/collaboration/poll${query(channel, host, 'afterSequence')}`
    : `channels/${encodeURIComponent(name)}/poll${query(channel, host, 'after')}`;
  const response = await ask(`/api/${path}&wait=${waitSeconds}${critical ? '&after=0&only=critical' : ''}`);
  const { epoch, events, gap, reset, nextSequence, hasMore, head, retryAfterMs = 0, activeUsers, cursorPositions } =
    (await response.json()) as Page;
  if (signal.aborted) return 0;
  if (reset) host.deliver({ type: 'reset', channel: name, ...reset });
  else if (gap) host.deliver({ type: 'gap', channel: name, ...gap });
  let previous = gap?.to ?? position?.sequence ?? 0;
  for (const event of events) {
    host.deliver({ ...event, previous });
    previous = event.sequence;
  }
  // Once the critical events are there, everything is wanted.
  host.place(name, reset ?? { epoch, sequence: critical && !hasMore ? head ?? nextSequence : nextSequence });
  if (options.presence && activeUsers) {
    // Document 003's answer as the presence message that a socket would bring.
    const members = activeUsers.map((user) => ({ user, sessions: 1, since: 0, cursor: cursorPositions?.[user] }));
    host.deliver({ type: 'presence', channel: name, members });
  }
  return hasMore ? 0 : retryAfterMs;
}
