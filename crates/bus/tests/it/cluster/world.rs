//! Nodes, the network between them, publishers that try again and subscribers that check what they hear.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_bus::{
    Audience, Broker, Bus, Channel, ChannelId, ChannelKind, Hint, Mutant, NamedBy, Namespace, Namespaces,
    Now, Only, Opened, Options, Page, Publication, Publisher, Query, ReadLimit, Receipt, Refusal, RingLimits,
    StatePart, Store, Turn,
};
use pulsewire_protocol::{
    ChannelName, ChannelPattern, Epoch, ErrorCode, Event, EventType, MessageId, Sequence,
};
use pulsewire_telemetry::Telemetry;
use serde_json::value::RawValue;

use super::store::SharedStore;
use crate::rng::Rng;

const NODES: usize = 3;
const CLIENTS: usize = 5;
const CHANNELS: [&str; 3] = ["run:1", "run:2", "run:3"];
const STEPS: usize = 400;

/// What may happen in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) mutants: &'static [Mutant],
    /// Sequences are given before the commit, so that a later one can be committed first.
    pub(super) early_sequences: bool,
    /// Events that are kept at hand of each channel.
    pub(super) ring: usize,
    /// The store loses its last commits now and then.
    pub(super) failovers: bool,
    /// … and nobody changes the epoch.
    pub(super) same_epoch: bool,
    /// … which is excused as far as nobody can know it: another event stands where one was heard.
    pub(super) excused: bool,
    pub(super) lossy: bool,
    pub(super) head_checks: bool,
    /// Whether the store fails now and then.
    pub(super) store_faults: bool,
    /// A node hears of a channel only once it asked to, and that is confirmed late, or never in a network that loses.
    pub(super) topics: bool,
    /// The broker is lost to a node and reached again now and then.
    pub(super) outages: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            mutants: &[],
            early_sequences: false,
            ring: 4,
            failovers: false,
            same_epoch: false,
            excused: false,
            lossy: true,
            head_checks: true,
            store_faults: true,
            topics: false,
            outages: false,
        }
    }
}

/// What happened, so that a test of nothing is noticed.
#[derive(Debug, Default)]
pub(super) struct Totals {
    events: u64,
    gaps: u64,
    resets: u64,
    lags: u64,
    crashes: u64,
    failovers: u64,
    hints_lost: u64,
    unknown: u64,
    duplicates: u64,
    outages: u64,
    topics_heard: u64,
}

impl Totals {
    pub(super) fn add(&mut self, other: &Self) {
        self.outages += other.outages;
        self.topics_heard += other.topics_heard;
        let Self { events, gaps, resets, lags, crashes, failovers, hints_lost, unknown, duplicates, .. } =
            other;
        self.events += events;
        self.gaps += gaps;
        self.resets += resets;
        self.lags += lags;
        self.crashes += crashes;
        self.failovers += failovers;
        self.hints_lost += hints_lost;
        self.unknown += unknown;
        self.duplicates += duplicates;
    }

    pub(super) fn assert_everything_happened(&self, plan: Plan) {
        assert_eq!((self.outages > 0, self.topics_heard > 0), (plan.outages, plan.topics));
        let Self { events, gaps, resets, lags, crashes, failovers, hints_lost, unknown, duplicates, .. } =
            *self;
        assert!(events > 0 && gaps > 0 && lags > 0 && crashes > 0);
        assert_eq!(hints_lost > 0, plan.lossy);
        assert_eq!((unknown > 0, duplicates > 0), (plan.store_faults, plan.store_faults));
        assert_eq!((failovers > 0, resets > 0), (plan.failovers, plan.failovers));
    }
}

/// What a node tells its listeners.
enum Told {
    Publications(Vec<Arc<Publication>>),
    Replaced(Arc<Channel>),
}

#[derive(Clone, Default)]
struct Ears(Arc<Mutex<Vec<Told>>>);

