//! What operators see and do: document 003's endpoints, and ending connections.

use std::time::Duration;

use pulsewire::auth::{Actions, KeyId, NewToken, Role, Signer, api_key};
use pulsewire_edge::clock;
use serde_json::{Value, json};

use crate::harness::{Answer, SECRET, Server, Socket, bearer, until};
use crate::support::World;

const CONNECTIONS: &str = "/api/admin/websocket/connections";
const METRICS: &str = "/api/admin/websocket/metrics";
const CLOSED: &str = "/api/admin/websocket/closed";
const CLEANUP: &str = "/api/admin/websocket/cleanup-stale";
const DISCONNECT: &str = "/api/admin/websocket/disconnect";
const REVOKE: &str = "/api/admin/revocations";

fn ask(server: &Server, method: &str, path: &str, body: &str) -> Answer {
    let token = server.token("ops", Role::Admin);
    let json = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    server.http(method, path, &format!("{}{json}", bearer(&token)), body)
}

fn get(server: &Server, path: &str) -> Value {
    let answer = ask(server, "GET", path, "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

fn post(server: &Server, path: &str, body: &Value) -> Value {
    let answer = ask(server, "POST", path, &body.to_string());
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
    answer.json()
}

/// A client in some channels, and its session.
fn client(server: &Server, user: &str, channels: &[&str]) -> (Socket, String) {
    let mut socket = server.open("/ws", &bearer(&server.token(user, Role::User)));
    let session = socket.json()["client_id"].as_str().unwrap().to_owned();
    if !channels.is_empty() {
        assert_eq!(socket.ask(&json!({ "type": "subscribe", "channels": channels }))["type"], "subscribed");
    }
    (socket, session)
}

fn close(mut socket: Socket) {
    socket.frame(0x88, &1000_u16.to_be_bytes());
    assert_eq!(socket.closed_with(), 1000);
}

fn is_moment(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok())
}

/// Row 001-101: who is slow comes first when that is asked for.
#[test]
fn sessions_are_listed_by_what_waits_for_them() {
    let server = Server::start("");
    let (_slow, slow) = client(&server, "slow", &["run:1"]);
    let (_newer, newer) = client(&server, "newer", &[]);
    // More than the kernel takes for somebody who does not read.
    let event = json!({"channel": "run:1", "type": "note", "data": "x".repeat(50_000)});
    (0..100).for_each(|_| drop(server.publish(&event)));
    let sessions = |query: &str| -> Vec<String> {
        let list = get(&server, &format!("{METRICS}{query}"));
        list.as_array().unwrap().iter().map(|one| one["sessionId"].as_str().unwrap().to_owned()).collect()
    };
    until("something waits", || get(&server, &format!("{METRICS}/{slow}"))["queuedBytes"].as_u64() > Some(0));
    assert_eq!(sessions(""), [newer.clone(), slow.clone()], "newest first");
    assert_eq!(sessions("?sort=queuedBytes"), [slow.clone(), newer]);
    assert_eq!(sessions("?sort=queuedBytes&limit=1"), [slow]);
    assert_eq!(ask(&server, "GET", &format!("{METRICS}?sort=size"), "").status, 400);
}

/// Row A15: every operator endpoint against every kind of caller. Who looks on sees everything and changes nothing.
#[test]
fn admin_endpoints_are_for_admins_alone() {
    let (key, hash) = api_key::generate(&KeyId::parse("ci").unwrap()).unwrap();
    let server = Server::start(&format!(
        "[auth]\nattempts_per_minute = 0\n[[auth.api_keys]]\nid = \"ci\"\nsha256 = \"{hash}\"\npublish = [\"*\"]\n"
    ));
    let session = client(&server, "ann", &[]).1;
    let [user, publisher, admin] = [("ann", Role::User), ("app", Role::Publisher), ("ops", Role::Admin)]
        .map(|(sub, role)| server.token(sub, role));
    let [viewer, operator] = [Role::Viewer, Role::Operator].map(|role| server.token("ops", role));
    let one = format!("{METRICS}/{session}");
    let run = format!("{CONNECTIONS}/42");
    let endpoints = [
        ("GET", CONNECTIONS, ""),
        ("GET", &run, ""),
        ("GET", METRICS, ""),
        ("GET", &one, ""),
        ("GET", CLOSED, ""),
        ("GET", "/api/admin/websocket/users", ""),
        ("GET", "/api/admin/heap", ""),
        ("GET", "/api/admin/channels", ""),
        ("GET", "/api/admin/connections", ""),
        ("GET", "/api/admin/figures", ""),
        ("GET", "/api/admin/history", ""),
        ("POST", CLEANUP, ""),
        ("POST", DISCONNECT, r#"{"user":"nobody"}"#),
        ("POST", REVOKE, r#"{"user":"nobody"}"#),
    ];
    for (method, path, body) in endpoints {
        let status = |token: &str| {
            let json = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
            let auth = if token.is_empty() { String::new() } else { bearer(token) };
            server.http(method, path, &format!("{auth}{json}"), body).status
        };
        let statuses = ["", "garbage", key.expose(), &user, &publisher, &admin].map(status);
        assert_eq!(statuses, [401, 401, 401, 401, 401, 200], "{method} {path}");
        let looks_on = if method == "GET" { 200 } else { 401 };
        assert_eq!([&viewer, &operator].map(|token| status(token)), [looks_on, 200], "{method} {path}");
    }
    // What is not there and what is wrong look the same to whoever may not ask.
    for (method, path, body) in [
        ("GET", format!("{METRICS}/nonsense"), ""),
        ("GET", format!("{METRICS}?limit=0"), ""),
        ("GET", format!("{CONNECTIONS}/a%20b"), ""),
        ("POST", DISCONNECT.to_owned(), "nonsense"),
    ] {
        assert_eq!(server.http(method, &path, "", body).status, 401, "{path}");
        let answer = server.http(method, &path, &bearer(&user), body);
        assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("wrong_credential")), "{path}");
    }
}

/// Row 003-43.
#[test]
fn connections_are_counted_by_run() {
    let server = Server::start("");
    let _in_runs = [
        client(&server, "ann", &["run:a"]),
        client(&server, "bob", &["run:a", "run:b", "project:1"]),
        client(&server, "cyd", &[]),
    ];
    let shown = get(&server, CONNECTIONS);
    assert_eq!(shown["totalRuns"], 2);
    assert_eq!(shown["totalConnections"], 3);
    assert_eq!(shown["connectionsByRun"], json!({ "a": 2, "b": 1 }));
    assert_eq!((&shown["total"], &shown["hasMore"]), (&json!(2), &json!(false)));
    let second = get(&server, &format!("{CONNECTIONS}?offset=1&limit=1"));
    assert_eq!(second["connectionsByRun"], json!({ "b": 1 }));
    assert_eq!(get(&server, &format!("{CONNECTIONS}?limit=1"))["hasMore"], true);
}

/// Row 003-44.
#[test]
fn a_run_shows_who_is_in_it() {
    let server = Server::start("");
    let (ann, ann_session) = client(&server, "ann", &["run:42"]);
    let (_bob, bob_session) = client(&server, "bob", &["run:42"]);
    let _elsewhere = client(&server, "cyd", &["run:43"]);
    let path = format!("{CONNECTIONS}/42");
    let shown = get(&server, &path);
    assert_eq!((&shown["runId"], &shown["connectionCount"]), (&json!("42"), &json!(2)));
    assert_eq!(shown["activeUsers"], json!(["ann", "bob"]));
    let of = |session: &str| {
        let all = shown["connections"].as_array().unwrap();
        all.iter().find(|entry| entry["sessionId"] == *session).cloned().unwrap()
    };
    assert_eq!(of(&ann_session)["userId"], "ann");
    assert!(is_moment(&of(&bob_session)["connectedAt"]));
    drop(ann);
    server.wait_metric("pulsewire_sessions_detached", 1.0);
    let shown = get(&server, &path);
    assert_eq!((&shown["connectionCount"], &shown["total"]), (&json!(1), &json!(2)));
    assert_eq!(shown["activeUsers"], json!(["bob"]));
    assert_eq!(shown["connections"][1]["sessionId"], *ann_session);
    assert_eq!(shown["connections"][1]["state"], "detached");
    let empty = get(&server, &format!("{CONNECTIONS}/nobody"));
    assert_eq!((&empty["connectionCount"], &empty["connections"]), (&json!(0), &json!([])));
    assert_eq!(ask(&server, "GET", &format!("{CONNECTIONS}/a%20b"), "").status, 400);
}

/// Rows 001-09, 003-45 and 003-46: connected, waiting and closed sessions, one record each.
#[test]
fn sessions_are_shown_with_document_003s_figures() {
    let server = Server::start("");
    let (mut ann, ann_session) = client(&server, "ann", &["run:42"]);
    for number in 0..3 {
        server.publish(&json!({ "channel": "run:42", "type": "note", "data": number }));
        assert_eq!(ann.json()["sequence"], number + 1);
    }
    let (bob, bob_session) = client(&server, "bob", &["run:42"]);
    let (cyd, cyd_session) = client(&server, "cyd", &[]);
    drop(bob);
    close(cyd);
    server.wait_metric("pulsewire_sessions_detached", 1.0);
    server.wait_metric("websocket_connections_total{status=\"closed\"}", 2.0);
    let answer = ask(&server, "GET", METRICS, "");
    assert_eq!(answer.headers["x-total-count"], "3");
    let all = answer.json();
    let sessions: Vec<_> =
        all.as_array().unwrap().iter().map(|one| one["sessionId"].as_str().unwrap()).collect();
    assert_eq!(sessions, [&ann_session, &bob_session, &cyd_session], "connected, waiting, closed");
    let [ann_shown, bob_shown, cyd_shown] = [&all[0], &all[1], &all[2]];
    assert_eq!((&ann_shown["userId"], &ann_shown["runId"]), (&json!("ann"), &json!("42")));
    // `welcome`, `subscribed` and three events; one `subscribe`.
    assert_eq!((&ann_shown["messagesSent"], &ann_shown["messagesReceived"]), (&json!(5), &json!(1)));
    assert_eq!((&ann_shown["messageFailures"], &ann_shown["messageDeliveryRate"]), (&json!(0), &json!(1.0)));
    assert_eq!((&ann_shown["reconnectionCount"], &ann_shown["disconnectedAt"]), (&json!(0), &Value::Null));
    assert!(is_moment(&ann_shown["connectedAt"]) && is_moment(&ann_shown["lastActivity"]));
    assert!(ann_shown["bytesSent"].as_u64().unwrap() > 0 && ann_shown["bytesReceived"].as_u64().unwrap() > 0);
    assert_eq!(ann_shown["channelCount"], 1);
    assert!(is_moment(&bob_shown["disconnectedAt"]) && bob_shown["state"] == "detached");
    assert!(is_moment(&cyd_shown["disconnectedAt"]) && cyd_shown["state"] == "closed");
    assert!(cyd_shown["runId"].is_null() && cyd_shown["averageLatencyMs"].is_null());
    let page = ask(&server, "GET", &format!("{METRICS}?offset=1&limit=1"), "");
    assert_eq!(page.json()[0]["sessionId"], *bob_session);
    assert!(page.headers["link"].contains("offset=2&limit=1>; rel=\"next\""));
    let one = get(&server, &format!("{METRICS}/{cyd_session}"));
    assert_eq!((&one["state"], &one["closedConnections"][0]["code"]), (&json!("closed"), &json!(1000)));
    let unknown = ask(&server, "GET", &format!("{METRICS}/00000000000000000000000000"), "");
    assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("not_found")));
}

