import { signal } from '@preact/signals';
import type { JSX } from 'preact';
import type { ClosedRow, ConnectionRow, FailedRow, GroupRow, Row } from '../api.js';
import { CAUSES, stateOfConnection, stateOfScore } from '../causes.js';
import { exportRows } from '../export.js';
import { bytes, count, milliseconds, rate, share, shortId, words } from '../format.js';
import type { Page } from '../list.js';
import { type Query, termOf, withTerm } from '../query.js';
import { choose, link, route } from '../router.js';
import { mayAct } from '../session.js';
import { type Found, useList } from '../store.js';
import { Disconnect } from '../ui/disconnect.js';
import { CopyButton, EmptyState } from '../ui/empty.js';
import { Icon, StateMark } from '../ui/icons.js';
import { Strip, useScores } from '../ui/strip.js';
import { type Column, FilterBox, Table } from '../ui/table.js';
import { Time } from '../ui/time.js';

type Tab = 'active' | 'closed' | 'failed';

/** How many rows a page may have; the first is usual, the last is what the server gives at most. */
const LIMITS = ['50', '100', '200'];

/** Whom to disconnect, once that is confirmed. */
const asked = signal<{ readonly body: Readonly<Record<string, string>>; readonly who: string } | null>(null);

const ACTIVE: readonly Column<ConnectionRow>[] = [
  { id: 'id', title: 'Session', reads: ['id'], render: ({ id }) => <span class="id" title={id}>{shortId(id)}</span> },
  { id: 'user', title: 'User', reads: ['userId', 'cause'], sort: 'user', smallFirst: true, render: ({ userId, cause }) => <>{userId ?? '–'}{cause && cause !== 'healthy' && <small class="narrow why">{CAUSES[cause]?.title ?? words(cause)}</small>}</> },
  { id: 'run', title: 'Run', spare: 3, render: ({ runId, projectId }) => [projectId, runId].filter(Boolean).join(' / ') || '–' },
  { id: 'transport', title: 'Over', spare: 3, render: ({ transport }) => transport },
  { id: 'state', title: 'State', reads: ['state'], spare: 2, render: ({ state }) => <StateMark state={stateOfConnection(state)} text={state} /> },
  {
    id: 'score', title: 'Score', reads: ['id', 'score'], sort: 'score', smallFirst: true, help: '100 is fine; the strip is the last minute',
    render: ({ id, score }) => <span class="score"><b class={`is-${stateOfScore(score)}`}>{count(score)}</b><Strip id={id} /></span>,
  },
  {
    id: 'cause', title: 'Why', reads: ['cause', 'causeText'], spare: 1,
    render: ({ cause, causeText }) => (cause && cause !== 'healthy' ? <span class="why" title={causeText ?? undefined}>{CAUSES[cause]?.title ?? words(cause)}</span> : ''),
  },
  { id: 'latency', title: 'Latency', sort: 'latency', number: true, spare: 1, help: 'from publish to written, lately', render: ({ latencyMs }) => milliseconds(latencyMs) },
  { id: 'rtt', title: 'RTT', sort: 'rtt', number: true, spare: 1, render: ({ rttMs }) => milliseconds(rttMs) },
  { id: 'delivery', title: 'Delivered', sort: 'delivery', smallFirst: true, number: true, spare: 2, render: ({ deliveryRate }) => share(deliveryRate) },
  { id: 'queue', title: 'Queue', sort: 'queue', number: true, help: 'bytes that wait for it in the server', render: ({ queuedBytes }) => bytes(queuedBytes) },
  { id: 'reconnects', title: 'Reconn.', sort: 'reconnects', number: true, spare: 2, help: 'how often it came back', render: ({ reconnections }) => count(reconnections) },
  { id: 'missed', title: 'Missed', sort: 'missed', number: true, spare: 3, help: 'heartbeats without an answer', render: ({ heartbeatsMissed }) => count(heartbeatsMissed) },
  { id: 'subs', title: 'Subs', sort: 'subs', number: true, spare: 2, render: ({ subscriptions }) => count(subscriptions) },
  { id: 'out', title: 'Out', sort: 'sent', number: true, spare: 2, help: 'messages a second to it; sorts by how many in all', render: ({ outPerSecond }) => rate(outPerSecond) },
  { id: 'in', title: 'In', sort: 'received', number: true, spare: 3, help: 'messages a second from it; sorts by how many in all', render: ({ inPerSecond }) => rate(inPerSecond) },
  { id: 'age', title: 'Age', reads: ['connectedAt'], sort: 'age', number: true, spare: 1, render: ({ connectedAt }) => <Time at={connectedAt} as="age" /> },
  { id: 'version', title: 'Client', spare: 3, render: ({ clientVersion }) => clientVersion ?? '–' },
  { id: 'act', title: '', reads: ['sessionId', 'userId'], spare: 1, render: ({ sessionId, userId }) => <Cut session={sessionId} user={userId} /> },
];

