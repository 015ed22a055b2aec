// The real binary under the settings that manifests give it.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { program } from '../../../sdk/typescript/test/gateway.js';
import { type Manifest, type Tree, at, isTree, ofKind, text, trees } from './manifests.js';
import { containers, workloads } from './references.js';

/** Values for the secrets that a pod finds as files. */
const SECRETS: { readonly [key: string]: string } = {
  'auth-secret': 'a test key of more than thirty-two bytes\n',
  'metrics-token': 'what-a-scraper-sends\n',
  'store-url': 'postgres://pulsewire:secret@postgres.example/pulsewire\n',
};

/** A folder that stands for what a workload's pod mounts, with its settings and environment. */
export class PodFolder implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'pulsewire-pod-'));
  readonly settings: string;
  environment: { readonly [name: string]: string };
  /** A text with the folder in place of what the pod mounts. */
  readonly #here: (value: string) => string;

  constructor(all: readonly Manifest[], name = 'pulsewire') {
    const { container, maps, mountOf } = podOf(all, name);
    const [settings, secrets, data] = ['settings', 'secrets', 'data'].map((volume) => mountOf(volume));
    this.#here = (value) => [secrets, data].reduce<string>((found, mount) => (mount ? found.replaceAll(mount, this.folder) : found), value);
    for (const [key, value] of Object.entries(SECRETS)) writeFileSync(join(this.folder, key), value);
    this.environment = Object.fromEntries(trees(container['env']).map((each) => [text(each, 'name'), this.#here(text(each, 'value'))]));
    this.settings = join(this.folder, 'pulsewire.toml');
    if (!settings) throw new Error(`${name} mounts no settings`);
    writeFileSync(this.settings, this.#here(text(maps, 'data', 'pulsewire.toml')));
  }

  /** The same pod with further variables, beside its own. */
  with(further: { readonly [name: string]: string }): this {
    const here = Object.entries(further).map(([name, value]) => [name, this.#here(value)]);
    this.environment = { ...Object.fromEntries(here), ...this.environment };
    return this;
  }

  /** Runs the program to its end. */
  run(...options: readonly string[]): { readonly code: number; readonly said: string } {
    const { status, stdout, stderr } = spawnSync(program('PULSEWIRE_BIN', 'pulsewire'), [...options, '--config', this.settings], { env: this.environment, encoding: 'utf8' });
    return { code: status ?? -1, said: stdout + stderr };
  }

  /** Every setting in effect: its key and its value as they are printed. */
  values(): ReadonlyMap<string, string> {
    const { said } = this.run('config', 'print', '--output', 'json');
    const printed: unknown = JSON.parse(said);
    return new Map(isTree(printed) ? Object.keys(printed).map((key) => [key, text(printed, key, 'value')]) : []);
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function podOf(all: readonly Manifest[], name: string): { readonly container: Tree; readonly maps: Manifest | undefined; readonly mountOf: (volume: string) => string | undefined } {
  const template = workloads(all).find(({ of }) => of.metadata.name === name)?.template;
  const container = template && containers(template)[0];
  if (!container) throw new Error(`there is no Deployment/${name}`);
  const volumes = trees(at(template, 'spec', 'volumes'));
  const map = volumes.map((volume) => text(volume, 'configMap', 'name')).find((found) => found);
  return {
    container,
    maps: ofKind(all, 'ConfigMap').find((each) => each.metadata.name === map),
    mountOf: (volume) => text(trees(container['volumeMounts']).find((mount) => mount['name'] === volume), 'mountPath') || undefined,
  };
}

/** A server that runs as in a pod, on free ports. */
export class PodServer implements AsyncDisposable {
  readonly #process: ChildProcess;
  /** Where it listens, by what its log calls that. */
  readonly addresses: { readonly public: string; readonly internal: string };

  private constructor(child: ChildProcess, addresses: PodServer['addresses']) {
    this.#process = child;
    this.addresses = addresses;
  }

  static async start(pod: PodFolder): Promise<PodServer> {
    const free = ['server.listen=127.0.0.1:0', 'server.internal_listen=127.0.0.1:0', 'collector.enabled=false'];
    const child = spawn(program('PULSEWIRE_BIN', 'pulsewire'), ['serve', '--config', pod.settings, ...free.flatMap((pair) => ['--set', pair])], { env: pod.environment, stdio: ['ignore', 'ignore', 'pipe'] });
    const found: { public?: string; internal?: string } = {};
    let log = '';
    await new Promise<void>((resolve, reject) => {
      createInterface(child.stderr).on('line', (line) => {
        log += `${line}\n`;
        const [, message, address] = /"message":"(listening|listening for operators)","address":"([^"]+)"/.exec(line) ?? [];
        if (message && address) found[message === 'listening' ? 'public' : 'internal'] = address;
        if (found.public && found.internal) resolve();
      });
      child.once('exit', (code) => reject(new Error(`the server ended with ${code} before it listened:\n${log}`)));
    });
    return new PodServer(child, { public: found.public ?? '', internal: found.internal ?? '' });
  }

  /** The status of an answer to a request as a kubelet, a scraper or an ingress makes it: under a host name of theirs. */
  status(address: string, path: string, headers: { readonly [name: string]: string } = {}): Promise<number> {
    const [host = '', port = ''] = address.split(':');
    return new Promise((resolve, reject) => {
      request({ host, port, path, headers, method: 'GET' }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      }).once('error', reject).end();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const gone = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.kill('SIGKILL');
    await gone;
  }
}
