import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Page } from 'playwright-core';
import { bundle, type Lab, startLab, STRICT_CSP } from '../../test/browser.js';

let lab: Lab;
beforeAll(async () => {
  lab = await startLab();
  const script = await bundle('connection-health/test/page.ts');
  lab.serve('/page.js', script);
  lab.serve('/second.js', `${await bundle('connection-health/src/index.ts')}\nglobalThis.second = true;`);
  lab.serve('/page.html', html(''));
});
/** What a test does on purpose that is a mistake. */
let expected: readonly string[] = [];
afterEach(async () => {
  expect(await lab.check()).toEqual(expected);
  expected = [];
});
afterAll(() => lab.close());

const html = (body: string) => ({
  body: `<!doctype html><html lang="en"><head><title>Element</title><script type="module" src="/page.js"></script></head>
    <body>${body}</body></html>`,
  headers: { 'content-security-policy': STRICT_CSP },
});

/** Opens the page with a clock that stands still until the test moves it. */
const open = (path = '/page.html'): Promise<Page> =>
  lab.open(path, {}, (page) => page.clock.install({ time: new Date('2026-01-01T12:00:00Z') }).then(() => page.clock.pauseAt(new Date('2026-01-01T12:00:01Z'))));

/** Puts an element with a client into the page; both are globals of it afterwards. */
const withClient = async (page: Page, health: Parameters<typeof fixture.fakeClient>[0], variant = ''): Promise<void> => {
  await page.evaluate(
    ([initial, name]) => {
      const client = fixture.fakeClient(initial);
      const element = document.createElement('connection-health');
      if (name) element.setAttribute('variant', name);
      element.client = client;
      document.body.append(element);
      const log: string[] = [];
      const region = element.shadowRoot?.querySelector('[role=status]');
      if (!region || region.textContent !== '') throw new Error('the region is there from the start, and empty');
      new MutationObserver(() => log.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true });
      element.addEventListener('statuschange', ({ detail }) => events.push(`${detail.from} → ${detail.to}`));
      const events: string[] = [];
      Object.assign(globalThis, { client, element, log, events });
    },
    [health, variant] as const,
  );
  await page.clock.runFor(0);
};

declare global {
  // What `withClient` leaves in the page.
  var client: ReturnType<typeof fixture.fakeClient>;
  var element: HTMLElementTagNameMap['connection-health'];
  var log: string[];
  var events: string[];
}

/** The client has this health from now on, and it is so many milliseconds later. */
const become = async (page: Page, health: Parameters<typeof fixture.fakeClient>[0], milliseconds = 0): Promise<void> => {
  await page.evaluate((next) => client.connectionHealth.set(next), health);
  await page.clock.runFor(milliseconds);
};

/** What stands in the pill. */
const pill = (page: Page, tag = 'connection-health'): Promise<string> =>
  page.locator(`${tag} [part=pill]`).evaluate((node) => [...node.children].map(({ textContent }) => textContent.replace('\u200e', '')).filter(Boolean).join(' '));

/** The value of a line of the panel. */
const line = (page: Page, name: string): Promise<string> =>
  page.locator('dt', { hasText: new RegExp(`^${name}$`) }).evaluate((node) => node.nextElementSibling?.textContent.replace('\u200e', '') ?? '');

