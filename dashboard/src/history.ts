import { effect, type ReadonlySignal, signal } from '@preact/signals';
import { useEffect, useMemo } from 'preact/hooks';
import type { FigureId } from './generated/figures.js';
import { range } from './router.js';
import { append, type History } from './series.js';
import { read, token } from './session.js';
import { live, overview, soon } from './store.js';

/** What figures did in the range that is looked at, and what they do now. Null until the server has answered. */
export function useHistory(figures: readonly FigureId[], fixedRange?: string): ReadonlySignal<History | null> {
  const history = useMemo(() => signal<History | null>(null), []);
  const key = figures.join(',');
  useEffect(() => effect(() => {
    const wanted = fixedRange ?? range.value;
    if (!live.value || token.value === null) return undefined;
    const stop = new AbortController();
    let timer: ReturnType<typeof setInterval> | undefined;
    const ask = async (): Promise<void> => {
      try {
        const found = await read<History>('/api/admin/history', { figures: key, range: wanted }, stop.signal);
        soon(() => !stop.signal.aborted && (history.value = found));
        // Longer steps than a second are the server's to sum up.
        if (found.stepSeconds > 1 && !stop.signal.aborted) timer ??= setInterval(() => void ask(), found.stepSeconds * 1000);
      } catch {
        // The server's absence is told by the frame; what was drawn stays. It is asked again when it is back.
        if (!stop.signal.aborted) timer ??= setInterval(() => void ask(), 10_000);
      }
    };
    void ask();
    const follow = effect(() => {
      const now = overview.data.value;
      const held = history.peek();
      if (now && held && held.stepSeconds === 1) history.value = append(held, Date.parse(now.at), now.figures);
    });
    return () => {
      stop.abort();
      clearInterval(timer);
      follow();
    };
  }), [key, fixedRange]);
  return history;
}
