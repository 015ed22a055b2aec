//! The server inside another program: document 004's library calls, in Rust.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use http::StatusCode;
use pulsewire::{
    Collector, CollectorOptions, ErrorCode, HostOptions, MetricKind, Sample, Server, ServerBuilder,
    StartError, Tags,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::harness::{self, PATIENCE, SECRET, Socket, handshake, until};

/// The program of `examples/embed.rs`, as it is.
#[path = "../../examples/embed.rs"]
#[expect(dead_code, reason = "its main waits for a signal")]
mod example;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn builder() -> ServerBuilder {
    Server::builder()
        .listen("127.0.0.1:0")
        .jwt_secret(SECRET)
        .setting("store.url", "memory")
        .setting("server.shards", 2)
        .setting("collector.enabled", false)
        .setting("derive.enabled", false)
}

fn get_of(address: SocketAddr, path: &str) -> harness::Answer {
    harness::http(address, "GET", path, "", "")
}

/// A WebSocket at a path with a token in it, welcomed.
fn welcomed(address: SocketAddr, path: &str) -> Socket {
    let mut socket = Socket::connect(address);
    socket.send(handshake(path, "").as_bytes());
    assert_eq!(socket.head().status, 101);
    assert_eq!(socket.json()["type"], "welcome");
    socket
}

fn subscribe(socket: &mut Socket, channels: &Value) {
    let answer = socket.ask(&json!({ "type": "subscribe", "data": { "channels": channels } }));
    assert_eq!(answer["type"], "subscribed", "{answer}");
}

/// Rows 004-01, 004-02, 004-69 and 004-70, by the program that the documentation shows.
#[test]
fn the_example_serves_its_pages_and_the_sockets_on_one_port() {
    let runtime = runtime();
    let (server, mut collector) = runtime.block_on(example::start("127.0.0.1:0")).unwrap();
    let address = server.address();
    let page = get_of(address, "/");
    assert_eq!((page.status, page.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    let page = page.text();
    let token =
        page.split("token=").nth(1).and_then(|rest| rest.split('`').next()).expect("a token in the page");
    let mut socket = welcomed(address, &format!("/ws/metrics?token={token}"));
    subscribe(&mut socket, &json!(["project:shop", "system.metrics"]));
    let placed = harness::http(address, "POST", "/orders", "", "");
    assert_eq!((placed.status, placed.text().as_str()), (200, "the order is on 1 screens\n"));
    let event = std::iter::repeat_with(|| socket.json()).find(|message| message["channel"] == "project:shop");
    let event = event.unwrap();
    assert_eq!((&event["type"], &event["data"]["item"]), (&json!("event"), &json!("a lamp")), "{event}");
    assert!(collector.stats().running);
    until("the counts are those of now", || {
        let stats = runtime.block_on(server.stats());
        (stats.connected_clients, stats.total_subscriptions) == (1, 2) && stats.collector.running
    });
    runtime.block_on(collector.stop());
    assert!(!collector.stats().running);
    assert!(!runtime.block_on(server.stats()).collector.running);
    runtime.block_on(server.stop(Duration::ZERO));
    assert!(Socket::try_connect(address).is_none(), "nobody listens any more");
}

/// Row 004-69: one source of the counts.
#[test]
fn the_counts_of_the_call_are_those_of_the_page() {
    let runtime = runtime();
    let server = runtime.block_on(builder().start()).unwrap();
    let token = runtime.block_on(async { server.token(&user("ann")) }).unwrap();
    let path = format!("/ws?token={token}");
    let mut sockets = [(); 3].map(|()| welcomed(server.address(), &path));
    for (index, socket) in sockets.iter_mut().enumerate() {
        let channels: Vec<_> = (0..=index).map(|channel| format!("run:{channel}")).collect();
        subscribe(socket, &json!(channels));
    }
    let mut stats = runtime.block_on(server.stats());
    until("six subscriptions of three clients", || {
        stats = runtime.block_on(server.stats());
        (stats.connected_clients, stats.total_subscriptions) == (3, 6)
    });
    let page = get_of(server.address(), "/api/stats").json();
    assert_eq!(page["connected_clients"], stats.connected_clients);
    assert_eq!(page["total_subscriptions"], stats.total_subscriptions);
    assert_eq!((page["channels"].as_u64(), stats.channels), (Some(3), 3));
    assert_eq!(page["connections_max"], stats.connections_max);
    drop(sockets);
    until("all have gone", || runtime.block_on(server.stats()).connected_clients == 0);
    runtime.block_on(server.stop(Duration::ZERO));
}

/// Rows 004-02 and 004-70: a collector of the program's own, with a channel and tags of its own.
#[test]
fn a_collector_runs_from_its_start_to_its_stop() {
    let runtime = runtime();
    let server = runtime.block_on(builder().start()).unwrap();
    let host = HostOptions {
        channel: "edge.metrics".to_owned(),
        tags: vec![("site".to_owned(), "north".to_owned())],
        ..HostOptions::default()
    };
    let options = CollectorOptions { interval: Duration::from_millis(1), host };
    let mut collector = Collector::new(&server, options);
    assert_eq!(collector.stats(), pulsewire::CollectorStats::default(), "it does nothing by itself");
    let token = server.token(&user("ann")).unwrap();
    let mut socket = welcomed(server.address(), &format!("/ws/metrics?token={token}"));
    subscribe(&mut socket, &json!(["edge.metrics"]));
    let running = || get_of(server.address(), "/api/stats").json()["collector"]["running"] == true;
    assert!(!running());
    runtime.block_on(async { collector.start() }).unwrap();
    runtime.block_on(async { collector.start() }).expect("it runs already");
    assert!(collector.stats().running && running());
    let metric = socket.json();
    assert_eq!(
        (&metric["channel"], &metric["tags"]["site"]),
        (&json!("edge.metrics"), &json!("north")),
        "{metric}"
    );
    until("its samples are counted", || collector.stats().samples > 0);
    let stats = collector.stats();
    assert!(stats.collections >= 2 && stats.last_took.is_some(), "{stats:?}");
    runtime.block_on(collector.stop());
    assert!(!collector.stats().running && !running());
    let after = collector.stats().collections;
    assert!(after >= stats.collections, "what it did stays");
    let page = get_of(server.address(), "/api/stats").json();
    assert_eq!(page["collector"]["collections"], after, "one collector, counted once");
    // Again, and then the server goes first.
    runtime.block_on(async { collector.start() }).unwrap();
    runtime.block_on(server.stop(Duration::ZERO));
    until("it ends with the server", || !collector.stats().running);
}

#[test]
fn a_collector_of_a_channel_that_is_none_is_refused() {
    let runtime = runtime();
    let server = runtime.block_on(builder().start()).unwrap();
    let host = HostOptions { channel: "no channel".to_owned(), ..HostOptions::default() };
    let mut collector = Collector::new(&server, CollectorOptions { host, ..CollectorOptions::default() });
    let error = runtime.block_on(async { collector.start() }).unwrap_err();
    assert!(error.to_string().contains("no channel"), "{error}");
    assert!(!collector.stats().running);
    runtime.block_on(server.stop(Duration::ZERO));
}

/// Pulsewire's own paths come first, everything else is the program's, its 404 included.
#[test]
fn the_programs_routes_stand_behind_those_of_the_server() {
    let runtime = runtime();
    let routes = Router::new()
        .route("/livez", get(|| async { "never seen" }))
        .route("/who", get(|ConnectInfo(who): ConnectInfo<SocketAddr>| async move { who.ip().to_string() }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not in the shop") });
    let server = runtime.block_on(builder().routes(|_| routes).start()).unwrap();
    let get = |path| get_of(server.address(), path);
    assert_eq!(get("/who").text(), "127.0.0.1");
    assert_eq!(get("/livez").json(), json!({ "status": "live" }));
    let unknown = get("/unknown");
    assert_eq!((unknown.status, unknown.text().as_str()), (404, "not in the shop"));
    assert_eq!(harness::http(server.address(), "POST", "/livez", "", "").status, 405);
    runtime.block_on(server.stop(Duration::ZERO));
}

#[test]
fn a_program_publishes_events_and_samples_without_a_request() {
    let runtime = runtime();
    let server = runtime.block_on(builder().start()).unwrap();
    let token = server.token(&user("ann")).unwrap();
    let mut socket = welcomed(server.address(), &format!("/ws?token={token}"));
    subscribe(&mut socket, &json!(["run:1", "workflow.metrics"]));
    let receipt = runtime.block_on(server.publish("run:1", "GRAFT", &json!({ "node": 7 }))).unwrap();
    assert_eq!((receipt.sequence.map(|it| it.0), receipt.matched, receipt.duplicate), (Some(1), 1, false));
    let event = socket.json();
    assert_eq!((&event["event"], &event["data"]), (&json!("GRAFT"), &json!({ "node": 7 })), "{event}");
    let sample = |name: &'static str, value: f64| Sample {
        name: name.into(),
        kind: MetricKind::Gauge,
        value: value.into(),
        tags: Tags::default(),
        timestamp_ms: None,
    };
    let samples = vec![sample("success_rate", 95.0), sample("success_rate", f64::NAN)];
    let receipt = server.publish_samples("workflow.metrics", samples).unwrap();
    assert_eq!((receipt.accepted, receipt.refused.len(), receipt.matched), (1, 1, 1));
    assert_eq!(socket.json()["channel"], "workflow.metrics");

    let refused = |channel: &str, kind: &str| {
        let refusal = runtime.block_on(server.publish(channel, kind, &json!(null))).unwrap_err();
        refusal.code
    };
    assert_eq!(refused("no channel", "A"), ErrorCode::InvalidChannel);
    assert_eq!(refused("run:1", "no type"), ErrorCode::BadRequest);
    assert_eq!(refused("nobody", "A"), ErrorCode::UnknownChannel);
    let much = runtime.block_on(server.publish("run:1", "A", &"x".repeat(2 << 20))).unwrap_err();
    assert_eq!((much.code, much.detail.contains("http_body_bytes_max")), (ErrorCode::TooLarge, true));
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!([deep]);
    }
    let deep = runtime.block_on(server.publish("run:1", "A", &deep)).unwrap_err();
    assert_eq!(deep.code, ErrorCode::BadRequest, "{deep:?}");
    assert_eq!(server.publish_samples("run:1", vec![sample("a", 1.0)]), Err(ErrorCode::Unsupported));
    assert_eq!(server.publish_samples("no channel", Vec::new()), Err(ErrorCode::InvalidChannel));
    let page = get_of(server.address(), "/metrics").text();
    let count = |series| harness::series_of(&page, series);
    assert_eq!(count("pulsewire_publish_total{source=\"source\",outcome=\"accepted\"}"), Some(1.0));
    assert_eq!(count("pulsewire_publish_total{source=\"source\",outcome=\"rejected\"}"), Some(5.0));
    let handle = server.handle();
    runtime.block_on(server.stop(Duration::ZERO));
    let refusal = runtime.block_on(handle.publish("run:1", "A", &json!(null))).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::Draining);
    assert_eq!(handle.publish_samples("workflow.metrics", Vec::new()), Err(ErrorCode::Draining));
}

#[test]
fn everything_that_is_wrong_with_the_settings_is_told_at_once() {
    let built =
        Server::builder().setting("heartbeat.interval", "never").setting("no.key", 1).jwt_secret("short");
    let Err(StartError::Settings(problems)) = runtime().block_on(built.start()) else { panic!("refused") };
    let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for part in ["heartbeat.interval", "unknown key `no.key`", "auth.secret"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let Err(StartError::Start(error)) = runtime().block_on(builder().listen(&address).start()) else {
        panic!("refused")
    };
    assert!(format!("{error:#}").contains(&address), "{error:#}");
}

fn user(sub: &str) -> pulsewire::NewToken {
    pulsewire::NewToken {
        sub: sub.to_owned(),
        role: pulsewire::Role::User,
        ttl: PATIENCE * 60,
        channels: vec![pulsewire::ChannelPattern::parse("*").unwrap()],
        actions: pulsewire::Actions::ALL,
    }
}
