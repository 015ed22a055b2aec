//! The history checker against histories whose anomalies are known: each is planted alone, and found alone.

mod model;
mod narrow;
mod property;

use pulsewire_loadtest::check::finding::{Kind, Report};
use pulsewire_loadtest::check::{Bounds, check_lines};
use serde_json::{Value, json};

/// Judges some records.
pub(crate) fn judge(records: &[Value], bounds: Bounds) -> Report {
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    check_lines(lines.iter().map(String::as_str), bounds).unwrap()
}

fn publish(n: u64) -> Value {
    json!({"publisher": "p", "type": "publish", "channel": "run:1", "id": format!("m{n}"), "data": n, "at_ms": n * 100})
}

fn answer(n: u64, answer: &str) -> Value {
    let id = format!("m{n}");
    json!({"publisher": "p", "type": "answer", "answer": answer, "channel": "run:1", "id": id, "epoch": "e", "sequence": n, "at_ms": n * 100 + 10})
}

fn event(reader: &str, n: u64) -> Value {
    let id = format!("m{n}");
    json!({"reader": reader, "type": "event", "channel": "run:1", "sequence": n, "id": id, "event": "note", "data": n, "at_ms": n * 100 + 20})
}

fn subscribed(reader: &str, after: u64, at_ms: u64) -> Value {
    let positions = json!({"run:1": {"epoch": "e", "sequence": after}});
    json!({"reader": reader, "type": "subscribed", "channels": ["run:1"], "positions": positions, "at_ms": at_ms})
}

fn gap(reader: &str, from: u64, to: u64, at_ms: u64) -> Value {
    json!({"reader": reader, "type": "gap", "channel": "run:1", "from": from, "to": to, "reason": "trimmed", "at_ms": at_ms})
}

fn reset(reader: &str, epoch: &str, after: u64) -> Value {
    json!({"reader": reader, "type": "reset", "channel": "run:1", "epoch": epoch, "sequence": after})
}

fn told(reader: &str, kind: &str) -> Value {
    json!({"reader": reader, "type": kind, "channel": "run:1"})
}

/// Six events, acknowledged one after the other; `ada` is there from the beginning, `bob` after the second.
fn history() -> Vec<Value> {
    let mut records: Vec<Value> = (1..=6).flat_map(|n| [publish(n), answer(n, "ok")]).collect();
    for (reader, after) in [("ada", 0), ("bob", 2)] {
        records.push(subscribed(reader, after, after * 100));
        records.extend((after + 1..=6).map(|n| event(reader, n)));
        records.push(told(reader, "end"));
    }
    records
}

fn place_of(records: &[Value], record: &Value) -> usize {
    records.iter().position(|other| other == record).expect("it is there")
}

/// A history with something done to it, and all that must be found in it.
#[track_caller]
fn check(plant: impl FnOnce(&mut Vec<Value>), expected: &[(Kind, u64)]) {
    let mut records = history();
    plant(&mut records);
    let report = judge(&records, Bounds::default());
    let found: Vec<(Kind, u64)> = report.counts.iter().map(|(kind, count)| (*kind, *count)).collect();
    assert_eq!(found, expected, "{}", report.text(&[]));
}

/// Puts another record in the place of one.
fn replace(record: Value, other: Value) -> impl FnOnce(&mut Vec<Value>) {
    move |records| {
        let at = place_of(records, &record);
        records[at] = other;
    }
}

fn remove(record: Value) -> impl FnOnce(&mut Vec<Value>) {
    move |records| {
        let at = place_of(records, &record);
        records.remove(at);
    }
}

/// Puts a record before the end of its reader.
fn before_the_end(record: Value) -> impl FnOnce(&mut Vec<Value>) {
    move |records| {
        let end = told(record["reader"].as_str().unwrap(), "end");
        let at = place_of(records, &end);
        records.insert(at, record);
    }
}

fn with(mut record: Value, member: &str, value: impl Into<Value>) -> Value {
    record[member] = value.into();
    record
}

#[test]
fn a_clean_history_gives_no_finding() {
    check(|_| {}, &[]);
    let totals = judge(&history(), Bounds::default()).totals;
    assert_eq!((totals.published, totals.acknowledged, totals.delivered, totals.readers), (6, 6, 10, 2));
}

#[test]
fn an_event_that_never_came_is_lost() {
    check(remove(event("ada", 4)), &[(Kind::Lost, 1)]);
    check(remove(event("bob", 6)), &[(Kind::Lost, 1)]);
    // Nobody can say so of a reader that did not wait.
    check(
        |records| {
            remove(event("bob", 6))(records);
            remove(told("bob", "end"))(records);
        },
        &[],
    );
}

