//! `upstreams` and `canary`, by documents of the contract: a real stream is in few of these states, and never in all.

use std::net::SocketAddr;

use pulsewire_sources::upstream::Track;
use pulsewire_sources::upstream::canary::{Comparison, Counts, Rules, Tracks};
use serde_json::{Value, json};

use super::fixture::Fixture;
use crate::child::{Ended, pulsewire, run};

fn ask(fixture: &Fixture, arguments: &[&str]) -> Ended {
    run(pulsewire().args(arguments).args(["--url", &format!("ws://{}", fixture.address), "--token", "t"]))
}

/// Two streams of three that are declared.
fn streams() -> Value {
    let quotes = json!({"id": "1", "upstream": "quotes", "key": "", "track": "stable", "state": "live", "listeners": 410,
        "messagesPerSecond": 1204.5, "retries": 0, "errors": 0, "dropped": 0, "missing": 17, "idleMs": null, "lastError": null,
        "links": [{"url": "wss://a.example/stream", "state": "live", "attempts": 1, "failures": 0, "retryInMs": null},
            {"url": "wss://b.example/stream", "state": "waiting", "attempts": 9, "failures": 3, "retryInMs": 2100}]});
    let depth = json!({"id": "5", "upstream": "depth", "key": "usd", "track": "canary", "state": "circuit", "listeners": 12,
        "messagesPerSecond": 0.0, "retries": 30, "errors": 31, "dropped": 0, "missing": 0, "idleMs": null,
        "lastError": {"kind": "connect", "text": "nobody listens there", "at": "2026-11-22T01:59:51.000Z"}, "links": []});
    json!({"revision": 0, "at": "2026-11-22T02:00:00.000Z", "total": 2, "matched": 2, "rows": [depth, quotes],
        "totals": {"active": 2, "limit": 1000}, "declaredTotal": 3, "canary": {"verdict": "off"},
        "declared": [{"name": "quotes", "urls": ["wss://a.example/stream", "wss://b.example/stream"],
            "channel": "quotes:{key}", "always": false, "declaredBy": "settings", "streams": 1},
            {"name": "depth", "streams": 1}, {"name": "weather", "streams": 0}]})
}

