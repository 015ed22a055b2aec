//! Events kept in memory: for channels whose history may end with the process, and for tests.
//!
//! Everything is under one lock, held for as long as a batch takes. What is kept is shared with whoever
//! reads it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_protocol::{ChannelName, Epoch, Position, Sequence};

use super::{
    Accepted, Append, Batch, Decision, Declined, DedupKey, Extent, Only, Place, Query, ReadLimit, Retention,
    StateSlice, Store, StoreError, StoredPage,
    filling::{PageFilling, StateFilling},
};

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    epoch: Epoch,
    channels_max: usize,
    channels: Mutex<HashMap<ChannelName, Kept>>,
}

#[derive(Debug, Clone, Default)]
struct Kept {
    head: u64,
    floor: u64,
    critical_floor: u64,
    ordinary: usize,
    critical: usize,
    events: BTreeMap<u64, (Arc<Accepted>, i64)>,
    ids: HashMap<DedupKey, (u64, u64)>,
    ids_order: VecDeque<(u64, i64, DedupKey)>,
    state: BTreeMap<Box<str>, (u64, Arc<Accepted>)>,
}

impl MemoryStore {
    /// A store with no channels. The epoch must be new at every start: memory forgets everything.
    #[must_use]
    pub fn new(epoch: Epoch, channels_max: usize) -> Self {
        Self { epoch, channels_max, channels: Mutex::default() }
    }

    /// The same events under another epoch, or the same: what a simulation goes back to.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn copy(&self, epoch: Epoch) -> Self {
        let channels = Mutex::new(self.channels.lock().clone());
        Self { epoch, channels_max: self.channels_max, channels }
    }

    fn extent(&self, kept: Option<&Kept>) -> Extent {
        let at = |read: fn(&Kept) -> u64| Sequence(kept.map_or(0, read));
        Extent {
            epoch: self.epoch.clone(),
            head: at(|kept| kept.head),
            floor: at(|kept| kept.floor),
            critical_floor: at(|kept| kept.critical_floor),
        }
    }

    fn request(&self, channels: &mut HashMap<ChannelName, Kept>, request: &[Append], at_ms: i64) -> Decision {
        let mut fresh: HashMap<(&ChannelName, &DedupKey), u64> = HashMap::new();
        for (index, append) in request.iter().enumerate() {
            if !channels.contains_key(append.channel()) && channels.len() >= self.channels_max {
                return Err(Declined::Full(index));
            }
            let before = channels.get(append.channel()).and_then(|kept| kept.ids.get(&append.dedup));
            let here = fresh.insert((append.channel(), &append.dedup), append.payload);
            let differs = |payload: u64| payload != append.payload;
            if before.is_some_and(|(_, payload)| differs(*payload)) || here.is_some_and(differs) {
                return Err(Declined::Conflict(index));
            }
        }
        let place =
            |append| self.append(channels.entry(Append::channel(append).clone()).or_default(), append, at_ms);
        Ok(request.iter().map(place).collect())
    }

    fn append(&self, kept: &mut Kept, append: &Append, at_ms: i64) -> Place {
        let position = |sequence| Position { epoch: self.epoch.clone(), sequence: Sequence(sequence) };
        if let Some((sequence, _)) = kept.ids.get(&append.dedup) {
            return Place { position: position(*sequence), duplicate: true };
        }
        kept.head += 1;
        let sequence = kept.head;
        kept.ids.insert(append.dedup, (sequence, append.payload));
        kept.ids_order.push_back((sequence, at_ms, append.dedup));
        if append.accepted.is_critical() {
            kept.critical += 1;
        } else {
            kept.ordinary += 1;
        }
        if append.keyed
            && let Some(key) = &append.accepted.event.key
        {
            if append.accepted.event.data.get() == "null" {
                kept.state.remove(key);
            } else {
                kept.state.insert(key.clone(), (sequence, append.accepted.clone()));
            }
        }
        kept.events.insert(sequence, (append.accepted.clone(), at_ms));
        Place { position: position(sequence), duplicate: false }
    }
}

