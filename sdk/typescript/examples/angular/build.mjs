// What the Angular CLI does with what `ngc` made: links the framework's own modules and bundles everything.
import { copyFile, readFile } from 'node:fs/promises';
import linker from '@angular/compiler-cli/linker/babel';
import { transformAsync } from '@babel/core';
import { build } from 'esbuild';

const link = {
  name: 'link',
  setup({ onLoad }) {
    onLoad({ filter: /@angular\/.*\.mjs$/ }, async ({ path }) => {
      const { code } = await transformAsync(await readFile(path, 'utf8'), {
        filename: path, babelrc: false, configFile: false, compact: false, plugins: [[linker, { linkerJitMode: false }]],
      });
      return { contents: code, loader: 'js' };
    });
  },
};

await build({
  entryPoints: ['dist/compiled/angular/src/main.js'],
  outdir: 'dist',
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  define: { ngDevMode: 'false' },
  plugins: [link],
});
await copyFile('index.html', 'dist/index.html');
