import type { Row, State, Unit } from './api.js';
import type { FigureId } from './generated/figures.js';

// What the admin API says of rules, errors, nodes and actions; the rest is in `api.ts`.

/** A rule that the server evaluates itself. */
export interface AlertRow extends Row {
  readonly id: string;
  /** What it judges, as in the history. */
  readonly figure?: FigureId | null;
  readonly title: string;
  readonly severity: 'none' | 'warning' | 'critical';
  readonly state: 'inactive' | 'pending' | 'firing';
  readonly value: number | null;
  /** The limit that the severity is about. */
  readonly limit: number | null;
  readonly unit: Unit;
  readonly direction: 'above' | 'below';
  readonly target: number | null;
  readonly warning: number | null;
  readonly critical: number | null;
  readonly windowSeconds: number;
  readonly holdSeconds: number;
  /** How long it has been over the limit, up to `holdSeconds`. */
  readonly pendingSeconds: number | null;
  readonly since: string | null;
  readonly forSeconds: number | null;
  readonly history: readonly { readonly from: string; readonly to: string | null; readonly state: string }[];
  readonly expression: string | null;
  readonly silencedUntil: string | null;
  /** Where the value stands now, as of a tile. */
  readonly level?: State;
  /** Why there is nothing to judge. */
  readonly note?: string | null;
  readonly help: string | null;
  readonly link: string | null;
}

/** A kind of error, since the server started. */
export interface ErrorRow extends Row {
  readonly id: string;
  readonly group: string;
  readonly kind: string;
  readonly count: number;
  readonly perMinute: number | null;
  readonly firstAt: string | null;
  readonly lastAt: string | null;
  readonly connections: number | null;
  readonly sample: { readonly at: string; readonly sessionId: string | null; readonly userId: string | null; readonly address?: string | null; readonly text: string } | null;
  readonly help: string | null;
}

export interface NodeRow extends Row {
  readonly id: string;
  readonly name?: string;
  /** `missing` if it says nothing any more. */
  readonly state?: string;
  readonly silentMs?: number;
  readonly brokerState?: string;
  readonly version: string;
  readonly startedAt: string;
  readonly uptimeSeconds: number;
  readonly draining: boolean;
  readonly connections: number;
  readonly connectionsMax: number | null;
  readonly cpuPercent: number | null;
  readonly rssBytes: number | null;
  readonly openFiles: number | null;
  readonly openFilesMax: number | null;
  readonly shards: number | null;
  readonly storeState: string | null;
  readonly storeLatencyMs: number | null;
  readonly brokerLagMs: number | null;
  readonly clockSkewMs: number | null;
}

/** An action, a tap, or a refusal of one. */
export interface AuditRow extends Row {
  readonly at: string;
  readonly who: string | null;
  readonly role: string | null;
  readonly from: string | null;
  readonly action: string;
  readonly target: string | null;
  readonly outcome: string;
  readonly detail: string | null;
}
