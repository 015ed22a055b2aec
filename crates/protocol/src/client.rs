//! What every client does unless it is told otherwise: one table for the Rust client and the TypeScript SDK.
//!
//! `cargo xtask generate` writes these into `sdk/typescript/client/src/generated.ts`. Times are milliseconds.

macro_rules! client_defaults {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal;)*) => {
        $($(#[doc = $doc])+ pub const $name: u64 = $value;)*

        /// Every default with its name and its documentation, in the order of the table.
        pub const ALL: &[(&str, u64, &str)] = &[$((stringify!($name), $value, concat!($($doc,)+))),*];
    };
}

client_defaults! {
    /// Always waited before another attempt.
    BACKOFF_MIN_MS = 250;
    /// The random part of the first wait is below this; the bound doubles with every failure.
    BACKOFF_STEP_MS = 500;
    /// No wait is longer, unless the server says so.
    BACKOFF_MAX_MS = 10_000;
    /// Asking for a token.
    TOKEN_TIMEOUT_MS = 10_000;
    /// Opening a connection and being welcomed, together.
    CONNECT_TIMEOUT_MS = 5_000;
    /// A connection that lived so long resets the count of failures.
    STABLE_AFTER_MS = 5_000;
    /// The server's heartbeat, until it says its own.
    HEARTBEAT_MS = 25_000;
    /// A server silent for longer than its heartbeat and this is probed.
    HEARTBEAT_GRACE_MS = 10_000;
    /// A probe unanswered for so long ends the connection.
    PROBE_TIMEOUT_MS = 3_000;
    /// A timer that fires so much too late says that the machine slept.
    LATE_TIMER_MS = 5_000;
    /// The round trip is measured so often while the page is visible.
    RTT_INTERVAL_MS = 15_000;
    /// An attempt is made so often although the machine says that it is offline.
    OFFLINE_RETRY_MS = 30_000;
    /// Tokens refused in a row, each a new one, before a client gives up.
    REJECTIONS_MAX = 3;
    /// Failures in a row before HTTP is tried.
    FALLBACK_FAILURES = 5;
    /// Time without service before HTTP is tried.
    FALLBACK_AFTER_MS = 15_000;
    /// Time until HTTP is tried beside the first attempt.
    FALLBACK_FIRST_MS = 4_000;
    /// Failed polls in a row that end polling.
    POLL_FAILURES_MAX = 3;
    /// Between two polls, unless the server asks for longer.
    POLL_INTERVAL_MS = 2_000;
    /// While polling, WebSocket is tried again after so long; doubles with every failure.
    PROBE_WS_MIN_MS = 10_000;
    /// While polling, WebSocket is tried at least so often.
    PROBE_WS_MAX_MS = 300_000;
    /// A publish unanswered for so long is sent again with the same id.
    ACK_TIMEOUT_MS = 5_000;
    /// A publish is sent again so often.
    PUBLISH_RETRIES = 3;
    /// A question unanswered for so long fails.
    REQUEST_TIMEOUT_MS = 10_000;
    /// Publishes that are on their way at once.
    PUBLISH_IN_FLIGHT = 16;
    /// Publishes that wait, in number.
    QUEUE_MESSAGES_MAX = 1_000;
    /// Publishes that wait, in bytes of JSON.
    QUEUE_BYTES_MAX = 1_048_576;
    /// A publish that waited for so long is given up.
    QUEUE_AGE_MAX_MS = 86_400_000;
    /// A publish that was sent once is not sent again after so long: half of the time for which servers know its id.
    PUBLISH_RETRY_FOR_MS = 300_000;
    /// Being without a connection for so long is told to the user.
    LOST_AFTER_MS = 5_000;
    /// Cursors are told at most so often.
    PRESENCE_THROTTLE_MS = 50;
    /// Values that are kept of each metric channel.
    METRICS_KEPT = 1_000;
    /// One event in so many is confirmed with a receipt.
    RECEIPT_EVERY = 100;
    /// A round trip above this is called degraded.
    DEGRADED_RTT_MS = 100;
    /// A round trip above this is called poor.
    POOR_RTT_MS = 500;
    /// More messages waiting than this is called poor.
    POOR_QUEUED = 50;
}
