import type { ReadonlySignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { ChannelRow, ConnectionRow, GroupRow, NotableEvent, Overview as Data, State } from '../api.js';
import { CAUSES } from '../causes.js';
import { bytes, count, inUnit, milliseconds, percent, rate } from '../format.js';
import type { FigureId } from '../generated/figures.js';
import { useHistory } from '../history.js';
import { link, linkTo } from '../router.js';
import { type History, newest } from '../series.js';
import { overview, useDocument, useEvents, useList } from '../store.js';
import { Chart, type Line } from '../ui/chart.js';
import { Code, EmptyState } from '../ui/empty.js';
import { Icon, Shape, StateMark } from '../ui/icons.js';
import { Spark } from '../ui/spark.js';
import { Tile } from '../ui/tile.js';
import { Time } from '../ui/time.js';

/** What each tile's line is drawn of, and where what causes it is shown. */
const TILES: Readonly<Record<string, { readonly figure: FigureId; readonly href: () => string }>> = {
  connections: { figure: 'connections.active', href: () => link('connections') },
  latency: { figure: 'latency.p95', href: () => link('connections', null, { filter: PRESENT, sort: '-latency' }) },
  duration: { figure: 'duration.p50', href: () => link('connections', null, { tab: 'closed', sort: 'lasted' }) },
  memory: { figure: 'memory.per_connection', href: () => link('connections', null, { sort: '-queue' }) },
  heartbeats: { figure: 'heartbeat.failures', href: () => link('connections', null, { sort: '-missed' }) },
  auth: { figure: 'auth.failures', href: () => link('connections', null, { tab: 'failed' }) },
};

/** The last row: a figure, its title and its unit. */
const SMALL: readonly (readonly [FigureId, string, string])[] = [
  ['cpu.process', 'CPU', 'percent'],
  ['memory.rss', 'Memory', 'bytes'],
  ['loop.lag.p95', 'Event-loop lag p95', 'ms'],
  ['sessions.fallback_share', 'On HTTP fallback', 'percent'],
  ['reconnections.rate', 'Reconnects', 'per_second'],
  ['client.queued', 'Queued by clients', 'count'],
];

const LATENCY: readonly Line<FigureId>[] = [
  { figure: 'latency.p50', label: 'p50', colour: 'c1' },
  { figure: 'latency.p95', label: 'p95', colour: 'c2' },
  { figure: 'latency.p99', label: 'p99', colour: 'c3' },
];
const CHURN: readonly Line<FigureId>[] = [
  { figure: 'connections.opened', label: 'opened', colour: 'c1' },
  { figure: 'connections.closed', label: 'closed', colour: 'c2' },
  { figure: 'connections.failed', label: 'failed', colour: 'c4' },
];
const MESSAGES: readonly Line<FigureId>[] = [
  { figure: 'messages.out', label: 'out', colour: 'c1', area: true },
  { figure: 'messages.in', label: 'in', colour: 'c3' },
];

const FIGURES = [...new Set([
  ...Object.values(TILES).map(({ figure }) => figure),
  ...SMALL.map(([figure]) => figure),
  ...[...LATENCY, ...CHURN, ...MESSAGES].map(({ figure }) => figure),
])];

/** Is anything wrong, since when, who is affected, what changed; then the totals. */
export function Overview(): JSX.Element {
  const data = overview.data.value;
  const history = useHistory(FIGURES);
  return (
    <>
      <h1 class="hidden">Overview</h1>
      <Health data={data} />
      <section class="tiles" aria-label="State by figure">
        {data?.tiles.map((tile) => {
          const known = TILES[tile.id];
          return <Tile key={tile.id} tile={tile} href={known?.href() ?? link('')} values={(known && history.value?.figures[known.figure]) ?? []} />;
        })}
      </section>
      {data && (data.counts['connections'] ?? 0) <= OWN && <FirstSteps />}
      <Since history={history} />
      <div class="charts">
        <Chart title="Delivery latency" history={history} lines={LATENCY} unit="ms" log limits={limitsOf(data, 'latency')} height={200} />
        <Chart title="Connections per second" history={history} lines={CHURN} unit="count" height={200} />
        <Chart title="Messages per second" history={history} lines={MESSAGES} unit="count" height={200} />
      </div>
      <div class="panels">
        <Slowest />
        <Queues />
        <Channels />
        <Events />
      </div>
      <section class="smalls" aria-label="The process">{SMALL.map((small) => <Small key={small[0]} small={small} history={history} />)}</section>
    </>
  );
}

function limitsOf(data: Data | null, id: string): { warning: number; critical: number; direction: 'above' | 'below' } | undefined {
  const tile = data?.tiles.find((candidate) => candidate.id === id);
  return tile && { warning: tile.warning, critical: tile.critical, direction: tile.direction };
}

/** How many causes stand in a line; the others are a link away. */
const CAUSES_SHOWN = 3;
/** The cause that is no fault of anybody's, and said last. */
const AWAY = 'detached';

/** Said while the range reaches further back than what was recorded. */
function Since({ history }: { readonly history: ReadonlySignal<History | null> }): JSX.Element | null {
  const held = history.value;
  const since = held?.recordingSince ? Date.parse(held.recordingSince) : NaN;
  if (!held || !(since > held.fromMs + 2000 * held.stepSeconds)) return null;
  return <p class="since quiet">Recording since <Time at={since} as="full" />; charts are empty before.</p>;
}

const STATUS: Readonly<Record<string, State>> = { healthy: 'target', degraded: 'warning', unhealthy: 'critical' };

/** How the server is in a sentence, and what of its connections is not well: each a link to those it is about. */
function Health({ data }: { readonly data: Data | null }): JSX.Element {
  const groups = useList<GroupRow>('connections', { group: 'cause', limit: 20 }).data.value;
  const total = data?.counts['connections'] ?? 0;
  const unwell = groups?.rows.filter(({ id, gone }) => id !== 'healthy' && !gone && id in CAUSES).sort((one, other) => Number(one.id === AWAY) - Number(other.id === AWAY) || other.connections - one.connections) ?? [];
  return (
    <section class="health-line" aria-label="Health">
      {data && <StateMark state={STATUS[data.status] ?? 'warning'} text={data.status} />}
      {data?.reasons.map((reason) => <span key={reason} class="reason">{reason}</span>)}
      {unwell.slice(0, CAUSES_SHOWN).map(({ id, connections }) => (
        <a key={id} class="cause" href={link('connections', null, { filter: `cause:${id}`, sort: 'score' })}>
          <Shape state={id === AWAY ? 'none' : 'warning'} />
          <span>
            {id !== AWAY && connections * 100 >= total && <b>{percent(Math.round((connections / Math.max(connections, total)) * 100))} slow: </b>}
            {count(connections)} {connections === 1 ? `connection: ${CAUSES[id]?.title}` : `connections ${CAUSES[id]?.are}`}
          </span>
          <Icon name="right" />
        </a>
      ))}
      {unwell.length > CAUSES_SHOWN && <a class="cause" href={link('connections', null, { group: 'cause' })}>{count(unwell.length - CAUSES_SHOWN)} more causes <Icon name="right" /></a>}
    </section>
  );
}

/** Connections that there are because somebody looks: this one. */
const OWN = 1;

function FirstSteps(): JSX.Element {
  const { origin } = location;
  return (
    <EmptyState title="Nobody is connected but you">
      <p>With a token that may publish in <code>$PULSEWIRE_TOKEN</code> (<code>pulsewire serve --dev</code> prints one), listen to a channel and say something on it:</p>
      <Code label="listen in a terminal" text={`pulsewire tail run:42 --url ${origin}`} />
      <Code label="publish with curl" text={`curl ${origin}/api/publish -H "Authorization: Bearer $PULSEWIRE_TOKEN" \\\n  -d '{"channel": "run:42", "type": "hello", "data": {"from": "curl"}}'`} />
      <p>From a page, or many at once:</p>
      <Code label="listen from a page" text={`import { createClient } from '@pulsewire/client';\n\ncreateClient({ url: '${origin}/ws', token })\n  .channel('run:42').subscribe(console.log);`} />
      <Code label="fifty connections" text={`pulsewire bench fanout --url ${origin} --token "$PULSEWIRE_TOKEN" --conns 50`} />
    </EmptyState>
  );
}

interface PanelProps {
  readonly title: string;
  readonly href: string;
  readonly children: JSX.Element | null;
}

function Panel({ title, href, children }: PanelProps): JSX.Element {
  return <section class="panel"><h2><a href={href}>{title} <Icon name="right" /></a></h2>{children}</section>;
}

const LIMIT = 7;
/** Who is away is not slow. */
const PRESENT = '-state:detached';

function Slowest(): JSX.Element {
  const page = useList<ConnectionRow>('connections', { filter: PRESENT, sort: '-latency', limit: LIMIT }).data.value;
  const rows = page?.rows.filter(({ latencyMs }) => latencyMs !== null) ?? [];
  return (
    <Panel title="Slowest now" href={link('connections', null, { filter: PRESENT, sort: '-latency' })}>
      <Short rows={rows} waiting={!page} none="Nothing was delivered lately." value={(row) => milliseconds(row.latencyMs)} />
    </Panel>
  );
}

function Queues(): JSX.Element {
  const page = useList<ConnectionRow>('connections', { sort: '-queue', limit: LIMIT }).data.value;
  const rows = page?.rows.filter(({ queuedBytes }) => (queuedBytes ?? 0) > 0) ?? [];
  return (
    <Panel title="Biggest queues now" href={link('connections', null, { sort: '-queue' })}>
      <Short rows={rows} waiting={!page} none="Nothing waits for anybody." value={(row) => bytes(row.queuedBytes)} />
    </Panel>
  );
}

interface ShortProps {
  readonly rows: readonly ConnectionRow[];
  readonly waiting: boolean;
  readonly none: string;
  readonly value: (row: ConnectionRow) => string;
}

/** Connections as lines: who, why, how much. */
function Short({ rows, waiting, none, value }: ShortProps): JSX.Element {
  if (rows.length === 0) return <p class="quiet">{waiting ? '…' : none}</p>;
  return (
    <ol class="short">
      {rows.map((row) => (
        <li key={row.id}>
          <a href={link('connections', row.id)}>
            <span class="short-who">{row.userId ?? row.id}</span>
            <span class="short-why">{row.cause && row.cause !== 'healthy' ? CAUSES[row.cause]?.title ?? row.cause : ''}</span>
            <span class="short-value">{value(row)}</span>
          </a>
        </li>
      ))}
    </ol>
  );
}

function Channels(): JSX.Element {
  const page = useList<ChannelRow>('channels', { sort: '-subscribers', limit: LIMIT }).data.value;
  return (
    <Panel title="Top channels" href={link('channels')}>
      {page && page.rows.length > 0 ? (
        <ol class="short">
          {page.rows.map((row) => (
            <li key={row.id}>
              <a href={link('channels', row.id)}>
                <span class="short-who">{row.channel}</span>
                <span class="short-why">{rate(row.publishedPerSecond)} in</span>
                <span class="short-value">{count(row.subscribers)}</span>
              </a>
            </li>
          ))}
        </ol>
      ) : <p class="quiet">{page ? 'Nobody listens to a channel.' : '…'}</p>}
    </Panel>
  );
}

const EVENTS = 20;
const SEVERITY: Readonly<Record<string, State>> = { info: 'none', warning: 'warning', critical: 'critical' };

function Events(): JSX.Element {
  const found = useDocument<{ readonly rows: readonly NotableEvent[] }>('/api/admin/events', { limit: EVENTS });
  const [fresh, setFresh] = useState<readonly NotableEvent[]>([]);
  useEvents('$sys.events', (type, data) => {
    if (type !== 'error') setFresh((held) => [data as NotableEvent, ...held].slice(0, EVENTS));
  });
  const byId = new Map([...(found.data.value?.rows ?? []), ...fresh].map((event) => [event.id, event]));
  const rows = [...byId.values()].sort((one, other) => Date.parse(other.at) - Date.parse(one.at)).slice(0, EVENTS);
  return (
    <Panel title="What happened" href={link('events')}>
      {rows.length > 0 ? (
        <ol class="events" tabIndex={0} aria-label="Notable events">
          {rows.map(({ id, at, severity, text, link: to }) => (
            <li key={id}>
              <Time at={at} as="clock" /> <Shape state={SEVERITY[severity] ?? 'none'} />
              {to ? <a href={linkTo(to)}>{text}</a> : <span>{text}</span>}
            </li>
          ))}
        </ol>
      ) : <p class="quiet">{found.data.value ? 'Nothing of note yet.' : '…'}</p>}
    </Panel>
  );
}

interface SmallProps {
  readonly small: readonly [FigureId, string, string];
  readonly history: ReadonlySignal<History | null>;
}

function Small({ small: [figure, title, unit], history }: SmallProps): JSX.Element {
  const values = history.value?.figures[figure] ?? [];
  return (
    <div class="small">
      <span class="small-title">{title}</span>
      <span class="small-value">{inUnit(newest(values), unit)}</span>
      <Spark values={values} label={`${title} in the time that is looked at`} />
    </div>
  );
}