/// R52a; row 003-71.
#[test]
fn what_a_client_says_of_itself_is_shown_to_the_operator_while_it_is_there() {
    let server = Server::start("");
    let (mut ann, session) = client(&server, "ann", &[]);
    assert!(get(&server, METRICS)[0]["clientReport"].is_null());
    ann.say(&json!({ "type": "ping", "report": { "queued": 51, "handler_ms": 12.5, "visible": true } }));
    assert_eq!(ann.json()["type"], "pong");
    let report = get(&server, METRICS)[0]["clientReport"].clone();
    assert!(is_moment(&report["reportedAt"]), "{report}");
    assert_eq!((&report["queuedMessages"], &report["slowestHandlerMs"]), (&json!(51), &json!(12.5)));
    assert_eq!((&report["gapsHealed"], &report["visible"]), (&Value::Null, &json!(true)));
    assert_eq!(server.metric("pulsewire_client_reported_queued_messages"), 51.0);
    assert_eq!(server.metric("pulsewire_client_reported_queue_depth_bucket{le=\"50\"}"), 0.0);
    assert_eq!(server.metric("pulsewire_client_reported_queue_depth_count"), 1.0);
    drop(ann);
    server.wait_metric("pulsewire_sessions_detached", 1.0);
    assert!(
        get(&server, METRICS)[0]["clientReport"].is_null(),
        "what it said is of a connection that is gone"
    );
    let auth = bearer(&server.token("ann", Role::User));
    let mut ann = server.open(&format!("/ws?session={session}"), &auth);
    assert_eq!(ann.json()["resumed"], true);
    assert_eq!(server.metric("pulsewire_client_reported_queued_messages"), 0.0);
}

