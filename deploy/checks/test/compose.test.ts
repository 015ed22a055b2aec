// What no schema of Compose knows: that the files it names exist, that it has no password, and that the server takes
// what it is given.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { program } from '../../../sdk/typescript/test/gateway.js';

interface Mount {
  source: string;
  target: string;
}

interface Service {
  image: string;
  build?: { context: string; dockerfile: string };
  environment?: Record<string, string>;
  secrets?: (string | Mount)[];
  volumes?: string[];
  ports?: string[];
  command?: string[];
  healthcheck?: { test: string[] };
  restart?: string;
}

interface Compose {
  version?: string;
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
  secrets: Record<string, { file: string }>;
}

const folder = resolve(import.meta.dirname, '../../compose');
const text = readFileSync(join(folder, 'compose.yml'), 'utf8');
const compose = parse(text, { merge: true }) as Compose;
const services = Object.entries(compose.services);
/** The nodes, which differ in their names alone. */
const nodes = ['pulsewire-1', 'pulsewire-2', 'pulsewire-3'];
const example = new Map(
  [...readFileSync(join(folder, '.env.example'), 'utf8').matchAll(/^(#?)([A-Z_]+)=(.*)$/gm)].map(
    ([, commented, name, value]) => [name, { commented: commented === '#', value }],
  ),
);

/** A text with the variables of `.env.example` in their places, as Compose puts them. */
function filled(value: string): string {
  return value.replace(/\$\{([A-Z_]+)(?::([-?])([^}]*))?\}/g, (_, name: string, kind: string, rest: string) =>
    kind === '-' ? rest : (example.get(name)?.value ?? ''),
  );
}

test('it has what one command has to start', () => {
  expect(Object.keys(compose.services).sort()).toEqual([
    'alertmanager',
    'balancer',
    'grafana',
    'postgres',
    'prometheus',
    ...nodes,
    'redis',
  ]);
  expect(compose.version).toBeUndefined();
});

describe.each(services)('%s', (name, service) => {
  test('is of a version that stays what it is', () => {
    const [, tag = ''] = filled(service.image).split(':');
    expect(tag).toMatch(/^v?\d+\.\d+(\.\d+)?(-[a-z]+)?$/);
  });

  test('is looked after', () => {
    expect(service.healthcheck?.test[0]).toMatch(/^CMD/);
    expect(service.restart).toBe('unless-stopped');
  });

  test('is reached from this machine alone', () => {
    for (const port of service.ports ?? []) expect(filled(port)).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
  });

  test('mounts what is there', () => {
    for (const volume of service.volumes ?? []) {
      const [source = '', , mode] = volume.split(':');
      if (source.startsWith('.')) {
        expect(existsSync(resolve(folder, source)), `${name} mounts ${source}`).toBe(true);
        expect(mode).toBe('ro');
      } else {
        expect(compose.volumes).toHaveProperty([source]);
      }
    }
    if (service.build !== undefined) {
      const context = resolve(folder, service.build.context);
      expect(existsSync(join(context, service.build.dockerfile))).toBe(true);
    }
  });

  test('has its secrets in files', () => {
    for (const secret of service.secrets ?? []) {
      expect(compose.secrets).toHaveProperty([typeof secret === 'string' ? secret : secret.source]);
    }
    for (const [variable, value] of Object.entries(service.environment ?? {})) {
      if (/PASSWORD|SECRET|TOKEN|KEY|DATABASE_URL|REDIS_URL/.test(variable)) {
        expect(variable).toMatch(/_FILE$/);
        expect(value).toMatch(/^\/run\/secrets\//);
      }
    }
    expect(JSON.stringify(service)).not.toMatch(/:\/\/[^/"]*:[^/"@]+@|requirepass [^/]{8}/);
  });
});

test('every variable is explained, and what has no default says what it is for', () => {
  const used = [...text.matchAll(/\$\{([A-Z_]+)(?::([-?])([^}]*))?\}/g)];
  expect(used.length).toBeGreaterThan(4);
  for (const [whole, name = '', kind, rest = ''] of used) {
    expect(example, whole).toHaveProperty('size');
    expect(example.has(name), `${name} is not in .env.example`).toBe(true);
    // A line that is commented out is one that nobody has to fill in.
    expect(example.get(name)?.commented, name).toBe(kind === '-');
    if (kind === '?') expect(rest.length, `${name} does not say what is missing`).toBeGreaterThan(10);
    else expect(kind, `${whole} is empty when it is forgotten`).toBe('-');
  }
  expect([...example.keys()].sort()).toEqual([...new Set(used.map(([, name]) => name))].sort());
});

describe('with the secrets that make-secrets.sh writes', () => {
  const secrets = mkdtempSync(join(tmpdir(), 'pulsewire-secrets-'));
  afterAll(() => rmSync(secrets, { recursive: true }));
  const make = () => execFileSync('sh', [join(folder, 'make-secrets.sh'), secrets], { stdio: 'pipe' }).toString();
  make();
  const yours = ['slack_url', 'pagerduty_key'];

  test('nobody but containers reads them, and a second run changes nothing', () => {
    const before = Object.keys(compose.secrets).filter((name) => !yours.includes(name));
    const read = () => before.map((name) => readFileSync(join(secrets, name), 'utf8'));
    const first = read();
    expect(statSync(secrets).mode & 0o777).toBe(0o700);
    for (const name of before) expect(statSync(join(secrets, name)).mode & 0o777, name).toBe(0o644);
    expect(make()).toBe('');
    expect(read()).toEqual(first);
    expect(new Set(first.map((secret) => secret.slice(0, 40))).size).toBe(first.length);
  });

  test('every secret is written there or is yours', () => {
    for (const [name, { file }] of Object.entries(compose.secrets)) {
      expect(file).toBe(`./secrets/${name}`);
      expect(existsSync(join(secrets, name)), name).toBe(!yours.includes(name));
    }
  });

  test('the nodes have the same settings, and a name and files of their own', () => {
    const [first, ...others] = nodes.map((name) => {
      const { environment = {}, volumes, ...service } = compose.services[name] ?? {};
      const { PULSEWIRE_CLUSTER_NODE_NAME: called, ...settings } = environment;
      expect([called, volumes]).toEqual([name, [`${name}-data:/var/lib/pulsewire`]]);
      expect(settings['PULSEWIRE_SERVER_ALLOWED_HOSTS']?.split(',')).toContain(name);
      // The first builds the image for all.
      return { ...service, settings, build: undefined };
    });
    expect(others).toEqual([first, first]);
  });

  test('the balancer and Prometheus know every node', () => {
    const balancer = readFileSync(join(folder, 'haproxy.cfg'), 'utf8');
    const prometheus = readFileSync(resolve(folder, '../prometheus/prometheus.yml'), 'utf8');
    for (const name of nodes) {
      expect(balancer).toContain(`server ${name} ${name}:8000\n`);
      expect(prometheus).toContain(`'${name}:8001'`);
    }
    execFileSync('haproxy', ['-c', '-q', '-f', join(folder, 'haproxy.cfg')], { stdio: 'pipe' });
  });

  test('the server takes its environment', () => {
    const server = program('PULSEWIRE_BIN', 'pulsewire');
    const environment = Object.entries(compose.services['pulsewire-1']?.environment ?? {}).map(([name, value]) => [
      name,
      filled(value).replace('/run/secrets', secrets),
    ]);
    // The image's own variables.
    const image = readFileSync(resolve(folder, '../docker/Dockerfile'), 'utf8');
    const [, lines = ''] = /^ENV ((?:.*\\\n)*.*)$/m.exec(image) ?? [];
    const own = [...lines.matchAll(/([A-Z_]+)=(\S+)/g)].map(([, name, value]) => [name, value]);
    expect(own.length).toBe(2);
    const env = Object.fromEntries([...own, ...environment]) as Record<string, string>;
    const printed = execFileSync(server, ['config', 'print'], { env, stdio: 'pipe' }).toString();
    for (const expected of ['0.0.0.0:8000', '0.0.0.0:8001', '/var/lib/pulsewire', 'http://localhost:3000']) {
      expect(printed).toContain(expected);
    }
    execFileSync(server, ['config', 'check'], { env, stdio: 'pipe' });
    // It is this environment that is looked at: without its key the server does not start.
    writeFileSync(join(secrets, 'auth_secret'), 'short');
    expect(() => execFileSync(server, ['config', 'check'], { env, stdio: 'pipe' })).toThrow(/at least 32 are needed/);
  });
});
