/**
 * The proxies' files, by their text. nginx's, HAProxy's and Caddy's are started by `crates/server/tests/it/proxies.rs`;
 * Envoy cannot be had there, so its file is held here to what the others are.
 */

import { readFileSync } from 'node:fs';

import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

const ROOT = new URL('../../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, ROOT), 'utf8');
const FILES = ['nginx.conf', 'haproxy.cfg', 'Caddyfile', 'envoy.yaml'] as const;
const text = (file: string): string => read(`deploy/proxies/${file}`);
/** A file without its comments. */
const said = (file: string): string => text(file).replace(/^\s*#.*$/gm, '');

const documented = read('docs/settings.md');

/** The default of a setting that is a time, in seconds. */
function seconds(key: string): number {
  const part = documented.slice(documented.indexOf(`### \`${key}\``));
  return Number(/default `(\d+)s`/.exec(part)?.[1] ?? NaN);
}

const heartbeat = seconds('heartbeat.interval');
const poll = seconds('reading.wait_max');
const idle = seconds('limits.handshake_timeout');

/** Time-outs in seconds: of silence, and of idle connections that are kept to the nodes. */
const TIMES: Readonly<Record<(typeof FILES)[number], { silence: RegExp; kept: RegExp | undefined }>> = {
  'nginx.conf': { silence: /proxy_(?:read|send)_timeout (\d+)s/g, kept: /keepalive_timeout (\d+)s/g },
  // HAProxy closes what it keeps after 5 s by itself.
  'haproxy.cfg': { silence: /timeout (?:client|server|tunnel) (\d+)s/g, kept: undefined },
  Caddyfile: { silence: /response_header_timeout (\d+)s/g, kept: /keepalive (\d+)s/g },
  'envoy.yaml': { silence: /stream_idle_timeout: (\d+)s/g, kept: /explicit_http_config[\s\S]*?idle_timeout: (\d+)s/g },
};

describe.each(FILES)('%s', (file) => {
  const all = (pattern: RegExp): number[] => [...said(file).matchAll(pattern)].map((found) => Number(found[1]));

  test('waits three heartbeats, and longer than a poll', () => {
    const found = all(TIMES[file].silence);
    expect(found.length).toBeGreaterThan(0);
    expect(Math.min(...found)).toBeGreaterThanOrEqual(Math.max(3 * heartbeat, poll + 1));
  });

  test('lets go of idle connections before the server does', () => {
    const { kept } = TIMES[file];
    if (!kept) return;
    expect(all(kept).length).toBeGreaterThan(0);
    expect(Math.max(...all(kept))).toBeLessThan(idle);
  });

  test('keeps metrics and figures inside, of every name', () => {
    const names = ['metrics', 'api/metrics', 'api/ws/metrics', 'actuator/prometheus', 'api/stats'];
    expect(names.filter((name) => !said(file).includes(name))).toEqual([]);
  });

  test('names settings that are there', () => {
    const keys = [...text(file).matchAll(/\b((?:server|origins|limits|heartbeat|reading|store|auth)\.[a-z_]+)/g)].map((found) => found[1]);
    const known = (key: string | undefined): boolean => documented.includes(`### \`${key}\``);
    expect(keys.filter((key) => !known(key))).toEqual([]);
    expect(documented).toContain('### `server.trusted_proxies`');
    expect(text(file)).toContain('trusted_proxies = ');
  });
});

test('the times were found', () => {
  expect([heartbeat, poll, idle].every(Number.isFinite)).toBe(true);
});

interface Envoy {
  static_resources: {
    listeners: { filter_chains: { filters: { typed_config: Manager }[] }[] }[];
    clusters: { name: string; health_checks: { http_health_check: { path: string } }[] }[];
  };
}

interface Manager {
  use_remote_address: boolean;
  upgrade_configs: { upgrade_type: string }[];
  route_config: { virtual_hosts: { routes: { match: object; route?: { cluster: string; timeout: string } }[] }[] };
}

test('Envoy passes upgrades, names the client, ends no stream and asks whether nodes are ready', () => {
  const { listeners, clusters } = (parse(text('envoy.yaml')) as Envoy).static_resources;
  const manager = listeners[0]?.filter_chains[0]?.filters[0]?.typed_config;
  expect(manager?.upgrade_configs).toEqual([{ upgrade_type: 'websocket' }]);
  expect(manager?.use_remote_address).toBe(true);
  const routes = manager?.route_config.virtual_hosts.flatMap((host) => host.routes.flatMap(({ route }) => route ?? [])) ?? [];
  expect(routes.length).toBe(2);
  for (const route of routes) {
    expect(route.timeout).toBe('0s');
    expect(clusters.map((cluster) => cluster.name)).toContain(route.cluster);
  }
  expect(clusters.flatMap((cluster) => cluster.health_checks.map((check) => check.http_health_check.path))).toEqual(['/readyz']);
});
