// Generated from crates/protocol by `cargo xtask generate`; do not edit.

/** What every client does unless it is told otherwise. Times are milliseconds. */
export const DEFAULTS = {
  /** Always waited before another attempt. */
  BACKOFF_MIN_MS: 250,
  /** The random part of the first wait is below this; the bound doubles with every failure. */
  BACKOFF_STEP_MS: 500,
  /** No wait is longer, unless the server says so. */
  BACKOFF_MAX_MS: 10_000,
  /** Asking for a token. */
  TOKEN_TIMEOUT_MS: 10_000,
  /** Opening a connection and being welcomed, together. */
  CONNECT_TIMEOUT_MS: 5_000,
  /** A connection that lived so long resets the count of failures. */
  STABLE_AFTER_MS: 5_000,
  /** The server's heartbeat, until it says its own. */
  HEARTBEAT_MS: 25_000,
  /** A server silent for longer than its heartbeat and this is probed. */
  HEARTBEAT_GRACE_MS: 10_000,
  /** A probe unanswered for so long ends the connection. */
  PROBE_TIMEOUT_MS: 3_000,
  /** A timer that fires so much too late says that the machine slept. */
  LATE_TIMER_MS: 5_000,
  /** The round trip is measured so often while the page is visible. */
  RTT_INTERVAL_MS: 15_000,
  /** An attempt is made so often although the machine says that it is offline. */
  OFFLINE_RETRY_MS: 30_000,
  /** Tokens refused in a row, each a new one, before a client gives up. */
  REJECTIONS_MAX: 3,
  /** Failures in a row before HTTP is tried. */
  FALLBACK_FAILURES: 5,
  /** Time without service before HTTP is tried. */
  FALLBACK_AFTER_MS: 15_000,
  /** Time until HTTP is tried beside the first attempt. */
  FALLBACK_FIRST_MS: 4_000,
  /** Failed polls in a row that end polling. */
  POLL_FAILURES_MAX: 3,
  /** Between two polls, unless the server asks for longer. */
  POLL_INTERVAL_MS: 2_000,
  /** While polling, WebSocket is tried again after so long; doubles with every failure. */
  PROBE_WS_MIN_MS: 10_000,
  /** While polling, WebSocket is tried at least so often. */
  PROBE_WS_MAX_MS: 300_000,
  /** A publish unanswered for so long is sent again with the same id. */
  ACK_TIMEOUT_MS: 5_000,
  /** A publish is sent again so often. */
  PUBLISH_RETRIES: 3,
  /** Publishes that are on their way at once. */
  PUBLISH_IN_FLIGHT: 16,
  /** Publishes that wait, in number. */
  QUEUE_MESSAGES_MAX: 1_000,
  /** Publishes that wait, in bytes of JSON. */
  QUEUE_BYTES_MAX: 1_048_576,
  /** A publish that waited for so long is given up. */
  QUEUE_AGE_MAX_MS: 86_400_000,
  /** A publish that was sent once is not sent again after so long: half of the time for which servers know its id. */
  PUBLISH_RETRY_FOR_MS: 300_000,
  /** Being without a connection for so long is told to the user. */
  LOST_AFTER_MS: 5_000,
  /** Cursors are told at most so often. */
  PRESENCE_THROTTLE_MS: 50,
  /** Values that are kept of each metric channel. */
  METRICS_KEPT: 1_000,
  /** One event in so many is confirmed with a receipt. */
  RECEIPT_EVERY: 100,
  /** A round trip above this is called degraded. */
  DEGRADED_RTT_MS: 100,
  /** A round trip above this is called poor. */
  POOR_RTT_MS: 500,
  /** More messages waiting than this is called poor. */
  POOR_QUEUED: 50,
} as const;

/** What the server can refuse something with. */
export type ServerErrorCode =
  | 'bad_request'
  | 'invalid_position'
  | 'already_subscribed'
  | 'not_subscribed'
  | 'unauthorized'
  | 'invalid_token'
  | 'token_expired'
  | 'wrong_credential'
  | 'forbidden'
  | 'unknown_channel'
  | 'invalid_channel'
  | 'invalid_filter'
  | 'unsupported_encoding'
  | 'unsupported'
  | 'rate_limited'
  | 'limit_exceeded'
  | 'too_large'
  | 'overloaded'
  | 'idempotency_conflict'
  | 'store_unavailable'
  | 'outcome_unknown'
  | 'hook_failed'
  | 'hook_timeout'
  | 'unknown_event'
  | 'not_found'
  | 'method_not_allowed'
  | 'internal'
  | 'draining'
  | 'origin_refused'
  | 'history_unavailable'
  | 'unsupported_media_type'
  | 'timeout';

/** Why the server can close a connection, by number. */
export interface CloseCodes {
  1000: 'normal';
  1001: 'going_away';
  1002: 'protocol_error';
  1003: 'unsupported_data';
  1007: 'invalid_payload';
  1008: 'policy_violation';
  1009: 'message_too_big';
  1011: 'internal_error';
  1012: 'service_restart';
  1013: 'try_again_later';
  4001: 'draining';
  4002: 'token_expired';
  4003: 'no_pong';
  4004: 'slow_consumer';
  4005: 'rate_limited';
  4006: 'state_reset';
  4007: 'overloaded';
  4501: 'invalid_token';
  4502: 'forbidden';
  4503: 'bad_protocol';
  4504: 'connection_limit';
  4505: 'auth_timeout';
  4506: 'revoked';
  4508: 'superseded';
  4509: 'too_many_errors';
}
