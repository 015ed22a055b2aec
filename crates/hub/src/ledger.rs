//! The last connections that closed, and the last that never came to be: who, why, by whom, how long, how much.
//!
//! Bounded: one more pushes out the oldest. Written once per close or refusal; whoever reads does so in slices, because
//! a shard that has a connection to write down must not wait for a walk over all of them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_protocol::SessionId;
use pulsewire_telemetry::{DisconnectReason, Initiator};

/// Failed handshakes that are remembered.
pub const FAILED_MAX: usize = 1_000;
/// Entries that are looked at in one go.
const SLICE: usize = 500;

/// A connection that closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Closed {
    /// Counts the connections of this node that closed; given by the ledger.
    pub number: u64,
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

/// How far an attempt to connect came before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FailedStage {
    /// The TLS handshake.
    Tls,
    /// The HTTP request that asks for a WebSocket.
    Handshake,
    /// The `connect` message of a connection that had no token yet.
    Connect,
}

impl FailedStage {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        ["tls", "handshake", "connect"][self as usize]
    }
}

/// An attempt to connect that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Counts the attempts that failed; given by the ledger.
    pub number: u64,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Where it came from.
    pub remote: SocketAddr,
    /// What it called itself; empty if it did not come that far.
    pub user_agent: Arc<str>,
    /// Which page it came from, if it said.
    pub origin: Option<Box<str>>,
    /// What it asked for, without the query.
    pub path: Option<Box<str>>,
    /// How far it came.
    pub stage: FailedStage,
    /// Why, from a closed set.
    pub reason: &'static str,
    /// The status or close code it was answered with, if it was.
    pub status: Option<u16>,
    /// What was wrong in this case.
    pub detail: Box<str>,
}

/// Something with a number.
trait Numbered {
    fn number(&mut self) -> &mut u64;
}

impl Numbered for Closed {
    fn number(&mut self) -> &mut u64 {
        &mut self.number
    }
}

impl Numbered for Failed {
    fn number(&mut self) -> &mut u64 {
        &mut self.number
    }
}

/// A bounded list whose entries are numbered from 1.
#[derive(Debug)]
struct Ring<T> {
    entries: VecDeque<T>,
    entries_max: usize,
    written: u64,
}

impl<T: Numbered> Ring<T> {
    fn new(entries_max: usize) -> Self {
        Self { entries: VecDeque::new(), entries_max, written: 0 }
    }

    fn write(&mut self, mut entry: T) {
        if self.entries.len() >= self.entries_max {
            self.entries.pop_front();
        }
        self.written += 1;
        *entry.number() = self.written;
        self.entries.push_back(entry);
    }
}

/// The records of closed connections and of failed attempts.
#[derive(Debug)]
pub struct Ledger {
    closed: Mutex<Ring<Closed>>,
    failed: Mutex<Ring<Failed>>,
}

impl Ledger {
    /// An empty ledger of at most `closed_max` closed connections (the gateway's default: 10,000) and [`FAILED_MAX`]
    /// failed attempts.
    #[must_use]
    pub fn new(closed_max: usize) -> Self {
        Self { closed: Mutex::new(Ring::new(closed_max)), failed: Mutex::new(Ring::new(FAILED_MAX)) }
    }

    /// Writes an entry, pushing out the oldest if the ledger is full. Its number is given here.
    pub fn write(&self, entry: Closed) {
        self.closed.lock().write(entry);
    }

    /// Writes down an attempt that failed. Its number is given here.
    pub fn write_failed(&self, entry: Failed) {
        self.failed.lock().write(entry);
    }

    /// Entries from the newest to the oldest, a page of them, and how many there are.
    #[must_use]
    pub fn page(&self, offset: usize, limit: usize) -> (Vec<Closed>, usize) {
        let closed = self.closed.lock();
        (closed.entries.iter().rev().skip(offset).take(limit).cloned().collect(), closed.entries.len())
    }

