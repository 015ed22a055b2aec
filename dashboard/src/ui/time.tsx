import { useComputed } from '@preact/signals';
import type { JSX } from 'preact';
import { now, skew } from '../clock.js';
import { ago, clockTime, duration, fullTime, NOTHING } from '../format.js';

interface Props {
  /** RFC 3339, or milliseconds since 1970; null where there was no such moment. */
  readonly at: string | number | null | undefined;
  /** `ago` counts on; `age` says how long it lasts; `clock` is the time of day. Default `ago`. */
  readonly as?: 'ago' | 'age' | 'clock' | 'exact' | 'full';
}

/** A moment, in words or as a time; its full time is told when pointed at. */
export function Time({ at, as = 'ago' }: Props): JSX.Element {
  if (at === null || at === undefined) return <>{NOTHING}</>;
  const moment = typeof at === 'number' ? at : Date.parse(at);
  if (Number.isNaN(moment)) return <>{NOTHING}</>;
  const full = fullTime(moment);
  const still = as === 'clock' ? clockTime(moment) : as === 'exact' ? clockTime(moment, true) : as === 'full' ? full : null;
  return (
    <time dateTime={new Date(moment).toISOString()} title={full}>
      {still ?? <Counting key={`${as}${moment}`} moment={moment} as={as} />}
    </time>
  );
}

/** Text that the clock alone changes: nothing around it is drawn again. */
function Counting({ moment, as }: { readonly moment: number; readonly as: string }): JSX.Element {
  const text = useComputed(() => {
    const today = now.value + skew.value;
    return as === 'age' ? duration(Math.floor((today - moment) / 1000)) : ago(moment, today);
  });
  return <>{text}</>;
}
