//! Events in PostgreSQL: what a stop of the server, a stop of the database and a second node do to them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pulsewire_hub::Role;
use serde_json::{Value, json};

use crate::child::Folder;
use crate::database::Database;
use crate::harness::{Answer, Server, http, until};

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

/// Publishes one event after another, each until it is acknowledged, and writes down where it stands.
struct Publisher {
    address: SocketAddr,
    headers: String,
    acknowledged: Mutex<BTreeMap<String, u64>>,
    refused: AtomicBool,
    done: AtomicBool,
}

impl Publisher {
    fn of(server: &Server) -> Self {
        let (address, headers) = (server.address, credentials(server));
        Self {
            address,
            headers,
            acknowledged: Mutex::default(),
            refused: AtomicBool::new(false),
            done: AtomicBool::new(false),
        }
    }

    fn run(&self, name: usize) {
        for n in 0.. {
            let id = format!("{name}.{n}");
            let body = note("run:1", &id).to_string();
            loop {
                let answer = http(self.address, "POST", "/api/publish", &self.headers, &body);
                if answer.status == 200 {
                    let sequence = answer.json()["sequence"].as_u64().unwrap();
                    self.acknowledged.lock().unwrap().insert(id, sequence);
                    break;
                }
                assert_unavailable(&answer);
                self.refused.store(true, Ordering::SeqCst);
                if self.done.load(Ordering::SeqCst) {
                    return;
                }
            }
            if self.done.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn wait_for_more(&self) {
        let before = self.count();
        until("more is acknowledged", || self.count() >= before + 20);
    }
}

/// Row D13.
#[test]
fn what_was_acknowledged_outlives_stops_of_the_database_and_the_server_is_ready_when_it_is_back() {
    let Some(database) = Database::start(&["fsync=off"]) else { return };
    let url = database.fresh_url();
    let server = kept_at(&url);
    let publisher = Publisher::of(&server);
    std::thread::scope(|scope| {
        for name in 0..3 {
            let publisher = &publisher;
            scope.spawn(move || publisher.run(name));
        }
        for mode in ["fast", "immediate"] {
            publisher.wait_for_more();
            publisher.refused.store(false, Ordering::SeqCst);
            database.stop(mode);
            until("publishers are told", || publisher.refused.load(Ordering::SeqCst));
            until("readiness says so", || readiness(&server) == "degraded");
            assert_eq!(server.metric("websocket_store_degraded"), 1.0);
            database.start_again();
            publisher.wait_for_more();
            until("it is ready again", || readiness(&server) == "ready");
        }
        publisher.done.store(true, Ordering::SeqCst);
    });
    let (_, schema) = url.split_once("schema=").unwrap();
    let rows = database.sql(&format!("SELECT id, sequence FROM {schema}.events ORDER BY sequence"));
    let kept: Vec<(&str, u64)> = rows
        .lines()
        .map(|line| line.split_once('|').map(|(id, sequence)| (id, sequence.parse().unwrap())).unwrap())
        .collect();
    let sequences: Vec<u64> = kept.iter().map(|(_, sequence)| *sequence).collect();
    assert_eq!(sequences, (1..=kept.len() as u64).collect::<Vec<_>>(), "no hole");
    let places: BTreeMap<&str, u64> = kept.iter().copied().collect();
    assert_eq!(places.len(), kept.len(), "nothing twice");
    for (id, sequence) in publisher.acknowledged.lock().unwrap().iter() {
        assert_eq!(places.get(id.as_str()), Some(sequence), "{id}");
    }
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
    let encrypted = "SELECT count(*), bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'pulsewire'";
    assert_eq!(database.sql(encrypted), "1|t");
    let stranger = trusting("other.pem", &other.cert.pem());
    until("the stranger is not believed", || readiness(&stranger) == "degraded");
    assert_unavailable(&try_publish(&stranger, "a"));
}
