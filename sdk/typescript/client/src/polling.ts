import * as DEFAULTS from './defaults.js';
import { hopeless, Http, repeat } from './http.js';
import type { ChannelOptions, Fallback, FallbackHost, Position, ServerMessage } from './types.js';

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

interface Wanted {
  readonly name: string;
  readonly options: ChannelOptions;
  readonly position: Position | null;
}

/**
 * Reads by HTTP polling: every channel every two seconds, from where it is. Channels that keep no events (ephemeral, metrics)
 * cannot be polled, which is told once as `error`; {@link sse} can read them.
 */
export function polling({ intervalMs = DEFAULTS.POLL_INTERVAL_MS, waitSeconds = 0 }: PollingOptions = {}): Fallback {
  return {
    transport: 'polling',
    start(host) {
      const http = new Http(host);
      const unreadable = new Set<string>();
      return repeat(host, http, async () => {
        const wanted = [...host.channels()].filter(({ name }) => !unreadable.has(name));
        // With nothing to read, reaching the server is all there is to try.
        if (wanted.length === 0) await host.fetch(`${host.origin}/livez`, { mode: 'no-cors', cache: 'no-store' });
        const waits = await Promise.all(wanted.map(async (channel) => {
          try {
            return await poll(host, http, channel, waitSeconds);
          } catch (error) {
            if (!hopeless(error)) throw error;
            unreadable.add(channel.name);
            host.deliver({ type: 'error', code: error.code, message: `${channel.name}: ${error.message}` });
            return Infinity;
          }
        }));
        const soonest = Math.min(...waits, Infinity);
        return soonest === 0 ? 0 : Math.max(intervalMs, soonest === Infinity ? 0 : soonest);
      });
    },
  };
}

/** Asks once for one channel; gives the milliseconds until it should be asked again. */
async function poll(host: FallbackHost, http: Http, { name, options, position }: Wanted, waitSeconds: number): Promise<number> {
  const run = name.startsWith('run:') && position !== null ? name.slice(4) : null;
  const query = new URLSearchParams({ fallback: host.session });
  const critical = position === null && options.replay === 'critical';
  if (position) query.set(run === null ? 'after' : 'afterSequence', `${position.epoch}:${position.sequence}`);
  else if (critical) query.set('after', '0');
  if (critical) query.set('only', 'critical');
  if (waitSeconds > 0) query.set('wait', String(waitSeconds));
  for (const [tag, value] of Object.entries(options.tags ?? {})) query.append('tags', `${tag}:${value}`);
  const path = run === null
    ? `/api/channels/${encodeURIComponent(name)}/poll`
    : `/api/runs/${encodeURIComponent(run)}/collaboration/poll`;
  const page = (await (await http.ask(`${path}?${query}`)).json()) as Page;
  if (http.stopped) return 0;
  const { epoch, gap, reset, nextSequence } = page;
  if (reset) host.deliver({ type: 'reset', channel: name, ...reset });
  else if (gap) host.deliver({ type: 'gap', channel: name, ...gap });
  let previous = gap?.to ?? position?.sequence ?? 0;
  for (const event of page.events) {
    host.deliver({ ...event, previous });
    previous = event.sequence;
  }
  // What was asked for from the past is there; from its end on everything is wanted.
  host.place(name, reset ?? { epoch, sequence: critical && !page.hasMore ? page.head ?? nextSequence : nextSequence });
  if (options.presence && page.activeUsers) host.deliver(present(name, page));
  return page.hasMore ? 0 : page.retryAfterMs ?? 0;
}

/** Document 003's answer as the presence message that a socket would bring. */
function present(channel: string, { activeUsers = [], cursorPositions = {} }: Page): ServerMessage {
  const members = activeUsers.map((user) => ({ user, sessions: 1, since: 0, cursor: cursorPositions[user] ?? undefined }));
  return { type: 'presence', channel, node: 'http', version: 0, members };
}
