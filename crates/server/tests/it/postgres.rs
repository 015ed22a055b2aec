//! Events in PostgreSQL: what a stop of the server, a stop of the database and a second node do to them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pulsewire_hub::Role;
use pulsewire_loadtest::report::Figure;
use serde_json::{Value, json};

use crate::child::Folder;
use crate::database::Database;
use crate::harness::{Answer, Server, until};
use crate::kill::database_rows;
use crate::proof::{self, Proof};
use crate::recorded::{History, Place};

fn kept_at(url: &str) -> Server {
    Server::start(&format!(
        "[store]\nurl = \"{url}\"\n[[namespace]]\nname = \"run\"\npattern = \"run:*\"\nhistory_max = 100000\n"
    ))
}

fn credentials(server: &Server) -> String {
    format!("Authorization: Bearer {}\r\n", server.token("app", Role::Publisher))
}

fn note(channel: &str, id: &str) -> Value {
    json!({ "channel": channel, "type": "note", "data": id, "id": id })
}

fn try_publish(server: &Server, id: &str) -> Answer {
    server.http("POST", "/api/publish", &credentials(server), &note("run:1", id).to_string())
}

fn readiness(server: &Server) -> Value {
    server.get("/readyz").json()["status"].clone()
}

#[track_caller]
fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    let code = answer.json()["code"].clone();
    assert!(code == "store_unavailable" || code == "outcome_unknown", "{code}");
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
}

#[test]
fn a_restart_keeps_events_places_and_message_ids() {
    let Some(database) = Database::shared() else { return };
    let url = database.fresh_url();
    let mut server = kept_at(&url);
    let first: Vec<Value> = ["a", "b", "c"].iter().map(|id| server.publish(&note("run:1", id))).collect();
    server.stop(Duration::ZERO);
    drop(server);
    let server = kept_at(&url);
    let again = server.publish(&note("run:1", "b"));
    assert_eq!((&again["duplicate"], &again["sequence"]), (&json!(true), &json!(2)));
    assert_eq!(again["epoch"], first[1]["epoch"], "the history is the same");
    let mut socket = server.welcomed("ada");
    let since = json!({ "epoch": first[0]["epoch"], "sequence": 1 });
    socket.say(&json!({ "type": "subscribe", "channels": [{ "channel": "run:1", "since": since }] }));
    let kinds: Vec<String> = (0..4)
        .map(|_| {
            let message = socket.json();
            format!("{} {}", message["type"].as_str().unwrap(), message["sequence"])
        })
        .collect();
    assert_eq!(kinds, ["subscribed null", "event 2", "event 3", "replay_end 3"]);
    assert_eq!(server.publish(&note("run:1", "d"))["sequence"], 4);
    assert_eq!(socket.json()["sequence"], 4);
}

