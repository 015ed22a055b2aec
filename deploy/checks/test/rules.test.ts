/** What holds for every alert: its labels, its texts, its page, and that its tests name it. */

import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

import { deployed, rulesOf, shippedRules, type Rule } from '../src/rules.js';

interface Expectation {
  readonly expr: string;
  readonly exp_samples: readonly { readonly labels?: string }[];
}

interface Tests {
  readonly rule_files: readonly string[];
  readonly tests: readonly { readonly promql_expr_test?: readonly Expectation[] }[];
}

const alerts = shippedRules().filter((rule): rule is Rule & { alert: string } => rule.alert !== undefined);
const expectations = readdirSync(deployed('prometheus/tests'))
  .filter((name) => name.endsWith('.test.yml') && name !== 'seed-defects.test.yml')
  .map((name) => parse(readFileSync(deployed(`prometheus/tests/${name}`), 'utf8')) as Tests)
  .flatMap((file) => file.tests.flatMap((one) => one.promql_expr_test ?? []));

const SECONDS = { s: 1, m: 60, h: 3600, d: 86400 } as const;

function seconds(span: string): number {
  return Number(span.slice(0, -1)) * SECONDS[span.slice(-1) as keyof typeof SECONDS];
}

/** The ranges of a query; an offset looks back as well. */
function ranges(expr: string): number[] {
  return [...expr.matchAll(/\[(\d+[smhd])\]|offset (\d+[smhd])/g)].map((found) => seconds(found[1] ?? found[2] ?? ''));
}

describe.each(alerts.map((rule) => [`${rule.alert} ${rule.labels?.['long'] ?? ''}`.trim(), rule] as const))('%s', (_, rule) => {
  test('says how urgent it is, of what, and what to do', () => {
    expect(['critical', 'warning', 'info', 'none']).toContain(rule.labels?.['severity']);
    expect(['websocket', 'collaboration', 'ws-manager', 'streaming', 'meta']).toContain(rule.labels?.['component']);
    expect(rule.labels?.['condition']).toMatch(/^[a-z][a-z_]+$/);
    expect(rule.annotations?.['summary']).toBeTruthy();
    expect(rule.annotations?.['runbook_url']).toMatch(new RegExp(`^https://.*/${rule.alert}\\.md$`));
  });

  test('shows numbers as people read them', () => {
    const texts = Object.values(rule.annotations ?? {}).join(' ');
    expect(texts).not.toMatch(/\{\{\s*\$value\s*\}\}/);
  });

  test('looks back over more than one scrape, whatever the interval', () => {
    // What is absent is asked of scrapes; a minute, as the longest interval, still has two in it.
    const least = rule.expr.includes('absent_over_time') ? 120 : 300;
    for (const range of ranges(rule.expr)) expect(range).toBeGreaterThanOrEqual(least);
  });

  test('is named where it fires and where it is quiet', () => {
    const name = `alertname="${rule.alert}"`;
    const fires = expectations.some((one) => one.exp_samples.some((sample) => sample.labels?.includes(name)));
    const isQuiet = expectations.some((one) => one.expr.includes(name) && one.exp_samples.length === 0);
    expect(fires, 'no test expects it').toBe(true);
    expect(isQuiet || rule.alert === 'Watchdog', 'no test expects its silence').toBe(true);
  });
});

test('a critical alert has a warning of its condition to mute, or stands alone', () => {
  const severities = new Map<string, Set<string>>();
  for (const { labels } of alerts) {
    const condition = labels?.['condition'] ?? '';
    severities.set(condition, (severities.get(condition) ?? new Set()).add(labels?.['severity'] ?? ''));
  }
  for (const condition of ['latency', 'heartbeat', 'auth', 'churn', 'memory', 'connection_count', 'canary']) {
    expect([...(severities.get(condition) ?? [])].sort(), condition).toEqual(['critical', 'warning']);
  }
});

test('a mass drop, which is over at once, is remembered longer than its alert holds', () => {
  const drop = alerts.find((rule) => rule.alert === 'WebSocketConnectionDrop');
  expect(Math.min(...ranges(drop?.expr ?? ''))).toBeGreaterThan(seconds(drop?.for ?? '0s'));
});

test('groups have names of their own over all files', () => {
  const groups = new Map<string, string>();
  for (const { group, file } of shippedRules()) {
    expect(groups.get(group) ?? file).toBe(file);
    groups.set(group, file);
  }
});

/** Every alert that the requirement documents name. */
const DOCUMENTS = [
  ['WebSocketHighErrorRate', 'WebSocketHighLatency', 'WebSocketConnectionDrop', 'WebSocketSlowInitialState'],
  ['HighWebSocketConnections', 'CriticalWebSocketConnections', 'HighWebSocketLatency', 'CriticalWebSocketLatency', 'HighHeartbeatTimeouts', 'HighAuthenticationFailures', 'HighConnectionChurn'],
  ['WSManagerServiceDown', 'WSManagerConnectionLeak', 'WSManagerHighRetryRate', 'WSManagerCleanupLag', 'WSManagerCanaryErrorRateHigher', 'WSManagerCanaryRetryDegraded', 'WSManagerCanaryRollback'],
  ['CollaborationHighReconnectionRate', 'CollaborationHighLatency', 'CollaborationHttpFallback', 'CollaborationMessageFailures', 'CollaborationClientQueueLong'],
].flatMap((names, document) => names.map((name) => [`00${document}`, name] as const));

/** How urgent and for how long, as the documents say. */
const AS_WRITTEN = rulesOf(deployed('prometheus/tests/seed-literal.yml'), 'seed-literal.yml').filter(
  (rule) => ['document-000', 'websocket_alerts'].includes(rule.group) || rule.group === 'document-002',
);

test.each(DOCUMENTS)('document %s: %s is there', (_, name) => {
  expect(alerts.map((rule) => rule.alert)).toContain(name);
});

test.each(AS_WRITTEN.filter((rule) => !rule.alert?.startsWith('WSManagerCanary')).map((rule) => [rule.alert ?? '', rule] as const))(
  '%s is as urgent and holds as long as its document says',
  (name, written) => {
    const shipped = alerts.find((rule) => rule.alert === name);
    expect([shipped?.labels?.['severity'], shipped?.for]).toEqual([written.labels?.['severity'], written.for]);
  },
);
