import type { Client } from '@pulsewire/client';
import { describe, expect, it } from 'vitest';
import type { HealthSource } from '../src/element.js';
import { LABELS } from '../src/labels.js';
import { remember } from '../src/memory.js';
import { type HealthInput, statusOf, viewOf } from '../src/view.js';

const NOW = 1_700_000_000_000;

/** What pages without types, and attributes, may say. */
const untyped = (health: object): HealthInput => ({ ...health });

/** The pill, the panel's lines by name, and the warning and button of a health. */
function see(health: HealthInput, { reconnected = false, labels = LABELS } = {}) {
  const [shape, marked, counting] = viewOf(statusOf(health), health, reconnected, labels, NOW);
  const texts = marked.map((text) => text.replace('\u200e', ''));
  const cells = texts.slice(3, -2);
  const lines = Object.fromEntries(cells.flatMap((name, index) => (index % 2 ? [] : [[name, cells[index + 1]]])));
  return { shape, pill: texts.slice(0, 3), lines, warning: texts.at(-2), button: texts.at(-1), counting };
}

describe('the status', () => {
  it.each<[HealthInput, string]>([
    [{ status: 'reconnecting' }, 'reconnecting'],
    [{ isHealthy: true }, 'connected'],
    [{ isHealthy: false }, 'disconnected'],
    [{}, 'idle'],
    [{ isHealthy: true, usingFallback: true }, 'polling'],
    [{ usingFallback: true }, 'polling'],
    [{ status: 'connected', usingFallback: true }, 'polling'],
    [{ status: 'reconnecting', usingFallback: true }, 'reconnecting'],
  ])('of %j is %s', (health, status) => expect(statusOf(health)).toBe(status));
});

describe('the view', () => {
  it.each<[HealthInput, string, string]>([
    [{ status: 'idle' }, 'Disconnected', 'idle'],
    [{ status: 'connecting', level: 'down' }, 'Connecting…', 'connecting'],
    [{ status: 'connected', level: 'good' }, 'Connected', 'good'],
    [{ status: 'connected', level: 'degraded' }, 'Connected', 'degraded'],
    [{ status: 'connected', isHealthy: false }, 'Connected', 'poor'],
    [{ status: 'reconnecting', level: 'down' }, 'Reconnecting…', 'reconnecting'],
    [{ status: 'polling', transport: 'polling' }, 'HTTP polling', 'degraded'],
    [{ status: 'polling', transport: 'sse', level: 'poor' }, 'HTTP streaming', 'poor'],
    [{ status: 'disconnected', level: 'down' }, 'Disconnected', 'disconnected'],
  ])('of %j says %s with the shape %s', (health, words, shape) => {
    const seen = see(health);
    expect(seen.pill[0]).toBe(words);
    expect(seen.shape).toBe(shape);
  });

  it('says Reconnected after a recovery', () => {
    expect(see({ status: 'connected' }, { reconnected: true }).pill[0]).toBe('Reconnected');
  });

  it('shows everything that a client knows', () => {
    const seen = see({
      status: 'polling', level: 'degraded', transport: 'polling', latency: 83.2, latencyP95: 140, messageDeliveryRate: 0.9996,
      reconnectionCount: 2, queuedMessages: 3, usingFallback: true, nextRetryAt: NOW + 3_100,
    });
    expect(seen).toEqual({
      shape: 'degraded',
      pill: ['HTTP polling', '84 ms', '3 queued'],
      lines: {
        Status: 'HTTP polling, degraded', Latency: '84 ms', 'Latency p95': '140 ms', Delivery: '99.9%', Reconnects: '2', Queued: '3',
        Transport: 'HTTP polling', 'Retry in': '4 s',
      },
      warning: LABELS.fallback,
      button: 'Retry now',
      counting: true,
    });
  });

  it("shows document 003's four values, and dashes for the rest", () => {
    const { pill, lines, warning, button } = see({ latency: 12, reconnectionCount: 0, messageDeliveryRate: 1, isHealthy: true });
    expect(pill).toEqual(['Connected', '12 ms', '']);
    expect(lines).toEqual({
      Status: 'Connected', Latency: '12 ms', 'Latency p95': '–', Delivery: '100%', Reconnects: '0', Queued: '–', Transport: '–', 'Retry in': '–',
    });
    expect([warning, button]).toEqual(['', '']);
  });

  it('shows the time to the next attempt where the latency would be old', () => {
    expect(see({ status: 'reconnecting', latency: 12, nextRetryAt: NOW + 1 }).pill).toEqual(['Reconnecting…', '1 s', '']);
    expect(see({ status: 'reconnecting', latency: 12, nextRetryAt: NOW }).pill).toEqual(['Reconnecting…', '', '']);
  });

  it('says nothing about numbers that are none', () => {
    const odd = untyped({ status: 'connected', messageDeliveryRate: Number.NaN, latency: 'soon', queuedMessages: '0' });
    expect(see(odd).lines).toMatchObject({ Latency: '–', Delivery: '–', Queued: '0' });
    expect(see(odd).pill).toEqual(['Connected', '–', '']);
  });

  it('keeps number and unit in order where letters run to the left', () => {
    const [, texts] = viewOf('connected', { latency: 84 }, false, LABELS, NOW);
    expect(texts[1]).toBe('\u200e84 ms');
  });

  it('offers to retry only where that can help', () => {
    const offered = (['idle', 'connecting', 'connected', 'reconnecting', 'polling', 'disconnected'] as const).filter((status) => see({ status }).button);
    expect(offered).toEqual(['reconnecting', 'polling', 'disconnected']);
  });

  it('takes other texts', () => {
    const labels = { ...LABELS, connected: 'Verbunden', waiting: '# in der Warteschlange', status: 'Zustand' };
    const { pill, lines } = see({ status: 'connected', queuedMessages: 7 }, { labels });
    expect(pill).toEqual(['Verbunden', '', '7 in der Warteschlange']);
    expect(lines).toMatchObject({ Zustand: 'Verbunden' });
  });
});

