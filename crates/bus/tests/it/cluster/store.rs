//! A store that several nodes share, in memory, with the faults of real ones.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_bus::{
    Batch, Decision, Extent, Failure, MemoryStore, Outcome, Query, ReadLimit, Retention, StateSlice, Store,
    StoreError, StoredPage,
};
use pulsewire_protocol::{ChannelName, Epoch, Sequence};

use crate::rng::Rng;

/// Commits that a failover may lose.
const KEPT_STATES: usize = 4;

pub(super) struct SharedStore {
    inner: Mutex<Inner>,
    /// What happens while somebody asks where channels stand: after the answer was made, before it is there.
    pub(super) meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// What happens between a transaction's taking its sequences and its commit, if a store lets that happen.
    pub(super) in_between: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

struct Inner {
    memory: MemoryStore,
    before: VecDeque<MemoryStore>,
    epochs: u32,
    rng: Rng,
    /// Events that have a sequence and are not committed.
    open: HashSet<(ChannelName, u64)>,
    /// Per cent of commits and reads that fail in one way or another.
    faults: usize,
    pub(super) unknown: u64,
}

fn epoch(number: u32) -> Epoch {
    Epoch::parse(&format!("e{number}")).unwrap()
}

impl SharedStore {
    pub(super) fn new(rng: Rng) -> Arc<Self> {
        let memory = MemoryStore::new(epoch(0), 1_000);
        let inner = Inner {
            memory,
            before: VecDeque::new(),
            epochs: 0,
            rng,
            open: HashSet::new(),
            faults: 6,
            unknown: 0,
        };
        Arc::new(Self { inner: Mutex::new(inner), meanwhile: Mutex::default(), in_between: Mutex::default() })
    }

    /// From now on nothing fails.
    pub(super) fn heal(&self) {
        self.inner.lock().faults = 0;
    }

    /// How many outcomes were not known.
    pub(super) fn unknown(&self) -> u64 {
        self.inner.lock().unknown
    }

    /// The last one to three commits are gone. Returns whether there were any.
    pub(super) fn fail_over(&self, same_epoch: bool) -> bool {
        let mut inner = self.inner.lock();
        let lost = 1 + inner.rng.below(3);
        let mut state = None;
        for _ in 0..lost {
            state = inner.before.pop_back().or(state);
        }
        let Some(state) = state else { return false };
        inner.before.clear();
        if !same_epoch {
            inner.epochs += 1;
        }
        inner.memory = state.copy(epoch(inner.epochs));
        true
    }

    fn failing(&self, what: Failure) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        let faults = inner.faults;
        if inner.rng.chance(faults) { Err(StoreError::new(what, "chance")) } else { Ok(()) }
    }
}

impl Inner {
    /// What a batch has added.
    fn fresh(&self, batch: &Batch, decisions: &[Decision]) -> Vec<(ChannelName, u64)> {
        let requests = batch.requests.iter().zip(decisions);
        let kept = requests.filter_map(|(request, decision)| Some((request, decision.as_ref().ok()?)));
        let places = kept.flat_map(|(request, places)| request.iter().zip(places));
        let fresh = places.filter(|(_, place)| !place.duplicate);
        fresh.map(|(append, place)| (append.channel().clone(), place.position.sequence.0)).collect()
    }

    /// The newest event of a channel that anybody can see.
    fn visible(&self, channel: &ChannelName, mut head: Sequence) -> Sequence {
        while self.open.contains(&(channel.clone(), head.0)) {
            head.0 -= 1;
        }
        head
    }

    fn extents(&self, channels: &[ChannelName]) -> Result<Vec<Extent>, StoreError> {
        let mut extents = self.memory.extents(channels)?;
        for (channel, extent) in channels.iter().zip(&mut extents) {
            extent.head = self.visible(channel, extent.head);
        }
        Ok(extents)
    }

    fn read(&self, channel: &ChannelName, query: &Query) -> Result<StoredPage, StoreError> {
        let mut page = self.memory.read(channel, query)?;
        page.extent.head = self.visible(channel, page.extent.head);
        page.events.retain(|(sequence, _)| !self.open.contains(&(channel.clone(), sequence.0)));
        page.through = page.through.min(page.extent.head);
        Ok(page)
    }
}

impl Store for SharedStore {
    fn name(&self) -> &'static str {
        "shared"
    }

    fn epoch(&self) -> Epoch {
        self.inner.lock().memory.epoch()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn extents(&self, channels: &[ChannelName]) -> Result<Vec<Extent>, StoreError> {
        self.failing(Failure::Unreachable)?;
        let extents = self.inner.lock().extents(channels);
        let meanwhile = self.meanwhile.lock().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        extents
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Decision>, StoreError> {
        let mut inner = self.inner.lock();
        let faults = inner.faults;
        let fault = inner.rng.chance(faults).then(|| inner.rng.below(3));
        if fault == Some(0) {
            return Err(StoreError::new(Failure::Busy, "chance"));
        }
        let unknown = StoreError { failure: Failure::Io, outcome: Outcome::Unknown, detail: "chance".into() };
        if fault == Some(1) {
            inner.unknown += 1;
            return Err(unknown);
        }
        let before = inner.memory.copy(inner.memory.epoch());
        inner.before.push_back(before);
        if inner.before.len() > KEPT_STATES {
            inner.before.pop_front();
        }
        let decisions = inner.memory.commit(batch)?;
        let in_between = self.in_between.lock().take();
        if let Some(in_between) = in_between {
            let fresh = inner.fresh(batch, &decisions);
            inner.open.extend(fresh.iter().cloned());
            drop(inner);
            in_between();
            inner = self.inner.lock();
            inner.open.retain(|event| !fresh.contains(event));
        }
        if fault == Some(2) {
            inner.unknown += 1;
            return Err(unknown);
        }
        Ok(decisions)
    }

    fn read(&self, channel: &ChannelName, query: &Query) -> Result<StoredPage, StoreError> {
        self.failing(Failure::Unreachable)?;
        self.inner.lock().read(channel, query)
    }

    fn state(
        &self,
        channel: &ChannelName,
        after: Option<&str>,
        limit: ReadLimit,
    ) -> Result<StateSlice, StoreError> {
        self.inner.lock().memory.state(channel, after, limit)
    }

    fn trim(&self, channel: &ChannelName, retention: &Retention, now_ms: i64) -> Result<Extent, StoreError> {
        self.failing(Failure::Busy)?;
        self.inner.lock().memory.trim(channel, retention, now_ms)
    }
}
