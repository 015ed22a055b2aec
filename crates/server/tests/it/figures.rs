//! Figures, thresholds and what is said of them, from a running server.

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, bearer, until};

fn ask(server: &Server, method: &str, path: &str, body: &str) -> Answer {
    let token = server.token("ops", Role::Admin);
    let json = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    server.http(method, path, &format!("{}{json}", bearer(&token)), body)
}

#[track_caller]
fn get(server: &Server, path: &str) -> Value {
    let answer = ask(server, "GET", path, "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// The last value of a figure, if there is one.
fn last(history: &Value, figure: &str) -> Option<f64> {
    history["figures"][figure].as_array()?.iter().rev().find_map(Value::as_f64)
}

fn sum(history: &Value, figure: &str) -> f64 {
    history["figures"][figure].as_array().unwrap().iter().filter_map(Value::as_f64).sum()
}

#[test]
fn figures_follow_what_happens() {
    let server = Server::start("");
    let mut reader = server.welcomed("ann");
    assert_eq!(reader.ask(&json!({"type": "subscribe", "channels": ["run:1"]}))["type"], "subscribed");
    let named = get(&server, "/api/admin/figures")["figures"].as_array().unwrap().len();
    let all = get(&server, "/api/admin/history?range=1m");
    assert_eq!((all["figures"].as_object().unwrap().len(), &all["stepSeconds"]), (named, &json!(1)));
    let path = "/api/admin/history?range=1m&figures=connections.active,events.emitted,latency.p95,loop.lag.p95,memory.rss";
    let mut published = 0;
    let mut history = Value::Null;
    until("the history has what happened", || {
        // One after the other until a whole second with some of them has been looked at.
        server.publish(&json!({"channel": "run:1", "type": "note", "data": 1}));
        published += 1;
        history = get(&server, path);
        last(&history, "connections.active") == Some(1.0)
            && sum(&history, "events.emitted") > 0.0
            && last(&history, "latency.p95").is_some()
    });
    let values = history["figures"]["connections.active"].as_array().unwrap();
    assert_eq!(values.len(), 60);
    assert_eq!(values[0], Value::Null, "a minute ago nobody was there");
    // A second that is recorded was somewhat longer than a second, or shorter.
    assert!(sum(&history, "events.emitted") <= f64::from(published) * 2.0);
    assert!(last(&history, "loop.lag.p95").unwrap() < 1_000.0);
    assert!(last(&history, "memory.rss").unwrap() > 1e6);
    assert!(history["recordingSince"].as_str().unwrap().ends_with('Z'));
    let long = get(&server, "/api/admin/history?range=7d&figures=connections.active");
    assert_eq!(
        (&long["stepSeconds"], long["figures"]["connections.active"].as_array().unwrap().len()),
        (&json!(60), 10_080)
    );
    for wrong in ["range=8d", "figures=x", "rnage=1h"] {
        let answer = ask(&server, "GET", &format!("/api/admin/history?{wrong}"), "");
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!("bad_request")),
            "{wrong}: {}",
            answer.text()
        );
    }
}

/// The row of a list with this id.
#[track_caller]
fn row(list: &Value, id: &str) -> Value {
    let rows = list["rows"].as_array().unwrap();
    rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no row {id}: {list}")).clone()
}

fn post(server: &Server, path: &str, body: &Value) -> Answer {
    ask(server, "POST", path, &body.to_string())
}

fn kinds(server: &Server) -> Vec<String> {
    let events = get(server, "/api/admin/events");
    let kind = |event: &Value| event["type"].as_str().unwrap().to_owned();
    events["rows"].as_array().unwrap().iter().map(kind).collect()
}

