//! What operators see of connections, held against what a plain walk over all of them shows.

use std::sync::{Arc, Mutex};

use pulsewire_hub::watch::filter::Filter;
use pulsewire_hub::watch::tap::TapEvent;
use pulsewire_hub::watch::timeline::{Entry, Happening, Note};
use pulsewire_hub::watch::{Candidate, ConnectionField, Group, Groups, Query, Ranked, Row, Sort, Top};
use pulsewire_hub::{ConnectionInfo, HubSettings, Limits, Order, Reply};
use pulsewire_protocol::SessionId;
use pulsewire_telemetry::Direction;

use crate::scenarios::Scene;
use crate::sim::chaos::{self, Twist};
use crate::sim::client::Reading;
use crate::sim::world::{Connecting, Plan, World};

/// Asks a shard something and gives its answer.
fn ask<T: Send + 'static>(world: &mut World, shard: usize, order: impl FnOnce(Reply<T>) -> Order) -> T {
    let answer = Arc::new(Mutex::new(None));
    let place = answer.clone();
    let now = world.now;
    world.shards[shard].order(order(Box::new(move |it| *place.lock().unwrap() = Some(it))), now);
    let answered = answer.lock().unwrap().take();
    answered.expect("a shard answers at once")
}

fn query(filter: &str, by: ConnectionField, descending: bool, keep: usize) -> Query {
    let filter = Filter::parse(filter).expect("a filter");
    Query { filter, sort: Sort { by, descending }, keep, group: None, node: "n1".into() }
}

/// What all shards find, slice by slice.
fn find(world: &mut World, query: Query) -> (u64, u64, Vec<Row>, Groups) {
    let keep = query.keep;
    let query = Arc::new(query);
    let (mut top, mut groups, mut total, mut matched) = (Top::new(keep), Groups::default(), 0, 0);
    for shard in 0..world.shards.len() {
        let mut next = Some(0);
        while let Some(from) = next {
            let query = query.clone();
            let ranked: Ranked = ask(world, shard, |reply| Order::Rank { from, query, reply });
            assert!(ranked.candidates.len() <= keep);
            ranked.candidates.into_iter().for_each(|candidate| top.see(candidate));
            groups.merge(&ranked.groups);
            (total, matched) = (total + ranked.total, matched + ranked.matched);
            next = ranked.next;
        }
    }
    let keys = top.into_sorted().into_iter().map(|Candidate { key, .. }| key);
    let rows = keys.flat_map(|key| {
        let shard = key.shard().expect("no readers here");
        ask::<Vec<Row>>(world, shard, |reply| Order::Rows { keys: vec![key], reply })
    });
    (total, matched, rows.collect(), groups)
}

/// The number of a field as the plain list shows it.
fn number(info: &ConnectionInfo, field: ConnectionField) -> Option<f64> {
    match field {
        ConnectionField::Queue => Some(info.queued_bytes as f64),
        ConnectionField::Rtt => (info.heartbeat_rtt_ns > 0).then(|| info.heartbeat_rtt_ns as f64 / 1e6),
        ConnectionField::Latency => {
            (info.latency_count > 0).then(|| info.latency_sum_ns as f64 / 1e6 / f64::from(info.latency_count))
        }
        ConnectionField::Reconnects => Some(f64::from(info.reconnections)),
        ConnectionField::Subs => Some(info.channels.len() as f64),
        ConnectionField::Failures => Some(info.messages_failed as f64),
        ConnectionField::Sent => Some(info.messages_sent as f64),
        ConnectionField::Received => Some(info.messages_received as f64),
        _ => panic!("not asked here"),
    }
}

const FIELDS: [(ConnectionField, &str); 8] = [
    (ConnectionField::Queue, "queue"),
    (ConnectionField::Rtt, "rtt"),
    (ConnectionField::Latency, "latency"),
    (ConnectionField::Reconnects, "reconnects"),
    (ConnectionField::Subs, "subs"),
    (ConnectionField::Failures, "failures"),
    (ConnectionField::Sent, "sent"),
    (ConnectionField::Received, "received"),
];

/// One query at random, answered by the shards and by a walk over the plain list.
fn check_query(world: &mut World) {
    let (by, _) = *world.rng.pick(&FIELDS);
    let (field, name) = *world.rng.pick(&FIELDS);
    let (descending, keep) = (world.rng.chance(50), world.rng.below(8));
    let bound = world.rng.below(40) as f64;
    let user = format!("u{}", world.rng.below(4));
    let negated = world.rng.chance(50);
    let filter = format!("{}user:{user} {name}>={bound}", if negated { "-" } else { "" });
    let passes = |info: &&ConnectionInfo| {
        (*info.user == *user) != negated && number(info, field).is_some_and(|number| number >= bound)
    };
    let all = world.list();
    let expected: Vec<_> = all.iter().filter(passes).collect();
    let (total, matched, rows, _) = find(world, query(&filter, by, descending, keep));
    assert_eq!((total, matched), (all.len() as u64, expected.len() as u64), "{filter}");
    let mut figures: Vec<_> = expected.iter().map(|info| number(info, by)).collect();
    figures.sort_by(|one, another| match (one, another) {
        (Some(one), Some(another)) if descending => another.total_cmp(one),
        (Some(one), Some(another)) => one.total_cmp(another),
        // What was not measured is last in either direction.
        (one, another) => another.is_some().cmp(&one.is_some()),
    });
    figures.truncate(keep);
    let found: Vec<_> = rows.iter().map(|row| number(&row.info, by)).collect();
    assert_eq!(found, figures, "{filter} by {by:?} {descending}");
    assert!(rows.iter().all(|row| expected.contains(&&row.info)), "{filter}");
}

