import type { ChannelEvent } from '@pulsewire/client';
import type { JSX } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { signal } from '@preact/signals';
import type { ChannelDetail, EventPage, MemberRow, PastEvent, Reader } from '../api.js';
import { useFollow } from '../follow.js';
import { bytes, count, NOTHING, rate, share, words } from '../format.js';
import { choose, link, route } from '../router.js';
import { useDocument } from '../store.js';
import { Bar } from '../ui/bar.js';
import { CopyButton, Trouble } from '../ui/empty.js';
import { EventList } from '../ui/events.js';
import { Facts } from '../ui/facts.js';
import { Icon } from '../ui/icons.js';
import { type Draft, PublishBox } from '../ui/publish.js';

/** Events of a page, and how many are kept while they are followed. */
const EVENTS = 50;
const FOLLOWED_MAX = 200;
/** How often the channel is asked for, in milliseconds. */
const EVERY_MS = 2_000;

/** One channel: what is in it, who listens and how far behind each is, who is there. */
export function Channel({ id }: { readonly id: string }): JSX.Element {
  const found = useDocument<ChannelDetail>(`/api/admin/channels/${encodeURIComponent(id)}`, {}, EVERY_MS);
  const channel = found.data.value;
  const unused = found.problem.value?.status === 404;
  return (
    <>
      <header class="page-head">
        <a class="page-back" href={link('channels')}><Icon name="left" /> Channels</a>
        <h1>{id}</h1>
        {channel && <span class="chip">{channel.kind}</span>}
        <CopyButton label="Copy a link to this" words="Copy link" text={() => location.href} />
      </header>
      {unused ? <p class="quiet spaced unused">Nobody uses this channel now, or not for long. What it keeps is below; it is counted again with the first who listens or publishes.</p> : <Trouble problem={found.problem.value} />}
      {channel && <Head channel={channel} />}
      <div class="halves">
        <section class="panel" aria-label="Events">{(channel || unused) && <Events name={id} channel={channel} />}</section>
        <div class="stack">
          {channel && <section class="panel" aria-label="Subscribers"><Readers channel={channel} /></section>}
          {channel && <Members members={channel.members} present={channel.present} />}
          <PublishPanel channel={id} kind={channel?.kind} />
        </div>
      </div>
    </>
  );
}

function Head({ channel }: { readonly channel: ChannelDetail }): JSX.Element {
  const { subscribers, publishedPerSecond, bytesPerSecond, published, publishedBytes, criticalShare, head, floor, epoch, present, series, namespace } = channel;
  return (
    <Facts facts={[
      ['Subscribers', count(subscribers)],
      ['Published', rate(publishedPerSecond)],
      ['Delivered', rate(publishedPerSecond === null ? null : publishedPerSecond * subscribers)],
      ['Bytes', bytesPerSecond === null ? NOTHING : `${bytes(bytesPerSecond)}/s`],
      ['In all', `${count(published)} · ${bytes(publishedBytes)}`],
      ['Critical', share(criticalShare)],
      ['Head', count(head)],
      ['Kept', head === null ? NOTHING : count(head - (floor ?? 0))],
      ['Epoch', epoch ?? NOTHING],
      ['Present', count(present)],
      ['Series', count(series)],
      ['Namespace', namespace ?? NOTHING],
    ]} />
  );
}

// ---- events

function Events({ name, channel }: { readonly name: string; readonly channel: ChannelDetail | null }): JSX.Element {
  if (channel?.kind === 'metrics') {
    return <><h2>Samples</h2><p class="panel-text">This channel carries numbers. <a href={link('series', null, { channel: name })}>Draw them <Icon name="right" /></a></p></>;
  }
  if (channel?.kind === 'ephemeral') return <Passing name={name} />;
  // Of a channel that nobody uses the log itself says where it ends.
  return channel && channel.head !== null ? <Kept name={name} head={channel.head} floor={channel.floor ?? 0} /> : <Unused name={name} />;
}

const pathOf = (name: string): string => `/api/channels/${encodeURIComponent(name)}/events`;

