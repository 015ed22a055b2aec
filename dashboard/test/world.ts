import { channelDetail, rest as makeRest } from './rest.js';
import { metaOf, streams as makeStreams } from './streams.js';

/** A server's inside, made up: the same every time, moved on by {@link World.tick}. */
export interface World {
  readonly connections: Record<string, unknown>[];
  /** What a `GET` answers; null: there is no such thing; an error: it was not understood. */
  get(path: string, query: URLSearchParams): Record<string, unknown> | Error | null;
  /** A row that left the page it was on. */
  row(name: string, id: unknown): Record<string, unknown> | null;
  act(path: string, body: Record<string, unknown>): Record<string, unknown>;
  /** What happened since the last time on a channel that tells of things as they happen. */
  news(name: string, about: string): [string, unknown][];
  tick(): void;
  /** Something happens to a connection. */
  grow(id: string, entry: { readonly lane: string; readonly kind: string; readonly text: string }): void;
  /** Entries of timelines that came by {@link World.grow}, by connection. */
  readonly grown: ReadonlyMap<string, readonly Record<string, unknown>[]>;
  /** Something is told on `$sys.events`. */
  happen(event: Record<string, unknown>): void;
}

interface Options {
  readonly connections?: number;
  readonly empty?: boolean;
  readonly quiet?: boolean;
}

