import { type Signal, signal } from '@preact/signals';
import { Component, type ComponentChildren, type JSX } from 'preact';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Row } from '../api.js';
import { count } from '../format.js';
import { useKeys } from '../keys.js';
import type { Page } from '../list.js';
import { choose, route } from '../router.js';
import type { Found } from '../store.js';
import { Trouble } from './empty.js';
import { Icon } from './icons.js';

/** A column of a {@link Table}. Keep the list outside of components: rows are drawn again when it is another. */
export interface Column<R extends Row> {
  readonly id: string;
  readonly title: string;
  /** What the title means, told when pointed at. */
  readonly help?: string;
  /** The server's name for sorting by it; without one it cannot be sorted by. */
  readonly sort?: string;
  /** The first click sorts from the largest. Default: it does. */
  readonly smallFirst?: boolean;
  readonly number?: boolean;
  /** Left out where the table is narrow: 1 first, 3 last. Without one it always stands. */
  readonly spare?: 1 | 2 | 3;
  /**
   * The fields that decide what {@link render} gives, where that is more than text: the cell is drawn again when one of them is another.
   * Cells of text are compared by themselves.
   */
  readonly reads?: readonly (keyof R)[];
  render(row: R): ComponentChildren;
}

interface Props<R extends Row> {
  /** What the table lists, for who does not see it. */
  readonly label: string;
  readonly found: Found<Page<R>>;
  readonly columns: readonly Column<R>[];
  /** Where a row leads; the first cell is its link. */
  readonly href?: (row: R) => string;
  /** The sort that holds, with `-` in front from the largest. */
  readonly sort?: string;
  /** Rows of a page; paging stands in the address as `offset`. */
  readonly limit?: number;
  readonly empty: ComponentChildren;
}

/**
 * Rows as the server put them in order; clicking on a title asks it for another. `j` and `k` go down and up, Enter follows. Only
 * rows that changed are drawn again.
 */
export function Table<R extends Row>({ label, found, columns, href, sort = '', limit = 50, empty }: Props<R>): JSX.Element {
  const page = found.data.value;
  if (page && page.matched === 0 && page.rows.length === 0 && !found.problem.value) return <>{empty}</>;
  return (
    <div class="table" data-loading={found.loading.value ? 'yes' : 'no'}>
      <Trouble problem={found.problem.value} />
      {(page || !found.problem.value) && <Grid label={label} columns={columns} rows={page?.rows ?? null} href={href} sort={sort} />}
      {page && <Pager page={page} limit={limit} />}
    </div>
  );
}

interface GridProps<R extends Row> {
  readonly label: string;
  readonly columns: readonly Column<R>[];
  /** Null: they are not known yet. */
  readonly rows: readonly R[] | null;
  readonly href?: ((row: R) => string) | undefined;
  readonly sort?: string;
}

/** From which width on, in CSS pixels, columns stand that can be spared: by {@link Column.spare}. */
const WIDTHS: Readonly<Record<number, number>> = { 0: 0, 1: 760, 2: 1180, 3: 1640 };

/** Rows alone, as they are. `j` and `k` go down and up where rows lead somewhere. */
export function Grid<R extends Row>({ label, columns: all, rows, href, sort = '' }: GridProps<R>): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const body = useRef<HTMLTableSectionElement>(null);
  const spared = useRoom(box);
  const columns = useMemo(() => all.filter(({ spare = 0 }) => spare <= spared), [all, spared]);
  useKeys({ j: () => step(body.current, 1), k: () => step(body.current, -1) });
  return (
    <div class="grid" data-room={spared} ref={box}>
      <div class="table-scroll" tabIndex={0} role="region" aria-label={label}>
        <table>
          <thead>
            <tr>{columns.map((column) => <Title key={column.id} column={column as unknown as Column<Row>} sort={sort} />)}</tr>
          </thead>
          <tbody ref={body}>
            {rows ? rows.map((row) => <Line key={row.id} row={row} columns={columns} href={href} />) : <Waiting columns={columns.length} />}
          </tbody>
        </table>
      </div>
    </div>
  );
}

/** Which columns there is room for: up to which {@link Column.spare}. */
function useRoom(box: { readonly current: HTMLElement | null }): number {
  const [room, setRoom] = useState(0);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const measure = (): void => setRoom([3, 2, 1, 0].find((spare) => element.clientWidth >= (WIDTHS[spare] ?? 0)) ?? 0);
    measure();
    const watcher = new ResizeObserver(measure);
    watcher.observe(element);
    return () => watcher.disconnect();
  }, []);
  return room;
}

function Title({ column, sort }: { readonly column: Column<Row>; readonly sort: string }): JSX.Element {
  const { title, help, sort: field, number, smallFirst } = column;
  const held = field !== undefined && sort.replace('-', '') === field;
  const down = sort.startsWith('-');
  const turn = (): void => {
    const first = smallFirst ? field : `-${field}`;
    const other = smallFirst ? `-${field}` : field;
    choose({ sort: held && sort === first ? other : first, offset: null });
  };
  return (
    <th scope="col" class={number ? 'number' : undefined} title={help} aria-sort={held ? (down ? 'descending' : 'ascending') : undefined}>
      {field === undefined ? title : (
        <button type="button" class="sort" onClick={turn}>{title}{held && <Icon name={down ? 'down' : 'up'} />}</button>
      )}
    </th>
  );
}

interface LineProps<R extends Row> {
  readonly row: R;
  readonly columns: readonly Column<R>[];
  readonly href: ((row: R) => string) | undefined;
}

/** Whether a cell is text, which changes without anything being drawn again. */
function isText(drawn: ComponentChildren): drawn is string | number {
  return typeof drawn === 'string' || typeof drawn === 'number';
}

