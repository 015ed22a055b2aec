//! Roll-ups kept in the PostgreSQL database of the events, where several nodes may write them.
//!
//! Keeping is one call of one function, however many chunks there are; the tables and functions are in
//! `store/postgres/series.sql`. What was kept survives the end of the server at once; a standby has it a little later.

use std::collections::HashMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::rows::{ChunkRow, Rows, Wanted};
use super::{Chunk, ChunkQuery, Chunks, SeriesStore, Tier};
use crate::store::StoreError;
use crate::store::filling::ChunksFilling;
use crate::store::postgres::failure::{commit_failed, failed};
use crate::store::postgres::link::Link;
use crate::store::postgres::pool::Pool;

/// Chunks of one answer; more are asked for again.
const ANSWER_MAX: i64 = 2_000;

const KEEP: &str = "SELECT keep_chunks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
const TRIM: &str = "SELECT trim_chunks($1, $2, $3)";
const SERIES: &str = "
    SELECT s.id, s.channel, s.name, s.kind, s.tags, coalesce((SELECT t.span_ms FROM metric_tiers t WHERE t.tier = $2), 0)
    FROM metric_channels c JOIN metric_series s ON s.channel = c.id WHERE c.name = $1";

/// Chunks behind a place, in order. Those behind as many bytes as are wanted come without their windows: they are not
/// asked for, and may be large.
macro_rules! chunks {
    ($of:literal) => {
        concat!(
            "SELECT p.series, p.writer, p.start_ms, p.end_ms, p.crc,
                CASE WHEN p.before <= $9::bigint THEN p.windows END
            FROM (
                SELECT l.*, coalesce(sum(octet_length(l.windows)::bigint) OVER (
                    ORDER BY l.start_ms, l.series, l.writer ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
                    AS before
                FROM (
                    SELECT c.* FROM metric_chunks c
                    WHERE c.tier = $2 AND c.start_ms >= $3 AND c.start_ms < $4 AND c.end_ms > $5
                      AND (c.start_ms, c.series, c.writer) > ($6, $7, $8) AND ",
            $of,
            "
                    ORDER BY c.start_ms, c.series, c.writer LIMIT $10) l
            ) p ORDER BY p.start_ms, p.series, p.writer"
        )
    };
}

/// Of a few series, each of which is looked up; the channel is not asked for.
const LOOKED_UP: &str = chunks!("$1::bigint IS NOT NULL AND c.series = ANY ($11::bigint[])");
/// Of many: the channel is walked through in its order, which a join would not keep; hence the test for truth.
const WALKED: &str = chunks!("c.channel = $1 AND (c.series IN (SELECT unnest($11::bigint[]))) IS TRUE");

/// How the database is used.
#[derive(Clone)]
pub struct PostgresSeriesOptions {
    /// The address, as in [`PostgresOptions`](crate::store::PostgresOptions).
    pub url: String,
    /// Connections that read, at most so many kept open; default 4.
    pub readers: usize,
    /// As for the events of the same database: whoever connects may be the first to see that another server took over.
    pub synchronous_replication: bool,
    /// How many series it may have, in all channels. Default [`SERIES_MAX`](super::SERIES_MAX).
    pub series_max: usize,
}

/// A store in a database.
pub struct PostgresSeriesStore {
    pool: Pool,
    series_max: i64,
}

impl PostgresSeriesStore {
    /// A store that connects when it is first used.
    ///
    /// # Errors
    ///
    /// If the address is none, or names a file that cannot be read.
    pub fn new(options: &PostgresSeriesOptions) -> Result<Self, StoreError> {
        let pool = Pool::new(&options.url, options.synchronous_replication, options.readers)?;
        Ok(Self { pool, series_max: i64::try_from(options.series_max).unwrap_or(i64::MAX) })
    }
}

impl SeriesStore for PostgresSeriesStore {
    fn keep(&self, chunks: &[Chunk]) -> Result<usize, StoreError> {
        if chunks.is_empty() {
            return Ok(0);
        }
        let rows = Rows::of(chunks);
        let columns = Columns::of(&rows);
        let row = self.pool.writing(|link| link.keep(KEEP, &columns.parameters(&self.series_max)))?;
        // The places of series, from 1, for which there was no room.
        let left_out: Vec<i32> = row.try_get(0).map_err(commit_failed)?;
        let mut is_left_out = vec![false; rows.series.len()];
        for place in left_out {
            let place = usize::try_from(place).unwrap_or(0).wrapping_sub(1);
            if let Some(place) = is_left_out.get_mut(place) {
                *place = true;
            }
        }
        Ok(rows.chunks.iter().filter(|(place, ..)| is_left_out[*place]).count())
    }

    fn read(&self, query: &ChunkQuery<'_>) -> Result<Chunks, StoreError> {
        self.pool.reading(|link| read(link, query))
    }

    fn trim(&self, tier: Tier, before_ms: i64, chunks_max: usize) -> Result<usize, StoreError> {
        let most = i64::try_from(chunks_max).unwrap_or(i64::MAX);
        let removed =
            self.pool.writing(|link| link.rows(TRIM, &[&i16::from(tier as u8), &before_ms, &most]))?;
        let removed: i64 = removed.first().map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?;
        Ok(usize::try_from(removed).unwrap_or(0))
    }
}

fn read(link: &mut Link, query: &ChunkQuery<'_>) -> Result<Chunks, StoreError> {
    let tier = i16::from(query.tier as u8);
    let mut filling = ChunksFilling::new(query.bytes_max);
    let mut wanted = Wanted::default();
    let (mut channel, mut span_ms) = (0_i64, 0_i64);
    for row in link.rows(SERIES, &[&query.channel.as_str(), &tier])? {
        (channel, span_ms) = (row.try_get(1).map_err(failed)?, row.try_get(5).map_err(failed)?);
        let text = |column| row.try_get::<_, &str>(column).ok();
        wanted.take(query, row.try_get(0).map_err(failed)?, [text(2), text(3), text(4)]);
    }
    if wanted.is_empty() {
        return Ok(filling.finish());
    }
    let sql = if wanted.are_few() { LOOKED_UP } else { WALKED };
    let (ids, begun_ms) = (wanted.ids(), query.from_ms.saturating_sub(span_ms));
    let mut behind = (i64::MIN, i64::MIN, i64::MIN);
    loop {
        let room = i64::try_from(filling.room()).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 11] = [
            &channel,
            &tier,
            &begun_ms,
            &query.to_ms,
            &query.from_ms,
            &behind.0,
            &behind.1,
            &behind.2,
            &room,
            &ANSWER_MAX,
            &ids,
        ];
        let found = link.rows(sql, &parameters)?;
        let mut is_last = (found.len() as i64) < ANSWER_MAX;
        for row in &found {
            let Some(read) = chunk_row(row).map_err(failed)? else {
                // Some of those before were damaged, so there is more room than the database thought.
                is_last = false;
                break;
            };
            if !filling.take(wanted.chunk(query, &read)) {
                return Ok(filling.finish());
            }
            behind = (read.start_ms, read.series, read.writer);
        }
        if is_last {
            return Ok(filling.finish());
        }
    }
}

/// A row with its windows, if they came.
fn chunk_row(row: &Row) -> Result<Option<ChunkRow<'_>>, Error> {
    let Some(windows) = row.try_get(5)? else { return Ok(None) };
    Ok(Some(ChunkRow {
        series: row.try_get(0)?,
        writer: row.try_get(1)?,
        start_ms: row.try_get(2)?,
        end_ms: row.try_get(3)?,
        crc: row.try_get(4)?,
        windows,
    }))
}