/// Rows D11 and D13. Half of the stops come while a commit is on its way, of which the database keeps what nobody was
/// told: of four stops the third and fourth. `PULSEWIRE_OUTAGE_ROUNDS` says how many there are.
#[test]
fn what_was_acknowledged_outlives_stops_of_the_database_and_the_server_is_ready_when_it_is_back() {
    // A crash of the database alone needs no flushed files.
    let settings: &[&str] = if proof::wanted() { &[] } else { &["fsync=off"] };
    let Some(database) = Database::start(settings) else { return };
    let url = database.fresh_url();
    let server = kept_at(&url);
    let history = History::new();
    let place = Place { address: server.address, token: server.token("app", Role::Admin), balanced: None };
    history.whereabouts.set(Some(place));
    let stops = usize::try_from(proof::rounds("PULSEWIRE_OUTAGE_ROUNDS", 3)).unwrap();
    let begun = Instant::now();
    let mut ready_at_worst = Duration::ZERO;
    std::thread::scope(|scope| {
        let _ending = history.ending();
        let reader = scope.spawn(|| history.follow("ada"));
        let publishers = ["p0", "p1", "p2"].map(|name| {
            let history = &history;
            scope.spawn(move || history.publish(name, name != "p2"))
        });
        for stop in 0..stops {
            let (mode, held) = (["fast", "immediate"][stop % 2], stop / 2 % 2 == 1);
            wait_for_more(&history);
            if held {
                hold_commits(&database);
            }
            history.refused.store(false, Ordering::SeqCst);
            database.stop(mode);
            until("publishers are told", || history.refused.load(Ordering::SeqCst));
            until("readiness says so", || readiness(&server) == "degraded");
            assert_eq!(server.metric("websocket_store_degraded"), 1.0);
            database.start_again();
            let back = Instant::now();
            if held {
                reconfigure(&database, "RESET synchronous_standby_names");
            }
            wait_for_more(&history);
            until("it is ready again", || readiness(&server) == "ready");
            ready_at_worst = ready_at_worst.max(back.elapsed());
        }
        history.end();
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        history.publish_last();
        reader.join().unwrap();
    });
    history.holds(database_rows(&database, &url));
    let report = history.is_clean();
    let totals = report.totals;
    assert!(totals.acknowledged >= stops as u64 * 2 * MORE, "{totals:?}");
    let figure = |what: &str, value: f64, unit| Figure::new(format!("outage_{what}"), value, unit);
    let figures = vec![
        figure("stops", stops as f64, "")
            .note("fast and immediate in turn, half of them with commits under way"),
        figure("acknowledged", totals.acknowledged as f64, "events"),
        figure("anomalies", report.counts.values().sum::<u64>() as f64, "events").at_most(0.0),
        figure("unknown", totals.unknown as f64, "events")
            .note(format!("never tried again; {} of them are kept, once", totals.unknown_delivered)),
        figure("rejected", totals.rejected as f64, "events").note("never tried again; none of them is kept"),
        figure("delivered", totals.delivered as f64, "events"),
        figure("back_s", ready_at_worst.as_secs_f64(), "s")
            .note("from the database's start to readiness and twenty acknowledgements, at worst"),
        figure("took_s", begun.elapsed().as_secs_f64(), "s"),
    ];
    let about = "Rows D11 and D13: PostgreSQL is stopped and started again while three publishers send to one channel.";
    Proof { name: "outage", about, figures }.write();
}

const MORE: u64 = 20;

fn wait_for_more(history: &History) {
    let before = history.acknowledged();
    until("more is acknowledged", || history.acknowledged() >= before + MORE);
}

fn reconfigure(database: &Database, change: &str) {
    database.sql(&format!("ALTER SYSTEM {change}"));
    database.sql("SELECT pg_reload_conf()");
}

/// Waits until commits are kept by the database and not answered: they wait for a standby that is not there.
fn hold_commits(database: &Database) {
    reconfigure(database, "SET synchronous_standby_names = 'nobody'");
    let held = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    until("a commit is on its way", || database.sql(held) == "t");
}

/// Row G4.
#[test]
fn a_database_that_is_not_there_yet_is_waited_for() {
    let Some(database) = Database::start(&["fsync=off"]) else { return };
    database.stop("fast");
    let server = kept_at(&database.fresh_url());
    until("readiness says why", || {
        let answer = server.get("/readyz").json();
        answer["status"] == "degraded" && answer["stores"][0]["failure"] == "unreachable"
    });
    assert_unavailable(&try_publish(&server, "a"));
    server.publish(&json!({ "channel": "upstream:x", "type": "tick", "data": 1 }));
    database.start_again();
    until("it is ready without a publisher", || readiness(&server) == "ready");
    assert_eq!(server.publish(&note("run:1", "a"))["sequence"], 1);
}

