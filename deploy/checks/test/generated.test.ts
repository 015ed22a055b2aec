/** What `pulsewire rules generate` prints for others than the default settings, read by who it is for. */

import { spawnSync } from 'node:child_process';
import { PrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';

import { program } from '../../../sdk/typescript/test/gateway.js';
import { problems } from '../src/promql.js';
import { type Rule, recorded, shippedRules } from '../src/rules.js';

function generate(...options: readonly string[]): string {
  const words = ['rules', 'generate', '--config=/dev/null', ...options];
  const { status, stdout, stderr } = spawnSync(program('PULSEWIRE_BIN', 'pulsewire'), words, { encoding: 'utf8', env: {} });
  expect(status, stderr).toBe(0);
  return stdout;
}

interface Groups {
  readonly groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[];
}

const rulesIn = ({ groups }: Groups): Rule[] => groups.flatMap((group) => [...group.rules]);

test('for the operator there is a resource for each file, with the same rules', () => {
  const documents = parseAllDocuments(generate('--form=kubernetes')).map((one) => one.toJS() as Record<string, unknown>);
  expect(documents).toHaveLength(6);
  for (const document of documents) new PrometheusRule(document as never).validate();
  const rules = documents.flatMap((document) => rulesIn(document['spec'] as Groups));
  expect(rules.map((rule) => rule.expr)).toEqual(rulesIn(parse(generate()) as Groups).map((rule) => rule.expr));
  expect(rules).toHaveLength(shippedRules().length);
});

describe.each([
  ['document 001\'s numbers', ['--set=thresholds.profile=seed-001']],
  ['other limits', ['--set=thresholds.connections=100 200 300', '--set=thresholds.latency=1ms 70ms 333ms', '--set=thresholds.queue=off']],
  ['every limit off', ['connections', 'latency', 'duration', 'memory', 'heartbeats', 'auth', 'fallback', 'reconnects', 'failures', 'drops', 'slow', 'queue', 'files', 'lag'].map((one) => `--set=thresholds.${one}=off`)],
] as const)('with %s', (_, options) => {
  const rules = rulesIn(parse(generate(...options)) as Groups);

  test('every query is still right', () => {
    const known = { recorded: recorded(rules) };
    expect(rules.flatMap((rule) => problems(rule.expr, known))).toEqual([]);
    expect(rules.length).toBeGreaterThan(80);
  });
});
