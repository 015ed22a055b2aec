import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Fixture, startFixture, token } from './fixture.js';
import { type Lab, looks, startLab } from './lab.js';

let lab: Lab;
let fixture: Fixture;
let quiet: Fixture;
let empty: Fixture;
beforeAll(async () => {
  [lab, fixture, quiet, empty] = await Promise.all([startLab(), startFixture(), startFixture({ quiet: true }), startFixture({ empty: true })]);
});
afterAll(async () => {
  await lab.close();
  await Promise.all([fixture, quiet, empty].map((each) => each.close()));
});
afterEach(async () => expect(await lab.check()).toEqual([]));

const at = (path: string, of: Fixture = fixture): string => `${of.origin}${path}#token=${token('operator')}`;
/** Which channels of `$sys` are listened to, without their questions. */
const watched = (of: Fixture): string[] => [...new Set(of.watched().map((channel) => channel.split(':')[0] ?? ''))].sort();

/** How often a path was asked for since. */
function requests(page: Page, path: string): () => number {
  let seen = 0;
  page.on('request', (request) => new URL(request.url()).pathname === path && seen++);
  return () => seen;
}

describe('signing in', () => {
  it('looks right', async () => {
    await looks(lab, 'signin', `${fixture.origin}/`, 'form');
  });

  it('takes the token out of the address, keeps it in the tab, and goes where the link led', async () => {
    const page = await lab.open(at('/connections?sort=-queue'));
    await page.locator('tbody tr[data-id]').first().waitFor();
    expect(page.url()).toBe(`${fixture.origin}/connections?sort=-queue`);
    expect(await page.evaluate(() => localStorage.length)).toBe(0);
    await page.reload();
    await page.locator('tbody tr[data-id]').first().waitFor();
  });

  it('says why a token is refused, and takes another', async () => {
    const page = await lab.open(`${fixture.origin}/`);
    await page.getByLabel('Token', { exact: true }).fill('nonsense');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('its signature does not match').waitFor();
    await page.getByLabel('Token', { exact: true }).fill(token('viewer'));
    await page.keyboard.press('Enter');
    await page.locator('.tile').first().waitFor();
  });

  it('ends when one wants it to, and leaves nothing behind', async () => {
    const page = await lab.open(at('/'));
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('Token', { exact: true }).waitFor();
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
  });
});

describe('the overview', () => {
  it('looks right', async () => {
    await looks(lab, 'overview', at('/'), '.short li');
  });

  it('looks right while all is well', async () => {
    await looks(lab, 'overview-quiet', at('/', quiet), '.short li');
  });

  it('says how to begin while nobody is there', async () => {
    await looks(lab, 'overview-empty', at('/', empty), '.code');
  });

  it('leads in three clicks to why somebody is slow', async () => {
    const page = await lab.open(at('/'));
    await page.getByRole('link', { name: /2 % slow: \d+ connections are not reading/ }).click();
    await page.waitForURL(/connections\?filter=cause%3Aclient_not_reading/);
    await page.locator('tbody a[data-row]').first().click();
    await page.locator('.why-card').getByText('its receive window is closed: the client does not read').waitFor();
  });

  it('leads from a critical alert to who causes it', async () => {
    const page = await lab.open(at('/?range=1h'));
    await page.locator('.banner').getByText('Message latency p95 612 ms').waitFor();
    expect(await page.locator('.banner .lasts').textContent()).toMatch(/^2 m \d+ s$/);
    await page.locator('.banner').getByRole('link').click();
    await page.waitForURL(/connections\?sort=-latency&range=1h/);
  });

  it('is full at first paint and goes on', async () => {
    const page = await lab.open(at('/'));
    const points = (): Promise<number> => page.locator('.tile[data-tile=latency] .line').evaluate((line) => line.getAttribute('d')?.split('L').length ?? 0);
    await page.locator('.tile[data-tile=latency] .line').waitFor({ state: 'attached' });
    expect(await points()).toBeGreaterThan(100);
    const before = await page.locator('.chart .legend').nth(2).textContent();
    await expect.poll(() => page.locator('.chart .legend').nth(2).textContent()).not.toBe(before);
  });

  it('tells of what happens as it happens', async () => {
    const page = await lab.open(at('/'));
    await page.locator('.events li').first().waitFor();
    fixture.world.happen({ id: 999, at: new Date().toISOString(), type: 'draining', severity: 'warning', text: 'nobody new is let in', link: null });
    await page.locator('.events li').first().getByText('nobody new is let in').waitFor();
  });
});

describe('the keyboard', () => {
  it('leads to pages, ranges, help and pause', async () => {
    const page = await lab.open(at('/'));
    await page.locator('.tile').first().waitFor();
    await page.keyboard.press('g');
    await page.keyboard.press('c');
    await page.waitForURL('**/connections');
    await page.keyboard.press('t');
    await page.waitForURL(/range=1h/);
    await page.keyboard.press('g');
    await page.keyboard.press('o');
    await page.waitForURL('**/?range=1h');
    await page.keyboard.press('.');
    await page.getByRole('button', { name: 'Paused' }).waitFor();
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
  });

  it('goes anywhere with the palette', async () => {
    const page = await lab.open(at('/'));
    await page.locator('.tile').first().waitFor();
    await page.keyboard.press('Control+k');
    await page.keyboard.type('alice');
    await page.getByRole('option', { name: /Connections of user alice/ }).waitFor();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.waitForURL(/filter=user%3Aalice/);
    await page.getByRole('dialog').waitFor({ state: 'detached' });
  });
});

