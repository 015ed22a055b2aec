// What manifests say of each other: every name in them is somebody's, and every selector finds somebody.
import { type Labels, type Manifest, type Tree, at, isTree, list, ofKind, text, trees, within } from './manifests.js';

/** Secrets that are made by hand, and their keys: they are in no manifest. */
export type Secrets = ReadonlyMap<string, readonly string[]>;

/** A workload's pods. */
interface Pods { readonly of: Manifest; readonly template: Tree; readonly labels: Labels }

/** What is wrong with the references in what one overlay makes; nothing, as it should be. */
export function faults(all: readonly Manifest[], secrets: Secrets): readonly string[] {
  const pods = workloads(all);
  const checks = [
    ...pods.flatMap((each) => ofPods(each, pods, all, secrets)),
    ...all.flatMap((manifest) => selectors(manifest, pods)),
    ...ofKind(all, 'Service').flatMap((service) => ofService(service, pods)),
    ...all.flatMap((manifest) => targets(manifest, all)),
    ...ofKind(all, 'Ingress').flatMap((ingress) => ofIngress(ingress, all)),
    ...ofKind(all, 'NetworkPolicy').flatMap((policy) => ofPolicy(policy, pods)),
    ...ofKind(all, 'ServiceMonitor').flatMap((monitor) => ofMonitor(monitor, all, pods, secrets)),
    ...ofKind(all, 'Rollout').flatMap((rollout) => ofRollout(rollout, all)),
    ...ofKind(all, 'Canary').flatMap((canary) => ofCanary(canary, all, pods)),
    ...ofKind(all, 'RoleBinding').flatMap((binding) => ofBinding(binding, all)),
  ];
  return [...new Set(checks)];
}

/** Deployments with the labels of their pods, as a canary's controller changes them, too. */
export function workloads(all: readonly Manifest[]): readonly Pods[] {
  return ofKind(all, 'Deployment').flatMap((of) => {
    const template = at(of, 'spec', 'template');
    return isTree(template) ? [{ of, template, labels: labels(at(template, 'metadata', 'labels')) }] : [];
  });
}

/** The containers of a workload's pods. */
export function containers(template: Tree): readonly Tree[] {
  return [...trees(at(template, 'spec', 'initContainers')), ...trees(at(template, 'spec', 'containers'))];
}

function labels(value: unknown): Labels {
  return isTree(value) ? Object.fromEntries(Object.entries(value).map(([name, label]) => [name, String(label)])) : {};
}

function matches(selector: Labels, found: Labels): boolean {
  return Object.entries(selector).every(([name, value]) => found[name] === value);
}

function called(manifest: Manifest): string {
  return `${manifest.kind}/${manifest.metadata.name}`;
}

function ofPods({ of, template, labels: own }: Pods, pods: readonly Pods[], all: readonly Manifest[], secrets: Secrets): readonly string[] {
  const name = called(of);
  const selector = labels(at(of, 'spec', 'selector', 'matchLabels'));
  const found: string[] = [];
  if (!matches(selector, own)) found.push(`${name}: its selector does not match its own pods`);
  for (const other of pods) {
    if (other.of !== of && matches(selector, other.labels)) found.push(`${name}: its selector takes the pods of ${called(other.of)}`);
  }
  const account = text(template, 'spec', 'serviceAccountName');
  if (account && !has(all, 'ServiceAccount', account)) found.push(`${name}: there is no ServiceAccount/${account}`);
  return [...found, ...ofVolumes(name, template, all, secrets), ...containers(template).flatMap((container) => ofContainer(name, container, template, all, secrets))];
}

function ofVolumes(name: string, template: Tree, all: readonly Manifest[], secrets: Secrets): readonly string[] {
  return trees(at(template, 'spec', 'volumes')).flatMap((volume) => {
    const [map, claim, secret] = [text(volume, 'configMap', 'name'), text(volume, 'persistentVolumeClaim', 'claimName'), text(volume, 'secret', 'secretName')];
    const items = trees(at(volume, 'secret', 'items')).map((item) => text(item, 'key'));
    return [
      ...(map && !has(all, 'ConfigMap', map) ? [`${name}: there is no ConfigMap/${map}`] : []),
      ...(claim && !has(all, 'PersistentVolumeClaim', claim) ? [`${name}: there is no PersistentVolumeClaim/${claim}`] : []),
      ...(secret ? ofSecret(name, secret, items, secrets) : []),
    ];
  });
}

