import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { type WebSocket, WebSocketServer } from 'ws';
import { applications } from './apps.js';
import { connectionDetail, type World, world as makeWorld } from './world.js';

/** How the made-up server is. */
export interface FixtureOptions {
  readonly port?: number;
  /** Connections that there are. Default 240. */
  readonly connections?: number;
  /** Nobody, nothing: a server that has just started. */
  readonly empty?: boolean;
  /** All alert states. Default: one critical alert and one warning. */
  readonly quiet?: boolean;
  /** Milliseconds between updates of watches. Default 1,000. */
  readonly everyMs?: number;
}

/** The built page behind a server that makes everything up, so that states can be seen which are hard to make. */
export interface Fixture {
  readonly origin: string;
  readonly world: World;
  /** What was asked of `/api/admin` with POST. */
  readonly acts: { readonly path: string; readonly body: unknown }[];
  /** Moves the world on and tells all watches, now. */
  tick(): void;
  /** Which channels are listened to now. */
  watched(): readonly string[];
  /** Which channels of applications are. */
  heard(): readonly string[];
  /** How one of them was asked for last. */
  asked(channel: string): Record<string, unknown> | undefined;
  /** Closes all WebSockets, and refuses new ones until told otherwise. */
  cut(refuse: boolean): void;
  /** Closes all WebSockets with a code. */
  end(code: number): void;
  /** Watches of channels that begin so are answered with an error from now on; empty: none is. */
  refuse(channels: string): void;
  /** Changes get lost: all watches are a revision further than was told. */
  lose(): void;
  close(): Promise<void>;
}

