//! Where the roll-ups of metric channels are kept.
//!
//! A chunk is a run of windows of one series in one tier, written by one process. The bus writes a chunk again
//! as it grows, under the same start, and begins new ones after a restart; so nothing that was kept is written
//! over by somebody who does not know it, and several nodes may write windows of the same series: whoever reads
//! merges them.

mod memory;
mod postgres;
mod rows;
mod sqlite;

use std::sync::Arc;

use pulsewire_protocol::{ChannelName, Filter, Series};

use super::StoreError;
pub use memory::MemorySeriesStore;
pub use postgres::{PostgresSeriesOptions, PostgresSeriesStore};
pub use sqlite::{SqliteSeriesOptions, SqliteSeriesStore};

/// How many series a store has, in all its channels, unless it is told otherwise.
pub const SERIES_MAX: usize = 100_000;

/// How finely a tier keeps a channel's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Windows of a second.
    S1,
    /// Windows of ten seconds.
    S10,
    /// Windows of a minute.
    M1,
    /// Windows of an hour.
    H1,
}

impl Tier {
    /// Every tier, finest first.
    pub const ALL: [Self; 4] = [Self::S1, Self::S10, Self::M1, Self::H1];

    /// How long its windows are, milliseconds.
    #[must_use]
    pub fn window_ms(self) -> i64 {
        match self {
            Self::S1 => 1_000,
            Self::S10 => 10_000,
            Self::M1 => 60_000,
            Self::H1 => 3_600_000,
        }
    }

    /// Its name on the wire and in metric labels: `1s`, `10s`, `1m`, `1h`. Stores keep this number: `tier as u8`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::S1 => "1s",
            Self::S10 => "10s",
            Self::M1 => "1m",
            Self::H1 => "1h",
        }
    }
}

/// Windows of one series, as one process wrote them.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Of which channel.
    pub channel: ChannelName,
    /// Of which series; its `id` means nothing here.
    pub series: Arc<Series>,
    /// In which tier.
    pub tier: Tier,
    /// Which process wrote it: random, and new at every start.
    pub writer: u64,
    /// When its first window began, Unix milliseconds.
    pub start_ms: i64,
    /// When its last window ended, Unix milliseconds; behind `start_ms`.
    pub end_ms: i64,
    /// The windows, as the bus encodes them. A store does not look into them.
    pub windows: Box<[u8]>,
}

/// Which chunks are wanted.
#[derive(Debug, Clone)]
pub struct ChunkQuery<'a> {
    /// Of this channel.
    pub channel: &'a ChannelName,
    /// In this tier.
    pub tier: Tier,
    /// That end after this moment, Unix milliseconds …
    pub from_ms: i64,
    /// … and begin before this one.
    pub to_ms: i64,
    /// Of series that pass.
    pub filter: &'a Filter,
    /// Stop with the chunk that makes the windows together larger than this, in bytes.
    pub bytes_max: usize,
}

/// Chunks that were kept.
#[derive(Debug, Clone, Default)]
pub struct Chunks {
    /// By their start, earliest first; those that start together in any order.
    pub chunks: Vec<Chunk>,
    /// Whether there are more behind the last.
    pub more: bool,
    /// How many are kept and cannot be read.
    pub corrupt: usize,
}

/// Keeps chunks. Every method may block.
pub trait SeriesStore: Send + Sync {
    /// Keeps chunks, all of them or none; one with the channel, series, tier, start and writer of a kept one takes
    /// its place. Returns how many were left out because the store has as many series as it may have.
    ///
    /// # Errors
    ///
    /// If that is not known to have happened; the same chunks may be kept again.
    fn keep(&self, chunks: &[Chunk]) -> Result<usize, StoreError>;

    /// Reads chunks.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn read(&self, query: &ChunkQuery<'_>) -> Result<Chunks, StoreError>;

    /// Removes at most `chunks_max` chunks of a tier that end at or before a moment, and series that have no chunk
    /// left. Returns how many chunks were removed.
    ///
    /// # Errors
    ///
    /// If nothing was removed.
    fn trim(&self, tier: Tier, before_ms: i64, chunks_max: usize) -> Result<usize, StoreError>;
}
