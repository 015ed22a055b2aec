// Runs a k6 script without k6: its virtual users, its options and its thresholds, in this process.
//
// k6 itself cannot be had where the tests run. What scripts use of it is here under the same names, so a script that
// misuses its own code, the protocol or a threshold fails; that k6 reads it, its types say.
import type { Options } from 'k6/options';
import { seconds } from '../units.js';
import { scenario } from './execution.js';
import { type Outcome, outcomes } from './metrics.js';
import { Vu } from './vu.js';

/** What a script exports. */
export interface Script { readonly options: Options; readonly default: () => unknown }

/** How long users have to end when the load has; k6 gives 30 s. */
const GRACEFUL_STOP_MS = 5_000;

/** Runs the load that the script's options say, and returns how its thresholds stand. */
export async function run({ options, default: main }: Script): Promise<readonly Outcome[]> {
  const { vus = 1, duration = '1s', thresholds = {} } = options;
  scenario.startTime = Date.now();
  const end = scenario.startTime + seconds(duration) * 1000;
  const users = Array.from({ length: vus }, (_, index) => new Vu(index + 1));
  const stop = setTimeout(() => users.forEach((user) => user.interrupt()), end - Date.now() + GRACEFUL_STOP_MS);
  await Promise.all(users.map(async (user) => {
    do await user.iterate(main); while (Date.now() < end);
  }));
  clearTimeout(stop);
  return outcomes(thresholds);
}
