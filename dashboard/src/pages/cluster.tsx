import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { State } from '../api.js';
import { bytes, count, duration, milliseconds, NOTHING, percent, plural } from '../format.js';
import { useNotable } from '../notable.js';
import type { NodeRow } from '../operation.js';
import { link } from '../router.js';
import { mayAct } from '../session.js';
import { useList } from '../store.js';
import { Bar } from '../ui/bar.js';
import { Confirm } from '../ui/dialog.js';
import { EmptyState, Trouble } from '../ui/empty.js';
import { Icon, StateMark } from '../ui/icons.js';
import { NotableList } from '../ui/notable.js';
import { Time } from '../ui/time.js';
import { WhyNot } from '../ui/whynot.js';

const EVENTS = 30;

/** Each node beside its limits; operators may send its clients elsewhere. */
export function Cluster(): JSX.Element {
  const found = useList<NodeRow>('nodes');
  const { events } = useNotable(EVENTS);
  const page = found.data.value;
  return (
    <>
      <h1 class="hidden">Cluster</h1>
      <Trouble problem={found.problem.value} />
      {page?.rows.length === 0 && <EmptyState title="No node has said anything"><p>A node tells of itself once a second. This page asks again by itself.</p></EmptyState>}
      <div class="nodes">{page?.rows.map((node) => <Node key={node.id} node={node} alone={page.rows.length === 1} />)}</div>
      <section class="panel spaced" aria-label="What happened">
        <h2><a href={link('events')}>What happened <Icon name="right" /></a></h2>
        {events.value && events.value.length > 0 ? <NotableList events={events.value} label="Notable events" /> : <p class="panel-text quiet">{events.value ? 'Nothing of note yet.' : '…'}</p>}
      </section>
      <p class="spaced"><a href={link('audit')}>Audit log: who did what <Icon name="right" /></a></p>
    </>
  );
}

function Node({ node, alone }: { readonly node: NodeRow; readonly alone: boolean }): JSX.Element {
  const { id, version, startedAt, draining, storeState } = node;
  const gone = node.state === 'missing';
  return (
    <section class="panel node" aria-label={`Node ${id}`}>
      <header>
        <h2>{node.name ? `${node.name} ` : ''}{id}</h2>
        <StateMark state={gone ? 'critical' : draining ? 'warning' : 'target'} text={gone ? `missing for ${duration((node.silentMs ?? 0) / 1_000)}` : draining ? 'draining' : 'serving'} />
        <span class="quiet">{version} · up <Time at={startedAt} as="age" /> · {plural(node.shards ?? 0, 'shard')}</span>
      </header>
      <dl class="meters">
        <Meter name="Connections" value={node.connections} most={node.connectionsMax} text={count} />
        <Meter name="CPU" value={node.cpuPercent} most={100 * Math.max(node.shards ?? 1, 1)} text={percent} />
        <Meter name="Open files" value={node.openFiles} most={node.openFilesMax} text={count} />
        <Plain name="Memory" text={bytes(node.rssBytes)} />
        <Plain name="Store" text={storeState ?? 'none'} state={stateOfStore(storeState)} />
        <Plain name="Store latency" text={milliseconds(node.storeLatencyMs)} />
        <Plain name="Broker lag" text={node.brokerLagMs === null ? `${NOTHING} ${node.brokerState === 'degraded' ? 'not reached' : 'there is none'}` : milliseconds(node.brokerLagMs)} state={node.brokerState === 'degraded' ? 'warning' : undefined} />
        <Plain name="Clock skew" text={node.clockSkewMs === null ? `${NOTHING} ${alone ? 'one node only' : 'not measured'}` : milliseconds(node.clockSkewMs)} />
        <Plain name="Uptime" text={duration(node.uptimeSeconds)} />
      </dl>
      {!gone && <Drain node={node} alone={alone} />}
    </section>
  );
}

function stateOfStore(state: string | null): State {
  if (state === null || state === 'none') return 'none';
  return state === 'ok' ? 'target' : 'warning';
}

/** How full: from four fifths on one should know, from 95 in a hundred on one should act. */
function stateOfShare(part: number): State {
  if (part >= 0.95) return 'critical';
  return part >= 0.8 ? 'warning' : 'target';
}

interface MeterProps {
  readonly name: string;
  readonly value: number | null;
  readonly most: number | null;
  text(value: number | null): string;
}

function Meter({ name, value, most, text }: MeterProps): JSX.Element {
  const part = value === null || !most ? 0 : value / most;
  return (
    <div>
      <dt>{name}</dt>
      <dd><b>{text(value)}</b>{most !== null && <span class="quiet"> of {text(most)}</span>}<Bar value={value} most={most} state={stateOfShare(part)} label={`${name}: ${percent(part * 100)} of what it may be`} /></dd>
    </div>
  );
}

function Plain({ name, text, state }: { readonly name: string; readonly text: string; readonly state?: State | undefined }): JSX.Element {
  return <div><dt>{name}</dt><dd>{state ? <StateMark state={state} text={text} /> : <b>{text}</b>}</dd></div>;
}

function Drain({ node: { id, draining, connections }, alone }: { readonly node: NodeRow; readonly alone: boolean }): JSX.Element {
  const [asking, setAsking] = useState(false);
  if (!mayAct.value) return <WhyNot what="Draining a node" />;
  return (
    <p class="panel-text">
      <button type="button" class={draining ? 'button' : 'button danger'} onClick={() => setAsking(true)}>{draining ? 'Let clients in again' : 'Drain …'}</button>
      {asking && (
        <Confirm title={draining ? `Let clients come to ${id} again?` : `Drain ${id}?`} word={draining ? 'Let them in' : 'Drain'} path="/api/admin/drain" body={alone ? { drain: !draining } : { drain: !draining, node: id }} onClose={() => setAsking(false)}>
          {draining ? <p>Readiness says yes again, and new connections are accepted.</p> : (
            <p>{plural(connections, 'connection')} will be told to come back elsewhere within 30 s, each at another time, and nobody new is let in until this is taken back. With one node only, nobody has anywhere to go. This page's own connection goes, too; what it asks over HTTP is answered as ever.</p>
          )}
          <p>This is written to the audit log.</p>
        </Confirm>
      )}
    </p>
  );
}
