import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { BrowserContextOptions, Page } from 'playwright-core';
import { audit, bundle, type Lab, startLab, STRICT_CSP } from '../../test/browser.js';

let lab: Lab;
beforeAll(async () => {
  lab = await startLab();
  lab.serve('/page.js', await bundle('connection-health/test/page.ts'));
  lab.serve('/page.css', 'body{margin:0;font-family:system-ui,sans-serif}main{display:flex;flex-wrap:wrap;gap:24px;padding:24px}');
  for (const direction of ['ltr', 'rtl']) lab.serve(`/${direction}.html`, html(direction));
});
afterEach(async () => expect(await lab.check()).toEqual([]));
afterAll(() => lab.close());

const html = (direction: string) => ({
  body: `<!doctype html><html lang="en" dir="${direction}"><head><title>Looks</title><meta name="color-scheme" content="light dark">
    <link rel="stylesheet" href="/page.css"><script type="module" src="/page.js"></script></head><body><main></main></body></html>`,
  headers: { 'content-security-policy': STRICT_CSP },
});

const open = (path: string, options: BrowserContextOptions = {}): Promise<Page> => lab.open(path, options);

/** Puts every state into the page, in one variant. */
const fill = (page: Page, variant: string): Promise<void> =>
  page.evaluate(async (name) => {
    const far = Date.now() + 3_600_000;
    const numbers = { latency: 84, latencyP95: 140, messageDeliveryRate: 0.998, reconnectionCount: 2, queuedMessages: 3 };
    const states: Parameters<typeof fixture.fakeClient>[0][] = [
      { status: 'idle' },
      { status: 'connecting', level: 'down' },
      { status: 'connected', level: 'good', transport: 'websocket', ...numbers },
      { status: 'connected', level: 'degraded', transport: 'websocket', ...numbers },
      { status: 'connected', level: 'poor', transport: 'websocket', ...numbers },
      { status: 'reconnecting', level: 'down', transport: null, nextRetryAt: far, ...numbers },
      { status: 'polling', level: 'degraded', transport: 'polling', usingFallback: true, ...numbers },
      { status: 'polling', level: 'poor', transport: 'sse', usingFallback: true, ...numbers },
      { status: 'disconnected', level: 'down', ...numbers },
    ];
    for (const state of states) {
      const element = document.createElement('connection-health');
      if (name) element.setAttribute('variant', name);
      const client = fixture.fakeClient(state);
      element.client = client;
      document.querySelector('main')?.append(element);
      if (name === 'bar') client.emit('lost');
    }
    await new Promise(requestAnimationFrame);
  }, variant);

/** `PULSEWIRE_SHOTS=folder` keeps pictures, for whoever changes the looks. */
const keep = async (page: Page, name: string): Promise<void> => {
  const folder = process.env['PULSEWIRE_SHOTS'];
  if (folder) await page.screenshot({ path: `${folder}/${name}.png` });
};

describe.each(['light', 'dark'] as const)('on a %s page', (colorScheme) => {
  describe.each([[1000, 'ltr'], [320, 'rtl']] as const)('%i pixels wide, %s', (width, direction) => {
    it('every state of every variant passes axe', async () => {
      for (const variant of ['', 'dot', 'bar', 'panel']) {
        const page = await open(`/${direction}.html`, { colorScheme, viewport: { width, height: 800 } });
        await fill(page, variant);
        await keep(page, `${variant || 'pill'}-${colorScheme}-${width}-${direction}`);
        expect(await audit(page)).toEqual([]);
        const visible = await page.locator('connection-health [part=pill]:visible').count();
        expect(visible).toBe(variant === 'bar' ? 4 : 9);
        // Nothing is wider than the page.
        expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width);
      }
    });

    it('an open panel passes axe', async () => {
      const page = await open(`/${direction}.html`, { colorScheme, viewport: { width, height: 800 } });
      await fill(page, '');
      for (const index of [2, 5, 6, 8]) {
        await page.locator('[part=pill]').nth(index).click();
        expect(await page.locator('[part=panel]:visible').count()).toBe(1);
        await keep(page, `open${index}-${colorScheme}-${width}-${direction}`);
        expect(await audit(page)).toEqual([]);
        await page.keyboard.press('Escape');
      }
    });
  });
});

describe('whoever cannot rely on colours', () => {
  it('sees another shape for every state', async () => {
    const page = await open('/ltr.html');
    await fill(page, 'dot');
    const shapes = await page.evaluate(() =>
      [...document.querySelectorAll('connection-health')].map((element) => {
        const dot = element.shadowRoot?.querySelector('[part=dot]');
        if (!dot) return '';
        const { borderTopWidth, borderRadius, rotate, scale, borderRightColor, borderTopColor } = getComputedStyle(dot);
        return [borderTopWidth, borderRadius, rotate.startsWith('45'), scale, borderRightColor === borderTopColor].join(' ');
      }),
    );
    const [idle, connecting, good, degraded, poor, reconnecting, , , down] = shapes;
    // Connecting and reconnecting are both on their way.
    expect(connecting).toBe(reconnecting);
    expect(new Set([idle, connecting, good, degraded, poor, down]).size).toBe(6);
  });

  it('sees the shapes with forced colours too', async () => {
    const page = await open('/ltr.html', { forcedColors: 'active' });
    await fill(page, 'dot');
    const seen = await page.evaluate(() =>
      [...document.querySelectorAll('connection-health')].map((element) => {
        const dot = element.shadowRoot?.querySelector('[part=dot]');
        return dot && getComputedStyle(dot).borderTopColor !== getComputedStyle(document.body).backgroundColor;
      }),
    );
    expect(seen).toEqual(Array.from({ length: 9 }, () => true));
    expect(await page.evaluate(() => matchMedia('(forced-colors: active)').matches)).toBe(true);
    expect(await audit(page)).toEqual([]);
  });
});

