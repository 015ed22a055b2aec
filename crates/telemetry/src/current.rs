//! What is, as opposed to what happened.
//!
//! A present quantity is read from the table that owns it at the moment of a scrape, never
//! counted up and down. Each shard fills a [`Current`], the results are merged, and the server
//! adds what only it knows (limits, draining).

use crate::labels::{
    Alert, CanaryVerdict, Codec, MemoryClass, NodeState, PresenceOf, PresenceShared, SelfCheck, Severity,
    TopicState, Transport, UpstreamState, UpstreamTrack,
};
use crate::layout::{DURATION_MS, QUEUE_BYTES, SUBSCRIPTIONS};

/// The most bounds a [`Spread`] can have.
const BOUNDS_MAX: usize = 16;

/// The broker between nodes, as one of them sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Broker {
    /// Whether it is reached.
    pub connected: bool,
    /// Bytes that wait for it.
    pub queued_bytes: u64,
    /// Topics, indexed by [`TopicState`].
    pub topics: [u64; TopicState::COUNT],
    /// Other nodes, indexed by [`NodeState`].
    pub nodes: [u64; NodeState::COUNT],
    /// By how much the clock of another node differs from this one's at most, milliseconds; the way of a message is in it.
    pub clock_skew_ms: u64,
    /// Rows of presence, indexed by [`PresenceOf`].
    pub presence_rows: [u64; PresenceOf::COUNT],
    /// What has happened since the start while nodes share presence, indexed by [`PresenceShared`].
    pub presence_shared: [u64; PresenceShared::COUNT],
}

/// How a present quantity is spread over the things that have it, in buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    bounds: &'static [u64],
    counts: [u64; BOUNDS_MAX],
    sum: u64,
}

impl Spread {
    fn new(bounds: &'static [u64]) -> Self {
        debug_assert!(bounds.len() < BOUNDS_MAX);
        Self { bounds, counts: [0; BOUNDS_MAX], sum: 0 }
    }

    /// Adds one thing that has `value` of the quantity.
    pub fn observe(&mut self, value: u64) {
        self.observe_many(value, 1);
    }

    /// Adds `n` things that have `value` of the quantity each.
    pub fn observe_many(&mut self, value: u64, n: u64) {
        let bucket: usize = self.bounds.iter().map(|&bound| usize::from(value > bound)).sum();
        self.counts[bucket] += n;
        self.sum = self.sum.saturating_add(value.saturating_mul(n));
    }

    /// Things observed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The quantity they have together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Each bucket's count, not cumulative, `+Inf` last, and the sum.
    pub(crate) fn slots(&self) -> Vec<u64> {
        let mut slots = self.counts[..=self.bounds.len()].to_vec();
        slots.push(self.sum);
        slots
    }

    fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

/// The upstream streams of a node.
///
/// All of it is read at one moment, so that those created less those cleaned up are [`Upstreams::active`] and
/// [`Upstreams::uncleaned`] together, and so are the sums of [`Upstreams::by_state`] and [`Upstreams::by_track`] the
/// active ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstreams {
    /// There now and not ended, whether connected or still trying.
    pub active: u64,
    /// The most at a time since the start.
    pub high_water: u64,
    /// The most at a time since midnight UTC.
    pub high_water_today: u64,
    /// As many as the node allows.
    pub limit: u64,
    /// Ended, and something is left of them.
    pub uncleaned: u64,
    /// Created since the start. It is read with the others, so that what was created less what was cleaned is, in every
    /// scrape, what is active or uncleaned.
    pub created: u64,
    /// Ended since the start, with nothing left of them.
    pub cleaned: u64,
    /// The active ones by where they are, indexed by [`UpstreamState`].
    pub by_state: [u64; UpstreamState::COUNT],
    /// The active ones by the settings they run on, indexed by [`UpstreamTrack`].
    pub by_track: [u64; UpstreamTrack::COUNT],
    /// What the server thinks of the candidate; [`CanaryVerdict::Off`] if there is none.
    pub verdict: CanaryVerdict,
}

impl Default for Upstreams {
    fn default() -> Self {
        Self {
            active: 0,
            high_water: 0,
            high_water_today: 0,
            limit: 0,
            uncleaned: 0,
            created: 0,
            cleaned: 0,
            by_state: [0; UpstreamState::COUNT],
            by_track: [0; UpstreamTrack::COUNT],
            verdict: CanaryVerdict::Off,
        }
    }
}