/** A cell: its text, or what is drawn in its place. */
interface Cell {
  readonly text: Signal<string | number>;
  drawn: ComponentChildren;
}

/**
 * Rows are compared by identity: those that did not change are the same objects. Of one that did, the texts are set in place; it is
 * drawn again only if a cell that is more than text has changed.
 */
class Line<R extends Row> extends Component<LineProps<R>> {
  private cells: readonly Cell[] = [];

  override shouldComponentUpdate(next: LineProps<R>): boolean {
    const { row, columns } = this.props;
    if (next.columns !== columns) return true;
    if (next.row === row) return false;
    const drawn = columns.filter((column, index) => this.look(column, index, row, next.row));
    return drawn.length > 0 || next.row.gone !== row.gone;
  }

  /** Sets the text of a cell. True if it has to be drawn. */
  private look(column: Column<R>, index: number, before: R, row: R): boolean {
    const cell = this.cells[index];
    if (!cell) return true;
    if (column.reads?.every((field) => before[field] === row[field])) return false;
    const found = column.render(row);
    const text = isText(found);
    const more = !text || !isText(cell.drawn);
    if (text) cell.text.value = found;
    cell.drawn = found;
    return more;
  }

  render({ row, columns, href }: LineProps<R>): JSX.Element {
    this.cells = columns.map((column, index) => {
      const drawn = column.render(row);
      const text = this.cells[index]?.text ?? signal<string | number>('');
      if (isText(drawn)) text.value = drawn;
      return { text, drawn };
    });
    return (
      <tr class={row.gone ? 'gone' : undefined} data-id={row.id} onClick={href && follow}>
        {columns.map((column, index) => {
          const cell = this.cells[index];
          const inside = cell && isText(cell.drawn) ? cell.text : cell?.drawn;
          return <td key={column.id} class={column.number ? 'number' : undefined}>{index === 0 && href ? <a data-row="" href={href(row)}>{inside}</a> : inside}</td>;
        })}
      </tr>
    );
  }
}

/** A click anywhere in a row follows its link, unless it was meant for something else. */
function follow(event: MouseEvent): void {
  if (event.target instanceof Element && !event.target.closest('a,button') && !getSelection()?.toString()) {
    (event.currentTarget as Element).querySelector<HTMLElement>('a[data-row]')?.click();
  }
}

function Waiting({ columns }: { readonly columns: number }): JSX.Element {
  return <>{Array.from({ length: 6 }, (_, index) => <tr key={index} class="waiting"><td colSpan={columns}><i /></td></tr>)}</>;
}

/** The keyboard goes to the link of the next row. */
function step(body: HTMLElement | null, by: number): boolean {
  const links = [...(body?.querySelectorAll<HTMLElement>('a[data-row]') ?? [])];
  if (links.length === 0) return false;
  const at = links.findIndex((link) => link === document.activeElement);
  links[at < 0 ? 0 : Math.min(Math.max(at + by, 0), links.length - 1)]?.focus();
  return true;
}

function Pager({ page, limit }: { readonly page: Page; readonly limit: number }): JSX.Element {
  const offset = Number(route.value.params['offset'] ?? 0) || 0;
  const { total, rows } = page;
  // Of groups there are fewer than of what they are made of.
  const groups = typeof page['groups'] === 'number' ? page['groups'] : null;
  // Rows stay until the next page is put in order, also those that do not match any more.
  const matched = groups ?? Math.max(page.matched, offset + rows.length);
  const to = (next: number): void => choose({ offset: next > 0 ? next : null });
  return (
    <div class="pager">
      <span>
        {rows.length > 0 ? `${count(offset + 1)}–${count(offset + rows.length)} of ` : ''}{count(matched)}
        {groups !== null ? ` groups of ${count(page.matched)}` : matched !== total && ` that match, of ${count(total)}`}
      </span>
      {(offset > 0 || matched > offset + rows.length) && (
        <span class="pager-buttons">
          <button type="button" class="button" disabled={offset === 0} onClick={() => to(offset - limit)}><Icon name="left" /> Previous</button>
          <button type="button" class="button" disabled={matched <= offset + rows.length || offset + limit > 1000} onClick={() => to(offset + limit)}>Next <Icon name="right" /></button>
        </span>
      )}
    </div>
  );
}

interface FilterProps {
  /** What can be said in it, as an example. */
  readonly example: string;
  /** Shown on demand: the fields that are known. */
  readonly help?: ComponentChildren;
  readonly problem?: string | null;
}

/** How long after the last letter the server is asked, in milliseconds. */
const TYPING_MS = 300;

/** The box for the filter of the address (`filter`). `/` goes there. */
export function FilterBox({ example, help, problem }: FilterProps): JSX.Element {
  const box = useRef<HTMLInputElement>(null);
  const held = route.value.params['filter'] ?? '';
  const [text, setText] = useState(held);
  const told = useRef(held);
  useKeys({ '/': () => box.current?.focus() });
  useEffect(() => {
    // Somebody else changed it: a link, a step back, a click on a value.
    if (held !== told.current) setText((told.current = held));
  }, [held]);
  useEffect(() => {
    const timer = setTimeout(() => {
      const wanted = text.trim();
      if (wanted === told.current) return;
      told.current = wanted;
      choose({ filter: wanted, offset: null }, { replace: true });
    }, TYPING_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return (
    <div class="filter">
      <Icon name="search" />
      <input
        ref={box} type="search" value={text} placeholder={example} aria-label="Filter" aria-invalid={problem ? 'true' : undefined}
        autocomplete="off" spellcheck={false} onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => event.key === 'Escape' && event.currentTarget.blur()}
      />
      <kbd>/</kbd>
      {help && <details class="filter-help"><summary>Fields</summary><div>{help}</div></details>}
    </div>
  );
}
