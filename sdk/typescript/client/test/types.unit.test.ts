import { describe, expectTypeOf, it } from 'vitest';
import { joinRun } from '../src/collab.js';
import { getMetricService, type Metric, type MetricDocument, type MetricPoint, type MetricWindow } from '../src/metrics.js';
import type { Ack, ChannelEvent, Client, ConnectionHealth, Json, Readable } from '../src/index.js';
import { useChannel } from '../src/react.js';

// What is here is checked by `npm run typecheck`; nothing of it runs.

type Graft = { readonly node: string; readonly after: number };
type Prune = { readonly node: string };
type App = {
  readonly [run: `run:${string}`]: { readonly GRAFT: Graft; readonly PRUNE: Prune };
  readonly alerts: { readonly raised: { readonly level: 1 | 2 } };
};

/** Checked, never called. */
const checked = (_: () => unknown): void => undefined;
declare const client: Client<App>;
declare const anything: Client;

describe('a schema', () => {
  it('types events by channel, with template literals', () => {
    checked(() => client.channel('run:42').on('GRAFT', (event) => {
      expectTypeOf(event.data).toEqualTypeOf<Graft>();
      expectTypeOf(event.type).toEqualTypeOf<'GRAFT'>();
      expectTypeOf(event.channel).toEqualTypeOf<'run:42'>();
    }));
    checked(() => client.channel('alerts').on('raised', ({ data }) => expectTypeOf(data.level).toEqualTypeOf<1 | 2>()));
  });

  it('narrows the data by the type', () => {
    checked(() => client.channel('run:42').subscribe((event) => {
      if (event.type === 'PRUNE') expectTypeOf(event.data).toEqualTypeOf<Prune>();
      else expectTypeOf(event.data).toEqualTypeOf<Graft>();
    }));
  });

  it('refuses channels that it does not know', () => {
    // @ts-expect-error: neither `run:…` nor `alerts`
    checked(() => client.channel('runs:42'));
    // @ts-expect-error: an empty name is none
    checked(() => client.publish('', 'GRAFT', { node: 'n', after: 1 }));
  });

  it('refuses types that the channel does not have', () => {
    // @ts-expect-error: misspelt
    checked(() => client.channel('run:42').on('GRAFTED', () => undefined));
    // @ts-expect-error: of another channel
    checked(() => client.channel('alerts').on('GRAFT', () => undefined));
    // @ts-expect-error: of another channel
    checked(() => client.publish('alerts', 'GRAFT', { node: 'n', after: 1 }));
  });

  it('refuses data that the type does not have', () => {
    checked(() => client.publish('run:42', 'GRAFT', { node: 'n', after: 1 }));
    // @ts-expect-error: `after` is missing
    checked(() => client.publish('run:42', 'GRAFT', { node: 'n' }));
    // @ts-expect-error: `after` is a number
    checked(() => client.channel('run:42').publish('GRAFT', { node: 'n', after: '1' }));
    // @ts-expect-error: 3 is no level
    checked(() => client.channel('alerts').send('raised', { level: 3 }));
    // @ts-expect-error: there is no such member
    checked(() => client.channel('run:42').on('PRUNE', ({ data }) => data.after));
  });

  it('is not needed', () => {
    checked(() => anything.channel('whatever').on('any', ({ data }) => expectTypeOf(data).toEqualTypeOf<Json>()));
    checked(() => expectTypeOf(anything.publish('whatever', 'any', { a: [1, null] })).toEqualTypeOf<Promise<Ack>>());
    // @ts-expect-error: a function is no JSON
    checked(() => anything.publish('whatever', 'any', () => 1));
  });
});

describe('a run', () => {
  it('has the events of the schema', () => {
    checked(() => {
      const run = joinRun(client, '42');
      run.on('GRAFT', (event) => expectTypeOf(event.data).toEqualTypeOf<Graft>());
      expectTypeOf(run.activeUsers).toEqualTypeOf<Readable<readonly string[]>>();
      // @ts-expect-error: misspelt
      run.on('GRAFTED', () => undefined);
      // @ts-expect-error: `after` is missing
      return run.publish('GRAFT', { node: 'n' });
    });
    checked(() => joinRun(anything, '42').on('any', ({ data }) => expectTypeOf(data).toEqualTypeOf<Json>()));
    // @ts-expect-error: a schema without runs has no events of runs
    checked(() => joinRun({} as Client<{ readonly alerts: App['alerts'] }>, '42').on('raised', () => undefined));
  });
});

describe('bindings', () => {
  it('keep the types of the schema', () => {
    checked(() => useChannel(client, 'run:42', (event) => expectTypeOf(event).toEqualTypeOf<ChannelEvent<App, 'run:42'>>()));
    // @ts-expect-error: no channel of the schema
    checked(() => useChannel(client, 'nowhere', () => undefined));
  });
});

describe('metrics', () => {
  it('are told apart', () => {
    checked(() => getMetricService('/ws/metrics').onMetric('*', (metric: Metric) => {
      if (metric.name === undefined) return expectTypeOf(metric).toEqualTypeOf<MetricDocument>();
      if (metric.interval === undefined) return expectTypeOf(metric).toEqualTypeOf<MetricPoint>();
      return expectTypeOf(metric).toEqualTypeOf<MetricWindow>();
    }));
    // @ts-expect-error: no such interval
    checked(() => getMetricService('/ws/metrics').subscribe({ channels: ['a.metrics'], aggregation_interval: '2s' }));
  });
});

describe('document 003', () => {
  it('finds its members in the health', () => {
    expectTypeOf<ConnectionHealth>().toMatchTypeOf<{
      latency: number | null; reconnectionCount: number; messageDeliveryRate: number; isHealthy: boolean;
    }>();
    checked(() => expectTypeOf(client.connectionHealth()).toEqualTypeOf<ConnectionHealth>());
    checked(() => expectTypeOf(client.queuedMessageCount()).toEqualTypeOf<number>());
    checked(() => expectTypeOf(client.usingFallback()).toEqualTypeOf<boolean>());
  });
});
