//! Every panel of every dashboard, asked of a real Prometheus that scrapes a real server under a little load.
//!
//! An answer is data: a series with a number. A name that is misspelt, a label that is not there, a quantile over no
//! buckets or two sides that never match all answer with nothing, and nothing else tells them from a quiet server.

use std::fs;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;

use pulsewire::auth::Role;
use pulsewire::settings::Settings;
use pulsewire_edge::clock;
use pulsewire_operations::dashboards;
use serde_json::{Value, json};

use crate::child::Folder;
use crate::harness::{Answer, Server, Socket, bearer, handshake};
use crate::monitoring::{self, Prometheus, free_address, hastened, shipped, wait};
use crate::reading::{Stream, later};

/// Queries that find nothing while nothing is wrong or something is not in use: the panel, a part of the query, and why.
const EMPTY: [(&str, &str, &str); 15] = [
    ("Alert States", "WebSocketHighErrorRate", "none of these fires"),
    ("Alert States", "HighWebSocketConnections", "none of these fires"),
    ("Alert States", "CollaborationHighLatency", "none of these fires"),
    ("Alert States", "MetricsStreamDeliverySlow", "none of these fires"),
    ("Certificate", "", "the server speaks no TLS"),
    ("Redis", "pulsewire_redis_connected", "no Redis is set"),
    ("Redis", "pulsewire_redis_streams_connected", "no streams of Redis are set"),
    ("Redis Streams: Waiting", "", "no streams of Redis are set"),
    ("Failed Connections", "pulsewire_handshakes_waiting", "nobody waits for a place"),
    ("Broker", "", "the server is no node of several"),
    ("Lag of the Broker", "", "the server is no node of several"),
    ("Queue to the Broker", "", "the server is no node of several"),
    ("Clocks", "", "the server is no node of several"),
    ("Failed Attempts by Track", "", "no stream to an upstream was attempted"),
    ("Failed Attempts by Settings", "", "no stream to an upstream was attempted"),
];

/// What Grafana puts in place of its variables, nothing being chosen. Rates look back over the whole test.
const VARIABLES: [(&str, &str); 7] = [
    ("$__rate_interval", "2m"),
    ("$quantile", "0.95"),
    ("$namespace", ".*"),
    ("$cluster", ".*"),
    ("$instance", "(one|two|gone)"),
    ("$track", ".*"),
    ("$job", "(pulsewire)"),
];

/// A query of a panel.
struct Asked {
    board: String,
    panel: String,
    expression: String,
}

/// Queries that have found nothing yet; told if they never do.
struct Missing(Vec<Asked>);

impl Drop for Missing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for Asked { board, panel, expression } in &self.0 {
                eprintln!("nothing is found by {board}: {panel}: {expression}");
            }
        }
    }
}

#[test]
fn every_panel_shows_something() {
    if monitoring::left_out() {
        return;
    }
    let server = Server::start(
        "[heartbeat]\ninterval = \"5s\"\ntimeout = \"5s\"\n[collector]\ninterval = \"250ms\"\n\
         [hook]\nurl = \"http://127.0.0.1:1/\"\nallow_private = true\n[[namespace]]\nname = \"run\"\npattern = \"run:*\"\nkind = \"log\"\nhistory_max = 1000\n",
    );
    let folder = Folder::new();
    let prometheus = Prometheus::start(configured(&folder, server.address), folder.path());
    // What is counted before the first scrape is no increase.
    wait("both targets were scraped", || prometheus.query("up == 1").len() == 2);
    let load = Load::on(&server);
    let mut missing = Missing(asked());
    assert!(missing.0.len() > 200, "{}", missing.0.len());
    wait("every panel shows something", || {
        // When a client received something is sampled, so there has to be something to sample.
        said(&server);
        missing.0.retain(|asked| !has_data(&prometheus, &asked.expression));
        missing.0.is_empty()
    });
    drop(load);
    for name in ["cluster", "namespace", "job", "instance", "track"] {
        let values = prometheus.query(&format!("count by ({name}) (pulsewire_build_info{{{name}!=\"\"}})"));
        assert!(!values.is_empty(), "the variable {name} has nothing to choose from");
    }
}

/// Whether Prometheus answers with a number.
fn has_data(prometheus: &Prometheus, expression: &str) -> bool {
    prometheus.query(expression).iter().any(|(_, value)| !value.is_nan())
}

/// Every query of every panel, as Grafana asks it.
fn asked() -> Vec<Asked> {
    let mut all = Vec::new();
    for dashboard in dashboards::all(&pulsewire::pack::pack(&Settings::default())) {
        let board: Value = serde_json::from_str(&dashboard.to_json()).unwrap();
        let panels = board["panels"].as_array().unwrap().iter();
        let panels = panels
            .flat_map(|panel| [panel].into_iter().chain(panel["panels"].as_array().into_iter().flatten()));
        for panel in panels.filter(|panel| panel["type"] != "row") {
            for target in panel["targets"].as_array().unwrap() {
                let expression = target["expr"].as_str().unwrap().to_owned();
                let expression =
                    VARIABLES.iter().fold(expression, |text, (name, value)| text.replace(name, value));
                let panel = panel["title"].as_str().unwrap().to_owned();
                all.push(Asked { board: dashboard.title().to_owned(), panel, expression });
            }
        }
    }
    for (panel, part, why) in EMPTY {
        let before = all.len();
        all.retain(|asked| asked.panel != panel || !asked.expression.contains(part));
        assert_ne!(all.len(), before, "no query is excused by {panel}, {part}: {why}");
    }
    all
}

