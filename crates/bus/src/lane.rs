//! The way of requests to one store: a bounded queue, and one committer at a time.
//!
//! Whatever has queued while the last batch was being kept is the next batch: so the slower the store, the
//! larger its batches, and no timer is needed (group commit). When the store fails, nothing is acknowledged:
//! what certainly was not kept is refused; what may have been is tried again, the same batch with the same
//! keys, until the store says what became of it or patience ends.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pulsewire_protocol::ChannelName;
use pulsewire_telemetry::{StoreFailure, Telemetry};

use crate::publish::Submission;
use crate::store::{Batch, Decision, Durability, Failure, Outcome, Store, StoreError};
use crate::{Bell, Now};

/// Events of a batch at most.
const BATCH_EVENTS_MAX: usize = 512;
/// Bytes of a batch at most; a request that is larger is a batch of its own.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// How long an outcome that is not known is asked for before publishers are told so, nanoseconds.
const UNKNOWN_NS: u64 = 5_000_000_000;
/// The pause after the first failure; it doubles with each further one.
const PAUSE_MIN_NS: u64 = 50_000_000;
/// The longest pause, nanoseconds.
const PAUSE_MAX_NS: u64 = 2_000_000_000;

/// What a call of the committer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There was nothing to do: wait for the bell.
    Idle,
    /// A batch was kept or refused; there may be more.
    Done,
    /// The store failed: nothing will be done before this moment, monotonic nanoseconds.
    Pause(u64),
}

/// A store and the requests on their way to it.
pub struct Lane {
    pub(crate) store: Arc<dyn Store>,
    /// Rung when there is something to commit.
    pub bell: Bell,
    queue: Mutex<Queue>,
    events_max: usize,
    pub(crate) committing: Mutex<Committing>,
    trouble: Mutex<Option<Trouble>>,
    /// Whether the store has to show that it works before anybody needs it: at the start, and when a read failed.
    doubted: AtomicBool,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Submission>,
    events: usize,
}

/// What the committer remembers between its turns.
#[derive(Default)]
pub(crate) struct Committing {
    unknown: Option<(Batch, Vec<Submission>, u64)>,
    /// Channels that hold more than they may.
    pub(crate) trims: VecDeque<ChannelName>,
    /// How much channels have grown since they were last trimmed. When there are too many it begins anew: each of
    /// them is trimmed a little later.
    pub(crate) grown: HashMap<ChannelName, usize>,
    /// Batches kept since a channel was trimmed.
    pub(crate) untrimmed: usize,
}

impl Committing {
    /// Gives what is tried again other keys; see [`crate::Mutant::RetryUnderNewKeys`].
    pub(crate) fn rename(&mut self, mut key: impl FnMut() -> crate::DedupKey) {
        let Some((batch, ..)) = &mut self.unknown else { return };
        for request in &mut batch.requests {
            let renamed = request.iter().map(|append| crate::Append { dedup: key(), ..append.clone() });
            *request = renamed.collect();
        }
    }
}

/// Since when and why a store does not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) since_ms: i64,
    pub(crate) error: StoreError,
    failures: u32,
    pub(crate) not_before_ns: u64,
}

/// What became of a batch.
pub(crate) enum Attempt {
    Nothing,
    Kept(Batch, Vec<Submission>, Vec<Decision>),
    Refused(Vec<Submission>, StoreError),
    Later(u64),
}

impl Lane {
    pub(crate) fn new(store: Arc<dyn Store>, events_max: usize) -> Self {
        Self {
            store,
            bell: Bell::default(),
            queue: Mutex::default(),
            events_max,
            committing: Mutex::default(),
            trouble: Mutex::default(),
            doubted: AtomicBool::new(true),
        }
    }

    /// Queues a request, or gives it back when too much is waiting.
    pub(crate) fn push(&self, submission: Submission) -> Result<(), Submission> {
        let mut queue = self.queue.lock();
        if queue.events > 0 && queue.events + submission.appends.len() > self.events_max {
            return Err(submission);
        }
        queue.events += submission.appends.len();
        queue.waiting.push_back(submission);
        drop(queue);
        self.bell.ring();
        Ok(())
    }

    /// Events that wait to be kept.
    pub(crate) fn queued(&self) -> usize {
        self.queue.lock().events
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().clone()
    }

    /// Why a request would be refused now, and after how many milliseconds it may be tried again.
    pub(crate) fn closed(&self, now: Now) -> Option<(Trouble, u32)> {
        let trouble = self.trouble.lock();
        let trouble = trouble.as_ref().filter(|trouble| {
            trouble.error.outcome == Outcome::NotKept && now.mono_ns < trouble.not_before_ns
        })?;
        let after_ms = (trouble.not_before_ns - now.mono_ns) / 1_000_000 + 1;
        Some((trouble.clone(), u32::try_from(after_ms).unwrap_or(u32::MAX)))
    }