/// One evaluation is behind tiles, alerts, health, metrics and events.
#[test]
fn what_is_critical_is_said_everywhere_until_it_ends() {
    let server = Server::start("[thresholds]\nhold = \"0s\"\nconnections = \"0 1 2\"\n");
    let firing = "pulsewire_alert_firing{alert=\"connections\",severity=\"critical\"}";
    until("the first evaluation", || get(&server, "/api/admin/overview")["tiles"][0]["state"] == "target");
    let overview = get(&server, "/api/admin/overview");
    let tiles: Vec<_> =
        overview["tiles"].as_array().unwrap().iter().map(|tile| tile["id"].as_str().unwrap()).collect();
    assert_eq!(tiles, ["connections", "latency", "duration", "memory", "heartbeats", "auth"]);
    assert_eq!((&overview["status"], &overview["counts"]["alerts"]), (&json!("healthy"), &json!(0)));
    assert_eq!(server.metric(firing), 0.0);
    let sockets = [server.welcomed("ann"), server.welcomed("bob"), server.welcomed("cyd")];
    until("it is critical", || get(&server, "/api/admin/overview")["status"] == "degraded");
    let overview = get(&server, "/api/admin/overview");
    assert_eq!(overview["tiles"][0]["state"], "critical", "{overview}");
    assert_eq!(
        (&overview["firing"][0]["id"], &overview["firing"][0]["value"]),
        (&json!("connections"), &json!(3))
    );
    let alert = row(&get(&server, "/api/admin/alerts"), "connections");
    assert_eq!(
        (&alert["state"], &alert["severity"], &alert["limit"]),
        (&json!("firing"), &json!("critical"), &json!(2))
    );
    assert_eq!(alert["expression"], "websocket_active_connections > 2");
    assert_eq!(server.metric(firing), 1.0);
    let health = server.get("/health/websocket");
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("degraded")));
    assert!(
        health.json()["reasons"][0].as_str().unwrap().starts_with("Active connections: critical"),
        "{}",
        health.text()
    );
    let tile = health.json()["thresholds"].as_array().unwrap()[0].clone();
    assert_eq!((&tile["id"], &tile["state"]), (&json!("connections"), &json!("critical")));
    assert_eq!(server.get("/readyz").status, 200, "clients may come");
    assert!(kinds(&server).contains(&"alert_firing".to_owned()));
    // Silenced it is shown, and health does not speak of it.
    assert_eq!(post(&server, "/api/admin/alerts/connections/silence", &json!({"minutes": 60})).status, 200);
    assert_eq!(server.get("/health/websocket").json()["status"], "healthy");
    assert_eq!(row(&get(&server, "/api/admin/alerts"), "connections")["state"], "firing");
    assert_eq!(post(&server, "/api/admin/alerts/connections/silence", &json!({"minutes": 0})).status, 200);
    assert_eq!(server.get("/health/websocket").json()["status"], "degraded");
    drop(sockets);
    until("it ends", || kinds(&server).contains(&"alert_resolved".to_owned()));
    assert_eq!(server.get("/health/websocket").json()["status"], "healthy");
    let history = row(&get(&server, "/api/admin/alerts"), "connections")["history"].clone();
    assert!(history.as_array().unwrap().iter().all(|episode| episode["to"].is_string()), "{history}");
    assert_eq!(post(&server, "/api/admin/alerts/nothing/silence", &json!({"minutes": 1})).status, 404);
    assert_eq!(post(&server, "/api/admin/alerts/auth/silence", &json!({"minutes": 99_999})).status, 400);
}

