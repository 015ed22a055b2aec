import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Fixture, startFixture, token } from './fixture.js';
import { type Lab, startLab } from './lab.js';
import { codeOf, lookAt } from './looks.js';

let lab: Lab;
let full: Fixture;
let empty: Fixture;

beforeAll(async () => {
  [lab, full, empty] = await Promise.all([startLab(), startFixture({ everyMs: 500 }), startFixture({ empty: true })]);
});
afterAll(() => Promise.all([lab.close(), full.close(), empty.close()]));

const open = (fixture: Fixture, path: string, role: 'viewer' | 'operator' | 'admin' = 'operator') => lab.open(`${fixture.origin}${path}#token=${token(role)}`);

describe('upstreams', () => {
  lookAt(() => lab, {
    'upstreams': [() => full.origin, '/upstreams', 'tr[data-id="7"]'],
    'upstreams-viewer': [() => full.origin, '/upstreams', '.why-not', 'viewer'],
    'upstreams-empty': [() => empty.origin, '/upstreams', '.empty'],
    'upstream': [() => full.origin, '/upstreams/quotes', '[aria-label="Stream 1"]'],
    'upstream-unknown': [() => full.origin, '/upstreams/nobody', '.empty'],
  });

  it('shows what is wrong first, and leads to the links of a stream by keyboard', async () => {
    const page = await open(full, '/upstreams');
    await expect.poll(() => page.locator('tbody tr').first().getAttribute('data-id')).toBe('7');
    await expect.poll(() => page.locator('tr[data-id="5"]').textContent()).toContain('circuit open');
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'depth' }).waitFor();
    await expect.poll(() => page.url()).toContain('filter=key%3Ausd');
    const stream = page.getByRole('region', { name: 'Stream 5', exact: true });
    await expect.poll(() => stream.textContent()).toContain('nobody listens at 203.0.113.7:443');
    await page.getByRole('link', { name: 'All streams' }).click();
    await expect.poll(() => page.getByRole('region', { name: /^Stream \d+$/ }).count()).toBe(4);
    expect(await lab.check()).toEqual([]);
  });

  it('is filtered and sorted by the server, and is told as it changes', async () => {
    const page = await open(full, '/upstreams?filter=upstream:depth');
    await expect.poll(() => page.locator('tbody tr').count()).toBe(4);
    await page.getByRole('button', { name: 'Errors' }).click();
    await expect.poll(() => page.locator('tbody tr').first().getAttribute('data-id')).toBe('5');
    await expect.poll(() => full.watched().filter((name) => name.startsWith('$sys.upstreams'))).toContain('$sys.upstreams:filter=upstream~3Adepth+sort=-errors+limit=50');
    await page.getByLabel('Filter').fill('colour:red');
    await page.getByText('there is no field colour').waitFor();
    expect(await lab.check()).toEqual([]);
  });

  it('tells which upstreams have no stream', async () => {
    const page = await open(full, '/upstreams');
    await page.getByRole('list', { name: 'Declared, without a stream' }).getByRole('link', { name: 'weather' }).click();
    await page.getByText('No stream is open').waitFor();
    expect(await page.locator('.figures').textContent()).toContain('upstream:weather');
    expect(await lab.check()).toEqual([]);
  });

  it('sets the candidate beside stable, with the line from which on it is worse', async () => {
    const page = await open(full, '/upstreams');
    const canary = page.getByRole('region', { name: 'Canary' });
    await expect.poll(() => canary.textContent()).toContain('worse, not for long yet');
    await canary.getByRole('img', { name: 'Retries of a stream: 2.75× stable\'s' }).waitFor();
    expect(await canary.locator('.meter-line').evaluateAll((lines) => lines.map((line) => line.getAttribute('x')))).toEqual(['50', '50']);
    expect(await canary.locator('.state.is-critical').count()).toBe(1);
    expect(await lab.check()).toEqual([]);
  });

  it('restarts, cleans up and rolls back, each behind a question', async () => {
    const page = await open(full, '/upstreams/depth');
    const done = async (label: string, path: string): Promise<void> => {
      await page.getByRole('button', { name: `${label} …` }).click();
      await page.getByRole('dialog').getByRole('button', { name: label, exact: true }).click();
      await expect.poll(() => full.acts.at(-1)).toEqual({ path, body: {} });
    };
    await done('Restart', 'upstreams/depth/restart');
    await page.getByRole('link', { name: 'Upstreams', exact: true }).first().click();
    await done('Clean up idle streams', 'upstreams/cleanup');
    await expect.poll(() => page.locator('tr[data-id="2"]:not(.gone)').count()).toBe(0);
    await done('Roll back', 'canary/rollback');
    await page.getByText('taken back').first().waitFor();
    expect(await page.getByRole('button', { name: 'Roll back …' }).count()).toBe(0);
    expect(await lab.check()).toEqual([]);
  });

  it('offers a viewer nothing to do, and says why', async () => {
    const page = await open(full, '/upstreams/depth', 'viewer');
    await page.getByText('Restarting needs the role operator').waitFor();
    expect(await page.getByRole('button', { name: /Restart|Clean up|Roll back/ }).count()).toBe(0);
    expect(await lab.check()).toEqual([]);
  });

  it('says what an upstream is while there is none', async () => {
    const page = await open(empty, '/upstreams');
    await expect.poll(() => codeOf(page, 'an upstream').textContent()).toContain('[[upstream]]');
    expect(await lab.check()).toEqual([]);
  });
});