/// The present quantities of a shard or, merged, of the node.
#[derive(Clone, Debug)]
pub struct Current {
    /// Live connections by transport and codec; see [`Current::connection`].
    pub connections: [[u64; Codec::COUNT]; Transport::COUNT],
    /// Sessions without a connection that can still be resumed.
    pub sessions_detached: u64,
    /// Subscriptions of live connections and detached sessions.
    pub subscriptions: u64,
    /// Subscriptions to channels of the project namespace, by project; the exposition keeps the largest.
    pub subscriptions_by_project: Vec<(String, u64)>,
    /// Subscriptions to projects that are not in the list.
    pub subscriptions_by_project_other: u64,
    /// Series of metric channels that are at hand.
    pub metric_series: u64,
    /// Subscriptions per live connection.
    pub subscriptions_per_connection: Spread,
    /// Bytes waiting in each live connection's outbox.
    pub outbound_queue_bytes: Spread,
    /// Age of each live connection, **milliseconds**; see [`Current::connection`].
    pub connection_age_ms: Spread,
    /// Channels with an audience or a log.
    pub channels: u64,
    /// Users present in channels.
    pub presence_members: u64,
    /// Channels with somebody present.
    pub presence_channels: u64,
    /// Attributed memory by class, indexed by [`MemoryClass`], bytes.
    pub memory_bytes: [u64; MemoryClass::COUNT],
    /// Bytes the kernel has accepted and not sent, at each connection's last sample.
    pub kernel_unsent_bytes: u64,
    /// Bytes sent and not acknowledged, at each connection's last sample.
    pub kernel_unacked_bytes: u64,
    /// Messages that wait in live clients, as each said in its last report.
    pub client_queued_messages: u64,
    /// Kernel memory of our sockets, estimated from samples, bytes.
    pub kernel_socket_bytes: u64,
    /// By how much a count differs from what it counts, indexed by [`SelfCheck`]; anything but 0 is a bug.
    pub selfcheck_mismatch: [u64; SelfCheck::COUNT],
    /// Bytes the allocator has given out to the whole process; 0 if it does not say.
    pub heap_allocated_bytes: u64,
    /// CPU time used by the shard threads so far, seconds.
    pub shard_cpu_seconds: f64,
    /// Connections at which the node warns.
    pub connections_soft_limit: u64,
    /// Connections the node allows.
    pub connections_hard_limit: u64,
    /// When the TLS certificate in force expires, Unix seconds; `None` without TLS.
    pub tls_certificate_expiry_seconds: Option<u64>,
    /// Whether what is published in Redis is read now; `None` if it is not to be.
    pub redis_connected: Option<bool>,
    /// Whether Redis streams are read now; `None` if none are to be.
    pub redis_streams_connected: Option<bool>,
    /// Entries of Redis streams that the group has not been given; `None` if that is not known.
    pub redis_stream_lag: Option<u64>,
    /// Entries of Redis streams that the group has not acknowledged; `None` if that is not known.
    pub redis_stream_pending: Option<u64>,
    /// The broker between nodes; `None` if there is none. The node's, so no shard says anything of it.
    pub broker: Option<Broker>,
    /// Queries that operators watch.
    pub watches: u64,
    /// New connections that were told to come back later and have not had their turn.
    pub handshakes_waiting: u64,
    /// Whether the node is draining.
    pub draining: bool,
    /// Events that wait to be kept.
    pub store_queue_events: u64,
    /// Whether a store fails.
    pub store_degraded: bool,
    /// Tasks alive on the runtime.
    pub tokio_tasks: u64,
    /// Tasks that wait in the runtime's shared queue.
    pub tokio_queue: u64,
    /// Pages of history that are being read over HTTP.
    pub history_reads_active: u64,
    /// Pages of history that wait for their turn.
    pub history_reads_waiting: u64,
    /// Upstream streams; the node's, so no shard says anything of them.
    pub upstreams: Upstreams,
    /// How bad each rule is that fires now, indexed by [`Alert`].
    pub alerts: [Option<Severity>; Alert::COUNT],
}

impl Default for Current {
    fn default() -> Self {
        Self {
            connections: Default::default(),
            sessions_detached: 0,
            subscriptions: 0,
            subscriptions_by_project: Vec::new(),
            subscriptions_by_project_other: 0,
            metric_series: 0,
            subscriptions_per_connection: Spread::new(&SUBSCRIPTIONS.upper),
            outbound_queue_bytes: Spread::new(&QUEUE_BYTES.upper),
            connection_age_ms: Spread::new(&DURATION_MS.upper),
            channels: 0,
            presence_members: 0,
            presence_channels: 0,
            memory_bytes: [0; MemoryClass::COUNT],
            kernel_unsent_bytes: 0,
            kernel_unacked_bytes: 0,
            client_queued_messages: 0,
            kernel_socket_bytes: 0,
            selfcheck_mismatch: [0; SelfCheck::COUNT],
            heap_allocated_bytes: 0,
            shard_cpu_seconds: 0.0,
            connections_soft_limit: 0,
            connections_hard_limit: 0,
            tls_certificate_expiry_seconds: None,
            redis_connected: None,
            redis_streams_connected: None,
            redis_stream_lag: None,
            redis_stream_pending: None,
            broker: None,
            watches: 0,
            handshakes_waiting: 0,
            draining: false,
            store_queue_events: 0,
            store_degraded: false,
            tokio_tasks: 0,
            tokio_queue: 0,
            history_reads_active: 0,
            history_reads_waiting: 0,
            upstreams: Upstreams::default(),
            alerts: [None; Alert::COUNT],
        }
    }
}

