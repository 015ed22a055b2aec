import { expect, it } from 'vitest';
import { fullness, standingOf, verdictOf } from '../src/upstreams.js';

it('tells how a stream is by a shape and a word', () => {
  expect(standingOf('live')).toEqual(['target', 'live']);
  expect(standingOf('waiting')).toEqual(['warning', 'will try again']);
  expect(standingOf('circuit')).toEqual(['critical', 'circuit open']);
  expect(standingOf('closing')).toEqual(['none', 'closing']);
});

it('tells what the server thinks of the candidate, also in words that it does not know', () => {
  expect(verdictOf('suspect')).toEqual(['warning', 'worse, not for long yet']);
  expect(verdictOf('fail')[0]).toBe('critical');
  expect(verdictOf('later')).toEqual(['none', 'later']);
});

it('warns before a table is full', () => {
  expect([0, 79, 80, 100, 101].map((active) => fullness(active, 100))).toEqual(['target', 'target', 'warning', 'critical', 'critical']);
});
