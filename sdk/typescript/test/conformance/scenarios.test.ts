import { describe, expect, test } from 'vitest';
import { ACTIONS } from './actions.js';
import { expectation } from './expectations.js';
import { load, Reader, type Scenario } from './scenario.js';
import { ABLE } from './subject.js';
import { World } from './world.js';

/** What `sdk/conformance/README.md` promises: every client does all of these, against the real server. */
async function run(scenario: Scenario): Promise<void> {
  await using world = await World.for(scenario);
  for (const [at, raw] of scenario.steps.entries()) {
    const step = new Reader(raw);
    try {
      await perform(world, step);
    } catch (cause) {
      const why = [cause instanceof Error ? cause.message : String(cause), world.gateway.died, world.network.died].filter(Boolean);
      throw new Error(`step ${at + 1}, ${step.toString()}: ${why.join('\n')}`, { cause });
    }
  }
  await world.judge();
}

async function perform(world: World, step: Reader): Promise<void> {
  if (step.has('fault')) return world.network.fault(step.rest());
  if (step.has('expect')) return expectation(world, step);
  const word = step.text('do');
  const act = ACTIONS[word];
  if (!act) throw new Error(`nobody knows how to ${word}`);
  await act(world, step);
  step.done();
}

describe.concurrent('scenarios', () => {
  const scenarios = load();
  const able = (scenario: Scenario): boolean => scenario.needs.every((need) => ABLE.includes(need));
  for (const scenario of scenarios.filter(able)) test(scenario.name, () => run(scenario));
  for (const scenario of scenarios.filter((one) => !able(one))) test.skip(`${scenario.name} (needs ${scenario.needs.join(', ')})`);
  test('no name stands twice', () => {
    expect(new Set(scenarios.map(({ name }) => name)).size).toBe(scenarios.length);
  });
});