/// Rows 003-02 and 003-46: a session that came back is one record.
#[test]
fn a_resumed_session_is_one_record_with_its_earlier_connections() {
    let server = Server::start("");
    let (ann, session) = client(&server, "ann", &["run:42"]);
    drop(ann);
    server.wait_metric("pulsewire_sessions_detached", 1.0);
    let mut ann = server.open(&format!("/ws?session={session}"), &bearer(&server.token("ann", Role::User)));
    assert_eq!(ann.json()["session"], *session);
    let all = get(&server, METRICS);
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!((&all[0]["reconnectionCount"], &all[0]["state"]), (&json!(1), &json!("connected")));
    let one = get(&server, &format!("{METRICS}/{session}"));
    assert_eq!(one["closedConnections"][0]["code"], 1006);
}

#[test]
fn wrong_pages_are_refused() {
    let server = Server::start("");
    for path in [CONNECTIONS, METRICS, CLOSED, "/api/admin/websocket/connections/1"] {
        for query in ["limit=0", "limit=1001", "offset=-1", "limit=x"] {
            assert_eq!(ask(&server, "GET", &format!("{path}?{query}"), "").status, 400, "{path}?{query}");
        }
        assert_eq!(ask(&server, "GET", &format!("{path}?limit=1000&offset=7"), "").status, 200, "{path}");
    }
}

