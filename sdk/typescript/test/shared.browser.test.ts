import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type * as Client from '@pulsewire/client';
import type { sharedSocket } from '@pulsewire/client/shared';
import { bundle, type Lab, startLab } from './browser.js';
import { Gateway, Network, sign, until } from './gateway.js';

declare const Pulsewire: typeof Client;
declare const Shared: { sharedSocket: typeof sharedSocket };
declare const tab: { client: Client.Client; sequences: (number | undefined)[]; settled: string[]; errors: string[] };

let lab: Lab;
let gateway: Gateway;
let network: Network;

beforeAll(async () => {
  lab = await startLab();
  lab.serve('/client.js', await bundle('client/src/index.ts'));
  lab.serve('/shared.js', await bundle('client/src/shared.ts'));
  lab.serve('/page.js', "import * as client from './client.js'; import * as shared from './shared.js'; Object.assign(globalThis, { Pulsewire: client, Shared: shared });");
  lab.serve('/page.html', '<!doctype html><html lang="en"><head><title>Tab</title><script type="module" src="/page.js"></script></head><body></body></html>');
});
beforeEach(async () => {
  gateway = await Gateway.start({ dev: true });
  network = await Network.to(gateway);
});
afterEach(async () => {
  expect(await lab.check()).toEqual([]);
  await network[Symbol.asyncDispose]();
  await gateway[Symbol.asyncDispose]();
});
afterAll(() => lab.close());

/** Makes the tab's client, which listens to a channel, and waits until it does. */
async function begin(page: Page, channel = 'run:1'): Promise<void> {
  await page.waitForFunction(() => 'Shared' in globalThis);
  await page.evaluate(([url, token, name]) => {
    const client = Pulsewire.createClient({
      url: String(url), token: String(token), WebSocket: Shared.sharedSocket(), backoff: { minMs: 10, maxMs: 200 },
    });
    const mine: typeof tab = { client, sequences: [], settled: [], errors: [] };
    Object.assign(globalThis, { tab: mine });
    client.on('error', ({ code, message }) => mine.errors.push(`${code}: ${message}`));
    client.channel(String(name)).subscribe(({ sequenceNumber }) => mine.sequences.push(sequenceNumber));
  }, [`ws://${network.address}`, sign({ user: 'ada' }), channel]);
  await subscribed(page, channel);
}

const subscribed = (page: Page, channel = 'run:1'): Promise<void> =>
  until(`${channel} is subscribed`, () => page.evaluate((name) => tab.client.channel(name).state() === 'subscribed', channel));

async function elsewhere(from: number, through: number, channel = 'run:1'): Promise<void> {
  for (let number = from; number <= through; number++) await gateway.ask('/api/publish', { channel, type: 'note', data: number });
}

/** The tab has had all of these, each once and in order. */
async function heard(page: Page, from: number, through: number): Promise<void> {
  await until(`it has heard ${through}`, () => page.evaluate((last) => tab.sequences.includes(last), through));
  expect(await page.evaluate(() => tab.sequences)).toEqual(Array.from({ length: through - from + 1 }, (_, index) => from + index));
}

const sockets = async (): Promise<unknown> => (await network.stats())['open'];

describe('tabs that share a socket', () => {
  it('have one connection, hear what they want, and publish each for itself', async () => {
    const one = await lab.open('/page.html');
    await begin(one);
    const two = await one.context().newPage();
    await two.goto(one.url());
    await begin(two);
    expect(await sockets()).toBe(1);
    await elsewhere(1, 5);
    await heard(one, 1, 5);
    await heard(two, 1, 5);
    const [first, second] = await Promise.all([one, two].map((page, index) => page.evaluate((name) =>
      tab.client.publish('run:1', 'note', name, { id: `tab ${name}` }).then(({ id }) => id), index)));
    expect([first, second]).toEqual(['tab 0', 'tab 1']);
    await heard(one, 1, 7);
    await heard(two, 1, 7);
    for (const page of [one, two]) expect(await page.evaluate(() => tab.errors)).toEqual([]);
  });

  it('lose and repeat nothing when the tab with the socket is closed', async () => {
    const one = await lab.open('/page.html');
    await begin(one);
    const two = await one.context().newPage();
    await two.goto(one.url());
    await begin(two);
    const three = await one.context().newPage();
    await three.goto(one.url());
    await begin(three);
    await elsewhere(1, 3);
    await heard(two, 1, 3);
    await one.close();
    await elsewhere(4, 10);
    await heard(two, 1, 10);
    await heard(three, 1, 10);
    expect(await sockets()).toBe(1);
  });

  it('leave a channel only when no tab wants it any more, also when a tab just goes', async () => {
    const one = await lab.open('/page.html');
    await begin(one, 'run:1');
    const two = await one.context().newPage();
    await two.goto(one.url());
    await begin(two, 'run:2');
    await two.evaluate(() => void tab.client.channel('run:1').subscribe());
    await subscribed(two);
    const subscriptions = async (): Promise<unknown> => {
      const stats = await gateway.ask('/api/stats');
      return typeof stats === 'object' && stats !== null && 'total_subscriptions' in stats ? stats.total_subscriptions : null;
    };
    expect(await subscriptions()).toBe(2);
    await two.close();
    await until('run:2 is left', async () => (await subscriptions()) === 1);
    await elsewhere(1, 1);
    await heard(one, 1, 1);
  });

  it('come back together when the connection is lost', async () => {
    const one = await lab.open('/page.html');
    await begin(one);
    const two = await one.context().newPage();
    await two.goto(one.url());
    await begin(two);
    await network.fault({ fault: 'cut' });
    await elsewhere(1, 3);
    await heard(one, 1, 3);
    await heard(two, 1, 3);
    expect(await sockets()).toBe(1);
  });
});
