import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { getMetricService, type Metric, type MetricService, type MetricServiceOptions } from '../src/metrics.js';
import { msgpack } from '../src/msgpack.js';
import { FakeServer, settle } from './fake-server.js';

const CPU = 'system.metrics';
const point = (second: number, value: number, name = 'cpu.percent'): Metric => ({
  channel: CPU, name, type: 'gauge', value, timestamp: new Date(second * 1000).toISOString(), tags: { host: 'web-1' },
});

let server: FakeServer;
let services: MetricService[] = [];

function service(token = 'token', options: MetricServiceOptions = {}): MetricService {
  const made = getMetricService('ws://localhost:8000/ws/metrics', token, { WebSocket: server.WebSocket, ...options });
  services.push(made);
  return made;
}

/** The connection breaks and comes back after so many milliseconds. */
async function away(milliseconds: number): Promise<void> {
  server.cut();
  await vi.advanceTimersByTimeAsync(milliseconds);
  await settle();
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date', 'performance', 'setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
  vi.spyOn(Math, 'random').mockReturnValue(0);
  server = new FakeServer();
});

afterEach(() => {
  for (const made of services) made.disconnect();
  services = [];
  vi.restoreAllMocks();
  vi.useRealTimers();
});

describe('the example of document 004', () => {
  it('works as it is written', async () => {
    const metrics: Metric[] = [];
    const connections: boolean[] = [];
    const made = service();
    made.connect();
    made.subscribe({
      channels: ['system.metrics', 'workflow.metrics'],
      tags: { env: 'production' },
      aggregation_interval: '5s',
      compression: true,
    });
    made.onMetric('system.metrics', (metric) => metrics.push(metric));
    made.onConnectionChange((connected) => connections.push(connected));
    await vi.dynamicImportSettled();
    await settle();

    expect(server.all('connect')).toMatchObject([{ token: 'token' }]);
    expect(server.wishes()).toMatchObject(['system.metrics', 'workflow.metrics'].map((channel) =>
      ({ channel, tags: { env: 'production' }, aggregation_interval: '5s', compression: true })));
    const binary = msgpack.encode(point(1, 75.5));
    if (typeof binary === 'string') throw new Error('MessagePack is binary');
    server.frame(binary.buffer);
    server.say({ ...point(2, 1), channel: 'workflow.metrics' });
    expect(metrics).toEqual([point(1, 75.5)]);
    server.cut();
    expect(connections).toEqual([true, false]);
  });

  it('subscribes again in onConnectionChange without saying it twice', async () => {
    const made = service();
    made.onConnectionChange((connected) => {
      if (connected) made.subscribe({ channels: [CPU], tags: { a: '1', b: '2' } });
    });
    made.connect();
    await settle();
    server.say(point(1, 1));
    made.subscribe({ tags: { b: '2', a: '1' }, channels: [CPU] });
    await settle();
    expect(server.wishes()).toHaveLength(1);
    await away(1_000);
    expect(server.all('connect')).toHaveLength(2);
    expect(server.wishes()).toHaveLength(2);
    expect(made.getBufferedMetrics()).toEqual([point(1, 1)]);
  });

  it('makes one service for each address and token', () => {
    const made = service('a');
    expect(service('a')).toBe(made);
    expect(service('b')).not.toBe(made);
    made.disconnect();
    const next = service('a');
    expect(next).not.toBe(made);
  });
});

