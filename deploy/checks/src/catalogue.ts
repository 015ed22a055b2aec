/**
 * The metric catalogue, as the checks ask for it: what a name in a query is, and which labels it can have.
 */

import catalogue from './catalogue.json' with { type: 'json' };

export interface Family {
  readonly name: string;
  readonly kind: 'counter' | 'gauge' | 'histogram' | 'gauge histogram';
  /** Labels with their closed sets; `null` where the set is open. */
  readonly labels: Readonly<Record<string, readonly string[] | null>>;
  /** Upper bounds of a histogram's buckets. */
  readonly bounds: readonly number[];
}

export interface Series {
  readonly family: Family;
  /** Whether it only grows, so that its value means nothing without `rate()`. */
  readonly isCumulative: boolean;
  /** Whether it has the label `le`. */
  readonly isBucket: boolean;
}

/** What Prometheus writes itself. */
export const BUILT_IN: ReadonlySet<string> = new Set([
  'ALERTS',
  'ALERTS_FOR_STATE',
  'up',
  'scrape_duration_seconds',
  'scrape_samples_scraped',
  'scrape_samples_post_metric_relabeling',
  'scrape_series_added',
]);

/** Labels that a target may have by its scrape configuration. */
export const TARGET: ReadonlySet<string> = new Set([
  'job',
  'instance',
  'cluster',
  'namespace',
  'pod',
  'node',
  'service',
  'container',
  'endpoint',
  'env',
  'region',
  'track',
]);

const FAMILIES = new Map<string, Family>();
for (const [name, entry] of Object.entries(catalogue)) {
  if (typeof entry !== 'string') FAMILIES.set(name, { name, ...entry } as Family);
}

/** Every family of the catalogue. */
export function families(): Iterable<Family> {
  return FAMILIES.values();
}

/** The series of that name, `undefined` if there is none. */
export function series(name: string): Series | undefined {
  const plain = FAMILIES.get(name);
  if (plain) {
    if (plain.kind === 'histogram' || plain.kind === 'gauge histogram') return undefined;
    return { family: plain, isCumulative: plain.kind === 'counter', isBucket: false };
  }
  for (const suffix of ['_bucket', '_count', '_sum']) {
    const family = name.endsWith(suffix) ? FAMILIES.get(name.slice(0, -suffix.length)) : undefined;
    if (family && family.bounds.length > 0) {
      return { family, isCumulative: family.kind === 'histogram', isBucket: suffix === '_bucket' };
    }
  }
  return undefined;
}
