// `k6/websockets`, by `ws`.
import { WebSocket as Socket } from 'ws';
import { type Vu, vu } from './vu.js';

type Handler = (event?: unknown) => void;

export class WebSocket {
  onopen: Handler | null = null;
  onmessage: Handler | null = null;
  onclose: Handler | null = null;
  onerror: Handler | null = null;
  readonly #socket: Socket;
  readonly #vu: Vu = vu();

  readonly url: string;

  constructor(url: string, _protocols?: null, { headers = {} }: { readonly headers?: Record<string, string> } = {}) {
    this.url = url;
    this.#socket = new Socket(url, { headers });
    const end = this.#vu.begin(() => this.#socket.terminate());
    this.#socket.on('open', () => this.#tell(this.onopen));
    this.#socket.on('message', (data, binary) => this.#tell(this.onmessage, { data: binary ? data : String(data) }));
    this.#socket.on('error', (error) => this.#tell(this.onerror, { error: error.message }));
    this.#socket.on('close', () => {
      this.#tell(this.onclose);
      end();
    });
  }

  get readyState(): number {
    return this.#socket.readyState;
  }

  send(data: string): void {
    this.#socket.send(data);
  }

  close(code?: number): void {
    this.#socket.close(code);
  }

  #tell(handler: Handler | null, event?: unknown): void {
    this.#vu.enter(() => handler?.(event));
  }
}
