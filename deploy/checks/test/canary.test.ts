import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { flaggers, holds, metrics } from '../src/analysis.js';
import { DEPLOY, type Manifest, type Tree, at, list, ofKind, overlays, render, text, trees, within } from '../src/manifests.js';
import { isCore, problems as misfits } from '../src/operators.js';
import { problems } from '../src/promql.js';
import { type Scene, differences, isInstalled } from '../src/promtool.js';
import { seconds } from '../src/units.js';

const RENDERED = new Map(overlays().map((overlay) => [overlay, render(overlay)]));
/** The documents' time of errors before a rollback. */
const PATIENCE = seconds('3m');

function rendered(overlay: string): readonly Manifest[] {
  return RENDERED.get(`canary/${overlay}`) ?? [];
}

function metric(name: string): { readonly query: string; readonly condition: string } {
  const found = metrics(rendered('argo')).find((each) => each.name === name);
  if (!found) throw new Error(`there is no metric ${name}`);
  return found;
}

it('operators take their manifests, key by key', () => {
  const all = [...RENDERED.values()].flat().filter((manifest) => !isCore(manifest));
  const once = [...new Map(all.map((manifest) => [JSON.stringify(manifest), manifest])).values()];
  const broken = once.map((manifest) => ({
    ...manifest, metadata: { name: `broken-${manifest.metadata.name}` }, spec: { ...(at(manifest, 'spec') as Tree), misspelt: 1 },
  }));
  const found = misfits([...once, ...broken]);
  expect(found.filter((problem) => !problem.includes('/broken-'))).toEqual([]);
  for (const { kind, metadata } of broken) expect(found.join('\n')).toContain(`${kind}/${metadata.name}: `);
  expect(new Set(once.map(({ kind }) => kind))).toEqual(new Set(['Rollout', 'AnalysisTemplate', 'ServiceMonitor', 'PrometheusRule', 'Canary', 'MetricTemplate']));
});

it('operators refuse what is no duration, and a kind that nobody knows', () => {
  const [monitor] = ofKind(rendered('argo'), 'ServiceMonitor');
  const spec = { ...(at(monitor, 'spec') as Tree), endpoints: [{ port: 'internal', interval: '5 q' }] };
  const manifest = { ...monitor, apiVersion: 'a/v1', kind: 'ServiceMonitor', metadata: { name: 'a' }, spec };
  expect(misfits([manifest, { ...manifest, kind: 'ServiceMonitors' }]).join('\n')).toMatch(/ServiceMonitors\/a: no type[^]*\/interval must match/);
});

it('asks only for what the server has', () => {
  const queries = [...metrics(rendered('argo')), ...flaggers(rendered('flagger'))];
  expect(queries.length).toBe(9);
  expect(queries.flatMap(({ where, query }) => problems(query).map((problem) => `${where}: ${problem}`))).toEqual([]);
  for (const [right, wrong] of [['websocket_connections_total', 'websocket_connection_total'], ['status=', 'state='], ['rate(', 'round(']] as const) {
    expect(problems(metric('connection-errors').query.replaceAll(right, wrong))).not.toEqual([]);
  }
});

it('scales by what the server has, under the name that the adapter gives it', () => {
  const scaler = ofKind(RENDERED.get('kubernetes/overlays/full') ?? [], 'HorizontalPodAutoscaler')[0];
  const wanted = text(scaler, 'spec', 'metrics', 1, 'pods', 'metric', 'name');
  const values: unknown = parse(readFileSync(join(DEPLOY, 'kubernetes/components/autoscale-connections/adapter-values.yaml'), 'utf8'));
  const rule = at(values, 'rules', 'custom', 0);
  expect(text(rule, 'name', 'as')).toBe(wanted);
  const filled: { readonly [variable: string]: string } = { Series: wanted, LabelMatchers: 'namespace="pulsewire",pod=~"a|b"', GroupBy: 'pod' };
  const query = text(rule, 'metricsQuery').replace(/<<\.(\w+)>>/g, (_, variable: string) => filled[variable] ?? '?');
  expect([text(rule, 'seriesQuery'), query].flatMap((each) => problems(each))).toEqual([]);
});

