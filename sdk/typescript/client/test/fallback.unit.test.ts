import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { polling } from '../src/polling.js';
import { sse } from '../src/sse.js';
import type { ClientOptions } from '../src/types.js';
import { attempt, clientWith, event, FakeSocket, pass, socket } from './fake.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

type Answer = object | number | 'down';

/** A server that is reached over HTTP alone: what was asked, and what it answers. */
function http(answer: (path: string, body: unknown) => Answer) {
  const asked: { path: string; body: unknown; token: string | null }[] = [];
  const fetch = (async (url: string, init?: RequestInit) => {
    const path = url.replace('https://example.test', '');
    const body = typeof init?.body === 'string' ? (JSON.parse(init.body) as unknown) : undefined;
    asked.push({ path, body, token: new Headers(init?.headers).get('authorization') });
    const said = answer(path, body);
    if (said === 'down') throw new TypeError('no network');
    if (typeof said === 'number') {
      return new Response(JSON.stringify({ code: said === 401 ? 'invalid_token' : said < 500 ? 'history_unavailable' : 'overloaded', message: `status ${said}`, retryable: said >= 500 }), {
        status: said, headers: { 'retry-after': '9' },
      });
    }
    return new Response(JSON.stringify(said));
  }) as typeof globalThis.fetch;
  return { asked, fetch, paths: () => asked.map(({ path }) => path) };
}

const page = (sequence: number, events: object[] = [], more: object = {}): object =>
  ({ channel: 'run:1', epoch: 'e1', events, nextSequence: sequence, hasMore: false, retryAfterMs: 2_000, ...more });

/** A client whose WebSocket never opens. */
async function blocked(options: Partial<ClientOptions>) {
  const made = clientWith({ fallback: polling(), token: 't', ...options });
  const heard: (number | undefined)[] = [];
  made.client.channel('run:1').subscribe(({ sequenceNumber }) => heard.push(sequenceNumber));
  const refuse = setInterval(() => {
    if (socket().readyState === 0) socket().end();
  }, 50);
  await pass(4_200);
  return { ...made, heard, heal: () => clearInterval(refuse) };
}

