import type { Row } from './api.js';
import type { Page } from './list.js';
import type { Query } from './query.js';
import { read } from './session.js';

/** What the server gives of a list, in pages: a page of 200, up to an offset of 1,000. */
const PAGE = 200;
const OFFSET_MAX = 1_000;

/** Saves what a question about connections finds, without the page that is looked at. */
export async function exportRows(query: Query, name: string, format: 'csv' | 'json'): Promise<void> {
  const rows: Row[] = [];
  for (let offset = 0; offset <= OFFSET_MAX; offset += PAGE) {
    const page = await read<Page>('/api/admin/connections', { ...query, limit: PAGE, offset: offset || null });
    rows.push(...page.rows);
    if (page.rows.length < PAGE) break;
  }
  save(`${name}.${format}`, format === 'csv' ? csv(rows) : `${JSON.stringify(rows, null, 2)}\n`, format === 'csv' ? 'text/csv' : 'application/json');
}

/** RFC 4180, with the fields of all rows in the order in which they were met. */
export function csv(rows: readonly object[]): string {
  const fields = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const lines = rows.map((row) => fields.map((field) => cell((row as Record<string, unknown>)[field])).join(','));
  return [fields.map(cell).join(','), ...lines, ''].join('\r\n');
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return '';
  let text = typeof value === 'object' ? JSON.stringify(value) : String(value);
  // A spreadsheet would reckon what a client said of itself.
  if (typeof value === 'string' && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function save(name: string, text: string, type: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const anchor = document.createElement('a');
  Object.assign(anchor, { href: url, download: name });
  anchor.click();
  URL.revokeObjectURL(url);
}
