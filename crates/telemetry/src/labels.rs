//! The closed sets of label values, one enum each.
//!
//! A label value that is not in one of these enums, an interned event type or one of the capped
//! top values cannot reach the exposition, so no client can grow the number of series.

/// Declares enums whose variants are label values.
macro_rules! labels {
    ($($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? })+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $(#[doc = concat!("`", $text, "`")] $variant),+ }

        impl $name {
            /// Every value, in the order of the exposition.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The label values, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($text),+];
            /// How many values there are.
            pub const COUNT: usize = Self::NAMES.len();

            /// The label value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+ };
}

labels! {
    /// What became of a connection attempt (document 001).
    Status { Opened = "opened", Closed = "closed", Failed = "failed" }

    /// How a client is attached.
    Transport { WebSocket = "websocket", Sse = "sse", HttpStreaming = "http_streaming", Polling = "polling" }

    /// The encoding of a connection's messages.
    Codec { Json = "json", MsgPack = "msgpack" }

    /// Who ended a connection.
    Initiator { Client = "client", Server = "server", Network = "network" }

    /// Why a connection ended.
    DisconnectReason {
        ClientClose = "client_close",
        ServerClose = "server_close",
        HeartbeatTimeout = "heartbeat_timeout",
        AuthExpired = "auth_expired",
        AuthTimeout = "auth_timeout",
        InvalidToken = "invalid_token",
        Forbidden = "forbidden",
        Revoked = "revoked",
        SlowConsumer = "slow_consumer",
        ProtocolError = "protocol_error",
        TooLarge = "too_large",
        TooManyErrors = "too_many_errors",
        RateLimit = "rate_limit",
        ConnectionLimit = "connection_limit",
        Overloaded = "overloaded",
        StateReset = "state_reset",
        Superseded = "superseded",
        Drain = "drain",
        InternalError = "internal_error",
        Network = "network",
    }

    /// What went wrong with a connection attempt or a live connection.
    ConnectionError {
        Accept = "accept",
        Tls = "tls",
        Handshake = "handshake",
        Timeout = "timeout",
        Reset = "reset",
        Io = "io",
        Protocol = "protocol",
        Internal = "internal",
    }

    /// Where an attempt was refused.
    RejectStage { Accept = "accept", Handshake = "handshake" }

    /// Why an attempt was refused.
    RejectReason {
        ConnectionLimit = "connection_limit",
        AddressLimit = "address_limit",
        UserLimit = "user_limit",
        RateLimit = "rate_limit",
        HandshakeRate = "handshake_rate",
        Draining = "draining",
        Overloaded = "overloaded",
        BadRequest = "bad_request",
        BadVersion = "bad_version",
        Origin = "origin",
        Unauthorized = "unauthorized",
        Forbidden = "forbidden",
        NotFound = "not_found",
        TooLarge = "too_large",
        Timeout = "timeout",
    }

    /// How a WebSocket handshake ended.
    HandshakeOutcome { Accepted = "accepted", Rejected = "rejected", TimedOut = "timed_out", Failed = "failed" }

    /// How a TLS handshake ended.
    TlsResult { Completed = "completed", Failed = "failed", TimedOut = "timed_out" }

    /// Why authentication failed; the first three are document 001's.
    AuthFailure {
        MissingToken = "missing_token",
        InvalidToken = "invalid_token",
        ExpiredToken = "expired_token",
        Forbidden = "forbidden",
        Origin = "origin",
    }

    /// Types of protocol messages, for messages that are not an application's event.
    MessageType {
        Event = "event",
        Metric = "metric",
        Ping = "ping",
        Pong = "pong",
        Welcome = "welcome",
        Connected = "connected",
        Subscribed = "subscribed",
        Unsubscribed = "unsubscribed",
        Ack = "ack",
        Error = "error",
        Gap = "gap",
        Reset = "reset",
        Dropped = "dropped",
        Reconnect = "reconnect",
        Connect = "connect",
        Subscribe = "subscribe",
        Unsubscribe = "unsubscribe",
        Publish = "publish",
        Samples = "samples",
        GetHistory = "get_history",
        History = "history",
        Receipt = "receipt",
        Refresh = "refresh",
        Presence = "presence",
        Other = "other",
    }

    /// Which way bytes went.
    Direction { Received = "received", Sent = "sent" }

    /// What a byte count includes: `wire` is everything on the socket, `payload` the messages only.
    Layer { Payload = "payload", Wire = "wire" }

    /// What was wrong with a message; the first three are document 001's.
    MessageError {
        ParseError = "parse_error",
        ValidationError = "validation_error",
        SendError = "send_error",
        TooLarge = "too_large",
        Protocol = "protocol",
    }

    /// Why a message was not delivered.
    DropCause {
        RateLimit = "rate_limit",
        SlowConsumer = "slow_consumer",
        QueueFull = "queue_full",
        Expired = "expired",
        Closed = "closed",
    }

    /// What was done about a reader that cannot keep up.
    SlowAction { Lag = "lag", Drop = "drop", Conflate = "conflate", Close = "close" }

    /// Which buffer of a connection was full.
    MemoryPart { Message = "message", Stash = "stash", Outbox = "outbox" }

    /// Which limit was reached.
    RateScope {
        Connection = "connection",
        User = "user",
        Address = "address",
        Publish = "publish",
        Connect = "connect",
        Http = "http",
        Scrape = "scrape",
    }

    /// What watchers were told of a channel's members.
    PresenceEvent { Joined = "joined", Left = "left", Cursor = "cursor" }

    /// What of presence was not taken, or not told: a member or a cursor beyond a limit, a cursor that a newer
    /// one has replaced, a change for a reader who lags and gets the newest state instead.
    PresenceDrop {
        MembersMax = "members_max",
        CursorBytesMax = "cursor_bytes_max",
        Conflated = "conflated",
        Lagging = "lagging",
    }

    /// Whether the page of a client that reported can be seen.
    Visibility { Visible = "visible", Hidden = "hidden", Unknown = "unknown" }

    /// Why a reader was told of missing events.
    GapReason { Trimmed = "trimmed", Corrupt = "corrupt", Overflow = "overflow" }

    /// How a returning session continued.
    ReconnectOutcome { Resumed = "resumed", Replayed = "replayed", Reset = "reset" }

    /// What shows that a message arrived: our hand-off to the kernel, TCP's acknowledgement, or the client's receipt.
    Proof { Handoff = "handoff", TcpAck = "tcp_ack", AppAck = "app_ack" }

    /// Where a publication came from.
    PublishSource { Http = "http", WebSocket = "websocket", Source = "source", Hook = "hook", Redis = "redis" }

    /// What became of a publish request.
    PublishOutcome {
        Accepted = "accepted",
        Duplicate = "duplicate",
        Rejected = "rejected",
        Failed = "failed",
        Unknown = "unknown",
    }

    /// How a hook call ended.
    HookOutcome { Ok = "ok", Refused = "refused", Failed = "failed", TimedOut = "timed_out" }

    /// Which counts are compared with what they count.
    SelfCheck { Connections = "connections", Sessions = "sessions", Subscriptions = "subscriptions" }

    /// How a reload of the settings ended.
    ReloadOutcome { Ok = "ok", Failed = "failed" }

    /// How a fetch of the key set of `auth.jwks_url` ended.
    KeyFetch {
        Ok = "ok",
        Unreachable = "unreachable",
        TimedOut = "timed_out",
        Refused = "refused",
        TooLarge = "too_large",
        Unreadable = "unreadable",
    }

    /// What memory is used for; the first five belong to connections.
    MemoryClass {
        Connections = "connections",
        Sessions = "sessions",
        Subscriptions = "subscriptions",
        Outboxes = "outboxes",
        ReadBuffers = "read_buffers",
        Channels = "channels",
    }

    /// How samples of metric channels come in.
    SampleSource {
        Host = "host",
        Derived = "derived",
        Http = "http",
        WebSocket = "websocket",
        Redis = "redis",
        Otlp = "otlp",
        RemoteWrite = "remote_write",
        Program = "program",
    }

    /// Why a message or an entry of Redis was refused for good.
    RedisRefusal {
        Malformed = "malformed",
        TooLarge = "too_large",
        Channel = "channel",
        Conflict = "conflict",
        Limit = "limit",
        Other = "other",
        Lost = "lost",
    }

    /// Why a sample was refused.
    SampleRefusal {
        Malformed = "malformed",
        Channel = "channel",
        Name = "name",
        Tags = "tags",
        Value = "value",
        Kind = "kind",
        Future = "future",
        SeriesMax = "series_max",
        BatchMax = "batch_max",
        Overloaded = "overloaded",
    }

    /// What a node says to others through the broker: what was committed, events of channels that keep nothing,
    /// samples, and everything else.
    BrokerItem { Committed = "committed", Passed = "passed", Samples = "samples", Other = "other" }

    /// Why something that was to go between nodes did not.
    BrokerDrop {
        QueueFull = "queue_full",
        NotConnected = "not_connected",
        TooLarge = "too_large",
        Lagging = "lagging",
        Refused = "refused",
        Unread = "unread",
        Busy = "busy",
    }

    /// What became of something that nodes say to each other, in one word.
    BusMessage { Sent = "sent", Received = "received", Dropped = "dropped", Refused = "refused" }

    /// Topics of the broker that a node wants to hear, and those that it hears.
    TopicState { Wanted = "wanted", Heard = "heard" }

    /// Other nodes: those that are there, and those that have fallen silent.
    NodeState { Present = "present", Missing = "missing" }

    /// Whose rows of presence: a user in a channel, once for each node.
    PresenceOf { Own = "own", Others = "others" }

    /// What happens while nodes share presence.
    PresenceShared { Asked = "asked", Served = "served", Missed = "missed", Refused = "refused", Lost = "lost" }

    /// What became of roll-ups that were to be kept.
    ChunkOutcome { Kept = "kept", Failed = "failed", LeftOut = "left_out", GivenUp = "given_up" }

    /// Which bounded set of series was full.
    SeriesSet { EventType = "event_type", Custom = "custom" }

    /// How an authentication ended.
    AuthOutcome { Success = "success", Failure = "failure" }

    /// How far a publication has come since it was accepted.
    Stage { Fanout = "fanout", Queue = "queue", Kernel = "kernel" }

    /// The parts of sending an initial state: reading it, and encoding it and handing it to the kernel.
    InitialStage { Fetch = "fetch", Serialize = "serialize", Send = "send" }

    /// What a store failed at.
    StoreFailure {
        Busy = "busy",
        Full = "full",
        Io = "io",
        Corrupt = "corrupt",
        ReadOnly = "read_only",
        Unreachable = "unreachable",
        Other = "other",
    }

    /// What an upstream stream failed at: finding its address, reaching it, TLS, the WebSocket handshake, an answer in
    /// time, the protocol; or its peer closed it.
    UpstreamError {
        Resolve = "resolve",
        Connect = "connect",
        Tls = "tls",
        Handshake = "handshake",
        Timeout = "timeout",
        Protocol = "protocol",
        Closed = "closed",
    }

    /// Where an upstream stream is: being connected, with a link that is connected, waiting for its next attempt,
    /// waiting for its upstream's circuit, or given up until somebody restarts it. A stream of two links is where the
    /// better one is.
    UpstreamState {
        Connecting = "connecting",
        Live = "live",
        Waiting = "waiting",
        Circuit = "circuit",
        Failed = "failed",
    }

    /// What became of a message of an upstream: it was published; it had come from another link before; it is no event
    /// (an answer, a heartbeat, a key that nobody wants, garbage); there were too many; the channel did not take it.
    UpstreamMessage {
        Published = "published",
        Duplicate = "duplicate",
        Unmapped = "unmapped",
        Dropped = "dropped",
        Refused = "refused",
    }

    /// Which settings an upstream stream runs on: those that everybody has, or the candidate's.
    UpstreamTrack { Stable = "stable", Canary = "canary" }

    /// What the server thinks of the candidate: there is none; too few streams to say; it is no worse; it is worse,
    /// but has not been for long; it has been worse for as long as is allowed; it was taken back.
    CanaryVerdict {
        Off = "off",
        Insufficient = "insufficient",
        Pass = "pass",
        Suspect = "suspect",
        Fail = "fail",
        RolledBack = "rolled_back",
    }

    /// Where a page of history came from.
    ReadSource { Ring = "ring", Cache = "cache", Store = "store" }

    /// How it was found that publications were missing.
    RepairSource { Hole = "hole", HeadCheck = "head_check" }

    /// What is asked how late it answers: the slowest shard, or the runtime of HTTP and handshakes.
    Loop { Shards = "shards", Runtime = "runtime" }

    /// The rules the server evaluates itself; the first six are document 001's table.
    Alert {
        Connections = "connections",
        Latency = "latency",
        Duration = "duration",
        Memory = "memory",
        Heartbeats = "heartbeats",
        Auth = "auth",
        Fallback = "fallback",
        Reconnects = "reconnects",
        Failures = "failures",
        Drops = "drops",
        Slow = "slow",
        Queue = "queue",
        Store = "store",
        Files = "files",
        Lag = "lag",
        Shards = "shards",
    }

    /// How bad it is when a rule fires.
    Severity { Warning = "warning", Critical = "critical" }
}

impl MessageType {
    /// The type of that name, else [`MessageType::Other`].
    #[must_use]
    pub fn named(name: &str) -> Self {
        let index = Self::NAMES.iter().position(|&known| known == name);
        index.map_or(Self::Other, |index| Self::ALL[index])
    }
}

impl MemoryClass {
    /// Whether the class counts towards `websocket_memory_usage_bytes`.
    #[must_use]
    pub const fn belongs_to_connections(self) -> bool {
        (self as u8) <= (Self::ReadBuffers as u8)
    }
}

/// The WebSocket close codes that have a series of their own, and `other`.
///
/// RFC 6455 §7.4.1, 1012 to 1014 of the IANA registry, and Pulsewire's application codes.
/// 1005 stands for "no code was sent", 1006 for "no Close frame was seen".
pub(crate) const CLOSE_CODES: [u16; 30] = [
    1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 4001, 4002, 4003,
    4004, 4005, 4006, 4007, 4501, 4502, 4503, 4504, 4505, 4506, 4507, 4508, 4509,
];

/// The label values of [`CLOSE_CODES`], `other` last.
pub(crate) const CLOSE_CODE_NAMES: [&str; 31] = [
    "1000", "1001", "1002", "1003", "1005", "1006", "1007", "1008", "1009", "1010", "1011", "1012", "1013",
    "1014", "4001", "4002", "4003", "4004", "4005", "4006", "4007", "4501", "4502", "4503", "4504", "4505",
    "4506", "4507", "4508", "4509", "other",
];

/// The index of a close code in [`CLOSE_CODE_NAMES`].
pub(crate) fn close_code_index(code: u16) -> usize {
    CLOSE_CODES.binary_search(&code).unwrap_or(CLOSE_CODES.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_close_code_has_its_own_name_and_unknown_ones_share_other() {
        for (index, code) in CLOSE_CODES.iter().enumerate() {
            assert_eq!(CLOSE_CODE_NAMES[close_code_index(*code)], code.to_string());
            assert_eq!(close_code_index(*code), index);
        }
        assert_eq!(CLOSE_CODE_NAMES[close_code_index(4999)], "other");
    }

    #[test]
    fn a_message_type_is_found_by_its_name() {
        assert_eq!(MessageType::named("get_history"), MessageType::GetHistory);
        assert_eq!(MessageType::named("no such type"), MessageType::Other);
    }
}
