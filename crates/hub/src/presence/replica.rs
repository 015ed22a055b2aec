//! Presence shared between nodes: what this node says of its own sessions, and what it knows of others'.
//!
//! Each node owns the rows of its own sessions: one for a user in a channel, with how many sessions it counts, since
//! when, and the cursor ([`room::elsewhere`](super::room) makes one member of the rows of all nodes). A row that
//! changes gets the node's next version, and everything follows from that ([`own`]):
//!
//! - **deltas**, at most every 500 ms, say to everybody which rows changed after the version that was said before.
//!   Who has heard of that version takes them; who has heard of them already, or misses something before, does not;
//! - a **digest**, every 1.5 s, says the version. Who misses something asks the node for what changed after the
//!   version it has, and gets it in pieces, or everything if the node does not know that any more. So what the way
//!   between nodes loses, repeats or reorders costs time and nothing else;
//! - a node that missed three digests is *suspect*: its rows stay, as sessions that may be back. After 14 s of
//!   silence they go, so that within 15 s everybody was told; if the node is heard again, it says everything again.
//!   Time in which this node itself was not connected, or did not run, is nobody's silence;
//! - a node that says goodbye leaves its rows for the grace: its clients come back elsewhere, and nobody is told.
//!
//! A node's name is its incarnation: a node that starts again is another one, so versions never go back. All state
//! lies beside the rooms under their lock. What is heard is read before the lock is taken; what is said is written a
//! piece at a time, and the lock let go of in between, so that nobody who joins a room waits for long.

mod options;
mod own;
mod peer;
#[cfg(test)]
mod simulation;
mod sweep;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pulsewire_bus::Now;
use serde_json::value::RawValue;

use super::rooms::Rooms;
pub use options::{ReplicaOptions, ReplicaStatus, RulesOf};
use own::{Key, Own};
use peer::{Heard, Peer, Standing};
pub use words::Malformed;
use words::{Rows, Span, Words};

/// The longest name of a node in bytes.
const NODE_LEN_BYTES_MAX: usize = 64;
/// Rows that one call looks at when a node comes, goes or is doubted, so that 100,000 take a second.
const ROWS_PER_CALL: usize = 10_000;
/// Rows that are looked at without letting go of the lock: as many as a body has.
const ROWS_PER_STEP: usize = 250;
/// Time that one call may count as somebody's silence: more means that this node did not run.
const TURN_NS_MAX: u64 = 1_000_000_000;
/// How long to wait before everything is asked for again because a count of rows differs.
const RECOUNT_NS: u64 = 30_000_000_000;

/// Something that is to be said to other nodes.
#[derive(Debug, Clone)]
pub struct Said {
    /// To which node; none: to all.
    pub to: Option<Box<str>>,
    /// What.
    pub body: Box<RawValue>,
}

