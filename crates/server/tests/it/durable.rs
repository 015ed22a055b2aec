//! Nothing is lost: what a channel keeps survives the process, and who comes late or back gets it.

use std::time::Duration;

use pulsewire_hub::Role;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire};
use crate::harness::{Server, Socket, until};

/// A server that keeps its events in a folder, with a short history.
fn kept_in(folder: &Folder, more: &str) -> Server {
    let folder = folder.path().display();
    Server::start(&format!(
        "[server]\ndata_dir = \"{folder}\"\n[store]\nurl = \"sqlite\"\nbusy_timeout = \"10ms\"\n{more}\n\
         [[namespace]]\nname = \"run\"\npattern = \"run:*\"\nhistory_max = 5\ncritical_types = [\"FLAG\"]\nstate_max = 100\n"
    ))
}

fn note(channel: &str, n: usize) -> Value {
    json!({"channel": channel, "type": "note", "data": n})
}

/// What a socket hears of one channel until a message of this type, in short.
fn heard(socket: &mut Socket, last: &str) -> String {
    let mut lines = Vec::new();
    loop {
        let message = socket.json();
        let kind = message["type"].as_str().unwrap().to_owned();
        lines.push(match kind.as_str() {
            "event" if message["previous"].is_null() => format!("{}", message["sequence"]),
            "event" => format!("{}<{}", message["previous"], message["sequence"]),
            "gap" => format!("gap {}-{}", message["from"], message["to"]),
            "subscribed" => format!("subscribed @{}", message["positions"]["run:1"]["sequence"]),
            "state" => {
                let keys: Vec<&str> = message["values"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|value| value["key"].as_str().unwrap())
                    .collect();
                format!("state {} @{}", keys.join(","), message["sequence"])
            }
            "pos" | "replay_end" => format!("{kind} {}", message["sequence"]),
            _ => message.to_string(),
        });
        if kind == last {
            return lines.join(" ");
        }
    }
}

#[test]
fn a_restart_keeps_events_places_and_message_ids() {
    let folder = Folder::new();
    let event = |n: usize| json!({"channel": "run:1", "type": "note", "data": n, "id": format!("m{n}")});
    let mut server = kept_in(&folder, "");
    let first: Vec<Value> = (1..=3).map(|n| server.publish(&event(n))).collect();
    server.stop(Duration::ZERO);
    drop(server);
    let server = kept_in(&folder, "");
    let again = server.publish(&event(2));
    assert_eq!((&again["duplicate"], &again["sequence"]), (&json!(true), &json!(2)));
    assert_eq!(again["epoch"], first[1]["epoch"], "the history is the same");
    let other = json!({"channel": "run:1", "type": "note", "data": "other", "id": "m2"});
    let token = server.token("app", Role::Publisher);
    let headers = format!("Authorization: Bearer {token}\r\n");
    let refused = server.http("POST", "/api/publish", &headers, &other.to_string());
    assert_eq!((refused.status, refused.json()["code"].clone()), (409, json!("idempotency_conflict")));
    let mut socket = server.welcomed("ada");
    let since = json!({"epoch": first[0]["epoch"], "sequence": 1});
    socket.say(&json!({"type": "subscribe", "channels": [{"channel": "run:1", "since": since}]}));
    assert_eq!(heard(&mut socket, "replay_end"), "subscribed @1 2 3 replay_end 3");
    assert_eq!(server.publish(&note("run:1", 4))["sequence"], 4);
    assert_eq!(socket.json()["sequence"], 4);
}

