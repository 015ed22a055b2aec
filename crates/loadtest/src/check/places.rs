//! What stands where: for each place of a channel's history the one event that was seen there.

use std::collections::{BTreeMap, HashMap};

use super::World;
use super::finding::Kind;
use super::names::Content;
use super::record::Line;

/// A channel in one of its epochs, by the numbers of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Log {
    pub(crate) channel: u32,
    pub(crate) epoch: u32,
}

/// The event of a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its message id; 0 if nobody said.
    pub(crate) id: u64,
    pub(crate) content: Content,
    pub(crate) tags: u32,
    pub(crate) critical: bool,
    /// When its publisher was answered.
    pub(crate) acked_ms: Option<i64>,
    /// The latest beginning of a subscription that was given it.
    pub(crate) read_ms: Option<i64>,
    /// Who said first what stands here.
    pub(crate) line: Line,
}

/// All places that somebody spoke of.
#[derive(Debug, Default)]
pub(crate) struct Places(HashMap<Log, BTreeMap<u64, Place>>);

impl Places {
    pub(crate) fn get(&self, log: Log, sequence: u64) -> Option<&Place> {
        self.0.get(&log)?.get(&sequence)
    }

    /// The known places of a range, both ends included.
    pub(crate) fn between(&self, log: Log, from: u64, to: u64) -> impl Iterator<Item = (u64, &Place)> {
        let places = self.0.get(&log).filter(|_| from <= to);
        places.into_iter().flat_map(move |places| places.range(from..=to)).map(|(at, place)| (*at, place))
    }

    /// How many channels there are, each counted once for each of its epochs.
    pub(crate) fn logs(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Somebody says that this event stands there. Says whether the place is new.
pub(crate) fn note(world: &mut World, log: Log, sequence: u64, seen: Place) -> bool {
    let World { places, names, findings, .. } = world;
    let place = match places.0.entry(log).or_default().entry(sequence) {
        std::collections::btree_map::Entry::Vacant(vacant) => {
            vacant.insert(seen);
            return true;
        }
        std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
    };
    let other_id = place.id != 0 && seen.id != 0 && place.id != seen.id;
    if other_id || place.content.differs(seen.content) {
        let what = if other_id { "ids" } else { "contents" };
        findings.add_both(Kind::Fork, 1, (seen.line, place.line), || {
            let (channel, epoch) = (names.name(log.channel), names.name(log.epoch));
            format!("{channel} holds two {what} at {sequence} of epoch {epoch}")
        });
        return false;
    }
    place.id = place.id.max(seen.id);
    place.content = place.content.or(seen.content);
    place.tags = place.tags.max(seen.tags);
    place.critical |= seen.critical;
    place.acked_ms = place.acked_ms.or(seen.acked_ms);
    place.read_ms = place.read_ms.max(seen.read_ms);
    false
}
