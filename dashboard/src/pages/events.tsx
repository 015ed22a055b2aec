import type { JSX } from 'preact';
import { useNotable } from '../notable.js';
import { route } from '../router.js';
import { Choice } from '../ui/choice.js';
import { EmptyState, Trouble } from '../ui/empty.js';
import { NotableList } from '../ui/notable.js';

const EVENTS = 200;

/** What happened, newest first. */
export function Events(): JSX.Element {
  const { severity = '', type = '' } = route.value.params;
  const { events, problem } = useNotable(EVENTS);
  const all = events.value ?? [];
  const shown = all.filter((event) => (!severity || event.severity === severity) && (!type || event.type === type));
  return (
    <>
      <h1 class="hidden">Events</h1>
      <div class="tools">
        <Choice label="Severity" name="severity" options={['info', 'warning', 'critical']} value={severity} none="all" />
        <Choice label="Type" name="type" options={[...new Set(all.map((event) => event.type))].sort()} value={type} none="all" />
      </div>
      <Trouble problem={problem.value} />
      {shown.length > 0 ? <div class="panel"><NotableList events={shown} label="Notable events, newest first" /></div> : events.value && (
        <EmptyState title={all.length > 0 ? 'Nothing of this kind' : 'Nothing of note yet'}>
          <p>Starts, new settings, alerts that begin and end, a store that is slow or back, limits that were reached, what operators did: the last 1,000, to be set beside a graph.</p>
        </EmptyState>
      )}
    </>
  );
}
