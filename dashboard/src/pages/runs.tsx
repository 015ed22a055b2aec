import { useComputed } from '@preact/signals';
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import type { ChannelDetail, ChannelRow, ConnectionRow, EventPage, GroupRow } from '../api.js';
import { CAUSES, stateOfScore } from '../causes.js';
import { bytes, count, NOTHING, rate, share, words } from '../format.js';
import type { Page } from '../list.js';
import { link } from '../router.js';
import { KEPT_DEFAULT, type RunRow, runsOf } from '../runs.js';
import { type Found, useDocument, useList } from '../store.js';
import { Bar } from '../ui/bar.js';
import { CopyButton, EmptyState, Trouble } from '../ui/empty.js';
import { EventList } from '../ui/events.js';
import { Facts } from '../ui/facts.js';
import { Icon } from '../ui/icons.js';
import { type Column, Table } from '../ui/table.js';
import { Members } from './channel.js';

const ROWS = 200;
const PROJECTS = 50;
const CRITICAL = 200;
const EVERY_MS = 2_000;

const RUNS: readonly Column<RunRow>[] = [
  { id: 'id', title: 'Run', render: ({ id }) => <span class="cut" title={id}>{id}</span> },
  { id: 'connections', title: 'Connections', number: true, render: ({ connections }) => count(connections) },
  { id: 'present', title: 'Active users', number: true, help: 'seen in its channel', render: ({ present }) => count(present) },
  { id: 'subscribers', title: 'Subscribers', number: true, spare: 2, render: ({ subscribers }) => count(subscribers) },
  { id: 'rate', title: 'Events', number: true, spare: 1, help: 'a second', render: ({ publishedPerSecond }) => rate(publishedPerSecond) },
  { id: 'kept', title: `Kept of ${count(KEPT_DEFAULT)}`, spare: 1, help: 'events that can be replayed; a namespace may keep more', render: (row) => <Kept kept={row.kept} /> },
  { id: 'critical', title: 'Critical', number: true, spare: 2, help: 'share of its events', render: ({ criticalShare }) => share(criticalShare) },
  { id: 'queue', title: 'Queued', number: true, spare: 2, help: 'bytes that wait for its connections', render: ({ queuedBytes }) => bytes(queuedBytes) },
  { id: 'score', title: 'Worst score', number: true, render: ({ worstScore }) => (worstScore === null ? NOTHING : <b class={`is-${stateOfScore(worstScore)}`}>{count(worstScore)}</b>) },
];

function Kept({ kept }: { readonly kept: number | null }): JSX.Element {
  if (kept === null) return <>{NOTHING}</>;
  const text = `${count(kept)} of ${count(KEPT_DEFAULT)}`;
  return <span class="hold"><Bar value={kept} most={KEPT_DEFAULT} label={text} /> {count(kept)}</span>;
}

/** What runs, and for which projects. */
export function Runs(): JSX.Element {
  const groups = useList<GroupRow>('connections', { group: 'run', limit: ROWS });
  const channels = useList<ChannelRow>('channels', { filter: 'name:run:*', limit: ROWS });
  const found = useRuns(groups, channels);
  return (
    <>
      <h1 class="hidden">Runs and projects</h1>
      <div class="runs">
        <section aria-label="Runs"><Table label="Runs" found={found} columns={RUNS} href={({ id }) => link('runs', id)} limit={ROWS} empty={<NoRuns />} /></section>
        <Projects />
      </div>
    </>
  );
}

function useRuns(groups: Found<Page<GroupRow>>, channels: Found<Page<ChannelRow>>): Found<Page<RunRow>> {
  const before = useMemo(() => ({ rows: new Map<string, RunRow>() }), []);
  const data = useComputed((): Page<RunRow> | null => {
    const page = groups.data.value;
    if (!page) return null;
    const rows = runsOf(page.rows, channels.data.value?.rows ?? [], before.rows);
    before.rows = new Map(rows.map((row) => [row.id, row]));
    return { revision: page.revision, at: page.at, rows, matched: rows.length, total: rows.length };
  });
  return useMemo(() => ({ ...groups, data }), [groups, data]);
}

function NoRuns(): JSX.Element {
  return (
    <EmptyState title="No run is active">
      <p>A run is a channel <code>run:ID</code> and the connections that listen to it. With the SDK: <code>joinRun(client, '42')</code>.</p>
      <p><a href={link('try')}>Publish to one here</a></p>
    </EmptyState>
  );
}