describe('the theme', () => {
  it('is turned, kept, and drawn anew', async () => {
    const page = await lab.open(at('/'), { colorScheme: 'light' });
    const ground = (): Promise<string> => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.locator('.tile').first().waitFor();
    const light = await ground();
    await page.getByRole('button', { name: 'Theme: system' }).click();
    await page.getByRole('button', { name: 'Theme: light' }).click();
    await page.getByRole('button', { name: 'Theme: dark' }).waitFor();
    expect(await ground()).not.toBe(light);
    await page.reload();
    await page.getByRole('button', { name: 'Theme: dark' }).waitFor();
  });
});

describe('watches', () => {
  it('are those of the page that is looked at', async () => {
    const page = await lab.open(at('/', quiet));
    await expect.poll(() => watched(quiet)).toEqual(['$sys.channels', '$sys.connections', '$sys.events', '$sys.overview']);
    await page.getByRole('link', { name: /^Connections/ }).first().click();
    await expect.poll(() => watched(quiet)).toEqual(['$sys.connections', '$sys.overview']);
    expect(quiet.watched()).toContain('$sys.connections:limit=50');
  });

  it('end while the page is hidden or paused, and begin again', async () => {
    const page = await lab.open(at('/connections', quiet));
    await expect.poll(() => watched(quiet)).toEqual(['$sys.connections', '$sys.overview']);
    await page.keyboard.press('.');
    await expect.poll(() => watched(quiet)).toEqual([]);
    await page.keyboard.press('.');
    await expect.poll(() => watched(quiet)).toEqual(['$sys.connections', '$sys.overview']);
    await page.evaluate(() => {
      Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => 'hidden' });
      document.dispatchEvent(new Event('visibilitychange'));
    });
    await expect.poll(() => watched(quiet)).toEqual([]);
    await page.evaluate(() => {
      Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => 'visible' });
      document.dispatchEvent(new Event('visibilitychange'));
    });
    await expect.poll(() => watched(quiet)).toEqual(['$sys.connections', '$sys.overview']);
  });

  it('come back after the connection was lost', async () => {
    const page = await lab.open(at('/connections', quiet));
    await expect.poll(() => watched(quiet)).toEqual(['$sys.connections', '$sys.overview']);
    quiet.cut(true);
    await expect.poll(() => watched(quiet)).toEqual([]);
    quiet.cut(false);
    await expect.poll(() => watched(quiet), { timeout: 20_000 }).toEqual(['$sys.connections', '$sys.overview']);
    await page.locator('tbody tr[data-id]').first().waitFor();
  });

  it('go on over HTTP where no WebSocket gets through', async () => {
    quiet.cut(true);
    try {
      const page = await lab.open(at('/connections', quiet));
      await page.locator('tbody tr[data-id]').first().waitFor();
      const latency = page.locator('tbody tr[data-id]').first().locator('td').nth(4);
      const before = await latency.textContent();
      await expect.poll(requests(page, '/api/admin/connections'), { timeout: 30_000 }).toBeGreaterThan(0);
      await expect.poll(() => latency.textContent(), { timeout: 15_000 }).not.toBe(before);
    } finally {
      quiet.cut(false);
    }
  });

  it('that were refused go on over HTTP, and nobody is told of trouble', async () => {
    quiet.refuse('$sys.connections');
    try {
      const page = await lab.open(at('/connections', quiet));
      await page.locator('tbody tr[data-id]').first().waitFor();
      const asked = requests(page, '/api/admin/connections');
      await expect.poll(asked, { timeout: 30_000 }).toBeGreaterThan(1);
      expect(await page.locator('.trouble').count()).toBe(0);
    } finally {
      quiet.refuse('');
    }
  });

  it('ask again when changes were lost', async () => {
    const still = await startFixture({ everyMs: 0 });
    try {
      const page = await lab.open(at('/connections', still));
      await page.locator('tbody tr[data-id]').first().waitFor();
      await expect.poll(() => watched(still)).toEqual(['$sys.connections', '$sys.overview']);
      const asked = requests(page, '/api/admin/connections');
      // A page, then changes that do not follow it. Whoever had asked just before waits a while.
      await expect.poll(() => {
        still.tick();
        still.lose();
        return asked();
      }, { timeout: 30_000, interval: 200 }).toBe(1);
    } finally {
      await still.close();
    }
  });

  it('end with the token, and the form says why', async () => {
    const page = await lab.open(at('/connections', quiet));
    await expect.poll(() => watched(quiet)).toEqual(['$sys.connections', '$sys.overview']);
    quiet.end(4002);
    await page.getByText('the token no longer holds').waitFor();
    await page.getByLabel('Token', { exact: true }).waitFor();
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
  });
});
