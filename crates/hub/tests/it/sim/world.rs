//! Shards, the bus, a network and clients, in virtual time.

mod checks;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use pulsewire_bus::{
    Broker, Bus, ChannelKind, MemoryStore, NamedBy, Now, Options, Page, Publication, Publisher, Receipt,
    Refusal, Reply, RingLimits, SeriesQuery, Store, Turn,
};
use pulsewire_hub::{
    Admission, Arrival, Authenticated, Command, ConnKey, ConnectWish, EventAnswer, Fetched, Hub, HubSettings,
    Inbox, Ledger, Moved, Order, Principal, RateDirection, SeriesAnswer, Shard, ShardOptions, Work,
};
use pulsewire_protocol::{
    ChannelName, Encoding, Epoch, ErrorCode, Event, Heartbeat, MetricKind, Number, Sample, Sequence,
    SessionId, Tags,
};
use pulsewire_telemetry::{SampleSource, Telemetry};

use super::backend::{SimBackend, verify};
use super::client::{Client, Reading};
use super::events::payload_of;
pub use super::events::{event, event_fields, packed};
use super::net::{Say, SimNet, Wire, Wires};
use super::node::{Distant, namespaces};
use super::rng::Rng;
use super::truth::{EPHEMERAL, Truth, host_has};

/// What happens to publications between the bus and a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing: the bus of one process.
    Whole,
    /// Some are lost, repeated or swapped, as a broker between nodes would.
    Lossy,
}

/// A wrong thing done by the world, to see whether the checks find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// One publication does not reach one shard, and nothing follows it.
    LosePublication,
    /// A page comes without its last publication.
    ShortenPage,
    /// A page comes without one in the middle.
    HolePage,
    /// A close is not written down.
    ForgetClose,
    /// A listener is counted that is not there.
    LeakListener,
    /// A connection stays in the admission table.
    LeakAdmission,
}

pub struct Plan {
    pub shards: usize,
    pub settings: HubSettings,
    pub history_max: usize,
    pub critical_max: usize,
    /// Whether channels and pages are looked up in a store that does not answer at once.
    pub distant: bool,
    /// What the node counts versions under.
    pub name: &'static str,
    /// The node of a cluster that this is, if it is one.
    pub node: Option<Place>,
    /// How much of a channel's tail is at hand.
    pub ring: usize,
    pub way: Way,
    /// Kernel buffers hold between so many bytes.
    pub room: (usize, usize),
    pub moody: bool,
    pub inbox_max: usize,
    pub backend_max: usize,
    pub bounds: (usize, usize, usize),
}

/// A node's place among others that share a store.
#[derive(Clone)]
pub struct Place {
    pub number: usize,
    pub nodes: usize,
    pub incarnation: u64,
    pub store: Arc<dyn Store>,
    pub broker: Arc<dyn Broker>,
}

impl Place {
    /// What a node makes of its name.
    pub fn tag(&self) -> u16 {
        (self.incarnation % 0xFFF1) as u16
    }
}

/// A session that a client wants from another node.
pub struct Wanted {
    pub shard: usize,
    pub conn: ConnKey,
    pub session: SessionId,
    pub principal: Arc<Principal>,
    pub wish: ConnectWish,
}

impl Plan {
    /// A world in which nothing goes wrong by itself.
    pub fn calm(settings: HubSettings) -> Self {
        Self {
            shards: 1,
            settings,
            history_max: 1_000,
            critical_max: 100,
            distant: false,
            name: "n1",
            node: None,
            ring: 256,
            way: Way::Whole,
            room: (1 << 20, 1 << 20),
            moody: false,
            inbox_max: 100_000,
            backend_max: 10_000,
            bounds: (0, 0, 0),
        }
    }
}

