//! The server's own channels: known while they are wanted, told to whoever listens, tapped by nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pulsewire_bus::{
    Accepted, Bus, ChannelKind, Namespace, Namespaces, Now, Options, Passed, RingLimits, Tap,
};
use pulsewire_protocol::{ChannelPattern, Epoch, EventType};
use pulsewire_telemetry::Telemetry;
use serde_json::value::RawValue;

use crate::{Ears, name, open};

#[derive(Default)]
struct Counted(AtomicUsize);

impl Tap for Counted {
    fn passed(&self, _: &Accepted, _: Now) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn bus() -> (Bus, Ears, Arc<Counted>) {
    let namespace = |pattern: &str| {
        Namespace::new(pattern, ChannelPattern::parse(pattern).unwrap(), ChannelKind::Ephemeral)
    };
    let (tap, ears) = (Arc::new(Counted::default()), Ears::default());
    let options = Options {
        namespaces: Namespaces::new(vec![namespace("$sys.*"), namespace("*")]),
        shards: 2,
        channels_max: 10,
        epoch: Epoch::parse("e1").unwrap(),
        incarnation: 1,
        store: None,
        broker: None,
        queue_max: 100,
        ring: RingLimits { publications: 1, bytes: 1 << 20 },
        series: Default::default(),
        tap: Some(tap.clone()),
    };
    (Bus::new(options, Telemetry::new(Default::default()), Box::new(ears.clone())), ears, tap)
}

fn listened(bus: &Bus) -> Vec<String> {
    bus.system_channels().iter().map(|channel| channel.name.to_string()).collect()
}

#[test]
fn a_system_channel_is_known_while_somebody_listens_and_then_forgotten() {
    let (bus, ..) = bus();
    let (first, second) = (open(&bus, "$sys.b"), open(&bus, "$sys.a"));
    open(&bus, "demo").listen(0);
    assert_eq!(listened(&bus), [""; 0], "nobody listens");
    assert!(bus.find(&name("$sys.a")).is_some(), "somebody has it at hand, and may listen");
    first.listen(0);
    second.listen(2);
    assert_eq!(listened(&bus), ["$sys.b", "$sys.a"], "in the order in which they came to be");
    first.unlisten(0);
    assert_eq!(listened(&bus), ["$sys.a"]);
    assert!(bus.find(&name("$sys.b")).is_some());
    drop(first);
    assert_eq!(listened(&bus), ["$sys.a"]);
    assert!(bus.find(&name("$sys.b")).is_none(), "forgotten");
    assert!(bus.find(&name("demo")).is_some(), "an application's channel stays");
    open(&bus, "$sys.b").listen(0);
    assert_eq!(listened(&bus), ["$sys.a", "$sys.b"]);
}

#[test]
fn who_joins_is_counted_and_who_leaves_is_not() {
    let (bus, ..) = bus();
    let channel = open(&bus, "$sys.a");
    assert_eq!(channel.joined(), 0);
    channel.listen(0);
    channel.listen(1);
    channel.unlisten(0);
    assert_eq!((channel.joined(), channel.listeners()), (2, 1));
}

#[test]
fn what_is_told_reaches_the_listeners_and_no_tap() {
    let (bus, ears, tap) = bus();
    let channel = open(&bus, "$sys.a");
    channel.listen(1);
    let data = RawValue::from_string(r#"{"x":1}"#.to_owned()).unwrap();
    let event_type = EventType::parse("page").unwrap();
    assert!(bus.tell_system(&channel, event_type.clone(), data.clone(), Now::default()));
    assert_eq!(*ears.heard.lock(), [(1, 0)], "the shard that listens, without a sequence");
    assert_eq!(tap.0.load(Ordering::Relaxed), 0);
    assert_eq!(channel.passed(), Passed { publications: 1, bytes: 7, critical: 0 });
    ears.full.store(true, Ordering::Relaxed);
    assert!(
        !bus.tell_system(&channel, event_type, data, Now::default()),
        "it says so if they cannot be told"
    );
    assert_eq!(ears.heard.lock().len(), 1);
}
