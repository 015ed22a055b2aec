//! What only the PostgreSQL store can meet: other nodes, other histories, and a database that says no.

use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};

use pulsewire_bus::store::{Ages, PostgresOptions, PostgresStore};
use pulsewire_bus::{Batch, Extent, Failure, Only, Outcome, Query, ReadLimit, Retention, Store, StoreError};
use pulsewire_protocol::{Epoch, Sequence};

use crate::conformance::append;
use crate::database::Database;
use crate::name;

fn store_at(url: &str, synchronous_replication: bool) -> PostgresStore {
    let epoch = Epoch::parse("early").unwrap();
    let options = PostgresOptions {
        url: url.to_owned(),
        epoch,
        readers: 2,
        synchronous_replication,
        ages: Ages::OfDatabase,
    };
    PostgresStore::new(&options).unwrap()
}

/// Keeps one event on each channel, in one request; returns the sequences.
fn keep(store: &PostgresStore, id: &str, channels: &[&str]) -> Result<Vec<u64>, StoreError> {
    let request = channels.iter().map(|channel| append(name(channel), id, "1")).collect();
    let decisions = store.commit(&Batch { requests: vec![request], strict: true, at_ms: 1 })?;
    Ok(decisions[0].as_ref().unwrap().iter().map(|place| place.position.sequence.0).collect())
}

fn sequences(store: &PostgresStore, channel: &str) -> Vec<u64> {
    let limit = ReadLimit { publications: 10_000, bytes: usize::MAX };
    let query = Query { after: Sequence::ZERO, only: Only::All, limit };
    let page = store.read(&name(channel), &query).unwrap();
    page.events.iter().map(|(sequence, _)| sequence.0).collect()
}

#[track_caller]
fn refused(store: &PostgresStore, failure: Failure) {
    let error = keep(store, "x", &["run:1"]).unwrap_err();
    assert_eq!((error.failure, error.outcome), (failure, Outcome::NotKept), "{error}");
    assert!(!error.detail.contains("geheim"), "{error}");
}

/// Row D15, at the store: two nodes, the same channels in opposite order, all begun at the same moment, the making
/// of the tables included.
#[test]
fn two_nodes_that_write_in_opposite_orders_make_one_order_and_no_deadlock() {
    const BATCHES: usize = 60;
    let Some(database) = Database::shared() else { return };
    let url = database.fresh_url();
    let begin = Barrier::new(2);
    let write = |node: usize| {
        let store = store_at(&url, false);
        let mut channels = ["run:1", "run:2", "run:3", "run:4"];
        if node == 1 {
            channels.reverse();
        }
        begin.wait();
        (0..BATCHES).map(|n| keep(&store, &format!("{node}.{n}"), &channels).unwrap()).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let nodes = [0, 1].map(|node| scope.spawn(move || write(node)));
        let places = nodes.map(|node| node.join().unwrap());
        // The batch that came first on one channel came first on all.
        let of = |node: usize, at: usize| places[node].iter().map(|places| places[at]).collect::<Vec<_>>();
        for at in 0..4 {
            assert_eq!(of(0, at), of(0, 0));
            assert_eq!(of(1, at), of(1, 3));
        }
    });
    let store = store_at(&url, false);
    for channel in ["run:1", "run:2", "run:3", "run:4"] {
        assert_eq!(sequences(&store, channel), (1..=2 * BATCHES as u64).collect::<Vec<_>>(), "{channel}");
    }
}

#[test]
fn a_server_that_took_over_has_another_epoch_unless_it_lost_nothing() {
    let Some(database) = Database::shared() else { return };
    let url = database.fresh_url();
    let (_, schema) = url.split_once("schema=").unwrap();
    let first = store_at(&url, false);
    assert_eq!(first.epoch().as_str(), "early", "nothing was asked yet");
    assert_eq!(keep(&first, "a", &["run:1"]), Ok(vec![1]));
    let epoch = first.epoch();
    assert_ne!(epoch.as_str(), "early");
    let take_over = format!("UPDATE {schema}.meta SET value = '0000AAAA' WHERE key = 'timeline'");
    database.sql(&take_over);
    let same = store_at(&url, true);
    assert_eq!(keep(&same, "b", &["run:1"]), Ok(vec![2]));
    assert_eq!(same.epoch(), epoch, "synchronous: nothing is missing");
    database.sql(&take_over);
    let other = store_at(&url, false);
    assert_eq!(sequences(&other, "run:1"), [1, 2]);
    assert_ne!(other.epoch(), epoch, "whoever comes first finds out, a reader too");
    assert_eq!(keep(&first, "a", &["run:1"]), Ok(vec![1]), "the id is known still");
    assert_eq!(first.epoch(), other.epoch(), "a connection from before is told with the next batch");
}