/** A token that this server accepts; nobody has signed it. */
export function token(role: 'viewer' | 'operator' | 'admin'): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'HS256' })}.${part({ sub: 'ada', role, exp: Math.floor(Date.now() / 1000) + 36_000 })}.unsigned`;
}

const TYPES: Readonly<Record<string, string>> = { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' };
const dist = fileURLToPath(new URL('../dist/', import.meta.url));

interface Watcher {
  readonly socket: WebSocket;
  readonly channel: string;
  revision: number;
  /** The rows as they were last told, as JSON by id, and how many changes ago the last page was. */
  told: Map<unknown, Record<string, unknown>>;
  age: number;
}

export async function startFixture(options: FixtureOptions = {}): Promise<Fixture> {
  const world = makeWorld(options);
  const acts: { path: string; body: unknown }[] = [];
  const watchers = new Set<Watcher>();
  const apps = applications();
  let refusing = false;
  let refused = '';

  const server = createServer((request, response) => {
    void answer(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://fixture');
    if (!url.pathname.startsWith('/api/')) return file(url.pathname, response);
    const role = roleOf(request.headers.authorization?.replace('Bearer ', ''));
    if (role === null) return problem(response, 401, 'invalid_token', 'token is not valid: its signature does not match', 'Ask for another token.');
    if (!['viewer', 'operator', 'admin'].includes(role)) return problem(response, 403, 'wrong_credential', 'this needs the role viewer, operator or admin', 'Make a token with --role viewer.');
    const past = apps.get(url.pathname, url.searchParams);
    if (past) return send(response, 200, past);
    const path = url.pathname.replace('/api/admin/', '');
    if (request.method === 'POST') {
      const body: unknown = JSON.parse(await text(request));
      acts.push({ path, body });
      if (role === 'viewer') return problem(response, 403, 'wrong_credential', 'this needs the role operator or admin');
      return send(response, 200, world.act(path, body as Record<string, unknown>));
    }
    const found = world.get(path, url.searchParams);
    if (found === null) return problem(response, 404, 'not_found', 'there is no such thing');
    if (found instanceof Error) return problem(response, 400, 'bad_request', found.message);
    send(response, 200, found);
  }

  const sockets = new WebSocketServer({ noServer: true, handleProtocols: (protocols) => [...protocols][0] ?? false });
  server.on('upgrade', (request, socket, head) => {
    if (refusing) socket.destroy();
    else sockets.handleUpgrade(request, socket, head, converse);
  });

  function converse(socket: WebSocket): void {
    const say = (message: object): void => socket.send(JSON.stringify(message));
    socket.on('message', (data) => {
      const message = JSON.parse(String(data)) as Record<string, unknown>;
      const { type, id } = message;
      if (type === 'connect') {
        if (roleOf(String(message['token'])) === null) {
          say({ type: 'error', id, code: 'invalid_token', message: 'token is not valid' });
          return socket.close(4501, 'invalid token');
        }
        say({ type: 'connected', id, session: '01JDASHBOARD', resumed: false, user: 'ada', expires_at: Date.now() + 3_600_000, heartbeat_ms: 30_000 });
        const wish = message['subscribe'];
        if (wish) subscribe(socket, Array.isArray(wish) ? wish : (wish as { channels: unknown[] }).channels, id, Array.isArray(wish) ? {} : wish as Record<string, unknown>);
      } else if (type === 'subscribe') subscribe(socket, message['channels'] as unknown[], id, message);
      else if (type === 'unsubscribe') {
        const channels = message['channels'] as string[];
        for (const watcher of watchers) if (watcher.socket === socket && channels.includes(watcher.channel)) watchers.delete(watcher);
        apps.leave(socket, channels);
        say({ type: 'unsubscribed', id, channels });
      } else if (type === 'ping') say({ type: 'pong', id });
      else apps.hear(socket, message);
    });
    socket.on('close', () => {
      apps.leave(socket);
      for (const watcher of watchers) if (watcher.socket === socket) watchers.delete(watcher);
    });
  }

  function subscribe(socket: WebSocket, wishes: readonly unknown[], id: unknown, request: Record<string, unknown>): void {
    const channels = wishes.map((wish) => (typeof wish === 'string' ? wish : String((wish as { channel: unknown }).channel)));
    for (const channel of channels.filter((name) => name.startsWith('$sys.'))) watchers.add({ socket, channel, revision: 0, told: new Map(), age: Infinity });
    socket.send(JSON.stringify({ type: 'subscribed', id, channels }));
    wishes.forEach((wish, index) => !channels[index]?.startsWith('$sys.') && apps.subscribe(socket, wish, request));
  }

  function tell(watcher: Watcher, type: string, data: unknown): void {
    watcher.socket.send(JSON.stringify({ type: 'event', channel: watcher.channel, event: type, data, timestamp: Date.now() }));
  }

  function update(watcher: Watcher): void {
    if (refused && watcher.channel.startsWith(refused)) return tell(watcher, 'error', { code: 'limit_exceeded', message: 'too many watches' });
    const [name = '', text = ''] = watcher.channel.replace('$sys.', '').split(/:(.*)/s);
    if (name === 'events' || name === 'tap') return world.news(name, text).forEach(([type, data]) => tell(watcher, type, data));
    if (name === 'overview') return tell(watcher, 'overview', world.get('overview', new URLSearchParams()));
    const query = new URLSearchParams(text.replaceAll('+', '&').replaceAll('~', '%'));
    const found = name === 'connection' ? connectionDetail(world, text) : world.get(name, query);
    if (found === null) return;
    if (found instanceof Error) return tell(watcher, 'error', { code: 'bad_request', message: found.message });
    const { rows, ...fields } = ('rows' in found ? found : { at: new Date().toISOString(), total: 1, matched: 1, rows: [found] }) as { rows: Record<string, unknown>[] };
    if (watcher.age >= 4) {
      watcher.age = 0;
      watcher.told = new Map(rows.map((row) => [row['id'], row]));
      return tell(watcher, 'page', { ...fields, revision: ++watcher.revision, rows });
    }
    watcher.age++;
    const changed = [...watcher.told].flatMap(([id, before]) => {
      const row = rows.find((candidate) => candidate['id'] === id) ?? world.row(name, id);
      return row ? difference(before, row) : [{ id, gone: true }];
    });
    for (const row of rows) if (watcher.told.has(row['id'])) watcher.told.set(row['id'], row);
    const base = watcher.revision++;
    tell(watcher, 'changes', { ...fields, revision: watcher.revision, base, rows: changed });
  }

  const tick = (): void => {
    world.tick();
    apps.tick();
    for (const watcher of watchers) update(watcher);
  };
  const { everyMs = 1_000 } = options;
  const timer = everyMs > 0 ? setInterval(tick, everyMs) : undefined;
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, '127.0.0.1', resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    world,
    acts,
    tick,
    watched: () => [...watchers].map(({ channel }) => channel),
    heard: () => apps.heard(),
    asked: (channel) => apps.asked(channel),
    cut(refuse) {
      refusing = refuse;
      for (const socket of sockets.clients) socket.terminate();
    },
    end(code) {
      for (const socket of sockets.clients) socket.close(code);
    },
    refuse(channels) {
      refused = channels;
    },
    lose() {
      for (const watcher of watchers) watcher.revision++;
    },
    async close() {
      clearInterval(timer);
      for (const socket of sockets.clients) socket.terminate();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** What changed of a row, beside its id; of a timeline only what is new. */
function difference(before: Record<string, unknown>, row: Record<string, unknown>): Record<string, unknown>[] {
  const changed = Object.entries(row).filter(([name, value]) => JSON.stringify(before[name]) !== JSON.stringify(value));
  if (changed.length === 0) return [];
  const fields = changed.map(([name, value]) => [name, name === 'timeline' ? (value as unknown[]).slice((before[name] as unknown[]).length) : value]);
  return [{ id: row['id'], ...Object.fromEntries(fields) }];
}

function roleOf(bearer: string | undefined): string | null {
  try {
    const said = JSON.parse(Buffer.from(bearer?.split('.')[1] ?? '', 'base64url').toString()) as { role?: string; exp?: number };
    return bearer?.endsWith('.unsigned') && Number(said.exp) * 1000 > Date.now() ? said.role ?? 'user' : null;
  } catch {
    return null;
  }
}

/** As the real server serves it: any path that is no file is the page, under a strict policy. */
async function file(path: string, response: ServerResponse): Promise<void> {
  const name = /^\/[\w-]+\.\w+$/.test(path) ? path.slice(1) : 'index.html';
  const body = await readFile(dist + name).catch(() => null);
  if (!body) return void response.writeHead(404).end();
  response.writeHead(200, {
    'content-type': `${TYPES[name.split('.').at(-1) ?? ''] ?? 'text/plain'}; charset=utf-8`,
    'content-security-policy': "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    'cache-control': 'no-store',
  }).end(body);
}

async function text(request: IncomingMessage): Promise<string> {
  let whole = '';
  for await (const chunk of request) whole += String(chunk);
  return whole || '{}';
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function problem(response: ServerResponse, status: number, code: string, message: string, help = ''): void {
  response.writeHead(status, { 'content-type': 'application/problem+json' }).end(JSON.stringify({ title: message, status, code, message, help }));
}
