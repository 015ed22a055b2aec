//! A named ordered log and the count of those who listen to it.
//!
//! The state behind the lock is the channel's order: whoever holds it may give out the next
//! sequence, and hands the publication to the audience before letting go, so that every listener
//! meets publications in sequence order.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use pulsewire_protocol::{ChannelName, Epoch, Position};

use crate::{ChannelKind, NamespaceId, log::Log};

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
    /// Changes whenever the kept history may have been rewritten; with the memory store, at every start.
    pub epoch: Epoch,
    listeners: Box<[AtomicU32]>,
    pub(crate) log: Mutex<Log>,
}

impl Channel {
    pub(crate) fn new(
        id: ChannelId,
        name: ChannelName,
        namespace: NamespaceId,
        kind: ChannelKind,
        epoch: Epoch,
        shards: usize,
        log: Log,
    ) -> Self {
        let listeners = (0..shards).map(|_| AtomicU32::new(0)).collect();
        Self { id, name, namespace, kind, epoch, listeners, log: Mutex::new(log) }
    }

    /// Counts one more listener in a shard. Call it before reading the position from which to listen.
    ///
    /// A publisher reads the count while it holds the channel's lock, and [`Channel::position`] takes
    /// that lock: so a publication either is at or before the position, or reaches the shard.
    pub fn listen(&self, shard: usize) {
        self.listeners[shard].fetch_add(1, Ordering::SeqCst);
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

    /// How many listen, in all shards.
    #[must_use]
    pub fn listeners(&self) -> u32 {
        self.listeners.iter().map(|shard| shard.load(Ordering::Relaxed)).sum()
    }

    /// The position of the newest publication.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch.clone(), sequence: self.log.lock().head() }
    }

    /// Whether nobody listens and nothing is kept, so that it may be forgotten.
    pub(crate) fn is_idle(&self) -> bool {
        self.listeners() == 0 && self.log.lock().is_empty()
    }
}
