import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

// What k6 has built in.
const k6 = ['execution', 'http', 'metrics', 'timers', 'websockets'].map((name) => [`k6/${name}`, fileURLToPath(new URL(`src/k6/${name}.ts`, import.meta.url))]);

export default defineConfig({
  resolve: { alias: Object.fromEntries(k6) },
  test: { include: ['test/**/*.test.ts'], testTimeout: 60_000 },
});
