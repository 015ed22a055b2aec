// Builds what the packages ship: modules and types with tsc, and one file each for pages without a bundler:
// `client/dist/pulsewire.iife.js` (global `Pulsewire`) and `connection-health/dist/connection-health.js`.
import { execFileSync } from 'node:child_process';
import { rm, writeFile } from 'node:fs/promises';
import { bundle, element, exists, full, root } from './entries.mjs';

const packages = ['client', 'connection-health'];

// Starts from nothing, so that no file of an older version is shipped.
for (const name of packages) await rm(`${root}/${name}/dist`, { recursive: true, force: true });
const tsc = `${root}/node_modules/typescript/bin/tsc`;
execFileSync(process.execPath, [tsc, '--build', '--force', ...packages], { cwd: root, stdio: 'inherit' });

const single = [
  { from: full, to: 'client/dist/pulsewire.iife.js', options: { format: 'iife', globalName: 'Pulsewire' } },
  { from: element, to: 'connection-health/dist/connection-health.js', options: {} },
];
for (const { from, to, options } of single) {
  if (!exists(from)) {
    console.warn(`${to}: not built, there is no ${from}`);
    continue;
  }
  await writeFile(`${root}/${to}`, await bundle([from], options));
}
