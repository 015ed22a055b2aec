import { defineConfig } from 'vitest/config';
import { alias } from './vite.config.js';

/** `unit`: no I/O. `browser`: servers and Chromium, one file at a time. */
export default defineConfig({
  test: {
    projects: [
      { resolve: { alias }, test: { name: 'unit', include: ['test/**/*.unit.test.{ts,tsx}'] } },
      {
        resolve: { alias },
        test: {
          name: 'browser',
          include: ['test/**/*.browser.test.ts'],
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
