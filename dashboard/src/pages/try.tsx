import { presence } from '@pulsewire/client/collab';
import { signal } from '@preact/signals';
import type { Member } from '@pulsewire/client';
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { useFollow } from '../follow.js';
import { plural } from '../format.js';
import { choose, link, route } from '../router.js';
import { attending, type Language, publishing, subscribing, TOKEN } from '../snippets.js';
import { token } from '../session.js';
import { client, live, soon } from '../store.js';
import { Code, Trouble } from '../ui/empty.js';
import { EventList } from '../ui/events.js';
import { Icon } from '../ui/icons.js';
import { parsed, PublishBox } from '../ui/publish.js';
import { MemberLines, usePassing } from './channel.js';

const TABS = { publish: 'Publish', subscribe: 'Subscribe', presence: 'Presence' } as const;
type Tab = keyof typeof TABS;
const LANGUAGES: Readonly<Record<Language, string>> = { curl: 'curl', typescript: 'TypeScript', rust: 'Rust' };

function tabOf(name: string | undefined): Tab {
  return name === 'subscribe' || name === 'presence' ? name : 'publish';
}

function languageOf(name: string | undefined): Language {
  return name === 'typescript' || name === 'rust' ? name : 'curl';
}

/** Does something with a channel here, and says how a program does the same. */
export function TryIt(): JSX.Element {
  const { params } = route.value;
  const tab = tabOf(params['tab']);
  const { channel = 'run:42', type = 'note', data = '{"text":"hello"}' } = params;
  return (
    <>
      <h1 class="hidden">Try it</h1>
      <nav class="tabs" aria-label="What to try">
        {(Object.keys(TABS) as Tab[]).map((name) => <a key={name} href={link('try', null, { ...params, tab: name === 'publish' ? null : name })} aria-current={name === tab ? 'true' : undefined}>{TABS[name]}</a>)}
      </nav>
      <div class="halves even">
        <div class="stack">
          <section class="panel" aria-label={TABS[tab]}>
            <label class="field channel-field"><span>Channel</span>
              <input type="text" value={channel} maxLength={255} required autocomplete="off" spellcheck={false} onInput={(event) => choose({ channel: event.currentTarget.value }, { replace: true })} />
            </label>
            {tab === 'publish' && <PublishBox channel={channel} draft={{ type, data }} onDraft={(draft) => choose({ type: draft.type, data: draft.data }, { replace: true })} />}
            {tab === 'subscribe' && <Listen channel={channel} />}
            {tab === 'presence' && <Attend channel={channel} />}
          </section>
        </div>
        <Snippets tab={tab} channel={channel} type={type} data={data} />
      </div>
    </>
  );
}

// ---- listening

function Listen({ channel }: { readonly channel: string }): JSX.Element {
  const [on, setOn] = useState<string | null>(null);
  const [events, problem] = usePassing(on);
  // Another name is another question.
  useEffect(() => setOn(null), [channel]);
  return (
    <>
      <Switch on={on !== null} words={['Subscribe', 'Unsubscribe']} onTurn={() => setOn(on === null ? channel : null)}>
        {on === null ? 'Nothing is asked of the server yet.' : `Subscribed: ${plural(events.length, 'event')} so far.`}
      </Switch>
      <Trouble problem={problem} />
      {events.length > 0 && <EventList events={events} label={`Events of ${channel}`} />}
    </>
  );
}

// ---- being seen

function Attend({ channel }: { readonly channel: string }): JSX.Element {
  const [on, setOn] = useState<string | null>(null);
  useEffect(() => setOn(null), [channel]);
  const { problem } = useFollow(on, {}, { presence: true });
  const there = useThere(on);
  const [cursor, setCursor] = useState('{"line":7}');
  const json = parsed(cursor);
  return (
    <>
      <Switch on={on !== null} words={['Join', 'Leave']} onTurn={() => setOn(on === null ? channel : null)}>
        {on === null ? 'You are seen in the channel while you are in it.' : `${plural(there.members.length, 'user')} here.`}
      </Switch>
      <Trouble problem={problem.value} />
      {on !== null && (
        <form class="inline panel-tools" onSubmit={(event) => { event.preventDefault(); if (json) there.move(json.json); }}>
          <label class="choice"><span>Your cursor</span><input type="text" class="short-input tags-input" value={cursor} spellcheck={false} autocomplete="off" aria-invalid={json ? undefined : 'true'} onInput={(event) => setCursor(event.currentTarget.value)} /></label>
          <button type="submit" class="button" disabled={!json}>Move</button>
        </form>
      )}
      {there.members.length > 0 && <MemberLines members={there.members.map(({ user, cursor }) => ({ userId: user, cursor }))} />}
    </>
  );
}

/** Who is in a channel while this user is. */
function useThere(channel: string | null): { readonly members: readonly Member[]; move(cursor: NonNullable<ReturnType<typeof parsed>>['json']): void } {
  const held = useMemo(() => ({ members: signal<readonly Member[]>([]), move: (_: unknown): void => undefined }), []);
  useEffect(() => {
    const connection = client.value;
    if (channel === null || !connection || !live.value) return undefined;
    const there = presence(connection, channel);
    held.move = (cursor) => there.update(cursor as never);
    const stop = there.members.subscribe((members) => soon(() => (held.members.value = members)));
    return () => {
      stop();
      there.leave();
      held.move = () => undefined;
      held.members.value = [];
    };
  }, [channel, client.value, live.value]);
  return { members: held.members.value, move: (cursor) => held.move(cursor) };
}

interface SwitchProps {
  readonly on: boolean;
  readonly words: readonly [string, string];
  readonly onTurn: () => void;
  readonly children: ComponentChildren;
}

function Switch({ on, words: [begin, end], onTurn, children }: SwitchProps): JSX.Element {
  return (
    <p class="publish-foot panel-text">
      <button type="button" class={on ? 'button' : 'button primary'} onClick={onTurn}><Icon name={on ? 'pause' : 'play'} /> {on ? end : begin}</button>
      <span class="quiet" role="status">{children}</span>
    </p>
  );
}

// ---- the same in a program

interface SnippetsProps {
  readonly tab: Tab;
  readonly channel: string;
  readonly type: string;
  readonly data: string;
}

function Snippets({ tab, channel, type, data }: SnippetsProps): JSX.Element {
  const language = languageOf(route.value.params['language']);
  const [shown, setShown] = useState(false);
  const example = { origin: location.origin, token: shown ? token.value ?? TOKEN : TOKEN, channel };
  const text = tab === 'publish' ? publishing({ ...example, type, data }, language) : tab === 'subscribe' ? subscribing(example, language) : attending(example, language);
  return (
    <section class="panel snippets" aria-label="The same in a program">
      <h2>The same in a program</h2>
      <div class="tools panel-tools">
        <span class="buttons" role="group" aria-label="Language">
          {(Object.keys(LANGUAGES) as Language[]).map((name) => <button key={name} type="button" class="button" aria-pressed={name === language} onClick={() => choose({ language: name === 'curl' ? null : name }, { replace: true })}>{LANGUAGES[name]}</button>)}
        </span>
        <label class="choice"><input type="checkbox" checked={shown} onChange={(event) => setShown(event.currentTarget.checked)} /> Show my token</label>
      </div>
      <Code label={`${TABS[tab]} with ${LANGUAGES[language]}`} text={text} />
      <p class="panel-text quiet">{shown ? 'Whoever has this text has your rights until the token runs out.' : 'The token stays out of it: put one into TOKEN.'}{tab === 'publish' && language !== 'rust' && ' It needs a grant to publish.'}</p>
    </section>
  );
}
