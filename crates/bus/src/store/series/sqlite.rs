//! Roll-ups kept in a SQLite file of their own, so that keeping them never holds up the commits of events.
//!
//! One connection writes, others read beside it (WAL). With `synchronous=NORMAL` what was kept survives the end of
//! the process; of the last seconds before a power failure it may be gone, and the file is whole. Chunks lie in the
//! order in which they came, which is the order of their starts, because that is how they are written, trimmed and
//! read of a whole channel; by its series a chunk is found through an index.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::rows::{ChunkRow, Rows, SeriesRow, Wanted};
use super::{Chunk, ChunkQuery, Chunks, SeriesStore, Tier};
use crate::store::filling::ChunksFilling;
use crate::store::sqlite::backup::copy;
use crate::store::sqlite::file::{File, Lock, Readers, commit_failed, failed};
use crate::store::sqlite::schema::migrate;
use crate::store::{Failure, Outcome, StoreError};

/// Pages that hold several chunks of a few kilobytes; and pages that became free can be given back.
const FORM: &str = "PRAGMA page_size = 16384; PRAGMA auto_vacuum = INCREMENTAL";
/// Free pages are used again. If they are more than one in so many, they are given back to the disk …
const FREE_SHARE: i64 = 4;
/// … so many at a time.
const GIVEN_BACK: i64 = 256;

/// `user_version` is the number of steps a file has taken. A step is never changed once it was released.
const STEPS: [&str; 1] = ["
    CREATE TABLE channels (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        channel INTEGER NOT NULL,
        digest BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL,
        kind TEXT NOT NULL,
        tags TEXT NOT NULL
    );
    CREATE INDEX series_by_channel ON series (channel);
    CREATE TABLE chunks (
        channel INTEGER NOT NULL,
        tier INTEGER NOT NULL,
        start_ms INTEGER NOT NULL,
        series INTEGER NOT NULL,
        writer INTEGER NOT NULL,
        end_ms INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        windows BLOB NOT NULL,
        UNIQUE (channel, tier, start_ms, series, writer)
    );
    CREATE INDEX chunks_by_series ON chunks (series, tier, start_ms);
    CREATE INDEX chunks_by_age ON chunks (tier, start_ms);
    CREATE TABLE tiers (tier INTEGER PRIMARY KEY, span_ms INTEGER NOT NULL);
"];

const KEEP: &str = "
    INSERT INTO chunks (channel, tier, start_ms, series, writer, end_ms, crc, windows)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (channel, tier, start_ms, series, writer) DO UPDATE
    SET end_ms = excluded.end_ms, crc = excluded.crc, windows = excluded.windows";
const TRIM: &str = "
    DELETE FROM chunks WHERE rowid IN (
        SELECT rowid FROM chunks INDEXED BY chunks_by_age
        WHERE tier = ?1 AND start_ms < ?2 AND end_ms <= ?2 ORDER BY start_ms LIMIT ?3)
    RETURNING series, channel";

/// How the file is used.
#[derive(Debug, Clone)]
pub struct SqliteSeriesOptions {
    /// The database file; its folder is made if it is missing.
    pub path: PathBuf,
    /// How long to wait for somebody else's lock on the file, milliseconds. Default 5,000.
    pub busy_ms: u64,
    /// How large the file may become, in bytes; 0 means as large as the disk lets it. What exceeds it fails as
    /// [`Failure::Full`] until something was trimmed.
    pub bytes_max: u64,
    /// How many series it may have, in all channels. Default [`SERIES_MAX`](super::SERIES_MAX).
    pub series_max: usize,
}

/// A store in a file.
pub struct SqliteSeriesStore {
    file: File,
    series_max: usize,
    writer: Mutex<Option<Connection>>,
    readers: Readers,
    _lock: Lock,
}

impl SqliteSeriesStore {
    /// Opens a file, made and brought up to date if need be.
    ///
    /// # Errors
    ///
    /// If another process uses it, if it is damaged, or if it was made by a newer version.
    pub fn open(options: SqliteSeriesOptions) -> Result<Self, StoreError> {
        let SqliteSeriesOptions { path, busy_ms, bytes_max, series_max } = options;
        let lock = Lock::take(&path)?;
        let file = File { path, busy_ms, bytes_max, form: FORM };
        let mut connection = connect(&file)?;
        file.check(&connection)?;
        migrate(&mut connection, &STEPS, |_| Ok(()))?;
        let writer = Mutex::new(Some(connection));
        Ok(Self { file, series_max, writer, readers: Readers::default(), _lock: lock })
    }

    /// Copies a file of roll-ups, which a server may be writing, to another that is not there yet; returns its size in
    /// bytes.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, if the copy cannot be written, is there already, or is damaged.
    pub fn back_up(path: &Path, to: &Path) -> Result<u64, StoreError> {
        copy(path, to, |_| Ok(()))
    }

    /// Runs one transaction on the writing connection, which is dropped if nobody knows what became of it.
    fn writing<T>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer.lock();
        let connection = match &mut *writer {
            Some(connection) => connection,
            none => none.insert(connect(&self.file)?),
        };
        let began = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed);
        let result = began.and_then(|transaction| {
            let result = write(&transaction).map_err(failed)?;
            transaction.commit().map_err(commit_failed)?;
            Ok(result)
        });
        if let Err(error) = &result
            && (error.outcome == Outcome::Unknown || error.failure == Failure::Io)
        {
            *writer = None;
        }
        result
    }

    /// Gives some of the free pages back to the disk if there are many. What trimming leaves is mostly taken again by
    /// what comes next, and then stays.
    fn give_back(&self) -> rusqlite::Result<()> {
        let writer = self.writer.lock();
        let Some(connection) = &*writer else { return Ok(()) };
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        if number("freelist_count")? <= number("page_count")? / FREE_SHARE {
            return Ok(());
        }
        // Every row that it answers with is a page.
        let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({GIVEN_BACK})"))?;
        let mut pages = statement.query([])?;
        while pages.next()?.is_some() {}
        Ok(())
    }
}