export const CLOSED: readonly Column<ClosedRow>[] = [
  { id: 'id', title: 'Session', render: ({ sessionId }) => <span class="id" title={sessionId}>{shortId(sessionId)}</span> },
  { id: 'user', title: 'User', render: ({ userId }) => userId ?? '–' },
  { id: 'when', title: 'Closed', render: ({ disconnectedAt }) => <Time at={disconnectedAt} /> },
  { id: 'lasted', title: 'Lasted', sort: 'lasted', number: true, render: ({ durationMs }) => milliseconds(durationMs) },
  { id: 'code', title: 'Code', number: true, render: ({ code }) => code ?? '–' },
  { id: 'reason', title: 'Reason', render: ({ reason }) => words(reason ?? '–') },
  { id: 'by', title: 'By', spare: 1, render: ({ initiator }) => initiator ?? '–' },
  { id: 'sent', title: 'Sent', number: true, spare: 2, render: ({ messagesSent, bytesSent }) => `${count(messagesSent)} · ${bytes(bytesSent)}` },
  { id: 'received', title: 'Received', number: true, spare: 2, render: ({ messagesReceived, bytesReceived }) => `${count(messagesReceived)} · ${bytes(bytesReceived)}` },
  { id: 'failures', title: 'Failures', number: true, spare: 3, render: ({ messageFailures }) => count(messageFailures) },
  { id: 'reconnects', title: 'Reconn.', number: true, spare: 3, render: ({ reconnectionCount }) => count(reconnectionCount) },
  { id: 'address', title: 'Address', spare: 3, render: ({ remoteAddress }) => remoteAddress ?? '–' },
];

const FAILED: readonly Column<FailedRow>[] = [
  { id: 'when', title: 'When', render: ({ at }) => <Time at={at} /> },
  { id: 'stage', title: 'Stage', spare: 1, render: ({ stage }) => words(stage) },
  { id: 'reason', title: 'Reason', render: ({ reason }) => words(reason) },
  { id: 'status', title: 'Status', number: true, render: ({ status }) => status ?? '–' },
  { id: 'detail', title: 'Detail', spare: 1, render: ({ detail }) => <span class="cut" title={detail ?? undefined}>{detail ?? '–'}</span> },
  { id: 'address', title: 'Address', render: ({ remoteAddress }) => remoteAddress ?? '–' },
  { id: 'origin', title: 'Origin', spare: 2, render: ({ origin }) => origin ?? '–' },
  { id: 'path', title: 'Path', spare: 3, render: ({ path }) => path ?? '–' },
  { id: 'agent', title: 'Agent', spare: 3, render: ({ userAgent }) => <span class="cut" title={userAgent ?? undefined}>{userAgent ?? '–'}</span> },
];

const GROUPS: readonly Column<GroupRow>[] = [
  { id: 'id', title: 'Group', render: ({ id }) => CAUSES[id]?.title ?? (id === '' ? '(none)' : words(id)) },
  { id: 'connections', title: 'Connections', number: true, render: ({ connections }) => count(connections) },
  { id: 'score', title: 'Worst score', number: true, render: ({ worstScore }) => (worstScore === null ? '–' : <b class={`is-${stateOfScore(worstScore)}`}>{count(worstScore)}</b>) },
  { id: 'queue', title: 'Queued', number: true, render: ({ queuedBytes }) => bytes(queuedBytes) },
  { id: 'latency', title: 'Largest latency', number: true, spare: 1, render: ({ latencyMaxMs }) => milliseconds(latencyMaxMs) },
  { id: 'rtt', title: 'Largest RTT', number: true, spare: 1, render: ({ rttMs }) => milliseconds(rttMs) },
  { id: 'reconnects', title: 'Reconnects', number: true, spare: 2, render: ({ reconnections }) => count(reconnections) },
  { id: 'failures', title: 'Failures', number: true, spare: 2, render: ({ messageFailures }) => count(messageFailures) },
];

