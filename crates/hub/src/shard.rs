//! The deciding core of one thread: who is told, in which order, and what happens if they do not listen.
//!
//! Everything here belongs to one thread; nothing is shared but what is immutable. A round of the
//! loop around it is: take the inbox, report readiness and messages, [`Shard::flush`] until nothing is
//! touched, sleep. Flushing goes in batches, and the loop looks into the inbox between them: what was
//! published meanwhile joins the lists of connections that were not flushed yet, so under load
//! everyone's next write carries everything published so far.

mod answers;
mod backlog;
mod closing;
mod cursor;
mod fanout;
pub(crate) mod feed;
mod flush;
mod heartbeat;
mod inbound;
mod meter;
mod noting;
mod outbox;
mod presence;
mod probe;
mod queue;
mod ranking;
mod readership;
mod series;
mod slot;
mod subscribe;
mod survey;
mod tapping;
mod wish;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use pulsewire_bus::{Bus, ChannelId, Now, Resolution};
use pulsewire_protocol::{Encoding, Heartbeat, SessionId};
use pulsewire_telemetry::{EventTypeId, ShardMetrics, Telemetry};
use slab::Slab;
use smallvec::SmallVec;

pub use closing::Violated;

use crate::command::{ConnectWish, Order, Work};
use crate::presence::Parting;
use crate::watch::tap::Tap;
use crate::watch::timeline::{Happening, Note, Timeline};
use crate::{
    Admission, Arrival, Backend, BackendRequest, Carried, ConnKey, Fetched, HubSettings, Ledger, Moved, Net,
    Presence, Principal, Resume,
};
use feed::Feed;
use flush::Scratch;
use probe::Probes;
use queue::Queue;
use slot::{Counters, ErrorWindow, Flags, Guest, Peer, Phase, Session, Slot};

/// What a shard is made of.
pub struct ShardOptions {
    /// Its number.
    pub index: usize,
    /// What it is told by the operator.
    pub settings: Arc<HubSettings>,
    /// Where events come from and positions are known.
    pub bus: Arc<Bus>,
    /// Who does what it cannot.
    pub backend: Arc<dyn Backend>,
    /// Where counters are registered.
    pub telemetry: Arc<Telemetry>,
    /// The process's table of connections by address and user.
    pub admission: Arc<Admission>,
    /// The process's record of closed connections.
    pub ledger: Arc<Ledger>,
    /// The process's table of who is in which channel.
    pub presence: Arc<Presence>,
    /// Unpredictable numbers, for session ids and spreading.
    pub random: Box<dyn FnMut() -> u64 + Send>,
    /// What this node makes of its name, for session ids; another one than that of other nodes.
    pub node: u16,
    /// How many entries its timeline has at most, of 32 bytes each; 0 keeps none.
    pub timeline_max: usize,
}

/// Messages that came while something before them was not decided.
#[derive(Default)]
struct Stash {
    messages: VecDeque<Carried>,
    bytes: usize,
}

