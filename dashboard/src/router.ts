import { batch, computed, type ReadonlySignal, signal } from '@preact/signals';
import { queryString, type Query } from './query.js';

/** Where the reader is. Everything that was chosen stands in the address, so that a link shows the same. */
export interface Route {
  /** The page: the first part of the path; empty for the overview. */
  readonly page: string;
  /** What the page is about: the rest of the path, decoded. */
  readonly id: string | null;
  readonly params: Readonly<Record<string, string>>;
}

export function parse(href: string): Route {
  const url = new URL(href, 'http://page');
  const [page = '', ...rest] = url.pathname.split('/').slice(1);
  const id = rest.join('/');
  return { page, id: id ? decoded(id) : null, params: Object.fromEntries(url.searchParams) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address of a page. */
export function address(page: string, id: string | number | null = null, params: Query = {}): string {
  const path = id === null ? `/${page}` : `/${page}/${encodeURIComponent(id)}`;
  return path + queryString(params);
}

const current = signal<Route>(parse(globalThis.location?.href ?? '/'));

export const route: ReadonlySignal<Route> = current;

/** The time ranges one can look at, and their length in minutes. */
export const RANGES: Readonly<Record<string, number>> = { '5m': 5, '15m': 15, '1h': 60, '6h': 360, '24h': 1440 };
export const RANGE_DEFAULT = '15m';

/** How far back charts look. */
export const range = computed(() => {
  const wanted = current.value.params['range'] ?? RANGE_DEFAULT;
  return wanted in RANGES ? wanted : RANGE_DEFAULT;
});

/** A link that keeps the range that is looked at. */
export function link(page: string, id: string | number | null = null, params: Query = {}): string {
  return address(page, id, { ...params, range: kept() });
}

/** A link of the server's, with the range that is looked at. */
export function linkTo(href: string): string {
  const { page, id, params } = parse(href);
  return link(page, id, params);
}

function kept(): string | null {
  return range.value === RANGE_DEFAULT ? null : range.value;
}

/** Goes somewhere. `replace` leaves no step to go back to. */
export function go(href: string, { replace = false } = {}): void {
  if (replace) history.replaceState(null, '', href);
  else history.pushState(null, '', href);
  current.value = parse(href);
}

/** Chooses something on this page; null takes a choice back. Typing leaves no steps behind. */
export function choose(params: Query, options: { replace?: boolean } = {}): void {
  const { page, id, params: before } = current.value;
  go(address(page, id, { ...before, ...params }), options);
}

/** Hears of links that are followed and of steps back. */
export function listen(): void {
  addEventListener('popstate', () => batch(() => (current.value = parse(location.href))));
  document.addEventListener('click', (event) => {
    const anchor = event.target instanceof Element ? event.target.closest('a') : null;
    const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (!anchor || !plain || event.defaultPrevented || anchor.target || anchor.hasAttribute('download')) return;
    if (anchor.origin !== location.origin || anchor.hash) return;
    event.preventDefault();
    go(anchor.pathname + anchor.search);
    scrollTo(0, 0);
  });
}
