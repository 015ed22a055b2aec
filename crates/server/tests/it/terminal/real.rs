//! `conns`, `channels`, `stat`, `alerts`, `drain` and `top --once` against a real server.

use pulsewire_hub::Role;
use serde_json::Value;

use super::against;
use crate::harness::{Server, until};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn who_is_there_is_listed_shown_and_sent_away() {
    let server = Server::start("");
    let mut alice = server.welcomed("alice");
    let _bob = server.welcomed("bob");
    alice.text(r#"{"type":"subscribe","channels":["run:7"]}"#);
    assert_eq!(alice.json()["type"], "subscribed");
    let listed = against(&server, Role::Viewer, &["conns", "ls", "--filter", "user:alice", "-o", "jsonl"]);
    let row = json(&listed.out);
    assert_eq!(
        (listed.code, &row["userId"], &row["subscriptions"]),
        (Some(0), &"alice".into(), &1.into()),
        "{listed:?}"
    );
    let table = against(&server, Role::Viewer, &["conns", "ls"]).out;
    assert!(table.starts_with("SCORE") && table.contains("alice") && table.contains("bob"), "{table}");
    let id = row["id"].as_str().unwrap();
    let shown = against(&server, Role::Viewer, &["conns", "show", id]);
    assert!(shown.out.contains("subscriptions\n") && shown.out.contains("run:7"), "{shown:?}");
    assert!(shown.out.contains("timeline\n"), "{shown:?}");
    let wrong = against(&server, Role::Viewer, &["conns", "ls", "--filter", "colour:red"]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");

    let refused = against(&server, Role::Viewer, &["conns", "kill", id, "--yes"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains("--role operator"), "{}", refused.err);
    let done = against(&server, Role::Operator, &["conns", "kill", id, "--yes"]);
    assert_eq!((done.code, done.out.as_str()), (Some(0), "1 closed\n"), "{done:?}");
    assert_eq!(alice.closed_with(), 1013);
}

#[test]
fn channels_are_listed_and_shown_with_their_readers() {
    let server = Server::start("");
    let mut alice = server.welcomed("alice");
    alice.text(r#"{"type":"subscribe","channels":["run:7"]}"#);
    assert_eq!(alice.json()["type"], "subscribed");
    let listed = against(&server, Role::Viewer, &["channels", "ls", "--filter", "prefix:run", "-o", "jsonl"]);
    let row = json(&listed.out);
    assert_eq!((&row["channel"], &row["subscribers"]), (&"run:7".into(), &1.into()), "{listed:?}");
    let shown = against(&server, Role::Viewer, &["channels", "show", "run:7"]);
    assert!(shown.out.contains("readers\n") && shown.out.contains("alice"), "{shown:?}");
    let groups = against(&server, Role::Viewer, &["channels", "ls", "--group", "kind"]);
    assert!(groups.out.starts_with("GROUP") && groups.err.is_empty(), "{groups:?}");
}

/// The figures that are shown are figures the server has.
#[test]
fn stat_and_top_show_figures_that_there_are() {
    let server = Server::start("");
    let _alice = server.welcomed("alice");
    let look = against(&server, Role::Viewer, &["stat", "-n", "1", "-o", "jsonl"]);
    let figures = json(&look.out)["figures"].clone();
    for figure in [
        "connections.active",
        "connections.opened",
        "connections.closed",
        "connections.failed",
        "messages.in",
        "messages.out",
        "latency.p50",
        "latency.p95",
        "latency.p99",
        "dropped.rate",
        "outbox.bytes",
        "cpu.process",
        "memory.rss",
        "memory.per_connection",
    ] {
        assert!(figures.get(figure).is_some(), "{figure} is none of {figures}");
    }
    let once = json(&against(&server, Role::Viewer, &["top", "--once", "-o", "json"]).out);
    assert_eq!(once["connections"]["rows"][0]["userId"], "alice");
    assert_eq!(once["overview"]["tiles"].as_array().map(Vec::len), Some(6));
    let refused = against(&server, Role::User, &["stat", "-n", "1"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains("--role viewer"), "{}", refused.err);
}

#[test]
fn alerts_are_silenced_and_a_node_is_drained_by_operators() {
    let server = Server::start("");
    let listed = against(&server, Role::Viewer, &["alerts", "ls"]);
    assert!(listed.out.starts_with("ALERT") && listed.out.contains("latency"), "{listed:?}");
    let refused = against(&server, Role::Viewer, &["alerts", "silence", "latency"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    let done = against(&server, Role::Operator, &["alerts", "silence", "latency", "--minutes", "5"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let rows = against(&server, Role::Viewer, &["alerts", "ls", "-o", "jsonl"]).out;
    let latency = rows.lines().map(json).find(|row| row["id"] == "latency").unwrap();
    assert!(latency["silencedUntil"].is_string(), "{latency}");
    let done = against(&server, Role::Operator, &["drain", "on", "--yes"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    until("clients are sent elsewhere", || server.get("/readyz").status == 503);
    assert_eq!(against(&server, Role::Operator, &["drain", "off"]).code, Some(0));
    until("clients are let in", || server.get("/readyz").status == 200);
}