describe('polling', () => {
  it('begins after four seconds without a first connection at the latest, and only when it has worked', async () => {
    let up = false;
    const { asked, fetch } = http(() => (up ? page(7) : 'down'));
    const { client } = await blocked({ fetch });
    expect(asked.length).toBeGreaterThan(0);
    expect(client.status()).toBe('connecting');
    expect(client.usingFallback()).toBe(false);
    up = true;
    await pass(15_000);
    expect(client.status()).toBe('polling');
    expect(client.connectionHealth()).toMatchObject({ transport: 'polling', level: 'degraded', usingFallback: true });
  });

  it('asks every two seconds from where it is, with the token and the session that fell back', async () => {
    let next = 7;
    const { asked, fetch, paths } = http(() => page(next, next > 7 ? [event(next, { previous: 0 })] : []));
    const { client, heard } = await blocked({ fetch });
    expect(client.status()).toBe('polling');
    expect(paths()[0]).toMatch(/^\/api\/channels\/run%3A1\/poll\?fallback=[\w-]{36}&wait=0$/);
    expect(asked[0]?.token).toBe('Bearer t');
    // When polling begins is left to chance, so it may have asked again already.
    const before = asked.length;
    next = 8;
    await pass(2_000);
    expect(paths()[before]).toMatch(/^\/api\/runs\/1\/collaboration\/poll\?fallback=.*&afterSequence=e1:7&wait=0$/);
    expect(heard).toEqual([8]);
    next = 9;
    await pass(2_000);
    expect(paths()[before + 1]).toMatch(/afterSequence=e1:8/);
    expect(heard).toEqual([8, 9]);
    expect(asked).toHaveLength(before + 2);
  });

  it('keeps to a longer interval of the server, and asks at once while there is more', async () => {
    let sequence = 0;
    const { asked, fetch } = http(() => (++sequence < 4 ? page(sequence, [], { hasMore: true, retryAfterMs: 0 }) : page(sequence, [], { retryAfterMs: 10_000 })));
    await blocked({ fetch });
    await pass(10);
    expect(asked).toHaveLength(4);
    await pass(7_000);
    expect(asked).toHaveLength(4);
    await pass(3_000);
    expect(asked).toHaveLength(5);
  });

  it('goes back to WebSocket from where it is, without loss or repetition, and stops', async () => {
    const { asked, fetch } = http((path) => (path.includes('afterSequence') ? page(8, path.includes('e1:7') ? [event(8)] : []) : page(7)));
    const { client, heard, heal } = await blocked({ fetch });
    await pass(2_100);
    expect(heard).toEqual([8]);
    heal();
    (await attempt()).open();
    expect(socket().last('connect')).toMatchObject({ subscribe: { channels: [{ channel: 'run:1', since: { epoch: 'e1', sequence: 8 } }] } });
    // What a poll brings now, the socket will bring as well.
    await pass(2_100);
    socket().welcome({}, { 'run:1': { epoch: 'e1', sequence: 8 } });
    expect(client.status()).toBe('connected');
    socket().receive(event(9));
    expect(heard).toEqual([8, 9]);
    const polls = asked.length;
    await pass(20_000);
    expect(asked).toHaveLength(polls);
  });

  it('tells gaps and new histories as a socket does', async () => {
    let answer = page(7);
    const { fetch } = http(() => answer);
    const { told, heard } = await blocked({ fetch });
    answer = page(12, [event(11), event(12)], { gap: { from: 8, to: 10, reason: 'trimmed' } });
    await pass(2_000);
    expect(heard).toEqual([11, 12]);
    answer = page(2, [], { epoch: 'e2', reset: { epoch: 'e2', sequence: 2 } });
    await pass(2_000);
    expect(told.filter(([name]) => name === 'gap')).toMatchObject([
      ['gap', { from: 8, to: 10, reason: 'expired' }], ['gap', { reason: 'epoch' }],
    ]);
    answer = page(3, [event(3)], { epoch: 'e2' });
    await pass(2_000);
    expect(heard).toEqual([11, 12, 3]);
  });

  it('publishes one after the other, and an answer is an answer', async () => {
    const { asked, fetch } = http((path, body) => {
      if (path !== '/api/publish') return page(7);
      const { id } = body as { id: string };
      return id === 'bad' ? 404 : { channel: 'run:1', epoch: 'e1', sequence: 8, duplicate: false, matched: 0 };
    });
    const { client } = await blocked({ fetch });
    const good = client.publish('run:1', 'note', 1, { id: 'good', tags: { env: 'prod' } });
    const bad = client.publish('run:1', 'note', 2, { id: 'bad' });
    await expect(good).resolves.toEqual({ id: 'good', sequenceNumber: 8, duplicate: false });
    await expect(bad).rejects.toMatchObject({ code: 'history_unavailable' });
    expect(asked.filter(({ path }) => path === '/api/publish').map(({ body }) => body)).toEqual([
      { id: 'good', channel: 'run:1', type: 'note', data: 1, tags: { env: 'prod' } }, { id: 'bad', channel: 'run:1', type: 'note', data: 2 },
    ]);
  });

  it('ends after three failures, and WebSocket is tried at its own pace again', async () => {
    let up = true;
    const { fetch } = http(() => (up ? page(7) : 503));
    const { client } = await blocked({ fetch });
    expect(client.status()).toBe('polling');
    up = false;
    await pass(2_000);
    expect(client.status()).toBe('polling');
    await pass(9_000 + 9_000);
    expect(client.status()).toBe('connecting');
    const attempts = FakeSocket.all.length;
    await pass(21_000);
    expect(FakeSocket.all.length).toBeGreaterThan(attempts + 1);
  });

  it('tells once of a channel that cannot be polled, and reads the others', async () => {
    const { asked, fetch } = http((path) => (path.includes('metrics') ? 404 : page(7)));
    const { client, told } = clientWith({ fallback: polling(), fetch });
    client.channel('run:1').subscribe();
    client.channel('system.metrics').onMessage(() => undefined);
    await pass(50);
    for (let attempt = 0; attempt < 200; attempt++) {
      if (socket().readyState === 0) socket().end();
      await pass(50);
    }
    expect(client.status()).toBe('polling');
    expect(told.filter(([name, detail]) => name === 'error' && (detail as Error).message.startsWith('system.metrics'))).toHaveLength(1);
    expect(asked.filter(({ path }) => path.includes('metrics'))).toHaveLength(1);
  });

  it('reads all critical events first where a subscription begins with them', async () => {
    const { paths, fetch } = http((path) => {
      if (path.includes('only=critical')) return page(5, [event(2, { critical: true }), event(5, { critical: true })], { head: 9 });
      return page(9);
    });
    const { client } = clientWith({ fallback: polling(), fetch });
    const heard: (number | undefined)[] = [];
    client.channel('run:1', { replay: 'critical' }).subscribe(({ sequenceNumber }) => heard.push(sequenceNumber));
    await pass();
    socket().end();
    await pass(6_500);
    expect(heard).toEqual([2, 5]);
    expect(paths()[0]).toContain('&after=0&only=critical');
    expect(paths()[1]).toContain('afterSequence=e1:9');
  });

  it('shows who is there as document 003 says it', async () => {
    const { fetch } = http((path) => (path.includes('collaboration')
      ? page(7, [], { activeUsers: ['ada', 'bob'], cursorPositions: { ada: { line: 3 } } }) : page(7)));
    const { client } = clientWith({ fallback: polling(), fetch });
    const said: unknown[] = [];
    client.channel('run:1', { presence: true }).onMessage((message) => said.push(message['members']));
    await pass();
    socket().end();
    await pass(6_500);
    expect(said[0]).toEqual([{ user: 'ada', sessions: 1, since: 0, cursor: { line: 3 } }, { user: 'bob', sessions: 1, since: 0 }]);
  });
});

