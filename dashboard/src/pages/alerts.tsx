import { useComputed } from '@preact/signals';
import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { prometheusRule, standing, stateOfWord, strip, worstFirst } from '../alerts.js';
import { now, skew } from '../clock.js';
import { duration, inUnit } from '../format.js';
import type { FigureId } from '../generated/figures.js';
import { useHistory } from '../history.js';
import type { AlertRow } from '../operation.js';
import { link, linkTo, range, RANGES } from '../router.js';
import { mayAct } from '../session.js';
import { type Found, useList } from '../store.js';
import type { Page } from '../list.js';
import { Bar } from '../ui/bar.js';
import { Chart, type Line } from '../ui/chart.js';
import { Confirm } from '../ui/dialog.js';
import { Code, CopyButton, EmptyState, Trouble } from '../ui/empty.js';
import { Facts } from '../ui/facts.js';
import { Icon, Shape, StateMark } from '../ui/icons.js';
import { type Column, Table } from '../ui/table.js';
import { Time } from '../ui/time.js';
import { WhyNot } from '../ui/whynot.js';

const RULES: readonly Column<AlertRow>[] = [
  { id: 'title', title: 'Rule', render: ({ title }) => title },
  { id: 'value', title: 'Value', number: true, render: ({ value, unit }) => inUnit(value, unit) },
  { id: 'state', title: 'State', render: (rule) => <Standing rule={rule} /> },
  { id: 'limit', title: 'Limit', number: true, spare: 1, render: ({ limit, unit, direction }) => `${direction === 'above' ? '>' : '<'} ${inUnit(limit, unit)}` },
  { id: 'hold', title: 'Held for', spare: 1, help: 'how long it has been over the limit, of how long it must be', render: (rule) => <Hold rule={rule} /> },
  { id: 'since', title: 'Since', number: true, spare: 3, render: ({ state, since }) => (state === 'inactive' ? '–' : <Time at={since} as="age" />) },
  { id: 'strip', title: 'In the time that is looked at', spare: 1, render: (rule) => <HistoryStrip rule={rule} /> },
];

function Standing({ rule }: { readonly rule: AlertRow }): JSX.Element {
  const [state, word] = standing(rule);
  return <StateMark state={state} text={word} />;
}

function Hold({ rule }: { readonly rule: AlertRow }): JSX.Element {
  const { state, pendingSeconds, holdSeconds } = rule;
  if (state === 'inactive') return <span class="quiet">{holdSeconds} s</span>;
  const text = state === 'firing' ? `${holdSeconds} s` : `${pendingSeconds ?? 0} of ${holdSeconds} s`;
  return <span class="hold"><Bar value={state === 'firing' ? holdSeconds : pendingSeconds} most={holdSeconds} state={standing(rule)[0]} label={`held for ${text}`} /> {text}</span>;
}

/** What the rule did in the time that is looked at; it moves on with the clock. */
function HistoryStrip({ rule }: { readonly rule: AlertRow }): JSX.Element {
  const pieces = useComputed(() => {
    const to = now.value + skew.value;
    return strip(rule.history, to - (RANGES[range.value] ?? 15) * 60_000, to);
  });
  const told = rule.history.filter(({ state }) => stateOfWord(state) !== 'target').length;
  return (
    <svg class="state-strip" viewBox="0 0 1000 12" preserveAspectRatio="none" role="img" aria-label={`${rule.title}: ${told === 0 ? 'within its limits' : `${told} times beyond its limits`}`}>
      <rect class={standing(rule)[0] === 'none' ? 'is-none' : 'is-target'} width="1000" y="5" height="2" />
      {pieces.value.filter(({ state }) => state !== 'target').map(({ from, to, state }) => <rect key={from} class={`is-${state}`} x={from * 1000} width={Math.max((to - from) * 1000, 2)} height="12" />)}
    </svg>
  );
}

/** The rules in an order of their own; rows that did not change stay the same objects. */
function useRules(): Found<Page<AlertRow>> {
  const found = useList<AlertRow>('alerts');
  const data = useComputed(() => found.data.value && { ...found.data.value, rows: worstFirst(found.data.value.rows) });
  return useMemo(() => ({ ...found, data }), [found, data]);
}

/** What the server judges itself by, what is bad first. */
export function Alerts(): JSX.Element {
  const found = useRules();
  const page = found.data.value;
  const firing = page?.rows.filter(({ state }) => state === 'firing').length ?? 0;
  return (
    <>
      <h1 class="hidden">Alerts</h1>
      <div class="tools">
        <span class="grow">{page && <StateMark state={firing > 0 ? 'warning' : 'target'} text={firing > 0 ? `${firing} of ${page.rows.length} rules fire` : `all ${page.rows.length} rules are within their limits`} />}</span>
        {page && page.rows.length > 0 && <CopyButton label="Copy all as Prometheus rules" words="Copy as Prometheus rules" text={() => group(page.rows)} />}
      </div>
      <Table label="Alert rules" found={found} columns={RULES} href={({ id }) => link('alerts', id)} empty={<None />} limit={200} />
    </>
  );
}

function group(rules: readonly AlertRow[]): string {
  const indented = rules.map((rule) => prometheusRule(rule).replaceAll(/^(?=.)/gm, '    ')).join('');
  return `groups:\n- name: pulsewire\n  rules:\n${indented}`;
}

