//! Whoever taps a bus is told of every event that this node accepted, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pulsewire_bus::{
    Accepted, Batch, Bus, ChannelKind, Decision, Extent, Failure, Hint, MemoryStore, Namespace, Namespaces,
    Now, Only, Options, Outcome, Query, ReadLimit, Retention, RingLimits, StateSlice, Store, StoreError,
    StoredPage, Tap, Turn,
};
use pulsewire_protocol::{ChannelName, ChannelPattern, Epoch, Event, Sequence};
use pulsewire_telemetry::Telemetry;

use crate::{Ears, name, open, publish, read};

/// Writes down the types of what passes.
#[derive(Default)]
struct Passed(Mutex<Vec<String>>);

impl Tap for Passed {
    fn passed(&self, accepted: &Accepted, _: Now) {
        self.0.lock().push(accepted.event.event_type.as_str().to_owned());
    }
}

impl Passed {
    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock()).join(" ")
    }
}

fn tapped(store: Option<Arc<dyn Store>>) -> (Bus, Arc<Passed>) {
    let namespace =
        |pattern: &str, kind| Namespace::new(pattern, ChannelPattern::parse(pattern).unwrap(), kind);
    let namespaces =
        vec![namespace("run:*", ChannelKind::Log), namespace("cursor:*", ChannelKind::Ephemeral)];
    let passed = Arc::new(Passed::default());
    let options = Options {
        namespaces: Namespaces::new(namespaces),
        shards: 2,
        channels_max: 10,
        epoch: Epoch::parse("e1").unwrap(),
        incarnation: 1,
        store,
        broker: None,
        queue_max: 100,
        ring: RingLimits { publications: 1, bytes: 1 << 20 },
        series: Default::default(),
        tap: Some(passed.clone()),
    };
    (Bus::new(options, Telemetry::new(Default::default()), Box::new(Ears::default())), passed)
}

#[test]
fn a_tap_is_told_of_every_accepted_event_once_and_of_no_duplicate() {
    let (bus, passed) = tapped(None);
    assert_eq!(publish(&bus, "a", &["run:1 kept", "cursor:1 passing", "run:2 other"]), "1 - 1");
    assert_eq!(passed.take(), "kept passing other", "in the order of the request");
    assert_eq!(publish(&bus, "a", &["cursor:1 alone", "cursor:2 second"]), "- -");
    assert_eq!(passed.take(), "alone second");
    assert_eq!(publish(&bus, "a", &["run:1 named m", "run:1 named m", "run:1 next"]), "2 2= 3");
    assert_eq!(passed.take(), "named next");
    assert_eq!(publish(&bus, "a", &["run:1 named m"]), "2=");
    assert_eq!(publish(&bus, "a", &["run:1 x", "nope x"]), "Some(1) unknown_channel");
    assert_eq!(passed.take(), "", "neither what is known nor what is refused");
}

#[test]
fn a_tap_is_not_told_of_what_is_read_back_or_heard_from_another_node() {
    let (bus, passed) = tapped(None);
    let channel = open(&bus, "run:1");
    channel.listen(0);
    assert_eq!(publish(&bus, "a", &["run:1 here"]), "1");
    assert_eq!(passed.take(), "here");
    assert_eq!(read(&bus, &channel, 0, Only::All).publications.len(), 1);
    let event = Event::parse_one(br#"{"channel":"run:1","type":"there","data":1}"#).unwrap();
    let accepted = Arc::new(Accepted { event, user: None, timestamp_ms: 0 });
    let hint = Hint::new(name("run:1"), channel.epoch.clone(), vec![(Sequence(2), accepted)]);
    bus.receive(&hint, Now::default());
    assert_eq!(channel.position().sequence, Sequence(2), "it was heard");
    assert_eq!(passed.take(), "");
}

/// A store that keeps the first batch and does not say so.
struct Doubtful {
    memory: MemoryStore,
    lost: AtomicBool,
}

impl Store for Doubtful {
    fn name(&self) -> &'static str {
        "doubtful"
    }

    fn epoch(&self) -> Epoch {
        self.memory.epoch()
    }

    fn extents(&self, channels: &[ChannelName]) -> Result<Vec<Extent>, StoreError> {
        self.memory.extents(channels)
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Decision>, StoreError> {
        let decisions = self.memory.commit(batch)?;
        if self.lost.swap(true, Ordering::Relaxed) {
            return Ok(decisions);
        }
        Err(StoreError { failure: Failure::Io, outcome: Outcome::Unknown, detail: "lost".into() })
    }

    fn read(&self, channel: &ChannelName, query: &Query) -> Result<StoredPage, StoreError> {
        self.memory.read(channel, query)
    }

    fn state(
        &self,
        channel: &ChannelName,
        after: Option<&str>,
        limit: ReadLimit,
    ) -> Result<StateSlice, StoreError> {
        self.memory.state(channel, after, limit)
    }

    fn trim(&self, channel: &ChannelName, retention: &Retention, now_ms: i64) -> Result<Extent, StoreError> {
        self.memory.trim(channel, retention, now_ms)
    }
}

#[test]
fn an_event_whose_commit_was_found_kept_later_is_told_once() {
    let memory = MemoryStore::new(Epoch::parse("e1").unwrap(), 10);
    let (bus, passed) = tapped(Some(Arc::new(Doubtful { memory, lost: AtomicBool::new(false) })));
    let event = Event::parse_one(br#"{"channel":"run:1","type":"doubted","data":1}"#).unwrap();
    let publisher = pulsewire_bus::Publisher {
        named_by: pulsewire_bus::NamedBy::Nobody,
        principal: "a",
        user: None,
        begun_ns: 0,
    };
    bus.publish(Now::default(), publisher, vec![event], Box::new(|answer| assert!(answer.is_ok())));
    let lane = bus.durable_lane().unwrap();
    let Turn::Pause(until_ns) = bus.commit(lane, Now::default()) else { panic!("the outcome is unknown") };
    assert_eq!(passed.take(), "", "nobody knows whether it is kept");
    assert!(matches!(bus.commit(lane, Now { mono_ns: until_ns, wall_ms: 0 }), Turn::Done));
    assert_eq!(passed.take(), "doubted");
}
