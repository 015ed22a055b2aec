//! Readers that do not want everything: filters, and a past of critical events alone.

use pulsewire_loadtest::check::finding::Kind;
use serde_json::{Value, json};

use super::{answer, before_the_end, check, event, place_of, publish, remove, replace, subscribed, with};

/// Events 2, 4 and 6 are tagged; `ada` asks for these.
fn filtered(records: &mut Vec<Value>) {
    for n in [2, 4, 6] {
        replace(publish(n), with(publish(n), "tags", json!({"env": "prod"})))(records);
    }
    let subscription = with(subscribed("ada", 0, 0), "tags", json!({"env": "prod"}));
    replace(subscribed("ada", 0, 0), subscription)(records);
    for n in [1, 3, 5] {
        remove(event("ada", n))(records);
    }
    for n in [2, 4, 6] {
        let tagged = with(event("ada", n), "tags", json!({"env": "prod"}));
        replace(event("ada", n), with(tagged, "previous", n - 2))(records);
    }
}

#[test]
fn a_filter_leaves_out_what_it_should_and_nothing_else() {
    check(filtered, &[]);
    let fourth = || {
        let tagged = with(event("ada", 4), "tags", json!({"env": "prod"}));
        with(tagged, "previous", 2)
    };
    let lost = |records: &mut Vec<Value>| {
        filtered(records);
        remove(fourth())(records);
        let sixth = with(event("ada", 6), "tags", json!({"env": "prod"}));
        replace(with(sixth.clone(), "previous", 4), with(sixth, "previous", 2))(records);
    };
    check(lost, &[(Kind::Lost, 1)]);
    let leaked = |records: &mut Vec<Value>| {
        filtered(records);
        let at = place_of(records, &fourth());
        records.insert(at, with(event("ada", 3), "tags", json!({"env": "test"})));
    };
    check(leaked, &[(Kind::Leak, 1)]);
    // `pos` says that nothing before it was meant for the reader.
    let passed = |records: &mut Vec<Value>| {
        filtered(records);
        records.extend([publish(7), answer(7, "ok")]);
        before_the_end(event("bob", 7))(records);
        before_the_end(json!({"reader": "ada", "type": "pos", "channel": "run:1", "sequence": 7}))(records);
    };
    check(passed, &[]);
    let passed_over = |records: &mut Vec<Value>| {
        passed(records);
        replace(publish(7), with(publish(7), "tags", json!({"env": "prod"})))(records);
    };
    check(passed_over, &[(Kind::Lost, 1)]);
}

#[test]
fn a_replay_of_critical_events_owes_these_and_then_everything() {
    let replay = |records: &mut Vec<Value>| {
        replace(publish(3), with(publish(3), "critical", true))(records);
        replace(subscribed("ada", 0, 0), with(subscribed("ada", 0, 0), "replay", "critical"))(records);
        for n in [1, 2, 4, 5] {
            remove(event("ada", n))(records);
        }
        replace(event("ada", 3), with(event("ada", 3), "previous", 0))(records);
        let at = place_of(records, &event("ada", 6));
        records.insert(at, json!({"reader": "ada", "type": "replay_end", "channel": "run:1", "sequence": 5}));
    };
    check(replay, &[]);
    let without = |records: &mut Vec<Value>| {
        replay(records);
        remove(with(event("ada", 3), "previous", 0))(records);
    };
    check(without, &[(Kind::Lost, 1)]);
    let not_live = |records: &mut Vec<Value>| {
        replay(records);
        remove(event("ada", 6))(records);
    };
    check(not_live, &[(Kind::Lost, 1)]);
}

#[test]
fn values_by_key_take_the_place_of_the_changes_before_them() {
    let valued = |more: &[bool]| {
        let mut told: Vec<Value> = Vec::new();
        for more in more {
            told.push(
                json!({"reader": "ada", "type": "state", "channel": "run:1", "values": [], "more": more}),
            );
        }
        told.push(json!({"reader": "ada", "type": "pos", "channel": "run:1", "sequence": 5}));
        move |records: &mut Vec<Value>| {
            let at = place_of(records, &event("ada", 3));
            records.splice(at..at + 3, told);
        }
    };
    check(valued(&[true, false]), &[]);
    // Half of them are none, and without any nothing excuses the jump.
    check(valued(&[true]), &[(Kind::Lost, 3)]);
    check(valued(&[]), &[(Kind::Lost, 3)]);
}
