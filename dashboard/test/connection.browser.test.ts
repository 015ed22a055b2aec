import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Fixture, startFixture, token } from './fixture.js';
import { type Lab, looks, startLab } from './lab.js';

let lab: Lab;
let fixture: Fixture;
let stuck = '';
beforeAll(async () => {
  [lab, fixture] = await Promise.all([startLab(), startFixture()]);
  stuck = String(fixture.world.connections.find((row) => row['cause'] === 'client_not_reading')?.['id']);
});
afterAll(async () => {
  await lab.close();
  await fixture.close();
});
afterEach(async () => expect(await lab.check()).toEqual([]));

const at = (path: string, role: 'viewer' | 'operator' = 'operator'): string => `${fixture.origin}${path}#token=${token(role)}`;

describe('the page of a connection', () => {
  it('looks right', async () => {
    await looks(lab, 'connection', at(`/connections/${stuck}`), '.why-card');
    await looks(lab, 'connection-full', at(`/connections/${stuck}?view=full`), 'table.full');
    await looks(lab, 'connection-json', at(`/connections/${stuck}?view=json&lane=heartbeat`), '.json');
  });

  it('looks right once it is over, and if nobody knows of it', async () => {
    await looks(lab, 'connection-closed', at('/connections/01JCLOSED00000QK8N3ZB6V7'), '.entries');
    await looks(lab, 'connection-unknown', at('/connections/01JNOBODY'), '.empty');
  });

  it('says first why it is slow', async () => {
    const page = await lab.open(at(`/connections/${stuck}`));
    await page.locator('.why-card').getByText('its receive window is closed: the client does not read').waitFor();
    await page.getByRole('img', { name: 'Most of it in the queue' }).waitFor();
  });

  it('shows one lane of the timeline, everything, or JSON', async () => {
    const page = await lab.open(at(`/connections/${stuck}`));
    await page.getByRole('button', { name: /^heartbeat/ }).click();
    await page.waitForURL(/lane=heartbeat/);
    expect(await page.locator('.entries li').count()).toBe(2);
    await page.getByRole('button', { name: 'full' }).click();
    expect(await page.locator('table.full tbody tr').count()).toBe(2);
    await page.getByRole('button', { name: 'json', exact: true }).click();
    expect(JSON.parse((await page.locator('.json').textContent()) ?? '')).toHaveLength(2);
  });

  it('adds what happens meanwhile to the timeline', async () => {
    const page = await lab.open(at(`/connections/${stuck}?view=full`));
    await page.locator('table.full tbody tr').first().waitFor();
    fixture.world.grow(stuck, { lane: 'lifecycle', kind: 'detached', text: 'went away' });
    await page.locator('table.full tbody tr').first().getByText('went away').waitFor();
    expect(await page.locator('table.full tbody tr').count()).toBe(11);
  });

  it('listens in only when told to, and shows payloads only to operators who ask', async () => {
    const viewer = await lab.open(at(`/connections/${stuck}`, 'viewer'));
    await viewer.getByRole('button', { name: 'Listen in' }).waitFor();
    expect(fixture.watched().filter((channel) => channel.startsWith('$sys.tap'))).toEqual([]);
    expect(await viewer.getByRole('checkbox', { name: 'show payloads' }).count()).toBe(0);
    await viewer.getByRole('button', { name: 'Listen in' }).click();
    await viewer.locator('.tap-messages tbody tr').nth(3).waitFor();
    expect(fixture.watched()).toContain(`$sys.tap:${stuck}`);
    expect(await viewer.locator('.tap-messages code').count()).toBe(0);
    await viewer.getByRole('button', { name: 'Stop' }).click();
    await expect.poll(() => fixture.watched().filter((channel) => channel.startsWith('$sys.tap'))).toEqual([]);

    const operator = await lab.open(at(`/connections/${stuck}`));
    await operator.getByRole('checkbox', { name: 'show payloads' }).check();
    await operator.getByRole('button', { name: 'Listen in' }).click();
    await operator.locator('.tap-messages code').first().waitFor();
    expect(fixture.watched()).toContain(`$sys.tap:${stuck}/payload`);
    await operator.getByText(/messages left out/).waitFor();
  });

  it('disconnects after a question', async () => {
    const victim = String(fixture.world.connections.find((row) => row['cause'] === 'healthy')?.['id']);
    const page = await lab.open(at(`/connections/${victim}`));
    await page.getByText('Nothing stands out').waitFor();
    await page.getByRole('button', { name: 'Disconnect' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
    await expect.poll(() => fixture.acts.at(-1)).toEqual({ path: 'websocket/disconnect', body: { session: victim } });
    await page.getByRole('dialog').waitFor({ state: 'detached' });
  });
});
