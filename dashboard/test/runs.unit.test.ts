import { expect, it } from 'vitest';
import type { ChannelRow, GroupRow } from '../src/api.js';
import { runsOf } from '../src/runs.js';

const group = (id: string, connections: number): GroupRow => ({ id, connections, queuedBytes: 0, rttMs: 1, latencyMaxMs: 1, reconnections: 0, messageFailures: 0, worstScore: 80 });
const channel = (name: string, head: number, floor: number): ChannelRow => ({
  id: name, channel: name, namespace: 'run', kind: 'log', subscribers: 3, publishedPerSecond: 1, bytesPerSecond: 1, published: head, publishedBytes: 1, criticalShare: 0.5, head, epoch: 'e', floor, present: 2, series: null,
});

it('joins connections and channels of a run, and knows a run by either', () => {
  const runs = runsOf([group('42', 7), group('', 3)], [channel('run:43', 10, 0), channel('run:42', 1200, 200), channel('cursors:1', 1, 0)]);
  expect(runs.map(({ id, connections, kept, present }) => [id, connections, kept, present])).toEqual([['42', 7, 1000, 2], ['43', 0, 10, 2]]);
});

it('keeps rows that say the same as before', () => {
  const first = runsOf([group('1', 1), group('2', 1)], []);
  const next = runsOf([group('1', 1), group('2', 5)], [], new Map(first.map((row) => [row.id, row])));
  expect(next[0]).toBe(first[0]);
  expect(next[1]).not.toBe(first[1]);
});
