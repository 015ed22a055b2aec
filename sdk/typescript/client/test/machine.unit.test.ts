import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as DEFAULTS from '../src/defaults.js';
import { createMachine, type Effect, type Input, type Machine, type MachineOptions, type State } from '../src/machine.js';

/** An input as the traces write it. */
interface WrittenInput {
  readonly type: Input['type'];
  readonly code?: number;
  readonly retry_ms?: number;
  readonly heartbeat_ms?: number;
  readonly retry_max_ms?: number;
}

interface Trace {
  readonly name: string;
  readonly options?: {
    readonly fallback?: boolean;
    readonly renewable?: boolean;
    readonly backoff?: { readonly min_ms: number; readonly max_ms: number; readonly factor: number };
  };
  readonly random: number;
  readonly steps: readonly {
    readonly at: number;
    readonly in: WrittenInput;
    readonly state: State;
    readonly status: string;
    readonly do: readonly Effect[];
    readonly deadline: number | null;
    readonly ending?: string;
    readonly next_retry_at?: number;
    readonly token_reason?: string;
  }[];
}

const OPTIONS: MachineOptions = { fallback: false, renewable: false };

const whole = (at: number | null): number | null => (at === null || at === Infinity ? null : Math.round(at));

function read(written: WrittenInput): Input {
  const { type, code = 0, retry_ms: retryMs = 0, heartbeat_ms: heartbeatMs, retry_max_ms: retryMaxMs } = written;
  switch (type) {
    case 'closed': return { type, code };
    case 'advice': return { type, retryMs };
    case 'welcome': return { type, heartbeatMs, retryMaxMs };
    default: return { type };
  }
}

describe('the traces that every client runs', () => {
  const file = new URL('../../../conformance/machine.json', import.meta.url);
  const traces: readonly Trace[] = JSON.parse(readFileSync(file, 'utf8'));

  test('there are some', () => {
    expect(traces.length).toBeGreaterThan(40);
  });

  test.each(traces)('$name', ({ options: { backoff, ...options } = {}, random, steps }) => {
    const waits = backoff && { minMs: backoff.min_ms, maxMs: backoff.max_ms, factor: backoff.factor };
    const machine = createMachine({ ...OPTIONS, ...options, ...waits });
    for (const step of steps) {
      const effects = machine.step(read(step.in), step.at, () => random);
      const told = {
        state: machine.state, status: machine.status, do: effects, deadline: whole(machine.deadline),
        ending: machine.ending, next: whole(machine.nextRetryAt), reason: step.token_reason && machine.tokenReason,
      };
      expect(told, JSON.stringify(step)).toEqual({
        state: step.state, status: step.status, do: step.do, deadline: step.deadline,
        ending: step.ending ?? null, next: step.next_retry_at ?? null, reason: step.token_reason,
      });
    }
  });
});

/** The table of `docs/clients.md`; without a network `waiting` goes on to `offline` at once. */
const TABLE: { readonly [state in State]: readonly State[] } = {
  idle: ['authorizing', 'closed'],
  authorizing: ['opening', 'waiting', 'offline', 'polling', 'closed'],
  opening: ['greeting', 'authorizing', 'waiting', 'offline', 'polling', 'closed'],
  greeting: ['live', 'authorizing', 'waiting', 'offline', 'polling', 'closed'],
  live: ['probing', 'authorizing', 'waiting', 'offline', 'closed'],
  probing: ['live', 'authorizing', 'waiting', 'offline', 'closed'],
  waiting: ['authorizing', 'offline', 'polling', 'closed'],
  offline: ['authorizing', 'waiting', 'polling', 'closed'],
  polling: ['live', 'authorizing', 'opening', 'greeting', 'waiting', 'offline', 'closed'],
  closed: ['authorizing'],
};

/** What the effects so far have left behind; it refuses those that do not fit. */
class Performed {
  #asking = false;
  #socket: 'none' | 'opening' | 'open' = 'none';
  #polling = false;