#[test]
fn the_shards_rank_as_a_walk_over_all_connections_would() {
    for seed in 0..40 {
        let mut world = chaos::world_at(seed, Twist::default(), None);
        for number in 0..60 {
            let pause = chaos::pause(&mut world.rng);
            world.advance(pause);
            chaos::step(&mut world, number, 6);
            check_query(&mut world);
        }
        let all = world.list();
        let groups =
            Query { group: Some(ConnectionField::User), ..query("", ConnectionField::Score, false, 0) };
        let (.., groups) = find(&mut world, groups);
        let grouped: u64 = groups.by_name.values().map(|group| group.connections).sum();
        assert_eq!((grouped, groups.left_out), (all.len() as u64, 0));
        for (user, Group { connections, queued_bytes, .. }) in &groups.by_name {
            let of_user = || all.iter().filter(|info| info.user == *user);
            assert_eq!(*connections, of_user().count() as u64, "{user}");
            assert_eq!(*queued_bytes, of_user().map(|info| info.queued_bytes).sum::<u64>(), "{user}");
        }
    }
}

#[test]
fn a_slice_is_a_thousand_slots_and_the_rest_follows() {
    let mut world = World::new(1, Plan::calm(HubSettings::default()));
    for number in 0..1_500 {
        world.clients.push(crate::sim::client::Client::new(number, "ada"));
        let with = Connecting { token: Some("ada".into()), ..Connecting::default() };
        world.connect(number, with).expect("admission has no bounds here");
    }
    world.settle();
    let everything = Arc::new(query("", ConnectionField::Age, true, 3));
    let first: Ranked = ask(&mut world, 0, |reply| Order::Rank { from: 0, query: everything.clone(), reply });
    assert_eq!((first.total, first.next, first.candidates.len()), (1_000, Some(1_000), 3));
    let second: Ranked = ask(&mut world, 0, |reply| Order::Rank { from: 1_000, query: everything, reply });
    assert_eq!((second.total, second.next), (500, None));
}

fn timeline(scene: &mut Scene, session: SessionId) -> Vec<String> {
    let shard = usize::from(session.shard());
    let entries: Vec<Entry> = ask(&mut scene.0, shard, |reply| Order::Timeline(session, reply));
    assert!(entries.is_sorted_by_key(|entry| entry.id), "oldest first");
    entries.iter().map(|entry| entry.note.what.as_str().to_owned()).collect()
}

