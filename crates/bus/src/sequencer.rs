//! A channel's order as this node tells it.
//!
//! What was committed here, and what other nodes say they committed, is heard in any order, more than once,
//! or not at all. The sequencer passes it on in order: the next one at once, a repeated one never, a later one
//! when what lies between was heard or read from the store. It never skips silently: a jump happens only
//! over what the store no longer has, and whoever listens sees it as a jump. The last events stay in a ring,
//! so that a reader who is nearly there needs no store.
//!
//! It decides and does nothing else: time comes in, publications to pass on go out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pulsewire_protocol::Sequence;

use crate::{Page, Publication, Query};

/// Publications that wait for others before them, at most; what is beyond is read from the store later.
const WAITING_MAX: usize = 256;
/// How long a publication waits for those before it before they are read from the store, nanoseconds: as long
/// as nodes that publish at the same time may overtake each other.
const GRACE_NS: u64 = 25_000_000;

/// How much of a channel's tail a node keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLimits {
    /// Publications. Default 256.
    pub publications: usize,
    /// Bytes. Default 256 KiB.
    pub bytes: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { publications: 256, bytes: 256 * 1024 }
    }
}

#[derive(Debug)]
pub(crate) struct Sequencer {
    limits: RingLimits,
    /// Whether the store has said where the channel stands.
    opened: bool,
    /// Everything up to here was passed on, or stood in the store before anybody listened.
    cursor: u64,
    /// The newest sequence that was heard of.
    head: u64,
    /// Contiguous, and ends at the cursor.
    ring: VecDeque<Arc<Publication>>,
    ring_bytes: usize,
    waiting: BTreeMap<u64, Arc<Publication>>,
    /// Since when something is missing before what waits, or before the head.
    hole_since_ns: Option<u64>,
    fetching: bool,
    /// Whether nothing waits for what is being read: the head check found it.
    fetching_tail: bool,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It, and perhaps others behind it, can be passed on.
    Next,
    /// It was passed on before.
    Before,
    /// Something before it is missing.
    Later,
}

