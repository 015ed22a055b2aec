import { vi } from 'vitest';
import { createClient } from '../src/client.js';
import type { Client, ClientEvents, ClientOptions, ServerMessage } from '../src/types.js';

type Handler<E> = ((event: E) => void) | null;

/** A socket whose server is the test. */
export class FakeSocket {
  /** All that were opened, the newest last. */
  static all: FakeSocket[] = [];
  onopen: Handler<Event> = null;
  onmessage: Handler<MessageEvent<unknown>> = null;
  onclose: Handler<{ code: number; reason: string }> = null;
  binaryType = 'blob';
  readyState = 0;
  bufferedAmount = 0;
  closedWith: number | undefined;
  readonly url: string;
  readonly protocol: string;
  readonly sent: ServerMessage[] = [];

  constructor(url: string, protocol: string) {
    this.url = url;
    this.protocol = protocol;
    FakeSocket.all.push(this);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as ServerMessage);
  }

  close(code?: number): void {
    this.closedWith = code ?? 1005;
    this.readyState = 3;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.(new Event('open'));
  }

  receive(...messages: object[]): void {
    for (const message of messages) this.onmessage?.(new MessageEvent('message', { data: JSON.stringify(message) }));
  }

  end(code = 1006, reason = ''): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** The newest message of a type. */
  last(type: string): ServerMessage {
    const found = this.sent.findLast((message) => message.type === type);
    if (!found) throw new Error(`no ${type} in ${JSON.stringify(this.sent)}`);
    return found;
  }

  count(type: string): number {
    return this.sent.filter((message) => message.type === type).length;
  }

  /** Opens and welcomes, and confirms what `connect` subscribed. */
  welcome(extra: object = {}, positions: Record<string, unknown> = {}): void {
    this.open();
    const { id, subscribe } = this.last('connect') as ServerMessage & { subscribe?: { channels?: { channel: string }[] } };
    this.receive({ type: 'connected', id, session: 's1', resumed: false, heartbeat_ms: 30_000, ...extra });
    const channels = subscribe?.channels?.map(({ channel }) => channel);
    if (channels) this.receive({ type: 'subscribed', id, channels, positions });
  }
}

export const socket = (): FakeSocket => {
  const newest = FakeSocket.all.at(-1);
  if (!newest) throw new Error('no socket was opened');
  return newest;
};

/** Lets so many milliseconds pass, and everything that follows from it. */
export const pass = async (milliseconds = 0): Promise<void> => {
  await vi.advanceTimersByTimeAsync(milliseconds);
};

/** Waits for an attempt to connect that nobody has answered yet. */
export const attempt = async (): Promise<FakeSocket> => {
  for (let waited = 0; socket().readyState !== 0; waited += 50) {
    if (waited > 600_000) throw new Error('no attempt');
    await pass(50);
  }
  return socket();
};

const EVENTS: (keyof ClientEvents)[] = ['status', 'lost', 'restored', 'failed', 'gap', 'overflow', 'undeliverable', 'error'];

/** A client whose sockets are fake, and everything it told. */
export function clientWith(options: Partial<ClientOptions> = {}): { client: Client; told: [keyof ClientEvents, unknown][]; names: () => string[] } {
  FakeSocket.all = [];
  const client = createClient({
    url: 'wss://example.test', WebSocket: FakeSocket as unknown as NonNullable<ClientOptions['WebSocket']>, ...options,
  });
  const told: [keyof ClientEvents, unknown][] = [];
  for (const event of EVENTS) client.on(event, (detail: unknown) => told.push([event, detail]));
  return { client, told, names: () => told.map(([event]) => event) };
}

/** A client that is connected, and its socket. */
export async function connected(options: Partial<ClientOptions> = {}) {
  const made = clientWith(options);
  made.client.connect();
  await pass();
  socket().welcome();
  await pass();
  return made;
}

/** An event of the server. */
export const event = (sequence: number, more: object = {}): object =>
  ({ type: 'event', channel: 'run:1', sequence, event: 'note', data: sequence, timestamp: 1_700_000_000_000, ...more });
