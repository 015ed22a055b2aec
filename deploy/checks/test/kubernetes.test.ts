import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DEPLOY, type Manifest, at, ofKind, overlays, render, text, trees, within } from '../src/manifests.js';
import { containers, faults, mounted, workloads } from '../src/references.js';
import { secrets } from '../src/secrets.js';
import { PodFolder, PodServer } from '../src/server.js';
import { seconds, size } from '../src/units.js';

/** What every overlay makes, by its name. */
const RENDERED = new Map(overlays().map((overlay) => [overlay, render(overlay)]));

function rendered(overlay: string): readonly Manifest[] {
  const all = RENDERED.get(`kubernetes/overlays/${overlay}`);
  if (!all) throw new Error(`there is no overlay ${overlay}`);
  return all;
}

describe.each([...RENDERED])('%s', (_, all) => {
  const gateways = workloads(all).filter(({ labels }) => labels['app.kubernetes.io/name'] === 'pulsewire');

  it('names what is there', () => {
    expect(faults(all, secrets())).toEqual([]);
  });

  it('has settings that the server accepts, and mounts the files they name', () => {
    for (const { of, template } of gateways) {
      using pod = new PodFolder(all, of.metadata.name);
      expect(pod.run('config', 'check')).toMatchObject({ code: 0 });
      const container = containers(template)[0] ?? {};
      const maps = trees(at(template, 'spec', 'volumes')).map((volume) => text(volume, 'configMap', 'name'));
      const settings = ofKind(all, 'ConfigMap').filter((map) => maps.includes(map.metadata.name)).map((map) => text(map, 'data', 'pulsewire.toml')).join();
      const files = [...settings.matchAll(/_file = "([^"]+)"/g)].map(([, file = '']) => file);
      expect(files.filter((file) => !mounted(file, container, template, all, secrets()))).toEqual([]);
    }
  });

  it('gives a pod the time that its clients need to leave', () => {
    for (const { of, template } of gateways) {
      using pod = new PodFolder(all, of.metadata.name);
      const drain = seconds(pod.values().get('server.shutdown_deadline') ?? '');
      const preStop = Number(text(containers(template)[0], 'lifecycle', 'preStop', 'sleep', 'seconds'));
      expect(preStop).toBeGreaterThan(0);
      expect(Number(text(template, 'spec', 'terminationGracePeriodSeconds'))).toBeGreaterThanOrEqual(preStop + drain + 15);
    }
  });

  it('holds as many connections as it takes, each with all that may wait for it', () => {
    for (const { of, template } of gateways) {
      using pod = new PodFolder(all, of.metadata.name);
      const values = pod.values();
      const resources = at(containers(template)[0], 'resources');
      // What a reader that takes nothing has cost at most beside its outbox (docs/benchmarks.md, budget of `stalled`).
      const each = size(values.get('limits.outbox_bytes_max') ?? '') + 16 * 1024;
      const wanted = Number(values.get('limits.connections_max')) * each + size('128MiB');
      expect(size(text(resources, 'limits', 'memory'))).toBeGreaterThanOrEqual(wanted);
      expect(Number(text(resources, 'requests', 'cpu'))).toBeGreaterThanOrEqual(Number(values.get('server.shards')));
      expect(values.get('server.shards')).not.toBe('0');
    }
  });

  it('runs as nobody, who may write to its data only', () => {
    for (const { template } of workloads(all)) {
      expect(at(template, 'spec', 'securityContext')).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
      for (const container of containers(template)) {
        expect(container['securityContext']).toEqual({ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } });
        expect(at(container, 'resources', 'limits', 'memory')).toBeDefined();
      }
    }
  });

  it('keeps variables of its services away, which the server would take for misspelt settings', () => {
    const names = ofKind(all, 'Service').map((service) => `${service.metadata.name.toUpperCase().replaceAll('-', '_')}_SERVICE_HOST`);
    const [name = ''] = names.filter((each) => each.startsWith('PULSEWIRE_'));
    for (const { of, template } of gateways) {
      using pod = new PodFolder(all, of.metadata.name);
      expect(pod.with({ [name]: '10.0.0.1' }).run('config', 'check').code).toBe(2);
      expect(at(template, 'spec', 'enableServiceLinks')).toBe(false);
    }
  });

  it('has no password and no key in it', () => {
    expect(ofKind(all, 'Secret')).toEqual([]);
    const said = [...within(all)].flatMap((tree) => Object.values(tree)).filter((value) => typeof value === 'string');
    expect(said.filter((value) => /postgres:\/\/\S+:\S+@|BEGIN .*KEY/.test(value))).toEqual([]);
  });
});

