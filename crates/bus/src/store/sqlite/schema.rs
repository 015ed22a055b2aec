//! The tables, and how older files become the present form.
//!
//! `user_version` is the number of steps a file has taken. A step is never changed once it was released.

use pulsewire_protocol::Epoch;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::file::failed;
use crate::store::{Failure, StoreError};

const STEPS: [&str; 1] = ["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE channels (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        head INTEGER NOT NULL DEFAULT 0,
        floor INTEGER NOT NULL DEFAULT 0,
        critical_floor INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE events (
        channel INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        type TEXT NOT NULL,
        data TEXT NOT NULL,
        id TEXT,
        user TEXT,
        key TEXT,
        tags TEXT,
        timestamp INTEGER NOT NULL,
        critical INTEGER NOT NULL,
        kept_at INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        PRIMARY KEY (channel, sequence)
    ) WITHOUT ROWID;
    CREATE INDEX events_critical ON events (channel, sequence) WHERE critical = 1;
    CREATE TABLE ids (
        channel INTEGER NOT NULL,
        dedup BLOB NOT NULL,
        payload INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        kept_at INTEGER NOT NULL,
        PRIMARY KEY (channel, dedup)
    ) WITHOUT ROWID;
    CREATE INDEX ids_by_age ON ids (channel, sequence, kept_at);
    CREATE TABLE state (
        channel INTEGER NOT NULL,
        key TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        type TEXT NOT NULL,
        data TEXT NOT NULL,
        id TEXT,
        user TEXT,
        tags TEXT,
        timestamp INTEGER NOT NULL,
        critical INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        PRIMARY KEY (channel, key)
    ) WITHOUT ROWID;
    CREATE INDEX state_by_age ON state (channel, sequence);
    CREATE VIEW persisted_collaboration_messages AS
        SELECT channels.name || '#' || events.sequence AS id,
               substr(channels.name, 5) AS run_id,
               events.user AS user_id,
               events.type AS event_type,
               events.data AS message_data,
               events.timestamp AS timestamp,
               events.sequence AS sequence_number,
               events.critical AS is_critical
        FROM events JOIN channels ON channels.id = events.channel
        WHERE channels.name LIKE 'run:%';
"];

/// How many steps a file of events has taken that is up to date.
pub(super) fn steps() -> usize {
    STEPS.len()
}

/// Takes the steps a file of events has not taken yet; a new file is given its epoch.
pub(super) fn migrate_events(connection: &mut Connection, epoch: &Epoch) -> Result<(), StoreError> {
    migrate(connection, &STEPS, |transaction| {
        let sql = "INSERT INTO meta (key, value) VALUES ('epoch', ?1)";
        transaction.execute(sql, [epoch.as_str()]).map(drop)
    })
}

/// Takes the steps a file has not taken yet; what a new file begins with is made in the same transaction.
pub(in crate::store) fn migrate(
    connection: &mut Connection,
    steps: &[&str],
    begin: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let taken: i64 =
        transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let taken = usize::try_from(taken).unwrap_or(usize::MAX);
    if taken > steps.len() {
        let detail =
            format!("the file was made by a newer version (step {taken}, this one knows {})", steps.len());
        return Err(StoreError::new(Failure::Other, detail));
    }
    for step in &steps[taken..] {
        transaction.execute_batch(step).map_err(failed)?;
    }
    if taken == 0 {
        begin(&transaction).map_err(failed)?;
    }
    if taken < steps.len() {
        transaction.pragma_update(None, "user_version", steps.len() as i64).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// The epoch of everything in the file. It changes only when somebody says that history was rewritten.
pub(super) fn epoch(connection: &Connection) -> Result<Epoch, StoreError> {
    let text: String = connection
        .query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| row.get(0))
        .map_err(failed)?;
    Epoch::parse(&text)
        .map_err(|error| StoreError::new(Failure::Corrupt, format!("the file's epoch: {error}")))
}