/// One shard.
pub struct Shard<N: Net> {
    /// Its network.
    pub net: N,
    index: usize,
    node: u16,
    settings: Arc<HubSettings>,
    bus: Arc<Bus>,
    backend: Arc<dyn Backend>,
    telemetry: Arc<Telemetry>,
    metrics: ShardMetrics,
    metric_type: EventTypeId,
    admission: Arc<Admission>,
    ledger: Arc<Ledger>,
    presence: Arc<Presence>,
    /// Who here watches whom.
    attending: presence::Attending,
    random: Box<dyn FnMut() -> u64 + Send>,
    slots: Slab<Slot>,
    stamp: u32,
    reads: u32,
    feeds: Slab<Feed>,
    feeds_by_channel: HashMap<ChannelId, SmallVec<[u32; 2]>>,
    queue: Queue,
    scratch: Scratch,
    /// Connections whose outbox is watched for progress.
    watched: Vec<ConnKey>,
    /// Close frames on their way: when to give up.
    closing: VecDeque<(u64, ConnKey)>,
    /// Connections that have not authenticated: when to give up.
    pending: VecDeque<(u64, ConnKey)>,
    /// Sessions without a connection: when they end.
    detached: VecDeque<(u64, u32, SessionId)>,
    /// Tokens that end soon, Unix milliseconds.
    expiring: BinaryHeap<Reverse<(i64, u32, u32)>>,
    /// Connections that go on with another session, once their bytes have been decoded.
    deferred: Vec<(ConnKey, Arc<Principal>, ConnectWish)>,
    /// Connections whose reads found no room at the backend.
    retries: Vec<ConnKey>,
    /// Connections whose reads failed: tried again every second.
    retries_later: Vec<ConnKey>,
    /// Messages of connections that wait for channels to be brought to hand.
    stashes: HashMap<ConnKey, Stash>,
    /// Subscriptions (slot and feed) that are being sent their channel's state, and the last key they have.
    states: HashMap<(u32, u32), Option<Box<str>>>,
    /// Subscriptions (slot and feed) that are being sent what their metric channel did earlier, and from which moment on
    /// it is to be read, Unix milliseconds, in windows of which length once that is known.
    pasts: HashMap<(u32, u32), (i64, Option<Resolution>)>,
    /// Feeds with a filter whose listeners have not been told how far they are.
    behind: Vec<u32>,
    /// What connections were sent of late, where that is metered.
    meters: meter::Meters,
    probes: Probes,
    receipts: probe::Receipts,
    swept: heartbeat::Sweep,
    /// What happened to the sessions.
    timeline: Timeline,
    /// Who looks at what a connection is sent and says.
    taps: Vec<Tap>,
    /// Whether the flush path has to look at each connection: it is metered, or somebody taps one.
    attentive: bool,
    drain: Option<closing::Draining>,
    detached_count: usize,
    active_count: usize,
}

impl<N: Net> Shard<N> {
    /// A shard with no connections.
    #[must_use]
    pub fn new(net: N, options: ShardOptions) -> Self {
        let metrics = options.telemetry.shard();
        let metric_type = options.telemetry.event_types().intern("metric");
        let mut shard = Self {
            net,
            index: options.index,
            node: options.node,
            settings: options.settings,
            bus: options.bus,
            backend: options.backend,
            telemetry: options.telemetry,
            metrics,
            metric_type,
            admission: options.admission,
            ledger: options.ledger,
            presence: options.presence,
            attending: presence::Attending::default(),
            random: options.random,
            slots: Slab::new(),
            stamp: 0,
            reads: 0,
            feeds: Slab::new(),
            feeds_by_channel: HashMap::new(),
            queue: Queue::new(),
            scratch: Scratch::default(),
            watched: Vec::new(),
            closing: VecDeque::new(),
            pending: VecDeque::new(),
            detached: VecDeque::new(),
            expiring: BinaryHeap::new(),
            deferred: Vec::new(),
            retries: Vec::new(),
            retries_later: Vec::new(),
            stashes: HashMap::new(),
            states: HashMap::new(),
            pasts: HashMap::new(),
            behind: Vec::new(),
            meters: meter::Meters::default(),
            probes: Probes::default(),
            receipts: probe::Receipts::default(),
            swept: heartbeat::Sweep::default(),
            timeline: Timeline::new(options.timeline_max),
            taps: Vec::new(),
            attentive: false,
            drain: None,
            detached_count: 0,
            active_count: 0,
        };
        shard.see_to_attention();
        shard
    }

    /// Makes a place for a connection. The network must know the key before [`Shard::arrive`] is called.
    pub fn reserve(&mut self, arrival: &Arrival, now: Now) -> ConnKey {
        self.stamp = self.stamp.wrapping_add(1);
        let peer = Peer {
            remote: arrival.remote,
            user_agent: arrival.user_agent.clone(),
            connected_ns: now.mono_ns,
            connected_at_ms: now.wall_ms,
        };
        let guest = Guest {
            peer,
            bytes_received: 0,
            stash: Vec::new(),
            stash_bytes: 0,
            errors: ErrorWindow::default(),
            principal: None,
        };
        let mut slot = Slot::new(self.stamp, guest);
        slot.flags.put(Flags::MSGPACK, arrival.encoding == Encoding::MsgPack);
        slot.flags.put(Flags::STRICT_ENCODING, arrival.encoding_strict);
        slot.flags.put(Flags::MESSAGE_PINGS, arrival.heartbeat == Heartbeat::Message);
        if self.slots.len() == self.slots.capacity() {
            // By an eighth, not by doubling: what is reserved and unused counts per connection too.
            self.slots.reserve_exact(self.slots.capacity() / 8 + 64);
        }
        let index = self.slots.insert(slot);
        ConnKey {
            slot: u32::try_from(index).expect("fewer than 2^24 connections in a shard"),
            stamp: self.stamp,
        }
    }

