//! Random scripts: a store answers each as the model does.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::model::Model;
use super::subject::{Kind, Subject};

/// Runs as many scripts as `PROPTEST_CASES` says, in one store, in channels of their own.
pub(super) fn hold(kind: Kind) {
    let Some(subject) = Subject::new(kind) else { return };
    let subject = RefCell::new((subject, 0));
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&vec(command(), 1..24), |commands| {
        let (subject, script) = &mut *subject.borrow_mut();
        *script += 1;
        subject.scope = format!("{script}.");
        subject.perform("at 1");
        let mut model = Subject::of(Box::new(Model::default()));
        for (index, command) in commands.iter().enumerate() {
            if command == "reopen" && !subject.lasts() {
                continue;
            }
            let answer = subject.perform(command);
            if command != "reopen" {
                prop_assert_eq!(answer, model.perform(command), "line {} of {:#?}", index, commands);
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

fn command() -> impl Strategy<Value = String> {
    let channel = 1..3_u8;
    let read =
        (channel.clone(), 0..20_u8, any::<bool>(), 0..6_u8, prop_oneof![Just(0_u32), Just(700), Just(9_999)])
            .prop_map(|(channel, after, critical, limit, bytes)| {
                let critical = if critical { "critical " } else { "" };
                format!("read {channel} {critical}after {after} limit {limit} bytes {bytes}")
            });
    let state = (channel.clone(), "[a-d]", 0..4_u8)
        .prop_map(|(channel, after, limit)| format!("state {channel} after {after} limit {limit}"));
    let trim = (channel, 0..6_u8, 0..4_u8, 0..9_u8, 0..4_u8, 0..9_u8, 0..12_u8).prop_map(
        |(channel, history, critical, ttl, state, ids_ms, ids_max)| {
            format!(
                "trim {channel} history {history} critical {critical} ttl {ttl} state {state} ids_ms {ids_ms} \
                 ids_max {ids_max}"
            )
        },
    );
    prop_oneof![
        6 => vec(vec(event(), 0..5), 1..4).prop_map(|requests| {
            format!("keep {}", requests.iter().map(|request| request.join(" ")).collect::<Vec<_>>().join(" | "))
        }),
        3 => read,
        1 => state,
        2 => trim,
        1 => (1..20_u8).prop_map(|at| format!("at {at}")),
        1 => Just("reopen".to_owned()),
    ]
}

fn event() -> impl Strategy<Value = String> {
    let payload = prop_oneof![6 => Just(""), 1 => Just("=2")];
    let key = prop_oneof![3 => Just(String::new()), 1 => "@[a-e]", 1 => "@[a-e]-"];
    (1..3_u8, "[a-p]", payload, any::<bool>(), key).prop_map(|(channel, id, payload, critical, key)| {
        format!("{channel}:{id}{payload}{}{key}", if critical { "!" } else { "" })
    })
}
