//! The metrics against what real clients did: documents 000 and 001, and how they are served.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pulsewire::auth::{KeyId, Role, api_key};
use pulsewire_loadtest::proxy::{Direction, Proxy};
use serde_json::json;

use crate::harness::{Answer, PATIENCE, Server, Socket, handshake, series_of, until};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
/// What Prometheus 3 sends.
const PROMETHEUS: &str = "Accept: application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n";

/// Asks until a page has a line; pages are up to a second old.
fn wait_line(server: &Server, path: &str, line: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let page = server.get(path).text();
        if page.lines().any(|found| found == line) {
            return;
        }
        assert!(Instant::now() < until, "`{line}` is not in {path}:\n{page}");
        std::thread::yield_now();
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n")
}

/// Closes as a client should.
fn close(mut socket: Socket) {
    socket.frame(0x88, &1000_u16.to_be_bytes());
    assert_eq!(socket.closed_with(), 1000);
}

/// Rows 000-02 to 000-05, 001-01 to 001-04, 001-26 to 001-28; T2 and T3.
#[test]
fn connections_are_counted_as_the_clients_count_them() {
    let server = Server::start("");
    let before = Instant::now();
    let mut sockets: Vec<Socket> = (0..12).map(|user| server.welcomed(&format!("user-{user}"))).collect();
    let open = Instant::now();
    server.wait_metric("websocket_active_connections", 12.0);
    assert_eq!(server.metric("websocket_connections_total{status=\"opened\"}"), 12.0);
    assert_eq!(server.metric("websocket_connections_total{status=\"closed\"}"), 0.0);
    let closing = Instant::now();
    sockets.drain(..5).for_each(close);
    drop(sockets.drain(..4));
    server.wait_metric("websocket_connections_total{status=\"closed\"}", 9.0);
    let after = Instant::now();
    assert_eq!(server.metric("websocket_active_connections"), 3.0, "opened less closed is active");
    assert_eq!(server.metric("websocket_disconnections_total"), 9.0);
    assert_eq!(server.metric("websocket_connection_duration_seconds_count"), 9.0);
    assert_eq!(server.metric("websocket_connections_total{status=\"failed\"}"), 0.0);
    // Each of the nine lasted at least from `open` to `closing` and at most from `before` to `after`;
    // durations are kept in whole milliseconds.
    let sum = server.metric("websocket_connection_duration_seconds_sum");
    let (least, most) =
        (9.0 * ((closing - open).as_secs_f64() - 0.001), 9.0 * (after - before).as_secs_f64());
    assert!((least..=most).contains(&sum), "{least} <= {sum} <= {most}");
}