#[test]
fn what_nobody_published_and_what_was_refused_is_a_phantom() {
    let unknown = |records: &mut Vec<Value>| {
        before_the_end(with(event("ada", 7), "id", "nobody's"))(records);
        remove(told("bob", "end"))(records);
    };
    check(unknown, &[(Kind::Phantom, 1)]);
    let refused = |records: &mut Vec<Value>| {
        records.insert(0, answer(7, "rejected"));
        records.insert(0, publish(7));
        before_the_end(event("ada", 7))(records);
        remove(told("bob", "end"))(records);
    };
    check(refused, &[(Kind::Phantom, 1)]);
    // Of an unknown outcome both are right.
    let unknown = |records: &mut Vec<Value>| {
        records.insert(0, publish(7));
        before_the_end(event("ada", 7))(records);
        before_the_end(event("bob", 7))(records);
    };
    check(unknown, &[]);
    check(|records| records.insert(0, publish(7)), &[]);
    // Nor is it known of a message that was never answered what it carries, if that is another's.
    let other = |records: &mut Vec<Value>| {
        records.insert(0, publish(7));
        before_the_end(with(event("ada", 7), "data", "other"))(records);
        remove(told("bob", "end"))(records);
    };
    check(other, &[(Kind::Phantom, 1)]);
}

#[test]
fn what_comes_twice_and_what_has_two_places_is_a_duplicate() {
    check(before_the_end(event("ada", 4)), &[(Kind::Duplicate, 1)]);
    let second_place = with(event("ada", 7), "id", "m3");
    let both = |records: &mut Vec<Value>| {
        before_the_end(with(second_place.clone(), "data", 3))(records);
        remove(told("bob", "end"))(records);
    };
    check(both, &[(Kind::Duplicate, 1)]);
    // The publisher tried again and was told another place.
    let retried = |records: &mut Vec<Value>| {
        records.extend([publish(3), with(answer(3, "ok"), "sequence", 9)]);
    };
    check(retried, &[(Kind::Duplicate, 1)]);
    check(|records| records.extend([publish(3), answer(3, "duplicate")]), &[]);
    // Two publishers may use one id, each for its own.
    let two = |records: &mut Vec<Value>| {
        records.insert(0, with(with(publish(3), "publisher", "q"), "data", 7));
        let same = with(with(event("ada", 7), "id", "m3"), "data", 7);
        before_the_end(same.clone())(records);
        before_the_end(with(same, "reader", "bob"))(records);
    };
    check(two, &[]);
}

#[test]
fn what_comes_behind_a_later_one_is_non_monotonic() {
    let swapped = |records: &mut Vec<Value>| {
        let at = place_of(records, &event("ada", 3));
        records.swap(at, at + 1);
    };
    check(swapped, &[(Kind::NonMonotonic, 1)]);
    // As is another epoch that comes without a word.
    let anew = |records: &mut Vec<Value>| {
        records.insert(0, with(publish(7), "data", 1));
        before_the_end(with(with(event("ada", 1), "epoch", "f"), "id", "m7"))(records);
    };
    check(anew, &[(Kind::NonMonotonic, 1)]);
}

#[test]
fn sequences_that_are_passed_without_a_gap_are_skipped() {
    // Nobody knows what 7 and 8 were.
    let jump = |records: &mut Vec<Value>| {
        records.insert(0, publish(9));
        before_the_end(event("ada", 9))(records);
        remove(told("bob", "end"))(records);
    };
    check(jump, &[(Kind::Skipped, 2)]);
    // `previous` excuses nothing where there is no filter.
    let excused = |records: &mut Vec<Value>| {
        records.insert(0, publish(9));
        before_the_end(with(event("ada", 9), "previous", 6))(records);
        remove(told("bob", "end"))(records);
    };
    check(excused, &[(Kind::Skipped, 2)]);
    // A client that notices asks again, and nothing is lost; it was skipped all the same.
    let repaired = |records: &mut Vec<Value>| {
        let at = place_of(records, &event("ada", 3));
        records.remove(at);
        records.splice(
            at + 1..at + 1,
            [told("ada", "disconnected"), subscribed("ada", 2, 450), event("ada", 3), event("ada", 4)],
        );
    };
    check(repaired, &[(Kind::Skipped, 1)]);
    // A session that is resumed goes on where it was.
    let resumed = |records: &mut Vec<Value>| {
        let at = place_of(records, &event("ada", 5));
        records.splice(at..at + 1, [with(subscribed("ada", 5, 450), "resumed", true)]);
    };
    check(resumed, &[(Kind::Lost, 1)]);
    // Unless the client asks again, as it knows better than the server what it has had.
    let asked = |records: &mut Vec<Value>| {
        resumed(records);
        let at = place_of(records, &event("ada", 6));
        records.splice(at..at, [with(subscribed("ada", 4, 460), "resumed", true), event("ada", 5)]);
    };
    check(asked, &[]);
}