    /// A connection was upgraded and stands at the place reserved for it.
    pub fn arrive(&mut self, key: ConnKey, arrival: &Arrival, now: Now) {
        self.metrics.connection_opened();
        self.active_count += 1;
        match &arrival.principal {
            Some(principal) => {
                // Whoever authenticated in the handshake was counted there.
                self.slots[key.slot as usize].flags.put(Flags::ENTERED, !principal.is_anonymous());
                let wish = ConnectWish { session: arrival.session, ..ConnectWish::default() };
                self.connect(key, principal.clone(), wish, now);
            }
            None => {
                let deadline = now.mono_ns + self.settings.limits.auth_timeout_ms * 1_000_000;
                self.pending.push_back((deadline, key));
            }
        }
    }

    /// A connection came from another shard because its session is here.
    pub fn adopt(&mut self, key: ConnKey, resume: Resume, now: Now) {
        self.active_count += 1;
        let slot = &mut self.slots[key.slot as usize];
        slot.flags.put(Flags::ENTERED, !resume.principal.is_anonymous());
        if let Some(guest) = &mut slot.guest {
            guest.stash = resume.stash;
        }
        self.connect(key, resume.principal, resume.wish, now);
    }

    /// Deals with an order.
    pub fn order(&mut self, order: Order, now: Now) {
        match order {
            Order::Authenticated(conn, authenticated) => self.authenticated(conn, *authenticated, now),
            Order::Fetched(conn, fetched) => self.fetched(conn, *fetched, now),
            Order::GiveUp { session, user, reply } => reply(self.give_up(session, &user, now)),
            Order::Published { conn, id, single, outcome } => {
                self.published(conn, id.as_ref(), single, outcome, now);
            }
            Order::EventAnswered(conn, answer) => self.event_answered(conn, &answer, now),
            Order::Page { conn, read, page } => self.page(conn, read, page, now),
            Order::State { conn, read, state } => self.state(conn, read, state, now),
            Order::Opened { conn, wish, id, outcome } => self.opened_channels(conn, *wish, id, outcome, now),
            Order::History { conn, id, outcome } => self.history_read(conn, id.as_ref(), outcome, now),
            Order::Sampled { conn, id, accepted, refused } => {
                self.sampled(conn, id.as_ref(), accepted, &refused);
            }
            Order::Series { conn, id, read: None, outcome } => {
                self.series_read(conn, id.as_ref(), outcome, now);
            }
            Order::Series { conn, read: Some(read), outcome, .. } => self.past(conn, read, outcome, now),
            Order::Replaced(channel) => self.replaced(&channel, now),
            Order::Close { target, code, reply } => reply(self.close_all(&target, code, now)),
            Order::Survey(reply) => reply(self.survey(now)),
            Order::List(reply) => reply(self.list(now)),
            Order::Rank { from, query, reply } => reply(self.rank(from, &query, now)),
            Order::Rows { keys, reply } => reply(self.rows(&keys, now)),
            Order::Readership { channel, from, reply } => reply(self.readership(channel, from)),
            Order::Detail(key, reply) => reply(self.detail(key, now).map(Box::new)),
            Order::Timeline(session, reply) => reply(self.timeline_of(session)),
            Order::Drain(drain) => self.begin_drain(drain, now),
            Order::Undrain => self.drain = None,
            Order::Presence(notice) => self.presence_told(&notice),
            Order::Settings(settings) => {
                self.settings = settings;
                self.see_to_attention();
            }
            Order::Noted { user, session, note } => self.noted(&user, session, note, now),
            Order::Tap { number, session, sink, reply } => reply(self.tap(number, session, sink)),
            Order::Untap(number) => self.untap(number),
        }
    }

    /// Gives a connection its session: the one it asks for if that is here and its own, else a new one.
    fn connect(&mut self, key: ConnKey, principal: Arc<Principal>, wish: ConnectWish, now: Now) {
        if let Some(guest) = &mut self.slots[key.slot as usize].guest {
            guest.principal = Some(principal.clone());
        }
        if let Some(wanted) = wish.session
            && self.is_written(key, now)
        {
            let shard = usize::from(wanted.shard());
            if shard != self.index && shard < self.bus.shards() {
                self.hand_over(key, shard, principal, wish);
                return;
            }
            if self.resumable(wanted, &principal) && self.evict(wanted, now) {
                self.resume(key, wanted, principal, wish, now);
                return;
            }
            if self.find(key).is_some() && self.may_be_elsewhere(wanted, &principal) {
                self.fetch(key, wanted, principal, wish, now);
                return;
            }
        }
        self.begin_session(key, principal, wish, None, now);
    }