#[test]
fn a_timeline_tells_a_whole_life_with_its_lag_and_its_return() {
    let mut scene = Scene::narrow(Limits::default());
    let ada = scene.join("ada");
    let session = scene.0.list()[0].session.expect("it has authenticated");
    scene.say(ada, r#"{"type":"subscribe","channels":["run:1","run:2"]}"#);
    scene.say(ada, r#"{"type":"unsubscribe","channels":["run:2"]}"#);
    scene.say(ada, r#"{"type":"unsubscribe","channels":["run:3"]}"#);
    scene.0.clients[ada].reading = Reading::Nothing;
    scene.publish("run:1", 900);
    scene.wait(5_000);
    scene.0.clients[ada].reading = Reading::All;
    scene.wait(20_000);
    scene.0.reset(ada);
    scene.0.settle();
    scene.publish("run:1", 2);
    let with = Connecting { token: Some("ada".into()), session: Some(session), ..Connecting::default() };
    scene.connect(ada, with);
    scene.wait(5_000);
    let told = timeline(&mut scene, session).join(" ");
    let expected = "opened authenticated subscribed subscribed unsubscribed error lagging slow caught_up closed \
                    detached opened authenticated resumed replaying recovered";
    assert_eq!(told, expected);
    let other = SessionId::new(session.time_ms(), session.shard(), session.slot(), 1);
    assert_eq!(timeline(&mut scene, other), Vec::<String>::new(), "a timeline is its session's own");
}

#[test]
fn a_message_about_many_channels_leaves_a_few_entries() {
    let mut scene = Scene::new(Limits::default());
    let ada = scene.join("ada");
    let session = scene.0.list()[0].session.expect("it has authenticated");
    let channels: Vec<String> = (0..50).map(|number| format!("\"run:{number}\"")).collect();
    scene.say(ada, &format!(r#"{{"type":"subscribe","channels":[{}]}}"#, channels.join(",")));
    let told = timeline(&mut scene, session);
    assert_eq!(told.iter().filter(|what| *what == "subscribed").count(), 8);
    assert_eq!(told.last().map(String::as_str), Some("and_more"));
}

#[test]
fn what_was_seen_elsewhere_is_written_down_for_the_sessions_own_user_only() {
    let mut scene = Scene::new(Limits::default());
    scene.join("ada");
    let session = scene.0.list()[0].session.expect("it has authenticated");
    let before = timeline(&mut scene, session);
    let shard = usize::from(session.shard());
    for (user, expected) in [("eve", 0), ("", 0), ("ada", 1)] {
        let (user, note) = (user.into(), Note::of(Happening::FellBack));
        scene.0.shards[shard].order(Order::Noted { user, session, note }, scene.0.now);
        assert_eq!(timeline(&mut scene, session).len(), before.len() + expected);
    }
    assert_eq!(timeline(&mut scene, session).last().map(String::as_str), Some("fell_back"));
}

/// Opens a tap; what it tells is in the list.
fn tap(scene: &mut Scene, number: u64, session: SessionId) -> Arc<Mutex<Vec<TapEvent>>> {
    let told = Arc::<Mutex<Vec<_>>>::default();
    let list = told.clone();
    let sink = Box::new(move |event| {
        list.lock().unwrap().push(event);
        true
    });
    let shard = usize::from(session.shard());
    assert!(ask(&mut scene.0, shard, |reply| Order::Tap { number, session, sink, reply }));
    told
}

/// `> type` for what a client was sent, `< type` for what it said, with the place in the channel if it has one.
fn told(list: &Arc<Mutex<Vec<TapEvent>>>) -> Vec<String> {
    let shown = |event: TapEvent| match event {
        TapEvent::Message(message) => {
            let sign = if message.direction == Direction::Sent { '>' } else { '<' };
            let place = message.sequence.map_or_else(String::new, |sequence| format!(" {sequence}"));
            format!("{sign} {}{place}", message.kind)
        }
        TapEvent::Skipped(count) => format!("skipped {count}"),
        TapEvent::Ended => "ended".to_owned(),
    };
    list.lock().unwrap().drain(..).map(shown).collect()
}

#[test]
fn a_tap_tells_what_one_client_is_sent_and_says_and_of_nobody_else() {
    let mut scene = Scene::new(Limits::default());
    let ada = scene.join("ada");
    let session = scene.0.list()[0].session.expect("it has authenticated");
    let bob = scene.join("bob");
    let list = tap(&mut scene, 1, session);
    for client in [ada, bob] {
        scene.say(client, r#"{"type":"subscribe","channels":["run:1"]}"#);
    }
    scene.publish("run:1", 3);
    scene.say(ada, r#"{"type":"refresh","token":"ada"}"#);
    scene.say(bob, r#"{"type":"ping"}"#);
    let expected =
        ["< subscribe", "> subscribed", "> event 1", "> event 2", "> event 3", "< refresh", "> refreshed"];
    let messages: Vec<_> = list.lock().unwrap().clone();
    let secret = |event: &TapEvent| matches!(event, TapEvent::Message(it) if it.kind == "refresh" && it.payload.is_empty());
    assert!(messages.iter().any(secret), "a token is never shown");
    let full = |event: &TapEvent| matches!(event, TapEvent::Message(it) if it.kind == "event" && it.payload.starts_with(b"{"));
    assert_eq!(messages.iter().filter(|event| full(event)).count(), 3);
    assert_eq!(told(&list)[..7], expected);
    scene.0.shards[0].order(Order::Untap(1), scene.0.now);
    scene.publish("run:1", 1);
    assert_eq!(told(&list), Vec::<String>::new(), "a closed tap tells nothing");
}

#[test]
fn a_tap_on_a_client_that_lags_tells_each_event_once_and_what_it_left_out() {
    let mut scene = Scene::narrow(Limits::default());
    let ada = scene.join("ada");
    let session = scene.0.list()[0].session.expect("it has authenticated");
    scene.say(ada, r#"{"type":"subscribe","channels":["run:1"]}"#);
    let list = tap(&mut scene, 1, session);
    scene.0.clients[ada].reading = Reading::Nothing;
    scene.publish("run:1", 90);
    scene.wait(2_000);
    scene.0.clients[ada].reading = Reading::All;
    scene.wait(5_000);
    let events: Vec<_> = told(&list).into_iter().filter(|event| event.starts_with("> event")).collect();
    let expected: Vec<_> = (1..=90).map(|sequence| format!("> event {sequence}")).collect();
    assert_eq!(events, expected, "below its bound a tap loses nothing and repeats nothing");
    scene.publish("run:1", 250);
    scene.wait(5_000);
    let after = told(&list);
    let skipped: u64 =
        after.iter().filter_map(|event| event.strip_prefix("skipped ")?.parse::<u64>().ok()).sum();
    let events = after.iter().filter(|event| event.starts_with("> ")).count() as u64;
    let pings = after.iter().filter(|event| event.contains("ping") || event.contains("pos")).count() as u64;
    assert_eq!(events - pings + skipped, 250, "{after:?}");
    scene.0.reset(ada);
    scene.wait(200_000);
    assert_eq!(told(&list).last().map(String::as_str), Some("ended"), "the session was not resumed");
}
