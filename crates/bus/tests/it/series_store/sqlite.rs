//! What only the SQLite store of roll-ups can meet: somebody else at its file, and its size.

use std::path::Path;

use pulsewire_bus::store::{SqliteSeriesOptions, SqliteSeriesStore};
use pulsewire_bus::{Failure, Outcome, SeriesStore, StoreError, Tier};

use super::subject::{chunk, one};
use crate::folder::Folder;

fn open(folder: &Folder, bytes_max: u64) -> Result<SqliteSeriesStore, StoreError> {
    let path = folder.path().join("metrics.db");
    SqliteSeriesStore::open(SqliteSeriesOptions { path, busy_ms: 10, bytes_max, series_max: 10 })
}

fn pragma(path: &Path, name: &str) -> i64 {
    let file = rusqlite::Connection::open(path.join("metrics.db")).unwrap();
    file.pragma_query_value(None, name, |row| row.get(0)).unwrap()
}

/// Chunks of 4 KiB, one for each number.
fn keep(store: &SqliteSeriesStore, numbers: std::ops::Range<i64>) -> Result<usize, StoreError> {
    let windows: Box<[u8]> = vec![7; 4_096].into();
    let chunks: Vec<_> = numbers
        .map(|n| pulsewire_bus::Chunk { windows: windows.clone(), ..chunk("cpu:0-0=a", n, n + 1) })
        .collect();
    store.keep(&chunks)
}

#[track_caller]
fn refused(outcome: Result<impl std::fmt::Debug, StoreError>, failure: Failure) {
    let error = outcome.unwrap_err();
    assert_eq!((error.failure, error.outcome), (failure, Outcome::NotKept), "{error}");
}

#[test]
fn a_lock_that_somebody_holds_is_busy_and_keeps_nothing() {
    let folder = Folder::new("sqlite-series-busy");
    let store = open(&folder, 0).unwrap();
    let other = rusqlite::Connection::open(folder.path().join("metrics.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    refused(store.keep(&[one("cpu:0-60=a")]), Failure::Busy);
    refused(store.trim(Tier::M1, 60, 10), Failure::Busy);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.keep(&[one("cpu:0-60=a")]), Ok(0));
    assert_eq!(store.trim(Tier::M1, 60, 10), Ok(1));
}

#[test]
fn a_file_has_one_owner_and_a_newer_one_is_refused() {
    let folder = Folder::new("sqlite-series-owner");
    let store = open(&folder, 0).unwrap();
    refused(open(&folder, 0).map(drop), Failure::Busy);
    drop(store);
    let file = rusqlite::Connection::open(folder.path().join("metrics.db")).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    refused(open(&folder, 0).map(drop), Failure::Other);
}

#[test]
fn a_full_file_refuses_until_something_was_trimmed() {
    let folder = Folder::new("sqlite-series-full");
    let store = open(&folder, 1 << 20).unwrap();
    assert_eq!(keep(&store, 0..100), Ok(0));
    refused(keep(&store, 100..400), Failure::Full);
    assert_eq!(store.trim(Tier::M1, 1_000, 1_000), Ok(100), "nothing of what was refused is there");
    assert_eq!(keep(&store, 100..200), Ok(0));
}

/// What was trimmed is used again, and given back if nothing comes.
#[test]
fn space_that_was_trimmed_is_used_again_or_given_back() {
    let folder = Folder::new("sqlite-series-space");
    let store = open(&folder, 0).unwrap();
    let pages = || pragma(folder.path(), "page_count");
    assert_eq!(keep(&store, 0..4_000), Ok(0));
    let most = pages();
    for round in 0..5 {
        assert_eq!(store.trim(Tier::M1, 1_000 * (round + 1), 1_000), Ok(1_000));
        assert_eq!(keep(&store, 4_000 + 1_000 * round..5_000 + 1_000 * round), Ok(0));
    }
    assert!(pages() <= most + most / 20, "{} pages, {most} before", pages());
    while store.trim(Tier::M1, i64::MAX, 300).unwrap() > 0 {}
    assert!(pages() < most / 2, "{} pages, {most} before", pages());
}

/// Whoever asks for a little is not made to wait while much is sorted.
#[test]
fn chunks_are_found_in_order_by_indexes() {
    let folder = Folder::new("sqlite-series-plan");
    let store = open(&folder, 0).unwrap();
    assert_eq!(keep(&store, 0..10), Ok(0));
    let file = rusqlite::Connection::open(folder.path().join("metrics.db")).unwrap();
    let plan = |sql: &str| -> String {
        let mut statement = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps: Vec<String> =
            statement.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        steps.join("; ")
    };
    let walked = plan(
        "SELECT windows FROM chunks WHERE channel = 1 AND tier = 2 AND start_ms >= 3 AND start_ms < 4
         AND end_ms > 5 ORDER BY start_ms",
    );
    assert!(walked.contains("(channel=? AND tier=? AND start_ms>? AND start_ms<?)"), "{walked}");
    assert!(!walked.contains("TEMP B-TREE"), "{walked}");
    for (sql, index) in [
        ("SELECT 1 FROM chunks WHERE series = 1", "chunks_by_series"),
        ("SELECT rowid FROM chunks WHERE series = 1 AND tier = 2 AND start_ms >= 3", "chunks_by_series"),
        ("SELECT id FROM series WHERE channel = 1", "series_by_channel"),
    ] {
        assert!(plan(sql).contains(index), "{sql}: {}", plan(sql));
    }
}
