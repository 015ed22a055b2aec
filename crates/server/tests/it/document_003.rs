//! Document 003's promises with the settings as they are shipped, and what is not shown elsewhere.

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::child::Folder;
use crate::harness::{Server, Socket, until};

/// A server that keeps its events in a file, with nothing said about namespaces.
fn shipped(folder: &Folder) -> Server {
    Server::start(&format!(
        "[server]\ndata_dir = \"{}\"\n[store]\nurl = \"sqlite\"\n",
        folder.path().display()
    ))
}

fn read(server: &Server, path: &str) -> Value {
    let headers = format!("Authorization: Bearer {}\r\n", server.token("ann", Role::User));
    let answer = server.http("GET", path, &headers, "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// The sequences a socket hears until `replay_end`, and the gaps.
fn replayed(socket: &mut Socket) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut events, mut gaps) = (Vec::new(), Vec::new());
    loop {
        let message = socket.json();
        let number = |name: &str| message[name].as_u64().unwrap();
        match message["type"].as_str().unwrap() {
            "event" => events.push(number("sequence")),
            "gap" => gaps.push((number("from"), number("to"))),
            "replay_end" => return (events, gaps),
            other => assert!(matches!(other, "subscribed" | "state"), "{message}"),
        }
    }
}

/// Row D17; 003-26 to 003-28, 003-30 to 003-33, 003-58 and 003-59: a run keeps its last 1,000 events and all that are
/// critical, which are GRAFT, PRUNE and FLAG.
#[test]
fn a_run_keeps_its_last_thousand_events_and_everything_critical() {
    let folder = Folder::new();
    let server = shipped(&folder);
    let critical: Vec<u64> = (0..40).map(|n| n * 12 + 1).collect();
    let event = |sequence: u64| {
        let kinds = ["GRAFT", "PRUNE", "FLAG"];
        let kind = critical.iter().position(|it| *it == sequence).map_or("note", |at| kinds[at % 3]);
        json!({"channel": "run:1", "type": kind, "data": sequence})
    };
    for batch in 0..3 {
        let events: Vec<Value> = (batch * 500 + 1..=batch * 500 + 500).map(event).collect();
        server.publish(&json!(events));
    }
    let floor = || read(&server, "/api/channels/run:1/events?limit=1")["gap"]["to"].as_u64().unwrap_or(0);
    until("trimming has run", || floor() >= 1_500 - 1_000 - 1_000 / 8);

    let mut socket = server.welcomed("late");
    socket.say(&json!({"type": "subscribe", "channels": [{"channel": "run:1", "replay": "critical"}]}));
    let (events, gaps) = replayed(&mut socket);
    assert_eq!((events, gaps), (critical.clone(), Vec::new()), "all forty in order, whatever else is gone");
    server.publish(&json!({"channel": "run:1", "type": "note", "data": "live"}));
    assert_eq!(socket.json()["sequence"], 1_501);

    let mut socket = server.welcomed("replays");
    socket.say(&json!({"type": "subscribe", "channels": [{"channel": "run:1", "last": 5_000}]}));
    let (events, gaps) = replayed(&mut socket);
    let &[(1, last_gone)] = gaps.as_slice() else { panic!("one gap from the beginning: {gaps:?}") };
    assert_eq!(events, (last_gone + 1..=1_501).collect::<Vec<_>>());
    assert!((1_000..=1_126).contains(&events.len()), "{}", events.len());

    let shown = read(&server, "/api/runs/1/collaboration/replay?fromSequence=1&limit=40");
    let all: Vec<_> = shown["events"].as_array().unwrap().iter().collect();
    assert!(all.iter().all(|event| event["isCritical"] == true), "{all:?}");
    assert_eq!(all[1]["eventType"], "PRUNE");
}

/// 003-36: two seconds, and longer while the server has more connections than it likes.
#[test]
fn polls_are_advised_to_be_rarer_while_the_server_is_crowded() {
    let server = Server::start("[limits]\nconnections_soft = 1\n");
    let pause = || read(&server, "/api/runs/1/collaboration/poll?afterSequence=0")["retryAfterMs"].clone();
    assert_eq!(pause(), json!(2_000));
    let socket = server.welcomed("ann");
    assert_eq!(pause(), json!(10_000));
    drop(socket);
    until("the crowd is gone", || pause() == json!(2_000));
}

/// Row R5 over WebSocket: by its session, and by the position alone.
#[test]
fn who_received_nothing_before_it_went_away_gets_exactly_what_came_meanwhile() {
    for by_session in [true, false] {
        let server = Server::start("");
        server.publish(&json!({"channel": "run:1", "type": "note", "data": "before"}));
        let mut socket =
            server.open("/ws", &format!("Authorization: Bearer {}\r\n", server.token("ann", Role::User)));
        let session = socket.json()["client_id"].clone();
        let subscribed = socket.ask(&json!({"type": "subscribe", "channels": ["run:1"]}));
        let position = subscribed["positions"]["run:1"].clone();
        assert_eq!(position["sequence"], 1);
        drop(socket);
        server.wait_metric("pulsewire_sessions_detached", 1.0);
        for n in 0..3 {
            server.publish(&json!({"channel": "run:1", "type": "note", "data": n}));
        }
        let mut socket = server.connect();
        socket.send(crate::harness::handshake("/ws", "").as_bytes());
        assert_eq!(socket.head().status, 101);
        let mut connect = json!({"type": "connect", "token": server.token("ann", Role::User)});
        if by_session {
            connect["session"] = session;
        } else {
            connect["subscribe"] = json!([{"channel": "run:1", "since": position}]);
        }
        socket.say(&connect);
        server.publish(&json!({"channel": "run:1", "type": "note", "data": "after"}));
        let mut events = Vec::new();
        while events.last() != Some(&5) {
            let message = socket.json();
            if message["type"] == "event" {
                events.push(message["sequence"].as_u64().unwrap());
            }
        }
        assert_eq!(events, [2, 3, 4, 5], "by session: {by_session}");
    }
}
