import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Tests run against the sources, so that none needs a build before. */
const alias = [
  { find: /^@pulsewire\/client$/, replacement: at('client/src/index.ts') },
  { find: /^@pulsewire\/client\/(.+)$/, replacement: at('client/src/$1.ts') },
  { find: /^@pulsewire\/connection-health$/, replacement: at('connection-health/src/index.ts') },
];
/** Never below `dist`, where a build may leave anything. */
const exclude = ['**/node_modules/**', '**/dist/**'];

/** `unit`: no I/O, any number at once. The others start servers and browsers: one file at a time. */
export default defineConfig({
  test: {
    projects: [
      { resolve: { alias }, test: { name: 'unit', include: ['*/test/**/*.unit.test.ts'], exclude } },
      {
        resolve: { alias },
        test: {
          name: 'conformance',
          include: ['test/conformance/**/*.test.ts'],
          exclude: [...exclude, '**/*.browser.test.ts'],
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        resolve: { alias },
        test: {
          name: 'browser',
          include: ['**/*.browser.test.ts'],
          exclude,
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
