import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';

const sdk = (path: string): string => fileURLToPath(new URL(`../sdk/typescript/${path}`, import.meta.url));

/** The SDK comes from its sources, so that neither needs the other's build. */
export const alias = [
  { find: /^@pulsewire\/client$/, replacement: sdk('client/src/index.ts') },
  { find: /^@pulsewire\/client\/(.+)$/, replacement: sdk('client/src/$1.ts') },
  { find: /^@pulsewire\/connection-health$/, replacement: sdk('connection-health/src/index.ts') },
];

/** Charts are lines: what uPlot could draw besides is left out of the page, a fortieth of it. */
const linesOnly: Plugin = {
  name: 'lines-only',
  transform: {
    filter: { id: /uPlot\.esm\.js$/ },
    handler(code) {
      const others = /^\t\(paths\.(stepped|bars|spline) += \w+\);$/gm;
      if (code.match(others)?.length !== 3) throw new Error('uPlot names its ways to draw in another way than before: adapt this, or leave it out');
      return { code: code.replace(others, ''), map: null };
    },
  },
};

/** A running server, for `npm run dev`. */
const server = process.env['PULSEWIRE_URL'] ?? 'http://127.0.0.1:8000';

/** Three files with names that stay, so that they can be committed, compared and cached by their content. */
export default defineConfig({
  resolve: { alias },
  plugins: [linesOnly],
  server: { proxy: { '/api': server, '/health': server, '/ws': { target: server, ws: true } }, fs: { allow: ['..'] } },
  build: {
    target: 'es2022',
    modulePreload: false,
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    rolldownOptions: {
      output: { codeSplitting: false, entryFileNames: 'app.js', assetFileNames: 'app[extname]' },
    },
  },
});