/// Why something that another node said was not taken. Nothing has changed by it.
#[derive(Debug, thiserror::Error)]
pub enum Unheard {
    /// Presence is not shared here.
    #[error("presence is not shared between nodes here")]
    Alone,
    /// It comes from this node itself.
    #[error("it was said by this node itself")]
    Own,
    /// The name of the node is empty or too long.
    #[error("the node's name is {len_bytes} bytes, not 1 to {NODE_LEN_BYTES_MAX}")]
    Name {
        /// Its length.
        len_bytes: usize,
    },
    /// There are as many nodes as may be known.
    #[error("{nodes} nodes are known, and no more can be")]
    Nodes {
        /// How many.
        nodes: usize,
    },
    /// It cannot be read.
    #[error("it cannot be read")]
    Malformed(#[from] Malformed),
}

/// To which node, or to all; and what.
pub(super) type Saying = (Option<Arc<str>>, String);

/// A request for what changed after a version.
struct Request {
    from: Arc<str>,
    since: u64,
    number: u32,
    /// Whether it is answered with everything.
    all: bool,
    /// Pieces that it may still be answered with.
    pieces_left: usize,
}

/// What one call of [`Presence::outgoing`](super::Presence::outgoing) says, and what it may still do.
pub(super) struct Speech {
    connected: bool,
    rows_left: usize,
    bodies_left: usize,
    pub(super) said: Vec<Saying>,
}

/// What is known of other nodes, and what they were told.
pub(super) struct Replica {
    node: Arc<str>,
    options: ReplicaOptions,
    own: Own,
    peers: BTreeMap<Arc<str>, Peer>,
    requests: VecDeque<Request>,
    /// When something was said last, and whether anybody could hear it.
    last: Option<(u64, bool)>,
    delta_due_ns: u64,
    digest_due_ns: u64,
    status: ReplicaStatus,
}

fn ns(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

/// Who said something: checked before anything is read.
pub(super) fn check_name(node: &str) -> Result<(), Unheard> {
    let len_bytes = node.len();
    if len_bytes == 0 || len_bytes > NODE_LEN_BYTES_MAX { Err(Unheard::Name { len_bytes }) } else { Ok(()) }
}

/// What was said, once it was read.
pub(super) struct Reading(Words);

/// Reads what another node said.
pub(super) fn read(body: &RawValue) -> Result<Reading, Unheard> {
    Ok(Reading(words::read(body)?))
}

impl Replica {
    pub(super) fn new(node: Arc<str>, options: ReplicaOptions) -> Self {
        Self {
            node,
            options,
            own: Own::default(),
            peers: BTreeMap::new(),
            requests: VecDeque::new(),
            last: None,
            delta_due_ns: 0,
            digest_due_ns: 0,
            status: ReplicaStatus::default(),
        }
    }

    /// Writes down what the rooms have changed of this node's own rows.
    pub(super) fn note(&mut self, rooms: &mut Rooms) {
        for (channel, user) in rooms.take_changed() {
            let is_there = rooms.own_row(&channel, &user).is_some();
            self.own.changed((channel, user), is_there, self.options.ended_max);
        }
    }

    pub(super) fn status(&self) -> ReplicaStatus {
        let there = |standing: &Standing| matches!(standing, Standing::There | Standing::Suspect);
        let standings = || self.peers.values().map(|peer| peer.standing);
        ReplicaStatus {
            nodes: standings().filter(there).count(),
            suspect: standings().filter(|standing| *standing == Standing::Suspect).count(),
            entries_own: self.own.rows(),
            ..self.status
        }
    }

    // --- what others say ---

    pub(super) fn hear(
        &mut self,
        rooms: &mut Rooms,
        from: &str,
        reading: Reading,
        now: Now,
    ) -> Result<(), Unheard> {
        if *from == *self.node {
            return Err(Unheard::Own);
        }
        let Some((node, _)) = self.peers.get_key_value(from) else {
            return self.meet(from, &reading.0, now);
        };
        let node = node.clone();
        let peer = self.peers.get_mut(&node).expect("it was found");
        if !peer.spoke() {
            return Ok(());
        }
        match reading.0 {
            Words::Digest { version, rows } => peer.digest(version, rows, now.mono_ns, RECOUNT_NS),
            Words::Ask { since, number } => self.requested(node, since, number),
            Words::Rows(rows) => match peer.judge(&rows) {
                Heard::Next => self.take(rooms, &node, rows),
                Heard::Nothing => self.status.missed += 1,
            },
        }
        Ok(())
    }

    /// A node is known from its first digest on. What it said before it will say again, if it is asked.
    fn meet(&mut self, from: &str, words: &Words, now: Now) -> Result<(), Unheard> {
        let Words::Digest { version, rows } = words else { return Ok(()) };
        if self.peers.len() >= self.options.nodes_max {
            return Err(Unheard::Nodes { nodes: self.peers.len() });
        }
        let mut peer = Peer::new();
        peer.digest(*version, *rows, now.mono_ns, RECOUNT_NS);
        self.peers.insert(from.into(), peer);
        // It wants to know of this one as well.
        self.digest_due_ns = now.mono_ns;
        Ok(())
    }

    fn requested(&mut self, from: Arc<str>, since: u64, number: u32) {
        self.requests.retain(|request| request.from != from);
        let all = since == 0 || !self.own.knows(since);
        let since = if all { 0 } else { since };
        let pieces_left = (self.options.bodies_max / 2).max(1);
        self.requests.push_back(Request { from, since, number, all, pieces_left });
    }

    fn take(&mut self, rooms: &mut Rooms, node: &Arc<str>, mut said: Rows) {
        let peer = self.peers.get_mut(node).expect("it was found");
        for (channel, user, row) in std::mem::take(&mut said.rows) {
            let key: Key = (channel, user.into());
            let is_known = peer.rows.contains_key(&key);
            let rules = || (self.options.rules)(&key.0);
            if row.is_none() {
                if is_known {
                    let _ = rooms.hear_of(&key.0, rules, node, &key.1, None);
                    peer.rows.remove(&key);
                    self.status.entries -= 1;
                }
                continue;
            }
            let fits = is_known || self.status.entries < self.options.entries_max;
            if fits && rooms.hear_of(&key.0, rules, node, &key.1, row).is_ok() {
                peer.rows.insert(key, peer.transfer);
                self.status.entries += usize::from(!is_known);
            } else {
                self.status.refused += 1;
            }
        }
        peer.took(&said);
    }

    /// Another node said goodbye.
    pub(super) fn gone(&mut self, node: &str, now: Now) {
        if let Some(peer) = self.peers.get_mut(node)
            && !matches!(peer.standing, Standing::Left { .. })
        {
            peer.standing = Standing::Left { at_ns: now.mono_ns };
            (peer.doubting, peer.shedding) = (Some((true, None)), None);
            self.requests.retain(|request| *request.from != *node);
        }
    }

    // --- what is said to others ---

    /// Begins to say what is to be said; [`Replica::go_on`] does it.
    pub(super) fn begin(&mut self, now: Now, connected: bool) -> Speech {
        let passed_ns = match self.last.replace((now.mono_ns, connected)) {
            Some((last_ns, true)) if connected => now.since_ns(last_ns).min(TURN_NS_MAX),
            _ => 0,
        };
        self.watch(passed_ns);
        if !connected {
            self.peers.values_mut().for_each(Peer::interrupted);
        }
        let (rows_left, bodies_left) = (ROWS_PER_CALL, self.options.bodies_max);
        Speech { connected, rows_left, bodies_left, said: Vec::new() }
    }

    /// Does a little of what there is to: as much as those who join a room may have to wait for. Returns whether
    /// there is more.
    pub(super) fn go_on(&mut self, rooms: &mut Rooms, now: Now, speech: &mut Speech) -> bool {
        if speech.rows_left > 0 {
            let step = ROWS_PER_STEP.min(speech.rows_left);
            let mut left = step;
            self.see_to_rows(rooms, now, &mut left);
            speech.rows_left = if left > 0 { 0 } else { speech.rows_left - step };
            return true;
        }
        if !speech.connected {
            return false;
        }
        if speech.bodies_left > 0
            && let Some(body) = self.change(rooms, now).or_else(|| self.answer(rooms))
        {
            speech.bodies_left -= 1;
            speech.said.push(body);
            return true;
        }
        if now.mono_ns >= self.digest_due_ns {
            self.digest_due_ns = now.mono_ns.saturating_add(ns(self.options.digest_interval_ms));
            let rows = (self.own.said == self.own.version).then(|| self.own.rows() as u64);
            speech.said.push((None, words::digest(self.own.said, rows)));
        }
        for (node, peer) in &mut self.peers {
            if let Some((since, number)) = peer.ask(now.mono_ns, ns(self.options.patience_ms)) {
                self.status.asked += 1;
                speech.said.push((Some(node.clone()), words::ask(since, number)));
            }
        }
        false
    }

    /// Counts the silence of the others.
    fn watch(&mut self, passed_ns: u64) {
        let (suspect_ns, silent_ns) = (ns(self.options.suspect_after_ms), ns(self.options.silent_after_ms));
        for peer in self.peers.values_mut() {
            let before = peer.standing;
            peer.silent(passed_ns, suspect_ns, silent_ns);
            self.status.lost += u64::from(before != peer.standing && peer.standing == Standing::Silent);
        }
    }

    /// The next piece of what has changed, if it is time.
    fn change(&mut self, rooms: &Rooms, now: Now) -> Option<Saying> {
        if !self.peers.values().any(|peer| matches!(peer.standing, Standing::There | Standing::Suspect)) {
            // Nobody listens; whoever comes asks for everything.
            self.own.said = self.own.version;
        }
        if self.own.said == self.own.version || now.mono_ns < self.delta_due_ns {
            return None;
        }
        let from = self.own.said;
        let piece = self.own.piece(from, self.options.body_bytes_max, |key| rooms.own_row(&key.0, &key.1));
        self.own.said = piece.to;
        let last = piece.to == self.own.version;
        if last {
            self.delta_due_ns = now.mono_ns.saturating_add(ns(self.options.delta_interval_ms));
        }
        let span = Span { from, to: piece.to, head: piece.to, number: 0, all: false, last };
        Some((None, words::rows(span, &piece.rows)))
    }

    /// The next piece of what somebody has asked for. Each is given a few; the rest it asks for again.
    fn answer(&mut self, rooms: &Rooms) -> Option<Saying> {
        let request = self.requests.front_mut()?;
        let (from, head) = (request.since, self.own.version);
        let piece = self.own.piece(from, self.options.body_bytes_max, |key| rooms.own_row(&key.0, &key.1));
        (request.since, request.pieces_left) = (piece.to, request.pieces_left.saturating_sub(1));
        let last = request.pieces_left == 0 || piece.to == head;
        let (node, all) = (request.from.clone(), request.all && from == 0);
        let span = Span { from, to: piece.to, head, number: request.number, all, last };
        if last {
            self.requests.pop_front();
            self.status.served += 1;
        }
        Some((Some(node), words::rows(span, &piece.rows)))
    }
}
