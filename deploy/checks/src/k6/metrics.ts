// `k6/metrics`, and whether thresholds hold.

const all = new Map<string, Metric>();

abstract class Metric {
  /** Two of one name are one, as in k6. */
  protected readonly values: number[];
  readonly name: string;

  constructor(name: string, _isTime = false) {
    this.name = name;
    this.values = all.get(name)?.values ?? [];
    all.set(name, this);
  }

  add(value: number | boolean): void {
    this.values.push(Number(value));
  }

  /** What a threshold may ask for; undefined if the kind has no such figure. */
  abstract figure(name: string): number | undefined;

  protected sum(): number {
    return this.values.reduce((sum, value) => sum + value, 0);
  }
}

export class Counter extends Metric {
  figure(name: string): number | undefined {
    return name === 'count' ? this.sum() : undefined;
  }
}

export class Rate extends Metric {
  figure(name: string): number | undefined {
    return name === 'rate' ? this.sum() / Math.max(this.values.length, 1) : undefined;
  }
}

export class Gauge extends Metric {
  figure(name: string): number | undefined {
    return name === 'value' ? this.values.at(-1) ?? 0 : undefined;
  }
}

export class Trend extends Metric {
  figure(name: string): number | undefined {
    const sorted = [...this.values].sort((a, b) => a - b);
    const at = (share: number): number => {
      const place = share * Math.max(sorted.length - 1, 0);
      const [low = 0, high = low] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
      return low + (high - low) * (place % 1);
    };
    const percentile = /^p\((\d+(?:\.\d+)?)\)$/.exec(name)?.[1];
    if (percentile !== undefined) return at(Number(percentile) / 100);
    const named: { readonly [figure: string]: number } = { avg: this.sum() / Math.max(sorted.length, 1), med: at(0.5), min: at(0), max: at(1) };
    return named[name];
  }
}

/** What k6 counts by itself. */
export const failed = new Rate('http_req_failed');

const COMPARISONS: { readonly [sign: string]: (left: number, right: number) => boolean } = {
  '<': (left, right) => left < right, '<=': (left, right) => left <= right, '>': (left, right) => left > right,
  '>=': (left, right) => left >= right, '==': (left, right) => left === right, '!=': (left, right) => left !== right,
};

/** A threshold, what was measured, and whether that is within. */
export interface Outcome { readonly threshold: string; readonly value: number; readonly holds: boolean }

/**
 * Every threshold of a script.
 *
 * @throws Error for one that cannot be understood, or is about a metric that there is not: k6 refuses such a script, too.
 */
export function outcomes(thresholds: { readonly [metric: string]: readonly (string | { readonly threshold: string })[] }): readonly Outcome[] {
  return Object.entries(thresholds).flatMap(([name, wanted]) => wanted.map((each) => outcome(name, typeof each === 'string' ? each : each.threshold)));
}

function outcome(name: string, threshold: string): Outcome {
  const [, figure = '', sign = '', limit] = /^\s*([a-z]+(?:\([\d.]+\))?)\s*(<=|>=|==|!=|<|>)\s*([\d.]+)\s*$/.exec(threshold) ?? [];
  const value = all.get(name)?.figure(figure);
  const compare = COMPARISONS[sign];
  if (value === undefined || compare === undefined) throw new Error(`no threshold: ${name} ${threshold}`);
  return { threshold: `${name} ${threshold}`, value, holds: compare(value, Number(limit)) };
}