#[test]
fn late_joiners_get_all_critical_events_the_state_and_then_the_live_tail() {
    let folder = Folder::new();
    let server = kept_in(&folder, "");
    server.publish(&json!({"channel": "run:1", "type": "FLAG", "data": "a"}));
    for n in 2..=30 {
        server.publish(&note("run:1", n));
    }
    server.publish(&json!({"channel": "run:1", "type": "FLAG", "data": "b"}));
    server.publish(&json!({"channel": "run:1", "type": "task", "data": {"done": 1}, "key": "t2"}));
    server.publish(&json!({"channel": "run:1", "type": "task", "data": {"done": 1}, "key": "t1"}));
    server.publish(&json!({"channel": "run:1", "type": "task", "data": {"done": 2}, "key": "t2"}));
    server.publish(&json!({"channel": "run:1", "type": "task", "data": null, "key": "t1"}));
    let mut socket = server.welcomed("ada");
    let wish = json!({"channel": "run:1", "replay": "critical", "state": true});
    socket.say(&json!({"type": "subscribe", "channels": [wish]}));
    assert_eq!(heard(&mut socket, "replay_end"), "subscribed @0 state t2 @35 1 1<31 replay_end 35");
    server.publish(&note("run:1", 36));
    assert_eq!(socket.json()["sequence"], 36);
    assert!(server.metric("websocket_initial_state_latency_milliseconds_count") >= 1.0);
    for stage in ["fetch", "serialize", "send"] {
        assert!(
            server.metric(&format!("pulsewire_initial_state_stage_seconds_count{{stage=\"{stage}\"}}"))
                >= 1.0
        );
    }
    assert!(server.metric("pulsewire_tokio_tasks") >= 1.0);
    // The ordinary replay begins at the floor and says what is gone.
    let mut socket = server.welcomed("bob");
    socket.say(&json!({"type": "subscribe", "channels": [{"channel": "run:1", "last": 1000}]}));
    let said = heard(&mut socket, "replay_end");
    assert!(said.starts_with("subscribed @0 gap 1-"), "{said}");
    assert!(said.ends_with("33 34 35 36 replay_end 36"), "{said}");
}

/// A server whose runs are values by key.
fn of_values(folder: &Folder, store: &str) -> Server {
    let folder = folder.path().display();
    Server::start(&format!(
        "[server]\ndata_dir = \"{folder}\"\n[store]\nurl = \"{store}\"\n\
         [[namespace]]\nname = \"run\"\npattern = \"run:*\"\nkind = \"state\"\nhistory_max = 5\n"
    ))
}

fn value(key: &str, data: &Value) -> Value {
    json!({"channel": "run:1", "type": "task", "data": data, "key": key})
}

#[test]
fn a_state_channel_sends_its_values_to_whoever_begins() {
    let folder = Folder::new();
    let server = of_values(&folder, "sqlite");
    for (key, n) in [("a", 1), ("b", 1), ("a", 2)] {
        server.publish(&value(key, &json!(n)));
    }
    let token = server.token("app", Role::Publisher);
    let headers = format!("Authorization: Bearer {token}\r\n");
    let refused = server.http("POST", "/api/publish", &headers, &note("run:1", 1).to_string());
    assert_eq!((refused.status, refused.json()["code"].clone()), (400, json!("bad_request")));
    assert!(refused.json()["detail"].as_str().unwrap().contains("needs a `key`"), "{}", refused.json());
    let mut socket = server.welcomed("ada");
    socket.say(&json!({"type": "subscribe", "channels": ["run:1"]}));
    assert_eq!(heard(&mut socket, "replay_end"), "subscribed @3 state a,b @3 pos 3 replay_end 3");
    server.publish(&value("a", &json!(3)));
    assert_eq!(socket.json()["sequence"], 4);
    // Who has it already is not sent it again, unless it asks.
    socket.say(&json!({"type": "subscribe", "channels": ["run:1"]}));
    assert_eq!(heard(&mut socket, "subscribed"), "subscribed @4");
    server.publish(&value("b", &json!(null)));
    assert_eq!(socket.json()["sequence"], 5);
    let mut other = server.welcomed("bob");
    other.say(&json!({"type": "subscribe", "channels": ["run:1"]}));
    assert_eq!(heard(&mut other, "replay_end"), "subscribed @5 state a @5 pos 5 replay_end 5");
}