describe('a client', () => {
  it('is all the element needs', async () => {
    const page = await open();
    await withClient(page, { status: 'connected', level: 'good', transport: 'websocket', latency: 12, latencyP95: 40, messageDeliveryRate: 1, reconnectionCount: 0 });
    expect(await pill(page)).toBe('Connected 12 ms');
    await page.evaluate(() => client.queuedMessageCount.set(3));
    expect(await pill(page)).toBe('Connected 12 ms 3 queued');
    expect(await line(page, 'Latency p95')).toBe('40 ms');
    await page.evaluate(() => client.usingFallback.set(true));
    expect(await page.locator('p').textContent()).toBe('No WebSocket: messages may be late.');
    expect(await pill(page)).toBe('HTTP polling 12 ms 3 queued');
  });

  it('counts down to the next attempt', async () => {
    const page = await open();
    await withClient(page, { status: 'connected' });
    const at = await page.evaluate(() => Date.now() + 4_000);
    const waiting = { status: 'reconnecting', level: 'down', nextRetryAt: at } as const;
    await become(page, waiting);
    const seen = [];
    for (let second = 0; second < 5; second++) {
      seen.push(await pill(page));
      await page.clock.runFor(1_000);
    }
    expect(seen).toEqual(['Reconnecting… 4 s', 'Reconnecting… 3 s', 'Reconnecting… 2 s', 'Reconnecting… 1 s', 'Reconnecting…']);
  });

  it('says Reconnected for ten seconds', async () => {
    const page = await open();
    await withClient(page, { status: 'connected' });
    await become(page, { status: 'reconnecting' }, 2_000);
    await become(page, { status: 'connected' }, 9_000);
    expect(await pill(page)).toBe('Reconnected');
    await page.clock.runFor(2_000);
    expect(await pill(page)).toBe('Connected');
  });

  it('tells of each change of the status once', async () => {
    const page = await open();
    await withClient(page, { status: 'connecting' });
    await become(page, { status: 'connected', latency: 1 });
    await become(page, { status: 'connected', latency: 2 });
    await become(page, { status: 'reconnecting' }, 5_000);
    await become(page, { status: 'disconnected' });
    expect(await page.evaluate(() => events)).toEqual(['connecting → connected', 'connected → reconnecting', 'reconnecting → disconnected']);
  });

  it('is no longer watched when another one comes, and nothing old stays when none comes', async () => {
    const page = await open();
    await withClient(page, { status: 'connected', latency: 12 });
    expect(await page.evaluate(() => client.watchers())).toBe(5);
    const watchers = await page.evaluate(() => {
      element.client = fixture.fakeClient({ status: 'reconnecting' });
      return client.watchers();
    });
    expect(watchers).toBe(0);
    expect(await pill(page)).toBe('Reconnecting…');
    await page.evaluate(() => (element.client = null));
    expect(await pill(page)).toBe('Disconnected');
  });
});

describe('taken out and put in again', () => {
  it('leaves neither a timer nor a subscription behind, and shows what is then', async () => {
    const page = await open();
    const before = await page.evaluate(() => fixture.pendingTimers());
    await withClient(page, { status: 'reconnecting', nextRetryAt: Date.parse('2026-01-01T12:10:00Z') });
    expect(await page.evaluate(() => [client.watchers(), fixture.pendingTimers()])).toEqual([5, before + 1]);
    await page.locator('[part=pill]').click();
    const left = await page.evaluate(async () => {
      element.remove();
      client.connectionHealth.set({ status: 'polling', transport: 'polling' });
      element.queuedMessages = 2;
      await Promise.resolve();
      return [client.watchers(), fixture.pendingTimers()];
    });
    expect(left).toEqual([0, before]);
    await page.evaluate(() => document.body.append(element));
    expect(await pill(page)).toBe('HTTP polling');
    expect(await page.evaluate(() => client.watchers())).toBe(5);
    // One click opens it: nothing remembers that it was open.
    expect(await page.locator('[part=panel]').isVisible()).toBe(false);
    await page.locator('[part=pill]').click();
    expect(await page.locator('[part=panel]').isVisible()).toBe(true);
  });

  it('keeps the properties of who has no client', async () => {
    const page = await open();
    await page.evaluate(async () => {
      const element = Object.assign(document.createElement('connection-health'), { health: { status: 'connected' as const, latency: 7 }, queuedMessages: 2 });
      document.body.append(element);
      await Promise.resolve();
      document.body.prepend(element);
    });
    expect(await pill(page)).toBe('Connected 7 ms 2 queued');
  });
});

