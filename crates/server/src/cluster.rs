//! Several nodes: what goes between them is carried here.
//!
//! The bus decides what is said and what is done with what is heard ([`pulsewire_bus::Broker`]); here are the
//! connection to the broker ([`redis`]), the table of the nodes ([`nodes`]) and questions to other nodes
//! ([`questions`]). Nothing waits for the broker: what it loses of a log is found in the store, and while it is
//! away nodes ask the store more often.

pub mod nodes;
mod presence;
pub mod questions;
mod redis;
mod samples;
pub mod sessions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use pulsewire_bus::{
    Accepted, Broker, Envelope, Hint, Item, Key, Outgoing, OutgoingOptions, Overflow, Parcel, Topic,
};
use pulsewire_edge::clock;
use pulsewire_protocol::{ChannelName, Sample};
use pulsewire_sources::redis::Backoff;
use pulsewire_telemetry::limited;
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc, watch};

use crate::app::App;
use crate::random;
use crate::settings::{BrokerKind, Secret, Settings};

use nodes::{Beat, Nodes};
use questions::Questions;

/// Between two beats of a node.
const BEAT: Duration = Duration::from_secs(1);
/// A broker that has not brought a node's own beat back for so long is taken for lost.
const DEAF_AFTER: Duration = Duration::from_secs(6);
/// How long goodbye may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// Changes of what is heard that may wait.
const WISHES_MAX: usize = 65_536;
/// Messages that may wait to be read.
const HEARD_MAX: usize = 16_384;

/// A change of what this node hears.
enum Wish {
    Listen(Vec<ChannelName>),
    Unlisten(Vec<ChannelName>),
}

/// What comes from a broker.
enum Incoming {
    /// An envelope.
    Message(bytes::Bytes),
    /// The connection is gone.
    Ended,
}

