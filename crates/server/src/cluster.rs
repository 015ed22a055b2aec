//! Several nodes: what goes between them is carried here.
//!
//! The bus decides what is said and what is done with what is heard ([`pulsewire_bus::Broker`]); here are the
//! connection to the broker (`link.rs`: `redis.rs` or `postgres.rs`), the table of the nodes ([`nodes`]) and questions to
//! other nodes ([`questions`]). Nothing waits for the broker: what it loses of a log is found in the store, and while it is
//! away nodes ask the store more often.

mod ears;
mod link;
pub mod nodes;
mod postgres;
mod presence;
pub mod questions;
mod redis;
mod samples;
pub mod sessions;
pub mod which;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use pulsewire_bus::{
    Accepted, Broker, Bus, Envelope, Hint, Item, Key, OpenError, Outgoing, OutgoingOptions, Overflow, Topic,
};
use pulsewire_edge::clock;
use pulsewire_hub::ReplicaStatus;
use pulsewire_protocol::{ChannelName, Sample};
use pulsewire_telemetry::{BrokerDrop, Direction, Telemetry, limited};
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc, watch};

use crate::app::App;
use crate::random;
use crate::settings::{BrokerKind, Secret, Settings};

use link::Carrier;
use nodes::{Beat, Nodes};
use questions::Questions;

/// Between two beats of a node.
const BEAT: Duration = Duration::from_secs(1);
/// How long goodbye may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// Changes of what is heard that may wait.
const WISHES_MAX: usize = 65_536;

/// A change of what this node hears.
enum Wish {
    Listen(Vec<ChannelName>),
    Unlisten(Vec<ChannelName>),
}

/// What the nodes have in common, and this node's part in it.
pub struct Cluster {
    /// The nodes.
    pub nodes: Mutex<Nodes>,
    /// Questions to other nodes.
    pub questions: Questions,
    outgoing: Outgoing,
    key: Key,
    telemetry: Arc<Telemetry>,
    /// Bytes that may wait to be read.
    heard_bytes_max: usize,
    /// Rung when something waits to be sent.
    bell: Notify,
    /// Whether something is being sent.
    speaking: AtomicBool,
    /// Rung when the others are to hear at once that this node is there.
    beat_now: Notify,
    /// Whether no other node is known: then nobody has to be told anything.
    alone: AtomicBool,
    wishes: mpsc::Sender<Wish>,
    /// Until the server runs.
    waiting: Mutex<Option<mpsc::Receiver<Wish>>>,
    status: Status,
    carrier: Carrier,
}

/// How the broker does.
#[derive(Debug, Default)]
struct Status {
    connected: AtomicBool,
    /// Since when it is as it is, Unix milliseconds.
    since_ms: AtomicI64,
    /// Microseconds from this node to the broker and back.
    lag_us: AtomicU64,
    error: Mutex<Option<String>>,
}

/// How the broker does, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerStatus {
    /// What it is: `redis` or `postgres`.
    pub broker: &'static str,
    /// Whether it is reached.
    pub connected: bool,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
    /// What a message takes to come back to this node, microseconds; as it was last measured.
    pub lag_us: u64,
    /// Why it is not reached.
    pub error: Option<String>,
    /// Bytes that wait for it.
    pub queued_bytes: usize,
}

