//! Metric channels: samples come in, series say what is new, windows roll up and are kept.
//!
//! A channel's table belongs to the channel's lock, so every listener meets its points in one order. Whoever
//! runs the bus calls [`Bus::roll`] to close windows, [`Bus::keep_series`] to keep them and
//! [`Bus::trim_series`] to let go of what is too old; [`Bus::series_history`] reads what was kept.

mod history;
mod keep;
mod levels;
mod named;
mod sketch;
mod table;
mod window;

use std::sync::Arc;

use pulsewire_protocol::{ChannelName, ErrorCode, Interval, MetricSet, Point, Reading, Sample};
use pulsewire_telemetry::{EventTypeId, SampleRefusal, SampleSource};

use crate::store::{SeriesStore, Tier};
use crate::{Bus, Channel, ChannelKind, Now, Publication};

pub use history::{Resolution, SeriesHistory, SeriesQuery};
use table::Accepted;
pub(crate) use table::Table;

/// How metric channels are bounded, and where their past is kept.
#[derive(Clone, Default)]
pub struct SeriesOptions {
    /// The bounds.
    pub limits: SeriesLimits,
    /// Keeps the roll-ups; without it there is no history.
    pub store: Option<Arc<dyn SeriesStore>>,
}

/// The bounds of metric channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Series of one channel; a sample of one more is refused. Default 10,000.
    pub per_channel_max: usize,
    /// How much later than its window a sample may come and still count, milliseconds, besides how late its series
    /// usually comes. Default 250.
    pub lateness_ms: i64,
    /// How far in the future a sample may be dated, milliseconds. Default one minute.
    pub future_ms: i64,
    /// A series that has said nothing for so long is forgotten, milliseconds. Default one hour.
    pub idle_ms: i64,
    /// How long each tier keeps its windows, milliseconds; 0 keeps none. Default 15 minutes, 6 hours, 7 days, 90 days.
    pub kept_ms: [i64; Tier::ALL.len()],
    /// Windows that wait to be kept, in bytes for each channel; more are given up. Default 64 MiB.
    pub waiting_bytes_max: usize,
}

impl Default for SeriesLimits {
    fn default() -> Self {
        let (minute, day) = (60_000, 86_400_000);
        Self {
            per_channel_max: 10_000,
            lateness_ms: 250,
            future_ms: minute,
            idle_ms: 60 * minute,
            kept_ms: [15 * minute, 360 * minute, 7 * day, 90 * day],
            waiting_bytes_max: 64 << 20,
        }
    }
}

/// What became of samples.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SamplesReceipt {
    /// How many were accepted.
    pub accepted: usize,
    /// How many subscriptions the channel has.
    pub matched: u32,
    /// Those that were refused, in their order.
    pub refused: Vec<RefusedSample>,
}

/// A sample that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedSample {
    /// Its place in the request, from 0.
    pub index: usize,
    /// The code for whoever sent it.
    pub code: ErrorCode,
    /// What is wrong, for a person.
    pub detail: String,
}

/// Why a sample was refused: the label, the code and the words.
pub(crate) type Refusing = (SampleRefusal, ErrorCode, String);

/// Between two looks for series that have said nothing for long, milliseconds.
const SWEPT_MS: i64 = 60_000;

