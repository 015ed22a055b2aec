import type { JSX } from 'preact';
import { useMemo, useRef, useState } from 'preact/hooks';
import { paused } from './clock.js';
import { overlay } from './keys.js';
import { PAGES } from './pages.js';
import { choose, go, link, RANGES } from './router.js';
import { signOut } from './session.js';
import { turnTheme } from './theme.js';
import { Dialog } from './ui/dialog.js';
import { Icon, type IconName } from './ui/icons.js';

interface Command {
  readonly title: string;
  readonly hint: string;
  readonly icon: IconName;
  run(): void;
}

/** What can always be done, besides what the typed text names. */
function commands(): Command[] {
  return [
    ...PAGES.map(({ title, path, key, icon }): Command => ({ title, hint: `g ${key}`, icon, run: () => go(link(path)) })),
    ...Object.keys(RANGES).map((range): Command => ({ title: `Look back ${range}`, hint: 't', icon: 'series', run: () => choose({ range }) })),
    { title: paused.value ? 'Go on' : 'Pause', hint: '.', icon: paused.value ? 'play' : 'pause', run: () => (paused.value = !paused.value) },
    { title: 'Change the theme', hint: '', icon: 'moon', run: turnTheme },
    { title: 'Keyboard', hint: '?', icon: 'help', run: () => (overlay.value = 'help') },
    { title: 'Sign out', hint: '', icon: 'out', run: () => signOut() },
  ];
}

/** Where a typed text may lead. */
function jumps(text: string): Command[] {
  if (!text) return [];
  const has = (path: string): boolean => PAGES.some((page) => page.path === path);
  const found: Command[] = [
    { title: `Connections with “${text}”`, hint: 'search', icon: 'search', run: () => go(link('connections', null, { filter: text })) },
    { title: `Connection ${text}`, hint: 'id', icon: 'connections', run: () => go(link('connections', text)) },
    { title: `Connections of user ${text}`, hint: 'user', icon: 'connections', run: () => go(link('connections', null, { filter: `user:${text}` })) },
  ];
  if (has('channels')) found.push({ title: `Channel ${text}`, hint: 'channel', icon: 'channels', run: () => go(link('channels', text)) });
  return found;
}

/** Jump to a page, a connection, a user, a channel, or do something: ⌘K. */
export function Palette(): JSX.Element {
  const [text, setText] = useState('');
  const [chosen, setChosen] = useState(0);
  const list = useRef<HTMLUListElement>(null);
  const found = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    return [...commands().filter(({ title }) => title.toLowerCase().includes(wanted)), ...jumps(text.trim())];
  }, [text]);
  const at = Math.min(chosen, found.length - 1);
  const close = (): void => void (overlay.value = null);
  const run = (command: Command | undefined): void => {
    close();
    command?.run();
  };
  const move = (by: number): void => {
    const next = (at + by + found.length) % found.length;
    setChosen(next);
    list.current?.children[next]?.scrollIntoView({ block: 'nearest' });
  };
  const key = (event: KeyboardEvent): void => {
    if (event.key === 'ArrowDown') move(1);
    else if (event.key === 'ArrowUp') move(-1);
    else if (event.key === 'Enter') run(found[at]);
    else return;
    event.preventDefault();
  };
  return (
    <Dialog title="Go to" onClose={close}>
      <input
        class="palette-input" type="text" role="combobox" aria-expanded="true" aria-controls="palette-list" aria-label="Page, id, user or channel"
        aria-activedescendant={`palette-${at}`} autofocus autocomplete="off" spellcheck={false} placeholder="Page, id, user or channel"
        value={text} onInput={(event) => { setText(event.currentTarget.value); setChosen(0); }} onKeyDown={key}
      />
      <ul id="palette-list" class="palette-list" role="listbox" aria-label="Where to" ref={list}>
        {found.map((command, index) => (
          <li key={command.title} id={`palette-${index}`} role="option" aria-selected={index === at} onClick={() => run(command)}>
            <Icon name={command.icon} /> <span>{command.title}</span> <kbd>{command.hint}</kbd>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

/** What the keys do. */
export function Help(): JSX.Element {
  const rows: readonly (readonly [string, string])[] = [
    ['⌘K or Ctrl K', 'go to a page, connection, user or channel'],
    ...PAGES.map(({ key, title }) => [`g ${key}`, title] as const),
    ['/', 'filter'],
    ['j, k', 'down and up in a table'],
    ['Enter', 'open what is chosen'],
    ['.', 'pause, go on'],
    ['t', 'next time range'],
    ['Esc', 'back, close'],
    ['?', 'this'],
  ];
  return (
    <Dialog title="Keyboard" onClose={() => (overlay.value = null)}>
      <dl class="keys">{rows.map(([keys, what]) => <div key={keys}><dt><kbd>{keys}</kbd></dt><dd>{what}</dd></div>)}</dl>
    </Dialog>
  );
}
