//! An event that a channel has accepted, and its frames.
//!
//! A publication is shared by everyone who is to receive it. Its frames are encoded at most once
//! per encoding and shape, on first need, so the cost per subscriber is a reference.

use std::sync::{Arc, OnceLock};

use pulsewire_protocol::{
    Encoding, Frame, MetricSet, Sequence, Shape, encode_event, encode_grouped, encode_points,
};
use pulsewire_telemetry::EventTypeId;

use crate::{Accepted, Channel};

/// What was published.
#[derive(Debug)]
pub enum Body {
    /// An application's event, as it was accepted.
    Event(Arc<Accepted>),
    /// Values of a metric channel's series, taken together.
    Metrics(MetricSet),
}

/// In which shape and encoding a subscriber wants its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    /// One document per set or one frame per value; events ignore it.
    pub shape: Shape,
    /// JSON text or MessagePack binary.
    pub encoding: Encoding,
}

/// An event with its channel, sequence and time.
#[derive(Debug)]
pub struct Publication {
    /// The channel that accepted it.
    pub channel: Arc<Channel>,
    /// Its place in the channel's order; 0 for kinds that number nothing.
    pub sequence: Sequence,
    /// When it was accepted, monotonic nanoseconds.
    pub accepted_ns: u64,
    /// From when a round trip that this publication begins is counted, monotonic nanoseconds: the moment its
    /// message was read from a WebSocket, less the publisher's last heartbeat round trip. 0 if that is unknown.
    pub begun_ns: u64,
    /// Its type, for counting.
    pub event_type: EventTypeId,
    /// What was published.
    pub body: Body,
    frames: [OnceLock<Frame>; 4],
}

impl Publication {
    /// A publication whose frames are not encoded yet.
    #[must_use]
    pub fn new(
        channel: Arc<Channel>,
        sequence: Sequence,
        accepted_ns: u64,
        event_type: EventTypeId,
        body: Body,
    ) -> Self {
        Self { channel, sequence, accepted_ns, begun_ns: 0, event_type, body, frames: Default::default() }
    }

    /// Values of a metric channel, accepted at `accepted_ns`; 0 for values that were accepted earlier.
    #[must_use]
    pub fn values(channel: Arc<Channel>, set: MetricSet, accepted_ns: u64, event_type: EventTypeId) -> Self {
        Self::new(channel, Sequence::ZERO, accepted_ns, event_type, Body::Metrics(set))
    }

    /// The same, as the beginning of a round trip.
    #[must_use]
    pub fn begun(self, begun_ns: u64) -> Self {
        Self { begun_ns, ..self }
    }

    /// Its frame, or its frames one behind the other, encoded on first need.
    #[must_use]
    pub fn frame(&self, variant: Variant) -> &Frame {
        let shape = match (&self.body, variant.shape) {
            (Body::Metrics(_), Shape::Points) => 2,
            _ => 0,
        };
        let encoding = match variant.encoding {
            Encoding::Json => 0,
            Encoding::MsgPack => 1,
        };
        self.frames[shape + encoding].get_or_init(|| match &self.body {
            Body::Event(_) => self.encode(None, variant.encoding),
            Body::Metrics(set) => match variant.shape {
                Shape::Grouped => Frame::concat(&encode_grouped(set, variant.encoding)),
                Shape::Points => Frame::concat(&encode_points(set, variant.encoding)),
            },
        })
    }

    /// A frame of its own for a reader whose last event was not the one before it.
    #[must_use]
    pub fn frame_after(&self, previous: Sequence, encoding: Encoding) -> Frame {
        self.encode(Some(previous), encoding)
    }

    fn encode(&self, previous: Option<Sequence>, encoding: Encoding) -> Frame {
        let Body::Event(accepted) = &self.body else { return Frame::concat(&[]) };
        let publication = pulsewire_protocol::Publication {
            event: &accepted.event,
            sequence: (self.sequence.0 > 0).then_some(self.sequence),
            previous,
            timestamp_ms: accepted.timestamp_ms,
            user: accepted.user.as_deref(),
        };
        encode_event(&publication, encoding)
    }

    /// The length of its longest frame that has been encoded.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        self.frames.iter().filter_map(OnceLock::get).map(Frame::len).max().unwrap_or(0)
    }

    /// Whether a late joiner must see it.
    #[must_use]
    pub fn is_critical(&self) -> bool {
        matches!(&self.body, Body::Event(accepted) if accepted.is_critical())
    }

    /// The bytes its event or values take in memory, roughly, and once more for its frames.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let body = match &self.body {
            Body::Event(accepted) => accepted.bytes(),
            Body::Metrics(set) => set.points.len() * size_of::<pulsewire_protocol::Point>(),
        };
        size_of::<Self>() + 2 * body
    }

    /// The bytes of what it says: an event's payload, eight for each value.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match &self.body {
            Body::Event(accepted) => accepted.event.data.get().len(),
            Body::Metrics(set) => set.points.len() * 8,
        }
    }
}
