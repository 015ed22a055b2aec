import { type ChildProcess, spawn } from 'node:child_process';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { program, sign } from '../../sdk/typescript/test/gateway.js';
import { type Lab, startLab } from './lab.js';
import { type Gateway, signedIn, startServer, until } from './server.js';

/** Connections that are there while the pages are looked at. `npm run test:load` makes it 10,000, with a release build. */
const CONNECTIONS = Number(process.env['PULSEWIRE_LOAD_CONNECTIONS'] ?? 500);
/** Deliveries a second to them. */
const RATE = Number(process.env['PULSEWIRE_LOAD_RATE'] ?? 500);
/** For how long each page is looked at, and not looked at, in milliseconds: long enough for watches to put their rows in order again. */
const LOOK_MS = Number(process.env['PULSEWIRE_LOAD_LOOK_MS'] ?? 0);
/** The most rows one message may hold. */
const ROWS_MAX = 200;
const PATIENCE_MS = 45_000;

let lab: Lab;
let gateway: Gateway;
let load: ChildProcess;

beforeAll(async () => {
  const free = ['limits.connections_max=12000', 'limits.connections_per_address=0', 'limits.connections_per_user=0', 'limits.messages_per_minute=1000000'];
  [lab, gateway] = await Promise.all([startLab(), startServer({ dev: true, set: [...free, 'collector.enabled=true'] })]);
  load = spawn(program('PULSEWIRE_BIN', 'pulsewire'), [
    'bench', 'live', '--url', `http://${gateway.address}`, '--token', sign({ user: 'load', role: 'admin' }), '--conns', String(CONNECTIONS), '--rate', String(RATE),
    '--size', '100', '--slow', '1%', '--duration', '15m', '--no-progress', '--no-pin',
  ], { env: {}, stdio: 'ignore' });
  await until('the load is there', async () => (await gateway.metric('websocket_active_connections')) >= CONNECTIONS, 240_000);
}, 300_000);
afterAll(async () => {
  load.kill('SIGKILL');
  await lab.close();
  await gateway[Symbol.asyncDispose]();
});
afterEach(async () => expect(await lab.check()).toEqual([]));

/** How many rows a message holds; 0 if it is none with rows. */
function rows(payload: string | Buffer): number {
  const message: unknown = JSON.parse(String(payload));
  const data: unknown = message !== null && typeof message === 'object' && 'data' in message ? message.data : null;
  const found: unknown = data !== null && typeof data === 'object' && 'rows' in data ? data.rows : null;
  return Array.isArray(found) ? found.length : 0;
}

/** CPU the server used meanwhile, in percent of a core; nothing is said of a time of 0. */
async function cpu(ms: number): Promise<number> {
  const used = (): Promise<number> => gateway.metric('process_cpu_seconds_total');
  const [before, began] = [await used(), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, ms));
  return ((await used()) - before) / ((performance.now() - began) / 1000) * 100;
}

it(`no page costs much or holds more than ${ROWS_MAX} rows, with ${CONNECTIONS} connections`, async () => {
  const page = await lab.open(signedIn(gateway, '/'));
  page.setDefaultTimeout(PATIENCE_MS);
  let [most, messages] = [0, 0];
  page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => {
    messages += 1;
    most = Math.max(most, rows(payload));
  }));
  const links = page.locator('nav a');
  await links.first().waitFor();
  await page.reload();
  await links.first().waitFor();
  const updates = (): Promise<readonly number[]> => page.evaluate(() => performance.getEntriesByName('update', 'measure').map(({ duration }) => duration));
  const [open, closed]: [number[], number[]] = [[], []];
  const pages = await links.count();
  for (let index = 0; index < pages; index++) {
    const before = (await updates()).length;
    await links.nth(index).click();
    const title = await page.title();
    await until(`updates of ${title}`, async () => (await updates()).length > before + 2, PATIENCE_MS);
    if (LOOK_MS === 0) continue;
    open.push(await cpu(LOOK_MS));
    const took = (await updates()).slice(before);
    const mean = took.reduce((sum, each) => sum + each, 0) / took.length;
    // The same browser with nothing of us in it.
    const address = page.url();
    await page.goto('about:blank');
    closed.push(await cpu(LOOK_MS));
    console.log(`${title}: server ${open.at(-1)?.toFixed(1)} % of a core with it, ${closed.at(-1)?.toFixed(1)} % without; script ${mean.toFixed(2)} ms an update`);
    await page.goto(address);
    await until('the page is back', async () => (await updates()).length > 0, PATIENCE_MS);
  }
  const mean = (of: readonly number[]): number => of.reduce((sum, each) => sum + each, 0) / of.length;
  if (LOOK_MS > 0) console.log(`all pages: ${mean(open).toFixed(2)} % of a core with them, ${mean(closed).toFixed(2)} % without`);
  console.log(`${messages} messages, of which the largest had ${most} rows; ${await gateway.metric('websocket_active_connections')} connections`);
  expect(messages).toBeGreaterThan(pages);
  expect(most).toBeGreaterThan(0);
  expect(most).toBeLessThanOrEqual(ROWS_MAX);
}, 900_000);
