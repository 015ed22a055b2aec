//! Which fields of which list are shown.

use super::{Column, Shape};

const fn column(title: &'static str, field: &'static str, shape: Shape) -> Column {
    Column::new(title, field, shape)
}

/// Connections that are there, worst first.
pub(in crate::cli) const ACTIVE: &[Column] = &[
    column("SCORE", "score", Shape::Count),
    column("USER", "userId", Shape::Text(20)),
    column("STATE", "state", Shape::Text(10)),
    column("CAUSE", "cause", Shape::Text(18)),
    column("LATENCY", "latencyMs", Shape::Ms),
    column("RTT", "rttMs", Shape::Ms),
    column("QUEUE", "queuedBytes", Shape::Bytes),
    column("OUT/S", "outPerSecond", Shape::Rate),
    column("SUBS", "subscriptions", Shape::Count),
    column("RECONN", "reconnections", Shape::Count),
    column("AGE", "connectedAt", Shape::Ago),
    column("ADDRESS", "remoteAddress", Shape::Text(22)),
    column("ID", "id", Shape::Text(26)),
];

/// Connections that ended.
pub(in crate::cli) const CLOSED: &[Column] = &[
    column("AT", "disconnectedAt", Shape::Clock),
    column("USER", "userId", Shape::Text(20)),
    column("CODE", "code", Shape::Text(5)),
    column("REASON", "reason", Shape::Text(22)),
    column("BY", "initiator", Shape::Text(8)),
    column("LASTED", "durationMs", Shape::Ms),
    column("SENT", "messagesSent", Shape::Count),
    column("RECEIVED", "messagesReceived", Shape::Count),
    column("ADDRESS", "remoteAddress", Shape::Text(22)),
    column("SESSION", "sessionId", Shape::Text(26)),
];

/// Handshakes that failed.
pub(in crate::cli) const FAILED: &[Column] = &[
    column("AT", "at", Shape::Clock),
    column("ADDRESS", "remoteAddress", Shape::Text(22)),
    column("STAGE", "stage", Shape::Text(10)),
    column("REASON", "reason", Shape::Text(22)),
    column("STATUS", "status", Shape::Text(5)),
    column("PATH", "path", Shape::Text(20)),
    column("DETAIL", "detail", Shape::Text(60)),
];

/// Groups of connections.
pub(in crate::cli) const GROUPS: &[Column] = &[
    column("GROUP", "id", Shape::Text(40)),
    column("CONNS", "connections", Shape::Count),
    column("QUEUE", "queuedBytes", Shape::Bytes),
    column("RTT MAX", "rttMs", Shape::Ms),
    column("LATENCY MAX", "latencyMaxMs", Shape::Ms),
    column("RECONN", "reconnections", Shape::Count),
    column("FAILURES", "messageFailures", Shape::Count),
    column("WORST", "worstScore", Shape::Count),
];

/// Whether a row stands for many.
pub(in crate::cli) fn are_groups(columns: &[Column]) -> bool {
    columns.first().is_some_and(|column| column.title == "GROUP")
}

/// Channels.
pub(in crate::cli) const CHANNELS: &[Column] = &[
    column("CHANNEL", "channel", Shape::Text(32)),
    column("KIND", "kind", Shape::Text(10)),
    column("SUBS", "subscribers", Shape::Count),
    column("EVENTS/S", "publishedPerSecond", Shape::Rate),
    column("BYTES/S", "bytesPerSecond", Shape::Bytes),
    column("PUBLISHED", "published", Shape::Count),
    column("CRITICAL", "criticalShare", Shape::Share),
    column("HEAD", "head", Shape::Count),
    column("PRESENT", "present", Shape::Count),
];

/// Groups of channels.
pub(in crate::cli) const CHANNEL_GROUPS: &[Column] = &[
    column("GROUP", "id", Shape::Text(40)),
    column("CHANNELS", "channels", Shape::Count),
    column("SUBS", "subscribers", Shape::Count),
    column("EVENTS/S", "publishedPerSecond", Shape::Rate),
    column("BYTES/S", "bytesPerSecond", Shape::Bytes),
];

/// Who reads a channel.
pub(in crate::cli) const READERS: &[Column] = &[
    column("USER", "userId", Shape::Text(24)),
    column("BEHIND", "behind", Shape::Count),
    column("POSITION", "position", Shape::Count),
    column("FEEDING", "feeding", Shape::Text(10)),
    column("SESSION", "id", Shape::Text(26)),
];

