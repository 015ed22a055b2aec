import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RealtimeError } from '../src/error.js';
import type { Unsubscribe } from '../src/readable.js';
import type { ChannelEvent, ChannelOptions, Json, ServerMessage } from '../src/types.js';
import { clientWith, type FakeSocket, pass, socket } from './fake.js';

/**
 * The conversations of `crates/protocol/tests/golden`, with this client in its part: what the client sends has the shape of the transcript,
 * and what the server says reaches whom it concerns.
 */
const folder = new URL('../../../../crates/protocol/tests/golden/', import.meta.url);

/** What a placeholder stands for; those with a number of their own stand for the same everywhere. */
const PLACEHOLDERS: Readonly<Record<string, Json>> = {
  time: 1_699_459_200, ms: 1_800_000_000_000, iso: '2027-01-15T08:00:00Z', session: 's1', session1: 's1', epoch: 'e1', epoch1: 'e1', number: 1.5,
  whole: 4_200, token: 'token', ticket: 'ticket', help: 'Do this.', message: 'What happened',
};
/** What answers a request, and so has its id. */
const ANSWERS = ['subscribed', 'unsubscribed', 'history', 'refreshed', 'ack', 'error', 'pong'];
/** The `type` of metric data: that of its series, or none. */
const SERIES: readonly unknown[] = ['gauge', 'counter', 'histogram', undefined];
/** What is answered by nothing. */
const UNANSWERED = ['pong', 'receipt', 'presence'];
/** Whose members may stand in `data` (R21). */
const NESTED = ['connect', 'refresh', 'subscribe', 'unsubscribe', 'get_history', 'ping', 'pong', 'receipt', 'presence'];

type Message = Record<string, unknown>;

const isMessage = (value: unknown): value is Message => typeof value === 'object' && value !== null && !Array.isArray(value);

function parse(text: string): Message {
  const value: unknown = JSON.parse(text, (_, value: unknown) => {
    const name = typeof value === 'string' ? /^<(\w+)>$/.exec(value)?.[1] : undefined;
    if (name !== undefined && PLACEHOLDERS[name] === undefined) throw new Error(`nobody knows <${name}>`);
    return name === undefined ? value : PLACEHOLDERS[name];
  });
  if (!isMessage(value)) throw new Error(`not an object: ${text}`);
  return value;
}

/** The one way to say something of the several that the protocol allows, without what every client chooses for itself. */
function plain({ id: _, heartbeat: __, report: ___, ...message }: Message, like: Message = message): Message {
  const { data, ...rest } = message;
  const flat: Message = NESTED.includes(String(message['type'])) && isMessage(data) ? { ...rest, ...data } : message;
  const { channels, subscribe, message_id, ...same } = flat;
  return {
    ...same,
    ...(same['type'] === 'publish' && same['event'] !== undefined && { data: same['data'] ?? null }),
    ...(Array.isArray(channels) && { channels: channels.map((one: unknown) => (typeof one === 'string' ? { channel: one } : one)) }),
    ...(subscribe !== undefined && { subscribe: plain(isMessage(subscribe) ? subscribe : { channels: subscribe }) }),
    ...(like['message_id'] !== undefined && { message_id }),
  };
}

interface Listening {
  readonly events: ChannelEvent[];
  readonly messages: ServerMessage[];
  readonly leave: Unsubscribe;
}

/** A client in a transcript. */
class Replay {
  readonly #options: Parameters<typeof clientWith>[0];
  #made: ReturnType<typeof clientWith> | null = null;
  #socket: FakeSocket | null = null;
  readonly #listening = new Map<string, Listening>();
  /** The ids of this client for those of the transcript, and those whose request has none there. */
  readonly #ids = new Map<string, unknown>();
  readonly #nameless: unknown[] = [];
  readonly #claimed = new Set<ServerMessage>();
  /** What became of requests, by this client's ids. */
  readonly #outcomes = new Map<unknown, unknown>();
  readonly requests: string[] = [];

  constructor(options: Parameters<typeof clientWith>[0]) {
    this.#options = options;
  }

