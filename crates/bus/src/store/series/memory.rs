//! Roll-ups kept in memory: for a server whose past may end with the process, and for tests.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_protocol::{ChannelName, MetricKind, Series, Tags};

use super::{Chunk, ChunkQuery, Chunks, SERIES_MAX, SeriesStore, Tier};
use crate::store::StoreError;
use crate::store::filling::ChunksFilling;

/// A store in memory.
#[derive(Debug)]
pub struct MemorySeriesStore {
    series_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    channels: BTreeMap<ChannelName, Channel>,
    series: usize,
    /// The number of the next series: none is given twice.
    next: u64,
}

#[derive(Debug, Default)]
struct Channel {
    ids: HashMap<Named, u64>,
    series: HashMap<u64, KeptSeries>,
    tiers: [KeptTier; Tier::ALL.len()],
}

/// What tells the series of a channel apart.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Named {
    name: Box<str>,
    kind: MetricKind,
    tags: Tags,
}

impl Named {
    fn of(series: &Series) -> Self {
        Self { name: (*series.name).into(), kind: series.kind, tags: series.tags.clone() }
    }
}

#[derive(Debug)]
struct KeptSeries {
    series: Arc<Series>,
    chunks: usize,
}

/// The start of a chunk, its series and its writer.
type Place = (i64, u64, u64);

#[derive(Debug)]
struct KeptChunk {
    end_ms: i64,
    windows: Box<[u8]>,
}

#[derive(Debug, Default)]
struct KeptTier {
    chunks: BTreeMap<Place, KeptChunk>,
    /// The longest that one ever was: how long before a moment a chunk that reaches it can have begun.
    span_ms: i64,
}

impl MemorySeriesStore {
    /// A store without chunks, for at most so many series in all its channels.
    #[must_use]
    pub fn new(series_max: usize) -> Self {
        Self { series_max, kept: Mutex::default() }
    }
}

impl Default for MemorySeriesStore {
    fn default() -> Self {
        Self::new(SERIES_MAX)
    }
}

impl Kept {
    /// Returns whether there was room for it.
    fn keep(&mut self, chunk: &Chunk, series_max: usize) -> bool {
        let named = Named::of(&chunk.series);
        let known = self.channels.get(&chunk.channel).and_then(|channel| channel.ids.get(&named)).copied();
        if known.is_none() && self.series >= series_max {
            return false;
        }
        let channel = self.channels.entry(chunk.channel.clone()).or_default();
        let id = known.unwrap_or_else(|| {
            self.series += 1;
            self.next += 1;
            channel.ids.insert(named, self.next);
            channel.series.insert(self.next, KeptSeries { series: chunk.series.clone(), chunks: 0 });
            self.next
        });
        let tier = &mut channel.tiers[chunk.tier as usize];
        tier.span_ms = tier.span_ms.max(chunk.end_ms.saturating_sub(chunk.start_ms));
        let place = (chunk.start_ms, id, chunk.writer);
        let before =
            tier.chunks.insert(place, KeptChunk { end_ms: chunk.end_ms, windows: chunk.windows.clone() });
        if before.is_none()
            && let Some(kept) = channel.series.get_mut(&id)
        {
            kept.chunks += 1;
        }
        true
    }
}

impl Channel {
    /// Returns how many chunks and how many series were removed.
    fn trim(&mut self, tier: Tier, before_ms: i64, chunks_max: usize) -> (usize, usize) {
        let tier = &mut self.tiers[tier as usize];
        let begun = tier.chunks.range(..(before_ms, 0, 0));
        let ended = begun.filter(|(_, kept)| kept.end_ms <= before_ms).map(|(place, _)| *place);
        let gone: Vec<_> = ended.take(chunks_max).collect();
        let series_before = self.series.len();
        for place in &gone {
            tier.chunks.remove(place);
            let Some(kept) = self.series.get_mut(&place.1) else { continue };
            kept.chunks -= 1;
            if kept.chunks == 0 {
                self.ids.remove(&Named::of(&kept.series));
                self.series.remove(&place.1);
            }
        }
        (gone.len(), series_before - self.series.len())
    }
}

impl SeriesStore for MemorySeriesStore {
    fn keep(&self, chunks: &[Chunk]) -> Result<usize, StoreError> {
        let mut kept = self.kept.lock();
        Ok(chunks.iter().filter(|chunk| !kept.keep(chunk, self.series_max)).count())
    }

    fn read(&self, query: &ChunkQuery<'_>) -> Result<Chunks, StoreError> {
        let mut filling = ChunksFilling::new(query.bytes_max);
        let kept = self.kept.lock();
        let Some(channel) = kept.channels.get(query.channel) else { return Ok(filling.finish()) };
        let passes = |kept: &&KeptSeries| query.filter.passes(&kept.series.name, &kept.series.tags);
        let wanted: HashMap<u64, &Arc<Series>> = channel
            .series
            .iter()
            .filter(|(_, kept)| passes(kept))
            .map(|(id, kept)| (*id, &kept.series))
            .collect();
        let tier = &channel.tiers[query.tier as usize];
        let from = (query.from_ms.saturating_sub(tier.span_ms), 0, 0);
        let to = (query.to_ms, 0, 0);
        if from >= to {
            return Ok(filling.finish());
        }
        for ((start_ms, id, writer), KeptChunk { end_ms, windows }) in tier.chunks.range(from..to) {
            let Some(series) = wanted.get(id).filter(|_| *end_ms > query.from_ms) else { continue };
            let chunk = Chunk {
                channel: query.channel.clone(),
                series: (*series).clone(),
                tier: query.tier,
                writer: *writer,
                start_ms: *start_ms,
                end_ms: *end_ms,
                windows: windows.clone(),
            };
            if !filling.take(Some(chunk)) {
                break;
            }
        }
        Ok(filling.finish())
    }

    fn trim(&self, tier: Tier, before_ms: i64, chunks_max: usize) -> Result<usize, StoreError> {
        let mut kept = self.kept.lock();
        let mut removed = 0;
        let mut series = 0;
        for channel in kept.channels.values_mut() {
            let (chunks, gone) = channel.trim(tier, before_ms, chunks_max - removed);
            removed += chunks;
            series += gone;
            if removed == chunks_max {
                break;
            }
        }
        kept.series -= series;
        kept.channels.retain(|_, channel| !channel.series.is_empty());
        Ok(removed)
    }
}
