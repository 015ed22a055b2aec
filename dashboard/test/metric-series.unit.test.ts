import { describe, expect, it } from 'vitest';
import { collect, collected, forget, historyOf, namesOf, parseTags, type Point, SERIES_MAX, seriesOf, unitOf, usualNames } from '../src/metric-series.js';

const at = (second: number): string => new Date(second * 1000).toISOString();
const point = (name: string, second: number, value: number, tags?: Record<string, string>): Point => ({ name, timestamp: at(second), value, ...(tags && { tags }), p95: value * 2 });

describe('what a metric channel said', () => {
  it('is kept by name and tags, whatever their order, and said again replaces what was said', () => {
    const held = collected();
    collect(held, [point('cpu', 10, 1, { host: 'a', env: 'x' }), point('cpu', 10, 2, { env: 'x', host: 'a' }), point('cpu', 10, 5), point('alpha', 10, 7)]);
    expect(namesOf(held)).toEqual(['alpha', 'cpu']);
    expect(seriesOf(held, 'cpu')).toEqual([{ id: 'cpu ', tags: '' }, { id: 'cpu env:x host:a', tags: 'env:x host:a' }]);
    expect(historyOf(held, ['cpu env:x host:a'], 'value', 1000, 1000).figures).toEqual({ 'cpu env:x host:a': [2] });
  });

  it('is drawn up to the newest moment of the channel, with holes where nothing was said', () => {
    const held = collected();
    collect(held, [point('cpu', 10, 1), point('cpu', 11, 2), point('cpu', 12, 3), point('cpu', 14, 5), point('other', 15, 9)]);
    expect(historyOf(held, ['cpu '], 'value', 5000, 1000)).toEqual({ fromMs: 11_000, stepSeconds: 1, recordingSince: null, figures: { 'cpu ': [2, 3, null, 5, null] } });
    expect(historyOf(held, ['cpu '], 'p95', 5000, 1000).figures['cpu ']).toEqual([4, 6, null, 10, null]);
    expect(historyOf(held, ['cpu '], 'nothing', 5000, 1000).figures['cpu ']).toEqual([null, null, null, null, null]);
  });

  it('takes steps as long as its source does, so that its points are a line', () => {
    const held = collected();
    collect(held, [0, 5, 10, 16, 20].map((second) => point('slow', second, second)));
    expect(historyOf(held, ['slow '], 'value', 20_000, 1000)).toMatchObject({ stepSeconds: 5, figures: { 'slow ': [5, 10, 16, 20] } });
  });

  it('forgets what is older than the range, and series of which nothing is left', () => {
    const held = collected();
    collect(held, [point('gone', 1, 1), point('cpu', 1, 1), point('cpu', 100, 2)]);
    forget(held, 50_000);
    expect(namesOf(held)).toEqual(['cpu']);
    expect(held.series.get('cpu ')?.points.size).toBe(1);
  });

  it('draws shares, rates and times before what only grows', () => {
    const held = collected();
    const counter = { type: 'counter' };
    collect(held, [{ ...point('a.sent', 1, 1), ...counter }, point('b.total', 1, 1), point('c.used', 1, 1), point('z.percent', 1, 1), point('y.per_second', 1, 1)]);
    expect(usualNames(held, 3)).toEqual(['c.used', 'y.per_second', 'z.percent']);
    expect(usualNames(held, 9)).toEqual(namesOf(held));
  });

  it('counts the points of series beyond the bound', () => {
    const held = collected();
    collect(held, Array.from({ length: SERIES_MAX + 3 }, (_, index) => point(`m${index}`, 1, 1)));
    expect([held.series.size, held.left]).toEqual([SERIES_MAX, 3]);
  });
});

it('tells units by names', () => {
  expect(['cpu.percent', 'success_rate', 'memory.used', 'network.bytes_sent_per_second', 'latency.p95', 'duration.avg', 'calls.total', 'memory.percent'].map(unitOf))
    .toEqual(['percent', 'percent', 'bytes', 'bytes_per_second', 'ms', 'ms', 'count', 'percent']);
});

it('reads tags', () => {
  expect(parseTags(' host:web-1  env:a:b ')).toEqual({ host: 'web-1', env: 'a:b' });
  expect(parseTags('')).toEqual({});
  expect(parseTags('host')).toBe(null);
});