pub struct World {
    pub rng: Rng,
    pub now: Now,
    pub plan: Plan,
    pub shards: Vec<Shard<SimNet>>,
    pub hub: Hub<usize>,
    inboxes: Arc<[Inbox<usize>]>,
    pub bus: Arc<Bus>,
    pub backend: Arc<SimBackend>,
    /// Sessions that are wanted from other nodes.
    pub wanted: Vec<Wanted>,
    /// Work that is done and not yet told.
    done: Arc<Mutex<Vec<(usize, Order)>>>,
    pub wires: Rc<RefCell<Wires>>,
    pub telemetry: Arc<Telemetry>,
    pub clients: Vec<Client>,
    /// Which client had which wire, and the close code each wire's client saw.
    pub owners: Vec<(usize, Option<u16>)>,
    pub truth: Truth,
    dealt: Vec<HashMap<String, u64>>,
    arrivals: HashMap<usize, Box<Arrival>>,
    pub payloads: u64,
    pub opened: u64,
    pub sabotage: Option<Sabotage>,
    pub sabotaged: bool,
    pub faults: Vec<String>,
}

pub const EPOCH: &str = "e1";

impl World {
    pub fn new(seed: u64, plan: Plan) -> Self {
        let mut rng = Rng::new(seed);
        let telemetry = Telemetry::new(pulsewire_telemetry::Options {
            event_types_max: 12,
            ..pulsewire_telemetry::Options::default()
        });
        let inboxes: Arc<[Inbox<usize>]> =
            (0..plan.shards).map(|_| Inbox::new(plan.inbox_max, Box::new(|| ()))).collect();
        let (node, address, user) = plan.bounds;
        let admission = Arc::new(Admission::new(node, address, user));
        let ledger = Arc::new(Ledger::new(100_000));
        let hub = Hub::new(inboxes.clone(), admission.clone(), ledger.clone(), plan.name);
        let options = Options {
            namespaces: namespaces(plan.history_max, plan.critical_max),
            shards: plan.shards,
            channels_max: 1_000_000,
            epoch: Epoch::parse(EPOCH).expect("an epoch"),
            incarnation: plan.node.as_ref().map_or(seed, |node| node.incarnation),
            store: match &plan.node {
                Some(node) => Some(node.store.clone()),
                None => plan.distant.then(|| {
                    let memory = MemoryStore::new(Epoch::parse(EPOCH).expect("an epoch"), 1_000_000);
                    Arc::new(Distant(memory)) as Arc<dyn Store>
                }),
            },
            broker: plan.node.as_ref().map(|node| node.broker.clone()),
            queue_max: 1_000_000,
            ring: RingLimits { publications: plan.ring, bytes: 1 << 20 },
            series: Default::default(),
            tap: None,
        };
        let bus = Arc::new(Bus::new(options, telemetry.clone(), Box::new(hub.clone())));
        let backend = Arc::new(SimBackend::default());
        backend.waiting_max.store(plan.backend_max, Ordering::Relaxed);
        let wires = Rc::new(RefCell::new(Wires {
            list: Vec::new(),
            by_key: HashMap::new(),
            rng: rng.fork(),
            moody: plan.moody,
            moving: 0,
            forget_closes: false,
            faults: Vec::new(),
        }));
        let settings = Arc::new(plan.settings.clone());
        let shards = (0..plan.shards)
            .map(|index| {
                let mut random = rng.fork();
                let net = SimNet { shard: index, wires: wires.clone(), inboxes: inboxes.clone() };
                let options = ShardOptions {
                    index,
                    settings: settings.clone(),
                    bus: bus.clone(),
                    backend: backend.clone(),
                    telemetry: telemetry.clone(),
                    admission: admission.clone(),
                    ledger: ledger.clone(),
                    presence: hub.presence.clone(),
                    random: Box::new(move || random.next()),
                    node: plan.node.as_ref().map_or(0, Place::tag),
                    timeline_max: 4_096,
                };
                Shard::new(net, options)
            })
            .collect();
        let truth = Truth {
            history_max: plan.history_max as u64,
            critical_max: plan.critical_max as u64,
            epoch: EPOCH.into(),
            lossy: plan.way == Way::Lossy || plan.node.is_some(),
            metered: plan.settings.limits.rate_direction == RateDirection::Both,
            ..Truth::default()
        };
        let dealt = vec![HashMap::new(); plan.shards];
        Self {
            rng,
            now: Now { mono_ns: 1_000_000_000_000, wall_ms: 1_700_000_000_000 },
            plan,
            shards,
            hub,
            inboxes,
            bus,
            backend,
            wanted: Vec::new(),
            done: Arc::default(),
            wires,
            telemetry,
            clients: Vec::new(),
            owners: Vec::new(),
            truth,
            dealt,
            arrivals: HashMap::new(),
            payloads: 0,
            opened: 0,
            sabotage: None,
            sabotaged: false,
            faults: Vec::new(),
        }
    }

