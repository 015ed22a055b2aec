import type { Client } from '@pulsewire/client';
import { presence } from '@pulsewire/client/collab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { audit, keep, type Lab, startLab } from './lab.js';
import { codeOf } from './looks.js';
import { connect, type Gateway, signedIn, startServer } from './server.js';

let lab: Lab;
let gateway: Gateway;
const clients: Client[] = [];

/** A run with three events, of which one is critical, and somebody in it; numbers of this host. */
beforeAll(async () => {
  gateway = await startServer({ set: ['collector.enabled=true'] });
  lab = await startLab();
  const bob = connect(gateway, 'bob');
  bob.channel('project:apollo').subscribe();
  clients.push(bob);
  presence(bob, 'run:42').members.subscribe(() => undefined);
  await bob.ready();
  await gateway.ask('/api/publish', { channel: 'run:50', type: 'first', data: null });
  for (const [type, text] of [['note', 'one'], ['GRAFT', 'two'], ['note', 'three']] as const) {
    await gateway.ask('/api/publish', { channel: 'run:42', type, data: { text } });
  }
});
afterAll(async () => {
  for (const client of clients) client.disconnect();
  await lab.close();
  await gateway[Symbol.asyncDispose]();
});

const open = (path: string, role: 'viewer' | 'operator' | 'admin' = 'operator') => lab.open(signedIn(gateway, path, role));

describe('the real server', () => {
  it('tells of a channel, who listens, who is there and what was said', async () => {
    const page = await open('/channels');
    await page.locator('tr[data-id="run:42"]').click();
    await page.getByRole('list', { name: /Subscribers/ }).getByRole('link', { name: 'bob' }).waitFor();
    await page.getByRole('list', { name: 'Users who are present' }).getByText('bob').waitFor();
    const events = page.getByRole('list', { name: 'Events of run:42' });
    await expect.poll(() => events.locator('summary b').allTextContents()).toEqual(['note', 'GRAFT', 'note']);
    await events.locator('summary').nth(1).click();
    await events.getByText('"two"').waitFor();
    await keep(page, 'real-channel');
    expect(await audit(page)).toEqual([]);
    expect(await lab.check()).toEqual([]);
  });

  it('groups channels, and leads from a group to its members, also to those that have nothing in common', async () => {
    const page = await open('/channels?group=prefix');
    await page.locator('tr[data-id="run"]').waitFor();
    await page.getByRole('link', { name: '(none)' }).click();
    await page.locator('tr[data-id="distributed.metrics"]').waitFor();
    expect(await page.locator('tr[data-id="run:42"]').count()).toBe(0);
    expect(await lab.check()).toEqual([]);
  });

  it('lets administrators publish, and what they say arrives where it is followed', async () => {
    const page = await open('/channels/run%3A50?follow=1', 'admin');
    await page.getByRole('button', { name: 'Publish', exact: true }).waitFor();
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await page.getByText('stored at sequence 2').waitFor();
    await page.getByRole('list', { name: 'Events of run:50' }).locator('summary b', { hasText: 'note' }).waitFor();
    expect(await lab.check()).toEqual([]);
  });

  it('tells of a run and of a project', async () => {
    const page = await open('/runs');
    await page.getByRole('link', { name: 'apollo' }).waitFor();
    await page.locator('tr[data-id="42"]').click();
    await page.getByRole('list', { name: 'Users who are present' }).getByText('bob').waitFor();
    await expect.poll(() => page.getByRole('list', { name: 'Critical events of run:42' }).locator('summary b').allTextContents()).toEqual(['GRAFT']);
    await keep(page, 'real-run');
    expect(await lab.check()).toEqual([]);
  });

  it('draws the numbers of this host', async () => {
    const page = await open('/series?range=5m&interval=1s');
    const chart = page.locator('.chart', { hasText: 'memory.percent' });
    await chart.locator('.chart-box[data-lines="1"]').waitFor();
    await expect.poll(() => chart.locator('.legend b').textContent()).toMatch(/^[\d.]+ %$/);
    await keep(page, 'real-series');
    expect(await audit(page)).toEqual([]);
    expect(await lab.check()).toEqual([]);
  });

  it('is tried: subscribe, join, and be refused', async () => {
    const page = await open('/try?tab=subscribe&channel=run:60');
    await page.getByRole('button', { name: 'Subscribe', exact: true }).click();
    await page.getByText('Subscribed: 0 events so far').waitFor();
    await expect.poll(async () => ((await gateway.ask('/api/admin/channels/run:60').catch(() => ({}))) as { subscribers?: number }).subscribers).toBe(1);
    await gateway.ask('/api/publish', { channel: 'run:60', type: 'hello', data: 1 });
    await page.getByRole('list', { name: 'Events of run:60' }).locator('summary b', { hasText: 'hello' }).waitFor();
    await page.getByRole('link', { name: 'Presence' }).click();
    await page.getByRole('button', { name: 'Join' }).click();
    await page.getByRole('list', { name: 'Users who are present' }).getByText('ada').waitFor();
    await page.getByRole('button', { name: 'Move' }).click();
    await page.getByText('{"line":7}', { exact: true }).waitFor();
    await page.getByLabel('Channel').fill('system.metrics');
    await page.getByRole('button', { name: 'Join' }).click();
    await page.getByRole('alert').waitFor();
    expect(await lab.check()).toEqual([]);
  });

  it('judges itself, is silenced, and writes down by whom', async () => {
    const page = await open('/alerts');
    await page.locator('tr[data-id="latency"]').click();
    await page.getByRole('heading', { level: 1, name: 'Message latency' }).waitFor();
    expect(await codeOf(page, 'the rule for Prometheus').textContent()).toMatch(/^- alert: PulsewireLatency\n {2}expr: '.+'\n/);
    await page.getByRole('button', { name: 'Silence …' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Silence' }).click();
    await page.getByRole('button', { name: 'End the silence' }).waitFor();
    await keep(page, 'real-alert');
    expect(await audit(page)).toEqual([]);
    await page.getByRole('link', { name: 'Audit log' }).click();
    await page.getByRole('row', { name: /ada.*silence.*latency/ }).first().waitFor();
    await keep(page, 'real-audit');
    expect(await lab.check()).toEqual([]);
  });

  it('tells what went wrong, with an example', async () => {
    const refused = await fetch(`http://${gateway.address}/api/channels/run:42/events`, { headers: { authorization: 'Bearer no.token.atall' } });
    expect(refused.status).toBe(401);
    const page = await open('/errors');
    await page.locator('tr[data-id^="auth/"]').first().click();
    await page.getByRole('heading', { name: 'For example' }).waitFor();
    await keep(page, 'real-error');
    expect(await audit(page)).toEqual([]);
    expect(await lab.check()).toEqual([]);
  });

  it('tells of its node and of what happened, and is drained and taken back', async () => {
    const page = await open('/cluster');
    await page.getByText('serving').waitFor();
    await page.getByText('started', { exact: true }).waitFor();
    await keep(page, 'real-cluster');
    await page.getByRole('button', { name: 'Drain …' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Drain', exact: true }).click();
    await page.getByRole('button', { name: 'Let clients in again' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Let them in' }).click();
    await page.getByText('serving').waitFor();
    await page.getByRole('link', { name: 'Events' }).click();
    await page.locator('.notable').getByText('undrained', { exact: true }).waitFor();
    expect(await lab.check()).toEqual([]);
  });
});
