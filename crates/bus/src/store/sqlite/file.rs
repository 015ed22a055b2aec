//! The file: opening it, owning it, and what its errors mean.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use crate::store::{Failure, Outcome, StoreError};

/// A file up to this size is checked whole when it is opened; beyond that it would delay the start.
const CHECKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Owns the file for as long as it lives: a lock beside it, which the system releases when the process ends.
pub(in crate::store) struct Lock(fs::File);

impl Lock {
    pub(in crate::store) fn take(path: &Path) -> Result<Self, StoreError> {
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

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not do: a program that another thread is starting has a copy of every open file until it
        // runs, and the lock ends with the last one (flock(2)). If this fails, that is what remains.
        let _ = self.0.unlock();
    }
}

/// A database file, and how it is used.
pub(in crate::store) struct File {
    pub(in crate::store) path: PathBuf,
    /// How long to wait for somebody else's lock, milliseconds.
    pub(in crate::store) busy_ms: u64,
    /// How large it may become, in bytes; 0 means as large as the disk lets it.
    pub(in crate::store) bytes_max: u64,
    /// Statements that give a new file its form. A file that is there keeps what it has.
    pub(in crate::store) form: &'static str,
}

impl File {
    /// The writing connection. A new file can be read by its owner only: it holds what people said.
    pub(in crate::store) fn connect(&self) -> Result<Connection, StoreError> {
        let made = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path);
        made.map_err(|error| StoreError::new(Failure::Io, format!("{}: {error}", self.path.display())))?;
        let connection = Connection::open(&self.path).map_err(failed)?;
        connection.busy_timeout(Duration::from_millis(self.busy_ms)).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(64);
        // Before anything is written: the log below is.
        connection.execute_batch(self.form).map_err(failed)?;
        // WAL: readers and the writer do not wait for each other (sqlite.org/wal.html).
        connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
            .map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        if self.bytes_max > 0 {
            let page: i64 =
                connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(failed)?;
            let pages = i64::try_from(self.bytes_max).unwrap_or(i64::MAX) / page.max(1);
            // SQLite never sets it below what the file has already.
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).map_err(failed)?;
        }
        settle(&connection, &self.path)?;
        Ok(connection)
    }

    /// A connection that only reads.
    fn connect_to_read(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(failed)?;
        connection.busy_timeout(Duration::from_millis(self.busy_ms)).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    }

    /// Refuses a damaged file: it is for a person to decide what to do with it, and never deleted here.
    pub(in crate::store) fn check(&self, connection: &Connection) -> Result<(), StoreError> {
        let size = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
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
            self.path.display()
        );
        Err(StoreError::new(Failure::Corrupt, detail))
    }
}

/// Connections that read, for as many as read at the same time.
#[derive(Default)]
pub(in crate::store) struct Readers(Mutex<Vec<Connection>>);

impl Readers {
    /// Lends a reading connection; one that failed is not lent again.
    pub(in crate::store) fn reading<T>(
        &self,
        file: &File,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let lent = self.0.lock().pop();
        let mut connection = match lent {
            Some(connection) => connection,
            None => file.connect_to_read()?,
        };
        // One transaction, so that what is read of one table and of another fits together.
        let transaction = connection.transaction().map_err(failed)?;
        let result = read(&transaction);
        drop(transaction);
        if result.is_ok() {
            self.0.lock().push(connection);
        }
        result
    }
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
            let synced = fs::File::open(&log).and_then(|log| log.sync_all());
            synced.map_err(|error| StoreError::new(Failure::Io, format!("{}: {error}", log.display())))
        }
        Err(error) => Err(error),
    }
}

/// What an error means before a commit: nothing was kept.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(in crate::store) fn failed(error: Error) -> StoreError {
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
pub(in crate::store) fn commit_failed(error: Error) -> StoreError {
    let mut error = failed(error);
    if !matches!(error.failure, Failure::Busy | Failure::Full | Failure::ReadOnly) {
        error.outcome = Outcome::Unknown;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_owner_although_a_program_that_starts_has_a_copy_of_the_file() {
        let path = std::env::temp_dir().join(format!("pulsewire-lock-{}.db", std::process::id()));
        let lock = Lock::take(&path).unwrap();
        let copy = lock.0.try_clone().unwrap();
        assert_eq!(Lock::take(&path).map(drop).unwrap_err().failure, Failure::Busy);
        drop(lock);
        Lock::take(&path).unwrap();
        drop(copy);
        fs::remove_file(path.with_extension("lock")).unwrap();
    }
}
