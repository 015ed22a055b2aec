import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { bytes, count, duration, milliseconds, NOTHING, plural, rate, share, words } from '../format.js';
import { choose, link, route } from '../router.js';
import { mayAct } from '../session.js';
import { type Found, useList } from '../store.js';
import { type Canary, type Compared, type Declared, fullness, standingOf, type StreamRow, type UpstreamPage, verdictOf } from '../upstreams.js';
import { Bar } from '../ui/bar.js';
import { Confirm } from '../ui/dialog.js';
import { Code, CopyButton, EmptyState, Trouble } from '../ui/empty.js';
import { Facts } from '../ui/facts.js';
import { Icon, StateMark } from '../ui/icons.js';
import { type Column, FilterBox, Grid, Table } from '../ui/table.js';
import { Time } from '../ui/time.js';
import { WhyNot } from '../ui/whynot.js';

const LIMIT = 50;

/** Numbers of a stream that stand as they are. */
type Counted = 'listeners' | 'published' | 'duplicates' | 'unmapped' | 'dropped' | 'missing' | 'attempts' | 'retries' | 'errors' | 'failovers';
const COUNTED: readonly Counted[] = ['listeners', 'published', 'duplicates', 'unmapped', 'dropped', 'missing', 'attempts', 'retries', 'errors', 'failovers'];
const title = (name: string): string => name.charAt(0).toUpperCase() + name.slice(1);

/** A column of a number that only grows, or is one of listeners. */
const counted = (id: Counted, spare?: 1 | 2, help?: string): Column<StreamRow> => ({ id, title: title(id), sort: id, number: true, ...(spare && { spare }), ...(help && { help }), render: (row) => count(row[id]) });

const STREAMS: readonly Column<StreamRow>[] = [
  { id: 'upstream', title: 'Upstream', sort: 'upstream', smallFirst: true, render: ({ upstream }) => upstream },
  { id: 'key', title: 'Key', sort: 'key', smallFirst: true, render: ({ key, keysTotal }) => key || (keysTotal > 0 ? plural(keysTotal, 'key') : NOTHING) },
  { id: 'state', title: 'State', sort: 'trouble', reads: ['state'], render: ({ state }) => <Standing state={state} /> },
  { id: 'track', title: 'Track', spare: 2, render: ({ track }) => track },
  counted('listeners'),
  { id: 'rate', title: 'Messages', sort: 'rate', number: true, render: ({ messagesPerSecond }) => rate(messagesPerSecond) },
  counted('retries', 1),
  counted('errors'),
  counted('dropped', 2, 'there were too many of them'),
  counted('missing', 2, 'numbers that never came'),
  { id: 'idle', title: 'Idle', sort: 'idle', number: true, spare: 2, help: 'how long nobody has listened', render: ({ idleMs }) => milliseconds(idleMs) },
  { id: 'error', title: 'Last error', spare: 1, reads: ['lastError'], render: ({ lastError }) => <span class="cut" title={lastError?.text}>{lastError?.text ?? NOTHING}</span> },
];

function Standing({ state }: { readonly state: string }): JSX.Element {
  const [shape, text] = standingOf(state);
  return <StateMark state={shape} text={text} />;
}

/** Streams that this server holds open to others, what is wrong first. */
export function Upstreams(): JSX.Element {
  const { filter = '', sort, offset } = route.value.params;
  const found = useList<StreamRow>('upstreams', { filter, sort, offset, limit: LIMIT }) as Found<UpstreamPage>;
  const page = found.data.value;
  if (page && page.declaredTotal + page.total === 0) return <None />;
  const alone = page?.declared.filter(({ streams }) => streams === 0) ?? [];
  return (
    <>
      <h1 class="hidden">Upstreams</h1>
      {page && <Head page={page} />}
      {page && <Candidate canary={page.canary} />}
      <div class="tools">
        <FilterBox example="upstream:quotes state:waiting errors>10" help={<Help />} problem={found.problem.value?.message ?? null} />
        {mayAct.value && <Act label="Clean up idle streams" path="upstreams/cleanup?idle_ms=0">Every stream that nobody listens to is closed; who listens next opens it again.</Act>}
        <CopyButton label="Copy a link to this" words="Copy link" text={() => location.href} />
      </div>
      <Table
        label="Streams" found={found} columns={STREAMS} sort={sort ?? '-trouble'} limit={LIMIT}
        href={({ upstream, key }) => link('upstreams', upstream, { filter: key && `key:${key}` })}
        empty={<EmptyState title={filter ? 'No stream matches the filter' : 'No stream is open'}><p>{filter ? <button type="button" class="button" onClick={() => choose({ filter: null, offset: null })}>Show all</button> : 'A stream opens when somebody subscribes to a channel that an upstream feeds.'}</p></EmptyState>}
      />
      {alone.length > 0 && (
        <section class="panel spaced">
          <h2>Declared, without a stream</h2>
          <ul class="lines scroll" tabIndex={0} aria-label="Declared, without a stream">{alone.map(({ name, channel }) => <li key={name}><a href={link('upstreams', name)}>{name}</a><span class="cursor">{channel}</span></li>)}</ul>
        </section>
      )}
    </>
  );
}