describe('a metric service', () => {
  it('reads a channel as JSON until compression is asked for, and sends no MessagePack', async () => {
    const made = service();
    made.subscribe({ channels: [CPU] });
    await settle();
    expect(server.wishes()).toMatchObject([{ channel: CPU, compression: false }]);
  });

  it('gives metrics to whoever asked for their channel, or for all', async () => {
    const heard: string[] = [];
    const made = service();
    made.subscribe({ channels: [CPU, 'agent.metrics'] });
    made.onMetric(CPU, () => heard.push('cpu'));
    const stop = made.onMetric('*', ({ channel }) => heard.push(`* ${channel}`));
    await settle();
    server.say(point(1, 1));
    server.say({ ...point(1, 1), channel: 'agent.metrics' });
    stop();
    server.say(point(2, 1));
    expect(heard).toEqual(['cpu', `* ${CPU}`, '* agent.metrics', 'cpu']);
  });

  it('tells every listener although one throws, and the client of that one', async () => {
    const heard: number[] = [];
    const errors: string[] = [];
    const made = service();
    made.client.on('error', ({ code }) => errors.push(code));
    made.subscribe({ channels: [CPU] });
    made.onMetric('*', () => { throw new Error('mine'); });
    made.onMetric('*', (metric) => heard.push(Number(metric['value'])));
    await settle();
    server.say(point(1, 7));
    server.say(point(2, 8));
    expect(heard).toEqual([7, 8]);
    expect(errors).toEqual(['listener', 'listener']);
  });

  it('keeps the newest 1,000 metrics of each channel, and each once', async () => {
    const made = service();
    made.subscribe({ channels: [CPU, 'agent.metrics'] });
    await settle();
    server.say({ ...point(0, 0), channel: 'agent.metrics' });
    for (let second = 1; second <= 1_003; second++) server.say(point(second, second));
    server.say(point(1_003, 1_003));
    const values = made.getBufferedMetrics(CPU).map((metric) => metric['value']);
    expect(values).toEqual(Array.from({ length: 1_000 }, (_, at) => at + 4));
    expect(made.getBufferedMetrics()).toHaveLength(1_001);
    expect(made.getBufferedMetrics('unknown')).toEqual([]);
  });

  it('keeps a window of a series that comes late', async () => {
    const made = service();
    made.subscribe({ channels: [CPU], aggregation_interval: '1s' });
    await settle();
    for (const second of [2, 1]) server.say(point(second, second));
    expect(made.getBufferedMetrics(CPU).map((metric) => metric['value'])).toEqual([2, 1]);
  });

  it('tells of silence and of what was dropped, and not as metrics', async () => {
    const notices: unknown[] = [];
    const metrics: unknown[] = [];
    const made = service();
    made.subscribe({ channels: [CPU] });
    made.onNotice((notice) => notices.push(notice));
    made.onMetric('*', (metric) => metrics.push(metric));
    await settle();
    server.say({ type: 'stale', channel: CPU, since: 5 });
    server.say({ type: 'dropped', channel: CPU, count: 3 });
    expect(notices).toEqual([{ type: 'stale', channel: CPU, since: 5 }, { type: 'dropped', channel: CPU, count: 3 }]);
    expect(metrics).toEqual([]);
  });

  it('replaces a subscription by another one and begins an empty buffer', async () => {
    const made = service();
    made.subscribe({ channels: [CPU, 'agent.metrics'] });
    await settle();
    server.say(point(1, 1));
    made.subscribe({ channels: [CPU], aggregation_interval: '1m' });
    await settle();
    expect(server.wishes().slice(2)).toMatchObject([{ channel: CPU, aggregation_interval: '1m' }]);
    expect(server.wishes()[2]).not.toHaveProperty('history');
    expect(made.getBufferedMetrics()).toEqual([]);
    server.say(point(60, 2));
    expect(made.getBufferedMetrics()).toEqual([point(60, 2)]);
  });

  it('unsubscribes, by name or by the function that subscribing returned', async () => {
    const heard: unknown[] = [];
    const made = service();
    made.onMetric('*', (metric) => heard.push(metric));
    const stop = made.subscribe({ channels: [CPU] });
    made.subscribe({ channels: ['agent.metrics'] });
    await settle();
    stop();
    made.unsubscribe(['agent.metrics', 'never']);
    await settle();
    expect(server.all('unsubscribe').flatMap(({ channels }) => channels)).toEqual([CPU, 'agent.metrics']);
    server.say(point(1, 1));
    expect(heard).toEqual([]);
    expect(made.getBufferedMetrics()).toEqual([]);
  });

  it('does not subscribe what was unsubscribed while the codec was loading', async () => {
    const made = service();
    made.subscribe({ channels: [CPU], compression: true })();
    made.connect();
    await vi.dynamicImportSettled();
    await settle();
    expect(server.wishes()).toEqual([]);
  });
});

