// Bundles every entry point, minified and gzipped, and fails when one is larger than its budget. With `--all` an entry point
// that does not exist fails too; without, it is only named.
import { gzipSync } from 'node:zlib';
import { bundle, core, entries, exists } from './entries.mjs';

const gzipped = async (files, without) => gzipSync(await bundle(files, {}, without), { level: 9 }).length;
const all = process.argv.includes('--all');
const coreBytes = await gzipped([core]);

let over = false;
console.log(`${'entry'.padEnd(20)}${'bytes'.padStart(8)}${'budget'.padStart(8)}   minified, gzip -9; + is on top of client`);
const row = (name, bytes, budget, bad, said) => {
  over ||= bad;
  console.log(`${name.padEnd(20)}${bytes.padStart(8)}${String(budget).padStart(8)}${bad ? `   ${said}` : ''}`);
};
for (const { name, file, budget, onTop, lazy } of entries) {
  if (!exists(file)) {
    row(name, 'missing', budget, all, 'there is no ' + file);
    continue;
  }
  const bytes = onTop ? (await gzipped([core, file], lazy)) - coreBytes : await gzipped([file]);
  row(name, `${onTop ? '+' : ''}${bytes}`, budget, bytes > budget, `${bytes - budget} too many`);
}
process.exitCode = over ? 1 : 0;