function Projects(): JSX.Element {
  const found = useList<GroupRow>('connections', { group: 'project', limit: PROJECTS });
  const rows = found.data.value?.rows.filter(({ id }) => id !== '' && id !== '(none)') ?? [];
  const most = Math.max(...rows.map(({ connections }) => connections), 1);
  const listens = Math.max(...rows.map(({ subscriptions }) => subscriptions ?? 0), 1);
  return (
    <section class="panel" aria-label="Projects">
      <h2>Projects</h2>
      <Trouble problem={found.problem.value} />
      {rows.length === 0 ? <p class="panel-text quiet">{found.data.value ? 'A connection is of a project while it listens to the channel project:ID; none does.' : '…'}</p> : (
        <ol class="projects scroll" tabIndex={0} aria-label="Connections and subscriptions by project">
          {rows.map(({ id, connections, subscriptions }) => (
            <li key={id}>
              <a href={link('connections', null, { filter: `project:${id}` })}>{id}</a>
              <span>{count(connections)} <span class="quiet">connections</span></span><Bar value={connections} most={most} label={`${connections} connections`} />
              <span>{count(subscriptions)} <span class="quiet">subscriptions</span></span><Bar value={subscriptions ?? null} most={listens} state="target" label={`${subscriptions ?? 'unknown'} subscriptions`} />
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

/** One run: who takes part, where they are, what was decided. */
export function Run({ id }: { readonly id: string }): JSX.Element {
  const name = `run:${id}`;
  const found = useDocument<ChannelDetail>(`/api/admin/channels/${encodeURIComponent(name)}`, {}, EVERY_MS);
  const channel = found.data.value;
  const gone = found.problem.value?.status === 404;
  return (
    <>
      <header class="page-head">
        <a class="page-back" href={link('runs')}><Icon name="left" /> Runs</a><h1>Run {id}</h1>
        <a class="button" href={link('channels', name)}>Its channel <Icon name="right" /></a>
        <CopyButton label="Copy a link to this" words="Copy link" text={() => location.href} />
      </header>
      {gone ? <p class="quiet spaced">Nobody uses its channel now; what it kept is still there.</p> : <Trouble problem={found.problem.value} />}
      {channel && (
        <Facts facts={[
          ['Active users', count(channel.present)],
          ['Subscribers', count(channel.subscribers)],
          ['Events', rate(channel.publishedPerSecond)],
          [`Kept of ${count(KEPT_DEFAULT)}`, <Kept key="kept" kept={channel.head === null ? null : channel.head - (channel.floor ?? 0)} />],
          ['Critical', share(channel.criticalShare)],
        ]} />
      )}
      <div class="halves">
        <section class="panel" aria-label="Critical events"><Critical channel={name} /></section>
        <div class="stack">
          <Members members={channel?.members} present={channel?.present ?? null} />
          <section class="panel" aria-label="Connections"><Taking id={id} /></section>
        </div>
      </div>
    </>
  );
}

function Critical({ channel }: { readonly channel: string }): JSX.Element {
  const page = useDocument<EventPage>(`/api/channels/${encodeURIComponent(channel)}/events`, { only: 'critical', limit: CRITICAL });
  const events = [...(page.data.value?.events ?? [])].reverse();
  return (
    <>
      <h2>Critical events <span class="quiet">{page.data.value && `${count(events.length)}${page.data.value.hasMore ? ', the oldest' : ''}, kept for those who join later`}</span></h2>
      <Trouble problem={page.problem.value} />
      {events.length > 0 ? <EventList events={events} label={`Critical events of ${channel}`} /> : page.data.value && <p class="panel-text quiet">None has been published.</p>}
    </>
  );
}

function Taking({ id }: { readonly id: string }): JSX.Element {
  const filter = `run:${id}`;
  const page = useList<ConnectionRow>('connections', { filter, limit: 12 }).data.value;
  return (
    <>
      <h2><a href={link('connections', null, { filter })}>Connections {page && <span class="quiet">{count(page.matched)}</span>} <Icon name="right" /></a></h2>
      {page && page.rows.length > 0 ? (
        <ol class="short">
          {page.rows.map((row) => (
            <li key={row.id}>
              <a href={link('connections', row.id)}>
                <span class="short-who">{row.userId ?? row.id}</span>
                <span class="short-why">{row.cause && row.cause !== 'healthy' ? CAUSES[row.cause]?.title ?? words(row.cause) : ''}</span>
                <b class={`is-${stateOfScore(row.score)}`}>{count(row.score)}</b>
              </a>
            </li>
          ))}
        </ol>
      ) : <p class="panel-text quiet">{page ? 'Nobody is connected for this run.' : '…'}</p>}
    </>
  );
}