/** Looks at statuses at given seconds; `lose` stands for the client's word. */
function story(told: boolean, steps: readonly (readonly [seconds: number, status: Parameters<ReturnType<typeof remember>['look']>[0] | 'lose'])[]) {
  const memory = remember(told);
  return steps.flatMap(([seconds, status]) => {
    if (status === 'lose') {
      memory.lose();
      return [];
    }
    const [from, reconnected, lost, announce, tick] = memory.look(status, NOW + seconds * 1000);
    return [{ from, reconnected, lost, announce, tick }];
  });
}

describe('the memory', () => {
  it('says Reconnected for ten seconds after a recovery, and not at first', () => {
    const seen = story(true, [[0, 'connecting'], [1, 'connected'], [20, 'reconnecting'], [21, 'connected'], [30.9, 'connected'], [31, 'connected']]);
    expect(seen.map(({ reconnected }) => reconnected)).toEqual([false, false, false, true, true, false]);
  });

  it('announces what lasts for a second, once, and back to normal', () => {
    const seen = story(true, [[0, 'connected'], [5, 'connected'], [6, 'reconnecting'], [6.9, 'reconnecting'], [7, 'reconnecting'], [8, 'reconnecting'], [9, 'connected'], [10, 'connected'], [19, 'connected']]);
    expect(seen.map(({ announce }) => announce)).toEqual([false, false, false, false, true, false, false, true, false]);
  });

  it('announces neither a quick reconnect nor a page that was just opened', () => {
    const quick = story(true, [[0, 'idle'], [2, 'idle'], [3, 'connecting'], [3.5, 'connected'], [9, 'connected'], [10, 'reconnecting'], [10.9, 'connected'], [12, 'connected']]);
    expect(quick.some(({ announce }) => announce)).toBe(false);
  });

  it('believes a client that says when it is lost', () => {
    const seen = story(true, [[0, 'connected'], [1, 'reconnecting'], [60, 'reconnecting'], [61, 'lose'], [61, 'reconnecting'], [62, 'connected'], [71.9, 'connected'], [72, 'connected']]);
    expect(seen.map(({ lost }) => lost)).toEqual([false, false, false, true, true, true, false]);
  });

  it('calls an outage of five seconds lost where nobody says so', () => {
    const seen = story(false, [[0, 'connected'], [1, 'disconnected'], [5.9, 'disconnected'], [6, 'disconnected'], [7, 'polling'], [8, 'connected']]);
    expect(seen.map(({ lost }) => lost)).toEqual([false, false, false, true, false, false]);
  });

  it('does not miss the outage during which it begins to look', () => {
    expect(story(true, [[0, 'reconnecting'], [5, 'reconnecting']]).map(({ lost }) => lost)).toEqual([false, true]);
  });

  it('leaves a client alone that never connected or was disconnected on purpose', () => {
    const seen = story(true, [[0, 'idle'], [60, 'idle'], [61, 'connected'], [80, 'disconnected'], [200, 'disconnected']]);
    expect(seen.some(({ lost }) => lost)).toBe(false);
  });

  it('wants to look again while something changes by itself', () => {
    expect(story(true, [[0, 'connected'], [9.9, 'connected'], [10, 'connected']]).map(({ tick }) => tick)).toEqual([true, true, false]);
  });
});

describe('the package', () => {
  it('can be imported where there is no document', async () => {
    expect('HTMLElement' in globalThis).toBe(false);
    const { ConnectionHealthElement } = await import('../src/index.js');
    expect(ConnectionHealthElement.observedAttributes).toEqual(['variant', 'status', 'latency', 'delivery-rate', 'reconnects', 'queued', 'fallback']);
  });

  it('takes every client of @pulsewire/client', () => {
    const source = (client: Client): HealthSource => client;
    expect(source).toBeTypeOf('function'); // What is tested is that it compiles.
  });
});
