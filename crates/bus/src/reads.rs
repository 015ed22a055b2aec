//! Reading what is kept.
//!
//! A reader that is nearly there is answered from the channel's ring. Everyone else is answered from the
//! store, by the threads that call [`Bus::perform`]: those who ask for the same page at the same time, or a
//! moment later, get the same page, so ten thousand clients that come back cost as many reads as one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_protocol::{ChannelName, ErrorCode, Sequence};
use pulsewire_telemetry::ReadSource;

use crate::bus::Opening;
use crate::lane::failure_label;
use crate::publish::Moments;
use crate::store::{Extent, Failure, Query, ReadLimit, StoreError};
use crate::{Bell, Bus, Channel, ChannelId, Mutant, Now, Only, Page, Reply, StatePart, holes};

/// How long a page is given to others who ask for it, nanoseconds.
const CACHED_NS: u64 = 1_000_000_000;
/// Pages that are kept for others.
const CACHED_MAX: usize = 64;
/// Reads that may wait.
const JOBS_MAX: usize = 16_384;

/// Who is given a page.
pub type PageReply = Reply<Result<Arc<Page>, ErrorCode>>;
/// Who is given a part of the state.
pub type StateReply = Reply<Result<Arc<StatePart>, ErrorCode>>;

/// Reads that wait, and pages that were read.
#[derive(Default)]
pub(crate) struct Reads {
    pub(crate) bell: Bell,
    jobs: Mutex<Jobs>,
    pages: Mutex<HashMap<PageKey, (u64, Arc<Page>)>>,
}

/// The same channel and the same question.
type PageKey = (ChannelId, Query);
/// The same channel, from behind the same key, as much.
type StateKey = (ChannelId, Option<Box<str>>, ReadLimit);

#[derive(Default)]
struct Jobs {
    /// What live traffic waits for: repairs of holes, and where channels stand. They go first, so that nobody who is
    /// live waits for those who come back.
    first: VecDeque<Job>,
    waiting: VecDeque<Job>,
    /// Those who wait for a page that is being read.
    asking: HashMap<PageKey, Vec<PageReply>>,
    /// Those who wait for a part of the state whose read has not begun: whoever asks after that might miss a change.
    stating: HashMap<StateKey, Vec<StateReply>>,
}

impl Jobs {
    fn next(&mut self) -> Option<Job> {
        self.first.pop_front().or_else(|| self.waiting.pop_front())
    }
}

/// Something to be asked of a store.
pub(crate) enum Job {
    Page { channel: Arc<Channel>, query: Query },
    Repair { channel: Arc<Channel>, query: Query },
    Heads { names: Vec<ChannelName> },
    Open(Opening),
    State { channel: Arc<Channel>, after: Option<Box<str>>, limit: ReadLimit },
}

impl Bus {
    /// Reads a channel. The answer comes at once if the node has it, else from a thread that reads.
    ///
    /// It is `store_unavailable` if the store cannot be read now, `overloaded` if too many reads wait.
    pub fn read(&self, now: Now, channel: &Arc<Channel>, query: Query, reply: PageReply) {
        if query.only == Only::All
            && let Some(page) = channel.order.lock().sequencer.recent(&query)
        {
            self.telemetry.shared().read_from(ReadSource::Ring);
            reply(Ok(Arc::new(page)));
            return;
        }
        let key = (channel.id, query);
        if let Some((until_ns, page)) = self.reads.pages.lock().get(&key)
            && now.mono_ns < *until_ns
        {
            self.telemetry.shared().read_from(ReadSource::Cache);
            reply(Ok(page.clone()));
            return;
        }
        let mut jobs = self.reads.jobs.lock();
        if let Some(others) = jobs.asking.get_mut(&key) {
            self.telemetry.shared().read_from(ReadSource::Cache);
            others.push(reply);
            return;
        }
        if jobs.waiting.len() >= JOBS_MAX {
            drop(jobs);
            reply(Err(ErrorCode::Overloaded));
            return;
        }
        jobs.asking.insert(key, vec![reply]);
        jobs.waiting.push_back(Job::Page { channel: channel.clone(), query });
        drop(jobs);
        self.reads_wait(channel, now);
    }

