//! Row by row through §5.4 of the fault catalogue: readers that do not read, with the kernel's own buffers.
//!
//! The slow client has a small receive buffer and stops reading. What it may cost is its outbox and
//! the kernel's share; what it gets afterwards is complete, or says exactly what is missing. Another
//! client of the same channels is not affected (G*).

use std::collections::BTreeMap;

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::harness::{Server, Socket, handshake, until};

const OUTBOX_BYTES: f64 = 16_384.0;

fn server(more: &str) -> Server {
    let limits = "[limits]\noutbox_bytes_max = \"16KiB\"\nkernel_unsent_bytes = \"4KiB\"\n";
    Server::start(&format!("{limits}{more}"))
}

/// A client whose kernel takes little, subscribed to a channel.
fn subscribed(server: &Server, channel: &str) -> Socket {
    let mut socket = Socket::connect_small(server.address);
    let token = server.token("slow", Role::User);
    socket.send(handshake("/ws", &format!("Authorization: Bearer {token}\r\n")).as_bytes());
    assert_eq!(socket.head().status, 101);
    assert_eq!(socket.json()["type"], "welcome");
    assert_eq!(socket.ask(&json!({"type": "subscribe", "channels": [channel]}))["type"], "subscribed");
    socket
}

/// A client that reads all the time: it is given every event before the next few are published.
struct Fast {
    socket: Socket,
    heard: usize,
}

impl Fast {
    fn new(server: &Server, channel: &str) -> Self {
        let mut socket = server.welcomed("fast");
        assert_eq!(socket.ask(&json!({"type": "subscribe", "channels": [channel]}))["type"], "subscribed");
        Self { socket, heard: 0 }
    }

    /// Publishes `count` events of half a KiB and hears each once and in order (G*).
    fn publish(&mut self, server: &Server, channel: &str, count: usize) {
        let pad = "x".repeat(450);
        let event = |number| json!({"channel": channel, "type": "note", "data": {"n": number, "pad": pad}});
        let all: Vec<Value> = (self.heard..self.heard + count).map(event).collect();
        for few in all.chunks(20) {
            server.publish(&json!(few));
            for _ in few {
                assert_eq!(self.socket.json()["data"]["n"], self.heard);
                self.heard += 1;
            }
            let queued = server.metric("websocket_outbound_queue_bytes");
            assert!(queued <= OUTBOX_BYTES, "{queued} bytes wait");
        }
    }
}

/// Row L1: everything that is kept comes after all, once and in order.
#[test]
fn a_log_reader_that_lags_gets_everything_when_it_reads_again() {
    const EVENTS: usize = 4_000;
    let server =
        server("[[namespace]]\nname = \"run\"\npattern = \"run:*\"\nkind = \"log\"\nhistory_max = 10000");
    let mut fast = Fast::new(&server, "run:1");
    let mut slow = subscribed(&server, "run:1");
    fast.publish(&server, "run:1", EVENTS);
    server.wait_metric("websocket_slow_consumer_total{action=\"lag\"}", 1.0);
    for sequence in 1..=EVENTS {
        let event = slow.json();
        assert_eq!((&event["type"], &event["sequence"]), (&json!("event"), &json!(sequence)), "{event}");
    }
    fast.publish(&server, "run:1", 1);
    assert_eq!(slow.json()["sequence"], EVENTS + 1, "and is live again");
    server.wait_metric("websocket_outbound_queue_bytes", 0.0);
}

/// Row L1: what retention has removed meanwhile is a gap with its exact range.
#[test]
fn a_log_reader_that_lags_beyond_retention_is_told_exactly_what_is_missing() {
    const EVENTS: usize = 3_000;
    let server =
        server("[[namespace]]\nname = \"run\"\npattern = \"run:*\"\nkind = \"log\"\nhistory_max = 100");
    let mut fast = Fast::new(&server, "run:1");
    let mut slow = subscribed(&server, "run:1");
    fast.publish(&server, "run:1", EVENTS);
    let (mut next, mut gaps) = (1_u64, 0);
    while next <= EVENTS as u64 {
        let message = slow.json();
        match message["type"].as_str().unwrap() {
            "event" => {
                assert_eq!(message["sequence"], next, "neither a hole nor a repetition");
                next += 1;
            }
            "gap" => {
                assert_eq!((&message["from"], &message["reason"]), (&json!(next), &json!("trimmed")));
                next = message["to"].as_u64().unwrap() + 1;
                gaps += 1;
            }
            _ => panic!("{message}"),
        }
    }
    assert!(gaps >= 1, "retention kept 100 of {EVENTS}");
    assert_eq!(server.metric("pulsewire_gaps_total{reason=\"trimmed\"}"), f64::from(gaps));
    fast.publish(&server, "run:1", 1);
    assert_eq!(slow.json()["sequence"], EVENTS + 1);
}