  get client() {
    if (!this.#made) throw new Error('nobody has connected');
    return this.#made.client;
  }

  get errors(): number {
    return (this.#made?.names() ?? []).filter((name) => name === 'error').length;
  }

  /** Listens to what the transcript's client is subscribed to without having said so here. */
  listen(channel: string, options: ChannelOptions = {}): void {
    const events: ChannelEvent[] = [];
    const messages: ServerMessage[] = [];
    const on = this.client.channel(channel, options);
    const leave = [on.subscribe((event) => void events.push(event)), on.onMessage((message) => void messages.push(message))];
    this.#listening.set(channel, { events, messages, leave: () => leave.forEach((run) => run()) });
  }

  /** `@ open`: with a token in the address the client has connected already, and this client does it in its own way. */
  async open(url: string): Promise<void> {
    if (!url.includes('token=')) return;
    await this.#begin();
    this.#socket?.welcome({ user: 'ada' });
    await pass();
  }

  async #begin(): Promise<void> {
    this.#made ??= clientWith({ token: async () => 'token', ...this.#options });
    this.client.connect();
    // A client that lost its connection waits before it comes back.
    await pass(1_000);
    this.#socket = socket();
  }

  async end(code: number): Promise<void> {
    this.#socket?.end(code);
    await pass();
  }

  /** `>`: what the transcript's client says, this client says too. False if it never would. */
  async say(line: Message): Promise<boolean> {
    if (line['type'] === 'connect') {
      const { subscribe } = plain(line);
      if (line['session'] !== undefined && subscribe === undefined) return false;
      const first = this.#made === null;
      if (first) {
        this.#made = clientWith({ token: async () => 'token', ...this.#options });
        if (isMessage(subscribe)) this.#subscribe(subscribe);
      }
      await this.#begin();
      this.#socket?.open();
    } else {
      // Before `connect` this client says nothing, and never something without a type.
      if (!this.#made || line['type'] === undefined) {
        this.#ids.set(JSON.stringify(line['id']), null);
        return true;
      }
      // It answers, confirms and renews by itself.
      const byItself = line['type'] === 'pong' || line['type'] === 'receipt' || line['token'] === 'token';
      if (!byItself && !this.#find(line)) this.#act(line);
    }
    await pass(60);
    const sent = this.#find(line);
    if (!sent) throw new Error(`it did not say ${JSON.stringify(line)}\nbut ${JSON.stringify(this.#socket?.sent)}`);
    this.#claimed.add(sent);
    this.requests.push(String(line['type']));
    expect(plain(sent, line)).toEqual(plain(line));
    if (line['id'] !== undefined) this.#ids.set(JSON.stringify(line['id']), sent.id);
    else if (!UNANSWERED.includes(String(line['type']))) this.#nameless.push(sent.id);
    return true;
  }

  #find(line: Message): ServerMessage | undefined {
    return this.#socket?.sent.find((sent) => !this.#claimed.has(sent) && sent.type === line['type'] && sent.id !== 'rtt'
      && JSON.stringify(plain(sent, line)['channel']) === JSON.stringify(plain(line)['channel']));
  }