describe('the keyboard', () => {
  it('opens the panel, retries, and comes back with Escape', async () => {
    const page = await open();
    await withClient(page, { status: 'reconnecting' });
    await page.evaluate(() => {
      document.body.addEventListener('retry', ({ target, composed }) => events.push(`retry ${String(target === element)} ${String(composed)}`));
    });
    const focused = (): Promise<string | null | undefined> => page.evaluate(() => element.shadowRoot?.activeElement?.getAttribute('part'));
    await page.keyboard.press('Tab');
    expect(await focused()).toBe('pill');
    await page.keyboard.press('Enter');
    expect(await page.locator('[part=panel]').isVisible()).toBe(true);
    await page.keyboard.press('Tab');
    expect(await focused()).toBe('retry');
    await page.keyboard.press('Enter');
    expect(await page.evaluate(() => [client.reconnects, ...events])).toEqual([1, 'retry true true']);
    await page.keyboard.press('Escape');
    expect(await page.locator('[part=panel]').isVisible()).toBe(false);
    expect(await focused()).toBe('pill');
  });

  it('does not lose its place when there is nothing left to retry', async () => {
    const page = await open();
    await withClient(page, { status: 'reconnecting' });
    await page.locator('[part=pill]').click();
    await page.locator('[part=retry]').focus();
    await become(page, { status: 'connected' });
    expect(await page.locator('[part=retry]').isVisible()).toBe(false);
    expect(await page.evaluate(() => element.shadowRoot?.activeElement?.getAttribute('part'))).toBe('pill');
  });

  it('tells assistive technology whether the panel is open', async () => {
    const page = await open();
    await withClient(page, { status: 'reconnecting' });
    const button = page.getByRole('button', { name: /^Reconnecting…/ });
    expect(await button.count()).toBe(1);
    // Asked of the browser, because nothing of it stands in an attribute.
    const session = await page.context().newCDPSession(page);
    const expanded = async (): Promise<unknown> => {
      const { nodes } = await session.send('Accessibility.getFullAXTree');
      const node = nodes.find(({ role, name }) => role?.value === 'button' && String(name?.value).startsWith('Reconnecting'));
      return node?.properties?.find(({ name }) => name === 'expanded')?.value.value;
    };
    expect(await expanded()).toBe(false);
    await button.click();
    expect(await expanded()).toBe(true);
    // A click beside it closes it.
    await page.mouse.click(600, 500);
    expect(await page.locator('[part=panel]').isVisible()).toBe(false);
  });
});

describe('retry', () => {
  it('is left to the page when it cancels the event', async () => {
    const page = await open();
    await withClient(page, { status: 'disconnected' });
    await page.evaluate(() => element.addEventListener('retry', (event) => event.preventDefault()));
    await page.locator('[part=pill]').click();
    await page.locator('[part=retry]').click();
    expect(await page.evaluate(() => client.reconnects)).toBe(0);
  });

  it('is told to who has no client', async () => {
    const page = await open();
    const told = await page.evaluate(async () => {
      const element = Object.assign(document.createElement('connection-health'), { health: { isHealthy: false } });
      document.body.append(element);
      let heard = false;
      element.addEventListener('retry', () => (heard = true));
      await Promise.resolve();
      element.shadowRoot?.querySelector<HTMLElement>('[part=retry]')?.click();
      return heard;
    });
    expect(told).toBe(true);
  });
});

