import type { WebSocket } from 'ws';

/** Channels of applications, made up: a log that can be read and published to, and numbers. */
export interface Applications {
  /** `GET /api/channels/NAME/events`; null: there is no such thing. */
  get(path: string, query: URLSearchParams): Record<string, unknown> | null;
  /** A message that is not about `$sys`. */
  hear(socket: WebSocket, message: Record<string, unknown>): void;
  /** A subscription besides `$sys`; `request` is the whole message. */
  subscribe(socket: WebSocket, wish: unknown, request: Record<string, unknown>): void;
  /** What is listened to by nobody any more. */
  leave(socket: WebSocket, channels?: readonly string[]): void;
  /** Which channels are listened to. */
  heard(): readonly string[];
  /** How a channel was asked for last. */
  asked(channel: string): Record<string, unknown> | undefined;
  /** An event or a second of numbers comes. */
  tick(): void;
}

interface Listener {
  readonly socket: WebSocket;
  readonly channel: string;
  readonly request: Record<string, unknown>;
}

const EPOCH = 'e7';
const TYPES = ['GRAFT', 'note', 'task:completed', 'PRUNE', 'progress'];

function event(channel: string, sequence: number, at: number): Record<string, unknown> {
  const type = TYPES[sequence % TYPES.length] ?? 'note';
  return {
    type: 'event', channel, sequence, event: type, data: { node: `n${sequence % 9}`, progress: (sequence % 100) / 100, by: { tool: 'planner', retries: sequence % 3 } }, timestamp: at, id: `m-${sequence}`,
    user: ['alice', 'bob', 'carol'][sequence % 3], ...(type === 'GRAFT' && { critical: true, key: `n${sequence % 9}` }), tags: { env: 'production' },
  };
}

export function applications(): Applications {
  const began = Date.now();
  const listeners: Listener[] = [];
  const logs = new Map<string, Record<string, unknown>[]>();
  const log = (channel: string): Record<string, unknown>[] => {
    const held = logs.get(channel) ?? Array.from({ length: 130 }, (_, index) => event(channel, index + 1, began - (130 - index) * 2_000));
    logs.set(channel, held);
    return held;
  };
  const say = (socket: WebSocket, message: object): void => socket.send(JSON.stringify(message));
  const tell = (channel: string, message: object): void => listeners.filter((listener) => listener.channel === channel).forEach(({ socket }) => say(socket, message));

  function publish(socket: WebSocket, { id, channel, event: type, data, message_id }: Record<string, unknown>): void {
    const name = String(channel);
    if (name === 'forbidden:1') return say(socket, { type: 'error', id, code: 'forbidden', message: 'the token does not allow publish on forbidden:1' });
    const all = log(name);
    const fresh = { type: 'event', channel: name, sequence: all.length + 1, event: type, data, timestamp: Date.now(), id: message_id, user: 'ada' };
    all.push(fresh);
    say(socket, { type: 'ack', id, channel, sequence: fresh.sequence, epoch: EPOCH, duplicate: false, matched: 1 });
    tell(name, fresh);
  }

  return {
    get(path, query) {
      const channel = /^\/api\/channels\/([^/]+)\/events$/.exec(path)?.[1];
      if (channel === undefined) return null;
      const all = log(decodeURIComponent(channel)).filter(({ critical }) => query.get('only') !== 'critical' || critical);
      const after = Number(query.get('after') ?? 0);
      const limit = Number(query.get('limit') ?? 100);
      const later = all.filter(({ sequence }) => Number(sequence) > after);
      const events = later.slice(0, limit);
      return { channel: decodeURIComponent(channel), epoch: EPOCH, events, nextSequence: events.at(-1)?.['sequence'] ?? after, hasMore: later.length > limit, floor: 0, head: all.length };
    },
    hear(socket, message) {
      const { type, id, channel } = message;
      if (type === 'publish') publish(socket, message);
      else if (type === 'presence') say(socket, { type: 'presence', id, channel, node: '5f2a', version: 1, members: members() });
      else if (type === 'get_history') say(socket, { type: 'history', id, channel, epoch: EPOCH, events: [], has_more: false });
    },
    subscribe(socket, wish, request) {
      const asked = (typeof wish === 'string' ? { channel: wish } : wish) as Record<string, unknown>;
      const channel = String(asked['channel']);
      listeners.push({ socket, channel, request });
      if (asked['presence']) say(socket, { type: 'presence', channel, node: '5f2a', version: 1, members: members() });
      if (asked['history']) say(socket, { type: 'history', channel, events: pastOf(channel, String(asked['history']), stepOf(request)), has_more: false });
    },
    leave(socket, channels) {
      for (let index = listeners.length - 1; index >= 0; index--) {
        const listener = listeners[index];
        if (listener?.socket === socket && (!channels || channels.includes(listener.channel))) listeners.splice(index, 1);
      }
    },
    asked: (channel) => listeners.filter((listener) => listener.channel === channel).at(-1)?.request,
    heard: () => listeners.map(({ channel }) => channel),
    tick() {
      for (const channel of new Set(listeners.map((listener) => listener.channel))) {
        if (!channel.endsWith('.metrics')) {
          const all = log(channel);
          all.push(event(channel, all.length + 1, Date.now()));
          tell(channel, all.at(-1) ?? {});
        }
      }
      for (const { socket, channel, request } of listeners) {
        if (channel.endsWith('.metrics')) windows(channel, Math.floor(Date.now() / stepOf(request) / 1000) * stepOf(request) - stepOf(request), stepOf(request)).forEach((window) => say(socket, window));
      }
    },
  };
}

