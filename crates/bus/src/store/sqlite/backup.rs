//! A copy of a file that a server may be writing.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::file::failed;
use crate::store::{Failure, StoreError};

/// How long a lock on the file is waited for.
const BUSY: Duration = Duration::from_secs(30);

/// Copies a file as it is at one moment, checks the copy, changes it and has it on disk before it gets its name.
/// Returns its size in bytes.
///
/// The file is only read, in one transaction beside the writer's (WAL): commits go on meanwhile, and their log grows
/// until the copy is done. The owner's lock is about writing and is left alone.
///
/// # Errors
///
/// If the file cannot be read, if the copy is there already, cannot be written or is damaged. Nothing has its name then.
pub(in crate::store) fn copy(
    from: &Path,
    to: &Path,
    change: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let io = |path: &Path, error: std::io::Error| {
        StoreError::new(Failure::Io, format!("{}: {error}", path.display()))
    };
    if fs::exists(to).map_err(|error| io(to, error))? {
        let detail = format!("{} is there already; a copy never replaces another", to.display());
        return Err(StoreError::new(Failure::Other, detail));
    }
    let partial = to.with_extension("partial");
    // Like the file itself it can be read by its owner only. What an interrupted copy left is begun anew.
    let made = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&partial);
    made.map_err(|error| io(&partial, error))?;
    fill(from, &partial)?;
    let copy = Connection::open(&partial).map_err(failed)?;
    check(&copy, from)?;
    change(&copy)?;
    copy.close().map_err(|(_, error)| failed(error))?;
    let synced = fs::File::open(&partial).and_then(|file| file.sync_all().and_then(|()| file.metadata()));
    let bytes = synced.map_err(|error| io(&partial, error))?.len();
    fs::rename(&partial, to).map_err(|error| io(to, error))?;
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| io(folder, error))?;
    Ok(bytes)
}

fn fill(from: &Path, partial: &Path) -> Result<(), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let original = Connection::open_with_flags(from, flags).map_err(failed)?;
    original.busy_timeout(BUSY).map_err(failed)?;
    let to = partial.to_str().ok_or_else(|| {
        StoreError::new(Failure::Other, format!("{} is not UTF-8, as SQLite wants names", partial.display()))
    })?;
    original.execute("VACUUM INTO ?1", [to]).map(drop).map_err(failed)
}

/// A backup that cannot be read is none.
fn check(copy: &Connection, from: &Path) -> Result<(), StoreError> {
    let verdict: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(StoreError::new(Failure::Corrupt, format!("{} is damaged ({verdict})", from.display())))
}