describe('the status region', () => {
  it('says each lasting change once, and never a number', async () => {
    const page = await open();
    await withClient(page, { status: 'connected', latency: 12 });
    await page.clock.runFor(20_000);
    await become(page, { status: 'reconnecting', nextRetryAt: Date.parse('2026-01-01T12:30:00Z'), queuedMessages: 9 }, 999);
    expect(await page.evaluate(() => log)).toEqual([]);
    await page.clock.runFor(3_000);
    await page.evaluate(() => client.queuedMessageCount.set(12));
    await become(page, { status: 'polling', transport: 'polling', latency: 80 }, 3_000);
    await become(page, { status: 'polling', transport: 'polling', latency: 95 }, 3_000);
    await become(page, { status: 'connected', latency: 11 }, 30_000);
    const said = await page.evaluate(() => log);
    expect(said).toEqual(['Reconnecting…', 'HTTP polling', 'Reconnected']);
    expect(said.join()).not.toMatch(/\d/);
    expect(await page.locator('[role=status]').count()).toBe(1);
  });

  it('says nothing about a quick reconnect', async () => {
    const page = await open();
    await withClient(page, { status: 'connected' });
    await page.clock.runFor(5_000);
    await become(page, { status: 'reconnecting' }, 700);
    await become(page, { status: 'connected' }, 30_000);
    expect(await page.evaluate(() => log)).toEqual([]);
  });
});

describe('the bar', () => {
  it('is there after lost, has its button outside, and goes after the recovery was seen', async () => {
    const page = await open();
    await withClient(page, { status: 'connected' }, 'bar');
    const visible = (): Promise<boolean> => page.locator('[part=pill]').isVisible();
    expect(await visible()).toBe(false);
    await become(page, { status: 'reconnecting' }, 60_000);
    expect(await visible()).toBe(false);
    await page.evaluate(() => client.emit('lost'));
    await page.clock.runFor(0);
    expect(await visible()).toBe(true);
    await page.locator('[part=retry]').click();
    expect(await page.evaluate(() => client.reconnects)).toBe(1);
    await become(page, { status: 'connected' }, 5_000);
    expect([await visible(), await pill(page)]).toEqual([true, 'Reconnected']);
    await page.clock.runFor(6_000);
    expect(await visible()).toBe(false);
  });

  it('is there when the client gave up', async () => {
    const page = await open();
    await withClient(page, { status: 'connected' }, 'bar');
    await page.evaluate(() => {
      client.connectionHealth.set({ status: 'disconnected' });
      client.emit('failed');
    });
    await page.clock.runFor(0);
    expect(await page.locator('[part=retry]').isVisible()).toBe(true);
  });
});

describe('variants', () => {
  it('change in place', async () => {
    const page = await open();
    await withClient(page, { status: 'disconnected' });
    const where = async (variant: string): Promise<unknown> => {
      await page.evaluate((name) => element.setAttribute('variant', name), variant);
      return page.evaluate(() => {
        const panel = element.shadowRoot?.querySelector<HTMLElement>('[part=panel]');
        return [panel?.popover, panel?.checkVisibility(), panel?.contains(element.shadowRoot?.querySelector('[part=retry]') ?? null)];
      });
    };
    expect(await where('panel')).toEqual([null, true, true]);
    expect(await where('bar')).toEqual(['auto', false, false]);
    expect(await where('dot')).toEqual(['auto', false, true]);
  });
});

describe('plain HTML', () => {
  it('says it with attributes', async () => {
    lab.serve('/attributes.html', html('<connection-health status="connected" latency="40" delivery-rate="0.99" reconnects="2" queued="3" fallback></connection-health>'));
    const page = await open('/attributes.html');
    expect(await pill(page)).toBe('HTTP polling 40 ms 3 queued');
    expect([await line(page, 'Delivery'), await line(page, 'Reconnects')]).toEqual(['99%', '2']);
    await page.evaluate(() => {
      const element = document.querySelector('connection-health');
      element?.removeAttribute('fallback');
      element?.removeAttribute('queued');
      element?.setAttribute('latency', '41');
    });
    expect(await pill(page)).toBe('Connected 41 ms');
  });

  it('says nothing false before anything is known', async () => {
    lab.serve('/empty.html', html('<connection-health></connection-health>'));
    expect(await pill(await open('/empty.html'))).toBe('Disconnected');
  });
});

