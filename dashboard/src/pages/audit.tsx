import { useComputed } from '@preact/signals';
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import { words } from '../format.js';
import type { Page } from '../list.js';
import type { AuditRow } from '../operation.js';
import { route } from '../router.js';
import { type Found, useDocument } from '../store.js';
import { EmptyState } from '../ui/empty.js';
import { StateMark } from '../ui/icons.js';
import { type Column, Table } from '../ui/table.js';
import { Time } from '../ui/time.js';

const AUDIT = 50;
/** How often the audit log is read again, in milliseconds. */
const AUDIT_EVERY_MS = 5_000;

const ENTRIES: readonly Column<AuditRow>[] = [
  { id: 'at', title: 'When', render: ({ at }) => <Time at={at} as="full" /> },
  { id: 'who', title: 'Who', render: ({ who }) => who ?? '–' },
  { id: 'role', title: 'Role', spare: 1, render: ({ role }) => role ?? '–' },
  { id: 'action', title: 'Did', render: ({ action }) => words(action) },
  { id: 'target', title: 'To', render: ({ target }) => <span class="cut" title={target ?? undefined}>{target ?? '–'}</span> },
  { id: 'outcome', title: 'Outcome', render: ({ outcome }) => (/refus|fail|denied/.test(outcome) ? <StateMark state="warning" text={words(outcome)} /> : words(outcome)) },
  { id: 'detail', title: 'Detail', spare: 1, render: ({ detail }) => <span class="cut" title={detail ?? undefined}>{detail ?? ''}</span> },
  { id: 'from', title: 'From', spare: 2, render: ({ from }) => from ?? '–' },
];

/** Who did what, newest first. */
export function Audit(): JSX.Element {
  const offset = route.value.params['offset'] ?? null;
  const document = useDocument<Page<AuditRow>>('/api/admin/audit', { limit: AUDIT, offset }, AUDIT_EVERY_MS);
  // The log cannot be filtered: all entries match.
  const data = useComputed(() => {
    const page = document.data.value;
    return page && { ...page, matched: page.total };
  });
  const found: Found<Page<AuditRow>> = useMemo(() => ({ data, problem: document.problem, loading: document.loading }), []);
  return (
    <>
      <h1 class="hidden">Audit log</h1>
      <p class="quiet spaced">Every action, every live tap and every refusal of one. The last 1,000 are in memory; all are appended to <code>audit.jsonl</code> in the data folder.</p>
      <Table label="Audit log, newest first" found={found} columns={ENTRIES} limit={AUDIT} empty={<EmptyState title="Nobody has done anything"><p>Disconnects, silences, drains, published events of this page and live taps are written here, with who it was and from where.</p></EmptyState>} />
    </>
  );
}