/// Chunks as the function takes them: one array for each part of the series, and one for each of the chunks.
#[derive(Default)]
struct Columns<'c> {
    channels: Vec<&'c str>,
    digests: Vec<&'c [u8]>,
    names: Vec<&'c str>,
    kinds: Vec<&'c str>,
    tags: Vec<&'c str>,
    series: Vec<i32>,
    tier: Vec<i16>,
    start_ms: Vec<i64>,
    writer: Vec<i64>,
    end_ms: Vec<i64>,
    crc: Vec<i64>,
    windows: Vec<&'c [u8]>,
}

impl<'c> Columns<'c> {
    fn of(rows: &'c Rows<'c>) -> Self {
        let mut columns = Self::default();
        for series in &rows.series {
            columns.channels.push(series.channel.as_str());
            columns.digests.push(&series.digest);
            columns.names.push(series.name);
            columns.kinds.push(series.kind);
            columns.tags.push(&series.tags);
        }
        // One statement cannot write a row twice: of those with one key the last is written.
        let key = |place: usize, chunk: &Chunk| (place, chunk.tier, chunk.start_ms, chunk.writer);
        let numbered = rows.chunks.iter().enumerate();
        let last: HashMap<_, _> = numbered.map(|(at, (place, chunk, _))| (key(*place, chunk), at)).collect();
        for (at, (place, chunk, crc)) in rows.chunks.iter().enumerate() {
            if last[&key(*place, chunk)] != at {
                continue;
            }
            columns.series.push(i32::try_from(place + 1).unwrap_or(i32::MAX));
            columns.tier.push(i16::from(chunk.tier as u8));
            columns.start_ms.push(chunk.start_ms);
            columns.writer.push(chunk.writer.cast_signed());
            columns.end_ms.push(chunk.end_ms);
            columns.crc.push(i64::from(*crc));
            columns.windows.push(&chunk.windows);
        }
        columns
    }

    fn parameters<'p>(&'p self, series_max: &'p i64) -> [&'p (dyn ToSql + Sync); 13] {
        [
            &self.channels,
            &self.digests,
            &self.names,
            &self.kinds,
            &self.tags,
            series_max,
            &self.series,
            &self.tier,
            &self.start_ms,
            &self.writer,
            &self.end_ms,
            &self.crc,
            &self.windows,
        ]
    }
}