it('a kubelet, a scraper and an ingress are answered by a server with these settings', async () => {
  const all = rendered('single');
  using pod = new PodFolder(all);
  await using server = await PodServer.start(pod);
  const { template } = workloads(all)[0] ?? {};
  const probes = [...within(template)].flatMap((tree) => text(tree, 'httpGet', 'path') || []);
  expect(probes).toHaveLength(3);
  // Under the pod's address, as kubelets and scrapers ask.
  const host = { host: '10.244.1.7:8001' };
  for (const path of probes) expect([path, await server.status(server.addresses.internal, path, host)]).toEqual([path, 200]);
  const token = { authorization: 'Bearer what-a-scraper-sends' };
  const monitor = ofKind(rendered('full'), 'ServiceMonitor')[0];
  const metrics = text(monitor, 'spec', 'endpoints', 0, 'path');
  expect(await server.status(server.addresses.internal, metrics, host)).toBe(401);
  expect(await server.status(server.addresses.internal, metrics, { ...host, ...token })).toBe(200);
  const ingress = ofKind(rendered('full'), 'Ingress')[0];
  const paths = trees(at(ingress, 'spec', 'rules', 0, 'http', 'paths'));
  expect(paths.length).toBeGreaterThan(3);
  for (const { path, pathType } of paths) {
    const asked = pathType === 'Exact' ? String(path) : EXAMPLES[String(path)];
    if (!asked) throw new Error(`no route is known below ${String(path)}`);
    const status = await server.status(server.addresses.public, asked, { host: text(ingress, 'spec', 'rules', 0, 'host') });
    expect([asked, status]).not.toEqual([asked, 404]);
  }
});

/** A route below each prefix of the ingress. */
const EXAMPLES: { readonly [prefix: string]: string } = {
  '/ws': '/ws', '/api/channels': '/api/channels/run:1/history', '/api/runs': '/api/runs/1/collaboration/poll',
};

it('the ingress waits longer than heartbeats, and takes as much as the server does', () => {
  using pod = new PodFolder(rendered('full'));
  const values = pod.values();
  const annotations = ofKind(rendered('full'), 'Ingress')[0]?.metadata as unknown;
  const said = (name: string): string => text(annotations, 'annotations', `nginx.ingress.kubernetes.io/${name}`);
  const silent = seconds(values.get('heartbeat.interval') ?? '') + seconds(values.get('heartbeat.timeout') ?? '');
  for (const name of ['proxy-read-timeout', 'proxy-send-timeout']) expect(Number(said(name))).toBeGreaterThanOrEqual(1.5 * silent);
  expect(size(`${said('proxy-body-size').replace('m', '')}MiB`)).toBe(size(values.get('limits.http_body_bytes_max') ?? ''));
});

it('pods are added before connections are refused, and removed slowly', () => {
  using pod = new PodFolder(rendered('full'));
  const scaler = ofKind(rendered('full'), 'HorizontalPodAutoscaler')[0];
  const metrics = trees(at(scaler, 'spec', 'metrics'));
  expect(metrics.map((metric) => metric['type'])).toEqual(['ContainerResource', 'Pods']);
  const wanted = Number(text(metrics[1], 'pods', 'target', 'averageValue'));
  expect(wanted).toBeLessThan(Number(pod.values().get('limits.connections_soft')));
  const down = at(scaler, 'spec', 'behavior', 'scaleDown');
  const deployment = ofKind(rendered('full'), 'Deployment')[0];
  const grace = Number(text(deployment, 'spec', 'template', 'spec', 'terminationGracePeriodSeconds'));
  expect(Number(text(down, 'policies', 0, 'periodSeconds'))).toBeGreaterThan(grace + Number(text(deployment, 'spec', 'minReadySeconds')));
  expect(Number(text(down, 'stabilizationWindowSeconds'))).toBeGreaterThanOrEqual(300);
});

it('only one pod has the SQLite file, and several have PostgreSQL', () => {
  const store = (overlay: string): string => {
    using pod = new PodFolder(rendered(overlay));
    return pod.environment['PULSEWIRE_STORE_URL_FILE'] ? 'postgres' : pod.environment['PULSEWIRE_STORE_URL'] ?? '';
  };
  const single = ofKind(rendered('single'), 'Deployment')[0];
  expect([store('single'), store('ha'), store('full')]).toEqual(['sqlite', 'postgres', 'postgres']);
  expect(at(single, 'spec', 'strategy')).toEqual({ type: 'Recreate' });
  expect(at(single, 'spec', 'replicas')).toBe(1);
  expect(at(ofKind(rendered('single'), 'PersistentVolumeClaim')[0], 'spec', 'accessModes')).toEqual(['ReadWriteOncePod']);
  expect(ofKind(rendered('single'), 'HorizontalPodAutoscaler')).toEqual([]);
  expect(at(ofKind(rendered('ha'), 'Deployment')[0], 'spec', 'replicas')).toBeUndefined();
});

it('the image runs as the pod says, and changes no setting', () => {
  const file = readFileSync(join(DEPLOY, 'docker/Dockerfile'), 'utf8').replaceAll('\\\n', ' ');
  const last = file.slice(file.lastIndexOf('\nFROM '));
  const said = (instruction: string): string => new RegExp(`^${instruction} +(.*)$`, 'm').exec(last)?.[1] ?? '';
  const security = at(ofKind(rendered('full'), 'Deployment')[0], 'spec', 'template', 'spec', 'securityContext');
  expect(said('USER')).toBe(`${text(security, 'runAsUser')}:${text(security, 'runAsGroup')}`);
  expect(said('ENTRYPOINT')).toBe('["/pulsewire"]');
  const environment = Object.fromEntries([...said('ENV').matchAll(/(\w+)=(\S+)/g)].map(([, name = '', value = '']) => [name, value]));
  expect(Object.keys(environment)).not.toEqual([]);
  for (const overlay of ['single', 'full']) {
    using pod = new PodFolder(rendered(overlay));
    const values = pod.values();
    expect(pod.with(environment).values()).toEqual(values);
  }
});
