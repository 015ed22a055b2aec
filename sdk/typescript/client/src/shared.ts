import type { ServerMessage, WebSocketConstructor } from './types.js';
import { uuid } from './outbox.js';

/** What tabs say to each other. `socket` is one of a tab that has nothing of its own, `tab` whom it belongs to. */
type Note =
  | { readonly kind: 'leader' }
  | { readonly kind: 'open'; readonly socket: string; readonly tab: string; readonly url: string; readonly protocol: string }
  | { readonly kind: 'opened'; readonly socket: string }
  | { readonly kind: 'send'; readonly socket: string; readonly text: string }
  /** For one socket, or for all. */
  | { readonly kind: 'frame'; readonly socket: string | null; readonly text: string }
  | { readonly kind: 'close'; readonly socket: string; readonly code: number | undefined }
  | { readonly kind: 'closed'; readonly code: number };

/** How a socket of a tab hears. */
type Hear = (note: Note) => void;

/**
 * One connection for all tabs of an origin: `createClient({ WebSocket: sharedSocket() })`. The tab that holds a Web Lock has the
 * socket; the others reach it through a BroadcastChannel, and when it goes, the next one opens a new socket and every client
 * resumes from where it is. All tabs must be of the same user and use JSON; they share the limits of one connection.
 */
