//! The real binary: how it starts, what it says, how it refuses, and how it goes (rows U1, U2, P24 of the
//! fault catalogue, and the commands without a server).

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire, run};
use crate::harness::{Socket, handshake, until};

fn dev(folder: &Folder, more: &[&str]) -> Process {
    let arguments = [&["--dev", "--data", folder.path().to_str().unwrap()], more].concat();
    Process::serve(pulsewire(), &arguments)
}

/// The token and the address in `dev.json`.
fn announced(folder: &Folder) -> (String, String) {
    let text = std::fs::read_to_string(folder.path().join("dev.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let member = |name: &str| file[name].as_str().unwrap().to_owned();
    (member("token"), member("url"))
}

fn welcomed(process: &Process, token: &str) -> Socket {
    let mut socket = process.connect();
    socket.send(handshake(&format!("/ws?token={token}"), "").as_bytes());
    assert_eq!(socket.head().status, 101);
    assert_eq!(socket.json()["type"], "welcome");
    socket
}

#[test]
fn dev_mode_says_where_it_listens_and_leaves_a_token_for_this_user_alone() {
    let folder = Folder::new();
    let mut process = dev(&folder, &[]);
    assert!(process.greeting.contains(&format!("listening on http://{}", process.address)));
    let path = folder.path().join("dev.json");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (token, url) = announced(&folder);
    assert_eq!(url, format!("http://{}", process.address));

    // What the greeting tells a person to try works: an event goes from curl to a reader.
    let mut reader = welcomed(&process, &token);
    assert_eq!(reader.ask(&json!({"type": "subscribe", "channels": ["demo"]}))["type"], "subscribed");
    let headers =
        format!("Authorization: Bearer {token}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
    let answer = process.http(
        "POST",
        "/api/publish",
        &headers,
        r#"{"channel":"demo","type":"hello","data":{"text":"it works"}}"#,
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(reader.json()["data"]["text"], "it works");
    // And the host's own numbers come without anybody's doing (G2: dev mode is said).
    assert_eq!(
        reader.ask(&json!({"type": "subscribe", "channels": ["system.metrics"]}))["type"],
        "subscribed"
    );
    assert!(reader.json()["cpu"]["percent"].is_number());
    assert!(process.http("GET", "/health/websocket", "", "").text().contains("dev mode"));
    assert_eq!(process.http("GET", "/readyz", "", "").status, 200);

    process.signal("TERM");
    let (status, out, err) = process.wait();
    assert_eq!(status.code(), Some(0), "{err}");
    assert!(out.contains("pulsewire tail") && err.contains("dev mode: do not expose this server"), "{err}");
    assert!(!err.contains(&token), "the token is printed for the person, not logged");
    assert!(!path.exists(), "the token is gone with the server");
}

/// Row U1 in small: readiness, notices, spread closes, an orderly end.
#[test]
fn a_terminated_server_sends_its_clients_off_and_ends_before_its_deadline() {
    const CLIENTS: usize = 40;
    let folder = Folder::new();
    let mut process =
        dev(&folder, &["--set", "server.shutdown_deadline=20s", "--set", "collector.enabled=false"]);
    let (token, _) = announced(&folder);
    let mut sockets: Vec<Socket> = (0..CLIENTS).map(|_| welcomed(&process, &token)).collect();
    // Asked on connections that exist already: a stopping server need not take new ones.
    let mut probe = process.connect();
    probe.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(probe.head().status, 200);
    process.signal("TERM");
    let mut statuses = BTreeSet::new();
    until("readiness says no", || {
        let mut socket = process.connect();
        socket.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        statuses.insert(socket.head().status);
        statuses.contains(&503)
    });
    let mut late = process.connect();
    late.send(handshake(&format!("/ws?token={token}"), "").as_bytes());
    let answer = late.head();
    assert_eq!(answer.status, 503, "nobody new is let in");
    assert!(answer.headers.contains_key("retry-after"));
    let mut delays = BTreeSet::new();
    for socket in &mut sockets {
        let notice = socket.json();
        assert_eq!(
            (&notice["type"], &notice["reason"], &notice["code"]),
            (&json!("reconnect"), &json!("service_restart"), &json!(1012))
        );
        delays.insert(notice["retry_ms"].as_u64().unwrap());
        assert_eq!(socket.closed_with(), 1012);
    }
    assert!(delays.len() > CLIENTS / 2, "each is told another time: {delays:?}");
    let (status, _, err) = process.wait();
    assert_eq!(status.code(), Some(0), "{err}");
    assert!(!err.contains("connections are cut"), "{err}");
}

/// Row U2.
#[test]
fn a_second_signal_ends_at_once() {
    let folder = Folder::new();
    let mut process = dev(&folder, &["--set", "server.shutdown_deadline=1h"]);
    let (token, _) = announced(&folder);
    // A thousand clients would take ten seconds to send off.
    let mut sockets: Vec<Socket> = (0..300).map(|_| welcomed(&process, &token)).collect();
    let events: Vec<Value> =
        (0..200).map(|n| json!({"channel": "run:1", "type": "note", "data": {"n": n}})).collect();
    let acknowledged = sockets[0].ask(&json!({"type": "publish", "id": 1, "events": events}));
    assert_eq!(acknowledged["type"], "ack", "{acknowledged}");
    process.signal("TERM");
    until("it is going", || {
        let answer = process.http("GET", "/readyz", "", "");
        answer.status == 503
    });
    process.signal("INT");
    let (status, _, err) = process.wait();
    assert_eq!(status.code(), Some(0), "{err}");
    assert!(err.contains("a second signal") && !err.contains("did not take"), "{err}");
    drop(sockets);
    let again = dev(&folder, &[]);
    let (token, _) = announced(&folder);
    let page = again.http(
        "GET",
        "/api/channels/run:1/events?after=199",
        &format!("Authorization: Bearer {token}\r\n"),
        "",
    );
    assert!(page.text().contains("\"sequence\":200"), "what was acknowledged is there: {}", page.text());
}

/// Row P24: whatever way clients vanish, no descriptor stays.
#[test]
fn no_descriptor_is_lost_with_a_thousand_clients_that_vanish() {
    let folder = Folder::new();
    let process =
        dev(&folder, &["--set", "collector.enabled=false", "--set", "limits.handshake_timeout=500ms"]);
    let (token, _) = announced(&folder);
    let before = process.metric("process_open_fds");
    for round in 0..1_000 {
        let mut socket = process.connect();
        let request = handshake(&format!("/ws?token={token}"), "");
        match round % 4 {
            0 => socket.send(&request.as_bytes()[..request.len() / 2]),
            1 => {
                socket.send(request.as_bytes());
                socket.reset();
                continue;
            }
            2 => {
                socket.send(request.as_bytes());
                assert_eq!(socket.head().status, 101);
                socket.send(&[0x81, 0xfe]);
                socket.reset();
                continue;
            }
            _ => {
                socket.send(request.as_bytes());
                assert_eq!(socket.head().status, 101);
                socket.half_close();
            }
        }
    }
    // The page is at most a second old.
    let closes = || process.metric("websocket_closes_total{code=\"1006\",initiator=\"network\"}");
    until("one close for each that was upgraded", || (500.0..=750.0).contains(&closes()));
    until("all have gone", || process.metric("websocket_active_connections") == 0.0);
    until("every descriptor is given back", || process.metric("process_open_fds") <= before);
}

/// What is tried: its name, the environment and the arguments, and parts of what is said.
type Refusal<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

/// Rows G1 and G2: what a server refuses to start with, and what it says to do.
#[test]
fn a_server_that_should_not_run_does_not_start_and_says_what_to_do() {
    let folder = Folder::new();
    let typo = folder.write("typo.toml", "[heartbeat]\nintervall = \"15s\"\n");
    let unit = folder.write("unit.toml", "[heartbeat]\ninterval = 15\n");
    let typo = typo.to_str().unwrap();
    let unit = unit.to_str().unwrap();
    let good = "JWT_SECRET_KEY=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let rows: [Refusal<'_>; 8] = [
        ("no secret", &[], &[], &["auth.secret", "openssl rand -hex 32", "--dev"]),
        ("G2 sample secret", &["JWT_SECRET_KEY=your-secret-key"], &[], &["JWT_SECRET_KEY", "sample"]),
        ("G2 short secret", &["JWT_SECRET_KEY=3c7f9a1e"], &[], &["8 bytes, at least 32"]),
        ("no Redis", &[good, "REDIS_URL=http://localhost"], &[], &["REDIS_URL", "redis.url", "redis://"]),
        (
            "G1 typing mistake",
            &[good],
            &["-c", typo],
            &["typo.toml:2", "heartbeat.intervall", "heartbeat.interval"],
        ),
        ("G1 no unit", &[good], &["-c", unit], &["unit.toml:2", "heartbeat.interval"]),
        (
            "G1 variable",
            &[good, "PULSEWIRE_HEARTBEAT_INTERVALL=15s"],
            &[],
            &["PULSEWIRE_HEARTBEAT_INTERVALL", "PULSEWIRE_HEARTBEAT_INTERVAL"],
        ),
        ("G1 no such file", &[good], &["-c", "/nowhere/pulsewire.toml"], &["/nowhere/pulsewire.toml"]),
    ];
    for (name, environment, arguments, parts) in rows {
        let mut command = pulsewire();
        command.envs(environment.iter().map(|pair| pair.split_once('=').unwrap()));
        command.current_dir(folder.path()).args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(2), "{name}: {ended:?}");
        for part in parts {
            assert!(ended.err.contains(part), "{name}: `{part}` is not in {}", ended.err);
        }
        assert!(ended.err.contains("nothing was started"), "{name}: {}", ended.err);
    }
}

#[test]
fn an_address_that_is_taken_is_said() {
    let folder = Folder::new();
    let process = dev(&folder, &[]);
    let address = process.address.to_string();
    let ended = run(pulsewire().current_dir(folder.path()).args(["serve", "--dev", "--listen", &address]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.err.contains(&format!("cannot listen on {address}")) && ended.err.contains("--listen"),
        "{}",
        ended.err
    );
}

/// The commands that need no server.
#[test]
fn settings_and_tokens_can_be_checked_without_a_server() {
    let folder = Folder::new();
    let secret = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let ask = |arguments: &[&str]| {
        run(pulsewire().env("JWT_SECRET_KEY", secret).current_dir(folder.path()).args(arguments))
    };
    let check = ask(&["config", "check"]);
    assert_eq!((check.code, check.out.as_str()), (Some(0), "the settings are good\n"), "{}", check.err);
    let print = ask(&["config", "print"]);
    assert!(
        print.out.contains("heartbeat.interval") && print.out.contains("JWT_SECRET_KEY"),
        "{}",
        print.out
    );
    assert!(!print.out.contains(secret), "secrets are not shown");
    let doc = ask(&["config", "doc"]);
    assert!(
        doc.out.contains("limits.outbox_bytes_max") && doc.out.contains("PULSEWIRE_LIMITS_OUTBOX_BYTES_MAX")
    );
    let created = ask(&["token", "create", "--sub", "ann", "--ttl", "1h", "--role", "publisher"]);
    assert_eq!(created.code, Some(0), "{}", created.err);
    let verified = ask(&["token", "verify", created.out.trim()]);
    assert_eq!(verified.code, Some(0), "{}", verified.err);
    assert!(verified.err.contains("valid: sub=ann role=publisher"), "{}", verified.err);
    let garbage = ask(&["token", "verify", "garbage"]);
    assert_eq!(garbage.code, Some(4), "{garbage:?}");

    // A token made by the command is a token of the server with the same key.
    let mut command = pulsewire();
    command.env("JWT_SECRET_KEY", secret).current_dir(folder.path());
    let process = Process::serve(command, &[]);
    let mut socket = welcomed(&process, created.out.trim());
    assert_eq!(socket.ask(&json!({"type": "ping", "timestamp": 1}))["type"], "pong");
}
