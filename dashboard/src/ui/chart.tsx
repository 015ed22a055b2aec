import { effect, type ReadonlySignal, type Signal, signal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { clockTime, fullTime, inUnit, NOTHING } from '../format.js';
import { type History, newest, times } from '../series.js';
import { colour, colours } from '../theme.js';
import type { Limits } from './spark.js';

/** How many charts are drawn at a time; those beyond wait until one has left the window. */
const ALIVE_MAX = 8;

/** A line of a chart. */
export interface Line<Name extends string = string> {
  readonly figure: Name;
  readonly label: string;
  /** A colour of the style sheet, without `--`. */
  readonly colour: string;
  /** Filled below. */
  readonly area?: boolean;
}

interface Props {
  readonly title: string;
  readonly history: ReadonlySignal<History | null>;
  readonly lines: readonly Line[];
  readonly unit: string;
  readonly log?: boolean;
  readonly limits?: Limits | undefined;
  /** In CSS pixels. Default 180. */
  readonly height?: number;
}

let alive = 0;
const places = signal(0);
const sync = uPlot.sync('time');

/** Figures over time: full at first paint, then moved on in place. Cursors of all charts go together. */
export function Chart({ title, history, lines, unit, log = false, limits, height = 180 }: Props): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  /** The place in the history that is pointed at; null: the newest. */
  const pointed = useMemo(() => signal<number | null>(null), []);
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const shown = signal(false);
    const watcher = new IntersectionObserver((entries) => (shown.value = entries.at(-1)?.isIntersecting ?? false), { rootMargin: '100px' });
    watcher.observe(element);
    const stop = effect(() => {
      void colours.value;
      if (!shown.value) return undefined;
      if (alive >= ALIVE_MAX) {
        void places.value;
        return undefined;
      }
      alive++;
      const end = draw(element, { history, lines, unit, log, limits, height, pointed });
      return () => {
        end();
        alive--;
        queueMicrotask(() => places.value++);
      };
    });
    return () => {
      stop();
      watcher.disconnect();
    };
  }, [lines, unit, log, limits?.warning, limits?.critical, height]);
  return (
    <figure class="chart">
      <figcaption><span class="chart-title">{title}</span><Legend history={history} lines={lines} unit={unit} pointed={pointed} /></figcaption>
      <div class="chart-box" data-height={height} ref={box} role="img" aria-label={`${title} over time`} />
    </figure>
  );
}

interface LegendProps {
  readonly history: ReadonlySignal<History | null>;
  readonly lines: readonly Line[];
  readonly unit: string;
  readonly pointed: ReadonlySignal<number | null>;
}

function Legend({ history, lines, unit, pointed }: LegendProps): JSX.Element {
  const held = history.value;
  const at = pointed.value;
  const moment = held && at !== null ? times(held)[at] : undefined;
  return (
    <span class="legend">
      {lines.map(({ figure, label, colour: name }) => {
        const values = held?.figures[figure];
        const value = at === null ? newest(values) : values?.[at] ?? null;
        return (
          <span key={figure} class="legend-line">
            <i class={`swatch swatch-${name}`} />{label} <b>{held ? inUnit(value, unit) : NOTHING}</b>
          </span>
        );
      })}
      {moment !== undefined && <span class="legend-time">{clockTime(moment * 1000)}</span>}
    </span>
  );
}

interface Drawing extends LegendProps {
  readonly log: boolean;
  readonly limits: Limits | undefined;
  readonly height: number;
  readonly pointed: Signal<number | null>;
}

/** Draws until the function is called that is returned. */
function draw(element: HTMLElement, drawing: Drawing): () => void {
  const { history, lines, height } = drawing;
  const plot = new uPlot(options(element, drawing), data(history.peek(), drawing), element);
  const resize = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height }));
  resize.observe(element);
  const follow = effect(() => plot.setData(data(history.value, drawing)));
  element.dataset['lines'] = String(lines.length);
  return () => {
    follow();
    resize.disconnect();
    plot.destroy();
  };
}

