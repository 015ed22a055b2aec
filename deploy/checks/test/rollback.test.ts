import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { parse } from 'yaml';
import { DEPLOY, at, list, ofKind, render, text, trees } from '../src/manifests.js';

/** What the cluster was asked. */
interface Asked { readonly method: string; readonly url: string; readonly account: string; readonly type: string; readonly body: unknown }

const ACCOUNT = mkdtempSync(join(tmpdir(), 'pulsewire-account-'));
const asked: Asked[] = [];
let status = 200;
let cluster: Server;
let program: ChildProcess;
let url = '';

beforeAll(async () => {
  writeFileSync(join(ACCOUNT, 'token'), 'of-the-account\n');
  cluster = createServer((request, response) => void record(request).then(() => response.writeHead(status).end('{}')));
  await new Promise<void>((resolve) => cluster.listen(0, '127.0.0.1', resolve));
  const API = `http://127.0.0.1:${(cluster.address() as AddressInfo).port}`;
  const environment = { API, ACCOUNT, NAMESPACE: 'pulsewire', TARGET: 'pulsewire-canary', TOKEN: 'of-alertmanager', PORT: '0' };
  program = spawn(process.execPath, [join(DEPLOY, 'canary/plain/rollback.mjs')], { env: environment, stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: program.stdout ?? process.stdin })[Symbol.asyncIterator]();
  const port = /"port":(\d+)/.exec(String((await lines.next()).value))?.[1];
  url = `http://127.0.0.1:${port}`;
});
afterAll(async () => {
  const gone = new Promise((resolve) => program.once('exit', resolve));
  program.kill('SIGTERM');
  await gone;
  cluster.close();
  rmSync(ACCOUNT, { recursive: true });
});
beforeEach(() => {
  asked.length = 0;
  status = 200;
});

async function record(request: IncomingMessage): Promise<void> {
  let body = '';
  for await (const chunk of request) body += String(chunk);
  const { method = '', url: path = '', headers } = request;
  asked.push({ method, url: path, account: headers.authorization ?? '', type: headers['content-type'] ?? '', body: JSON.parse(body) });
}

/** Sends what Alertmanager sends, and returns the status of the answer. */
async function tell(alerts: unknown, token = 'of-alertmanager', path = '/rollback'): Promise<number> {
  const body = typeof alerts === 'string' ? alerts : JSON.stringify({ version: '4', status: 'firing', receiver: 'rollback', alerts });
  const response = await fetch(`${url}${path}`, { method: 'POST', headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, body });
  return response.status;
}

const FIRING = { status: 'firing', labels: { alertname: 'WSManagerCanaryRollback', action: 'rollback', track: 'canary' } };

it('an alert that asks for it scales the canary to 0, and nothing else', async () => {
  expect(await tell([{ ...FIRING, status: 'resolved' }, FIRING])).toBe(200);
  expect(asked).toEqual([{
    method: 'PATCH', url: '/apis/apps/v1/namespaces/pulsewire/deployments/pulsewire-canary/scale',
    account: 'Bearer of-the-account', type: 'application/merge-patch+json', body: { spec: { replicas: 0 } },
  }]);
});

it('what is resolved, has another label or is no message changes nothing', async () => {
  expect(await tell([{ ...FIRING, status: 'resolved' }])).toBe(204);
  expect(await tell([{ status: 'firing', labels: { alertname: 'WSManagerConnectionLeak' } }])).toBe(204);
  expect(await tell([])).toBe(204);
  expect(await tell('{')).toBe(400);
  expect(await tell('null')).toBe(400);
  expect(await tell([FIRING], 'of-nobody')).toBe(401);
  expect(await tell([FIRING], 'of-alertmanager', '/')).toBe(404);
  expect(asked).toEqual([]);
});

it('a cluster that refuses is asked again by Alertmanager', async () => {
  status = 403;
  expect(await tell([FIRING])).toBe(502);
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
});

it('may do what it does, and no more', () => {
  const all = render('canary/plain');
  const rules = trees(at(ofKind(all, 'Role')[0], 'rules'));
  expect(rules).toEqual([{ apiGroups: ['apps'], resources: ['deployments/scale'], resourceNames: ['pulsewire-canary'], verbs: ['patch'] }]);
  const container = at(ofKind(all, 'Deployment').find(({ metadata }) => metadata.name === 'pulsewire-rollback'), 'spec', 'template', 'spec', 'containers', 0);
  const target = trees(at(container, 'env')).find(({ name }) => name === 'TARGET');
  expect(list(rules[0]?.['resourceNames'])).toEqual([text(target, 'value')]);
});

it('is told by the alerts of the rules: after three minutes, which a server has waited that gives its verdict', () => {
  const rules = ofKind(render('canary/plain'), 'PrometheusRule').flatMap((each) => trees(at(each, 'spec', 'groups'))).flatMap((group) => trees(group['rules']));
  const telling = rules.filter((rule) => text(rule, 'labels', 'action') === 'rollback');
  expect(telling.map((rule) => [rule['alert'], rule['for']])).toEqual([['WSManagerCanaryRollback', '3m'], ['WSManagerCanaryVerdict', undefined]]);
  // A stable server's verdict takes no canary away.
  expect(text(telling[1], 'expr')).toContain('track="canary"');
});

it('is told by Alertmanager as both pages say: at its path, with a token', () => {
  const shipped: unknown = parse(readFileSync(join(DEPLOY, 'alertmanager/alertmanager.yml'), 'utf8'));
  const page = readFileSync(join(DEPLOY, 'canary/README.md'), 'utf8');
  const example: unknown = parse(/```yaml\n([^]*?)```/.exec(page)?.[1] ?? '');
  const receivers = [...trees(at(shipped, 'receivers')), ...trees(example)].filter(({ name }) => name === 'rollback');
  expect(receivers).toHaveLength(2);
  for (const receiver of receivers) {
    const webhook = at(receiver, 'webhook_configs', 0);
    expect(new URL(text(webhook, 'url')).pathname).toBe('/rollback');
    expect(text(webhook, 'http_config', 'authorization', 'credentials_file')).not.toBe('');
    expect(at(webhook, 'send_resolved')).toBe(false);
  }
  const service = ofKind(render('canary/plain'), 'Service').find(({ metadata }) => metadata.name === 'pulsewire-rollback');
  const url = new URL(text(at(receivers[1], 'webhook_configs', 0), 'url'));
  expect(url.host).toBe(`${service?.metadata.name}.${service?.metadata.namespace}.svc`);
  expect(at(service, 'spec', 'ports', 0, 'port')).toBe(80);
});
