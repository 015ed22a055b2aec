// What queries answer, by Prometheus itself: `promtool test rules` with the queries as recording rules.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';

/** What happened before a query is asked, and what it is to answer: a number, NaN, or nothing. */
export interface Scene {
  readonly query: string;
  /** Series with their values every 30 s, as promtool writes them. */
  readonly series: { readonly [series: string]: string };
  readonly at: string;
  readonly answer: number | null;
}

export const isInstalled = spawnSync('promtool', ['--version']).status === 0;

/** What promtool says of scenes whose queries answer something else; empty if all answer as they are to. */
export function differences(scenes: readonly Scene[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'pulsewire-promtool-'));
  try {
    const tests = scenes.map(({ query, series, at, answer }) => ({
      interval: '30s',
      input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
      // Rounded: versions of Prometheus differ in the last digits.
      promql_expr_test: [{ expr: `round(${query.trim()}, 0.001)`, eval_time: at, exp_samples: answer === null ? [] : [{ labels: '{}', value: answer }] }],
    }));
    writeFileSync(join(folder, 'tests.yml'), stringify({ rule_files: [], evaluation_interval: '30s', tests }));
    const { status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', 'tests.yml'], { cwd: folder, encoding: 'utf8' });
    return status === 0 ? '' : stdout + stderr;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
