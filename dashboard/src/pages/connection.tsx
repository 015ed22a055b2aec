import type { ComponentChildren, JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';
import type { ConnectionDetail, State, SubscriptionRow } from '../api.js';
import { CAUSES, stateOfConnection, stateOfScore } from '../causes.js';
import { bytes, count, milliseconds, plural, rate, share, shortId, words } from '../format.js';
import { link } from '../router.js';
import { mayAct } from '../session.js';
import { useConnection } from '../store.js';
import { useTrack } from '../track.js';
import { Chart, type Line } from '../ui/chart.js';
import { Disconnect } from '../ui/disconnect.js';
import { CopyButton, EmptyState, Trouble } from '../ui/empty.js';
import { Icon, Shape, StateMark } from '../ui/icons.js';
import { Split } from '../ui/split.js';
import { Strip, useScores } from '../ui/strip.js';
import { type Column, Grid } from '../ui/table.js';
import { Tap } from '../ui/tap.js';
import { Time } from '../ui/time.js';
import { Timeline } from '../ui/timeline.js';
import { CLOSED } from './connections.js';

const TRACKED = ['rttMs', 'tcpRttMs', 'latencyMs', 'queuedBytes', 'kernelUnsentBytes', 'outPerSecond', 'inPerSecond'] as const;

const LATENCY: readonly Line[] = [
  { figure: 'latencyMs', label: 'delivery', colour: 'c2' },
  { figure: 'rttMs', label: 'round trip', colour: 'c1' },
  { figure: 'tcpRttMs', label: 'of TCP', colour: 'c6' },
];
const QUEUE: readonly Line[] = [
  { figure: 'queuedBytes', label: 'in the server', colour: 'c2', area: true },
  { figure: 'kernelUnsentBytes', label: 'in the kernel', colour: 'c1' },
];
const RATES: readonly Line[] = [
  { figure: 'outPerSecond', label: 'to it', colour: 'c1' },
  { figure: 'inPerSecond', label: 'from it', colour: 'c3' },
];

/** Ways of being fed that are as they should be; all others are not. */
const FEEDING: Readonly<Record<string, State>> = { live: 'target', reading: 'ok', ahead: 'ok' };

const SUBSCRIPTIONS: readonly Column<SubscriptionRow>[] = [
  { id: 'channel', title: 'Channel', render: ({ channel }) => channel },
  { id: 'kind', title: 'Kind', spare: 1, render: ({ kind }) => kind },
  { id: 'feeding', title: 'Reads', render: ({ feeding }) => <StateMark state={FEEDING[feeding] ?? 'warning'} text={words(feeding)} /> },
  { id: 'behind', title: 'Behind by', number: true, render: ({ behind }) => (behind ? <b class="is-warning">{count(behind)}</b> : count(behind)) },
  { id: 'position', title: 'Position', number: true, spare: 1, render: ({ position }) => count(position) },
  { id: 'head', title: 'Head', number: true, spare: 1, render: ({ head }) => count(head) },
  { id: 'interval', title: 'Interval', spare: 2, render: ({ interval }) => interval ?? '–' },
  { id: 'filter', title: 'Filter', spare: 2, render: ({ filter }) => (filter ? <code>{typeof filter === 'string' ? filter : JSON.stringify(filter)}</code> : '–') },
];

/** One connection: what is wrong with it in a sentence, then everything that is known. */
export function Connection({ id }: { readonly id: string }): JSX.Element {
  const found = useConnection(id);
  const row = found.data.value?.rows[0] ?? null;
  const newest = useRef(row);
  newest.current = row;
  const track = useTrack(TRACKED, () => Object.fromEntries(TRACKED.map((name) => [name, newest.current?.[name] ?? null])));
  useScores(() => (newest.current && newest.current.score !== undefined ? [{ id, score: newest.current.score }] : []));
  if (!row) return found.problem.value ? <Missing id={id} status={found.problem.value.status}><Trouble problem={found.problem.value} /></Missing> : <p class="quiet">…</p>;
  const over = row.state === 'closed' || row.gone === true;
  return (
    <>
      <Head row={row} over={over} />
      <Trouble problem={found.problem.value} />
      {!over && <Why row={row} />}
      <div class="columns">
        <div class="column">
          {!over && row.latencySplit && <section class="card"><h2>Where the time goes</h2><Split split={row.latencySplit} /></section>}
          <section class="card"><h2>What happened</h2><Timeline entries={row.timeline ?? []} /></section>
        </div>
        <div class="column">
          {!over && (
            <>
              <Chart title="Latency" history={track} lines={LATENCY} unit="ms" height={140} />
              <Chart title="Waits for it" history={track} lines={QUEUE} unit="bytes" height={140} />
              <Chart title="Messages per second" history={track} lines={RATES} unit="count" height={140} />
            </>
          )}
        </div>
      </div>
      <Facts row={row} />
      {!over && <Subscriptions rows={row.subscriptionList ?? []} />}
      {!over && <Tap session={row.sessionId ?? id} />}
      {(row.closedConnections?.length ?? 0) > 0 && (
        <section class="card"><h2>Connections of this session that were closed</h2><Grid label="Closed connections" columns={CLOSED} rows={row.closedConnections ?? []} /></section>
      )}
    </>
  );
}

function Missing({ id, status, children }: { readonly id: string; readonly status: number; readonly children: ComponentChildren }): JSX.Element {
  if (status !== 404) return <>{children}</>;
  return (
    <EmptyState title="This connection is not known">
      <p><code>{id}</code> is not connected, and is not among the last 10,000 that were.</p>
      <p><a href={link('connections')}>All connections</a> · <a href={link('connections', null, { tab: 'closed' })}>Closed ones</a></p>
    </EmptyState>
  );
}

function Head({ row, over }: { readonly row: ConnectionDetail; readonly over: boolean }): JSX.Element {
  const [asking, setAsking] = useState(false);
  const session = row.sessionId ?? row.id;
  return (
    <header class="head">
      <a class="back" href={link('connections')} title="All connections (Esc)"><Icon name="left" /> <span class="hidden">All connections</span></a>
      <h1>{row.userId ?? 'nobody'} <span class="id">{session}</span></h1>
      <CopyButton label="Copy the session's id" text={session} />
      <StateMark state={over ? 'none' : stateOfConnection(row.state)} text={over ? 'closed' : row.state} />
      <span class="bar-space" />
      <CopyButton label="Copy a link to this" words="Copy link" text={() => location.href} />
      {row.userId && <a class="button" href={link('connections', null, { filter: `user:${row.userId}` })}>All of {row.userId}</a>}
      {mayAct.value && !over && <button type="button" class="button danger" onClick={() => setAsking(true)}>Disconnect</button>}
      {asking && <Disconnect body={{ session }} who={`${shortId(session)}${row.userId ? ` of ${row.userId}` : ''}`} onClose={() => setAsking(false)} />}
    </header>
  );
}

/** The first thing to read: why it is slow, in the server's words. */
function Why({ row }: { readonly row: ConnectionDetail }): JSX.Element {
  const state = stateOfScore(row.score);
  const healthy = !row.cause || row.cause === 'healthy';
  return (
    <section class={`why-card is-${healthy ? 'target' : state}`} aria-label="Diagnosis">
      <span class="why-score"><b>{count(row.score)}</b><small>of 100</small></span>
      <span class="why-words">
        <b><Shape state={healthy ? 'target' : state} /> {healthy ? 'Nothing stands out' : CAUSES[row.cause ?? '']?.title ?? words(row.cause ?? '')}</b>
        <span>{(!healthy && row.causeText) || 'It reads what it is sent, answers in time, and its network is quick.'}</span>
      </span>
      <Strip id={row.id} />
    </section>
  );
}

function Facts({ row }: { readonly row: ConnectionDetail }): JSX.Element {
  const { network, clientReport: report } = row;
  return (
    <section class="card"><h2>What is known</h2>
      <dl class="facts">
        <Fact name="User">{row.userId}{row.role && <> · {row.role}</>}</Fact>
        <Fact name="Run, project">{[row.runId, row.projectId].filter(Boolean).join(' · ')}</Fact>
        <Fact name="Connected">{row.connectedAt && <><Time at={row.connectedAt} as="age" /> · since <Time at={row.connectedAt} as="full" /></>}</Fact>
        <Fact name="Last heard of">{row.lastActivityAt && <Time at={row.lastActivityAt} />}</Fact>
        <Fact name="Token expires">{row.tokenExpiresAt && <Time at={row.tokenExpiresAt} as="full" />}</Fact>
        <Fact name="Address">{row.remoteAddress}</Fact>
        <Fact name="Client">{row.clientVersion}</Fact>
        <Fact name="Agent">{row.userAgent}</Fact>
        <Fact name="Over">{[row.transport, row.encoding, row.compression && 'compressed', row.resumable && 'resumable'].filter(Boolean).join(' · ')}</Fact>
        <Fact name="Node">{row.node}</Fact>
        <Fact name="Sent">{row.messagesSent !== undefined && <>{count(row.messagesSent)} · {bytes(row.bytesSent)} · {rate(row.outPerSecond)}</>}</Fact>
        <Fact name="Received">{row.messagesReceived !== undefined && <>{count(row.messagesReceived)} · {bytes(row.bytesReceived)} · {rate(row.inPerSecond)}</>}</Fact>
        <Fact name="Delivered">{row.deliveryRate !== undefined && <>{share(row.deliveryRate)} · {count(row.messageFailures)} failed</>}</Fact>
        <Fact name="Came back">{row.reconnections !== undefined && <>{times(row.reconnections)} · {plural(row.heartbeatsMissed ?? 0, 'heartbeat')} missed</>}</Fact>
        <Fact name="Latency, worst">{row.latencyMaxMs !== undefined && milliseconds(row.latencyMaxMs)}</Fact>
        {network && (
          <>
            <Fact name="Network">{milliseconds(network['rttMs'])} ± {milliseconds(network['rttVariationMs'])} · {count(network['retransmits'])} sent again · {count(network['lost'])} lost</Fact>
            <Fact name="It takes">{network['deliveryBytesPerSecond'] === null || network['deliveryBytesPerSecond'] === undefined ? null : `${bytes(network['deliveryBytesPerSecond'])}/s`}</Fact>
            <Fact name="Held up by">receive window {milliseconds(network['receiveWindowLimitedMs'])} · send buffer {milliseconds(network['sendBufferLimitedMs'])} · of {milliseconds(network['busyMs'])} busy</Fact>
          </>
        )}
        {report && (
          <Fact name="It says itself">
            slowest handler {milliseconds(report.slowestHandlerMs)} · {count(report.queuedMessages)} queued · {plural(report.gapsHealed ?? 0, 'gap')} healed{report.visible === false && ' · page hidden'} · <Time at={report.reportedAt} />
          </Fact>
        )}
      </dl>
    </section>
  );
}

function times(number: number | null): string {
  return number === 0 ? 'never' : plural(number ?? 0, 'time');
}

function Fact({ name, children }: { readonly name: string; readonly children: ComponentChildren }): JSX.Element | null {
  if (children === null || children === undefined || children === '' || children === false) return null;
  return <><dt>{name}</dt><dd>{children}</dd></>;
}

function Subscriptions({ rows }: { readonly rows: readonly SubscriptionRow[] }): JSX.Element {
  return (
    <section class="card"><h2>Subscriptions</h2>
      {rows.length > 0 ? <Grid label="Subscriptions" columns={SUBSCRIPTIONS} rows={rows} href={({ channel }) => link('channels', channel)} /> : <p class="quiet">It has subscribed to nothing.</p>}
    </section>
  );
}
