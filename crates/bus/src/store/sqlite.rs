//! Events kept in one SQLite file: what a single binary needs to lose nothing.
//!
//! One connection writes, others read beside it (WAL). A batch is one transaction; with
//! `synchronous=FULL` it is on disk before it is acknowledged, with `NORMAL` before the process can be
//! killed. One process owns the file: a lock beside it names the holder. A commit whose outcome is not known
//! drops the connection and everything remembered of the heads, so the next one reads what is really there.

pub(super) mod backup;
pub(super) mod file;
mod rows;
pub(super) mod schema;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_protocol::{ChannelName, Epoch, Position, Sequence};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{
    Append, Batch, Decision, Declined, Extent, Failure, Only, Outcome, Place, Query, ReadLimit, Retention,
    StateSlice, Store, StoreError, StoredPage,
    filling::{PageFilling, StateFilling},
};
use file::{File, Lock, Readers, failed};

/// Channels whose place is remembered between batches.
const HEADS_MAX: usize = 16_384;

/// How the file is used.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The database file; its folder is made if it is missing.
    pub path: PathBuf,
    /// The epoch of a new file: random.
    pub epoch: Epoch,
    /// How long to wait for somebody else's lock on the file, milliseconds. Default 5,000.
    pub busy_ms: u64,
    /// How large the file may become, in bytes; 0 means as large as the disk lets it. What exceeds it fails as
    /// [`Failure::Full`] until something was trimmed.
    pub bytes_max: u64,
}

/// How the tables of a file are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaSteps {
    /// The steps it has taken.
    pub taken: usize,
    /// The steps this version knows. A file that has taken more is of a newer version and is not opened.
    pub known: usize,
}

/// A store in a file.
pub struct SqliteStore {
    file: File,
    epoch: Epoch,
    writer: Mutex<Writer>,
    readers: Readers,
    _lock: Lock,
}

#[derive(Default)]
struct Writer {
    connection: Option<Connection>,
    heads: HashMap<ChannelName, Head>,
    full: Option<bool>,
}

/// A channel as the last batch left it.
#[derive(Debug, Clone, Copy)]
struct Head {
    id: i64,
    sequence: u64,
}

impl SqliteStore {
    /// Opens a file, made and brought up to date if need be.
    ///
    /// # Errors
    ///
    /// If another process uses it, if it is damaged, or if it was made by a newer version.
    pub fn open(options: SqliteOptions) -> Result<Self, StoreError> {
        let SqliteOptions { path, epoch, busy_ms, bytes_max } = options;
        let lock = Lock::take(&path)?;
        let file = File { path, busy_ms, bytes_max, form: "" };
        let mut connection = file.connect()?;
        file.check(&connection)?;
        schema::migrate_events(&mut connection, &epoch)?;
        let epoch = schema::epoch(&connection)?;
        let writer = Mutex::new(Writer { connection: Some(connection), ..Writer::default() });
        Ok(Self { file, epoch, writer, readers: Readers::default(), _lock: lock })
    }

