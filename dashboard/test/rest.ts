import type { World } from './world.js';

const iso = (at: number): string => new Date(at).toISOString();

/** What is made up besides connections and channels: alerts, errors, nodes, the audit log. */
export interface Rest {
  /** Rows of a list, in order. */
  list(name: string): Record<string, unknown>[];
  /** Does something to them; null: it is none of theirs. */
  act(path: string, body: Record<string, unknown>): Record<string, unknown> | null;
  tick(): void;
}

export function rest({ empty, quiet, started }: { readonly empty: boolean; readonly quiet: boolean; readonly started: number }): Rest {
  const rules = alerts(empty, quiet);
  const kinds = empty ? [] : errors();
  const node: Record<string, unknown> = {
    id: 'a1b2c3', version: '0.1.0', startedAt: iso(started), uptimeSeconds: 0, draining: false, connections: empty ? 0 : 240, connectionsMax: 10_000, cpuPercent: empty ? 0.4 : 12.5,
    rssBytes: 48_000_000, openFiles: 310, openFilesMax: 65_536, shards: 2, storeState: 'ok', storeLatencyMs: empty ? null : 1.8, brokerLagMs: null, clockSkewMs: null,
  };
  const audit = empty ? [] : [
    ['ada', 'operator', 'disconnect', 'session 01JDQ3QK8N3ZB6V7WMXT200017', 'done', null],
    ['eve', 'viewer', 'tap', 'session 01JDQ3QK8N3ZB6V7WMXT200000', 'refused', 'payloads need the role operator'],
    ['ada', 'operator', 'silence', 'alert auth', 'done', '60 minutes'],
    ['ada', 'operator', 'tap', 'session 01JDQ3QK8N3ZB6V7WMXT200000', 'done', 'without payloads'],
  ].map(([who, role, action, target, outcome, detail], index) => ({ id: 40 - index, at: iso(Date.now() - index * 340_000 - 20_000), who, role, from: '10.0.0.7', action, target, outcome, detail }));

  return {
    list(name) {
      node['uptimeSeconds'] = Math.floor((Date.now() - started) / 1000);
      switch (name) {
        case 'alerts': return rules;
        case 'errors': return kinds;
        case 'nodes': return [node];
        case 'audit': return audit;
        default: return [];
      }
    },
    act(path, body) {
      const silenced = /^alerts\/(.+)\/silence$/.exec(path)?.[1];
      if (silenced !== undefined) {
        const rule = rules.find(({ id }) => id === decodeURIComponent(silenced));
        if (rule) rule['silencedUntil'] = Number(body['minutes']) > 0 ? iso(Date.now() + Number(body['minutes']) * 60_000) : null;
        return { id: silenced };
      }
      if (path !== 'drain') return null;
      node['draining'] = body['drain'];
      return { draining: body['drain'] };
    },
    tick() {
      for (const kind of kinds) if (Number(kind['perMinute']) > 1) Object.assign(kind, { count: Number(kind['count']) + 1, lastAt: iso(Date.now()) });
      for (const rule of rules) if (rule['state'] === 'pending') rule['pendingSeconds'] = Math.min(Number(rule['pendingSeconds']) + 1, Number(rule['holdSeconds']));
    },
  };
}

