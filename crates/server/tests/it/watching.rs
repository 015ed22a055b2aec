//! What operators see of connections: lists, their order and what is wrong with each, with real clients.

use std::time::Duration;

use pulsewire::auth::Role;
use pulsewire_hub::watch::tap::TapEvent;
use pulsewire_loadtest::proxy::{Direction, Proxy};
use serde_json::{Value, json};

use crate::harness::{Server, Socket, bearer, handshake, until};

/// A list as an operator gets it.
fn connections(server: &Server, query: &str) -> Value {
    let answer = ask(server, query);
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json()
}

fn ask(server: &Server, query: &str) -> crate::harness::Answer {
    let token = bearer(&server.token("operator", Role::Admin));
    server.http("GET", &format!("/api/admin/connections{query}"), &token, "")
}

/// Everything about one connection.
fn connection(server: &Server, id: &str) -> Value {
    let token = bearer(&server.token("operator", Role::Admin));
    let answer = server.http("GET", &format!("/api/admin/connections/{id}"), &token, "");
    assert_eq!(answer.status, 200, "{id}: {}", answer.text());
    answer.json()
}

/// One field of all rows.
fn column(list: &Value, field: &str) -> Vec<Value> {
    list["rows"].as_array().unwrap().iter().map(|row| row[field].clone()).collect()
}

fn subscribed(server: &Server, user: &str, channel: &str) -> Socket {
    let mut socket = server.welcomed(user);
    assert_eq!(socket.ask(&json!({"type": "subscribe", "channels": [channel]}))["type"], "subscribed");
    socket
}

/// A client whose kernel takes little and that reads nothing any more after it has subscribed.
fn stopped(server: &Server, user: &str, channel: &str) -> Socket {
    let mut socket = Socket::connect_small(server.address);
    socket.send(handshake("/ws", &bearer(&server.token(user, Role::User))).as_bytes());
    assert_eq!(socket.head().status, 101);
    assert_eq!(socket.json()["type"], "welcome");
    assert_eq!(socket.ask(&json!({"type": "subscribe", "channels": [channel]}))["type"], "subscribed");
    socket
}

fn flood(server: &Server, channel: &str) {
    let pad = "x".repeat(450);
    let events: Vec<Value> =
        (0..100).map(|n| json!({"channel": channel, "type": "note", "data": {"n": n, "pad": pad}})).collect();
    server.publish(&json!(events));
}

#[test]
fn a_client_that_does_not_read_is_first_and_its_cause_is_told() {
    let server = Server::start("[limits]\nkernel_unsent_bytes = \"4KiB\"\n");
    let mut reading = subscribed(&server, "reader", "run:1");
    let _stopped = stopped(&server, "sleeper", "run:1");
    let mut row = Value::Null;
    until("bytes wait and the window is closed", || {
        flood(&server, "run:1");
        (0..100).for_each(|_| assert_eq!(reading.json()["type"], "event"));
        let list = connections(&server, "?sort=score");
        row = list["rows"][0].clone();
        row["cause"] == "client_not_reading"
    });
    assert_eq!(row["userId"], "sleeper", "{row}");
    assert!(row["score"].as_u64().unwrap() <= 40 && row["queuedBytes"].as_u64().unwrap() > 0, "{row}");
    assert!(row["queuedForMs"].as_f64().is_some() && row["kernelUnsentBytes"].as_u64().unwrap() > 0, "{row}");
    let text = row["causeText"].as_str().unwrap();
    let told = "wait for it and its receive window is closed: the client does not read";
    assert!(text.ends_with(told), "{text}");
    let list = connections(&server, "?filter=cause:client_not_reading+queue%3E1k");
    assert_eq!(column(&list, "userId"), ["sleeper"]);
    assert_eq!((&list["matched"], &list["total"]), (&json!(1), &json!(2)));
    let by_queue = connections(&server, "?sort=-queue&limit=1");
    assert_eq!(column(&by_queue, "userId"), ["sleeper"]);
    let one = connection(&server, row["id"].as_str().unwrap());
    assert!(one["latencySplit"]["queueMs"].as_f64().unwrap() > 0.0, "{one}");
    assert!(one["network"]["receiveWindowLimitedMs"].as_f64().is_some(), "{one}");
}

