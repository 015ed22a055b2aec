//! A consumer's decisions, held to a Redis and a bus that are a few lines each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use pulsewire_protocol::ErrorCode;

use super::consumer::{Consumer, ConsumerOptions, Entry, Fate, PublishRefusal, Step};
use super::entry::StreamSource;

fn consumer(streams: &[&str], in_flight_max: usize) -> Consumer {
    let streams = streams.iter().map(|text| StreamSource::parse(text).unwrap()).collect();
    Consumer::new(ConsumerOptions { streams, claim_after: Duration::from_secs(30), in_flight_max }, 0)
}

fn entry(stream: usize, id: u64, event_type: &str) -> Entry {
    let fields = vec![(b"type".to_vec(), event_type.as_bytes().to_vec())];
    Entry { stream, id: format!("{id}-0"), fields: Some(fields) }
}

fn refused(code: ErrorCode, index: Option<usize>) -> PublishRefusal {
    PublishRefusal { index, code, detail: String::new(), retry_after: None }
}

/// A step in a few words.
fn words(step: &Step) -> String {
    match step {
        Step::Publish(events) => {
            let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
            format!("publish {}", types.join(" "))
        }
        Step::Samples(channel, samples) => format!("samples {channel} {}", samples.len()),
        Step::Await(pause) => format!("await {}", pause.as_millis()),
        Step::Wait(pause) => format!("wait {}", pause.as_millis()),
        Step::Prepare => "prepare".to_owned(),
        Step::Own => "own".to_owned(),
        Step::Claim(stream, from) => format!("claim {stream} {from}"),
        Step::Read(_) => "read".to_owned(),
        Step::Hold(entries) => format!("hold {entries:?}"),
        Step::Settle(entries) => {
            let entries = entries.iter().map(|(entry, fate)| match fate {
                Fate::Kept => entry.id.clone(),
                Fate::Gone => format!("{} gone", entry.id),
                Fate::Refused(refusal) => format!("{} {}", entry.id, refusal.code.name()),
            });
            format!("settle {}", entries.collect::<Vec<_>>().join(", "))
        }
        Step::Look => "look".to_owned(),
        Step::Tidy => "tidy".to_owned(),
        Step::Done => "done".to_owned(),
    }
}

/// Takes it through the steps of a beginning: the group, what is its own, what can be claimed, figures.
fn begin(consumer: &mut Consumer) {
    let mut steps = Vec::new();
    loop {
        let step = consumer.next(0);
        steps.push(words(&step));
        match step {
            Step::Prepare => consumer.prepared(),
            Step::Own => consumer.own(Vec::new(), 0),
            Step::Claim(..) => drop(consumer.claimed(Vec::new(), "0-0", 0)),
            Step::Look | Step::Tidy => {}
            _ => break,
        }
    }
    assert_eq!(steps, ["prepare", "own", "claim 0 0-0", "look", "tidy", "read"]);
}

#[test]
fn entries_are_acknowledged_only_when_they_are_committed() {
    let mut consumer = consumer(&["a=run:1"], 10);
    begin(&mut consumer);
    consumer.read(vec![entry(0, 1, "x"), entry(0, 2, "y")], 100);
    assert_eq!(words(&consumer.next(100)), "publish x y");
    assert_eq!(words(&consumer.next(100)), "await 500");
    assert!(consumer.published(Err(refused(ErrorCode::StoreUnavailable, None)), 200, 0));
    assert_eq!(words(&consumer.next(200)), "wait 200");
    assert_eq!(words(&consumer.next(400)), "publish x y");
    assert!(consumer.published(Err(refused(ErrorCode::OutcomeUnknown, None)), 500, 0));
    assert_eq!(words(&consumer.next(500)), "wait 400", "twice as long");
    assert_eq!(words(&consumer.next(900)), "publish x y", "both, in their order");
    assert!(!consumer.published(Ok(()), 1_000, 0));
    assert_eq!(words(&consumer.next(1_000)), "settle 1-0, 2-0");
    consumer.settled();
    assert_eq!(words(&consumer.next(1_000)), "read");
}

