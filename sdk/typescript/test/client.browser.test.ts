import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Page } from 'playwright-core';
import type { Client, ClientOptions } from '@pulsewire/client';
import { bundle, type Lab, startLab } from './browser.js';
import { Gateway, isObject, Network, sign, until } from './gateway.js';

/** What a page keeps of its client. */
interface Kept {
  client: Client;
  sequences: (number | undefined)[];
  statuses: string[];
  errors: string[];
  gaps: number;
  settled: string[];
}

declare global {
  var Pulsewire: typeof import('../client/src/full.js');
  var kept: Kept;
}

/** How a page makes its client. */
interface Setting {
  readonly address: string;
  readonly token: string;
  readonly fallback?: boolean;
  readonly queue?: boolean;
  readonly channel?: string;
  readonly timeouts?: NonNullable<ClientOptions['timeouts']>;
  /** Default 10: a test does not wait long. */
  readonly backoffMs?: number;
}

let lab: Lab;
let gateway: Gateway;
let network: Network;

beforeAll(async () => {
  lab = await startLab();
  lab.serve('/client.js', await bundle('client/src/full.ts'));
  lab.serve('/page.js', "import * as all from './client.js'; globalThis.Pulsewire = all;");
});
beforeEach(async () => {
  gateway = await Gateway.start({ dev: true });
  network = await Network.to(gateway);
  lab.serve('/page.html', {
    body: '<!doctype html><html lang="en"><head><title>Client</title><script type="module" src="/page.js"></script></head><body></body></html>',
    headers: {
      'content-security-policy':
        `default-src 'self'; connect-src ws://${network.address} http://${network.address}; require-trusted-types-for 'script'; trusted-types 'none'`,
    },
  });
});
afterEach(async () => {
  // That a connection failed is what these tests are about; anything else is wrong.
  const problems = (await lab.check()).filter((text) => !/WebSocket connection to|blocked by CORS policy.*No 'Access|net::ERR_/.test(text));
  await network[Symbol.asyncDispose]();
  await gateway[Symbol.asyncDispose]();
  expect(problems).toEqual([]);
});
afterAll(() => lab.close());

/** Makes the page's client, which listens to `run:1`. */
async function begin(page: Page, setting: Partial<Setting> = {}): Promise<void> {
  const whole: Setting = { address: network.address, token: sign({ user: 'ada' }), ...setting };
  await page.waitForFunction(() => 'Pulsewire' in globalThis);
  await page.evaluate(({ address, token, fallback, queue, channel = 'run:1', timeouts = {}, backoffMs = 10 }) => {
    const client: Client = Pulsewire.createClient({
      url: `ws://${address}`, token, timeouts, backoff: { minMs: backoffMs, maxMs: Math.max(backoffMs, 300) },
      ...(fallback && { fallback: Pulsewire.polling({ intervalMs: 50 }) }),
      ...(queue && { queue: { storage: Pulsewire.sessionQueue() } }),
    });
    const mine: Kept = { client, sequences: [], statuses: [], errors: [], gaps: 0, settled: [] };
    globalThis.kept = mine;
    client.on('status', ({ to }) => mine.statuses.push(to));
    client.on('error', ({ code, message }) => mine.errors.push(`${code}: ${message}`));
    client.on('gap', () => mine.gaps++);
    client.channel(channel).subscribe(({ sequenceNumber }) => mine.sequences.push(sequenceNumber));
  }, whole);
}

const status = (page: Page, is: string): Promise<void> =>
  until(`the page is ${is}`, async () => (await page.evaluate(() => kept.client.status())) === is);

const subscribed = (page: Page): Promise<void> =>
  until('it is subscribed', async () => (await page.evaluate(() => kept.client.channel('run:1').state())) === 'subscribed');

/** The listener has had all up to here, each once and in order. */
async function heard(page: Page, through: number): Promise<void> {
  const all = Array.from({ length: through }, (_, index) => index + 1);
  const read = (): Promise<unknown> => page.evaluate(() => kept.sequences);
  await until(`it has heard ${through}`, async () => JSON.stringify(await read()).includes(String(through)));
  expect(await read()).toEqual(all);
}

async function elsewhere(count: number): Promise<void> {
  for (let number = 1; number <= count; number++) await gateway.ask('/api/publish', { channel: 'run:1', type: 'note', data: number });
}

/** Publishes so many, called by a letter and a number. */
const publish = (page: Page, letter: string, count: number): Promise<void> => page.evaluate(([name, many]) => {
  for (let number = 1; number <= many; number++) {
    kept.client.publish('run:1', 'note', number, { id: `${name}${number}` })
      .then(({ id }) => kept.settled.push(id), (error: unknown) => kept.settled.push(String(error)));
  }
}, [letter, count] as const);

/** The ids of the events that the server has, in their order. */
async function stored(): Promise<unknown[]> {
  const page = await gateway.ask('/api/channels/run%3A1/events?limit=1000');
  return isObject(page) && Array.isArray(page['events']) ? page['events'].map((event: unknown) => isObject(event) && event['id']) : [];
}

const ids = (letter: string, count: number): string[] => Array.from({ length: count }, (_, index) => `${letter}${index + 1}`);

const open = (): Promise<Page> => lab.open('/page.html');

describe('a page', () => {
  it('works under a strict policy, which allows it the server and nothing else', async () => {
    const page = await open();
    await begin(page);
    await status(page, 'connected');
    await subscribed(page);
    await publish(page, 'p', 3);
    await heard(page, 3);
    expect(await stored()).toEqual(ids('p', 3));
  });

  it('finds out that it is offline although its socket says nothing, and catches up', async () => {
    const page = await open();
    await begin(page, { timeouts: { probeMs: 500 } });
    await subscribed(page);
    await elsewhere(2);
    await heard(page, 2);
    await page.context().setOffline(true);
    await status(page, 'reconnecting');
    await elsewhere(5);
    await publish(page, 'p', 2);
    await page.context().setOffline(false);
    await status(page, 'connected');
    await heard(page, 9);
    expect(await page.evaluate(() => [kept.gaps, kept.client.connectionHealth().reconnectionCount])).toEqual([0, 1]);
  });

  it('polls where WebSocket is blocked, and uses it once it is not', async () => {
    await network.fault({ fault: 'refuse_upgrade' });
    const page = await open();
    await begin(page, { fallback: true });
    await status(page, 'polling');
    await subscribed(page);
    await elsewhere(3);
    await heard(page, 3);
    await publish(page, 'p', 2);
    await heard(page, 5);
    await network.pass();
    await until('the next attempt has its time', () => page.evaluate(() => kept.client.connectionHealth().nextRetryAt !== null));
    await page.evaluate(() => kept.client.reconnect());
    await status(page, 'connected');
    await elsewhere(3);
    await heard(page, 8);
    expect(await page.evaluate(() => [kept.gaps, kept.settled])).toEqual([0, ['p1', 'p2']]);
  });

  it('polls beside an attempt that hangs', async () => {
    await network.fault({ fault: 'mute' });
    const page = await open();
    await begin(page, { fallback: true });
    await status(page, 'polling');
    expect(await page.evaluate(() => kept.statuses)).toEqual(['connecting', 'polling']);
    await elsewhere(1);
    await heard(page, 1);
  });

  it('keeps its queue over a reload: everything is stored, once and in order', async () => {
    const page = await open();
    await begin(page, { queue: true });
    await subscribed(page);
    await network.fault({ fault: 'refuse' });
    await status(page, 'reconnecting');
    await publish(page, 'p', 30);
    await until('all are queued', async () => (await page.evaluate(() => kept.client.queuedMessageCount())) === 30);
    await page.reload();
    await network.pass();
    await begin(page, { queue: true });
    await until('all are stored', async () => (await stored()).length >= 30);
    await until('the queue is empty', () => page.evaluate(() => sessionStorage.length === 0));
    expect(await stored()).toEqual(ids('p', 30));
  });

  it('sends again after a reload what was sent but not confirmed, and it is stored once', async () => {
    const page = await open();
    await begin(page, { queue: true });
    await subscribed(page);
    await network.fault({ fault: 'lose_acks' });
    await publish(page, 'p', 30);
    // No more than sixteen are on their way at once.
    await until('what may be sent is stored', async () => (await stored()).length === 16);
    await page.reload();
    await network.pass();
    await begin(page, { queue: true });
    await until('all are stored', async () => (await stored()).length >= 30);
    await until('the queue is empty', () => page.evaluate(() => sessionStorage.length === 0));
    expect(await stored()).toEqual(ids('p', 30));
  });

  it('shares neither session nor queue with another tab', async () => {
    const one = await open();
    await begin(one, { queue: true });
    await subscribed(one);
    await network.fault({ fault: 'refuse' });
    await status(one, 'reconnecting');
    await publish(one, 'a', 10);
    await until('all are queued', async () => (await one.evaluate(() => kept.client.queuedMessageCount())) === 10);
    // A tab that a page opens begins with a copy of its sessionStorage, and so of its queue.
    const [other] = await Promise.all([one.context().waitForEvent('page'), one.evaluate(() => void window.open('/page.html'))]);
    await begin(other, { queue: true });
    await publish(other, 'b', 10);
    await network.pass();
    await until('all are stored', async () => (await stored()).length >= 20);
    for (const page of [one, other]) {
      await until('its queue is empty', () => page.evaluate(() => sessionStorage.length === 0));
    }
    // The other tab came while events were being published: it hears those from its subscription on.
    await heard(one, 20);
    const all = await stored();
    expect(new Set(all)).toEqual(new Set([...ids('a', 10), ...ids('b', 10)]));
    expect(all).toHaveLength(20);
    expect(all.filter((id) => String(id).startsWith('a'))).toEqual(ids('a', 10));
    expect(all.filter((id) => String(id).startsWith('b'))).toEqual(ids('b', 10));
    expect(await one.evaluate(() => kept.client.id)).not.toBe(await other.evaluate(() => kept.client.id));
  });

  it('has no socket while it is in the back-forward cache, and catches up when it comes back', async () => {
    const page = await open();
    // The event is made here and stops no timer, as the cache would: so nothing is due before the page is shown again.
    await begin(page, { backoffMs: 60_000 });
    await subscribed(page);
    await elsewhere(2);
    await heard(page, 2);
    const session = await page.evaluate(() => kept.client.id);
    await page.evaluate(() => dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })));
    await until('the socket is closed', async () => (await network.stats())['open'] === 0);
    await elsewhere(3);
    await page.evaluate(() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })));
    await status(page, 'connected');
    await heard(page, 5);
    expect(await page.evaluate(() => kept.client.id)).toBe(session);
  });

  it('asks whether anybody is there as soon as it is seen again', async () => {
    const page = await open();
    await begin(page, { timeouts: { probeMs: 300 } });
    await subscribed(page);
    const see = (state: string): Promise<void> => page.evaluate((now) => {
      Object.defineProperty(document, 'visibilityState', { value: now, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, state);
    await see('hidden');
    await network.fault({ fault: 'black_hole' });
    await see('visible');
    await status(page, 'reconnecting');
    await network.pass();
    await elsewhere(1);
    await heard(page, 1);
  });
});
