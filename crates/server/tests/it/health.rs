//! How the node says how it is.

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Instant;

use pulsewire_hub::Order;
use serde_json::json;

use crate::harness::{PATIENCE, Server};

/// A shard that does nothing until this is dropped.
pub(crate) struct Stall(#[expect(dead_code, reason = "dropping it lets the shard go on")] mpsc::Sender<()>);

/// Holds a shard inside of an answer.
pub(crate) fn stall(server: &Server, shard: usize) -> Stall {
    let (held, release) = mpsc::channel::<()>();
    let (entered, enter) = mpsc::channel();
    let reply = Box::new(move |_| {
        let _ = entered.send(());
        // Ends when the stall is dropped.
        let _ = release.recv();
    });
    server.app().hub.order(shard, Order::Survey(reply));
    enter.recv_timeout(PATIENCE).expect("the shard has taken the order");
    Stall(held)
}

fn status(server: &Server, method: &str, path: &str) -> u16 {
    server.http(method, path, "", "").status
}

/// Waits until a path answers with a status.
fn wait_status(server: &Server, path: &str, expected: u16) {
    let until = Instant::now() + PATIENCE;
    while status(server, "GET", path) != expected {
        assert!(Instant::now() < until, "{path} never answers {expected}");
    }
}

/// Row 001-45.
#[test]
fn health_has_document_001s_shape_and_counts_connections() {
    let server = Server::start("");
    let _sockets = [server.welcomed("ann"), server.welcomed("bob")];
    let answer = server.get("/health/websocket");
    assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, "application/json"));
    let health = answer.json();
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["activeConnections"], 2);
    assert_eq!(health["reasons"], json!([]));
    let timestamp = health["timestamp"].as_str().unwrap();
    assert!(timestamp.ends_with('Z') && timestamp.parse::<jiff::Timestamp>().is_ok(), "{timestamp}");
}

/// Rows 001-90 and 001-91: full is not unhealthy, but it is said.
#[test]
fn above_the_soft_limit_the_node_is_degraded_and_still_ready() {
    let server = Server::start("[limits]\nconnections_soft = 1\nconnections_max = 2\n");
    let _sockets = [server.welcomed("ann"), server.welcomed("bob")];
    let health = server.get("/health/websocket");
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("degraded")));
    assert_eq!(health.json()["reasons"].as_array().unwrap().len(), 2);
    assert_eq!(status(&server, "GET", "/readyz"), 200);
}

/// Row 002-12: HEAD says how the node is, and GET keeps answering.
#[test]
fn a_draining_node_is_alive_and_not_ready() {
    let server = Server::start("");
    for path in ["/livez", "/readyz", "/health/websocket"] {
        assert_eq!(status(&server, "GET", path), 200, "{path}");
        assert_eq!(status(&server, "HEAD", path), 200, "{path}");
    }
    assert_eq!(status(&server, "HEAD", "/api/ws/metrics"), 200);
    server.app().stopping.store(true, Ordering::Relaxed);
    server.app().draining.store(true, Ordering::Relaxed);
    wait_status(&server, "/readyz", 503);
    assert_eq!(server.get("/readyz").json()["reasons"], json!(["the server is stopping"]));
    assert_eq!(server.get("/health/websocket").json()["status"], "unhealthy");
    assert_eq!(status(&server, "GET", "/health/websocket"), 503);
    assert_eq!(status(&server, "GET", "/livez"), 200);
    let head = server.http("HEAD", "/api/ws/metrics", "", "");
    assert_eq!((head.status, head.body.len(), head.headers["retry-after"].as_str()), (503, 0, "1"));
    for path in ["/metrics", "/api/metrics", "/actuator/prometheus", "/api/ws/metrics", "/api/stats"] {
        assert_eq!(status(&server, "GET", path), 200, "{path}");
    }
}

/// Operations §0 point 3: metrics must not vanish when they are needed.
#[test]
fn a_stalled_shard_makes_the_node_unhealthy_and_leaves_the_metrics() {
    let server = Server::start("");
    let _sockets = [server.welcomed("ann"), server.welcomed("bob")];
    assert_eq!(server.get("/health/websocket").json()["activeConnections"], 2);
    let stall = stall(&server, 0);
    wait_status(&server, "/livez", 503);
    let health = server.get("/health/websocket");
    assert_eq!((health.status, &health.json()["status"]), (503, &json!("unhealthy")));
    assert_eq!(health.json()["activeConnections"], 2, "what was last known");
    assert_eq!(status(&server, "GET", "/readyz"), 503);
    assert_eq!(status(&server, "HEAD", "/api/ws/metrics"), 503);
    let page = server.get("/metrics");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("\nwebsocket_active_connections 2\n"));
    drop(stall);
    wait_status(&server, "/livez", 200);
    assert_eq!(status(&server, "HEAD", "/api/ws/metrics"), 200);
}

/// Row 004-69.
#[test]
fn stats_count_clients_and_subscriptions() {
    let server = Server::start("");
    let mut ann = server.welcomed("ann");
    let answer = ann.ask(&json!({ "type": "subscribe", "channels": ["run:1", "run:2"] }));
    assert_eq!(answer["type"], "subscribed");
    let stats = server.get("/api/stats").json();
    assert_eq!(stats["connected_clients"], 1);
    assert_eq!(stats["total_subscriptions"], 2);
    assert_eq!(stats["channels"], 2);
    assert_eq!(stats["sessions_detached"], 0);
    let nothing = json!({ "running": false, "collections": 0, "samples": 0, "last_took_seconds": null });
    assert_eq!(stats["collector"], nothing);
    assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
    assert!(stats["uptime_seconds"].is_u64());
}

/// Row 000-01: what operators need is on the internal address, and nothing else.
#[test]
fn the_internal_address_shows_metrics_and_health_and_takes_no_clients() {
    // An address of its own, so that no other test's port is in the way.
    let internal: std::net::SocketAddr = "127.0.0.7:18099".parse().unwrap();
    let server = Server::start(&format!("[server]\ninternal_listen = \"{internal}\"\n"));
    let _ann = server.welcomed("ann");
    let get = |path: &str| crate::harness::http(internal, "GET", path, "", "");
    let page = get("/metrics");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("\nwebsocket_active_connections 1\n"), "{}", page.text());
    for path in ["/livez", "/readyz", "/health/websocket", "/api/ws/metrics"] {
        assert_eq!(get(path).status, 200, "{path}");
    }
    for path in ["/ws", "/api/publish", "/api/channels/run:1/events"] {
        assert_eq!(get(path).status, 404, "{path}");
    }
}