#[test]
fn who_has_missed_too_much_of_a_state_channel_gets_its_values_and_no_gap() {
    let folder = Folder::new();
    let server = of_values(&folder, "sqlite");
    let first = server.publish(&value("a", &json!(1)));
    for n in 2..=30 {
        server.publish(&value(["a", "b", "c"][n % 3], &json!(n)));
    }
    let mut late = server.welcomed("ada");
    let since = |epoch: &Value| json!({"channel": "run:1", "since": {"epoch": epoch, "sequence": 1}});
    late.say(&json!({"type": "subscribe", "channels": [since(&first["epoch"])]}));
    let said = heard(&mut late, "replay_end");
    assert!(said.starts_with("subscribed @1 state a,b,c @30 pos "), "{said}");
    assert!(said.ends_with(" 28 29 30 replay_end 30") && !said.contains("gap"), "{said}");
    let mut strange = server.welcomed("bob");
    strange.say(&json!({"type": "subscribe", "channels": [since(&json!("another"))]}));
    let said = heard(&mut strange, "replay_end");
    assert!(
        said.contains("\"type\":\"reset\"") && said.contains(" state a,b,c @30 pos 30 replay_end 30"),
        "{said}"
    );
}

#[test]
fn a_state_that_broke_off_is_sent_again_when_the_session_comes_back() {
    const KEYS: usize = 100;
    let folder = Folder::new();
    let server = kept_in(&folder, "");
    // More than the kernel takes for somebody who does not read.
    for n in 0..KEYS {
        server.publish(&value(&format!("k{n}"), &json!("x".repeat(50_000))));
    }
    let mut socket = server.open("/ws", "");
    socket.say(&json!({"type": "connect", "token": server.token("ada", Role::User)}));
    let session = socket.json()["session"].clone();
    socket.say(&json!({"type": "subscribe", "channels": [{"channel": "run:1", "state": true}]}));
    assert_eq!(socket.json()["type"], "subscribed");
    let part = socket.json();
    assert_eq!((&part["type"], &part["more"]), (&json!("state"), &json!(true)));
    drop(socket);
    let mut socket = server.open("/ws", "");
    socket.say(&json!({"type": "connect", "token": server.token("ada", Role::User), "session": session}));
    assert_eq!(socket.json()["resumed"], true);
    assert_eq!(socket.json()["type"], "subscribed");
    let mut keys = 0;
    loop {
        let part = socket.json();
        assert_eq!(part["type"], "state");
        keys += part["values"].as_array().unwrap().len();
        if part["more"] == false {
            break;
        }
    }
    assert_eq!(keys, KEYS);
    assert_eq!(socket.json(), json!({"type": "replay_end", "channel": "run:1", "sequence": KEYS}));
}

#[test]
fn a_filter_skips_events_and_says_how_far_it_is() {
    let folder = Folder::new();
    let server = kept_in(&folder, "");
    let tagged =
        |n: usize, env: &str| json!({"channel": "run:1", "type": "note", "data": n, "tags": {"env": env}});
    server.publish(&tagged(1, "prod"));
    server.publish(&tagged(2, "test"));
    server.publish(&tagged(3, "prod"));
    let mut socket = server.welcomed("ada");
    let wish = json!([{"channel": "run:1", "last": 5}]);
    socket.say(&json!({"type": "subscribe", "channels": wish, "tags": {"env": "prod"}}));
    assert_eq!(heard(&mut socket, "replay_end"), "subscribed @0 1 1<3 replay_end 3");
    server.publish(&tagged(4, "test"));
    // Told without anything that passes the filter, so that it never falls out of what the channel keeps.
    assert_eq!(heard(&mut socket, "pos"), "pos 4");
    server.publish(&tagged(5, "prod"));
    assert_eq!(socket.json()["sequence"], 5);
    let mut all = server.welcomed("bob");
    all.say(&json!({"type": "subscribe", "channels": ["run:1"]}));
    assert_eq!(heard(&mut all, "subscribed"), "subscribed @5");
}

