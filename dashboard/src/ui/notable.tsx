import type { JSX } from 'preact';
import type { NotableEvent } from '../api.js';
import { words } from '../format.js';
import { SEVERITY } from '../notable.js';
import { linkTo } from '../router.js';
import { Shape } from './icons.js';
import { Time } from './time.js';

/** What happened, a line each. */
export function NotableList({ events, label }: { readonly events: readonly NotableEvent[]; readonly label: string }): JSX.Element {
  return (
    <ol class="notable" tabIndex={0} aria-label={label}>
      {events.map(({ id, at, type, severity, text, link: to }) => (
        <li key={id}>
          <Time at={at} as="full" />
          <span class={`state is-${SEVERITY[severity] ?? 'none'}`}><Shape state={SEVERITY[severity] ?? 'none'} /> {severity}</span>
          <span class="quiet">{words(type)}</span>
          {to ? <a href={linkTo(to)}>{text}</a> : <span>{text}</span>}
        </li>
      ))}
    </ol>
  );
}
