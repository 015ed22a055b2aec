import type { State } from './api.js';
import type { AlertRow } from './operation.js';

/** How bad a word for a state is: that of a rule's severity or of a piece of its history. */
export function stateOfWord(word: string): State {
  switch (word) {
    case 'critical': return 'critical';
    case 'warning': return 'warning';
    case 'pending': return 'ok';
    case 'none': case 'inactive': case 'ok': case 'target': return 'target';
    default: return 'none';
  }
}

/** How a rule stands, and in what word. */
export function standing({ state, severity, value, silencedUntil, level }: AlertRow): readonly [State, string] {
  if (state === 'firing') return [stateOfWord(severity), silencedUntil ? 'silenced' : severity];
  if (state === 'pending') return ['ok', 'pending'];
  if (level === 'none' || value === null) return ['none', 'no data'];
  return [level ?? 'target', level === 'ok' ? 'acceptable' : 'within limits'];
}

/** Those that fire first, critical before warning, then those that are about to; otherwise in the server's order. */
export function worstFirst(rules: readonly AlertRow[]): readonly AlertRow[] {
  const rank = ({ state, severity, silencedUntil }: AlertRow): number =>
    (state === 'firing' ? 4 : state === 'pending' ? 1 : 0) + (state === 'firing' && severity === 'critical' ? 4 : 0) - (silencedUntil && state === 'firing' ? 2 : 0);
  return [...rules].sort((one, other) => rank(other) - rank(one));
}

/** A piece of a strip: from and to as shares of its length. */
export interface Piece {
  readonly from: number;
  readonly to: number;
  readonly state: State;
}

/** What a rule did between two moments, as pieces of a strip; what was before its history is left out. */
export function strip(history: AlertRow['history'], fromMs: number, toMs: number): readonly Piece[] {
  const share = (at: number): number => Math.min(Math.max((at - fromMs) / (toMs - fromMs), 0), 1);
  return history
    .map(({ from, to, state }) => ({ from: share(Date.parse(from)), to: share(to === null ? toMs : Date.parse(to)), state: stateOfWord(state) }))
    .filter(({ from, to }) => to > from);
}

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** The rule for Prometheus, as an element of a group's `rules`. */
export function prometheusRule({ id, title, expression, holdSeconds, limit, critical, help }: AlertRow): string {
  const name = `Pulsewire${id.split(/[^A-Za-z0-9]+/).map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join('')}`;
  return [
    `- alert: ${name}`,
    `  expr: ${quoted(expression ?? '')}`,
    `  for: ${holdSeconds}s`,
    '  labels:',
    // The expression is about the limit that is told.
    `    severity: ${limit === critical ? 'critical' : 'warning'}`,
    '  annotations:',
    `    summary: ${quoted(title)}`,
    ...(help ? [`    description: ${quoted(help)}`] : []),
    '',
  ].join('\n');
}
