/**
 * A real Chromium for tests: one browser and one file server for a file of tests. What a page must not do (throw, break its
 * content security policy, ask for files that are not there) fails the test that opened it, in {@link Lab.check}.
 */
import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Result } from 'axe-core';
import { build } from 'esbuild';
import { type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { launchOptions } from './chromium.js';

/** The folder of the SDK, `sdk/typescript`. */
export const root = fileURLToPath(new URL('..', import.meta.url));

/** The strictest policy that elements and clients have to live with. */
export const STRICT_CSP = "default-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'";

/** A file of the server. */
export interface ServedFile {
  readonly body: string | Uint8Array;
  /** Default: by the end of the path. */
  readonly type?: string;
  readonly headers?: { readonly [name: string]: string };
}

/** One browser and one server. */
export interface Lab {
  /** `http://127.0.0.1:port` of the file server. */
  readonly origin: string;
  /** Serves a file from now on. */
  serve(path: string, file: ServedFile | string): void;
  /** Opens a path of the server in a context of its own, which {@link check} closes. `prepare` runs before the first script. */
  open(path: string, options?: BrowserContextOptions, prepare?: (page: Page) => Promise<unknown>): Promise<Page>;
  /** What the pages did wrong since the last `check`, which also closes them. A test expects it to be empty. */
  check(): Promise<readonly string[]>;
  close(): Promise<void>;
}

const TYPES: Readonly<Record<string, string>> = { html: 'text/html', js: 'text/javascript', css: 'text/css' };

/** Bundles a TypeScript file of the SDK, named from {@link root}, into one module; packages of the SDK come from their sources. */
export async function bundle(entry: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [join(root, entry)],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    logLevel: 'error',
    plugins: [
      {
        name: 'sources',
        setup: ({ onResolve }) => {
          onResolve({ filter: /^@pulsewire\// }, ({ path }) => {
            const [, name = '', part = 'index'] = path.split('/');
            return { path: join(root, name, 'src', `${part}.ts`) };
          });
        },
      },
    ],
  });
  const [file] = outputFiles;
  if (!file) throw new Error(`nothing came of ${entry}`);
  return file.text;
}

/** Starts the browser and the server. */
export async function startLab(): Promise<Lab> {
  const files = new Map<string, ServedFile>();
  let problems: string[] = [];
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://lab').pathname;
    const file = files.get(path);
    if (!file) {
      if (path !== '/favicon.ico') problems.push(`not served: ${path}`);
      response.writeHead(404).end();
      return;
    }
    const type = file.type ?? TYPES[path.slice(path.lastIndexOf('.') + 1)] ?? 'text/plain';
    response.writeHead(200, { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-store', ...file.headers });
    response.end(file.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const origin = `http://127.0.0.1:${port}`;
  const browser = await chromium.launch(launchOptions());
  return {
    origin,
    serve(path, file) {
      files.set(path, typeof file === 'string' ? { body: file } : file);
    },
    async open(path, options, prepare) {
      const context = await browser.newContext(options);
      const page = await context.newPage();
      page.on('pageerror', (error) => problems.push(`error: ${error.message}`));
      page.on('console', (message) => {
        // Chromium reports what a policy refused as an error of the console.
        if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) problems.push(`console: ${message.text()}`);
      });
      await prepare?.(page);
      await page.goto(origin + path);
      return page;
    },
    async check() {
      for (const context of browser.contexts()) await context.close();
      const found = problems;
      problems = [];
      return found;
    },
    async close() {
      await browser.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const axeSource = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

declare global {
  // In the page, once `audit` has run there.
  var axe: typeof import('axe-core');
}

/** Violations of WCAG 2.0 to 2.2, A and AA, each as its rule and where it is broken. */
export async function audit(page: Page): Promise<readonly string[]> {
  await page.evaluate(axeSource);
  const violations = await page.evaluate(async (): Promise<readonly Result[]> => {
    const { violations: found } = await globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] });
    return found;
  });
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${JSON.stringify(node.target)} ${node.failureSummary ?? ''}`));
}