  /** The socket or the token as the input says. */
  before(input: Input, machine: Machine): void {
    if (input.type === 'closed' && this.#socket !== 'none') this.#socket = 'none';
    if (input.type === 'opened' && this.#socket === 'opening' && machine.state !== 'authorizing') this.#socket = 'open';
    if (input.type === 'token' || input.type === 'token_failed' || input.type === 'token_refused') this.#asking = false;
  }

  perform(effect: Effect): void {
    switch (effect) {
      case 'authorize':
        expect([this.#asking, this.#socket]).toEqual([false, 'none']);
        this.#asking = true;
        break;
      case 'open':
        expect([this.#asking, this.#socket]).toEqual([false, 'none']);
        this.#socket = 'opening';
        break;
      case 'greet': case 'ready': case 'probe':
        expect(this.#socket).toBe('open');
        break;
      case 'drop':
        this.#asking = false;
        this.#socket = 'none';
        break;
      case 'poll': case 'stop_poll':
        expect(this.#polling).toBe(effect === 'stop_poll');
        this.#polling = effect === 'poll';
        break;
    }
  }

  /** Nothing is left behind where nothing is wanted. */
  settled(state: State): void {
    if (state === 'idle' || state === 'closed') expect([this.#asking, this.#socket, this.#polling]).toEqual([false, 'none', false]);
    if (state === 'waiting' || state === 'offline') expect([this.#asking, this.#socket]).toEqual([false, 'none']);
    if (state === 'live' || state === 'probing') expect([this.#socket, this.#polling]).toEqual(['open', false]);
  }
}

const input: fc.Arbitrary<Input> = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom<Input>({ type: 'tick' }, { type: 'token' }, { type: 'opened' }, { type: 'welcome' }) },
  {
    weight: 4,
    arbitrary: fc.constantFrom<Input>(
      { type: 'connect' }, { type: 'reconnect' }, { type: 'disconnect' }, { type: 'token_set' }, { type: 'token_failed' },
      { type: 'token_refused' }, { type: 'heard' }, { type: 'suspect' }, { type: 'online' }, { type: 'offline' },
      { type: 'visible' }, { type: 'poll_ok' }, { type: 'poll_failed' },
    ),
  },
  fc.record({ type: fc.constant('advice' as const), retryMs: fc.nat(120_000) }),
  fc.record({ type: fc.constant('closed' as const), code: fc.oneof(fc.constantFrom(0, 1006, 1012, 4001, 4002, 4501), fc.nat(5_100)) }),
  fc.record({ type: fc.constant('welcome' as const), heartbeatMs: fc.nat(60_000), retryMaxMs: fc.integer({ min: 1_000, max: 60_000 }) }),
);

test('whatever comes, the machine stays in the table and its effects fit together', () => {
  const steps = fc.array(fc.record({
    input, after: fc.oneof(fc.constant('due' as const), fc.nat(100), fc.nat(40_000)), random: fc.double({ min: 0, max: 0.999, noNaN: true }),
  }), { maxLength: 150 });
  fc.assert(fc.property(steps, fc.boolean(), fc.boolean(), (all, fallback, renewable) => {
    const machine = createMachine({ ...OPTIONS, fallback, renewable });
    const performed = new Performed();
    let now = 0;
    for (const { input, after, random } of all) {
      now = after === 'due' ? Math.max(now, Number.isFinite(machine.deadline) ? machine.deadline : now) : now + after;
      const before = machine.state;
      performed.before(input, machine);
      for (const effect of machine.step(input, now, () => random)) performed.perform(effect);
      const state = machine.state;
      if (state !== before) expect(TABLE[before], `${before} → ${state} by ${input.type}`).toContain(state);
      performed.settled(state);
      if (input.type === 'tick') expect(machine.deadline).toBeGreaterThanOrEqual(now);
      expect(machine.ending === null).toBe(state !== 'closed');
      const longest = DEFAULTS.PROBE_WS_MAX_MS;
      const wait = (machine.nextRetryAt ?? now) - now;
      expect(wait).toBeLessThanOrEqual(longest);
      if (state !== before && state === 'waiting' && before !== 'polling' && before !== 'offline') expect(wait).toBeGreaterThanOrEqual(DEFAULTS.BACKOFF_MIN_MS);
    }
  }), { numRuns: 3_000 });
});

/** Numbers from 0 up to 1 that are the same in every run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
    return ((state ^ (state >>> 16)) >>> 0) / 2 ** 32;
  };
}

test('a thousand clients of a server that was away for a minute do not come back at once', () => {
  const clients = Array.from({ length: 1_000 }, (_, index) => ({ machine: createMachine(OPTIONS), random: seeded(index + 1), next: 0 }));
  const attempts = new Array<number>(120).fill(0);
  const backs = new Array<number>(120).fill(0);
  for (const client of clients) {
    const { machine, random } = client;
    const step = (type: 'connect' | 'token' | 'opened' | 'welcome' | 'tick', now: number): void => { machine.step({ type }, now, random); };
    for (const type of ['connect', 'token', 'opened', 'welcome'] as const) step(type, -10_000);
    machine.step({ type: 'closed', code: 1006 }, 0, random);
    while (machine.state === 'waiting') {
      const now = machine.deadline;
      const second = Math.floor(now / 1_000);
      attempts[second] = (attempts[second] ?? 0) + 1;
      step('tick', now);
      step('token', now);
      if (now < 60_000) machine.step({ type: 'closed', code: 0 }, now, random);
      else {
        step('opened', now);
        step('welcome', now);
        backs[second] = (backs[second] ?? 0) + 1;
      }
    }
    expect(machine.state).toBe('live');
  }
  // Everybody is back within the longest wait.
  expect(backs.slice(60, 71).reduce((sum, count) => sum + count)).toBe(1_000);
  const later = attempts.slice(5, 70);
  const mean = later.reduce((sum, count) => sum + count) / later.length;
  expect(Math.max(...later)).toBeLessThanOrEqual(3 * mean);
  expect(Math.max(...backs)).toBeLessThanOrEqual(3 * (1_000 / 10));
});
