import { describe, expect, it } from 'vitest';
import { prometheusRule, standing, strip, worstFirst } from '../src/alerts.js';
import type { AlertRow } from '../src/operation.js';

const RULE: AlertRow = {
  id: 'latency', title: 'Message latency', severity: 'none', state: 'inactive', value: 3, limit: 100, unit: 'ms', direction: 'above', target: 50, warning: 100, critical: 500, windowSeconds: 60, holdSeconds: 60,
  pendingSeconds: 0, since: null, forSeconds: null, history: [], expression: "rate(x{code='a'}[1m]) > 0.5", silencedUntil: null, help: null, link: null,
};

describe('a rule', () => {
  it('is told by its severity only while it fires', () => {
    expect(standing(RULE)).toEqual(['target', 'within limits']);
    expect(standing({ ...RULE, value: null })).toEqual(['none', 'no data']);
    expect(standing({ ...RULE, state: 'pending', severity: 'critical' })).toEqual(['ok', 'pending']);
    expect(standing({ ...RULE, state: 'firing', severity: 'critical' })).toEqual(['critical', 'critical']);
    expect(standing({ ...RULE, state: 'firing', severity: 'critical', silencedUntil: '2026-11-22T03:00:00Z' })).toEqual(['critical', 'silenced']);
  });

  it('stands before others that are better, and behind them while it is silenced', () => {
    const named = (id: string, more: Partial<AlertRow>): AlertRow => ({ ...RULE, id, ...more });
    const rules = [
      named('fine', {}), named('pending', { state: 'pending' }), named('silenced', { state: 'firing', severity: 'warning', silencedUntil: '2026-11-22T03:00:00Z' }),
      named('warning', { state: 'firing', severity: 'warning' }), named('critical', { state: 'firing', severity: 'critical' }), named('also fine', {}),
    ];
    expect(worstFirst(rules).map(({ id }) => id)).toEqual(['critical', 'warning', 'silenced', 'pending', 'fine', 'also fine']);
  });

  it('is drawn as pieces of the time that is looked at, and only of that', () => {
    const at = (second: number): string => new Date(second * 1000).toISOString();
    const history = [{ from: at(0), to: at(50), state: 'none' }, { from: at(50), to: at(120), state: 'warning' }, { from: at(120), to: null, state: 'critical' }];
    expect(strip(history, 100_000, 200_000)).toEqual([{ from: 0, to: 0.2, state: 'warning' }, { from: 0.2, to: 1, state: 'critical' }]);
    expect(strip(history, 0, 40_000)).toEqual([{ from: 0, to: 1, state: 'target' }]);
  });

  it('is written for Prometheus with its quotes doubled', () => {
    expect(prometheusRule({ ...RULE, id: 'memory_per-connection', help: "look who it is" })).toBe(
      "- alert: PulsewireMemoryPerConnection\n  expr: 'rate(x{code=''a''}[1m]) > 0.5'\n  for: 60s\n  labels:\n    severity: warning\n  annotations:\n    summary: 'Message latency'\n    description: 'look who it is'\n",
    );
    expect(prometheusRule({ ...RULE, limit: 500 })).toContain('severity: critical');
  });
});