function data(history: History | null, { lines, log }: Drawing): uPlot.AlignedData {
  if (!history) return [[], ...lines.map(() => [])];
  const size = times(history);
  return [size, ...lines.map(({ figure }) => {
    const values = history.figures[figure] ?? size.map(() => null);
    // A logarithm knows no zero.
    return log ? values.map((value) => (value !== null && value > 0 ? value : null)) : [...values];
  })];
}

function options(element: HTMLElement, { lines, unit, log, limits, height, pointed }: Drawing): uPlot.Options {
  const [ink, grid] = [colour('muted'), colour('line')];
  const inks = [colour('band-warning'), colour('band-critical')] as const;
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
  return {
    width: element.clientWidth,
    height,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: sync.key }, y: false, points: { size: 6 }, drag: { x: false, y: false } },
    scales: { x: { time: true }, y: log ? { distr: 3, range: (_, least, most) => decades(least, most) } : { range: (_, __, most) => [0, headroom(most)] } },
    axes: [
      { ...axis, values: (plot, splits) => splits.map((at) => moment(at * 1000, plot)), space: 64, size: 28 },
      { ...axis, values: (_, splits) => splits.map((value) => (value === null ? '' : inUnit(value, unit))), size: 62, space: 28, ...(log && { splits: powers }) },
    ],
    series: [{}, ...lines.map(({ label: name, colour: ink, area }) => ({
      label: name, stroke: colour(ink), width: 1.5, spanGaps: false, points: { show: false }, ...(area && { fill: faint(colour(ink)) }),
    }))],
    hooks: {
      drawClear: limits ? [(plot) => bands(plot, limits, inks)] : [],
      setCursor: [(plot) => (pointed.value = plot.cursor.idx ?? null)],
    },
  };
}

/** As exact as the time that is shown needs it. */
function moment(at: number, { scales }: uPlot): string {
  const seconds = (scales['x']?.max ?? 0) - (scales['x']?.min ?? 0);
  if (seconds > 2 * 86_400) return fullTime(at).slice(5, 16);
  return clockTime(at).slice(0, seconds >= 600 ? 5 : 8);
}

/** A line for each power of ten. */
function powers(_plot: uPlot, _axis: number, least: number, most: number): number[] {
  const first = Math.round(Math.log10(least));
  return Array.from({ length: Math.round(Math.log10(most)) - first + 1 }, (_, index) => 10 ** (first + index));
}

function decades(least: number | null, most: number | null): [number, number] {
  if (least === null || most === null || !(most > 0)) return [0.1, 1000];
  const low = 10 ** Math.floor(Math.log10(Math.max(least, 1e-3)));
  const high = 10 ** Math.ceil(Math.log10(most * 1.2));
  return [low, Math.max(high, low * 10)];
}

function headroom(most: number | null): number {
  return most !== null && most > 0 ? most * 1.15 : 1;
}

function faint(ink: string): string {
  return ink.replace(/^rgb\((.+)\)$/, 'rgba($1, 0.14)');
}

/** Paints where values are bad, behind the lines. */
function bands(plot: uPlot, { warning, critical, direction }: Limits, [warningInk, criticalInk]: readonly [string, string]): void {
  const { ctx, bbox } = plot;
  const [low, high] = [plot.scales['y']?.min ?? 0, plot.scales['y']?.max ?? 0];
  const paint = (from: number, to: number, ink: string): void => {
    const [bottom, top] = [Math.max(from, low), Math.min(to, high)];
    if (bottom >= top) return;
    const [y0, y1] = [plot.valToPos(top, 'y', true), plot.valToPos(bottom, 'y', true)];
    ctx.fillStyle = ink;
    ctx.fillRect(bbox.left, y0, bbox.width, y1 - y0);
  };
  ctx.save();
  if (direction === 'above') {
    paint(warning, critical, warningInk);
    paint(critical, Infinity, criticalInk);
  } else {
    paint(critical, warning, warningInk);
    paint(-Infinity, critical, criticalInk);
  }
  ctx.restore();
}
