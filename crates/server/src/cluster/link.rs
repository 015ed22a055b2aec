//! The connection to the broker, kept up whatever happens to it.
//!
//! Four things go on beside each other while it holds: what comes is read, what waits is said, topics are heard and
//! let go, and somebody watches whether anything comes back. The first of them that fails ends them all; then nodes
//! ask the store more often, and it is tried again, later each time and no two nodes together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use pulsewire_bus::Parcel;
use pulsewire_edge::clock;
use pulsewire_protocol::ChannelName;
use pulsewire_sources::redis::Backoff;
use pulsewire_telemetry::{BrokerDrop, BrokerItem, Direction, limited};
use tokio::sync::{mpsc, watch};

use super::ears::{DEAF_AFTER, Ears};
use super::{Cluster, Wish, postgres, redis, samples};
use crate::app::App;

/// Between two questions whether anything comes back.
const PROBE: Duration = Duration::from_secs(1);
/// The longest pause between two attempts, milliseconds: meanwhile the store is asked twice a second, which costs it
/// more than an attempt costs the broker.
const LONGEST_MS: u64 = 2_000;

/// What carries messages between nodes.
pub(super) enum Carrier {
    Redis(redis::Address),
    Postgres(postgres::Address),
}

/// A connection to it.
#[derive(Clone)]
enum Link {
    Redis(redis::Link),
    Postgres(postgres::Link),
}

impl Carrier {
    /// What it is called.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
            Self::Postgres(_) => "postgres",
        }
    }

    /// Whether a node hears of a channel only if it asked to.
    pub(super) const fn has_topics(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    /// Between two beats of a node that knows no other.
    pub(super) const fn beat_alone(&self) -> Duration {
        match self {
            Self::Redis(_) => super::BEAT,
            // Each is a transaction of the database.
            Self::Postgres(_) => Duration::from_secs(3),
        }
    }

    async fn connect(&self, ears: &Arc<Ears>) -> anyhow::Result<Link> {
        Ok(match self {
            Self::Redis(address) => Link::Redis(address.connect(ears).await?),
            Self::Postgres(address) => Link::Postgres(address.connect(ears).await?),
        })
    }
}

impl Link {
    async fn publish(&self, parcels: &[Parcel]) -> anyhow::Result<()> {
        match self {
            Self::Redis(link) => link.publish(parcels).await,
            Self::Postgres(link) => link.publish(parcels).await,
        }
    }

    async fn subscribe(&mut self, names: &[ChannelName]) -> anyhow::Result<()> {
        match self {
            Self::Redis(link) => link.subscribe(names).await,
            Self::Postgres(_) => Ok(()),
        }
    }

    async fn unsubscribe(&mut self, names: &[ChannelName]) -> anyhow::Result<()> {
        match self {
            Self::Redis(link) => link.unsubscribe(names).await,
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Asks on every way whether something comes back.
    async fn probe(&self) -> anyhow::Result<()> {
        match self {
            Self::Redis(link) => link.probe().await,
            // Beats do.
            Self::Postgres(_) => Ok(()),
        }
    }
}

/// Keeps a connection to the broker, whatever happens to it.
pub(super) async fn run(
    cluster: Arc<Cluster>,
    app: Arc<App>,
    mut wishes: mpsc::Receiver<Wish>,
    mut chance: Box<dyn FnMut() -> u64 + Send>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut backoff = Backoff::up_to(LONGEST_MS);
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
                broker = cluster.carrier.name(),
                pause_ms,
                "the broker is not reached; nodes ask the store until it is"
            );
        }
        lost = true;
        cluster.becomes(&app, Some(format!("{error:#}")));
        // What was to be said meanwhile is not: whoever missed it finds out by itself.
        app.telemetry.shared().broker_dropped(BrokerDrop::NotConnected, cluster.outgoing.clear());
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
    let (ears, mut incoming) = Ears::new(cluster.heard_bytes_max);
    let link = match cluster.carrier.connect(&ears).await {
        Ok(link) => link,
        Err(error) => return error,
    };
    *since = Some(tokio::time::Instant::now());
    if again {
        app.telemetry.shared().broker_reconnected();
    }
    // Said from now on, so that nothing is said into the void between this and the topics.
    cluster.becomes(app, None);
    let names = app.bus.broker_reached();
    tracing::info!(broker = cluster.carrier.name(), topics = names.len(), again, "the broker is reached");
    cluster.beat_now.notify_one();
    let hear = async {
        let ended = loop {
            tokio::select! {
                biased;
                Some(message) = incoming.recv() => hear_one(cluster, app, &ears, &message),
                why = ears.end() => break why,
            }
        };
        anyhow::anyhow!(ended)
    };
    let speak = async {
        loop {
            cluster.bell.notified().await;
            cluster.speaking.store(true, Ordering::Relaxed);
            if let Err(error) = say(cluster, app, &link).await {
                return error.context("publishing");
            }
            cluster.speaking.store(false, Ordering::Relaxed);
        }
    };
    tokio::select! {
        error = hear => error,
        error = speak => error,
        error = tend(cluster, app, link.clone(), names, wishes) => error,
        error = look(cluster, app, &link, &ears) => error,
    }
}