#[test]
fn streams_are_listed_as_they_were_asked_for_and_upstreams_without_one_are_named() {
    let fixture = Fixture::start(vec![("/api/admin/upstreams", 200, streams())]);
    let ended =
        ask(&fixture, &["upstreams", "ls", "--filter", "errors>=0", "--sort", "-errors", "--limit", "9"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(fixture.asked(), ["GET /api/admin/upstreams?filter=errors%3E%3D0&sort=-errors&limit=9"]);
    let lines: Vec<&str> = ended.out.lines().collect();
    for (line, cells) in [
        (1, &["depth", "usd", "circuit", "canary", "30", "31", "nobody listens there"][..]),
        (2, &["quotes", "live", "stable", "410", "1.20k", "17"]),
    ] {
        assert!(cells.iter().all(|cell| lines[line].contains(cell)), "{cells:?}: {}", lines[line]);
    }
    assert_eq!(ended.err, "declared, without a stream: weather\n");
    let rows: Vec<Value> = ask(&fixture, &["upstreams", "ls", "-o", "jsonl"])
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(json!(rows), streams()["rows"]);
}

#[test]
fn an_upstream_is_shown_with_what_is_declared_its_streams_and_their_links() {
    let fixture = Fixture::start(vec![("/api/admin/upstreams", 200, streams())]);
    let ended = ask(&fixture, &["upstreams", "show", "quotes"]);
    assert_eq!(
        (ended.code, ended.err.as_str()),
        (Some(0), "declared, without a stream: weather\n"),
        "{ended:?}"
    );
    assert_eq!(fixture.asked(), ["GET /api/admin/upstreams?upstream=quotes&limit=200"]);
    for words in ["quotes:{key}", "wss://b.example/stream", "streams", "links", "2.10 s"] {
        assert!(ended.out.contains(words), "{words}: {}", ended.out);
    }
    let shown: Value =
        serde_json::from_str(&ask(&fixture, &["upstreams", "show", "quotes", "-o", "json"]).out).unwrap();
    assert_eq!((&shown["declared"]["name"], &shown["streams"]), (&json!("quotes"), &streams()["rows"]));

    let nothing = json!({"total": 0, "matched": 0, "rows": [], "declared": [], "declaredTotal": 0});
    let fixture = Fixture::start(vec![("/api/admin/upstreams", 200, nothing)]);
    let ended = ask(&fixture, &["upstreams", "show", "nobody"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("there is no upstream nobody"), "{}", ended.err);
}

#[test]
fn streams_are_restarted_and_cleaned_up_and_the_candidate_is_taken_back() {
    let fixture = Fixture::start(vec![
        ("/api/admin/upstreams/cleanup", 200, json!({"closed": 3})),
        ("/api/admin/upstreams", 200, json!({"restarted": 2})),
        ("/api/admin/canary/rollback", 200, json!({"rolledBack": 4})),
    ]);
    let ended = ask(&fixture, &["upstreams", "restart", "a/b"]);
    assert!(ended.code == Some(0) && ended.out.starts_with("2 restarted"), "{ended:?}");
    assert_eq!(ask(&fixture, &["upstreams", "cleanup"]).out, "3 closed\n");
    assert_eq!(
        ask(&fixture, &["upstreams", "cleanup", "--idle", "0s", "-o", "json"]).out,
        "{\"closed\":3}\n"
    );
    let asked = ask(&fixture, &["canary", "rollback"]);
    assert!(asked.code == Some(2) && asked.err.contains("--yes"), "{asked:?}");
    assert_eq!(ask(&fixture, &["canary", "rollback", "--yes"]).code, Some(0));
    assert_eq!(
        fixture.asked(),
        [
            "POST /api/admin/upstreams/a%2Fb/restart {}",
            "POST /api/admin/upstreams/cleanup?idle_ms=30000 {}",
            "POST /api/admin/upstreams/cleanup?idle_ms=0 {}",
            "POST /api/admin/canary/rollback {}",
        ]
    );
}

/// What a server says of its candidate whose streams were each tried so often again; on stable it was once.
fn canary(verdict: &str, streams: usize, retries: u32, window_ms: u64) -> Value {
    let mut tracks = Tracks::default();
    for (track, streams, retries) in [(Track::Stable, 40, 1), (Track::Canary, streams, retries)] {
        (0..streams)
            .for_each(|_| tracks.add(track, Counts { attempts: retries + 1, retries, errors: retries }));
    }
    let rules = Rules { window_ms, ..Rules::default() };
    json!({"verdict": verdict, "enabled": true, "share": 0.1, "ratio": rules.ratio, "windowMs": window_ms,
        "streamsMin": rules.streams_min, "rollback": true, "worseSince": null, "rolledBackAt": null,
        "tracks": tracks, "comparison": Comparison::of(&tracks, &rules)})
}

fn saying(verdict: &str, streams: usize, retries: u32, window_ms: u64) -> Fixture {
    Fixture::start(vec![("/api/admin/canary", 200, canary(verdict, streams, retries, window_ms))])
}

#[test]
fn both_tracks_stand_below_the_verdict() {
    let ended = ask(&saying("suspect", 8, 30, 180_000), &["upstreams", "canary"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for words in [
        "suspect: the candidate is worse",
        "10.0% of streams",
        "1.50x of stable",
        "after 3m 0s the server takes it back",
        "x of stable's, worse",
    ] {
        assert!(ended.out.contains(words), "{words}: {}", ended.out);
    }
    let rows: Vec<&str> = ended.out.lines().rev().take(2).collect();
    assert!(
        rows[1].starts_with("stable") && rows[0].starts_with("canary") && rows[0].contains("240"),
        "{rows:#?}"
    );
}

/// Judges servers; `more` are further arguments.
fn judged(servers: &[SocketAddr], more: &[&str]) -> Ended {
    let mut command = pulsewire();
    command.args(["canary", "judge", "--token", "t"]).args(more);
    for server in servers {
        command.args(["--url", &format!("ws://{server}")]);
    }
    run(&mut command)
}

#[test]
fn one_look_says_by_its_exit_code_how_the_candidate_does() {
    let saying = |verdict, streams, retries| saying(verdict, streams, retries, 180_000).address;
    let (well, few) = (saying("pass", 8, 1), saying("insufficient", 2, 30));
    let (worse, failed) = (saying("suspect", 8, 30), saying("fail", 8, 30));
    let (off, taken) = (saying("off", 0, 0), saying("rolled_back", 0, 0));
    // Nobody listens at the first port.
    let gone = "127.0.0.1:1".parse().unwrap();
    let cases: [(&[SocketAddr], i32, &str); 9] = [
        (&[well], 0, "pass"),
        (&[well, well], 0, "16 canary and 80 stable streams of 2 servers"),
        (&[failed], 1, "fail"),
        (&[well, taken], 1, "rolled_back"),
        (&[worse], 2, "suspect"),
        (&[few], 2, "insufficient"),
        (&[few, few], 2, "suspect"),
        (&[off], 2, "features.upstream_manager"),
        (&[well, gone], 2, "no answer from 127.0.0.1:1"),
    ];
    for (servers, code, words) in cases {
        let ended = judged(servers, &["--once"]);
        assert_eq!(ended.code, Some(code), "{words}: {ended:?}");
        assert!(ended.out.contains(words) && ended.out.lines().count() == 1, "{words}: {ended:?}");
    }
    let refused =
        Fixture::start(vec![("/api/admin/canary", 403, json!({"detail": "this token may not do that"}))]);
    let ended = judged(&[refused.address], &["--once"]);
    assert!(ended.code == Some(2) && ended.err.contains("--role viewer"), "{ended:?}");
}

#[test]
fn looks_are_repeated_until_it_is_clear() {
    let looks = |ended: &Ended| -> Vec<Value> {
        ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let often = ["--interval", "10ms", "-o", "json"];
    // It stops as soon as the candidate has been worse for the servers' window, long before the time is over.
    let worse = saying("suspect", 8, 30, 30);
    let ended = judged(&[worse.address], &[&often[..], &["--for", "1h"]].concat());
    let documents = looks(&ended);
    assert_eq!((ended.code, &documents.last().unwrap()["verdict"]), (Some(1), &json!("fail")), "{ended:?}");
    assert_eq!(documents[0]["verdict"], "suspect", "{ended:?}");
    assert_eq!(documents[0]["tracks"]["canary"]["streams"], 8);
    let well = saying("pass", 8, 1, 30);
    let ended = judged(&[well.address], &[&often[..], &["--for", "40ms"]].concat());
    let documents = looks(&ended);
    assert!(ended.code == Some(0) && documents.len() > 1, "{ended:?}");
    assert!(documents.iter().all(|look| look["verdict"] == "pass"), "{ended:?}");
}
