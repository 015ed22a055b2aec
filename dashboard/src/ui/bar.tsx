import type { JSX } from 'preact';
import type { State } from '../api.js';

interface Props {
  readonly value: number | null;
  readonly most: number | null;
  readonly state?: State;
  /** Where a line stands across it. */
  readonly line?: number;
  /** Said to who does not see it. */
  readonly label: string;
}

/** How much of something there is, of the most there may be. */
export function Bar({ value, most, state = 'ok', line, label }: Props): JSX.Element {
  const part = value === null || !most ? 0 : Math.min(Math.max(value / most, 0), 1);
  return (
    <svg class={`meter is-${state}`} role="img" aria-label={label} preserveAspectRatio="none" viewBox="0 0 100 8">
      <rect class="meter-back" width="100" height="8" rx="2" />
      {part > 0 && <rect class="meter-part" width={Math.max(part * 100, 1)} height="8" rx="2" />}
      {line && most && <rect class="meter-line" x={(line / most) * 100} width="1" height="8" />}
    </svg>
  );
}