function Head({ page: { totals } }: { readonly page: UpstreamPage }): JSX.Element {
  const { active, limit, highWater, highWaterToday, retriesPerSecond, uncleaned } = totals;
  return (
    <Facts facts={[
      ['Active', <StateMark key="active" state={fullness(active, limit)} text={`${count(active)} of ${count(limit)}`} />],
      ['Most since the start', count(highWater)],
      ['Most today', count(highWaterToday)],
      ['Retries', rate(retriesPerSecond)],
      ['Uncleaned', count(uncleaned)],
    ]} />
  );
}

/** The candidate beside stable. */
function Candidate({ canary }: { readonly canary: Canary }): JSX.Element | null {
  const { verdict, worseSince, rolledBackAt, rolledBackWhy, comparison, tracks, ratio, windowMs } = canary;
  if (verdict === 'off') return null;
  const [state, text] = verdictOf(verdict);
  return (
    <section class="panel spaced" aria-label="Canary">
      <h2>Canary <StateMark state={state} text={text} /></h2>
      <dl class="meters">
        {comparison && <Rate name="Retries of a stream" of={comparison.retryRate} limit={ratio} text={(value) => `${count(value * 60)}/min`} />}
        {comparison && <Rate name="Errors of an attempt" of={comparison.errorRate} limit={ratio} text={share} />}
        <div><dt>Streams</dt><dd>{count(tracks.canary.streams)} beside {count(tracks.stable.streams)}, of the last {duration(windowMs / 1000)}</dd></div>
        {worseSince && <div><dt>Worse since</dt><dd><Time at={worseSince} /></dd></div>}
        {rolledBackAt && <div><dt>Taken back</dt><dd><Time at={rolledBackAt} /> {rolledBackWhy}</dd></div>}
      </dl>
      {verdict !== 'rolled_back' && (mayAct.value ? <p class="panel-text"><Act label="Roll back" path="canary/rollback">Streams on the candidate settings go on with those that all others have.</Act></p> : <WhyNot what="Rolling back" />)}
    </section>
  );
}

/** A rate of the candidate; the line stands where it is worse, in the middle. */
function Rate({ name, of, limit, text }: { readonly name: string; readonly of: Compared; readonly limit: number; text(value: number): string }): JSX.Element {
  const state = of.worse ? 'critical' : 'target';
  const told = `${count(of.ratio)}× stable's`;
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <StateMark state={state} text={told} /> <span class="quiet">{text(of.canary)} beside {text(of.stable)}, worse above {limit}×</span>
        <Bar value={of.ratio} most={2 * limit} state={state} line={limit} label={`${name}: ${told}`} />
      </dd>
    </div>
  );
}

/** Something an operator may do, behind a question. */
function Act({ label, path, children }: { readonly label: string; readonly path: string; readonly children: string }): JSX.Element {
  const [asked, setAsked] = useState(false);
  return (
    <>
      <button type="button" class="button" onClick={() => setAsked(true)}>{label} …</button>
      {asked && <Confirm title={`${label}?`} word={label} path={`/api/admin/${path}`} body={{}} onClose={() => setAsked(false)}><p>{children}</p><p>This is written to the audit log.</p></Confirm>}
    </>
  );
}

function Help(): JSX.Element {
  return (
    <>
      <p><code>upstream:quotes*</code> <code>-state:live</code> <code>idle&gt;1m</code>; a bare word is looked for in upstream and key.</p>
      <p>upstream, key, track, state, trouble, listeners, rate, retries, errors, dropped, missing, duplicates, failovers, idle, silent.</p>
    </>
  );
}

