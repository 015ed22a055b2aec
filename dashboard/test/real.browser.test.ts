import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { sign } from '../../sdk/typescript/test/gateway.js';
import { type Lab, startLab } from './lab.js';
import { type Gateway, signedIn, startServer } from './server.js';

/** How long anything may take before a test fails, in milliseconds. */
const PATIENCE_MS = 45_000;
const HEALTHY = 49;

/** The page against the real server: what is built now, and real clients, one of which does not read. */
let lab: Lab;
let gateway: Gateway;
const sockets: WebSocket[] = [];
let publishing: ReturnType<typeof setInterval>;

beforeAll(async () => {
  [lab, gateway] = await Promise.all([
    startLab(),
    // Somebody who does not read stays for as long as the test looks.
    startServer({ dev: true, set: ['limits.slow_after=10m'] }),
  ]);
  await Promise.all(Array.from({ length: HEALTHY }, (_, index) => connect(`user-${index}`)));
  const stuck = await connect('sleepy');
  stuck.pause();
  const pad = 'x'.repeat(30_000);
  publishing = setInterval(() => void gateway.ask('/api/publish', { channel: 'run:42', type: 'TICK', data: { pad } }).catch(() => undefined), 100);
});
afterAll(async () => {
  clearInterval(publishing);
  for (const socket of sockets) socket.terminate();
  await lab.close();
  await gateway[Symbol.asyncDispose]();
});
afterEach(async () => expect(await lab.check()).toEqual([]));

/** A client that listens, once it does. */
async function connect(user: string): Promise<WebSocket> {
  const socket = new WebSocket(`ws://${gateway.address}/ws`);
  sockets.push(socket);
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('open', () => socket.send(JSON.stringify({ type: 'connect', id: 1, token: sign({ user }), subscribe: ['run:42'] })));
    socket.on('message', (data) => String(data).includes('"subscribed"') && resolve());
  });
  return socket;
}

const at = (path: string, role: 'viewer' | 'operator' = 'operator'): string => signedIn(gateway, path, role);

describe('against the real server', () => {
  it('three clicks lead from the overview to why somebody is slow', async () => {
    const page = await lab.open(at('/'));
    page.setDefaultTimeout(PATIENCE_MS);
    await page.getByRole('link', { name: /2 % slow: 1 connection: client is not reading/ }).click();
    await page.waitForURL(/connections\?filter=cause%3Aclient_not_reading/);
    await page.locator('tbody tr[data-id]').getByText('sleepy').waitFor();
    expect(await page.locator('tbody tr[data-id]').count()).toBe(1);
    await page.locator('tbody a[data-row]').click();
    await page.locator('.why-card').getByText(/wait for it.*does not read/).waitFor();
    await page.getByRole('heading', { name: /sleepy/ }).waitFor();
    await page.locator('.entries li').first().waitFor();
    await page.locator('.grid').getByText('run:42').waitFor();
  });

  it('says at once who comes and who goes', async () => {
    const page = await lab.open(at('/connections?filter=user:visitor'));
    page.setDefaultTimeout(PATIENCE_MS);
    await page.getByText('No connection matches the filter').waitFor();
    const visitor = await connect('visitor');
    await page.locator('tbody tr[data-id]').getByText('visitor').waitFor();
    visitor.close(1000);
    await page.getByText('No connection matches the filter').waitFor();
    await page.getByRole('link', { name: /^Closed/ }).click();
    await page.locator('tbody tr[data-id]').getByText('visitor').first().waitFor();
  });

  it('disconnects for an operator, and says why not to a viewer', async () => {
    await connect('unwanted');
    const page = await lab.open(at('/connections?filter=user:unwanted'));
    page.setDefaultTimeout(PATIENCE_MS);
    await page.getByRole('button', { name: 'Disconnect all of unwanted' }).click();
    await page.getByRole('checkbox', { name: /stay away/ }).check();
    await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await page.getByText('No connection matches the filter').waitFor();
    const viewer = await lab.open(at('/connections?filter=user:user-1', 'viewer'));
    await viewer.locator('tbody tr[data-id]').first().waitFor();
    expect(await viewer.getByRole('button', { name: /Disconnect/ }).count()).toBe(0);
  });

  it('refuses the token of a mere user', async () => {
    const page = await lab.open(`http://${gateway.address}/#token=${sign({ user: 'ada' })}`);
    await page.getByRole('alert').waitFor();
    await page.getByLabel('Token', { exact: true }).waitFor();
  });

  it('listens in on a connection', async () => {
    const page = await lab.open(at('/connections?filter=user:user-7'));
    page.setDefaultTimeout(PATIENCE_MS);
    await page.locator('tbody a[data-row]').click();
    await page.getByRole('button', { name: 'Listen in' }).click();
    await page.locator('.tap-messages tbody').getByText('run:42').first().waitFor();
    expect(await page.locator('.tap-messages code').count()).toBe(0);
  });

  it.each(['/', '/connections', '/connections?tab=closed', '/connections?tab=failed', '/connections?group=user', '/channels', '/channels/run%3A42', '/runs', '/series', '/upstreams', '/alerts', '/errors', '/cluster', '/events', '/audit', '/try'])('%s shows itself without trouble', async (path) => {
    const page = await lab.open(at(path, 'viewer'));
    page.setDefaultTimeout(PATIENCE_MS);
    await page.locator('#page').waitFor();
    await page.waitForLoadState('networkidle');
    await expect.poll(() => page.locator('#page .waiting, #page [data-loading=yes]').count(), { timeout: PATIENCE_MS }).toBe(0);
    expect(await page.locator('.trouble').allTextContents()).toEqual([]);
  });
});
