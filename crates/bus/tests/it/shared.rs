//! Who asks for the same at the same time gets the same, and nobody gets what is older than the question.

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pulsewire_bus::{
    Batch, Bus, Channel, ChannelKind, Decision, Extent, MemoryStore, NamedBy, Namespace, Namespaces, Now,
    Only, Opened, Options, Page, Publisher, Query, ReadLimit, Receipt, Refusal, Retention, RingLimits,
    StatePart, StateSlice, Store, StoreError, StoredPage, Turn,
};
use pulsewire_protocol::{ChannelName, ChannelPattern, Encoding, Epoch, ErrorCode, Event, Sequence};
use pulsewire_telemetry::Telemetry;

use crate::Ears;

/// What became of a publish request.
type Published = Result<Vec<Receipt>, Refusal>;

const LIMIT: ReadLimit = ReadLimit { publications: 10, bytes: usize::MAX };

/// A store that takes its time: what it is told to do happens in the middle of a read.
struct Slow {
    memory: MemoryStore,
    reads: Mutex<usize>,
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Slow {
    fn read_begins(&self) {
        *self.reads.lock() += 1;
        let meanwhile = self.meanwhile.lock().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
    }
}

impl Store for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn epoch(&self) -> Epoch {
        self.memory.epoch()
    }

    fn extents(&self, channels: &[ChannelName]) -> Result<Vec<Extent>, StoreError> {
        self.memory.extents(channels)
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Decision>, StoreError> {
        self.memory.commit(batch)
    }

    fn read(&self, channel: &ChannelName, query: &Query) -> Result<StoredPage, StoreError> {
        self.read_begins();
        self.memory.read(channel, query)
    }

    fn state(
        &self,
        channel: &ChannelName,
        after: Option<&str>,
        limit: ReadLimit,
    ) -> Result<StateSlice, StoreError> {
        self.read_begins();
        self.memory.state(channel, after, limit)
    }

    fn trim(&self, channel: &ChannelName, retention: &Retention, now_ms: i64) -> Result<Extent, StoreError> {
        self.memory.trim(channel, retention, now_ms)
    }
}

struct Scene {
    bus: Arc<Bus>,
    store: Arc<Slow>,
    channel: Arc<Channel>,
}

impl Scene {
    fn new() -> Self {
        Self::with_queue(100)
    }

    fn with_queue(queue_max: usize) -> Self {
        let epoch = Epoch::parse("e1").unwrap();
        let store = Arc::new(Slow {
            memory: MemoryStore::new(epoch.clone(), 100),
            reads: Mutex::default(),
            meanwhile: Mutex::default(),
        });
        let run = Namespace {
            state_max: 10,
            ..Namespace::new("run", ChannelPattern::parse("run:*").unwrap(), ChannelKind::Log)
        };
        let options = Options {
            namespaces: Namespaces::new(vec![run]),
            shards: 1,
            channels_max: 3,
            epoch,
            incarnation: 1,
            store: Some(store.clone()),
            broker: None,
            queue_max,
            ring: RingLimits { publications: 1, bytes: 1 << 20 },
            series: Default::default(),
            tap: None,
        };
        let bus = Bus::new(options, Telemetry::new(Default::default()), Box::new(Ears::default()));
        let (reply, answer) = mpsc::channel();
        let name = ChannelName::parse("run:1").unwrap();
        let reply = Box::new(move |opened: Opened| reply.send(opened).unwrap());
        bus.open(Now::default(), vec![(name, Sequence::ZERO)], reply);
        while bus.perform(Now::default()) {}
        let channel = answer.try_recv().unwrap().unwrap().remove(0);
        Self { bus: Arc::new(bus), store, channel }
    }

    fn ask_state(&self) -> Receiver<Result<Arc<StatePart>, ErrorCode>> {
        let (reply, answer) = mpsc::channel();
        let reply = Box::new(move |part| reply.send(part).unwrap());
        self.bus.state(Now::default(), &self.channel, None, LIMIT, reply);
        answer
    }

    fn ask_page(&self) -> Receiver<Result<Arc<Page>, ErrorCode>> {
        let (reply, answer) = mpsc::channel();
        let query = Query { after: Sequence::ZERO, only: Only::Critical, limit: LIMIT };
        let reply = Box::new(move |page| reply.send(page).unwrap());
        self.bus.read(Now::default(), &self.channel, query, reply);
        answer
    }

