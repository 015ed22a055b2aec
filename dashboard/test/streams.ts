import type { Canary, Declared, LinkRow, StreamRow } from '../src/upstreams.js';

const iso = (before: number): string => new Date(Date.now() - before).toISOString();

/** Upstreams that are made up: one stream in each state, two tracks, and one upstream that nobody listens to. */
export interface Streams {
  readonly rows: StreamRow[];
  readonly declared: Declared[];
  canary: Canary;
}

export function streams(empty: boolean, quiet: boolean): Streams {
  const none = { enabled: false, share: 0.1, ratio: 1.5, windowMs: 180_000, streamsMin: 3, rollback: false, worseSince: null, rolledBackAt: null, rolledBackWhy: null, comparison: null };
  const tracks = { stable: { streams: 0, retries: 0, errors: 0 }, canary: { streams: 0, retries: 0, errors: 0 } };
  if (empty) return { rows: [], declared: [], canary: { ...none, verdict: 'off', tracks } };
  const failed = { lastError: { kind: 'handshake', text: 'it answered 403 Forbidden', at: iso(40_000) } };
  return {
    rows: [
      stream(7, 'orders', '', 'failed', { ...failed, errors: 20, retries: 19, attempts: 20 }),
      stream(5, 'depth', 'usd', 'circuit', { track: 'canary', lastError: { kind: 'connect', text: 'nobody listens at 203.0.113.7:443', at: iso(9_000) }, errors: 31, retries: 30, attempts: 31, listeners: 12 }),
      stream(6, 'depth', 'gbp', 'stale', { errors: 1, listeners: 3, lastMessageAgoMs: 61_000 }),
      stream(4, 'depth', 'eur', 'waiting', { errors: 2, retries: 2, retryInMs: 4_200, listeners: 8 }),
      stream(8, 'news', '', 'connecting', {}),
      stream(1, 'quotes', '', 'live', {
        keys: ['AAPL', 'MSFT', 'NVDA'], keysTotal: 240, listeners: 410, messagesPerSecond: 1204.5, messages: 9_400_000, bytes: 812_000_000, published: 9_100_000, duplicates: 290_000, missing: 17, failovers: 2,
        links: [link('wss://a.feed.example/stream', 'live'), { ...link('wss://b.feed.example/stream', 'waiting'), failures: 3, retryInMs: 2_100 }],
      }),
      stream(2, 'depth', 'chf', 'live', { idleMs: 12_000, listeners: 0, messagesPerSecond: 4 }),
    ],
    declared: [
      declaration('depth', { apart: true, streams: 4, candidate: true, circuitOpened: 3, circuitOpenMs: 21_000 }), declaration('news', {}), declaration('orders', {}), declaration('quotes', { urls: ['wss://a.feed.example/stream', 'wss://b.feed.example/stream'], channel: 'quotes:{key}' }),
      declaration('weather', { streams: 0, declaredBy: 'api' }),
    ],
    canary: {
      ...none, enabled: true, verdict: quiet ? 'pass' : 'suspect', worseSince: quiet ? null : iso(70_000), tracks: { stable: { streams: 61, retries: 40, errors: 31 }, canary: { streams: 6, retries: 12, errors: 4 } },
      comparison: { errorRate: { stable: 0.031, canary: 0.034, ratio: 1.1, worse: false }, retryRate: { stable: 0.004, canary: 0.011, ratio: quiet ? 1.2 : 2.75, worse: !quiet } },
    },
  };
}

/** What the list says beside its rows. */
export function metaOf({ rows, declared, canary }: Streams, upstream: string | null): object {
  const shown = declared.filter(({ name }) => upstream === null || name === upstream);
  return {
    totals: { active: rows.length, limit: 1000, highWater: 91, highWaterToday: 74, uncleaned: 0, created: 140, cleaned: 133, retriesPerSecond: rows.length > 0 ? 0.29 : null, errorsPerSecond: null },
    declared: shown, declaredTotal: shown.length, canary,
  };
}

function stream(id: number, upstream: string, key: string, state: string, more: Partial<StreamRow>): StreamRow {
  return {
    id: String(id), upstream, key, keys: key ? [key] : [], keysTotal: key ? 1 : 0, track: 'stable', state, since: iso(40_000), openedAt: iso(2_000_000), listeners: 1, idleMs: null, attempts: 1, retries: 0, errors: 0, retryInMs: null, messagesPerSecond: 0,
    messages: 120, bytes: 24_000, published: 110, duplicates: 0, unmapped: 10, dropped: 0, missing: 0, failovers: 0, lastMessageAgoMs: 400, lastError: null, links: [link(`wss://${upstream}.example/stream`, state)], ...more,
  };
}

function link(url: string, state: string): LinkRow {
  return { url, state, attempts: 1, failures: 0, retryInMs: null };
}

function declaration(name: string, more: Partial<Declared>): Declared {
  return { name, urls: [`wss://${name}.example/stream`], channel: `upstream:${name}`, apart: false, always: false, declaredBy: 'settings', candidate: false, streams: 1, circuitOpened: 0, circuitOpenMs: null, ...more };
}
