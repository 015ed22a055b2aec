//! `pulsewire replay` against a real server.

use pulsewire_hub::Role;
use serde_json::{Value, json};

use super::against;
use crate::harness::Server;

fn filled() -> Server {
    let server = Server::start("");
    for n in 1..=5 {
        let kind = if n == 3 { "FLAG" } else { "note" };
        server.publish(&json!({"channel": "run:1", "type": kind, "data": {"n": n}, "key": format!("k{n}"), "tags": {"a": "b"}}));
    }
    server
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_a_channel_kept_is_printed_from_one_end_to_the_other() {
    let server = filled();
    let numbers = |more: &[&str]| -> Vec<u64> {
        let ended = against(&server, Role::Admin, &[&["replay", "run:1"], more].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        lines(&ended.out).iter().map(|event| event["sequence"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&[]), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(&["--from", "2", "--to", "4"]), [2, 3, 4]);
    assert_eq!(numbers(&["--from", "2", "--limit", "2"]), [2, 3]);
    assert_eq!(numbers(&["--critical"]), [3]);
    assert_eq!(numbers(&["--from", "1h"]), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(&["--to", "1h"]), [0; 0]);
    let table =
        against(&server, Role::Admin, &["replay", "run:1", "-o", "table", "--from", "3", "--limit", "1"]);
    assert!(table.out.contains("FLAG !") && table.out.contains(r#"{"n":3}"#), "{table:?}");
    let refused = against(&server, Role::Admin, &["replay", "nothing"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
}

#[test]
fn doing_it_twice_repeats_nothing() {
    let server = filled();
    let copy = || against(&server, Role::Admin, &["replay", "run:1", "--into", "run:2", "--from", "2"]);
    let first = copy();
    assert_eq!((first.code, first.out.as_str()), (Some(0), ""), "{first:?}");
    assert!(first.err.contains("4 read, 4 published into run:2, 0 were there already"), "{}", first.err);
    let second = copy();
    assert!(second.err.contains("4 read, 0 published into run:2, 4 were there already"), "{}", second.err);
    let told = |channel: &str| -> Vec<Value> {
        let ended = against(&server, Role::Admin, &["replay", channel]);
        let same = |event: &Value| {
            json!([event["event"], event["data"], event["key"], event["tags"], event["critical"]])
        };
        lines(&ended.out).iter().map(same).collect()
    };
    assert_eq!(told("run:2"), told("run:1")[1..]);
}
