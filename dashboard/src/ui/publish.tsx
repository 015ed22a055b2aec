import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { Json } from '@pulsewire/client';
import { mayPublish } from '../follow.js';
import { claims, Problem } from '../session.js';
import { client } from '../store.js';
import { Trouble } from './empty.js';
import { StateMark } from './icons.js';

/** What is to be published. */
export interface Draft {
  readonly type: string;
  /** As it was typed. */
  readonly data: string;
}

interface Props {
  readonly channel: string;
  readonly draft: Draft;
  readonly onDraft: (draft: Draft) => void;
  readonly onDone?: () => void;
}

/** JSON as it was typed; null if it is none. */
export function parsed(text: string): { readonly json: Json } | null {
  try {
    return { json: JSON.parse(text.trim() || 'null') as Json };
  } catch {
    return null;
  }
}

/** Publishes one event for sure, and says what the server made of it. */
export function PublishBox({ channel, draft, onDraft, onDone }: Props): JSX.Element {
  const [said, setSaid] = useState('');
  const [problem, setProblem] = useState<Problem | null>(null);
  const json = parsed(draft.data);
  const may = mayPublish();
  const publish = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    if (!json || !channel) return;
    setProblem(null);
    setSaid('on its way …');
    try {
      const ack = await client.value?.publish(channel, draft.type, json.json);
      setSaid(ack ? placeOf(ack.sequenceNumber, ack.duplicate) : '');
      onDone?.();
    } catch (error) {
      setSaid('');
      setProblem(problemOfPublish(error));
    }
  };
  return (
    <form class="publish" onSubmit={(event) => void publish(event)}>
      <label><span>Type</span><input type="text" required maxLength={64} pattern="[A-Za-z0-9_:.\/\-]+" value={draft.type} autocomplete="off" spellcheck={false} onInput={(event) => onDraft({ ...draft, type: event.currentTarget.value })} /></label>
      <label><span>Data (JSON)</span><textarea rows={4} value={draft.data} spellcheck={false} aria-invalid={json ? undefined : 'true'} onInput={(event) => onDraft({ ...draft, data: event.currentTarget.value })} /></label>
      <div class="publish-foot">
        <button type="submit" class="button primary" disabled={!may || !json || !channel}>Publish</button>
        <span role="status">{json ? said && <StateMark state="target" text={said} /> : <StateMark state="warning" text="this is not JSON" />}</span>
      </div>
      {!may && <p class="quiet why-not">Publishing needs a token of the role admin with a grant to publish here; you are signed in as {claims.value?.role ?? 'nobody'}.</p>}
      <Trouble problem={problem} />
    </form>
  );
}

function placeOf(sequence: number | null, duplicate: boolean): string {
  if (sequence === null) return 'accepted; this channel keeps nothing';
  return `stored at sequence ${sequence}${duplicate ? ', as a repetition' : ''}`;
}

function problemOfPublish(error: unknown): Problem {
  const { code = 'unreachable', message = '' } = error as { code?: string; message?: string };
  const help = code === 'forbidden' ? 'The token needs a grant to publish on this channel: pulsewire token create … --role admin --channel PATTERN --publish.' : '';
  return new Problem(0, code, message && message !== code ? message : `the server said ${code}`, help);
}