describe('motion', () => {
  /** Animations that run on the element which is on its way. */
  const running = (page: Page): Promise<number> =>
    page.evaluate(() => {
      const dot = document.querySelectorAll('connection-health')[5]?.shadowRoot?.querySelector('[part=dot]');
      return dot?.getAnimations().length ?? -1;
    });

  it('is there while something is on its way, and nowhere for who does not want it', async () => {
    const lively = await open('/ltr.html', { reducedMotion: 'no-preference' });
    await fill(lively, '');
    expect(await running(lively)).toBe(1);
    const calm = await open('/ltr.html', { reducedMotion: 'reduce' });
    await fill(calm, '');
    expect(await running(calm)).toBe(0);
  });
});

describe('places', () => {
  const corners = [
    ['left', 'inset:40% auto auto 0'],
    ['right', 'inset:40% 0 auto auto'],
    ['bottom', 'inset:auto auto 0 45%'],
    ['bottom left', 'inset:auto auto 0 0'],
    ['bottom right', 'inset:auto 0 0 auto'],
    ['top right', 'inset:0 0 auto auto'],
    ['middle', 'inset:45% auto auto 40%'],
  ] as const;

  describe.each([[1000, 800], [320, 568], [568, 320]] as const)('in a window of %i by %i', (width, height) => {
    it.each(['ltr', 'rtl'])('the panel is whole at every edge, %s', async (direction) => {
      const page = await open(`/${direction}.html`, { viewport: { width, height } });
      for (const [name, css] of corners) {
        await page.evaluate((text) => {
          const element = document.createElement('connection-health');
          element.style.cssText = `position:fixed;${text}`;
          element.health = { status: 'polling', level: 'degraded', latency: 84, usingFallback: true, nextRetryAt: Date.now() + 3_600_000 };
          document.querySelector('main')?.replaceChildren(element);
        }, css);
        await page.locator('[part=pill]').click();
        const box = await page.locator('[part=panel]').boundingBox();
        await keep(page, `place-${width}-${direction}-${name}`);
        expect(box, name).not.toBeNull();
        if (!box) continue;
        expect(box.x, name).toBeGreaterThanOrEqual(0);
        expect(box.y, name).toBeGreaterThanOrEqual(0);
        expect(box.x + box.width, name).toBeLessThanOrEqual(width);
        expect(box.y + box.height, name).toBeLessThanOrEqual(height);
        await page.locator('[part=retry]').click({ trial: true, timeout: 2_000 });
      }
    });
  });

  it('the panel is not cut off by what hides its overflow', async () => {
    const page = await open('/ltr.html');
    await page.evaluate(() => {
      const cage = document.createElement('div');
      cage.style.cssText = 'width:160px;height:40px;overflow:hidden;transform:translateX(200px)';
      cage.append(Object.assign(document.createElement('connection-health'), { health: { status: 'disconnected' as const } }));
      document.body.append(cage);
    });
    await page.locator('[part=pill]').click();
    await page.locator('[part=retry]').click({ timeout: 2_000 });
  });
});

describe('sizes', () => {
  it('targets are at least 24 pixels high and wide', async () => {
    for (const variant of ['', 'dot', 'bar', 'panel']) {
      const page = await open('/ltr.html');
      await fill(page, variant);
      for (const box of await Promise.all((await page.locator('connection-health button:visible').all()).map((button) => button.boundingBox()))) {
        expect(box?.height).toBeGreaterThanOrEqual(24);
        expect(box?.width).toBeGreaterThanOrEqual(24);
      }
    }
  });
});

describe('theming', () => {
  it('takes colours from custom properties and styles from parts', async () => {
    const page = await open('/ltr.html');
    lab.serve('/theme.css', 'connection-health{--ch-good:rgb(1,2,3);--ch-bg:rgb(250,250,250);--ch-fg:rgb(10,10,10);--ch-border:rgb(9,8,7)}connection-health::part(label){letter-spacing:3px}');
    await page.evaluate(async () => {
      const link = Object.assign(document.createElement('link'), { rel: 'stylesheet', href: '/theme.css' });
      const loaded = new Promise((resolve) => link.addEventListener('load', resolve));
      document.head.append(link);
      await loaded;
    });
    await fill(page, '');
    const style = (part: string, property: string): Promise<string> =>
      page.locator(`[part=${part}]`).nth(2).evaluate((node, name) => getComputedStyle(node).getPropertyValue(name), property);
    expect(await style('dot', 'border-top-color')).toBe('rgb(1, 2, 3)');
    expect(await style('pill', 'background-color')).toBe('rgb(250, 250, 250)');
    expect(await style('pill', 'color')).toBe('rgb(10, 10, 10)');
    expect(await style('pill', 'border-top-color')).toBe('rgb(9, 8, 7)');
    expect(await style('label', 'letter-spacing')).toBe('3px');
  });
});
