//! The bus held to its contract: order, duplicates, retention, and all or nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cluster;
mod conformance;
mod database;
mod folder;
mod postgres;
#[path = "../../../hub/tests/it/sim/rng.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the simulation of the hub")]
mod rng;
mod series;
mod series_store;
mod shared;
mod sqlite;
mod system;
mod tap;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use parking_lot::Mutex;
use pulsewire_bus::{
    Audience, Bus, Channel, ChannelKind, NamedBy, Namespace, Namespaces, Now, Only, Options, Page,
    Publication, Publisher, Query, ReadLimit, RingLimits, SamplesReceipt,
};
use pulsewire_protocol::{
    ChannelName, ChannelPattern, Epoch, ErrorCode, Event, MetricKind, Number, Sample, Sequence, Tags,
};
use pulsewire_telemetry::{SampleSource, Telemetry};

/// An audience that writes down what it is given, by shard.
#[derive(Clone, Default)]
struct Ears {
    heard: Arc<Mutex<Vec<(usize, u64)>>>,
    full: Arc<AtomicBool>,
}

impl Audience for Ears {
    fn has_room(&self, _: usize) -> bool {
        !self.full.load(Ordering::Relaxed)
    }

    fn deliver(&self, shard: usize, publications: &[Arc<Publication>]) {
        self.heard.lock().extend(publications.iter().map(|publication| (shard, publication.sequence.0)));
    }

    fn replaced(&self, _: usize, _: &Arc<Channel>) {}
}

