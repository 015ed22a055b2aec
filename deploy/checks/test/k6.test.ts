import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Gateway, sign, until } from '../../../sdk/typescript/test/gateway.js';
import type { Outcome } from '../src/k6/metrics.js';
import type { Script } from '../src/k6/run.js';

const USERS = 12;
let gateway: Gateway;

beforeAll(async () => {
  gateway = await Gateway.start({ set: ['limits.connections_per_user=0', 'limits.connections_per_address=0', 'auth.attempts_per_minute=0'] });
});
afterAll(() => gateway[Symbol.asyncDispose]());

/** A script under an environment of k6's. */
async function script(name: string, environment: { readonly [name: string]: string }): Promise<Script> {
  vi.stubGlobal('__ENV', environment);
  // Scripts read their environment when they are loaded, and each run counts anew.
  vi.resetModules();
  return import(`../../k6/${name}.js`);
}

/** Runs a script for seconds against the real server. */
async function load(name: string, environment: { readonly [name: string]: string }): Promise<readonly Outcome[]> {
  const small = { PULSEWIRE_URL: `http://${gateway.address}`, VUS: String(USERS), DURATION: '1s', PROJECTS: '3', PUBLISH_EVERY_MS: '300', PING_EVERY_MS: '400' };
  const found = await script(name, { ...small, ...environment });
  // As the script sees them: not those of before.
  const { run } = await import('../src/k6/run.js');
  return run(found);
}

/** Thresholds of times, which a machine under test may miss. */
const TIMES = ['pulsewire_message_latency', 'pulsewire_heartbeat_rtt'];

function metric({ threshold }: Outcome): string {
  return threshold.split(' ')[0] ?? '';
}

/** What does not hold. */
function missed(outcomes: readonly Outcome[]): readonly string[] {
  return [...new Set(outcomes.filter(({ holds }) => !holds).map(metric))];
}

describe.each([['websocket-load-test', 500, '5m', 50], ['websocket-stress-test', 1000, '10m', 100]] as const)('%s', (name, vus, duration, latency) => {
  it('is document 001\'s, with its limits', async () => {
    const { options } = await script(name, {});
    expect(options).toMatchObject({ vus, duration });
    expect(options.thresholds?.['pulsewire_message_latency']).toEqual([`p(95)<${latency}`, 'p(99)<500']);
  });

  it('is served within its thresholds', async () => {
    const token = sign({ user: 'load' });
    const outcomes = await load(name, { PULSEWIRE_TOKEN: token });
    expect(outcomes.filter((outcome) => !outcome.holds && !TIMES.includes(metric(outcome)))).toEqual([]);
    // All of them were measured: each user heard several events, and was answered.
    const times = outcomes.filter((outcome) => TIMES.includes(metric(outcome)));
    expect(times).toHaveLength(3);
    expect(outcomes.find((outcome) => metric(outcome) === 'pulsewire_events')?.value).toBeGreaterThan(2 * USERS);
    expect(times.every(({ value }) => value >= 0)).toBe(true);
  });
});

it('a token that is refused fails a run', async () => {
  const outcomes = await load('websocket-load-test', { PULSEWIRE_TOKEN: 'no-token' });
  expect(missed(outcomes)).toEqual(['pulsewire_connected', 'pulsewire_errors', 'pulsewire_published', 'pulsewire_events']);
});

it('a token that may not publish fails a run', async () => {
  const token = sign({ user: 'load', grants: { '*': ['subscribe'] } });
  const outcomes = await load('websocket-load-test', { PULSEWIRE_TOKEN: token });
  expect(missed(outcomes)).toEqual(['pulsewire_published', 'pulsewire_events']);
});

it('a server that goes away fails a run', async () => {
  await using other = await Gateway.start({ set: ['limits.connections_per_user=0'] });
  const environment = { PULSEWIRE_URL: `http://${other.address}`, PULSEWIRE_TOKEN: sign({ user: 'load' }), DURATION: '4s' };
  const running = load('websocket-load-test', environment);
  await until('all are connected', async () => (await other.metric('websocket_active_connections')) === USERS);
  await other.kill();
  expect(missed(await running)).toEqual(expect.arrayContaining(['pulsewire_connected', 'pulsewire_broken']));
});

it('a limit that is not kept fails a run, and one that cannot be understood is refused', async () => {
  const environment = { PULSEWIRE_TOKEN: sign({ user: 'load' }), LATENCY_MS: '0.000001' };
  expect(missed(await load('websocket-load-test', environment))).toContain('pulsewire_message_latency');
  const { outcomes } = await import('../src/k6/metrics.js');
  for (const [name, threshold] of [['pulsewire_events', 'p(95)<1'], ['pulsewire_event', 'count>0'], ['pulsewire_events', 'count=>0']] as const) {
    expect(() => outcomes({ [name]: [threshold] })).toThrow(threshold);
  }
});
