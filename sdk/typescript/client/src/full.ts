/** Everything that most pages need, in one: for a page with a script tag. */
export * from './index.js';
export { polling, type PollingOptions } from './polling.js';
export { sessionQueue } from './queue.js';
