//! Samples over HTTP: JSON, OTLP and Prometheus remote write, up to their subscribers.
//!
//! The requests in `tests/ingest` were recorded: `otlp-metrics.pb.gz` is one of the OpenTelemetry SDK for Python
//! (1.45, gzip), the others are of Prometheus 2.42 (snappy): a scrape, its metadata, and a target that went away.

use std::io::Write as _;

use pulsewire::auth::{Action, Actions, Role};
use pulsewire::settings::Settings;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, Socket};
use crate::support::World;

const OTLP: &[u8] = include_bytes!("../ingest/otlp-metrics.pb.gz");
const REMOTE_WRITE: &[u8] = include_bytes!("../ingest/remote-write.pb.sz");
const REMOTE_WRITE_STALE: &[u8] = include_bytes!("../ingest/remote-write-stale.pb.sz");
const REMOTE_WRITE_METADATA: &[u8] = include_bytes!("../ingest/remote-write-metadata.pb.sz");
const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\n";
const SNAPPY: &str = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n";

/// A request of an application that may publish to every channel.
fn post(server: &Server, path: &str, headers: &str, body: &[u8]) -> Answer {
    let bearer = format!("Authorization: Bearer {}\r\n", server.token("app", Role::Publisher));
    post_as(server, path, &format!("{bearer}{headers}"), body)
}

fn post_as(server: &Server, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut socket = server.connect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    socket.send(&[head.as_bytes(), body].concat());
    let mut answer = socket.head();
    answer.body = socket.rest();
    answer
}

fn samples(server: &Server, body: &Value) -> Answer {
    post(server, "/api/metrics/samples", "Content-Type: application/json\r\n", body.to_string().as_bytes())
}

fn subscriber(server: &Server, channels: &[&str]) -> Socket {
    let mut socket = server.welcomed("ann");
    let answer = socket.ask(&json!({"type": "subscribe", "channels": channels, "shape": "points"}));
    assert_eq!(answer["type"], "subscribed", "{answer}");
    socket
}

/// The next points as `name value`, sorted.
fn points(socket: &mut Socket, count: usize) -> Vec<String> {
    let mut points: Vec<_> = (0..count).map(|_| socket.json()).map(|it| point(&it)).collect();
    points.sort();
    points
}

fn point(point: &Value) -> String {
    let tags = point["tags"].as_object().unwrap_or_else(|| panic!("{point}"));
    let tags: String =
        tags.iter().map(|(key, value)| format!(" {key}={}", value.as_str().unwrap())).collect();
    format!(
        "{} {} {}{tags}",
        point["type"].as_str().unwrap(),
        point["name"].as_str().unwrap(),
        point["value"]
    )
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap()
}

/// A `WriteRequest` of one series with one sample.
fn write_request(name: &str, value: f64) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let label = [field(1, b"__name__"), field(2, name.as_bytes())].concat();
    let sample = [&[0x09][..], &value.to_le_bytes(), &[0x10, 1]].concat();
    snappy(&field(1, &[field(1, &label), field(2, &sample)].concat()))
}

