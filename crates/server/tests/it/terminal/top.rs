//! `pulsewire top` as a person sees it, in tmux; and what it prints where nobody can see it.

use std::process::Command;

use serde_json::{Value, json};

use super::fixture::Fixture;
use super::lists::{connections, overview};
use crate::child::{pulsewire, run};
use crate::harness::until;

/// A terminal of 110 columns and 24 lines in which a command runs. It ends with the value.
struct Pane(String);

impl Pane {
    fn open(arguments: &[&str]) -> Pane {
        let pane = Pane(format!("pulsewire-test-{}", std::process::id()));
        let program = env!("CARGO_BIN_EXE_pulsewire");
        let line = [&[program], arguments].concat().join(" ");
        pane.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "110", "-y", "24", &line]);
        pane
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.0]).args(arguments).output();
        let output = output.expect("tmux is installed: cargo xtask setup");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn shown(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    #[track_caller]
    fn wait_for(&self, words: &str) -> String {
        let mut shown = String::new();
        until(&format!("{words:?} is shown"), || {
            shown = self.shown();
            shown.contains(words)
        });
        shown
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

fn fixture() -> Fixture {
    let alerts = json!({"at": "2026-11-22T02:00:00Z", "total": 1, "matched": 1,
        "rows": [{"id": "latency", "state": "firing", "severity": "critical", "value": 612, "limit": 500, "unit": "ms", "title": "Message latency"}]});
    let one = json!({"id": "01JA", "userId": "alice", "causeText": "it does not read", "timeline": [{"text": "opened from 127.0.0.1"}]});
    Fixture::start(vec![
        ("/api/admin/overview", 200, overview()),
        (
            "/api/admin/history",
            200,
            json!({"figures": {"connections.active": [5_000], "messages.out": [1, 2], "latency.p95": [1]}}),
        ),
        ("/api/admin/connections/01JA", 200, one),
        ("/api/admin/connections", 200, connections()),
        ("/api/admin/alerts", 200, alerts),
        ("/api/admin/websocket/disconnect", 200, json!({"closed": 1})),
    ])
}

#[test]
fn a_person_sees_who_is_worst_looks_closer_and_sends_them_away() {
    let fixture = fixture();
    let pane = Pane::open(&["top", "--url", &format!("ws://{}", fixture.address), "--token", "t"]);
    let first = pane.wait_for("alice");
    for words in
        ["healthy", "conns 4.81k (peak 5.00k)", "[1 connections]", "client_not_reading", "1 of 14 that match"]
    {
        assert!(first.contains(words), "{words}:\n{first}");
    }
    pane.press("Enter");
    assert!(pane.wait_for("it does not read").contains("opened from 127.0.0.1"));
    pane.press("Escape");
    // A key right behind it would be read as one with Alt.
    until("the page is closed", || !pane.shown().contains("it does not read"));
    pane.press("x");
    pane.wait_for("close every connection of alice (01JA)?");
    pane.press("y");
    until("it is closed", || fixture.asked().iter().any(|asked| asked.ends_with(r#"{"session":"01JA"}"#)));
    pane.press("5");
    assert!(pane.wait_for("Message latency").contains("firing"));
    pane.press("?");
    pane.wait_for("these keys");
    pane.press("q");
    pane.press("q");
    // The session of tmux ends with its command.
    until("it is left", || pane.shown().is_empty());
}

#[test]
fn without_a_terminal_it_is_a_document_or_lines() {
    let fixture = fixture();
    let ask = |more: &[&str]| {
        run(pulsewire()
            .args(["top", "--url", &format!("ws://{}", fixture.address), "--token", "t"])
            .args(more))
    };
    let once = ask(&["--once", "-o", "json", "--sort", "-queue"]);
    let document: Value = serde_json::from_str(&once.out).unwrap();
    assert_eq!((&document["overview"], &document["connections"]), (&overview(), &connections()), "{once:?}");
    assert!(fixture.asked().contains(&"GET /api/admin/connections?sort=-queue".to_owned()));
    let table = ask(&["--once"]);
    assert!(table.out.contains("CONNS") && table.out.contains("alice"), "{table:?}");
}
