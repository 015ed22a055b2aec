// The secrets that the pages tell people to make, by the commands that make them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEPLOY } from './manifests.js';
import type { Secrets } from './references.js';

const PAGES = ['kubernetes/README.md', 'canary/README.md'];

/** Secrets and their keys, as `kubectl create secret generic` in the pages makes them. */
export function secrets(): Secrets {
  const made = new Map<string, readonly string[]>();
  for (const page of PAGES.map((path) => readFileSync(join(DEPLOY, path), 'utf8').replaceAll('\\\n', ' '))) {
    for (const [command, name = ''] of page.matchAll(/kubectl .*create secret generic (\S+).*/g)) {
      const keys = [...command.matchAll(/--from-(?:file|literal)=([^=\s]+)=/g)].map(([, key = '']) => key);
      made.set(name, [...new Set([...(made.get(name) ?? []), ...keys])]);
    }
  }
  return made;
}
