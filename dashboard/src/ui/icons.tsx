import type { JSX } from 'preact';
import type { State } from '../api.js';

/** Strokes on a grid of 16 by 16. */
const PATHS = {
  overview: 'M2 9a6 6 0 0 1 12 0M8 9l3-3M2 12h12',
  connections: 'M5 4a2 2 0 1 1-4 0 2 2 0 0 1 4 0zM15 12a2 2 0 1 1-4 0 2 2 0 0 1 4 0zM5 4h3a2 2 0 0 1 2 2v4a2 2 0 0 0 2 2',
  channels: 'M3 6h10M3 10h10M6.5 2.5l-1.5 11M11 2.5l-1.5 11',
  series: 'M2 13V3M2 13h12M4.5 10l3-4 2.5 2 3.5-5',
  runs: 'M4 3l8 5-8 5z',
  upstreams: 'M8 13V3M4 7l4-4 4 4M3 13h10',
  alerts: 'M4 11V7a4 4 0 0 1 8 0v4l1 1.5H3zM6.5 14h3',
  errors: 'M8 2l6.5 11.5h-13zM8 6.5v3M8 11.4v.2',
  nodes: 'M2 3h12v4H2zM2 9h12v4H2zM4.5 5h.1M4.5 11h.1',
  events: 'M3 4h10M3 8h10M3 12h6',
  audit: 'M4 2h8v12H4zM6.500 5.500h3M6.500 8h3M6.500 10.500h2',
  try: 'M3 4l4 4-4 4M8.5 12H13',
  menu: 'M2 4h12M2 8h12M2 12h12',
  pause: 'M5 3v10M11 3v10',
  play: 'M4 3l9 5-9 5z',
  sun: 'M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1',
  moon: 'M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5z',
  system: 'M2 3h12v8H2zM6 14h4M8 11v3',
  search: 'M7 2a5 5 0 1 0 0 10A5 5 0 0 0 7 2zM11 11l3 3',
  close: 'M4 4l8 8M12 4l-8 8',
  down: 'M4 6l4 4 4-4',
  up: 'M4 10l4-4 4 4',
  right: 'M6 4l4 4-4 4',
  left: 'M10 4L6 8l4 4',
  link: 'M6.5 9.5l3-3M7 5l2-2a2.8 2.8 0 0 1 4 4l-2 2M9 11l-2 2a2.8 2.8 0 0 1-4-4l2-2',
  download: 'M8 2v8M4.5 7L8 10.5 11.5 7M3 13.5h10',
  help: 'M6 6a2 2 0 1 1 2.8 1.8c-.5.3-.8.7-.8 1.4M8 11.6v.2M8 1.5a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13z',
  out: 'M6 3H3v10h3M10 5l3 3-3 3M13 8H6',
  copy: 'M6 6h7v7H6zM10 6V3H3v7h3',
  eye: 'M1.500 8S4 3.500 8 3.500 14.500 8 14.500 8 12 12.500 8 12.500 1.500 8 1.500 8zM8 6.500a1.500 1.500 0 1 0 0 3 1.500 1.500 0 0 0 0-3z',
  bolt: 'M9 1.500L3 9h4.500L7 14.500 13 7H8.500z',
} as const;

export type IconName = keyof typeof PATHS;

/** A drawing that says nothing by itself: the words stand beside it. */
export function Icon({ name }: { readonly name: IconName }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** Filled shapes, so that a state is seen without its colour. */
const SHAPES: Readonly<Record<State, string>> = {
  target: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2z',
  ok: 'M3 3h10v10H3z',
  warning: 'M8 2l7 12H1z',
  critical: 'M8 .8L15.200 8 8 15.200.8 8z',
  none: 'M2 7h12v2H2z',
};

/** What a state is called. */
export const STATE_WORDS: Readonly<Record<State, string>> = {
  target: 'on target',
  ok: 'acceptable',
  warning: 'warning',
  critical: 'critical',
  none: 'no data',
};

/** The shape of a state, in its colour. */
export function Shape({ state }: { readonly state: State }): JSX.Element {
  return (
    <svg class={`shape is-${state}`} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={SHAPES[state]} />
    </svg>
  );
}

/** A state by shape and word. */
export function StateMark({ state, text = STATE_WORDS[state] }: { readonly state: State; readonly text?: string }): JSX.Element {
  return (
    <span class={`state is-${state}`}>
      <Shape state={state} /> {text}
    </span>
  );
}
