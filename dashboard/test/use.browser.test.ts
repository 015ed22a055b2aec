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

describe('runs and projects', () => {
  lookAt(() => lab, {
    'runs': [() => full.origin, '/runs', 'tr[data-id="42"]'],
    'runs-empty': [() => empty.origin, '/runs', '.empty'],
    'run': [() => full.origin, '/runs/41', '.event-list li'],
  });

  it('leads from a run to its users, their cursors and its critical events', async () => {
    const page = await open(full, '/runs');
    await page.locator('tr[data-id="41"]').click();
    await page.getByRole('heading', { level: 1, name: 'Run 41' }).waitFor();
    await page.getByText('{"node":"n3","line":0}').waitFor();
    const types = page.getByRole('list', { name: 'Critical events of run:41' }).locator('summary b');
    await expect.poll(async () => [...new Set(await types.allTextContents())]).toEqual(['GRAFT']);
    expect(await lab.check()).toEqual([]);
  });

  it('leads from a project to its connections', async () => {
    const page = await open(full, '/runs');
    await page.getByRole('link', { name: 'apollo' }).click();
    await expect.poll(() => new URL(page.url()).searchParams.get('filter')).toBe('project:apollo');
    expect(await lab.check()).toEqual([]);
  });
});

describe('metric channels', () => {
  lookAt(() => lab, {
    'metrics': [() => full.origin, '/series', '.chart-box[data-lines]'],
    'metrics-workflow': [() => full.origin, '/series?channel=workflow.metrics&range=5m', '.chart-box[data-lines]'],
    'metrics-empty': [() => full.origin, '/series?channel=app.metrics', '.empty'],
  });

  it('draws the past at once and goes on, and says how a program does the same', async () => {
    const page = await open(full, '/series?range=5m&interval=1s');
    await page.locator('.chart-box[data-lines="2"]').first().waitFor();
    expect(full.heard()).toContain('system.metrics');
    const value = page.locator('.chart', { hasText: 'cpu.percent' }).locator('.legend b').first();
    const before = await value.textContent();
    await expect.poll(() => value.textContent()).not.toBe(before);
    await page.getByRole('button', { name: 'memory.used', pressed: true }).click();
    await expect.poll(() => new URL(page.url()).searchParams.get('names')).not.toContain('memory.used');
    await page.getByText('This view in a program').click();
    const frame = codeOf(page, 'subscribe frame');
    expect(JSON.parse((await frame.textContent()) ?? '')).toMatchObject({ type: 'subscribe', aggregation_interval: '1s', channels: [{ channel: 'system.metrics', history: '5m' }] });
    expect(await lab.check()).toEqual([]);
  });

  it('asks for tags, and lets go of the channel when the page is left', async () => {
    const page = await open(full, '/series');
    await page.locator('.chart-box[data-lines]').first().waitFor();
    await page.getByLabel('Tags').fill('host:web-2');
    await page.getByLabel('Tags').press('Enter');
    await expect.poll(() => full.asked('system.metrics')?.['tags']).toEqual({ host: 'web-2' });
    await page.keyboard.press('Escape');
    await page.getByRole('link', { name: 'Runs' }).click();
    await expect.poll(() => full.heard()).not.toContain('system.metrics');
    expect(await lab.check()).toEqual([]);
  });
});

describe('try it', () => {
  lookAt(() => lab, {
    'try': [() => full.origin, '/try', '.code', 'admin'],
    'try-subscribe': [() => full.origin, '/try?tab=subscribe&language=typescript', '.code'],
    'try-presence': [() => full.origin, '/try?tab=presence&language=rust', '.code', 'viewer'],
  });

  it('publishes, and writes the same with the page’s own address and without the token', async () => {
    const page = await open(full, '/try', 'admin');
    await page.getByLabel('Channel').fill('run:77');
    await page.getByLabel('Type').fill('GRAFT');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('stored at sequence 131').waitFor();
    const text = (): Promise<string | null> => codeOf(page, 'Publish with curl').textContent();
    expect(await text()).toContain(`${full.origin}/api/publish`);
    expect(await text()).toContain('"channel":"run:77","type":"GRAFT"');
    expect(await page.content()).not.toContain('.unsigned');
    await page.getByLabel('Show my token').check();
    await expect.poll(text).toContain('.unsigned');
    await page.getByRole('button', { name: 'Rust' }).click();
    await expect.poll(() => new URL(page.url()).searchParams.get('language')).toBe('rust');
    expect(page.url()).not.toContain('unsigned');
    expect(await lab.check()).toEqual([]);
  });

  it('tells what the server refuses', async () => {
    const page = await open(full, '/try?channel=forbidden:1', 'admin');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByRole('alert').getByText('does not allow publish').waitFor();
    expect(await lab.check()).toEqual([]);
  });

  it('subscribes and joins only when it is told to, and leaves with the page', async () => {
    const page = await open(full, '/try?tab=subscribe&channel=run:78');
    await page.getByText('Nothing is asked of the server yet').waitFor();
    expect(full.heard()).not.toContain('run:78');
    await page.getByRole('button', { name: 'Subscribe', exact: true }).click();
    await page.getByRole('list', { name: 'Events of run:78' }).locator('li').first().waitFor();
    await page.getByRole('link', { name: 'Presence' }).click();
    await expect.poll(() => full.heard()).not.toContain('run:78');
    await page.getByRole('button', { name: 'Join' }).click();
    await page.getByRole('list', { name: 'Users who are present' }).getByText('alice').waitFor();
    await page.getByRole('button', { name: 'Move' }).click();
    await page.getByRole('button', { name: 'Leave' }).click();
    await expect.poll(() => full.heard()).not.toContain('run:78');
    expect(await lab.check()).toEqual([]);
  });
});
