//! What the allocator says, and how that and the connections went over the last day.
//!
//! A sample a minute, at most a day of them: enough to see whether memory follows the connections or grows by
//! itself, and what a report needs to compare two moments. Taking one costs what a scrape costs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pulsewire_edge::clock;
use pulsewire_telemetry::{Buckets, Current, Telemetry, numbers};
use serde::{Deserialize, Serialize};
use tikv_jemalloc_ctl::{epoch, stats, stats_print};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::app::App;

/// The time between two samples.
pub const INTERVAL: Duration = Duration::from_secs(60);
/// Samples kept: a day. The oldest makes room.
pub const SAMPLES_MAX: usize = 1_440;

/// The allocator's own figures for the whole process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heap {
    /// Given out to the program.
    pub allocated: u64,
    /// In pages that hold something.
    pub active: u64,
    /// Of the allocator's pages in physical memory.
    pub resident: u64,
    /// Of address space in use.
    pub mapped: u64,
    /// Of address space kept for later.
    pub retained: u64,
    /// For the allocator's own bookkeeping.
    pub metadata: u64,
}

impl Heap {
    /// The figures now; `None` if the allocator does not say.
    #[must_use]
    pub fn now() -> Option<Self> {
        // Its figures are those of the last epoch; advancing it refreshes them.
        epoch::advance().ok()?;
        let bytes = |read: tikv_jemalloc_ctl::Result<usize>| read.ok().map(|bytes| bytes as u64);
        Some(Self {
            allocated: bytes(stats::allocated::read())?,
            active: bytes(stats::active::read())?,
            resident: bytes(stats::resident::read())?,
            mapped: bytes(stats::mapped::read())?,
            retained: bytes(stats::retained::read())?,
            metadata: bytes(stats::metadata::read())?,
        })
    }
}

/// A size class of the allocator, over all arenas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SizeClass {
    /// Bytes of one.
    pub size_bytes: u64,
    /// How many are given out.
    pub current: u64,
    /// How many were given out since the start; `None` of large ones, of which the allocator does not say.
    pub allocations: Option<u64>,
}

/// The size classes that something is in; empty if the allocator does not say.
#[must_use]
pub fn size_classes() -> Vec<SizeClass> {
    let mut options = stats_print::Options::default();
    (options.json_format, options.skip_per_arena, options.skip_mutex_statistics) = (true, true, true);
    let mut text = Vec::new();
    if stats_print::stats_print(&mut text, options).is_err() {
        return Vec::new();
    }
    let printed: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let printed = &printed["jemalloc"];
    let classes = |sizes: &serde_json::Value, counts: &serde_json::Value, current: &str| {
        let (sizes, counts) = (sizes.as_array().cloned(), counts.as_array().cloned());
        let pairs = sizes.unwrap_or_default().into_iter().zip(counts.unwrap_or_default());
        let class = |(size, count): (serde_json::Value, serde_json::Value)| SizeClass {
            size_bytes: size["size"].as_u64().unwrap_or(0),
            current: count[current].as_u64().unwrap_or(0),
            allocations: count["nmalloc"].as_u64(),
        };
        let used = |class: &SizeClass| class.current > 0 || class.allocations > Some(0);
        pairs.map(class).filter(used).collect::<Vec<_>>()
    };
    let merged = &printed["stats.arenas"]["merged"];
    let mut all = classes(&printed["arenas"]["bin"], &merged["bins"], "curregs");
    all.extend(classes(&printed["arenas"]["lextent"], &merged["lextents"], "curlextents"));
    all
}

/// One moment: what there is, and what has happened since the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The allocator's figures.
    pub heap: Heap,
    /// Resident memory of the process, in bytes.
    pub process_resident_bytes: u64,
    /// What the server attributes to connections, in bytes.
    pub attributed_bytes: u64,
    /// Attributed bytes per connection; 0 without connections.
    pub bytes_per_connection: u64,
    /// Live connections.
    pub connections: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Counters since the start, by name; see [`COUNTERS`].
    pub counters: std::collections::BTreeMap<String, u64>,
    /// Cumulative histograms since the start: counts of each bucket, by name; see [`HISTOGRAMS`].
    pub histograms: std::collections::BTreeMap<String, Vec<u64>>,
}

