import { useComputed } from '@preact/signals';
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import { count, NOTHING, words } from '../format.js';
import type { Page } from '../list.js';
import type { ErrorRow } from '../operation.js';
import { choose, link, route } from '../router.js';
import { type Found, useList } from '../store.js';
import { EmptyState, Trouble } from '../ui/empty.js';
import { Facts } from '../ui/facts.js';
import { Icon } from '../ui/icons.js';
import { type Column, Table } from '../ui/table.js';
import { Time } from '../ui/time.js';

const ERRORS: readonly Column<ErrorRow>[] = [
  { id: 'kind', title: 'Error', render: ({ kind }) => words(kind) },
  { id: 'group', title: 'Of', spare: 1, render: ({ group }) => words(group) },
  { id: 'count', title: 'Count', number: true, render: (row) => count(row.count) },
  { id: 'minute', title: 'Per minute', number: true, render: ({ perMinute }) => count(perMinute) },
  { id: 'connections', title: 'Connections', number: true, spare: 1, help: 'that had it', render: ({ connections }) => count(connections) },
  { id: 'first', title: 'First', number: true, spare: 2, render: ({ firstAt }) => <Time at={firstAt} /> },
  { id: 'last', title: 'Last', number: true, render: ({ lastAt }) => <Time at={lastAt} /> },
  { id: 'sample', title: 'For example', spare: 1, render: ({ sample }) => <span class="cut" title={sample?.text}>{sample?.text ?? NOTHING}</span> },
];

const ORDERS: Readonly<Record<string, (one: ErrorRow, other: ErrorRow) => number>> = {
  now: (one, other) => (other.perMinute ?? 0) - (one.perMinute ?? 0) || other.count - one.count,
  count: (one, other) => other.count - one.count,
  newest: (one, other) => Date.parse(other.lastAt ?? '') - Date.parse(one.lastAt ?? ''),
};

/** What goes wrong, by kind: what happens now first. */
export function Errors(): JSX.Element {
  const found = useList<ErrorRow>('errors');
  const { group = '', order = 'now' } = route.value.params;
  const shown = useShown(found);
  const groups = [...new Set(found.data.value?.rows.map((row) => row.group))].sort();
  return (
    <>
      <h1 class="hidden">Errors</h1>
      <nav class="tabs" aria-label="Of what">
        {['', ...groups].map((name) => (
          <a key={name} href={link('errors', null, { group: name, order: order === 'now' ? null : order })} aria-current={name === group ? 'true' : undefined}>
            {name === '' ? 'All' : words(name)} <span class="tab-count">{count(found.data.value?.rows.filter((row) => name === '' || row.group === name).length)}</span>
          </a>
        ))}
      </nav>
      <div class="tools">
        <label class="choice"><span>First</span>
          <select value={order} onChange={(event) => choose({ order: event.currentTarget.value === 'now' ? null : event.currentTarget.value })}>
            <option value="now">what happens now</option><option value="count">what happened most</option><option value="newest">what happened last</option>
          </select>
        </label>
      </div>
      <Table label="Errors" found={shown} columns={ERRORS} href={({ id }) => link('errors', id)} empty={<None />} limit={200} />
    </>
  );
}

/** The kinds that the address asks for, in its order. */
function useShown(found: Found<Page<ErrorRow>>): Found<Page<ErrorRow>> {
  const data = useComputed(() => {
    const page = found.data.value;
    const { group, order = 'now' } = route.value.params;
    if (!page) return null;
    const rows = page.rows.filter((row) => !group || row.group === group).sort(ORDERS[order] ?? ORDERS['now']);
    return { ...page, rows, matched: rows.length, total: rows.length };
  });
  return useMemo(() => ({ ...found, data }), [found, data]);
}

function None(): JSX.Element {
  return (
    <EmptyState title="Nothing went wrong">
      <p>Here stand the kinds of errors since the server started: messages it could not read or deliver, tokens it refused, heartbeats without an answer, queues that were full. Those that never happened are left out.</p>
    </EmptyState>
  );
}

/** One kind of error. */
export function ErrorKind({ id }: { readonly id: string }): JSX.Element {
  const found = useList<ErrorRow>('errors');
  const row = found.data.value?.rows.find((candidate) => candidate.id === id);
  return (
    <>
      <header class="page-head"><a class="page-back" href={link('errors')}><Icon name="left" /> Errors</a><h1>{row ? words(row.kind) : id}</h1>{row && <span class="chip">{words(row.group)}</span>}</header>
      <Trouble problem={found.problem.value} />
      {row ? <Kind row={row} /> : found.data.value && <EmptyState title="This has not happened since the server started"><p><a href={link('errors')}>All errors</a></p></EmptyState>}
    </>
  );
}

function Kind({ row }: { readonly row: ErrorRow }): JSX.Element {
  const { perMinute, connections, firstAt, lastAt, sample, help } = row;
  return (
    <>
      <Facts facts={[
        ['Count', count(row.count)],
        ['Per minute', count(perMinute)],
        ['Connections', count(connections)],
        ['First', <Time key="first" at={firstAt} />],
        ['Last', <Time key="last" at={lastAt} />],
      ]} />
      {help && <p class="advice"><Icon name="help" /> {help}</p>}
      <section class="panel" aria-label="For example">
        <h2>For example</h2>
        {sample ? (
          <div class="panel-text sample">
            <pre tabIndex={0} aria-label="What was said">{sample.text}</pre>
            <p class="quiet">
              <Time at={sample.at} as="full" />
              {sample.sessionId && <> · <a href={link('connections', sample.sessionId)}>the connection</a></>}
              {sample.address && <> · {sample.address}</>}
              {sample.userId && <> · <a href={link('connections', null, { filter: `user:${sample.userId}` })}>{sample.userId}</a></>}
            </p>
          </div>
        ) : <p class="panel-text quiet">No example was kept.</p>}
      </section>
    </>
  );
}
