import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

import { charts, read } from '../src/grafana.js';
import type { Checked } from '../src/grafana.js';
import { problems } from '../src/promql.js';
import { deployed, recorded, shippedRules } from '../src/rules.js';

const FILES = read();
const CONNECTIONS = 'websocket-connections.json';
const DELIVERY = 'events-and-delivery.json';
const COLLABORATION = 'grafana-websocket-dashboard.json';
const UPSTREAMS = 'grafana-dashboard.json';
const STREAMING = 'metrics-streaming.json';

const HERE = fileURLToPath(new URL('..', import.meta.url));

/** What the compiler says of each of these, written as if a person had: literals, so that no key goes unnoticed. */
function compiled(boards: Record<string, unknown>): Map<string, string> {
  // Below node_modules, where types are found and nothing else looks.
  const folder = mkdtempSync(join(HERE, 'node_modules', '.grafana-'));
  try {
    for (const [name, board] of Object.entries(boards)) {
      const head = `import type { Checked } from '${join(HERE, 'src/grafana.js')}';\n`;
      writeFileSync(join(folder, `${name}.ts`), `${head}export const board: Checked = ${JSON.stringify(board, null, 1)};\n`);
    }
    const own = { extends: join(HERE, 'tsconfig.json'), include: ['*.ts'] };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(own));
    return bySource(said(['--noEmit', '--pretty', 'false', '--project', folder]));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function said(args: string[]): string {
  try {
    return execFileSync(join(HERE, 'node_modules/.bin/tsc'), args, { cwd: HERE, encoding: 'utf8' });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

/** Errors by the name of their file; whatever is about none of them is under the empty name. */
function bySource(output: string): Map<string, string> {
  const found = new Map<string, string>();
  let source = '';
  for (const line of output.split('\n').filter((line) => line !== '')) {
    if (!line.startsWith(' ')) {
      source = /([\w-]+)\.ts\(\d+,\d+\): error/.exec(line)?.[1] ?? '';
    }
    found.set(source, `${found.get(source) ?? ''}${line}\n`);
  }
  return found;
}

/** A dashboard with one row and one panel of a kind. */
function small(type: string): Checked {
  const board = structuredClone(FILES.find((file) => file.name === 'websocket-connections.json')!.board);
  const chart = charts(board).find((panel) => panel.type === type)!;
  return { ...board, panels: [chart] };
}

// Types of our own making, since what they hold is to be broken.
interface Loose {
  [key: string]: Loose & Loose[];
}

function broken(type: string, change: (board: Loose) => void): Checked {
  const board = small(type);
  change(board as unknown as Loose);
  return board;
}

const set = (where: Loose, key: string, value: unknown): void => {
  (where as Record<string, unknown>)[key] = value;
};

test('every dashboard is what @grafana/schema says, and a broken one is noticed', { timeout: 120_000 }, () => {
  const first = (board: Loose): Loose => board['panels']![0]!;
  const defaults = (board: Loose): Loose => first(board)['fieldConfig']!['defaults']!;
  const mistakes: Record<string, [string, Checked]> = {
    'wrong-type': ["'string' is not assignable to type 'number'", broken('stat', (board) => set(board, 'schemaVersion', '39'))],
    'wrong-word': ['"curve"', broken('timeseries', (board) => set(defaults(board)['custom']!, 'drawStyle', 'curve'))],
    'unknown-key-of-all': ['"units"', broken('stat', (board) => set(defaults(board), 'units', 'ms'))],
    'unknown-key-of-lines': ['"lineWith"', broken('timeseries', (board) => set(defaults(board)['custom']!, 'lineWith', 2))],
    'unknown-option': ['"legends"', broken('timeseries', (board) => set(first(board)['options']!, 'legends', {}))],
    'unknown-key-of-target': ['"expression"', broken('stat', (board) => set(first(board)['targets']![0]!, 'expression', 'up'))],
    'kind-that-is-gone': ['"graph"', broken('stat', (board) => set(first(board), 'type', 'graph'))],
    'wrapped': ['"dashboard"', { dashboard: small('stat') } as unknown as Checked],
  };
  const good = FILES.map((file): [string, unknown] => [file.name.replace('.json', ''), file.board]);
  const bad = Object.entries(mistakes).map(([name, [, board]]): [string, unknown] => [name, board]);
  const errors = compiled(Object.fromEntries([...good, ...bad]));
  expect(good.map(([name]) => errors.get(name) ?? '').join('')).toBe('');
  expect(errors.get('')).toBeUndefined();
  for (const [name, [text]] of Object.entries(mistakes)) {
    expect(errors.get(name) ?? `${name}: nothing`).toContain(text);
  }
});

describe('expressions', () => {
  const known = { recorded: recorded(shippedRules()) };
  const all = FILES.flatMap(({ name, board }) => [
    ...charts(board).flatMap((panel) => panel.targets.map((target): [string, string] => [`${name}: ${panel.title}`, target.expr])),
    ...board.annotations.list.map((annotation): [string, string] => [`${name}: ${annotation.name}`, annotation.expr]),
  ]);

  test('every one asks for what the catalogue has', () => {
    expect(all.length).toBeGreaterThan(200);
    const wrong = all.flatMap(([where, expression]) => problems(expression, known).map((problem) => `${where}: ${problem}`));
    expect(wrong).toEqual([]);
  });

  test('a broken one is noticed', () => {
    const [, expression = ''] = all.find(([where]) => where === `${CONNECTIONS}: Message Latency (p95)`) ?? [];
    expect(problems(expression, known)).toEqual([]);
    for (const [from, to] of [['sum by (le)', 'sum'], ['_bucket', '_buckets'], ['job=', 'jobs='], ['(', ''], ['rate', 'delta']] as const) {
      expect(problems(expression.replace(from, to), known), `${from} as ${to}`).not.toEqual([]);
    }
  });
});

/** A row of the checklist: where its panel is, its kind, and what must be asked. */
type Wanted = [file: string, panel: string, kind: string, asks?: RegExp];

const CHECKLIST: Record<string, Wanted> = {
  '000-24': [DELIVERY, 'Active Connections', 'timeseries', /websocket_active_connections\{/],
  '000-25': [DELIVERY, 'Connection Rate', 'timeseries', /status="opened"}\[\$__rate_interval]\)\) \* 60$/],
  '000-26': [DELIVERY, 'Event Throughput', 'timeseries', /^sum by \(event_type\) \(rate\(websocket_events_emitted_total/],
  '000-27': [DELIVERY, 'P95 Event Latency', 'timeseries', /^histogram_quantile\(0\.95, sum by \(le, event_type\) \(rate\(websocket_event_latency/],
  '000-28': [DELIVERY, 'Error Rate', 'timeseries', /^sum by \(event_type\) \(rate\(websocket_event_errors_total/],
  '000-29': [DELIVERY, 'Average Connection Duration', 'timeseries', /duration_seconds_sum.* \/ .*duration_seconds_count/],
  '001-56': [CONNECTIONS, 'Active Connections', 'timeseries', /websocket_active_connections\{/],
  '001-57': [CONNECTIONS, 'Connection Rate', 'timeseries', /status="closed"}\[\$__rate_interval]\)\) \* 60$/],
  '001-58': [CONNECTIONS, 'Message Latency (p95)', 'timeseries', /^histogram_quantile\(0\.95, sum by \(le\) \(rate\(websocket_message_latency/],
  '001-59': [CONNECTIONS, 'Subscriptions by Project', 'timeseries', /^sum by \(project_id\) \(websocket_subscriptions_by_project/],
  '001-60': [CONNECTIONS, 'Heartbeat Timeouts', 'timeseries', /websocket_heartbeat_timeouts_total.* \* 60$/],
  '001-61': [CONNECTIONS, 'Authentication Failures', 'timeseries', /^sum by \(reason\) \(rate\(websocket_auth_failures_total/],
  '001-62': [CONNECTIONS, 'Connections', 'stat', /^sum\(websocket_active_connections\{/],
  '001-63': [CONNECTIONS, 'Connection Rate', 'timeseries', /status="opened"}\[\$__rate_interval]\)\) \* 60$/],
  '001-64': [CONNECTIONS, 'Connection Duration', 'heatmap', /increase\(websocket_connection_duration_seconds_bucket/],
  '001-65': [CONNECTIONS, 'Failed Connections', 'timeseries', /status="failed"}\[\$__rate_interval]\)\) \* 60$/],
  '001-66': [CONNECTIONS, 'Message Latency', 'timeseries', /^histogram_quantile\(0\.99, .*websocket_message_latency/],
  '001-67': [CONNECTIONS, 'Message Throughput', 'timeseries', /^sum by \(direction\) \(rate\(websocket_messages_total/],
  '001-68': [CONNECTIONS, 'Heartbeat Latency', 'timeseries', /websocket_heartbeat_latency_milliseconds_bucket/],
  '001-69 cpu': [CONNECTIONS, 'CPU', 'timeseries', /websocket_cpu_usage_percent/],
  '001-69 memory': [CONNECTIONS, 'Memory', 'timeseries', /websocket_memory_usage_bytes/],
  '001-70': [CONNECTIONS, 'Subscriptions', 'stat', /websocket_active_subscriptions/],
  '001-71': [CONNECTIONS, 'Subscriptions by Project, Now', 'bargauge', /websocket_subscriptions_by_project/],
  '001-72': [CONNECTIONS, 'Subscriptions per Connection', 'bargauge', /^sum by \(le\) \(websocket_subscriptions_per_connection_bucket/],
  '001-73': [CONNECTIONS, 'Authentication Failures', 'timeseries', /^sum by \(reason\)/],
  '001-74': [CONNECTIONS, 'Message Errors', 'timeseries', /^sum by \(error_type\) \(rate\(websocket_message_errors_total/],
  '001-75': [CONNECTIONS, 'Heartbeat Timeouts', 'timeseries'],
  '001-76': [CONNECTIONS, 'Connection Errors', 'timeseries', /^sum by \(kind\) \(rate\(pulsewire_connection_errors_total/],
  '001-92': [CONNECTIONS, 'Memory Budget', 'timeseries', /websocket_active_connections.* \* 2000$/],
  '001-93': [CONNECTIONS, 'Memory per Connection', 'stat', /websocket_memory_usage_bytes.* \/ .*websocket_active_connections/],
  '002-25': [UPSTREAMS, 'Active Connections', 'timeseries', /ws_manager_active_connections\{/],
  '002-26': [UPSTREAMS, 'Retry Rate', 'timeseries', /rate\(ws_manager_retry_count_total/],
  '002-27': [UPSTREAMS, 'Stream Lifecycle', 'timeseries', /rate\(ws_manager_stream_cleanups_total/],
  '002-28': [UPSTREAMS, 'High Water Mark', 'timeseries', /ws_manager_active_connections_hwm\{/],
  '002-29': [UPSTREAMS, 'Health Status', 'state-timeline', /^up\{/],
  '002-30': [UPSTREAMS, 'Error Analysis', 'timeseries', /^sum by \(kind\) \(rate\(ws_manager_stream_errors_total/],
  '002-20': [UPSTREAMS, 'Failed Attempts by Track', 'timeseries', /^sum by \(track\) \(rate\(ws_manager_stream_errors_total/],
  '002-21': [UPSTREAMS, 'Retries per Stream by Track', 'timeseries', /^1\.5 \* /],
  '003-16': [COLLABORATION, 'Active Connections over Time', 'timeseries', /orchestrator_websocket_active_connections/],
  '003-17': [COLLABORATION, 'Connection and Disconnection Rates', 'timeseries', /orchestrator_websocket_disconnections_total.* \* 60$/],
  '003-18': [COLLABORATION, 'Message Throughput', 'timeseries', /orchestrator_websocket_messages_in_total/],
  '003-19': [COLLABORATION, 'Latency Percentiles', 'timeseries', /^histogram_quantile\(0\.99, .*orchestrator_websocket_message_latency_bucket/],
  '003-20': [COLLABORATION, 'Reconnection Frequency', 'timeseries', /orchestrator_websocket_reconnections_total/],
  '003-21': [COLLABORATION, 'HTTP Fallback Rate', 'timeseries', /orchestrator_websocket_fallback_http_total/],
  '003-25 003-71': [COLLABORATION, 'Queued in Clients', 'stat', /pulsewire_client_reported_queued_messages/],
  '004-47': [STREAMING, 'Windows Closed', 'timeseries', /pulsewire_metric_windows_total/],
  '004-57': [STREAMING, 'Host Collector', 'timeseries', /pulsewire_collector_seconds_bucket/],
  '004-58': [STREAMING, 'Delivery', 'timeseries', /^histogram_quantile\(0\.99, .*websocket_event_latency_milliseconds_bucket.*event_type="metric"/],
  '004-59': [STREAMING, 'End to End', 'timeseries', /^histogram_quantile\(0\.99, .*websocket_message_latency_milliseconds_bucket.*event_type="metric"/],
  'C6': [DELIVERY, 'Fan-Out Factor', 'timeseries', /direction="sent".* \/ .*websocket_events_emitted_total/],
  'C8': [CONNECTIONS, 'Connection Limit Used', 'gauge', /websocket_connections_limit/],
};

/** Rows of one document whose panel is not there, of another kind, or asks for something else. */
function missing(document: string): string[] {
  return Object.entries(CHECKLIST).flatMap(([row, [file, title, kind, asks]]) => {
    const board = FILES.find((it) => it.name === file)?.board;
    const panel = board && charts(board).find((it) => it.title === title);
    const right = panel?.type === kind && (!asks || panel.targets.some((target) => asks.test(target.expr)));
    return row.startsWith(document) && !right ? [`${row}: ${JSON.stringify(panel)}`] : [];
  });
}

test('document 000: each panel of its list is there', () => {
  expect(missing('000')).toEqual([]);
});

test('document 001: each panel of its lists is there', () => {
  expect(missing('001')).toEqual([]);
});

test('document 002: each panel of its list is there, and a canary is compared with stable', () => {
  expect(missing('002')).toEqual([]);
});

test('document 003: each panel of its list is there', () => {
  expect(missing('003')).toEqual([]);
});

test('document 004: its targets have panels', () => {
  expect(missing('004')).toEqual([]);
});

test('rulings: fan-out, and connections as a share of their limit', () => {
  expect(missing('C')).toEqual([]);
});

test('document 001: title, refresh, and bands of latency', () => {
  const board = FILES.find((it) => it.name === CONNECTIONS)!.board;
  expect([board.title, board.refresh]).toEqual(['WebSocket Connections', '30s']);
  for (const title of ['Message Latency (p95)', 'Message Latency', 'Latency p95']) {
    const steps = charts(board).find((panel) => panel.title === title)?.fieldConfig.defaults.thresholds?.steps;
    expect(steps?.map((step) => step.value), title).toEqual([null, 50, 100, 500]);
  }
});

test('provisioning names the folder that is mounted and the interval that Prometheus scrapes at', () => {
  const of = (path: string): Record<string, unknown> => parse(readFileSync(deployed(path), 'utf8')) as Record<string, unknown>;
  const [source] = of('grafana/provisioning/datasources/prometheus.yml')['datasources'] as { type: string; jsonData: { timeInterval: string } }[];
  const [provider] = of('grafana/provisioning/dashboards/pulsewire.yml')['providers'] as { type: string; options: { path: string } }[];
  const jobs = of('prometheus/prometheus.yml')['scrape_configs'] as { job_name: string; scrape_interval?: string }[];
  const job = jobs.find((job) => job.job_name === 'pulsewire');
  expect([source?.type, source?.jsonData.timeInterval]).toEqual(['prometheus', job?.scrape_interval]);
  expect([provider?.type, provider?.options.path]).toEqual(['file', '/etc/grafana/dashboards']);
});
