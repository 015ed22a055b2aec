//! Two nodes, one thing at a time. The events of the second node are tagged in turn with nothing, `b` and `a`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use pulsewire_bus::MemoryStore;
use pulsewire_hub::HubSettings;
use pulsewire_protocol::Epoch;

use super::{Hints, Network, Shared};
use crate::scenarios::Scene;
use crate::sim::chaos;
use crate::sim::client::Wanted;
use crate::sim::net::Say;
use crate::sim::rng::Rng;
use crate::sim::world::{Connecting, EPOCH, Place, Plan, World};

struct Pair {
    near: Scene,
    far: World,
    hints: Hints,
}

impl Pair {
    fn new() -> Self {
        let store = Arc::new(Shared {
            memory: MemoryStore::new(Epoch::parse(EPOCH).expect("an epoch"), 1_000),
            rng: Mutex::new(Rng::new(1)),
            healthy: AtomicBool::new(true),
        });
        let hints = Hints::default();
        let node = |number: usize| {
            let broker = Arc::new(Network { from: number, hints: hints.clone() });
            let place = Place { number, nodes: 2, incarnation: number as u64, store: store.clone(), broker };
            World::new(1, Plan { node: Some(place), ..Plan::calm(HubSettings::default()) })
        };
        Self { near: Scene(node(0)), far: node(1), hints }
    }

    fn join(&mut self, user: &str) -> usize {
        let client = self.near.client(user);
        self.near.connect(client, Connecting { token: Some(user.into()), ..Connecting::default() });
        client
    }

    /// The far node publishes, and nobody has heard of it yet.
    fn publish(&mut self, count: usize) {
        for _ in 0..count {
            self.far.publish("run:1", 0).expect("accepted");
        }
        self.near.0.truth.log.clone_from(&self.far.truth.log);
    }

    /// The near node hears of what was published.
    fn hear(&mut self) {
        let hints = std::mem::take(&mut *self.hints.lock());
        let node = &mut self.near.0;
        hints.iter().filter(|(to, _)| *to == 0).for_each(|(_, hint)| node.bus.receive(hint, node.now));
        node.settle();
    }

    fn want(&mut self, client: usize, channels: &[(&str, Option<u64>, char)]) {
        let wanted = |(channel, since, host): &(&str, Option<u64>, char)| Wanted {
            channel: (*channel).into(),
            since: since.map(|sequence| (EPOCH.into(), sequence)),
            head: self.near.0.truth.head(channel),
            replays: since.is_some(),
            critical: false,
            state: false,
            host: *host,
            interval: false,
            presence: None,
            low: 0,
        };
        let wanted = channels.iter().map(wanted).collect();
        chaos::ask_for(&mut self.near.0, client, wanted, 1);
        self.near.0.round(0, false);
    }

    fn heard(&mut self, client: usize) -> String {
        let heard = self.near.heard(client);
        let heard = heard.split(" | ").filter(|line| !line.starts_with('>'));
        heard.collect::<Vec<_>>().join(" | ")
    }
}

#[test]
fn a_filtered_reader_who_is_ahead_of_its_node_is_told_how_far_it_is_when_the_node_has_come_there() {
    let mut pair = Pair::new();
    pair.publish(1);
    let client = pair.join("ada");
    pair.want(client, &[("run:1", None, 'a')]);
    pair.near.0.settle();
    pair.publish(2);
    pair.want(client, &[("run:1", Some(0), 'a')]);
    pair.near.0.settle();
    let ahead = "welcome | subscribed run:1 @1 | subscribed run:1 @0 | event run:1 3 | replay_end run:1 3";
    assert_eq!(pair.heard(client), ahead);
    // Two that it does not want, and the node hears of all.
    pair.publish(2);
    pair.hear();
    pair.near.wait(1_500);
    pair.publish(1);
    pair.hear();
    assert_eq!(pair.heard(client), "pos run:1 5 | event run:1 6");
}

#[test]
fn channels_that_stop_being_at_hand_while_others_are_looked_up_are_looked_up_together() {
    let mut pair = Pair::new();
    let (ada, bob) = (pair.join("ada"), pair.join("bob"));
    pair.want(bob, &[("project:7", None, '*')]);
    pair.near.0.settle();
    pair.want(ada, &[("project:7", None, '*'), ("run:1", None, '*')]);
    pair.near.0.say(bob, Say::Text(r#"{"type":"unsubscribe","channels":["project:7"]}"#.into()));
    pair.near.0.round(0, false);
    pair.near.wait(2_000);
    assert_eq!(pair.heard(ada), "welcome | subscribed project:7,run:1 @0 @0");
}
