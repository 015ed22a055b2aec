//! What this node says of its own sessions, by the version at which it changed last.
//!
//! A row stands once, at its last change, so what somebody missed after a version is what stands after it: the
//! same reading makes the changes that everybody hears, the answer to one who missed some, and the transfer of
//! everything. Rows that are gone are kept as such, up to a number; who asks for something older than the newest
//! of those that were let go is told everything.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use pulsewire_protocol::ChannelName;

use super::words;
use crate::presence::room::Row;

/// A user in a channel.
pub(super) type Key = (ChannelName, Arc<str>);

#[derive(Default)]
pub(super) struct Own {
    /// Grows by one with every change.
    pub(super) version: u64,
    /// Up to which version everybody was told.
    pub(super) said: u64,
    by_key: HashMap<Key, u64>,
    log: BTreeMap<u64, Key>,
    /// The versions at which rows ended.
    ended: BTreeSet<u64>,
    /// The newest version at which a row ended that is not known any more.
    floor: u64,
}

/// A part of what changed after a version.
pub(super) struct Piece {
    pub(super) to: u64,
    pub(super) rows: String,
}

impl Own {
    /// How many rows this node has.
    pub(super) fn rows(&self) -> usize {
        self.by_key.len() - self.ended.len()
    }

    /// This node has something else to say of a user in a channel.
    pub(super) fn changed(&mut self, key: Key, is_there: bool, ended_max: usize) {
        self.version += 1;
        if let Some(before) = self.by_key.insert(key.clone(), self.version) {
            self.log.remove(&before);
            self.ended.remove(&before);
        } else if !is_there {
            // It came and went before anybody could be told.
            self.by_key.remove(&key);
            self.version -= 1;
            return;
        }
        self.log.insert(self.version, key);
        if !is_there {
            self.ended.insert(self.version);
        }
        while self.ended.len() > ended_max
            && let Some(version) = self.ended.pop_first()
        {
            self.floor = version;
            if let Some(key) = self.log.remove(&version) {
                self.by_key.remove(&key);
            }
        }
    }

    /// Whether what changed after a version is still known.
    pub(super) fn knows(&self, since: u64) -> bool {
        since >= self.floor
    }

    /// What changed after a version, up to about so many bytes; at least one row if there is one.
    pub(super) fn piece(&self, since: u64, bytes_max: usize, row: impl Fn(&Key) -> Option<Row>) -> Piece {
        let mut piece = Piece { to: self.version.max(since), rows: String::new() };
        let mut last = since;
        for (version, key) in self.log.range((Bound::Excluded(since), Bound::Unbounded)) {
            if piece.rows.len() >= bytes_max {
                piece.to = last;
                return piece;
            }
            words::push_row(&mut piece.rows, &key.0, &key.1, row(key).as_ref());
            last = *version;
        }
        piece
    }
}
