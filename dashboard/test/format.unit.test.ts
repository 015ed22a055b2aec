import { describe, expect, it } from 'vitest';
import { ago, bytes, count, duration, inUnit, milliseconds, percent, plural, rate, share, shortId, words } from '../src/format.js';

describe('numbers', () => {
  it.each([[0, '0'], [4812, '4,812'], [123_456, '123k'], [1_234_567, '1.23M'], [0.4, '0.4'], [12.34, '12.3'], [3.14159, '3.14'], [-5, '-5']])('%d is %s', (value, text) => {
    expect(count(value)).toBe(text);
  });

  it.each([[0, '0 B'], [999, '999 B'], [812_000, '812 kB'], [6100, '6.1 kB'], [48_300_000, '48.3 MB']])('%d bytes are %s', (value, text) => {
    expect(bytes(value)).toBe(text);
  });

  it.each([[0.4, '0.4 ms'], [612, '612 ms'], [5400, '5.4 s'], [130_000, '2 m 10 s']])('%d ms are %s', (value, text) => {
    expect(milliseconds(value)).toBe(text);
  });

  it.each([[0, '0 s'], [42.9, '42 s'], [130, '2 m 10 s'], [120, '2 m'], [3605, '1 h'], [11_100, '3 h 5 m'], [525_600, '6 d 2 h'], [-3, '0 s']])('%d s last %s', (value, text) => {
    expect(duration(value)).toBe(text);
  });

  it('are a dash where nothing was measured', () => {
    for (const say of [count, bytes, milliseconds, duration, percent, share, rate]) {
      expect(say(null)).toBe('–');
      expect(say(undefined)).toBe('–');
    }
    expect(inUnit(null, 's')).toBe('–');
  });

  it('come with the unit the server names', () => {
    expect(['ms', 's', 'bytes', 'percent', 'per_second', 'count', 'connections'].map((unit) => inUnit(50, unit))).toEqual(['50 ms', '50 s', '50 B', '50 %', '50/s', '50', '50']);
    expect(inUnit(1080, 's')).toBe('18 m');
    expect(share(0.984)).toBe('98.4 %');
  });
});

describe('words', () => {
  it('say how long ago', () => {
    expect([ago(1000, 1500), ago(1000, 4000), ago(5000, 1000)]).toEqual(['just now', '3 s ago', 'just now']);
  });

  it('are one or many', () => {
    expect([plural(1, 'row'), plural(2, 'row'), plural(0, 'reply', 'replies')]).toEqual(['1 row', '2 rows', '0 replies']);
  });

  it('are the names of the server without their underscores', () => {
    expect(words('client_not_reading')).toBe('client not reading');
  });

  it('shorten an id to its end', () => {
    expect([shortId('01JDQ3QK8N3ZB6V7'), shortId('7')]).toEqual(['…8N3ZB6V7', '7']);
  });
});
