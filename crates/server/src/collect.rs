//! The host collector: once an interval it reads the host and publishes what it found.
//!
//! `pulsewire serve` runs one, as `collector.*` says. A program that embeds the server may run others
//! beside it, each with an interval, a channel and tags of its own. What a collector has done is counted
//! twice: for itself, and for the server, whose `GET /api/stats` tells of all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pulsewire_edge::clock;
use pulsewire_sources::host::{Collection, HostCollector, HostError, HostOptions};
use pulsewire_telemetry::{SampleSource, limited};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::app::App;
use crate::embed::Handle;

/// How often a collector reads the host, and what it makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorOptions {
    /// The time between two readings of the host. Default 1 s; less than 1 ms is taken as 1 ms.
    pub interval: Duration,
    /// The channel, which must be one of metrics, the tags, and what is read. Default: `system.metrics`.
    pub host: HostOptions,
}

impl Default for CollectorOptions {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), host: HostOptions::default() }
    }
}

/// What a collector has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CollectorStats {
    /// Whether it collects.
    pub running: bool,
    /// How often it has read the host.
    pub collections: u64,
    /// How many of its samples were accepted. The first reading gives none: shares of time need two.
    pub samples: u64,
    /// How long the last reading took; `None` before the first. 50 ms is the most it should be.
    pub last_took: Option<Duration>,
}

/// The figures of one collector, or of all of a server's.
#[derive(Debug, Default)]
pub struct Meter {
    running: AtomicUsize,
    collections: AtomicU64,
    samples: AtomicU64,
    last_took_ns: AtomicU64,
}

impl Meter {
    /// The figures now.
    #[must_use]
    pub fn stats(&self) -> CollectorStats {
        let collections = self.collections.load(Relaxed);
        CollectorStats {
            running: self.running.load(Relaxed) > 0,
            collections,
            samples: self.samples.load(Relaxed),
            last_took: (collections > 0).then(|| Duration::from_nanos(self.last_took_ns.load(Relaxed))),
        }
    }
}

/// A collector of the host's own numbers, for a server in the same process.
///
/// It ends when it is told to, when it is dropped, and when the server stops.
#[derive(Debug)]
pub struct Collector {
    server: Handle,
    options: CollectorOptions,
    meter: Arc<Meter>,
    task: Option<Task>,
}

#[derive(Debug)]
struct Task {
    stop: watch::Sender<bool>,
    ended: JoinHandle<()>,
}

impl Collector {
    /// A collector that publishes to this server. It does nothing until it is started.
    #[must_use]
    pub fn new(server: &Handle, options: CollectorOptions) -> Self {
        Self { server: server.clone(), options, meter: Arc::default(), task: None }
    }

    /// Starts to collect, unless it does already. To be called where tokio runs.
    ///
    /// # Errors
    ///
    /// If the channel or the tags are none, or this system cannot be read.
    pub fn start(&mut self) -> Result<(), HostError> {
        if self.stats().running {
            return Ok(());
        }
        let collector = HostCollector::new(&self.options.host)?;
        let (stop, stopped) = watch::channel(false);
        let counted = Counted::new([self.meter.clone(), self.server.app.collecting.clone()]);
        let interval = self.options.interval.max(Duration::from_millis(1));
        let (app, gone) = (self.server.app.clone(), self.server.stopped.clone());
        let ended = tokio::spawn(collect(app, collector, interval, counted, [stopped, gone]));
        self.task = Some(Task { stop, ended });
        Ok(())
    }

    /// Stops to collect; returns when a reading that was under way has ended. It may be started again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops it all the same.
    pub async fn stop(&mut self) {
        let Some(Task { stop, ended }) = self.task.take() else { return };
        drop(stop);
        // It can only have ended already.
        let _ = ended.await;
    }

    /// What it has done since it was made.
    #[must_use]
    pub fn stats(&self) -> CollectorStats {
        self.meter.stats()
    }
}

/// Counts as running until it is dropped.
struct Counted([Arc<Meter>; 2]);

impl Counted {
    fn new(meters: [Arc<Meter>; 2]) -> Self {
        for meter in &meters {
            meter.running.fetch_add(1, Relaxed);
        }
        Self(meters)
    }

    fn collected(&self, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        for meter in &self.0 {
            meter.last_took_ns.store(took_ns, Relaxed);
            meter.collections.fetch_add(1, Relaxed);
        }
    }

    fn accepted(&self, samples: usize) {
        for meter in &self.0 {
            meter.samples.fetch_add(samples as u64, Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        for meter in &self.0 {
            meter.running.fetch_sub(1, Relaxed);
        }
    }
}

/// Collects until one of the two says stop, or is gone.
async fn collect(
    app: Arc<App>,
    mut collector: HostCollector,
    interval: Duration,
    counted: Counted,
    [mut stopped, mut gone]: [watch::Receiver<bool>; 2],
) {
    let mut interval = tokio::time::interval(interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // Shares of time need two readings: the first is only the second's beginning.
    let mut begun = false;
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = stopped.changed() => break,
            _ = gone.changed() => break,
        }
        let collected = tokio::task::spawn_blocking(move || {
            let collection = collector.collect(clock::now().wall_ms);
            (collector, collection)
        });
        let Ok((back, collection)) = collected.await else { break };
        collector = back;
        let Collection { channel, samples, took } = collection;
        app.telemetry.shared().collector(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        counted.collected(took);
        if !std::mem::replace(&mut begun, true) {
            continue;
        }
        match app.bus.publish_samples(clock::now(), SampleSource::Host, &channel, samples) {
            Ok(receipt) => counted.accepted(receipt.accepted),
            Err(code) => limited!(warn, %code, "the host's metrics were not accepted"),
        }
    }
}
