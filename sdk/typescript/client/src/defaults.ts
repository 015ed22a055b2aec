// Generated from crates/protocol/src/client.rs by `cargo xtask generate`; do not edit.

/** Always waited before another attempt. */
export const BACKOFF_MIN_MS = 250;
/** The random part of the first wait is below this; the bound doubles with every failure. */
export const BACKOFF_STEP_MS = 500;
/** No wait is longer, unless the server says so. */
export const BACKOFF_MAX_MS = 10_000;
/** Asking for a token. */
export const TOKEN_TIMEOUT_MS = 10_000;
/** Opening a connection and being welcomed, together. */
export const CONNECT_TIMEOUT_MS = 5_000;
/** A connection that lived so long resets the count of failures. */
export const STABLE_AFTER_MS = 5_000;
/** The server's heartbeat, until it says its own. */
export const HEARTBEAT_MS = 25_000;
/** A server silent for longer than its heartbeat and this is probed. */
export const HEARTBEAT_GRACE_MS = 10_000;
/** A probe unanswered for so long ends the connection. */
export const PROBE_TIMEOUT_MS = 3_000;
/** A timer that fires so much too late says that the machine slept. */
export const LATE_TIMER_MS = 5_000;
/** The round trip is measured so often while the page is visible. */
export const RTT_INTERVAL_MS = 15_000;
/** An attempt is made so often although the machine says that it is offline. */
export const OFFLINE_RETRY_MS = 30_000;
/** Tokens refused in a row, each a new one, before a client gives up. */
export const REJECTIONS_MAX = 3;
/** Failures in a row before HTTP is tried. */
export const FALLBACK_FAILURES = 5;
/** Time without service before HTTP is tried. */
export const FALLBACK_AFTER_MS = 15_000;
/** Time until HTTP is tried beside the first attempt. */
export const FALLBACK_FIRST_MS = 4_000;
/** Failed polls in a row that end polling. */
export const POLL_FAILURES_MAX = 3;
/** Between two polls, unless the server asks for longer. */
export const POLL_INTERVAL_MS = 2_000;
/** While polling, WebSocket is tried again after so long; doubles with every failure. */
export const PROBE_WS_MIN_MS = 10_000;
/** While polling, WebSocket is tried at least so often. */
export const PROBE_WS_MAX_MS = 300_000;
/** A publish unanswered for so long is sent again with the same id. */
export const ACK_TIMEOUT_MS = 5_000;
/** A publish is sent again so often. */
export const PUBLISH_RETRIES = 3;
/** A question unanswered for so long fails. */
export const REQUEST_TIMEOUT_MS = 10_000;
/** Publishes that are on their way at once. */
export const PUBLISH_IN_FLIGHT = 16;
/** Publishes that wait, in number. */
export const QUEUE_MESSAGES_MAX = 1_000;
/** Publishes that wait, in bytes of JSON. */
export const QUEUE_BYTES_MAX = 1_048_576;
/** A publish that waited for so long is given up. */
export const QUEUE_AGE_MAX_MS = 86_400_000;
/** A publish that was sent once is not sent again after so long: half of the time for which servers know its id. */
export const PUBLISH_RETRY_FOR_MS = 300_000;
/** Being without a connection for so long is told to the user. */
export const LOST_AFTER_MS = 5_000;
/** Cursors are told at most so often. */
export const PRESENCE_THROTTLE_MS = 50;
/** Values that are kept of each metric channel. */
export const METRICS_KEPT = 1_000;
/** One event in so many is confirmed with a receipt. */
export const RECEIPT_EVERY = 100;
/** A round trip above this is called degraded. */
export const DEGRADED_RTT_MS = 100;
/** A round trip above this is called poor. */
export const POOR_RTT_MS = 500;
/** More messages waiting than this is called poor. */
export const POOR_QUEUED = 50;