/// Row 001-16 and T8: every way to close a hundred times, and nothing counted twice.
#[test]
fn every_close_is_counted_once_under_its_code_and_reason() {
    const EACH: usize = 100;
    let server = Server::start(
        "[auth]\ntimeout = \"300ms\"\n[heartbeat]\ninterval = \"1s\"\ntimeout = \"100ms\"\n\
         [limits]\nslow_after = \"300ms\"\noutbox_bytes_max = \"4KiB\"\nkernel_unsent_bytes = \"4KiB\"\nconnections_per_user = 0\n",
    );
    let headers = bearer(&server.token("ops", Role::Admin));
    let admin = |path: &str, body: &serde_json::Value| {
        let answer = server.http("POST", path, &headers, &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    // Silent ones are closed by the heartbeat, so one is taken to its end before the next begins.
    for each in 0..EACH {
        close(server.welcomed("ann"));
        server.welcomed("bob").reset();
        let mut wrong = server.welcomed("cyd");
        wrong.send(&[0x81, 0x01, b'x']);
        assert_eq!(wrong.closed_with(), 1002);
        let mut large = server.welcomed("dan");
        large.send(&[0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(large.closed_with(), 1009);
        let user = format!("eve-{each}");
        let mut revoked = server.welcomed(&user);
        admin("/api/admin/revocations", &json!({ "user": user }));
        assert_eq!(revoked.closed_with(), 4506);
    }
    // These are closed for their silence: all of a way together.
    let ends = |sockets: Vec<Socket>, code: u16| {
        for mut socket in sockets {
            assert_eq!(socket.closed_with(), code);
        }
    };
    ends((0..EACH).map(|_| server.open("/ws", "")).collect(), 4505);
    ends((0..EACH).map(|_| server.welcomed("fay")).collect(), 4003);
    // Readers that take nothing: more than their kernel, ours and their outbox hold.
    let auth = bearer(&server.token("gus", Role::User));
    let mut slow = Vec::new();
    for _ in 0..EACH {
        let mut socket = Socket::connect_small(server.address);
        socket.send(handshake("/ws", &auth).as_bytes());
        assert_eq!(socket.head().status, 101);
        assert_eq!(socket.json()["type"], "welcome");
        let answer = socket.ask(&json!({ "type": "subscribe", "channels": ["run:1"] }));
        assert_eq!(answer["type"], "subscribed");
        slow.push(socket);
    }
    let filler = "x".repeat(16_000);
    let closes = |code: u16, initiator: &str| {
        server.metric(&format!("websocket_closes_total{{code=\"{code}\",initiator=\"{initiator}\"}}"))
    };
    until("every stalled reader is given up", || {
        server.publish(&json!({ "channel": "run:1", "type": "filler", "data": filler }));
        server.metric("websocket_active_connections") == 0.0
    });
    let by_heartbeat = closes(4003, "server") - EACH as f64;
    drop(slow);
    let all = 8.0 * EACH as f64;
    server.wait_metric("websocket_connections_total{status=\"closed\"}", all);
    assert_eq!(server.metric("websocket_connections_total{status=\"opened\"}"), all);
    assert_eq!(server.metric("websocket_disconnections_total"), all);
    assert_eq!(server.metric_sum("websocket_closes_total"), all);
    assert_eq!(server.metric_sum("pulsewire_disconnects_total"), all);
    assert_eq!(server.metric("websocket_connection_duration_seconds_count"), all);
    // Whether a stalled reader is found by what it owes or by what it does not take first, it is found once.
    assert_eq!(closes(4004, "server") + by_heartbeat, EACH as f64);
    assert!(closes(4004, "server") > 0.0);
    for (code, reason, initiator) in [
        (1000, "client_close", "client"),
        (1006, "network", "network"),
        (1002, "protocol_error", "server"),
        (1009, "too_large", "server"),
        (4506, "revoked", "server"),
        (4505, "auth_timeout", "server"),
    ] {
        assert_eq!(closes(code, initiator), EACH as f64, "{code}");
        let ends = format!("pulsewire_disconnects_total{{reason=\"{reason}\",initiator=\"{initiator}\"}}");
        assert_eq!(server.metric(&ends), EACH as f64, "{ends}");
    }
}

/// Row T8: a drain a hundred times, counted while the server goes.
#[test]
fn every_connection_that_is_sent_away_is_counted_once() {
    let mut server = Server::start("");
    let mut sockets: Vec<Socket> = (0..100).map(|_| server.welcomed("ann")).collect();
    let app = server.shared();
    server.stop(Duration::from_secs(5));
    let codes: Vec<u16> = sockets.iter_mut().map(Socket::closed_with).collect();
    assert!(codes.iter().all(|code| *code == codes[0]), "{codes:?}");
    let page = pulsewire_telemetry::numbers(&app.telemetry, &pulsewire_telemetry::Current::default());
    let closes = format!("websocket_closes_total{{code=\"{}\",initiator=\"server\"}}", codes[0]);
    assert_eq!((page[&closes], page["websocket_disconnections_total"]), (100.0, 100.0), "{closes}");
}

/// Row C3 (c): the round trip from a publisher to a subscriber's receipt, as far as it was measured.
#[test]
fn a_round_trip_holds_the_publishers_own_way_to_the_server() {
    let server = Server::start("[heartbeat]\ninterval = \"1s\"\ntimeout = \"1s\"\n");
    let proxy = Proxy::start(server.address).unwrap();
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.delay(direction, Duration::from_millis(30));
    }
    let mut far = Socket::connect(proxy.address);
    far.send(handshake("/ws", &bearer(&server.token("far", Role::Publisher))).as_bytes());
    assert_eq!(far.head().status, 101);
    assert_eq!(far.json()["type"], "welcome");
    let mut near = server.welcomed("near");
    near.ask(&json!({ "type": "subscribe", "channels": ["run:1"] }));
    let mut exchange = |sequence: u64, far: &mut Socket| {
        far.ask(&json!({ "type": "publish", "channel": "run:1", "event": "note", "data": null }));
        assert_eq!(near.json()["sequence"], sequence);
        near.say(&json!({ "type": "receipt", "channel": "run:1", "sequence": sequence }));
        server.wait_metric("pulsewire_delivery_seconds_count{proof=\"app_ack\"}", sequence as f64);
    };
    exchange(1, &mut far);
    let count = || server.metric("orchestrator_websocket_message_latency_count");
    assert_eq!(count(), 0.0, "the publisher's way is not known before its first heartbeat");
    let ping = far.next().unwrap();
    assert_eq!(ping.opcode, 9);
    far.frame(0x8a, &ping.payload);
    server.wait_metric("websocket_heartbeat_rtt_milliseconds_count", 1.0);
    exchange(2, &mut far);
    assert_eq!(count(), 1.0);
    assert!(server.metric("orchestrator_websocket_message_latency_sum") >= 0.06, "twice 30 ms at least");
    // Whoever publishes over HTTP waits for no receipt: there is no trip to measure.
    server.publish(&json!({ "channel": "run:1", "type": "note", "data": null }));
    assert_eq!(near.json()["sequence"], 3);
    near.say(&json!({ "type": "receipt", "channel": "run:1", "sequence": 3 }));
    server.wait_metric("pulsewire_delivery_seconds_count{proof=\"app_ack\"}", 3.0);
    assert_eq!(count(), 1.0);
}

/// Rows 001-05, 001-18, 001-29; T5.
#[test]
fn failed_authentications_are_counted_by_reason() {
    let server = Server::start("");
    let expired = server.expired_token("ann");
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (token, times) in [("nonsense", 3), (expired.as_str(), 2)] {
        for _ in 0..times {
            let headers = format!("{upgrade}Authorization: Bearer {token}\r\n");
            assert_eq!(server.http("GET", "/ws", &headers, "").status, 401);
        }
    }
    assert_eq!(server.get("/api/admin/websocket/connections").status, 401);
    let user = bearer(&server.token("ann", Role::User));
    assert_eq!(server.http("GET", "/api/admin/websocket/connections", &user, "").status, 401);
    let failures =
        |reason: &str| server.metric(&format!("websocket_auth_failures_total{{reason=\"{reason}\"}}"));
    assert_eq!(failures("invalid_token"), 3.0);
    assert_eq!(failures("expired_token"), 2.0);
    assert_eq!(failures("missing_token"), 1.0);
    assert_eq!(failures("forbidden"), 1.0);
    assert_eq!(server.metric("websocket_connections_total{status=\"failed\"}"), 5.0);
}

/// Rows 001-07, 001-08, 001-10, 001-30 to 001-32, 001-43.
#[test]
fn subscriptions_are_what_is_subscribed_now() {
    let server = Server::start("");
    let [mut ann, mut bob, _silent] = ["ann", "bob", "cyd"].map(|user| server.welcomed(user));
    ann.ask(&json!({ "type": "subscribe", "channels": ["project:7", "project:8", "run:1"] }));
    bob.ask(&json!({ "type": "subscribe", "channels": ["project:7"] }));
    assert_eq!(server.metric("websocket_subscriptions_total"), 4.0);
    assert_eq!(server.metric("websocket_active_subscriptions"), 4.0);
    assert_eq!(server.metric("websocket_subscriptions_by_project{project_id=\"7\"}"), 2.0);
    assert_eq!(server.metric("websocket_subscriptions_by_project{project_id=\"8\"}"), 1.0);
    let at_most =
        |n: &str| server.metric(&format!("websocket_subscriptions_per_connection_bucket{{le=\"{n}\"}}"));
    assert_eq!((at_most("0"), at_most("1"), at_most("2"), at_most("5")), (1.0, 2.0, 2.0, 3.0));
    assert_eq!(server.metric("websocket_subscriptions_per_connection_sum"), 4.0);
    ann.ask(&json!({ "type": "unsubscribe", "channels": ["project:7", "run:1"] }));
    close(bob);
    server.wait_metric("websocket_subscriptions_total", 1.0);
    assert!(!server.get("/metrics").text().contains("project_id=\"7\""), "nobody listens to project 7");
}

/// Rows 000-06, 000-21, 000-23, 001-11, 001-12, 001-33, 001-34: exact counts of events and messages.
#[test]
fn events_are_counted_once_when_accepted_and_once_for_each_reader() {
    let server = Server::start("");
    server.publish(&json!({ "channel": "run:1", "type": "message:new", "data": null }));
    let mut readers: Vec<Socket> = (0..3).map(|user| server.welcomed(&format!("user-{user}"))).collect();
    for reader in &mut readers {
        reader.ask(&json!({ "type": "subscribe", "channels": [{ "channel": "run:1", "last": 5 }] }));
        assert_eq!(reader.json()["event"], "message:new");
        assert_eq!(reader.json()["type"], "replay_end");
    }
    for number in 0..4 {
        server.publish(&json!({ "channel": "run:1", "type": "task:progress", "data": number }));
    }
    for reader in &mut readers {
        for sequence in 2..=5 {
            assert_eq!(reader.json()["sequence"], sequence);
        }
        reader.say(&json!({ "type": "receipt", "channel": "run:1", "sequence": 5 }));
    }
    let of_type = |name: &str| format!("{name}{{event_type=\"task:progress\"}}");
    assert_eq!(server.metric(&of_type("websocket_events_emitted_total")), 4.0);
    server.wait_metric(&of_type("websocket_event_latency_milliseconds_count"), 12.0);
    server.wait_metric("websocket_messages_total{direction=\"sent\",type=\"task:progress\"}", 12.0);
    server.wait_metric("websocket_messages_total{direction=\"received\",type=\"receipt\"}", 3.0);
    assert_eq!(server.metric("websocket_messages_total{direction=\"received\",type=\"subscribe\"}"), 3.0);
    assert_eq!(server.metric("websocket_messages_total{direction=\"sent\",type=\"subscribed\"}"), 3.0);
    assert_eq!(server.metric("websocket_initial_state_latency_milliseconds_count"), 3.0);
    // Three receipts, and as many TCP acknowledgements as were looked at.
    assert!(server.metric(&of_type("websocket_message_latency_milliseconds_count")) >= 3.0);
    assert_eq!(server.metric("pulsewire_publish_total{source=\"http\",outcome=\"accepted\"}"), 5.0);
}

/// Rows 000-14, 000-20, 001-16, 001-17, 001-35.
#[test]
fn client_events_and_wrong_messages_are_counted_by_type_and_kind() {
    // Nobody listens on port 1.
    let server = Server::start("[hook]\nurl = \"http://127.0.0.1:1/\"\nallow_private = true\n");
    let mut ann = server.welcomed("ann");
    assert_eq!(ann.ask(&json!({ "type": "task_assign", "data": {}, "id": 1 }))["code"], "hook_failed");
    assert_eq!(ann.ask(&json!({ "type": "no_such_event", "data": {} }))["code"], "unknown_event");
    ann.text("{");
    assert_eq!(ann.json()["code"], "bad_request");
    assert_eq!(server.metric("websocket_events_received_total{event_type=\"task_assign\"}"), 1.0);
    assert_eq!(server.metric("websocket_event_errors_total{event_type=\"task_assign\"}"), 1.0);
    assert_eq!(server.metric("websocket_messages_total{direction=\"received\",type=\"task_assign\"}"), 1.0);
    assert_eq!(server.metric("websocket_message_errors_total{error_type=\"parse_error\"}"), 1.0);
    assert_eq!(server.metric("websocket_message_errors_total{error_type=\"validation_error\"}"), 1.0);
    assert_eq!(server.metric("websocket_message_errors_total{error_type=\"send_error\"}"), 0.0);
    // An unmasked frame.
    ann.send(&[0x81, 0x01, b'x']);
    assert_eq!(ann.closed_with(), 1002);
    server.wait_metric("websocket_connections_total{status=\"closed\"}", 1.0);
    assert_eq!(server.metric("pulsewire_connection_errors_total{kind=\"protocol\"}"), 1.0);
    assert_eq!(server.metric("websocket_closes_total{code=\"1002\",initiator=\"server\"}"), 1.0);
}

/// Rows 000-22, 001-13, 001-36, 001-37.
#[test]
fn answered_heartbeats_are_measured_under_both_names() {
    let server = Server::start("[heartbeat]\ninterval = \"2s\"\ntimeout = \"2s\"\n");
    let mut ann = server.welcomed("ann");
    let ping = ann.next().unwrap();
    assert_eq!(ping.opcode, 9);
    ann.frame(0x8a, &ping.payload);
    server.wait_metric("websocket_heartbeat_rtt_milliseconds_count", 1.0);
    assert_eq!(server.metric("websocket_heartbeat_latency_milliseconds_count"), 1.0);
    assert!(server.metric("websocket_heartbeats_sent_total") >= 1.0);
    assert_eq!(server.metric("websocket_heartbeat_timeouts_total"), 0.0);
}

/// Rows 001-19, 001-38, 001-42.
#[test]
fn an_unanswered_heartbeat_is_a_time_out() {
    let server = Server::start("[heartbeat]\ninterval = \"1s\"\ntimeout = \"100ms\"\n");
    let mut ann = server.welcomed("ann");
    assert_eq!(ann.closed_with(), 4003);
    server.wait_metric("websocket_heartbeat_timeouts_total", 1.0);
    assert_eq!(server.metric("websocket_connections_total{status=\"closed\"}"), 1.0);
}

/// Row T6: twenty clients behind a slow network that then goes silent.
#[test]
fn heartbeats_measure_the_network_and_find_who_fell_into_a_hole() {
    let server = Server::start("[heartbeat]\ninterval = \"2s\"\ntimeout = \"2s\"\n");
    // A client that answers every ping until its connection ends; returns the close code it heard.
    let answers = |mut socket: Socket| {
        std::thread::spawn(move || {
            while let Some(frame) = socket.next() {
                match frame.opcode {
                    8 => return Some(frame.close_code()),
                    9 => socket.frame(0x8a, &frame.payload),
                    _ => {}
                }
            }
            None
        })
    };
    let proxy = Proxy::start(server.address).unwrap();
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.delay(direction, Duration::from_millis(25));
    }
    let auth = bearer(&server.token("ann", Role::User));
    let join = |_| {
        let mut socket = Socket::connect(proxy.address);
        socket.send(handshake("/ws", &auth).as_bytes());
        assert_eq!(socket.head().status, 101);
        assert_eq!(socket.json()["type"], "welcome");
        answers(socket)
    };
    let far: Vec<_> = (0..20).map(join).collect();
    let answered = "websocket_heartbeat_rtt_milliseconds_count";
    until("all have answered", || server.metric(answered) >= 20.0);
    // How much more it is depends on the machine; that it is not less is the measurement.
    let within = "websocket_heartbeat_rtt_milliseconds_bucket{le=\"25\"}";
    assert_eq!(server.metric(within), 0.0, "twice 25 ms cannot take less than 50");
    let page = server.page();
    let [sum, count] = ["sum", "count"]
        .map(|part| series_of(&page, &format!("websocket_heartbeat_rtt_milliseconds_{part}")).unwrap());
    assert!(sum >= count * 50.0, "{sum} ms in {count} round trips");
    assert_eq!(server.metric("websocket_heartbeat_timeouts_total"), 0.0);

    let near = answers(server.welcomed("near"));
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.black_hole(direction, true);
    }
    server.wait_metric("websocket_active_connections", 1.0);
    assert_eq!(server.metric("websocket_heartbeat_timeouts_total"), 20.0);
    assert_eq!(server.metric("websocket_closes_total{code=\"4003\",initiator=\"server\"}"), 20.0);
    assert_eq!(server.metric("websocket_connections_total{status=\"closed\"}"), 20.0);
    drop(proxy);
    for client in far {
        assert_eq!(client.join().unwrap(), None, "nothing comes out of a hole, not even a goodbye");
    }
    drop(server);
    assert!(near.join().unwrap().is_some(), "the one outside the hole stayed until the server went");
}

/// Row T6, from the client's side: only what it says is lost, so it hears why it is closed.
#[test]
fn who_cannot_be_heard_is_told_so() {
    let server = Server::start("[heartbeat]\ninterval = \"1s\"\ntimeout = \"100ms\"\n");
    let proxy = Proxy::start(server.address).unwrap();
    let mut socket = Socket::connect(proxy.address);
    socket.send(handshake("/ws", &bearer(&server.token("ann", Role::User))).as_bytes());
    assert_eq!(socket.head().status, 101);
    proxy.black_hole(Direction::ToServer, true);
    assert_eq!(socket.closed_with(), 4003);
    assert_eq!(server.metric("websocket_heartbeat_timeouts_total"), 1.0);
}

/// Row 001-06.
#[test]
fn a_client_that_comes_back_is_a_reconnection() {
    let server = Server::start("");
    let auth = bearer(&server.token("ann", Role::User));
    let mut ann = server.open("/ws", &auth);
    let session = ann.json()["client_id"].as_str().unwrap().to_owned();
    drop(ann);
    server.wait_metric("pulsewire_sessions_detached", 1.0);
    let mut ann = server.open(&format!("/ws?session={session}"), &auth);
    let connected = ann.json();
    assert_eq!((&connected["session"], &connected["resumed"]), (&json!(session), &json!(true)));
    server.wait_metric("websocket_reconnections_total", 1.0);
    assert_eq!(server.metric("orchestrator_websocket_reconnections_total"), 1.0);
}

/// Rows 000-43, 001-14, 001-15, 001-39, 001-40, 001-101.
#[test]
fn resources_are_shown() {
    let server = Server::start("");
    let _ann = server.welcomed("ann");
    for series in [
        "websocket_memory_usage_bytes",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "pulsewire_process_rss_bytes",
    ] {
        assert!(server.metric(series) > 0.0, "{series}");
    }
    assert!((0.0..=100.0).contains(&server.metric("websocket_cpu_usage_percent")));
    assert_eq!(server.metric("pulsewire_outbound_queue_bytes_count"), 1.0);
    assert_eq!(server.metric("websocket_connections_limit"), 10_000.0);
}

/// Row T1: of those who have left nothing remains in any present quantity.
#[test]
fn when_all_have_left_no_gauge_counts_anybody() {
    // What the process, the machine and the settings are without anybody; the room that tables keep; and channels,
    // which stay at hand for a time.
    const STAYS: [&str; 13] = [
        "websocket_connections_",
        "pulsewire_connections_limit",
        "pulsewire_tokio_",
        "pulsewire_heap_",
        "pulsewire_process_",
        "process_",
        "pulsewire_build_info",
        "websocket_memory_usage_",
        "websocket_cpu_usage_percent",
        "pulsewire_memory_bytes",
        "pulsewire_channels",
        "ws_manager_connections_limit",
        "ws_manager_canary_verdict{verdict=\"off\"}",
    ];
    let server = Server::start(
        "[session]\nresume_window = \"0s\"\n\
         [[namespace]]\nname = \"run\"\npattern = \"run:*\"\npresence = true\npresence_grace = \"0s\"\n",
    );
    let gauges = || -> Vec<(String, f64)> {
        let page = server.get("/metrics").text();
        let is_gauge = |line: &str| -> Option<String> {
            Some(line.strip_prefix("# TYPE ")?.strip_suffix(" gauge")?.to_owned())
        };
        let names: HashSet<String> = page.lines().filter_map(is_gauge).collect();
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let name = series.split('{').next()?;
            names.contains(name).then(|| (series.to_owned(), value.parse().unwrap()))
        };
        page.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
    };
    {
        let mut ann = server.welcomed("ann");
        let wish = json!([{"channel": "run:1", "presence": true}, "system.metrics", "upstream:x"]);
        assert_eq!(ann.ask(&json!({"type": "subscribe", "channels": wish}))["type"], "subscribed");
        let _guest = server.open("/ws", "");
        server.publish(&json!({"channel": "run:1", "type": "note", "data": 1}));
        assert!(server.metric("websocket_active_connections") >= 1.0);
    }
    let counts_somebody = |gauges: &[(String, f64)]| -> Vec<String> {
        let own = |series: &str| STAYS.iter().any(|name| series.starts_with(name));
        let rest = gauges.iter().filter(|(series, value)| *value != 0.0 && !own(series));
        rest.map(|(series, value)| format!("{series} {value}")).collect()
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = counts_somebody(&gauges());
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "these still count somebody: {left:#?}");
    }
}