/// A configuration that scrapes the server each second as two, a stable one and a canary, and one that is gone; with the
/// shipped rules, which are evaluated as often.
fn configured(folder: &Folder, server: SocketAddr) -> SocketAddr {
    let own = free_address();
    let target = |address: SocketAddr, instance: &str, track: &str| {
        format!(
            "      - targets: ['{address}']\n        labels: {{cluster: local, namespace: tests, instance: {instance}, track: {track}}}\n"
        )
    };
    let targets = [
        target(server, "one", "stable"),
        target(server, "two", "canary"),
        target(free_address(), "gone", "stable"),
    ];
    folder.write(
        "prometheus.yml",
        &format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules/*.yml]\nscrape_configs:\n  - job_name: \
             pulsewire\n    static_configs:\n{}",
            targets.concat()
        ),
    );
    let rules = folder.path().join("rules");
    fs::create_dir_all(&rules).unwrap();
    for entry in fs::read_dir(shipped("prometheus/rules")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(rules.join(path.file_name().unwrap()), hastened(&text, 30)).unwrap();
    }
    own
}

/// Clients of every kind, and what stays open while Prometheus is asked.
struct Load {
    _open: Vec<Kept>,
    _stream: Stream,
    _poll: JoinHandle<Answer>,
}

/// A client that does nothing any more but answer pings, until it is dropped.
struct Kept(TcpStream);

impl Kept {
    fn new(mut socket: Socket) -> Self {
        let stream = socket.stream().try_clone().unwrap();
        std::thread::spawn(move || {
            while let Some(frame) = socket.next() {
                if frame.opcode == 9 {
                    socket.frame(0x8a, &frame.payload);
                }
            }
        });
        Self(stream)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // The server may have closed it first.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Load {
    fn on(server: &Server) -> Self {
        said(server);
        let mut ann = server.welcomed("ann");
        let wanted = json!([{"channel": "run:1", "last": 5}, "project:7", "app.metrics"]);
        ann.say(&json!({"type": "subscribe", "channels": wanted}));
        until_type(&mut ann, "replay_end");
        let stream = Stream::of(server, "/api/channels/run:1/sse", "");
        let poll = later(server, "/api/channels/run:1/poll?after=1000&wait=30s");
        let viewer = watched(server);
        let far = published(server, &mut ann);
        said(server);
        ann.say(&json!({"type": "ping", "report": {"queued": 3, "handler_ms": 12.5, "visible": true}}));
        until_type(&mut ann, "pong");
        failed(server);
        Self { _open: [ann, viewer, far].map(Kept::new).into(), _stream: stream, _poll: poll }
    }
}

/// An event and a value.
fn said(server: &Server) {
    server.publish(&json!({"channel": "run:1", "type": "agent:status", "data": null}));
    server.publish_values("app.metrics", clock::now().wall_ms, &[("cpu.percent", 12.5)]);
}

/// An operator who watches.
fn watched(server: &Server) -> Socket {
    let mut viewer = server.welcomed_as("vic", Role::Viewer);
    viewer.say(&json!({"type": "subscribe", "channels": ["$sys.overview"]}));
    until_type(&mut viewer, "event");
    viewer
}

/// A client's event, received and acknowledged, after the publisher's way was measured.
fn published(server: &Server, reader: &mut Socket) -> Socket {
    let mut far = server.welcomed_as("far", Role::Publisher);
    pinged(&mut far);
    let rtt = "websocket_heartbeat_rtt_milliseconds_count";
    monitoring::wait("the heartbeat was answered", || server.metric(rtt) > 0.0);
    far.say(&json!({"type": "publish", "channel": "run:1", "event": "message:new", "data": {"n": 1}}));
    until_type(&mut far, "ack");
    let heard = until_type(reader, "event");
    reader.say(&json!({"type": "receipt", "channel": "run:1", "sequence": heard["sequence"]}));
    far
}

/// What goes wrong: tokens, bytes, connections that end.
fn failed(server: &Server) {
    let mut refused = server.connect();
    refused.send(handshake("/ws", &bearer("nonsense")).as_bytes());
    assert_eq!(refused.head().status, 401);
    let mut wrong = server.welcomed("bob");
    // Nobody listens on port 1, where the hook is said to be.
    for text in [r#"{"type": "task_assign", "data": {}}"#, "{"] {
        wrong.text(text);
        until_type(&mut wrong, "error");
    }
    drop(wrong);
}

/// The next message of that type; pings on the way are answered.
fn until_type(socket: &mut Socket, wanted: &str) -> Value {
    loop {
        let frame = socket.next().expect("the connection is open");
        match frame.opcode {
            9 => socket.frame(0x8a, &frame.payload),
            1 if frame.json()["type"] == wanted => return frame.json(),
            _ => {}
        }
    }
}

/// Waits for a ping and answers it.
fn pinged(socket: &mut Socket) {
    let ping = loop {
        let frame = socket.next().expect("the connection is open");
        if frame.opcode == 9 {
            break frame;
        }
    };
    socket.frame(0x8a, &ping.payload);
}
