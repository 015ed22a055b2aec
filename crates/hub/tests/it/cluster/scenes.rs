//! Two nodes, one thing at a time. The events of the second node are tagged in turn with nothing, `b` and `a`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use pulsewire_bus::MemoryStore;
use pulsewire_hub::{HubSettings, Limits};
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
    store: Arc<Shared>,
}

impl Pair {
    fn new() -> Self {
        Self::with(1, Limits::default())
    }

    fn with(shards: usize, limits: Limits) -> Self {
        let settings = HubSettings { limits, ..HubSettings::default() };
        let store = Arc::new(Shared {
            memory: Mutex::new(MemoryStore::new(Epoch::parse(EPOCH).expect("an epoch"), 1_000)),
            rng: Mutex::new(Rng::new(1)),
            healthy: AtomicBool::new(true),
            lost: AtomicU64::new(0),
        });
        let hints = Hints::default();
        let node = |number: usize| {
            let broker = Arc::new(Network { from: number, hints: hints.clone() });
            let place = Place { number, nodes: 2, incarnation: number as u64, store: store.clone(), broker };
            World::new(1, Plan { node: Some(place), shards, ..Plan::calm(settings.clone()) })
        };
        Self { near: Scene(node(0)), far: node(1), hints, store }
    }

    /// The history is another one, and the near node finds out; its shards have yet to be told.
    fn fail_over(&mut self) {
        self.store.fail_over("e2");
        let node = &mut self.near.0;
        node.bus.check_heads();
        node.store_work(10);
    }

    fn join(&mut self, user: &str) -> usize {
        self.join_at(user, 0)
    }

    fn join_at(&mut self, user: &str, shard: usize) -> usize {
        let client = self.near.client(user);
        let with = Connecting { token: Some(user.into()), shard: Some(shard), ..Connecting::default() };
        self.near.connect(client, with);
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

    fn wanted(&self, channel: &str, since: Option<u64>, host: char) -> Wanted {
        Wanted {
            channel: channel.into(),
            since: since.map(|sequence| (EPOCH.into(), sequence)),
            head: self.near.0.truth.head(channel),
            replays: since.is_some(),
            critical: false,
            state: false,
            host,
            interval: false,
            presence: None,
            low: 0,
        }
    }

    fn want(&mut self, client: usize, channels: &[(&str, Option<u64>, char)]) {
        let wanted =
            channels.iter().map(|(channel, since, host)| self.wanted(channel, *since, *host)).collect();
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

#[test]
fn a_subscription_that_is_asked_for_again_before_its_shard_knows_of_another_history_hears_everything_once() {
    let mut pair = Pair::with(2, Limits::default());
    let (ada, bob) = (pair.join_at("ada", 0), pair.join_at("bob", 1));
    for client in [ada, bob] {
        pair.want(client, &[("run:1", None, '*')]);
        pair.near.0.settle();
    }
    pair.publish(1);
    pair.hear();
    pair.fail_over();
    // The other shard has gone on with the new history, so it is at hand when this one is asked.
    pair.near.0.round(1, false);
    let (shard, key) = pair.near.0.wires.borrow().list[0].at.expect("it is connected");
    assert_eq!(shard, 0);
    let now = pair.near.0.now;
    pair.near.0.shards[0].text(key, r#"{"type":"subscribe","channels":["run:1"]}"#, now);
    pair.near.0.settle();
    pair.publish(1);
    pair.hear();
    let heard = pair.heard(ada);
    assert!(
        heard.ends_with("event run:1 1 | reset run:1 1 | subscribed run:1 @1 | event run:1 2"),
        "{heard}"
    );
}

#[test]
fn a_state_that_another_history_breaks_off_comes_anew() {
    let mut pair = Pair::with(1, Limits { page_events: 2, ..Limits::default() });
    pair.publish(1);
    let (ada, bob) = (pair.join("ada"), pair.join("bob"));
    pair.want(bob, &[("run:1", None, '*')]);
    pair.near.0.settle();
    for _ in 0..4 {
        pair.near.0.publish("run:1", 0).expect("accepted");
        pair.far.truth.log.clone_from(&pair.near.0.truth.log);
    }
    let state = Wanted { state: true, ..pair.wanted("run:1", None, '*') };
    chaos::ask_for(&mut pair.near.0, ada, vec![state], 1);
    pair.near.0.round(0, false);
    pair.near.0.backend_work(1);
    pair.near.0.store_work(1);
    pair.near.0.backend_tell(1);
    pair.near.0.round(0, false);
    pair.fail_over();
    pair.near.wait(2_000);
    let heard = pair.heard(ada);
    let parts = "state run:1 5 k1,k3 more | reset run:1 5 | state run:1 5 k1,k3 more | state run:1 5 k4";
    assert!(heard.contains(parts), "{heard}");
}

#[test]
fn an_event_that_the_store_has_lost_is_a_gap_and_ends_nothing() {
    let mut pair = Pair::new();
    pair.publish(4);
    pair.store.lost.store(2, Ordering::Relaxed);
    let client = pair.join("ada");
    pair.want(client, &[("run:1", Some(0), '*')]);
    pair.near.0.settle();
    // The simulated client knows that it is no fault of retention.
    assert_eq!(pair.near.0.clients[client].faults.drain(..).count(), 1);
    let gap = "event run:1 1 | gap run:1 2 2 | event run:1 3 | event run:1 4 | replay_end run:1 4";
    assert_eq!(pair.heard(client), format!("welcome | subscribed run:1 @0 | {gap}"));
}
