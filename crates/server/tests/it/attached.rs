//! Readers over HTTP beside WebSockets: what operators see of them, and streams over TLS.

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::harness::Server;
use crate::reading::{Stream, later, wait_readers};
use crate::tls::Secure;

fn bearer(server: &Server, sub: &str, role: Role) -> String {
    format!("Authorization: Bearer {}\r\n", server.token(sub, role))
}

/// What an operator is shown.
fn shown(server: &Server, path: &str) -> Value {
    let path = format!("/api/admin/websocket/{path}");
    let answer = server.http("GET", &path, &bearer(server, "ops", Role::Admin), "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Rows 003-43 to 003-45: whoever fell back to HTTP is shown like the others, with the transport.
#[test]
fn streams_and_waiting_polls_are_listed_with_their_transport() {
    let server = Server::start("");
    let mut socket = server.welcomed("bob");
    assert_eq!(
        socket.ask(&json!({"type": "subscribe", "channels": ["run:42", "run:7"]}))["type"],
        "subscribed"
    );
    let mut stream = Stream::of(&server, "/api/channels/run:42/sse", "User-Agent: a browser\r\n");
    let position = stream.id().split_once(':').map(|(epoch, _)| format!("{epoch}:1")).unwrap();
    server.publish(&json!({"channel": "run:42", "type": "note", "data": 1}));
    assert_eq!(stream.sequences(1), [1]);
    let poll = later(&server, &format!("/api/channels/run:42/poll?after={position}&wait=30"));
    wait_readers(&server, "polling", 1.0);

    let all = shown(&server, "connections");
    assert_eq!((&all["totalRuns"], &all["totalConnections"]), (&json!(2), &json!(3)));
    assert_eq!(all["connectionsByRun"], json!({"42": 3, "7": 1}));
    assert_eq!(server.metric_sum("pulsewire_connections"), 3.0, "the page and the list agree");

    let run = shown(&server, "connections/42");
    assert_eq!(
        (&run["connectionCount"], &run["activeUsers"]),
        (&json!(3), &json!(["ann", "bob"])),
        "one user, however attached"
    );
    let of = |list: &Value, transport: &str| {
        let mut found = list.as_array().unwrap().iter().filter(|entry| entry["transport"] == transport);
        let entry = found.next().unwrap_or_else(|| panic!("{transport}: {list}")).clone();
        assert!(found.next().is_none(), "{transport}: {list}");
        entry
    };
    let entry = of(&run["connections"], "sse");
    assert_eq!((&entry["userId"], &entry["state"]), (&json!("ann"), &json!("connected")));
    assert_eq!((&entry["sessionId"], &entry["userAgent"]), (&Value::Null, &json!("a browser")));
    assert!(entry["remoteAddress"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(of(&run["connections"], "polling")["userId"], "ann");
    assert!(of(&run["connections"], "websocket")["sessionId"].is_string());

    let metrics = shown(&server, "metrics");
    let entry = of(&metrics, "sse");
    // `subscribed` begins the stream and is no message of the channel's.
    assert_eq!((&entry["messagesSent"], &entry["runId"]), (&json!(1), &json!("42")));
    assert!(entry["bytesSent"].as_u64().unwrap() > 0 && entry["averageLatencyMs"].is_null());
    assert_eq!(of(&metrics, "polling")["messagesSent"], 0);
    let users = shown(&server, "users");
    assert_eq!(users["users"][0], json!({"userId": "ann", "connections": 2, "subscriptions": 2}));

    server.publish(&json!({"channel": "run:42", "type": "note", "data": 2}));
    assert_eq!(poll.join().unwrap().json()["events"][0]["sequence"], 2);
    drop(stream);
    wait_readers(&server, "sse", 0.0);
    wait_readers(&server, "polling", 0.0);
    assert_eq!(shown(&server, "connections")["totalConnections"], 1);
    assert_eq!(shown(&server, "metrics").as_array().unwrap().len(), 1);
}

/// A stream over TLS resumes, outlives many records, and ends with its reader.
#[test]
fn an_event_stream_travels_over_tls() {
    let secure = Secure::start("");
    let server = &secure.server;
    let ann = bearer(server, "ann", Role::User);
    secure.publish(&json!({"channel": "run:1", "type": "note", "data": "before"}));
    let mut stream = Stream::open_on(secure.connect(), "/api/channels/run:1/sse?after=0", &ann);
    assert_eq!(stream.block().event, "subscribed");
    assert_eq!(stream.sequences(1), [1]);
    // More than a record of TLS holds, in one event and in many.
    let large = "x".repeat(40_000);
    secure.publish(&json!({"channel": "run:1", "type": "note", "data": large}));
    let more = |n| json!({"channel": "run:1", "type": "note", "data": n});
    secure.publish(&(3..=200).map(more).collect());
    assert_eq!(stream.sequences(199), (2..=200).collect::<Vec<_>>());
    let position = stream.id();
    drop(stream);
    wait_readers(server, "sse", 0.0);
    secure.publish(&json!({"channel": "run:1", "type": "note", "data": "meanwhile"}));
    let headers = format!("{ann}Last-Event-ID: {position}\r\n");
    let mut stream = Stream::open_on(secure.connect(), "/api/channels/run:1/sse", &headers);
    assert_eq!(stream.block().event, "subscribed");
    assert_eq!(stream.sequences(1), [201]);
}
