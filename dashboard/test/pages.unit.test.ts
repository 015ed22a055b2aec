import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const text = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');

it('has every page at an address that the server gives it, and each behind a key of its own', () => {
  const pages = [...text('../src/pages.ts').matchAll(/\{ path: '([a-z]*)'.*key: '(.)'/g)].map(([, path = '', key = '']) => ({ path, key }));
  const served = /PAGES: \[&str; \d+\] = \[([^\]]*)\]/.exec(text('../../crates/server/src/http/ui.rs'))?.[1] ?? '';
  const names = [...served.matchAll(/"([a-z]+)"/g)].map(([, name]) => name);
  expect(pages.map(({ path }) => path).filter(Boolean).sort()).toEqual([...names].sort());
  expect(new Set(pages.map(({ key }) => key)).size).toBe(pages.length);
});

it('has a page for every link that the server gives', () => {
  const folder = '../../crates/server/src/';
  const files = readdirSync(new URL(folder, import.meta.url), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.rs'));
  const links = files.flatMap((name) => [...text(folder + name).matchAll(/(?:link: |Some\()"\/([a-z]+)[?"]/g)].map(([, page]) => page));
  const pages = [...text('../src/pages.ts').matchAll(/\{ path: '([a-z]+)'/g)].map(([, path]) => path);
  expect(links.length).toBeGreaterThan(10);
  expect(links.filter((link) => !pages.includes(link))).toEqual([]);
});