impl Kept {
    /// Removes the oldest events of one sort: what is too many, and everything up to the last that is too old.
    /// Returns the last that went.
    fn cut(&mut self, critical: bool, max: usize, older_than_ms: Option<i64>) -> Option<u64> {
        let count = if critical { &mut self.critical } else { &mut self.ordinary };
        let excess = count.saturating_sub(max);
        let of_sort = self.events.iter().filter(|(_, (accepted, _))| accepted.is_critical() == critical);
        let mut last = None;
        for (index, (sequence, (_, at_ms))) in of_sort.enumerate() {
            // A clock may have gone back, so an older one can stand behind a younger.
            if index < excess || older_than_ms.is_some_and(|limit| *at_ms < limit) {
                last = Some(*sequence);
            } else if older_than_ms.is_none() {
                break;
            }
        }
        let up_to = last?;
        let mut gone = Vec::new();
        for (sequence, (accepted, _)) in self.events.range(..=up_to) {
            if accepted.is_critical() == critical {
                gone.push(*sequence);
            }
        }
        *count -= gone.len();
        for sequence in gone {
            self.events.remove(&sequence);
        }
        last
    }
}

impl Kept {
    /// Forgets the ids of events that are gone, once they are old enough or too many.
    fn forget_ids(&mut self, retention: &Retention, now_ms: i64) {
        let excess = self.ids_order.len().saturating_sub(retention.ids_max);
        let mut place = 0;
        let Self { ids, ids_order, events, .. } = self;
        ids_order.retain(|(sequence, at_ms, id)| {
            place += 1;
            let recent = now_ms - at_ms < retention.ids_ms && place > excess;
            let remembered = recent || events.contains_key(sequence);
            if !remembered {
                ids.remove(id);
            }
            remembered
        });
    }
}

impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn epoch(&self) -> Epoch {
        self.epoch.clone()
    }

    fn is_instant(&self) -> bool {
        true
    }

    fn extents(&self, channels: &[ChannelName]) -> Result<Vec<Extent>, StoreError> {
        let kept = self.channels.lock();
        Ok(channels.iter().map(|name| self.extent(kept.get(name))).collect())
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Decision>, StoreError> {
        let mut channels = self.channels.lock();
        let decide = |request: &Arc<[Append]>| self.request(&mut channels, request, batch.at_ms);
        Ok(batch.requests.iter().map(decide).collect())
    }

    fn read(&self, channel: &ChannelName, query: &Query) -> Result<StoredPage, StoreError> {
        let channels = self.channels.lock();
        let kept = channels.get(channel);
        let mut page = PageFilling::new(self.extent(kept), query);
        let from = page.last().0 + 1;
        for (sequence, (accepted, _)) in kept.into_iter().flat_map(|kept| kept.events.range(from..)) {
            let wanted = query.only == Only::All || accepted.is_critical();
            if wanted && !page.take(Sequence(*sequence), Some(accepted.clone())) {
                break;
            }
        }
        Ok(page.finish())
    }

    fn state(
        &self,
        channel: &ChannelName,
        after: Option<&str>,
        limit: ReadLimit,
    ) -> Result<StateSlice, StoreError> {
        use std::ops::Bound;
        let channels = self.channels.lock();
        let kept = channels.get(channel);
        let mut slice = StateFilling::new(self.extent(kept), limit);
        let from = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        for (key, (sequence, accepted)) in kept.into_iter().flat_map(|kept| kept.state.range::<str, _>(from))
        {
            if !slice.take(Some(key), Sequence(*sequence), Some(accepted.clone())) {
                break;
            }
        }
        Ok(slice.finish())
    }

    fn trim(&self, channel: &ChannelName, retention: &Retention, now_ms: i64) -> Result<Extent, StoreError> {
        let mut channels = self.channels.lock();
        let Some(kept) = channels.get_mut(channel) else { return Ok(self.extent(None)) };
        if let Some(last) = kept.cut(false, retention.history_max, None) {
            kept.floor = last;
        }
        let expired = (retention.critical_ttl_ms > 0).then(|| now_ms - retention.critical_ttl_ms);
        if let Some(last) = kept.cut(true, retention.critical_max, expired) {
            kept.critical_floor = last;
            // What follows the floor has no holes, so it moves behind a critical event that goes.
            kept.floor = kept.floor.max(last);
            let ordinary =
                kept.events.range(..=kept.floor).filter(|(_, (accepted, _))| !accepted.is_critical());
            for sequence in ordinary.map(|(sequence, _)| *sequence).collect::<Vec<_>>() {
                kept.events.remove(&sequence);
                kept.ordinary -= 1;
            }
        }
        kept.forget_ids(retention, now_ms);
        if kept.state.len() > retention.state_max {
            let mut by_age: Vec<_> =
                kept.state.iter().map(|(key, (sequence, _))| (*sequence, key.clone())).collect();
            by_age.sort_unstable();
            for (_, key) in by_age.iter().take(kept.state.len() - retention.state_max) {
                kept.state.remove(key);
            }
        }
        Ok(self.extent(channels.get(channel)))
    }
}
