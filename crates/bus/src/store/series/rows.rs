//! How the databases write series and chunks, and check them when they are read again.

use std::collections::HashMap;
use std::sync::Arc;

use pulsewire_protocol::{ChannelName, MetricKind, Series};
use sha2::{Digest as _, Sha256};

use super::{Chunk, ChunkQuery, Tier};
use crate::store::row::{tags_of, tags_text};

/// If at most one series in so many of a channel passes, each is looked up; else the channel is walked through. The
/// first reads no chunk in vain, the second no more than what is answered.
const LOOKED_UP_SHARE: usize = 8;

/// What names a series: of channel, name, kind and tags, which together may be longer than a database's index takes.
pub(super) type SeriesDigest = [u8; 16];

/// A series as it is written.
pub(super) struct SeriesRow<'c> {
    pub(super) channel: &'c ChannelName,
    pub(super) name: &'c str,
    pub(super) kind: &'static str,
    pub(super) tags: String,
    pub(super) digest: SeriesDigest,
}

/// Chunks as they are written: each series once.
#[derive(Default)]
pub(super) struct Rows<'c> {
    pub(super) series: Vec<SeriesRow<'c>>,
    /// The place of its series, the chunk, its checksum.
    pub(super) chunks: Vec<(usize, &'c Chunk, u32)>,
}

impl<'c> Rows<'c> {
    pub(super) fn of(chunks: &'c [Chunk]) -> Self {
        let mut rows = Self { series: Vec::new(), chunks: Vec::with_capacity(chunks.len()) };
        let mut places = HashMap::new();
        for chunk in chunks {
            let Chunk { channel, series, .. } = chunk;
            let place =
                *places.entry((channel, &series.name, series.kind, &series.tags)).or_insert_with(|| {
                    let tags = tags_text(&series.tags).unwrap_or_else(|| "[]".to_owned());
                    let (name, kind) = (&*series.name, series.kind.name());
                    let digest = digest(channel, name, kind, &tags);
                    rows.series.push(SeriesRow { channel, name, kind, tags, digest });
                    rows.series.len() - 1
                });
            let Chunk { tier, writer, start_ms, end_ms, windows, .. } = chunk;
            let crc = checksum(
                &rows.series[place].digest,
                *tier,
                writer.cast_signed(),
                *start_ms,
                *end_ms,
                windows,
            );
            rows.chunks.push((place, chunk, crc));
        }
        rows
    }
}

/// A series that was read, with what its chunks are checked by.
pub(super) struct KnownSeries {
    series: Arc<Series>,
    digest: SeriesDigest,
}

/// The series of a channel whose chunks are wanted, by their numbers in the database.
#[derive(Default)]
pub(super) struct Wanted {
    /// Of one that cannot be read nobody knows whether it is wanted: `None`, so that its chunks are counted.
    by_id: HashMap<i64, Option<KnownSeries>>,
    seen: usize,
}

impl Wanted {
    /// Takes a series of the channel; the texts are `None` where they are none.
    pub(super) fn take(&mut self, query: &ChunkQuery<'_>, id: i64, [name, kind, tags]: [Option<&str>; 3]) {
        self.seen += 1;
        let known = name.zip(kind).zip(tags).and_then(|((name, kind), text)| {
            let all = [MetricKind::Gauge, MetricKind::Counter, MetricKind::Histogram];
            Some((name, all.into_iter().find(|one| one.name() == kind)?, tags_of(text)?, text))
        });
        let known = match known {
            None => None,
            Some((name, _, tags, _)) if !query.filter.passes(name, &tags) => return,
            Some((name, kind, tags, text)) => {
                let digest = digest(query.channel, name, kind.name(), text);
                let series = Arc::new(Series { id: 0, name: name.to_owned().into(), kind, tags });
                Some(KnownSeries { series, digest })
            }
        };
        self.by_id.insert(id, known);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether each is to be looked up.
    pub(super) fn are_few(&self) -> bool {
        self.by_id.len() * LOOKED_UP_SHARE <= self.seen
    }

    pub(super) fn ids(&self) -> Vec<i64> {
        self.by_id.keys().copied().collect()
    }

    pub(super) fn has(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The chunk of a row; `None` if it is not what was written.
    pub(super) fn chunk(&self, query: &ChunkQuery<'_>, row: &ChunkRow<'_>) -> Option<Chunk> {
        let KnownSeries { series, digest } = self.by_id.get(&row.series)?.as_ref()?;
        let ChunkRow { writer, start_ms, end_ms, crc, windows, .. } = *row;
        if i64::from(checksum(digest, query.tier, writer, start_ms, end_ms, windows)) != crc {
            return None;
        }
        Some(Chunk {
            channel: query.channel.clone(),
            series: series.clone(),
            tier: query.tier,
            writer: writer.cast_unsigned(),
            start_ms,
            end_ms,
            windows: windows.into(),
        })
    }
}

/// A chunk as a database has it; the writer's number is kept as the signed one with the same bits.
pub(super) struct ChunkRow<'r> {
    pub(super) series: i64,
    pub(super) writer: i64,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) crc: i64,
    pub(super) windows: &'r [u8],
}

/// No name has a NUL, and JSON writes it in letters.
fn digest(channel: &ChannelName, name: &str, kind: &str, tags: &str) -> SeriesDigest {
    let mut hasher = Sha256::new();
    for text in [channel.as_str(), name, kind, tags] {
        hasher.update(text.as_bytes());
        hasher.update([0]);
    }
    let whole: [u8; 32] = hasher.finalize().into();
    let mut digest = SeriesDigest::default();
    digest.copy_from_slice(&whole[..16]);
    digest
}

/// Over everything of a chunk, so that a row that belongs elsewhere is noticed, too.
fn checksum(
    digest: &SeriesDigest,
    tier: Tier,
    writer: i64,
    start_ms: i64,
    end_ms: i64,
    windows: &[u8],
) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(digest);
    hasher.update(&[tier as u8]);
    for number in [writer, start_ms, end_ms] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(windows);
    hasher.finalize()
}
