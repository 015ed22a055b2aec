import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import type { Lane, State, TimelineEntry } from '../api.js';
import { clockTime, milliseconds, words } from '../format.js';
import { choose, route } from '../router.js';
import { CopyButton, EmptyState } from './empty.js';
import { Shape } from './icons.js';
import { Time } from './time.js';

const LANES: readonly Lane[] = ['lifecycle', 'subscriptions', 'delivery', 'heartbeat'];
const VIEWS = ['compact', 'full', 'json'] as const;
type View = (typeof VIEWS)[number];

/** Kinds that are good or bad, and how; all others are neither. */
const STATES: Readonly<Record<string, State>> = {
  authenticated: 'target', resumed: 'target', recovered: 'target', caught_up: 'target', token_refreshed: 'target',
  token_expiring: 'warning', fell_back: 'warning', closed: 'warning', detached: 'warning', ended: 'warning', reset: 'warning', lagging: 'warning',
  rate_limited: 'warning', error: 'warning', late_pong: 'warning',
  gap: 'critical', dropped: 'critical', slow: 'critical', heartbeat_missed: 'critical',
};

function stateOf(kind: string): State {
  return STATES[kind] ?? 'ok';
}

/** What happened to a connection, oldest first: on four lanes over time, and in words. */
export function Timeline({ entries }: { readonly entries: readonly TimelineEntry[] }): JSX.Element {
  const { view = 'compact', lane = '' } = route.value.params;
  const shown = lane ? entries.filter((entry) => entry.lane === lane) : entries;
  if (entries.length === 0) return <EmptyState title="Nothing is remembered of it"><p>The server keeps the newest 65,536 entries of all connections.</p></EmptyState>;
  return (
    <div class="timeline">
      <div class="tools">
        <span class="segments" role="group" aria-label="View">
          {VIEWS.map((name) => <button key={name} type="button" class="button" aria-pressed={view === name} onClick={() => choose({ view: name === 'compact' ? null : name })}>{name}</button>)}
        </span>
        <CopyButton label="Copy as JSON" text={() => JSON.stringify(shown, null, 2)} />
      </div>
      <Lanes entries={entries} chosen={lane} />
      <Entries entries={shown} view={view as View} />
    </div>
  );
}

/** Where the entries lie in time: a lane each, so that what goes together is seen. */
function Lanes({ entries, chosen }: { readonly entries: readonly TimelineEntry[]; readonly chosen: string }): JSX.Element {
  const moments = entries.map(({ at }) => Date.parse(at));
  const from = Math.min(...moments);
  const to = Math.max(...moments, from + 1);
  const place = (at: string): number => ((Date.parse(at) - from) / (to - from)) * 100;
  return (
    <div class="lanes">
      {LANES.map((lane) => {
        const own = entries.filter((entry) => entry.lane === lane);
        return (
          <div key={lane} class="lane">
            <button type="button" class="lane-name" aria-pressed={chosen === lane} onClick={() => choose({ lane: chosen === lane ? null : lane }, { replace: true })}>{lane} <small>{own.length}</small></button>
            <span class="lane-line" role="img" aria-label={`${own.length} entries`}>
              {own.map(({ id, at, kind, text }) => (
                <i key={id} class={`mark is-${stateOf(kind)}`} style={{ left: `${place(at)}%` }} title={`${clockTime(Date.parse(at), true)} ${text}`}><Shape state={stateOf(kind)} /></i>
              ))}
            </span>
          </div>
        );
      })}
      <div class="lane-ends"><span>{clockTime(from)}</span><span>{clockTime(to)}</span></div>
    </div>
  );
}

/** How many lines are drawn at most, the newest. */
const LINES_MAX = 300;

function Entries({ entries, view }: { readonly entries: readonly TimelineEntry[]; readonly view: View }): JSX.Element {
  const newest = entries.slice(-LINES_MAX);
  if (view === 'json') return <pre class="json" tabIndex={0} aria-label="Timeline as JSON">{JSON.stringify(newest, null, 2)}</pre>;
  return view === 'full' ? <Full entries={newest} /> : <Compact entries={newest} />;
}

/** Entries of one kind about one thing in a row are one line. */
function Compact({ entries }: { readonly entries: readonly TimelineEntry[] }): JSX.Element {
  const runs = useMemo(() => {
    const found: { last: TimelineEntry; times: number }[] = [];
    for (const entry of entries) {
      const before = found.at(-1);
      if (before && before.last.kind === entry.kind && before.last.lane === entry.lane && before.last.channel === entry.channel) {
        before.last = entry;
        before.times++;
      } else found.push({ last: entry, times: 1 });
    }
    return found.reverse();
  }, [entries]);
  return (
    <ol class="entries" tabIndex={0} aria-label="Timeline, newest first">
      {runs.map(({ last: { id, at, kind, text }, times }) => (
        <li key={id}><Time at={at} as="clock" /> <Shape state={stateOf(kind)} /> <span>{text}{times > 1 && <b> × {times}</b>}</span></li>
      ))}
    </ol>
  );
}

function Full({ entries }: { readonly entries: readonly TimelineEntry[] }): JSX.Element {
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label="Timeline with everything">
      <table class="full">
        <thead><tr><th scope="col">Time</th><th scope="col" class="number">After</th><th scope="col">Kind</th><th scope="col">What</th></tr></thead>
        <tbody>
          {entries.map(({ id, at, lane, kind, text }, index) => {
            const before = entries[index - 1];
            return (
              <tr key={id}>
                <td><Time at={at} as="exact" /></td>
                <td class="number">{before ? `+${milliseconds(Date.parse(at) - Date.parse(before.at))}` : ''}</td>
                <td><Shape state={stateOf(kind)} /> {words(kind)} <small class="quiet">{lane}</small></td><td class="wrap">{text}</td>
              </tr>
            );
          }).reverse()}
        </tbody>
      </table>
    </div>
  );
}
