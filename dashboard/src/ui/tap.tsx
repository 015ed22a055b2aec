import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { TapMessage } from '../api.js';
import { bytes, count, milliseconds, plural } from '../format.js';
import { mayAct } from '../session.js';
import { useEvents } from '../store.js';
import { Trouble } from './empty.js';
import { Problem } from '../session.js';
import { Icon } from './icons.js';
import { Time } from './time.js';

/** How many messages are kept to look at. */
const KEPT = 200;

interface Heard extends TapMessage {
  readonly id: number;
}

let turn = 0;

/** What a connection is told and says, as it happens, once somebody asks for it. */
export function Tap({ session }: { readonly session: string }): JSX.Element {
  const [open, setOpen] = useState(false);
  const [payload, setPayload] = useState(false);
  const [messages, setMessages] = useState<readonly Heard[]>([]);
  const [skipped, setSkipped] = useState(0);
  const [problem, setProblem] = useState<Problem | null>(null);
  useEvents(open ? `$sys.tap:${session}${payload ? '/payload' : ''}` : null, (type, data) => {
    if (type === 'tap') setMessages((held) => [{ ...(data as TapMessage), id: ++turn }, ...held].slice(0, KEPT));
    else if (type === 'skipped') setSkipped((held) => held + (data as { readonly messages: number }).messages);
    else if (type === 'error') setProblem(new Problem(400, 'tap', String((data as { readonly message: unknown }).message)));
  });
  return (
    <section class="card tap">
      <header>
        <h2>Live tap</h2>
        <button type="button" class={open ? 'button' : 'button primary'} aria-pressed={open} onClick={() => setOpen(!open)}>
          <Icon name={open ? 'pause' : 'eye'} /> {open ? 'Stop' : 'Listen in'}
        </button>
        {mayAct.value && <label class="check"><input type="checkbox" checked={payload} onChange={(event) => setPayload(event.currentTarget.checked)} /> show payloads</label>}
        {skipped > 0 && <span class="quiet">{plural(skipped, 'message')} left out</span>}
      </header>
      <Trouble problem={problem} />
      {!open && messages.length === 0 && <p class="quiet">At most 100 messages a second, of the rest the number. Payloads are hidden{mayAct.value ? ' unless you ask for them' : ''}. Listening is written to the audit log.</p>}
      {open && messages.length === 0 && <p class="quiet">Waiting for the next message …</p>}
      {messages.length > 0 && <Messages messages={messages} />}
    </section>
  );
}

function Messages({ messages }: { readonly messages: readonly Heard[] }): JSX.Element {
  return (
    <div class="table-scroll tap-messages" tabIndex={0} role="region" aria-label="Messages, newest first">
      <table>
        <thead><tr><th scope="col">Time</th><th scope="col">Way</th><th scope="col">Kind</th><th scope="col">Channel</th><th scope="col" class="number">Sequence</th><th scope="col" class="number">Size</th><th scope="col" class="number">Latency</th><th scope="col">Payload</th></tr></thead>
        <tbody>
          {messages.map(({ id, at, direction, kind, channel, sequence, bytes: size, latencyMs, payload }) => (
            <tr key={id}>
              <td><Time at={at} as="exact" /></td><td><Icon name={direction === 'out' ? 'down' : 'up'} /> {direction}</td><td>{kind}</td><td>{channel ?? '–'}</td>
              <td class="number">{count(sequence)}</td><td class="number">{bytes(size)}</td><td class="number">{milliseconds(latencyMs)}</td>
              <td>{payload === null ? <span class="quiet">hidden</span> : <code class="payload">{payload}</code>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