function None(): JSX.Element {
  return (
    <EmptyState title="No rules">
      <p>The server judges itself by rules with a target and two limits, such as the latency of messages. They can all be switched off, and it seems that they are: see <code>alerts</code> in the settings.</p>
    </EmptyState>
  );
}

/** One rule. */
export function Alert({ id }: { readonly id: string }): JSX.Element {
  const found = useRules();
  const rule = found.data.value?.rows.find((row) => row.id === id);
  return (
    <>
      <header class="page-head"><a class="page-back" href={link('alerts')}><Icon name="left" /> Alerts</a><h1>{rule?.title ?? id}</h1>{rule && <Standing rule={rule} />}</header>
      <Trouble problem={found.problem.value} />
      {rule ? <Rule rule={rule} /> : found.data.value && <EmptyState title={`There is no rule ${id}`}><p><a href={link('alerts')}>All rules</a></p></EmptyState>}
    </>
  );
}

function Rule({ rule }: { readonly rule: AlertRow }): JSX.Element {
  const { value, unit, direction, target, warning, critical, windowSeconds, state, since, help, silencedUntil, link: causes } = rule;
  const limit = (bound: number | null): string => (bound === null ? '–' : `${direction === 'above' ? '>' : '<'} ${inUnit(bound, unit)}`);
  return (
    <>
      <Facts facts={[
        ['Value', inUnit(value, unit)],
        ['Target', target === null ? '–' : `${direction === 'above' ? '<' : '>'} ${inUnit(target, unit)}`],
        ['Warning', limit(warning)],
        ['Critical', limit(critical)],
        ['Of the last', duration(windowSeconds)],
        ['Held for', <Hold key="hold" rule={rule} />],
        ['Since', state === 'inactive' ? '–' : <Time key="since" at={since} />],
        ['Silenced until', silencedUntil ? <Time key="silenced" at={silencedUntil} as="full" /> : 'not silenced'],
      ]} />
      {rule.note && <p class="quiet spaced">{rule.note}</p>}
      {help && <p class="advice"><Icon name="help" /> {help} {causes && <a href={linkTo(causes)}>Show who causes it <Icon name="right" /></a>}</p>}
      {rule.figure && <FigureChart rule={rule} figure={rule.figure} />}
      <section class="panel spaced" aria-label="History"><h2>What it did</h2><Past rule={rule} /></section>
      <Silence rule={rule} />
      <section class="spaced" aria-label="As a Prometheus rule"><Code label="the rule for Prometheus" text={prometheusRule(rule)} /></section>
    </>
  );
}

function FigureChart({ rule, figure }: { readonly rule: AlertRow; readonly figure: FigureId }): JSX.Element {
  const { title, unit, warning, critical, direction } = rule;
  const lines = useMemo((): readonly Line[] => [{ figure, label: title, colour: 'c1' }], [figure, title]);
  const history = useHistory([figure]);
  const limits = warning !== null && critical !== null ? { warning, critical, direction } : undefined;
  return <Chart title={title} history={history} lines={lines} unit={unit} limits={limits} />;
}

function Past({ rule }: { readonly rule: AlertRow }): JSX.Element {
  const pieces = [...rule.history].reverse();
  return (
    <>
      <div class="panel-text"><HistoryStrip rule={rule} /></div>
      {pieces.length === 0 && <p class="panel-text quiet">It has not been beyond its limits since the server started.</p>}
      <ol class="lines scroll" tabIndex={0} aria-label="What the rule did, newest first">
        {pieces.map(({ from, to, state }) => (
          <li key={from}><span class={`state is-${stateOfWord(state)}`}><Shape state={stateOfWord(state)} /> {state === 'none' ? 'within limits' : state}</span><Time at={from} as="full" /><span /><span>{duration(((to ? Date.parse(to) : now.value + skew.value) - Date.parse(from)) / 1000)}</span></li>
        ))}
      </ol>
    </>
  );
}

const MINUTES: Readonly<Record<string, string>> = { 15: '15 minutes', 60: 'an hour', 240: 'four hours', 1440: 'a day' };

/** Operators may keep a rule from telling anybody for a while. */
function Silence({ rule: { id, title, silencedUntil } }: { readonly rule: AlertRow }): JSX.Element {
  const [asked, setAsked] = useState<number | null>(null);
  const [minutes, setMinutes] = useState(60);
  if (!mayAct.value) return <WhyNot what="Silencing a rule" />;
  return (
    <p class="tools">
      {silencedUntil ? <button type="button" class="button" onClick={() => setAsked(0)}>End the silence</button> : <button type="button" class="button" onClick={() => setAsked(minutes)}>Silence …</button>}
      <span class="quiet">A silenced rule is still judged and shown; it tells nobody.</span>
      {asked !== null && (
        <Confirm
          title={asked === 0 ? `Let ${title} tell again?` : `Silence ${title}?`} word={asked === 0 ? 'End the silence' : 'Silence'}
          path={`/api/admin/alerts/${encodeURIComponent(id)}/silence`} body={{ minutes: asked === 0 ? 0 : minutes }} onClose={() => setAsked(null)}
        >
          {asked !== 0 && (
            <label class="choice"><span>For</span>
              <select value={minutes} onChange={(event) => setMinutes(Number(event.currentTarget.value))}>{Object.entries(MINUTES).map(([value, text]) => <option key={value} value={value}>{text}</option>)}</select>
            </label>
          )}
          <p>This is written to the audit log.</p>
        </Confirm>
      )}
    </p>
  );
}