    /// Reads a part of a channel's keyed state, from behind a key. It is not older than the question.
    pub fn state(
        &self,
        now: Now,
        channel: &Arc<Channel>,
        after: Option<Box<str>>,
        limit: ReadLimit,
        reply: StateReply,
    ) {
        let key = (channel.id, after, limit);
        let mut jobs = self.reads.jobs.lock();
        if let Some(others) = jobs.stating.get_mut(&key) {
            self.telemetry.shared().read_from(ReadSource::Cache);
            others.push(reply);
            return;
        }
        if jobs.waiting.len() >= JOBS_MAX {
            drop(jobs);
            reply(Err(ErrorCode::Overloaded));
            return;
        }
        jobs.waiting.push_back(Job::State { channel: channel.clone(), after: key.1.clone(), limit });
        jobs.stating.insert(key, vec![reply]);
        drop(jobs);
        self.reads_wait(channel, now);
    }

    fn reads_wait(&self, channel: &Channel, now: Now) {
        if self.lane_of(channel).store.is_instant() {
            while self.perform(now) {}
        } else {
            self.reads.bell.ring();
        }
    }

    /// Has channels looked up, unless too much is waiting.
    pub(crate) fn enqueue_open(&self, opening: Opening) {
        let mut jobs = self.reads.jobs.lock();
        if jobs.waiting.len() >= JOBS_MAX {
            drop(jobs);
            opening.refuse();
            return;
        }
        jobs.waiting.push_back(Job::Open(opening));
        drop(jobs);
        self.reads.bell.ring();
    }

    /// Whether a question for heads waits already.
    pub(crate) fn asks_heads(&self) -> bool {
        self.reads.jobs.lock().first.iter().any(|job| matches!(job, Job::Heads { .. }))
    }

    /// Queues the bus's own work, of which there is a bounded amount: a repair for each channel, one round of heads.
    pub(crate) fn enqueue(&self, job: Job) {
        self.reads.jobs.lock().first.push_back(job);
        self.reads.bell.ring();
    }

    /// Does one waiting read, the bus's own before those of readers. Returns whether there was one. May block in the store; call it from as many
    /// threads as reads may go on at the same time.
    pub fn perform(&self, now: Now) -> bool {
        let Some(job) = self.reads.jobs.lock().next() else { return false };
        match job {
            Job::Page { channel, query } => {
                let page = self.fetch(&channel, &query);
                let replies = self.reads.jobs.lock().asking.remove(&(channel.id, query)).unwrap_or_default();
                if let Ok(page) = &page {
                    self.offer(&channel, query, page, replies.len(), now);
                }
                let page = page.map_err(|_| ErrorCode::StoreUnavailable);
                for reply in replies {
                    reply(page.clone());
                }
            }
            Job::Repair { channel, query } => {
                let page = self.fetch(&channel, &query).ok();
                self.repaired(&channel, page.as_deref(), now);
            }
            Job::Heads { names } => self.ask(names, now),
            Job::Open(opening) => self.opened(opening, now),
            Job::State { channel, after, limit } => {
                let key = (channel.id, after, limit);
                let replies = self.reads.jobs.lock().stating.remove(&key).unwrap_or_default();
                let part = self.fetch_state(&channel, key.1.as_deref(), limit).map(Arc::new);
                let part = part.map_err(|_| ErrorCode::StoreUnavailable);
                for reply in replies {
                    reply(part.clone());
                }
            }
        }
        true
    }