    /// Gives a connection a new session, with what it was subscribed to on another node, if that is known.
    fn begin_session(
        &mut self,
        key: ConnKey,
        principal: Arc<Principal>,
        wish: ConnectWish,
        parked: Option<Vec<feed::Parked>>,
        now: Now,
    ) {
        if self.find(key).is_none() {
            return;
        }
        let resumed = parked.is_some();
        let lost = wish.session.is_some() && !resumed;
        let random = u64::from(self.node) << 32 | ((self.random)() & 0xFFFF_FFFF);
        let id = SessionId::new(now.wall_ms.unsigned_abs(), self.index as u8, key.slot, random);
        let slot = &mut self.slots[key.slot as usize];
        let Some(guest) = slot.guest.take() else { return };
        let Guest { peer, bytes_received, stash, .. } = *guest;
        let reconnections = u32::from(resumed);
        let counters =
            Counters { bytes_received, reconnections, activity_ns: now.mono_ns, ..Counters::default() };
        let detached = parked.map(|parked| {
            self.detached_count += 1;
            let at_ms = now.wall_ms;
            Box::new(slot::Detached { until_ns: 0, at_ms, parked, messages_sent: 0, bytes_sent: 0 })
        });
        slot.session = Some(Box::new(Session {
            id,
            principal,
            peer,
            subscriptions: SmallVec::new(),
            counters,
            errors: ErrorWindow::default(),
            report: None,
            detached,
        }));
        if lost {
            self.metrics.reconnected(pulsewire_telemetry::ReconnectOutcome::Reset);
        }
        self.note_arrival(key.slot, now);
        self.opened(key, wish, resumed, stash, now);
    }

    /// Whether another node may have a session: one that this node did not make, where nodes can be asked.
    fn may_be_elsewhere(&self, wanted: SessionId, principal: &Principal) -> bool {
        self.settings.sessions_move && wanted.node() != self.node && !principal.is_anonymous()
    }

    /// Asks other nodes for a session. Until the answer comes, the connection waits as for its token.
    fn fetch(
        &mut self,
        key: ConnKey,
        wanted: SessionId,
        principal: Arc<Principal>,
        wish: ConnectWish,
        now: Now,
    ) {
        self.slots[key.slot as usize].phase = Phase::Verifying;
        let work = Work::Fetch { session: wanted, principal, wish };
        let request = Box::new(BackendRequest { shard: self.index, conn: key, work });
        if let Err(refused) = self.backend.request(request)
            && let Work::Fetch { principal, wish, .. } = refused.work
        {
            self.begin_session(key, principal, wish, None, now);
        }
    }

    /// Other nodes were asked for a session.
    fn fetched(&mut self, key: ConnKey, fetched: Fetched, now: Now) {
        let Fetched { principal, wish, moved } = fetched;
        let parked = moved.map(|(moved, channels)| moved.parked(&channels));
        self.begin_session(key, principal, wish, parked, now);
    }

    /// Gives a session to another node, if it is here and the user's: here it ends.
    fn give_up(&mut self, session: SessionId, user: &str, now: Now) -> Option<Box<Moved>> {
        let slot = self.slots.get(session.slot() as usize)?;
        let known = slot.session.as_deref().filter(|known| known.id == session)?;
        if user.is_empty() || *known.principal.sub != *user || !self.evict(session, now) {
            return None;
        }
        let index = session.slot();
        let session = self.slots[index as usize].session.as_ref()?;
        let moved = session.detached.as_ref().map(|detached| Box::new(Moved::of(&detached.parked)));
        // Where it was a member, it is one until the other node says so, or its grace is over.
        self.end_session(index, Parting::Broke, now);
        self.release(index);
        moved
    }

    /// Lets connections go on with the sessions they asked for.
    pub(crate) fn run_deferred(&mut self, now: Now) {
        for (key, principal, wish) in std::mem::take(&mut self.deferred) {
            if self.find(key).is_some() {
                self.connect(key, principal, wish, now);
            }
        }
    }

