//! The rows of nodes that come and go: doubted, believed and let go a bounded number at a time, so that a node with
//! a hundred thousand of them holds up nobody who joins a room.

use std::ops::Bound;
use std::sync::Arc;

use pulsewire_bus::Now;

use super::Replica;
use super::own::Key;
use super::peer::{Peer, Standing};
use crate::presence::rooms::Rooms;

/// For how long what a node says that has said goodbye does not count: nothing is on its way for longer.
const FAREWELL_NS: u64 = 60_000_000_000;

impl Replica {
    /// Doubts, believes and lets go what there is to: so many rows. None are left if there may be more to do.
    pub(super) fn see_to_rows(&mut self, rooms: &mut Rooms, now: Now, left: &mut usize) {
        let rows = &mut self.status.entries;
        for (node, peer) in &mut self.peers {
            see_to_doubts(rooms, node, peer, now, left);
            shed(rooms, node, peer, rows, left);
            let mut drop_row = |key: &Key| {
                let _ = rooms.hear_of(&key.0, || None, node, &key.1, None);
                *rows -= 1;
                *left = left.saturating_sub(1);
                *left > 0
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
            if *left == 0 {
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
