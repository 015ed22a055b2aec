/**
 * Every series that rules and dashboards ask for, in the scrape of a server to which nothing has happened yet: a counter that is born
 * with its first event is not seen by `rate()`.
 */

import { expect, test } from 'vitest';

import { Gateway } from '../../../sdk/typescript/test/gateway.js';
import { BUILT_IN, TARGET } from '../src/catalogue.js';
import { charts, read } from '../src/grafana.js';
import { matches } from '../src/matchers.js';
import { type Selector, selectors } from '../src/promql.js';
import { recorded, shippedRules } from '../src/rules.js';

/** What a server shows only if it is told to and reaches it: a certificate, streams of a Redis that is there. */
const WITH_MORE = new Set([
  'pulsewire_tls_certificate_expiry_timestamp_seconds',
  'pulsewire_redis_stream_lag_entries',
  'pulsewire_redis_stream_pending_entries',
]);
/** What has to be set so that everything else is shown: a server of several nodes that reads streams. Nothing of it is there. */
const SETTINGS = [
  'redis.url=redis://127.0.0.1:1',
  'redis.streams=orders',
  'store.url=postgres://pulsewire@127.0.0.1:1/pulsewire',
];

type Labels = Readonly<Record<string, string>>;

/** The series of a page, by name. */
function seriesOf(page: string): Map<string, Labels[]> {
  const series = new Map<string, Labels[]>();
  for (const line of page.split('\n')) {
    const [, name, labels = ''] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$/.exec(line) ?? [];
    if (!name) continue;
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((found) => [found[1], found[2]] as const);
    series.set(name, [...(series.get(name) ?? []), Object.fromEntries(pairs)]);
  }
  return series;
}

function isThere({ name, matchers }: Selector, page: ReadonlyMap<string, readonly Labels[]>): boolean {
  const own = matchers.filter((matcher) => !TARGET.has(matcher.label) && !matcher.value.includes('$'));
  return (page.get(name) ?? []).some((labels) => own.every((matcher) => matches(matcher, labels[matcher.label] ?? '')));
}

/** Every query of the dashboards' panels. */
const panels = read().flatMap(({ board }) => charts(board).flatMap((chart) => chart.targets.map((target) => target.expr)));

const rules = shippedRules();
const made = recorded(rules);
const wanted = [...rules.map((rule) => rule.expr), ...panels]
  .flatMap((query) => selectors(query))
  .filter(({ name }) => !BUILT_IN.has(name) && !made.has(name) && !WITH_MORE.has(name));

test('everything that rules and dashboards ask for is there before anything has happened', async () => {
  await using gateway = await Gateway.start({ set: SETTINGS });
  const answer = await fetch(`http://${gateway.address}/metrics`);
  expect(answer.status).toBe(200);
  const page = seriesOf(await answer.text());
  const missing = wanted.filter((selector) => !isThere(selector, page)).map((selector) => JSON.stringify(selector));
  expect([...new Set(missing)]).toEqual([]);
  expect(wanted.length).toBeGreaterThan(250);
  // The check itself: neither a name nor a value that does not exist is found.
  expect(isThere({ name: 'websocket_connections_total', matchers: [{ label: 'status', is: '=', value: 'open' }] }, page)).toBe(false);
  expect(isThere({ name: 'websocket_conections_total', matchers: [] }, page)).toBe(false);
});