/// Row D5, and the store's part of `/readyz`.
#[test]
fn while_the_store_is_locked_publishers_are_told_and_everything_else_goes_on() {
    let folder = Folder::new();
    let server = kept_in(&folder, "");
    server.publish(&note("run:1", 1));
    let mut socket = server.welcomed("ada");
    socket.say(&json!({"type": "subscribe", "channels": ["run:1", "upstream:x"]}));
    heard(&mut socket, "subscribed");
    let holder = Connection::open(folder.path().join("pulsewire.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let headers = format!("Authorization: Bearer {}\r\n", server.token("app", Role::Publisher));
    let event = json!({"channel": "run:1", "type": "note", "data": 2, "id": "m2"}).to_string();
    let refused = server.http("POST", "/api/publish", &headers, &event);
    assert_eq!(refused.status, 503, "{refused:?}");
    let problem = refused.json();
    assert_eq!((&problem["code"], &problem["retryable"]), (&json!("store_unavailable"), &json!(true)));
    assert!(refused.headers.contains_key("retry-after"));
    assert!(!refused.text().contains("locked"), "what the store says is for operators");
    assert_eq!(server.metric("websocket_store_degraded"), 1.0);
    assert!(server.metric("websocket_store_errors_total{kind=\"busy\"}") >= 1.0);
    until("readiness says so", || server.get("/readyz").text().contains("store"));
    assert_eq!(server.get("/readyz").status, 200, "clients that only listen are served");
    server.publish(&json!({"channel": "upstream:x", "type": "tick", "data": 1}));
    assert_eq!(socket.json()["channel"], "upstream:x");
    holder.execute_batch("ROLLBACK").unwrap();
    let mut answer = Value::Null;
    until("the store works again", || {
        let tried = server.http("POST", "/api/publish", &headers, &event);
        answer = tried.json();
        tried.status == 200
    });
    assert_eq!(answer["sequence"], 2);
    assert_eq!(socket.json()["sequence"], 2);
    server.wait_metric("websocket_store_degraded", 0.0);
}

/// Rows D14 and G4: whether a node without its store is ready is for the operator to say.
#[test]
fn a_node_that_needs_its_store_is_not_ready_while_it_fails() {
    let folder = Folder::new();
    let server = kept_in(&folder, "required_for_ready = true");
    assert_eq!(server.get("/readyz").status, 200);
    let holder = Connection::open(folder.path().join("pulsewire.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let headers = format!("Authorization: Bearer {}\r\n", server.token("app", Role::Publisher));
    let refused = server.http("POST", "/api/publish", &headers, &note("run:1", 1).to_string());
    assert_eq!(refused.status, 503);
    until("it is not ready", || server.get("/readyz").status == 503);
    let answer = server.get("/readyz").json();
    assert_eq!(answer["status"], "not ready");
    let store = &answer["stores"][0];
    assert_eq!(store["failure"], "busy", "{store}");
    // Row T12: since when.
    let since: jiff::Timestamp = store["since"].as_str().unwrap().parse().unwrap();
    assert!(since <= jiff::Timestamp::now(), "{since}");
    assert_eq!(server.get("/livez").status, 200, "a restart would not help");
    holder.execute_batch("ROLLBACK").unwrap();
    until("it is ready again", || server.get("/readyz").status == 200);
}

/// Row D3: a full store refuses, keeps what it acknowledged, and goes on when there is room again.
#[test]
fn a_full_store_refuses_and_recovers_without_a_restart() {
    let folder = Folder::new();
    let server = Server::start(&format!(
        "[server]\ndata_dir = \"{}\"\n[store]\nurl = \"sqlite\"\nbytes_max = \"1MiB\"\n\
         [[namespace]]\nname = \"run\"\npattern = \"run:*\"\nhistory_max = 10000\n\
         [[namespace]]\nname = \"short\"\npattern = \"short:*\"\nhistory_max = 1\n",
        folder.path().display()
    ));
    let headers = format!("Authorization: Bearer {}\r\n", server.token("app", Role::Publisher));
    let large = "x".repeat(20_000);
    let try_publish = |channel: &str, n: usize| {
        let event = json!({"channel": channel, "type": "note", "data": [n, large]}).to_string();
        server.http("POST", "/api/publish", &headers, &event)
    };
    (0..20).for_each(|n| assert_eq!(try_publish("short:1", n).status, 200, "it is trimmed as it grows"));
    let mut acked = 0;
    let full = (0..100).find_map(|n| {
        let answer = try_publish("run:1", n);
        acked += u64::from(answer.status == 200);
        (answer.status != 200).then_some(answer)
    });
    let full = full.expect("it is full before a hundred large events");
    assert_eq!((full.status, full.json()["code"].clone()), (503, json!("store_unavailable")));
    assert_eq!(server.metric("websocket_store_degraded"), 1.0);
    assert!(server.metric("websocket_store_errors_total{kind=\"full\"}") >= 1.0);
    let file = Connection::open(folder.path().join("pulsewire.db")).unwrap();
    file.busy_timeout(Duration::from_secs(5)).unwrap();
    let kept = |file: &Connection| -> u64 {
        let count = "SELECT count(*), max(sequence) FROM events JOIN channels ON channels.id = channel WHERE name = 'run:1'";
        let (count, head): (i64, i64) =
            file.query_row(count, [], |row| Ok((row.get(0).unwrap(), row.get(1).unwrap()))).unwrap();
        assert_eq!(count, head, "no hole");
        count as u64
    };
    assert_eq!(kept(&file), acked, "what was acknowledged is there, and nothing else");
    // Somebody makes room.
    file.execute("DELETE FROM events WHERE channel = (SELECT id FROM channels WHERE name = 'short:1')", [])
        .unwrap();
    until("there is room again", || try_publish("run:1", 1_000).status == 200);
    assert_eq!(kept(&file), acked + 1);
    server.wait_metric("websocket_store_degraded", 0.0);
}

/// However many come back to one channel, the store is read about once.
#[test]
fn many_who_read_the_same_cost_the_store_what_one_does() {
    let folder = Folder::new();
    let server = Server::start(&format!(
        "[server]\ndata_dir = \"{}\"\n[store]\nurl = \"sqlite\"\n[limits]\nconnections_per_address = 0\nconnections_per_user = 0\n",
        folder.path().display()
    ));
    let headers = format!("Authorization: Bearer {}\r\n", server.token("app", Role::Publisher));
    for batch in 0..6 {
        let events: Vec<Value> = (0..100).map(|n| note("run:1", batch * 100 + n)).collect();
        assert_eq!(server.http("POST", "/api/publish", &headers, &json!(events).to_string()).status, 200);
    }
    let mut sockets: Vec<Socket> = (0..60).map(|n| server.welcomed(&format!("u{n}"))).collect();
    for socket in &mut sockets {
        socket.say(&json!({"type": "subscribe", "channels": [{"channel": "run:1", "last": 1000}]}));
    }
    for socket in &mut sockets {
        assert_eq!(socket.json()["type"], "subscribed");
        for sequence in 1..=600 {
            assert_eq!(socket.json()["sequence"], sequence);
        }
        assert_eq!(socket.json()["type"], "replay_end");
    }
    let reads =
        |source: &str| server.metric(&format!("pulsewire_history_reads_total{{source=\"{source}\"}}"));
    let (stored, shared) = (reads("store"), reads("cache") + reads("ring"));
    // 600 events are ten pages; each of sixty readers would have read them. Pages are shared for a second.
    assert!(stored * 4.0 < shared, "{stored} pages from the store, {shared} shared");
}

/// A byte that changed on the disk is a gap for those who read over it, and no more than that.
#[test]
fn an_event_that_cannot_be_read_is_a_gap_of_its_own() {
    let folder = Folder::new();
    let mut server = kept_in(&folder, "");
    (1..=4).for_each(|n| drop(server.publish(&note("run:1", n))));
    server.stop(Duration::ZERO);
    drop(server);
    let file = Connection::open(folder.path().join("pulsewire.db")).unwrap();
    file.execute("UPDATE events SET data = '99' WHERE sequence = 3", []).unwrap();
    drop(file);
    let server = kept_in(&folder, "");
    let mut socket = server.welcomed("ada");
    socket.say(&json!({"type": "subscribe", "channels": [{"channel": "run:1", "last": 10}]}));
    assert_eq!(heard(&mut socket, "replay_end"), "subscribed @0 1 2 gap 3-3 4 replay_end 4");
    assert_eq!(server.metric("pulsewire_store_corrupt_events_total"), 1.0);
    assert_eq!(server.metric("pulsewire_gaps_total{reason=\"corrupt\"}"), 1.0);
}

/// Row D10: one process owns the file.
#[test]
fn a_second_server_on_the_same_file_refuses_to_start_and_names_the_first() {
    let folder = Folder::new();
    let data = folder.path().to_str().unwrap();
    let first = Process::serve(pulsewire(), &["--dev", "--data", data]);
    let second =
        crate::child::run(pulsewire().args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", data]));
    assert_ne!(second.code, Some(0));
    assert!(second.err.contains(&first.pid().to_string()), "{}", second.err);
}
