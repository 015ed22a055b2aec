//! The nodes of the cluster, as this one hears of them.
//!
//! Sans I/O: beats and time go in, who is there comes out. A node says each second that it is there and what it
//! shows of itself; one that has been silent for `cluster.silent_after` is missing, one that said goodbye is gone.
//! Time in which this node itself does not reach the broker is nobody's silence.

use std::collections::BTreeMap;
use std::time::Duration;

use pulsewire_bus::Now;
use pulsewire_edge::clock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::app::App;

/// Nodes that are known at the same time; others are not listed.
const NODES_MAX: usize = 1_000;
/// How long a node that is missing is listed, nanoseconds.
const MISSING_NS: u64 = 600_000_000_000;

/// What a node says of itself each second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Beat {
    /// When it was sent, by the sender's monotonic clock: only the sender can do something with it.
    pub sent_ns: u64,
    /// When it was sent, Unix milliseconds by the sender's clock.
    pub sent_ms: i64,
    /// Its row in the list of nodes.
    pub row: Map<String, Value>,
    /// What is summed up over the nodes.
    #[serde(default)]
    pub figures: Figures,
}

/// What is summed up over the nodes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Clients that are connected.
    pub connections: u64,
    /// Channels that connected clients are subscribed to, summed over the clients.
    pub subscriptions: u64,
    /// Sessions that wait for their client.
    pub detached: u64,
    /// Numbers of `distributed.metrics` that were derived from the events this node accepted, by name.
    pub tasks: BTreeMap<Box<str>, f64>,
}

/// Another node.
#[derive(Debug, Clone)]
struct Seen {
    beat: Beat,
    heard_ns: u64,
    /// How far its clock is ahead of ours, milliseconds; the broker's lag is in it.
    skew_ms: i64,
    missing: bool,
}

/// A node as it is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its row in the list of nodes, as it was last said.
    pub row: Map<String, Value>,
    /// Its figures, as they were last said.
    pub figures: Figures,
    /// Whether it has been silent for too long.
    pub missing: bool,
    /// When it was last heard, nanoseconds ago.
    pub silent_ns: u64,
    /// How far its clock is ahead of ours, milliseconds.
    pub skew_ms: i64,
}

/// The other nodes.
#[derive(Debug)]
pub struct Nodes {
    own: Box<str>,
    silent_ns: u64,
    seen: BTreeMap<Box<str>, Seen>,
    looked_ns: u64,
}

impl Nodes {
    /// Nobody is known.
    #[must_use]
    pub fn new(own: &str, silent_after: Duration) -> Self {
        let silent_ns = u64::try_from(silent_after.as_nanos()).unwrap_or(u64::MAX);
        Self { own: own.into(), silent_ns, seen: BTreeMap::new(), looked_ns: 0 }
    }

    /// A node says that it is there.
    pub fn hear(&mut self, from: &str, beat: Beat, now: Now) {
        if from == &*self.own || (self.seen.len() >= NODES_MAX && !self.seen.contains_key(from)) {
            return;
        }
        let skew_ms = beat.sent_ms.saturating_sub(now.wall_ms);
        let seen = Seen { beat, heard_ns: now.mono_ns, skew_ms, missing: false };
        if self.seen.insert(from.into(), seen).is_none_or(|before| before.missing) {
            tracing::info!(node = from, "a node is there");
        }
    }

    /// A node goes.
    pub fn leaves(&mut self, from: &str) {
        if self.seen.remove(from).is_some() {
            tracing::info!(node = from, "a node has left");
        }
    }

    /// Looks who has been silent for too long. Returns who is missing from now on.
    pub fn look(&mut self, now: Now, connected: bool) -> Vec<Box<str>> {
        let passed_ns = now.since_ns(self.looked_ns);
        self.looked_ns = now.mono_ns;
        if !connected {
            // Nobody can be heard: that is not their silence.
            self.seen.values_mut().for_each(|seen| seen.heard_ns = seen.heard_ns.saturating_add(passed_ns));
            return Vec::new();
        }
        self.seen.retain(|_, seen| now.since_ns(seen.heard_ns) < MISSING_NS);
        let mut missing = Vec::new();
        for (name, seen) in &mut self.seen {
            if !seen.missing && now.since_ns(seen.heard_ns) >= self.silent_ns {
                seen.missing = true;
                tracing::warn!(node = &**name, "a node is missing: it says nothing any more");
                missing.push(name.clone());
            }
        }
        missing
    }

    /// The other nodes by name.
    #[must_use]
    pub fn others(&self, now: Now) -> BTreeMap<Box<str>, Shown> {
        let shown = |(name, seen): (_, &Seen)| {
            let Seen { beat, heard_ns, skew_ms, missing } = seen;
            let silent_ns = now.since_ns(*heard_ns);
            let (row, figures) = (beat.row.clone(), beat.figures.clone());
            (Box::clone(name), Shown { row, figures, missing: *missing, silent_ns, skew_ms: *skew_ms })
        };
        self.seen.iter().map(shown).collect()
    }

    /// How many other nodes are there, and how many are missing.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let missing = self.seen.values().filter(|seen| seen.missing).count();
        (self.seen.len() - missing, missing)
    }

    /// By how much the clock of another node that is there differs from ours at most, milliseconds; the way of its
    /// message is in it.
    #[must_use]
    pub fn skew_ms(&self) -> u64 {
        let there = self.seen.values().filter(|seen| !seen.missing);
        there.map(|seen| seen.skew_ms.unsigned_abs()).max().unwrap_or(0)
    }

    /// The names of the other nodes that are there.
    #[must_use]
    pub fn present(&self) -> Vec<Box<str>> {
        self.seen.iter().filter(|(_, seen)| !seen.missing).map(|(name, _)| name.clone()).collect()
    }

    /// The names of the nodes that are missing.
    #[must_use]
    pub fn missing(&self) -> Vec<Box<str>> {
        self.seen.iter().filter(|(_, seen)| seen.missing).map(|(name, _)| name.clone()).collect()
    }

    /// Whether this node is the first of those that are there: what one of them has to do for all, it does.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.present().first().is_none_or(|first| **first > *self.own)
    }
}

/// What this node says of itself.
pub(super) async fn own(app: &App) -> Beat {
    let row = crate::watch::nodes::row(app).await;
    let current = app.scrapes.survey(app).await.current;
    let figures = Figures {
        connections: current.active_connections(),
        subscriptions: current.subscriptions,
        detached: current.sessions_detached,
        tasks: app.tasks.lock().clone(),
    };
    let now = clock::now();
    Beat { sent_ns: now.mono_ns, sent_ms: now.wall_ms, row, figures }
}
