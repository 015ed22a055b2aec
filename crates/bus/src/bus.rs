//! The bus of one process: its channels, its stores, and who is told.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use pulsewire_protocol::{ChannelName, Epoch, ErrorCode, Sequence};
use pulsewire_telemetry::Telemetry;

use crate::broker::topics::Topics;
use crate::channel::{Channel, ChannelId};
use crate::reads::Reads;
use crate::store::{DedupKey, Durability, Failure, MemoryStore, Store};
use crate::{
    Bell, Broker, ChannelKind, Lane, Mutant, Namespace, NamespaceId, Namespaces, Now, Publication, Reply,
    RingLimits, SeriesOptions, Tap,
};

/// Whoever is to hear of publications: one part for each shard, and behind them one for all readers that no
/// shard owns ([`Bus::readers_part`]).
pub trait Audience: Send + Sync {
    /// Whether the shard can take more publications now.
    fn has_room(&self, shard: usize) -> bool;
    /// Publications of one channel, in order, for a shard that has listeners of it. Must not wait.
    fn deliver(&self, shard: usize, publications: &[Arc<Publication>]);
    /// A channel that the shard has listeners of has a successor. Must not wait.
    fn replaced(&self, shard: usize, channel: &Arc<Channel>);
}

/// What a bus is made of.
#[derive(Clone)]
pub struct Options {
    /// The namespaces, in the order in which they are tried.
    pub namespaces: Namespaces,
    /// How many shards the audience has.
    pub shards: usize,
    /// At most so many channels at a time; default 100,000.
    pub channels_max: usize,
    /// The epoch of channels that are kept in memory: random, new at every start.
    pub epoch: Epoch,
    /// Random, and new at every start: no two processes make the same name for an event.
    pub incarnation: u64,
    /// Where `log` channels are kept unless their namespace says memory; without it, all are kept in memory.
    pub store: Option<Arc<dyn Store>>,
    /// Who carries what was committed to other nodes.
    pub broker: Option<Arc<dyn Broker>>,
    /// Events that may wait to be kept; default 16,384.
    pub queue_max: usize,
    /// How much of each channel's tail is at hand.
    pub ring: RingLimits,
    /// How metric channels are bounded, and where their past is kept.
    pub series: SeriesOptions,
    /// Who is told of every event that this node accepts.
    pub tap: Option<Arc<dyn Tap>>,
}

/// Channels that were asked for and are being looked up.
pub(crate) struct Opening {
    names: Vec<(ChannelName, Sequence)>,
    reply: Reply<Opened>,
}

impl Opening {
    /// The names of the channels.
    pub(crate) fn names(&self) -> impl Iterator<Item = &ChannelName> {
        self.names.iter().map(|(name, _)| name)
    }

    /// Says that too much is waiting.
    pub(crate) fn refuse(self) {
        if let Some((name, _)) = self.names.into_iter().next() {
            (self.reply)(Err((ErrorCode::Overloaded, name)));
        }
    }
}

/// Channels, in the order asked; or the first name that cannot be opened, and why.
pub type Opened = Result<Vec<Arc<Channel>>, (ErrorCode, ChannelName)>;

/// Whether a store does its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// Its name.
    pub store: &'static str,
    /// Events that wait to be kept.
    pub queued: usize,
    /// Since when it fails, Unix milliseconds, and why; `None` while it works.
    pub degraded: Option<(i64, Failure, String)>,
}

/// The bus of one process.
pub struct Bus {
    pub(crate) options: Options,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) audience: Box<dyn Audience>,
    pub(crate) channels: RwLock<HashMap<ChannelName, Arc<Channel>>>,
    /// Those of them that are the server's own; taken after the table.
    pub(crate) system: Mutex<Vec<Weak<Channel>>>,
    channels_made: AtomicU32,
    memory: Lane,
    durable: Option<Lane>,
    pub(crate) reads: Reads,
    /// Channels that miss something.
    pub(crate) watched: Mutex<BTreeMap<ChannelId, Arc<Channel>>>,
    /// Rung when something is missing that was not before.
    pub tick_bell: Bell,
    /// Rung when whoever closes windows of metric channels is to stop.
    pub series_bell: Bell,
    pub(crate) suspicious: AtomicBool,
    pub(crate) checked_ns: AtomicU64,
    pub(crate) ticked_ns: AtomicU64,
    pub(crate) swept_ns: AtomicU64,
    /// Which channels this node hears of from others.
    pub(crate) topics: Mutex<Topics>,
    keys_made: AtomicU64,
    #[cfg(feature = "simulation")]
    pub(crate) mutants: AtomicU32,
}