export function sharedSocket(name = 'pulsewire'): WebSocketConstructor {
  const tab = uuid(Date.now());
  const air = new BroadcastChannel(name);
  const mine = new Map<string, Hear>();
  let lead: Hear | undefined;

  const hear: Hear = (note) => {
    lead?.(note);
    if ('socket' in note && note.socket !== null) mine.get(note.socket)?.(note);
    else for (const socket of [...mine.values()]) socket(note);
  };
  const say: Hear = (note) => {
    air.postMessage(note);
    // What a tab says, it does not hear over the air.
    queueMicrotask(() => hear(note));
  };
  air.onmessage = ({ data }: MessageEvent<Note>) => hear(data);

  // Held until the tab is gone: so the leader knows who is left, and the next leader that it is its turn.
  const hold = (lock: string, then: () => void): void => {
    void navigator.locks.request(lock, () => (then(), new Promise(() => undefined)));
  };
  const alive = new Promise<void>((resolve) => hold(`${name} ${tab}`, resolve));
  hold(name, () => {
    lead = leader(say, (other, gone) => {
      if (other !== tab) void navigator.locks.request(`${name} ${other}`, gone);
    }, (socket) => mine.has(socket));
    say({ kind: 'leader' });
  });

  class SharedSocket {
    onopen: ((event: Event) => void) | null = null;
    onmessage: ((event: MessageEvent<string>) => void) | null = null;
    onclose: ((event: { code: number; reason: string }) => void) | null = null;
    binaryType = 'blob';
    readyState = 0;
    readonly bufferedAmount = 0;
    readonly #socket = uuid(Date.now());

    constructor(url: string, protocol: string) {
      // The leader takes a tab without its lock for gone.
      const open = (): void => void alive.then(() => {
        if (this.readyState === 0) say({ kind: 'open', socket: this.#socket, tab, url, protocol });
      });
      mine.set(this.#socket, (note) => {
        if (note.kind === 'opened') {
          this.readyState = 1;
          this.onopen?.(new Event('open'));
        } else if (note.kind === 'frame' && this.readyState === 1) {
          this.onmessage?.(new MessageEvent('message', { data: note.text }));
        } else if (note.kind === 'closed' || (note.kind === 'leader' && this.readyState === 1)) {
          this.#end(note.kind === 'closed' ? note.code : 1001);
        } else if (note.kind === 'leader') open();
      });
      open();
    }

    send(text: string): void {
      say({ kind: 'send', socket: this.#socket, text });
    }

    close(code?: number): void {
      say({ kind: 'close', socket: this.#socket, code });
      this.#end(code ?? 1005);
    }

    #end(code: number): void {
      if (!mine.delete(this.#socket)) return;
      this.readyState = 3;
      this.onclose?.({ code, reason: '' });
    }
  }
  return SharedSocket as unknown as WebSocketConstructor;
}

/** Speaks with the server for all tabs. */
function leader(say: Hear, watch: (tab: string, gone: () => void) => void, isOwn: (socket: string) => boolean): Hear {
  /** The sockets of all tabs with the channels that they want. */
  const members = new Map<string, Set<string>>();
  let real: WebSocket | undefined;
  /** The first `connect` is everybody's; the others wait for its answer. */
  let greeted = false;
  let welcome: ServerMessage | undefined;
  let waiting: [string, ServerMessage][] = [];

  const frame = (socket: string | null, message: ServerMessage): void => say({ kind: 'frame', socket, text: JSON.stringify(message) });

  /** Passes a request on; the answer finds its way back by the id. */
  const forward = (socket: string, message: ServerMessage): void => {
    const id = message.id === undefined ? undefined : `${socket} ${JSON.stringify(message.id)}`;
    real?.send(JSON.stringify({ ...message, id }));
  };

  const join = (socket: string, { id, subscribe }: ServerMessage): void => {
    frame(socket, { ...welcome, id: id ?? 0 });
    if (subscribe) request(socket, { ...(subscribe as object), type: 'subscribe', id: id ?? 0 });
  };

  function request(socket: string, message: ServerMessage): void {
    const wanted = members.get(socket);
    if (!wanted) return;
    const { type, id } = message;
    const names = ((message['channels'] ?? []) as (string | { channel: string })[])
      .map((channel) => (typeof channel === 'string' ? channel : channel.channel));
    if (type === 'connect') {
      if (welcome) return join(socket, message);
      if (greeted) return void waiting.push([socket, message]);
      greeted = true;
      const { channels = [] } = (message['subscribe'] ?? {}) as { channels?: { channel: string }[] };
      for (const { channel } of channels) wanted.add(channel);
    } else if (type === 'subscribe') for (const channel of names) wanted.add(channel);
    else if (type === 'unsubscribe') {
      for (const channel of names) wanted.delete(channel);
      if (id !== undefined) frame(socket, { type: 'unsubscribed', id, channels: names });
      return leave(names);
    } else if (type === 'pong' && !isOwn(socket)) return;
    forward(socket, message);
  }

  /** Unsubscribes from what no tab wants any more. */
  function leave(names: Iterable<string>): void {
    const channels = [...names].filter((name) => ![...members.values()].some((wanted) => wanted.has(name)));
    if (channels.length > 0 && real?.readyState === 1) real.send(JSON.stringify({ type: 'unsubscribe', channels }));
  }

  function part(socket: string, code = 4000): void {
    const wanted = members.get(socket);
    if (!members.delete(socket) || !wanted) return;
    if (members.size > 0) return leave(wanted);
    real?.close(code);
    forget();
  }

  function forget(): void {
    if (real) real.onopen = real.onmessage = real.onclose = null;
    real = welcome = undefined;
    greeted = false;
    waiting = [];
  }

  function open(url: string, protocol: string): void {
    real = new WebSocket(url, protocol);
    real.onopen = () => {
      for (const socket of members.keys()) say({ kind: 'opened', socket });
    };
    real.onclose = ({ code }) => {
      forget();
      members.clear();
      say({ kind: 'closed', code });
    };
    real.onmessage = ({ data }: MessageEvent<string>) => {
      const message = JSON.parse(data) as ServerMessage;
      // The id of an event is its publisher's.
      const [, socket, id] = (message.type !== 'event' && /^(\S+) (.+)$/.exec(String(message.id))) || [];
      if (socket === undefined || id === undefined) return frame(null, message);
      frame(socket, { ...message, id: JSON.parse(id) as string });
      if (message.type === 'connected') {
        welcome = message;
        for (const [other, greeting] of waiting.splice(0)) join(other, greeting);
      }
    };
  }

  return (note) => {
    if (note.kind === 'open') {
      members.set(note.socket, new Set());
      watch(note.tab, () => part(note.socket));
      if (!real) open(note.url, note.protocol);
      else if (real.readyState === 1) say({ kind: 'opened', socket: note.socket });
    } else if (note.kind === 'send') request(note.socket, JSON.parse(note.text) as ServerMessage);
    else if (note.kind === 'close') part(note.socket, note.code);
  };
}