describe('event streams', () => {
  it('read a channel from where it is, and go on after an end', async () => {
    const asked: string[] = [];
    let push: (text: string) => void = () => undefined;
    let end: () => void = () => undefined;
    const fetch = (async (url: string) => {
      asked.push(url.replace('https://example.test', ''));
      return new Response(new ReadableStream({
        start(controller) {
          const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
          push = (text) => controller.enqueue(encode(text));
          end = () => controller.close();
          push('retry: 1000\nid: e1:7\nevent: subscribed\ndata: {"type":"subscribed","channels":["run:1"]}\n\n');
        },
      }));
    }) as typeof globalThis.fetch;
    const { client, heard, told } = await blocked({ fetch, fallback: sse() });
    expect(client.connectionHealth().transport).toBe('sse');
    const block = `id: e1:8\nevent: event\ndata: ${JSON.stringify(event(8))}\n\n`;
    push(block.slice(0, 30));
    await pass();
    expect(heard).toEqual([]);
    push(`${block.slice(30)}:\n\nid: e1:9\n:\n\ndata: ${JSON.stringify({ type: 'gap', channel: 'run:1', from: 10, to: 11, reason: 'trimmed' })}\n\n`);
    await pass();
    expect(heard).toEqual([8]);
    expect(told.find(([name]) => name === 'gap')).toMatchObject(['gap', { from: 10, to: 11 }]);
    end();
    await pass(1_600);
    expect(asked).toHaveLength(2);
    expect(asked[1]).toContain('after=e1:11');
    push(`id: e1:12\ndata: ${JSON.stringify(event(12))}\n\n`);
    await pass();
    expect(heard).toEqual([8, 12]);
    push('data: {"type":"close","code":4506,"reason":"revoked"}\n\n');
    await pass(30_000);
    expect(asked).toHaveLength(2);
    client.disconnect();
  });
});
