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

describe('alerts', () => {
  lookAt(() => lab, {
    'alerts': [() => full.origin, '/alerts', 'tr[data-id="latency"]'],
    'alerts-empty': [() => empty.origin, '/alerts', 'tr[data-id="latency"]'],
    'alert': [() => full.origin, '/alerts/latency', '.code'],
    'alert-viewer': [() => full.origin, '/alerts/memory', '.why-not', 'viewer'],
  });

  it('puts what fires first, shows how long it is held, and what a viewer may not do', async () => {
    const page = await open(full, '/alerts', 'viewer');
    const rows = page.locator('tbody tr');
    await expect.poll(() => rows.first().getAttribute('data-id')).toBe('latency');
    const pending = page.locator('tr[data-id="reconnects"]');
    expect(await pending.textContent()).toContain('pending');
    await expect.poll(async () => Number(/(\d+) of 60 s/.exec((await pending.textContent()) ?? '')?.[1])).toBeGreaterThan(22);
    await rows.first().click();
    await page.getByText('Silencing a rule needs the role operator').waitFor();
    expect(await page.getByRole('button', { name: /Silence/ }).count()).toBe(0);
    expect(await lab.check()).toEqual([]);
  });

  it('silences and ends it, behind a question', async () => {
    const page = await open(full, '/alerts/memory');
    await page.getByRole('button', { name: 'Silence …' }).click();
    await page.getByRole('dialog').getByRole('combobox').selectOption('240');
    await page.getByRole('dialog').getByRole('button', { name: 'Silence' }).click();
    await expect.poll(() => full.acts.at(-1)).toEqual({ path: 'alerts/memory/silence', body: { minutes: 240 } });
    await page.getByRole('button', { name: 'End the silence' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'End the silence' }).click();
    await expect.poll(() => full.acts.at(-1)).toEqual({ path: 'alerts/memory/silence', body: { minutes: 0 } });
    expect(await lab.check()).toEqual([]);
  });
});

describe('errors', () => {
  lookAt(() => lab, {
    'errors': [() => full.origin, '/errors', 'tr[data-id="delivery/outbox_full"]'],
    'errors-empty': [() => empty.origin, '/errors', '.empty'],
    'error': [() => full.origin, '/errors/message%2Fparse_error', '.sample'],
  });

  it('leads from a kind to the connection of its example', async () => {
    const page = await open(full, '/errors');
    await expect.poll(() => page.locator('tbody tr').first().getAttribute('data-id')).toBe('delivery/outbox_full');
    await page.getByRole('link', { name: /^message/ }).click();
    await expect.poll(() => page.locator('tbody tr').count()).toBe(2);
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.getByText('expected a value at byte 17').waitFor();
    await page.getByRole('link', { name: 'the connection' }).click();
    await expect.poll(() => page.url()).toContain('/connections/01JDQ3');
    expect(await lab.check()).toEqual([]);
  });
});

describe('cluster, events', () => {
  lookAt(() => lab, {
    'nodes': [() => full.origin, '/cluster', '.notable li'],
    'nodes-empty': [() => empty.origin, '/cluster', '.node'],
    'events': [() => full.origin, '/events', '.notable li'],
    'events-empty': [() => empty.origin, '/events', '.empty'],
    'audit': [() => full.origin, '/audit', 'tr[data-id="40"]'],
    'audit-empty': [() => empty.origin, '/audit', '.empty'],
  });

  it('drains and takes it back, behind a question', async () => {
    const page = await open(full, '/cluster');
    await page.getByRole('button', { name: 'Drain …' }).click();
    await page.getByText('240 connections will be told to come back elsewhere').waitFor();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    expect(full.acts.filter(({ path }) => path === 'drain')).toEqual([]);
    await page.getByRole('button', { name: 'Drain …' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Drain', exact: true }).click();
    await expect.poll(() => full.acts.at(-1)).toEqual({ path: 'drain', body: { drain: true } });
    await page.getByText('draining').first().waitFor();
    await page.getByRole('button', { name: 'Let clients in again' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Let them in' }).click();
    await expect.poll(() => full.acts.at(-1)).toEqual({ path: 'drain', body: { drain: false } });
    expect(await lab.check()).toEqual([]);
  });

  it('tells a viewer why nothing is offered', async () => {
    const page = await open(full, '/cluster', 'viewer');
    await page.getByText('Draining a node needs the role operator').waitFor();
    expect(await page.getByRole('button', { name: /Drain/ }).count()).toBe(0);
    expect(await lab.check()).toEqual([]);
  });

  it('shows what happens as it happens', async () => {
    const page = await open(full, '/events?severity=warning');
    await page.locator('.notable li').first().waitFor();
    await expect.poll(() => full.watched()).toContain('$sys.events');
    full.world.happen({ id: 900, at: new Date().toISOString(), type: 'store_degraded', severity: 'warning', text: 'the store needs 340 ms', link: null });
    await expect.poll(() => page.locator('.notable li').first().textContent()).toContain('the store needs 340 ms');
    expect(await lab.check()).toEqual([]);
  });
});