#[test]
fn a_gap_over_what_was_there_is_false() {
    // It had it.
    check(before_the_end(gap("ada", 5, 6, 620)), &[(Kind::FalseGap, 2)]);
    // It came all the same.
    let came = |records: &mut Vec<Value>| {
        let at = place_of(records, &event("ada", 4));
        records.insert(at, gap("ada", 4, 4, 400));
    };
    check(came, &[(Kind::FalseGap, 1)]);
    // Who came later still got it.
    let later = |at_ms: u64| {
        move |records: &mut Vec<Value>| {
            replace(event("ada", 4), gap("ada", 4, 4, 400))(records);
            records.extend([subscribed("cyd", 3, at_ms), with(event("cyd", 4), "at_ms", at_ms)]);
        }
    };
    check(later(1_600), &[(Kind::FalseGap, 1)]);
    // A page that was read before it was trimmed may be shown for a second.
    check(later(1_300), &[]);
    check(replace(event("ada", 4), gap("ada", 4, 4, 400)), &[]);
    // What only the client noticed is no gap.
    check(replace(event("ada", 4), with(gap("ada", 4, 4, 400), "reason", "missed")), &[(Kind::Lost, 1)]);
}

#[test]
fn one_place_with_two_events_is_a_fork() {
    check(replace(event("ada", 4), with(event("ada", 4), "id", "m5")), &[(Kind::Fork, 1)]);
    check(replace(event("bob", 4), with(event("bob", 4), "data", "other")), &[(Kind::Fork, 1)]);
    // Even if it is only seen by comparing two readers.
    let unasked = |records: &mut Vec<Value>| {
        records.retain(|record| record["publisher"].is_null());
        replace(event("bob", 4), with(event("bob", 4), "data", "other"))(records);
    };
    check(unasked, &[(Kind::Fork, 1)]);
    // Two publishers were promised the same place.
    let promised = |records: &mut Vec<Value>| {
        let other = [publish(7), with(answer(7, "ok"), "sequence", 6)];
        records.extend(other.map(|record| with(record, "publisher", "q")));
    };
    check(promised, &[(Kind::Fork, 1)]);
    // Another epoch is another place.
    let anew = |records: &mut Vec<Value>| {
        records.insert(0, with(publish(7), "data", 1));
        before_the_end(reset("ada", "f", 0))(records);
        before_the_end(with(event("ada", 1), "id", "m7"))(records);
    };
    check(anew, &[]);
}

#[test]
fn another_order_than_the_publishers_is_an_order_mismatch() {
    // The third was acknowledged before the fourth was sent, which stands before it.
    let turned = |records: &mut Vec<Value>| {
        for (n, sequence) in [(3, 4), (4, 3)] {
            replace(answer(n, "ok"), with(answer(n, "ok"), "sequence", sequence))(records);
            for reader in ["ada", "bob"] {
                let other = with(with(event(reader, sequence), "id", format!("m{n}")), "data", n);
                replace(event(reader, sequence), other)(records);
            }
        }
    };
    check(turned, &[(Kind::OrderMismatch, 1)]);
    // Of two that were under way together nobody knows.
    let together = |records: &mut Vec<Value>| {
        turned(records);
        let at = place_of(records, &publish(4));
        let record = records.remove(at);
        records.insert(0, record);
    };
    check(together, &[]);
}

/// Three events of a channel that keeps nothing, as a reader heard them.
#[track_caller]
fn check_ephemeral(heard: &[u64], expected: &[(Kind, u64)]) {
    let bare = |mut record: Value| {
        record["channel"] = "cursor:1".into();
        record.as_object_mut().unwrap().retain(|name, _| name != "sequence" && name != "epoch");
        record
    };
    let mut records: Vec<Value> = (1..=3).flat_map(|n| [publish(n), answer(n, "ok")]).map(bare).collect();
    records.push(json!({"reader": "ada", "type": "subscribed", "channels": ["cursor:1"]}));
    records.extend(heard.iter().map(|n| bare(event("ada", *n))));
    records.push(json!({"reader": "ada", "type": "dropped", "channel": "cursor:1", "count": 1}));
    records.push(told("ada", "end"));
    let found: Vec<(Kind, u64)> = judge(&records, Bounds::default()).counts.into_iter().collect();
    assert_eq!(found, expected);
}

