import type { Row } from './api.js';

/** A list of rows as the server last told it: a `page` is whole and in order, `changes` alter it. Sans I/O. */
export interface Page<R extends Row = Row> {
  readonly revision: number;
  readonly at: string;
  readonly total: number;
  readonly matched: number;
  readonly rows: readonly R[];
  /** Further fields of the list. */
  readonly [field: string]: unknown;
}

/** Rows by `id` with the fields that are others since `base`. */
export interface Changes {
  readonly revision: number;
  readonly base: number;
  readonly rows: readonly (Row & { readonly [field: string]: unknown })[];
  readonly [field: string]: unknown;
}

/** Fields whose changes hold new elements only, each with an `id`, and how many are kept. */
export type Growing = Readonly<Record<string, number>>;

/** Takes a page over. Rows that say the same as before stay the same objects, so that nothing is drawn anew for them. */
export function turn<R extends Row>(held: Page<R> | null, page: Page<R>): Page<R> {
  if (!held) return page;
  const known = new Map(held.rows.map((row) => [row.id, row]));
  return { ...page, rows: page.rows.map((row) => reuse(known.get(row.id), row)) };
}

/** Applies changes; null if they do not follow what is held. Rows that are gone stay, marked, until the next page. */
export function change<R extends Row>(held: Page<R> | null, changes: Changes, growing: Growing = {}): Page<R> | null {
  const { base, rows: changed, ...fields } = changes;
  if (!held || held.revision !== base) return null;
  if (changed.length === 0) return { ...held, ...fields, rows: held.rows } as Page<R>;
  const fresh = new Map(changed.map((row) => [row.id, row]));
  const rows = held.rows.map((row) => {
    const news = fresh.get(row.id);
    if (!news) return row;
    fresh.delete(row.id);
    return merge(row, news, growing);
  });
  // A row the page did not hold has no place in its order: the next page brings it.
  return { ...held, ...fields, rows } as Page<R>;
}

function merge<R extends Row>(row: R, news: Row & { readonly [field: string]: unknown }, growing: Growing): R {
  const merged: Record<string, unknown> = { ...row, ...news };
  for (const [field, most] of Object.entries(growing)) {
    if (news[field]) merged[field] = grow(row[field as keyof R], news[field], most);
  }
  return merged as unknown as R;
}

/** The elements of both, those with the same `id` once, the newest `most` of them. */
function grow(held: unknown, news: unknown, most: number): readonly unknown[] {
  const byId = new Map([...elements(held), ...elements(news)].map((element) => [element.id, element]));
  return [...byId.values()].slice(-most);
}

function elements(value: unknown): readonly { readonly id: unknown }[] {
  return Array.isArray(value) ? value : [];
}

function reuse<R extends Row>(held: R | undefined, row: R): R {
  if (!held || held.gone) return row;
  const names = Object.keys(row) as (keyof R)[];
  const same = names.length === Object.keys(held).length && names.every((name) => equal(held[name], row[name]));
  return same ? held : row;
}

function equal(one: unknown, other: unknown): boolean {
  return one === other || (typeof one === 'object' && typeof other === 'object' && JSON.stringify(one) === JSON.stringify(other));
}
