//! The file: opening it, owning it, and what its errors mean.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use super::SqliteOptions;
use crate::store::{Failure, Outcome, StoreError};

/// A file up to this size is checked whole when it is opened; beyond that it would delay the start.
const CHECKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Owns the file for as long as it lives: a lock beside it, which the system releases when the process ends.
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let io = |error: std::io::Error| StoreError::new(Failure::Io, format!("{}: {error}", path.display()));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        let name = path.with_extension("lock");
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&name).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Whoever holds it wrote its number first; a name is better than none, and none is no error.
                let _ = file.read_to_string(&mut holder);
                let detail = format!(
                    "{} is used by process {}; one process owns a file",
                    path.display(),
                    holder.trim()
                );
                return Err(StoreError::new(Failure::Busy, detail));
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self(file))
    }
}

/// The writing connection. A new file can be read by its owner only: it holds what people said.
pub(super) fn connect(options: &SqliteOptions) -> Result<Connection, StoreError> {
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(&options.path);
    made.map_err(|error| StoreError::new(Failure::Io, format!("{}: {error}", options.path.display())))?;
    let connection = Connection::open(&options.path).map_err(failed)?;
    connection.busy_timeout(Duration::from_millis(options.busy_ms)).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    // WAL: readers and the writer do not wait for each other (sqlite.org/wal.html).
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
        .map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    if options.bytes_max > 0 {
        let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(failed)?;
        let pages = i64::try_from(options.bytes_max).unwrap_or(i64::MAX) / page.max(1);
        // SQLite never sets it below what the file has already.
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).map_err(failed)?;
    }
    settle(&connection, &options.path)?;
    Ok(connection)
}

/// Has on disk what the log beside the file holds, before anything in it is answered for.
///
/// A commit whose sync failed, or that was never synced because the process was killed, is found again when the log is
/// read anew, though it may be nowhere but in the system's memory: asked for once more it would be a duplicate, which
/// writes nothing, syncs nothing and is acknowledged. A checkpoint syncs the log and writes it anew into the file; where
/// a reader is in its way, the log is synced alone.
fn settle(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    let blocked = connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| row.get::<_, bool>(0));
    match blocked.map_err(failed) {
        Ok(false) => Ok(()),
        // The log was synced before there was no room to move it.
        Err(error) if error.failure == Failure::Full => Ok(()),
        Ok(true) => {
            let mut log = path.as_os_str().to_owned();
            log.push("-wal");
            let synced = File::open(&log).and_then(|log| log.sync_all());
            synced.map_err(|error| StoreError::new(Failure::Io, format!("{}: {error}", log.display())))
        }
        Err(error) => Err(error),
    }
}

/// A connection that only reads.
pub(super) fn connect_to_read(options: &SqliteOptions) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&options.path, flags).map_err(failed)?;
    connection.busy_timeout(Duration::from_millis(options.busy_ms)).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Refuses a damaged file: it is for a person to decide what to do with it, and never deleted here.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if size > CHECKED_BYTES_MAX {
        return Ok(());
    }
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict == "ok" {
        return Ok(());
    }
    let detail = format!(
        "{} is damaged ({verdict}); restore a backup, or move the file away to begin with an empty one",
        path.display()
    );
    Err(StoreError::new(Failure::Corrupt, detail))
}

/// What an error means before a commit: nothing was kept.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn failed(error: Error) -> StoreError {
    let failure = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Failure::Busy,
        Some(ErrorCode::DiskFull) => Failure::Full,
        Some(ErrorCode::SystemIoFailure) => Failure::Io,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Failure::Corrupt,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Failure::ReadOnly,
        Some(ErrorCode::CannotOpen) => Failure::Unreachable,
        _ => Failure::Other,
    };
    StoreError::new(failure, error.to_string())
}

/// What an error of `COMMIT` itself means: unless SQLite says that it did nothing, nobody knows.
pub(super) fn commit_failed(error: Error) -> StoreError {
    let mut error = failed(error);
    if !matches!(error.failure, Failure::Busy | Failure::Full | Failure::ReadOnly) {
        error.outcome = Outcome::Unknown;
    }
    error
}