    /// How many closed connections and how many failed attempts are remembered.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        (self.closed.lock().entries.len(), self.failed.lock().entries.len())
    }

    /// Shows every closed connection, from the newest to the oldest. Those that close meanwhile are not shown.
    pub fn each_closed(&self, see: impl FnMut(&Closed)) {
        each(&self.closed, |entry| entry.number, see);
    }

    /// Shows every failed attempt, from the newest to the oldest.
    pub fn each_failed(&self, see: impl FnMut(&Failed)) {
        each(&self.failed, |entry| entry.number, see);
    }

    /// The closed connections of these numbers, as far as they are remembered, in the same order.
    #[must_use]
    pub fn closed(&self, numbers: &[u64]) -> Vec<Closed> {
        pick(&self.closed, |entry| entry.number, numbers)
    }

    /// The failed attempts of these numbers, as far as they are remembered, in the same order.
    #[must_use]
    pub fn failed(&self, numbers: &[u64]) -> Vec<Failed> {
        pick(&self.failed, |entry| entry.number, numbers)
    }

    /// Entries of one session, newest first.
    #[must_use]
    pub fn session(&self, session: SessionId) -> Vec<Closed> {
        let mut found = Vec::new();
        self.each_closed(|entry| found.extend((entry.session == Some(session)).then(|| entry.clone())));
        found
    }

    /// Forgets entries that closed before a moment; says how many.
    pub fn forget_before(&self, closed_at_ms: i64) -> usize {
        let mut closed = self.closed.lock();
        let before = closed.entries.len();
        closed.entries.retain(|entry| entry.closed_at_ms >= closed_at_ms);
        before - closed.entries.len()
    }
}

/// Shows all entries from the newest to the oldest, a slice at a time.
fn each<T>(ring: &Mutex<Ring<T>>, number: impl Fn(&T) -> u64, mut see: impl FnMut(&T)) {
    let mut below = u64::MAX;
    loop {
        let ring = ring.lock();
        // Numbers grow, and what is forgotten leaves holes.
        let end = ring.entries.partition_point(|entry| number(entry) < below);
        let begin = end.saturating_sub(SLICE);
        ring.entries.range(begin..end).rev().for_each(&mut see);
        match ring.entries.get(begin) {
            Some(last) if begin > 0 => below = number(last),
            _ => return,
        }
    }
}

fn pick<T: Clone>(ring: &Mutex<Ring<T>>, number: impl Fn(&T) -> u64, numbers: &[u64]) -> Vec<T> {
    let ring = ring.lock();
    let find = |wanted: &u64| {
        let place = ring.entries.binary_search_by_key(wanted, &number).ok()?;
        ring.entries.get(place).cloned()
    };
    numbers.iter().filter_map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(at_ms: i64) -> Failed {
        Failed {
            number: 0,
            at_ms,
            remote: "192.0.2.7:5000".parse().expect("an address"),
            user_agent: "".into(),
            origin: None,
            path: None,
            stage: FailedStage::Handshake,
            reason: "origin",
            status: Some(403),
            detail: "".into(),
        }
    }

    #[test]
    fn a_walk_in_slices_shows_every_entry_once_and_the_newest_first() {
        let ledger = Ledger::new(10);
        (0..FAILED_MAX as i64 + 7).for_each(|at_ms| ledger.write_failed(attempt(at_ms)));
        let mut seen = Vec::new();
        ledger.each_failed(|entry| {
            seen.push((entry.number, entry.at_ms));
        });
        let expected: Vec<_> =
            (7..FAILED_MAX as i64 + 7).rev().map(|at_ms| (at_ms as u64 + 1, at_ms)).collect();
        assert_eq!(seen, expected);
        assert_eq!(ledger.count(), (0, FAILED_MAX));
        let numbers: Vec<_> = ledger.failed(&[9, 3, 1_007, 8]).iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, [9, 1_007, 8], "3 is forgotten");
    }
}