function None(): JSX.Element {
  return (
    <EmptyState title="No upstream is declared">
      <p>An upstream is a WebSocket to another service that the server holds open for all who listen: its messages become events of a channel. Declare one in the settings:</p>
      <Code label="an upstream" text={'[[upstream]]\nname = "quotes"\nurls = ["wss://feed.example.com/stream"]\nchannel = "upstream:quotes"'} />
    </EmptyState>
  );
}

/** One upstream: what was declared, and its streams. */
export function Upstream({ id }: { readonly id: string }): JSX.Element {
  const { filter, offset } = route.value.params;
  const found = useList<StreamRow>('upstreams', { upstream: id, filter, offset, limit: LIMIT }) as Found<UpstreamPage>;
  const page = found.data.value;
  const declared = page?.declared[0];
  return (
    <>
      <header class="page-head">
        <a class="page-back" href={link('upstreams')}><Icon name="left" /> Upstreams</a><h1>{id}</h1>
        {declared && (mayAct.value ? <Act label="Restart" path={`upstreams/${encodeURIComponent(id)}/restart`}>Its streams are opened anew at once, whatever they have been through.</Act> : <WhyNot what="Restarting" />)}
      </header>
      <Trouble problem={found.problem.value} />
      {declared && <Declaration of={declared} />}
      {filter && <p class="spaced"><code>{filter}</code> <a href={link('upstreams', id)}>All streams</a></p>}
      {page?.rows.map((stream) => <Stream key={stream.id} of={stream} />)}
      {page && page.total === 0 && <EmptyState title={declared ? 'No stream is open' : 'There is no such upstream'}><p><a href={link('upstreams')}>All upstreams</a></p></EmptyState>}
      {page && page.matched > page.rows.length && <p class="quiet">{count(page.rows.length)} of {count(page.matched)}; a filter finds the others.</p>}
    </>
  );
}

function Declaration({ of: { urls, channel, apart, always, declaredBy, candidate, circuitOpened, circuitOpenMs } }: { readonly of: Declared }): JSX.Element {
  return (
    <Facts facts={[
      ['Channel', channel],
      ['URLs', urls.join(' ')],
      ['A stream', apart ? 'for each key' : 'for all keys'],
      ['Open', always ? 'always' : 'on demand'],
      ['Candidate settings', candidate ? 'its own' : 'none'],
      ['Declared by', declaredBy],
      ['Circuit opened', count(circuitOpened)],
      ...(circuitOpenMs === null ? [] : [['Circuit closes in', milliseconds(circuitOpenMs)] as const]),
    ]} />
  );
}

const LINKS: readonly Column<StreamRow['links'][number] & { readonly id: number }>[] = [
  { id: 'url', title: 'Link', render: ({ url }) => url },
  { id: 'state', title: 'State', reads: ['state'], render: ({ state }) => <Standing state={state} /> },
  { id: 'attempts', title: 'Attempts', number: true, render: ({ attempts }) => count(attempts) },
  { id: 'failures', title: 'Failures', number: true, help: 'in a row', render: ({ failures }) => count(failures) },
  { id: 'retry', title: 'Tries again in', number: true, render: ({ retryInMs }) => milliseconds(retryInMs) },
];

function Stream({ of }: { readonly of: StreamRow }): JSX.Element {
  const { id, key, keys, keysTotal, track, state, lastError, links } = of;
  return (
    <section class="panel spaced" aria-label={`Stream ${id}`}>
      <h2>{key || `Stream ${id}`} <Standing state={state} /> <span class="chip">{track}</span></h2>
      <div class="panel-text">
        <Facts facts={[
          ['Since', <Time key="since" at={of.since} />],
          ['Opened', <Time key="opened" at={of.openedAt} />],
          ['Idle', milliseconds(of.idleMs)],
          ['Messages', `${count(of.messages)} · ${bytes(of.bytes)} · ${rate(of.messagesPerSecond)}`],
          ['Last message', of.lastMessageAgoMs === null ? NOTHING : `${milliseconds(of.lastMessageAgoMs)} ago`],
          ...COUNTED.map((name) => [title(name), count(of[name])] as const),
        ]} />
        <Grid label={`Links of stream ${id}`} columns={LINKS} rows={links.map((one, index) => ({ ...one, id: index }))} />
        {lastError && <p class="spaced"><b>{words(lastError.kind)}</b> {lastError.text} <span class="quiet"><Time at={lastError.at} /></span></p>}
        {keys.length > 0 && !key && <p>{keys.map((name) => <span key={name} class="chip">{name}</span>)}{keysTotal > keys.length && ` and ${count(keysTotal - keys.length)} more`}</p>}
      </div>
    </section>
  );
}
