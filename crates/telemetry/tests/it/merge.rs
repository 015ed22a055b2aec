//! Many writers, one truth.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;
use pulsewire_telemetry::{
    AuthFailure, Closed, ConnectionError, Current, Direction, DisconnectReason, DropCause, EventTypeId,
    Format, Initiator, Layer, MessageError, MessageType, Options, Proof, ShardMetrics, SharedMetrics,
    Telemetry, numbers, render,
};

use crate::parser::parse;

#[derive(Clone, Debug)]
enum Verb {
    Opened,
    Closed(u16, usize, usize, u64),
    Failed(usize),
    Received(usize),
    Sent(u16, u64, u64),
    Delivered(u16, u64, u64),
    Receipt(u16, u64, usize),
    Error(usize),
    Heartbeat(u64),
    Dropped(usize, u64),
    Auth(usize),
    Fanout(u64, u64),
    Tcp(u64, u64, u64, u64),
}

fn verb() -> impl Strategy<Value = Verb> {
    let small = 0..5_u64;
    let ns = prop_oneof![0..10_000_000_000_u64, Just(0), Just(u64::MAX / 8), Just(100_000), Just(100_001)];
    prop_oneof![
        Just(Verb::Opened),
        (990..5000_u16, 0..DisconnectReason::COUNT, 0..Initiator::COUNT, ns.clone())
            .prop_map(|(code, reason, initiator, lasted)| Verb::Closed(code, reason, initiator, lasted)),
        (0..ConnectionError::COUNT).prop_map(Verb::Failed),
        (0..MessageType::COUNT).prop_map(Verb::Received),
        (0..300_u16, small.clone(), 0..10_000_u64).prop_map(|(id, n, bytes)| Verb::Sent(id, n, bytes)),
        (0..300_u16, ns.clone(), small.clone()).prop_map(|(id, ns, n)| Verb::Delivered(id, ns, n)),
        (0..300_u16, ns.clone(), 0..Proof::COUNT).prop_map(|(id, ns, proof)| Verb::Receipt(id, ns, proof)),
        (0..MessageError::COUNT).prop_map(Verb::Error),
        ns.clone().prop_map(Verb::Heartbeat),
        (0..DropCause::COUNT, small.clone()).prop_map(|(cause, n)| Verb::Dropped(cause, n)),
        (0..AuthFailure::COUNT).prop_map(Verb::Auth),
        (ns.clone(), 0..100_000_u64).prop_map(|(ns, n)| Verb::Fanout(ns, n)),
        (ns, small.clone(), 0..100_000_u64, 0..100_000_u64)
            .prop_map(|(rtt, n, a, b)| Verb::Tcp(rtt, n, a, b)),
    ]
}

macro_rules! apply {
    ($name:ident, $recorder:ty) => {
        fn $name(to: &$recorder, verb: &Verb) {
            match *verb {
                Verb::Opened => to.connection_opened(),
                Verb::Closed(code, reason, initiator, lasted_ns) => to.connection_closed(&Closed {
                    code,
                    reason: DisconnectReason::ALL[reason],
                    initiator: Initiator::ALL[initiator],
                    lasted_ns,
                }),
                Verb::Failed(kind) => to.connection_failed(ConnectionError::ALL[kind]),
                Verb::Received(kind) => to.message_received(MessageType::ALL[kind]),
                Verb::Sent(id, n, bytes) => to.message_sent(EventTypeId(id), n, bytes),
                Verb::Delivered(id, ns, n) => to.delivered(EventTypeId(id), ns, n),
                Verb::Receipt(id, ns, proof) => to.receipt(EventTypeId(id), ns, Proof::ALL[proof]),
                Verb::Error(error) => to.message_error(MessageError::ALL[error]),
                Verb::Heartbeat(ns) => to.heartbeat_answered(ns),
                Verb::Dropped(cause, n) => to.dropped(DropCause::ALL[cause], n),
                Verb::Auth(reason) => to.auth_failed(AuthFailure::ALL[reason]),
                Verb::Fanout(ns, n) => to.fanout_started(ns, n),
                Verb::Tcp(rtt, n, unsent, unacked) => to.tcp_sample(rtt, n, unsent, unacked),
            }
        }
    };
}
apply!(apply_shard, ShardMetrics);
apply!(apply_shared, SharedMetrics);

/// Everything but what the process itself changes between two looks.
fn seen(telemetry: &Telemetry) -> BTreeMap<String, f64> {
    let mut seen = numbers(telemetry, &Current::default());
    seen.retain(|name, _| !name.starts_with("process_") && !name.starts_with("pulsewire_process"));
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn shards_together_show_what_one_writer_would(verbs in proptest::collection::vec((0..4_usize, verb()), 0..200)) {
        let (split, whole) = (Telemetry::new(Options::default()), Telemetry::new(Options::default()));
        let shards: Vec<_> = (0..3).map(|_| split.shard()).collect();
        for (writer, verb) in &verbs {
            match shards.get(*writer) {
                Some(shard) => apply_shard(shard, verb),
                None => apply_shared(split.shared(), verb),
            }
            apply_shared(whole.shared(), verb);
        }
        drop(shards);
        prop_assert_eq!(seen(&split), seen(&whole));
    }
}

#[test]
fn a_scrape_amid_writes_is_consistent_and_nothing_is_lost() {
    const ROUNDS: u64 = 20_000;
    let telemetry = Telemetry::new(Options::default());
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|n| {
            let (telemetry, shard) = (Arc::clone(&telemetry), telemetry.shard());
            thread::spawn(move || {
                for round in 0..ROUNDS {
                    let id = EventTypeId(u16::try_from(round % 10).unwrap());
                    shard.delivered(id, round * 1000, 1);
                    telemetry.shared().bytes(Direction::Sent, Layer::Wire, n);
                }
            })
        })
        .collect();
    let scraper = {
        let (telemetry, done) = (Arc::clone(&telemetry), Arc::clone(&done));
        thread::spawn(move || {
            // The parser holds every page to cumulative buckets and a count that is the +Inf bucket.
            let mut last = 0.0;
            while !done.load(Ordering::Acquire) {
                let page = parse(&render(&telemetry, &Current::default(), Format::Text004), Format::Text004);
                let samples = &page["pulsewire_delivery_seconds"].samples;
                let count = samples.iter().find(|s| s.name.ends_with("_count")).unwrap().value;
                assert!(count >= last);
                last = count;
            }
        })
    };
    for writer in writers {
        writer.join().unwrap();
    }
    done.store(true, Ordering::Release);
    scraper.join().unwrap();
    let seen = seen(&telemetry);
    assert_eq!(seen["pulsewire_delivery_seconds_count{proof=\"handoff\"}"], 3.0 * ROUNDS as f64);
    assert_eq!(seen["pulsewire_bytes_total{direction=\"sent\",layer=\"wire\"}"], 3.0 * ROUNDS as f64);
}
