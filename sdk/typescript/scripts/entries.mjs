// What can be imported, what each may cost, and how it is bundled: once, for `build.mjs` and `size.mjs`.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** The folder of the SDK, `sdk/typescript`. */
export const root = fileURLToPath(new URL('..', import.meta.url));

/** What an application brings along: never part of a bundle. */
const external = ['react', 'react-dom', 'vue', 'svelte', 'svelte/*', '@angular/core'];

export const core = 'client/src/index.ts';
export const full = 'client/src/full.ts';
export const element = 'connection-health/src/index.ts';

/** What entries load only when it is asked for: counted by itself. */
const lazy = { metrics: ['./msgpack.js'] };

/**
 * Budgets in bytes, minified and gzipped. With `onTop`, the budget is for what the entry adds to an application that has the
 * core already.
 */
export const entries = [
  { name: 'client', file: core, budget: 8192 },
  { name: 'client/full', file: full, budget: 11264 },
  { name: 'connection-health', file: element, budget: 3072 },
  ...Object.entries({
    polling: 1200, sse: 1150, queue: 820, msgpack: 1332, metrics: 1000, collab: 1024, shared: 1229,
    react: 700, vue: 615, svelte: 615, angular: 615,
  }).map(([name, budget]) => ({ name: `client/${name}`, file: `client/src/${name}.ts`, budget, onTop: true, lazy: lazy[name] })),
];

/** Whether a source file is there yet. */
export const exists = (file) => existsSync(`${root}/${file}`);

/**
 * Bundles source files into one minified ES2022 text that exports what all of them export.
 * @param {string[]} files relative to {@link root}
 * @param {import('esbuild').BuildOptions} options
 * @param {string[]} without what is left out besides {@link external}
 */
export async function bundle(files, options = {}, without = []) {
  const contents = files.map((file) => `export * from './${file}';`).join('\n');
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: root, sourcefile: 'bundle.ts' },
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    logLevel: 'error',
    external: [...external, ...without],
    write: false,
    ...options,
  });
  return outputFiles[0].text;
}
