//! What memory costs and what bounds it: by the process, by its allocator, and by one setting.

use std::fmt::Write as _;

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire, run};
use crate::harness::{Server, Socket, handshake, until};

fn dev(folder: &Folder) -> (Process, String) {
    let path = folder.path().to_str().unwrap();
    let arguments = [
        "--dev",
        "--data",
        path,
        "--set",
        "limits.errors_per_minute=100000",
        "--set",
        "collector.enabled=false",
    ];
    let process = Process::serve(pulsewire(), &arguments);
    let written = std::fs::read_to_string(folder.path().join("dev.json")).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    (process, written["token"].as_str().unwrap().to_owned())
}

fn join(process: &Process, token: &str) -> Socket {
    let mut socket = process.connect();
    socket.send(handshake(&format!("/ws?token={token}"), "").as_bytes());
    assert_eq!(socket.head().status, 101);
    assert_eq!(socket.json()["type"], "welcome");
    socket
}

/// Waits for the sample that is taken at the start, so that what follows is between two samples.
fn sampled(process: &Process, token: &str) {
    let admin = format!("Authorization: Bearer {token}\r\n");
    until("the first sample is taken", || {
        let answer = process.http("GET", "/api/admin/heap", &admin, "").json();
        answer["samples"].as_array().unwrap().len() == 2
    });
}

/// What the allocator of the process has given out: the least of some looks, for each look needs memory itself.
fn heap(process: &Process, token: &str) -> i64 {
    let admin = format!("Authorization: Bearer {token}\r\n");
    let look = |_| {
        let answer = process.http("GET", "/api/admin/heap?since=1s", &admin, "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["heap"]["allocated"].as_i64().unwrap()
    };
    (0..10).map(look).min().unwrap()
}

/// How much more is given out after some work: the least of three rounds, for what stays stays every time, and what
/// is made once is made in the first.
fn grown(process: &Process, token: &str, mut work: impl FnMut()) -> i64 {
    let mut round = |_| {
        let before = heap(process, token);
        work();
        heap(process, token) - before
    };
    (0..3).map(&mut round).min().unwrap()
}

/// Anonymous resident memory of the process, in bytes.
fn resident(process: &Process) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<i64>().unwrap() * 1_024
}

/// Row P11: a length is believed when its bytes are there. `cargo xtask proofs hostile` does it 2,000 times.
#[test]
fn a_frame_that_announces_exabytes_costs_no_memory() {
    let folder = Folder::new();
    let (process, token) = dev(&folder);
    let lengths: [(&[u8], u16); 4] = [
        (&[0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1009),
        (&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1002),
        (&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4], 1002),
        (&[0x81, 0xfe, 0, 5, 1, 2, 3, 4], 1002),
    ];
    let all = |times: usize| {
        for (header, code) in lengths.iter().cycle().take(times) {
            let mut socket = join(&process, &token);
            socket.send(header);
            assert_eq!(socket.closed_with(), *code, "{header:02x?}");
        }
        until("they are gone", || process.metric("websocket_active_connections") == 0.0);
    };
    // The first ones make the process grow to its size.
    all(400);
    let before = resident(&process);
    all(200);
    let grown = resident(&process) - before;
    assert!(grown < 1 << 20, "{grown} bytes for 200 frames");
}

/// Row P18: nesting costs neither stack nor heap.
#[test]
fn messages_as_deep_as_they_are_long_leave_nothing_behind() {
    const FRAME: usize = 64 * 1_024;
    let folder = Folder::new();
    let (process, token) = dev(&folder);
    let mut socket = join(&process, &token);
    let shapes = ["[", "{\"a\":", "[{\"type\":["].map(|part| part.repeat(FRAME / part.len()));
    let mut nest = |times: usize| {
        for shape in shapes.iter().cycle().take(times) {
            socket.text(shape);
            assert_eq!(socket.json()["code"], "bad_request");
        }
    };
    let grown = grown(&process, &token, || nest(150));
    assert!(grown <= 4 * FRAME as i64, "{grown} bytes for 150 messages");
}

