import { type ReadonlySignal, signal } from '@preact/signals';
import { useEffect, useMemo } from 'preact/hooks';
import { append, type History } from './series.js';
import { live } from './store.js';

/** For how long it is remembered what was seen, in seconds. */
const SECONDS = 300;

/**
 * What values do while the page is open: the server keeps no history of single connections. `now` is asked once a second; what it
 * does not know is a hole.
 */
export function useTrack(names: readonly string[], now: () => Readonly<Record<string, number | null>>): ReadonlySignal<History | null> {
  const history = useMemo(() => signal<History | null>(empty(names)), []);
  useEffect(() => {
    const timer = setInterval(() => {
      const held = history.peek();
      if (live.value && held) history.value = append(held, Date.now(), now());
    }, 1000);
    return () => clearInterval(timer);
  }, []);
  return history;
}

function empty(names: readonly string[]): History {
  const to = Math.floor(Date.now() / 1000);
  const nothing = Array.from({ length: SECONDS }, () => null);
  return { fromMs: (to - SECONDS) * 1000, stepSeconds: 1, recordingSince: null, figures: Object.fromEntries(names.map((name) => [name, nothing])) };
}
