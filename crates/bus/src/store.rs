//! What keeps events: the one authority for sequences, duplicates and history.
//!
//! A store performs and decides nothing but places in a channel's order: it gives sequences while it holds
//! the channel, inside the transaction that keeps the events, so commit order is sequence order (I2). Every
//! method may block; the bus calls them from threads of its own. Two batches with the same keys are one: that
//! is how an outcome nobody heard of is resolved.

mod filling;
mod memory;
mod postgres;
mod row;
mod series;
mod sqlite;

use std::sync::Arc;

use pulsewire_protocol::{ChannelName, Epoch, Event, Position, Sequence};

pub use memory::MemoryStore;
pub use postgres::{
    Ages, Hearing, NOTICE_BYTES_MAX, Notice, NoticesLink, PostgresNotices, PostgresOptions, PostgresStore,
};
pub use series::{
    Chunk, ChunkQuery, Chunks, MemorySeriesStore, PostgresSeriesOptions, PostgresSeriesStore, SERIES_MAX,
    SeriesStore, SqliteSeriesOptions, SqliteSeriesStore, Tier,
};
pub use sqlite::{SchemaSteps, SqliteOptions, SqliteStore};

/// An event as a channel accepts it, but for its place.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// What was said.
    pub event: Event,
    /// Who said it; `None` for the server and for applications.
    pub user: Option<Box<str>>,
    /// Unix milliseconds: the publisher's own time if given, else the time of acceptance.
    pub timestamp_ms: i64,
}

impl Accepted {
    /// Whether a late joiner must see it.
    #[must_use]
    pub fn is_critical(&self) -> bool {
        self.event.critical == Some(true)
    }

    /// The bytes its parts take in memory, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let Event { data, key, id, tags, .. } = &self.event;
        let tags: usize = tags.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        size_of::<Self>()
            + data.get().len()
            + key.as_ref().map_or(0, |key| key.len())
            + id.as_ref().map_or(0, |id| id.as_str().len())
            + tags
    }
}

/// How well an acknowledged event is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    /// In the memory of the node: gone when it stops.
    Memory,
    /// Survives the end of the process, but perhaps not of the machine.
    Relaxed,
    /// On disk before it is acknowledged.
    #[default]
    Strict,
}

/// Identifies an event within its channel for as long as it is kept: the same key is the same event.
pub type DedupKey = [u8; 16];

/// An event to be kept.
#[derive(Debug, Clone)]
pub struct Append {
    /// What and where.
    pub accepted: Arc<Accepted>,
    /// Made of the publisher and its message id, or unique.
    pub dedup: DedupKey,
    /// A digest of the payload: the same key with another digest is a conflict.
    pub payload: u64,
    /// Whether it replaces the value of its key in the channel's state.
    pub keyed: bool,
}

impl Append {
    /// Where it goes.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        &self.accepted.event.channel
    }
}

/// Requests that are committed together. Each is kept whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The events of each request, in order.
    pub requests: Vec<Arc<[Append]>>,
    /// Whether it must be on disk before the answer.
    pub strict: bool,
    /// When it is committed, Unix milliseconds: how long message ids are remembered counts from here, unless the store
    /// has a clock of its own.
    pub at_ms: i64,
}

/// Where an event stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its position.
    pub position: Position,
    /// Whether it stood there before, under the same key.
    pub duplicate: bool,
}

/// What became of a request: the places of its events, or why nothing of it was kept.
pub type Decision = Result<Vec<Place>, Declined>;

/// Why a request was not kept, and because of which of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declined {
    /// The same key is known with another payload.
    Conflict(usize),
    /// The store has as many channels as it may have.
    Full(usize),
}

/// Where a channel begins and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The history that the sequences count in.
    pub epoch: Epoch,
    /// The newest sequence; 0 if there is none.
    pub head: Sequence,
    /// The highest sequence up to which ordinary events are gone.
    pub floor: Sequence,
    /// The highest sequence up to which critical events are gone, too.
    pub critical_floor: Sequence,
}

/// Which events of a channel are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Only {
    /// Every event above the floor.
    All,
    /// Critical events, also below the floor.
    Critical,
}

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Query {
    /// What follows this sequence.
    pub after: Sequence,
    /// Which events.
    pub only: Only,
    /// At most so many.
    pub limit: ReadLimit,
}

/// How much one read may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReadLimit {
    /// At most so many events.
    pub publications: usize,
    /// Stop after the event that makes the page larger than this, in bytes of memory.
    pub bytes: usize,
}