describe('what Argo decides', () => {
  it.each([
    ['canary-is-up', [], false], ['canary-is-up', [0], false], ['canary-is-up', [1], true],
    ['connection-errors', [], true], ['connection-errors', [Number.NaN], true], ['connection-errors', [0.05], true],
    ['connection-errors', [0.051], false], ['connection-errors', [-0.2], true], ['stream-errors', [], true],
    ['stream-errors', [Number.NaN], true], ['stream-errors', [0.2], false], ['retry-rate', [], true],
    ['retry-rate', [Number.NaN], true], ['retry-rate', [1.5], true], ['retry-rate', [1.6], false], ['retry-rate', [Infinity], false],
    ['own-verdict', [], true], ['own-verdict', [Number.NaN], true], ['own-verdict', [0], true], ['own-verdict', [1], false],
  ] as const)('%s of %j is well: %s', (name, result, well) => {
    expect(holds(metric(name).condition, result)).toBe(well);
  });

  it('is not left to chance where there is no answer, or none that is a number', () => {
    expect(() => holds('result[0] <= 0.05', [])).toThrow('there is no result[0]');
    expect(holds('result[0] <= 0.05', [Number.NaN])).toBe(false);
    expect(() => holds('all(result, # < 1)', [1])).toThrow('not understood');
  });

  it('is a rollback within three minutes of errors', () => {
    for (const { name, where, metric: { interval, failureLimit } } of metrics(rendered('argo'))) {
      // Servers give their verdict after three minutes of errors, so the first is enough.
      expect([where, interval, failureLimit]).toEqual([where, '30s', name === 'own-verdict' ? 0 : 2]);
      // The third measurement; and errors weigh in a range of two minutes from half of it on.
      expect(seconds(String(interval)) * (Number(failureLimit) + 1) + seconds('1m')).toBeLessThanOrEqual(PATIENCE);
    }
    const analysis = at(ofKind(rendered('flagger'), 'Canary')[0], 'spec', 'analysis');
    expect(seconds(text(analysis, 'interval')) * Number(text(analysis, 'threshold'))).toBe(PATIENCE);
  });
});

/** Series of both tracks over ten minutes: every 30 s so many connections more, by status. */
function connections(tracks: { readonly [track: string]: { readonly opened: number; readonly failed: number } }): { readonly [series: string]: string } {
  return Object.fromEntries(Object.entries(tracks).flatMap(([track, statuses]) => Object.entries(statuses).map(([status, step]) =>
    [`websocket_connections_total{namespace="pulsewire",track="${track}",pod="${pod(track)}",status="${status}"}`, `0+${step}x20`])));
}

function retries(tracks: { readonly [track: string]: { readonly retries: number; readonly active: number } }): { readonly [series: string]: string } {
  return Object.fromEntries(Object.entries(tracks).flatMap(([track, { retries: step, active }]) => {
    const labels = `{namespace="pulsewire",track="${track}",pod="${pod(track)}"}`;
    return [[`ws_manager_retry_count_total${labels}`, `0+${step}x20`], [`ws_manager_active_connections${labels}`, `${active}+0x20`]];
  }));
}

/** As Flagger calls its pods, so that its queries find them, too. */
function pod(track: string): string {
  return track === 'canary' ? 'pulsewire-6f9c7d8b5-x2x4z' : 'pulsewire-primary-7c9f8d6b4-k8k2p';
}

const ERRORS: readonly (readonly [string, Scene['series'], number | null])[] = [
  ['both are well', connections({ canary: { opened: 10, failed: 0 }, stable: { opened: 90, failed: 0 } }), null],
  ['clients err on both sides', connections({ canary: { opened: 9, failed: 3 }, stable: { opened: 90, failed: 30 } }), 0],
  ['the canary fails more', connections({ canary: { opened: 6, failed: 6 }, stable: { opened: 90, failed: 10 } }), 0.4],
  ['the canary fails, and nobody asks what is stable', connections({ canary: { opened: 5, failed: 5 }, stable: { opened: 0, failed: 0 } }), 0.5],
  ['the canary fails, and nothing is stable', connections({ canary: { opened: 5, failed: 5 } }), 0.5],
  ['nobody connects', connections({ canary: { opened: 0, failed: 0 }, stable: { opened: 0, failed: 0 } }), null],
  ['there is no canary', connections({ stable: { opened: 90, failed: 10 } }), null],
];
const RETRIES: readonly (readonly [string, Scene['series'], number | null])[] = [
  ['both are alike', retries({ canary: { retries: 10, active: 10 }, stable: { retries: 90, active: 90 } }), 1],
  ['the canary tries again twice as often', retries({ canary: { retries: 20, active: 10 }, stable: { retries: 90, active: 90 } }), 2],
  ['few retries say nothing', retries({ canary: { retries: 1, active: 10 }, stable: { retries: 0, active: 90 } }), null],
  ['nothing is stable', retries({ canary: { retries: 3, active: 10 } }), 1],
];

/** Servers of a track that think so of the settings that they try. */
function verdicts(track: string, ...all: readonly string[]): { readonly [series: string]: string } {
  return Object.fromEntries(all.flatMap((own, at) => ['off', 'pass', 'suspect', 'fail', 'rolled_back'].map((verdict) =>
    [`ws_manager_canary_verdict{namespace="pulsewire",track="${track}",pod="${pod(track)}",instance="${at}",verdict="${verdict}"}`, `${Number(own === verdict)}x20`])));
}

