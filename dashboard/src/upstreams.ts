import type { Row, State } from './api.js';
import type { Page } from './list.js';

/** A stream that the server holds open to another service. */
export interface StreamRow extends Row {
  readonly id: string;
  readonly upstream: string;
  /** The key it has to itself; empty if it has all. */
  readonly key: string;
  /** The keys that are wanted: ten, and where one upstream is looked at a hundred. */
  readonly keys: readonly string[];
  readonly keysTotal: number;
  readonly track: 'stable' | 'canary';
  readonly state: string;
  readonly since: string;
  readonly openedAt: string;
  readonly listeners: number;
  /** How long nobody has listened; null while somebody does. */
  readonly idleMs: number | null;
  readonly attempts: number;
  readonly retries: number;
  readonly errors: number;
  readonly retryInMs: number | null;
  readonly messagesPerSecond: number;
  readonly messages: number;
  readonly bytes: number;
  readonly published: number;
  readonly duplicates: number;
  readonly unmapped: number;
  readonly dropped: number;
  readonly missing: number;
  readonly failovers: number;
  readonly lastMessageAgoMs: number | null;
  readonly lastError: { readonly kind: string; readonly text: string; readonly at: string } | null;
  readonly links: readonly LinkRow[];
}

/** One connection of a stream. */
export interface LinkRow {
  readonly url: string;
  readonly state: string;
  readonly attempts: number;
  /** In a row. */
  readonly failures: number;
  readonly retryInMs: number | null;
}

/** What was declared, whether it has streams or not. */
export interface Declared {
  readonly name: string;
  readonly urls: readonly string[];
  readonly channel: string;
  readonly apart: boolean;
  readonly always: boolean;
  readonly declaredBy: string;
  readonly candidate: boolean;
  readonly streams: number;
  readonly circuitOpened: number;
  readonly circuitOpenMs: number | null;
}

/** A rate of both tracks. */
export interface Compared {
  readonly stable: number;
  readonly canary: number;
  readonly ratio: number;
  readonly worse: boolean;
}

/** How the candidate does beside the others. */
export interface Canary {
  readonly verdict: string;
  readonly enabled: boolean;
  /** Of 1. */
  readonly share: number;
  /** Worse is more than so many times. */
  readonly ratio: number;
  readonly windowMs: number;
  readonly streamsMin: number;
  readonly rollback: boolean;
  readonly worseSince: string | null;
  readonly rolledBackAt: string | null;
  readonly rolledBackWhy: string | null;
  readonly tracks: Readonly<Record<'stable' | 'canary', { readonly streams: number; readonly retries: number; readonly errors: number }>>;
  readonly comparison: { readonly errorRate: Compared; readonly retryRate: Compared } | null;
}

export interface UpstreamPage extends Page<StreamRow> {
  readonly totals: Readonly<Record<'active' | 'limit' | 'highWater' | 'highWaterToday' | 'uncleaned', number>> & { readonly retriesPerSecond: number | null };
  readonly declared: readonly Declared[];
  readonly declaredTotal: number;
  readonly canary: Canary;
}

const STATES: Readonly<Record<string, State>> = { live: 'target', connecting: 'ok', waiting: 'warning', stale: 'warning', circuit: 'critical', failed: 'critical' };
const WORDS: Readonly<Record<string, string>> = { waiting: 'will try again', circuit: 'circuit open' };
const VERDICTS: Readonly<Record<string, readonly [State, string]>> = {
  insufficient: ['none', 'too few streams to say'],
  pass: ['target', 'no worse'],
  suspect: ['warning', 'worse, not for long yet'],
  fail: ['critical', 'worse: take it back'],
  rolled_back: ['warning', 'taken back'],
};

/** How a stream or a link is, as a shape and a word. */
export function standingOf(state: string): readonly [State, string] {
  return [STATES[state] ?? 'none', WORDS[state] ?? state];
}

/** What the server says of the candidate, as a shape and words. */
export function verdictOf(verdict: string): readonly [State, string] {
  return VERDICTS[verdict] ?? ['none', verdict];
}

/** How full a table of so many places is: from four fifths on one should know. */
export function fullness(active: number, limit: number): State {
  if (active >= limit) return 'critical';
  return active >= 0.8 * limit ? 'warning' : 'target';
}