    /// Tries to keep what waits.
    pub(crate) fn attempt(&self, committing: &mut Committing, now: Now, telemetry: &Telemetry) -> Attempt {
        let not_before_ns = self.trouble.lock().as_ref().map_or(0, |trouble| trouble.not_before_ns);
        if now.mono_ns < not_before_ns {
            return Attempt::Later(not_before_ns);
        }
        let asked_before = committing.unknown.is_some();
        let (batch, submissions, since_ns) = match committing.unknown.take() {
            Some(unknown) => unknown,
            None => match self.take(now) {
                Some((batch, submissions)) => (batch, submissions, now.mono_ns),
                None => return Attempt::Nothing,
            },
        };
        match self.store.commit(&batch) {
            Ok(decisions) => {
                self.recovered();
                Attempt::Kept(batch, submissions, decisions)
            }
            Err(mut error) => {
                if asked_before {
                    // That nothing was kept now says nothing of the time before.
                    error.outcome = Outcome::Unknown;
                }
                telemetry.shared().store_failed(failure_label(error.failure));
                let not_before_ns = self.failed(&error, now);
                if error.outcome == Outcome::Unknown && now.since_ns(since_ns) < UNKNOWN_NS {
                    committing.unknown = Some((batch, submissions, since_ns));
                    return Attempt::Later(not_before_ns);
                }
                Attempt::Refused(submissions, error)
            }
        }
    }

    /// Has the store show that it works, if that is in doubt and nothing else would show it. Returns when to try
    /// again if it does not: so it is found working, and not only by the next publisher.
    pub(crate) fn probe(&self, now: Now, telemetry: &Telemetry) -> Option<u64> {
        if self.trouble.lock().is_none() && !self.doubted.load(Ordering::Relaxed) {
            return None;
        }
        match self.store.probe() {
            Ok(()) => {
                self.doubted.store(false, Ordering::Relaxed);
                self.recovered();
                None
            }
            Err(error) => {
                telemetry.shared().store_failed(failure_label(error.failure));
                Some(self.failed(&error, now))
            }
        }
    }

    /// A read failed.
    pub(crate) fn doubt(&self) {
        if !self.doubted.swap(true, Ordering::Relaxed) {
            self.bell.ring();
        }
    }

    fn take(&self, now: Now) -> Option<(Batch, Vec<Submission>)> {
        let mut queue = self.queue.lock();
        let mut batch = Batch { at_ms: now.wall_ms, ..Batch::default() };
        let mut submissions = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        while let Some(next) = queue.waiting.front() {
            let more = next.appends.len();
            if !submissions.is_empty()
                && (events + more > BATCH_EVENTS_MAX || bytes + next.bytes > BATCH_BYTES_MAX)
            {
                break;
            }
            events += more;
            bytes += next.bytes;
            batch.strict |= next.durability == Durability::Strict;
            batch.requests.push(next.appends.clone());
            submissions.extend(queue.waiting.pop_front());
        }
        queue.events -= events;
        (!submissions.is_empty()).then_some((batch, submissions))
    }

    /// The store did its work.
    pub(crate) fn recovered(&self) {
        if let Some(trouble) = self.trouble.lock().take() {
            let (store, since_ms) = (self.store.name(), trouble.since_ms);
            log::recovered(store, since_ms);
        }
    }

    /// The store did not do its work. Returns when to try again.
    pub(crate) fn failed(&self, error: &StoreError, now: Now) -> u64 {
        let mut trouble = self.trouble.lock();
        let (since_ms, failures) =
            trouble.as_ref().map_or((now.wall_ms, 0), |trouble| (trouble.since_ms, trouble.failures));
        if failures == 0 {
            log::failed(self.store.name(), error);
        }
        let pause_ns = (PAUSE_MIN_NS << failures.min(8)).min(PAUSE_MAX_NS);
        let not_before_ns = now.mono_ns + pause_ns;
        *trouble = Some(Trouble { since_ms, error: error.clone(), failures: failures + 1, not_before_ns });
        not_before_ns
    }
}

pub(crate) fn failure_label(failure: Failure) -> StoreFailure {
    match failure {
        Failure::Busy => StoreFailure::Busy,
        Failure::Full => StoreFailure::Full,
        Failure::Io => StoreFailure::Io,
        Failure::Corrupt => StoreFailure::Corrupt,
        Failure::ReadOnly => StoreFailure::ReadOnly,
        Failure::Unreachable => StoreFailure::Unreachable,
        Failure::Other => StoreFailure::Other,
    }
}

/// What people are told; once at each change, however many requests fail.
mod log {
    use crate::store::StoreError;

    pub(super) fn failed(store: &str, error: &StoreError) {
        tracing::error!(store, %error, "the store failed; publishes to log channels are refused until it works again");
    }

    pub(super) fn recovered(store: &str, since_ms: i64) {
        tracing::warn!(store, since_ms, "the store works again");
    }
}
