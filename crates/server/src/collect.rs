//! The host collector's thread: once an interval it reads the host and publishes what it found.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pulsewire_edge::clock;
use pulsewire_sources::host::{Collection, HostCollector, HostOptions};
use pulsewire_telemetry::{SampleSource, limited};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::app::App;

/// Starts to collect; ends when `stop` changes. A host that cannot be read is said once and not collected.
pub fn start(app: &Arc<App>, mut stop: watch::Receiver<bool>) {
    let settings = &app.live.load().settings.collector;
    let options = HostOptions { tags: settings.tags.clone(), ..HostOptions::default() };
    let mut collector = match HostCollector::new(&options) {
        Ok(collector) => collector,
        Err(error) => {
            tracing::error!(%error, "the host's metrics cannot be collected");
            return;
        }
    };
    let mut interval = tokio::time::interval(settings.interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let app = app.clone();
    app.collecting.store(true, Ordering::Relaxed);
    tokio::spawn(async move {
        // Shares of time need two readings: the first is only the second's beginning.
        let mut begun = false;
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                _ = stop.changed() => break,
            }
            let collected = tokio::task::spawn_blocking(move || {
                let collection = collector.collect(clock::now().wall_ms);
                (collector, collection)
            });
            let Ok((back, collection)) = collected.await else { break };
            collector = back;
            let took_ns = u64::try_from(collection.took.as_nanos()).unwrap_or(u64::MAX);
            app.telemetry.shared().collector(took_ns);
            if !std::mem::replace(&mut begun, true) {
                continue;
            }
            let Collection { channel, samples, .. } = collection;
            if let Err(code) = app.bus.publish_samples(clock::now(), SampleSource::Host, &channel, samples) {
                limited!(warn, %code, "the host's metrics were not accepted");
            }
        }
        app.collecting.store(false, Ordering::Relaxed);
    });
}
