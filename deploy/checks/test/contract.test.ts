/** Every query that is shipped, held against the metric catalogue. */

import { describe, expect, test } from 'vitest';

import { problems } from '../src/promql.js';
import { deployed, recorded, rulesOf, shippedRules } from '../src/rules.js';

const rules = shippedRules();
const known = { recorded: recorded(rules) };

describe('rules', () => {
  test('there are many', () => {
    expect(rules.length).toBeGreaterThan(100);
  });

  test.each(rules.map((rule) => [`${rule.file} ${rule.alert ?? rule.record}`, rule.expr]))('%s', (_, expr) => {
    expect(problems(expr, known)).toEqual([]);
  });
});

/** A query with one thing wrong, and a part of what is said of it. */
const BROKEN: readonly (readonly [string, string])[] = [
  ['websocket_active_conections', 'no metric'],
  ['rate(websocket_event_latency_milliseconds[5m])', 'no metric'],
  ['sum(rate(websocket_events_received_total[5m])) /', 'cannot be parsed'],
  ['rate(websocket_events_received_total{type="x"}[5m])', 'no label type'],
  ['rate(websocket_connections_total{status="open"}[5m])', 'open is none of'],
  ['rate(websocket_connections_total{status!="open"}[5m])', 'open is none of'],
  ['rate(websocket_connections_total{status=~"opened|close"}[5m])', 'close is none of'],
  ['rate(websocket_connections_total{status!~"(open|close)"}[5m])', 'is none of'],
  ['rate(websocket_active_connections[5m])', 'no counter'],
  ['increase(websocket_subscriptions_total[5m])', 'no counter'],
  ['rate(pulsewire_connection_age_seconds_bucket[5m])', 'no counter'],
  ['websocket_events_received_total > 0.5', 'without rate()'],
  ['sum(websocket_event_latency_milliseconds_count)', 'without rate()'],
  ['histogram_quantile(0.95, sum by (job) (rate(websocket_event_latency_milliseconds_bucket[5m])))', 'without le'],
  ['histogram_quantile(0.95, rate(websocket_event_latency_milliseconds_count[5m]))', 'without le'],
  ['rate(websocket_event_latency_milliseconds_bucket{le="500"}[5m])', 'only one of Prometheus 2 and 3'],
  ['rate(websocket_event_latency_milliseconds_bucket{le=~"400(\\\\.0)?"}[5m])', 'no bucket of'],
  ['sum by (transport) (websocket_active_connections)', 'which nothing in it has'],
  ['rate(websocket_disconnections_total[5m]) > rate(websocket_connections_total[5m])', 'differ in status'],
  ['sum by (job) (up) / sum by (instance) (up)', 'differ in job, instance'],
  ['sum by (job) (up) and sum by (job, instance) (up)', 'differ in instance'],
  ['sum by (job) (up) unless on (pod) sum by (job) (up)', 'a side does not have'],
  [
    'rate(websocket_connections_total{status="opened"}[5m]) / rate(websocket_connections_total{status="closed"}[5m])',
    'status is opened here and closed there',
  ],
  ['rate(ws_manager_retry_count_total{track="canary"}[5m]) / rate(ws_manager_retry_count_total{track="stable"}[5m])', 'track is canary here'],
  ['job:websocket_active_connections:sum{instance="a"}', 'no label instance'],
  ['job:websocket_active_connections:sum / websocket_active_connections', 'differ in'],
  ['histogram_quantile(0.95, job:websocket_active_connections:sum)', 'without le'],
  ['{__name__="up"}', 'without a name'],
];

test.each(BROKEN)('what is wrong with %s is noticed', (query, said) => {
  expect(problems(query, known).join('\n')).toContain(said);
});

/** Queries that look odd and are right. */
const RIGHT: readonly string[] = [
  'absent_over_time(up{job=~"a|b"}[2m])',
  'count(websocket_events_received_total)',
  'sum by (job, reason) (rate(websocket_messages_dropped_total[5m])) > on (job) group_left () sum by (job) (rate(websocket_messages_total[5m]))',
  'rate(websocket_connections_total{status="opened"}[5m]) / ignoring (status) rate(websocket_connections_total{status="closed"}[5m])',
  'histogram_quantile(0.5, sum by (le) (pulsewire_connection_age_seconds_bucket))',
  'rate(websocket_event_latency_milliseconds_bucket{le="0.25"}[5m])',
  'histogram_quantile($quantile, sum by (le) (rate(websocket_event_latency_milliseconds_bucket{job=~"$job",event_type=~"${type:regex}"}[$__rate_interval])))',
  '100 * sum(rate(websocket_connections_total{status="$status"}[${__rate_interval}])) / clamp_min(sum(websocket_active_connections offset 5m), 1)',
  'time() - process_start_time_seconds',
  'topk(5, sum by (project_id) (websocket_subscriptions_by_project))',
];

test.each(RIGHT)('nothing is wrong with %s', (query) => {
  expect(problems(query, known)).toEqual([]);
});

test('the documents\' own rules are not right', () => {
  const literal = rulesOf(deployed('prometheus/tests/seed-literal.yml'), 'seed-literal.yml');
  const wrong = literal.filter((rule) => problems(rule.expr).length > 0).map((rule) => rule.alert ?? rule.record);
  expect(wrong).toContain('WebSocketConnectionDrop');
  expect(wrong).toContain('WSManagerHighRetryRate');
  expect(wrong).toContain('document001:connections_opened_per_closed:ratio');
});