    fn hand_over(&mut self, key: ConnKey, shard: usize, principal: Arc<Principal>, wish: ConnectWish) {
        let slot = &mut self.slots[key.slot as usize];
        let Some(guest) = slot.guest.take() else { return };
        let arrival = Arrival {
            remote: guest.peer.remote,
            user_agent: guest.peer.user_agent.clone(),
            encoding: slot.encoding(),
            encoding_strict: slot.flags.has(Flags::STRICT_ENCODING),
            heartbeat: if slot.flags.has(Flags::MESSAGE_PINGS) {
                Heartbeat::Message
            } else {
                Heartbeat::Frame
            },
            principal: None,
            session: None,
            accepted_ns: guest.peer.connected_ns,
        };
        self.active_count -= 1;
        self.slots.remove(key.slot as usize);
        self.net.hand_over(key, shard, Resume { arrival, principal, wish, stash: guest.stash });
    }

    /// Whether all that was said to a connection is with the kernel, so that the connection can move to
    /// another slot or shard. What waits is tried once more.
    fn is_written(&mut self, key: ConnKey, now: Now) -> bool {
        self.flush_slot(key.slot, now);
        self.find(key).is_some_and(|slot| self.slots[slot as usize].outbox.is_none())
    }

    /// Whether a session is here, belongs to the principal and can take a new connection.
    fn resumable(&self, wanted: SessionId, principal: &Principal) -> bool {
        !principal.is_anonymous()
            && self.settings.resume_window_ms > 0
            && self
                .slots
                .get(wanted.slot() as usize)
                .and_then(|slot| slot.session.as_ref())
                .is_some_and(|session| session.id == wanted && session.principal.sub == principal.sub)
    }

    /// Takes a session's connection from it, if it has one. Returns whether the session is still there.
    fn evict(&mut self, wanted: SessionId, now: Now) -> bool {
        let target = wanted.slot();
        if self.slots[target as usize].phase != Phase::Gone {
            // The old connection is half open, or closing: the new one takes its place.
            self.close_because(target, closing::Cause::Superseded, now);
            self.flush_slot(target, now);
            if self.slots.get(target as usize).is_some_and(|slot| slot.phase != Phase::Gone) {
                self.drop_connection(target);
            }
        }
        let session = self.slots.get(target as usize).and_then(|slot| slot.session.as_ref());
        session.is_some_and(|session| session.id == wanted)
    }

    /// Moves a connection to the slot of the session it goes on with.
    fn resume(
        &mut self,
        from: ConnKey,
        wanted: SessionId,
        principal: Arc<Principal>,
        wish: ConnectWish,
        now: Now,
    ) {
        let target = wanted.slot();
        let mut old = self.slots.remove(from.slot as usize);
        let Some(guest) = old.guest.take() else { return };
        let slot = &mut self.slots[target as usize];
        let to = ConnKey { slot: target, stamp: from.stamp };
        slot.stamp = from.stamp;
        slot.flags = old.flags;
        // These stand for entries under the old key, or for a ping that the new slot did not send.
        for flag in [Flags::RETRIES, Flags::WATCHED, Flags::EXPIRY_WATCHED, Flags::AWAITING_PONG] {
            slot.flags.clear(flag);
        }
        slot.rate_ns = old.rate_ns;
        slot.messages_sent = 0;
        slot.bytes_sent = 0;
        let Some(session) = &mut slot.session else { return };
        session.principal = principal;
        session.peer = guest.peer;
        session.counters.reconnections += 1;
        session.counters.bytes_received += guest.bytes_received;
        session.counters.activity_ns = now.mono_ns;
        let times = u64::from(session.counters.reconnections);
        self.net.rebind(from, to);
        self.note_arrival(target, now);
        self.note(target, Note::of(Happening::Resumed).value(times), now);
        self.opened(to, wish, true, guest.stash, now);
    }

    /// Writes down that a connection came, at the time it did, and that its token was accepted.
    fn note_arrival(&mut self, index: u32, now: Now) {
        let Some(session) = &self.slots[index as usize].session else { return };
        let came = Now { wall_ms: session.peer.connected_at_ms, ..now };
        let (opened, known) = (Note::opened(session.peer.remote), !session.principal.is_anonymous());
        self.note(index, opened, came);
        if known {
            self.note(index, Note::of(Happening::Authenticated), now);
        }
    }

    /// The number of connections that count as active, for the loop's own decisions.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active_count
    }
}