const CAUSES = ['client_not_reading', 'network_slow', 'client_busy', 'unstable', 'network_lossy', 'too_much', 'silent', 'client_hidden', 'rate_limited'];
const TEXTS: Readonly<Record<string, string>> = {
  client_not_reading: '812 kB wait for it and its receive window is closed: the client does not read',
  network_slow: 'the network needs 640 ms for the way there and back',
  client_busy: 'it answers pings 420 ms later than its network does: its program is busy',
  unstable: 'it came back 7 times in 10 minutes',
  network_lossy: 'TCP had to send 4 % again',
  too_much: '1.2 MB/s are sent to it and it takes 310 kB/s',
  silent: '2 heartbeats went unanswered',
  client_hidden: 'its page is hidden and answers 900 ms late',
  rate_limited: 'it sends more than 100 messages a second',
  healthy: '',
};
const USERS = ['alice', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace', 'heidi'];
const AGENTS = ['Mozilla/5.0 (X11; Linux x86_64) Chrome/142.0', 'pulsewire-rust/0.1.0', 'Mozilla/5.0 (Macintosh) Firefox/145.0'];

/** Numbers that look random and are the same every time. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const iso = (at: number): string => new Date(at).toISOString();

export function world({ connections: many = 240, empty = false, quiet = false }: Options): World {
  const random = dice(7);
  const started = Date.now() - 42 * 60_000;
  const connections = empty ? [] : Array.from({ length: many }, (_, index) => connection(index, many, random, started, quiet));
  const closed = empty ? [] : Array.from({ length: 120 }, (_, index) => closedRow(index, random));
  const failed = empty ? [] : Array.from({ length: 9 }, (_, index) => failedRow(index));
  const channels = empty ? [] : [...Array.from({ length: 30 }, (_, index) => channelRow(index, random)), ...METRIC_CHANNELS.map(metricChannelRow)];
  const events: Record<string, unknown>[] = empty ? [] : notable(started);
  const news: Record<string, unknown>[] = [];
  const grown = new Map<string, Record<string, unknown>[]>();
  const rest = makeRest({ empty, quiet, started });
  const streams = makeStreams(empty, quiet);
  const streamRows = streams.rows as unknown as Record<string, unknown>[];
  let turns = 0;

  const self: World = {
    connections,
    get(path, query) {
      const [name = '', id] = path.split('/');
      if (['alerts', 'errors', 'nodes', 'overview'].includes(name) && query.size > 0) return new Error('unknown parameter; there are none here');
      if (id !== undefined && name === 'connections') return connectionDetail(self, decodeURIComponent(id));
      switch (name) {
        case 'overview': return overview();
        case 'history': return history(query, started, empty);
        case 'connections': return listConnections(query);
        case 'upstreams': return listStreams(query);
        case 'channels': return id === undefined ? listChannels(query) : oneChannel(decodeURIComponent(id));
        case 'events': return { revision: 0, at: iso(Date.now()), total: events.length, matched: events.length, rows: events.slice(0, Number(query.get('limit') ?? 100)) };
        case 'alerts': case 'errors': case 'nodes': case 'audit': return page(rest.list(name), query, '');
        default: return null;
      }
    },
    row: (name, id) => rest.list(name).find((row) => row['id'] === id) ?? connections.find((row) => row['id'] === id) ?? channels.find((row) => row['id'] === id) ?? streamRows.find((row) => row['id'] === id) ?? null,
    act(path, body) {
      if (path === 'upstreams/cleanup') {
        const idle = streams.rows.filter(({ idleMs }) => idleMs !== null);
        for (const row of idle) streams.rows.splice(streams.rows.indexOf(row), 1);
        return { closed: idle.length };
      }
      if (path === 'canary/rollback') streams.canary = { ...streams.canary, verdict: 'rolled_back', worseSince: null, rolledBackAt: iso(Date.now()), rolledBackWhy: 'by ada' };
      const done = rest.act(path, body);
      if (done) return done;
      const before = connections.length;
      for (let index = connections.length - 1; index >= 0; index--) {
        const row = connections[index];
        if (row && (row['id'] === body['session'] || (body['user'] !== undefined && row['userId'] === body['user']))) connections.splice(index, 1);
      }
      return { path, disconnected: before - connections.length };
    },
    grown,
    grow(id, entry) {
      const held = grown.get(id) ?? [];
      grown.set(id, [...held, { id: 1000 + held.length, at: iso(Date.now()), ...entry, value: null, channel: null }]);
    },
    happen(event) {
      events.unshift(event);
      news.push(event);
    },
    news(name, about) {
      if (name === 'events') return news.splice(0).map((event) => [String(event['type']), event]);
      const payload = about.endsWith('/payload');
      return Array.from({ length: 3 }, (_, index) => ['tap', {
        at: iso(Date.now()), direction: index === 1 ? 'in' : 'out', kind: index === 1 ? 'publish' : 'event', channel: 'run:42', sequence: turns * 3 + index,
        bytes: 180 + index * 31, latencyMs: index === 1 ? null : 0.4 + index, payload: payload ? '{"node":"n1","progress":0.4}' : null,
      }] as [string, unknown]).concat(turns % 5 === 0 ? [['skipped', { messages: 312 }]] : []);
    },
    tick() {
      turns++;
      rest.tick();
      for (const row of connections) move(row, random);
      for (const row of channels) row['publishedPerSecond'] = Math.max(0, Number(row['publishedPerSecond']) + Math.round((random() - 0.5) * 4));
    },
  };

  function overview(): Record<string, unknown> {
    const critical = quiet || empty ? 0 : 1;
    const slow = connections.filter((row) => row['cause'] === 'client_not_reading').length;
    return {
      at: iso(Date.now()),
      node: { id: 'a1b2c3', version: '0.1.0', startedAt: iso(started), uptimeSeconds: Math.floor((Date.now() - started) / 1000), dev: true, cluster: null },
      status: critical ? 'degraded' : 'healthy',
      reasons: critical ? ['message latency p95 is 612 ms, more than 500 ms'] : [],
      tiles: tiles(connections.length, critical > 0, empty, started),
      figures: Object.fromEntries(Object.entries(FIGURES).map(([figure, make]) => [figure, empty && figure !== 'cpu.process' && figure !== 'memory.rss' ? 0 : make(Date.now() / 1000)])),
      counts: { connections: connections.length, detached: 3, channels: channels.length, alerts: critical * 2, critical, upstreams: streams.rows.length, errors: 2, series: 40 },
      firing: critical ? [
        { id: 'latency', title: 'Message latency p95', severity: 'critical', value: 612, limit: 500, unit: 'ms', since: iso(Date.now() - 130_000), forSeconds: 130, link: '/connections?sort=-latency' },
        { id: 'slow', title: `${slow} connections are not reading`, severity: 'warning', value: slow, limit: 5, unit: 'count', since: iso(Date.now() - 60_000), forSeconds: 60, link: '/connections?filter=cause%3Aclient_not_reading' },
      ] : [],
    };
  }

  function listConnections(query: URLSearchParams): Record<string, unknown> | Error {
    const tab = query.get('tab') ?? 'active';
    const tabs = { active: connections.length, closed: closed.length, failed: failed.length };
    const rows = tab === 'closed' ? closed : tab === 'failed' ? failed : connections;
    const filtered = matching(rows, query.get('filter') ?? '');
    if (filtered instanceof Error) return filtered;
    const group = query.get('group');
    const listed = group ? groups(filtered, group) : filtered;
    return { ...page(listed, query, tab === 'active' && !group ? 'score' : '', rows.length), matched: filtered.length, ...(group && { groups: listed.length }), tabs };
  }

  function listChannels(query: URLSearchParams): Record<string, unknown> | Error {
    const filtered = matching(channels, query.get('filter') ?? '');
    if (filtered instanceof Error) return filtered;
    const by = query.get('group');
    return by ? page(channelGroups(filtered, by), query, '', filtered.length) : page(filtered, query, 'subscribers');
  }

  function listStreams(query: URLSearchParams): Record<string, unknown> | Error {
    const upstream = query.get('upstream');
    const rows = streamRows.filter((row) => upstream === null || row['upstream'] === upstream);
    const filtered = matching(rows, query.get('filter') ?? '');
    return filtered instanceof Error ? filtered : { ...page(filtered, query, '', rows.length), ...metaOf(streams, upstream) };
  }

  function oneChannel(id: string): Record<string, unknown> | null {
    const row = channels.find((candidate) => candidate['id'] === id);
    return row ? channelDetail(self, row) : null;
  }

  return self;
}

/** One connection with all that is known of it. */
export function connectionDetail(world: World, id: string): Record<string, unknown> | null {
  const row = world.connections.find((candidate) => candidate['id'] === id);
  if (!row) return id.startsWith('01JCLOSED') ? { id, sessionId: id, state: 'closed', userId: 'alice', closedConnections: [closedRow(0, dice(3))], timeline: timeline(Date.now() - 600_000, true) } : null;
  const slow = row['cause'] === 'client_not_reading';
  return {
    ...row, tokenExpiresAt: iso(Date.now() + 3_000_000), role: 'user', compression: false, resumable: true,
    latencySplit: { queueMs: slow ? 5400 : 0.2, kernelMs: slow ? 210 : 0.1, networkMs: row['tcpRttMs'], clientMs: slow ? 12 : 0.4 },
    network: { rttMs: row['tcpRttMs'], rttVariationMs: 0.1, retransmits: 0, lost: 0, deliveryBytesPerSecond: 310_000, receiveWindowLimitedMs: slow ? 5200 : 0, sendBufferLimitedMs: 0, busyMs: 5400 },
    clientReport: { reportedAt: iso(Date.now() - 9_000), queuedMessages: 0, slowestHandlerMs: 12, gapsHealed: 1, visible: true },
    subscriptionList: [
      { id: 'run:42', channel: 'run:42', kind: 'log', position: 118, head: 130, behind: 12, feeding: slow ? 'lagging' : 'live', filter: null, interval: null },
      { id: 'system.metrics', channel: 'system.metrics', kind: 'metrics', position: null, head: null, behind: null, feeding: 'live', filter: { host: { prefix: 'web-' } }, interval: '5s' },
      { id: 'cursors:42', channel: 'cursors:42', kind: 'ephemeral', position: null, head: null, behind: null, feeding: 'live', filter: null, interval: null },
    ],
    timeline: [...timeline(Date.parse(String(row['connectedAt'])), false), ...(world.grown.get(id) ?? [])],
    closedConnections: [closedRow(0, dice(3))],
  };
}

function timeline(from: number, over: boolean): Record<string, unknown>[] {
  const entries: [number, string, string, string, number | null, string | null][] = [
    [0, 'lifecycle', 'opened', 'opened from 127.0.0.1:5000', null, null],
    [12, 'lifecycle', 'authenticated', 'authenticated as alice', null, null],
    [15, 'subscriptions', 'subscribed', 'subscribed to run:42', null, 'run:42'],
    [16, 'subscriptions', 'subscribed', 'subscribed to system.metrics', null, 'system.metrics'],
    [18, 'delivery', 'recovered', 'recovered 12 events of run:42', 12, 'run:42'],
    [92_000, 'heartbeat', 'late_pong', 'answered a heartbeat after 640 ms', 640, null],
    [140_000, 'delivery', 'lagging', 'reads run:42 from the past: its outbox was full', null, 'run:42'],
    [141_200, 'delivery', 'slow', 'takes nothing: 812 kB wait', 812_000, null],
    [150_000, 'heartbeat', 'heartbeat_missed', 'did not answer a heartbeat', null, null],
    [162_000, 'delivery', 'caught_up', 'caught up with run:42', null, 'run:42'],
    ...(over ? [[300_000, 'lifecycle', 'closed', 'closed with 4004 slow_consumer', 4004, null] as [number, string, string, string, number | null, string | null]] : []),
  ];
  return entries.map(([after, lane, kind, text, value, channel], index) => ({ id: index + 1, at: iso(from + after), lane, kind, text, value, channel }));
}

function connection(index: number, many: number, random: () => number, started: number, quiet: boolean): Record<string, unknown> {
  const bad = !quiet && index % 17 === 0;
  const cause = bad ? CAUSES[Math.floor(index / 17) % 3 === 0 ? 0 : Math.floor(index / 17) % CAUSES.length] ?? 'healthy' : 'healthy';
  const stuck = cause === 'client_not_reading';
  const nobody = index === many - 1;
  const id = `01JDQ3QK8N3ZB6V7WMXT2${String(index).padStart(5, '0')}`;
  return {
    id, sessionId: nobody ? null : id, userId: nobody ? null : USERS[index % USERS.length], runId: String(40 + (index % 9)), projectId: index % 4 === 0 ? 'apollo' : null, node: 'a1b2c3',
    transport: index % 23 === 5 ? 'polling' : 'websocket', encoding: index % 3 ? 'json' : 'msgpack', state: nobody ? 'authenticating' : stuck ? 'slow' : index % 31 === 7 ? 'lagging' : 'connected',
    score: bad ? 20 + Math.floor(random() * 40) : 100, cause, causeText: TEXTS[cause] || null,
    rttMs: cause === 'network_slow' ? 640 : 0.8 + random() * 8, tcpRttMs: cause === 'network_slow' ? 610 : 0.3 + random() * 4,
    latencyMs: bad ? 80 + random() * 900 : 0.6 + random() * 6, latencyMaxMs: bad ? 2400 : 30 * random(), deliveryRate: bad ? 0.9 + random() * 0.08 : 1,
    queuedBytes: stuck ? 600_000 + Math.floor(random() * 400_000) : 0, queuedForMs: stuck ? 5400 : 0, kernelUnsentBytes: stuck ? 65_536 : 0, kernelUnackedBytes: 0,
    reconnections: index % 11 === 0 ? 1 + (index % 5) : 0, heartbeatsMissed: cause === 'silent' ? 2 : 0, subscriptions: 1 + (index % 6), messageFailures: index % 19 === 0 ? 3 : 0,
    messagesSent: 147 + index, messagesReceived: 75, bytesSent: 50_000 + index * 31, bytesReceived: 7_000, outPerSecond: 12, inPerSecond: 0.5,
    connectedAt: iso(started + index * 9_000), disconnectedAt: null, lastActivityAt: iso(Date.now() - 400), remoteAddress: `10.0.${index % 8}.${index % 250}:5${String(index).padStart(4, '0')}`,
    userAgent: AGENTS[index % AGENTS.length], clientVersion: index % 3 ? 'pulsewire-js/0.1.0' : 'pulsewire-rust/0.1.0',
  };
}

function move(row: Record<string, unknown>, random: () => number): void {
  const bad = row['cause'] !== 'healthy';
  row['outPerSecond'] = Math.round((10 + random() * 6) * 10) / 10;
  row['inPerSecond'] = Math.round(random() * 10) / 10;
  row['messagesSent'] = Number(row['messagesSent']) + 12;
  row['bytesSent'] = Number(row['bytesSent']) + 2400;
  row['latencyMs'] = bad ? 80 + random() * 900 : 0.6 + random() * 6;
  if (bad) row['score'] = Math.max(5, Math.min(75, Number(row['score']) + Math.round((random() - 0.5) * 16)));
  if (Number(row['queuedBytes']) > 0) row['queuedBytes'] = 600_000 + Math.floor(random() * 400_000);
  row['lastActivityAt'] = iso(Date.now());
}

function closedRow(index: number, random: () => number): Record<string, unknown> {
  const codes: readonly (readonly [number, string, string])[] = [[1000, 'normal', 'client'], [1001, 'going_away', 'client'], [1006, 'connection_lost', 'network'], [4004, 'slow_consumer', 'server'], [4002, 'token_expired', 'server']];
  const [code, reason, initiator] = codes[index % codes.length] ?? [1000, 'normal', 'client'];
  const at = Date.now() - index * 21_000;
  const durationMs = Math.floor(1_000 + random() * 900_000);
  return {
    id: 1000 - index, sessionId: `01JCLOSED${String(index).padStart(5, '0')}QK8N3ZB6V7`, userId: USERS[index % USERS.length], runId: '42', remoteAddress: `10.0.1.${index}:50${index}`, userAgent: AGENTS[0],
    connectedAt: iso(at - durationMs), disconnectedAt: iso(at), durationMs, code, reason, initiator, messagesSent: 147, messagesReceived: 75, messageFailures: index % 7 === 0 ? 3 : 0,
    bytesSent: 5000, bytesReceived: 700, reconnectionCount: index % 3,
  };
}

function failedRow(index: number): Record<string, unknown> {
  const kinds: readonly (readonly [string, string, number, string])[] = [['authenticate', 'token_expired', 401, 'ran out 3 minutes ago'], ['handshake', 'origin', 403, 'https://elsewhere.example is not allowed'], ['handshake', 'not_websocket', 400, 'no Upgrade header']];
  const [stage, reason, status, detail] = kinds[index % kinds.length] ?? ['', '', 0, ''];
  return { id: 90 - index, at: iso(Date.now() - index * 47_000), remoteAddress: `203.0.113.${index}:4411`, userAgent: AGENTS[2], origin: 'https://elsewhere.example', path: '/ws', stage, reason, status, detail };
}

function channelRow(index: number, random: () => number): Record<string, unknown> {
  const log = index % 3 !== 2;
  const channel = log ? `run:${40 + index}` : `cursors:${index}`;
  return {
    id: channel, channel, namespace: log ? 'run' : 'cursors', kind: log ? 'log' : 'ephemeral', subscribers: 240 - index * 7, publishedPerSecond: Math.round(4 + random() * 40), bytesPerSecond: 2400, published: 1300 + index,
    publishedBytes: 260_000, criticalShare: 0.02, head: log ? 130 : null, epoch: log ? 'e7' : null, floor: log ? 0 : null, present: 4, series: null,
  };
}

const METRIC_CHANNELS = ['system.metrics', 'workflow.metrics', 'agent.metrics', 'distributed.metrics', 'app.metrics'];

function metricChannelRow(channel: string): Record<string, unknown> {
  return { id: channel, channel, namespace: 'metrics', kind: 'metrics', subscribers: 3, publishedPerSecond: 16, bytesPerSecond: 3100, published: 40_000, publishedBytes: 8_100_000, criticalShare: null, head: null, epoch: null, floor: null, present: null, series: 16 };
}

function notable(started: number): Record<string, unknown>[] {
  const list: readonly (readonly [number, string, string, string, string | null])[] = [
    [130, 'alert_firing', 'critical', 'Message latency p95 is over 500 ms', '/connections?sort=-latency'],
    [190, 'limit_reached', 'warning', '14 outboxes were full within a minute', '/connections?filter=cause%3Aclient_not_reading'],
    [600, 'action', 'info', 'ada disconnected session …7WMXT2R', '/events'],
    [900, 'settings_reloaded', 'info', 'settings were read again: limits.connections_max', null],
    [1500, 'alert_resolved', 'info', 'Failed authentication is within its limits again', null],
    [1560, 'alert_firing', 'warning', 'Failed authentication is 6 %', '/connections?tab=failed'],
  ];
  return [...list.map(([before, type, severity, text, link], index) => ({ id: 50 - index, at: iso(Date.now() - before * 1000), type, severity, text, link })),
    { id: 1, at: iso(started), type: 'started', severity: 'info', text: 'started, version 0.1.0', link: null }];
}

function tiles(active: number, critical: boolean, empty: boolean, started: number): Record<string, unknown>[] {
  const tile = (id: string, title: string, value: number | null, unit: string, state: string, limits: readonly number[], direction = 'above'): Record<string, unknown> => ({
    id, title, value, unit, state: value === null ? 'none' : state, direction, target: limits[0], warning: limits[1], critical: limits[2], since: iso(started), windowSeconds: 60, note: null,
  });
  return [
    tile('connections', 'Active connections', active, 'connections', 'target', [5000, 8000, 9500]),
    tile('latency', 'Message latency p95', empty ? null : critical ? 612 : 3.2, 'ms', critical ? 'critical' : 'target', [50, 100, 500]),
    tile('duration', 'Connection duration', empty ? null : 1080, 's', 'target', [300, 60, 30], 'below'),
    tile('memory', 'Memory per connection', empty ? null : 6100, 'bytes', critical ? 'warning' : 'ok', [2000, 5000, 10_000]),
    tile('heartbeats', 'Heartbeat failures', empty ? null : 0, 'percent', 'target', [0, 1, 5]),
    tile('auth', 'Failed authentication', empty ? null : 0.4, 'percent', 'target', [1, 5, 10]),
  ];
}

const wave = (at: number, period: number, phase = 0): number => Math.sin((at / period) * Math.PI * 2 + phase);
const bump = (at: number): number => (Math.floor(at / 60) % 11 < 2 ? 1 : 0);

/** Figures as functions of the time in seconds. */
const FIGURES: Readonly<Record<string, (at: number) => number | null>> = {
  'connections.active': (at) => 230 + 10 * wave(at, 400),
  'connections.opened': (at) => Math.max(0, 3 + 2 * wave(at, 60) + bump(at) * 9),
  'connections.closed': (at) => Math.max(0, 3 + 2 * wave(at, 60, 1)),
  'connections.failed': (at) => (bump(at) ? 0.8 : 0),
  'latency.p50': (at) => 1.4 + 0.3 * wave(at, 90),
  'latency.p95': (at) => 8 + 3 * wave(at, 70) + bump(at) * 320,
  'latency.p99': (at) => 30 + 8 * wave(at, 50) + bump(at) * 700,
  'messages.out': (at) => 2900 + 400 * wave(at, 120),
  'messages.in': (at) => 160 + 40 * wave(at, 80),
  'duration.p50': (at) => 1080 + 100 * wave(at, 500),
  'memory.per_connection': (at) => 5900 + 250 * wave(at, 300),
  'heartbeat.failures': () => 0,
  'auth.failures': (at) => (bump(at) ? 4 : 0.4),
  'cpu.process': (at) => 12 + 5 * wave(at, 45) + bump(at) * 30,
  'memory.rss': (at) => 48e6 + 2e6 * wave(at, 600),
  'loop.lag.p95': (at) => 0.2 + bump(at) * 2,
  'sessions.fallback_share': () => 4.2,
  'reconnections.rate': (at) => bump(at) * 1.2,
  'client.queued': (at) => bump(at) * 14,
};

function history(query: URLSearchParams, started: number, empty: boolean): Record<string, unknown> | Error {
  const range = /^(\d+)([mhd])$/.exec(query.get('range') ?? '15m');
  if (!range) return new Error('range is a number and m, h or d');
  const minutes = Number(range[1]) * { m: 1, h: 60, d: 1440 }[range[2] as 'm' | 'h' | 'd'];
  const stepSeconds = minutes <= 15 ? 1 : minutes <= 360 ? 10 : 60;
  const steps = (minutes * 60) / stepSeconds;
  const to = Math.floor(Date.now() / (stepSeconds * 1000)) * stepSeconds;
  const wanted = query.get('figures')?.split(',') ?? Object.keys(FIGURES);
  const figures = Object.fromEntries(wanted.map((figure) => [figure, Array.from({ length: steps }, (_, index) => {
    const at = to - (steps - 1 - index) * stepSeconds;
    if (at * 1000 < started || (empty && index < steps - 20)) return null;
    return empty ? 0 : FIGURES[figure]?.(at) ?? null;
  })]));
  return { fromMs: (to - steps * stepSeconds) * 1000, stepSeconds, recordingSince: iso(started), figures };
}

const FIELDS: Readonly<Record<string, string>> = {
  user: 'userId', run: 'runId', project: 'projectId', rtt: 'rttMs', latency: 'latencyMs', queue: 'queuedBytes', delivery: 'deliveryRate', missed: 'heartbeatsMissed', subs: 'subscriptions', reconnects: 'reconnections',
  age: 'connectedAt', version: 'clientVersion', address: 'remoteAddress', lasted: 'durationMs', sent: 'messagesSent', received: 'messagesReceived', failures: 'messageFailures', agent: 'userAgent', rate: 'publishedPerSecond', name: 'channel', bytes: 'bytesPerSecond',
};
const KNOWN = new Set([...Object.keys(FIELDS), 'id', 'state', 'cause', 'transport', 'encoding', 'node', 'score', 'code', 'reason', 'initiator', 'channel', 'name', 'subscribers', 'kind', 'namespace', 'prefix', 'head', 'present', 'upstream', 'key', 'track']);

function matching(rows: readonly Record<string, unknown>[], filter: string): Record<string, unknown>[] | Error {
  let left = [...rows];
  for (const term of filter.split(/\s+/).filter(Boolean)) {
    const found = /^(-?)(\w+)(:|>=|<=|>|<)(.+)$/.exec(term);
    if (!found) {
      left = left.filter((row) => JSON.stringify([row['userId'], row['id'], row['remoteAddress'], row['userAgent']]).includes(term));
      continue;
    }
    const [, not = '', field = '', sign = '', value = ''] = found;
    if (!KNOWN.has(field)) return new Error(`there is no field ${field}: known are ${[...KNOWN].join(', ')}`);
    left = left.filter((row) => {
      const held = row[FIELDS[field] ?? field];
      const number = Number.parseFloat(value) * (value.endsWith('k') ? 1000 : 1);
      const is = sign === ':' ? new RegExp(`^${value.replaceAll('*', '.*')}$`).test(String(held)) : sign.startsWith('>') ? Number(held) > number : Number(held) < number;
      return not ? !is : is;
    });
  }
  return left;
}

function groups(rows: readonly Record<string, unknown>[], by: string): Record<string, unknown>[] {
  const found = new Map<string, Record<string, unknown>[]>();
  for (const row of rows) {
    const id = String(row[FIELDS[by] ?? by] ?? '');
    found.set(id, [...(found.get(id) ?? []), row]);
  }
  const most = (members: readonly Record<string, unknown>[], field: string): number => Math.max(...members.map((row) => Number(row[field] ?? 0)));
  return [...found].map(([id, members]) => ({
    id, connections: members.length, subscriptions: members.reduce((sum, row) => sum + Number(row['subscriptions'] ?? 0), 0), queuedBytes: members.reduce((sum, row) => sum + Number(row['queuedBytes'] ?? 0), 0), rttMs: most(members, 'rttMs'), latencyMaxMs: most(members, 'latencyMaxMs'),
    reconnections: most(members, 'reconnections'), messageFailures: most(members, 'messageFailures'), worstScore: Math.min(...members.map((row) => Number(row['score'] ?? 100))),
  })).sort((one, other) => other.connections - one.connections);
}

function channelGroups(rows: readonly Record<string, unknown>[], by: string): Record<string, unknown>[] {
  const found = new Map<string, Record<string, unknown>[]>();
  for (const row of rows) {
    const id = by === 'prefix' ? String(row['channel']).split(/[:.]/)[0] ?? '' : String(row[by]);
    found.set(id, [...(found.get(id) ?? []), row]);
  }
  const sum = (members: readonly Record<string, unknown>[], field: string): number => members.reduce((all, row) => all + Number(row[field] ?? 0), 0);
  return [...found].map(([id, members]) => ({ id, channels: members.length, subscribers: sum(members, 'subscribers'), publishedPerSecond: sum(members, 'publishedPerSecond'), bytesPerSecond: sum(members, 'bytesPerSecond') }));
}

function page(rows: readonly Record<string, unknown>[], query: URLSearchParams, usual: string, total = rows.length): Record<string, unknown> {
  const asked = query.get('sort') ?? usual;
  const field = asked.replace('-', '');
  const key = FIELDS[field] ?? field;
  const sorted = field ? [...rows].sort((one, other) => compare(one[key], other[key]) * (asked.startsWith('-') || field === 'subscribers' ? -1 : 1)) : [...rows];
  const offset = Number(query.get('offset') ?? 0);
  const limit = Number(query.get('limit') ?? 50);
  return { revision: 0, at: iso(Date.now()), total, matched: rows.length, rows: sorted.slice(offset, offset + limit).map((row) => ({ ...row })) };
}

function compare(one: unknown, other: unknown): number {
  if (typeof one === 'number' && typeof other === 'number') return one - other;
  return String(one).localeCompare(String(other));
}
