import { signal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Banner } from './banner.js';
import { paused } from './clock.js';
import { count, duration } from './format.js';
import { overlay, useKeys } from './keys.js';
import { type PageEntry, PAGES } from './pages.js';
import { Help, Palette } from './palette.js';
import { choose, go, link, range, RANGES, route } from './router.js';
import { claims, signOut } from './session.js';
import { client, overview } from './store.js';
import { theme, turnTheme } from './theme.js';
import { EmptyState, Trouble } from './ui/empty.js';
import { Icon } from './ui/icons.js';
import { Logo } from './ui/logo.js';

/** What stands around every page: the rail, the bar, what fires. */
export function Frame(): JSX.Element {
  const { page, id } = route.value;
  const entry = PAGES.find(({ path }) => path === page);
  const [open, setOpen] = useState(false);
  useKeys(keys());
  useEffect(() => {
    setOpen(false);
    document.title = `${id ?? entry?.title ?? 'Not found'} – Pulsewire`;
  }, [page, id]);
  return (
    <div class="frame">
      <a class="skip" href="#page">Skip to the page</a>
      <TopBar onMenu={() => setOpen(!open)} open={open} />
      <Rail page={page} open={open} />
      <main id="page" tabIndex={-1}>
        <Banner />
        <Trouble problem={overview.problem.value} />
        <Body key={`${page}/${id}`} entry={entry} id={id} />
      </main>
      {overlay.value === 'palette' && <Palette />}
      {overlay.value === 'help' && <Help />}
    </div>
  );
}

function Body({ entry, id }: { readonly entry: PageEntry | undefined; readonly id: string | null }): JSX.Element {
  if (entry && id === null) return <entry.view />;
  if (entry?.detail && id !== null) return <entry.detail id={id} />;
  return <EmptyState title="There is no such page"><p><a href={link('')}>To the overview</a></p></EmptyState>;
}

function keys(): Record<string, () => void | boolean> {
  const jumps = PAGES.map(({ key, path }) => [`g ${key}`, () => go(link(path))] as const);
  return {
    ...Object.fromEntries(jumps),
    'Control+k': () => void (overlay.value = 'palette'),
    '?': () => void (overlay.value = 'help'),
    '.': () => void (paused.value = !paused.value),
    't': () => {
      const names = Object.keys(RANGES);
      choose({ range: names[(names.indexOf(range.value) + 1) % names.length] });
    },
    'Escape': () => {
      if (overlay.value !== null) overlay.value = null;
      else if (route.value.id !== null) go(link(route.value.page));
      else return false;
      return true;
    },
  };
}

function Rail({ page, open }: { readonly page: string; readonly open: boolean }): JSX.Element {
  const counts = overview.data.value?.counts ?? {};
  return (
    <nav class={open ? 'rail open' : 'rail'} aria-label="Pages">
      <ul>
        {PAGES.map((entry) => {
          const badge = entry.badge === undefined ? 0 : counts[entry.badge] ?? 0;
          const number = entry.count === undefined ? undefined : counts[entry.count];
          return (
            <li key={entry.path}>
              <a href={link(entry.path)} aria-current={entry.path === page ? 'page' : undefined} title={`${entry.title} (g ${entry.key})`}>
                <Icon name={entry.icon} /><span class="rail-title">{entry.title}</span>
                {badge > 0 && <span class="badge" aria-label={`${badge} critical`}>{count(badge)}</span>}
                {number !== undefined && <span class="rail-count">{count(number)}</span>}
              </a>
            </li>
          );
        })}
      </ul>
    </nav>
  );
}

const narrowness = matchMedia('(max-width: 640px)');
const narrow = signal(narrowness.matches);
narrowness.addEventListener('change', () => (narrow.value = narrowness.matches));

const THEMES = { system: 'system', light: 'sun', dark: 'moon' } as const;

function TopBar({ onMenu, open }: { readonly onMenu: () => void; readonly open: boolean }): JSX.Element {
  const node = overview.data.value?.node;
  const who = claims.value;
  return (
    <header class="bar">
      <button type="button" class="icon-button menu" aria-label="Pages" aria-expanded={open} onClick={onMenu}><Icon name="menu" /></button>
      <a class="brand" href={link('')} aria-label="Pulsewire: overview"><Logo /> <span>Pulsewire</span></a>
      <span class="bar-node">
        {node ? <>{node.cluster && <b>{node.cluster}</b>} node <b>{node.id}</b> <span class="wide-only">{node.version} · up {duration(node.uptimeSeconds)}</span></> : '…'}
        {node?.dev && <span class="chip">dev</span>}
      </span>
      <span class="bar-space" />
      <label class="range"><span class="hidden">Time range</span>
        <select value={range.value} onChange={(event) => choose({ range: event.currentTarget.value })}>
          {Object.keys(RANGES).map((name) => <option key={name} value={name}>{name}</option>)}
        </select>
      </label>
      <button type="button" class={paused.value ? 'button live paused' : 'button live'} aria-pressed={paused.value} onClick={() => (paused.value = !paused.value)} title="Pause (.)">
        <Icon name={paused.value ? 'play' : 'pause'} /><span>{paused.value ? 'Paused' : 'Live'}</span>
      </button>
      <connection-health class="health" {...(narrow.value && { variant: 'dot' })} client={client.value} />
      <button type="button" class="button search" onClick={() => (overlay.value = 'palette')} title="Go to (Ctrl K)"><Icon name="search" /><kbd class="wide-only">Ctrl K</kbd><span class="hidden">Go to</span></button>
      <button type="button" class="icon-button" aria-label={`Theme: ${theme.value}`} title={`Theme: ${theme.value}`} onClick={turnTheme}><Icon name={THEMES[theme.value]} /></button>
      <button type="button" class="icon-button" aria-label="Sign out" title={`Sign out ${who ? `${who.user} (${who.role})` : ''}`} onClick={() => signOut()}><Icon name="out" /></button>
    </header>
  );
}