/// The counters of a sample: their name there, the family, and a label they must have.
pub const COUNTERS: [(&str, &str, &str); 9] = [
    ("connectionsOpened", "websocket_connections_total", "status=\"opened\""),
    ("connectionsClosed", "websocket_connections_total", "status=\"closed\""),
    ("connectionsFailed", "websocket_connections_total", "status=\"failed\""),
    ("reconnections", "websocket_reconnections_total", ""),
    ("authFailures", "websocket_auth_failures_total", ""),
    ("heartbeatsSent", "websocket_heartbeats_sent_total", ""),
    ("heartbeatTimeouts", "websocket_heartbeat_timeouts_total", ""),
    ("messagesReceived", "websocket_messages_total", "direction=\"received\""),
    ("messagesSent", "websocket_messages_total", "direction=\"sent\""),
];

/// The histograms of a sample, each the sum of a family, in milliseconds.
pub const HISTOGRAMS: [&str; 3] = [
    "websocket_event_latency_milliseconds",
    "websocket_message_latency_milliseconds",
    "websocket_heartbeat_rtt_milliseconds",
];

impl Sample {
    /// The sample of a survey.
    #[must_use]
    pub fn of(telemetry: &Telemetry, current: &Current, at_ms: i64) -> Self {
        let series = numbers(telemetry, current);
        let sum = |family: &str, label: &str| -> f64 {
            let of = |series: &str| {
                let rest = series.strip_prefix(family);
                rest.is_some_and(|rest| (rest.is_empty() || rest.starts_with('{')) && rest.contains(label))
            };
            series.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
        };
        let connections = current.active_connections();
        let attributed_bytes = sum("websocket_memory_usage_bytes", "") as u64;
        let counter =
            |(name, family, label): (&str, &str, &str)| (name.to_owned(), sum(family, label) as u64);
        let histogram = |name: &str| Some((name.to_owned(), Buckets::of(telemetry, current, name)?.counts));
        Self {
            at_ms,
            heap: Heap::now().unwrap_or_default(),
            process_resident_bytes: sum("process_resident_memory_bytes", "") as u64,
            attributed_bytes,
            bytes_per_connection: attributed_bytes.checked_div(connections).unwrap_or(0),
            connections,
            subscriptions: current.subscriptions,
            counters: COUNTERS.into_iter().map(counter).collect(),
            histograms: HISTOGRAMS.into_iter().filter_map(histogram).collect(),
        }
    }
}

/// The samples of the last day, oldest first.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Arc<Sample>>>);

impl History {
    /// Keeps a sample; the oldest makes room for it.
    pub fn push(&self, sample: Sample) {
        let mut samples = self.0.lock();
        if samples.len() >= SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(Arc::new(sample));
    }

    /// The samples from a moment on, in Unix milliseconds.
    #[must_use]
    pub fn since(&self, at_ms: i64) -> Vec<Arc<Sample>> {
        self.0.lock().iter().filter(|sample| sample.at_ms >= at_ms).cloned().collect()
    }
}

/// Takes a sample now and every minute until `stop` changes.
pub fn start(app: &Arc<App>, mut stop: watch::Receiver<bool>) {
    let app = app.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                _ = stop.changed() => return,
            }
            // Not the survey that requests share: nobody's answer should be older because of a sample.
            if let Ok(current) = app.survey().await {
                app.memory.push(Sample::of(&app.telemetry, &current, clock::now().wall_ms));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_sample_makes_room() {
        let history = History::default();
        for at_ms in 0..SAMPLES_MAX as i64 + 10 {
            history.push(Sample { at_ms, ..Sample::default() });
        }
        let all = history.since(0);
        assert_eq!((all.len(), all[0].at_ms), (SAMPLES_MAX, 10));
        assert_eq!(history.since(SAMPLES_MAX as i64).len(), 10);
    }

    #[test]
    fn a_sample_holds_every_counter_and_histogram_it_promises() {
        let telemetry = Telemetry::new(pulsewire_telemetry::Options::default());
        telemetry.shard().connection_opened();
        let sample = Sample::of(&telemetry, &Current::default(), 7);
        assert_eq!(sample.counters.len(), COUNTERS.len());
        assert_eq!(sample.histograms.len(), HISTOGRAMS.len());
        assert_eq!(sample.counters["connectionsOpened"], 1);
        let text = serde_json::to_string(&sample).unwrap();
        assert_eq!(serde_json::from_str::<Sample>(&text).unwrap(), sample);
    }
}
