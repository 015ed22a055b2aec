/**
 * One file for a script tag: the client, polling, a queue that survives a reload, document 004's metric service, and
 * what reads its compressed metrics.
 */
import { metricServices } from './metric-service.js';
import { compressed } from './msgpack.js';

export * from './index.js';
export type * from './metric-service.js';
export { compressed } from './msgpack.js';
export { polling, type PollingOptions } from './polling.js';
export { sessionQueue } from './queue.js';

/** The service of document 004: one for each address and token; `options` are those of the first call. */
export const getMetricService = metricServices(() => compressed);