impl Current {
    /// Adds one live connection to every figure that is about connections.
    pub fn connection(
        &mut self,
        transport: Transport,
        codec: Codec,
        subscriptions: u64,
        queue_bytes: u64,
        age_ms: u64,
    ) {
        self.connections[transport as usize][codec as usize] += 1;
        self.subscriptions_per_connection.observe(subscriptions);
        self.outbound_queue_bytes.observe(queue_bytes);
        self.connection_age_ms.observe(age_ms);
    }

    /// Live connections over every transport.
    #[must_use]
    pub fn active_connections(&self) -> u64 {
        self.connections.iter().flatten().sum()
    }

    /// Adds another shard's figures. Limits take the larger value: they are the node's, not a shard's.
    pub fn merge(&mut self, other: &Self) {
        for (row, more) in self.connections.iter_mut().zip(&other.connections) {
            for (count, n) in row.iter_mut().zip(more) {
                *count += n;
            }
        }
        for (bytes, more) in self.memory_bytes.iter_mut().zip(&other.memory_bytes) {
            *bytes += more;
        }
        self.sessions_detached += other.sessions_detached;
        self.subscriptions += other.subscriptions;
        self.subscriptions_by_project.extend_from_slice(&other.subscriptions_by_project);
        self.subscriptions_by_project_other += other.subscriptions_by_project_other;
        self.metric_series += other.metric_series;
        self.subscriptions_per_connection.merge(&other.subscriptions_per_connection);
        self.outbound_queue_bytes.merge(&other.outbound_queue_bytes);
        self.connection_age_ms.merge(&other.connection_age_ms);
        self.channels = self.channels.max(other.channels);
        self.presence_members = self.presence_members.max(other.presence_members);
        self.presence_channels = self.presence_channels.max(other.presence_channels);
        self.kernel_unsent_bytes += other.kernel_unsent_bytes;
        self.kernel_unacked_bytes += other.kernel_unacked_bytes;
        self.client_queued_messages += other.client_queued_messages;
        self.kernel_socket_bytes += other.kernel_socket_bytes;
        for (mismatch, more) in self.selfcheck_mismatch.iter_mut().zip(&other.selfcheck_mismatch) {
            *mismatch += more;
        }
        self.heap_allocated_bytes = self.heap_allocated_bytes.max(other.heap_allocated_bytes);
        self.shard_cpu_seconds += other.shard_cpu_seconds;
        self.connections_soft_limit = self.connections_soft_limit.max(other.connections_soft_limit);
        self.connections_hard_limit = self.connections_hard_limit.max(other.connections_hard_limit);
        self.tls_certificate_expiry_seconds =
            self.tls_certificate_expiry_seconds.or(other.tls_certificate_expiry_seconds);
        self.redis_connected = self.redis_connected.or(other.redis_connected);
        self.redis_streams_connected = self.redis_streams_connected.or(other.redis_streams_connected);
        self.redis_stream_lag = self.redis_stream_lag.or(other.redis_stream_lag);
        self.redis_stream_pending = self.redis_stream_pending.or(other.redis_stream_pending);
        self.watches = self.watches.max(other.watches);
        self.handshakes_waiting = self.handshakes_waiting.max(other.handshakes_waiting);
        self.draining |= other.draining;
        self.store_queue_events += other.store_queue_events;
        self.store_degraded |= other.store_degraded;
        self.tokio_tasks += other.tokio_tasks;
        self.tokio_queue += other.tokio_queue;
        self.history_reads_active += other.history_reads_active;
        self.history_reads_waiting += other.history_reads_waiting;
    }

    /// The `top` projects with the most subscriptions and what all others have.
    ///
    /// A project in several shards' lists is one project; a project named `__other__` is not listed.
    pub(crate) fn projects(&self, top: usize) -> (Vec<(&str, u64)>, u64) {
        let mut sums = std::collections::HashMap::<&str, u64>::new();
        let mut other = self.subscriptions_by_project_other;
        for (name, n) in &self.subscriptions_by_project {
            if name == crate::catalog::PROJECT_OTHER {
                other += n;
            } else {
                *sums.entry(name).or_default() += n;
            }
        }
        let mut list: Vec<_> = sums.into_iter().collect();
        list.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        other += list.iter().skip(top).map(|entry| entry.1).sum::<u64>();
        list.truncate(top);
        (list, other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_shards_give_the_largest_projects_and_the_rest() {
        let shard = |list: &[(&str, u64)], other| Current {
            subscriptions_by_project: list.iter().map(|(name, n)| ((*name).into(), *n)).collect(),
            subscriptions_by_project_other: other,
            ..Current::default()
        };
        let mut node = shard(&[("a", 5), ("b", 3), ("__other__", 1)], 2);
        node.merge(&shard(&[("b", 4), ("c", 1)], 0));
        assert_eq!(node.projects(2), (vec![("b", 7), ("a", 5)], 4));
    }

    #[test]
    fn a_spread_counts_each_connection_once() {
        let mut now = Current::default();
        for subscriptions in [0, 1, 1, 3, 400] {
            now.connection(Transport::WebSocket, Codec::Json, subscriptions, 0, 10);
        }
        assert_eq!(now.subscriptions_per_connection.slots(), [1, 2, 0, 1, 0, 0, 0, 0, 1, 405]);
        assert_eq!(now.active_connections(), 5);
    }
}