function members(): object[] {
  return [{ user: 'alice', sessions: 2, since: Date.now() - 600_000, cursor: { line: 7 } }, { user: 'bob', sessions: 1, since: Date.now() - 60_000 }];
}

// ---- numbers

const NAMES: Readonly<Record<string, readonly string[]>> = {
  'system.metrics': ['cpu.percent', 'memory.percent', 'memory.used', 'disk.percent', 'network.bytes_recv_per_second', 'network.bytes_sent_per_second', 'load.one', 'load.five'],
  'workflow.metrics': ['executions.total', 'success_rate', 'duration.avg', 'duration.p95'],
  'agent.metrics': ['calls.total', 'latency.avg', 'latency.p95', 'errors.total'],
};
const HOSTS = ['web-1', 'web-2'];

function stepOf(request: Record<string, unknown>): number {
  const text = String(request['aggregation_interval'] ?? '1s');
  return Number.parseInt(text, 10) * { s: 1, m: 60, h: 3600 }[text.slice(-1) as 's' | 'm' | 'h'];
}

function windows(channel: string, at: number, step: number): Record<string, unknown>[] {
  return (NAMES[channel] ?? []).flatMap((name, index) => (channel === 'system.metrics' ? HOSTS : [null]).map((host, nth) => {
    const value = (40 + 20 * Math.sin(at / 40 + index) + nth * 12 + (at % 7)) * (name.includes('bytes') || name === 'memory.used' ? 1e6 : name.startsWith('load') ? 0.02 : 1);
    return {
      channel, name, type: 'gauge', value, timestamp: new Date(at * 1000).toISOString(), interval: `${step}s`, last: value, min: value * 0.8, max: value * 1.3, sum: value * 5, count: 5, avg: value, p50: value, p95: value * 1.2, p99: value * 1.3,
      ...(host && { tags: { host } }),
    };
  }));
}

function pastOf(channel: string, text: string, step: number): Record<string, unknown>[] {
  const seconds = Number.parseInt(text, 10) * { s: 1, m: 60, h: 3600, d: 86_400 }[text.slice(-1) as 's' | 'm' | 'h' | 'd'];
  const to = Math.floor(Date.now() / 1000 / step) * step;
  return Array.from({ length: Math.floor(seconds / step) }, (_, index) => windows(channel, to - seconds + index * step, step)).flat();
}
