//! Row by row through §5.3 of the fault catalogue: clients that want more than there is.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::time::Duration;

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire_with_open_files};
use crate::harness::{Server, Socket, handshake, series_of, until};

fn bearer(server: &Server, sub: &str) -> String {
    format!("Authorization: Bearer {}\r\n", server.token(sub, Role::User))
}

fn is_alive(socket: &mut Socket) -> bool {
    socket.ask(&json!({"type": "ping", "timestamp": 1}))["type"] == "pong"
}

/// Sends a byte whenever the server has been silent for a moment; returns what came until it closed.
fn trickle(socket: &mut Socket, byte: u8) -> String {
    let mut stream: TcpStream = socket.stream().try_clone().unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut answer = Vec::new();
    let mut block = [0; 4_096];
    loop {
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(len) => answer.extend_from_slice(&block[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                socket.send(&[byte]);
            }
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Row X1: a byte now and then buys no time, neither in the head nor in the body.
#[test]
fn who_sends_byte_by_byte_is_cut_at_the_deadline_of_its_phase() {
    let server = Server::start("[limits]\nhandshake_timeout = \"400ms\"");
    let late = "websocket_rejected_total{stage=\"accept\",reason=\"timeout\"}";
    let mut nothing = server.connect();
    let mut half = server.connect();
    half.send(&handshake("/ws", "").as_bytes()[..40]);
    let mut slow = server.connect();
    slow.send(b"GET /ws HTTP/1.1\r\nX-Slow: ");
    assert!(!trickle(&mut slow, b'x').contains("101"));
    nothing.rest();
    half.rest();
    server.wait_metric(late, 3.0);

    let token = server.token("app", Role::Publisher);
    let head = |length: &str| {
        format!(
            "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{length}\r\n\r\n"
        )
    };
    for (name, length, first) in [
        ("a body that stalls", "Content-Length: 1000", ""),
        ("a chunk that stalls", "Transfer-Encoding: chunked", "3e8\r\n"),
    ] {
        let mut socket = server.connect();
        socket.send((head(length) + first).as_bytes());
        let answer = trickle(&mut socket, b' ');
        assert!(answer.starts_with("HTTP/1.1 408"), "{name}: {answer}");
        assert!(answer.contains("\"code\":\"timeout\""), "{name}: {answer}");
    }
    // Meanwhile and afterwards everybody else is served.
    assert!(is_alive(&mut server.welcomed("ann")));
    until("every HTTP connection has ended", || server.app().hub.admission.connections() == 0);
}

/// Row X2: each bound at one more; those who are in are not touched.
#[test]
fn one_connection_more_than_a_bound_is_refused_and_the_others_stay() {
    let rows = [
        ("connections_per_address = 2", "address_limit"),
        ("connections_per_user = 2", "user_limit"),
        ("connections_max = 2\nconnections_soft = 1", "connection_limit"),
    ];
    for (setting, reason) in rows {
        let server = Server::start(&format!("[limits]\n{setting}"));
        let mut inside: Vec<Socket> = (0..2).map(|_| server.welcomed("ann")).collect();
        let mut third = server.connect();
        third.send(handshake("/ws", &bearer(&server, "ann")).as_bytes());
        let answer = third.head();
        assert_eq!(answer.status, 503, "{setting}");
        assert!(answer.headers["retry-after"].parse::<u64>().unwrap() >= 1, "{setting}");
        let series = format!("websocket_rejected_total{{stage=\"handshake\",reason=\"{reason}\"}}");
        assert_eq!(server.metric(&series), 1.0, "{series}");
        assert!(inside.iter_mut().all(is_alive), "{setting}");

        // A place that is given back can be taken.
        let mut left = inside.pop().unwrap();
        left.frame(0x88, &1000_u16.to_be_bytes());
        assert_eq!(left.closed_with(), 1000);
        assert!(is_alive(&mut server.welcomed("ann")), "{setting}");
    }
}

/// Row 001-98: clients that come back too fast are told to wait, and whoever is in stays in.
#[test]
fn new_connections_of_an_address_are_held_to_a_rate() {
    let server = Server::start("[limits]\nhandshakes_per_minute = 3\n");
    let mut sockets: Vec<Socket> = (0..3).map(|_| server.welcomed("ann")).collect();
    let bearer = format!("Authorization: Bearer {}\r\n", server.token("ann", Role::User));
    for round in 0..2 {
        let mut socket = server.connect();
        socket.send(handshake("/ws", &bearer).as_bytes());
        let mut refused = socket.head();
        refused.body = socket.rest();
        assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("rate_limited")), "round {round}");
        let wait: u64 = refused.headers["retry-after"].parse().unwrap();
        assert!((1..=20).contains(&wait), "a third of a minute: {wait}");
    }
    let rejected = "websocket_rejected_total{stage=\"handshake\",reason=\"rate_limit\"}";
    assert_eq!(server.metric(rejected), 2.0);
    assert_eq!(server.metric("websocket_rate_limited_total{scope=\"address\"}"), 2.0);
    assert_eq!(sockets[0].ask(&json!({"type": "ping", "timestamp": 1}))["type"], "pong");
    assert_eq!(server.get("/livez").status, 200, "other requests are not counted");
}

/// Row R1, at the door: beyond the node's budget a handshake costs an answer, and no token is looked at.
#[test]
fn new_connections_of_all_together_are_held_to_a_rate_and_told_when_to_come_back() {
    let server = Server::start("[limits]\nhandshakes_per_second = 2\n");
    let mut inside = server.welcomed("ann");
    let mut sockets: Vec<Socket> = (0..12).map(|_| server.connect()).collect();
    for socket in &mut sockets {
        socket.send(handshake("/ws", "Authorization: Bearer none.of.ours\r\n").as_bytes());
    }
    let mut answers = sockets.iter_mut().map(|socket| {
        let mut answer = socket.head();
        answer.body = socket.rest();
        answer
    });
    // Those whose turn comes within a second wait for it; on a busy machine that may be some more.
    let (refused, looked_at): (Vec<_>, Vec<_>) = answers.by_ref().partition(|answer| answer.status == 503);
    assert!(looked_at.iter().all(|answer| answer.status == 401) && !looked_at.is_empty());
    let waits: Vec<u64> =
        refused.iter().map(|answer| answer.headers["retry-after"].parse().unwrap()).collect();
    assert!(waits.iter().max() > waits.iter().min(), "each has another time: {waits:?}");
    let problem = refused[0].json();
    assert_eq!((&problem["code"], &problem["retryable"]), (&json!("overloaded"), &json!(true)));
    let rejected = "websocket_rejected_total{stage=\"handshake\",reason=\"handshake_rate\"}";
    assert_eq!(server.metric(rejected), refused.len() as f64);
    assert_eq!(inside.ask(&json!({"type": "ping", "timestamp": 1}))["type"], "pong");
    assert_eq!(server.get("/livez").status, 200, "other requests are not counted");
}

/// Row X2, for the bound that is known only after the first message.
#[test]
fn a_user_with_too_many_connections_is_told_in_band() {
    let server = Server::start("[limits]\nconnections_per_user = 1");
    let mut inside = server.welcomed("ann");
    let mut second = server.open("/ws", "");
    let answer = second.ask(&json!({"type": "connect", "id": 1, "token": server.token("ann", Role::User)}));
    assert_eq!((&answer["code"], &answer["id"]), (&json!("limit_exceeded"), &json!(1)));
    assert_eq!(second.closed_with(), 4504);
    assert!(is_alive(&mut inside));
    assert!(is_alive(&mut server.welcomed("bob")), "another user");
    assert_eq!(server.metric("websocket_closes_total{code=\"4504\",initiator=\"server\"}"), 1.0);
}

/// The administrator's token of a server that runs with `--dev`.
fn dev_token(folder: &Folder) -> String {
    let written = std::fs::read_to_string(folder.path().join("dev.json")).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    written["token"].as_str().unwrap().to_owned()
}

fn starved(folder: &Folder, open_files: u32) -> Process {
    let arguments = ["--dev", "--data", folder.path().to_str().unwrap(), "--set", "server.shards=2"];
    Process::serve(pulsewire_with_open_files(open_files), &arguments)
}

/// Row X3: clients are refused while descriptors are left, so operators always get in.
#[test]
fn with_all_descriptors_taken_by_clients_metrics_health_and_admin_still_answer() {
    let folder = Folder::new();
    // 40 are the server's own, 8 are for HTTP, which leaves 16 for connections.
    let process = starved(&folder, 64);
    let token = dev_token(&folder);
    let upgrade = handshake(&format!("/ws?token={token}"), "");
    let join = || {
        let mut socket = process.connect();
        socket.send(upgrade.as_bytes());
        let answer = socket.head();
        (socket, answer)
    };
    assert_eq!(process.metric("websocket_connections_limit"), 16.0);
    let health = process.http("GET", "/health/websocket", "", "").json();
    let note = "limits.connections_max is 16 instead of 10000: the limit of open files is 64";
    assert!(health["note"].as_str().unwrap().contains(note), "{health}");
    let mut inside = Vec::new();
    for _ in 0..16 {
        let (mut socket, answer) = join();
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(socket.json()["type"], "welcome");
        inside.push(socket);
    }
    let works = |when: &str| {
        for path in ["/metrics", "/livez", "/readyz", "/health/websocket"] {
            assert_eq!(process.http("GET", path, "", "").status, 200, "{path} {when}");
        }
        let admin = format!("Authorization: Bearer {token}\r\n");
        let answer = process.http("GET", "/api/admin/websocket/connections", &admin, "");
        assert_eq!(answer.json()["totalConnections"], 16, "{when}");
        let (_, refused) = join();
        assert_eq!(refused.status, 503, "{when}");
        assert!(refused.headers["retry-after"].parse::<u64>().unwrap() >= 1, "{when}");
    };
    works("when every place is taken");
    // Connections that ask for nothing hold the places of HTTP until somebody asks for something.
    let idle: Vec<Socket> = (0..40).map(|_| process.connect()).collect();
    works("beside idle connections");
    assert!(process.metric("process_open_fds") < 64.0);
    assert_eq!(process.metric("pulsewire_connection_errors_total{kind=\"accept\"}"), 0.0);
    assert!(inside.iter_mut().all(is_alive), "who is in stays in");
    drop((idle, inside));
    until("there is room again", || join().1.status == 101);
}

/// Row X3: should descriptors run out all the same, the accept loop goes on.
#[test]
fn a_process_out_of_descriptors_recovers_by_itself() {
    let folder = Folder::new();
    let mut process = starved(&folder, 64);
    let errors = "pulsewire_connection_errors_total{kind=\"accept\"}";
    assert_eq!(process.metric(errors), 0.0);
    let limit = |open_files: &str| {
        let mut command = std::process::Command::new("prlimit");
        let status =
            command.args(["--pid", &process.pid().to_string(), &format!("--nofile={open_files}:")]).status();
        assert!(status.unwrap().success());
    };
    let began = std::time::Instant::now();
    until("it has counted what it could not accept", || {
        // Fewer than it has open already: nothing can be accepted.
        limit("8");
        let waiting: Vec<Socket> = (0..20).map(|_| process.connect()).collect();
        limit("64");
        drop(waiting);
        process.metric(errors) >= 1.0
    });
    let token = dev_token(&folder);
    let mut socket = process.connect();
    socket.send(handshake(&format!("/ws?token={token}"), "").as_bytes());
    assert_eq!(socket.head().status, 101);
    assert_eq!(socket.json()["type"], "welcome");
    process.signal("TERM");
    let (status, _, log) = process.wait();
    assert!(status.success());
    let lines = log.lines().filter(|line| line.contains("could not be accepted")).count() as u64;
    assert!((1..=began.elapsed().as_secs() + 1).contains(&lines), "{lines} lines:\n{log}");
}

/// Row X4: in bulk and singly.
#[test]
fn a_session_has_at_most_its_number_of_subscriptions() {
    let server = Server::start("[limits]\nerrors_per_minute = 1000\nmessages_per_minute = 100000");
    let mut socket = server.welcomed("ann");
    let names = |from: usize, count: usize| {
        (from..from + count).map(|number| format!("run:{number}")).collect::<Vec<_>>()
    };
    for count in [1_001, 1_999, 2_001, 4_096, 4_097] {
        let answer = socket.ask(&json!({"type": "subscribe", "channels": names(0, count)}));
        assert_eq!(answer["code"], "limit_exceeded", "{count}");
        assert_eq!(server.metric("websocket_active_subscriptions"), 0.0, "{count}");
    }
    for part in 0..10 {
        assert_eq!(
            socket.ask(&json!({"type": "subscribe", "channels": names(part * 100, 100)}))["type"],
            "subscribed"
        );
    }
    for number in 1_000..1_100 {
        let answer = socket.ask(&json!({"type": "subscribe", "channels": names(number, 1)}));
        assert_eq!(answer["code"], "limit_exceeded");
    }
    assert_eq!(
        socket.ask(&json!({"type": "subscribe", "channels": names(0, 1_000)}))["type"],
        "subscribed",
        "what it has"
    );
    assert_eq!(server.metric("websocket_active_subscriptions"), 1_000.0);
    assert!(server.metric("websocket_memory_usage_bytes") < 4_194_304.0);
    socket.reset();
    server.wait_metric("websocket_active_subscriptions", 0.0);
}

/// Row X6: names that come from outside cannot fill the page.
#[test]
fn event_types_beyond_the_bound_share_a_series_and_the_page_stays_small() {
    let server = Server::start("");
    let events: Vec<Value> = (0..500)
        .map(|number| json!({"channel": "upstream:1", "type": format!("{number:-<64}"), "data": null}))
        .collect();
    server.publish(&json!(events));
    let page = server.get("/metrics").text();
    assert!(page.len() < 2 * 1_024 * 1_024, "{} bytes", page.len());
    let labelled = page.lines().filter(|line| line.starts_with("websocket_events_emitted_total{")).count();
    assert!(labelled <= 202, "{labelled} series");
    let other = series_of(&page, "websocket_events_emitted_total{event_type=\"other\"}").unwrap();
    let dropped = series_of(&page, "websocket_metrics_series_dropped_total").unwrap();
    assert_eq!(other, dropped, "each type beyond the bound came once");
    assert!(other >= 300.0, "{other}");
    assert_eq!(server.metric_sum("websocket_events_emitted_total"), 500.0);
}

/// Row X8: accepted and limited are what was sent, exactly.
#[test]
fn messages_beyond_the_rate_are_dropped_counted_and_told_once_a_second() {
    const SENT: usize = 3_000;
    let server = Server::start("[limits]\ncontrol_frames_per_second = 10000");
    let mut other = server.welcomed("bob");
    let mut socket = server.welcomed("ann");
    let began = std::time::Instant::now();
    let mut heard = Vec::new();
    for part in 0..SENT / 500 {
        for number in 0..500 {
            socket.say(&json!({"type": "ping", "id": part * 500 + number, "timestamp": 1}));
        }
        heard.extend(socket.flush(b"part"));
        assert!(is_alive(&mut other), "others are not affected");
    }
    let seconds = began.elapsed().as_secs() + 2;
    let pongs: Vec<&Value> = heard.iter().filter(|answer| answer["type"] == "pong").collect();
    let limited: Vec<&Value> = heard.iter().filter(|answer| answer["code"] == "rate_limited").collect();
    assert_eq!(pongs.len() + limited.len(), heard.len(), "{heard:?}");
    let refused = server.metric("websocket_rate_limited_total{scope=\"connection\"}");
    assert_eq!(pongs.len() as f64 + refused, SENT as f64);
    assert!(pongs.len() >= 1_000, "the first thousand are a minute's worth: {}", pongs.len());
    assert!(pongs[..1_000].iter().enumerate().all(|(number, pong)| pong["id"] == number), "in order");
    assert!((1..=seconds).contains(&(limited.len() as u64)), "{} notices in {seconds} s", limited.len());
    for notice in limited {
        assert_eq!((&notice["message"], &notice["retryable"]), (&json!("Rate limit exceeded"), &json!(true)));
        assert!(notice["retry_after_ms"].as_u64().unwrap() >= 1, "{notice}");
    }
    assert_eq!(server.metric("websocket_messages_dropped_total{reason=\"rate_limit\"}"), refused);
    // The bucket refills by the passing of time alone: one in 60 ms.
    until("a message is heard again", || {
        socket.say(&json!({"type": "ping", "timestamp": 2}));
        socket.flush(b"again").iter().any(|answer| answer["type"] == "pong")
    });
}

/// Row X9: bodies that are too much.
#[test]
fn a_body_beyond_the_limits_is_refused() {
    let server = Server::start("");
    let token = server.token("app", Role::Publisher);
    let post = |path: &str, headers: &str, body: &str| {
        server.http("POST", path, &format!("Authorization: Bearer {token}\r\n{headers}"), body)
    };
    let large = format!("{{\"channel\":\"run:1\",\"type\":\"note\",\"data\":\"{}\"}}", "x".repeat(10 << 20));
    for path in ["/api/publish", "/api/channels/run:1/events", "/api/metrics/custom"] {
        let answer = post(path, "", &large);
        assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("too_large")), "{path}");
    }
    let event = r#"{"channel":"run:1","type":"note"}"#;
    for encoding in ["gzip", "deflate", "br", "gzip, identity"] {
        let answer = post("/api/publish", &format!("Content-Encoding: {encoding}\r\n"), event);
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (415, &json!("unsupported_media_type")),
            "{encoding}"
        );
    }
    assert_eq!(post("/api/publish", "Content-Encoding: identity\r\n", event).status, 200);
    let many = format!("[{}]", vec![event; 501].join(","));
    let refused = post("/api/publish", "", &many);
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("limit_exceeded")));
    let deep =
        format!("{{\"channel\":\"run:1\",\"type\":\"note\",\"data\":{}{}}}", "[".repeat(40), "]".repeat(40));
    assert_eq!(post("/api/publish", "", &deep).status, 400);

    // Chunks without an end.
    let mut socket = server.connect();
    socket.send(
        format!("POST /api/publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n")
            .as_bytes(),
    );
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
    for _ in 0..20 {
        socket.send(chunk.as_bytes());
    }
    assert_eq!(socket.head().status, 413);
    socket.rest();
    assert_eq!(server.metric("websocket_events_emitted_total{event_type=\"other\"}"), 0.0);
    assert_eq!(server.metric("pulsewire_publish_total{source=\"http\",outcome=\"accepted\"}"), 1.0);
}

/// Row X16: HTTP/2 is not spoken.
#[test]
fn an_http_2_preface_is_refused_and_closed() {
    let server = Server::start("");
    let mut socket = server.connect();
    socket.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let rest = String::from_utf8_lossy(&socket.rest()).into_owned();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400"), "{rest:?}");
    let mut upgrade = server.connect();
    upgrade.send(
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    assert_eq!(upgrade.head().status, 200, "an upgrade that is not known is not taken (RFC 9110 §7.8)");
}
