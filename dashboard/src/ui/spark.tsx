import type { JSX } from 'preact';

/** From where on a value is bad. */
export interface Limits {
  readonly warning: number;
  readonly critical: number;
  readonly direction: 'above' | 'below';
}

interface Props {
  readonly values: readonly (number | null)[];
  readonly limits?: Limits;
  /** Said to who does not see it. */
  readonly label: string;
}

const WIDTH = 120;
const HEIGHT = 32;

/** A small line over time, with the bands of its limits behind it. Holes stay holes. */
export function Spark({ values, limits, label }: Props): JSX.Element {
  const drawn = thinned(values);
  const known = drawn.filter((value) => value !== null);
  const top = scaleTop(known, limits);
  const y = (value: number): number => HEIGHT - 1 - (Math.min(value, top) / top) * (HEIGHT - 2);
  return (
    <svg class="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={label}>
      {limits && known.length > 0 && <Bands limits={limits} y={y} top={top} />}
      {known.length > 0 && <path class="line" d={path(drawn, y)} />}
    </svg>
  );
}

/** As many values as there is room for: of those that share a place the largest, so that no spike is lost. */
function thinned(values: readonly (number | null)[]): readonly (number | null)[] {
  const each = Math.ceil(values.length / WIDTH);
  if (each <= 1) return values;
  const found: (number | null)[] = [];
  for (let from = 0; from < values.length; from += each) {
    let most: number | null = null;
    for (const value of values.slice(from, from + each)) if (value !== null && (most === null || value > most)) most = value;
    found.push(most);
  }
  return found;
}

/** The scale shows a limit once the values come near it, so that a quiet line is not drawn flat by a limit far away. */
function scaleTop(known: readonly number[], limits: Limits | undefined): number {
  const most = Math.max(...known, 0);
  const near = limits ? [limits.warning, limits.critical].filter((limit) => most >= limit / 4) : [];
  return Math.max(most * 1.15, ...near.map((limit) => limit * 1.1), Number.MIN_VALUE * 2 ** 20) || 1;
}

function Bands({ limits, y, top }: { readonly limits: Limits; readonly y: (value: number) => number; readonly top: number }): JSX.Element {
  const { warning, critical, direction } = limits;
  const [low, high] = direction === 'above' ? [warning, critical] : [critical, warning];
  const band = (name: string, from: number, to: number): JSX.Element | null => {
    const bottom = y(Math.min(from, top));
    const above = to >= top ? 0 : y(to);
    return bottom > above ? <rect class={name} x="0" width={WIDTH} y={above} height={bottom - above} /> : null;
  };
  return direction === 'above' ? (
    <>{band('band-warning', low, high)}{band('band-critical', high, Infinity)}</>
  ) : (
    <>{band('band-critical', 0, low)}{band('band-warning', low, high)}</>
  );
}

function path(values: readonly (number | null)[], y: (value: number) => number): string {
  const step = WIDTH / Math.max(values.length - 1, 1);
  let text = '';
  let pen = 'M';
  values.forEach((value, index) => {
    if (value === null) pen = 'M';
    else {
      text += `${pen}${(index * step).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = 'L';
    }
  });
  return text;
}
