import { describe, expect, it } from 'vitest';
import { address, parse } from '../src/router.js';

describe('an address', () => {
  it.each([
    ['/', { page: '', id: null, params: {} }],
    ['/connections?state=slow&sort=-rtt&range=15m', { page: 'connections', id: null, params: { state: 'slow', sort: '-rtt', range: '15m' } }],
    ['/connections/01JDQ3?view=full', { page: 'connections', id: '01JDQ3', params: { view: 'full' } }],
    ['/channels/run%3A42%2Fx', { page: 'channels', id: 'run:42/x', params: {} }],
    ['/channels/run:42/x', { page: 'channels', id: 'run:42/x', params: {} }],
    ['/channels/%E0%A4%A', { page: 'channels', id: '%E0%A4%A', params: {} }],
  ])('%s is read', (href, route) => {
    expect(parse(href)).toEqual(route);
  });

  it('is written so that it is read as the same', () => {
    const params = { filter: 'user:al* rtt>200', sort: '-queue' };
    expect(parse(address('channels', 'run:4/ä?#', params))).toEqual({ page: 'channels', id: 'run:4/ä?#', params });
    expect(address('', null, { range: null })).toBe('/');
  });
});
