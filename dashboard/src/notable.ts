import { computed, type ReadonlySignal, signal } from '@preact/signals';
import { useMemo } from 'preact/hooks';
import type { NotableEvent, State } from './api.js';
import type { Problem } from './session.js';
import { useDocument, useEvents } from './store.js';

/** How bad an event is. */
export const SEVERITY: Readonly<Record<string, State>> = { info: 'none', warning: 'warning', critical: 'critical' };

/** Notable events, newest first, as they come; null until the server has answered. */
export function useNotable(limit: number): { readonly events: ReadonlySignal<readonly NotableEvent[] | null>; readonly problem: ReadonlySignal<Problem | null> } {
  const found = useDocument<{ readonly rows: readonly NotableEvent[] }>('/api/admin/events', { limit });
  const fresh = useMemo(() => signal<readonly NotableEvent[]>([]), []);
  useEvents('$sys.events', (type, data) => {
    if (type !== 'error') fresh.value = [data as NotableEvent, ...fresh.value].slice(0, limit);
  });
  const events = useMemo(() => computed(() => found.data.value && newestFirst([...found.data.value.rows, ...fresh.value], limit)), []);
  return { events, problem: found.problem };
}

function newestFirst(all: readonly NotableEvent[], limit: number): readonly NotableEvent[] {
  const byId = new Map(all.map((event) => [event.id, event]));
  return [...byId.values()].sort((one, other) => Date.parse(other.at) - Date.parse(one.at) || Number(other.id) - Number(one.id)).slice(0, limit);
}
