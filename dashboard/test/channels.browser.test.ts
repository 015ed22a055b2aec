import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Fixture, startFixture, token } from './fixture.js';
import { type Lab, startLab } from './lab.js';
import { lookAt } from './looks.js';

let lab: Lab;
let full: Fixture;
let empty: Fixture;

beforeAll(async () => {
  [lab, full, empty] = await Promise.all([startLab(), startFixture({ everyMs: 500 }), startFixture({ empty: true })]);
});
afterAll(() => Promise.all([lab.close(), full.close(), empty.close()]));

const open = (fixture: Fixture, path: string, role: 'viewer' | 'operator' | 'admin' = 'operator') => lab.open(`${fixture.origin}${path}#token=${token(role)}`);

describe('channels', () => {
  lookAt(() => lab, {
    'channels': [() => full.origin, '/channels', 'tr[data-id="run:40"]'],
    'channels-empty': [() => empty.origin, '/channels', '.empty'],
    'channels-groups': [() => full.origin, '/channels?group=prefix', 'tr[data-id="run"]'],
    'channel': [() => full.origin, '/channels/run%3A40', '.event-list li'],
    'channel-unused': [() => full.origin, '/channels/run%3A999', '.event-list li'],
  });

  it('leads from a channel to who is furthest behind, by keyboard', async () => {
    const page = await open(full, '/channels');
    await page.locator('tr[data-id="run:40"]').waitFor();
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'run:40' }).waitFor();
    const first = page.getByRole('list', { name: /Subscribers/ }).getByRole('listitem').first();
    await expect.poll(() => first.textContent()).toContain('118 behind');
    await first.getByRole('link').click();
    await expect.poll(() => page.url()).toContain('/connections/01JDQ3');
    expect(await lab.check()).toEqual([]);
  });

  it('hides payloads until they are asked for, and replays from a sequence that stands in the address', async () => {
    const page = await open(full, '/channels/run%3A40');
    const list = page.getByRole('list', { name: 'Events of run:40' });
    await list.waitFor();
    expect(await list.getByText('planner').first().isVisible()).toBe(false);
    await page.getByLabel('From sequence').fill('12');
    await page.getByRole('button', { name: 'Replay' }).click();
    await expect.poll(() => page.url()).toContain('from=12');
    await expect.poll(() => list.locator('li').last().locator('.event-sequence').textContent()).toBe('12');
    await list.locator('summary').last().click();
    await expect.poll(() => list.locator('li').last().getByText('planner').isVisible()).toBe(true);
    expect(await lab.check()).toEqual([]);
  });

  it('follows what comes only when it is told to', async () => {
    const page = await open(full, '/channels/cursors%3A2');
    await page.getByText('This channel keeps nothing').waitFor();
    expect(full.heard()).not.toContain('cursors:2');
    await page.getByRole('button', { name: 'Follow' }).click();
    await page.getByRole('list', { name: 'Events of cursors:2' }).locator('li').first().waitFor();
    await page.getByRole('button', { name: 'Following' }).click();
    await expect.poll(() => full.heard()).not.toContain('cursors:2');
    expect(await lab.check()).toEqual([]);
  });

  it('publishes for administrators, and says to others why not', async () => {
    const viewer = await open(full, '/channels/run%3A43');
    await viewer.getByText('Publishing needs a token of the role admin').waitFor();
    expect(await viewer.getByRole('button', { name: 'Publish' }).isDisabled()).toBe(true);
    const page = await open(full, '/channels/run%3A43', 'admin');
    await page.getByRole('button', { name: 'Publish' }).click();
    await page.getByText(/stored at sequence \d+/).waitFor();
    await page.getByLabel('Data (JSON)').fill('{');
    await page.getByText('this is not JSON').waitFor();
    expect(await page.getByRole('button', { name: 'Publish' }).isDisabled()).toBe(true);
    expect(await lab.check()).toEqual([]);
  });
});