function Unused({ name }: { readonly name: string }): JSX.Element {
  const first = useDocument<EventPage>(pathOf(name), { limit: 1 });
  const held = first.data.value;
  return held ? <Kept name={name} head={held.head} floor={held.floor} /> : <><h2>Events</h2><Trouble problem={first.problem.value} /></>;
}

interface KeptProps {
  readonly name: string;
  readonly head: number;
  readonly floor: number;
}

/** What is read from the log, and on demand what comes. */
function Kept({ name, head, floor }: KeptProps): JSX.Element {
  const { from, follow } = route.value.params;
  // The newest page when it was opened: events that come later do not move it.
  const [newest, setNewest] = useState(head);
  const start = from === undefined ? Math.max(newest - EVENTS, floor) : Math.max(Number(from) - 1, 0);
  const page = useDocument<EventPage>(pathOf(name), { after: start, limit: EVENTS });
  const [passing, problem] = usePassing(follow ? name : null);
  const held = page.data.value;
  const events = useMemo(() => merge(held?.events ?? [], passing), [held, passing]);
  const fresh = head - newest;
  const toNewest = (): void => {
    setNewest(head);
    choose({ from: null });
    page.again();
  };
  return (
    <>
      <h2>Events</h2>
      <div class="tools panel-tools">
        <ReplayFrom from={from} floor={floor} head={head} />
        <button type="button" class="button" onClick={toNewest}>Newest{fresh > 0 && !follow && ` (${count(fresh)} more)`}</button>
        <Follow on={follow !== undefined} />
      </div>
      <Trouble problem={page.problem.value ?? problem} />
      {held?.gap && <p class="panel-text quiet">Sequences {held.gap.from} to {held.gap.to} are gone: {words(held.gap.reason)}.</p>}
      {events.length > 0 ? <EventList events={events} label={`Events of ${name}`} /> : held && <p class="panel-text quiet">Nothing is kept here.</p>}
      {held?.hasMore && from !== undefined && (
        <p class="panel-text"><button type="button" class="button" onClick={() => choose({ from: held.nextSequence + 1 })}>Next {EVENTS} <Icon name="right" /></button></p>
      )}
    </>
  );
}

/** Nothing is kept: one sees what comes while one listens. */
function Passing({ name }: { readonly name: string }): JSX.Element {
  const { follow } = route.value.params;
  const [passing, problem] = usePassing(follow ? name : null);
  return (
    <>
      <h2>Events</h2>
      <div class="tools panel-tools"><Follow on={follow !== undefined} /></div>
      <Trouble problem={problem} />
      {passing.length > 0 ? <EventList events={passing} label={`Events of ${name}`} /> : (
        <p class="panel-text quiet">{follow ? 'Nothing has come yet.' : 'This channel keeps nothing: follow it to see what comes. You count as a subscriber meanwhile.'}</p>
      )}
    </>
  );
}

function Follow({ on }: { readonly on: boolean }): JSX.Element {
  return (
    <button type="button" class="button" aria-pressed={on} onClick={() => choose({ follow: on ? null : 1 })} title="Subscribes as any client does, and counts as one">
      <Icon name={on ? 'pause' : 'play'} /> {on ? 'Following' : 'Follow'}
    </button>
  );
}

function ReplayFrom({ from, floor, head }: { readonly from: string | undefined; readonly floor: number; readonly head: number }): JSX.Element {
  const [text, setText] = useState(from ?? '');
  useEffect(() => setText(from ?? ''), [from]);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    choose({ from: text.trim() || null });
  };
  return (
    <form class="inline" onSubmit={submit}>
      <label class="choice"><span>From sequence</span>
        <input type="number" class="short-input" min={1} max={Math.max(head, 1)} value={text} placeholder={String(floor + 1)} onInput={(event) => setText(event.currentTarget.value)} />
      </label>
      <button type="submit" class="button">Replay</button>
    </form>
  );
}

