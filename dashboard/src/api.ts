/** What the admin API says: docs/operate/admin-api.md. Moments are RFC 3339, and what was not measured is null. */

/** How a value stands to its limits; `none`: there is nothing to judge. */
export type State = 'target' | 'ok' | 'warning' | 'critical' | 'none';
export type Unit = 'connections' | 'ms' | 's' | 'bytes' | 'percent' | 'per_second' | 'bytes_per_second' | 'count';
/** Values of figures, by the figure's id. */
export type Figures = Readonly<Record<string, number | null>>;

export interface Tile {
  readonly id: string;
  readonly title: string;
  readonly value: number | null;
  readonly unit: Unit;
  readonly state: State;
  /** On which side of the limits it is bad. */
  readonly direction: 'above' | 'below';
  readonly target: number;
  readonly warning: number;
  readonly critical: number;
  readonly since: string | null;
  readonly windowSeconds: number;
  readonly note: string | null;
}

/** An alert that fires, as the banner shows it. */
export interface Firing {
  readonly id: string;
  readonly title: string;
  readonly severity: 'warning' | 'critical';
  readonly value: number | null;
  readonly limit: number;
  readonly unit: Unit;
  readonly since: string;
  readonly forSeconds: number;
  readonly link: string | null;
}

export interface Overview {
  readonly at: string;
  readonly node: {
    readonly id: string;
    readonly version: string;
    readonly startedAt: string;
    readonly uptimeSeconds: number;
    readonly dev: boolean;
    readonly cluster: string | null;
  };
  readonly status: string;
  readonly reasons: readonly string[];
  readonly tiles: readonly Tile[];
  readonly figures: Figures;
  readonly counts: Readonly<Record<string, number>>;
  readonly firing: readonly Firing[];
}

/** A row of a list. One that ended since the list was put in order is `gone`. */
export interface Row {
  readonly id: string | number;
  readonly gone?: boolean;
}

export type ConnectionState = 'authenticating' | 'connected' | 'lagging' | 'slow' | 'detached' | 'closed';

export interface ConnectionRow extends Row {
  readonly id: string;
  /** Null until it has said who it is. */
  readonly sessionId: string | null;
  readonly userId: string | null;
  readonly runId: string | null;
  readonly projectId: string | null;
  readonly node: string;
  readonly transport: string;
  readonly encoding: string | null;
  readonly state: ConnectionState;
  /** 0 to 100. */
  readonly score: number | null;
  readonly cause: string | null;
  readonly causeText: string | null;
  readonly rttMs: number | null;
  readonly tcpRttMs: number | null;
  readonly latencyMs: number | null;
  readonly latencyMaxMs: number | null;
  /** 0 to 1. */
  readonly deliveryRate: number | null;
  readonly queuedBytes: number | null;
  readonly queuedForMs: number | null;
  readonly kernelUnsentBytes: number | null;
  readonly kernelUnackedBytes: number | null;
  readonly reconnections: number | null;
  readonly heartbeatsMissed: number | null;
  readonly subscriptions: number | null;
  readonly messageFailures: number | null;
  readonly messagesSent: number | null;
  readonly messagesReceived: number | null;
  readonly bytesSent: number | null;
  readonly bytesReceived: number | null;
  readonly outPerSecond: number | null;
  readonly inPerSecond: number | null;
  readonly connectedAt: string | null;
  readonly disconnectedAt: string | null;
  readonly lastActivityAt: string | null;
  readonly remoteAddress: string | null;
  readonly userAgent: string | null;
  readonly clientVersion: string | null;
}

export interface ClosedRow extends Row {
  readonly sessionId: string;
  readonly userId: string | null;
  readonly runId: string | null;
  readonly remoteAddress: string | null;
  readonly userAgent: string | null;
  readonly connectedAt: string | null;
  readonly disconnectedAt: string;
  readonly durationMs: number;
  readonly code: number | null;
  readonly reason: string | null;
  readonly initiator: string | null;
  readonly messagesSent: number;
  readonly messagesReceived: number;
  readonly messageFailures: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly reconnectionCount: number;
}

export interface FailedRow extends Row {
  readonly at: string;
  readonly remoteAddress: string | null;
  readonly userAgent: string | null;
  readonly origin: string | null;
  readonly path: string | null;
  readonly stage: string;
  readonly reason: string;
  readonly status: number | null;
  readonly detail: string | null;
}

