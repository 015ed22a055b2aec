import { type ChildProcess, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** How long anything may take before a test fails, in milliseconds. */
export const PATIENCE_MS = 30_000;
const SECRET = 'a test key of more than thirty-two bytes';

/** A program of this repository: where an environment variable says, or in the nearest `target/debug` above. */
export function program(variable: string, name: string): string {
  const told = process.env[variable];
  if (told) return told;
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== dirname(folder); folder = dirname(folder)) {
    const path = join(folder, 'target/debug', name);
    if (existsSync(path)) return path;
  }
  throw new Error(`there is no target/debug/${name}: build it, or say where it is with ${variable}`);
}

/** Waits until a condition holds, asking again and again. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, patienceMs = PATIENCE_MS): Promise<void> {
  const end = performance.now() + patienceMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** What a token says. */
export interface Claims {
  readonly user: string;
  /** Default 3,600; negative: it ran out so long ago. */
  readonly ttlSeconds?: number;
  readonly role?: string;
  /** Default: everything on every channel. */
  readonly grants?: { readonly [pattern: string]: readonly string[] };
}

/** Signs a token that every {@link Gateway} accepts. */
export function sign({ user, ttlSeconds = 3600, role = 'user', grants }: Claims): string {
  const now = Math.floor(Date.now() / 1000);
  const caps = grants ?? { '*': ['publish', 'subscribe', 'history', 'presence'] };
  const iat = Math.min(now, now + ttlSeconds - 1);
  const parts = [{ alg: 'HS256', typ: 'JWT' }, { sub: user, role, caps, iat, exp: now + ttlSeconds }];
  const text = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

/** How a server is to be. */
export interface GatewayOptions {
  /** `key=value`, as for `--set`. */
  readonly set?: readonly string[];
  /** A settings file, for namespaces. */
  readonly settings?: string;
  /** Any web page may connect. */
  readonly dev?: boolean;
}

/** The server's binary as a process of its own, on a free port, with a folder that outlives the process. */
export class Gateway implements AsyncDisposable {
  /** `127.0.0.1:port`; another one after every start. */
  address = '';
  readonly #options: GatewayOptions;
  readonly #folder: string;
  #process: ChildProcess | null = null;
  #log = '';

  private constructor(options: GatewayOptions, folder: string) {
    this.#options = options;
    this.#folder = folder;
  }

  static async start(options: GatewayOptions = {}): Promise<Gateway> {
    const gateway = new Gateway(options, await mkdtemp(join(tmpdir(), 'pulsewire-')));
    await gateway.start();
    return gateway;
  }

  /** Starts it, again after {@link Gateway.kill} or {@link Gateway.stop}. */
  async start(): Promise<void> {
    const { set = [], settings, dev } = this.#options;
    const file = join(this.#folder, 'settings.toml');
    await writeFile(file, settings ?? '');
    const wanted = [`auth.secret=${SECRET}`, 'collector.enabled=false', 'server.shards=1', ...set];
    const child = spawn(program('PULSEWIRE_BIN', 'pulsewire'), [
      'serve', '--listen', '127.0.0.1:0', '--data', join(this.#folder, 'data'), '--config', file, ...(dev ? ['--dev'] : []),
      ...wanted.flatMap((pair) => ['--set', pair]),
    ], { env: {}, stdio: ['ignore', 'ignore', 'pipe'] });
    this.#process = child;
    this.#log = '';
    this.address = await new Promise<string>((resolve, reject) => {
      createInterface(child.stderr).on('line', (line) => {
        this.#log += `${line}\n`;
        const found = /"listening","address":"([^"]+)"/.exec(line);
        if (found?.[1]) resolve(found[1]);
      });
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`the server ended with ${code} before it listened:\n${this.#log}`)));
    });
  }

  /** How it ended although nobody told it to; empty as it should be. */
  get died(): string {
    const { exitCode = null, signalCode = null } = this.#process ?? {};
    return exitCode === null && signalCode === null ? '' : `the server ended with ${exitCode ?? signalCode}:\n${this.#log}`;
  }

  get running(): boolean {
    return this.#process !== null;
  }

  /** Ends it as a crash does. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Lets it end in order: it tells its clients when to come back. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** Removes all it has stored; only while it is not running. */
  async forget(): Promise<void> {
    await rm(join(this.#folder, 'data'), { recursive: true, force: true });
  }

  /** Asks over HTTP, past every proxy. */
  async ask(path: string, body?: unknown, claims: Claims = { user: 'elsewhere', role: 'admin' }): Promise<unknown> {
    const response = await fetch(`http://${this.address}${path}`, {
      headers: { authorization: `Bearer ${sign(claims)}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    });
    const answer: unknown = await response.json();
    if (!response.ok) throw new Error(`${path} was answered ${response.status}: ${JSON.stringify(answer)}`);
    return answer;
  }

  /** The sum of the series of a family of `/metrics` that begin so. */
  async metric(series: string): Promise<number> {
    const page = await (await fetch(`http://${this.address}/metrics`)).text();
    const values = page.split('\n').filter((line) => line.startsWith(series)).map((line) => Number(line.split(' ').at(-1)));
    if (values.length === 0) throw new Error(`there is no series ${series}`);
    return values.reduce((sum, value) => sum + value, 0);
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child && child.exitCode === null && child.signalCode === null) {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill(signal);
      await gone;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** A network that misbehaves when told to: the `fault_proxy` between a client and a {@link Gateway}. */
export class Network implements AsyncDisposable {
  /** Where clients connect, `127.0.0.1:port`. */
  readonly address: string;
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  /** One order after the other: each line is answered by one. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(address: string, child: ChildProcess, lines: AsyncIterator<string>) {
    this.address = address;
    this.#process = child;
    this.#lines = lines;
  }

  static async to(gateway: Gateway): Promise<Network> {
    const child = spawn(program('PULSEWIRE_FAULT_PROXY', 'examples/fault_proxy'), ['--to', gateway.address], {
      env: {}, stdio: ['pipe', 'pipe', 'inherit'],
    });
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    const { address } = parsed((await lines.next()).value);
    if (typeof address !== 'string') throw new Error('the proxy does not say where it listens');
    return new Network(address, child, lines);
  }

  /** As of {@link Gateway.died}. */
  get died(): string {
    const { exitCode, signalCode } = this.#process;
    return exitCode === null && signalCode === null ? '' : `the proxy ended with ${exitCode ?? signalCode}`;
  }

  /** Misbehaves as told: a `Fault` of `pulsewire_loadtest`. */
  async fault(order: { readonly [member: string]: unknown }): Promise<void> {
    await this.#say(order);
  }

  async pass(): Promise<void> {
    await this.fault({ fault: 'pass' });
  }

  /** Leads new connections to another server. */
  async lead(gateway: Gateway): Promise<void> {
    await this.fault({ fault: 'target', to: gateway.address });
  }

  /** What it has seen since it started. */
  async stats(): Promise<{ readonly [name: string]: unknown }> {
    return this.#say({ stats: true });
  }

  #say(order: unknown): Promise<{ readonly [member: string]: unknown }> {
    const answer = this.#last.then(async () => {
      this.#process.stdin?.write(`${JSON.stringify(order)}\n`);
      const said = parsed((await this.#lines.next()).value);
      if (said['ok'] !== true) throw new Error(`the proxy refused ${JSON.stringify(order)}: ${String(said['error'])}`);
      return said;
    });
    this.#last = answer.catch(() => undefined);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const gone = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.kill('SIGKILL');
    await gone;
  }
}

/** Whether a value is an object, whose members may be anything. */
export function isObject(value: unknown): value is { readonly [member: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parsed(line: unknown): { readonly [member: string]: unknown } {
  const value: unknown = JSON.parse(String(line));
  if (!isObject(value)) throw new Error(`not an object: ${String(line)}`);
  return value;
}
