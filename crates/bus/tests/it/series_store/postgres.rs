//! What only the PostgreSQL store of roll-ups can meet: other nodes, and a database that says no.

use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use pulsewire_bus::store::PostgresSeriesStore;
use pulsewire_bus::{Failure, Outcome, SeriesStore, Tier};
use pulsewire_protocol::Filter;

use super::all;
use super::subject::{chunk, one, postgres_at};
use crate::database::Database;
use crate::name;

#[track_caller]
fn refused(store: &PostgresSeriesStore, failure: Failure) {
    let error = store.keep(&[one("cpu:0-60=x")]).unwrap_err();
    assert_eq!((error.failure, error.outcome), (failure, Outcome::NotKept), "{error}");
    assert!(!error.detail.contains("geheim"), "{error}");
}

#[test]
fn what_the_database_refuses_is_known_not_to_be_kept() {
    let Some(database) = Database::shared() else { return };
    database
        .sql("CREATE ROLE bystander LOGIN; CREATE ROLE cut LOGIN; GRANT CREATE ON DATABASE postgres TO cut");
    let url = database.fresh_url();
    refused(&postgres_at(&url.replace("pulsewire@", "bystander@"), 10), Failure::ReadOnly);
    refused(&postgres_at("postgres://geheim:geheim@127.0.0.1:1/geheim", 10), Failure::Unreachable);
    let store = postgres_at(&url.replace("pulsewire@", "cut@"), 10);
    assert_eq!(store.keep(&[one("cpu:0-60=a")]), Ok(0));
    // A connection that was cut may have kept it: it is asked for again, on another.
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cut'");
    crate::until("it works again", || store.keep(&[one("cpu:0-60=b")]) == Ok(0));
}

#[test]
fn a_lock_that_somebody_holds_is_not_waited_for_long() {
    let Some(database) = Database::shared() else { return };
    let url = database.fresh_url();
    let (_, schema) = url.split_once("schema=").unwrap();
    let store = postgres_at(&url, 10);
    assert_eq!(store.keep(&[one("cpu:0-60=a")]), Ok(0));
    let sql = format!("BEGIN; SELECT FROM {schema}.metric_chunks FOR UPDATE; SELECT pg_sleep(60)");
    let mut holder = Command::new("sh");
    holder.args(["-c", "exec \"$0\" \"$@\""]).args(database.psql(&sql));
    let mut holder = holder.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let sleeping = format!(
        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%{schema}.metric_chunks%'"
    );
    crate::until("somebody holds the rows", || !database.sql(&sleeping).is_empty());
    refused(&store, Failure::Busy);
    let (channel, everything) = (name("a.metrics"), Filter::default());
    let read = store.read(&all(&channel, Tier::M1, &everything)).unwrap();
    assert_eq!(&*read.chunks[0].windows, b"a", "reading waits for nobody");
    database.sql(&format!("SELECT pg_terminate_backend(pid) FROM ({sleeping}) s"));
    holder.wait().unwrap();
    assert_eq!(store.keep(&[one("cpu:0-60=b")]), Ok(0));
}

#[test]
fn a_schema_of_events_alone_is_brought_up_to_date() {
    let Some(database) = Database::shared() else { return };
    let url = database.fresh_url();
    let (_, schema) = url.split_once("schema=").unwrap();
    let store = postgres_at(&url, 10);
    assert_eq!(store.keep(&[one("cpu:0-60=a")]), Ok(0));
    drop(store);
    database.sql(&format!(
        "SET search_path = {schema};
         DROP TABLE metric_channels, metric_series, metric_chunks, metric_tiers;
         DROP FUNCTION keep_chunks, trim_chunks; UPDATE meta SET value = '1' WHERE key = 'steps'"
    ));
    let store = postgres_at(&url, 10);
    assert_eq!(store.keep(&[one("cpu:0-60=a")]), Ok(0));
    assert_eq!(store.trim(Tier::M1, 60, 10), Ok(1));
}

/// Nodes that make the same series at the same moment, one more than there may be, while another removes them.
#[test]
fn nodes_that_keep_and_trim_at_the_same_time_lose_nothing_and_leave_nothing() {
    const ROUNDS: i64 = 30;
    const SERIES: usize = 7;
    let Some(database) = Database::shared() else { return };
    let url = database.fresh_url();
    let (_, schema) = url.split_once("schema=").unwrap();
    let count = |table: &str| database.sql(&format!("SELECT count(*) FROM {schema}.metric_{table}"));
    let (begin, kept, removed) = (Barrier::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
    let write = |node: usize| {
        let store = postgres_at(&url, SERIES);
        let mut names: Vec<_> = (0..=SERIES).map(|n| format!("{}/m{n}", ["a", "b"][n % 2])).collect();
        if node == 1 {
            names.reverse();
        }
        begin.wait();
        for round in 0..ROUNDS {
            let chunks: Vec<_> =
                names.iter().map(|name| chunk(&format!("{name}#{node}:0-0=w"), round, round + 1)).collect();
            kept.fetch_add(chunks.len() - store.keep(&chunks).unwrap(), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let write = &write;
        let nodes = [0, 1].map(|node| scope.spawn(move || write(node)));
        let store = postgres_at(&url, SERIES);
        begin.wait();
        while !nodes.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            removed.fetch_add(store.trim(Tier::M1, i64::MAX, 40).unwrap(), Ordering::Relaxed);
            assert!(count("series").parse::<usize>().unwrap() <= SERIES);
        }
        removed.fetch_add(store.trim(Tier::M1, i64::MAX, 10_000).unwrap(), Ordering::Relaxed);
    });
    assert_eq!(removed.into_inner(), kept.into_inner());
    assert_eq!([count("chunks"), count("series"), count("channels")], ["0", "0", "0"]);
}