/// Every family that document 000 or 001 names is there from the start.
#[test]
fn every_family_of_documents_000_and_001_is_exported_before_anything_happened() {
    let server = Server::start("");
    let page = server.get("/metrics").text();
    for (name, kind) in [
        ("websocket_active_connections", "gauge"),
        ("websocket_connections_total", "counter"),
        ("websocket_disconnections_total", "counter"),
        ("websocket_connection_duration_seconds", "histogram"),
        ("websocket_events_emitted_total", "counter"),
        ("websocket_events_received_total", "counter"),
        ("websocket_event_errors_total", "counter"),
        ("websocket_event_latency_milliseconds", "histogram"),
        ("websocket_heartbeat_rtt_milliseconds", "histogram"),
        ("websocket_initial_state_latency_milliseconds", "histogram"),
        ("websocket_auth_failures_total", "counter"),
        ("websocket_subscriptions_total", "gauge"),
        ("websocket_subscriptions_by_project", "gauge"),
        ("websocket_subscriptions_per_connection", "histogram"),
        ("websocket_messages_total", "counter"),
        ("websocket_message_latency_milliseconds", "histogram"),
        ("websocket_message_errors_total", "counter"),
        ("websocket_heartbeats_sent_total", "counter"),
        ("websocket_heartbeat_latency_milliseconds", "histogram"),
        ("websocket_heartbeat_timeouts_total", "counter"),
        ("websocket_memory_usage_bytes", "gauge"),
        ("websocket_cpu_usage_percent", "gauge"),
    ] {
        assert!(page.contains(&format!("\n# TYPE {name} {kind}\n")), "{name} {kind}");
    }
}

