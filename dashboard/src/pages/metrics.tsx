import { type ReadonlySignal, signal, useComputed } from '@preact/signals';
import type { ServerMessage } from '@pulsewire/client';
import type { JSX } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { ChannelRow } from '../api.js';
import { useFollow } from '../follow.js';
import { plural } from '../format.js';
import { collect, collected, type Collected, forget, historyOf, isPoint, namesOf, parseTags, type Point, SERIES_MAX, seriesOf, unitOf, usualNames } from '../metric-series.js';
import { choose, range, RANGES, route } from '../router.js';
import { metricCurl, metricFrame, metricSnippet, type MetricView, subscribing, TOKEN } from '../snippets.js';
import { useList } from '../store.js';
import { Chart, type Line } from '../ui/chart.js';
import { Choice } from '../ui/choice.js';
import { Code, CopyButton, EmptyState, Trouble } from '../ui/empty.js';
import { Time } from '../ui/time.js';

/** Channels that every server has, whether somebody uses them or not. */
const SHIPPED = ['system.metrics', 'workflow.metrics', 'agent.metrics', 'distributed.metrics'];
const INTERVALS: Readonly<Record<string, number>> = { '1s': 1_000, '5s': 5_000, '1m': 60_000, '5m': 300_000, '1h': 3_600_000 };
const FIGURES = ['value', 'min', 'max', 'p50', 'p95', 'p99', 'count'];
/** Charts that are drawn without being chosen; more can be. */
const CHARTS = 8;
/** Lines of a chart: as many as there are colours. */
const LINES = 6;

/** Windows that a chart of the range can show: some hundreds. */
function intervalFor(minutes: number): string {
  if (minutes <= 15) return '5s';
  return minutes <= 360 ? '1m' : '5m';
}

/** Numbers of metric channels, live, as a subscriber sees them. */
export function Metrics(): JSX.Element {
  const { channel = 'system.metrics', figure = 'value', names = '', tags: tagText = '' } = route.value.params;
  const minutes = RANGES[range.value] ?? 15;
  const interval = route.value.params['interval'] ?? intervalFor(minutes);
  const tags = parseTags(tagText) ?? {};
  const chosen = names ? names.split(',') : [];
  const feed = useFeed(channel, { interval, tags, rangeMs: minutes * 60_000 });
  const known = namesOf(feed.held.value.store);
  const drawn = chosen.length > 0 ? chosen : usualNames(feed.held.value.store, CHARTS);
  const view: MetricView = { channel, interval, tags, names: chosen, history: range.value };
  return (
    <>
      <h1 class="hidden">Metric channels</h1>
      <div class="tools">
        <ChannelChoice channel={channel} />
        <Choice label="Windows of" name="interval" options={Object.keys(INTERVALS)} value={interval} none={null} />
        <Choice label="Show" name="figure" options={FIGURES} value={figure} none={null} />
        <Tags text={tagText} />
        <CopyButton label="Copy a link to this" words="Copy link" text={() => location.href} />
      </div>
      <Trouble problem={feed.problem} />
      {known.length > 0 ? <Names known={known} drawn={drawn} /> : !feed.problem && <Nothing channel={channel} waiting={!feed.answered} tagged={tagText !== ''} />}
      {feed.staleSince !== null && <p class="trouble">Nothing has come since <Time at={feed.staleSince} as="full" />: is the source still there?</p>}
      {feed.held.value.store.left > 0 && <p class="trouble">There are more than {SERIES_MAX} series: the first are drawn. Narrow them by tags.</p>}
      <div class="multiples">
        {drawn.map((name) => <Multiple key={name} name={name} figure={figure} held={feed.held} rangeMs={minutes * 60_000} stepMs={INTERVALS[interval] ?? 1_000} />)}
      </div>
      {known.length > 0 && <Same view={view} />}
    </>
  );
}

// ---- what is heard

/** What was collected; another object after each change, around the same store. */
interface Held {
  readonly store: Collected;
}

interface Feed {
  readonly held: ReadonlySignal<Held>;
  readonly problem: ReturnType<typeof useFollow>['problem']['value'];
  /** The server has answered, with or without a past. */
  readonly answered: boolean;
  /** When it last said something, if that is long ago. */
  readonly staleSince: number | null;
}

interface Wanted {
  readonly interval: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly rangeMs: number;
}

function useFeed(channel: string, { interval, tags, rangeMs }: Wanted): Feed {
  const held = useMemo(() => signal<Held>({ store: collected() }), []);
  const state = useMemo(() => ({ answered: signal(false), stale: signal<number | null>(null) }), []);
  const options = { aggregation_interval: interval as '5s', history: `${rangeMs / 60_000}m`, shape: 'points' as const, ...(Object.keys(tags).length > 0 && { tags }) };
  const key = `${channel} ${JSON.stringify(options)}`;
  useEffect(() => {
    held.value = { store: collected() };
    state.answered.value = false;
    state.stale.value = null;
  }, [key]);
  const message = (said: ServerMessage): void => {
    const points = pointsOf(said);
    if (said.type === 'stale') state.stale.value = Number(said['since']);
    else if (points.length > 0) state.stale.value = null;
    if (said.type === 'history' && !said['has_more']) state.answered.value = true;
    if (points.length === 0) return;
    const { store } = held.peek();
    collect(store, points);
    forget(store, rangeMs);
    held.value = { store };
  };
  const { problem } = useFollow(channel, { message }, options);
  return { held, problem: problem.value, answered: state.answered.value, staleSince: state.stale.value };
}

