// Compares what the page weighs over the network with its budget.
import { readdirSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

/** All files together, compressed, in bytes. */
const BUDGET = 90 * 1024;

const folder = new URL('../dist/', import.meta.url);
let sum = 0;
for (const name of readdirSync(folder).sort()) {
  const size = gzipSync(readFileSync(new URL(name, folder)), { level: 9 }).length;
  sum += size;
  console.log(`${name.padEnd(12)} ${String(size).padStart(7)} B`);
}
console.log(`${'together'.padEnd(12)} ${String(sum).padStart(7)} B of ${BUDGET}`);
if (sum > BUDGET) process.exit(1);