impl Bus {
    /// Takes samples of a metric channel. Each is accepted or refused by itself; those accepted are sent at once to
    /// whoever listens without an interval, unless they are older than the newest of their series.
    ///
    /// # Errors
    ///
    /// `unknown_channel`, `unsupported` if it is no metric channel, `overloaded` if the listeners' queues are full;
    /// nothing was accepted then.
    pub fn publish_samples(
        &self,
        now: Now,
        source: SampleSource,
        channel: &ChannelName,
        samples: Vec<Sample>,
    ) -> Result<SamplesReceipt, ErrorCode> {
        let shared = self.telemetry.shared();
        let refuse = |reason: SampleRefusal, code: ErrorCode| {
            shared.samples_refused(reason, samples.len() as u64);
            code
        };
        let namespace = self.namespace(channel).ok_or(ErrorCode::UnknownChannel);
        let namespace = namespace.map_err(|code| refuse(SampleRefusal::Channel, code))?;
        if namespace.kind != ChannelKind::Metrics {
            return Err(refuse(SampleRefusal::Channel, ErrorCode::Unsupported));
        }
        let channel = self.open_passing(channel).map_err(|code| refuse(SampleRefusal::Channel, code))?;
        if self.is_crowded(&channel) {
            return Err(refuse(SampleRefusal::Overloaded, ErrorCode::Overloaded));
        }
        let limits = self.series_limits();
        let mut receipt = SamplesReceipt::default();
        let mut points = Vec::with_capacity(samples.len());
        let mut order = channel.order.lock();
        let table = order.series.get_or_insert_default();
        let broker = self.options.broker.as_ref();
        let mut told = Vec::new();
        for (index, sample) in samples.into_iter().enumerate() {
            let timestamp_ms = Some(sample.timestamp_ms.unwrap_or(now.wall_ms));
            let copy = broker.map(|_| Sample { timestamp_ms, ..sample.clone() });
            match table.take(sample, Accepted::Here, now.wall_ms, &limits) {
                Ok(fresh) => {
                    receipt.accepted += 1;
                    told.extend(copy);
                    shared.samples_out_of_order(u64::from(fresh.is_none()));
                    points.extend(fresh.map(point));
                }
                Err((reason, code, detail)) => {
                    shared.samples_refused(reason, 1);
                    receipt.refused.push(RefusedSample { index, code, detail });
                }
            }
        }
        shared.samples_accepted(source, receipt.accepted as u64);
        self.say_points(&channel, table, points, now);
        // What has closed is said at once: history holds everything up to the last number, and nothing beyond.
        self.say_rolled(&channel, table, now);
        drop(order);
        if let Some(broker) = broker.filter(|_| !told.is_empty()) {
            broker.samples(&channel.name, &told);
        }
        receipt.matched = channel.listeners();
        Ok(receipt)
    }

    /// Takes samples that another node accepted, if the metric channel is at hand here. They are live like this node's
    /// own and count for the windows of whoever listens here, but are not kept: each node keeps the windows of what it
    /// accepted, and readers of the past put together what all have kept.
    ///
    /// Each sample is to be handed in once, with its time. One older than the newest of its series is not sent. What
    /// cannot be taken, such as one series more than a channel may have, is left out and counted as refused.
    pub fn receive_samples(&self, now: Now, channel: &ChannelName, samples: Vec<Sample>) {
        self.take_from_others(now, channel, samples, Accepted::Elsewhere);
    }

    /// Takes what another node answered with its [`newest_samples`](Bus::newest_samples), if the metric channel is at
    /// hand here. What is newer than what is known is sent and is what whoever subscribes is told first; none counts
    /// for a window, for it may have been received before. So the same answer may come more than once.
    pub fn recall_samples(&self, now: Now, channel: &ChannelName, samples: Vec<Sample>) {
        self.take_from_others(now, channel, samples, Accepted::Before);
    }

    /// The newest value of each series of a metric channel that this node accepted itself, with its time, for a node
    /// that has just begun to hear the channel. At most as many as the channel may have series; in no order.
    #[must_use]
    pub fn newest_samples(&self, channel: &ChannelName) -> Vec<Sample> {
        let Some(channel) = self.listed(channel) else { return Vec::new() };
        let order = channel.order.lock();
        order.series.as_ref().map_or_else(Vec::new, |table| table.newest_own())
    }

    fn take_from_others(&self, now: Now, channel: &ChannelName, samples: Vec<Sample>, accepted: Accepted) {
        let shared = self.telemetry.shared();
        let listed = self.listed(channel);
        let Some(channel) = listed.filter(|channel| channel.kind == ChannelKind::Metrics) else { return };
        if self.is_crowded(&channel) {
            shared.samples_refused(SampleRefusal::Overloaded, samples.len() as u64);
            return;
        }
        let limits = self.series_limits();
        let mut points = Vec::with_capacity(samples.len());
        let mut order = channel.order.lock();
        let table = order.series.get_or_insert_default();
        for sample in samples {
            match table.take(sample, accepted, now.wall_ms, &limits) {
                Ok(fresh) => points.extend(fresh.map(point)),
                Err((reason, ..)) => shared.samples_refused(reason, 1),
            }
        }
        self.say_points(&channel, table, points, now);
        self.say_rolled(&channel, table, now);
    }

