/** Label matchers of a query, and whether anything can match them. */

import type { SyntaxNode } from '@lezer/common';

import { TARGET, type Series } from './catalogue.js';

export interface Matcher {
  readonly label: string;
  readonly is: '=' | '!=' | '=~' | '!~';
  readonly value: string;
}

/** The matchers of a selector. */
export function readMatchers(selector: SyntaxNode, text: string): Matcher[] {
  const of = (node: SyntaxNode | null): string => (node ? text.slice(node.from, node.to) : '');
  const matchers = selector.getChild('LabelMatchers')?.getChildren('UnquotedLabelMatcher') ?? [];
  return matchers.map((node) => ({
    label: of(node.getChild('LabelName')),
    is: of(node.getChild('MatchOp')) as Matcher['is'],
    value: JSON.parse(of(node.getChild('StringLiteral'))) as string,
  }));
}

/** What is wrong with a matcher of a series that has these labels. */
export function checkMatcher(name: string, found: Series, labels: ReadonlySet<string>, matcher: Matcher): string[] {
  const { label, is, value } = matcher;
  if (!labels.has(label)) return [`${name} has no label ${label}`];
  // A variable of Grafana's stands for whatever its user picks.
  if (TARGET.has(label) || value.includes('$')) return [];
  if (label === 'le') return checkBound(name, found, matcher);
  const closed = found.family.labels[label];
  if (!closed || value === '') return [];
  const wrong = is === '=' || is === '!=' ? [value].filter((one) => !closed.includes(one)) : unmatched(value, closed);
  return wrong.map((one) => `${name}{${label}}: ${one} is none of ${closed.join(', ')}`);
}

/** Whether a value is what a matcher asks for; a label that is not there is empty. */
export function matches({ is, value }: Matcher, found: string): boolean {
  const same = is === '=' || is === '!=' ? found === value : new RegExp(`^(?:${value})$`).test(found);
  return is === '=' || is === '=~' ? same : !same;
}

/** The alternatives of a regular expression that match none of the values. */
function unmatched(pattern: string, closed: readonly string[]): string[] {
  const alternatives = /[()[\]]/.test(pattern) ? [pattern] : pattern.split('|');
  return alternatives.filter((one) => {
    const expression = new RegExp(`^(?:${one})$`);
    return !closed.some((value) => expression.test(value));
  });
}

/** Prometheus 2 keeps the bound 500 as "500", Prometheus 3 as "500.0": a matcher must take both, or neither has it. */
function checkBound(name: string, found: Series, { is, value }: Matcher): string[] {
  if (value === '+Inf') return [];
  const number = /^(\d+(?:\.\d+)?)\(\\\.0\)\?$/.exec(value)?.[1];
  const isFraction = /^\d+\.\d*[1-9]$/.test(value);
  if (is !== '=~' && !(is === '=' && isFraction)) {
    return [`${name}{le${is}"${value}"} matches only one of Prometheus 2 and 3`];
  }
  const bound = Number(number ?? value);
  return found.family.bounds.includes(bound) ? [] : [`${name} has no bucket of ${value}`];
}