const VERDICTS: readonly (readonly [string, Scene['series'], number | null])[] = [
  ['the canary tries nothing', verdicts('canary', 'off'), 0],
  ['the canary is not sure yet', verdicts('canary', 'suspect', 'pass'), 0],
  ['one of two finds it worse', verdicts('canary', 'fail', 'pass'), 1],
  ['both do, and one has taken it back', verdicts('canary', 'fail', 'rolled_back'), 2],
  ['only what is stable tries settings', { ...verdicts('canary', 'off'), ...verdicts('stable', 'fail') }, 0],
  ['there is no canary', verdicts('stable', 'rolled_back'), null],
];

/** A query of Flagger's. */
function flagger(name: string): string {
  return flaggers(rendered('flagger')).find(({ where }) => where.endsWith(name))?.query ?? '';
}

describe.skipIf(!isInstalled)('what Prometheus answers', () => {
  it('of errors and retries, with and without the other side', () => {
    const scenes = ([[ERRORS, 'connection-errors'], [RETRIES, 'retry-rate']] as const).flatMap(([cases, name]) => cases.flatMap(([, series, answer]) => [
      { query: metric(name).query, series, at: '10m', answer },
      // Flagger is answered 0 where there is nothing to judge.
      { query: flagger(name), series, at: '10m', answer: answer ?? 0 },
    ]));
    expect(differences(scenes)).toBe('');
    const [first] = scenes;
    expect(first && differences([{ ...first, answer: 1 }])).toContain('FAILED');
  });

  it('of what servers think of the settings that they try', () => {
    const scenes = VERDICTS.flatMap(([, series, answer]) => [
      { query: metric('own-verdict').query, series, at: '10m', answer },
      { query: flagger('own-verdict'), series, at: '10m', answer: answer ?? 0 },
    ]);
    expect(differences(scenes)).toBe('');
    const range = trees(at(ofKind(rendered('flagger'), 'Canary')[0], 'spec', 'analysis', 'metrics')).find(({ name }) => name === 'own-verdict');
    expect(at(range, 'thresholdRange')).toEqual({ max: 0 });
  });

  it('of a canary that is up, down and not there', () => {
    const up = (value: string): Scene['series'] => ({ [`up{namespace="pulsewire",track="canary",pod="${pod('canary')}"}`]: value });
    const { query } = metric('canary-is-up');
    expect(differences([{ query, series: up('1x20'), at: '10m', answer: 1 }, { query, series: up('0x20'), at: '10m', answer: null }, { query, series: {}, at: '10m', answer: null }])).toBe('');
  });
});

it('the canary gets a tenth of new connections', () => {
  const steps = trees(at(ofKind(rendered('argo'), 'Rollout')[0], 'spec', 'strategy', 'canary', 'steps'));
  expect(steps[0]).toEqual({ setWeight: 10 });
  // As long as connections take to come back once.
  const aged = [...within(rendered('argo'))].find((tree) => tree['name'] === 'PULSEWIRE_LIMITS_CONNECTION_AGE_MAX');
  expect(seconds(text(steps[1], 'pause', 'duration'))).toBeGreaterThanOrEqual(seconds(text(aged, 'value')));
  expect(list(at(ofKind(rendered('flagger'), 'Canary')[0], 'spec', 'analysis', 'stepWeights'))).toEqual([10]);
  const canary = ofKind(rendered('plain'), 'Deployment').find(({ metadata }) => metadata.name === 'pulsewire-canary');
  const least = Number(text(ofKind(rendered('plain'), 'HorizontalPodAutoscaler')[0], 'spec', 'minReplicas'));
  expect(Number(text(canary, 'spec', 'replicas')) / (least + 1)).toBe(0.1);
});

it('the canary differs from what is stable by its labels, its image and that it tries settings', () => {
  const [stable, canary] = ['pulsewire', 'pulsewire-canary'].map((name) => ofKind(rendered('plain'), 'Deployment').find(({ metadata }) => metadata.name === name));
  const image = ['spec', 'template', 'spec', 'containers', 0, 'image'] as const;
  expect(text(canary, ...image)).not.toBe(text(stable, ...image));
  const labels = { ...(at(stable, 'spec', 'template', 'metadata', 'labels') as Tree), track: 'canary', 'app.kubernetes.io/component': 'canary' };
  expect(at(canary, 'spec', 'template', 'metadata', 'labels')).toEqual(labels);
  const same = structuredClone(at(stable, 'spec', 'template', 'spec')) as { containers: { image: string; env: Tree[] }[] };
  const [gateway] = same.containers;
  if (!gateway) throw new Error('there is no container');
  gateway.image = text(canary, ...image);
  gateway.env.push({ name: 'USE_NEW_WS_MANAGER', value: 'true' });
  expect(at(canary, 'spec', 'template', 'spec')).toEqual(same);
});
