import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Page } from 'playwright-core';
import { type Fixture, startFixture, token } from './fixture.js';
import { type Lab, looks, startLab } from './lab.js';

let lab: Lab;
let fixture: Fixture;
let empty: Fixture;
beforeAll(async () => {
  [lab, fixture, empty] = await Promise.all([startLab(), startFixture(), startFixture({ empty: true })]);
});
afterAll(async () => {
  await lab.close();
  await Promise.all([fixture.close(), empty.close()]);
});
afterEach(async () => expect(await lab.check()).toEqual([]));

const at = (path: string, role: 'viewer' | 'operator' = 'operator', of: Fixture = fixture): string => `${of.origin}${path}#token=${token(role)}`;
const rows = (page: Page): Promise<string[]> => page.locator('tbody tr[data-id]').evaluateAll((all) => all.map((row) => row.getAttribute('data-id') ?? ''));

describe('the list of connections', () => {
  it.each([
    ['connections', '/connections', 'tbody tr[data-id]'],
    ['connections-closed', '/connections?tab=closed', 'tbody tr[data-id]'],
    ['connections-failed', '/connections?tab=failed', 'tbody tr[data-id]'],
    ['connections-groups', '/connections?group=cause', 'tbody tr[data-id]'],
    ['connections-none', '/connections?filter=user:nobody', '.empty'],
    ['connections-wrong', '/connections?filter=colour:red', '.trouble'],
  ])('looks right: %s', async (name, path, ready) => {
    await looks(lab, name, at(path), ready);
  });

  it.each([['active', ''], ['closed', '?tab=closed'], ['failed', '?tab=failed']])('says why there is nobody: %s', async (name, query) => {
    await looks(lab, `connections-empty-${name}`, at(`/connections${query}`, 'viewer', empty), '.empty');
  });

  it('is in the order of the server, and a title asks for another', async () => {
    const page = await lab.open(at('/connections'));
    await page.getByRole('button', { name: 'Latency' }).click();
    await page.waitForURL(/sort=-latency/);
    await page.locator('th[aria-sort=descending]', { hasText: 'Latency' }).waitFor();
    await page.getByRole('button', { name: 'Latency' }).click();
    await page.waitForURL(/sort=latency/);
    await page.locator('th[aria-sort=ascending]', { hasText: 'Latency' }).waitFor();
    await expect.poll(async () => (await rows(page)).length).toBe(50);
  });

  it('filters as one writes, and the address says so', async () => {
    const page = await lab.open(at('/connections'));
    await page.locator('tbody tr[data-id]').first().waitFor();
    await page.keyboard.press('/');
    await page.keyboard.type('user:alice');
    await page.waitForURL(/filter=user%3Aalice/);
    await expect.poll(() => page.locator('tbody tr[data-id] td:nth-child(2)').allTextContents().then((all) => all.filter((text) => !text.startsWith('alice')))).toEqual([]);
    await page.reload();
    expect(await page.getByRole('searchbox').inputValue()).toBe('user:alice');
    await page.goBack();
  });

  it('says what is wrong with a filter, and goes on when it is right', async () => {
    const page = await lab.open(at('/connections?filter=colour:red'));
    await page.getByText('there is no field colour').waitFor();
    await page.getByRole('searchbox').fill('user:bob');
    await page.locator('tbody tr[data-id]').first().waitFor();
    await page.locator('.trouble').waitFor({ state: 'detached' });
  });

  it('goes down, up and into a connection by keyboard, and back', async () => {
    const page = await lab.open(at('/connections'));
    await page.locator('tbody tr[data-id]').nth(4).waitFor();
    await page.keyboard.press('.');
    const [first, second] = await rows(page);
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    const focused = (): Promise<string | null | undefined> => page.evaluate(() => document.activeElement?.closest('tr')?.getAttribute('data-id'));
    expect(await focused()).toBe(second);
    await page.keyboard.press('k');
    expect(await focused()).toBe(first);
    await page.keyboard.press('Enter');
    await page.waitForURL(`**/connections/${first}`);
    await page.keyboard.press('Escape');
    await page.waitForURL('**/connections');
  });

  it('shows who has not said who it is, and cannot be disconnected', async () => {
    const page = await lab.open(at('/connections?filter=state:authenticating'));
    await page.locator('tbody tr[data-id]').waitFor();
    expect(await page.locator('.row-action').count()).toBe(0);
  });

  it('pages', async () => {
    const page = await lab.open(at('/connections?sort=user'));
    const before = await rows(page);
    await page.getByRole('button', { name: 'Next' }).click();
    await page.waitForURL(/offset=50/);
    await expect.poll(async () => (await rows(page))[0]).not.toBe(before[0]);
    await page.getByText('51–100 of 240').waitFor();
    await page.getByRole('button', { name: 'Previous' }).click();
    await page.getByText('1–50 of 240').waitFor();
  });

  it('leads from a group to its members', async () => {
    const page = await lab.open(at('/connections?group=cause'));
    await page.getByRole('link', { name: 'client is not reading' }).click();
    await page.waitForURL(/filter=cause%3Aclient_not_reading/);
    expect(page.url()).not.toContain('group');
    await expect.poll(() => page.locator('tbody td .why').allTextContents().then((all) => new Set(all))).toEqual(new Set(['client is not reading']));
  });

  it('saves what the filter matches', async () => {
    const page = await lab.open(at('/connections?filter=user:alice'));
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'CSV' }).click()]);
    expect(download.suggestedFilename()).toBe('connections-active.csv');
    const lines = await (await download.createReadStream()).toArray();
    const text = Buffer.concat(lines as Buffer[]).toString().trim().split('\r\n');
    expect(text[0]).toMatch(/^id,sessionId,userId/);
    expect(text).toHaveLength(1 + fixture.world.connections.filter((row) => row['userId'] === 'alice').length);
  });
});

describe('disconnecting', () => {
  it('is not offered to viewers', async () => {
    const page = await lab.open(at('/connections?filter=user:bob', 'viewer'));
    await page.locator('tbody tr[data-id]').first().waitFor();
    expect(await page.getByRole('button', { name: /Disconnect/ }).count()).toBe(0);
  });

  it('asks first, and does nothing if one thinks better of it', async () => {
    const page = await lab.open(at('/connections?filter=user:bob'));
    const before = fixture.acts.length;
    await page.getByRole('button', { name: 'Disconnect all of bob' }).click();
    await page.getByRole('dialog').getByText('all connections of bob').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    expect(fixture.acts).toHaveLength(before);
  });

  it('takes all of a user, or one', async () => {
    const page = await lab.open(at('/connections?filter=user:heidi'));
    const one = (await page.locator('tbody tr[data-id]').first().getAttribute('data-id')) ?? '';
    await page.locator(`tr[data-id="${one}"] .row-action`).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
    // It is marked, and leaves with the next page.
    await page.locator(`tr[data-id="${one}"]:not(.gone)`).waitFor({ state: 'detached' });
    expect(fixture.acts.at(-1)).toEqual({ path: 'websocket/disconnect', body: { session: one } });
    await page.getByRole('button', { name: 'Disconnect all of heidi' }).click();
    await page.getByRole('checkbox', { name: /stay away/ }).check();
    await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
    await page.getByText('No connection matches the filter').waitFor();
    expect(fixture.acts.at(-1)).toEqual({ path: 'websocket/disconnect', body: { user: 'heidi', code: 4506 } });
  });
});