fn hear_one(cluster: &Arc<Cluster>, app: &Arc<App>, ears: &Ears, message: &Bytes) {
    ears.read(message.len());
    cluster.take(app, message);
    let missed = ears.missed();
    if missed > 0 {
        app.telemetry.shared().broker_dropped(BrokerDrop::Lagging, missed);
        limited!(
            warn,
            missed,
            "messages of other nodes came faster than they were read; what was missed is read from the store"
        );
        app.bus.check_heads();
    }
}

/// Says what waits.
async fn say(cluster: &Cluster, app: &App, link: &Link) -> anyhow::Result<()> {
    let taken = cluster.outgoing.take(clock::now().wall_ms);
    let shared = app.telemetry.shared();
    if taken.too_large > 0 {
        shared.broker_dropped(BrokerDrop::TooLarge, taken.too_large);
        limited!(
            warn,
            items = taken.too_large,
            broker = cluster.carrier.name(),
            "messages to other nodes were too large for the broker and are dropped"
        );
    }
    (0..taken.shortened).for_each(|_| shared.broker_shortened());
    let mut sums = [0; BrokerItem::COUNT];
    for parcel in &taken.parcels {
        sums.iter_mut().zip(parcel.items).for_each(|(sum, n)| *sum += n);
    }
    if let Err(error) = link.publish(&taken.parcels).await {
        // Some of it may have gone.
        shared.broker_dropped(BrokerDrop::NotConnected, sums.iter().sum());
        return Err(error);
    }
    for (item, n) in BrokerItem::ALL.iter().zip(sums) {
        shared.broker_items(Direction::Sent, *item, n);
    }
    shared.broker_bytes(Direction::Sent, taken.parcels.iter().map(|parcel| parcel.text.len() as u64).sum());
    Ok(())
}

/// Hears what is to be heard, first of all what was heard before.
async fn tend(
    cluster: &Cluster,
    app: &App,
    mut link: Link,
    names: Vec<ChannelName>,
    wishes: &mut mpsc::Receiver<Wish>,
) -> anyhow::Error {
    for names in names.chunks(1_000) {
        if let Err(error) = link.subscribe(names).await {
            return error.context("subscribing");
        }
        app.bus.heard(names, clock::now());
        samples::recall(app, cluster, names);
    }
    while let Some(wish) = wishes.recv().await {
        // What has queued meanwhile is one command; of each channel the newest wish holds.
        let mut newest = std::collections::HashMap::new();
        let mut sort = |wish| {
            let (names, wanted) = match wish {
                Wish::Listen(names) => (names, true),
                Wish::Unlisten(names) => (names, false),
            };
            newest.extend(names.into_iter().map(|name| (name, wanted)));
        };
        sort(wish);
        while let Ok(wish) = wishes.try_recv() {
            sort(wish);
        }
        let (listen, unlisten): (Vec<_>, Vec<_>) = newest.into_iter().partition(|(_, wanted)| *wanted);
        let names = |wishes: Vec<(ChannelName, bool)>| wishes.into_iter().map(|(name, _)| name).collect();
        let (listen, unlisten): (Vec<ChannelName>, Vec<ChannelName>) = (names(listen), names(unlisten));
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
}

/// Watches whether anything comes back.
async fn look(cluster: &Cluster, app: &App, link: &Link, ears: &Ears) -> anyhow::Error {
    let mut every = tokio::time::interval(PROBE);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if let Some(lag_ns) = ears.lag_ns() {
            cluster.lags(app, lag_ns);
        }
        if ears.deaf().is_some() {
            return anyhow::anyhow!("nothing came back for {} s", DEAF_AFTER.as_secs());
        }
        let probed = tokio::time::timeout(PROBE, link.probe());
        // What takes longer is found by what does not come back.
        if let Ok(Err(error)) = probed.await {
            return error.context("asking whether it is there");
        }
    }
}
