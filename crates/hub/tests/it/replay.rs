//! Replays of critical events and the keyed state, one thing at a time. Of the events published here the third, the
//! tenth and the seventeenth are critical, and every second has a key.

use pulsewire_hub::{HubSettings, Limits};
use pulsewire_protocol::SessionId;

use crate::scenarios::Scene;
use crate::sim::chaos;
use crate::sim::client::Wanted;
use crate::sim::world::{Connecting, Plan, World};

/// A scene in which reading takes time, and a page holds few events.
fn scene(history_max: usize, page_events: usize) -> Scene {
    let limits = Limits { page_events, ..Limits::default() };
    let settings = HubSettings { limits, ..HubSettings::default() };
    Scene(World::new(1, Plan { history_max, distant: true, ring: 1, ..Plan::calm(settings) }))
}

/// What is wanted of the channel: everything that comes from now on.
fn live() -> Wanted {
    Wanted {
        channel: "run:1".into(),
        since: None,
        head: 0,
        replays: false,
        critical: false,
        state: false,
        host: '*',
        interval: false,
        presence: None,
        low: 0,
    }
}

fn critical() -> Wanted {
    Wanted { replays: true, critical: true, ..live() }
}

fn state() -> Wanted {
    Wanted { state: true, ..live() }
}

/// The server hears what is wanted, and what it asks of its store is not answered yet.
fn ask(scene: &mut Scene, client: usize, wanted: Wanted) {
    chaos::ask_for(&mut scene.0, client, vec![wanted], 1);
    if let Some(heard) = &mut scene.0.clients[client].heard {
        heard.retain(|line| !line.starts_with('>'));
    }
    scene.0.round(0, false);
}

/// One thing that was asked of the store is answered.
fn answer(scene: &mut Scene) {
    scene.0.backend_work(1);
    scene.0.store_work(1);
    scene.0.backend_tell(1);
    scene.0.round(0, false);
    scene.0.clients_read();
}

/// Brings the channel to hand.
fn listen(scene: &mut Scene) {
    let client = scene.join("bob");
    ask(scene, client, live());
    scene.0.settle();
}

#[test]
fn critical_events_that_retention_left_come_before_the_live_ones() {
    let mut scene = scene(2, 20);
    listen(&mut scene);
    scene.publish("run:1", 16);
    let client = scene.join("ada");
    ask(&mut scene, client, critical());
    scene.0.settle();
    scene.publish("run:1", 1);
    let heard = scene.heard(client);
    assert_eq!(
        heard,
        "subscribed run:1 @0 | event run:1 3 | event run:1 10 | replay_end run:1 16 | event run:1 17"
    );
}

#[test]
fn what_is_published_while_critical_events_are_replayed_comes_whole() {
    let mut scene = scene(100, 20);
    listen(&mut scene);
    scene.publish("run:1", 14);
    let client = scene.join("ada");
    ask(&mut scene, client, critical());
    scene.publish("run:1", 2);
    let heard = scene.heard(client);
    assert!(heard.starts_with("subscribed run:1 @0 | event run:1 3 | event run:1 10 | "), "{heard}");
    assert!(heard.ends_with("event run:1 15 | event run:1 16 | replay_end run:1 16"), "{heard}");
}

#[test]
fn a_session_that_breaks_while_critical_events_are_replayed_goes_on_with_critical_events() {
    let mut scene = scene(2, 1);
    listen(&mut scene);
    scene.publish("run:1", 16);
    let client = scene.join("ada");
    ask(&mut scene, client, critical());
    answer(&mut scene);
    let heard = scene.heard(client);
    assert_eq!(heard, "subscribed run:1 @0 | event run:1 3");
    scene.0.reset(client);
    scene.0.settle();
    let session = scene.0.clients[client].session.as_deref().and_then(|id| SessionId::parse(id).ok());
    scene.connect(client, Connecting { token: Some("ada".into()), session, ..Connecting::default() });
    let heard = scene.heard(client);
    assert!(heard.contains("event run:1 10 | "), "{heard}");
    assert!(!heard.contains("gap"), "{heard}");
    assert!(heard.ends_with("replay_end run:1 16"), "{heard}");
}

#[test]
fn a_state_that_is_not_wanted_any_more_is_not_sent() {
    let mut scene = scene(100, 20);
    listen(&mut scene);
    scene.publish("run:1", 5);
    let client = scene.join("ada");
    ask(&mut scene, client, state());
    ask(&mut scene, client, Wanted { replays: true, ..live() });
    scene.0.settle();
    let heard = scene.heard(client);
    assert!(!heard.contains("state"), "{heard}");
    assert!(heard.ends_with("event run:1 5 | replay_end run:1 5"), "{heard}");
}

#[test]
fn the_state_comes_in_parts_and_events_bring_it_up_to_date() {
    let mut scene = scene(100, 2);
    listen(&mut scene);
    scene.publish("run:1", 8);
    let client = scene.join("ada");
    ask(&mut scene, client, state());
    answer(&mut scene);
    scene.publish("run:1", 2);
    let heard = scene.heard(client);
    // The fourth has removed its key.
    let parts = "subscribed run:1 @8 | state run:1 8 k1,k3 more | state run:1 10 k4,k5 | ";
    assert!(heard.starts_with(parts), "{heard}");
    assert!(heard.ends_with("event run:1 9 | event run:1 10 | replay_end run:1 10"), "{heard}");
    scene.0.clients[client].check_complete(&scene.0.truth);
}