/// The writing connection, as it is used here.
fn connect(file: &File) -> Result<Connection, StoreError> {
    let connection = file.connect()?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    Ok(connection)
}

impl SeriesStore for SqliteSeriesStore {
    fn keep(&self, chunks: &[Chunk]) -> Result<usize, StoreError> {
        if chunks.is_empty() {
            return Ok(0);
        }
        let rows = Rows::of(chunks);
        self.writing(|transaction| {
            let mut room = None;
            let mut ids = Vec::with_capacity(rows.series.len());
            for series in &rows.series {
                ids.push(series_of(transaction, series, &mut room, self.series_max)?);
            }
            keep(transaction, &rows, &ids)
        })
    }

    fn read(&self, query: &ChunkQuery<'_>) -> Result<Chunks, StoreError> {
        self.readers.reading(&self.file, |connection| {
            let mut filling = ChunksFilling::new(query.bytes_max);
            read(connection, query, &mut filling).map_err(failed)?;
            Ok(filling.finish())
        })
    }

    fn trim(&self, tier: Tier, before_ms: i64, chunks_max: usize) -> Result<usize, StoreError> {
        let most = i64::try_from(chunks_max).unwrap_or(i64::MAX);
        let removed = self.writing(|transaction| trim(transaction, tier, before_ms, most))?;
        if removed > 0
            && let Err(error) = self.give_back()
        {
            tracing::debug!(%error, "free pages of the metric history were not given back; the next trim tries again");
        }
        Ok(removed)
    }
}

