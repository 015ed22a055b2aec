//! The limits of a server's settings.

/// What `thresholds.*` says in a server's settings, each in the unit of its rule there; `None` where the rule is off.
///
/// The server is the one place where their defaults stand, so [`Default`] knows of none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Live connections of a node.
    pub connections: Option<Levels>,
    /// The 95th percentile of the latency of deliveries, in milliseconds.
    pub latency: Option<Levels>,
    /// The median duration of connections that ended, in seconds; less is worse.
    pub duration: Option<Levels>,
    /// Memory of a connection on average, in bytes.
    pub memory: Option<Levels>,
    /// Pings without an answer, in percent.
    pub heartbeats: Option<Levels>,
    /// Failed authentications, in percent.
    pub auth: Option<Levels>,
    /// Sessions that fell back to HTTP, in percent.
    pub fallback: Option<Levels>,
    /// Reconnections, in percent of the connections opened.
    pub reconnects: Option<Levels>,
    /// Messages that did not reach a live subscriber, in percent.
    pub failures: Option<Levels>,
    /// Messages discarded, in percent.
    pub drops: Option<Levels>,
    /// Readers closed within 5 minutes because they took nothing.
    pub slow: Option<Levels>,
    /// The 95th percentile of the messages that wait in clients.
    pub queue: Option<Levels>,
    /// Open file descriptors, in percent of those allowed.
    pub files: Option<Levels>,
    /// The 95th percentile of how late shards and runtime answer, in milliseconds.
    pub lag: Option<Levels>,
}

/// The limits of one rule, in its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// What is aimed at.
    pub target: f64,
    /// Beyond this a warning is given.
    pub warning: f64,
    /// Beyond this it is critical.
    pub critical: f64,
    /// Whether they are percentages of the most there may be, where the rule counts things.
    pub of_maximum: bool,
}