/// Row L2: of values only the newest matter, and how many were merged is said.
#[test]
fn a_metrics_reader_that_lags_gets_the_newest_values_and_the_number_merged() {
    const SETS: usize = 3_000;
    let server = server("");
    let mut slow = subscribed(&server, "app.metrics");
    let names: Vec<&'static str> =
        vec!["a.one", "a.two", "a.three", "b.one", "b.two", "b.three", "c.one", "c.two"];
    for number in 0..SETS {
        let values: Vec<(&'static str, f64)> = names.iter().map(|name| (*name, number as f64)).collect();
        server.publish_values("app.metrics", 1_699_459_200_000 + number as i64 * 1_000, &values);
        if number % 500 == 0 {
            assert!(server.metric("websocket_outbound_queue_bytes") <= OUTBOX_BYTES);
        }
    }
    until("values are merged", || server.metric("websocket_slow_consumer_total{action=\"conflate\"}") >= 1.0);
    let (mut heard, mut merged, mut last) = (0, 0, -1.0);
    while last < (SETS - 1) as f64 {
        let message = slow.json();
        if message["type"] == "dropped" {
            assert_eq!(message["channel"], "app.metrics");
            merged += message["count"].as_u64().unwrap();
        } else {
            let value = message["a"]["one"].as_f64().unwrap();
            assert!(value > last, "{value} after {last}");
            assert_eq!(message["c"]["two"], value, "a document is of one moment");
            last = value;
            heard += 1;
        }
    }
    // The newest of the merged values was sent after the notice.
    assert_eq!(heard + merged, SETS as u64 + 1, "{heard} heard, {merged} merged");
}

/// Row L3: what was dropped is counted exactly, and what comes keeps its order.
#[test]
fn an_ephemeral_reader_that_lags_is_told_how_many_events_it_missed() {
    const EVENTS: usize = 3_000;
    let server = server("");
    let mut fast = Fast::new(&server, "upstream:1");
    let mut slow = subscribed(&server, "upstream:1");
    fast.publish(&server, "upstream:1", EVENTS);
    let (mut heard, mut dropped, mut next) = (0, 0, 0);
    while next < EVENTS as u64 || dropped == 0 {
        let message = slow.json();
        if message["type"] == "dropped" {
            dropped += message["count"].as_u64().unwrap();
        } else {
            let number = message["data"]["n"].as_u64().unwrap();
            assert!(number >= next, "{number} after {next}");
            next = number + 1;
            heard += 1;
        }
    }
    assert_eq!(heard + dropped, EVENTS as u64, "{heard} heard, {dropped} dropped");
    assert_eq!(server.metric("websocket_messages_dropped_total{reason=\"queue_full\"}"), dropped as f64);
    fast.publish(&server, "upstream:1", 1);
    assert_eq!(slow.json()["data"]["n"], EVENTS);
}

/// Row L4: who never reads again is closed, can resume, and leaves no socket behind.
#[test]
fn a_reader_that_reads_nothing_is_closed_as_slow_and_its_socket_goes() {
    let server = server("slow_after = \"1s\"");
    let mut fast = Fast::new(&server, "run:1");
    let slow = subscribed(&server, "run:1");
    fast.publish(&server, "run:1", 400);
    server.wait_metric("websocket_closes_total{code=\"4004\",initiator=\"server\"}", 1.0);
    assert_eq!(server.metric("websocket_slow_consumer_total{action=\"close\"}"), 1.0);
    assert_eq!(
        server.metric("pulsewire_disconnects_total{reason=\"slow_consumer\",initiator=\"server\"}"),
        1.0
    );
    server.wait_metric("websocket_outbound_queue_bytes", 0.0);
    server.wait_metric("websocket_active_connections", 1.0);
    assert_eq!(server.metric("pulsewire_sessions_detached"), 1.0);
    let (own, peer) = (server.address.port(), slow.stream().local_addr().unwrap().port());
    until("the kernel has let the socket go", || !sockets().contains_key(&(own, peer)));
    fast.publish(&server, "run:1", 20);
}

/// The kernel's TCP sockets by local and remote port, with their state.
fn sockets() -> BTreeMap<(u16, u16), String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let entry = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (own, peer, state) = (fields.next()?, fields.next()?, fields.next()?);
        Some(((port(own)?, port(peer)?), state.to_owned()))
    };
    table.lines().skip(1).filter_map(entry).collect()
}
