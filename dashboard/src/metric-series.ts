import type { History } from './series.js';

/** Series that are kept; what comes of others is counted. */
export const SERIES_MAX = 400;

/** A value or the figures of a window of one series, as a metric channel says it (protocol R26). */
export interface Point {
  readonly name: string;
  readonly type?: string;
  /** RFC 3339; of a window, when it began. */
  readonly timestamp: string;
  readonly value: number;
  readonly tags?: Readonly<Record<string, string>>;
  readonly [figure: string]: unknown;
}

/** What was heard of one series. */
interface Series {
  readonly name: string;
  readonly tags: Readonly<Record<string, string>>;
  /** By when the window began, in milliseconds since 1970. */
  readonly points: Map<number, Point>;
}

/** What a metric channel said, by series. Sans I/O. */
export interface Collected {
  readonly series: Map<string, Series>;
  /** Points of series beyond {@link SERIES_MAX}. */
  left: number;
  /** The newest moment. */
  newestMs: number;
}

export function collected(): Collected {
  return { series: new Map(), left: 0, newestMs: 0 };
}

/** The tags of a series in one order. */
export function tagText(tags: Readonly<Record<string, string>>): string {
  return Object.entries(tags).sort(([one], [other]) => (one < other ? -1 : 1)).map(([tag, value]) => `${tag}:${value}`).join(' ');
}

export function isPoint(message: { readonly [member: string]: unknown }): message is Point {
  return typeof message['timestamp'] === 'string' && typeof message['name'] === 'string' && typeof message['value'] === 'number';
}

/** Takes points in; one that was known is replaced, for a window that was open says more later. */
export function collect(held: Collected, points: readonly Point[]): void {
  for (const point of points) {
    const id = `${point.name} ${tagText(point.tags ?? {})}`;
    let series = held.series.get(id);
    if (!series && held.series.size < SERIES_MAX) held.series.set(id, (series = { name: point.name, tags: point.tags ?? {}, points: new Map() }));
    if (!series) {
      held.left++;
      continue;
    }
    const at = Date.parse(point.timestamp);
    series.points.set(at, point);
    held.newestMs = Math.max(held.newestMs, at);
  }
}

/** Forgets what is older than so many milliseconds before the newest. */
export function forget(held: Collected, keepMs: number): void {
  for (const [id, { points }] of held.series) {
    for (const at of points.keys()) if (at < held.newestMs - keepMs) points.delete(at);
    if (points.size === 0) held.series.delete(id);
  }
}

/** The names of metrics, in alphabetical order. */
export function namesOf(held: Collected): readonly string[] {
  return [...new Set([...held.series.values()].map(({ name }) => name))].sort();
}

/** Which names say most: shares, rates and times, then other gauges, then what only grows or hardly moves. */
function rank(name: string, type: string | undefined): number {
  if (/percent|rate$|per_second|latency|duration|throughput|running|pending|one$/.test(name)) return 0;
  return type === 'counter' || /total|count$/.test(name) ? 2 : 1;
}

/** So many names that are drawn until others are chosen, in alphabetical order. */
export function usualNames(held: Collected, most: number): readonly string[] {
  const types = new Map([...held.series.values()].map(({ name, points }) => [name, points.values().next().value?.type]));
  return namesOf(held)
    .map((name) => ({ name, rank: rank(name, types.get(name)) }))
    .sort((one, other) => one.rank - other.rank)
    .slice(0, most)
    .map(({ name }) => name)
    .sort();
}

/** The series of a name with their tags, in the order of these. */
export function seriesOf(held: Collected, name: string): readonly { readonly id: string; readonly tags: string }[] {
  return [...held.series]
    .filter(([, series]) => series.name === name)
    .map(([id, { tags }]) => ({ id, tags: tagText(tags) }))
    .sort((one, other) => (one.tags < other.tags ? -1 : 1));
}

/** One figure of some series as a history to be drawn: the last `rangeMs` up to the newest moment of the channel. */
export function historyOf(held: Collected, ids: readonly string[], figure: string, rangeMs: number, leastStepMs: number): History {
  const all = ids.flatMap((id) => held.series.get(id) ?? []);
  const stepMs = Math.max(leastStepMs, usualStep(all));
  const from = Math.floor((held.newestMs - rangeMs) / stepMs) * stepMs + stepMs;
  const steps = Math.round(rangeMs / stepMs);
  const figures = Object.fromEntries(ids.map((id) => {
    const values: (number | null)[] = Array.from({ length: steps }, () => null);
    for (const [at, point] of held.series.get(id)?.points ?? []) {
      const step = Math.floor((at - from) / stepMs);
      const value = point[figure];
      if (step >= 0 && step < steps && typeof value === 'number') values[step] = value;
    }
    return [id, values];
  }));
  return { fromMs: from, stepSeconds: stepMs / 1000, recordingSince: null, figures };
}

/** How far apart the points of the series usually are: a source may say something less often than a window is long. */
function usualStep(all: readonly Series[]): number {
  const steps: number[] = [];
  for (const { points } of all) {
    const moments = [...points.keys()].sort((one, other) => one - other);
    for (let index = 1; index < moments.length; index++) steps.push((moments[index] ?? 0) - (moments[index - 1] ?? 0));
  }
  return steps.sort((one, other) => one - other)[Math.floor(steps.length / 2)] ?? 0;
}

/** What a metric is counted in, as far as its name says it. */
export function unitOf(name: string): string {
  if (/percent|success_rate/.test(name)) return 'percent';
  if (/bytes.*per_second/.test(name)) return 'bytes_per_second';
  if (/bytes|^(memory|disk)\.(total|used)$/.test(name)) return 'bytes';
  return /(^|\.|_)(latency|duration)(\.|$)|_ms$/.test(name) ? 'ms' : 'count';
}

/** `host:web-1 env:production` as tags; null where a term is none. */
export function parseTags(text: string): Readonly<Record<string, string>> | null {
  const terms = text.split(/\s+/).filter(Boolean).map((term) => /^([^:]+):(.+)$/.exec(term));
  if (terms.some((term) => term === null)) return null;
  return Object.fromEntries(terms.map((term) => [term?.[1] ?? '', term?.[2] ?? '']));
}
