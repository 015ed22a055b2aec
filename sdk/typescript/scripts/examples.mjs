// Builds the four examples against the packages as they would be installed, after each framework's own checker has read them.
import { execSync } from 'node:child_process';
import { root } from './entries.mjs';
import './build.mjs';

for (const name of ['react', 'vue', 'svelte', 'angular']) {
  const began = performance.now();
  execSync('npm run --silent build', { cwd: `${root}/examples/${name}`, stdio: 'inherit' });
  console.log(`${name}: checked and built in ${((performance.now() - began) / 1000).toFixed(1)} s`);
}
