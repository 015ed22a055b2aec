//! `stat`, `conns`, `channels`, `alerts` and `drain`, by documents of the contract.

use serde_json::{Value, json};

use super::fixture::Fixture;
use crate::child::{Ended, pulsewire, run};

pub(super) fn overview() -> Value {
    json!({"at": "2026-11-22T02:00:00.000Z", "status": "healthy", "reasons": [], "counts": {"alerts": 0},
        "figures": {"connections.active": 4812, "messages.out": 12_345.6, "latency.p95": 3.2, "memory.rss": 123_000_000}})
}

pub(super) fn connections() -> Value {
    json!({"revision": 1, "at": "2026-11-22T02:00:00.000Z", "total": 10_000, "matched": 14, "tabs": {"active": 10_000},
        "rows": [{"id": "01JA", "userId": "alice", "state": "slow", "score": 35, "cause": "client_not_reading",
            "rttMs": 1.2, "latencyMs": 4.1, "queuedBytes": 812_000, "outPerSecond": null, "subscriptions": 3,
            "reconnections": 2, "connectedAt": "2026-11-22T01:58:00.000Z", "remoteAddress": "127.0.0.1:5000"}]})
}

fn ask(fixture: &Fixture, arguments: &[&str]) -> Ended {
    run(pulsewire().args(arguments).args(["--url", &format!("ws://{}", fixture.address), "--token", "t"]))
}

#[test]
fn stat_prints_a_line_for_each_look_below_one_heading() {
    let fixture = Fixture::start(vec![("/api/admin/overview", 200, overview())]);
    let ended = ask(&fixture, &["stat", "-n", "3", "--interval", "10ms"]);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!((ended.code, lines.len()), (Some(0), 4), "{ended:?}");
    assert!(
        lines[0].starts_with("TIME") && lines[0].contains("CONNS") && lines[3].contains("4.81k"),
        "{ended:?}"
    );
    assert!(lines[1].contains("12.3k") && lines[1].contains("3.20 ms") && lines[1].contains("117 MiB"));
    let ended = ask(&fixture, &["stat", "-n", "2", "--interval", "10ms", "-o", "jsonl"]);
    let documents: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(documents, [overview(), overview()]);
}

#[test]
pub(super) fn connections_are_listed_as_they_were_asked_for() {
    let fixture = Fixture::start(vec![("/api/admin/connections", 200, connections())]);
    let ended = ask(&fixture, &["conns", "ls", "--filter", "queue>64k", "--sort", "-queue", "--limit", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(fixture.asked(), ["GET /api/admin/connections?filter=queue%3E64k&sort=-queue&limit=1"]);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines.len(), 2);
    for cell in ["35", "alice", "slow", "client_not_reading", "1.20 ms", "793 KiB", "2m 0s", "01JA"] {
        assert!(lines[1].contains(cell), "{cell}: {}", lines[1]);
    }
    assert_eq!(ended.err, "1 of 14 that match, of 10000\n");
    let json: Value = serde_json::from_str(&ask(&fixture, &["conns", "ls", "-o", "json"]).out).unwrap();
    assert_eq!(json, connections());
    let row: Value = serde_json::from_str(&ask(&fixture, &["conns", "ls", "-o", "jsonl"]).out).unwrap();
    assert_eq!(row, connections()["rows"][0]);
}

#[test]
fn nobody_is_sent_away_unasked() {
    let fixture = Fixture::start(vec![("/api/admin/websocket/disconnect", 200, json!({"closed": 2}))]);
    let ended = ask(&fixture, &["conns", "kill", "--user", "alice"]);
    assert_eq!((ended.code, fixture.asked().len()), (Some(2), 0), "{ended:?}");
    assert!(ended.err.contains("--yes"), "{}", ended.err);
    let ended = ask(&fixture, &["conns", "kill", "--user", "alice", "--code", "4506", "--yes"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "2 closed\n"), "{ended:?}");
    assert_eq!(fixture.asked(), [r#"POST /api/admin/websocket/disconnect {"code":4506,"user":"alice"}"#]);
    assert_eq!(ask(&fixture, &["conns", "kill", "--yes"]).code, Some(2), "whom?");
}

#[test]
fn a_refusal_names_the_role_that_is_needed() {
    let problem =
        json!({"type": "urn:pulsewire:error:wrong_credential", "detail": "this token may not do that"});
    let fixture = Fixture::start(vec![("/api/admin", 403, problem)]);
    let ended = ask(&fixture, &["conns", "ls"]);
    assert_eq!(ended.code, Some(4));
    assert!(
        ended.err.contains("this token may not do that") && ended.err.contains("--role viewer"),
        "{}",
        ended.err
    );
    let ended = ask(&fixture, &["drain", "on", "--yes"]);
    assert_eq!(ended.code, Some(4));
    assert!(ended.err.contains("--role operator"), "{}", ended.err);
}

#[test]
fn alerts_are_silenced_and_nodes_drained() {
    let fixture = Fixture::start(vec![("/api/admin", 200, json!({"ok": true}))]);
    assert_eq!(ask(&fixture, &["alerts", "silence", "latency", "--minutes", "5"]).code, Some(0));
    assert_eq!(ask(&fixture, &["drain", "on", "--yes"]).code, Some(0));
    assert_eq!(ask(&fixture, &["drain", "off"]).code, Some(0));
    assert_eq!(
        fixture.asked(),
        [
            r#"POST /api/admin/alerts/latency/silence {"minutes":5}"#,
            r#"POST /api/admin/drain {"drain":true}"#,
            r#"POST /api/admin/drain {"drain":false}"#,
        ]
    );
}