    /// How the tables of a file are made. It is only read, and may be in use by a server.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no database.
    pub fn schema_of(path: &std::path::Path) -> Result<SchemaSteps, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        let taken: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        Ok(SchemaSteps { taken: usize::try_from(taken).unwrap_or(usize::MAX), known: schema::steps() })
    }

    /// Copies a file of events, which a server may be writing, to another that is not there yet; returns its size in
    /// bytes. The copy has its own epoch: once it was restored and went on, its sequences are other events than those
    /// that were given after the copy was made.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, if the copy cannot be written, is there already, or is damaged.
    pub fn back_up(path: &std::path::Path, to: &std::path::Path, epoch: &Epoch) -> Result<u64, StoreError> {
        backup::copy(path, to, |copy| {
            let sql = "UPDATE meta SET value = ?1 WHERE key = 'epoch'";
            copy.execute(sql, [epoch.as_str()]).map(drop).map_err(failed)
        })
    }

    fn extent(
        &self,
        connection: &Connection,
        channel: &ChannelName,
    ) -> Result<(Option<i64>, Extent), StoreError> {
        let row = connection
            .prepare_cached("SELECT id, head, floor, critical_floor FROM channels WHERE name = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([channel.as_str()], |row| {
                        Ok((
                            row.get(0)?,
                            rows::sequence(row, 1)?,
                            rows::sequence(row, 2)?,
                            rows::sequence(row, 3)?,
                        ))
                    })
                    .optional()
            })
            .map_err(failed)?;
        let (id, head, floor, critical_floor) =
            row.map_or((None, 0, 0, 0), |(id, head, floor, critical)| (Some(id), head, floor, critical));
        let extent = Extent {
            epoch: self.epoch.clone(),
            head: Sequence(head),
            floor: Sequence(floor),
            critical_floor: Sequence(critical_floor),
        };
        Ok((id, extent))
    }

    fn reading<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.readers.reading(&self.file, read)
    }

    fn keep(
        &self,
        transaction: &Transaction<'_>,
        heads: &mut HashMap<ChannelName, Head>,
        batch: &Batch,
    ) -> Result<Vec<Decision>, StoreError> {
        let mut decisions = Vec::with_capacity(batch.requests.len());
        for request in &batch.requests {
            decisions.push(self.keep_request(transaction, heads, request, batch.at_ms)?);
        }
        Ok(decisions)
    }

    fn keep_request(
        &self,
        transaction: &Transaction<'_>,
        heads: &mut HashMap<ChannelName, Head>,
        request: &[Append],
        at_ms: i64,
    ) -> Result<Decision, StoreError> {
        let mut known = Vec::with_capacity(request.len());
        for (index, append) in request.iter().enumerate() {
            let head = self.head(transaction, heads, append.channel())?;
            let before = rows::known(transaction, head.id, &append.dedup).map_err(failed)?;
            let same = |other: &&Append| other.dedup == append.dedup && other.channel() == append.channel();
            let here = request[..index].iter().find(same);
            if before.is_some_and(|(_, payload)| payload != append.payload)
                || here.is_some_and(|other| other.payload != append.payload)
            {
                return Ok(Err(Declined::Conflict(index)));
            }
            known.push((head.id, before.map(|(sequence, _)| sequence)));
        }
        let mut places = Vec::with_capacity(request.len());
        for (append, (channel, before)) in request.iter().zip(known) {
            // An id that stands twice in one request is found the second time.
            let before = match before {
                None if request.len() > 1 => rows::known(transaction, channel, &append.dedup)
                    .map_err(failed)?
                    .map(|(sequence, _)| sequence),
                before => before,
            };
            let sequence = match before {
                Some(sequence) => sequence,
                None => {
                    let head = heads.get_mut(append.channel()).expect("it was looked up above");
                    head.sequence += 1;
                    rows::insert(transaction, channel, head.sequence, append, at_ms).map_err(failed)?;
                    head.sequence
                }
            };
            let position = Position { epoch: self.epoch.clone(), sequence: Sequence(sequence) };
            places.push(Place { position, duplicate: before.is_some() });
        }
        Ok(Ok(places))
    }

    /// A channel's row, made if there is none.
    fn head(
        &self,
        transaction: &Transaction<'_>,
        heads: &mut HashMap<ChannelName, Head>,
        channel: &ChannelName,
    ) -> Result<Head, StoreError> {
        if let Some(head) = heads.get(channel) {
            return Ok(*head);
        }
        let (id, extent) = self.extent(transaction, channel)?;
        let id = match id {
            Some(id) => id,
            None => transaction
                .prepare_cached("INSERT INTO channels (name) VALUES (?1)")
                .and_then(|mut statement| statement.insert([channel.as_str()]))
                .map_err(failed)?,
        };
        let head = Head { id, sequence: extent.head.0 };
        heads.insert(channel.clone(), head);
        Ok(head)
    }

    /// Runs one transaction on the writing connection.
    fn writing<T>(
        &self,
        strict: bool,
        write: impl FnOnce(&Transaction<'_>, &mut HashMap<ChannelName, Head>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        if writer.connection.is_none() {
            writer.connection = Some(self.file.connect()?);
            writer.full = None;
        }
        let connection = writer.connection.as_mut().expect("it was just made");
        if writer.full != Some(strict) {
            connection
                .pragma_update(None, "synchronous", if strict { "FULL" } else { "NORMAL" })
                .map_err(failed)?;
            writer.full = Some(strict);
        }
        if writer.heads.len() > HEADS_MAX {
            writer.heads.clear();
        }
        let began = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed);
        let result = began.and_then(|transaction| {
            let result = write(&transaction, &mut writer.heads)?;
            transaction.commit().map_err(file::commit_failed)?;
            Ok(result)
        });
        if let Err(error) = &result {
            // What is remembered is of a transaction that may not have happened.
            writer.heads.clear();
            if error.outcome == Outcome::Unknown || error.failure == Failure::Io {
                writer.connection = None;
            }
        }
        result
    }
}

