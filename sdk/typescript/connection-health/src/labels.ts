/** Every text the element shows. Replace all or some of them with its `labels` property. */
export interface Labels {
  /** Nothing was asked for yet. */
  idle: string;
  connecting: string;
  connected: string;
  /** Instead of `connected`, for ten seconds after a recovery. */
  reconnected: string;
  reconnecting: string;
  disconnected: string;
  /** The status, and the transport, while messages go by HTTP requests. */
  polling: string;
  /** Instead of `polling` while messages come by server-sent events. */
  sse: string;
  websocket: string;
  /** The level, behind the status in the panel. */
  good: string;
  degraded: string;
  poor: string;
  down: string;
  /** The names of the lines in the panel. */
  status: string;
  latency: string;
  p95: string;
  delivery: string;
  reconnects: string;
  queued: string;
  transport: string;
  next: string;
  /** In the pill; `#` stands for how many. */
  waiting: string;
  /** The warning while messages do not go over WebSocket. */
  fallback: string;
  retry: string;
}

/** The texts in English. */
export const LABELS: Readonly<Labels> = {
  idle: 'Disconnected',
  connecting: 'Connecting…',
  connected: 'Connected',
  reconnected: 'Reconnected',
  reconnecting: 'Reconnecting…',
  disconnected: 'Disconnected',
  polling: 'HTTP polling',
  sse: 'HTTP streaming',
  websocket: 'WebSocket',
  good: 'good',
  degraded: 'degraded',
  poor: 'poor',
  down: 'down',
  status: 'Status',
  latency: 'Latency',
  p95: 'Latency p95',
  delivery: 'Delivery',
  reconnects: 'Reconnects',
  queued: 'Queued',
  transport: 'Transport',
  next: 'Retry in',
  waiting: '# queued',
  fallback: 'No WebSocket: messages may be late.',
  retry: 'Retry now',
};