/// Row 003-47, and what the ledger says of a close.
#[test]
fn closed_connections_are_listed_newest_first_until_they_are_forgotten() {
    let server = Server::start("");
    let (ann, ann_session) = client(&server, "ann", &["run:42"]);
    close(ann);
    server.wait_metric("websocket_connections_total{status=\"closed\"}", 1.0);
    let (mut bob, bob_session) = client(&server, "bob", &[]);
    bob.send(&[0x81, 0x01, b'x']);
    assert_eq!(bob.closed_with(), 1002);
    server.wait_metric("websocket_connections_total{status=\"closed\"}", 2.0);
    let shown = get(&server, CLOSED);
    assert_eq!(shown["total"], 2);
    let [bob, ann] = [&shown["closed"][0], &shown["closed"][1]];
    assert_eq!((&bob["sessionId"], &ann["sessionId"]), (&json!(bob_session), &json!(ann_session)));
    assert_eq!(
        (&bob["reason"], &bob["code"], &bob["initiator"]),
        (&json!("protocol_error"), &json!(1002), &json!("server"))
    );
    assert_eq!(
        (&ann["reason"], &ann["code"], &ann["initiator"]),
        (&json!("client_close"), &json!(1000), &json!("client"))
    );
    assert_eq!((&ann["runId"], &ann["userId"]), (&json!("42"), &json!("ann")));
    assert!(ann["durationMs"].as_f64().unwrap() > 0.0 && ann["bytesSent"].as_u64().unwrap() > 0);
    // Document 003's call has no body and no type.
    let kept = ask(&server, "POST", &format!("{CLEANUP}?maxAgeMs=3600000"), "");
    assert_eq!((kept.status, kept.json()), (200, json!({ "removed": 0 })));
    assert_eq!(ask(&server, "POST", &format!("{CLEANUP}?maxAgeMs=soon"), "").status, 400);
    while clock::now().wall_ms
        <= jiff::Timestamp::as_millisecond(bob["disconnectedAt"].as_str().unwrap().parse().unwrap())
    {}
    assert_eq!(ask(&server, "POST", &format!("{CLEANUP}?maxAgeMs=0"), "").json(), json!({ "removed": 2 }));
    assert_eq!(get(&server, CLOSED)["closed"], json!([]));
}

