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
//! lies beside the rooms under their lock; what is read is read before the lock is taken, and what is written is
//! at most [`ReplicaOptions::bodies_max`] pieces at a time.

mod own;
mod peer;
#[cfg(test)]
mod simulation;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use pulsewire_bus::{Now, PresenceRules};
use pulsewire_protocol::ChannelName;
use serde_json::value::RawValue;

use super::rooms::Rooms;
use own::{Key, Own};
use peer::{Heard, Peer, Standing};
pub use words::Malformed;
use words::{Rows, Span, Words};

/// Rows that one call looks at when a node comes, goes or is doubted: a few milliseconds of the lock.
const ROWS_PER_TURN: usize = 10_000;
/// The longest name of a node in bytes.
const NODE_LEN_BYTES_MAX: usize = 64;
/// Time that one call may count as somebody's silence: more means that this node did not run.
const TURN_NS_MAX: u64 = 1_000_000_000;
/// For how long what a node says that has said goodbye does not count: nothing is on its way for longer.
const FAREWELL_NS: u64 = 60_000_000_000;
/// How long to wait before everything is asked for again because a count of rows differs.
const RECOUNT_NS: u64 = 30_000_000_000;

/// Which rules a channel's presence has; none if it keeps none.
pub type RulesOf = Arc<dyn Fn(&ChannelName) -> Option<PresenceRules> + Send + Sync>;

/// How presence is shared between nodes.
#[derive(Clone)]
pub struct ReplicaOptions {
    /// The shortest time between two tellings of what changed, milliseconds. Default 500.
    pub delta_interval_ms: u64,
    /// How often a node says where it stands, milliseconds. Default 1,500.
    pub digest_interval_ms: u64,
    /// After how much silence a node is suspect, milliseconds. Default 4,500: three digests.
    pub suspect_after_ms: u64,
    /// After how much silence a node's rows go, milliseconds. Default 14,000, so that 15 s after a node's end
    /// everybody was told.
    pub silent_after_ms: u64,
    /// How much longer than its grace a member stays, milliseconds, until a node on which it is back must have been
    /// heard. Default 1,000: two deltas.
    pub linger_ms: u64,
    /// How long an answer is waited for before it is asked again, milliseconds. Default 1,000.
    pub patience_ms: u64,
    /// The length of a body of rows beyond which no row is added, bytes. Default 60 KiB; a row has at most a
    /// channel's name, a user and a cursor.
    pub body_bytes_max: usize,
    /// Bodies of rows that are said at once. Default 16; more is said by the next calls.
    pub bodies_max: usize,
    /// Rows of other nodes that are kept here, about 250 bytes each without their cursors. Default 200,000; beyond
    /// that they are not taken, are counted, and are asked for again every 30 s.
    pub entries_max: usize,
    /// Rows of this node that ended and are remembered, so that who missed it need not be told everything. Default
    /// 16,384.
    pub ended_max: usize,
    /// Other nodes that are known at once. Default 256; beyond that a node is refused.
    pub nodes_max: usize,
    /// The rules of channels of which this node hears from others first. Default: the defaults of
    /// [`PresenceRules`] for every channel.
    pub rules: RulesOf,
}

impl Default for ReplicaOptions {
    fn default() -> Self {
        Self {
            delta_interval_ms: 500,
            digest_interval_ms: 1_500,
            suspect_after_ms: 4_500,
            silent_after_ms: 14_000,
            linger_ms: 1_000,
            patience_ms: 1_000,
            body_bytes_max: 60 << 10,
            bodies_max: 16,
            entries_max: 200_000,
            ended_max: 16_384,
            nodes_max: 256,
            rules: Arc::new(|_| Some(PresenceRules::default())),
        }
    }
}

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

/// How the sharing of presence goes. Counts are since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplicaStatus {
    /// Other nodes that are there.
    pub nodes: usize,
    /// Those of them that have been silent for three digests.
    pub suspect: usize,
    /// Rows of other nodes: a user in a channel, once for each node.
    pub entries: usize,
    /// Rows of this node.
    pub entries_own: usize,
    /// How often something that was missed was asked for.
    pub asked: u64,
    /// How often something that others missed was said.
    pub served: u64,
    /// Bodies of rows that came twice, or before what they follow, and were not taken.
    pub missed: u64,
    /// Rows that were not taken: beyond [`ReplicaOptions::entries_max`], in a room with twice the members it may
    /// have, or of a channel without presence here.
    pub refused: u64,
    /// Nodes whose rows went because they were silent.
    pub lost: u64,
}

/// To which node, or to all; and what.
pub(super) type Saying = (Option<Arc<str>>, String);

/// A request for what changed after a version.
struct Request {
    from: Arc<str>,
    since: u64,
    number: u32,
    /// Up to which version it is answered, and whether with everything.
    all: bool,
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
        self.requests.push_back(Request { from, since, number, all });
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

