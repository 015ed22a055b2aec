//! The readers as operators see them: beside the connections of the shards, told apart by their transport.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pulsewire_hub::ConnectionInfo;
use pulsewire_protocol::Encoding;

use super::{Readers, Taken};

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
        let shown = |taken: &Taken| ConnectionInfo {
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
        };
        self.seats.lock().taken.values().map(shown).collect()
    }
}