fn bus(history_max: usize, critical_max: usize) -> (Bus, Ears) {
    let namespace = |pattern: &str, kind| Namespace {
        history_max,
        critical_types: ["FLAG".into()].into(),
        critical_max,
        ..Namespace::new(pattern, ChannelPattern::parse(pattern).unwrap(), kind)
    };
    let namespaces = Namespaces::new(vec![
        namespace("run:*", ChannelKind::Log),
        namespace("cursor:*", ChannelKind::Ephemeral),
        namespace("*.metrics", ChannelKind::Metrics),
    ]);
    let ears = Ears::default();
    let options = Options {
        namespaces,
        shards: 2,
        channels_max: 3,
        epoch: Epoch::parse("e1").unwrap(),
        incarnation: 1,
        store: None,
        broker: None,
        queue_max: 100,
        ring: RingLimits { publications: 1, bytes: 1 << 20 },
        series: Default::default(),
        tap: None,
    };
    (Bus::new(options, Telemetry::new(Default::default()), Box::new(ears.clone())), ears)
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

fn open(bus: &Bus, channel: &str) -> Arc<Channel> {
    let (reply, answer) = mpsc::channel();
    bus.open(
        Now::default(),
        vec![(name(channel), Sequence::ZERO)],
        Box::new(move |opened| reply.send(opened).unwrap()),
    );
    answer.try_recv().expect("memory answers at once").unwrap().remove(0)
}

fn read(bus: &Bus, channel: &Arc<Channel>, after: u64, only: Only) -> Arc<Page> {
    let (reply, answer) = mpsc::channel();
    let query =
        Query { after: Sequence(after), only, limit: ReadLimit { publications: 2, bytes: usize::MAX } };
    bus.read(Now::default(), channel, query, Box::new(move |page| reply.send(page).unwrap()));
    answer.try_recv().expect("memory answers at once").unwrap()
}

/// Publishes events written as `channel type id?` and tells what became of them.
fn publish(bus: &Bus, who: &str, events: &[&str]) -> String {
    let events = events
        .iter()
        .map(|line| {
            let mut words = line.split(' ');
            let (channel, kind) = (words.next().unwrap(), words.next().unwrap());
            let id = words.next().map_or(String::new(), |id| format!(r#","id":"{id}""#));
            let data = words.next().unwrap_or("1");
            let json = format!(r#"{{"channel":"{channel}","type":"{kind}","data":{data}{id}}}"#);
            Event::parse_one(json.as_bytes()).unwrap()
        })
        .collect();
    let (reply, answer) = mpsc::channel();
    let reply = Box::new(move |outcome| reply.send(outcome).unwrap());
    bus.publish(
        Now::default(),
        Publisher { named_by: NamedBy::Token, principal: who, user: None, begun_ns: 0 },
        events,
        reply,
    );
    match answer.try_recv().expect("memory answers at once") {
        Ok(receipts) => {
            let one = |receipt: &pulsewire_bus::Receipt| match (receipt.sequence, receipt.duplicate) {
                (Some(sequence), false) => sequence.0.to_string(),
                (Some(sequence), true) => format!("{}=", sequence.0),
                (None, _) => "-".into(),
            };
            receipts.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        Err(refusal) => format!("{:?} {}", refusal.index, refusal.code.name()),
    }
}

#[test]
fn a_channel_numbers_its_events_in_the_order_of_the_request() {
    let (bus, _) = bus(10, 10);
    assert_eq!(publish(&bus, "a", &["run:1 x", "run:2 x", "run:1 x", "cursor:1 x"]), "1 1 2 -");
    assert_eq!(open(&bus, "run:1").position().to_string(), "e1:2");
}

#[test]
fn an_id_is_accepted_once_for_each_principal() {
    let (bus, _) = bus(10, 10);
    assert_eq!(publish(&bus, "a", &["run:1 x m", "run:1 x m"]), "1 1=");
    assert_eq!(publish(&bus, "b", &["run:1 x m"]), "2");
    assert_eq!(publish(&bus, "a", &["run:1 x n", "run:1 x m 2"]), "Some(1) idempotency_conflict");
    assert_eq!(publish(&bus, "a", &["run:1 x o", "run:1 x o 2"]), "Some(1) idempotency_conflict");
    assert_eq!(publish(&bus, "a", &["run:1 x n"]), "3", "what stood beside the conflict was not published");
}

/// Row A22 and threat S26: nobody can take somebody else's message id by bearing the same name.
#[test]
fn the_same_name_from_another_authority_is_another_publisher() {
    let (bus, _) = bus(10, 10);
    let publish = |named_by, principal, id: &str| {
        let json = format!(r#"{{"channel":"run:1","type":"x","id":"{id}","data":"{named_by:?}"}}"#);
        let event = Event::parse_one(json.as_bytes()).unwrap();
        let publisher = Publisher { named_by, principal, user: None, begun_ns: 0 };
        let (reply, answer) = mpsc::channel();
        let reply = Box::new(move |outcome| reply.send(outcome).unwrap());
        bus.publish(Now::default(), publisher, vec![event], reply);
        let receipts = answer.try_recv().expect("memory answers at once").unwrap();
        (receipts[0].sequence.unwrap().0, receipts[0].duplicate)
    };
    assert_eq!(publish(NamedBy::Token, "key:ci", "m1"), (1, false), "the squatter comes first");
    assert_eq!(publish(NamedBy::ApiKey, "key:ci", "m1"), (2, false), "and is in nobody's way");
    assert_eq!(publish(NamedBy::Nobody, "key:ci", "m1"), (3, false));
    assert_eq!(publish(NamedBy::ApiKey, "key:ci", "m1"), (2, true), "a repetition still is one");
    // A name that looks like another's kind and name is told apart too.
    assert_eq!(publish(NamedBy::Nobody, "tkey:ci", "m1"), (4, false));
    assert_eq!(publish(NamedBy::Token, "key:c", "im1"), (5, false));
}

#[test]
fn a_request_with_a_bad_event_changes_nothing() {
    let (bus, _) = bus(10, 10);
    assert_eq!(publish(&bus, "a", &["run:1 x", "nope x"]), "Some(1) unknown_channel");
    assert_eq!(publish(&bus, "a", &["run:1 x", "a.metrics x"]), "Some(1) unsupported");
    assert_eq!(publish(&bus, "a", &["run:1 x"]), "1");
}

#[test]
fn retention_moves_the_floor_and_spares_critical_events() {
    let (bus, _) = bus(3, 2);
    assert_eq!(publish(&bus, "a", &["run:1 FLAG", "run:1 FLAG", "run:1 FLAG"]), "1 2 3");
    assert_eq!(publish(&bus, "a", &["run:1 x", "run:1 x", "run:1 x", "run:1 x"]), "4 5 6 7");
    let channel = open(&bus, "run:1");
    let page = read(&bus, &channel, 1, Only::All);
    let sequences = |list: &[Arc<Publication>]| list.iter().map(|one| one.sequence.0).collect::<Vec<_>>();
    assert_eq!((page.floor.0, page.head.0, sequences(&page.publications)), (4, 7, vec![5, 6]));
    assert_eq!(sequences(&read(&bus, &channel, 0, Only::Critical).publications), [2, 3]);
}

#[test]
fn only_shards_that_listen_are_told_and_a_full_one_refuses() {
    let (bus, ears) = bus(10, 10);
    let channel = open(&bus, "run:1");
    channel.listen(1);
    assert_eq!(publish(&bus, "a", &["run:1 x", "run:1 x"]), "1 2");
    assert_eq!(*ears.heard.lock(), [(1, 1), (1, 2)]);
    ears.full.store(true, Ordering::Relaxed);
    assert_eq!(publish(&bus, "a", &["run:1 x"]), "Some(0) overloaded");
    assert_eq!(publish(&bus, "a", &["run:2 x"]), "1", "nobody listens there");
    channel.unlisten(1);
    assert_eq!(publish(&bus, "a", &["run:1 x"]), "3");
}

#[test]
fn values_for_a_full_shard_are_refused_too() {
    let (bus, ears) = bus(10, 10);
    let sample = Sample {
        name: "n".into(),
        kind: MetricKind::Gauge,
        value: Number::Whole(1),
        tags: Tags::new([]).unwrap(),
        timestamp_ms: None,
    };
    let publish = || {
        let (channel, samples) = (name("a.metrics"), vec![sample.clone()]);
        bus.publish_samples(Now::default(), SampleSource::Http, &channel, samples)
    };
    open(&bus, "a.metrics").listen(0);
    assert_eq!(publish(), Ok(SamplesReceipt { accepted: 1, matched: 1, refused: Vec::new() }));
    ears.full.store(true, Ordering::Relaxed);
    assert_eq!(publish(), Err(ErrorCode::Overloaded));
    assert_eq!(ears.heard.lock().len(), 1);
}

#[test]
fn channels_that_keep_something_are_not_forgotten_for_others() {
    let (bus, _) = bus(10, 10);
    assert_eq!(publish(&bus, "a", &["run:1 x", "cursor:1 x", "cursor:2 x"]), "1 - -");
    assert_eq!(publish(&bus, "a", &["run:2 x"]), "1", "the idle ones made room");
    assert_eq!(publish(&bus, "a", &["run:3 x"]), "1");
    assert_eq!(publish(&bus, "a", &["run:4 x"]), "Some(0) limit_exceeded");
}

/// Waits until a condition holds; `what` says which one did not.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !holds() {
        assert!(std::time::Instant::now() < end, "waited in vain: {what}");
        std::thread::yield_now();
    }
}