#[test]
fn while_entries_wait_for_the_bus_nobody_claims_them() {
    let mut consumer = consumer(&["a=run:1", "b=run:2"], 10);
    while !matches!(consumer.next(0), Step::Read(_)) {
        match consumer.next(0) {
            Step::Prepare => consumer.prepared(),
            Step::Own => consumer.own(Vec::new(), 0),
            Step::Claim(..) => drop(consumer.claimed(Vec::new(), "0-0", 0)),
            _ => {}
        }
    }
    consumer.read(vec![entry(0, 1, "x"), entry(1, 2, "y")], 0);
    assert_eq!(words(&consumer.next(0)), "publish x y");
    assert_eq!(words(&consumer.next(9_999)), "await 1");
    let hold = "hold [(0, [\"1-0\"]), (1, [\"2-0\"])]";
    assert_eq!(words(&consumer.next(10_000)), hold);
    consumer.was_held(10_000);
    assert_eq!(words(&consumer.next(10_000)), "await 500");
    assert!(consumer.published(Err(refused(ErrorCode::Overloaded, None)), 19_950, 0));
    assert_eq!(words(&consumer.next(19_950)), "wait 50");
    assert_eq!(words(&consumer.next(20_000)), hold);
}

#[test]
fn what_is_refused_for_good_goes_alone_and_the_others_go_on_in_order() {
    let mut consumer = consumer(&["a=run:1"], 10);
    begin(&mut consumer);
    let wrong = Entry { fields: Some(vec![(b"wrong".to_vec(), Vec::new())]), ..entry(0, 3, "") };
    let gone = Entry { fields: None, ..entry(0, 4, "") };
    consumer.read(vec![entry(0, 1, "x"), entry(0, 2, "y"), wrong, gone, entry(0, 5, "z")], 0);
    assert_eq!(words(&consumer.next(0)), "publish x y z");
    assert!(!consumer.published(Err(refused(ErrorCode::UnknownChannel, Some(1))), 0, 0));
    assert_eq!(words(&consumer.next(0)), "publish x");
    consumer.published(Ok(()), 0, 0);
    assert_eq!(words(&consumer.next(0)), "publish y z");
    consumer.published(Err(refused(ErrorCode::UnknownChannel, Some(0))), 0, 0);
    assert_eq!(words(&consumer.next(0)), "publish z");
    consumer.published(Ok(()), 0, 0);
    assert_eq!(words(&consumer.next(0)), "settle 1-0, 2-0 unknown_channel, 3-0 bad_request, 4-0 gone, 5-0");
}

/// A bus that does not say which: the one that is wrong is found.
#[test]
fn a_refusal_that_names_no_event_is_found_by_halves() {
    let mut consumer = consumer(&["a=run:1"], 10);
    begin(&mut consumer);
    consumer.read((1..=7).map(|id| entry(0, id, if id == 5 { "bad" } else { "good" })).collect(), 0);
    let settled = loop {
        let step = consumer.next(0);
        match &step {
            Step::Publish(events) => {
                let is_bad = events.iter().any(|event| event.event_type.as_str() == "bad");
                let answer = if is_bad { Err(refused(ErrorCode::IdempotencyConflict, None)) } else { Ok(()) };
                consumer.published(answer, 0, 0);
            }
            _ => break words(&step),
        }
    };
    assert_eq!(settled, "settle 1-0, 2-0, 3-0, 4-0, 5-0 idempotency_conflict, 6-0, 7-0");
}