/// A rule leads to those who cause it, with a query that the list understands.
#[test]
fn every_rule_leads_to_a_list_that_is_there() {
    let server = Server::start("");
    let alerts = get(&server, "/api/admin/alerts");
    let rows = alerts["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 16);
    for row in rows {
        let link = row["link"].as_str().unwrap();
        if link.starts_with("/connections") || link.starts_with("/channels") {
            get(&server, &format!("/api/admin{link}"));
        } else {
            assert!(["/errors?group=auth", "/errors?group=dropped", "/cluster"].contains(&link), "{link}");
        }
    }
}

#[test]
fn errors_are_counted_by_kind_with_the_newest_of_each() {
    let server = Server::start("");
    assert_eq!(get(&server, "/api/admin/errors")["rows"], json!([]), "what never happened is left out");
    for _ in 0..2 {
        assert_eq!(server.http("GET", "/api/admin/overview", &bearer("wrong"), "").status, 401);
    }
    let user = server.token("ann", Role::User);
    assert_eq!(server.http("GET", "/api/admin/overview", &bearer(&user), "").status, 401);
    let mut socket = server.welcomed("ann");
    assert_eq!(socket.ask(&json!({"type": "nothing"}))["type"], "error");
    until("they are seen", || get(&server, "/api/admin/errors")["rows"].as_array().unwrap().len() >= 3);
    let errors = get(&server, "/api/admin/errors");
    let invalid = row(&errors, "auth/invalid_token");
    assert_eq!((&invalid["count"], &invalid["connections"]), (&json!(2), &json!(1)), "{invalid}");
    assert!(
        invalid["sample"]["text"].is_string() && invalid["sample"]["address"] == "127.0.0.1",
        "{invalid}"
    );
    assert!(invalid["lastAt"].is_string(), "{invalid}");
    let per_minute = || row(&get(&server, "/api/admin/errors"), "auth/invalid_token")["perMinute"].clone();
    until("a rate takes two looks", || per_minute().is_number());
    assert_eq!(row(&errors, "auth/forbidden")["sample"]["userId"], "ann");
    let message = errors["rows"].as_array().unwrap().iter().find(|row| row["group"] == "message").unwrap();
    assert_eq!((&message["count"], &message["sample"]), (&json!(1), &Value::Null));
}

#[test]
fn what_operators_do_and_may_not_do_is_written_down() {
    let server = Server::start("");
    let _client = server.welcomed("bob");
    let disconnect = "/api/admin/websocket/disconnect";
    let viewer = server.token("eve", Role::Viewer);
    let headers = format!("{}Content-Type: application/json\r\n", bearer(&viewer));
    assert_eq!(server.http("POST", disconnect, &headers, "{\"user\":\"bob\"}").status, 401);
    assert_eq!(post(&server, disconnect, &json!({"user": "bob"})).status, 200);
    assert_eq!(post(&server, "/api/admin/revocations", &json!({"user": "bob"})).status, 200);
    assert_eq!(
        post(&server, "/api/admin/blocks", &json!({"address": "192.0.2.1", "for_ms": 1_000})).status,
        200
    );
    let audit = get(&server, "/api/admin/audit");
    let said: Vec<_> = audit["rows"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|entry| {
            let field = |name: &str| entry[name].as_str().unwrap().to_owned();
            [field("who"), field("role"), field("action"), field("target"), field("outcome")].join(" ")
        })
        .collect();
    assert_eq!(
        said,
        [
            "eve viewer request /api/admin/websocket/disconnect refused",
            "ops admin disconnect user bob done",
            "ops admin revoke user bob done",
            "ops admin block address 192.0.2.1 done",
        ]
    );
    assert_eq!(audit["rows"][0]["from"], "127.0.0.1");
    let file = server.app().live.load().settings.server.data_dir.join("audit.jsonl");
    let lines: Vec<Value> = std::fs::read_to_string(file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let rows: Vec<_> = audit["rows"].as_array().unwrap().iter().rev().cloned().collect();
    assert_eq!(lines, rows, "what is in the file was answered after it was there");
    assert_eq!(get(&server, "/api/admin/audit?limit=1&offset=1")["rows"][0]["action"], "revoke");
    assert_eq!(kinds(&server).iter().filter(|kind| *kind == "action").count(), 3);
    assert!(kinds(&server).contains(&"started".to_owned()));
}

#[test]
fn notable_events_are_told_as_they_happen() {
    let server = Server::start("");
    let mut watching = server.welcomed_as("ops", Role::Admin);
    assert_eq!(
        watching.ask(&json!({"type": "subscribe", "channels": ["$sys.events"]}))["type"],
        "subscribed"
    );
    assert_eq!(post(&server, "/api/admin/alerts/auth/silence", &json!({"minutes": 5})).status, 200);
    let told = watching.json().to_string();
    assert!(told.contains("\"action\"") && told.contains("ops silence: auth 5 minutes"), "{told}");
}

/// Row U1: whoever wants a part only goes on elsewhere behind what it did not want, and reads nothing again.
#[test]
fn whoever_has_a_filter_is_told_how_far_it_is_before_it_is_sent_elsewhere() {
    let server = Server::start("");
    let mut client = server.welcomed("bob");
    let wish = json!({"type": "subscribe", "channels": ["run:1"], "tags": {"team": "red"}});
    assert_eq!(client.ask(&wish)["type"], "subscribed");
    for n in 0..3 {
        server.publish(&json!({"channel": "run:1", "type": "note", "data": {"n": n}}));
    }
    assert_eq!(post(&server, "/api/admin/drain", &json!({"drain": true})).status, 200);
    // Positions are told once a second anyway, so one may come before the notice.
    let (mut said, mut at) = (Vec::new(), 0);
    while said.last() != Some(&"close".to_owned()) {
        let frame = client.next().unwrap();
        if frame.opcode == 8 {
            said.push("close".to_owned());
            continue;
        }
        let message: serde_json::Value = serde_json::from_slice(&frame.payload).unwrap();
        said.push(message["type"].as_str().unwrap().to_owned());
        at = message["sequence"].as_u64().unwrap_or(at);
    }
    assert_eq!(at, 3, "{said:?}");
    said.sort();
    said.dedup();
    assert_eq!(said, ["close", "pos", "reconnect"]);
}

#[test]
fn a_drained_node_sends_clients_elsewhere_until_it_takes_them_again() {
    let server = Server::start("");
    let mut client = server.welcomed("bob");
    let answer = post(&server, "/api/admin/drain", &json!({"drain": true}));
    assert_eq!((answer.status, &answer.json()["connections"]), (200, &json!(1)), "{}", answer.text());
    assert_eq!(client.json()["type"], "reconnect");
    assert_eq!(client.closed_with(), 1012);
    until("it is not ready", || server.get("/readyz").status == 503);
    assert_eq!(server.get("/readyz").json()["reasons"], json!(["an operator sends clients elsewhere"]));
    assert_eq!(get(&server, "/api/admin/nodes")["rows"][0]["draining"], true);
    let knock = || {
        let mut socket = server.connect();
        let token = format!("Authorization: Bearer {}\r\n", server.token("bob", Role::User));
        socket.send(crate::harness::handshake("/ws", &token).as_bytes());
        socket.head().status
    };
    assert_eq!(knock(), 503);
    assert_eq!(post(&server, "/api/admin/drain", &json!({"drain": false})).status, 200);
    until("it is ready", || server.get("/readyz").status == 200);
    let mut back = server.welcomed("bob");
    assert_eq!(back.ask(&json!({"type": "subscribe", "channels": ["run:1"]}))["type"], "subscribed");
    let said = kinds(&server);
    assert!(said.contains(&"draining".to_owned()) && said.contains(&"undrained".to_owned()), "{said:?}");
    let node = || get(&server, "/api/admin/nodes")["rows"][0].clone();
    until("it is counted", || node()["connections"] == 1);
    let node = node();
    assert_eq!(
        (&node["connections"], &node["shards"], &node["storeState"]),
        (&json!(1), &json!(2), &json!("ok")),
        "{node}"
    );
    assert!(node["openFiles"].as_u64() > Some(5) && node["rssBytes"].as_u64() > Some(1_000_000), "{node}");
}
