//! What others publish in Redis: samples, as document 004's collector does, and events of applications.
//!
//! [`RedisReader`] subscribes to patterns, reads, and comes back when the connection is lost; what a message of samples
//! says is decided without I/O, by [`read_message`]. A message on the Redis channel `system.metrics` is samples of
//! the metric channel of that name, as [`read_samples`] reads them. Redis keeps no messages: what nobody hears is lost.
//!
//! [`StreamsReader`] reads streams as one consumer of a group, and acknowledges an entry when its event is committed; a
//! [`Consumer`] decides, without I/O, what it does next, and [`read_entry`] what an entry says.
//!
//! `docs/operate/redis.md` is for operators.

mod backoff;
mod consumer;
#[cfg(test)]
mod consumer_tests;
mod entry;
mod lease;
mod reader;
mod streams;
#[cfg(test)]
mod tests;

use pulsewire_protocol::{ChannelName, Sample, SampleFault, read_samples};
use pulsewire_telemetry::SampleRefusal;

pub use self::backoff::Backoff;
pub use self::consumer::{Consumer, ConsumerOptions, Entry, Fate, PublishRefusal, Step};
pub use self::entry::{Content, EntryRefusal, Fields, StreamSource, read_entry, refused_fields};
pub use self::reader::{Happening, LeaseOptions, RedisError, RedisOptions, RedisReader, ping};
pub use self::streams::{StreamHappening, StreamsOptions, StreamsReader, Target};

/// The largest message that is read.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The most samples of one message.
pub const SAMPLES_MAX: usize = 10_000;

/// What a message said.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The channel the samples are for.
    pub channel: ChannelName,
    /// The samples that are right.
    pub samples: Vec<Sample>,
    /// Why others are not.
    pub refused: Vec<(SampleRefusal, String)>,
}

/// Reads a message. `is_metric` says whether a channel is one that takes samples.
///
/// # Errors
///
/// Why all of it is refused, for counting and for a person.
pub fn read_message(
    redis_channel: &str,
    payload: &[u8],
    is_metric: impl FnOnce(&ChannelName) -> bool,
) -> Result<Message, (SampleRefusal, String)> {
    let channel = ChannelName::parse(redis_channel).ok().filter(is_metric);
    let channel = channel.ok_or_else(|| (SampleRefusal::Channel, "no metric channel of this name".into()))?;
    if payload.len() > MESSAGE_BYTES_MAX {
        let detail = format!("a message of {} bytes, more than {MESSAGE_BYTES_MAX}", payload.len());
        return Err((SampleRefusal::BatchMax, detail));
    }
    let batch = read_samples(payload, Some(&channel), SAMPLES_MAX)
        .map_err(|error| (reason(error.fault), error.to_string()))?;
    // Items that name another channel are among the refused, so there is one channel at most.
    let samples = batch.channels.into_iter().flat_map(|read| read.samples).collect();
    let refused = batch.refused.iter().map(|error| (reason(error.fault), error.to_string())).collect();
    Ok(Message { channel, samples, refused })
}

fn reason(fault: SampleFault) -> SampleRefusal {
    match fault {
        SampleFault::Malformed => SampleRefusal::Malformed,
        SampleFault::Channel => SampleRefusal::Channel,
        SampleFault::Name => SampleRefusal::Name,
        SampleFault::Tags => SampleRefusal::Tags,
        SampleFault::Value => SampleRefusal::Value,
        SampleFault::BatchMax => SampleRefusal::BatchMax,
    }
}