impl Audience for Ears {
    fn has_room(&self, _: usize) -> bool {
        true
    }
    fn deliver(&self, _: usize, publications: &[Arc<Publication>]) {
        self.0.lock().push(Told::Publications(publications.to_vec()));
    }
    fn replaced(&self, _: usize, channel: &Arc<Channel>) {
        self.0.lock().push(Told::Replaced(channel.clone()));
    }
}

/// Hints on their way: to which node, and what.
type Hints = Arc<Mutex<Vec<(usize, Hint)>>>;

/// Which channels each node hears.
type Heard = Arc<Mutex<[HashSet<ChannelName>; NODES]>>;
/// What a node asked of the broker and was not done yet: a channel, and whether it is to be heard.
type Wishes = Arc<Mutex<VecDeque<(ChannelName, bool)>>>;

struct Network {
    from: usize,
    hints: Hints,
    topics: bool,
    heard: Heard,
    wishes: Wishes,
}

impl Broker for Network {
    fn announce(&self, hint: &Hint) {
        let heard = self.heard.lock();
        let hears = |node: &usize| !self.topics || heard[*node].contains(&hint.channel);
        let others = (0..NODES).filter(|node| *node != self.from).filter(hears);
        self.hints.lock().extend(others.map(|node| (node, hint.clone())));
    }

    fn has_topics(&self) -> bool {
        self.topics
    }

    fn listen(&self, channels: Vec<ChannelName>) {
        self.wishes.lock().extend(channels.into_iter().map(|channel| (channel, true)));
    }

    fn unlisten(&self, channels: Vec<ChannelName>) {
        self.wishes.lock().extend(channels.into_iter().map(|channel| (channel, false)));
    }
}

struct Node {
    bus: Arc<Bus>,
    ears: Ears,
    wishes: Wishes,
    /// Whether it reaches the broker.
    connected: bool,
    feeds: HashMap<ChannelId, Feed>,
    /// The newest sequence that was told of each channel.
    told: HashMap<ChannelId, u64>,
}

/// A channel as the clients of a node hear it.
struct Feed {
    channel: Arc<Channel>,
    cursor: u64,
    clients: Vec<usize>,
}

type Slot<T> = Arc<Mutex<Option<T>>>;

enum Feeding {
    Away,
    Opening(Slot<Opened>),
    Reading(Slot<Result<Arc<Page>, ErrorCode>>),
    /// Nothing is being read: it reads when it is its turn.
    Behind,
    Live,
}

struct Client {
    channel: ChannelName,
    node: usize,
    feed: Option<ChannelId>,
    feeding: Feeding,
    /// What it has handled.
    position: Option<(Epoch, u64)>,
    next: u64,
}

/// A publish that is not decided.
struct Attempt {
    channel: ChannelName,
    id: String,
    payload: u64,
    answer: Slot<Result<Vec<Receipt>, Refusal>>,
    tries: u32,
}

pub(super) struct World {
    plan: Plan,
    rng: Rng,
    now: Now,
    store: Arc<SharedStore>,
    hints: Hints,
    heard: Heard,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    attempts: Vec<Attempt>,
    payloads: u64,
    incarnations: u64,
    /// What stands where, as far as anybody was told.
    places: HashMap<(ChannelName, Epoch, u64), u64>,
    /// Where each payload was acknowledged.
    acked: HashMap<u64, (ChannelName, Epoch, u64)>,
    totals: Totals,
    faults: Vec<String>,
}

fn slot<T>() -> Slot<T> {
    Arc::default()
}

fn filling<T: Send + 'static>(slot: &Slot<T>) -> Box<dyn FnOnce(T) + Send> {
    let slot = slot.clone();
    Box::new(move |value| *slot.lock() = Some(value))
}