/// The numbers of a series and of its channel, made if there are none; `None` if there is no room for it.
fn series_of(
    transaction: &Transaction<'_>,
    series: &SeriesRow<'_>,
    room: &mut Option<i64>,
    series_max: usize,
) -> rusqlite::Result<Option<(i64, i64)>> {
    let known = transaction
        .prepare_cached("SELECT id, channel FROM series WHERE digest = ?1")?
        .query_row([series.digest], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if known.is_some() {
        return Ok(known);
    }
    let room = match room {
        Some(room) => room,
        none => {
            let there: i64 = transaction.query_row("SELECT count(*) FROM series", [], |row| row.get(0))?;
            none.insert(i64::try_from(series_max).unwrap_or(i64::MAX) - there)
        }
    };
    if *room <= 0 {
        return Ok(None);
    }
    *room -= 1;
    let channel = transaction
        .prepare_cached("SELECT id FROM channels WHERE name = ?1")?
        .query_row([series.channel.as_str()], |row| row.get(0))
        .optional()?;
    let channel = match channel {
        Some(channel) => channel,
        None => transaction
            .prepare_cached("INSERT INTO channels (name) VALUES (?1)")?
            .insert([series.channel.as_str()])?,
    };
    let id = transaction
        .prepare_cached("INSERT INTO series (channel, digest, name, kind, tags) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .insert(params![channel, series.digest, series.name, series.kind, series.tags])?;
    Ok(Some((id, channel)))
}

/// Keeps the chunks whose series have numbers; returns how many of the others there are.
fn keep(
    transaction: &Transaction<'_>,
    rows: &Rows<'_>,
    ids: &[Option<(i64, i64)>],
) -> rusqlite::Result<usize> {
    let mut left_out = 0;
    let mut spans_ms = [0; Tier::ALL.len()];
    let mut statement = transaction.prepare_cached(KEEP)?;
    for (place, chunk, crc) in &rows.chunks {
        let Some((series, channel)) = ids[*place] else {
            left_out += 1;
            continue;
        };
        let Chunk { tier, writer, start_ms, end_ms, windows, .. } = chunk;
        let longest = &mut spans_ms[*tier as usize];
        *longest = end_ms.saturating_sub(*start_ms).max(*longest);
        let writer = writer.cast_signed();
        statement.execute(params![
            channel,
            *tier as u8,
            start_ms,
            series,
            writer,
            end_ms,
            crc,
            &windows[..]
        ])?;
    }
    for (tier, span_ms) in Tier::ALL.into_iter().zip(spans_ms) {
        transaction
            .prepare_cached(
                "INSERT INTO tiers (tier, span_ms) VALUES (?1, ?2)
                 ON CONFLICT (tier) DO UPDATE SET span_ms = excluded.span_ms WHERE span_ms < excluded.span_ms",
            )?
            .execute(params![tier as u8, span_ms])?;
    }
    Ok(left_out)
}

fn read(
    connection: &Connection,
    query: &ChunkQuery<'_>,
    filling: &mut ChunksFilling,
) -> rusqlite::Result<()> {
    let Some(channel) = connection
        .prepare_cached("SELECT id FROM channels WHERE name = ?1")?
        .query_row([query.channel.as_str()], |row| row.get::<_, i64>(0))
        .optional()?
    else {
        return Ok(());
    };
    let mut wanted = Wanted::default();
    let mut statement =
        connection.prepare_cached("SELECT id, name, kind, tags FROM series WHERE channel = ?1")?;
    let mut found = statement.query([channel])?;
    while let Some(row) = found.next()? {
        wanted.take(query, row.get(0)?, [text(row, 1)?, text(row, 2)?, text(row, 3)?]);
    }
    let span_ms: i64 = connection
        .prepare_cached("SELECT span_ms FROM tiers WHERE tier = ?1")?
        .query_row([query.tier as u8], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    let begun_ms = query.from_ms.saturating_sub(span_ms);
    if wanted.is_empty() {
        return Ok(());
    }
    if wanted.are_few() {
        return look_up(connection, query, &wanted, begun_ms, filling);
    }
    let mut statement = connection.prepare_cached(
        "SELECT series, writer, start_ms, end_ms, crc, windows FROM chunks
         WHERE channel = ?1 AND tier = ?2 AND start_ms >= ?3 AND start_ms < ?4 AND end_ms > ?5
         ORDER BY start_ms",
    )?;
    let mut found =
        statement.query(params![channel, query.tier as u8, begun_ms, query.to_ms, query.from_ms])?;
    while let Some(row) = found.next()? {
        if wanted.has(row.get(0)?) && !filling.take(chunk(&wanted, query, row)) {
            break;
        }
    }
    Ok(())
}

/// Reads the chunks of a few series: first where they are, then as many of them as are wanted.
fn look_up(
    connection: &Connection,
    query: &ChunkQuery<'_>,
    wanted: &Wanted,
    begun_ms: i64,
    filling: &mut ChunksFilling,
) -> rusqlite::Result<()> {
    let mut places: Vec<(i64, i64)> = Vec::new();
    let mut statement = connection.prepare_cached(
        "SELECT start_ms, rowid FROM chunks INDEXED BY chunks_by_series
         WHERE series = ?1 AND tier = ?2 AND start_ms >= ?3 AND start_ms < ?4",
    )?;
    for series in wanted.ids() {
        let mut found = statement.query(params![series, query.tier as u8, begun_ms, query.to_ms])?;
        while let Some(row) = found.next()? {
            places.push((row.get(0)?, row.get(1)?));
        }
    }
    places.sort_unstable();
    let mut statement = connection.prepare_cached(
        "SELECT series, writer, start_ms, end_ms, crc, windows FROM chunks WHERE rowid = ?1 AND end_ms > ?2",
    )?;
    for (_, place) in places {
        let mut found = statement.query(params![place, query.from_ms])?;
        if let Some(row) = found.next()?
            && !filling.take(chunk(wanted, query, row))
        {
            break;
        }
    }
    Ok(())
}

/// The chunk of a row; `None` if the row is not what was written.
fn chunk(wanted: &Wanted, query: &ChunkQuery<'_>, row: &Row<'_>) -> Option<Chunk> {
    let number = |column| row.get::<_, i64>(column).ok();
    let ValueRef::Blob(windows) = row.get_ref(5).ok()? else { return None };
    let row = ChunkRow {
        series: number(0)?,
        writer: number(1)?,
        start_ms: number(2)?,
        end_ms: number(3)?,
        crc: number(4)?,
        windows,
    };
    wanted.chunk(query, &row)
}

/// The text of a column; `None` if it is none.
fn text<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<Option<&'r str>> {
    Ok(row.get_ref(column)?.as_str().ok())
}

fn trim(
    transaction: &Transaction<'_>,
    tier: Tier,
    before_ms: i64,
    chunks_max: i64,
) -> rusqlite::Result<usize> {
    let mut removed: Vec<(i64, i64)> = Vec::new();
    let mut statement = transaction.prepare_cached(TRIM)?;
    let mut gone = statement.query(params![tier as u8, before_ms, chunks_max])?;
    while let Some(row) = gone.next()? {
        removed.push((row.get(0)?, row.get(1)?));
    }
    let count = removed.len();
    removed.sort_unstable();
    removed.dedup();
    let mut statement = transaction.prepare_cached(
        "DELETE FROM series WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM chunks WHERE series = ?1)",
    )?;
    let mut channels = Vec::new();
    for (series, channel) in removed {
        if statement.execute([series])? > 0 {
            channels.push(channel);
        }
    }
    channels.sort_unstable();
    channels.dedup();
    let mut statement = transaction.prepare_cached(
        "DELETE FROM channels WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM series WHERE channel = ?1)",
    )?;
    for channel in channels {
        statement.execute([channel])?;
    }
    Ok(count)
}