#[test]
fn samples_of_an_entry_are_taken_between_the_events_around_it() {
    let mut consumer = consumer(&["a=run:1"], 10);
    begin(&mut consumer);
    let samples = br#"[{"channel":"a.metrics","name":"n","value":1}]"#.to_vec();
    // The stream's own channel is another.
    let fields = vec![(b"channel".to_vec(), b"a.metrics".to_vec()), (b"samples".to_vec(), samples)];
    let numbers = Entry { fields: Some(fields), ..entry(0, 2, "") };
    consumer.read(vec![entry(0, 1, "x"), numbers, entry(0, 3, "y")], 0);
    let mut steps = Vec::new();
    loop {
        let step = consumer.next(0);
        steps.push(words(&step));
        match step {
            Step::Publish(_) | Step::Samples(..) => drop(consumer.published(Ok(()), 0, 0)),
            _ => break,
        }
    }
    assert_eq!(steps, ["publish x", "samples a.metrics 1", "publish y", "settle 1-0, 2-0, 3-0"]);
}

#[test]
fn a_lost_redis_does_not_keep_what_is_in_hand_from_the_bus() {
    let mut consumer = consumer(&["a=run:1"], 10);
    begin(&mut consumer);
    consumer.read(vec![entry(0, 1, "x")], 0);
    assert_eq!(words(&consumer.next(0)), "publish x");
    consumer.published(Err(refused(ErrorCode::StoreUnavailable, None)), 0, 0);
    consumer.lost(100, Duration::from_secs(10));
    assert_eq!(words(&consumer.next(100)), "wait 100");
    assert_eq!(words(&consumer.next(200)), "publish x");
    consumer.published(Ok(()), 300, 0);
    assert_eq!(words(&consumer.next(300)), "wait 500");
    assert_eq!(words(&consumer.next(10_100)), "prepare");
    consumer.prepared();
    assert_eq!(words(&consumer.next(10_100)), "settle 1-0", "before anything else is read");
    consumer.settled();
    assert_eq!(words(&consumer.next(10_100)), "own", "what Redis gave out and never came");
    consumer.own(vec![entry(0, 2, "y")], 10_100);
    assert_eq!(words(&consumer.next(10_100)), "publish y");
    consumer.stop();
    consumer.published(Ok(()), 10_100, 0);
    assert_eq!(words(&consumer.next(10_100)), "settle 2-0");
    consumer.settled();
    assert_eq!(words(&consumer.next(10_100)), "done");
}

#[test]
fn claims_go_through_every_stream_and_come_again() {
    let mut consumer = consumer(&["a=run:1", "b=run:1"], 4);
    assert_eq!(consumer.entries_max(), 2);
    consumer.prepared();
    consumer.own(Vec::new(), 0);
    assert_eq!(words(&consumer.next(0)), "claim 0 0-0");
    assert_eq!(consumer.claimed(vec![entry(0, 1, "x")], "1-0", 0), 1);
    assert_eq!(words(&consumer.next(0)), "publish x");
    consumer.published(Ok(()), 0, 0);
    assert_eq!(words(&consumer.next(0)), "settle 1-0");
    consumer.settled();
    assert_eq!(words(&consumer.next(0)), "claim 0 1-0");
    consumer.claimed(Vec::new(), "0-0", 0);
    assert_eq!(words(&consumer.next(0)), "claim 1 0-0");
    consumer.claimed(Vec::new(), "0-0", 0);
    assert_eq!(words(&consumer.next(0)), "look");
    assert_eq!(words(&consumer.next(14_999)), "look", "every five seconds");
    assert_eq!(
        words(&consumer.next(15_000)),
        "claim 0 0-0",
        "twice in the time after which entries are claimed"
    );
}

/// A group of Redis: what nobody has been given, and what is pending with whom and since when.
#[derive(Default)]
struct Group {
    new: VecDeque<(u64, Entry)>,
    pending: BTreeMap<u64, (usize, u64, Entry)>,
    refused: Vec<u64>,
}