    fn publish(&self) -> Receiver<Published> {
        let (reply, answer) = mpsc::channel();
        let event = Event::parse_one(br#"{"channel":"run:1","type":"note","data":1}"#).unwrap();
        let publisher = Publisher { named_by: NamedBy::Token, principal: "app", user: None, begun_ns: 0 };
        let reply = Box::new(move |outcome| reply.send(outcome).unwrap());
        self.bus.publish(Now::default(), publisher, vec![event], reply);
        answer
    }

    fn commit(&self) {
        let lane = self.bus.durable_lane().unwrap();
        while self.bus.commit(lane, Now::default()) == Turn::Done {}
    }

    fn work(&self) -> usize {
        while self.bus.perform(Now::default()) {}
        *self.store.reads.lock()
    }
}

#[test]
fn those_who_wait_for_the_same_part_of_the_state_get_the_same_read_and_frame() {
    let scene = Scene::new();
    let answers: Vec<_> = (0..100).map(|_| scene.ask_state()).collect();
    assert_eq!(scene.work(), 1);
    let parts: Vec<_> = answers.iter().map(|answer| answer.try_recv().unwrap().unwrap()).collect();
    assert!(parts.iter().all(|part| Arc::ptr_eq(part, &parts[0])));
    let frame = parts[0].frame(Encoding::Json);
    assert!(std::ptr::eq(frame, parts[99].frame(Encoding::Json)), "encoded once");
    let text = std::str::from_utf8(frame.payload()).unwrap();
    assert!(text.starts_with(r#"{"type":"state","channel":"run:1","epoch":"e1","sequence":0"#), "{text}");
}

#[test]
fn a_question_asked_while_the_state_is_being_read_is_answered_by_another_read() {
    let scene = Scene::new();
    let first = scene.ask_state();
    let late = Arc::new(OnceLock::new());
    {
        let (bus, channel, late) = (scene.bus.clone(), scene.channel.clone(), late.clone());
        *scene.store.meanwhile.lock() = Some(Box::new(move || {
            let (reply, answer) = mpsc::channel();
            let reply = Box::new(move |part| reply.send(part).unwrap());
            bus.state(Now::default(), &channel, None, LIMIT, reply);
            late.set(Mutex::new(answer)).expect("once");
        }));
    }
    // What was read may lack what was committed since: who asked later must not be given it.
    assert_eq!(scene.work(), 2);
    let first = first.try_recv().unwrap().unwrap();
    let late = late.get().unwrap().lock().try_recv().unwrap().unwrap();
    assert!(!Arc::ptr_eq(&first, &late));
}

#[test]
fn those_who_wait_for_the_same_page_get_the_same_read() {
    let scene = Scene::new();
    let answers: Vec<_> = (0..100).map(|_| scene.ask_page()).collect();
    assert_eq!(scene.work(), 1);
    let pages: Vec<_> = answers.iter().map(|answer| answer.try_recv().unwrap().unwrap()).collect();
    assert!(pages.iter().all(|page| Arc::ptr_eq(page, &pages[0])));
}

/// Row L9: publishers who are faster than the store are told to wait, and nothing is acknowledged that is not kept.
#[test]
fn publishers_beyond_the_queue_are_refused_and_those_within_wait_for_the_commit() {
    let scene = Scene::with_queue(2);
    let waiting = [scene.publish(), scene.publish()];
    let refusal = scene.publish().try_recv().expect("refused at once").unwrap_err();
    assert_eq!((refusal.code, refusal.retry_after_ms), (ErrorCode::Overloaded, Some(1_000)));
    assert!(waiting.iter().all(|answer| answer.try_recv().is_err()), "not before the commit");
    scene.commit();
    let place = |answer: &Receiver<Published>| answer.try_recv().unwrap().unwrap()[0].sequence;
    assert_eq!(waiting.each_ref().map(place), [Some(Sequence(1)), Some(Sequence(2))]);
    let next = scene.publish();
    scene.commit();
    assert_eq!(place(&next), Some(Sequence(3)), "there is room again");
}
