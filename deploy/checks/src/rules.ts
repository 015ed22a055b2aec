/** The rule files, as the checks read them. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';

import { DEPLOY } from './manifests.js';

export interface Rule {
  /** The file's name. */
  readonly file: string;
  readonly group: string;
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

interface File {
  readonly groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[];
}

/** A path below deploy/. */
export const deployed = (path: string): string => join(DEPLOY, path);

/** Every rule that is shipped. */
export function shippedRules(): Rule[] {
  const folder = deployed('prometheus/rules');
  const files = readdirSync(folder).filter((name) => name.endsWith('.yml'));
  return files.sort().flatMap((name) => rulesOf(`${folder}/${name}`, name));
}

/** Every rule of a file. */
export function rulesOf(path: string, file: string): Rule[] {
  const { groups } = parse(readFileSync(path, 'utf8')) as File;
  return groups.flatMap((group) => group.rules.map((rule) => ({ ...rule, file, group: group.name })));
}

/** The series of recording rules, with their expressions. */
export function recorded(rules: readonly Rule[]): Map<string, string> {
  return new Map(rules.flatMap((rule) => (rule.record ? [[rule.record, rule.expr] as const] : [])));
}