/** Connections that have something in common; `id` is what. */
export interface GroupRow extends Row {
  readonly id: string;
  readonly connections: number;
  readonly subscriptions?: number | null;
  readonly queuedBytes: number | null;
  readonly rttMs: number | null;
  readonly latencyMaxMs: number | null;
  readonly reconnections: number | null;
  readonly messageFailures: number | null;
  readonly worstScore: number | null;
}

export type Lane = 'lifecycle' | 'subscriptions' | 'delivery' | 'heartbeat';

export interface TimelineEntry {
  readonly id: number;
  readonly at: string;
  readonly lane: Lane;
  readonly kind: string;
  readonly text: string;
  readonly value: number | null;
  readonly channel: string | null;
}

export interface SubscriptionRow extends Row {
  readonly channel: string;
  readonly kind: string;
  readonly position: number | null;
  readonly head: number | null;
  readonly behind: number | null;
  readonly feeding: string;
  readonly filter: unknown;
  readonly interval: string | null;
}

/** One connection with all that is known of it. */
export interface ConnectionDetail extends Partial<Omit<ConnectionRow, 'id' | 'state'>>, Row {
  readonly id: string;
  readonly state: ConnectionState;
  readonly tokenExpiresAt?: string | null;
  readonly role?: string | null;
  readonly compression?: boolean;
  readonly resumable?: boolean;
  readonly latencySplit?: {
    readonly queueMs: number | null;
    readonly kernelMs: number | null;
    readonly networkMs: number | null;
    readonly clientMs: number | null;
  } | null;
  readonly network?: Readonly<Record<string, number | null>> | null;
  readonly clientReport?: {
    readonly reportedAt: string;
    readonly queuedMessages: number | null;
    readonly slowestHandlerMs: number | null;
    readonly gapsHealed: number | null;
    readonly visible: boolean | null;
  } | null;
  readonly subscriptionList?: readonly SubscriptionRow[];
  readonly timeline?: readonly TimelineEntry[];
  readonly closedConnections?: readonly ClosedRow[];
}

export interface ChannelRow extends Row {
  readonly id: string;
  readonly channel: string;
  readonly namespace: string | null;
  readonly kind: string;
  readonly subscribers: number;
  readonly publishedPerSecond: number | null;
  readonly bytesPerSecond: number | null;
  readonly published: number | null;
  readonly publishedBytes: number | null;
  readonly criticalShare: number | null;
  readonly head: number | null;
  readonly epoch: string | null;
  readonly floor: number | null;
  readonly present: number | null;
  readonly series: number | null;
}

export interface NotableEvent extends Row {
  readonly at: string;
  readonly type: string;
  readonly severity: 'info' | 'warning' | 'critical';
  readonly text: string;
  readonly link: string | null;
}

/** What was said on a connection while it was tapped. */
export interface TapMessage {
  readonly at: string;
  readonly direction: 'in' | 'out';
  readonly kind: string;
  readonly channel: string | null;
  readonly sequence: number | null;
  readonly bytes: number;
  readonly latencyMs: number | null;
  readonly payload: string | null;
}

/** Somebody who listens to a channel. */
export interface Reader {
  /** The session; null: it reads over HTTP. */
  readonly id: string | null;
  readonly transport?: string;
  readonly userId: string | null;
  readonly position: number | null;
  readonly behind: number | null;
  readonly feeding: string | null;
}

/** Somebody who is seen in a channel. */
export interface MemberRow {
  readonly userId: string;
  readonly cursor?: unknown;
}

export interface ChannelDetail extends ChannelRow {
  /** Those furthest behind first, up to 200. */
  readonly readers?: readonly Reader[];
  readonly members?: readonly MemberRow[];
}

/** Channels that have something in common; `id` is what. */
export interface ChannelGroupRow extends Row {
  readonly channels: number;
  readonly subscribers: number | null;
  readonly publishedPerSecond: number | null;
  readonly bytesPerSecond: number | null;
}

/** An event as the server has it: protocol R28. */
export interface PastEvent {
  readonly channel: string;
  readonly sequence: number;
  readonly event: string;
  readonly data?: unknown;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  readonly id?: string;
  readonly user?: string;
  readonly key?: string;
  readonly tags?: Readonly<Record<string, string>>;
  readonly critical?: boolean;
}

/** `GET /api/channels/{channel}/events`: protocol R83. */
export interface EventPage {
  readonly epoch: string;
  readonly events: readonly PastEvent[];
  readonly nextSequence: number;
  readonly hasMore: boolean;
  readonly floor: number;
  readonly head: number;
  readonly gap?: { readonly from: number; readonly to: number; readonly reason: string };
}