#[test]
fn samples_in_json_reach_their_subscribers_and_a_wrong_one_is_named() {
    let server = Server::start("");
    let mut socket = subscriber(&server, &["agent.metrics", "workflow.metrics"]);
    let answer = samples(
        &server,
        &json!([
            {"channel": "agent.metrics", "name": "calls.total", "type": "counter", "value": 5000, "timestamp": "2025-11-08T12:00:00Z", "tags": {"env": "production"}},
            {"channel": "agent.metrics", "name": "two words", "value": 1},
            {"channel": "workflow.metrics", "timestamp": "2025-11-08T12:00:00Z", "executions": {"total": 1000, "failed": 50}, "success_rate": 95.0},
            {"channel": "run:1", "name": "calls", "value": 1},
            {"channel": "nowhere", "a": 1, "b": 2},
            {"channel": "agent.metrics", "name": "calls.total", "value": 1, "tags": {"env": "production"}},
        ]),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["accepted"], 4);
    let refused = answer["refused"].as_array().unwrap();
    let refused: Vec<_> =
        refused.iter().map(|it| (it["index"].as_u64().unwrap(), it["code"].as_str().unwrap())).collect();
    assert_eq!(refused, [(1, "bad_request"), (3, "unsupported"), (4, "unknown_channel"), (5, "bad_request")]);
    assert_eq!(
        points(&mut socket, 4),
        [
            "counter calls.total 5000 env=production",
            "gauge executions.failed 50",
            "gauge executions.total 1000",
            "gauge success_rate 95.0",
        ]
    );
    assert_eq!(server.metric(r#"pulsewire_samples_total{source="http"}"#), 4.0);
    let refusals =
        |reason: &str| server.metric(&format!("pulsewire_samples_refused_total{{reason=\"{reason}\"}}"));
    assert_eq!((refusals("name"), refusals("channel"), refusals("kind")), (1.0, 3.0, 1.0));

    let packed = gzip(br#"{"name":"n","value":1}"#);
    let answer =
        post(&server, "/api/metrics/samples?channel=agent.metrics", "Content-Encoding: gzip\r\n", &packed);
    assert_eq!((answer.status, answer.json()), (200, json!({"accepted": 1, "refused": []})));
    assert_eq!(points(&mut socket, 1), ["gauge n 1"]);
}

#[test]
fn a_request_of_which_nothing_is_taken_is_answered_with_the_first_problem() {
    let server = Server::start("[ingest]\nbatch_max = 2\ndecompressed_bytes_max = \"64KiB\"\n");
    let check = |body: &Value, status: u16, code: &str, index: Option<u64>| {
        let answer = samples(&server, body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        let problem = answer.json();
        assert_eq!((problem["code"].as_str(), problem["index"].as_u64()), (Some(code), index), "{body}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    };
    check(&json!({"channel": "a.metrics", "name": "n"}), 400, "bad_request", Some(0));
    check(&json!([7, {"channel": "nowhere", "x": 1}]), 400, "bad_request", Some(0));
    check(&json!({"channel": "nowhere", "x": 1}), 404, "unknown_channel", Some(0));
    check(&json!({"channel": "run:1", "x": 1}), 400, "unsupported", Some(0));
    check(&json!([]), 400, "bad_request", None);
    check(&json!({"channel": "a.metrics", "x": 1, "y": 2, "z": 3}), 429, "limit_exceeded", None);
    let status = |path: &str, headers: &str, body: &[u8]| post(&server, path, headers, body).status;
    let path = "/api/metrics/samples";
    assert_eq!(status(path, "Content-Encoding: br\r\n", b"{}"), 415);
    assert_eq!(status(path, "Content-Encoding: gzip\r\n", &gzip(&[b' '; 100_000])), 413);
    assert_eq!(status("/api/metrics/samples?channel=a%20b", "", b"{}"), 400);
    assert_eq!(server.metric(r#"pulsewire_samples_refused_total{reason="batch_max"}"#), 1.0);
}

#[test]
fn only_those_who_may_publish_there_may_send_samples() {
    let sealed = "[[namespace]]\nname = \"sealed\"\npattern = \"sealed.metrics\"\nkind = \"metrics\"\npublish = \"server\"\n";
    let server = Server::start(sealed);
    let hour = std::time::Duration::from_secs(3_600);
    let publisher = server.token_for("app", Role::Publisher, hour, &["app.metrics"], Actions::ALL);
    let reader = server.token_for("ann", Role::User, hour, &["*"], Actions::NONE.with(Action::Subscribe));
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let json = |channel: &str| format!(r#"{{"channel":"{channel}","name":"n","value":1}}"#);
    let send = |path: &str, headers: &str, body: &[u8]| post_as(&server, path, headers, body).status;
    let samples =
        |headers: &str, channel: &str| send("/api/metrics/samples", headers, json(channel).as_bytes());
    assert_eq!(samples("", "app.metrics"), 401);
    assert_eq!(
        samples(&bearer(&reader), "app.metrics"),
        401,
        "a reader's token is the wrong kind of credential"
    );
    assert_eq!(samples(&bearer(&publisher), "app.metrics"), 200);
    assert_eq!(samples(&bearer(&publisher), "other.metrics"), 403);
    let all = bearer(&server.token("root", Role::Publisher));
    assert_eq!(samples(&all, "sealed.metrics"), 403, "only the server publishes there");
    for (path, headers, body) in [
        ("/v1/metrics", PROTOBUF.to_owned(), Vec::new()),
        ("/api/v1/write", SNAPPY.to_owned(), write_request("n", 1.0)),
    ] {
        let status = |credential: &str, query: &str| {
            send(&format!("{path}{query}"), &format!("{credential}{headers}"), &body)
        };
        assert_eq!(status("", ""), 401, "{path}");
        assert_eq!(status(&bearer(&publisher), "?channel=other.metrics"), 403, "{path}");
        assert_eq!(status(&all, "?channel=sealed.metrics"), 403, "{path}");
        assert!(matches!(status(&bearer(&publisher), ""), 200 | 204), "{path}");
    }
    // One item may be for a channel that the credential does not reach; the others go on.
    let both = format!("[{},{}]", json("other.metrics"), json("app.metrics"));
    let answer = post_as(&server, "/api/metrics/samples", &bearer(&publisher), both.as_bytes());
    let answer = (answer.status, answer.json());
    assert_eq!(
        (answer.0, &answer.1["accepted"], &answer.1["refused"][0]["code"]),
        (200, &json!(1), &json!("forbidden"))
    );
}

#[test]
fn a_server_that_goes_away_takes_no_samples_and_senders_are_told_to_come_back() {
    let server = Server::start("");
    server.app().draining.store(true, std::sync::atomic::Ordering::Relaxed);
    for (path, headers, body) in [
        ("/api/metrics/samples", "", br#"{"channel":"a.metrics","x":1}"#.to_vec()),
        ("/v1/metrics", PROTOBUF, Vec::new()),
        ("/api/v1/write", SNAPPY, write_request("n", 1.0)),
    ] {
        let answer = post(&server, path, headers, &body);
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.headers.contains_key("retry-after"), "{path}");
    }
    server.app().draining.store(false, std::sync::atomic::Ordering::Relaxed);
}

#[test]
fn a_recorded_request_of_opentelemetry_reaches_its_subscribers() {
    let server = Server::start("[ingest]\nresource_attributes = [\"service.name\"]\n");
    let mut socket = subscriber(&server, &["app.metrics"]);
    let headers = format!("{PROTOBUF}Content-Encoding: gzip\r\n");
    let answer = post(&server, "/v1/metrics", &headers, OTLP);
    assert_eq!((answer.status, &*answer.headers["content-type"]), (200, "application/x-protobuf"));
    // ExportMetricsServiceResponse: field 1, in which field 1 is the number of points that were refused.
    assert_eq!((answer.body[0], &answer.body[2..4]), (0x0a, &[0x08, 1][..]), "{:?}", answer.body);
    assert!(answer.text().contains("1 data points were refused, the first: `orders`: the attribute `path`"));
    let came = points(&mut socket, 13);
    for wanted in [
        "counter latency.count 10 route=/ service.name=shop",
        "counter latency.sum 724.0 route=/ service.name=shop",
        "counter orders 4 region=eu service.name=shop",
        "gauge carts -2 service.name=shop",
        "gauge temperature 21.5 service.name=shop",
        "histogram latency.p50 17.5 route=/ service.name=shop",
        "histogram latency.p99 300.0 route=/ service.name=shop",
        "histogram payload.size.p99 3000.0 service.name=shop",
    ] {
        assert!(came.iter().any(|point| point == wanted), "{wanted}: {came:#?}");
    }
    assert_eq!(server.metric(r#"pulsewire_samples_total{source="otlp"}"#), 13.0);
    assert_eq!(server.metric(r#"pulsewire_samples_refused_total{reason="tags"}"#), 1.0);
}

#[test]
fn otlp_in_json_is_answered_in_json() {
    let server = Server::start("");
    let mut socket = subscriber(&server, &["otel.metrics"]);
    let headers = "Content-Type: application/json; charset=utf-8\r\n";
    let send = |points: &str| {
        let body = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"n","gauge":{{"dataPoints":[{points}]}}}}]}}]}}]}}"#
        );
        let answer = post(&server, "/v1/metrics?channel=otel.metrics", headers, body.as_bytes());
        assert_eq!((answer.status, &*answer.headers["content-type"]), (200, "application/json"));
        answer.json()
    };
    assert_eq!(send(r#"{"asInt":"7"}"#), json!({}));
    assert_eq!(points(&mut socket, 1), ["gauge n 7"]);
    let partial = send(r#"{"asInt":"8"},{"asDouble":"NaN"},{}"#);
    assert_eq!(partial["partialSuccess"]["rejectedDataPoints"], "2");
    assert_eq!(points(&mut socket, 1), ["gauge n 8"]);
    // What the bus refuses is one of the rejected points, too: this one is dated far ahead.
    let ahead = send(r#"{"asInt":9,"timeUnixNano":"4000000000000000000"}"#);
    assert_eq!(ahead["partialSuccess"]["rejectedDataPoints"], "1");
    assert!(ahead["partialSuccess"]["errorMessage"].as_str().unwrap().contains("ahead"), "{ahead}");

    let refused = post(&server, "/v1/metrics", headers, b"{");
    assert_eq!((refused.status, &refused.json()["code"]), (400, &json!(3)));
}

#[test]
fn otlp_that_is_refused_as_a_whole_is_answered_by_a_status() {
    let server = Server::start("[ingest]\ndecompressed_bytes_max = \"64KiB\"\n");
    let check = |path: &str, headers: &str, body: &[u8], status: u16, grpc: u8| {
        let answer = post(&server, path, headers, body);
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.headers["content-type"], "application/x-protobuf");
        assert_eq!(answer.body[..2], [0x08, grpc], "google.rpc.Status");
        assert!(!answer.headers.contains_key("retry-after"), "it would never help");
    };
    check("/v1/metrics", PROTOBUF, b"\xff", 400, 3);
    check("/v1/metrics?channel=nowhere", PROTOBUF, &otlp_gauge(), 404, 3);
    check("/v1/metrics?channel=run:1", PROTOBUF, &otlp_gauge(), 400, 3);
    let packed = format!("{PROTOBUF}Content-Encoding: gzip\r\n");
    check("/v1/metrics", &packed, &gzip(&vec![0; 1_000_000]), 413, 8);
    check("/v1/metrics", &packed, b"plain", 400, 3);
    check("/v1/metrics", &format!("{PROTOBUF}Content-Encoding: zstd\r\n"), b"", 415, 3);
    check("/v1/metrics", PROTOBUF, &vec![0; 2 << 20], 413, 8);
    assert_eq!(post(&server, "/v1/metrics", "Content-Type: text/plain\r\n", b"").status, 415);
    assert_eq!(post(&server, "/v1/metrics", PROTOBUF, b"").status, 200, "an empty request is a request");
}

/// A request with one gauge `n` of 1.
fn otlp_gauge() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let point = [&[0x21][..], &1_f64.to_le_bytes()].concat();
    let metric = [field(1, b"n"), field(5, &field(1, &point))].concat();
    field(1, &field(2, &field(2, &metric)))
}

#[test]
fn recorded_requests_of_prometheus_reach_their_subscribers() {
    let server = Server::start("");
    let mut socket = subscriber(&server, &["app.metrics"]);
    let answer = post(&server, "/api/v1/write", SNAPPY, REMOTE_WRITE);
    assert_eq!((answer.status, answer.body.len()), (204, 0), "{}", answer.text());
    let came = points(&mut socket, 13);
    let of = "instance=127.0.0.1:18433 job=shop";
    for wanted in [
        format!("counter shop_orders_total 15.0 {of} region=eu"),
        format!("gauge shop_carts 17.5 {of}"),
        format!("counter shop_seconds_bucket 10.0 {of} le=+Inf"),
        format!("counter shop_seconds_sum 3.75 {of}"),
        format!("gauge up 1.0 {of}"),
    ] {
        assert!(came.contains(&wanted), "{wanted}: {came:#?}");
    }
    let values = || server.metric(r#"pulsewire_samples_refused_total{reason="value"}"#);
    assert_eq!(values(), 1.0, "the median of nothing is no number");
    assert_eq!(post(&server, "/api/v1/write", SNAPPY, REMOTE_WRITE_METADATA).status, 204);
    let answer = post(&server, "/api/v1/write", SNAPPY, REMOTE_WRITE_STALE);
    assert_eq!(answer.status, 204, "staleness markers are no mistake of the sender: {}", answer.text());
    assert!(points(&mut socket, 5).contains(&format!("gauge up 0.0 {of}")));
    assert_eq!(values(), 10.0);
}

#[test]
fn prometheus_drops_what_is_refused_and_repeats_what_may_yet_be_taken() {
    let server = Server::start("[ingest]\ndecompressed_bytes_max = \"64KiB\"\n");
    let status = |headers: &str, body: &[u8]| post(&server, "/api/v1/write", headers, body).status;
    assert_eq!(status(SNAPPY, &write_request("n", 1.0)), 204);
    assert_eq!(status(SNAPPY, &write_request("two words", 1.0)), 400, "all samples were refused");
    assert_eq!(status(SNAPPY, &write_request("two words", f64::NAN)), 204, "there was nothing to take");
    assert_eq!(status(SNAPPY, &write_request("n", f64::INFINITY)), 400);
    assert_eq!(status(SNAPPY, &snappy(b"")), 204);
    assert_eq!(status(SNAPPY, b"plain"), 400);
    assert_eq!(status(SNAPPY, &snappy(b"\xff")), 400);
    assert_eq!(status(SNAPPY, &snappy(&vec![0; 100_000])), 413);
    let one = snap::raw::Decoder::new().decompress_vec(&write_request("n", 2.0)).unwrap();
    let other = snap::raw::Decoder::new().decompress_vec(&write_request("two words", 2.0)).unwrap();
    assert_eq!(status(SNAPPY, &snappy(&[other, one].concat())), 204, "of which one was taken");

    let typed = |media_type: &str| format!("Content-Type: {media_type}\r\nContent-Encoding: snappy\r\n");
    let body = write_request("n", 3.0);
    let version_2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    assert_eq!(status(&typed(version_2), &body), 415, "senders fall back to version 1");
    assert_eq!(status(&typed("application/x-protobuf; proto=prometheus.WriteRequest"), &body), 204);
    assert_eq!(status(&typed("application/json"), &body), 415);
    assert_eq!(status(PROTOBUF, &body), 415, "without snappy");
    let elsewhere = post(&server, "/api/v1/write?channel=nowhere", SNAPPY, &body);
    assert_eq!(elsewhere.status, 404);
}

#[test]
fn the_channels_of_the_settings_are_metric_channels() {
    let problems = |set: &str| World::new().set(set).problems();
    assert_eq!(problems("ingest.otlp_channel=otel.metrics"), Vec::<String>::new());
    for set in [
        "ingest.otlp_channel=workspace",
        "ingest.remote_write_channel=nowhere",
        "ingest.remote_write_channel=a b",
        "ingest.resource_attributes=a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q",
    ] {
        let found = problems(set);
        let path = set.split('=').next().unwrap();
        assert!(found.len() == 1 && found[0].contains(path), "{set}: {found:?}");
    }
    // Without a namespace for the default there is nothing to send to, which is no reason not to start.
    let other = "[[namespace]]\nname = \"metrics\"\npattern = \"numbers:*\"\nkind = \"metrics\"\n";
    let settings: Settings = World::new().toml(other).settings();
    assert_eq!(settings.ingest.otlp_channel, "app.metrics");
}