/// A step of the world around two consumers.
#[derive(Debug, Clone)]
enum Event {
    /// The consumer takes a step after so many milliseconds.
    Step(usize, u64),
    /// It loses its connection; what it was just given never comes.
    Lose(usize),
    /// The process is killed, and another of its name takes its place.
    Kill(usize),
    /// The bus answers so the next time.
    Refuse(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => (0..2_usize, 0..3_000_u64).prop_map(|(who, ms)| Event::Step(who, ms)),
        1 => (0..2_usize).prop_map(Event::Lose),
        1 => (0..2_usize).prop_map(Event::Kill),
        3 => any::<bool>().prop_map(Event::Refuse),
    ]
}

struct World {
    now_ms: u64,
    group: Group,
    consumers: [Consumer; 2],
    /// Events that were published and are not answered yet.
    asked: [Option<Vec<String>>; 2],
    /// What the bus has, by message id, in its order; whether each was acknowledged.
    log: Vec<String>,
    acknowledged: BTreeSet<u64>,
    refuses: bool,
}

impl World {
    fn new(count: u64) -> Self {
        let entry = |id: u64| (id, entry(0, id, if id.is_multiple_of(7) { "bad" } else { "good" }));
        Self {
            now_ms: 0,
            group: Group { new: (1..=count).map(entry).collect(), ..Group::default() },
            consumers: [consumer(&["a=run:1"], 5), consumer(&["a=run:1"], 5)],
            asked: [None, None],
            log: Vec::new(),
            acknowledged: BTreeSet::new(),
            refuses: false,
        }
    }

    fn give(&mut self, who: usize) -> Vec<Entry> {
        let count = self.group.new.len().min(5);
        let given: Vec<(u64, Entry)> = self.group.new.drain(..count).collect();
        for (id, entry) in &given {
            self.group.pending.insert(*id, (who, self.now_ms, entry.clone()));
        }
        given.into_iter().map(|(_, entry)| entry).collect()
    }

    fn step(&mut self, who: usize, lost: bool) {
        let now_ms = self.now_ms;
        let step = self.consumers[who].next(now_ms);
        match step {
            Step::Prepare => self.consumers[who].prepared(),
            Step::Own => {
                let own = self.group.pending.values().filter(|(of, ..)| *of == who);
                let own = own.take(5).map(|(.., entry)| entry.clone()).collect();
                self.consumers[who].own(own, now_ms);
            }
            Step::Claim(..) => {
                let mut claimed = Vec::new();
                for (of, since_ms, entry) in self.group.pending.values_mut() {
                    if claimed.len() < 5 && now_ms - *since_ms >= 30_000 {
                        (*of, *since_ms) = (who, now_ms);
                        claimed.push(entry.clone());
                    }
                }
                self.consumers[who].claimed(claimed, "0-0", now_ms);
            }
            Step::Read(_) => {
                let given = self.give(who);
                if lost {
                    self.consumers[who].lost(now_ms, Duration::from_millis(200));
                } else {
                    self.consumers[who].read(given, now_ms);
                }
            }
            Step::Hold(entries) => {
                for id in entries.iter().flat_map(|(_, ids)| ids) {
                    let id: u64 = id.trim_end_matches("-0").parse().unwrap();
                    if let Some((of, since_ms, _)) = self.group.pending.get_mut(&id) {
                        (*of, *since_ms) = (who, now_ms);
                    }
                }
                self.consumers[who].was_held(now_ms);
            }
            Step::Publish(events) => {
                let ids = events.iter().map(|event| {
                    let id = event.id.as_ref().unwrap().as_str().to_owned();
                    format!("{} {id}", event.event_type.as_str())
                });
                self.asked[who] = Some(ids.collect());
            }
            Step::Await(_) => {
                let Some(events) = self.asked[who].take() else { return };
                let answer = self.bus(&events);
                self.consumers[who].published(answer, now_ms, 0);
            }
            Step::Settle(entries) => {
                for (entry, fate) in &entries {
                    let id: u64 = entry.id.trim_end_matches("-0").parse().unwrap();
                    if matches!(fate, Fate::Refused(_)) {
                        self.group.refused.push(id);
                    }
                    self.group.pending.remove(&id);
                    self.acknowledged.insert(id);
                }
                if lost {
                    // It was acknowledged, and nobody heard.
                    self.consumers[who].lost(now_ms, Duration::from_millis(200));
                } else {
                    self.consumers[who].settled();
                }
            }
            Step::Samples(..) => panic!("there are none"),
            Step::Wait(_) | Step::Look | Step::Tidy | Step::Done => {}
        }
    }