/// Row D14.
#[test]
fn a_read_only_database_is_read_and_refuses_publishers() {
    let Some(database) = Database::start(&["fsync=off"]) else { return };
    let server = kept_at(&database.fresh_url());
    assert_eq!(server.publish(&note("run:1", "a"))["sequence"], 1);
    let read_only = |value: &str| {
        database.sql(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}"));
        database.sql("SELECT pg_reload_conf()");
    };
    read_only("on");
    let (mut n, mut answer) = (0, None);
    until("publishers are refused", || {
        n += 1;
        let tried = try_publish(&server, &format!("b{n}"));
        let refused = tried.status != 200;
        answer = Some(tried);
        refused
    });
    assert_unavailable(&answer.unwrap());
    assert!(server.metric("websocket_store_errors_total{kind=\"read_only\"}") >= 1.0);
    let mut socket = server.welcomed("ada");
    socket.say(&json!({ "type": "subscribe", "channels": [{ "channel": "run:1", "last": 1000 }] }));
    assert_eq!(socket.json()["type"], "subscribed");
    assert_eq!(socket.json()["sequence"], 1, "history is read on");
    read_only("off");
    until("publishers are accepted again", || try_publish(&server, "c").status == 200);
    until("it is ready again", || readiness(&server) == "ready");
}

/// Row D15 and decision 5: without a broker, the head check finds what the other node has kept.
#[test]
fn two_servers_on_one_database_tell_one_order() {
    let Some(database) = Database::shared() else { return };
    let url = database.fresh_url();
    let servers = [kept_at(&url), kept_at(&url)];
    let mut sockets = servers.each_ref().map(|server| server.welcomed("ada"));
    for socket in &mut sockets {
        socket.say(&json!({ "type": "subscribe", "channels": ["run:1", "run:2"] }));
        assert_eq!(socket.json()["type"], "subscribed");
    }
    const BATCHES: usize = 30;
    std::thread::scope(|scope| {
        for (name, server) in servers.iter().enumerate() {
            scope.spawn(move || {
                let mut channels = ["run:1", "run:2"];
                if name == 1 {
                    channels.reverse();
                }
                for n in 0..BATCHES {
                    let events: Vec<_> =
                        channels.iter().map(|channel| note(channel, &format!("{name}.{n}"))).collect();
                    server.publish(&json!(events));
                }
            });
        }
    });
    let told = sockets.each_mut().map(|socket| {
        let mut told: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
        for _ in 0..4 * BATCHES {
            let event = socket.json();
            assert_eq!(event["type"], "event", "{event}");
            let place = (event["sequence"].as_u64().unwrap(), event["data"].as_str().unwrap().to_owned());
            told.entry(event["channel"].as_str().unwrap().to_owned()).or_default().push(place);
        }
        told
    });
    assert_eq!(told[0], told[1], "both nodes tell the same");
    for (channel, events) in &told[0] {
        let sequences: Vec<_> = events.iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(sequences, (1..=2 * BATCHES as u64).collect::<Vec<_>>(), "{channel}");
    }
}

#[test]
fn an_encrypted_connection_is_made_only_to_whom_the_address_trusts() {
    let ours = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (ours.cert.pem(), ours.signing_key.serialize_pem());
    let settings = ["fsync=off", "ssl=on", "ssl_cert_file='ours.pem'", "ssl_key_file='ours.key'"];
    let files = [("ours.pem", &*certificate), ("ours.key", &*key)];
    let Some(database) = Database::start_with(&settings, &files) else { return };
    let folder = Folder::new();
    let trusting = |name: &str, certificate: &str| {
        let path = folder.write(name, certificate);
        kept_at(&format!("{}&sslmode=verify-full&sslrootcert={}", database.fresh_url(), path.display()))
    };
    let server = trusting("ours.pem", &certificate);
    assert_eq!(server.publish(&note("run:1", "a"))["sequence"], 1);
    let encrypted = "SELECT count(*) > 0, bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'pulsewire'";
    assert_eq!(database.sql(encrypted), "t|t");
    let stranger = trusting("other.pem", &other.cert.pem());
    until("the stranger is not believed", || readiness(&stranger) == "degraded");
    assert_unavailable(&try_publish(&stranger, "a"));
}
