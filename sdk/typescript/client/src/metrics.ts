import { metricServices } from './metric-service.js';

export type * from './metric-service.js';

/** The service of document 004: one for each address and token; `options` are those of the first call. */
export const getMetricService = metricServices(() => import('./msgpack.js').then(({ compressed }) => compressed));
