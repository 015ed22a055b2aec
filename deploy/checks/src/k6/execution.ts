// `k6/execution`.
import { vu } from './vu.js';

/** The one load that runs. */
export const scenario = { name: 'default', executor: 'constant-vus', startTime: 0 };

export default {
  scenario,
  vu: {
    get idInTest(): number {
      return vu().id;
    },
  },
};
