//! What every store must do, as one table: a name, and a script of commands with their answers.
//!
//! Each case runs over each store. The words of a script are read by [`subject`]; the answers of random scripts
//! are those of a naive [`model`]. What a script cannot say (large, odd and damaged events) stands below it.

mod cases;
mod model;
mod property;
mod subject;

use std::sync::Arc;

use pulsewire_bus::{Append, Batch, Only, Query, ReadLimit};
use pulsewire_protocol::{MessageId, Sequence, Tags};
pub(crate) use subject::append;
use subject::{Kind, Subject, name};

/// Runs a script: every line is a command and, behind an arrow, its answer.
fn run(kind: Kind, script: &str) {
    let Some(mut subject) = Subject::new(kind) else { return };
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let command = line.split_once(" ->").map_or(line, |(command, _)| command);
        let answer = subject.perform(command);
        let told = if answer.is_empty() { command.to_owned() } else { format!("{command} -> {answer}") };
        assert_eq!(told, line, "in\n{script}");
    }
}

/// Keeps one event and reads it back.
fn round_trip(kind: Kind, append: &Append) {
    let Some(subject) = Subject::new(kind) else { return };
    let batch = Batch { requests: vec![[append.clone()].into()], strict: true, at_ms: 1 };
    let places = subject.store().commit(&batch).unwrap().remove(0).unwrap();
    let limit = ReadLimit { publications: 2, bytes: usize::MAX };
    let query = Query { after: Sequence::ZERO, only: Only::All, limit };
    let page = subject.store().read(append.channel(), &query).unwrap();
    let [(sequence, read)] = &page.events[..] else { panic!("one event is expected: {page:?}") };
    assert_eq!(*sequence, places[0].position.sequence);
    assert_eq!(format!("{read:?}"), format!("{:?}", append.accepted));
    let Some(key) = append.accepted.event.key.as_deref().filter(|_| append.keyed) else { return };
    let state = subject.store().state(append.channel(), None, limit).unwrap();
    assert_eq!(state.values[0].accepted.event.key.as_deref(), Some(key));
    assert_eq!(format!("{:?}", state.values[0].accepted), format!("{read:?}"));
    let behind = subject.store().state(append.channel(), Some(key), limit).unwrap();
    assert!(behind.values.is_empty() && behind.behind.is_none(), "{behind:?}");
}

fn every_field_comes_back(kind: Kind) {
    let mut append = subject::append(
        name("run:a/b_c-d.1"),
        "id ~!",
        r#"{"text":"\u0000 \ud83d\ude00 😀 \\ ' \" ","n":1e400}"#,
    );
    let accepted = Arc::make_mut(&mut append.accepted);
    accepted.event.id = MessageId::parse("id ~!");
    accepted.event.key = Some("ключ\0'\\\u{10ffff}".into());
    accepted.event.tags = Tags::new([("a", ""), ("ключ", "'\"\\\0\u{10ffff}")]).unwrap();
    accepted.event.critical = Some(true);
    accepted.timestamp_ms = -5;
    accepted.user = Some("o'neill 王".into());
    append.keyed = true;
    append.payload = u64::MAX;
    append.dedup = [0xff; 16];
    round_trip(kind, &append);
}

fn a_payload_of_a_mebibyte_comes_back(kind: Kind) {
    let text = "ñ\\\"".repeat(1 << 18);
    round_trip(kind, &subject::append(name("run:1"), "a", &serde_json::to_string(&text).unwrap()));
}

/// Threads that commit at the same time to the same channels leave one order without holes.
fn commits_at_the_same_time_make_one_order(kind: Kind) {
    const THREADS: usize = 4;
    const BATCHES: usize = 10;
    let Some(subject) = Subject::new(kind) else { return };
    let commit = |thread: usize, round: usize| {
        let mut channels = [name("run:1"), name("run:2")];
        if thread % 2 == 1 {
            channels.reverse();
        }
        let event = |channel: &_| subject::append(Clone::clone(channel), &format!("{thread}.{round}"), "1");
        let batch = Batch { requests: vec![channels.iter().map(event).collect()], strict: false, at_ms: 1 };
        subject.store().commit(&batch).unwrap().remove(0).unwrap();
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let commit = &commit;
            scope.spawn(move || (0..BATCHES).for_each(|round| commit(thread, round)));
        }
    });
    let limit = ReadLimit { publications: 1_000, bytes: usize::MAX };
    for channel in ["run:1", "run:2"] {
        let query = Query { after: Sequence::ZERO, only: Only::All, limit };
        let page = subject.store().read(&name(channel), &query).unwrap();
        let sequences: Vec<_> = page.events.iter().map(|(sequence, _)| sequence.0).collect();
        assert_eq!(sequences, (1..=(THREADS * BATCHES) as u64).collect::<Vec<_>>(), "{channel}");
        for thread in 0..THREADS {
            let own = page.events.iter().filter_map(|(_, accepted)| {
                accepted
                    .event
                    .id
                    .as_ref()?
                    .as_str()
                    .strip_prefix(&format!("{thread}."))?
                    .parse::<usize>()
                    .ok()
            });
            assert_eq!(
                own.collect::<Vec<_>>(),
                (0..BATCHES).collect::<Vec<_>>(),
                "{channel}, thread {thread}"
            );
        }
    }
}
