//! What a request of samples was read as: samples by channel, and what was refused of it.

use super::Sample;
use crate::channel::ChannelName;
use crate::code::ErrorCode;

/// What is wrong with a sample, as a server counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SampleFault {
    /// It is not of the shape that samples have.
    Malformed,
    /// Its channel is missing, has no name that channels can have, or is another than was agreed.
    Channel,
    /// Its name is missing, or none that samples can have.
    Name,
    /// Its tags are too many, too long, repeated, or no texts.
    Tags,
    /// Its value is missing, or not a finite number.
    Value,
    /// It is one more than a request may have.
    BatchMax,
}

impl SampleFault {
    /// Every fault.
    pub const ALL: &[Self] =
        &[Self::Malformed, Self::Channel, Self::Name, Self::Tags, Self::Value, Self::BatchMax];
}

/// A sample, an item or a whole body that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{detail}", .index.map(|index| format!("item {index}: ")).unwrap_or_default())]
pub struct SampleError {
    /// Which item, from 0; `None` when the whole body is.
    pub index: Option<usize>,
    /// What is wrong, for counting.
    pub fault: SampleFault,
    /// The code that the sender gets.
    pub code: ErrorCode,
    /// What is wrong, for a person.
    pub detail: String,
}

impl SampleError {
    pub(super) fn new(fault: SampleFault, detail: impl Into<String>) -> Self {
        let code = match fault {
            SampleFault::BatchMax => ErrorCode::LimitExceeded,
            _ => ErrorCode::BadRequest,
        };
        Self { index: None, fault, code, detail: detail.into() }
    }
}

/// The samples of one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelSamples {
    /// The channel.
    pub channel: ChannelName,
    /// The samples, in the order they were written.
    pub samples: Vec<Sample>,
    /// Of which item each of them is, from 0.
    pub indexes: Vec<usize>,
}

/// What was read: samples by channel, and what was refused.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SampleBatch {
    /// The samples, channels in the order in which they were first named.
    pub channels: Vec<ChannelSamples>,
    /// What was refused, in its order.
    pub refused: Vec<SampleError>,
}