/** One rule in every state: within limits, pending, warning, critical, silenced, and one that cannot be judged. */
function alerts(empty: boolean, quiet: boolean): Record<string, unknown>[] {
  const rule = (id: string, title: string, unit: string, limits: readonly number[], value: number | null, more: object): Record<string, unknown> => ({
    id, title, severity: 'none', state: 'inactive', value: empty ? null : value, limit: limits[1], unit, direction: 'above', target: limits[0], warning: limits[1], critical: limits[2], windowSeconds: 60, holdSeconds: 60, pendingSeconds: 0,
    since: null, forSeconds: null, history: [{ from: iso(Date.now() - 3_600_000), to: null, state: 'none' }], expression: `pulsewire_${id} > ${limits[2]}`, silencedUntil: null, help: 'Sort connections by it: the worst are the cause.', link: '/connections', ...(empty || quiet ? {} : more),
  });
  const ago = (seconds: number): string => iso(Date.now() - seconds * 1000);
  return [
    rule('latency', 'Message latency p95', 'ms', [50, 100, 500], quiet ? 4 : 612, {
      figure: 'latency.p95',
      severity: 'critical', state: 'firing', limit: 500, since: ago(130), forSeconds: 130, pendingSeconds: 60, link: '/connections?sort=-latency', expression: 'histogram_quantile(0.95, sum by (le) (rate(pulsewire_delivery_seconds_bucket[1m]))) > 0.5',
      history: [{ from: ago(3600), to: ago(1500), state: 'none' }, { from: ago(1500), to: ago(900), state: 'warning' }, { from: ago(900), to: ago(130), state: 'none' }, { from: ago(130), to: null, state: 'critical' }],
    }),
    rule('memory', 'Memory per connection', 'bytes', [2000, 5000, 10_000], quiet ? 1900 : 6100, { severity: 'warning', state: 'firing', since: ago(900), forSeconds: 900, pendingSeconds: 60, history: [{ from: ago(3600), to: ago(900), state: 'none' }, { from: ago(900), to: null, state: 'warning' }] }),
    rule('reconnects', 'Reconnects', 'per_second', [1, 5, 20], quiet ? 0 : 7, { severity: 'warning', state: 'pending', since: ago(22), pendingSeconds: 22, history: [{ from: ago(3600), to: ago(22), state: 'none' }, { from: ago(22), to: null, state: 'pending' }] }),
    rule('auth', 'Failed authentication', 'percent', [1, 5, 10], 6, { severity: 'warning', state: 'firing', since: ago(60), forSeconds: 60, pendingSeconds: 60, silencedUntil: iso(Date.now() + 41 * 60_000), link: '/connections?tab=failed' }),
    rule('heartbeats', 'Heartbeat failures', 'percent', [0, 1, 5], 0, {}),
    rule('disk', 'Store latency', 'ms', [5, 20, 100], null, {}),
  ];
}

function errors(): Record<string, unknown>[] {
  const kind = (id: string, count: number, perMinute: number, connections: number | null, text: string): Record<string, unknown> => {
    const [group, name] = id.split('/');
    return {
      id, group, kind: name, count, perMinute, firstAt: iso(Date.now() - 2_400_000), lastAt: iso(Date.now() - (perMinute > 0 ? 4_000 : 900_000)), connections,
      sample: { at: iso(Date.now() - 60_000), sessionId: connections === null ? null : '01JDQ3QK8N3ZB6V7WMXT200000', userId: 'alice', text }, help: 'See docs/codes.md for what the client should do.',
    };
  };
  return [
    kind('message/parse_error', 12, 2, 3, 'expected a value at byte 17 of {"type":"publish",'),
    kind('message/too_large', 3, 0, 1, '70,213 bytes, and 65,536 are allowed'),
    kind('auth/token_expired', 41, 6, null, 'ran out 3 minutes ago'),
    kind('delivery/outbox_full', 230, 14, 14, '64 KiB wait for it on run:42'),
    kind('heartbeat/timeout', 2, 0, 2, 'no answer within 10 s'),
  ];
}

/** One channel with all that is known of it. */
export function channelDetail(world: World, row: Record<string, unknown>): Record<string, unknown> {
  const kept = row['kind'] === 'log';
  const head = Number(row['head'] ?? 0);
  const readers = world.connections.slice(0, Math.min(Number(row['subscribers']), 200)).map((connection, index) => {
    const behind = index === 0 ? 118 : index < 4 ? 12 - index * 3 : 0;
    return { id: connection['id'], userId: connection['userId'], transport: 'websocket', position: kept ? head - behind : null, behind: kept ? behind : null, feeding: behind > 0 ? 'behind' : 'live' };
  });
  if (kept) readers.push({ id: null, userId: 'heidi', transport: 'sse', position: null, behind: null, feeding: 'live' });
  const members = ['alice', 'bob', 'carol', 'dave'].slice(0, Number(row['present'] ?? 0)).map((userId, index) => ({ userId, cursor: index < 3 ? { node: `n${index + 3}`, line: index * 7 } : null }));
  return { ...row, readers, members };
}
