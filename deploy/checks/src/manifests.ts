// Manifests as Kustomize builds them, and the parts of them that checks ask for.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';

/** The folder `deploy`. */
export const DEPLOY = fileURLToPath(new URL('../..', import.meta.url));

/** An object of YAML whose members may be anything. */
export interface Tree { readonly [member: string]: unknown }

/** A manifest of any kind. */
export interface Manifest extends Tree {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Labels };
}

export interface Labels { readonly [name: string]: string }

/** Every overlay, by its path below `deploy`. A component is none: overlays that use it show it. */
export function overlays(): readonly string[] {
  const roots = ['kubernetes/overlays', 'canary'];
  const folders = roots.flatMap((root) => readdirSync(join(DEPLOY, root)).map((name) => join(root, name)));
  return folders.filter((folder) => existsSync(join(DEPLOY, folder, 'kustomization.yaml')));
}

/** What `kubectl kustomize` makes of a folder below `deploy`. */
export function render(folder: string): readonly Manifest[] {
  return manifests(execFileSync('kubectl', ['kustomize', join(DEPLOY, folder)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }), folder);
}

/** The manifests of a file below `deploy`. */
export function read(path: string): readonly Manifest[] {
  return manifests(readFileSync(join(DEPLOY, path), 'utf8'), path);
}

/**
 * The manifests of a text.
 *
 * @throws Error when it is no YAML, or a document of it is no manifest.
 */
export function manifests(text: string, where: string): readonly Manifest[] {
  return parseAllDocuments(text).map((document) => {
    if (document.errors[0]) throw new Error(`${where}: ${document.errors[0].message}`);
    const value: unknown = document.toJS();
    if (!isManifest(value)) throw new Error(`${where}: a document has no apiVersion, kind and name`);
    return value;
  });
}

function isManifest(value: unknown): value is Manifest {
  return isTree(value) && typeof value['apiVersion'] === 'string' && typeof value['kind'] === 'string'
    && typeof at(value, 'metadata', 'name') === 'string';
}

export function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What stands at a path of members and indices; undefined where there is nothing. */
export function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>((found, step) => {
    if (Array.isArray(found)) return typeof step === 'number' ? found[step] : undefined;
    return isTree(found) ? found[step] : undefined;
  }, value);
}

/** The members of a list; of anything else none. */
export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** The objects of a list. */
export function trees(value: unknown): readonly Tree[] {
  return list(value).filter(isTree);
}

/** The text at a path; empty where there is none. */
export function text(value: unknown, ...path: readonly (string | number)[]): string {
  const found = at(value, ...path);
  return typeof found === 'string' || typeof found === 'number' ? String(found) : '';
}

/** Everything of some kind. */
export function ofKind(all: readonly Manifest[], kind: string): readonly Manifest[] {
  return all.filter((manifest) => manifest.kind === kind);
}

/** Every object in a tree, itself first. */
export function* within(value: unknown): Generator<Tree> {
  if (isTree(value)) yield value;
  const parts = isTree(value) ? Object.values(value) : list(value);
  for (const part of parts) yield* within(part);
}
