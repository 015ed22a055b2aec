/** Everything in one: for a page with a script tag, and for who does not mind three kilobytes. */
export * from './index.js';
export { polling, type PollingOptions } from './polling.js';
export { indexedDbQueue, sessionQueue } from './queue.js';
export { sse } from './sse.js';