fn newest(channel: &Arc<Channel>) -> Arc<Channel> {
    let mut channel = channel;
    while let Some(next) = channel.successor() {
        channel = next;
    }
    channel.clone()
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan) -> Self {
        let mut rng = Rng::new(seed);
        let mut world = Self {
            plan,
            store: SharedStore::new(rng.fork()),
            rng,
            now: Now { mono_ns: 10_000_000_000, wall_ms: 1_700_000_000_000 },
            hints: Hints::default(),
            heard: Heard::default(),
            nodes: Vec::new(),
            clients: Vec::new(),
            attempts: Vec::new(),
            payloads: 0,
            incarnations: 0,
            places: HashMap::new(),
            acked: HashMap::new(),
            totals: Totals::default(),
            faults: Vec::new(),
        };
        if !plan.store_faults {
            world.store.heal();
        }
        for index in 0..NODES {
            let node = world.node(index);
            world.nodes.push(node);
        }
        for _ in 0..CLIENTS {
            let channel = ChannelName::parse(CHANNELS[world.rng.below(CHANNELS.len())]).unwrap();
            let (feeding, position) = (Feeding::Away, None);
            world.clients.push(Client { channel, node: 0, feed: None, feeding, position, next: 0 });
        }
        world
    }

    fn node(&mut self, index: usize) -> Node {
        self.incarnations += 1;
        let namespace = Namespace {
            history_max: 25,
            critical_types: ["FLAG".into()].into(),
            critical_max: 5,
            ..Namespace::new("run", ChannelPattern::parse("run:*").unwrap(), ChannelKind::Log)
        };
        let ears = Ears::default();
        let wishes = Wishes::default();
        let network = Network {
            from: index,
            hints: self.hints.clone(),
            topics: self.plan.topics,
            heard: self.heard.clone(),
            wishes: wishes.clone(),
        };
        self.heard.lock()[index].clear();
        let options = Options {
            namespaces: Namespaces::new(vec![namespace]),
            shards: 1,
            channels_max: 1_000,
            epoch: Epoch::parse("memory").unwrap(),
            incarnation: self.incarnations * 77_777_777,
            store: Some(self.store.clone()),
            broker: Some(Arc::new(network)),
            queue_max: 10_000,
            ring: RingLimits { publications: self.plan.ring, bytes: 1 << 20 },
            series: Default::default(),
            tap: None,
        };
        let bus = Arc::new(Bus::new(options, Telemetry::new(Default::default()), Box::new(ears.clone())));
        self.plan.mutants.iter().for_each(|mutant| bus.mutate(*mutant));
        if !self.plan.head_checks {
            bus.mutate(Mutant::NeverAskHeads);
        }
        let connected = self.plan.topics && !self.plan.outages;
        if connected {
            bus.broker_reached();
        }
        Node { bus, ears, wishes, connected, feeds: HashMap::new(), told: HashMap::new() }
    }

    /// Runs to the end; returns what happened, or what was wrong.
    pub(super) fn run(mut self) -> Result<Totals, Vec<String>> {
        for _ in 0..STEPS {
            self.step();
            if !self.faults.is_empty() {
                return Err(self.faults);
            }
        }
        self.calm();
        self.check_end();
        self.totals.unknown = self.store.unknown();
        if self.faults.is_empty() { Ok(self.totals) } else { Err(self.faults) }
    }

    fn step(&mut self) {
        let ms = self.rng.below(30) as u64;
        self.now = self.now.plus_ms(ms);
        if self.rng.chance(60) {
            self.publish();
        }
        for node in 0..NODES {
            if self.rng.chance(50) {
                self.commit(node);
            }
            if self.rng.chance(50) {
                self.race();
                self.nodes[node].bus.perform(self.now);
            }
            if self.rng.chance(50) {
                self.nodes[node].bus.tick(self.now);
            }
            if self.rng.chance(60) {
                self.listen(node);
            }
            if self.plan.topics {
                let changes = if self.nodes[node].connected { 1 } else { 10 };
                if self.plan.outages && self.rng.chance(changes) {
                    self.reach(node);
                }
                if self.rng.chance(30) {
                    self.meet_wish(node);
                }
            }
        }
        self.carry();
        for client in 0..CLIENTS {
            self.act(client);
        }
        self.settle_attempts();
        if self.rng.chance(1) {
            self.crash();
        }
        if self.plan.failovers && self.rng.chance(1) && self.store.fail_over(self.plan.same_epoch) {
            self.totals.failovers += 1;
            // What was acknowledged may be gone: the new epoch says so.
            self.acked.clear();
        }
    }

    // --- publishers ---

    fn publish(&mut self) {
        self.payloads += 1;
        let channel = ChannelName::parse(CHANNELS[self.rng.below(CHANNELS.len())]).unwrap();
        let (id, payload) = (format!("m{}", self.payloads), self.payloads);
        let attempt = Attempt { channel, id, payload, answer: slot(), tries: 0 };
        self.send(&attempt);
        self.attempts.push(attempt);
    }

    fn send(&mut self, attempt: &Attempt) {
        let node = self.rng.below(NODES);
        let kind = if attempt.payload.is_multiple_of(9) { "FLAG" } else { "note" };
        let data = RawValue::from_string(attempt.payload.to_string()).unwrap();
        let mut event = Event::new(attempt.channel.clone(), EventType::parse(kind).unwrap(), data);
        // Without an id of its own, the server's name for it is what keeps it single.
        event.id = (!attempt.payload.is_multiple_of(4)).then(|| MessageId::parse(&attempt.id).unwrap());
        let publisher = Publisher { named_by: NamedBy::ApiKey, principal: "app", user: None, begun_ns: 0 };
        self.nodes[node].bus.publish(self.now, publisher, vec![event], filling(&attempt.answer));
    }

    fn settle_attempts(&mut self) {
        for mut attempt in std::mem::take(&mut self.attempts) {
            let answer = attempt.answer.lock().take();
            match answer {
                None if Arc::strong_count(&attempt.answer) > 1 => self.attempts.push(attempt),
                Some(Ok(receipts)) => self.accepted(&attempt, &receipts[0]),
                // The node is gone, or it refused: with an id it can be tried again.
                None | Some(Err(_)) => {
                    attempt.tries += 1;
                    if !attempt.payload.is_multiple_of(4) && attempt.tries < 8 {
                        attempt.answer = slot();
                        self.send(&attempt);
                        self.attempts.push(attempt);
                    }
                }
            }
        }
    }

    fn accepted(&mut self, attempt: &Attempt, receipt: &Receipt) {
        let (Some(sequence), Some(epoch)) = (receipt.sequence, receipt.epoch.clone()) else {
            self.faults.push("a receipt without a place".into());
            return;
        };
        self.totals.duplicates += u64::from(receipt.duplicate);
        self.stands(&attempt.channel, &epoch, sequence.0, attempt.payload);
        self.acked.insert(attempt.payload, (attempt.channel.clone(), epoch, sequence.0));
    }

    /// I6: one place, one event, for ever.
    fn stands(&mut self, channel: &ChannelName, epoch: &Epoch, sequence: u64, payload: u64) {
        let place = (channel.clone(), epoch.clone(), sequence);
        let known = *self.places.entry(place).or_insert(payload);
        if known != payload && !self.plan.excused {
            self.faults.push(format!("I6: {channel} {epoch}:{sequence} is {known} and {payload}"));
        }
    }

    // --- nodes ---

    fn commit(&mut self, node: usize) {
        if self.plan.early_sequences {
            self.overtake(node);
        }
        let bus = &self.nodes[node].bus;
        let lane = bus.durable_lane().unwrap();
        bus.commit(lane, self.now);
        *self.store.in_between.lock() = None;
    }

    /// Between a node's taking sequences and its commit the others commit, read and hear of each other.
    fn overtake(&mut self, node: usize) {
        let buses: Vec<_> = self.nodes.iter().map(|node| node.bus.clone()).collect();
        let now = self.now;
        *self.store.meanwhile.lock() = None;
        *self.store.in_between.lock() = Some(Box::new(move || {
            for (_, bus) in buses.iter().enumerate().filter(|(other, _)| *other != node) {
                bus.commit(bus.durable_lane().unwrap(), now);
            }
            for bus in &buses {
                while bus.perform(now) {}
            }
        }));
    }

    /// While a node asks where a channel stands, the others may go on.
    fn race(&mut self) {
        let buses: Vec<_> = self.nodes.iter().map(|node| node.bus.clone()).collect();
        let (hints, now) = (self.hints.clone(), self.now);
        *self.store.meanwhile.lock() = Some(Box::new(move || {
            for bus in &buses {
                bus.commit(bus.durable_lane().unwrap(), now);
            }
            let hints = std::mem::take(&mut *hints.lock());
            for (node, hint) in hints {
                buses[node].receive(&hint, now);
            }
        }));
    }

    /// The broker is lost to a node that reaches it, or reached by one that does not.
    fn reach(&mut self, node: usize) {
        let Node { bus, wishes, connected, .. } = &mut self.nodes[node];
        *connected = !*connected;
        wishes.lock().clear();
        self.heard.lock()[node].clear();
        if *connected {
            let names = bus.broker_reached();
            wishes.lock().extend(names.into_iter().map(|name| (name, true)));
        } else {
            self.totals.outages += 1;
            bus.broker_lost(self.now);
        }
    }

    /// The broker does the oldest thing that a node asked of it, or in a network that loses, does not.
    fn meet_wish(&mut self, node: usize) {
        if !self.nodes[node].connected {
            return;
        }
        let Some((name, hears)) = self.nodes[node].wishes.lock().pop_front() else { return };
        if !hears {
            self.heard.lock()[node].remove(&name);
        } else if !self.plan.lossy || !self.rng.chance(20) {
            self.totals.topics_heard += 1;
            self.heard.lock()[node].insert(name.clone());
            self.nodes[node].bus.heard(&[name], self.now);
        }
    }

    fn carry(&mut self) {
        for _ in 0..self.rng.below(8) {
            let mut hints = self.hints.lock();
            if hints.is_empty() {
                return;
            }
            let at = if self.plan.lossy { self.rng.below(hints.len()) } else { 0 };
            let (node, hint) = hints.remove(at);
            if self.plan.lossy && self.rng.chance(12) {
                self.totals.hints_lost += 1;
                continue;
            }
            if self.plan.lossy && self.rng.chance(10) {
                hints.push((node, hint.clone()));
            }
            drop(hints);
            self.nodes[node].bus.receive(&hint, self.now);
        }
    }

    fn crash(&mut self) {
        self.totals.crashes += 1;
        let index = self.rng.below(NODES);
        for client in 0..CLIENTS {
            if self.clients[client].node == index {
                self.leave(client);
            }
        }
        self.nodes[index] = self.node(index);
        self.hints.lock().retain(|(node, _)| *node != index);
    }

    /// The clients of a node hear what it tells.
    fn listen(&mut self, node: usize) {
        let told = std::mem::take(&mut *self.nodes[node].ears.0.lock());
        for told in told {
            match told {
                Told::Publications(publications) => {
                    for publication in publications {
                        let told = self.nodes[node].told.entry(publication.channel.id).or_default();
                        let before = std::mem::replace(told, publication.sequence.0);
                        if before >= publication.sequence.0 {
                            let (name, now) = (&publication.channel.name, publication.sequence);
                            self.faults.push(format!("I3: {name} {now} was told after {before}"));
                        }
                        self.hear(node, &publication);
                    }
                }
                Told::Replaced(old) => self.replaced(node, &old),
            }
        }
    }

    fn hear(&mut self, node: usize, publication: &Arc<Publication>) {
        let Some(feed) = self.nodes[node].feeds.get_mut(&publication.channel.id) else { return };
        let sequence = publication.sequence.0;
        if sequence <= feed.cursor {
            return;
        }
        let hole = sequence > feed.cursor + 1;
        feed.cursor = sequence;
        for client in feed.clients.clone() {
            let listener = &mut self.clients[client];
            match listener.feeding {
                // I3: nobody is given a hole: all read.
                Feeding::Live if hole && listener.next <= sequence => listener.feeding = Feeding::Behind,
                Feeding::Live if sequence >= listener.next => self.give(client, publication),
                _ => {}
            }
        }
    }

    fn replaced(&mut self, node: usize, old: &Arc<Channel>) {
        let Some(feed) = self.nodes[node].feeds.remove(&old.id) else { return };
        let new = newest(old);
        for _ in &feed.clients {
            new.listen(0);
            old.unlisten(0);
        }
        let cursor = new.position().sequence.0;
        for client in &feed.clients {
            self.reset(*client, new.epoch.clone(), cursor);
            self.clients[*client].feeding = Feeding::Live;
            self.clients[*client].feed = Some(new.id);
        }
        let entry = self.nodes[node].feeds.entry(new.id);
        entry
            .or_insert_with(|| Feed { channel: new, cursor, clients: Vec::new() })
            .clients
            .extend(feed.clients);
    }

    // --- subscribers ---

    fn act(&mut self, client: usize) {
        match &self.clients[client].feeding {
            Feeding::Away if self.rng.chance(4) => self.attach(client),
            Feeding::Opening(slot) => {
                let opened = slot.lock().take();
                match opened {
                    Some(Ok(channels)) => self.join(client, &channels[0]),
                    Some(Err(_)) => self.clients[client].feeding = Feeding::Away,
                    None => {}
                }
            }
            Feeding::Reading(slot) => {
                let page = slot.lock().take();
                match page {
                    Some(Ok(page)) => self.take(client, &page),
                    Some(Err(_)) => self.clients[client].feeding = Feeding::Behind,
                    None => {}
                }
            }
            Feeding::Behind if self.rng.chance(70) => self.read(client),
            Feeding::Live if self.rng.chance(3) => {
                self.totals.lags += 1;
                self.clients[client].feeding = Feeding::Behind;
            }
            _ if self.rng.chance(2) => self.leave(client),
            _ => {}
        }
    }

    fn attach(&mut self, client: usize) {
        let node = self.rng.below(NODES);
        let slot = slot();
        let listener = &mut self.clients[client];
        listener.node = node;
        let at_least = Sequence(listener.position.as_ref().map_or(0, |(_, at)| *at));
        let names = vec![(listener.channel.clone(), at_least)];
        self.nodes[node].bus.open(self.now, names, filling(&slot));
        listener.feeding = Feeding::Opening(slot);
    }

    fn join(&mut self, client: usize, channel: &Arc<Channel>) {
        // It may have been replaced since it was brought to hand.
        let channel = newest(channel);
        let node = self.clients[client].node;
        channel.listen(0);
        let position = channel.position();
        let head = channel.head().0;
        let entry = self.nodes[node].feeds.entry(channel.id);
        let feed = entry.or_insert_with(|| Feed {
            channel: channel.clone(),
            cursor: position.sequence.0,
            clients: Vec::new(),
        });
        let cursor = feed.cursor;
        feed.clients.push(client);
        self.clients[client].feed = Some(channel.id);
        match self.clients[client].position.clone() {
            Some((epoch, at)) if epoch == channel.epoch && at <= head => {
                self.clients[client].next = at + 1;
                self.clients[client].feeding = if at == cursor { Feeding::Live } else { Feeding::Behind };
            }
            known => {
                if known.is_some() {
                    self.totals.resets += 1;
                }
                self.clients[client].position = Some((channel.epoch.clone(), cursor));
                self.clients[client].next = cursor + 1;
                self.clients[client].feeding = Feeding::Live;
            }
        }
    }

    fn read(&mut self, client: usize) {
        let listener = &self.clients[client];
        let node = &self.nodes[listener.node];
        let Some(feed) = listener.feed.and_then(|feed| node.feeds.get(&feed)) else { return };
        let slot = slot();
        let limit = ReadLimit { publications: self.rng.between(1, 6), bytes: 1 << 20 };
        let query = Query { after: Sequence(listener.next - 1), only: Only::All, limit };
        node.bus.read(self.now, &feed.channel, query, filling(&slot));
        self.clients[client].feeding = Feeding::Reading(slot);
    }

    fn take(&mut self, client: usize, page: &Page) {
        if page.floor.0 >= self.clients[client].next {
            self.totals.gaps += 1;
            self.passed(client, page.floor.0);
        }
        let next = self.clients[client].next;
        for publication in page.publications.iter().filter(|publication| publication.sequence.0 >= next) {
            self.give(client, publication);
        }
        let listener = &self.clients[client];
        let feed = listener.feed.and_then(|feed| self.nodes[listener.node].feeds.get(&feed));
        let reached = feed.is_some_and(|feed| listener.next > feed.cursor);
        self.clients[client].feeding = if reached { Feeding::Live } else { Feeding::Behind };
    }

    fn give(&mut self, client: usize, publication: &Publication) {
        let pulsewire_bus::Body::Event(accepted) = &publication.body else { return };
        let (sequence, epoch) = (publication.sequence.0, publication.channel.epoch.clone());
        let payload = accepted.event.data.get().parse().unwrap();
        let channel = self.clients[client].channel.clone();
        if sequence != self.clients[client].next {
            let next = self.clients[client].next;
            self.faults.push(format!("client {client}: {channel} {sequence} came, {next} was next"));
        }
        self.stands(&channel, &epoch, sequence, payload);
        self.totals.events += 1;
        self.passed(client, sequence);
    }

    fn passed(&mut self, client: usize, sequence: u64) {
        let listener = &mut self.clients[client];
        listener.next = sequence + 1;
        if let Some((_, at)) = &mut listener.position {
            *at = sequence;
        }
    }

    fn reset(&mut self, client: usize, epoch: Epoch, cursor: u64) {
        self.totals.resets += 1;
        self.clients[client].position = Some((epoch, cursor));
        self.clients[client].next = cursor + 1;
    }

    fn leave(&mut self, client: usize) {
        let listener = &mut self.clients[client];
        listener.feeding = Feeding::Away;
        let Some(feed) = listener.feed.take() else { return };
        let feeds = &mut self.nodes[listener.node].feeds;
        let Some(entry) = feeds.get_mut(&feed) else { return };
        entry.channel.unlisten(0);
        entry.clients.retain(|other| *other != client);
        if entry.clients.is_empty() {
            feeds.remove(&feed);
        }
    }

    /// Asks a node for the state of a channel whose history has become another since it was opened.
    pub(super) fn state_of_another_history(&mut self) -> Result<Arc<StatePart>, ErrorCode> {
        self.store.heal();
        while self.attempts.len() < 9 {
            self.publish();
        }
        let channel = ChannelName::parse(CHANNELS[0]).unwrap();
        let bus = self.nodes[0].bus.clone();
        let opened = slot();
        bus.open(self.now, vec![(channel, Sequence::ZERO)], filling(&opened));
        while bus.perform(self.now) {}
        let channel = opened.lock().take().unwrap().unwrap().remove(0);
        (0..NODES).for_each(|node| self.commit(node));
        assert!(self.store.fail_over(false), "there was something to lose");
        let state = slot();
        let limit = ReadLimit { publications: 10, bytes: 1 << 20 };
        bus.state(self.now, &channel, None, limit, filling(&state));
        bus.perform(self.now);
        let state = state.lock().take().unwrap();
        while bus.perform(self.now) {}
        assert!(channel.successor().is_some(), "where it stands was asked for");
        state
    }

    // --- the end ---

    /// Nothing fails any more, and there is time for everything.
    fn calm(&mut self) {
        self.store.heal();
        *self.store.meanwhile.lock() = None;
        for round in 0..400 {
            if round == 20 {
                // Those who come last find channels that are quiet and others that are not.
                (0..10).for_each(|_| self.publish());
            }
            self.now = self.now.plus_ms(25);
            for node in 0..NODES {
                let bus = self.nodes[node].bus.clone();
                bus.tick(self.now);
                self.race();
                while bus.perform(self.now) {}
                while bus.commit(bus.durable_lane().unwrap(), self.now) == Turn::Done {}
                self.listen(node);
                if self.plan.topics {
                    if !self.nodes[node].connected {
                        self.reach(node);
                    }
                    self.meet_wish(node);
                }
            }
            if self.plan.lossy {
                self.hints.lock().clear();
            } else {
                self.carry();
            }
            for client in 0..CLIENTS {
                match self.clients[client].feeding {
                    Feeding::Away if round > 18 && round < 100 => self.attach(client),
                    Feeding::Behind => self.read(client),
                    Feeding::Opening(_) | Feeding::Reading(_) => self.act(client),
                    _ => {}
                }
            }
            self.settle_attempts();
        }
    }

    fn check_end(&mut self) {
        let names = CHANNELS.map(|name| ChannelName::parse(name).unwrap());
        let extents = self.store.extents(&names).unwrap();
        for (client, listener) in self.clients.iter().enumerate() {
            let at = names.iter().position(|name| *name == listener.channel).unwrap();
            if !matches!(listener.feeding, Feeding::Live) || listener.next != extents[at].head.0 + 1 {
                let feeding = match listener.feeding {
                    Feeding::Away => "away",
                    Feeding::Opening(_) => "opening",
                    Feeding::Reading(_) => "reading",
                    Feeding::Behind => "behind",
                    Feeding::Live => "live",
                };
                let feed = listener.feed.and_then(|feed| self.nodes[listener.node].feeds.get(&feed));
                let stands =
                    feed.map(|feed| (feed.cursor, feed.channel.position().to_string(), feed.channel.head()));
                let (channel, next, head) = (&listener.channel, listener.next, extents[at].head.0);
                self.faults.push(format!(
                    "I4: client {client} ({feeding}, {stands:?}) waits for {channel} {next}, the head is {head}"
                ));
            }
            if listener.position.as_ref().is_some_and(|(epoch, _)| *epoch != extents[at].epoch) {
                self.faults
                    .push(format!("client {client} was not told that {} is another", listener.channel));
            }
        }
        let mut seen: HashMap<u64, u64> = HashMap::new();
        for (name, extent) in names.iter().zip(&extents) {
            let limit = ReadLimit { publications: usize::MAX, bytes: usize::MAX };
            let query = Query { after: Sequence::ZERO, only: Only::All, limit };
            let page = self.store.read(name, &query).unwrap();
            for (index, (sequence, accepted)) in page.events.iter().enumerate() {
                if sequence.0 != extent.floor.0 + 1 + index as u64 {
                    self.faults.push(format!("I1: {name} has a hole before {sequence}"));
                }
                let payload: u64 = accepted.event.data.get().parse().unwrap();
                if let Some(other) = seen.insert(payload, sequence.0) {
                    self.faults.push(format!("{payload} stands at {other} and at {sequence} of {name}"));
                }
                self.stands(name, &extent.epoch, sequence.0, payload);
            }
        }
        for (payload, (channel, epoch, sequence)) in &self.acked {
            let at = names.iter().position(|name| name == channel).unwrap();
            let kept = *sequence > extents[at].floor.0 && *epoch == extents[at].epoch;
            if kept && seen.get(payload) != Some(sequence) {
                self.faults.push(format!("I7: {channel} {sequence} was acknowledged and is gone"));
            }
        }
    }
}