/// What the nodes have in common, and this node's part in it.
pub struct Cluster {
    /// The nodes.
    pub nodes: Mutex<Nodes>,
    /// Questions to other nodes.
    pub questions: Questions,
    outgoing: Outgoing,
    key: Key,
    /// Rung when something waits to be sent.
    bell: Notify,
    /// Whether something is being sent.
    speaking: AtomicBool,
    wishes: mpsc::Sender<Wish>,
    /// Until the server runs.
    waiting: Mutex<Option<mpsc::Receiver<Wish>>>,
    status: Status,
    carrier: redis::Address,
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
pub fn of(settings: &Settings, node: &str) -> anyhow::Result<Option<Arc<Cluster>>> {
    let wanted = &settings.cluster;
    let shared = crate::store::is_shared(settings)?;
    let url = wanted.url.as_ref().or(settings.redis.url.as_ref());
    let url = match wanted.broker {
        BrokerKind::None => return Ok(None),
        BrokerKind::Auto if !shared => return Ok(None),
        _ if !shared => {
            anyhow::bail!(
                "cluster.broker: nodes need a store that they share: set store.url to a PostgreSQL database"
            );
        }
        BrokerKind::Postgres => anyhow::bail!("cluster.broker: `postgres` is not built in"),
        BrokerKind::Auto | BrokerKind::Redis => url,
    };
    let Some(url) = url else {
        anyhow::ensure!(
            wanted.broker == BrokerKind::Auto,
            "cluster.broker is `redis`, but neither cluster.url nor redis.url is set"
        );
        return Ok(None);
    };
    let Some(key) = key(settings) else {
        anyhow::bail!(
            "cluster.key is not set, and there is no auth.secret to derive it from: set the same 32 bytes or more on all nodes, or cluster.broker = \"none\""
        );
    };
    let carrier = redis::Address::parse(url.expose(), &wanted.prefix, node)?;
    let options = OutgoingOptions { bytes_max: wanted.queue_bytes_max };
    let (wishes, waiting) = mpsc::channel(WISHES_MAX);
    Ok(Some(Arc::new(Cluster {
        nodes: Mutex::new(Nodes::new(node, wanted.silent_after)),
        questions: Questions::default(),
        outgoing: Outgoing::new(node, key.clone(), options),
        key,
        bell: Notify::new(),
        speaking: AtomicBool::new(false),
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
        self.send(Topic::Channel(hint.channel.clone()), Item::Committed(hint.clone()));
    }

    fn pass(&self, channel: &ChannelName, events: &[Arc<Accepted>]) {
        let item = Item::Passed { channel: channel.clone(), events: events.to_vec() };
        self.send(Topic::Channel(channel.clone()), item);
    }

    fn samples(&self, channel: &ChannelName, samples: &[Sample]) {
        let item = Item::Samples { channel: channel.clone(), samples: samples.to_vec(), recalled: false };
        self.send(Topic::Channel(channel.clone()), item);
    }

    fn has_topics(&self) -> bool {
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
    /// Says something to other nodes. Does not wait; what finds no place is dropped and counted.
    pub fn send(&self, topic: Topic, item: Item) {
        // What is said while nobody can be reached is known to be lost: those who missed it ask the store.
        if !self.is_connected() {
            return;
        }
        if self.outgoing.push(topic, item) == Overflow::Dropped {
            limited!(
                warn,
                "the queue to the broker is full (cluster.queue_bytes_max); messages to other nodes are dropped"
            );
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
            limited!(warn, "too many changes of what this node hears wait; they are made later");
        }
    }

    fn becomes(&self, app: &App, error: Option<String>) {
        let connected = error.is_none();
        self.status.connected.store(connected, Ordering::Relaxed);
        self.status.since_ms.store(clock::now().wall_ms, Ordering::Relaxed);
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

    /// Begins to speak with the other nodes.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn start(self: &Arc<Self>, app: &Arc<App>, stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
        let wishes = self.waiting.lock().take().context("the cluster was started already")?;
        let chance = random::source().context("the system gives no randomness")?;
        self.status.since_ms.store(clock::now().wall_ms, Ordering::Relaxed);
        tokio::spawn(run(self.clone(), app.clone(), wishes, chance, stopped.clone()));
        presence::start(app, self, stopped.clone());
        tokio::spawn(beats(self.clone(), app.clone(), stopped));
        Ok(())
    }

    /// Takes what came from the broker.
    fn take(self: &Arc<Self>, app: &Arc<App>, bytes: &[u8]) {
        let envelope = match Envelope::open(bytes, &self.key) {
            Ok(envelope) => envelope,
            Err(error) => {
                limited!(warn, %error, "a message of the broker was refused");
                return;
            }
        };
        if envelope.unread > 0 {
            limited!(
                warn,
                items = envelope.unread,
                from = &*envelope.from,
                "another node says what this version does not know"
            );
        }
        let own = *envelope.from == *app.node;
        for item in envelope.items {
            match item {
                Item::Other { kind, body } => self.take_other(app, &envelope.from, &kind, body),
                _ if own => {}
                Item::Committed(hint) => app.bus.receive(&hint, clock::now()),
                Item::Passed { channel, events } => app.bus.receive_passed(&channel, events, clock::now()),
                Item::Samples { channel, samples, recalled } => {
                    samples::take(app, &channel, samples, recalled);
                }
            }
        }
    }

    fn take_other(self: &Arc<Self>, app: &Arc<App>, from: &str, kind: &str, body: Box<RawValue>) {
        let own = *from == *app.node;
        match kind {
            "beat" => {
                if let Ok(beat) = serde_json::from_str::<Beat>(body.get()) {
                    if own {
                        let took_ns = clock::now().since_ns(beat.sent_ns);
                        self.status.lag_us.store(took_ns / 1_000, Ordering::Relaxed);
                    }
                    self.nodes.lock().hear(from, beat, clock::now());
                }
            }
            "bye" if !own => {
                self.nodes.lock().leaves(from);
                app.hub.presence.gone(from, clock::now());
            }
            samples::KIND if !own => samples::answer(app, self, from, &body),
            presence::KIND if !own => presence::hear(app, self, from, &body),
            "ask" if !own => questions::answer(app, self, from, body),
            "answer" => self.questions.answered(from, body),
            _ => {}
        }
    }
}

/// Keeps a connection to the broker, whatever happens to it.
async fn run(
    cluster: Arc<Cluster>,
    app: Arc<App>,
    mut wishes: mpsc::Receiver<Wish>,
    mut chance: Box<dyn FnMut() -> u64 + Send>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut backoff = Backoff::default();
    let mut lost = false;
    loop {
        let mut since = None;
        let error = tokio::select! {
            error = connected(&cluster, &app, &mut wishes, &mut since, lost) => error,
            _ = stopped.changed() => return,
        };
        let held = since.map_or(Duration::ZERO, |since: tokio::time::Instant| since.elapsed());
        let pause = backoff.pause(held, chance());
        if !lost || since.is_some() {
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            limited!(
                error,
                error = format!("{error:#}"),
                pause_ms,
                "the broker is not reached; nodes ask the store until it is"
            );
        }
        lost = true;
        cluster.becomes(&app, Some(format!("{error:#}")));
        // What was to be said meanwhile is not: whoever missed it finds out by itself.
        let _ = cluster.outgoing.take(0);
        while wishes.try_recv().is_ok() {}
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.changed() => return,
        }
    }
}

/// One connection, until it is lost.
async fn connected(
    cluster: &Arc<Cluster>,
    app: &Arc<App>,
    wishes: &mut mpsc::Receiver<Wish>,
    since: &mut Option<tokio::time::Instant>,
    again: bool,
) -> anyhow::Error {
    let (sender, mut incoming) = mpsc::channel(HEARD_MAX);
    let lagging = Arc::new(AtomicBool::new(false));
    let link = match cluster.carrier.connect(sender, lagging.clone()).await {
        Ok(link) => link,
        Err(error) => return error,
    };
    *since = Some(tokio::time::Instant::now());
    // Said from now on, so that nothing is said into the void between this and the topics.
    cluster.becomes(app, None);
    let names = app.bus.broker_reached();
    tracing::info!(topics = names.len(), again, "the broker is reached");
    let beat_heard = Notify::new();
    let hear = async {
        while let Some(incoming) = incoming.recv().await {
            match incoming {
                Incoming::Message(bytes) => cluster.take(app, &bytes),
                Incoming::Ended => break,
            }
            beat_heard.notify_one();
            if lagging.swap(false, Ordering::Relaxed) {
                limited!(
                    warn,
                    "messages of other nodes came faster than they were read; what was missed is read from the store"
                );
                app.bus.check_heads();
            }
        }
        anyhow::anyhow!("the connection ended")
    };
    let speak = async {
        loop {
            cluster.bell.notified().await;
            cluster.speaking.store(true, Ordering::Relaxed);
            let (parcels, dropped) = cluster.outgoing.take(clock::now().wall_ms);
            if dropped > 0 {
                limited!(warn, dropped, "messages to other nodes were too large");
            }
            if let Err(error) = link.publish(&parcels).await {
                return error.context("publishing");
            }
            cluster.speaking.store(false, Ordering::Relaxed);
        }
    };
    let tend = async {
        let mut link = link.clone();
        for names in names.chunks(1_000) {
            if let Err(error) = link.subscribe(names).await {
                return error.context("subscribing");
            }
            app.bus.heard(names, clock::now());
            samples::recall(app, cluster, names);
        }
        while let Some(wish) = wishes.recv().await {
            // What has queued meanwhile is one command.
            let (mut listen, mut unlisten) = (Vec::new(), Vec::new());
            let mut sort = |wish| match wish {
                Wish::Listen(mut names) => listen.append(&mut names),
                Wish::Unlisten(mut names) => unlisten.append(&mut names),
            };
            sort(wish);
            while let Ok(wish) = wishes.try_recv() {
                sort(wish);
            }
            unlisten.retain(|name| !listen.contains(name));
            let done = async {
                link.unsubscribe(&unlisten).await?;
                link.subscribe(&listen).await
            };
            if let Err(error) = done.await {
                return error.context("subscribing");
            }
            app.bus.heard(&listen, clock::now());
            samples::recall(app, cluster, &listen);
        }
        anyhow::anyhow!("the server ends")
    };
    let watch = async {
        // Its own beat comes back each second, so silence means that nothing comes.
        while tokio::time::timeout(DEAF_AFTER, beat_heard.notified()).await.is_ok() {}
        anyhow::anyhow!("nothing came back for {} s", DEAF_AFTER.as_secs())
    };
    tokio::select! {
        error = hear => error,
        error = speak => error,
        error = tend => error,
        error = watch => error,
    }
}

/// Tells the others once a second that this node is there.
async fn beats(cluster: Arc<Cluster>, app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(BEAT);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stopped.changed() => break,
        }
        let beat = nodes::own(&app).await;
        cluster.nodes.lock().look(clock::now(), cluster.is_connected());
        cluster.tell(Topic::All, "beat", &beat);
    }
}

/// Parcels by what a broker calls their topics.
fn texts(parcels: &[Parcel]) -> impl Iterator<Item = (&Topic, &str)> {
    parcels.iter().map(|parcel| (&parcel.topic, parcel.text.as_str()))
}