impl Bus {
    /// A bus with no channels.
    #[must_use]
    pub fn new(options: Options, telemetry: Arc<Telemetry>, audience: Box<dyn Audience>) -> Self {
        let memory = Arc::new(MemoryStore::new(options.epoch.clone(), options.channels_max));
        let durable = options.store.clone().map(|store| Lane::new(store, options.queue_max));
        Self {
            memory: Lane::new(memory, options.queue_max),
            durable,
            options,
            telemetry,
            audience,
            channels: RwLock::default(),
            system: Mutex::default(),
            channels_made: AtomicU32::new(0),
            reads: Reads::default(),
            watched: Mutex::default(),
            tick_bell: Bell::default(),
            series_bell: Bell::default(),
            suspicious: AtomicBool::new(false),
            checked_ns: AtomicU64::new(0),
            ticked_ns: AtomicU64::new(0),
            swept_ns: AtomicU64::new(0),
            topics: Mutex::default(),
            keys_made: AtomicU64::new(0),
            #[cfg(feature = "simulation")]
            mutants: AtomicU32::new(0),
        }
    }

    /// The namespaces.
    #[must_use]
    pub fn namespaces(&self) -> &Namespaces {
        &self.options.namespaces
    }

    /// How many shards the audience has.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.options.shards
    }

    /// The part of the audience that no shard owns: readers that are told that there is something, and read it
    /// in their own time. It counts its listeners as a shard does.
    #[must_use]
    pub fn readers_part(&self) -> usize {
        self.options.shards
    }

    /// All parts of the audience.
    pub(crate) fn parts(&self) -> std::ops::RangeInclusive<usize> {
        0..=self.options.shards
    }

    /// How many channels of applications this node has at hand.
    #[must_use]
    pub fn channels(&self) -> usize {
        let all = self.channels.read().len();
        all.saturating_sub(self.system.lock().iter().filter(|channel| channel.strong_count() > 0).count())
    }

    /// How many channels there have ever been: another number than before means that there is a new one.
    #[must_use]
    pub fn channels_made(&self) -> u32 {
        self.channels_made.load(Ordering::Relaxed)
    }

    /// Every channel that this node has at hand, in no order.
    #[must_use]
    pub fn all_channels(&self) -> Vec<Arc<Channel>> {
        self.channels.read().values().cloned().collect()
    }

    /// The channel of this name, if this node has it at hand.
    #[must_use]
    pub fn find(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        self.listed(name)
    }

    /// The namespace of a channel name.
    #[must_use]
    pub fn namespace(&self, name: &ChannelName) -> Option<&Namespace> {
        self.options.namespaces.find(name).map(|(_, namespace)| namespace)
    }

    /// The lane that a thread has to serve, if the store does not answer at once.
    #[must_use]
    pub fn durable_lane(&self) -> Option<&Lane> {
        self.durable.as_ref()
    }

    /// Rung when a read waits for [`Bus::perform`].
    #[must_use]
    pub fn reads_bell(&self) -> &Bell {
        &self.reads.bell
    }

    /// How the stores do.
    #[must_use]
    pub fn stores(&self) -> Vec<StoreStatus> {
        let lanes = self.durable.iter().chain([&self.memory]);
        lanes
            .map(|lane| StoreStatus {
                store: lane.store.name(),
                queued: lane.queued(),
                degraded: lane
                    .trouble()
                    .map(|trouble| (trouble.since_ms, trouble.error.failure, trouble.error.detail)),
            })
            .collect()
    }

    /// The channel of this name, if it is at hand and known to reach a sequence that somebody has seen: always,
    /// for a channel that keeps nothing.
    ///
    /// # Errors
    ///
    /// `unknown_channel` if no namespace matches, `limit_exceeded` if there are too many channels and none
    /// is idle.
    pub fn at_hand(&self, name: &ChannelName, at_least: Sequence) -> Result<Option<Arc<Channel>>, ErrorCode> {
        let namespace = self.namespace(name).ok_or(ErrorCode::UnknownChannel)?;
        if namespace.kind != ChannelKind::Log {
            let channel = self.open_passing(name)?;
            return Ok(self.hears(name).then_some(channel));
        }
        let channel = self.listed(name).filter(|channel| channel.order.lock().sequencer.is_open());
        // Where others write, a channel that nobody here listens to may have moved on.
        let fresh = |channel: &Arc<Channel>| {
            let alone = !self.lane_of(channel).store.is_shared();
            alone || (channel.listeners() > 0 && channel.head() >= at_least)
        };
        Ok(channel.filter(fresh).filter(|_| self.hears(name)))
    }

    /// Brings channels to hand, each as far as a sequence that somebody has seen: those that keep events, from
    /// their store. The answer comes at once if there is nothing to look up.
    pub fn open(&self, now: Now, names: Vec<(ChannelName, Sequence)>, reply: Reply<Opened>) {
        let opening = Opening { names, reply };
        if let Some(opening) = self.hear_first(opening, now) {
            self.open_heard(opening, now);
        }
    }

    /// Opens channels whose topics are heard, or not to be heard now.
    pub(crate) fn open_heard(&self, opening: Opening, now: Now) {
        let (mut waits, mut instant) = (false, true);
        for (name, at_least) in &opening.names {
            match self.at_hand(name, *at_least) {
                Err(code) => {
                    let name = name.clone();
                    (opening.reply)(Err((code, name)));
                    return;
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    waits = true;
                    instant &= self.lane_for(name).store.is_instant();
                }
            }
        }
        if !waits || instant {
            self.opened(opening, now);
        } else {
            self.enqueue_open(opening);
        }
    }

    /// Looks channels up in their stores.
    pub(crate) fn opened(&self, opening: Opening, now: Now) {
        let Opening { names, reply } = opening;
        let mut channels = Vec::with_capacity(names.len());
        for (name, at_least) in names {
            match self.open_one(&name, at_least, now) {
                Ok(channel) => channels.push(channel),
                Err(code) => return reply(Err((code, name))),
            }
        }
        reply(Ok(channels));
    }

    fn open_one(&self, name: &ChannelName, at_least: Sequence, now: Now) -> Result<Arc<Channel>, ErrorCode> {
        if let Some(channel) = self.at_hand(name, at_least)? {
            return Ok(channel);
        }
        if self.namespace(name).is_some_and(|namespace| namespace.kind != ChannelKind::Log) {
            // It waited for its topic as long as it may.
            return self.open_passing(name);
        }
        // It is listed before the store is asked: what is committed meanwhile is heard, and waits.
        let early = self
            .is(Mutant::AskBeforeListening)
            .then(|| self.lane_for(name).store.extents(std::slice::from_ref(name)));
        let mut channel = self.list(name)?;
        loop {
            let lane = self.lane_of(&channel);
            let passed = self.passed(name);
            let extents = match &early {
                Some(extents) => extents.clone(),
                None => lane.store.extents(std::slice::from_ref(name)),
            };
            let extents = extents.map_err(|error| self.unreadable(&error))?;
            let extent = extents.first().ok_or(ErrorCode::StoreUnavailable)?;
            channel.note_floor(extent.floor);
            if channel.order.lock().sequencer.is_open() {
                self.stands_at(name, extent, passed, now);
                return self.listed(name).ok_or(ErrorCode::StoreUnavailable);
            }
            if extent.epoch == channel.epoch {
                self.begin(&channel, extent.head, now);
                return Ok(channel);
            }
            channel = self.relist(&channel, extent.epoch.clone()).ok_or(ErrorCode::StoreUnavailable)?;
        }
    }

    fn begin(&self, channel: &Arc<Channel>, head: Sequence, now: Now) {
        let mut order = channel.order.lock();
        let mut out = Vec::new();
        if order.sequencer.is_open() {
            // Another thread has opened it meanwhile.
            order.sequencer.stands_at(head, now.mono_ns);
        } else {
            order.sequencer.opens_at(head, now.mono_ns, &mut out);
        }
        self.deliver(channel, &out);
        let hole = order.sequencer.has_hole();
        drop(order);
        if hole {
            self.watch(channel);
        }
    }

    /// A channel that keeps nothing.
    pub(crate) fn open_passing(&self, name: &ChannelName) -> Result<Arc<Channel>, ErrorCode> {
        match self.listed(name) {
            Some(channel) => Ok(channel),
            None => self.list(name),
        }
    }

    pub(crate) fn listed(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        self.channels.read().get(name).cloned()
    }

    fn list(&self, name: &ChannelName) -> Result<Arc<Channel>, ErrorCode> {
        let (id, namespace) = self.options.namespaces.find(name).ok_or(ErrorCode::UnknownChannel)?;
        let mut channels = self.channels.write();
        if let Some(channel) = channels.get(name) {
            return Ok(channel.clone());
        }
        if channels.len() >= self.options.channels_max {
            channels.retain(|_, channel| Arc::strong_count(channel) > 1 || !channel.is_idle());
            if channels.len() >= self.options.channels_max {
                return Err(ErrorCode::LimitExceeded);
            }
        }
        let epoch = self.lane(namespace.durability).store.epoch();
        let channel = Arc::new(self.channel(name, id, namespace.kind, epoch));
        channels.insert(name.clone(), channel.clone());
        if name.is_system() {
            self.system.lock().push(Arc::downgrade(&channel));
        }
        Ok(channel)
    }

    /// Lists a channel that has not begun under the epoch that its store has.
    fn relist(&self, channel: &Arc<Channel>, epoch: Epoch) -> Option<Arc<Channel>> {
        let mut channels = self.channels.write();
        let present = channels.get(&channel.name)?;
        if present.id != channel.id {
            return Some(present.clone());
        }
        let new = Arc::new(self.channel(&channel.name, channel.namespace, channel.kind, epoch));
        channels.insert(channel.name.clone(), new.clone());
        Some(new)
    }

    pub(crate) fn channel(
        &self,
        name: &ChannelName,
        namespace: NamespaceId,
        kind: ChannelKind,
        epoch: Epoch,
    ) -> Channel {
        let id = ChannelId(self.channels_made.fetch_add(1, Ordering::Relaxed));
        Channel::new(id, name.clone(), namespace, kind, epoch, self.options.shards + 1, self.options.ring)
    }

    /// Hands publications of one channel to the shards that listen. The channel's lock is held.
    pub(crate) fn deliver(&self, channel: &Channel, publications: &[Arc<Publication>]) {
        if publications.is_empty() {
            return;
        }
        channel.count_passed(publications);
        for part in self.parts().filter(|part| channel.has_listeners(*part)) {
            self.audience.deliver(part, publications);
        }
    }

    pub(crate) fn is_crowded(&self, channel: &Channel) -> bool {
        self.parts().any(|part| channel.has_listeners(part) && !self.audience.has_room(part))
    }

    pub(crate) fn is_in_memory(&self, name: &ChannelName) -> bool {
        self.durable.is_none()
            || self.namespace(name).is_none_or(|namespace| namespace.durability == Durability::Memory)
    }

    pub(crate) fn lane(&self, durability: Durability) -> &Lane {
        match (&self.durable, durability) {
            (None, _) | (_, Durability::Memory) => &self.memory,
            (Some(lane), _) => lane,
        }
    }

    pub(crate) fn lane_for(&self, name: &ChannelName) -> &Lane {
        self.lane(if self.is_in_memory(name) { Durability::Memory } else { Durability::Strict })
    }

    pub(crate) fn lane_of(&self, channel: &Channel) -> &Lane {
        self.lane(self.options.namespaces.get(channel.namespace).durability)
    }

    /// Whether other nodes may write to its store, too.
    #[must_use]
    pub fn has_shared_store(&self) -> bool {
        self.durable.as_ref().is_some_and(|lane| lane.store.is_shared())
    }

    /// A name for an event that its publisher has not named.
    pub(crate) fn own_key(&self) -> DedupKey {
        let mut key = DedupKey::default();
        key[..8].copy_from_slice(&self.options.incarnation.to_le_bytes());
        key[8..].copy_from_slice(&self.keys_made.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        key
    }

    /// Up to two fifths of a head check's interval, another on each node.
    pub(crate) fn spread_ns(&self) -> u64 {
        self.options.incarnation % 800_000_000
    }
}
