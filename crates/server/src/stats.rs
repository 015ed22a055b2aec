//! Document 004's counts of the server, for `GET /api/stats` and for the program that embeds it.

use std::time::Duration;

use pulsewire_edge::clock;
use pulsewire_telemetry::Current;
use serde_json::{Value, json};

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

/// The counts of all nodes, as each has said last; at most a second old but for nodes that are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStats {
    connected_clients: u64,
    total_subscriptions: u64,
    sessions_detached: u64,
    missing: usize,
    /// One object for each node, this one first.
    pub nodes: Vec<Value>,
}

impl ClusterStats {
    /// What is known; `None` without a cluster.
    #[must_use]
    pub fn of(app: &App, own: &Stats) -> Option<Self> {
        let others = app.cluster.as_ref()?.nodes.lock().others(clock::now());
        let node = |id: &str, name: &str, state: &str, clients: u64, subscriptions: u64, detached: u64| {
            json!({
                "id": id,
                "name": name,
                "state": state,
                "connected_clients": clients,
                "total_subscriptions": subscriptions,
                "sessions_detached": detached,
            })
        };
        let Stats { connected_clients, total_subscriptions, sessions_detached, .. } = *own;
        let first = node(
            &app.node,
            &app.node_name,
            "present",
            connected_clients,
            total_subscriptions,
            sessions_detached,
        );
        let mut all = Self {
            connected_clients,
            total_subscriptions,
            sessions_detached,
            missing: 0,
            nodes: vec![first],
        };
        for (id, other) in others {
            let name = other.row.get("name").and_then(Value::as_str).unwrap_or_default();
            let figures = &other.figures;
            let state = if other.missing { "missing" } else { "present" };
            let shown = node(&id, name, state, figures.connections, figures.subscriptions, figures.detached);
            all.nodes.push(shown);
            if other.missing {
                all.missing += 1;
                continue;
            }
            all.connected_clients += figures.connections;
            all.total_subscriptions += figures.subscriptions;
            all.sessions_detached += figures.detached;
        }
        Some(all)
    }

    /// The sums over the nodes that are there.
    #[must_use]
    pub fn summed(&self) -> Value {
        json!({
            "nodes": self.nodes.len() - self.missing,
            "nodes_missing": self.missing,
            "connected_clients": self.connected_clients,
            "total_subscriptions": self.total_subscriptions,
            "sessions_detached": self.sessions_detached,
        })
    }
}
