//! Metric channels: samples come in, series say what is new, windows roll up.
//!
//! A channel's table belongs to the channel's lock, so every listener meets its points in one order. Whoever
//! runs the bus calls [`Bus::roll`] to close windows and [`Bus::keep_series`] to keep them.

mod table;

use std::sync::Arc;

use pulsewire_protocol::{ChannelName, ErrorCode, Interval, MetricSet, Point, Reading, Sample};
use pulsewire_telemetry::{EventTypeId, SampleRefusal, SampleSource};

use crate::{Bus, Channel, ChannelKind, Now, Publication};

pub(crate) use table::Table;

/// The bounds of metric channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Series of one channel; a sample of one more is refused. Default 10,000.
    pub per_channel_max: usize,
    /// How much later than its window a sample may come and still count, milliseconds. Default 1,000.
    pub lateness_ms: i64,
    /// How far in the future a sample may be dated, milliseconds. Default one minute.
    pub future_ms: i64,
    /// A series that has said nothing for so long is forgotten, milliseconds. Default one hour.
    pub idle_ms: i64,
}

impl Default for SeriesLimits {
    fn default() -> Self {
        Self { per_channel_max: 10_000, lateness_ms: 1_000, future_ms: 60_000, idle_ms: 3_600_000 }
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
        let limits = &self.options.series;
        let mut receipt = SamplesReceipt::default();
        let mut points = Vec::with_capacity(samples.len());
        let mut order = channel.order.lock();
        let table = order.series.get_or_insert_default();
        for (index, sample) in samples.into_iter().enumerate() {
            match table.take(sample, now.wall_ms, limits) {
                Ok(taken) => {
                    receipt.accepted += 1;
                    if let Some((series, timestamp_ms, value)) = taken.fresh {
                        points.push(Point { series, timestamp_ms, reading: Reading::Value(value) });
                    } else {
                        shared.samples_out_of_order(1);
                    }
                }
                Err((reason, code, detail)) => {
                    shared.samples_refused(reason, 1);
                    receipt.refused.push(RefusedSample { index, code, detail });
                }
            }
        }
        shared.samples_accepted(source, receipt.accepted as u64);
        if !points.is_empty() {
            let number = table.next_number();
            let set = MetricSet { channel: channel.name.clone(), number, interval: None, points };
            self.say(&channel, set, now);
        }
        drop(order);
        receipt.matched = channel.listeners();
        Ok(receipt)
    }

    /// Sends points to whoever listens. The channel's lock is held.
    fn say(&self, channel: &Arc<Channel>, set: MetricSet, now: Now) {
        let event_type = self.metric_type();
        self.telemetry.shared().event_emitted(event_type, 1);
        let publication = Publication::values(channel.clone(), set, now.mono_ns, event_type);
        self.deliver(channel, &[Arc::new(publication)]);
    }

    /// The newest value of every series of a metric channel; `None` if there is none.
    #[must_use]
    pub fn newest(&self, channel: &Arc<Channel>, interval: Option<Interval>) -> Option<Arc<Publication>> {
        // TODO windows
        if interval.is_some() {
            return None;
        }
        channel.order.lock().series.as_mut()?.newest(channel, self.metric_type())
    }

    fn metric_type(&self) -> EventTypeId {
        self.telemetry.event_types().intern("metric")
    }
}
