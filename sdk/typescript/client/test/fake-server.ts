import type { ServerMessage, WebSocketConstructor } from '../src/types.js';
import { FakeSocket } from './fake.js';

/** Lets everything happen that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

/** A server that answers by itself: it grants `connect`, `subscribe` and `unsubscribe`, and says what it is told to. */
export class FakeServer {
  readonly sent: ServerMessage[] = [];
  readonly WebSocket: WebSocketConstructor;
  /** Answers a message instead of the usual answer, if it returns one. */
  answer: (message: ServerMessage) => ServerMessage | undefined = () => undefined;
  #socket: FakeSocket | undefined;

  constructor() {
    const server = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url: string, protocol: string) {
        super(url, protocol);
        server.#socket = this;
        queueMicrotask(() => this.open());
      }

      override send(text: string): void {
        super.send(text);
        const message = this.sent.at(-1);
        // As on a network: the answer does not come while the question is being asked.
        if (message) queueMicrotask(() => server.#hear(message));
      }
    } as unknown as WebSocketConstructor;
  }

  /** Everything of one type that was sent. */
  all(type: string): ServerMessage[] {
    return this.sent.filter((message) => message['type'] === type);
  }

  /** The channels that were asked for by `subscribe` and within `connect`, oldest first, with what holds for them. */
  wishes(): ServerMessage[] {
    return this.sent.flatMap((message) => {
      const wish = message['type'] === 'subscribe' ? message : message['subscribe'];
      if (typeof wish !== 'object' || wish === null || !('channels' in wish) || !Array.isArray(wish.channels)) return [];
      const { channels, ...rest } = wish;
      return channels.map((channel: object) => ({ ...rest, ...channel }));
    });
  }

  say(message: object): void {
    this.#socket?.receive(message);
  }

  frame(data: ArrayBuffer): void {
    this.#socket?.onmessage?.(new MessageEvent('message', { data }));
  }

  /** The connection breaks. */
  cut(): void {
    this.#socket?.end();
  }

  #hear(message: ServerMessage): void {
    this.sent.push(message);
    const { type, id } = message;
    const answer = this.answer(message);
    if (answer) this.say({ ...answer, id });
    else if (type === 'connect') {
      this.say({ type: 'connected', id, session: 's1', resumed: false, user: 'ada', heartbeat_ms: 30_000 });
      if (message['subscribe']) this.say({ type: 'subscribed', id, channels: [], positions: {} });
    } else if (type === 'subscribe') this.say({ type: 'subscribed', id, channels: [], positions: {} });
    else if (type === 'unsubscribe') this.say({ type: 'unsubscribed', id, channels: message['channels'] });
  }
}