function ofSecret(who: string, secret: string, keys: readonly string[], secrets: Secrets): readonly string[] {
  const known = secrets.get(secret);
  if (!known) return [`${who}: nobody makes Secret/${secret}`];
  return keys.filter((key) => !known.includes(key)).map((key) => `${who}: Secret/${secret} has no key ${key}`);
}

function ofContainer(name: string, container: Tree, template: Tree, all: readonly Manifest[], secrets: Secrets): readonly string[] {
  const ports = trees(container['ports']).map((port) => text(port, 'name'));
  const volumes = trees(at(template, 'spec', 'volumes')).map((volume) => text(volume, 'name'));
  const probes = [...within(container)].map((tree) => text(tree, 'httpGet', 'port')).filter((port) => port && !/^\d+$/.test(port));
  const mounts = trees(container['volumeMounts']).map((mount) => text(mount, 'name'));
  const sources = trees(container['env']).map((variable) => at(variable, 'valueFrom'));
  return [
    ...probes.filter((port) => !ports.includes(port)).map((port) => `${name}: a probe asks port ${port}, which the container has not`),
    ...mounts.filter((mount) => !volumes.includes(mount)).map((mount) => `${name}: there is no volume ${mount}`),
    ...sources.flatMap((source) => {
      const [secret, map] = [text(source, 'secretKeyRef', 'name'), text(source, 'configMapKeyRef', 'name')];
      const data = at(ofKind(all, 'ConfigMap').find((each) => each.metadata.name === map), 'data', text(source, 'configMapKeyRef', 'key'));
      return [
        ...(secret ? ofSecret(name, secret, [text(source, 'secretKeyRef', 'key')], secrets) : []),
        ...(map && data === undefined ? [`${name}: ConfigMap/${map} has no key ${text(source, 'configMapKeyRef', 'key')}`] : []),
      ];
    }),
    // A file that a setting or an argument names is in what is mounted.
    ...files(container).filter((file) => !mounted(file, container, template, all, secrets)).map((file) => `${name}: nothing mounts ${file}`),
  ];
}