const TABS: readonly (readonly [Tab, string])[] = [['active', 'Active'], ['closed', 'Closed'], ['failed', 'Failed handshakes']];
const GROUP_BY: Readonly<Record<Tab, readonly string[]>> = {
  active: ['user', 'run', 'project', 'transport', 'version', 'address', 'cause', 'node', 'state'],
  closed: ['user', 'run', 'version', 'address', 'code', 'reason'],
  failed: ['reason', 'address'],
};
const WINDOWS = ['5m', '15m', '1h', '6h', '24h'];

function tabOf(name: string | undefined): Tab {
  return name === 'closed' || name === 'failed' ? name : 'active';
}

function limitOf({ limit }: Readonly<Record<string, string>>): number {
  return Number(limit !== undefined && LIMITS.includes(limit) ? limit : LIMITS[0]);
}

/** What is asked of the server, as the address has it. */
function queryOf(params: Readonly<Record<string, string>>): Query {
  const tab = tabOf(params['tab']);
  const { filter, sort, group, offset } = params;
  return {
    tab: tab === 'active' ? null : tab, filter, sort, group, offset, limit: limitOf(params), window: tab === 'active' ? null : params['window'],
  };
}

/** Everybody who is here, was here, or did not get in; worst first. */
export function Connections(): JSX.Element {
  const { params } = route.value;
  const tab = tabOf(params['tab']);
  const { filter = '', group, sort } = params;
  const query = queryOf(params);
  const found = useList<Row>('connections', query, `${tab} ${group ?? ''}`);
  const page = found.data.value;
  useScores(() => (tab === 'active' && !group ? (found.data.peek()?.rows as readonly ConnectionRow[] | undefined) ?? [] : []));
  return (
    <>
      <h1 class="hidden">Connections</h1>
      <Tabs tab={tab} counts={page?.['tabs']} />
      <div class="tools">
        <FilterBox example={tab === 'active' ? 'user:alice rtt>200 cause:client_not_reading' : 'code:4004 lasted<30s'} help={<FilterHelp tab={tab} />} problem={found.problem.value?.message ?? null} />
        <Choice label="Group by" name="group" options={GROUP_BY[tab]} value={group} none="nothing" />
        {tab !== 'active' && <Choice label="Of the last" name="window" options={WINDOWS} value={params['window']} />}
        <Choice label="Rows" name="limit" options={LIMITS.slice(1)} value={params['limit']} none={LIMITS[0]} />
        <CopyButton label="Copy a link to this" words="Copy link" text={() => location.href} />
        <Export query={query} tab={tab} />
        <CutUser filter={filter} tab={tab} matched={page?.matched ?? 0} />
      </div>
      <List key={`${tab}${group ? '/group' : ''}`} tab={tab} group={group} filter={filter} found={found} sort={sort} />
      {asked.value && <CutDialog />}
    </>
  );
}

interface ListProps {
  readonly tab: Tab;
  readonly group: string | undefined;
  readonly filter: string;
  readonly found: Found<Page>;
  readonly sort: string | undefined;
}

function List({ tab, group, filter, found, sort }: ListProps): JSX.Element {
  const limit = limitOf(route.value.params);
  const empty = <Nobody tab={tab} filtered={filter !== ''} />;
  if (group) {
    const href = ({ id }: GroupRow): string => {
      const { params } = route.value;
      return link('connections', null, { ...params, group: null, offset: null, sort: null, filter: withTerm(filter, group, String(id)) });
    };
    return <Table label={`Connections by ${group}`} found={found as Found<Page<GroupRow>>} columns={GROUPS} href={href} empty={empty} limit={limit} />;
  }
  switch (tab) {
    case 'active':
      return <Table label="Active connections" found={found as Found<Page<ConnectionRow>>} columns={ACTIVE} href={({ id }) => link('connections', id)} sort={sort ?? 'score'} empty={empty} limit={limit} />;
    case 'closed':
      return <Table label="Closed connections" found={found as Found<Page<ClosedRow>>} columns={CLOSED} href={({ sessionId }) => link('connections', sessionId)} sort={sort ?? ''} empty={empty} limit={limit} />;
    case 'failed':
      return <Table label="Failed handshakes" found={found as Found<Page<FailedRow>>} columns={FAILED} empty={empty} limit={limit} />;
  }
}