/// Row X4, by the allocator: what is refused is not kept. The proof asks for a million.
#[test]
fn a_client_that_wants_a_hundred_thousand_channels_costs_a_thousand() {
    let folder = Folder::new();
    let (process, token) = dev(&folder);
    let mut socket = join(&process, &token);
    let mut ask = |first: usize, count: usize| {
        let mut names = String::new();
        for number in first..first + count {
            let _ = write!(names, "{}\"run:{number}\"", if number == first { "" } else { "," });
        }
        socket.text(&format!(r#"{{"type":"subscribe","channels":[{names}]}}"#));
        socket.json()["type"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask(0, 1_000), "subscribed");
    let grown = grown(&process, &token, || {
        for first in (1_000..100_000).step_by(3_000) {
            assert_eq!(ask(first, 3_000), "error");
        }
        for number in 1_000..1_200 {
            assert_eq!(ask(number, 1), "error");
        }
    });
    assert!(grown < 1 << 18, "{grown} bytes for what was refused");
    // A page is up to a second old.
    until("a page shows them", || process.metric("websocket_active_subscriptions") == 1_000.0);
}

/// Row 001-107: the heap now, by size, and its history.
#[test]
fn operators_see_the_heap_and_how_it_went() {
    let folder = Folder::new();
    let (process, token) = dev(&folder);
    sampled(&process, &token);
    let _socket = join(&process, &token);
    assert_eq!(process.http("GET", "/api/admin/heap", "", "").status, 401);
    let admin = format!("Authorization: Bearer {token}\r\n");
    let mut answer = Value::Null;
    // What is shown may be a tenth of a second old.
    until("the connection is in the last sample", || {
        answer = process.http("GET", "/api/admin/heap", &admin, "").json();
        answer["samples"].as_array().unwrap().last().unwrap()["connections"] == 1
    });
    let figure = |name: &str| answer["heap"][name].as_u64().unwrap();
    assert!(figure("allocated") > 0 && figure("allocated") <= figure("active"), "{answer}");
    assert!(figure("active") <= figure("mapped"), "{answer}");
    let classes = answer["sizeClasses"].as_array().unwrap();
    let sum: u64 = classes
        .iter()
        .map(|class| class["sizeBytes"].as_u64().unwrap() * class["current"].as_u64().unwrap())
        .sum();
    // The figures are of two moments: what is given out by size is what is given out, nearly.
    assert!(sum.abs_diff(figure("allocated")) < figure("allocated") / 2, "{sum} {answer}");
    let samples = answer["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 2, "one of the start, one of now");
    assert_eq!((&samples[0]["connections"], &samples[1]["connections"]), (&json!(0), &json!(1)));
    assert!(samples[1]["bytesPerConnection"].as_u64().unwrap() > 0);
    assert_eq!(process.http("GET", "/api/admin/heap?since=x", &admin, "").status, 400);
}

/// Row 001-109: the weekly look, from the command line.
#[test]
fn a_report_shows_trends_percentiles_and_thresholds() {
    let folder = Folder::new();
    let (process, token) = dev(&folder);
    sampled(&process, &token);
    let mut socket = join(&process, &token);
    socket.ask(&json!({ "type": "subscribe", "channels": ["run:1"] }));
    socket.ask(&json!({ "type": "publish", "channel": "run:1", "event": "note", "data": null }));
    let url = format!("http://{}", process.address);
    let report = |arguments: &[&str], token: &str| {
        run(pulsewire().arg("report").args(["--url", &url, "--token", token]).args(arguments))
    };
    until("the delivery is counted", || {
        process.metric("websocket_event_latency_milliseconds_count{event_type=\"note\"}") >= 1.0
    });
    until("a survey has seen it", || process.metric("websocket_active_connections") == 1.0);
    let json = report(&["-o", "json", "--since", "1h"], &token);
    assert_eq!(json.code, Some(0), "{}", json.err);
    let shown: Value = serde_json::from_str(&json.out).unwrap();
    let trend = |name: &str| {
        shown["trends"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone()
    };
    assert_eq!((&trend("connections")["first"], &trend("connections")["last"]), (&json!(0.0), &json!(1.0)));
    assert_eq!(trend("connectionsOpened")["last"], 1.0);
    assert!(shown["percentiles"].as_array().unwrap().iter().any(|it| it["count"] == 1), "{shown}");
    // How long the one delivery took is this machine's; of the rest nothing is wrong with a client at rest.
    let thresholds = shown["thresholds"].as_array().unwrap();
    let (latency, rest): (Vec<_>, Vec<_>) =
        thresholds.iter().partition(|it| it["name"] == "event latency p95, ms");
    assert!(rest.iter().all(|it| it["verdict"] == "ok"), "{shown}");
    let verdict = match latency[0]["value"].as_f64().unwrap() {
        ..=100.0 => "ok",
        ..=500.0 => "warning",
        _ => "critical",
    };
    assert_eq!(latency[0]["verdict"], verdict, "{shown}");
    let table = report(&["--strict"], &token);
    assert_eq!(table.code, Some(if verdict == "ok" { 0 } else { 5 }), "{}", table.err);
    assert!(table.out.contains("bytesPerConnection") && table.out.contains("threshold"), "{}", table.out);
    assert_eq!(report(&[], "nonsense").code, Some(4));
}

/// Row 001-108: one setting bounds what a connection's buffers may hold; what is beyond is answered and counted.
#[test]
fn one_setting_bounds_the_memory_of_a_connection() {
    let server = Server::start("[limits]\nconnection_memory = \"16KiB\"\n");
    let limited =
        |part: &str| server.metric(&format!("pulsewire_connection_memory_limited_total{{part=\"{part}\"}}"));
    // A quarter for a message.
    let mut large = server.welcomed("ann");
    large.text(&format!(r#"{{"type":"ping","x":"{}"}}"#, "x".repeat(3_000)));
    assert_eq!(large.json()["type"], "pong");
    large.text(&"x".repeat(4 * 1_024 + 1));
    assert_eq!(large.closed_with(), 1009);
    assert_eq!(limited("message"), 1.0);
    // A quarter for the outbox: what does not fit waits in the log.
    let mut slow = Socket::connect_small(server.address);
    let auth = format!("Authorization: Bearer {}\r\n", server.token("bob", Role::User));
    slow.send(handshake("/ws", &auth).as_bytes());
    assert_eq!(slow.head().status, 101);
    assert_eq!(slow.json()["type"], "welcome");
    assert_eq!(slow.ask(&json!({ "type": "subscribe", "channels": ["run:1"] }))["type"], "subscribed");
    let filler = "x".repeat(2_000);
    until("its outbox is full", || {
        server.publish(&json!({ "channel": "run:1", "type": "filler", "data": filler }));
        limited("outbox") >= 1.0
    });
    assert!(server.metric("pulsewire_outbound_queue_bytes_sum") <= 8.0 * 1_024.0);
}
