//! The last connections that closed: who, why, by whom, how long, how much.
//!
//! Bounded: one more pushes out the oldest. Written once per close, read by the admin endpoints.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_protocol::SessionId;
use pulsewire_telemetry::{DisconnectReason, Initiator};

/// A connection that closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Closed {
    /// Its session; `None` if it never had one.
    pub session: Option<SessionId>,
    /// Its user; empty if it never authenticated.
    pub user: Box<str>,
    /// The run it had subscribed to, if any.
    pub run: Option<Box<str>>,
    /// Where it came from.
    pub remote: SocketAddr,
    /// What it called itself.
    pub user_agent: Arc<str>,
    /// When it began and ended, Unix milliseconds.
    pub connected_at_ms: i64,
    /// See `connected_at_ms`.
    pub closed_at_ms: i64,
    /// How long it lasted, in nanoseconds of the monotonic clock.
    pub lasted_ns: u64,
    /// The close code that was sent or received; 1006 if there was none.
    pub code: u16,
    /// Why it closed.
    pub reason: DisconnectReason,
    /// Who closed it.
    pub initiator: Initiator,
    /// Bytes on the wire, both ways.
    pub bytes_sent: u64,
    /// See `bytes_sent`.
    pub bytes_received: u64,
    /// Messages, both ways.
    pub messages_sent: u64,
    /// See `messages_sent`.
    pub messages_received: u64,
    /// Messages meant for it that it did not get.
    pub messages_failed: u64,
    /// How often its session had reconnected.
    pub reconnections: u32,
}

/// The ring of closed connections.
#[derive(Debug)]
pub struct Ledger {
    closed: Mutex<VecDeque<Closed>>,
    closed_max: usize,
}

impl Ledger {
    /// An empty ledger of at most `closed_max` entries (the gateway's default: 10,000).
    #[must_use]
    pub fn new(closed_max: usize) -> Self {
        Self { closed: Mutex::default(), closed_max }
    }

    /// Writes an entry, pushing out the oldest if the ledger is full.
    pub fn write(&self, entry: Closed) {
        let mut closed = self.closed.lock();
        if closed.len() >= self.closed_max {
            closed.pop_front();
        }
        closed.push_back(entry);
    }

    /// Entries from the newest to the oldest, a page of them, and how many there are.
    #[must_use]
    pub fn page(&self, offset: usize, limit: usize) -> (Vec<Closed>, usize) {
        let closed = self.closed.lock();
        (closed.iter().rev().skip(offset).take(limit).cloned().collect(), closed.len())
    }

    /// Entries of one session, newest first.
    #[must_use]
    pub fn session(&self, session: SessionId) -> Vec<Closed> {
        self.closed.lock().iter().rev().filter(|entry| entry.session == Some(session)).cloned().collect()
    }

    /// Forgets entries that closed before a moment; says how many.
    pub fn forget_before(&self, closed_at_ms: i64) -> usize {
        let mut closed = self.closed.lock();
        let before = closed.len();
        closed.retain(|entry| entry.closed_at_ms >= closed_at_ms);
        before - closed.len()
    }
}