describe("document 003's tag", () => {
  it('shows its three properties', async () => {
    const page = await open();
    await page.evaluate(() => {
      const element = document.createElement('app-connection-health');
      element.health = { latency: 45, reconnectionCount: 2, messageDeliveryRate: 0.98, isHealthy: true };
      element.queuedMessages = 5;
      element.usingFallback = false;
      document.body.append(element);
    });
    expect(await pill(page, 'app-connection-health')).toBe('Connected 45 ms 5 queued');
    expect([await line(page, 'Delivery'), await line(page, 'Reconnects'), await line(page, 'Queued')]).toEqual(['98%', '2', '5']);
    const update = (change: Parameters<typeof Object.assign>[1]): Promise<void> =>
      page.evaluate((values) => void Object.assign(document.querySelector('app-connection-health') ?? {}, values), change);
    await update({ usingFallback: true });
    expect(await pill(page, 'app-connection-health')).toBe('HTTP polling 45 ms 5 queued');
    await update({ usingFallback: false, health: { isHealthy: false, latency: 0, reconnectionCount: 2, messageDeliveryRate: 0.98 } });
    expect(await pill(page, 'app-connection-health')).toBe('Disconnected 5 queued');
    await update({ health: { isHealthy: true, latency: 30, reconnectionCount: 3, messageDeliveryRate: 0.98 } });
    expect(await pill(page, 'app-connection-health')).toBe('Reconnected 30 ms 5 queued');
  });
});

describe('labels', () => {
  it('are replaced one by one', async () => {
    const page = await open();
    await withClient(page, { status: 'connected', queuedMessages: 3, latency: 9 });
    await page.evaluate(() => {
      element.labels = { connected: 'Verbunden', latency: 'Laufzeit' };
    });
    expect(await pill(page)).toBe('Verbunden 9 ms');
    expect([await line(page, 'Laufzeit'), await line(page, 'Delivery')]).toEqual(['9 ms', '–']);
    await page.evaluate(() => (element.labels = null));
    expect(await pill(page)).toBe('Connected 9 ms');
  });
});

describe('loading', () => {
  it('takes over what was set before the element was known', async () => {
    lab.serve('/early.js', `
      const element = document.createElement('connection-health');
      Object.assign(element, { health: { status: 'polling', transport: 'sse' }, queuedMessages: 4 });
      globalThis.known = 'health' in HTMLElement.prototype || customElements.get('connection-health') !== undefined;
      document.body.append(element);`);
    lab.serve('/early.html', html('<script src="/early.js"></script>'));
    const page = await open('/early.html');
    expect(await page.evaluate(() => Reflect.get(globalThis, 'known'))).toBe(false);
    expect(await pill(page)).toBe('HTTP streaming 4 queued');
    // The accessors are in use: a later change is seen.
    await page.evaluate(() => Object.assign(document.querySelector('connection-health') ?? {}, { queuedMessages: 5 }));
    expect(await pill(page)).toBe('HTTP streaming 5 queued');
  });

  it('twice does no harm', async () => {
    lab.serve('/twice.html', html('<script type="module" src="/second.js"></script>'));
    const page = await open('/twice.html');
    expect(await page.evaluate(() => 'second' in globalThis)).toBe(true);
  });
});

describe('a strict policy', () => {
  it('is kept, and would be seen if it were not', async () => {
    const page = await open();
    await withClient(page, { status: 'connected' });
    // The style sheet is in force.
    expect(await page.locator('[part=pill]').evaluate((node) => getComputedStyle(node).display)).toBe('flex');
    expect(await lab.check()).toEqual([]);
    const bad = await open();
    await bad.evaluate(() => {
      const style = document.createElement('style');
      style.textContent = 'body{color:red}';
      document.head.append(style);
    });
    const found = await lab.check();
    expect(found.length).toBe(1);
    expect(found[0]).toMatch(/Content Security Policy/);
  });
});