    /// Asks the stores where channels stand.
    fn ask(&self, names: Vec<ChannelName>, now: Now) {
        let (memory, durable): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| self.is_in_memory(name));
        for names in [memory, durable] {
            let Some(first) = names.first() else { continue };
            let passed: Vec<_> = names.iter().map(|name| self.passed(name)).collect();
            match self.lane_for(first).store.extents(&names) {
                Ok(extents) => {
                    for ((name, extent), passed) in names.iter().zip(&extents).zip(passed) {
                        self.stands_at(name, extent, passed, now);
                    }
                }
                Err(error) => {
                    let _ = self.unreadable(&error);
                    self.suspect();
                }
            }
        }
    }

    fn fetch_state(
        &self,
        channel: &Channel,
        after: Option<&str>,
        limit: ReadLimit,
    ) -> Result<StatePart, StoreError> {
        self.telemetry.shared().read_from(ReadSource::Store);
        let slice = self.lane_of(channel).store.state(&channel.name, after, limit).inspect_err(|error| {
            let _ = self.unreadable(error);
        })?;
        self.same_history(channel, &slice.extent)?;
        self.unreadable_events(channel, &slice.corrupt);
        Ok(StatePart::new(channel.name.clone(), slice))
    }

    /// Takes note of where the store stands, unless that is another history: nobody may take its events for this
    /// one's. Whoever reads is reset instead.
    fn same_history(&self, channel: &Channel, extent: &Extent) -> Result<(), StoreError> {
        if extent.epoch == channel.epoch {
            channel.note_floor(extent.floor);
        } else if !self.is(Mutant::IgnoreEpochs) {
            self.enqueue(Job::Heads { names: vec![channel.name.clone()] });
            return Err(StoreError::new(Failure::Other, "the history was replaced"));
        }
        Ok(())
    }

    fn unreadable_events(&self, channel: &Channel, corrupt: &[Sequence]) {
        if let Some(first) = corrupt.first() {
            self.telemetry.shared().corrupt(corrupt.len() as u64);
            tracing::error!(channel = %channel.name, first = first.0, "stored events cannot be read");
        }
    }

    fn fetch(&self, channel: &Arc<Channel>, query: &Query) -> Result<Arc<Page>, StoreError> {
        self.telemetry.shared().read_from(ReadSource::Store);
        let mut stored = self.lane_of(channel).store.read(&channel.name, query).inspect_err(|error| {
            let _ = self.unreadable(error);
        })?;
        self.same_history(channel, &stored.extent)?;
        if query.only == Only::All {
            let holes = holes::name(&mut stored, query.after);
            if holes > 0 {
                tracing::error!(channel = %channel.name, holes, "I1: the store lacks events that it should have");
            }
        }
        self.unreadable_events(channel, &stored.corrupt);
        // Publications that were accepted before count no latency.
        let publication =
            |(sequence, accepted)| self.publication(channel, sequence, accepted, Moments::default());
        Ok(Arc::new(Page {
            publications: stored.events.into_iter().map(publication).collect(),
            corrupt: stored.corrupt,
            through: stored.through,
            floor: stored.extent.floor,
            critical_floor: stored.extent.critical_floor,
            head: stored.extent.head,
        }))
    }

    /// Keeps a page for others who will ask for it: one that is full, so that it cannot grow, or one that many wanted.
    fn offer(&self, channel: &Channel, query: Query, page: &Arc<Page>, wanted: usize, now: Now) {
        if page.publications.is_empty() || (page.through == page.head && wanted < 2) {
            return;
        }
        let mut pages = self.reads.pages.lock();
        if pages.len() >= CACHED_MAX {
            pages.retain(|_, (until_ns, _)| now.mono_ns < *until_ns);
        }
        if pages.len() < CACHED_MAX {
            pages.insert((channel.id, query), (now.mono_ns + CACHED_NS, page.clone()));
        }
    }

    pub(crate) fn unreadable(&self, error: &StoreError) -> ErrorCode {
        self.telemetry.shared().store_failed(failure_label(error.failure));
        tracing::debug!(%error, "the store could not be read");
        if let Some(lane) = self.durable_lane() {
            lane.doubt();
        }
        ErrorCode::StoreUnavailable
    }
}
