//! A named ordered log and the count of those who listen to it.
//!
//! The state behind the lock is the channel's order: whoever holds it may move the cursor, and hands what it
//! passes to the audience before letting go, so that every listener meets publications in sequence order.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pulsewire_protocol::{ChannelName, Epoch, Interval, Position, Sequence};

use crate::sequencer::{RingLimits, Sequencer};
use crate::series::Table;
use crate::{ChannelKind, NamespaceId, Publication};

/// A channel's number in this process; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

/// A channel that somebody publishes or listens to.
#[derive(Debug)]
pub struct Channel {
    /// Its number.
    pub id: ChannelId,
    /// Its name.
    pub name: ChannelName,
    /// Whose settings it has.
    pub namespace: NamespaceId,
    /// What it keeps and promises.
    pub kind: ChannelKind,
    /// Changes whenever the kept history may have been rewritten; in memory, at every start.
    pub epoch: Epoch,
    listeners: Box<[AtomicU32]>,
    /// How often somebody has begun to listen.
    joined: AtomicU64,
    /// Publications that were passed on, and their payloads' bytes. Written under the lock only.
    passed: AtomicU64,
    passed_bytes: AtomicU64,
    passed_critical: AtomicU64,
    /// How many want a metric channel rolled up, by interval.
    wanted: [AtomicU32; Interval::ALL.len()],
    floor: AtomicU64,
    successor: OnceLock<Arc<Channel>>,
    pub(crate) order: Mutex<Order>,
}

/// What a node has passed on of a channel since it has had it at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// How many publications.
    pub publications: u64,
    /// The bytes of their payloads.
    pub bytes: u64,
    /// How many of them were critical.
    pub critical: u64,
}

/// What the lock of a channel guards.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) sequencer: Sequencer,
    /// The series of a metric channel.
    pub(crate) series: Option<Box<Table>>,
}

impl Channel {
    pub(crate) fn new(
        id: ChannelId,
        name: ChannelName,
        namespace: NamespaceId,
        kind: ChannelKind,
        epoch: Epoch,
        parts: usize,
        ring: RingLimits,
    ) -> Self {
        let listeners = (0..parts).map(|_| AtomicU32::new(0)).collect();
        let order = Mutex::new(Order { sequencer: Sequencer::new(ring), series: None });
        let floor = AtomicU64::new(0);
        let (wanted, successor) = (Default::default(), OnceLock::new());
        let [joined, passed, passed_bytes, passed_critical] = Default::default();
        Self {
            id,
            name,
            namespace,
            kind,
            epoch,
            listeners,
            joined,
            passed,
            passed_bytes,
            passed_critical,
            wanted,
            floor,
            successor,
            order,
        }
    }

    /// Somebody begins to want this interval of a metric channel. Call it before asking for the newest windows.
    pub fn want(&self, interval: Interval) {
        self.wanted[interval as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// Somebody who wanted this interval does not any more.
    pub fn unwant(&self, interval: Interval) {
        let before = self.wanted[interval as usize].fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "only what was wanted is wanted no more");
    }

    pub(crate) fn is_wanted(&self, interval: Interval) -> bool {
        self.wanted[interval as usize].load(Ordering::SeqCst) > 0
    }

    /// Counts one more listener in a part of the audience, a shard or the readers. Call it before reading the position from which to listen.
    ///
    /// A publisher reads the count while it holds the channel's lock, and [`Channel::position`] takes
    /// that lock: so a publication either is at or before the position, or reaches the shard.
    pub fn listen(&self, shard: usize) {
        self.listeners[shard].fetch_add(1, Ordering::SeqCst);
        // Afterwards: whoever sees that somebody has joined finds them among the listeners.
        self.joined.fetch_add(1, Ordering::SeqCst);
    }

    /// How often somebody has begun to listen: another number than before means that there is somebody new.
    #[must_use]
    pub fn joined(&self) -> u64 {
        self.joined.load(Ordering::SeqCst)
    }

    /// What this node has passed on of it.
    #[must_use]
    pub fn passed(&self) -> Passed {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Passed {
            publications: load(&self.passed),
            bytes: load(&self.passed_bytes),
            critical: load(&self.passed_critical),
        }
    }

    /// How many series a metric channel has at hand; 0 for others.
    #[must_use]
    pub fn series(&self) -> usize {
        self.order.lock().series.as_ref().map_or(0, |table| table.len())
    }

    /// Counts publications. The channel's lock is held, so there is one writer.
    pub(crate) fn count_passed(&self, publications: &[Arc<Publication>]) {
        let bytes: usize = publications.iter().map(|publication| publication.payload_bytes()).sum();
        let critical = publications.iter().filter(|publication| publication.is_critical()).count();
        let passed = self.passed();
        self.passed.store(passed.publications + publications.len() as u64, Ordering::Relaxed);
        self.passed_bytes.store(passed.bytes + bytes as u64, Ordering::Relaxed);
        self.passed_critical.store(passed.critical + critical as u64, Ordering::Relaxed);
    }

    /// Counts one listener less.
    pub fn unlisten(&self, shard: usize) {
        let before = self.listeners[shard].fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "a channel's listeners are counted down only by those who were counted");
    }

    /// Whether a shard has a listener.
    #[must_use]
    pub fn has_listeners(&self, shard: usize) -> bool {
        self.listeners[shard].load(Ordering::SeqCst) > 0
    }

    /// How many parts the audience has: a shard each, and the readers last.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.listeners.len()
    }

    /// How many listen, in all parts.
    #[must_use]
    pub fn listeners(&self) -> u32 {
        self.listeners.iter().map(|shard| shard.load(Ordering::SeqCst)).sum()
    }

    /// The position up to which publications were passed on.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch.clone(), sequence: self.order.lock().sequencer.cursor() }
    }

    /// The newest sequence that this node has heard of.
    #[must_use]
    pub fn head(&self) -> Sequence {
        self.order.lock().sequencer.head()
    }

    /// The highest sequence up to which ordinary events are gone, as far as the store has told this node.
    #[must_use]
    pub fn floor(&self) -> Sequence {
        Sequence(self.floor.load(Ordering::Relaxed))
    }

    pub(crate) fn note_floor(&self, floor: Sequence) {
        self.floor.fetch_max(floor.0, Ordering::Relaxed);
    }

    /// The channel that took this one's name when its history was rewritten, if that happened.
    #[must_use]
    pub fn successor(&self) -> Option<&Arc<Channel>> {
        self.successor.get()
    }

    pub(crate) fn succeed(&self, successor: Arc<Channel>) {
        // Somebody else may have found out at the same time; the first is the one in the table.
        let _ = self.successor.set(successor);
    }

    /// Whether it can be forgotten, as far as the store has everything: nobody listens, no values are kept.
    pub(crate) fn is_idle(&self) -> bool {
        self.listeners() == 0 && self.order.lock().series.as_ref().is_none_or(|table| table.len() == 0)
    }
}
