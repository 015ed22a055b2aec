import type { JSX } from 'preact';
import type { PastEvent } from '../api.js';
import { CopyButton } from './empty.js';
import { Time } from './time.js';

/** Events, newest first; the payload of each behind a click, for it may be nobody's business. */
export function EventList({ events, label }: { readonly events: readonly PastEvent[]; readonly label: string }): JSX.Element {
  return <ol class="event-list" tabIndex={0} aria-label={label}>{events.map((event) => <Line key={keyOf(event)} event={event} />)}</ol>;
}

function keyOf({ sequence, timestamp, event, id }: PastEvent): string {
  return `${sequence}/${timestamp}/${event}/${id ?? ''}`;
}

function Line({ event }: { readonly event: PastEvent }): JSX.Element {
  const { sequence, timestamp, event: type, user, key, critical } = event;
  return (
    <li>
      <details>
        <summary>
          <span class="event-sequence">{sequence > 0 ? sequence : ''}</span>
          <Time at={timestamp} as="exact" />
          <b>{type}</b>
          {critical && <span class="chip">critical</span>}
          <span class="quiet">{[user, key && `key ${key}`].filter(Boolean).join(' · ')}</span>
        </summary>
        <Payload event={event} />
      </details>
    </li>
  );
}

function Payload({ event }: { readonly event: PastEvent }): JSX.Element {
  const { data, id, tags } = event;
  const text = JSON.stringify(data ?? null, null, 2);
  return (
    <div class="event-payload">
      <p class="quiet">{[id && `id ${id}`, tags && Object.entries(tags).map(([tag, value]) => `${tag}:${value}`).join(' ')].filter(Boolean).join(' · ')}</p>
      <div class="code"><pre tabIndex={0} aria-label="Payload">{text}</pre><CopyButton text={text} label="Copy the payload" /></div>
    </div>
  );
}