describe('after a time without a connection', () => {
  it('has what was missed sent, from a little before it was lost', async () => {
    const heard: unknown[] = [];
    const notices: string[] = [];
    const made = service();
    made.subscribe({ channels: [CPU], aggregation_interval: '1s' });
    made.onMetric('*', (metric) => heard.push(metric['value']));
    made.onNotice(({ type }) => notices.push(String(type)));
    await settle();
    expect(server.wishes()[0]).not.toHaveProperty('history');
    for (const second of [1, 2, 3]) server.say(point(second, second));
    await away(300);
    expect(server.wishes()[1]).toMatchObject({ channel: CPU, history: '6s' });
    const past = [point(2.5, 99), point(3, 3), point(3, 33, 'memory.percent'), point(4, 4)];
    server.say({ type: 'history', channel: CPU, resolution: '1s', events: past, has_more: true });
    server.say({ type: 'history', channel: CPU, resolution: '1s', events: [point(5, 5)], has_more: false });
    server.say(point(6, 6));
    expect(made.getBufferedMetrics(CPU).map((metric) => metric['value'])).toEqual([1, 2, 3, 33, 4, 5, 6]);
    expect(heard).toEqual([1, 2, 3, 6]);
    expect(notices).toEqual(['history', 'history']);
    await away(300);
    expect(server.wishes()).toHaveLength(3);
  });

  it('goes on without the past where the token does not allow it', async () => {
    const errors: string[] = [];
    const made = service();
    made.client.on('error', ({ code }) => errors.push(code));
    made.subscribe({ channels: [CPU] });
    await settle();
    server.say(point(1, 1));
    const refuse = (wish: unknown): boolean => JSON.stringify(wish).includes('"history"');
    server.answer = (message) => {
      if (message['type'] === 'connect' && refuse(message)) {
        server.say({ type: 'connected', id: message['id'], session: 's2', resumed: false, heartbeat_ms: 30_000 });
      }
      return refuse(message) ? { type: 'error', code: 'forbidden', message: 'Forbidden', retryable: false } : undefined;
    };
    await away(300);
    expect(errors).toContain('forbidden');
    expect(server.wishes().at(-1)).not.toHaveProperty('history');
    server.say(point(9, 9));
    expect(made.getBufferedMetrics(CPU).map((metric) => metric['value'])).toEqual([1, 9]);
  });
});

describe('history', () => {
  const hour = { channel: CPU, start_time: '2025-11-08T00:00:00Z', end_time: '2025-11-08T01:00:00Z' };

  it('is asked for until there is no more, with windows of one length', async () => {
    const made = service();
    server.answer = (message) => {
      if (message['type'] !== 'get_history') return undefined;
      return message['start_time'] === hour.start_time
        ? { type: 'history', channel: CPU, resolution: '10s', events: [point(1, 1)], has_more: true, next_time: '2025-11-08T00:20:00Z' }
        : { type: 'history', channel: CPU, resolution: '10s', events: [point(2, 2)], has_more: false };
    };
    made.connect();
    expect(await made.getHistory(hour)).toEqual([point(1, 1), point(2, 2)]);
    expect(server.all('get_history')).toMatchObject([hour, { ...hour, resolution: '10s', start_time: '2025-11-08T00:20:00Z' }]);
  });

  it('that does not end is refused', async () => {
    const made = service();
    server.answer = ({ type }) => (type === 'get_history' ? { type: 'history', events: [], next_time: 'x' } : undefined);
    made.connect();
    await expect(made.getHistory(hour)).rejects.toMatchObject({ code: 'limit_exceeded' });
    expect(server.all('get_history')).toHaveLength(50);
  });

  it('that the server refuses is rejected with its code', async () => {
    const made = service();
    server.answer = ({ type }) => (type === 'get_history' ? { type: 'error', code: 'forbidden', message: 'no' } : undefined);
    made.connect();
    await expect(made.getHistory(hour)).rejects.toMatchObject({ code: 'forbidden' });
  });
});
