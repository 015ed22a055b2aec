import { expect, it } from 'vitest';
import { type Manifest, isTree, ofKind, render } from '../src/manifests.js';
import { faults } from '../src/references.js';
import { secrets } from '../src/secrets.js';

const RENDERED = new Map(['kubernetes/overlays/single', 'kubernetes/overlays/full', 'canary/argo', 'canary/plain', 'canary/flagger'].map((folder) => [folder, render(folder)]));
const GATEWAY = 'spec.template.spec.containers.0';

/** The manifests of an overlay, with another value at one place; `Kind/name:a.b.0.c`, and dots of a label as `~`. */
function changed(folder: string, place: string, value: unknown): readonly Manifest[] {
  const all = structuredClone(RENDERED.get(folder) ?? []);
  const [kind = '', name = '', path = ''] = place.split(/[/:]/);
  const manifest = ofKind(all, kind).find(({ metadata }) => metadata.name === name || name === '*');
  const steps = path.split('.').map((step) => step.replaceAll('~', '.').replaceAll('|', '/'));
  const last = steps.pop() ?? '';
  const parent = steps.reduce<unknown>((found, step) => (Array.isArray(found) ? found[Number(step)] as unknown : isTree(found) ? found[step] : undefined), manifest);
  if (typeof parent !== 'object' || parent === null || !(last in parent)) throw new Error(`there is no ${place}`);
  Object.assign(parent, { [last]: value });
  return all;
}

it.each([
  ['kubernetes/overlays/single', `Deployment/pulsewire:spec.selector.matchLabels.app~kubernetes~io|component`, 'other', 'its selector does not match its own pods'],
  ['kubernetes/overlays/single', 'Deployment/pulsewire:spec.template.spec.serviceAccountName', 'other', 'there is no ServiceAccount/other'],
  ['kubernetes/overlays/single', `Deployment/pulsewire:${GATEWAY}.livenessProbe.httpGet.port`, 'admin', 'a probe asks port admin'],
  ['kubernetes/overlays/single', `Deployment/pulsewire:${GATEWAY}.volumeMounts.0.name`, 'other', 'there is no volume other'],
  ['kubernetes/overlays/single', `Deployment/pulsewire:${GATEWAY}.args.2`, '/etc/pulsewire/settings.toml', 'nothing mounts /etc/pulsewire/settings.toml'],
  ['kubernetes/overlays/full', `Deployment/pulsewire:${GATEWAY}.env.0.value`, '/run/secrets/pulsewire/database', 'nothing mounts /run/secrets/pulsewire/database'],
  ['kubernetes/overlays/single', 'PersistentVolumeClaim/pulsewire:metadata.name', 'other', 'there is no PersistentVolumeClaim/pulsewire'],
  ['kubernetes/overlays/single', 'ConfigMap/*:metadata.name', 'pulsewire', 'there is no ConfigMap/pulsewire-'],
  ['kubernetes/overlays/single', 'Deployment/pulsewire:spec.template.spec.volumes.2.secret.secretName', 'other', 'nobody makes Secret/other'],
  ['kubernetes/overlays/single', 'Service/pulsewire:spec.selector', { app: 'pulsewire' }, 'Service/pulsewire: no pod has {"app":"pulsewire"}'],
  ['kubernetes/overlays/single', 'PodDisruptionBudget/pulsewire:spec.selector.matchLabels', { app: 'pulsewire' }, 'PodDisruptionBudget/pulsewire: no pod has'],
  ['kubernetes/overlays/single', 'NetworkPolicy/pulsewire:spec.podSelector.matchLabels', { app: 'pulsewire' }, 'NetworkPolicy/pulsewire: no pod has'],
  ['kubernetes/overlays/single', 'Deployment/pulsewire:spec.template.spec.topologySpreadConstraints.0.labelSelector.matchLabels', { app: 'a' }, 'Deployment/pulsewire: no pod has'],
  ['kubernetes/overlays/single', 'Service/pulsewire:spec.ports.0.targetPort', 'web', 'Service/pulsewire: its pods have no port web'],
  ['kubernetes/overlays/single', 'NetworkPolicy/pulsewire:spec.ingress.0.ports.0.port', 'web', 'NetworkPolicy/pulsewire: its pods have no port web'],
  ['kubernetes/overlays/full', 'HorizontalPodAutoscaler/pulsewire:spec.scaleTargetRef.name', 'other', 'there is no Deployment/other'],
  ['kubernetes/overlays/full', 'Ingress/pulsewire:spec.rules.0.http.paths.0.backend.service.port.name', 'web', 'there is no Service/pulsewire with port web'],
  ['kubernetes/overlays/full', 'ServiceMonitor/pulsewire:spec.selector.matchLabels', { app: 'a' }, 'it selects 0 services'],
  ['kubernetes/overlays/full', 'ServiceMonitor/pulsewire:spec.endpoints.0.port', 'http', 'Service/pulsewire-internal has no port http'],
  ['kubernetes/overlays/full', 'ServiceMonitor/pulsewire:spec.endpoints.0.authorization.credentials.key', 'token', 'Secret/pulsewire has no key token'],
  ['kubernetes/overlays/full', 'ServiceMonitor/pulsewire:spec.jobLabel', 'app', 'Service/pulsewire-internal has no label app'],
  ['kubernetes/overlays/full', 'ServiceMonitor/pulsewire:spec.podTargetLabels', ['tracks'], 'have no label tracks'],
  ['canary/argo', 'Rollout/pulsewire:spec.workloadRef.name', 'other', 'Rollout/pulsewire: there is no Deployment/other'],
  ['canary/argo', 'Rollout/pulsewire:spec.strategy.canary.canaryService', 'other', 'Rollout/pulsewire: there is no Service/other'],
  ['canary/argo', 'Rollout/pulsewire:spec.strategy.canary.trafficRouting.nginx.stableIngress', 'other', 'there is no Ingress/other'],
  ['canary/argo', 'Rollout/pulsewire:spec.strategy.canary.analysis.templates.0.templateName', 'other', 'there is no AnalysisTemplate/other'],
  ['canary/argo', 'Rollout/pulsewire:spec.strategy.canary.analysis.args.0.name', 'ns', 'no argument namespace'],
  ['canary/argo', 'HorizontalPodAutoscaler/pulsewire:spec.scaleTargetRef.kind', 'ReplicaSet', 'there is no ReplicaSet/pulsewire'],
  ['canary/plain', 'Deployment/pulsewire-canary:spec.selector.matchLabels', { 'app.kubernetes.io/name': 'pulsewire' }, 'its selector takes the pods of Deployment/pulsewire'],
  ['canary/plain', 'RoleBinding/pulsewire-rollback:roleRef.name', 'other', 'RoleBinding/pulsewire-rollback: there is no Role/other'],
  ['canary/plain', `Deployment/pulsewire-rollback:${GATEWAY}.env.3.valueFrom.secretKeyRef.key`, 'other', 'Secret/pulsewire-rollback has no key other'],
  ['canary/flagger', 'Canary/pulsewire:spec.analysis.metrics.0.templateRef.name', 'other', 'there is no MetricTemplate/other'],
  ['canary/flagger', 'Canary/pulsewire:spec.service.targetPort', 'web', 'Canary/pulsewire: its pods have no port web'],
  ['canary/flagger', 'Canary/pulsewire:spec.targetRef.name', 'other', 'Canary/pulsewire: there is no Deployment/other'],
])('%s: %s as %j is noticed', (folder, place, value, fault) => {
  expect(faults(changed(folder, place, value), secrets()).join('\n')).toContain(fault);
});