/// Events as they were kept.
#[derive(Debug, Clone)]
pub struct StoredPage {
    /// Oldest first.
    pub events: Vec<(Sequence, Arc<Accepted>)>,
    /// Sequences that are kept and cannot be read.
    pub corrupt: Vec<Sequence>,
    /// Up to where the page tells everything there is of what was asked.
    pub through: Sequence,
    /// Where the channel stood.
    pub extent: Extent,
}

/// The value of a key.
#[derive(Debug, Clone)]
pub struct Keyed {
    /// Of the event that set it.
    pub sequence: Sequence,
    /// That event.
    pub accepted: Arc<Accepted>,
}

/// A part of a channel's keyed state, in the order of the keys.
#[derive(Debug, Clone)]
pub struct StateSlice {
    /// The values.
    pub values: Vec<Keyed>,
    /// Sequences of values that are kept and cannot be read.
    pub corrupt: Vec<Sequence>,
    /// The key behind which there are more; `None` if these were the last.
    pub behind: Option<Box<str>>,
    /// Where the channel stood.
    pub extent: Extent,
}

/// What a channel may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Events that are not critical.
    pub history_max: usize,
    /// Critical events.
    pub critical_max: usize,
    /// Critical events older than this are not kept; 0 keeps them.
    pub critical_ttl_ms: i64,
    /// Keys of the state; the ones that were set longest ago go first.
    pub state_max: usize,
    /// Message ids of events that are gone are remembered for so long …
    pub ids_ms: i64,
    /// … unless there are more than so many; ids of events that are kept are always remembered.
    pub ids_max: usize,
}

/// What a store failed at, for the label of its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Somebody else holds it.
    Busy,
    /// No room.
    Full,
    /// The medium failed.
    Io,
    /// What is kept is damaged.
    Corrupt,
    /// It may not be written.
    ReadOnly,
    /// It cannot be reached.
    Unreachable,
    /// Anything else.
    Other,
}

impl Failure {
    /// Its name in answers and metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        crate::lane::failure_label(self).as_str()
    }
}

/// Whether a commit that failed may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was kept.
    NotKept,
    /// Nobody knows: ask again with the same batch.
    Unknown,
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct StoreError {
    /// What kind of failure.
    pub failure: Failure,
    /// Whether a commit may have happened.
    pub outcome: Outcome,
    /// What the store said.
    pub detail: String,
}

impl StoreError {
    /// A failure that kept nothing.
    #[must_use]
    pub fn new(failure: Failure, detail: impl Into<String>) -> Self {
        Self { failure, outcome: Outcome::NotKept, detail: detail.into() }
    }
}

/// Keeps events. Every method may block.
pub trait Store: Send + Sync {
    /// A name for logs and for people.
    fn name(&self) -> &'static str;

    /// The epoch that its channels have, as far as it is known: a channel's own is in its [`Extent`].
    fn epoch(&self) -> Epoch;

    /// Whether other nodes write to it, so that heads move without this node.
    fn is_shared(&self) -> bool {
        false
    }

    /// Whether it answers at once, so that whoever publishes may commit itself.
    fn is_instant(&self) -> bool {
        false
    }

    /// Whether it could keep something now; what that takes is not seen by anybody.
    ///
    /// # Errors
    ///
    /// Why it could not.
    fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Where channels stand, in the order asked. One that was never written to begins with sequence 1.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn extents(&self, channels: &[ChannelName]) -> Result<Vec<Extent>, StoreError>;

    /// Keeps a batch and says where its events stand; what was kept before is found again and not kept twice.
    ///
    /// # Errors
    ///
    /// If nothing was kept, or if that is not known; see [`Outcome`].
    fn commit(&self, batch: &Batch) -> Result<Vec<Decision>, StoreError>;

    /// Reads a channel.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn read(&self, channel: &ChannelName, query: &Query) -> Result<StoredPage, StoreError>;

    /// Reads a channel's keyed state behind a key.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn state(
        &self,
        channel: &ChannelName,
        after: Option<&str>,
        limit: ReadLimit,
    ) -> Result<StateSlice, StoreError>;

    /// Removes what a channel may no longer keep, and moves its floors in the same step. A store with a clock of its
    /// own goes by that.
    ///
    /// # Errors
    ///
    /// If nothing was removed.
    fn trim(&self, channel: &ChannelName, retention: &Retention, now_ms: i64) -> Result<Extent, StoreError>;
}
