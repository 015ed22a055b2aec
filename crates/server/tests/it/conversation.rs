//! Whole conversations: the golden transcripts, document 004's session, publishing, client events,
//! resuming, and MessagePack from end to end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::Duration;

use pulsewire::auth::{Actions, Role};
use pulsewire_edge::clock;
use serde_json::{Value, json};

use crate::harness::{Server, Socket};
use crate::msgpack;
use crate::transcript::{Bindings, Line, expect, parse};

/// A transcript by name.
fn golden(name: &str) -> Vec<Line> {
    let path = format!("{}/../protocol/tests/golden/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    parse(&std::fs::read_to_string(path).unwrap())
}

/// Plays a transcript; `elsewhere` does what happens apart from the conversation.
fn play(server: &mut Server, lines: &[Line], mut elsewhere: impl FnMut(&mut Server, &str, &mut Socket)) {
    let mut bindings = Bindings::default();
    bindings.set("token", &json!(server.token("ada", Role::Publisher)).to_string());
    let mut socket = None;
    // What happens before the first connection needs none.
    let mut nobody = server.connect();
    for line in lines {
        match line {
            Line::Open(path) => socket = Some(server.open(&bindings.fill(path), "")),
            Line::Client(message) => socket.as_mut().unwrap().text(&bindings.fill(message)),
            Line::Server(messages) => expect(socket.as_mut().unwrap(), &mut bindings, messages),
            Line::Close(code) => assert_eq!(socket.as_mut().unwrap().closed_with(), *code),
            Line::Drop => {
                socket.take().unwrap().reset();
                server.wait_metric("websocket_active_connections", 0.0);
            }
            Line::Elsewhere(what) => match what.strip_prefix("publish {") {
                Some(event) => {
                    server.publish(&serde_json::from_str(&format!("{{{event}")).unwrap());
                }
                None => elsewhere(server, what, socket.as_mut().unwrap_or(&mut nobody)),
            },
        }
    }
}

fn nothing_else(_: &mut Server, what: &str, _: &mut Socket) {
    panic!("the transcript wants `{what}`");
}

/// The settings under which `ada` of the transcripts, a user who may publish, has shown events.
fn play_simply(name: &str, toml: &str) {
    let mut server = Server::start(toml);
    let mut lines = golden(name);
    let token = server.token_for("ada", Role::User, Duration::from_secs(3_600), &["*"], Actions::ALL);
    for line in &mut lines {
        if let Line::Open(text) | Line::Client(text) = line {
            *text = text.replace("<token>", &token);
        }
    }
    play(&mut server, &lines, nothing_else);
}

#[test]
fn the_transcript_of_publishing_with_acknowledgements_is_served() {
    play_simply("publish_ack", "");
}

#[test]
fn the_transcript_of_resuming_is_served() {
    play_simply("resume", "");
}

#[test]
fn the_transcript_of_presence_is_served() {
    play_simply("presence", "");
}

#[test]
fn the_transcript_of_errors_is_served() {
    play_simply("errors", "");
}

#[test]
fn the_transcript_of_a_late_reader_is_served() {
    play_simply(
        "late_join",
        "[[namespace]]\nname = \"run\"\npattern = \"run:*\"\nkind = \"log\"\nhistory_max = 3",
    );
}

#[test]
fn the_transcript_of_a_late_joiner_is_served() {
    let run = "[[namespace]]\nname = \"run\"\npattern = \"run:*\"\nhistory_max = 2\ncritical_types = [\"FLAG\"]\nstate_max = 10";
    play_simply("initial_state", run);
}

#[test]
fn the_transcript_of_document_004_is_served() {
    let mut server = Server::start("[heartbeat]\ninterval = \"3s\"\ntimeout = \"3s\"");
    play(&mut server, &golden("document_004"), |server, what, _| match what {
        "publish system.metrics cpu.percent" => {
            // The window is over long since: its figures are sent at the next look.
            server.publish_values("system.metrics", 1_699_459_201_000, &[("cpu.percent", 10.0)]);
        }
        "publish workflow.metrics success_rate" => {
            server.publish_values("workflow.metrics", 1_699_459_201_000, &[("success_rate", 95.0)]);
        }
        "wait ping" => {}
        _ => panic!("the transcript wants `{what}`"),
    });
}

/// Document 004's grouped shape, with what the collector of this host really says.
#[test]
fn the_real_collector_speaks_in_both_shapes() {
    let server = Server::start("[collector]\ninterval = \"250ms\"\ntags = { env = \"production\" }");
    let token = server.token("ada", Role::User);
    // The first ping comes at any moment: as a frame it is not among the messages.
    let open = || server.open(&format!("/ws/metrics?heartbeat=frame&token={token}"), "");
    let shapes = |value: &Value| {
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.join(" ")
    };
    let mut grouped = open();
    assert_eq!(grouped.json()["type"], "welcome");
    grouped.say(&json!({"type": "subscribe", "data": {"channels": ["system.metrics"]}}));
    assert_eq!(grouped.json(), json!({"type": "subscribed", "channels": ["system.metrics"]}));
    let frame = grouped.message();
    let text = String::from_utf8(frame.payload.clone()).unwrap();
    assert!(text.starts_with(r#"{"channel":"system.metrics","timestamp":"2"#), "{text}");
    let value = frame.json();
    assert!(value["cpu"]["percent"].is_f64() && value["cpu"]["count"].is_u64(), "{value}");
    for name in ["total", "used"] {
        assert!(value["memory"][name].is_u64(), "{value}");
    }
    assert!(value["memory"]["percent"].is_f64(), "{value}");
    assert!(shapes(&value).contains("cpu") && value["timestamp"].as_str().unwrap().ends_with('Z'));

    let mut points = open();
    assert_eq!(points.json()["type"], "welcome");
    let tags = json!({"env": "production"});
    points.say(&json!({"type": "subscribe", "data": {"channels": ["system.metrics"], "tags": tags, "compression": true}}));
    assert_eq!(points.json()["type"], "subscribed");
    let mut names = Vec::new();
    while !names.contains(&"memory.percent".to_owned()) {
        let frame = points.message();
        assert_eq!(frame.opcode, 2, "compression is MessagePack in binary frames");
        let value = msgpack::decode(&frame.payload);
        assert_eq!(
            (&value["channel"], &value["tags"]["env"]),
            (&json!("system.metrics"), &json!("production"))
        );
        assert!(["gauge", "counter", "histogram"].contains(&value["type"].as_str().unwrap()), "{value}");
        assert!(value["value"].is_number() || value["value"].is_null(), "{value}");
        names.push(value["name"].as_str().unwrap().to_owned());
    }
    assert!(names.contains(&"cpu.percent".to_owned()), "{names:?}");
    assert!(server.metric("pulsewire_collector_seconds_count") >= 1.0);
}

/// A grouped document exactly as the transcript shows it, and with `compression` the same in MessagePack.
#[test]
fn the_transcript_of_grouped_metrics_is_served() {
    use pulsewire_protocol::{ChannelName, MetricKind, Number, Sample, Tags};
    use pulsewire_telemetry::SampleSource;
    let mut server = Server::start("");
    let sample = |name: &'static str, value: Number| Sample {
        name: name.into(),
        kind: MetricKind::Gauge,
        value,
        tags: Tags::default(),
        timestamp_ms: Some(1_762_603_200_000),
    };
    let samples = vec![
        sample("cpu.percent", Number::Float(45.2)),
        sample("cpu.count", Number::Whole(8)),
        sample("cpu.frequency", Number::Float(2400.0)),
        sample("memory.total", Number::Whole(16_777_216_000)),
        sample("memory.used", Number::Whole(8_388_608_000)),
        sample("memory.percent", Number::Float(50.0)),
    ];
    let channel = ChannelName::parse("system.metrics").unwrap();
    server.app().bus.publish_samples(clock::now(), SampleSource::Host, &channel, samples).unwrap();
    // Whoever subscribes gets the newest values at once.
    play(&mut server, &golden("metrics_grouped"), nothing_else);
    let token = server.token("ada", Role::User);
    let mut socket = server.open(&format!("/ws/metrics?token={token}"), "");
    assert_eq!(socket.json()["type"], "welcome");
    socket.say(&json!({"type": "subscribe", "data": {"channels": ["system.metrics"], "compression": true}}));
    assert_eq!(socket.json()["type"], "subscribed");
    let frame = socket.message();
    let expected = json!({"channel": "system.metrics", "timestamp": "2025-11-08T12:00:00Z",
        "cpu": {"percent": 45.2, "count": 8, "frequency": 2400.0},
        "memory": {"total": 16_777_216_000_u64, "used": 8_388_608_000_u64, "percent": 50.0}});
    assert_eq!((frame.opcode, msgpack::decode(&frame.payload)), (2, expected));
}

/// An application that answers client events by type: with a body, or not at all.
fn hook(answers: &'static [(&'static str, &'static str)]) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut unanswered = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut block = [0; 4_096];
            while !request.ends_with(b"}") {
                match stream.read(&mut block) {
                    Ok(len @ 1..) => request.extend_from_slice(&block[..len]),
                    _ => break,
                }
            }
            let request = String::from_utf8(request).unwrap();
            let answer = answers.iter().find(|(name, _)| request.contains(&format!("\"type\":\"{name}\"")));
            match answer {
                Some((_, body)) => {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    // A server that has given up does not read the answer.
                    let _ = stream.write_all(format!("{head}{body}").as_bytes());
                }
                None => unanswered.push(stream),
            }
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

#[test]
fn the_transcript_of_a_connections_life_is_served() {
    let (address, requests) = hook(&[("task_assign", r#"{"accepted":true}"#)]);
    let mut server = Server::start(&format!(
        "[hook]\nurl = \"http://{address}/events\"\ntimeout = \"200ms\"\nsecret = \"hook secret\""
    ));
    // The first token of the transcript runs out soon, the second does not.
    let short = server.token_for("ada", Role::User, Duration::from_secs(20), &["*"], Actions::ALL);
    let mut lines = golden("lifecycle");
    let connect = lines.iter_mut().find_map(|line| match line {
        Line::Client(text) if text.contains("\"connect\"") => Some(text),
        _ => None,
    });
    let connect = connect.unwrap();
    *connect = connect.replace("<token>", &short);
    play(&mut server, &lines, |server, what, _| match what {
        "wait token_expiring" => {}
        "wait drain" => server.stop(Duration::from_secs(5)),
        _ => panic!("the transcript wants `{what}`"),
    });
    let request = requests.recv().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /events http/1.1"), "{head}");
    assert!(
        head.contains("pulsewire-event: task_assign") && head.contains("pulsewire-signature: t="),
        "{head}"
    );
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&body["user"], &body["channel"], &body["id"]),
        (&json!("ada"), &json!("workspace"), &json!(4))
    );
    assert_eq!(body["data"], json!({"task": "t1", "agent": "a1"}));
}

/// The notices of the transcript that a client can bring about alone. `dropped` needs a
/// slow reader (`slow`); `pos` and `previous` are reserved for a later version.
#[test]
fn the_notice_of_the_rate_limit_is_the_transcripts() {
    let lines = golden("notices");
    let Some(Line::Server(limited)) = lines
        .iter()
        .skip_while(|line| !matches!(line, Line::Elsewhere(what) if what == "wait rate_limited"))
        .nth(1)
    else {
        panic!("the transcript has no rate limit")
    };
    let server = Server::start("[limits]\nmessages_per_minute = 1");
    let mut socket = server.welcomed("ada");
    assert_eq!(socket.ask(&json!({"type": "ping", "timestamp": 1}))["type"], "pong");
    socket.say(&json!({"type": "ping", "timestamp": 2}));
    expect(&mut socket, &mut Bindings::default(), limited);
}

/// Document 000's five client events without a hook: published where the settings say, and counted.
#[test]
fn client_events_without_a_hook_are_published_to_their_channel() {
    let server = Server::start("");
    let mut reader = server.welcomed("bob");
    assert_eq!(reader.ask(&json!({"type": "subscribe", "channels": ["workspace"]}))["type"], "subscribed");
    let mut socket = server.welcomed("ada");
    let types = ["task_assign", "draft_approve", "draft_reject", "message_send", "state_sync"];
    for (number, event_type) in types.into_iter().enumerate() {
        let answer = socket.ask(&json!({"type": event_type, "id": number, "data": {"n": number}}));
        assert_eq!(answer, json!({"type": "ack", "id": number}), "{event_type}");
        let event = reader.json();
        assert_eq!(
            (&event["event"], &event["data"]["n"], &event["user"]),
            (&json!(event_type), &json!(number), &json!("ada"))
        );
        assert_eq!(event["sequence"], number + 1);
        assert_eq!(
            server.metric(&format!("websocket_events_received_total{{event_type=\"{event_type}\"}}")),
            1.0
        );
    }
    assert_eq!(socket.ask(&json!({"type": "task_steal", "id": 9}))["code"], "unknown_event");
}

#[test]
fn an_application_that_refuses_or_fails_is_told_to_the_client() {
    let (address, _requests) = hook(&[("task_assign", "not JSON"), ("draft_approve", "")]);
    let server = Server::start(&format!("[hook]\nurl = \"http://{address}/\"\ntimeout = \"200ms\""));
    let mut socket = server.welcomed("ada");
    for (event_type, expected) in [("task_assign", "hook_failed"), ("draft_reject", "hook_timeout")] {
        let answer = socket.ask(&json!({"type": event_type, "id": 1}));
        assert_eq!(
            (&answer["type"], &answer["code"], &answer["retryable"]),
            (&json!("error"), &json!(expected), &json!(true))
        );
        let failed = format!("websocket_event_errors_total{{event_type=\"{event_type}\"}}");
        assert_eq!(server.metric(&failed), 1.0, "{failed}");
    }
    assert_eq!(socket.ask(&json!({"type": "draft_approve", "id": 2}))["type"], "ack");
    assert_eq!(server.metric("pulsewire_hook_seconds_count{outcome=\"ok\"}"), 1.0);
    assert_eq!(server.metric("pulsewire_hook_seconds_count{outcome=\"timed_out\"}"), 1.0);
}

/// Publishing over HTTP: one, a batch, the same again, and into one channel.
#[test]
fn publishing_over_http_is_answered_with_the_place_of_every_event() {
    let server = Server::start("");
    let mut reader = server.welcomed("bob");
    assert_eq!(
        reader.ask(&json!({"type": "subscribe", "channels": ["run:1", "upstream:1"]}))["type"],
        "subscribed"
    );
    let one = server
        .publish(&json!({"channel": "run:1", "type": "note", "data": {"a": [1, null, "é"]}, "id": "m-1"}));
    assert_eq!((&one["sequence"], &one["duplicate"], &one["matched"]), (&json!(1), &json!(false), &json!(1)));
    let again = server
        .publish(&json!({"channel": "run:1", "type": "note", "data": {"a": [1, null, "é"]}, "id": "m-1"}));
    assert_eq!((&again["sequence"], &again["duplicate"]), (&json!(1), &json!(true)));
    let batch = server.publish(&json!([
        {"channel": "run:1", "type": "note"},
        {"channel": "upstream:1", "type": "move", "data": 7, "key": "k", "tags": {"env": "prod"}},
    ]));
    assert_eq!(batch["results"][0]["sequence"], 2);
    assert_eq!(batch["results"][1].get("sequence"), None);
    let text = String::from_utf8(reader.message().payload).unwrap();
    assert!(
        text.contains(r#""data":{"a":[1,null,"é"]},"timestamp":"#),
        "payloads are passed on untouched: {text}"
    );
    assert_eq!(reader.json()["sequence"], 2);
    let moved = reader.json();
    assert_eq!(
        (&moved["event"], &moved["key"], &moved["tags"]["env"]),
        (&json!("move"), &json!("k"), &json!("prod"))
    );
    let headers = format!("Authorization: Bearer {}\r\n", server.token("app", Role::Publisher));
    let answer = server.http("POST", "/api/channels/run:1/events", &headers, r#"{"type":"note","data":3}"#);
    assert_eq!((answer.status, &answer.json()["sequence"]), (200, &json!(3)), "{}", answer.text());
    let wrong = server.http(
        "POST",
        "/api/publish",
        &headers,
        r#"[{"channel":"run:1","type":"note"},{"channel":"nothing","type":"note"}]"#,
    );
    let problem = wrong.json();
    assert_eq!(
        (wrong.status, &problem["code"], &problem["index"]),
        (404, &json!("unknown_channel"), &json!(1))
    );
    assert_eq!(reader.json()["sequence"], 3);
    assert!(reader.flush(b"whole or not at all").is_empty());
    assert_eq!(server.metric("pulsewire_publish_total{source=\"http\",outcome=\"accepted\"}"), 4.0);
    assert_eq!(server.metric("pulsewire_publish_total{source=\"http\",outcome=\"duplicate\"}"), 1.0);
    assert_eq!(server.metric("pulsewire_publish_total{source=\"http\",outcome=\"rejected\"}"), 1.0);
}

/// A session outlives its connections: nothing is lost, and how often it came back is known.
#[test]
fn a_session_that_comes_back_misses_nothing_and_counts_its_returns() {
    let server = Server::start("");
    let token = server.token("ada", Role::User);
    let mut session = Value::Null;
    for round in 0..4_u64 {
        let mut socket = server.open("/ws", "");
        let mut connect = json!({"type": "connect", "id": round, "token": token});
        if round == 0 {
            connect["subscribe"] = json!(["run:1"]);
        } else {
            connect["session"] = session.clone();
        }
        let connected = socket.ask(&connect);
        assert_eq!(
            (&connected["type"], &connected["resumed"]),
            (&json!("connected"), &json!(round > 0)),
            "{connected}"
        );
        session = connected["session"].clone();
        assert_eq!(
            socket.json()["positions"]["run:1"]["sequence"],
            if round == 0 { 0 } else { round * 2 - 1 }
        );
        if round > 0 {
            assert_eq!(socket.json()["sequence"], round * 2, "what came while it was away");
            assert_eq!(
                socket.json(),
                json!({"type": "replay_end", "channel": "run:1", "sequence": round * 2})
            );
        }
        server.publish(&json!({"channel": "run:1", "type": "note", "data": round}));
        assert_eq!(socket.json()["sequence"], round * 2 + 1);
        if round < 3 {
            socket.reset();
            server.wait_metric("websocket_active_connections", 0.0);
            assert_eq!(server.metric("pulsewire_sessions_detached"), 1.0);
            server.publish(&json!({"channel": "run:1", "type": "note", "data": "away"}));
        } else {
            let id = session.as_str().unwrap();
            let headers = format!("Authorization: Bearer {}\r\n", server.token("root", Role::Admin));
            let shown =
                server.http("GET", &format!("/api/admin/websocket/metrics/{id}"), &headers, "").json();
            assert_eq!(shown["reconnectionCount"], 3, "{shown}");
        }
    }
    assert_eq!(server.metric("websocket_reconnections_total"), 3.0);
    // Row R4 of the catalogue in small: a session of somebody else is not to be had.
    let mut other = server.open("/ws", "");
    let connected =
        other.ask(&json!({"type": "connect", "token": server.token("eve", Role::User), "session": session}));
    assert_eq!((&connected["resumed"], connected["session"] == session), (&json!(false), false));
}

/// `?session=` resumes in the handshake; a connection that still had the session is closed.
#[test]
fn a_resumed_session_takes_the_place_of_its_old_connection() {
    let server = Server::start("");
    let headers = format!("Authorization: Bearer {}\r\n", server.token("ada", Role::User));
    let mut old = server.open("/ws", &headers);
    let session = old.json()["client_id"].as_str().unwrap().to_owned();
    assert_eq!(old.ask(&json!({"type": "subscribe", "channels": ["run:1"]}))["type"], "subscribed");
    let mut new = server.open(&format!("/ws?session={session}"), &headers);
    let connected = new.json();
    assert_eq!(
        (&connected["type"], &connected["session"], &connected["resumed"]),
        (&json!("connected"), &json!(session), &json!(true))
    );
    assert_eq!(new.json()["channels"], json!(["run:1"]));
    assert_eq!(new.json(), json!({"type": "replay_end", "channel": "run:1", "sequence": 0}));
    assert_eq!(old.closed_with(), 4508);
    server.publish(&json!({"channel": "run:1", "type": "note"}));
    assert_eq!(new.json()["sequence"], 1);
    // A client that says goodbye ends its session.
    new.frame(0x88, &1000_u16.to_be_bytes());
    assert_eq!(new.closed_with(), 1000);
    server.wait_metric("pulsewire_sessions_detached", 0.0);
    let mut late = server.open(&format!("/ws?session={session}"), &headers);
    assert_eq!(late.json()["type"], "welcome");
}

/// Everything once in MessagePack.
#[test]
fn a_messagepack_connection_speaks_messagepack_from_end_to_end() {
    let server = Server::start("");
    let mut socket = server.open("/ws", "Sec-WebSocket-Protocol: pulsewire.msgpack\r\n");
    let next = |socket: &mut Socket| {
        let frame = socket.message();
        assert_eq!(frame.opcode, 2);
        msgpack::decode(&frame.payload)
    };
    let say = |socket: &mut Socket, message: Value| socket.frame(0x82, &msgpack::encode(&message));
    let token = server.token("ada", Role::Publisher);
    say(&mut socket, json!({"type": "connect", "id": "c", "token": token, "subscribe": ["run:1"]}));
    let connected = next(&mut socket);
    assert_eq!(
        (&connected["type"], &connected["id"], &connected["user"]),
        (&json!("connected"), &json!("c"), &json!("ada"))
    );
    assert_eq!(next(&mut socket)["positions"]["run:1"]["sequence"], 0);
    let data = json!({"text": "é\u{1f980}", "whole": 9_007_199_254_740_993_i64, "float": 1.5, "none": null, "list": [true, [], {}]});
    say(
        &mut socket,
        json!({"type": "publish", "id": 2, "channel": "run:1", "event": "note", "data": data, "message_id": "m"}),
    );
    let (one, two) = (next(&mut socket), next(&mut socket));
    let (event, ack) = if one["type"] == "event" { (one, two) } else { (two, one) };
    assert_eq!((&ack["type"], &ack["id"], &ack["sequence"]), (&json!("ack"), &json!(2), &json!(1)));
    assert_eq!((&event["data"], &event["id"]), (&data, &json!("m")));
    say(&mut socket, json!({"type": "ping", "id": 3, "timestamp": 1.25}));
    assert_eq!(next(&mut socket), json!({"type": "pong", "id": 3, "timestamp": 1.25}));
    say(&mut socket, json!({"type": "subscribe", "id": 4, "channels": ["none"]}));
    assert_eq!(next(&mut socket)["code"], "unknown_channel");
}

/// Two readers of a channel with many publishers see one order, which is that of the sequence.
#[test]
fn everybody_sees_the_same_order() {
    const EACH: usize = 150;
    let server = Server::start("");
    let subscribe = |name: &str| {
        let mut socket = server.welcomed(name);
        assert_eq!(socket.ask(&json!({"type": "subscribe", "channels": ["run:1"]}))["type"], "subscribed");
        socket
    };
    let mut readers: Vec<Socket> = (0..4).map(|number| subscribe(&format!("reader-{number}"))).collect();
    let mut writers: Vec<Socket> =
        (0..3).map(|number| server.welcomed_as(&format!("writer-{number}"), Role::Publisher)).collect();
    for number in 0..EACH {
        for writer in &mut writers {
            writer.say(&json!({"type": "publish", "channel": "run:1", "event": "note", "data": number}));
        }
    }
    let heard: Vec<Vec<(u64, String)>> = readers
        .iter_mut()
        .map(|reader| {
            let event = |_| {
                let event = reader.json();
                (event["sequence"].as_u64().unwrap(), event["data"].to_string())
            };
            (0..3 * EACH).map(event).collect()
        })
        .collect();
    let sequences: Vec<u64> = heard[0].iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences, (1..=3 * EACH as u64).collect::<Vec<_>>());
    assert!(heard.iter().all(|one| *one == heard[0]));
    for writer in &mut writers {
        // The last may come a moment after its event has reached the readers, who are in other shards.
        (0..EACH).for_each(|_| assert_eq!(writer.json()["type"], "ack"));
    }
}

/// Heartbeats: a frame on `/ws`, document 004's message besides on `/ws/metrics` and where it is asked for.
#[test]
fn heartbeats_come_as_the_endpoint_or_the_client_says() {
    let server = Server::start("[heartbeat]\ninterval = \"1s\"\ntimeout = \"1s\"");
    let token = server.token("ada", Role::User);
    for (path, as_message) in [
        ("/ws?", false),
        ("/ws?heartbeat=message&", true),
        ("/ws/metrics?", true),
        ("/ws/metrics?heartbeat=frame&", false),
    ] {
        let mut socket = server.open(&format!("{path}token={token}"), "");
        assert_eq!(socket.json()["type"], "welcome");
        let mut heard = [false; 2];
        let mut ticks = 0;
        while ticks < 2 {
            let frame = socket.next().unwrap();
            match frame.opcode {
                9 => {
                    heard[0] = true;
                    ticks += usize::from(!as_message);
                    assert_eq!(frame.payload.len(), 8);
                    socket.frame(0x8a, &frame.payload);
                }
                _ => {
                    let ping = frame.json();
                    assert_eq!(ping["type"], "ping");
                    heard[1] = true;
                    ticks += 1;
                    socket.say(&json!({"type": "pong", "timestamp": ping["timestamp"]}));
                }
            }
        }
        assert_eq!(heard[1], as_message, "{path}");
    }
    assert!(server.metric("pulsewire_heartbeat_rtt_seconds_count") >= 4.0);
    assert_eq!(server.metric("websocket_heartbeat_timeouts_total"), 0.0);
}

/// R17, R72.
#[test]
fn how_long_clients_wait_at_most_is_said_only_where_it_is_not_ten_seconds() {
    for (settings, said) in [
        ("", json!(null)),
        ("[session]\nretry_max = \"10s\"\n", json!(null)),
        ("[session]\nretry_max = \"10m\"\n", json!(600_000)),
        ("[session]\nretry_max = \"1s\"\n", json!(1_000)),
    ] {
        let server = Server::start(settings);
        let token = server.token("ada", Role::User);
        let mut socket = server.open("/ws", "");
        let connected = socket.ask(&json!({ "type": "connect", "id": 1, "token": token }));
        assert_eq!(
            (&connected["type"], &connected["retry_max_ms"]),
            (&json!("connected"), &said),
            "{settings}"
        );
    }
}
