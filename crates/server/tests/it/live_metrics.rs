//! Metric channels from end to end: samples in, values, windows and history out (document 004).

use std::time::Duration;

use pulsewire_edge::clock;
use pulsewire_hub::{Actions, Role};
use serde_json::{Value, json};

use crate::child::Folder;
use crate::harness::{Server, Socket};
use crate::msgpack;
use crate::reading::Stream;

fn now_ms() -> i64 {
    clock::now().wall_ms
}

/// Sends samples of hosts, `name host value`, dated so, as an application does.
fn send(server: &Server, channel: &str, at_ms: i64, samples: &[(&str, &str, f64)]) -> Value {
    let sample = |(name, host, value): &(&str, &str, f64)| json!({"name": name, "value": value, "timestamp": at_ms, "tags": {"host": host, "rack": host.len().to_string()}});
    let body = json!({"channel": channel, "samples": samples.iter().map(sample).collect::<Vec<_>>()});
    let token = server.token("app", Role::Publisher);
    let headers = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    let answer = server.http("POST", "/api/metrics/samples", &headers, &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn subscribe(socket: &mut Socket, request: &Value) {
    let mut request = request.clone();
    request["type"] = "subscribe".into();
    assert_eq!(socket.ask(&request)["type"], "subscribed");
}

/// The next metric data of a socket, whatever else comes before.
fn metric(socket: &mut Socket) -> Value {
    loop {
        let message = socket.json();
        if message["timestamp"].is_string() {
            return message;
        }
    }
}

#[test]
fn samples_come_in_by_the_socket_and_out_as_points_that_pass_the_filter() {
    let server = Server::start("");
    let mut reader = server.welcomed("ada");
    subscribe(
        &mut reader,
        &json!({"channels": ["app.metrics"], "filter": {"host": {"prefix": "web-"}, "rack": {"gt": 4}, "$name": {"nin": ["noise"]}}}),
    );
    let mut writer = server.welcomed_as("app", Role::Publisher);
    let item = |name: &str, host: &str, value: f64| json!({"name": name, "value": value, "tags": {"host": host, "rack": host.len().to_string()}});
    let answer = writer.ask(&json!({"type": "samples", "id": 7, "channel": "app.metrics", "samples": [
        item("load", "db-11", 1.0), item("load", "web-", 2.0), item("noise", "web-1", 3.0), item("no name", "web-1", 4.0),
        item("load", "web-1", 5.0),
    ]}));
    assert_eq!((&answer["type"], &answer["id"], &answer["accepted"]), (&json!("ack"), &json!(7), &json!(4)));
    assert_eq!(answer["refused"].as_array().unwrap().len(), 1);
    assert_eq!(answer["refused"][0]["index"], 3);
    let point = metric(&mut reader);
    assert_eq!(
        (&point["name"], &point["tags"]["host"], &point["value"]),
        (&json!("load"), &json!("web-1"), &json!(5.0))
    );
    let other = server.token_for("eve", Role::User, Duration::from_secs(60), &["run:*"], Actions::ALL);
    let mut other = server.open(&format!("/ws/metrics?token={other}"), "");
    assert_eq!(other.json()["type"], "welcome");
    let samples = json!([item("load", "x", 1.0)]);
    let refused = other.ask(&json!({"type": "samples", "channel": "app.metrics", "samples": samples}));
    assert_eq!(refused["accepted"], 0, "{refused}");
    assert_eq!(refused["refused"][0]["code"], "forbidden");
    assert!(server.metric("pulsewire_samples_total{source=\"websocket\"}") >= 4.0);
}

/// A roll-up is one for all who want it, and says what a plain count says.
#[test]
fn windows_come_when_they_have_ended_with_their_figures() {
    let server = Server::start("");
    let mut reader = server.welcomed("ada");
    subscribe(&mut reader, &json!({"channels": ["app.metrics"], "aggregation_interval": "1s"}));
    let mut grouped = server.welcomed("bob");
    let wish = json!({"channels": ["app.metrics"], "aggregation_interval": "1s", "shape": "grouped", "compression": true});
    subscribe(&mut grouped, &wish);
    // All of it in one second, whenever the test runs.
    let begin_ms = now_ms() - now_ms().rem_euclid(1_000);
    for at_ms in 0..100 {
        send(&server, "app.metrics", begin_ms + at_ms, &[("cpu.percent", "web-1", at_ms as f64 + 1.0)]);
    }
    let window = metric(&mut reader);
    assert_eq!((&window["interval"], &window["count"]), (&json!("1s"), &json!(100)));
    assert_eq!(
        (&window["min"], &window["max"], &window["sum"]),
        (&json!(1.0), &json!(100.0), &json!(5050.0))
    );
    assert_eq!(
        (&window["last"], &window["avg"], &window["value"]),
        (&json!(100.0), &json!(50.5), &json!(50.5))
    );
    for (name, exact) in [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)] {
        let found = window[name].as_f64().unwrap();
        assert!((found - exact).abs() <= exact * 0.023, "{name} is {found}");
    }
    let frame = grouped.message();
    assert_eq!(frame.opcode, 2, "compression is MessagePack");
    let document = msgpack::decode(&frame.payload);
    assert_eq!(document["cpu"]["percent"]["count"], 100);
    assert_eq!((&document["interval"], &document["tags"]["host"]), (&json!("1s"), &json!("web-1")));
    // Whoever comes now is sent the last window at once.
    let mut late = server.welcomed("eve");
    subscribe(&mut late, &json!({"channels": ["app.metrics"], "aggregation_interval": "1s"}));
    assert_eq!(metric(&mut late)["count"], 100);
}

/// The past, then what comes: every second once.
#[test]
fn a_subscription_that_begins_with_its_past_has_no_hole() {
    let server = Server::start("");
    let begin_ms = now_ms() - now_ms().rem_euclid(1_000) - 720_000;
    for second in 0..300 {
        let hosts = ["a", "b", "c"].map(|host| ("n", host, second as f64));
        send(&server, "app.metrics", begin_ms + second * 1_000, &hosts);
    }
    let mut reader = server.welcomed("ada");
    let wish = json!({"channels": [{"channel": "app.metrics", "history": "15m"}], "tags": {"host": "b"}, "aggregation_interval": "1s"});
    subscribe(&mut reader, &wish);
    for second in 300..303 {
        send(&server, "app.metrics", begin_ms + second * 1_000, &[("n", "b", second as f64)]);
    }
    let (mut seen, mut pages) = (Vec::new(), 0);
    while seen.len() < 303 {
        let message = reader.json();
        let windows = match message["type"].as_str() {
            Some("history") => {
                assert_eq!(message["resolution"], "1s");
                pages += 1;
                message["events"].as_array().unwrap().clone()
            }
            // What is filled in later is waited for, longer than a channel may be silent.
            Some("stale") => continue,
            _ => vec![message],
        };
        for window in windows {
            assert_eq!((&window["tags"]["host"], &window["count"]), (&json!("b"), &json!(1)), "{window}");
            seen.push(window["last"].as_f64().unwrap());
        }
    }
    assert_eq!(seen, (0..303).map(f64::from).collect::<Vec<_>>());
    assert!(pages > 1, "an outbox does not hold so much");
}

#[test]
fn history_survives_a_restart_and_says_how_fine_it_is() {
    let folder = Folder::new();
    let start = || {
        let folder = folder.path().display();
        Server::start(&format!("[server]\ndata_dir = \"{folder}\"\n[store]\nurl = \"sqlite\"\n"))
    };
    let mut server = start();
    let begin_ms = now_ms() - now_ms().rem_euclid(60_000) - 600_000;
    for second in 0..600 {
        send(
            &server,
            "app.metrics",
            begin_ms + second * 1_000,
            &[("n", "a", second as f64), ("n", "b", 1.0)],
        );
    }
    let ask = |server: &Server, more: &str| {
        let token = server.token("ada", Role::User);
        let path = format!("/api/channels/app.metrics/history?start_time={begin_ms}&{more}");
        let answer = server.http("GET", &path, &format!("Authorization: Bearer {token}\r\n"), "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let before = ask(&server, "aggregation_interval=5m&tags=host:a");
    server.stop(Duration::from_secs(5));
    let server = start();
    let after = ask(&server, "aggregation_interval=5m&tags=host:a");
    assert_eq!(after["events"], before["events"]);
    let sums: Vec<f64> =
        after["events"].as_array().unwrap().iter().map(|window| window["sum"].as_f64().unwrap()).collect();
    assert_eq!(sums.iter().sum::<f64>(), (0..600).map(f64::from).sum::<f64>());
    assert_eq!((&after["resolution"], &after["has_more"]), (&json!("5m"), &json!(false)));
    let fine = ask(&server, "limit=700&tags=host:a");
    assert_eq!((&fine["resolution"], fine["events"].as_array().unwrap().len()), (&json!("1s"), 600));
    let coarse = ask(&server, "limit=100&tags=host:a");
    assert_eq!((&coarse["resolution"], coarse["events"].as_array().unwrap().len()), (&json!("10s"), 60));
    let cut = ask(&server, "limit=100&resolution=1s&tags=host:a");
    assert_eq!((cut["events"].as_array().unwrap().len(), &cut["has_more"]), (100, &json!(true)));
    assert!(cut["next_time"].is_string());
    // The same over the socket, in document 004's words.
    let mut socket = server.welcomed("ada");
    let answer = socket
        .ask(&json!({"type": "get_history", "data": {"channel": "app.metrics", "start_time": begin_ms,
        "aggregation_interval": "5m", "tags": {"host": "a"}}}));
    assert_eq!((&answer["type"], &answer["events"]), (&json!("history"), &after["events"]));
    let refused = socket.ask(&json!({"type": "get_history", "channel": "app.metrics", "resolution": "2s"}));
    assert_eq!(refused["code"], "bad_request");
}

#[test]
fn event_streams_carry_windows_too() {
    let server = Server::start("");
    let token = server.token("ada", Role::User);
    let path = "/api/channels/app.metrics/sse?aggregation_interval=1s&filter=%7B%22host%22%3A%7B%22in%22%3A%5B%22a%22%5D%7D%7D";
    let mut stream = Stream::open_on(server.connect(), path, &format!("Authorization: Bearer {token}\r\n"));
    let begin_ms = now_ms() - now_ms().rem_euclid(1_000);
    send(&server, "app.metrics", begin_ms, &[("n", "a", 3.0), ("n", "b", 4.0)]);
    let block = loop {
        let block = stream.block();
        if block.event == "metric" {
            break block.json();
        }
    };
    assert_eq!((&block["tags"]["host"], &block["sum"]), (&json!("a"), &json!(3.0)));
    let path = "/api/channels/run:1/sse?aggregation_interval=1s";
    let refused = server.http("GET", path, &format!("Authorization: Bearer {token}\r\n"), "");
    assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("unsupported")));
}

/// A channel that says nothing for three of its intervals is called stale, once.
#[test]
fn a_channel_that_says_nothing_any_more_is_stale() {
    let server = Server::start(
        "[[namespace]]\nname = \"quick\"\npattern = \"quick.metrics\"\nkind = \"metrics\"\ninterval = \"200ms\"\n",
    );
    let mut reader = server.welcomed("ada");
    subscribe(&mut reader, &json!({"channels": ["quick.metrics"]}));
    let said_ms = now_ms();
    send(&server, "quick.metrics", said_ms, &[("n", "a", 1.0)]);
    assert_eq!(metric(&mut reader)["n"], 1.0);
    let stale = reader.json();
    assert_eq!((&stale["type"], &stale["channel"]), (&json!("stale"), &json!("quick.metrics")));
    assert!((stale["since"].as_i64().unwrap() - said_ms).abs() < 5_000, "{stale}");
    send(&server, "quick.metrics", now_ms(), &[("n", "a", 2.0)]);
    assert_eq!(metric(&mut reader)["n"], 2.0);
    assert_eq!(reader.json()["type"], "stale", "and again");
    assert!(server.metric("pulsewire_metric_stale_total") >= 2.0);
}

#[test]
fn what_a_metric_channel_cannot_do_is_refused_with_words_that_help() {
    let server = Server::start("[series]\nper_channel_max = 2\n");
    let mut socket = server.welcomed("ada");
    let mut check = |request: Value, code: &str, part: &str| {
        let answer = socket.ask(&request);
        assert_eq!(answer["code"], code, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(part), "{answer}");
    };
    let of = |more: Value| {
        let mut request = json!({"type": "subscribe", "channels": ["app.metrics"]});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    check(of(json!({"aggregation_interval": "2s"})), "bad_request", "1s, 5s, 1m, 5m or 1h");
    check(of(json!({"filter": {"host": {"like": "x"}}})), "invalid_filter", "filter");
    check(of(json!({"filter": {"host": {}}})), "invalid_filter", "no operator");
    check(of(json!({"filter": {"host": {"in": []}}})), "invalid_filter", "1 to 32");
    check(of(json!({"channels": [{"channel": "app.metrics", "history": "soon"}]})), "bad_request", "15m");
    check(of(json!({"channels": [{"channel": "run:1", "history": "15m"}]})), "unsupported", "metric channel");
    check(
        of(json!({"channels": ["nonsense.channel"]})),
        "unknown_channel",
        "Invalid subscription: unknown channel",
    );
    check(
        json!({"type": "get_history", "channel": "app.metrics", "start_time": 2, "end_time": 1}),
        "bad_request",
        "after",
    );
    let answer = send(
        &server,
        "app.metrics",
        now_ms(),
        &[("a", "x", 1.0), ("b", "x", 1.0), ("c", "x", 1.0), ("a", "x", 2.0)],
    );
    assert_eq!((&answer["accepted"], &answer["refused"][0]["code"]), (&json!(3), &json!("limit_exceeded")));
    assert_eq!(server.metric("pulsewire_samples_refused_total{reason=\"series_max\"}"), 1.0);
    assert_eq!(server.metric("pulsewire_metric_series"), 2.0);
}