/// Streams to other servers.
pub(in crate::cli) const STREAMS: &[Column] = &[
    column("UPSTREAM", "upstream", Shape::Text(24)),
    column("KEY", "key", Shape::Text(20)),
    column("STATE", "state", Shape::Text(10)),
    column("TRACK", "track", Shape::Text(6)),
    column("LISTENERS", "listeners", Shape::Count),
    column("MESSAGES/S", "messagesPerSecond", Shape::Rate),
    column("RETRIES", "retries", Shape::Count),
    column("ERRORS", "errors", Shape::Count),
    column("DROPPED", "dropped", Shape::Count),
    column("MISSING", "missing", Shape::Count),
    column("IDLE", "idleMs", Shape::Ms),
    column("AGAIN IN", "retryInMs", Shape::Ms),
    column("ID", "id", Shape::Text(20)),
    column("LAST ERROR", "lastError.text", Shape::Text(60)),
];

/// Connections of streams.
pub(in crate::cli) const LINKS: &[Column] = &[
    column("STREAM", "stream", Shape::Text(20)),
    column("STATE", "state", Shape::Text(10)),
    column("ATTEMPTS", "attempts", Shape::Count),
    column("FAILURES", "failures", Shape::Count),
    column("AGAIN IN", "retryInMs", Shape::Ms),
    column("URL", "url", Shape::Text(80)),
];

/// What the streams on each settings did.
pub(in crate::cli) const TRACKS: &[Column] = &[
    column("TRACK", "track", Shape::Text(6)),
    column("STREAMS", "streams", Shape::Count),
    column("ATTEMPTS", "attempts", Shape::Count),
    column("RETRIES", "retries", Shape::Count),
    column("RETRIES/MIN", "retriesPerMinute", Shape::Rate),
    column("ERRORS", "errors", Shape::Count),
    column("ERROR RATE", "errorShare", Shape::Share),
];

/// What a connection listens to.
pub(in crate::cli) const SUBSCRIPTIONS: &[Column] = &[
    column("CHANNEL", "channel", Shape::Text(32)),
    column("KIND", "kind", Shape::Text(10)),
    column("POSITION", "position", Shape::Count),
    column("HEAD", "head", Shape::Count),
    column("BEHIND", "behind", Shape::Count),
    column("FEEDING", "feeding", Shape::Text(10)),
];

/// What happened to a connection.
pub(in crate::cli) const TIMELINE: &[Column] = &[
    column("AT", "at", Shape::Clock),
    column("LANE", "lane", Shape::Text(13)),
    column("KIND", "kind", Shape::Text(18)),
    column("TEXT", "text", Shape::Text(80)),
];

/// Rules the server judges itself by.
pub(in crate::cli) const ALERTS: &[Column] = &[
    column("ALERT", "id", Shape::Text(22)),
    column("STATE", "state", Shape::Text(8)),
    column("SEVERITY", "severity", Shape::Text(8)),
    column("VALUE", "value", Shape::Count),
    column("LIMIT", "limit", Shape::Count),
    column("UNIT", "unit", Shape::Text(12)),
    column("SINCE", "since", Shape::Ago),
    column("SILENCED UNTIL", "silencedUntil", Shape::Clock),
    column("TITLE", "title", Shape::Text(40)),
];

/// Kinds of errors.
#[cfg(feature = "tui")]
pub(in crate::cli) const ERRORS: &[Column] = &[
    column("ERROR", "id", Shape::Text(34)),
    column("COUNT", "count", Shape::Count),
    column("PER MIN", "perMinute", Shape::Rate),
    column("CONNS", "connections", Shape::Count),
    column("FIRST", "firstAt", Shape::Ago),
    column("LAST", "lastAt", Shape::Ago),
    column("HELP", "help", Shape::Text(60)),
];

/// Nodes.
#[cfg(feature = "tui")]
pub(in crate::cli) const NODES: &[Column] = &[
    column("NODE", "id", Shape::Text(16)),
    column("NAME", "name", Shape::Text(16)),
    column("STATE", "state", Shape::Text(8)),
    column("VERSION", "version", Shape::Text(10)),
    column("UP", "startedAt", Shape::Ago),
    column("CONNS", "connections", Shape::Count),
    column("MAX", "connectionsMax", Shape::Count),
    column("CPU", "cpuPercent", Shape::Percent),
    column("RSS", "rssBytes", Shape::Bytes),
    column("FILES", "openFiles", Shape::Count),
    column("STORE", "storeState", Shape::Text(10)),
    column("COMMIT", "storeLatencyMs", Shape::Ms),
    column("BROKER", "brokerState", Shape::Text(8)),
    column("LAG", "brokerLagMs", Shape::Ms),
    column("SKEW", "clockSkewMs", Shape::Ms),
    column("DRAINING", "draining", Shape::Text(8)),
];