#[test]
fn channels_that_keep_nothing_may_lose_but_not_turn_or_repeat() {
    check_ephemeral(&[1, 2, 3], &[]);
    check_ephemeral(&[1, 3], &[]);
    check_ephemeral(&[1, 3, 2], &[(Kind::OrderMismatch, 1)]);
    check_ephemeral(&[1, 1, 2, 3], &[(Kind::Duplicate, 1)]);
    check_ephemeral(&[1, 4], &[(Kind::Phantom, 1)]);
}

#[test]
fn what_comes_late_is_stale() {
    let late = with(event("ada", 6), "at_ms", 10_611);
    check(replace(event("ada", 6), late), &[(Kind::Stale, 1)]);
    let in_time = with(event("ada", 6), "at_ms", 10_610);
    check(replace(event("ada", 6), in_time), &[]);
    // Who subscribes later waits from then on.
    let replayed = |records: &mut Vec<Value>| {
        records.push(subscribed("cyd", 5, 50_000));
        records.push(with(event("cyd", 6), "at_ms", 50_100));
    };
    check(replayed, &[]);
}

#[test]
fn what_a_reader_may_not_have_is_a_leak() {
    let not_subscribed = |records: &mut Vec<Value>| {
        before_the_end(told("ada", "unsubscribed"))(records);
        before_the_end(event("ada", 6))(records);
    };
    check(not_subscribed, &[(Kind::Leak, 1)]);
    let gone = |records: &mut Vec<Value>| {
        before_the_end(told("ada", "disconnected"))(records);
        before_the_end(event("ada", 6))(records);
    };
    check(gone, &[(Kind::Leak, 1)]);
    let elsewhere = with(event("ada", 1), "channel", "run:2");
    check(before_the_end(elsewhere), &[(Kind::Leak, 1)]);
    // Its grants changed while it was there.
    let forbidden = |records: &mut Vec<Value>| {
        let at = place_of(records, &event("ada", 6));
        records.insert(at, json!({"reader": "ada", "type": "grant", "channels": ["project:*"]}));
        records.insert(0, json!({"reader": "ada", "type": "grant", "channels": ["run:*"]}));
    };
    check(forbidden, &[(Kind::Leak, 1)]);
}

#[test]
fn a_line_that_is_no_record_is_named() {
    let wrong = |line: &str| check_lines(["", line], Bounds::default()).unwrap_err().to_string();
    assert!(wrong("{").starts_with("line 2: not a record: EOF"), "{}", wrong("{"));
    assert_eq!(wrong(r#"{"type":"event"}"#), "line 2: it names not exactly one `publisher` or `reader`");
    assert_eq!(wrong(r#"{"reader":"r","type":"event"}"#), "line 2: `channel` is missing");
    let gap = r#"{"reader":"r","type":"gap","channel":"run:1","from":4,"to":3}"#;
    assert_eq!(wrong(gap), "line 2: a gap from 4 to 3 is none");
    let event = |sequence: &str| {
        wrong(&format!(r#"{{"reader":"r","type":"event","channel":"run:1","sequence":{sequence}}}"#))
    };
    assert_eq!(event("0"), "line 2: 0 is no event's sequence");
    assert_eq!(event("9007199254740992"), "line 2: 9007199254740992 is no sequence");
    let other = r#"{"reader":"r","type":"pong","timestamp":1.5}"#;
    assert!(check_lines([other], Bounds::default()).unwrap().is_clean(), "other messages say nothing");
}

#[test]
fn a_report_counts_all_and_shows_the_first_of_each_kind() {
    let mut records = vec![subscribed("ada", 0, 0)];
    records.extend((1..=40).flat_map(|n| [event("ada", n), event("ada", n)]));
    let report = judge(&records, Bounds::default());
    assert_eq!((report.count(Kind::Duplicate), report.findings.len()), (40, 10));
    let text = report.text(&["one.jsonl".to_owned()]);
    assert!(text.contains("✗ duplicate: 1 of run:1 came again (one.jsonl:3)"), "{text}");
    assert!(text.ends_with("✗ events: 40 duplicate"), "{text}");
}

/// The server knows what it sent, not what was handled: who comes back is placed behind what it has had, and its client
/// writes down nothing that it has had already.
#[test]
fn what_a_resumed_reader_has_had_is_not_owed_again() {
    let mut records = history();
    let end = records.len() - 1;
    assert_eq!(records[end], told("bob", "end"));
    records.splice(end..end, [told("bob", "disconnected"), with(subscribed("bob", 3, 700), "resumed", true)]);
    assert!(judge(&records, Bounds::default()).is_clean());
}
