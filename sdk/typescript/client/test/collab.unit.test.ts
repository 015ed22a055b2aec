import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createClient } from '../src/client.js';
import { joinRun } from '../src/collab.js';
import type { ChannelEvent, Client, Json } from '../src/types.js';
import { FakeServer, settle } from './fake-server.js';

type Events = {
  readonly [run: `run:${string}`]: { readonly GRAFT: { readonly node: string }; readonly PRUNE: { readonly node: string } };
};

let server: FakeServer;
let client: Client<Events>;

const members = (...names: string[]): object[] => names.map((user) => ({ user, sessions: 1, since: 1 }));
const event = (sequence: number, type: string, node: string): object =>
  ({ type: 'event', channel: 'run:42', sequence, event: type, data: { node }, timestamp: 1, user: 'bob', critical: true });

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] });
  server = new FakeServer();
  server.answer = ({ type }) => (type === 'subscribe'
    ? { type: 'subscribed', channels: ['run:42'], positions: { 'run:42': { epoch: 'e1', sequence: 0 } } } : undefined);
  client = createClient<Events>({ url: 'ws://localhost/ws', WebSocket: server.WebSocket });
});

afterEach(() => {
  client.disconnect();
  vi.useRealTimers();
});

/** Joins over a connection that is there, so that the answer to the subscription carries a position. */
async function join(options?: Parameters<typeof joinRun>[2]): Promise<ReturnType<typeof joinRun<Events>>> {
  client.connect();
  await settle();
  const run = joinRun(client, '42', options);
  await settle();
  return run;
}

describe('a run', () => {
  it('begins with its critical events and with who is there', async () => {
    const run = await join();
    expect(server.wishes()).toMatchObject([{ channel: 'run:42', replay: 'critical', presence: true }]);
    const heard: [string, boolean][] = [];
    run.on('GRAFT', ({ data, replayed }) => heard.push([data.node, replayed]));
    server.say({ ...event(3, 'GRAFT', 'n1'), previous: 0 });
    server.say({ type: 'replay_end', channel: 'run:42', sequence: 3 });
    server.say(event(4, 'PRUNE', 'n1'));
    server.say(event(5, 'GRAFT', 'n2'));
    expect(heard).toEqual([['n1', true], ['n2', false]]);
  });

  it.each([
    [{ last: 50 }, { last: 50, presence: true }],
    [{ since: { epoch: 'e1', sequence: 7 } }, { since: { epoch: 'e1', sequence: 7 }, presence: true }],
    [{ presence: 'watch' }, { replay: 'critical', presence: 'watch' }],
  ] as const)('can begin otherwise: %j', async (options, wish) => {
    await join(options);
    expect(server.wishes()).toEqual([{ type: 'subscribe', id: expect.any(Number), channel: 'run:42', ...wish }]);
  });

  it('says who is there and where their cursors are, and the same object until that changes', async () => {
    const run = await join();
    const users: (readonly string[])[] = [];
    const cursors: Readonly<Record<string, Json>>[] = [];
    run.activeUsers.subscribe((value) => users.push(value));
    run.cursorPositions.subscribe((value) => cursors.push(value));
    server.say({ type: 'presence', channel: 'run:42', node: 'a', version: 1, members: members('bob', 'ada') });
    server.say({ type: 'presence', channel: 'run:42', node: 'a', version: 2, cursors: { bob: { line: 7 } } });
    expect(users).toEqual([[], ['ada', 'bob'], ['ada', 'bob']]);
    expect(cursors).toStrictEqual([{}, {}, { bob: { line: 7 } }]);
    expect(run.activeUsers()).toBe(run.activeUsers());
    expect(run.cursorPositions()).toBe(run.cursorPositions());
  });

  it('tells where this user is, the newest place at most every 50 ms', async () => {
    const run = await join();
    run.moveCursor({ line: 1 });
    run.moveCursor({ line: 2 });
    await vi.advanceTimersByTimeAsync(0);
    run.moveCursor({ line: 3 });
    run.moveCursor(null);
    await vi.advanceTimersByTimeAsync(49);
    expect(server.all('presence').map(({ cursor }) => cursor)).toEqual([{ line: 2 }]);
    await vi.advanceTimersByTimeAsync(1);
    expect(server.all('presence').map(({ cursor }) => cursor)).toEqual([{ line: 2 }, null]);
  });

  it('publishes to its channel', async () => {
    const run = await join();
    server.answer = ({ type }) => (type === 'publish' ? { type: 'ack', sequence: 9, epoch: 'e1', duplicate: false } : undefined);
    const ack = await run.publish('GRAFT', { node: 'n1' }, { critical: true });
    expect(ack).toMatchObject({ sequenceNumber: 9, duplicate: false });
    expect(server.all('publish')).toMatchObject([{ channel: 'run:42', event: 'GRAFT', data: { node: 'n1' }, critical: true }]);
  });

  it('replays from a sequence on', async () => {
    const run = await join();
    server.answer = ({ type }) => (type === 'get_history' ? { type: 'history', events: [event(5, 'GRAFT', 'n1')], has_more: false } : undefined);
    const page = await run.replay({ fromSequence: 5 });
    expect(page.events.map(({ sequenceNumber }) => sequenceNumber)).toEqual([5]);
    expect(server.all('get_history')).toMatchObject([{ channel: 'run:42', since: { epoch: 'e1', sequence: 4 } }]);
  });

  it('tells nobody anything any more when it was left, and unsubscribes', async () => {
    const run = await join();
    const heard: ChannelEvent<Events, `run:${string}`>[] = [];
    run.subscribe((said) => heard.push(said));
    const off = run.on('GRAFT', (said) => heard.push(said));
    run.on('GRAFT', (said) => heard.push(said));
    off();
    server.say({ type: 'presence', channel: 'run:42', node: 'a', version: 1, members: members('ada') });
    server.say(event(1, 'GRAFT', 'n1'));
    run.leave();
    run.leave();
    await settle();
    server.say(event(2, 'GRAFT', 'n2'));
    expect(heard).toHaveLength(2);
    expect(server.all('unsubscribe')).toMatchObject([{ channels: ['run:42'] }]);
    expect(run.activeUsers()).toEqual([]);
  });
});
