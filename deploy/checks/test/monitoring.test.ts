// What the documents give for Prometheus and Alertmanager, to the letter; their own programs read the rest.

import { readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

interface Job {
  job_name: string;
  static_configs: { targets: string[]; labels?: Record<string, string> }[];
  metrics_path?: string;
  params?: Record<string, string[]>;
  scrape_interval?: string;
  sample_limit?: number;
  authorization?: { credentials_file?: string };
}

interface Prometheus {
  global: Record<string, string>;
  rule_files: string[];
  alerting: { alertmanagers: unknown[] };
  scrape_configs: Job[];
}

interface Route {
  receiver: string;
  matchers?: string[];
  routes?: Route[];
  group_by?: string[];
  group_wait?: string;
  group_interval?: string;
  repeat_interval?: string;
}

const deploy = resolve(import.meta.dirname, '../..');
const read = (path: string) => parse(readFileSync(join(deploy, path), 'utf8')) as unknown;
const prometheus = read('prometheus/prometheus.yml') as Prometheus;
const alertmanager = read('alertmanager/alertmanager.yml') as {
  global: Record<string, string>;
  route: Route;
  receivers: { name: string }[];
};
const compose = read('compose/compose.yml') as { services: Record<string, { command: string[]; ports: string[] }> };

describe('prometheus.yml', () => {
  test('has document 001 intervals, rules and somebody to tell', () => {
    expect(prometheus.global).toEqual({ scrape_interval: '15s', evaluation_interval: '15s' });
    expect(prometheus.rule_files).toEqual(['rules/*.yml']);
    expect(readdirSync(join(deploy, 'prometheus/rules')).length).toBeGreaterThan(3);
    expect(prometheus.alerting.alertmanagers).toHaveLength(1);
  });

  test('reads each server once, bounded and with a token from a file', () => {
    const targets = prometheus.scrape_configs.flatMap((job) => job.static_configs.flatMap((it) => it.targets));
    expect(new Set(targets).size).toBe(targets.length);
    const [own] = prometheus.scrape_configs;
    expect(own).toMatchObject({
      job_name: 'pulsewire',
      metrics_path: '/metrics',
      scrape_interval: '10s',
      sample_limit: 20000,
      authorization: { credentials_file: 'secrets/metrics_token' },
    });
    expect(Object.keys(own?.static_configs[0]?.labels ?? {})).toEqual(['cluster', 'namespace']);
  });
});

describe("the documents' jobs", () => {
  const job = (file: string) => (read(`prometheus/jobs/${file}`) as Prometheus).scrape_configs;

  test.each([
    [
      'agent-orchestrator-backend.yml',
      {
        job_name: 'agent-orchestrator-backend',
        static_configs: [{ targets: ['backend:3000'] }],
        metrics_path: '/api/metrics',
        scrape_interval: '10s',
      },
    ],
    [
      'prometheus-config.yml',
      {
        job_name: 'cryptrade-ws-metrics',
        static_configs: [{ targets: ['your-app-host:3000'] }],
        metrics_path: '/api/ws/metrics',
        params: { format: ['prometheus'] },
        scrape_interval: '30s',
      },
    ],
  ])('%s is what its document has', (file, expected) => {
    expect(job(file)).toEqual([expected]);
  });

  test.each([
    ['generic-corp.yml', '/metrics'],
    ['collaboration.yml', '/actuator/prometheus'],
  ])('%s has the path of its document', (file, path) => {
    expect(job(file)).toHaveLength(1);
    expect(job(file)[0]?.metrics_path).toBe(path);
  });

  test('rules hold for all of their names', () => {
    const rules = readFileSync(join(deploy, 'prometheus/rules/meta.yml'), 'utf8');
    const [, matcher = ''] = /up\{job=~"([^"]+)"\} == 0/.exec(rules) ?? [];
    const names = readdirSync(join(deploy, 'prometheus/jobs')).flatMap((file) => job(file).map((it) => it.job_name));
    for (const name of ['pulsewire', ...names]) expect(name).toMatch(new RegExp(`^(?:${matcher})$`));
    expect(names).toHaveLength(4);
  });
});

describe('alertmanager.yml', () => {
  test('has document 001 times and groups', () => {
    expect(alertmanager.global).toEqual({ resolve_timeout: '5m' });
    expect(alertmanager.route).toMatchObject({ group_wait: '30s', group_interval: '5m', repeat_interval: '4h' });
    expect(alertmanager.route.group_by).toEqual(['alertname', 'component', 'cluster', 'namespace', 'job']);
  });

  test('has its secrets in files', () => {
    const text = readFileSync(join(deploy, 'alertmanager/alertmanager.yml'), 'utf8');
    for (const [, key, value] of text.matchAll(/(\w*(?:url|key|token|password|credentials)(?:_file)?): (\S+)/g)) {
      if (key === 'url') expect(value).toMatch(/^http:\/\/localhost:9094\//);
      else expect(`${key}: ${value}`).toMatch(/^\w+_file: \/etc\/alertmanager\/secrets\/\w+$/);
    }
  });

  test('tells everybody whom it names', () => {
    const named = (route: Route): string[] => [route.receiver, ...(route.routes ?? []).flatMap(named)];
    expect(new Set(named(alertmanager.route))).toEqual(new Set(alertmanager.receivers.map(({ name }) => name)));
  });
});

test('Compose keeps 30 days, reloads on a POST and has Grafana at port 3001', () => {
  const { prometheus: server, grafana } = compose.services;
  expect(server?.command).toContain('--storage.tsdb.retention.time=30d');
  expect(server?.command).toContain('--web.enable-lifecycle');
  expect(grafana?.ports).toEqual(['127.0.0.1:3001:3000']);
});
