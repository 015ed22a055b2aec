//! What only the SQLite store can meet: somebody else at its file.

use pulsewire_bus::store::{SqliteOptions, SqliteStore};
use pulsewire_bus::{Batch, Store};
use pulsewire_protocol::Epoch;
use rusqlite::types::Value;

use crate::conformance::append;
use crate::folder::Folder;
use crate::name;

/// Whoever opens the file syncs what its log holds; a reader in the way of a checkpoint is no reason to wait for it.
#[test]
fn a_file_that_somebody_reads_is_opened_and_written_to() {
    let folder = Folder::new("sqlite-reader");
    let path = folder.path().join("test.db");
    let open = || {
        let epoch = Epoch::parse("e1").unwrap();
        SqliteStore::open(SqliteOptions { path: path.clone(), epoch, busy_ms: 10, bytes_max: 0 }).unwrap()
    };
    let keep = |store: &SqliteStore, id: &str| {
        let request = [append(name("run:1"), id, "1")].into();
        let decisions = store.commit(&Batch { requests: vec![request], strict: true, at_ms: 1 }).unwrap();
        decisions[0].as_ref().unwrap()[0].position.sequence.0
    };
    let store = open();
    assert_eq!(keep(&store, "a"), 1);
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    assert_eq!(keep(&store, "b"), 2, "what the reader does not see");
    drop(store);
    let store = open();
    assert_eq!(keep(&store, "b"), 2);
    assert_eq!(keep(&store, "c"), 3);
    reader.execute_batch("ROLLBACK").unwrap();
}

/// 003-29, 003-63, 003-65 and 003-66: document 003's table with its columns, one event in each place, and its indexes.
#[test]
fn the_view_and_the_indexes_are_document_003s() {
    let folder = Folder::new("sqlite-view");
    let path = folder.path().join("test.db");
    let epoch = Epoch::parse("e1").unwrap();
    let store =
        SqliteStore::open(SqliteOptions { path: path.clone(), epoch, busy_ms: 10, bytes_max: 0 }).unwrap();
    let request = ["run:7", "other:1"].map(|channel| append(name(channel), "a", "1")).into();
    store.commit(&Batch { requests: vec![request], strict: true, at_ms: 1 }).unwrap();
    let file = rusqlite::Connection::open(&path).unwrap();
    let columns = "id, run_id, user_id, event_type, message_data, timestamp, sequence_number, is_critical";
    let sql = format!("SELECT {columns} FROM persisted_collaboration_messages");
    let mut statement = file.prepare(&sql).unwrap();
    let row = |row: &rusqlite::Row<'_>| {
        (0..8).map(|column| row.get::<_, Value>(column)).collect::<Result<Vec<_>, _>>()
    };
    let rows: Vec<_> = statement.query_map([], row).unwrap().map(Result::unwrap).collect();
    let text = |text: &str| Value::Text(text.to_owned());
    let expected = [
        text("run:7#1"),
        text("7"),
        Value::Null,
        text("GRAFT"),
        text("1"),
        Value::Integer(1),
        Value::Integer(1),
        Value::Integer(0),
    ];
    assert_eq!(rows, [expected]);
    let plan = |sql: &str| -> String {
        file.query_row(&format!("EXPLAIN QUERY PLAN {sql}"), [], |row| row.get(3)).unwrap()
    };
    let newest = plan("SELECT data FROM events WHERE channel = 1 ORDER BY sequence DESC LIMIT 1");
    assert!(newest.contains("PRIMARY KEY (channel=?)"), "{newest}");
    let critical = plan("SELECT sequence FROM events WHERE channel = 1 AND critical = 1 AND sequence > 5");
    assert!(critical.contains("events_critical"), "{critical}");
    let twice = file.execute(
        "INSERT INTO events (channel, sequence, type, data, timestamp, critical, kept_at, crc)
         SELECT channel, sequence, type, data, timestamp, critical, kept_at, crc FROM events",
        [],
    );
    assert!(twice.is_err(), "one event in each place");
}
