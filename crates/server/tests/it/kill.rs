//! Row D1: whatever was acknowledged is there after `kill -9`, once, in its place, and readers miss nothing of it.
//!
//! The process is killed a few times over, or as often as `PULSEWIRE_KILL_ROUNDS` says, while eight publishers and a
//! reader go on; what they and the store say is judged by the history checker.

use std::time::{Duration, Instant};

use pulsewire_loadtest::check::finding::Report;
use pulsewire_loadtest::report::Figure;
use rusqlite::Connection;
use serde_json::Value;

use crate::child::{Folder, Process, pulsewire};
use crate::database::Database;
use crate::harness::until;
use crate::proof::{self, Proof};
use crate::recorded::{CHANNEL, History, Place};

const PUBLISHERS: usize = 8;
/// A process that starts over what the last one left is ready within this.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// What came out of it.
struct Outcome {
    report: Report,
    rounds: u64,
    ready_at_worst: Duration,
    took: Duration,
}

/// Starts the server on this store and waits until it is ready.
fn start(folder: &Folder, settings: &str) -> (Process, Place, Duration) {
    let begun = Instant::now();
    let data = folder.path().to_str().unwrap();
    let process = Process::serve(pulsewire(), &["--dev", "--data", data, "--config", settings]);
    until("it is ready", || process.http("GET", "/readyz", "", "").status == 200);
    let ready = begun.elapsed();
    let file = std::fs::read_to_string(folder.path().join("dev.json")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    let token = file["token"].as_str().unwrap().to_owned();
    let place = Place { address: process.address, token, balanced: None };
    (process, place, ready)
}

fn kill_over_and_over(
    folder: &Folder,
    store: &str,
    rows: impl FnOnce() -> Vec<(u64, String, Value)>,
) -> Outcome {
    let rounds = proof::rounds("PULSEWIRE_KILL_ROUNDS", 4);
    let settings = folder.write(
        "settings.toml",
        &format!(
            "{store}\n[collector]\nenabled = false\n\
             [[namespace]]\nname = \"run\"\npattern = \"run:*\"\nhistory_max = 1000000\n"
        ),
    );
    let settings = settings.to_str().unwrap();
    let history = History::new();
    let begun = Instant::now();
    let mut ready_at_worst = Duration::ZERO;
    std::thread::scope(|scope| {
        let _ending = history.ending();
        let reader = scope.spawn(|| history.follow("ada"));
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|n| {
                let history = &history;
                scope.spawn(move || history.publish(&format!("p{n}"), n % 2 == 0))
            })
            .collect();
        for round in 0..rounds {
            let (mut process, place, ready) = start(folder, settings);
            ready_at_worst = ready_at_worst.max(ready);
            let enough = history.acknowledged() + 100 + round % 7 * 150;
            history.whereabouts.set(Some(place));
            until("some were published", || history.acknowledged() >= enough);
            history.whereabouts.set(None);
            process.signal("KILL");
            process.wait();
        }
        let (_process, place, ready) = start(folder, settings);
        ready_at_worst = ready_at_worst.max(ready);
        history.whereabouts.set(Some(place));
        history.end();
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        history.publish_last();
        reader.join().unwrap();
    });
    history.holds(rows());
    let report = history.is_clean();
    let totals = report.totals;
    assert!(ready_at_worst < READY_WITHIN, "{ready_at_worst:?}");
    assert!(totals.acknowledged >= 100 * rounds, "{totals:?}");
    assert_eq!(totals.rejected, 0, "{totals:?}");
    Outcome { report, rounds, ready_at_worst, took: begun.elapsed() }
}

impl Outcome {
    fn prove(self, name: &'static str, about: &'static str) {
        let Self { report, rounds, ready_at_worst, took } = self;
        let totals = report.totals;
        let found: u64 = report.counts.values().sum();
        let figure = |what: &str, value: f64, unit| Figure::new(format!("{name}_{what}"), value, unit);
        let figures = vec![
            figure("rounds", rounds as f64, "kills"),
            figure("acknowledged", totals.acknowledged as f64, "events"),
            figure("anomalies", found as f64, "events").at_most(0.0).note(
                "lost, phantom, duplicate, forked, out of order, skipped, stale, by the history checker",
            ),
            figure("unknown", totals.unknown as f64, "events").note(format!(
                "left by impatient publishers; {} of them are kept, once",
                totals.unknown_delivered
            )),
            figure("repeated", totals.repeated as f64, "events"),
            figure("delivered", totals.delivered as f64, "events")
                .note("to a reader that came back each time, and to whoever reads the store at the end"),
            figure("ready_s", ready_at_worst.as_secs_f64(), "s")
                .at_most(READY_WITHIN.as_secs_f64())
                .note("from the start of the process to its readiness, at worst"),
            figure("took_s", took.as_secs_f64(), "s"),
        ];
        Proof { name, about, figures }.write();
    }
}

#[test]
fn what_was_acknowledged_outlives_the_process_in_sqlite() {
    let folder = Folder::new();
    let path = folder.path().join("pulsewire.db");
    let outcome = kill_over_and_over(&folder, "[store]\nurl = \"sqlite\"", || {
        let file = Connection::open(path).unwrap();
        let sql = "SELECT sequence, events.id, data FROM events JOIN channels ON channels.id = channel
                   WHERE name = ?1 ORDER BY sequence";
        let mut statement = file.prepare(sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            let data = serde_json::from_str(&row.get::<_, String>(2)?).unwrap();
            Ok((row.get::<_, i64>(0)? as u64, row.get(1)?, data))
        };
        statement.query_map([CHANNEL], row).unwrap().map(Result::unwrap).collect()
    });
    outcome.prove(
        "kill_sqlite",
        "Row D1: the process is killed with SIGKILL while eight publishers send to one channel kept in SQLite, each commit \
         on disk.",
    );
}

#[test]
fn what_was_acknowledged_outlives_the_process_in_postgres() {
    // What is killed is the gateway: the database keeps what it has, flushed or not.
    let settings: &[&str] = if proof::wanted() { &[] } else { &["fsync=off"] };
    let Some(database) = Database::start(settings) else { return };
    let url = database.fresh_url();
    let outcome = kill_over_and_over(&Folder::new(), &format!("[store]\nurl = \"{url}\""), || {
        database_rows(&database, &url)
    });
    outcome.prove("kill_postgres", "Row D1: the same with PostgreSQL as the store.");
}

/// What PostgreSQL holds of the channel.
pub(crate) fn database_rows(database: &Database, url: &str) -> Vec<(u64, String, Value)> {
    let (_, schema) = url.split_once("schema=").unwrap();
    let rows = database.sql(&format!("SELECT sequence, id, data FROM {schema}.events ORDER BY sequence"));
    let row = |line: &str| {
        let mut words = line.splitn(3, '|');
        let (sequence, id, data) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        (sequence.parse().unwrap(), id.to_owned(), serde_json::from_str(data).unwrap())
    };
    rows.lines().map(row).collect()
}