/// Rows 000-01, 001-44, 001-49, 003-06 and ruling C15.
#[test]
fn one_page_is_on_every_path_in_the_form_that_is_asked_for() {
    let server = Server::start("");
    let _ann = server.welcomed("ann");
    for path in ["/metrics", "/api/metrics", "/actuator/prometheus", "/api/ws/metrics?format=prometheus"] {
        let text = server.get(path);
        assert_eq!((text.status, text.headers["content-type"].as_str()), (200, TEXT), "{path}");
        assert!(text.text().contains("\nwebsocket_active_connections 1\n"), "{path}");
        let open = server.http("GET", path, PROMETHEUS, "");
        assert_eq!((open.status, open.headers["content-type"].as_str()), (200, OPEN_METRICS), "{path}");
        assert!(open.text().ends_with("\n# EOF\n"), "{path}");
        assert!(!open.text().contains("websocket_subscriptions_total"), "illegal in OpenMetrics (C11)");
        let protobuf = server.http("GET", path, &format!("Accept: {PROTOBUF}\r\n"), "");
        assert_eq!((protobuf.status, protobuf.headers["content-type"].as_str()), (200, PROTOBUF), "{path}");
        // The first family: its length, then field 1, its name.
        assert_eq!(&protobuf.body[1..3], [0x0a, b"websocket_active_connections".len() as u8], "{path}");
        let head = server.http("HEAD", path, "", "");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
}

/// Rows 002-12 to 002-15 and ruling C15.
#[test]
fn ws_metrics_is_json_with_the_series_beside_the_figures() {
    let server = Server::start("");
    let mut ann = server.welcomed("ann");
    ann.ask(&json!({ "type": "subscribe", "channels": ["run:1"] }));
    for path in ["/api/ws/metrics", "/api/ws/metrics?format=json"] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, "application/json"));
        let page = answer.json();
        assert_eq!(page["status"], "healthy");
        // Those to other servers, of which there are none (ruling C8); those of clients stand beside them.
        assert_eq!(
            (&page["metrics"]["activeConnections"], &page["metrics"]["retryCount"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(page["metrics"]["clientConnections"], 1);
        assert_eq!(page["metrics"]["clientConnectionsOpened"], 1);
        assert_eq!(page["prometheus"]["ws_manager_active_connections"], 0);
        assert!(answer.text().contains("ws_manager_retry_count_total"), "{page}");
        assert_eq!(page["metrics"]["activeSubscriptions"], 1);
        assert_eq!(page["prometheus"]["websocket_active_connections"], 1);
        assert_eq!(page["prometheus"]["websocket_connections_total{status=\"opened\"}"], 1);
        assert!(page["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    let scraped = server.http("GET", "/api/ws/metrics", PROMETHEUS, "");
    assert_eq!(scraped.headers["content-type"], OPEN_METRICS);
    assert_eq!(server.get("/api/ws/metrics?format=xml").status, 400);
}

/// Row X7: whoever scrapes, a page is rendered at most once a second.
#[test]
fn a_hundred_scrapers_get_the_same_page() {
    let server = Server::start("");
    let began = Instant::now();
    let pages: HashSet<String> = std::thread::scope(|scope| {
        let scrape = || {
            let answer = server.get("/metrics");
            assert_eq!(answer.status, 200);
            answer.text()
        };
        let scrapers: Vec<_> = (0..100).map(|_| scope.spawn(scrape)).collect();
        scrapers.into_iter().map(|scraper| scraper.join().expect("it scrapes")).collect()
    });
    let most = began.elapsed().as_secs() + 1;
    assert!(pages.len() as u64 <= most, "{} pages in {:?}", pages.len(), began.elapsed());
    // A page does change once it is old.
    let _ann = server.welcomed("ann");
    wait_line(&server, "/metrics", "websocket_active_connections 1");
}

/// Row 002-36.
#[test]
fn with_a_token_for_scrapers_figures_are_for_scrapers_and_operators() {
    let server = Server::start("[metrics]\ntoken = \"a-token-for-scrapers\"\n");
    let ask = |method: &str, path: &str, token: &str| {
        let headers = if token.is_empty() { String::new() } else { bearer(token) };
        server.http(method, path, &headers, "").status
    };
    let (user, admin) = (server.token("ann", Role::User), server.token("ops", Role::Admin));
    for path in ["/metrics", "/api/metrics", "/actuator/prometheus", "/api/ws/metrics", "/api/stats"] {
        assert_eq!(ask("GET", path, ""), 401, "{path}");
        assert_eq!(ask("GET", path, "a-token-for-scraperz"), 401, "{path}");
        assert_eq!(ask("GET", path, &user), 401, "{path}");
        assert_eq!(ask("GET", path, "a-token-for-scrapers"), 200, "{path}");
        assert_eq!(ask("GET", path, &admin), 200, "{path}");
    }
    // Health has no figures worth hiding.
    assert_eq!(ask("HEAD", "/api/ws/metrics", ""), 200);
    assert_eq!(ask("GET", "/health/websocket", ""), 200);
}

/// A scraper that shares its address with somebody who guesses is still served.
#[test]
fn the_scrapers_token_is_never_limited() {
    let server =
        Server::start("[metrics]\ntoken = \"a-token-for-scrapers\"\n[auth]\nattempts_per_minute = 2\n");
    let get = |token: &str| server.http("GET", "/metrics", &bearer(token), "").status;
    assert_eq!([get("a"), get("b"), get("c")], [401, 401, 429]);
    assert_eq!(get("a-token-for-scrapers"), 200);
}

/// Row X6: a flood of names ends in `other`, and says so.
#[test]
fn names_beyond_the_cap_share_one_series() {
    let server = Server::start("[metrics]\nevent_types_max = 20\n");
    for number in 0..100 {
        server.publish(&json!({ "channel": "run:1", "type": format!("type-{number}"), "data": null }));
    }
    let page = server.get("/metrics").text();
    let series: Vec<f64> = page
        .lines()
        .filter_map(|line| {
            line.strip_prefix("websocket_events_emitted_total{")?.rsplit_once(' ')?.1.parse().ok()
        })
        .collect();
    assert_eq!((series.len(), series.iter().sum::<f64>()), (21, 100.0), "the cap and `other`");
    let beyond = server.metric("websocket_events_emitted_total{event_type=\"other\"}");
    assert!(beyond >= 80.0, "{beyond}");
    assert_eq!(server.metric("websocket_metrics_series_dropped_total"), beyond, "each name was new");
    assert!(page.len() <= 2 << 20, "{} bytes", page.len());
}

/// Row 000-48.
#[test]
fn applications_push_their_own_metrics() {
    let (key, hash) = api_key::generate(&KeyId::parse("ci").unwrap()).unwrap();
    let server = Server::start(&format!(
        "[[auth.api_keys]]\nid = \"ci\"\nsha256 = \"{hash}\"\npublish = [\"run:*\"]\n"
    ));
    let push =
        |headers: &str, body: &str| -> Answer { server.http("POST", "/api/metrics/custom", headers, body) };
    let gauge = r#"{"name":"active_tasks","type":"gauge","value":3,"labels":{"agent":"a"}}"#;
    assert_eq!(push("", gauge).status, 401);
    assert_eq!(push(&bearer(&server.token("ann", Role::User)), gauge).status, 401);
    let accepted = push(&bearer(key.expose()), gauge);
    assert_eq!(
        (accepted.status, accepted.json()["accepted"].as_u64()),
        (200, Some(1)),
        "{}",
        accepted.text()
    );
    let publisher = bearer(&server.token("app", Role::Publisher));
    let jobs = r#"[{"name":"jobs_total","type":"counter","value":2},{"name":"jobs_total","type":"counter","value":1}]"#;
    assert_eq!(push(&publisher, jobs).json()["accepted"], 2);
    let refused = push(&publisher, r#"{"name":"websocket_mine","type":"gauge","value":1}"#);
    assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("bad_request")));
    wait_line(&server, "/metrics", "active_tasks{agent=\"a\"} 3");
    wait_line(&server, "/metrics", "jobs_total 3");
}