/// The broker that the settings name: `None` if nodes hear of each other by the store only.
///
/// # Errors
///
/// If it cannot be used, with what to do.
pub fn of(
    settings: &Settings,
    node: &str,
    telemetry: &Arc<Telemetry>,
) -> anyhow::Result<Option<Arc<Cluster>>> {
    let wanted = &settings.cluster;
    if wanted.broker == BrokerKind::None {
        return Ok(None);
    }
    let by_itself = wanted.broker == BrokerKind::Auto;
    let Some(database) = crate::store::database(settings)? else {
        anyhow::ensure!(
            by_itself,
            "cluster.broker: nodes need a store that they share: set store.url to a PostgreSQL database"
        );
        return Ok(None);
    };
    let Some(key) = key(settings) else {
        anyhow::ensure!(
            by_itself,
            "cluster.key is not set, and there is no auth.secret to derive it from: set the same 32 bytes or more on all nodes, or cluster.broker = \"none\""
        );
        tracing::warn!(
            "this node speaks to no other: cluster.key is not set, and there is no auth.secret to derive it from; \
             set the same 32 bytes or more on all nodes, or cluster.broker = \"none\" if there is only this one"
        );
        return Ok(None);
    };
    let url = wanted.url.as_ref().or(settings.redis.url.as_ref());
    let carrier = match (wanted.broker, url) {
        (BrokerKind::Auto | BrokerKind::Redis, Some(url)) => {
            Carrier::Redis(redis::Address::parse(url.expose(), &wanted.prefix, node)?)
        }
        (BrokerKind::Redis, None) => {
            anyhow::bail!("cluster.broker is `redis`, but neither cluster.url nor redis.url is set")
        }
        _ => Carrier::Postgres(postgres::Address::parse(database, &wanted.prefix, node)?),
    };
    let options = OutgoingOptions { bytes_max: wanted.queue_bytes_max, ..OutgoingOptions::default() };
    let options = match &carrier {
        Carrier::Redis(_) => options,
        Carrier::Postgres(_) => OutgoingOptions {
            parcel_bytes: postgres::ENVELOPE_BYTES_MAX,
            envelope_bytes_max: postgres::ENVELOPE_BYTES_MAX,
            has_topics: false,
            ..options
        },
    };
    let (wishes, waiting) = mpsc::channel(WISHES_MAX);
    Ok(Some(Arc::new(Cluster {
        nodes: Mutex::new(Nodes::new(node, wanted.silent_after)),
        questions: Questions::default(),
        outgoing: Outgoing::new(node, key.clone(), options),
        key,
        telemetry: telemetry.clone(),
        heard_bytes_max: wanted.queue_bytes_max,
        bell: Notify::new(),
        speaking: AtomicBool::new(false),
        beat_now: Notify::new(),
        alone: AtomicBool::new(true),
        wishes,
        waiting: Mutex::new(Some(waiting)),
        status: Status::default(),
        carrier,
    })))
}

/// What people call this node: `cluster.node_name`, else the name of the host.
#[must_use]
pub fn node_name(settings: &Settings) -> Box<str> {
    let name = &settings.cluster.node_name;
    if !name.is_empty() {
        return name.as_str().into();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    host.trim().into()
}

/// What a node makes of its name for the ids of its sessions.
#[must_use]
pub fn tag(node: &str) -> u16 {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(node);
    u16::from_le_bytes([digest[0], digest[1]])
}

/// The key of the nodes: `cluster.key`, or one derived from the signing secret.
fn key(settings: &Settings) -> Option<Key> {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    if let Some(key) = &settings.cluster.key {
        return Some(Key::new(key.expose().as_bytes()));
    }
    let secret = settings.auth.secret.as_ref().map(Secret::expose)?;
    let derived = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes());
    let derived = derived.expect("HMAC takes keys of every length").chain_update("pulsewire cluster");
    Some(Key::new(&derived.finalize().into_bytes()))
}

impl Broker for Cluster {
    fn announce(&self, hint: &Hint) {
        if !self.has_hearers() {
            return;
        }
        // What the server keeps for itself concerns every node, and none has to ask for it.
        let own = hint.channel.is_system();
        let topic = if own { Topic::All } else { Topic::Channel(hint.channel.clone()) };
        self.send(topic, Item::Committed(hint.clone()));
    }

    fn pass(&self, channel: &ChannelName, events: &[Arc<Accepted>]) {
        if self.has_hearers() {
            let item = Item::Passed { channel: channel.clone(), events: events.to_vec() };
            self.send(Topic::Channel(channel.clone()), item);
        }
    }

    fn samples(&self, channel: &ChannelName, samples: &[Sample]) {
        if self.has_hearers() {
            let item = Item::Samples { channel: channel.clone(), samples: samples.to_vec(), recalled: false };
            self.send(Topic::Channel(channel.clone()), item);
        }
    }

    fn has_topics(&self) -> bool {
        self.carrier.has_topics()
    }

    fn can_be_lost(&self) -> bool {
        true
    }

    fn listen(&self, channels: Vec<ChannelName>) {
        self.wish(Wish::Listen(channels));
    }

    fn unlisten(&self, channels: Vec<ChannelName>) {
        self.wish(Wish::Unlisten(channels));
    }
}

impl Cluster {
    /// Whether anybody else may be there. A node that comes says so at once, and asks where channels stand.
    fn has_hearers(&self) -> bool {
        !self.alone.load(Ordering::Relaxed)
    }

    /// Says something to other nodes. Does not wait; what finds no place is dropped and counted.
    pub fn send(&self, topic: Topic, item: Item) {
        // What is said while nobody can be reached is known to be lost: those who missed it ask the store.
        if !self.is_connected() {
            self.telemetry.shared().broker_dropped(BrokerDrop::NotConnected, 1);
            return;
        }
        match self.outgoing.push(topic, item) {
            Overflow::None => {}
            Overflow::Shortened => self.telemetry.shared().broker_shortened(),
            Overflow::Dropped => {
                self.telemetry.shared().broker_dropped(BrokerDrop::QueueFull, 1);
                limited!(
                    warn,
                    "the queue to the broker is full (cluster.queue_bytes_max); messages to other nodes are dropped"
                );
            }
        }
        self.bell.notify_one();
    }

