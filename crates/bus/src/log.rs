//! What a channel remembers: its order, its latest events, the ids it has seen.
//!
//! In memory. `recent` is contiguous and ends at the head; what is cut off its front moves the
//! floor. Critical events are kept a second time under their own cap, so a burst of ordinary
//! events never pushes them out (checklist C21). Ids are remembered for longer than the events
//! they belong to, up to `ids_max`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use pulsewire_protocol::Sequence;

use crate::Publication;

/// How much a channel keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Events kept for replay.
    pub history_max: usize,
    /// Critical events kept.
    pub critical_max: usize,
    /// Message ids remembered for finding duplicates.
    pub ids_max: usize,
}

/// How much one read may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// At most so many publications.
    pub publications: usize,
    /// Stop after the publication that makes the page larger than this, in bytes of memory.
    pub bytes: usize,
}

/// Publications in sequence order, and where they lie in the channel.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The publications, oldest first.
    pub publications: Vec<Arc<Publication>>,
    /// The highest sequence that is no longer kept; 0 if nothing was ever trimmed.
    pub floor: Sequence,
    /// The newest sequence when the page was read.
    pub head: Sequence,
}

/// What is known of a message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Never seen.
    No,
    /// Seen with the same payload; this is the sequence it was given.
    Same(Sequence),
    /// Seen with another payload.
    Other,
}

#[derive(Debug)]
pub(crate) struct Log {
    limits: LogLimits,
    head: u64,
    recent: VecDeque<Arc<Publication>>,
    critical: VecDeque<Arc<Publication>>,
    latest: Option<Arc<Publication>>,
    ids: HashMap<Box<str>, (u64, u64)>,
    ids_order: VecDeque<Box<str>>,
}

impl Log {
    pub(crate) fn new(limits: LogLimits) -> Self {
        Self {
            limits,
            head: 0,
            recent: VecDeque::new(),
            critical: VecDeque::new(),
            latest: None,
            ids: HashMap::new(),
            ids_order: VecDeque::new(),
        }
    }

    pub(crate) fn head(&self) -> Sequence {
        Sequence(self.head)
    }

    pub(crate) fn floor(&self) -> Sequence {
        Sequence(self.head - self.recent.len() as u64)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == 0 && self.latest.is_none()
    }

    pub(crate) fn known(&self, id: &str, payload_hash: u64) -> Known {
        match self.ids.get(id) {
            None => Known::No,
            Some(&(sequence, hash)) if hash == payload_hash => Known::Same(Sequence(sequence)),
            Some(_) => Known::Other,
        }
    }

    /// Remembers an id, forgetting the oldest when there are too many.
    pub(crate) fn remember(&mut self, id: &str, payload_hash: u64, sequence: Sequence) {
        if self.limits.ids_max == 0 {
            return;
        }
        while self.ids_order.len() >= self.limits.ids_max {
            if let Some(oldest) = self.ids_order.pop_front() {
                self.ids.remove(&oldest);
            }
        }
        self.ids_order.push_back(id.into());
        self.ids.insert(id.into(), (sequence.0, payload_hash));
    }

    pub(crate) fn next_sequence(&self) -> Sequence {
        Sequence(self.head + 1)
    }

    /// Appends the publication with the next sequence, trimming what exceeds the limits.
    pub(crate) fn append(&mut self, publication: &Arc<Publication>) {
        assert_eq!(publication.sequence.0, self.head + 1, "I1: sequences are contiguous");
        self.head += 1;
        self.recent.push_back(publication.clone());
        if publication.is_critical() {
            self.critical.push_back(publication.clone());
            if self.critical.len() > self.limits.critical_max {
                self.critical.pop_front();
            }
        }
        while self.recent.len() > self.limits.history_max {
            self.recent.pop_front();
        }
    }

    pub(crate) fn set_latest(&mut self, publication: Arc<Publication>) {
        self.latest = Some(publication);
    }

    pub(crate) fn latest(&self) -> Option<Arc<Publication>> {
        self.latest.clone()
    }

    /// What follows `after`, within the limit. A page that starts above `after + 1` starts at the floor.
    pub(crate) fn read(&self, after: Sequence, limit: ReadLimit) -> Page {
        let floor = self.floor();
        let skip = usize::try_from(after.0.saturating_sub(floor.0)).unwrap_or(usize::MAX);
        let mut publications = Vec::new();
        let mut bytes = 0;
        for publication in self.recent.iter().skip(skip).take(limit.publications) {
            publications.push(publication.clone());
            bytes += publication.bytes();
            if bytes > limit.bytes {
                break;
            }
        }
        Page { publications, floor, head: self.head() }
    }

    /// The critical events after a sequence that `recent` may no longer hold.
    pub(crate) fn critical(&self) -> impl Iterator<Item = &Arc<Publication>> {
        self.critical.iter()
    }
}