  #subscribe(wish: Message): void {
    const { channels, type: _, ...all } = plain(wish);
    for (const one of Array.isArray(channels) ? channels : []) {
      if (!isMessage(one)) continue;
      const { channel, ...each } = one;
      this.listen(String(channel), { ...all, ...each });
    }
  }

  #act(line: Message): void {
    const { type, channels, channel, event, data, message_id: id, ...rest } = plain(line, line);
    const listens = names(channels).some((name) => this.#listening.has(name));
    if (type === 'subscribe' && Array.isArray(channels) && !listens) return this.#subscribe(line);
    if (type === 'unsubscribe' && listens) {
      for (const name of names(channels)) {
        this.#listening.get(name)?.leave();
        this.#listening.delete(name);
      }
      return;
    }
    const { id: _, ...own } = line;
    const made = type === 'publish' && typeof channel === 'string'
      ? this.client.publish(channel, String(event), data as Json, { ...rest, ...(typeof id === 'string' && { id }) })
      : this.client.request({ ...own, type: String(own['type'] ?? '') });
    const key = typeof id === 'string' ? id : undefined;
    // A request is the newest that was sent; one that is published keeps its own id.
    const sent = key ?? this.#socket?.sent.at(-1)?.id;
    this.#outcomes.delete(sent);
    made.then((answer) => this.#outcomes.set(sent, answer), (error: unknown) => this.#outcomes.set(sent, error));
  }

  /** `<`: the server says something, and whoever is concerned hears it. */
  async hear(line: Message): Promise<void> {
    if (!this.#made) return;
    const type = SERIES.includes(line['type']) ? 'metric' : String(line['type']);
    const named = line['id'] !== undefined && type !== 'event';
    const id = named ? this.#ids.get(JSON.stringify(line['id'])) : ANSWERS.includes(type) ? this.#nameless.shift() : undefined;
    if (id === null) return;
    if (named && id === undefined) throw new Error(`nobody asked for ${JSON.stringify(line)}`);
    const before = this.errors;
    this.#socket?.receive({ ...line, ...(id !== undefined && { id }) });
    await pass();

    const outcome = this.#outcomes.get(id);
    if (type === 'error') {
      const told = this.errors - before;
      if (told === 1) expect(this.#made.told.at(-1)?.[1]).toMatchObject({ code: line['code'] });
      else expect(outcome).toMatchObject({ code: line['code'], retryable: line['retryable'] });
      expect(outcome instanceof RealtimeError ? 1 : told).toBe(1);
      return;
    }
    expect(this.errors, `an error because of ${JSON.stringify(line)}`).toBe(before);
    if (outcome !== undefined) expect(outcome).not.toBeInstanceOf(Error);
    const there = this.#listening.get(String(line['channel']));
    switch (type) {
      case 'event':
        return expect(there?.events.at(-1)).toMatchObject({
          type: line['event'], data: line['data'], channel: line['channel'], isCritical: line['critical'] === true,
          ...(line['sequence'] !== undefined && { sequenceNumber: line['sequence'] }),
          ...(line['id'] !== undefined && { id: line['id'] }), ...(line['user'] !== undefined && { userId: line['user'] }),
        });
      case 'ack':
        expect(outcome).toMatchObject(line['results'] || line['data'] ? { ...line, id } : {
          id, sequenceNumber: line['sequence'] ?? null, duplicate: line['duplicate'],
        });
        return;
      case 'history':
      case 'refreshed':
        return;
      case 'presence':
        if (id !== undefined) return expect(outcome).toMatchObject({ members: line['members'] });
        return expect(there?.messages.at(-1)).toMatchObject(line);
      case 'state':
      case 'dropped':
      case 'metric':
        return expect(there?.messages.at(-1)).toMatchObject(line);
      case 'gap':
      case 'reset':
        return expect(this.#made.told.at(-1)).toMatchObject(['gap', { channel: line['channel'], reason: type === 'gap' ? 'expired' : 'epoch' }]);
      case 'pos':
      case 'replay_end':
        return expect(this.client.channel(String(line['channel'])).sequence).toBe(line['sequence']);
      case 'subscribed':
        for (const name of names(line['channels'])) expect(this.client.channel(name).state()).toBe('subscribed');
        return;
      case 'connected':
        return expect([this.client.status(), this.client.id]).toEqual(['connected', line['session']]);
      case 'reconnect':
      case 'welcome':
      case 'unsubscribed':
      case 'ping':
      case 'pong':
      case 'token_expiring':
        return;
      default:
        throw new Error(`a message of a new type: ${JSON.stringify(line)}`);
    }
  }

  /** What this client said and the transcript's did not: it measures and confirms as it likes. */
  strays(): unknown[] {
    const own = (this.#socket?.sent ?? []).filter((sent) => !this.#claimed.has(sent));
    return own.filter(({ type, id }) => !(type === 'ping' && id === 'rtt') && type !== 'receipt' && type !== 'connect');
  }
}

const names = (channels: unknown): string[] =>
  (Array.isArray(channels) ? channels : []).map((one: unknown) => String(isMessage(one) ? one['channel'] : one));

/** What the transcripts' clients are subscribed to before they begin. */
const BEFORE: Readonly<Record<string, readonly string[]>> = { 'notices.jsonl': ['upstream:1', 'system.metrics', 'run:1'] };

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('golden transcripts', () => {
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.jsonl'))) {
    it(file, async () => {
      const replay = new Replay(file === 'resume.jsonl' ? { receiptEvery: 3 } : {});
      let lines = 0;
      for (const line of readFileSync(new URL(file, folder), 'utf8').split('\n')) {
        const rest = line.slice(2);
        if (line.startsWith('@ open')) {
          await replay.open(rest);
          for (const channel of BEFORE[file] ?? []) await granted(replay, channel);
        } else if (line.startsWith('@')) await replay.end(line.startsWith('@ close') ? Number(line.split(' ')[2]) : 1006);
        else if (line.startsWith('> ') && !(await replay.say(parse(rest)))) break;
        else if (line.startsWith('< ')) {
          await replay.hear(parse(rest));
          lines++;
        }
      }
      expect(lines).toBeGreaterThan(1);
      expect(replay.strays()).toEqual([]);
      if (file === 'lifecycle.jsonl') {
        expect(replay.client.connectionHealth()).toMatchObject({ status: 'reconnecting', nextRetryAt: expect.closeTo(Date.now() + 4_200, -2) });
      }
    });
  }
});

/** Subscribes to a channel in peace. */
async function granted(replay: Replay, channel: string): Promise<void> {
  replay.listen(channel);
  await pass();
  await replay.say({ type: 'subscribe', channels: [channel] });
  await replay.hear({ type: 'subscribed', channels: [channel], positions: channel.startsWith('run:') ? { [channel]: { epoch: 'e1', sequence: 5 } } : {} });
}