/// A proxy ends TCP's round trip, so only the heartbeat shows that the way behind it is long; and only what the
/// client says of itself shows that it is not the client.
#[test]
fn a_client_behind_a_slow_network_is_told_from_a_busy_one() {
    let server = Server::start("[heartbeat]\ninterval = \"6s\"\ntimeout = \"5s\"\n");
    let proxy = Proxy::start(server.address).unwrap();
    let mut socket = Socket::connect(proxy.address);
    socket.send(handshake("/ws", &bearer(&server.token("far", Role::User))).as_bytes());
    assert_eq!(socket.head().status, 101);
    assert_eq!(socket.json()["type"], "welcome");
    proxy.delay(Direction::ToClient, Duration::from_millis(150));
    proxy.delay(Direction::ToServer, Duration::from_millis(150));
    answer_a_ping(&mut socket);
    let mut row = Value::Null;
    let mut look = |cause: &str| {
        until(cause, || {
            row = connections(&server, "?sort=score")["rows"][0].clone();
            row["cause"] == cause
        });
        row.clone()
    };
    let busy = look("client_busy");
    assert!(busy["rttMs"].as_f64().unwrap() >= 300.0 && busy["tcpRttMs"].as_f64().unwrap() < 100.0, "{busy}");
    let report = json!({"queued": 0, "handler_ms": 2.0, "visible": true});
    assert_eq!(socket.ask(&json!({"type": "ping", "report": report}))["type"], "pong");
    let slow = look("network_slow");
    assert!(slow["causeText"].as_str().unwrap().ends_with("the way behind the next proxy is slow"), "{slow}");
    let one = connection(&server, slow["id"].as_str().unwrap());
    assert_eq!(one["clientReport"]["slowestHandlerMs"], 2.0);
    assert!(one["latencySplit"]["clientMs"].as_f64().unwrap() > 200.0, "{one}");
}

/// Answers the next ping frame.
fn answer_a_ping(socket: &mut Socket) {
    let ping = socket.next().expect("the connection is open");
    assert_eq!(ping.opcode, 9);
    socket.frame(0x8a, &ping.payload);
}

#[test]
fn lists_are_filtered_grouped_and_paged_and_readers_over_http_take_part() {
    let server = Server::start("");
    let _sockets: Vec<_> = (0..5).map(|n| subscribed(&server, &format!("user-{}", n % 2), "run:7")).collect();
    let mut waiting = server.connect();
    let token = bearer(&server.token("poller", Role::User));
    waiting.send(format!("GET /api/channels/run:7/sse HTTP/1.1\r\nHost: x\r\n{token}\r\n").as_bytes());
    assert_eq!(waiting.head().status, 200);
    let all = connections(&server, "?sort=user");
    let users = ["poller", "user-0", "user-0", "user-0", "user-1", "user-1"];
    assert_eq!((column(&all, "userId"), &all["tabs"]["active"]), (users.map(Value::from).into(), &json!(6)));
    assert_eq!(column(&connections(&server, "?sort=-user&limit=2&offset=1"), "userId"), ["user-1", "user-0"]);
    let polled = connections(&server, "?filter=transport:sse");
    assert_eq!((column(&polled, "userId"), &polled["matched"]), (vec![json!("poller")], &json!(1)));
    assert_eq!(polled["rows"][0]["runId"], "7");
    let others = connections(&server, "?filter=run:7+-user:user-1+-transport:sse");
    assert_eq!(others["matched"], 3);
    let groups = connections(&server, "?group=user");
    assert_eq!(column(&groups, "id"), ["user-0", "user-1", "poller"]);
    assert_eq!(column(&groups, "connections"), [3, 2, 1]);
    assert_eq!((&groups["groups"], &groups["leftOut"]), (&json!(3), &json!(0)));
    let by_address = connections(&server, "?group=address");
    assert_eq!(
        (column(&by_address, "id"), column(&by_address, "connections")),
        (vec![json!("127.0.0.1")], vec![json!(6)])
    );
    let reader = polled["rows"][0]["id"].as_str().unwrap();
    assert_eq!(connection(&server, reader)["transport"], "sse");
}

#[test]
fn a_query_that_is_not_understood_is_refused_with_what_is_known() {
    let server = Server::start("");
    for (query, told) in [
        ("?filter=rtt%3Esoon", "`rtt` is compared with a time such as"),
        ("?filter=colour:red", "there is no field `colour`; known are user, id,"),
        ("?filter=state:gone", "`state` is never `gone`; it is one of authenticating, connected,"),
        ("?tab=closed&filter=rtt%3E1", "there is no field `rtt`; known are user, id, run,"),
        ("?sort=colour", "`sort` is one of score, queue,"),
        ("?tab=failed&sort=lasted", "`sort` is not for this tab"),
        ("?limit=201", "`limit` is a number from 1 to 200"),
        ("?offset=1001", "`offset` is a number from 0 to 1000"),
        ("?window=15m", "`window` is for the tabs closed and failed"),
        ("?tab=closed&window=soon", "`window` is a time such as 15m"),
        ("?page=2", "unknown parameter `page`; there are tab, filter,"),
    ] {
        let answer = ask(&server, query);
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == 400 && detail.contains(told), "{query}: {} {detail}", answer.status);
    }
    let unknown = server.token("operator", Role::Admin);
    for id in ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "c0-1-99", "r99", "nobody"] {
        let path = format!("/api/admin/connections/{id}");
        assert_eq!(server.http("GET", &path, &bearer(&unknown), "").status, 404, "{id}");
    }
}