    // --- clients ---

    /// The accept loop: a connection of a client, if admission allows it. Returns its number.
    #[expect(clippy::needless_pass_by_value, reason = "a description, used once")]
    pub fn connect(&mut self, client: usize, with: Connecting) -> Option<usize> {
        let number = self.owners.len();
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, (client % 4) as u8));
        let remote = SocketAddr::new(ip, u16::try_from(number + 1).expect("fewer than 65,535 connections"));
        let admission = &self.hub.admission;
        admission.connect(ip).ok()?;
        let principal = match with.token.as_deref().map(|token| verify(token, self.now.wall_ms)) {
            None => None,
            Some(Ok(principal)) => match admission.enter(&principal.sub) {
                Ok(()) => Some(principal),
                Err(_) => {
                    admission.disconnect(ip);
                    return None;
                }
            },
            Some(Err(_)) => {
                admission.disconnect(ip);
                return None;
            }
        };
        let room = self.rng.between(self.plan.room.0, self.plan.room.1);
        let mut wires = self.wires.borrow_mut();
        wires.list.push(Wire {
            at: None,
            down: Default::default(),
            room,
            up: Default::default(),
            reset: false,
            told: false,
            server_fin: false,
            server_closed: false,
            starved: false,
            read_bytes: 0,
        });
        drop(wires);
        let shard = with.shard.unwrap_or_else(|| self.rng.below(self.plan.shards));
        let encoding = if with.msgpack { Encoding::MsgPack } else { Encoding::Json };
        let arrival = Arrival {
            remote,
            user_agent: "sim".into(),
            encoding,
            encoding_strict: with.strict,
            heartbeat: if with.message_pings { Heartbeat::Message } else { Heartbeat::Frame },
            principal,
            session: with.session,
            accepted_ns: self.now.mono_ns,
        };
        self.inboxes[shard].push(Command::Arrive(number, Box::new(arrival)));
        self.owners.push((client, None));
        let entry = &mut self.clients[client];
        entry.msgpack = with.msgpack;
        entry.connected(number);
        Some(number)
    }

    /// A client says something, if it has a connection.
    pub fn say(&mut self, client: usize, say: Say) {
        if let Some(wire) = self.clients[client].wire {
            let mut wires = self.wires.borrow_mut();
            let wire = &mut wires.list[wire];
            if !wire.reset && !wire.server_closed {
                wire.up.push_back(say);
            }
        }
    }

    /// A client's connection breaks: nothing more comes or goes.
    pub fn reset(&mut self, client: usize) {
        if let Some(number) = self.clients[client].wire {
            let mut wires = self.wires.borrow_mut();
            let wire = &mut wires.list[number];
            wire.reset = true;
            let unread = !wire.down.is_empty();
            wire.down.clear();
            wire.up.clear();
            drop(wires);
            self.owners[number].1 = self.clients[client].closed;
            self.clients[client].disconnected(unread);
            self.clients[client].was_closed |= self.is_over(number);
        }
    }

    /// Whether the server has begun to close a connection; what it had queued may reach the client yet.
    fn is_over(&self, number: usize) -> bool {
        let (entries, _) = self.hub.ledger.page(0, usize::MAX);
        entries.iter().any(|entry| usize::from(entry.remote.port()) == number + 1 && entry.code != 1006)
    }

    /// A client forgets its connection without anybody's being told: half open.
    pub fn abandon(&mut self, client: usize) {
        if let Some(number) = self.clients[client].wire {
            self.owners[number].1 = self.clients[client].closed;
            // What the kernel takes from now on is lost too.
            self.clients[client].disconnected(true);
            self.clients[client].was_closed |= self.is_over(number);
        }
    }

    /// Clients read what they like to, and answer pings.
    pub fn clients_read(&mut self) {
        for index in 0..self.clients.len() {
            let Some(number) = self.clients[index].wire else { continue };
            let bytes: Vec<u8> = {
                let mut wires = self.wires.borrow_mut();
                let wire = &mut wires.list[number];
                let count = match self.clients[index].reading {
                    Reading::All => wire.down.len(),
                    Reading::Bytes(count) => wire.down.len().min(count),
                    Reading::Nothing => 0,
                };
                wire.read_bytes += count as u64;
                wire.down.drain(..count).collect()
            };
            self.clients[index].read(bytes, &self.truth);
            let client = &mut self.clients[index];
            let pongs: Vec<Say> = client
                .pongs
                .drain(..)
                .map(Say::Pong)
                .chain(
                    client
                        .message_pongs
                        .drain(..)
                        .map(|at| Say::Text(format!(r#"{{"type":"pong","timestamp":{at}}}"#))),
                )
                .collect();
            let msgpack = client.msgpack;
            let closed = client.closed;
            for pong in pongs {
                let pong = match pong {
                    Say::Text(text) if msgpack => Say::Binary(packed(&text)),
                    other => other,
                };
                self.say(index, pong);
            }
            let (over, unread) = {
                let wires = self.wires.borrow();
                let wire = &wires.list[number];
                ((wire.server_closed || wire.server_fin) && wire.down.is_empty(), !wire.down.is_empty())
            };
            if over {
                // RFC 6455 §7.1.1: the client closes when the server has.
                self.say(index, Say::Fin);
                self.owners[number].1 = closed;
                self.clients[index].disconnected(unread);
                self.clients[index].was_closed |= self.is_over(number);
            }
        }
    }

    // --- publishing ---

    /// A number for the next payload; no node's is another's.
    pub fn payload(&mut self) -> u64 {
        self.payloads += 1;
        let node = self.plan.node.as_ref();
        self.payloads * node.map_or(1, |node| node.nodes as u64) + node.map_or(0, |node| node.number as u64)
    }

    /// Publishes an event with the next payload; `padding` bytes long and more.
    pub fn publish(&mut self, channel: &str, padding: usize) -> Result<Receipt, Refusal> {
        let payload = self.payload();
        let events = vec![event(channel, payload, padding, None)];
        let publisher = Publisher { named_by: NamedBy::ApiKey, principal: "app", user: None, begun_ns: 0 };
        self.publish_events(publisher, events).map(|mut receipts| receipts.remove(0))
    }

    /// Publishes events and remembers what was accepted.
    pub fn publish_events(
        &mut self,
        publisher: Publisher<'_>,
        events: Vec<Event>,
    ) -> Result<Vec<Receipt>, Refusal> {
        let payloads: Vec<u64> = events.iter().map(payload_of).collect();
        let (reply, answer) = capture();
        self.bus.publish(self.now, publisher, events, reply);
        if let Some(lane) = self.bus.durable_lane() {
            while self.bus.commit(lane, self.now) == Turn::Done {}
        }
        let receipts = answer.lock().take().expect("it was committed")?;
        for (receipt, payload) in receipts.iter().zip(payloads) {
            let name = receipt.channel.as_str();
            match receipt.sequence {
                Some(sequence) => {
                    let log = self.truth.log.entry(name.to_owned()).or_default();
                    if receipt.duplicate {
                        if log.get(sequence.0 as usize - 1) != Some(&payload) {
                            self.faults
                                .push(format!("{name} {} is not a duplicate of {payload}", sequence.0));
                        }
                        continue;
                    }
                    log.push(payload);
                    if log.len() as u64 != sequence.0 {
                        self.faults.push(format!("I1: {name} got {} as event {}", sequence.0, log.len()));
                    }
                }
                None => {
                    let list = self.truth.ephemeral.entry(name.to_owned()).or_default();
                    list.push(payload);
                    self.truth.places.insert(payload, list.len() as u64);
                }
            }
        }
        Ok(receipts)
    }

    /// Publishes the next set of a metric channel.
    pub fn publish_set(&mut self, channel: &str) {
        let n = self.truth.sets(channel) + 1;
        // A clock of nanoseconds gives no two publications the same moment.
        self.now.mono_ns += 1;
        let samples = ['*', 'a', 'b']
            .into_iter()
            .filter(|host| host_has(*host, n))
            .map(|host| Sample {
                name: "n".into(),
                kind: MetricKind::Gauge,
                value: Number::Whole(n as i64),
                tags: Tags::new([("host", host.to_string().as_str())]).expect("tags"),
                timestamp_ms: None,
            })
            .collect();
        let channel_name = ChannelName::parse(channel).expect("a channel");
        if self.bus.publish_samples(self.now, SampleSource::Host, &channel_name, samples).is_ok() {
            self.truth.metrics.insert(channel.to_owned(), n);
        }
    }

    // --- the server ---

    /// Another node wants a session.
    pub fn give_up(&mut self, session: SessionId, user: &str) -> Option<Moved> {
        let shard = self.shards.get_mut(usize::from(session.shard()))?;
        let moved = Arc::new(Mutex::new(None));
        let told = moved.clone();
        let reply = Box::new(move |moved: Option<Box<Moved>>| *told.lock() = moved);
        shard.order(Order::GiveUp { session, user: user.into(), reply }, self.now);
        let moved = moved.lock().take();
        // As it is told between nodes.
        moved.map(|moved| {
            let text = serde_json::to_string(&moved).expect("it can be written");
            serde_json::from_str(&text).expect("it can be read")
        })
    }

    /// Other nodes were asked for a session. What is not numbered by all of them alike stays where it was.
    pub fn fetched(&mut self, wanted: Wanted, moved: Option<Moved>) {
        let Wanted { shard, conn, principal, wish, .. } = wanted;
        let done = self.done.clone();
        let tell = move |moved| {
            let fetched = Box::new(Fetched { principal, wish, moved });
            done.lock().push((shard, Order::Fetched(conn, fetched)));
        };
        let Some(moved) = moved else { return tell(None) };
        let mut names = moved.channels();
        let is_log = |name: &ChannelName| {
            self.bus.namespace(name).is_some_and(|namespace| namespace.kind == ChannelKind::Log)
        };
        names.retain(|(name, _)| is_log(name));
        let opened = move |opened: pulsewire_bus::Opened| tell(opened.ok().map(|channels| (moved, channels)));
        self.bus.open(self.now, names, Box::new(opened));
    }

    /// Does some of the backend's work.
    pub fn backend_work(&mut self, count: usize) {
        for _ in 0..count {
            let rng = &mut self.rng;
            let Some(request) = self.backend.take(|len| rng.below(len)) else { return };
            let (shard, conn) = (request.shard, request.conn);
            let order = match request.work {
                Work::Authenticate { token, after, .. } => {
                    let outcome = verify(&token, self.now.wall_ms);
                    Order::Authenticated(conn, Box::new(Authenticated { outcome, after }))
                }
                Work::Fetch { session, principal, wish } => {
                    self.wanted.push(Wanted { shard, conn, session, principal, wish });
                    continue;
                }
                Work::Publish { id, principal, single, begun_ns, events } => {
                    let publisher = Publisher {
                        named_by: principal.named_by,
                        principal: &principal.sub,
                        user: Some(&principal.sub),
                        begun_ns,
                    };
                    let outcome = self.publish_events(publisher, events);
                    Order::Published { conn, id, single, outcome }
                }
                Work::ClientEvent { id, event_type, .. } => {
                    let outcome = match &*event_type {
                        "task_assign" => Ok(None),
                        _ => Err((ErrorCode::HookFailed, "no".to_owned())),
                    };
                    Order::EventAnswered(conn, Box::new(EventAnswer { id, event_type, outcome }))
                }
                Work::Open { names, wish, id } => {
                    let done = self.done.clone();
                    let tell =
                        move |outcome| done.lock().push((shard, Order::Opened { conn, wish, id, outcome }));
                    self.bus.open(self.now, names, Box::new(tell));
                    continue;
                }
                Work::State { channel, after, limit, read } => {
                    let done = self.done.clone();
                    let tell = move |state| done.lock().push((shard, Order::State { conn, read, state }));
                    self.bus.state(self.now, &channel, after, limit, Box::new(tell));
                    continue;
                }
                Work::History { id, .. } => {
                    let outcome = Err((ErrorCode::HistoryUnavailable, String::new()));
                    Order::History { conn, id, outcome }
                }
                // The simulated clients send none.
                Work::Samples { id, .. } => Order::Sampled { conn, id, accepted: 0, refused: Vec::new() },
                Work::Series { id, channel, query, shape, encoding, read } => {
                    let query = SeriesQuery { to_ms: query.to_ms.min(self.now.wall_ms + 60_000), ..query };
                    let listed = self.bus.at_hand(&channel, Sequence::ZERO).expect("a metric channel");
                    let history = listed
                        .ok_or(ErrorCode::UnknownChannel)
                        .and_then(|listed| self.bus.series_history(self.now, &listed, &query));
                    let outcome = history.map_err(|code| (code, String::new())).map(|history| SeriesAnswer {
                        frame: history.encode(&channel, &query, shape, id.as_ref(), encoding),
                        next_ms: history.next_ms,
                        resolution: history.resolution,
                        number: history.number,
                    });
                    Order::Series { conn, id, read, outcome }
                }
                Work::Read { channel, query, read } => {
                    let done = self.done.clone();
                    let tell = move |page| done.lock().push((shard, Order::Page { conn, read, page }));
                    self.bus.read(self.now, &channel, query, Box::new(tell));
                    continue;
                }
            };
            self.done.lock().push((shard, order));
        }
    }

    /// Reads some of what waits to be read.
    pub fn store_work(&mut self, count: usize) {
        for _ in 0..count {
            if !self.bus.perform(self.now) {
                return;
            }
        }
    }

    fn sabotaged_page(&mut self, page: &Arc<Page>) -> Arc<Page> {
        let mut page = Page::clone(page);
        let len = page.publications.len();
        match self.sabotage {
            Some(Sabotage::HolePage) if !self.sabotaged && len > 2 => {
                page.publications.remove(1);
                self.sabotaged = true;
            }
            Some(Sabotage::ShortenPage) if !self.sabotaged && len > 1 => {
                page.publications.remove(0);
                page.floor.0 = page.publications[0].sequence.0 - 1;
                self.sabotaged = true;
            }
            _ => {}
        }
        Arc::new(page)
    }

    /// Tells shards of some work that is done; answers for one connection keep their order.
    pub fn backend_tell(&mut self, count: usize) {
        let ready = self.done.lock().len();
        for _ in 0..count.min(ready) {
            let mut done = self.done.lock();
            let at = self.rng.below(done.len());
            let publishes = |entry: &(usize, Order)| match &entry.1 {
                Order::Published { conn, .. } => Some((entry.0, *conn)),
                _ => None,
            };
            let whose = publishes(&done[at]);
            let first = match whose {
                Some(_) => done.iter().position(|other| publishes(other) == whose).unwrap_or(at),
                None => at,
            };
            let (shard, mut order) = done.remove(first);
            drop(done);
            if let Order::Page { page: Ok(page), .. } = &mut order {
                *page = self.sabotaged_page(page);
            }
            self.hub.order(shard, order);
        }
    }

    /// One round of a shard's loop: commands, readiness and messages, time, then flushing.
    pub fn round(&mut self, index: usize, chaos: bool) {
        self.take_inbox(index);
        self.readiness(index, chaos);
        self.shards[index].tick(self.now);
        loop {
            let batch = if chaos { self.rng.between(1, 4) } else { 512 };
            let more = self.shards[index].flush(batch, self.now);
            self.shards[index].account(self.now);
            if !more {
                break;
            }
            if chaos && self.rng.chance(30) {
                self.take_inbox(index);
            }
        }
    }

    fn take_inbox(&mut self, index: usize) {
        let mut taken = Vec::new();
        self.inboxes[index].take(&mut taken);
        if self.plan.way == Way::Lossy {
            self.lose_some(&mut taken);
        }
        let now = self.now;
        // As the loop under epoll does it: what was published together goes out together.
        let mut together: Vec<Arc<Publication>> = Vec::new();
        for command in taken {
            let shard = &mut self.shards[index];
            let another = match &command {
                Command::Publish(publication) => {
                    together.last().is_some_and(|last| last.channel.id != publication.channel.id)
                }
                _ => true,
            };
            if another {
                shard.publish_all(&together, now);
                together.clear();
            }
            match command {
                Command::Publish(publication) => {
                    let is_last = publication.sequence.0 > 0
                        && publication.sequence.0 == self.truth.head(publication.channel.name.as_str());
                    if self.sabotage == Some(Sabotage::LosePublication) && !self.sabotaged && is_last {
                        self.sabotaged = true;
                        continue;
                    }
                    together.push(publication);
                }
                Command::Arrive(number, arrival) => {
                    self.opened += 1;
                    let key = shard.reserve(&arrival, now);
                    self.bind(index, number, key);
                    self.shards[index].arrive(key, &arrival, now);
                    self.arrivals.insert(number, arrival);
                }
                Command::Adopt(number, resume) => {
                    self.wires.borrow_mut().moving -= 1;
                    let key = shard.reserve(&resume.arrival, now);
                    self.bind(index, number, key);
                    self.shards[index].adopt(key, *resume, now);
                }
                Command::Order(order) => shard.order(order, now),
            }
        }
        self.shards[index].publish_all(&together, now);
        for channel in EPHEMERAL {
            self.dealt[index].insert(channel.into(), self.truth.said(channel));
        }
        for channel in EPHEMERAL {
            let least = self.dealt.iter().map(|dealt| dealt.get(channel).copied().unwrap_or(0)).min();
            self.truth.dealt_with.insert(channel.into(), least.unwrap_or(0));
        }
    }

    fn lose_some(&mut self, taken: &mut Vec<Command<usize>>) {
        let mut at = 0;
        while at < taken.len() {
            if let Command::Publish(publication) = &taken[at]
                && publication.sequence.0 > 0
            {
                match self.rng.below(20) {
                    0 => {
                        taken.remove(at);
                        continue;
                    }
                    1 => {
                        let again = Command::Publish(publication.clone());
                        let place = self.rng.between(at, taken.len());
                        taken.insert(place, again);
                    }
                    2 => {
                        let other = self.rng.between(at, taken.len() - 1);
                        if matches!(&taken[other], Command::Publish(other) if other.sequence.0 > 0) {
                            taken.swap(at, other);
                        }
                    }
                    _ => {}
                }
            }
            at += 1;
        }
    }

    fn bind(&mut self, shard: usize, number: usize, key: pulsewire_hub::ConnKey) {
        let mut wires = self.wires.borrow_mut();
        wires.list[number].at = Some((shard, key));
        wires.by_key.insert((shard, key), number);
    }

    fn readiness(&mut self, index: usize, chaos: bool) {
        let mut numbers: Vec<usize> = {
            let wires = self.wires.borrow();
            wires.by_key.iter().filter(|((shard, _), _)| *shard == index).map(|(_, number)| *number).collect()
        };
        numbers.sort_unstable();
        let now = self.now;
        for number in numbers {
            if chaos && self.rng.chance(10) {
                continue;
            }
            let mut budget = if chaos { self.rng.between(1, 8) } else { usize::MAX };
            while budget > 0 {
                budget -= 1;
                let (key, say, reset) = {
                    let mut wires = self.wires.borrow_mut();
                    let wire = &mut wires.list[number];
                    let Some((shard, key)) = wire.at.filter(|_| !wire.told) else { break };
                    if shard != index {
                        break;
                    }
                    (key, wire.up.pop_front(), wire.reset)
                };
                let Some(say) = say else {
                    if reset {
                        self.wires.borrow_mut().list[number].told = true;
                        self.shards[index].gone(key, now);
                    }
                    break;
                };
                let shard = &mut self.shards[index];
                match say {
                    Say::Text(text) => {
                        shard.received(key, text.len() + 6);
                        shard.text(key, &text, now);
                    }
                    Say::Binary(bytes) => {
                        shard.received(key, bytes.len() + 6);
                        shard.binary(key, &bytes, now);
                    }
                    Say::Ping(payload) => shard.ping(key, &payload, now),
                    Say::Pong(payload) => shard.pong(key, &payload, now),
                    Say::Close(code) => shard.peer_closed(key, code, now),
                    Say::Broken(violated) => shard.violated(key, violated, now),
                    Say::Fin => {
                        self.wires.borrow_mut().list[number].told = true;
                        shard.gone(key, now);
                    }
                }
            }
            let writable = {
                let mut wires = self.wires.borrow_mut();
                let wire = &mut wires.list[number];
                let writable = wire.starved && wire.down.len() < wire.room && !wire.reset;
                match wire.at {
                    Some((shard, key)) if shard == index && writable => {
                        wire.starved = false;
                        Some(key)
                    }
                    _ => None,
                }
            };
            if let Some(key) = writable {
                self.shards[index].writable(key, now);
            }
        }
    }

    // --- time ---

    pub fn advance(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.bus.roll(self.now);
    }

    /// Lets time pass with everybody awake, in steps of at most `step` ms.
    pub fn run(&mut self, ms: u64, step: u64) {
        let mut left = ms;
        loop {
            self.settle();
            if left == 0 {
                return;
            }
            let part = left.min(step);
            self.advance(part);
            left -= part;
        }
    }

    /// Everybody does what there is to do now, a few times over.
    pub fn settle(&mut self) {
        for _ in 0..4 {
            self.backend_work(usize::MAX >> 1);
            self.store_work(usize::MAX >> 1);
            self.bus.tick(self.now);
            self.store_work(usize::MAX >> 1);
            self.backend_tell(usize::MAX >> 1);
            for index in 0..self.shards.len() {
                self.round(index, false);
            }
            self.clients_read();
        }
    }
}

/// How a client connects.
#[derive(Debug, Clone, Default)]
pub struct Connecting {
    pub token: Option<String>,
    pub session: Option<SessionId>,
    pub shard: Option<usize>,
    pub msgpack: bool,
    pub strict: bool,
    pub message_pings: bool,
}

/// Takes an answer that comes at once.
fn capture<T: Send + 'static>() -> (Reply<T>, Arc<Mutex<Option<T>>>) {
    let slot = Arc::new(Mutex::new(None));
    let taken = slot.clone();
    (Box::new(move |answer| *taken.lock() = Some(answer)), slot)
}