/** Absolute paths in arguments and in the environment. */
function files(container: Tree): readonly string[] {
  const values = [...list(container['args']), ...list(container['command']), ...trees(container['env']).map((each) => each['value'])];
  return values.filter((value): value is string => typeof value === 'string' && /^\/(etc|run|var|app)\//.test(value));
}

/** Whether a file is a key of what is mounted where it is. */
export function mounted(file: string, container: Tree, template: Tree, all: readonly Manifest[], secrets: Secrets): boolean {
  return trees(container['volumeMounts']).some((mount) => {
    const path = text(mount, 'mountPath');
    if (file !== path && !file.startsWith(`${path}/`)) return false;
    const volume = trees(at(template, 'spec', 'volumes')).find((each) => each['name'] === mount['name']);
    const key = file.slice(path.length + 1);
    const [map, secret] = [text(volume, 'configMap', 'name'), text(volume, 'secret', 'secretName')];
    if (map) return at(ofKind(all, 'ConfigMap').find((each) => each.metadata.name === map), 'data', key) !== undefined;
    return secret ? secrets.get(secret)?.includes(key) === true : true;
  });
}

function has(all: readonly Manifest[], kind: string, name: string): boolean {
  return ofKind(all, kind).some((manifest) => manifest.metadata.name === name);
}

/** Selectors of whatever selects pods find some. */
function selectors(manifest: Manifest, pods: readonly Pods[]): readonly string[] {
  const selecting: { readonly [kind: string]: readonly string[] } = {
    Service: ['selector'], PodDisruptionBudget: ['selector', 'matchLabels'], NetworkPolicy: ['podSelector', 'matchLabels'],
  };
  const path = selecting[manifest.kind];
  const spreads = trees(at(manifest, 'spec', 'template', 'spec', 'topologySpreadConstraints')).map((each) => at(each, 'labelSelector', 'matchLabels'));
  const all = [...(path ? [at(manifest, 'spec', ...path)] : []), ...spreads];
  return all.map(labels).filter((selector) => !pods.some((each) => matches(selector, each.labels)))
    .map((selector) => `${called(manifest)}: no pod has ${JSON.stringify(selector)}`);
}

function portsOf(pods: readonly Pods[], selector: Labels): readonly (readonly string[])[] {
  return pods.filter((each) => matches(selector, each.labels))
    .map(({ template }) => containers(template).flatMap((container) => trees(container['ports']).flatMap((port) => [text(port, 'name'), text(port, 'containerPort')])));
}

function ofService(service: Manifest, pods: readonly Pods[]): readonly string[] {
  const all = portsOf(pods, labels(at(service, 'spec', 'selector')));
  return trees(at(service, 'spec', 'ports')).map((port) => text(port, 'targetPort'))
    .filter((port) => !all.every((ports) => ports.includes(port))).map((port) => `${called(service)}: its pods have no port ${port}`);
}

function ofPolicy(policy: Manifest, pods: readonly Pods[]): readonly string[] {
  const all = portsOf(pods, labels(at(policy, 'spec', 'podSelector', 'matchLabels')));
  return trees(at(policy, 'spec', 'ingress')).flatMap((rule) => trees(rule['ports'])).map((port) => text(port, 'port'))
    .filter((port) => !all.every((ports) => ports.includes(port))).map((port) => `${called(policy)}: its pods have no port ${port}`);
}

/** What an autoscaler, a rollout or a canary is about. */
function targets(manifest: Manifest, all: readonly Manifest[]): readonly string[] {
  const references = ['scaleTargetRef', 'workloadRef', 'targetRef', 'autoscalerRef', 'ingressRef'].map((member) => at(manifest, 'spec', member));
  return references.filter(isTree).filter((reference) => !has(all, text(reference, 'kind'), text(reference, 'name')))
    .map((reference) => `${called(manifest)}: there is no ${text(reference, 'kind')}/${text(reference, 'name')}`);
}

function servicePort(all: readonly Manifest[], service: string, port: string): boolean {
  // Flagger makes services as its canaries say.
  const made = ofKind(all, 'Canary').map((canary) => at(canary, 'spec', 'service'));
  if (made.some((each) => text(each, 'name') === service && text(each, 'portName') === port)) return true;
  const ports = trees(at(ofKind(all, 'Service').find((each) => each.metadata.name === service), 'spec', 'ports'));
  return ports.some((each) => text(each, 'name') === port || text(each, 'port') === port);
}

function ofIngress(ingress: Manifest, all: readonly Manifest[]): readonly string[] {
  const backends = [...within(at(ingress, 'spec'))].map((tree) => tree['service']).filter(isTree);
  return backends.map((service) => [text(service, 'name'), text(service, 'port', 'name') || text(service, 'port', 'number')] as const)
    .filter(([service, port]) => !servicePort(all, service, port)).map(([service, port]) => `${called(ingress)}: there is no Service/${service} with port ${port}`);
}

function ofMonitor(monitor: Manifest, all: readonly Manifest[], pods: readonly Pods[], secrets: Secrets): readonly string[] {
  const selector = labels(at(monitor, 'spec', 'selector', 'matchLabels'));
  const services = ofKind(all, 'Service').filter((service) => matches(selector, service.metadata.labels ?? {}));
  const name = called(monitor);
  const endpoints = trees(at(monitor, 'spec', 'endpoints'));
  const copied = list(at(monitor, 'spec', 'podTargetLabels')).map(String);
  const job = text(monitor, 'spec', 'jobLabel');
  return [
    ...(services.length === 1 ? [] : [`${name}: it selects ${services.length} services`]),
    ...endpoints.flatMap((endpoint) => services.filter((service) => !servicePort(all, service.metadata.name, text(endpoint, 'port')))
      .map((service) => `${name}: ${called(service)} has no port ${text(endpoint, 'port')}`)),
    ...endpoints.flatMap((endpoint) => ofSecret(name, text(endpoint, 'authorization', 'credentials', 'name'), [text(endpoint, 'authorization', 'credentials', 'key')], secrets)),
    ...services.filter((service) => job && !service.metadata.labels?.[job]).map((service) => `${name}: ${called(service)} has no label ${job}`),
    ...services.flatMap((service) => pods.filter((each) => matches(labels(at(service, 'spec', 'selector')), each.labels)))
      .flatMap((each) => copied.filter((label) => !each.labels[label]).map((label) => `${name}: the pods of ${called(each.of)} have no label ${label}`)),
  ];
}

function ofRollout(rollout: Manifest, all: readonly Manifest[]): readonly string[] {
  const canary = at(rollout, 'spec', 'strategy', 'canary');
  const named = [
    ...['canaryService', 'stableService'].map((member) => ['Service', text(canary, member)] as const),
    ['Ingress', text(canary, 'trafficRouting', 'nginx', 'stableIngress')] as const,
    ...[...within(canary)].flatMap((tree) => trees(tree['templates'])).map((template) => ['AnalysisTemplate', text(template, 'templateName')] as const),
  ];
  return [
    ...named.filter(([kind, name]) => name && !has(all, kind, name)).map(([kind, name]) => `${called(rollout)}: there is no ${kind}/${name}`),
    ...[...within(canary)].flatMap((tree) => analysisOf(called(rollout), tree, all)),
  ];
}

/** An analysis is given every argument that its templates need, and no other. */
function analysisOf(who: string, analysis: Tree, all: readonly Manifest[]): readonly string[] {
  const templates = trees(analysis['templates']).map((each) => ofKind(all, 'AnalysisTemplate').find((template) => template.metadata.name === text(each, 'templateName')));
  if (templates.length === 0) return [];
  const given = trees(analysis['args']).map((argument) => text(argument, 'name'));
  const declared = templates.flatMap((template) => trees(at(template, 'spec', 'args')));
  return [
    ...declared.filter((argument) => argument['value'] === undefined && !given.includes(text(argument, 'name'))).map((argument) => `${who}: no argument ${text(argument, 'name')}`),
    ...given.filter((name) => !declared.some((argument) => argument['name'] === name)).map((name) => `${who}: no template takes ${name}`),
  ];
}

/** Flagger's: its templates are there, and its port is one of the pods'. */
function ofCanary(canary: Manifest, all: readonly Manifest[], pods: readonly Pods[]): readonly string[] {
  const templates = trees(at(canary, 'spec', 'analysis', 'metrics')).map((metric) => text(metric, 'templateRef', 'name'));
  const target = pods.filter(({ of }) => of.metadata.name === text(canary, 'spec', 'targetRef', 'name'));
  const port = text(canary, 'spec', 'service', 'targetPort');
  const labelled = Object.keys(labels(at(target[0]?.of, 'spec', 'selector', 'matchLabels')));
  return [
    ...templates.filter((name) => !has(all, 'MetricTemplate', name)).map((name) => `${called(canary)}: there is no MetricTemplate/${name}`),
    ...target.filter((each) => !portsOf([each], {})[0]?.includes(port)).map(() => `${called(canary)}: its pods have no port ${port}`),
    ...(labelled.join() === 'app.kubernetes.io/name' ? [] : [`${called(canary)}: Flagger selects by one label`]),
  ];
}

function ofBinding(binding: Manifest, all: readonly Manifest[]): readonly string[] {
  const named = [at(binding, 'roleRef'), ...trees(binding['subjects'])].map((each) => [text(each, 'kind'), text(each, 'name')] as const);
  return named.filter(([kind, name]) => !has(all, kind, name)).map(([kind, name]) => `${called(binding)}: there is no ${kind}/${name}`);
}
