import type { JSX } from 'preact';
import type { ChannelGroupRow, ChannelRow, Row } from '../api.js';
import { bytes, count, rate, share } from '../format.js';
import type { Page } from '../list.js';
import { withTerm } from '../query.js';
import { choose, link, route } from '../router.js';
import { type Found, useList } from '../store.js';
import { Code, CopyButton, EmptyState } from '../ui/empty.js';
import { Choice } from '../ui/choice.js';
import { type Column, FilterBox, Table } from '../ui/table.js';

const LIMIT = 50;

const CHANNELS: readonly Column<ChannelRow>[] = [
  { id: 'name', title: 'Channel', sort: 'name', smallFirst: true, render: ({ channel }) => <span class="cut" title={channel}>{channel}</span> },
  { id: 'kind', title: 'Kind', spare: 1, render: ({ kind }) => kind },
  { id: 'namespace', title: 'Namespace', spare: 3, render: ({ namespace }) => namespace ?? '–' },
  { id: 'subscribers', title: 'Subscribers', sort: 'subscribers', number: true, render: ({ subscribers }) => count(subscribers) },
  { id: 'rate', title: 'Published', sort: 'rate', number: true, help: 'events or samples a second', render: ({ publishedPerSecond }) => rate(publishedPerSecond) },
  { id: 'fanout', title: 'Delivered', number: true, spare: 2, help: 'published a second, times subscribers', render: ({ publishedPerSecond, subscribers }) => rate(publishedPerSecond === null ? null : publishedPerSecond * subscribers) },
  { id: 'bytes', title: 'Bytes', sort: 'bytes', number: true, spare: 1, help: 'a second', render: ({ bytesPerSecond }) => (bytesPerSecond === null ? '–' : `${bytes(bytesPerSecond)}/s`) },
  { id: 'critical', title: 'Critical', number: true, spare: 3, help: 'share of critical events', render: ({ criticalShare }) => share(criticalShare) },
  { id: 'kept', title: 'Kept', number: true, spare: 2, help: 'events that can be replayed', render: ({ head, floor }) => (head === null ? '–' : count(head - (floor ?? 0))) },
  { id: 'head', title: 'Head', sort: 'head', number: true, spare: 1, help: 'the newest sequence', render: ({ head }) => count(head) },
  { id: 'epoch', title: 'Epoch', spare: 3, render: ({ epoch }) => (epoch ? <span class="id">{epoch}</span> : '–') },
  { id: 'present', title: 'Present', sort: 'present', number: true, spare: 2, help: 'users who are seen there', render: ({ present }) => count(present) },
  { id: 'series', title: 'Series', number: true, spare: 3, help: 'of a metric channel', render: ({ series }) => count(series) },
];

const GROUPS: readonly Column<ChannelGroupRow>[] = [
  { id: 'id', title: 'Group', render: ({ id }) => (id === '' ? '(none)' : id) },
  { id: 'channels', title: 'Channels', number: true, render: ({ channels }) => count(channels) },
  { id: 'subscribers', title: 'Subscribers', number: true, render: ({ subscribers }) => count(subscribers) },
  { id: 'rate', title: 'Published', number: true, render: ({ publishedPerSecond }) => rate(publishedPerSecond) },
  { id: 'bytes', title: 'Bytes', number: true, spare: 1, render: ({ bytesPerSecond }) => (bytesPerSecond === null || bytesPerSecond === undefined ? '–' : `${bytes(bytesPerSecond)}/s`) },
];

/** What is published and who listens, most listeners first. */
export function Channels(): JSX.Element {
  const { filter = '', sort, group, offset } = route.value.params;
  const found = useList<Row>('channels', { filter, sort, group, offset, limit: LIMIT }, group);
  return (
    <>
      <h1 class="hidden">Channels</h1>
      <div class="tools">
        <FilterBox example="run:* kind:log subscribers>100" help={<Help />} problem={found.problem.value?.message ?? null} />
        <Choice label="Group by" name="group" options={['prefix', 'namespace', 'kind']} value={group} />
        <CopyButton label="Copy a link to this" words="Copy link" text={() => location.href} />
      </div>
      <List key={group ?? ''} group={group} filter={filter} sort={sort} found={found} />
    </>
  );
}

interface ListProps {
  readonly group: string | undefined;
  readonly filter: string;
  readonly sort: string | undefined;
  readonly found: Found<Page>;
}

function List({ group, filter, sort, found }: ListProps): JSX.Element {
  const empty = <Nothing filtered={filter !== ''} />;
  if (group) {
    // What has no prefix is what has none of the others.
    const others = found.data.value?.rows.filter(({ id }) => id !== '').map(({ id }) => `-${group}:${id}`) ?? [];
    const filterOf = (id: string): string => (id === '' ? [filter, ...others].filter(Boolean).join(' ') : withTerm(filter, group, id));
    const href = ({ id }: ChannelGroupRow): string => link('channels', null, { filter: filterOf(String(id)) });
    return <Table label={`Channels by ${group}`} found={found as Found<Page<ChannelGroupRow>>} columns={GROUPS} href={href} empty={empty} limit={LIMIT} />;
  }
  return <Table label="Channels" found={found as Found<Page<ChannelRow>>} columns={CHANNELS} href={({ id }) => link('channels', id)} sort={sort ?? '-subscribers'} empty={empty} limit={LIMIT} />;
}

function Help(): JSX.Element {
  return (
    <>
      <p><code>name:run:*</code> <code>kind:metrics</code> <code>subscribers&gt;=10</code> <code>rate&gt;5</code> <code>-namespace:run</code>; a bare word is looked for in the name.</p>
      <p>name, prefix, namespace, kind, subscribers, rate, bytes, head, present.</p>
    </>
  );
}

function Nothing({ filtered }: { readonly filtered: boolean }): JSX.Element {
  if (filtered) {
    return <EmptyState title="No channel matches the filter"><p><button type="button" class="button" onClick={() => choose({ filter: null, offset: null })}>Show all</button></p></EmptyState>;
  }
  return (
    <EmptyState title="No channel is in use">
      <p>A channel is there when somebody publishes to it or listens. The first event makes one, with a token that may publish in $TOKEN:</p>
      <Code label="publish an event" text={`curl -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"channel":"run:42","type":"note","data":{"text":"hello"}}' ${location.origin}/api/publish`} />
      <p>Or make one here: <a href={link('try')}>Try it</a>.</p>
    </EmptyState>
  );
}