/// Rows 001-100 and A11, for one node.
#[test]
fn an_operator_closes_the_connections_of_a_user_a_session_or_an_address() {
    let server = Server::start("");
    let (mut ann, _) = client(&server, "ann", &[]);
    let (mut ann_too, _) = client(&server, "ann", &[]);
    let (mut bob, bob_session) = client(&server, "bob", &[]);
    let (mut cyd, _) = client(&server, "cyd", &[]);
    assert_eq!(post(&server, DISCONNECT, &json!({ "user": "ann" })), json!({ "closed": 2 }));
    assert_eq!((ann.closed_with(), ann_too.closed_with()), (1013, 1013));
    assert_eq!(
        post(&server, DISCONNECT, &json!({ "session": bob_session, "code": 4502 })),
        json!({ "closed": 1 })
    );
    assert_eq!(bob.closed_with(), 4502);
    assert_eq!(cyd.ask(&json!({ "type": "ping", "timestamp": 1 }))["type"], "pong", "others are not touched");
    assert_eq!(post(&server, DISCONNECT, &json!({ "address": "127.0.0.1" })), json!({ "closed": 1 }));
    assert_eq!(cyd.closed_with(), 1013);
    assert_eq!(post(&server, DISCONNECT, &json!({ "address": "192.0.2.1" })), json!({ "closed": 0 }));
    for body in ["{}", r#"{"user":"ann","code":1000}"#, r#"{"session":"x"}"#, "[]"] {
        assert_eq!(ask(&server, "POST", DISCONNECT, body).status, 400, "{body}");
    }
}

/// Row A11, for one node.
#[test]
fn a_revoked_user_is_out_until_a_new_login() {
    let server = Server::start("");
    let old = server.token("ann", Role::User);
    let mut ann = server.open("/ws", &bearer(&old));
    assert_eq!(ann.json()["type"], "welcome");
    let (mut bob, _) = client(&server, "bob", &[]);
    // The old token was made in the past second or in this one.
    assert_eq!(post(&server, REVOKE, &json!({ "user": "ann" })), json!({ "revoked": true, "closed": 1 }));
    assert_eq!(ann.closed_with(), 4506);
    let upgrade = |token: &str| {
        let mut socket = server.connect();
        socket.send(crate::harness::handshake("/ws", &bearer(token)).as_bytes());
        socket.head().status
    };
    assert_eq!(upgrade(&old), 401);
    assert_eq!(bob.ask(&json!({ "type": "ping", "timestamp": 1 }))["type"], "pong", "others are not touched");
    let world = World::empty().set(&format!("auth.secret={SECRET}")).settings();
    let signer = Signer::new(&world, &|_| unreachable!("the key is a text")).unwrap();
    let login = NewToken {
        sub: "ann".into(),
        role: Role::User,
        ttl: Duration::from_secs(60),
        channels: Vec::new(),
        actions: Actions::NONE,
    };
    // Tokens count whole seconds: one of the next second is certainly new.
    assert_eq!(upgrade(&signer.sign(&login, clock::now().wall_ms + 1_000).unwrap()), 101);
}