    /// Sends the points of samples. The channel's lock is held.
    fn say_points(&self, channel: &Arc<Channel>, table: &mut Table, mut points: Vec<Point>, now: Now) {
        if !points.is_empty() {
            table::in_order(&mut points);
            let number = table.next_number();
            self.say(
                channel,
                MetricSet { channel: channel.name.clone(), number, interval: None, points },
                now,
            );
        }
    }

    /// Closes the windows of metric channels that have ended, and sends them to whoever listens with an interval.
    /// Returns when to call again, Unix milliseconds.
    pub fn roll(&self, now: Now) -> i64 {
        let limits = self.series_limits();
        for channel in self.metric_channels() {
            let mut order = channel.order.lock();
            let Some(table) = &mut order.series else { continue };
            self.telemetry.shared().windows_closed(table.roll(now.wall_ms, &limits));
            if self.swept_series(now) {
                table.forget_idle(now.wall_ms, &limits);
            }
            self.say_rolled(&channel, table, now);
        }
        // Windows end with the second; whoever is late by less than the lateness still counts.
        let passed_ms = (now.wall_ms - limits.lateness_ms).rem_euclid(1_000);
        now.wall_ms + 1_000 - passed_ms
    }

    /// Whether it is the minute's first time.
    fn swept_series(&self, now: Now) -> bool {
        now.wall_ms.rem_euclid(SWEPT_MS) < 1_000
    }

    pub(crate) fn series_limits(&self) -> SeriesLimits {
        let SeriesOptions { mut limits, ref store } = self.options.series;
        if store.is_none() {
            limits.kept_ms = [0; Tier::ALL.len()];
        }
        limits
    }

    fn metric_channels(&self) -> Vec<Arc<Channel>> {
        let metrics = |channel: &&Arc<Channel>| channel.kind == ChannelKind::Metrics;
        self.channels.read().values().filter(metrics).cloned().collect()
    }

    /// Sends the windows that have closed to whoever wants their interval. The channel's lock is held.
    fn say_rolled(&self, channel: &Arc<Channel>, table: &mut Table, now: Now) {
        self.telemetry.shared().samples_late(table.take_late());
        for interval in Interval::ALL.iter().copied() {
            for points in table.take_rolled(interval) {
                if channel.is_wanted(interval) {
                    let (number, name) = (table.next_number(), channel.name.clone());
                    let set = MetricSet { channel: name, number, interval: Some(interval), points };
                    self.say(channel, set, now);
                }
            }
        }
    }

    /// Sends points to whoever listens. The channel's lock is held.
    fn say(&self, channel: &Arc<Channel>, set: MetricSet, now: Now) {
        let event_type = self.metric_type();
        self.telemetry.shared().event_emitted(event_type, 1);
        let publication = Publication::values(channel.clone(), set, now.mono_ns, event_type);
        self.deliver(channel, &[Arc::new(publication)]);
    }

    /// The newest value of every series of a metric channel, or with an interval each one's last window that has
    /// closed; `None` if there is none.
    #[must_use]
    pub fn newest(&self, channel: &Arc<Channel>, interval: Option<Interval>) -> Option<Arc<Publication>> {
        channel.order.lock().series.as_mut()?.newest(channel, interval, self.metric_type())
    }

    /// How many series its metric channels have, and the bytes they take, roughly.
    #[must_use]
    pub fn series(&self) -> (usize, usize) {
        self.metric_channels().iter().fold((0, 0), |(count, bytes), channel| {
            let order = channel.order.lock();
            order.series.as_ref().map_or((count, bytes), |table| (count + table.len(), bytes + table.bytes()))
        })
    }

    fn metric_type(&self) -> EventTypeId {
        self.telemetry.event_types().intern("metric")
    }
}

/// A sample that is the newest of its series, as a point.
fn point((series, timestamp_ms, value): table::Fresh) -> Point {
    Point { series, timestamp_ms, reading: Reading::Value(value) }
}