#[test]
fn a_session_that_is_over_is_shown_with_its_life_and_its_connections() {
    let server = Server::start("");
    let mut socket = subscribed(&server, "ada", "run:3");
    let id = connections(&server, "")["rows"][0]["id"].as_str().unwrap().to_owned();
    let one = connection(&server, &id);
    assert_eq!(
        (&one["state"], &one["role"], &one["resumable"]),
        (&json!("connected"), &json!("user"), &json!(true))
    );
    assert_eq!(one["subscriptionList"][0]["channel"], "run:3");
    assert_eq!(one["subscriptionList"][0]["behind"], 0);
    server.publish(&json!({"channel": "run:3", "type": "note", "data": 1}));
    assert_eq!(socket.json()["type"], "event");
    assert_eq!(connection(&server, &id)["subscriptionList"][0]["position"], 1);
    socket.frame(0x88, &1000_u16.to_be_bytes());
    assert_eq!(socket.closed_with(), 1000);
    let over = connection(&server, &id);
    assert_eq!(
        (&over["state"], &over["code"], &over["userId"]),
        (&json!("closed"), &json!(1000), &json!("ada"))
    );
    let kinds: Vec<_> =
        over["timeline"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["opened", "authenticated", "subscribed", "closed"]);
    assert_eq!(over["timeline"][2]["text"], "subscribed to run:3");
    assert_eq!(over["closedConnections"].as_array().map(Vec::len), Some(1));
    let closed = connections(&server, "?tab=closed&filter=code:1000+initiator:client&window=1m");
    assert_eq!((&closed["matched"], &closed["rows"][0]["sessionId"]), (&json!(1), &json!(id)));
    assert_eq!(connections(&server, "?tab=closed&filter=code%3E4000")["matched"], 0);
    assert_eq!(column(&connections(&server, "?tab=closed&group=code"), "id"), ["1000"]);
}

#[test]
fn handshakes_that_fail_are_written_down_with_their_reasons() {
    let server =
        Server::start("[origins]\nallowed = [\"https://app.example\"]\n[auth]\ntimeout = \"200ms\"\n");
    let knock = |headers: &str| {
        let mut socket = server.connect();
        socket.send(handshake("/ws", headers).as_bytes());
        socket.head().status
    };
    assert_eq!(knock("Origin: https://evil.example\r\nUser-Agent: bad\r\n"), 403);
    assert_eq!(knock(&bearer("no.token.at-all")), 401);
    let mut silent = server.open("/ws", "");
    assert_eq!(silent.closed_with(), 4505);
    let mut wrong = server.open("/ws", "");
    wrong.say(&json!({"type": "connect", "token": server.expired_token("ada")}));
    assert_eq!(wrong.json()["type"], "error");
    assert_eq!(wrong.closed_with(), 4002);
    let failed = connections(&server, "?tab=failed");
    assert_eq!(column(&failed, "reason"), ["auth_expired", "auth_timeout", "unauthorized", "origin"]);
    assert_eq!(column(&failed, "stage"), ["connect", "connect", "handshake", "handshake"]);
    assert_eq!(column(&failed, "status"), [4002, 4505, 401, 403]);
    let origin = &failed["rows"][3];
    assert_eq!(
        (&origin["origin"], &origin["userAgent"], &origin["path"]),
        (&json!("https://evil.example"), &json!("bad"), &json!("/ws"))
    );
    assert_eq!(failed["tabs"]["failed"], 4);
    assert_eq!(connections(&server, "?tab=failed&filter=reason:auth_*")["matched"], 2);
    let text = failed.to_string();
    assert!(!text.contains("no.token.at-all"), "a credential is nowhere: {text}");
}

#[test]
fn a_tap_shows_what_a_real_connection_is_sent() {
    let server = Server::start("");
    let mut socket = subscribed(&server, "ada", "run:5");
    let id = connections(&server, "")["rows"][0]["id"].as_str().unwrap().to_owned();
    let app = server.shared();
    let mut tap =
        server.block_on(app.tap(id.parse().unwrap())).unwrap_or_else(|problem| panic!("{problem:?}"));
    server.publish(&json!({"channel": "run:5", "type": "note", "data": {"n": 1}}));
    assert_eq!(socket.json()["sequence"], 1);
    let Some(TapEvent::Message(message)) = server.block_on(tap.next()) else { panic!("a message is told") };
    assert_eq!(
        (&*message.kind, message.channel.as_ref().map(ToString::to_string).as_deref()),
        ("event", Some("run:5"))
    );
    assert!(message.latency_ns.is_some() && message.payload.starts_with(b"{"), "{message:?}");
    drop(tap);
    drop(app);
    let nobody = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let refused = server.block_on(server.shared().tap(nobody));
    assert_eq!(refused.err().map(|problem| problem.code.name()), Some("not_found"));
}