    /// Says something of the server's own to other nodes.
    pub fn tell(&self, topic: Topic, kind: &str, body: &impl serde::Serialize) {
        match serde_json::value::to_raw_value(body) {
            Ok(body) => self.send(topic, Item::Other { kind: kind.into(), body }),
            Err(error) => tracing::error!(%error, kind, "a message to other nodes cannot be written"),
        }
    }

    /// Whether the broker is reached.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.status.connected.load(Ordering::Relaxed)
    }

    /// How the broker does.
    #[must_use]
    pub fn status(&self) -> BrokerStatus {
        let Status { connected, since_ms, lag_us, error } = &self.status;
        BrokerStatus {
            broker: self.carrier.name(),
            connected: connected.load(Ordering::Relaxed),
            since_ms: since_ms.load(Ordering::Relaxed),
            lag_us: lag_us.load(Ordering::Relaxed),
            error: error.lock().clone(),
            queued_bytes: self.outgoing.bytes(),
        }
    }

    fn wish(&self, wish: Wish) {
        // The bus looks again for what somebody listens to and does not hear.
        if self.wishes.try_send(wish).is_err() {
            self.telemetry.shared().broker_dropped(BrokerDrop::Busy, 1);
            limited!(warn, "too many changes of what this node hears wait; they are made later");
        }
    }

    fn becomes(&self, app: &App, error: Option<String>) {
        let connected = error.is_none();
        let before = self.status.connected.swap(connected, Ordering::Relaxed);
        // Attempts that fail change nothing.
        if before != connected {
            self.status.since_ms.store(clock::now().wall_ms, Ordering::Relaxed);
        }
        *self.status.error.lock() = error;
        if !connected {
            app.bus.broker_lost(clock::now());
        }
    }

    /// Says goodbye to the other nodes, and waits until that is said; not for long.
    pub async fn leave(&self) {
        self.tell(Topic::All, "bye", &serde_json::json!({}));
        let said = async {
            while self.is_connected() && (!self.outgoing.is_empty() || self.speaking.load(Ordering::Relaxed))
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Whoever does not hear it finds out by silence.
        let _ = tokio::time::timeout(FAREWELL, said).await;
    }

    /// A message of this node came back.
    fn lags(&self, app: &App, lag_ns: u64) {
        self.status.lag_us.store(lag_ns / 1_000, Ordering::Relaxed);
        app.telemetry.shared().broker_lag(lag_ns);
    }

    /// What metrics say of the broker and the other nodes now.
    #[must_use]
    pub fn survey(&self, bus: &Bus, presence: &ReplicaStatus) -> pulsewire_telemetry::Broker {
        let (wanted, heard) = bus.topics();
        let nodes = self.nodes.lock();
        let (present, missing) = nodes.count();
        pulsewire_telemetry::Broker {
            connected: self.is_connected(),
            queued_bytes: self.outgoing.bytes() as u64,
            topics: [wanted as u64, heard as u64],
            nodes: [present as u64, missing as u64],
            clock_skew_ms: nodes.skew_ms(),
            presence_rows: [presence.entries_own as u64, presence.entries as u64],
            presence_shared: [
                presence.asked,
                presence.served,
                presence.missed,
                presence.refused,
                presence.lost,
            ],
        }
    }

    /// Begins to speak with the other nodes.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn start(self: &Arc<Self>, app: &Arc<App>, stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
        let wishes = self.waiting.lock().take().context("the cluster was started already")?;
        let chance = random::source().context("the system gives no randomness")?;
        self.status.since_ms.store(clock::now().wall_ms, Ordering::Relaxed);
        presence::start(app, self, stopped.clone());
        tokio::spawn(link::run(self.clone(), app.clone(), wishes, chance, stopped.clone()));
        tokio::spawn(beats(self.clone(), app.clone(), stopped));
        Ok(())
    }

    /// Takes what came from the broker.
    fn take(self: &Arc<Self>, app: &Arc<App>, bytes: &[u8]) {
        let shared = self.telemetry.shared();
        shared.broker_bytes(Direction::Received, bytes.len() as u64);
        let envelope = match Envelope::open(bytes, &self.key) {
            Ok(envelope) => envelope,
            Err(error) => {
                let why = if error == OpenError::Version { BrokerDrop::Unread } else { BrokerDrop::Refused };
                shared.broker_dropped(why, 1);
                limited!(warn, %error, "a message of the broker was refused");
                return;
            }
        };
        if envelope.unread > 0 {
            shared.broker_dropped(BrokerDrop::Unread, envelope.unread as u64);
            limited!(
                warn,
                items = envelope.unread,
                from = &*envelope.from,
                "another node says what this version does not know"
            );
        }
        let own = *envelope.from == *app.node;
        for item in envelope.items {
            if !own {
                shared.broker_items(Direction::Received, item.kind(), 1);
            }
            match item {
                Item::Other { kind, body } => self.take_other(app, &envelope.from, &kind, &body),
                _ if own => {}
                Item::Committed(hint) => app.bus.receive(&hint, clock::now()),
                Item::Passed { channel, events } => app.bus.receive_passed(&channel, events, clock::now()),
                Item::Samples { channel, samples, recalled } => {
                    samples::take(app, &channel, samples, recalled);
                }
            }
        }
    }

    fn take_other(self: &Arc<Self>, app: &Arc<App>, from: &str, kind: &str, body: &RawValue) {
        let own = *from == *app.node;
        match kind {
            "beat" => {
                if let Ok(beat) = serde_json::from_str::<Beat>(body.get()) {
                    self.nodes.lock().hear(from, beat, clock::now());
                    if !own {
                        self.alone.store(false, Ordering::Relaxed);
                    }
                }
            }
            "bye" if !own => {
                self.nodes.lock().leaves(from);
                app.hub.presence.gone(from, clock::now());
            }
            samples::KIND if !own => samples::answer(app, self, from, body),
            presence::KIND if !own => presence::hear(app, self, from, body),
            "ask" if !own => questions::answer(app, self, from, body),
            "answer" => self.questions.answered(from, body),
            _ => {}
        }
    }
}