impl Sequencer {
    pub(crate) fn new(limits: RingLimits) -> Self {
        Self {
            limits,
            opened: false,
            cursor: 0,
            head: 0,
            ring: VecDeque::new(),
            ring_bytes: 0,
            waiting: BTreeMap::new(),
            hole_since_ns: None,
            fetching: false,
            fetching_tail: false,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.opened
    }

    pub(crate) fn cursor(&self) -> Sequence {
        Sequence(self.cursor)
    }

    pub(crate) fn head(&self) -> Sequence {
        Sequence(self.head.max(self.cursor))
    }

    /// The store said where the channel stood when it was opened: that is where passing on begins.
    pub(crate) fn opens_at(&mut self, head: Sequence, now_ns: u64, out: &mut Vec<Arc<Publication>>) {
        self.head = self.head.max(head.0);
        self.opened = true;
        self.cursor = head.0;
        self.waiting.retain(|sequence, _| *sequence > head.0);
        self.drain(now_ns, out);
    }

    /// The store said where an open channel stands.
    pub(crate) fn stands_at(&mut self, head: Sequence, now_ns: u64) {
        self.head = self.head.max(head.0);
        if self.head > self.cursor {
            self.hole_since_ns.get_or_insert(now_ns);
        }
    }

    /// A publication was committed, here or elsewhere. With nobody `listened` to, a hole concerns nobody.
    pub(crate) fn hear(
        &mut self,
        publication: &Arc<Publication>,
        listened: bool,
        now_ns: u64,
        out: &mut Vec<Arc<Publication>>,
    ) -> Heard {
        let sequence = publication.sequence.0;
        self.head = self.head.max(sequence);
        if self.opened && sequence <= self.cursor {
            return Heard::Before;
        }
        if self.opened && !listened && sequence > self.cursor + 1 {
            self.jump(sequence - 1);
        }
        if self.opened && sequence == self.cursor + 1 {
            self.advance(publication.clone(), out);
            self.drain(now_ns, out);
            return Heard::Next;
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.insert(sequence, publication.clone());
        } else if let Some(last) = self.waiting.last_entry()
            && *last.key() > sequence
        {
            last.remove();
            self.waiting.insert(sequence, publication.clone());
        }
        self.hole_since_ns.get_or_insert(now_ns);
        Heard::Later
    }

    /// From where to read what is missing, if it is time; then one read is on its way.
    pub(crate) fn fetch(&mut self, now_ns: u64) -> Option<Sequence> {
        let since = self.hole_since_ns?;
        if self.fetching || !self.opened || now_ns.saturating_sub(since) < GRACE_NS {
            return None;
        }
        self.fetching = true;
        self.fetching_tail = self.waiting.is_empty();
        Some(Sequence(self.cursor))
    }

    /// Whether something is missing.
    pub(crate) fn has_hole(&self) -> bool {
        self.hole_since_ns.is_some()
    }

    /// What was missing was read, or could not be. Returns whether only the head check had found it.
    pub(crate) fn fetched(
        &mut self,
        page: Option<&Page>,
        now_ns: u64,
        out: &mut Vec<Arc<Publication>>,
    ) -> bool {
        self.fetching = false;
        let Some(page) = page else {
            self.hole_since_ns = Some(now_ns);
            return self.fetching_tail;
        };
        if page.floor.0 > self.cursor {
            // I3: gone from the store; whoever listens reads, and is told the range.
            self.jump(page.floor.0);
        }
        let mut corrupt = page.corrupt.iter().map(|sequence| sequence.0).peekable();
        for publication in &page.publications {
            while let Some(gone) = corrupt.next_if(|gone| *gone < publication.sequence.0) {
                self.pass_over(gone);
            }
            if publication.sequence.0 == self.cursor + 1 {
                self.advance(publication.clone(), out);
            }
        }
        corrupt.for_each(|gone| self.pass_over(gone));
        // The store is the authority: a head that only was heard of, and is not there, was none.
        self.head = page.head.0.max(self.waiting.last_key_value().map_or(0, |(sequence, _)| *sequence));
        // The page was read without grace: what it did not hold may be read at once.
        self.hole_since_ns = None;
        self.drain(now_ns.saturating_sub(GRACE_NS), out);
        self.fetching_tail
    }

    /// What the ring holds behind a sequence; `None` if that begins before it.
    pub(crate) fn recent(&self, query: &Query) -> Option<Page> {
        let start = self.cursor - self.ring.len() as u64;
        if !self.opened || query.after.0 < start || query.after.0 > self.cursor {
            return None;
        }
        let skip = usize::try_from(query.after.0 - start).ok()?;
        let mut page = Page { head: self.head(), through: self.cursor(), ..Page::default() };
        let mut bytes = 0;
        for publication in self.ring.iter().skip(skip) {
            if page.publications.len() == query.limit.publications || bytes > query.limit.bytes {
                page.through = page.publications.last().map_or(query.after, |last| last.sequence);
                break;
            }
            bytes += publication.bytes();
            page.publications.push(publication.clone());
        }
        Some(page)
    }

    /// Forgets the ring of a channel nobody listens to.
    pub(crate) fn forget(&mut self) {
        self.ring = VecDeque::new();
        self.ring_bytes = 0;
    }

    fn pass_over(&mut self, sequence: u64) {
        if sequence == self.cursor + 1 {
            self.jump(sequence);
        }
    }

    fn jump(&mut self, to: u64) {
        assert!(to >= self.cursor, "I3: the cursor never goes back");
        self.cursor = to;
        self.ring.clear();
        self.ring_bytes = 0;
        self.waiting.retain(|sequence, _| *sequence > to);
    }

    fn advance(&mut self, publication: Arc<Publication>, out: &mut Vec<Arc<Publication>>) {
        assert_eq!(publication.sequence.0, self.cursor + 1, "I3: the cursor moves by one");
        self.cursor += 1;
        self.ring_bytes += publication.bytes();
        self.ring.push_back(publication.clone());
        while self.ring.len() > self.limits.publications || self.ring_bytes > self.limits.bytes {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes = self.ring_bytes.saturating_sub(oldest.bytes());
        }
        out.push(publication);
    }

    /// Passes on what waited and is next; what still waits, waits for a hole that began now at the earliest.
    fn drain(&mut self, now_ns: u64, out: &mut Vec<Arc<Publication>>) {
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() > self.cursor + 1 {
                break;
            }
            let publication = entry.remove();
            if publication.sequence.0 == self.cursor + 1 {
                self.advance(publication, out);
            }
        }
        let complete = self.waiting.is_empty() && self.head <= self.cursor;
        self.hole_since_ns = if complete { None } else { Some(self.hole_since_ns.unwrap_or(now_ns)) };
    }
}
