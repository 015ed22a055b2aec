import { effect, signal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { State } from '../api.js';
import { stateOfScore } from '../causes.js';
import { live } from '../store.js';
import { colour, colours } from '../theme.js';

/** How many seconds a strip shows. */
const SECONDS = 60;
/** A bar with its gap, and all of them, in pixels of the drawing: two for each of the page, for fine screens. */
const STEP = 3;
const HEIGHT = 32;

interface Scored {
  readonly id: string | number;
  readonly score: number | null;
}

const scores = new Map<string | number, (number | null)[]>();
const beat = signal(0);
let inks: Partial<Record<State, string>> = {};

effect(() => {
  void colours.value;
  inks = { target: colour('good'), ok: colour('fine'), warning: colour('warn'), critical: colour('bad'), none: colour('line') };
});

/** Remembers the scores of the rows that are looked at, once a second; what nobody looks at any more is forgotten. */
export function useScores(rows: () => readonly Scored[]): void {
  const newest = useRef(rows);
  newest.current = rows;
  useEffect(() => {
    const timer = setInterval(() => {
      if (!live.value) return;
      const seen = new Set<string | number>();
      for (const { id, score } of newest.current()) {
        seen.add(id);
        const held = scores.get(id) ?? [];
        held.push(score);
        if (held.length > SECONDS) held.shift();
        scores.set(id, held);
      }
      for (const id of scores.keys()) if (!seen.has(id)) scores.delete(id);
      beat.value++;
    }, 1000);
    return () => clearInterval(timer);
  }, []);
}

/** The score over the last minute; the number beside it says it in text. */
export function Strip({ id }: { readonly id: string | number }): JSX.Element {
  const box = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const context = box.current?.getContext('2d', { alpha: true });
    if (!context) return undefined;
    // Where it stays the same, only the newest bar is drawn.
    let painted = -1;
    return effect(() => {
      void beat.value;
      const held = scores.get(id) ?? [];
      if (painted === colours.value && held.length > 0) {
        shift(context);
        bar(context, SECONDS - 1, held.at(-1) ?? null);
      } else {
        context.clearRect(0, 0, SECONDS * STEP, HEIGHT);
        held.forEach((score, index) => bar(context, SECONDS - held.length + index, score));
        if (held.length > 0) painted = colours.value;
      }
    });
  }, [id]);
  return <canvas ref={box} class="strip" width={SECONDS * STEP} height={HEIGHT} aria-hidden="true" />;
}

function shift(context: CanvasRenderingContext2D): void {
  context.globalCompositeOperation = 'copy';
  context.drawImage(context.canvas, -STEP, 0);
  context.globalCompositeOperation = 'source-over';
}

function bar(context: CanvasRenderingContext2D, at: number, score: number | null): void {
  if (score === null) return;
  const height = Math.max(2, Math.round((score / 100) * HEIGHT));
  context.fillStyle = inks[stateOfScore(score)] ?? '#888';
  context.fillRect(at * STEP, HEIGHT - height, STEP - 1, height);
}