#[test]
fn one_token_is_revoked_by_its_id() {
    let server = Server::start("");
    let token = server.token("ann", Role::User);
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
    let id = serde_json::from_slice::<Value>(&claims).unwrap()["jti"].clone();
    assert_eq!(
        post(&server, REVOKE, &json!({ "token_id": id, "until": "2999-01-01T00:00:00Z" }))["revoked"],
        true
    );
    let code = |token: &str| server.http("GET", METRICS, &bearer(token), "").json()["code"].clone();
    assert_eq!(code(&token), "invalid_token", "revoked");
    let another = server.token("ann", Role::User);
    assert_eq!(code(&another), "wrong_credential", "another token of the same user, who is no admin");
    for body in [
        "{}",
        r#"{"user":""}"#,
        r#"{"user":"ann","until":"2001-01-01T00:00:00Z"}"#,
        r#"{"user":"ann","until":5}"#,
    ] {
        assert_eq!(ask(&server, "POST", REVOKE, body).status, 400, "{body}");
    }
}

/// DNS rebinding and forms of other pages.
#[test]
fn a_web_page_elsewhere_cannot_use_an_operators_browser() {
    let server = Server::start("[server]\nallowed_hosts = [\"ops.example\"]\n");
    let auth = bearer(&server.token("ops", Role::Admin));
    let status = |host: &str, headers: &str, body: &str| {
        let mut socket = server.connect();
        let length = body.len();
        let request = format!(
            "POST {CLEANUP} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{auth}{headers}\r\n{body}"
        );
        socket.send(request.as_bytes());
        socket.head().status
    };
    assert_eq!(status("localhost", "", ""), 200);
    assert_eq!(status("ops.example:8000", "", ""), 200);
    assert_eq!(status("evil.example", "", ""), 403);
    assert_eq!(status("localhost", "Content-Type: text/plain\r\n", "{}"), 415);
    assert_eq!(status("localhost", "Origin: http://evil.example\r\n", ""), 415);
    assert_eq!(
        status("localhost", "Content-Type: application/json\r\nOrigin: http://localhost\r\n", "{}"),
        200
    );
}

#[test]
fn users_are_listed_by_what_they_subscribe_to() {
    let server = Server::start("");
    let (ada, _) = client(&server, "ada", &["run:1"]);
    let (bob, _) = client(&server, "bob", &["run:1", "run:2"]);
    let (again, _) = client(&server, "bob", &["run:3"]);
    let answer = get(&server, "/api/admin/websocket/users?limit=1");
    assert_eq!(answer["users"], json!([{ "userId": "bob", "connections": 2, "subscriptions": 3 }]));
    assert_eq!((&answer["total"], &answer["hasMore"]), (&json!(2), &json!(true)));
    for what in ["connections", "sessions", "subscriptions"] {
        let series = format!("pulsewire_selfcheck_mismatch{{what=\"{what}\"}}");
        assert!(server.metric(&series).abs() < f64::EPSILON, "{series}");
    }
    [ada, bob, again].into_iter().for_each(close);
}

#[test]
fn a_blocked_address_is_closed_and_kept_out_until_it_is_let_in() {
    const BLOCKS: &str = "/api/admin/blocks";
    let server = Server::start("");
    let (mut socket, _) = client(&server, "ada", &[]);
    let blocked = post(&server, BLOCKS, &json!({ "address": "127.0.0.1" }));
    assert_eq!((&blocked["blocked"], &blocked["closed"]), (&json!(true), &json!(1)));
    assert!(is_moment(&blocked["until"]), "{blocked}");
    assert_eq!(socket.closed_with(), 4506);
    let token = server.token("ada", Role::User);
    let mut refused = server.connect();
    refused.send(crate::harness::handshake("/ws", &bearer(&token)).as_bytes());
    assert_eq!(refused.head().status, 403);
    let event = json!({ "channel": "run:1", "type": "t", "data": {} }).to_string();
    let publish = |server: &Server| {
        server.http("POST", "/api/publish", &bearer(&server.token("app", Role::Publisher)), &event).status
    };
    assert_eq!(publish(&server), 403);
    let allowed = post(&server, BLOCKS, &json!({ "address": "127.0.0.1", "for_ms": 0 }));
    assert_eq!(allowed, json!({ "blocked": false, "unblocked": true }));
    assert_eq!(publish(&server), 200);
    close(client(&server, "ada", &[]).0);
}