function Tabs({ tab, counts }: { readonly tab: Tab; readonly counts: unknown }): JSX.Element {
  const numbers = (counts ?? {}) as Partial<Record<Tab, number>>;
  const { filter } = route.value.params;
  return (
    <nav class="tabs" aria-label="Which connections">
      {TABS.map(([name, title]) => (
        <a key={name} href={link('connections', null, { tab: name === 'active' ? null : name, filter: tab === name ? filter : null })} aria-current={tab === name ? 'true' : undefined}>
          {title} {numbers[name] !== undefined && <span class="tab-count">{count(numbers[name])}</span>}
        </a>
      ))}
    </nav>
  );
}

interface ChoiceProps {
  readonly label: string;
  readonly name: string;
  readonly options: readonly string[];
  readonly value: string | undefined;
  /** What it is called when nothing is chosen. */
  readonly none?: string | undefined;
}

function Choice({ label, name, options, value = '', none = 'all' }: ChoiceProps): JSX.Element {
  return (
    <label class="choice"><span>{label}</span>
      <select value={value} onChange={(event) => choose({ [name]: event.currentTarget.value, offset: null, ...(name === 'group' && { sort: null }) })}>
        <option value="">{none}</option>
        {options.map((option) => <option key={option} value={option}>{option}</option>)}
      </select>
    </label>
  );
}

function FilterHelp({ tab }: { readonly tab: Tab }): JSX.Element {
  return (
    <>
      <p><code>user:alice</code> <code>user:al*</code> <code>rtt&gt;200</code> <code>queue&gt;=64k</code> <code>age&lt;5m</code> <code>-transport:polling</code>; a bare word is looked for in user, id, address and agent.</p>
      <p>user, id, run, project, channel, transport, state, cause, encoding, address, agent, version, node, rtt, latency, queue, delivery, score, reconnects, missed, subs, age, failures{tab === 'closed' && ', code, reason, initiator, lasted'}.</p>
    </>
  );
}

function Nobody({ tab, filtered }: { readonly tab: Tab; readonly filtered: boolean }): JSX.Element {
  if (filtered) {
    return <EmptyState title="No connection matches the filter"><p><button type="button" class="button" onClick={() => choose({ filter: null, offset: null })}>Show all</button></p></EmptyState>;
  }
  switch (tab) {
    case 'active': return <EmptyState title="Nobody is connected"><p>The first connection shows up here by itself. Those that are gone stand under <a href={link('connections', null, { tab: 'closed' })}>Closed</a>.</p></EmptyState>;
    case 'closed': return <EmptyState title="No connection has been closed"><p>The last 10,000 are kept here, each with its code and reason.</p></EmptyState>;
    case 'failed': return <EmptyState title="No handshake has failed"><p>The last 1,000 are kept here: bad tokens, foreign origins, full servers, and what was no WebSocket.</p></EmptyState>;
  }
}

function Export({ query, tab }: { readonly query: Query; readonly tab: Tab }): JSX.Element {
  const save = (format: 'csv' | 'json') => (): void => void exportRows(query, `connections-${tab}`, format);
  return (
    <span class="buttons" title="What the filter matches, the first 1,200">
      <button type="button" class="button" onClick={save('csv')}><Icon name="download" /> CSV</button>
      <button type="button" class="button" onClick={save('json')}><Icon name="download" /> JSON</button>
    </span>
  );
}

/** Offered for one user at a time: the one the filter names. */
function CutUser({ filter, tab, matched }: { readonly filter: string; readonly tab: Tab; readonly matched: number }): JSX.Element | null {
  const user = termOf(filter, 'user');
  if (!mayAct.value || tab !== 'active' || !user || user.includes('*') || matched === 0) return null;
  return (
    <button type="button" class="button danger" onClick={() => (asked.value = { body: { user }, who: `all connections of ${user}` })}>Disconnect all of {user}</button>
  );
}

function Cut({ session, user }: { readonly session: string | null; readonly user: string | null }): JSX.Element | null {
  if (!mayAct.value || session === null) return null;
  return (
    <button
      type="button" class="icon-button row-action" aria-label={`Disconnect ${shortId(session)} of ${user ?? 'nobody'}`} title="Disconnect"
      onClick={() => (asked.value = { body: { session }, who: `${shortId(session)}${user ? ` of ${user}` : ''}` })}
    ><Icon name="close" /></button>
  );
}

function CutDialog(): JSX.Element | null {
  const order = asked.value;
  return order && <Disconnect {...order} onClose={() => (asked.value = null)} />;
}

