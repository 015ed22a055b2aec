//! The readers as operators see them: beside the connections of the shards, told apart by their transport.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pulsewire_edge::clock;
use pulsewire_hub::watch::filter::Subject;
use pulsewire_hub::watch::{
    Cause, ConnectionField, Diagnosis, Group, Query, Row, RowKey, Short, Signs, State,
};
use pulsewire_hub::{ConnectionInfo, Now, client_version};
use pulsewire_protocol::Encoding;

use super::{Readers, Taken};
use crate::watch::connections::Found;

/// The other end of a request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it comes from.
    pub remote: SocketAddr,
    /// What it calls itself.
    pub agent: Arc<str>,
}

/// What one reader was sent. A poll has left its seat when its answer is made, so it never shows any.
#[derive(Debug, Default)]
pub struct Sent {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Sent {
    /// One more message.
    pub fn message(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Readers {
    /// The readers there are, as connections without a session: streams and polls that wait.
    #[must_use]
    pub fn list(&self) -> Vec<ConnectionInfo> {
        self.seats.lock().taken.values().map(Taken::info).collect()
    }

    /// Holds the readers against a query, and adds what passes to what was found elsewhere.
    pub(crate) fn rank(&self, query: &Query, found: &mut Found) {
        let now = clock::now();
        for (seat, taken) in &self.seats.lock().taken {
            let seen = Seen { seat: *seat, taken, now, node: &query.node };
            found.total += 1;
            if !query.filter.passes(&seen) {
                continue;
            }
            found.matched += 1;
            match query.group {
                Some(by) => found.groups.join(&seen, by, &ONE),
                None => found.top.compete(&seen, query.sort, RowKey::Reader(*seat)),
            }
        }
    }

    /// The rows of those that are still there.
    #[must_use]
    pub fn rows(&self, keys: &[RowKey]) -> Vec<Row> {
        let seats = self.seats.lock();
        let row = |key: &RowKey| {
            let RowKey::Reader(seat) = key else { return None };
            Some(Row {
                key: *key,
                info: seats.taken.get(seat)?.info(),
                state: State::Connected,
                diagnosis: WELL,
                cause_text: Signs::default().explain(WELL.cause),
                queued_for_ns: None,
                tcp: None,
                heartbeats_missed: 0,
            })
        };
        keys.iter().filter_map(row).collect()
    }
}

/// A reader asks when it is ready, so nothing that waits for it tells how well it is.
const WELL: Diagnosis = Diagnosis { score: 100, cause: Cause::Healthy };
const ONE: Group = Group {
    connections: 1,
    subscriptions: 1,
    queued_bytes: 0,
    rtt_ns: 0,
    latency_max_ns: 0,
    reconnections: 0,
    failures: 0,
    worst_score: Some(WELL.score),
};

/// A reader that is looked at.
struct Seen<'s> {
    seat: u64,
    taken: &'s Taken,
    now: Now,
    node: &'s str,
}

impl Subject<ConnectionField> for Seen<'_> {
    fn text(&self, field: ConnectionField, will_do: &mut dyn FnMut(&str) -> bool) -> bool {
        let Taken { user, peer, channel, transport, .. } = self.taken;
        let key_of = |prefix| (channel.prefix() == Some(prefix)).then(|| channel.key());
        match field {
            ConnectionField::User => !user.is_empty() && will_do(user),
            ConnectionField::Id => will_do(Short::of(RowKey::Reader(self.seat)).as_str()),
            ConnectionField::Run => key_of("run").is_some_and(will_do),
            ConnectionField::Project => key_of("project").is_some_and(will_do),
            ConnectionField::Channel => will_do(channel.as_str()),
            ConnectionField::Transport => will_do(transport.as_str()),
            ConnectionField::State => will_do(State::Connected.as_str()),
            ConnectionField::Cause => will_do(WELL.cause.as_str()),
            ConnectionField::Encoding => will_do("json"),
            ConnectionField::Address => will_do(Short::of(peer.remote).as_str()),
            ConnectionField::Agent => will_do(&peer.agent),
            ConnectionField::Version => client_version(&peer.agent).is_some_and(will_do),
            ConnectionField::Node => will_do(self.node),
            _ => false,
        }
    }

    fn number(&self, field: ConnectionField) -> Option<f64> {
        match field {
            ConnectionField::Queue
            | ConnectionField::Reconnects
            | ConnectionField::Missed
            | ConnectionField::Failures
            | ConnectionField::Received => Some(0.0),
            ConnectionField::Score => Some(f64::from(WELL.score)),
            ConnectionField::Subs => Some(1.0),
            ConnectionField::Age => Some(self.now.since_ns(self.taken.since.mono_ns) as f64 / 1e6),
            ConnectionField::Sent => Some(self.taken.sent.messages.load(Ordering::Relaxed) as f64),
            _ => None,
        }
    }
}

impl Taken {
    fn info(&self) -> ConnectionInfo {
        let taken = self;
        ConnectionInfo {
            transport: taken.transport,
            session: None,
            user: taken.user.clone(),
            channels: vec![taken.channel.clone()],
            remote: taken.peer.remote,
            user_agent: taken.peer.agent.clone(),
            encoding: Encoding::Json,
            connected_at_ms: taken.since.wall_ms,
            disconnected_at_ms: None,
            last_activity_ms: taken.since.wall_ms,
            reconnections: 0,
            messages_sent: taken.sent.messages.load(Ordering::Relaxed),
            messages_received: 0,
            messages_failed: 0,
            bytes_sent: taken.sent.bytes.load(Ordering::Relaxed),
            bytes_received: 0,
            queued_bytes: 0,
            heartbeat_rtt_ns: 0,
            latency_sum_ns: 0,
            latency_count: 0,
            latency_max_ns: 0,
            tcp_rtt_us: 0,
            tcp_retransmits: 0,
            report: None,
        }
    }
}
