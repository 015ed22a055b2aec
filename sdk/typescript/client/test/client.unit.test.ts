import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RealtimeError, UnauthorizedError } from '../src/error.js';
import type { ChannelEvent, ConnectionHealth } from '../src/types.js';
import { attempt, clientWith, connected, event, FakeSocket, pass, socket } from './fake.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const at = (sequence: number, epoch = 'e1') => ({ epoch, sequence });

/** A connected client that listens to `run:1` from a position, with what it heard. */
async function listening(position = at(0), options: Parameters<typeof connected>[0] = {}) {
  const made = clientWith(options);
  const heard: (number | undefined)[] = [];
  const channel = made.client.channel('run:1');
  const leave = channel.subscribe(({ sequenceNumber }) => heard.push(sequenceNumber));
  await pass();
  socket().welcome({}, { 'run:1': position });
  await pass();
  return { ...made, channel, heard, leave };
}

describe('connecting', () => {
  it('says everything in one message and nothing secret in the address', async () => {
    const { client } = clientWith({ url: 'https://example.test', token: 'secret' });
    client.channel('run:1', { last: 2, presence: true }).subscribe();
    await pass();
    expect(socket()).toMatchObject({ url: 'wss://example.test/ws', protocol: 'pulsewire.json' });
    socket().open();
    expect(socket().sent).toEqual([{
      type: 'connect', id: 1, heartbeat: 'message', token: 'secret', subscribe: { channels: [{ channel: 'run:1', last: 2, presence: true }] },
    }]);
  });

  it('keeps a path, resolves a function, and connects by itself with the first subscription or publish', async () => {
    const { client } = clientWith({ url: async () => 'ws://example.test/ws/metrics' });
    expect(client.status()).toBe('idle');
    await pass(60_000);
    expect(FakeSocket.all).toHaveLength(0);
    void client.publish('run:1', 'note', 1);
    await pass();
    expect(socket().url).toBe('ws://example.test/ws/metrics');
  });

  it('is ready when it is welcomed, and not before', async () => {
    const { client } = clientWith();
    let ready = false;
    void client.ready().then(() => (ready = true));
    await pass();
    socket().open();
    await pass(100);
    expect(ready).toBe(false);
    socket().receive({ type: 'connected', id: 1, session: 's1', heartbeat_ms: 30_000 });
    await pass();
    expect(ready).toBe(true);
    await expect(client.ready({ signal: AbortSignal.abort(new Error('enough')) })).resolves.toBeUndefined();
    client.disconnect();
    await expect(client.ready({ signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
  });

  it('comes back with its session and its positions', async () => {
    const { heard } = await listening(at(4));
    socket().receive(event(5), event(6));
    socket().end();
    await pass(1_000);
    socket().open();
    expect(socket().last('connect')).toMatchObject({ session: 's1', subscribe: { channels: [{ channel: 'run:1', since: at(6) }] } });
    expect(heard).toEqual([5, 6]);
  });

  it('asks for channels that are narrowed in their own way by themselves', async () => {
    const { client } = clientWith();
    client.channel('run:1').subscribe();
    client.channel('a.metrics', { tags: { env: 'prod' } }).onMessage(() => undefined);
    client.channel('run:2').subscribe();
    await pass();
    socket().welcome();
    await pass();
    expect(socket().last('connect')).toMatchObject({ subscribe: { channels: [{ channel: 'run:1' }, { channel: 'run:2' }] } });
    expect(socket().last('subscribe')).toMatchObject({ channels: [{ channel: 'a.metrics' }], tags: { env: 'prod' } });
  });

  it.each([
    [4501, 'unauthorized'], [4502, 'forbidden'], [4505, 'unauthorized'], [4506, 'kicked'], [4508, 'kicked'], [4999, 'kicked'],
    [1002, 'protocol'], [1008, 'protocol'], [1009, 'protocol'], [4503, 'protocol'],
  ])('stops for good after %i, and says why (K7)', async (code, reason) => {
    const { client, told } = await connected({ token: 'fixed' });
    socket().end(code);
    await pass(600_000);
    expect(client.status()).toBe('disconnected');
    expect(told.findLast(([name]) => name === 'failed')?.[1]).toMatchObject({ code: reason });
    expect(FakeSocket.all).toHaveLength(1);
    client.reconnect();
    await pass();
    expect(FakeSocket.all).toHaveLength(2);
  });

  it.each([1006, 1011, 1012, 1013, 4000, 4001, 4003, 4004, 4499])('comes back after %i (K7)', async (code) => {
    await connected();
    socket().end(code);
    await pass(800);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it('asks behind the welcome for what was wanted, or wanted otherwise, after the greeting had left', async () => {
    const { client } = clientWith();
    const stop = client.channel('a.metrics', { tags: { env: 'prod' } }).subscribe();
    await pass();
    socket().open();
    expect(socket().last('connect')).toMatchObject({ subscribe: { channels: [{ channel: 'a.metrics' }], tags: { env: 'prod' } } });
    client.channel('run:1').subscribe();
    stop();
    client.channel('a.metrics', { tags: { env: 'test' } }).subscribe();
    await pass();
    socket().receive({ type: 'connected', id: 1, session: 's1', heartbeat_ms: 30_000 });
    const asked = socket().sent.filter(({ type }) => type === 'subscribe');
    expect(asked).toMatchObject([{ channels: [{ channel: 'a.metrics' }], tags: { env: 'test' } }, { channels: [{ channel: 'run:1' }] }]);
    socket().receive({ type: 'subscribed', id: asked[1]?.['id'], channels: ['run:1'], positions: { 'run:1': at(0) } });
    expect(client.channel('run:1').state()).toBe('subscribed');
  });

  it('comes back when the server said it should (K7, Retry-After)', async () => {
    await connected();
    socket().receive({ type: 'reconnect', retry_ms: 7_000, reason: 'service_restart', code: 1012 });
    socket().end(1012);
    await pass(6_900);
    expect(FakeSocket.all).toHaveLength(1);
    await pass(200);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it('ends the session with disconnect(), and only then', async () => {
    const { client } = await connected();
    const first = socket();
    client.disconnect();
    expect(first.closedWith).toBe(1000);
    expect(client.id).toBeNull();
    client.connect();
    await pass();
    socket().welcome({ session: 's2' });
    await pass(45_000);
    // Nothing was heard: the ping went out, and nobody answered.
    expect(FakeSocket.all[1]?.closedWith).toBe(4000);
    expect(client.id).toBe('s2');
  });

  it('does not believe in a connection that says nothing: asks, then gives it up', async () => {
    const { client } = await connected();
    const pings = socket().count('ping');
    await pass(40_000);
    expect(socket().count('ping')).toBeGreaterThan(pings);
    await pass(3_001);
    expect(client.status()).toBe('reconnecting');
  });
});

describe('tokens', () => {
  it('asks for one at each attempt at most, waits after failures, and stops when it is told so (K12)', async () => {
    const reasons: string[] = [];
    let outcome: () => Promise<string | null> = () => Promise.reject(new Error('offline'));
    const { client, told } = clientWith({ token: ({ reason }) => (reasons.push(reason), outcome()) });
    client.connect();
    await pass(5_000);
    expect(reasons.length).toBeGreaterThan(1);
    expect(reasons.length).toBeLessThan(12);
    expect(FakeSocket.all).toHaveLength(0);
    outcome = () => Promise.reject(new UnauthorizedError());
    await pass(10_000);
    expect(client.status()).toBe('disconnected');
    expect(told.at(-1)).toMatchObject(['failed', { code: 'unauthorized' }]);
    const calls = reasons.length;
    await pass(600_000);
    expect(reasons).toHaveLength(calls);
  });

  it('gives up asking after ten seconds and tells the callback (K12)', async () => {
    const signals: AbortSignal[] = [];
    const { client } = clientWith({ token: ({ signal }) => (signals.push(signal), new Promise(() => undefined)) });
    client.connect();
    await pass(10_001);
    expect(signals[0]?.aborted).toBe(true);
    await pass(1_000);
    expect(signals.length).toBe(2);
    expect(client.status()).toBe('connecting');
  });

  it('ends when the same refused token comes again and again (K12)', async () => {
    const reasons: string[] = [];
    const { client } = clientWith({ token: async ({ reason }) => (reasons.push(reason), 'expired') });
    client.connect();
    for (let attempt = 0; attempt < 3; attempt++) {
      await pass();
      socket().open();
      socket().end(4501);
    }
    await pass(600_000);
    expect(reasons).toEqual(['initial', 'rejected', 'rejected']);
    expect(client.status()).toBe('disconnected');
  });

  it('is renewed in the connection, by time and when the server asks', async () => {
    const reasons: string[] = [];
    const { client } = clientWith({ token: async ({ reason }) => (reasons.push(reason), `t${reasons.length}`) });
    client.connect();
    await pass();
    socket().welcome({ expires_at: Date.now() + 10_000 });
    await pass(8_600);
    expect(reasons).toEqual(['initial', 'expiring']);
    expect(socket().last('refresh')).toMatchObject({ token: 't2' });
    socket().receive({ type: 'refreshed', id: socket().last('refresh').id, expires_at: Date.now() + 3_600_000 });
    socket().receive({ type: 'token_expiring', expires_in_ms: 60_000 });
    await pass();
    expect(socket().last('refresh')).toMatchObject({ token: 't3' });
    expect(FakeSocket.all).toHaveLength(1);
  });

  it('ends the client when it is to be renewed and nobody is logged in any more', async () => {
    const { client, told } = clientWith({
      token: async ({ reason }) => {
        if (reason === 'expiring') throw new UnauthorizedError();
        return 't';
      },
    });
    client.connect();
    await pass();
    socket().welcome();
    socket().receive({ type: 'token_expiring', expires_in_ms: 60_000 });
    await pass();
    expect(client.status()).toBe('disconnected');
    expect(told.at(-1)).toMatchObject(['failed', { code: 'unauthorized' }]);
  });

  it('revives a client that was refused, and a logout gives up what was queued', async () => {
    const { client, told } = await connected({ token: 'old' });
    socket().end(4501);
    client.setToken('new');
    await pass();
    socket().welcome();
    expect(socket().last('connect')).toMatchObject({ token: 'new' });
    socket().end();
    const publish = client.publish('run:1', 'note', 1);
    client.setToken(null);
    await expect(publish).rejects.toMatchObject({ code: 'disconnected' });
    expect(client.status()).toBe('disconnected');
    expect(told.map(([name]) => name)).toContain('undeliverable');
  });
});

describe('events', () => {
  it('come once and in order; a hole is asked for, and what is gone is told', async () => {
    const { heard, told } = await listening(at(4));
    socket().receive(event(5), event(5), event(7), event(8));
    expect(heard).toEqual([5]);
    const again = socket().last('subscribe');
    expect(again).toMatchObject({ channels: [{ channel: 'run:1', since: at(5) }] });
    socket().receive({ type: 'subscribed', id: again.id, channels: ['run:1'], positions: { 'run:1': at(5) } });
    socket().receive({ type: 'gap', channel: 'run:1', from: 6, to: 6, reason: 'trimmed' }, event(7), event(8));
    expect(heard).toEqual([5, 7, 8]);
    expect(told.filter(([name]) => name === 'gap')).toEqual([['gap', { channel: 'run:1', from: 6, to: 6, reason: 'expired' }]]);
  });

  it('say what they are', async () => {
    const { client } = await connected();
    const events: ChannelEvent[] = [];
    client.channel('run:1', { last: 1 }).subscribe((event) => events.push(event));
    await pass();
    const { id } = socket().last('subscribe');
    socket().receive({ type: 'subscribed', id, channels: ['run:1'], positions: { 'run:1': at(6) } });
    socket().receive(event(7, { id: 'm-1', user: 'ada', critical: true, tags: { env: 'prod' } }));
    socket().receive({ type: 'replay_end', channel: 'run:1', sequence: 7 }, event(8));
    expect(events).toEqual([
      {
        channel: 'run:1', type: 'note', data: 7, timestamp: 1_700_000_000_000, sequenceNumber: 7, id: 'm-1', userId: 'ada',
        tags: { env: 'prod' }, isCritical: true, replayed: true,
      },
      {
        channel: 'run:1', type: 'note', data: 8, timestamp: 1_700_000_000_000, sequenceNumber: 8, isCritical: false, replayed: false,
      },
    ]);
  });

  it('go on after a reset, which is told as another epoch', async () => {
    const { heard, told } = await listening(at(4));
    socket().receive({ type: 'reset', channel: 'run:1', epoch: 'e2', sequence: 2 }, event(3));
    expect(heard).toEqual([3]);
    expect(told.at(-1)).toMatchObject(['gap', { reason: 'epoch' }]);
    socket().end();
    await pass(1_000);
    socket().open();
    expect(socket().last('connect')).toMatchObject({ subscribe: { channels: [{ since: at(3, 'e2') }] } });
  });

  it('reach everybody although one throws or rejects, and the position moves on (K8)', async () => {
    const { client, heard, told } = await listening(at(0));
    client.channel('run:1').subscribe(({ sequenceNumber }) => {
      if (sequenceNumber === 1) throw new Error('thrown');
      if (sequenceNumber === 2) return Promise.reject(new Error('rejected'));
      return undefined;
    });
    socket().receive(event(1), event(2), event(3));
    await pass();
    expect(heard).toEqual([1, 2, 3]);
    expect(told.filter(([name]) => name === 'error').map(([, error]) => (error as RealtimeError).message)).toEqual([
      'run:1: Error: thrown', 'run:1: Error: rejected',
    ]);
    expect(client.channel('run:1').sequence).toBe(3);
  });

  it('stop at once with the last listener, share one subscription, and can begin anew (K13)', async () => {
    const { client, heard, leave } = await listening(at(0));
    const types: string[] = [];
    const other = client.channel('run:1').on('flag', ({ type }) => types.push(type));
    await pass();
    expect(socket().count('subscribe')).toBe(0);
    socket().receive(event(1), event(2, { event: 'flag' }));
    leave();
    socket().receive(event(3));
    expect(heard).toEqual([1, 2]);
    expect(types).toEqual(['flag']);
    other();
    socket().receive(event(4, { event: 'flag' }));
    await pass();
    expect(types).toEqual(['flag']);
    expect(socket().last('unsubscribe')).toMatchObject({ channels: ['run:1'] });
    expect(client.channel('run:1').state()).toBe('unsubscribed');
    client.channel('run:1', { last: 5 }).subscribe();
    await pass();
    expect(socket().last('subscribe')).toMatchObject({ channels: [{ channel: 'run:1', last: 5 }] });
  });

  it('a listener that leaves within an event is not called for it any more', async () => {
    const { client } = await listening(at(0));
    const heard: string[] = [];
    let leave = (): void => undefined;
    client.channel('run:1').subscribe(() => leave());
    leave = client.channel('run:1').subscribe(() => heard.push('late'));
    socket().receive(event(1));
    expect(heard).toEqual([]);
  });

  it('of a resumed session that nobody wants any more are given back', async () => {
    const { leave } = await listening(at(0));
    socket().end();
    leave();
    await pass(1_000);
    socket().welcome({ resumed: true });
    socket().receive({ type: 'subscribed', channels: ['run:1'], positions: { 'run:1': at(0) } });
    expect(socket().last('unsubscribe')).toMatchObject({ channels: ['run:1'] });
  });

  it('one channel that is refused takes no other with it, and is told', async () => {
    const { client, told } = await connected();
    client.channel('run:1').subscribe();
    client.channel('secret').subscribe();
    await pass();
    const refuse = (id: unknown): void => socket().receive({ type: 'error', id, code: 'forbidden', message: 'Forbidden', retryable: false });
    refuse(socket().last('subscribe').id);
    const alone = socket().sent.filter(({ type }) => type === 'subscribe').slice(1) as unknown as { id: number; channels: { channel: string }[] }[];
    expect(alone.map(({ channels }) => channels.map(({ channel }) => channel))).toEqual([['run:1'], ['secret']]);
    socket().receive({ type: 'subscribed', id: alone[0]?.id, channels: ['run:1'], positions: { 'run:1': at(0) } });
    refuse(alone[1]?.id);
    expect(client.channel('run:1').state()).toBe('subscribed');
    expect(client.channel('secret').state()).toBe('unsubscribed');
    expect(told.at(-1)).toMatchObject(['error', { code: 'forbidden', message: 'secret: Forbidden' }]);
  });

  it('connects although the server cannot read what one channel asks for, and tells that one', async () => {
    const { client, told } = clientWith();
    client.channel('run:1').subscribe();
    client.channel('run:2', { last: -1 }).subscribe();
    await pass();
    socket().open();
    const refuse = (type: string): void =>
      socket().receive({ type: 'error', id: socket().last(type).id, code: 'bad_request', message: 'no', retryable: false });
    refuse('connect');
    expect(socket().last('connect')).not.toHaveProperty('subscribe');
    socket().receive({ type: 'connected', id: socket().last('connect').id, session: 's1', heartbeat_ms: 30_000 });
    expect(client.status()).toBe('connected');
    refuse('subscribe');
    const [one, two] = socket().sent.filter(({ type }) => type === 'subscribe').slice(1);
    socket().receive({ type: 'subscribed', id: one?.id, channels: ['run:1'], positions: { 'run:1': at(0) } });
    socket().receive({ type: 'error', id: two?.id, code: 'bad_request', message: 'no', retryable: false });
    expect(client.channel('run:1').state()).toBe('subscribed');
    expect(told.filter(([name]) => name === 'error')).toMatchObject([['error', { code: 'bad_request', message: 'run:2: no' }]]);
  });

  it('are asked for again when the server could not say just now', async () => {
    const { client } = await connected();
    client.channel('run:1').subscribe();
    await pass();
    const { id } = socket().last('subscribe');
    socket().receive({ type: 'error', id, code: 'store_unavailable', message: 'later', retryable: true, retry_after_ms: 500 });
    await pass(499);
    expect(socket().count('subscribe')).toBe(1);
    await pass(1);
    expect(socket().count('subscribe')).toBe(2);
  });

  it('ephemeral ones need no position, and what was dropped is told', async () => {
    const { heard, told } = await listening();
    socket().receive({ type: 'event', channel: 'run:1', event: 'move', data: 1, timestamp: 1 }, { type: 'dropped', channel: 'run:1', count: 3 });
    expect(heard).toEqual([undefined]);
    expect(told.at(-1)).toEqual(['gap', { channel: 'run:1', from: 1, to: 3, reason: 'overflow' }]);
  });

  it('what cannot be read is told and harms nothing', async () => {
    const { heard, told } = await listening();
    for (const data of ['{', '[]', 'null', '3', '{"type":7}', '{"type":"event","channel":"nobody"}', '{"type":"new_thing","channel":"run:1"}']) {
      socket().onmessage?.(new MessageEvent('message', { data }));
    }
    socket().receive(event(1));
    expect(heard).toEqual([1]);
    expect(told.filter(([name]) => name === 'error')).toMatchObject([['error', { code: 'protocol' }]]);
  });
});

describe('publishing', () => {
  it('is acknowledged, queued while there is no connection, and repeated in order after it', async () => {
    const { client } = await connected();
    const first = client.publish('run:1', 'note', 1, { id: 'a' });
    expect(socket().last('publish')).toEqual({ type: 'publish', id: 'a', channel: 'run:1', event: 'note', data: 1, message_id: 'a' });
    socket().receive({ type: 'ack', id: 'a', channel: 'run:1', sequence: 9, epoch: 'e1', duplicate: false, matched: 1 });
    await expect(first).resolves.toEqual({ id: 'a', sequenceNumber: 9, duplicate: false });
    void client.publish('run:1', 'note', 2, { id: 'b' });
    socket().end();
    void client.publish('run:1', 'note', 3, { id: 'c' });
    expect(client.queuedMessageCount()).toBe(2);
    await pass(1_000);
    socket().welcome();
    expect(socket().sent.filter(({ type }) => type === 'publish').map(({ id }) => id)).toEqual(['b', 'c']);
    expect(client.queuedMessageCount()).toBe(0);
  });

  it('is refused for good by the server, with its code', async () => {
    const { client, told } = await connected();
    const publish = client.publish('run:1', 'note', 1, { id: 'a' });
    socket().receive({ type: 'error', id: 'a', code: 'forbidden', message: 'Forbidden', retryable: false });
    await expect(publish).rejects.toMatchObject({ code: 'forbidden', retryable: false });
    expect(told.at(-1)).toMatchObject(['undeliverable', { message: { id: 'a', channel: 'run:1', data: 1 } }]);
  });

  it('makes a connection that does not answer prove itself, then repeats the same id', async () => {
    const { client } = await connected();
    void client.publish('run:1', 'note', 1, { id: 'a' });
    const pings = socket().count('ping');
    await pass(5_000);
    expect(socket().count('ping')).toBe(pings + 1);
    expect(socket().count('publish')).toBe(1);
    socket().receive({ type: 'pong', id: 'rtt' });
    expect(socket().sent.filter(({ type }) => type === 'publish').map(({ id }) => id)).toEqual(['a', 'a']);
  });

  it('survives a reload where it is kept, also the number of attempts', async () => {
    const kept = new Map<string, string>();
    const storage = { load: () => kept.get('q') ?? null, save: (text: string) => void kept.set('q', text) };
    const { client } = clientWith({ queue: { storage } });
    for (let index = 0; index < 30; index++) void client.publish('run:1', 'note', index);
    await pass();
    const { client: reloaded } = clientWith({ queue: { storage } });
    await pass();
    expect(reloaded.queuedMessageCount()).toBe(30);
    reloaded.connect();
    await pass();
    socket().welcome();
    const sent: unknown[] = [];
    while (sent.length < 30) {
      const fresh = socket().sent.filter(({ type, id }) => type === 'publish' && !sent.includes(id));
      expect(fresh.length).toBeGreaterThan(0);
      for (const message of fresh) {
        expect(message['data']).toBe(sent.length);
        sent.push(message.id);
        socket().receive({ type: 'ack', id: message.id, sequence: sent.length, duplicate: false });
      }
    }
    await pass();
    expect(kept.get('q')).toBe('[]');
  });

  it('goes on in memory where nothing can be kept, and says so', async () => {
    const { client, told } = clientWith({ queue: { storage: { load: () => { throw new Error('forbidden'); }, save: () => { throw new Error('full'); } } } });
    void client.publish('run:1', 'note', 1);
    await pass();
    expect(told.filter(([name]) => name === 'error')).toMatchObject([['error', { code: 'storage' }], ['error', { code: 'storage' }]]);
    socket().welcome();
    expect(socket().count('publish')).toBe(1);
  });

  it('of the volatile kind goes now or never', async () => {
    const { client } = clientWith();
    const channel = client.channel('cursor:1');
    expect(channel.send('move', 1)).toBe(false);
    client.connect();
    await pass();
    socket().welcome();
    expect(channel.send('move', 2)).toBe(true);
    expect(socket().last('publish')).toEqual({ type: 'publish', channel: 'cursor:1', event: 'move', data: 2 });
    socket().bufferedAmount = 100_000;
    expect(channel.send('move', 3)).toBe(false);
    expect(client.queuedMessageCount()).toBe(0);
  });
});

describe('questions', () => {
  it('are answered, asked again after a reconnect, and fail in time', async () => {
    const { client } = await connected();
    const asked = client.channel('run:1').replay({ fromSequence: 5, limit: 2 });
    socket().end();
    await pass(1_000);
    socket().welcome();
    const first = socket().last('get_history');
    expect(first).toMatchObject({ channel: 'run:1', limit: 1 });
    socket().receive({ type: 'history', id: first.id, channel: 'run:1', epoch: 'e1', events: [], has_more: true, next_sequence: 1 });
    await pass();
    const page = socket().last('get_history');
    expect(page).toMatchObject({ since: at(4), limit: 2 });
    socket().receive({ type: 'history', id: page.id, channel: 'run:1', epoch: 'e1', events: [event(5), event(6)], has_more: false });
    await expect(asked).resolves.toMatchObject({
      events: [{ sequenceNumber: 5, replayed: true }, { sequenceNumber: 6 }], nextSequence: 7, hasMore: false, gap: null,
    });
    const never = client.channel('run:1').history();
    const outcome = expect(never).rejects.toMatchObject({ code: 'timeout', retryable: true });
    await pass(10_000);
    await outcome;
  });
});

describe('health', () => {
  it('measures round trips, delivery and what was lost, and calls it by one word', async () => {
    const { client, names } = await connected();
    const seen: ConnectionHealth[] = [];
    client.connectionHealth.subscribe((health) => seen.push(health));
    await pass(40);
    const answer = (): void => socket().receive({ type: 'pong', id: 'rtt', timestamp: socket().last('ping')['timestamp'] });
    answer();
    expect(client.connectionHealth()).toMatchObject({
      status: 'connected', transport: 'websocket', level: 'good', isHealthy: true, latency: 40, latencyP95: 40, messageDeliveryRate: 1,
      reconnectionCount: 0, usingFallback: false, nextRetryAt: null,
    });
    await pass(15_000);
    await pass(150);
    answer();
    expect(client.connectionHealth()).toMatchObject({ level: 'degraded', isHealthy: true, latencyP50: 40 });
    socket().end();
    expect(client.connectionHealth()).toMatchObject({ status: 'reconnecting', level: 'down', isHealthy: false, transport: null });
    expect(client.connectionHealth().nextRetryAt).toBeGreaterThan(Date.now());
    await pass(1_000);
    socket().welcome();
    expect(client.connectionHealth()).toMatchObject({ status: 'connected', reconnectionCount: 1 });
    expect(names()).not.toContain('lost');
    expect(seen.length).toBeGreaterThan(3);
  });

  it('does not change with every message', async () => {
    const { client } = await listening();
    let changes = -1;
    client.connectionHealth.subscribe(() => changes++);
    for (let sequence = 1; sequence <= 50; sequence++) socket().receive(event(sequence));
    expect(changes).toBe(0);
  });

  it('tells users of a loss after five seconds, and that it is over', async () => {
    const { client, told, names } = await connected();
    socket().end();
    await pass(4_900);
    expect(names()).not.toContain('lost');
    await pass(200);
    expect(names()).toContain('lost');
    await pass(60_000);
    (await attempt()).welcome();
    const restored = told.find(([name]) => name === 'restored')?.[1] as { afterMs: number };
    expect(restored.afterMs).toBeGreaterThan(60_000);
    expect(client.status()).toBe('connected');
  });

  it('is reported to the server with every heartbeat', async () => {
    const { heard } = await listening(at(0));
    socket().receive({ type: 'ping', timestamp: 12.5 });
    expect(socket().last('pong')).toMatchObject({ timestamp: 12.5, report: { queued: 0, gaps_healed: 0, visible: true } });
    socket().receive(event(2));
    expect(heard).toEqual([]);
    socket().receive({ type: 'ping', timestamp: 13 });
    expect(socket().last('pong')).toMatchObject({ report: { gaps_healed: 1 } });
    socket().receive({ type: 'ping', timestamp: 14 });
    expect(socket().last('pong')).toMatchObject({ report: { gaps_healed: 0 } });
  });

  it('confirms one event in a hundred when it was handled', async () => {
    await listening(at(98));
    socket().receive(event(99), event(100), event(101));
    expect(socket().sent.filter(({ type }) => type === 'receipt')).toEqual([{ type: 'receipt', channel: 'run:1', sequence: 100 }]);
  });
});
