import type { Codec } from '../src/codec.js';
import { json } from '../src/codec.js';
import type { ServerMessage, WebSocketConstructor } from '../src/types.js';

/** What a client sent. */
export type Sent = Record<string, unknown>;

/** Lets everything happen that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

/** A server for unit tests: remembers what a client sends, says what it is told to. `connect` and `subscribe` are granted. */
export class FakeServer {
  readonly sent: Sent[] = [];
  readonly WebSocket: WebSocketConstructor;
  /** Answers a message instead of the usual answer, if it returns one. */
  answer: (message: Sent) => ServerMessage | undefined = () => undefined;
  #socket: FakeSocket | undefined;

  constructor(codec: Codec = json) {
    const server = this;
    // A class that is made by `new` with the two members that a client uses; the rest of WebSocket is of no interest here.
    this.WebSocket = class extends FakeSocket {
      constructor() {
        super((message) => server.#hear(message), codec);
        server.#socket = this;
      }
    } as unknown as WebSocketConstructor;
  }

  /** Everything of one type that was sent. */
  all(type: string): Sent[] {
    return this.sent.filter((message) => message['type'] === type);
  }

  /** The channels that were asked for by `subscribe` and within `connect`, oldest first, with what holds for them. */
  wishes(): Sent[] {
    return this.sent.flatMap((message) => {
      const wish = message['type'] === 'subscribe' ? message : message['subscribe'];
      if (typeof wish !== 'object' || wish === null || !('channels' in wish) || !Array.isArray(wish.channels)) return [];
      const { channels, ...rest } = wish;
      return channels.map((channel: object) => ({ ...rest, ...channel }));
    });
  }

  say(message: object): void {
    this.#socket?.onmessage?.({ data: JSON.stringify(message) });
  }

  frame(data: ArrayBuffer): void {
    this.#socket?.onmessage?.({ data });
  }

  /** The connection breaks. */
  cut(code = 1006): void {
    this.#socket?.onclose?.({ code, reason: '' });
  }

  #hear(message: Sent): void {
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

class FakeSocket {
  readonly bufferedAmount = 0;
  readyState = 0;
  binaryType = '';
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string | ArrayBuffer }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly #heard: (message: Sent) => void;
  readonly #codec: Codec;

  constructor(heard: (message: Sent) => void, codec: Codec) {
    this.#heard = heard;
    this.#codec = codec;
    queueMicrotask(() => {
      this.readyState = 1;
      this.onopen?.();
    });
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    const message = this.#codec.decode(typeof data === 'string' ? data : data.buffer);
    // As on a network: the answer does not come while the question is being asked.
    queueMicrotask(() => this.#heard(message as Sent));
  }

  close(): void {
    this.readyState = 3;
  }
}
