import { readFileSync } from 'node:fs';
import { isObject } from '../gateway.js';

type Raw = { readonly [member: string]: unknown };

/** An object of a scenario file. What nobody has read when its reader is done is an error: it would change nothing. */
export class Reader {
  readonly #raw: Raw;
  readonly #unread: Set<string>;

  constructor(raw: unknown) {
    if (!isObject(raw)) throw new Error(`not an object: ${JSON.stringify(raw)}`);
    this.#raw = raw;
    this.#unread = new Set(Object.keys(raw));
  }

  has(name: string): boolean {
    return this.#raw[name] !== undefined;
  }

  any(name: string): unknown {
    this.#unread.delete(name);
    return this.#raw[name];
  }

  text(name: string, otherwise?: string): string {
    const value = this.any(name) ?? otherwise;
    return typeof value === 'string' ? value : this.#wrong(name, 'a text');
  }

  number(name: string, otherwise?: number): number {
    const value = this.any(name) ?? otherwise;
    return typeof value === 'number' ? value : this.#wrong(name, 'a number');
  }

  /** Undefined if it is not there. */
  maybe<T>(name: string, is: (value: unknown) => value is T): T | undefined {
    const value = this.any(name);
    return value === undefined || is(value) ? value : this.#wrong(name, 'what it should be');
  }

  texts(name: string): string[] {
    const value = this.any(name) ?? [];
    return isTexts(value) ? value : this.#wrong(name, 'a list of texts');
  }

  object(name: string): Reader {
    return new Reader(this.any(name) ?? {});
  }

  /** The members that were not read yet. */
  rest(): Raw {
    const rest = Object.fromEntries([...this.#unread].map((name) => [name, this.#raw[name]]));
    this.#unread.clear();
    return rest;
  }

  done(): void {
    if (this.#unread.size > 0) throw new Error(`nobody knows ${[...this.#unread].join(', ')} in ${this.toString()}`);
  }

  toString(): string {
    return JSON.stringify(this.#raw);
  }

  #wrong(name: string, wanted: string): never {
    throw new Error(`${name} is not ${wanted} in ${this.toString()}`);
  }
}

export const isNumber = (value: unknown): value is number => typeof value === 'number';
export const isText = (value: unknown): value is string => typeof value === 'string';
export const isFlag = (value: unknown): value is boolean => typeof value === 'boolean';
export const isTexts = (value: unknown): value is string[] => Array.isArray(value) && value.every(isText);

/** One scenario of `sdk/conformance/scenarios.json`; its README has the words. */
export interface Scenario {
  readonly name: string;
  /** What a client must be able to do besides the common. */
  readonly needs: readonly string[];
  readonly server: { readonly set: readonly string[]; readonly settings: string };
  /** Options of the clients by name; `a` is there always. */
  readonly clients: ReadonlyMap<string, unknown>;
  readonly steps: readonly unknown[];
}

/** All scenarios. */
export function load(): Scenario[] {
  const file: unknown = JSON.parse(readFileSync(new URL('../../../conformance/scenarios.json', import.meta.url), 'utf8'));
  if (!Array.isArray(file)) throw new Error('scenarios.json is not a list');
  return file.map((raw: unknown) => {
    const reader = new Reader(raw);
    const server = reader.object('server');
    const steps = reader.any('steps');
    const scenario = {
      name: reader.text('name'),
      needs: reader.texts('needs'),
      server: { set: server.texts('set'), settings: server.text('settings', '') },
      clients: new Map<string, unknown>([['a', reader.any('options') ?? {}], ...Object.entries(reader.object('clients').rest())]),
      steps: Array.isArray(steps) ? (steps satisfies unknown[]) : [],
    };
    server.done();
    reader.done();
    return scenario;
  });
}

/** `[1, "3-5"]` is 1, 3, 4, 5. */
export function sequences(value: unknown): number[] {
  if (!Array.isArray(value)) throw new Error(`not a list of sequences: ${JSON.stringify(value)}`);
  return value.flatMap((item: unknown) => {
    if (isNumber(item)) return [item];
    const [from, to] = String(item).split('-').map(Number);
    if (from === undefined || to === undefined || !(from <= to)) throw new Error(`not a range: ${String(item)}`);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}

/** Whether a value has at least what is expected: objects may have more members, lists may not have more items. */
export function matches(value: unknown, expected: unknown): boolean {
  if (Array.isArray(expected)) {
    return Array.isArray(value) && value.length === expected.length && expected.every((item, at) => matches(value[at], item));
  }
  if (!isObject(expected)) return value === expected;
  return isObject(value) && Object.entries(expected).every(([name, item]) => matches(value[name], item));
}