impl Store for SqliteStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn epoch(&self) -> Epoch {
        self.epoch.clone()
    }

    fn probe(&self) -> Result<(), StoreError> {
        self.writing(true, |transaction, _| rows::probe(transaction).map_err(failed))
    }

    fn extents(&self, channels: &[ChannelName]) -> Result<Vec<Extent>, StoreError> {
        self.reading(|connection| {
            channels.iter().map(|name| self.extent(connection, name).map(|(_, extent)| extent)).collect()
        })
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Decision>, StoreError> {
        self.writing(batch.strict, |transaction, heads| {
            let decisions = self.keep(transaction, heads, batch)?;
            let mut written: Vec<&ChannelName> = Vec::new();
            for (request, decision) in batch.requests.iter().zip(&decisions) {
                if decision.is_ok() {
                    written.extend(request.iter().map(Append::channel));
                }
            }
            written.sort_unstable();
            written.dedup();
            for channel in written {
                let head = heads[channel];
                rows::set_head(transaction, head.id, head.sequence).map_err(failed)?;
            }
            Ok(decisions)
        })
    }

    fn read(&self, channel: &ChannelName, query: &Query) -> Result<StoredPage, StoreError> {
        self.reading(|connection| {
            let (id, extent) = self.extent(connection, channel)?;
            let mut page = PageFilling::new(extent, query);
            let Some(id) = id else { return Ok(page.finish()) };
            let sql = match query.only {
                Only::All => rows::SELECT_ALL,
                Only::Critical => rows::SELECT_CRITICAL,
            };
            let mut statement = connection.prepare_cached(sql).map_err(failed)?;
            let mut found = statement.query(params![id, rows::int(page.last().0)]).map_err(failed)?;
            while let Some(row) = found.next().map_err(failed)? {
                let sequence = Sequence(rows::sequence(row, 0).map_err(failed)?);
                if !page.take(sequence, rows::accepted(row, channel).map(Arc::new)) {
                    break;
                }
            }
            Ok(page.finish())
        })
    }

    fn state(
        &self,
        channel: &ChannelName,
        after: Option<&str>,
        limit: ReadLimit,
    ) -> Result<StateSlice, StoreError> {
        self.reading(|connection| {
            let (id, extent) = self.extent(connection, channel)?;
            let mut slice = StateFilling::new(extent, limit);
            let Some(id) = id else { return Ok(slice.finish()) };
            let mut statement = connection.prepare_cached(rows::SELECT_STATE).map_err(failed)?;
            let mut found = statement.query(params![id, after.unwrap_or("")]).map_err(failed)?;
            while let Some(row) = found.next().map_err(failed)? {
                let sequence = Sequence(rows::sequence(row, 0).map_err(failed)?);
                let (key, accepted) = (rows::key(row), rows::accepted(row, channel).map(Arc::new));
                if !slice.take(key.as_deref(), sequence, accepted) {
                    break;
                }
            }
            Ok(slice.finish())
        })
    }

    fn trim(&self, channel: &ChannelName, retention: &Retention, now_ms: i64) -> Result<Extent, StoreError> {
        self.writing(false, |transaction, _| {
            let (id, extent) = self.extent(transaction, channel)?;
            let Some(id) = id else { return Ok(extent) };
            rows::trim(transaction, id, &extent, retention, now_ms).map_err(failed)?;
            self.extent(transaction, channel).map(|(_, extent)| extent)
        })
    }
}
