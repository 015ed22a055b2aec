// Manifests of operators, held to the types of their packages by the TypeScript compiler: a literal may have no member
// that its type has not, which the packages' own validators let pass.
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AnalysisTemplate } from '@kubernetes-models/argo-rollouts/argoproj.io/v1alpha1/AnalysisTemplate';
import { Rollout } from '@kubernetes-models/argo-rollouts/argoproj.io/v1alpha1/Rollout';
import { PrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule';
import { ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor';
import type { Manifest } from './manifests.js';

const ARGO = '@kubernetes-models/argo-rollouts/argoproj.io/v1alpha1';
const PROMETHEUS = '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';
const FOLDER = fileURLToPath(new URL('../node_modules/.operators', import.meta.url));
const FLAGGER = relative(FOLDER, fileURLToPath(new URL('flagger.js', import.meta.url)));

/** Where the type of each kind is, and what it is called there. */
const TYPES: { readonly [kind: string]: readonly [module: string, type: string] } = {
  Rollout: [ARGO, 'IRollout'], AnalysisTemplate: [ARGO, 'IAnalysisTemplate'],
  ServiceMonitor: [PROMETHEUS, 'IServiceMonitor'], PrometheusRule: [PROMETHEUS, 'IPrometheusRule'],
  Canary: [FLAGGER, 'Canary'], MetricTemplate: [FLAGGER, 'MetricTemplate'],
};

/** Patterns and bounds, which types do not say. */
const MODELS: { readonly [kind: string]: new (data: never) => { validate(): void } } = { Rollout, AnalysisTemplate, ServiceMonitor, PrometheusRule };

/** Whether Kubernetes itself has the kind. */
export function isCore({ apiVersion }: Manifest): boolean {
  const group = apiVersion.includes('/') ? apiVersion.split('/')[0] ?? '' : '';
  return !group.includes('.') || group.endsWith('.k8s.io');
}

/** What is wrong with manifests of operators, each with its kind and name; nothing, as it should be. */
export function problems(all: readonly Manifest[]): readonly string[] {
  const unknown = all.filter(({ kind }) => !TYPES[kind]).map(({ kind, metadata }) => `${kind}/${metadata.name}: no type is known`);
  return [...unknown, ...all.flatMap(byModel), ...byTypes(all.filter(({ kind }) => TYPES[kind]))];
}

function byModel(manifest: Manifest): readonly string[] {
  const Model = MODELS[manifest.kind];
  try {
    if (Model) new Model(manifest as never).validate();
    return [];
  } catch (error) {
    return [`${manifest.kind}/${manifest.metadata.name}: ${String(error)}`];
  }
}

/** One file for each, so that the compiler's lines say which it is about. */
function byTypes(all: readonly Manifest[]): readonly string[] {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  const names = all.map((manifest, index) => {
    const [module, type] = TYPES[manifest.kind] ?? [];
    writeFileSync(join(FOLDER, `m${index}.ts`), `import type { ${type} } from '${module}${module?.startsWith('@') ? `/${manifest.kind}` : ''}';\nexport const it: ${type} = ${JSON.stringify(manifest)};\n`);
    return `${manifest.kind}/${manifest.metadata.name}`;
  });
  writeFileSync(join(FOLDER, 'tsconfig.json'), JSON.stringify({ extends: '../../tsconfig.json', include: ['*.ts'] }));
  const compiler = fileURLToPath(new URL('../node_modules/.bin/tsc', import.meta.url));
  const { stdout, status } = spawnSync(compiler, ['--noEmit', '--pretty', 'false', '--project', FOLDER], { encoding: 'utf8' });
  rmSync(FOLDER, { recursive: true, force: true });
  const lines = stdout.split('\n').filter((line) => line.includes('error TS'));
  if (status !== 0 && lines.length === 0) return [`the compiler ended with ${status}: ${stdout}`];
  return lines.map((line) => line.replace(/^.*m(\d+)\.ts\(.*?\): error \w+/, (_, index: string) => names[Number(index)] ?? ''));
}