/** What comes of a channel while it is followed, newest first. */
export function usePassing(name: string | null): [readonly PastEvent[], ReturnType<typeof useFollow>['problem']['value']] {
  const events = useMemo(() => signal<readonly PastEvent[]>([]), []);
  useEffect(() => void (events.value = []), [name]);
  const { problem } = useFollow(name, { event: (event) => void (events.value = [past(event), ...events.value].slice(0, FOLLOWED_MAX)) });
  return [events.value, problem.value];
}

/** An event of the client in the server's words. */
function past({ type, sequenceNumber, userId, isCritical, ...rest }: ChannelEvent): PastEvent {
  return { ...rest, event: type, sequence: sequenceNumber ?? 0, critical: isCritical, ...(userId !== undefined && { user: userId }) };
}

/** Newest first, each once. */
function merge(page: readonly PastEvent[], passing: readonly PastEvent[]): readonly PastEvent[] {
  const all = new Map([...page, ...passing].map((event) => [event.sequence, event]));
  return [...all.values()].sort((one, other) => other.sequence - one.sequence);
}

// ---- who listens, who is there

function Readers({ channel }: { readonly channel: ChannelDetail }): JSX.Element {
  const { readers = [], subscribers, head, floor } = channel;
  const kept = Math.max((head ?? 0) - (floor ?? 0), 1);
  return (
    <>
      <h2>Subscribers <span class="quiet">{count(subscribers)}{readers.length > 0 && readers.length < subscribers && `, the ${readers.length} furthest behind`}</span></h2>
      {readers.length === 0 ? <p class="panel-text quiet">Nobody listens on this node.</p> : (
        <ol class="lines scroll" tabIndex={0} aria-label="Subscribers, those furthest behind first">{readers.map((reader, index) => <ReaderLine key={reader.id ?? index} reader={reader} kept={kept} />)}</ol>
      )}
    </>
  );
}

function ReaderLine({ reader, kept }: { readonly reader: Reader; readonly kept: number }): JSX.Element {
  const { id, userId, behind, feeding, position, transport } = reader;
  return (
    <li>
      {id ? <a href={link('connections', id)}>{userId ?? id.slice(-8)}</a> : <span>{userId ?? NOTHING}</span>}
      <span class="quiet">{[feeding && words(feeding), transport !== 'websocket' && transport].filter(Boolean).join(' · ')}</span>
      {behind === null ? <span /> : <Bar value={behind} most={kept} state={behind === 0 ? 'target' : behind > kept / 2 ? 'critical' : 'warning'} label={`${count(behind)} of ${count(kept)} behind`} />}
      <span class="number" title={position === null ? undefined : `at ${position}`}>{behind === null ? NOTHING : behind === 0 ? 'up to date' : `${count(behind)} behind`}</span>
    </li>
  );
}

/** Users who are seen in a channel, with their cursors. */
export function Members({ members, present }: { readonly members: readonly MemberRow[] | undefined; readonly present: number | null }): JSX.Element {
  return (
    <section class="panel" aria-label="Presence">
      <h2>Present <span class="quiet">{count(present)}</span></h2>
      {!members || members.length === 0 ? <p class="panel-text quiet">{present === null ? 'This channel keeps no presence.' : 'Nobody is seen here.'}</p> : (
        <MemberLines members={members} />
      )}
    </section>
  );
}

/** Users, a line each. */
export function MemberLines({ members }: { readonly members: readonly MemberRow[] }): JSX.Element {
  return (
    <ol class="lines scroll" tabIndex={0} aria-label="Users who are present">
      {members.map(({ userId, cursor }) => (
        <li key={userId}>
          <a href={link('connections', null, { filter: `user:${userId}` })}>{userId}</a>
          <code class="cursor">{cursor === undefined || cursor === null ? '' : JSON.stringify(cursor)}</code>
        </li>
      ))}
    </ol>
  );
}

function PublishPanel({ channel, kind }: { readonly channel: string; readonly kind: string | undefined }): JSX.Element | null {
  const [draft, setDraft] = useState<Draft>({ type: 'note', data: '{"text":"hello"}' });
  if (kind === 'metrics') return null;
  return <section class="panel" aria-label="Publish"><h2>Publish an event</h2><PublishBox channel={channel} draft={draft} onDraft={setDraft} /></section>;
}