    /// A bus with message ids: all or nothing, perhaps with an outcome that nobody knows.
    fn bus(&mut self, events: &[String]) -> Result<(), PublishRefusal> {
        if let Some(index) = events.iter().position(|event| event.starts_with("bad")) {
            return Err(refused(ErrorCode::UnknownChannel, Some(index)));
        }
        let unknown = self.refuses && self.log.len().is_multiple_of(2);
        if !self.refuses || unknown {
            for event in events {
                if !self.log.contains(event) {
                    self.log.push(event.clone());
                }
            }
        }
        if self.refuses { Err(refused(ErrorCode::OutcomeUnknown, None)) } else { Ok(()) }
    }
}

proptest! {
    /// Whatever is lost and killed: each entry is in the log once or among the refused, none was acknowledged
    /// before, and none stays pending.
    #[test]
    fn every_entry_is_published_once_or_refused(events in prop::collection::vec(event(), 0..300)) {
        const COUNT: u64 = 40;
        let mut world = World::new(COUNT);
        let mut lose = [false; 2];
        for event in events {
            match event {
                Event::Step(who, ms) => {
                    world.now_ms += ms;
                    let lost = std::mem::take(&mut lose[who]);
                    world.step(who, lost);
                }
                Event::Lose(who) => lose[who] = true,
                Event::Kill(who) => {
                    // What was asked may have been done.
                    if let Some(events) = world.asked[who].take() {
                        let _ = world.bus(&events);
                    }
                    let fresh = consumer(&["a=run:1"], 5);
                    world.consumers[who] = fresh;
                }
                Event::Refuse(refuses) => world.refuses = refuses,
            }
            for id in &world.acknowledged {
                let kept = world.log.contains(&format!("good redis:a:{id}-0"));
                prop_assert!(kept != world.group.refused.contains(id), "{id}");
            }
        }
        world.refuses = false;
        // Long enough for whatever one of the two still has to be claimed, should it be so.
        for round in 0..4_000 {
            world.now_ms += 100;
            world.step(round % 2, false);
        }
        let bad: BTreeSet<u64> = (1..=COUNT).filter(|id| id % 7 == 0).collect();
        let good: BTreeSet<String> = (1..=COUNT).filter(|id| id % 7 != 0).map(|id| format!("good redis:a:{id}-0")).collect();
        prop_assert!(world.group.pending.is_empty() && world.group.new.is_empty());
        prop_assert_eq!(world.log.len(), good.len(), "once");
        prop_assert_eq!(world.log.iter().cloned().collect::<BTreeSet<_>>(), good);
        prop_assert_eq!(world.group.refused.iter().copied().collect::<BTreeSet<_>>(), bad);
    }

    /// One consumer, however often it is killed and comes back under its name: the log has the order of the stream.
    #[test]
    fn one_consumer_keeps_the_order_of_the_stream(events in prop::collection::vec(event(), 0..300)) {
        let mut world = World::new(40);
        let mut lose = false;
        for event in events {
            match event {
                Event::Step(_, ms) => {
                    world.now_ms += ms;
                    let lost = std::mem::take(&mut lose);
                    world.step(0, lost);
                }
                Event::Lose(_) => lose = true,
                Event::Kill(_) => {
                    world.asked[0] = None;
                    world.consumers[0] = consumer(&["a=run:1"], 5);
                }
                Event::Refuse(refuses) => world.refuses = refuses,
            }
        }
        let ids = world.log.iter().map(|event| event.trim_start_matches("good redis:a:").trim_end_matches("-0").parse::<u64>().unwrap());
        prop_assert!(ids.is_sorted(), "{:?}", world.log);
    }
}
