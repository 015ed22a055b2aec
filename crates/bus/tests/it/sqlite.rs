//! What only the SQLite store can meet: somebody else at its file.

use pulsewire_bus::store::{SqliteOptions, SqliteStore};
use pulsewire_bus::{Batch, Store};
use pulsewire_protocol::Epoch;

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