/// Tells the others once a second that this node is there, and at once when it can.
async fn beats(cluster: Arc<Cluster>, app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(BEAT);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut told: Option<tokio::time::Instant> = None;
    loop {
        let at_once = tokio::select! {
            _ = every.tick() => false,
            () = cluster.beat_now.notified() => true,
            _ = stopped.changed() => break,
        };
        let alone = {
            let mut nodes = cluster.nodes.lock();
            nodes.look(clock::now(), cluster.is_connected());
            nodes.count() == (0, 0)
        };
        cluster.alone.store(alone, Ordering::Relaxed);
        // An eighth earlier, so that a tick that comes a little early is not left out.
        let pause = cluster.carrier.beat_alone() * 7 / 8;
        let soon = alone && !at_once && told.is_some_and(|told| told.elapsed() < pause);
        if !cluster.is_connected() || soon {
            continue;
        }
        let beat = nodes::own(&app).await;
        told = Some(tokio::time::Instant::now());
        cluster.tell(Topic::All, "beat", &beat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What carries messages between nodes with this store, this Redis and this secret, or why nothing can.
    fn carrier(broker: BrokerKind, store: &str, redis: Option<&str>, secret: Option<&str>) -> String {
        let mut settings = Settings::default();
        settings.cluster.broker = broker;
        settings.store.url = Some(Secret::new(store));
        settings.redis.url = redis.map(Secret::new);
        settings.auth.secret = secret.map(Secret::new);
        match of(&settings, "a1", &Telemetry::new(Default::default())) {
            Ok(None) => "nothing".to_owned(),
            Ok(Some(cluster)) => cluster.carrier.name().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn nodes_that_share_a_database_speak_through_redis_if_it_is_set_else_through_the_database() {
        use BrokerKind::{Auto, None as Nothing, Postgres, Redis};
        let (database, redis, secret) = ("postgres://h/d", Some("redis://h"), Some("s"));
        assert_eq!(carrier(Auto, database, redis, secret), "redis");
        assert_eq!(carrier(Auto, database, None, secret), "postgres");
        assert_eq!(carrier(Postgres, database, redis, secret), "postgres");
        assert_eq!(carrier(Redis, database, redis, secret), "redis");
        assert_eq!(carrier(Nothing, database, redis, secret), "nothing");
        assert_eq!(carrier(Auto, "sqlite", redis, secret), "nothing");
    }

    #[test]
    fn a_lone_node_starts_without_a_key_and_one_that_was_told_of_others_says_what_is_missing() {
        use BrokerKind::{Auto, Postgres, Redis};
        let check = |said: String, part: &str| assert!(said.contains(part), "{said}");
        assert_eq!(carrier(Auto, "postgres://h/d", Some("redis://h"), None), "nothing");
        check(carrier(Redis, "postgres://h/d", Some("redis://h"), None), "cluster.key is not set");
        check(carrier(Redis, "postgres://h/d", None, Some("s")), "cluster.url nor redis.url");
        check(carrier(Postgres, "sqlite", None, Some("s")), "store.url");
        check(carrier(Auto, "postgres://h/d", Some("http://geheim@h"), Some("s")), "cluster.url");
    }
}
