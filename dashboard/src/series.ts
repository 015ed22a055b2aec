import type { Figures } from './api.js';

/** What figures did: value `i` is of the step that ends at `fromMs + (i + 1) * stepSeconds * 1000`. Sans I/O. */
export interface History {
  readonly fromMs: number;
  readonly stepSeconds: number;
  readonly recordingSince: string | null;
  readonly figures: Readonly<Record<string, readonly (number | null)[]>>;
}

/** How many steps are held. */
function length({ figures }: History): number {
  for (const values of Object.values(figures)) return values.length;
  return 0;
}

/** When each step ended, in seconds since 1970, as charts want it. */
export function times(history: History): number[] {
  const { fromMs, stepSeconds } = history;
  return Array.from({ length: length(history) }, (_, index) => fromMs / 1000 + (index + 1) * stepSeconds);
}

/**
 * The history moved on to the step that ends at `atMs`: as many steps as before, those that nobody told of are null. What lies in
 * the past changes nothing.
 */
export function append(history: History, atMs: number, now: Figures): History {
  const size = length(history);
  const stepMs = history.stepSeconds * 1000;
  const step = Math.round((atMs - history.fromMs) / stepMs);
  const missing = step - size;
  if (size === 0 || missing <= 0) return history;
  const figures: Record<string, readonly (number | null)[]> = {};
  for (const [name, values] of Object.entries(history.figures)) {
    const gap = Array.from({ length: Math.min(missing - 1, size) }, () => null);
    figures[name] = [...values, ...gap, now[name] ?? null].slice(-size);
  }
  return { ...history, fromMs: history.fromMs + missing * stepMs, figures };
}

/** The newest value that is not null of the last few steps. */
export function newest(values: readonly (number | null)[] | undefined, steps = 3): number | null {
  for (const value of (values ?? []).slice(-steps).reverse()) if (value !== null) return value;
  return null;
}