function pointsOf(said: ServerMessage): readonly Point[] {
  const events = said.type === 'history' && Array.isArray(said['events']) ? (said['events'] as readonly ServerMessage[]) : [said];
  return events.filter(isPoint);
}

// ---- what is chosen

function ChannelChoice({ channel }: { readonly channel: string }): JSX.Element {
  const found = useList<ChannelRow>('channels', { filter: 'kind:metrics', sort: 'name', limit: 200 });
  const others = found.data.value?.rows.map(({ channel: name }) => name) ?? [];
  const all = [...new Set([...SHIPPED, ...others, channel])];
  return (
    <label class="choice"><span>Channel</span>
      <select value={channel} onChange={(event) => choose({ channel: event.currentTarget.value, names: null, tags: null })}>{all.map((name) => <option key={name} value={name}>{name}</option>)}</select>
    </label>
  );
}

function Tags({ text }: { readonly text: string }): JSX.Element {
  const [typed, setTyped] = useState(text);
  useEffect(() => setTyped(text), [text]);
  const wrong = parseTags(typed) === null;
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    if (!wrong) choose({ tags: typed.trim() || null });
  };
  return (
    <form class="inline" onSubmit={submit}>
      <label class="choice"><span>Tags</span>
        <input type="text" class="short-input tags-input" value={typed} placeholder="host:web-1" autocomplete="off" spellcheck={false} aria-invalid={wrong ? 'true' : undefined} onInput={(event) => setTyped(event.currentTarget.value)} onBlur={() => !wrong && typed.trim() !== text && choose({ tags: typed.trim() || null })} />
      </label>
    </form>
  );
}

function Names({ known, drawn }: { readonly known: readonly string[]; readonly drawn: readonly string[] }): JSX.Element {
  const turn = (name: string): void => {
    const next = drawn.includes(name) ? drawn.filter((other) => other !== name) : [...drawn, name];
    choose({ names: next.join(',') || null }, { replace: true });
  };
  return (
    <fieldset class="chips">
      <legend class="hidden">Metrics</legend>
      {known.map((name) => <button key={name} type="button" class="chip-button" aria-pressed={drawn.includes(name)} onClick={() => turn(name)}>{name}</button>)}
      {known.length > drawn.length && <button type="button" class="chip-button more" onClick={() => choose({ names: known.join(',') })}>all {known.length}</button>}
    </fieldset>
  );
}

// ---- what is drawn

interface MultipleProps {
  readonly name: string;
  readonly figure: string;
  readonly held: ReadonlySignal<Held>;
  readonly rangeMs: number;
  readonly stepMs: number;
}

/** One metric, a line for each set of tags. */
function Multiple({ name, figure, held, rangeMs, stepMs }: MultipleProps): JSX.Element {
  const all = seriesOf(held.value.store, name);
  const ids = all.slice(0, LINES).map(({ id }) => id);
  const key = ids.join('\n');
  const lines = useMemo(() => all.slice(0, LINES).map(({ id, tags }, index): Line => ({ figure: id, label: tags || figure, colour: `c${index + 1}` })), [key, figure]);
  const asked = useMemo(() => signal({ ids, figure, rangeMs, stepMs }), []);
  useEffect(() => void (asked.value = { ids, figure, rangeMs, stepMs }), [key, figure, rangeMs, stepMs]);
  const history = useComputed(() => historyOf(held.value.store, asked.value.ids, asked.value.figure, asked.value.rangeMs, asked.value.stepMs));
  return (
    <div class="multiple">
      <Chart title={name} history={history} lines={lines} unit={figure === 'count' ? 'count' : unitOf(name)} height={150} />
      {all.length > LINES && <p class="quiet">{LINES} of {plural(all.length, 'series', 'series')}: narrow them by tags.</p>}
    </div>
  );
}

function Nothing({ channel, waiting, tagged }: { readonly channel: string; readonly waiting: boolean; readonly tagged: boolean }): JSX.Element {
  if (waiting) return <p class="quiet" role="status">Asking {channel} for its past …</p>;
  if (tagged) return <EmptyState title={`Nothing on ${channel} has these tags`}><p><button type="button" class="button" onClick={() => choose({ tags: null })}>Show all</button></p></EmptyState>;
  return (
    <EmptyState title={`No numbers on ${channel} in this time`}>
      {channel === 'system.metrics' ? <p>The host collector says something once a second, unless <code>collector.enabled</code> is off.</p> : <p>Workflow, agent and distributed metrics are counted of the events that pass; any other <code>*.metrics</code> channel has what your applications send. To send a sample, with a token that may publish in $TOKEN:</p>}
      <Code label="send a sample" text={`curl -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\\n  -d '{"channel":"app.metrics","samples":[{"name":"queue.length","value":7}]}' \\\n  ${location.origin}/api/metrics/samples`} />
    </EmptyState>
  );
}

/** The same view for a program. */
function Same({ view }: { readonly view: MetricView }): JSX.Element {
  return (
    <details class="panel spaced same">
      <summary>This view in a program</summary>
      <h2>The frame that subscribes to it</h2><Code label="subscribe frame" text={metricFrame(view)} />
      <h2>With the SDK</h2><Code label="TypeScript" text={metricSnippet(view, location.origin)} />
      <h2>Its past with curl</h2><Code label="curl" text={metricCurl(view, location.origin)} />
      <h2>Every value as it comes, with curl</h2><Code label="curl for every value" text={subscribing({ origin: location.origin, token: TOKEN, channel: view.channel }, 'curl')} />
    </details>
  );
}