    pub(super) fn outgoing(&mut self, rooms: &mut Rooms, now: Now, connected: bool) -> Vec<Saying> {
        let passed_ns = match self.last.replace((now.mono_ns, connected)) {
            Some((last_ns, true)) if connected => now.since_ns(last_ns).min(TURN_NS_MAX),
            _ => 0,
        };
        self.watch(passed_ns);
        self.see_to_rows(rooms, now);
        if !connected {
            self.peers.values_mut().for_each(Peer::interrupted);
            return Vec::new();
        }
        let mut said = Vec::new();
        self.say_changes(rooms, now, &mut said);
        self.answer(rooms, &mut said);
        if now.mono_ns >= self.digest_due_ns {
            self.digest_due_ns = now.mono_ns.saturating_add(ns(self.options.digest_interval_ms));
            let rows = (self.own.said == self.own.version).then(|| self.own.rows() as u64);
            said.push((None, words::digest(self.own.said, rows)));
        }
        for (node, peer) in &mut self.peers {
            if let Some((since, number)) = peer.ask(now.mono_ns, ns(self.options.patience_ms)) {
                self.status.asked += 1;
                said.push((Some(node.clone()), words::ask(since, number)));
            }
        }
        said
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

    fn say_changes(&mut self, rooms: &Rooms, now: Now, said: &mut Vec<Saying>) {
        if !self.peers.values().any(|peer| matches!(peer.standing, Standing::There | Standing::Suspect)) {
            // Nobody listens; whoever comes asks for everything.
            self.own.said = self.own.version;
        }
        if self.own.said == self.own.version || now.mono_ns < self.delta_due_ns {
            return;
        }
        while self.own.said < self.own.version && said.len() < self.options.bodies_max {
            let from = self.own.said;
            let piece =
                self.own.piece(from, self.options.body_bytes_max, |key| rooms.own_row(&key.0, &key.1));
            let (to, head) = (piece.to, self.own.version);
            let span = Span { from, to, head: to, number: 0, all: false, last: to == head };
            said.push((None, words::rows(span, &piece.rows)));
            self.own.said = to;
        }
        if self.own.said == self.own.version {
            self.delta_due_ns = now.mono_ns.saturating_add(ns(self.options.delta_interval_ms));
        }
    }

    /// Says what others have asked for: as much as fits, to each a few pieces, and the rest when they ask again.
    fn answer(&mut self, rooms: &Rooms, said: &mut Vec<Saying>) {
        while said.len() < self.options.bodies_max
            && let Some(request) = self.requests.pop_front()
        {
            self.status.served += 1;
            let mut from = request.since;
            let pieces = (self.options.bodies_max - said.len()).min(self.options.bodies_max / 2).max(1);
            for left in (0..pieces).rev() {
                let bytes_max = self.options.body_bytes_max;
                let piece = self.own.piece(from, bytes_max, |key| rooms.own_row(&key.0, &key.1));
                let (to, head) = (piece.to, self.own.version);
                let last = left == 0 || to == head;
                let all = request.all && from == 0;
                let span = Span { from, to, head, number: request.number, all, last };
                said.push((Some(request.from.clone()), words::rows(span, &piece.rows)));
                from = to;
                if last {
                    break;
                }
            }
        }
    }

    // --- rows of nodes that come and go ---

    /// Doubts, believes and lets go what there is to, a bounded number of rows at a time.
    fn see_to_rows(&mut self, rooms: &mut Rooms, now: Now) {
        let mut left = ROWS_PER_TURN;
        let rows = &mut self.status.entries;
        for (node, peer) in &mut self.peers {
            see_to_doubts(rooms, node, peer, now, &mut left);
            shed(rooms, node, peer, rows, &mut left);
            let mut drop_row = |key: &Key| {
                let _ = rooms.hear_of(&key.0, || None, node, &key.1, None);
                *rows -= 1;
                left = left.saturating_sub(1);
                left > 0
            };
            while peer.standing == Standing::Silent
                && let Some((key, _)) = peer.rows.pop_first()
            {
                if !drop_row(&key) {
                    return;
                }
            }
            while let Some(mut first) = peer.ending.first_entry()
                && *first.key() <= now.mono_ns
            {
                let Some(key) = first.get_mut().pop_front() else {
                    first.remove();
                    continue;
                };
                if !drop_row(&key) {
                    return;
                }
            }
            if left == 0 {
                return;
            }
        }
        self.peers.retain(|_, peer| match peer.standing {
            Standing::There | Standing::Suspect => true,
            Standing::Silent => !peer.rows.is_empty(),
            Standing::Left { at_ns } => {
                !peer.rows.is_empty() || !peer.ending.is_empty() || now.since_ns(at_ns) < FAREWELL_NS
            }
        });
    }
}

/// The next of a node's rows after one, or the first.
fn next_key(peer: &Peer, after: Option<&Key>) -> Option<(Key, u32)> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let next = peer.rows.range::<Key, _>((from, Bound::Unbounded)).next();
    next.map(|(key, transfer)| (key.clone(), *transfer))
}

/// Doubts or believes the rows of a node. Those of one that said goodbye are given the time at which they end.
fn see_to_doubts(rooms: &mut Rooms, node: &Arc<str>, peer: &mut Peer, now: Now, left: &mut usize) {
    let Some((doubted, mut after)) = peer.doubting.take() else { return };
    while let Some((key, _)) = next_key(peer, after.as_ref()) {
        if *left == 0 {
            peer.doubting = Some((doubted, after));
            return;
        }
        *left -= 1;
        let stays_ns = rooms.doubt(&key.0, node, &key.1, doubted);
        if let Standing::Left { at_ns } = peer.standing {
            peer.rows.remove(&key);
            let ends_ns = at_ns.saturating_add(stays_ns).max(now.mono_ns);
            peer.ending.entry(ends_ns).or_default().push_back(key);
        } else {
            after = Some(key);
        }
    }
}

/// Lets go of the rows that the last transfer of everything did not say.
fn shed(rooms: &mut Rooms, node: &Arc<str>, peer: &mut Peer, rows: &mut usize, left: &mut usize) {
    let Some(mut after) = peer.shedding.take() else { return };
    while let Some((key, transfer)) = next_key(peer, after.as_ref()) {
        if *left == 0 {
            peer.shedding = Some(after);
            return;
        }
        *left -= 1;
        if transfer != peer.transfer {
            peer.rows.remove(&key);
            let _ = rooms.hear_of(&key.0, || None, node, &key.1, None);
            *rows -= 1;
        }
        after = Some(key);
    }
}