#[test]
fn what_the_database_refuses_is_known_not_to_be_kept() {
    let Some(database) = Database::shared() else { return };
    database.sql(
        "CREATE ROLE guarded LOGIN PASSWORD 'geheim'; GRANT CREATE ON DATABASE postgres TO guarded;
         CREATE ROLE crowded LOGIN CONNECTION LIMIT 0; CREATE ROLE reader LOGIN",
    );
    let url = database.fresh_url();
    let as_role = |role: &str| store_at(&url.replace("pulsewire@", &format!("{role}@")), false);
    refused(&as_role("guarded:geheim2"), Failure::Unreachable);
    refused(&as_role("crowded"), Failure::Busy);
    refused(&as_role("reader"), Failure::ReadOnly);
    refused(&store_at("postgres://geheim:geheim@127.0.0.1:1/geheim", false), Failure::Unreachable);
    let guarded = as_role("guarded:geheim");
    assert_eq!(keep(&guarded, "a", &["run:1"]), Ok(vec![1]));
    database.sql("ALTER ROLE guarded SET default_transaction_read_only = on");
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'guarded'");
    let read_only = as_role("guarded:geheim");
    refused(&read_only, Failure::ReadOnly);
    assert_eq!(read_only.probe().unwrap_err().failure, Failure::ReadOnly);
    assert_eq!(sequences(&read_only, "run:1"), [1], "it is read on");
    database.sql("ALTER ROLE guarded SET default_transaction_read_only = off");
    crate::until("it works again", || keep(&read_only, "b", &["run:1"]) == Ok(vec![2]));
    assert_eq!(read_only.probe(), Ok(()));
}

#[test]
fn a_lock_that_somebody_holds_is_not_waited_for_long() {
    let Some(database) = Database::shared() else { return };
    let url = database.fresh_url();
    let (_, schema) = url.split_once("schema=").unwrap();
    let store = store_at(&url, false);
    assert_eq!(keep(&store, "a", &["run:1"]), Ok(vec![1]));
    let mut holder = Command::new("sh");
    let script = "exec \"$0\" \"$@\"";
    holder.args(["-c", script]).args(
        database.psql(&format!("BEGIN; SELECT FROM {schema}.channels FOR UPDATE; SELECT pg_sleep(60)")),
    );
    let mut holder = holder.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let sleeping =
        format!("SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%{schema}.%'");
    crate::until("somebody holds the rows", || !database.sql(&sleeping).is_empty());
    let error = keep(&store, "b", &["run:1"]).unwrap_err();
    assert_eq!((error.failure, error.outcome), (Failure::Busy, Outcome::NotKept), "{error}");
    assert_eq!(sequences(&store, "run:1"), [1], "reading waits for nobody");
    database.sql(&format!("SELECT pg_terminate_backend(pid) FROM ({sleeping}) s"));
    holder.wait().unwrap();
    assert_eq!(keep(&store, "b", &["run:1"]), Ok(vec![2]), "the connection is used on");
}

#[test]
fn the_view_has_document_003s_columns() {
    let Some(database) = Database::shared() else { return };
    let url = database.fresh_url();
    let (_, schema) = url.split_once("schema=").unwrap();
    keep(&store_at(&url, false), "a", &["run:7", "other:1"]).unwrap();
    let columns = "id, run_id, user_id, event_type, message_data, timestamp, sequence_number, is_critical";
    let rows = database.sql(&format!("SELECT {columns} FROM {schema}.persisted_collaboration_messages"));
    assert_eq!(rows, "run:7#1|7||GRAFT|1|1970-01-01 00:00:00.001|1|f");
}

/// Row D23: a node keeps and another trims, and the clock of one of them is an hour off.
#[test]
fn ages_are_told_by_the_clock_of_the_database_alone() {
    const HOUR_MS: i64 = 3_600_000;
    let Some(database) = Database::shared() else { return };
    let true_ms: i64 =
        database.sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").parse().unwrap();
    for (kept_off_ms, trimmed_off_ms) in [(HOUR_MS, 0), (-HOUR_MS, 0), (0, HOUR_MS), (0, -HOUR_MS), (0, 0)] {
        let url = database.fresh_url();
        let (_, schema) = url.split_once("schema=").unwrap();
        let (store, other) = (store_at(&url, false), store_at(&url, false));
        let channel = name("run:1");
        let case = format!("kept {kept_off_ms} ms off, trimmed {trimmed_off_ms}");
        let keep = |id: &str, critical: bool| {
            let mut append = append(channel.clone(), id, "1");
            Arc::make_mut(&mut append.accepted).event.critical = Some(critical);
            let batch = Batch { requests: vec![[append].into()], strict: true, at_ms: true_ms + kept_off_ms };
            let place = store.commit(&batch).unwrap()[0].as_ref().unwrap()[0].clone();
            (place.position.sequence.0, place.duplicate)
        };
        let retention = Retention {
            history_max: 1,
            critical_max: 10,
            critical_ttl_ms: HOUR_MS / 2,
            state_max: 0,
            ids_ms: HOUR_MS / 2,
            ids_max: 100,
        };
        let trim = |retention: &Retention| {
            let Extent { head, floor, critical_floor, .. } =
                other.trim(&channel, retention, true_ms + trimmed_off_ms).unwrap();
            [head.0, floor.0, critical_floor.0]
        };
        assert_eq!(
            [keep("a", true), keep("b", false), keep("c", false)],
            [(1, false), (2, false), (3, false)]
        );
        // Half an hour is not over for anybody; one of two ordinary events is too many for everybody.
        assert_eq!(trim(&retention), [3, 2, 0], "{case}");
        assert_eq!(keep("b", false), (2, true), "the id of what is gone is remembered");
        // Let it be three quarters of an hour older.
        for table in ["events", "ids"] {
            database.sql(&format!("UPDATE {schema}.{table} SET kept_at = kept_at - {}", HOUR_MS / 4 * 3));
        }
        assert_eq!(trim(&retention), [3, 2, 1], "{case}: the critical event is too old, and only that");
        assert_eq!(keep("c", false), (3, true), "what is kept is known, however old");
        assert_eq!(keep("b", false), (4, false), "and what is gone was forgotten");
        assert_eq!(sequences(&store, "run:1"), [3, 4]);
    }
}
