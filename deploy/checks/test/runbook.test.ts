/**
 * The runbook: a page for each alert and an alert for each page, and nothing in them that is not there.
 *
 * Commands are tried by `crates/server/tests/it/pages.rs`, links by `cargo xtask check links`.
 */

import { readFileSync, readdirSync } from 'node:fs';

import { describe, expect, test } from 'vitest';

import { problems } from '../src/promql.js';
import { recorded, shippedRules } from '../src/rules.js';

const ROOT = new URL('../../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, ROOT), 'utf8');
const pagesIn = (folder: string): string[] =>
  readdirSync(new URL(`${folder}/`, ROOT)).filter((file) => file.endsWith('.md')).map((file) => `${folder}/${file}`);

const rules = shippedRules();
const known = { recorded: recorded(rules) };
const alerts = new Set(rules.flatMap((rule) => rule.alert ?? []));
const index = 'docs/runbook/README.md';
const runbook = pagesIn('docs/runbook');
const pages = new Map(
  runbook.filter((file) => file !== index).map((file) => [file.slice('docs/runbook/'.length, -'.md'.length), read(file)]),
);

const SECTIONS = ['Is it real', 'Look here first', 'Why, and how to tell', 'What to do', 'Wake somebody', 'Do not'];
const LINES_MAX = 60;
/** How the line below the title says it. */
const SEVERITIES: Readonly<Record<string, RegExp>> = { critical: /Critical/, warning: /Warning/, info: /Info/, none: /Never/ };

/** What stands in backticks, outside of blocks. */
function spans(text: string): string[] {
  return [...text.replace(/```[\s\S]*?```/g, '').matchAll(/`([^`\n]+)`/g)].map((found) => found[1] ?? '');
}

/** Queries: the lines of their blocks, and what begins like one in backticks. */
function queries(text: string): string[] {
  const blocks = [...text.matchAll(/```promql\n([\s\S]*?)```/g)].flatMap((found) => (found[1] ?? '').trim().split('\n'));
  const inline = spans(text).filter((span) => /^(sum|rate|topk|predict_linear|histogram_quantile|changes)\b.*\)$/.test(span));
  return [...blocks, ...inline];
}

/** Keys of settings: a section, a dot and a name, also with a value behind it; `metrics.db` is a file. */
function settings(text: string, sections: ReadonlySet<string>): string[] {
  const named = spans(text).map((span) => /^([a-z_]+)\.(?!(?:db|json)$)([a-z_0-9]+)(?: =.*)?$/.exec(span));
  return named.flatMap((found) => (found && sections.has(found[1] ?? '') ? [`${found[1]}.${found[2]}`] : []));
}

/** Paths of the dashboard, or of the server. */
function paths(text: string): string[] {
  return spans(text).flatMap((span) => /^(\/[a-z]+)(?:$|[?])/.exec(span)?.[1] ?? []);
}

test('every alert has a page and every page an alert', () => {
  expect([...pages.keys()].sort()).toEqual([...alerts].sort());
});

test('the index leads to every page', () => {
  const linked = new Set([...read(index).matchAll(/\]\((\w+)\.md\)/g)].map((found) => found[1]));
  expect([...pages.keys()].filter((name) => !linked.has(name))).toEqual([]);
});

describe.each([...pages])('%s', (name, text) => {
  const lines = text.trimEnd().split('\n');

  test('says how urgent it is and has its parts in their order, in few lines', () => {
    expect(lines[0]).toBe(`# ${name}`);
    for (const rule of rules.filter((rule) => rule.alert === name)) {
      expect(lines[2]).toMatch(SEVERITIES[rule.labels?.['severity'] ?? ''] ?? /a known severity/);
      expect(lines[2]).toContain(`\`${rule.labels?.['condition']}\``);
    }
    expect([...text.matchAll(/^## (.*)$/gm)].map((found) => found[1])).toEqual(SECTIONS);
    expect(lines.length).toBeLessThanOrEqual(LINES_MAX);
  });

  test('asks for what is there', () => {
    const wrong = queries(text).flatMap((query) => problems(query, known).map((problem) => `${query}: ${problem}`));
    expect(wrong).toEqual([]);
  });
});

describe('settings and paths are there', () => {
  const documented = read('docs/settings.md');
  const keys = new Set([...documented.matchAll(/^### `([a-z_0-9.]+)`/gm)].map((found) => found[1]));
  const sections = new Set([...documented.matchAll(/^## `\[([a-z_]+)\]`/gm)].map((found) => found[1] ?? ''));
  const shown = new Set([...read('dashboard/src/pages.ts').matchAll(/path: '([a-z]*)'/g)].map((found) => `/${found[1]}`));
  const served = read('crates/server/src/http.rs');

  test.each([...runbook, ...pagesIn('docs/operate')])('%s', (file) => {
    const text = read(file);
    expect(settings(text, sections).filter((key) => !keys.has(key.replace(/_file$/, '')) && !keys.has(key))).toEqual([]);
    // The other pages also speak of paths of the machine.
    const named = file.startsWith('docs/runbook') ? paths(text) : [];
    expect(named.filter((path) => !shown.has(path) && !served.includes(`"${path}"`))).toEqual([]);
  });

  test('and there is something to look for', () => {
    const all = [...pages.values()].join('\n');
    expect(keys.size).toBeGreaterThan(100);
    expect(settings(all, sections).length).toBeGreaterThan(50);
    expect(paths(all).filter((path) => shown.has(path)).length).toBeGreaterThan(50);
    expect(queries(all).length).toBeGreaterThan(100);
  });
});
