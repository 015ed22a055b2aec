//! Whatever happens among a gateway, publishers and readers that keep the contract, nothing is found; and whatever is
//! taken out of, repeated in or turned around in what a reader was told, something is.

use proptest::collection::vec;
use proptest::prelude::*;
use pulsewire_loadtest::check::finding::Kind;
use pulsewire_loadtest::check::{Bounds, check_lines};
use serde_json::{Value, json};

use super::judge;
use super::model::{Chance, Model};

/// In the model everybody may take as long as they like.
const PATIENT: Bounds = Bounds { stale_ms: i64::MAX };

fn kinds(records: &[Value]) -> Vec<Kind> {
    judge(records, PATIENT).counts.into_keys().collect()
}

/// The records, one a line, for whoever reads why a test failed.
fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// Any record about one channel, right or wrong.
fn record() -> impl Strategy<Value = Value> {
    let kinds = [
        "publish",
        "answer",
        "subscribed",
        "unsubscribed",
        "disconnected",
        "event",
        "gap",
        "reset",
        "dropped",
        "pos",
        "replay_end",
        "end",
        "connected",
    ];
    let sequence = || prop_oneof![0..8_u64, Just((1 << 53) - 1)];
    (0..kinds.len(), 0..2_usize, sequence(), sequence(), any::<[bool; 4]>()).prop_map(
        move |(kind, who, one, other, [a, b, c, d])| {
            let answer = if a { "ok" } else { "unknown" };
            let mut record = json!({"type": kinds[kind], "channel": "run:1", "from": one, "to": other, "count": 1, "answer": answer});
            record[if kind < 2 { "publisher" } else { "reader" }] = json!(["x", "y"][who]);
            for (wanted, name, value) in [
                (a, "sequence", json!(one)),
                (b, "epoch", json!(if c { "e" } else { "f" })),
                (c, "previous", json!(other)),
                (d, "id", json!(format!("m{other}"))),
                (b && d, "tags", json!({"t": "a"})),
                (a && c, "replay", json!("critical")),
                (c && d, "resumed", json!(true)),
            ] {
                if wanted {
                    record[name] = value;
                }
            }
            record
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_history_that_keeps_the_contract_gives_no_finding(numbers in vec(any::<u32>(), 10..1_200)) {
        let model = Model::run(Chance::new(numbers));
        let report = judge(&model.records, PATIENT);
        prop_assert!(report.is_clean(), "{}\n{}", report.text(&[]), lines(&model.records));
    }

    #[test]
    fn an_event_that_is_taken_out_repeated_or_turned_is_found(numbers in vec(any::<u32>(), 200..1_200), any in any::<u32>()) {
        let Model { records, followed, .. } = Model::run(Chance::new(numbers));
        prop_assume!(!followed.is_empty());
        let at = followed[any as usize % followed.len()];
        let mut less = records.clone();
        less.remove(at);
        let found = kinds(&less);
        prop_assert!(found == [Kind::Lost] || found == [Kind::Skipped], "{}", judge(&less, PATIENT).text(&[]));
        let mut more = records.clone();
        more.insert(at, records[at].clone());
        prop_assert_eq!(kinds(&more), [Kind::Duplicate]);
        let behind = |record: &&Value| record["reader"] == records[at]["reader"];
        let next = records[at + 1..].iter().position(|record| behind(&record)).unwrap() + at + 1;
        let mut turned = records.clone();
        turned.swap(at, next);
        prop_assert_eq!(kinds(&turned), [Kind::NonMonotonic]);
    }

    #[test]
    fn a_history_without_any_sense_is_judged_all_the_same(records in vec(record(), 0..60)) {
        let read = |record: &&Value| {
            check_lines([record.to_string().as_str()], PATIENT).is_ok()
        };
        let records: Vec<Value> = records.iter().filter(read).cloned().collect();
        let report = judge(&records, PATIENT);
        prop_assert_eq!(report.is_clean(), report.findings.is_empty());
    }
}
