//! Document 004's counts of the server, for `GET /api/stats` and for the program that embeds it.

use std::time::Duration;

use pulsewire_edge::clock;
use pulsewire_telemetry::Current;

use crate::app::App;
use crate::collect::CollectorStats;

/// How much there is on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Clients that are connected now, event streams and waiting polls included.
    pub connected_clients: u64,
    /// The most there may be (`limits.connections_max`, or what the descriptors allow).
    pub connections_max: u64,
    /// Channels that connected clients are subscribed to, summed over the clients.
    pub total_subscriptions: u64,
    /// Channels the node knows.
    pub channels: u64,
    /// Sessions that wait for their client to come back.
    pub sessions_detached: u64,
    /// When the server started, Unix milliseconds.
    pub started_at_ms: i64,
    /// How long ago that was, by the wall clock.
    pub uptime: Duration,
    /// The collectors of this server, all together.
    pub collector: CollectorStats,
}

impl Stats {
    /// The counts, at most a tenth of a second old; if a shard does not answer, what there last was.
    pub async fn of(app: &App) -> Self {
        let current = app.scrapes.survey(app).await.current;
        Self::new(&current, app.started_at_ms, app.collecting.stats())
    }

    fn new(current: &Current, started_at_ms: i64, collector: CollectorStats) -> Self {
        let uptime_ms = clock::now().wall_ms.saturating_sub(started_at_ms);
        Self {
            connected_clients: current.active_connections(),
            connections_max: current.connections_hard_limit,
            total_subscriptions: current.subscriptions,
            channels: current.channels,
            sessions_detached: current.sessions_detached,
            started_at_ms,
            uptime: Duration::from_millis(u64::try_from(uptime_ms).unwrap_or(0)),
            collector,
        }
    }
}
