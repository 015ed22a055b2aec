//! A part of a channel's keyed state, as it is given to readers.

use std::ops::Deref;
use std::sync::OnceLock;

use pulsewire_protocol::{Answer, ChannelName, Encoding, Frame, Publication, State, encode_event};

use crate::Accepted;
use crate::store::{Keyed, StateSlice};

/// A part of a channel's keyed state and its frames. It is shared by everyone who asked for it at the same time, and
/// encoded at most once per encoding, on first need.
#[derive(Debug)]
pub struct StatePart {
    channel: ChannelName,
    slice: StateSlice,
    frames: [OnceLock<Frame>; 2],
}

impl StatePart {
    /// A part whose frames are not encoded yet.
    #[must_use]
    pub fn new(channel: ChannelName, slice: StateSlice) -> Self {
        Self { channel, slice, frames: Default::default() }
    }

    /// The events that set the values, as they were sent, in JSON.
    #[must_use]
    pub fn events(&self) -> Vec<Frame> {
        self.slice.values.iter().map(event).collect()
    }

    /// Its `state` message, encoded on first need.
    #[must_use]
    pub fn frame(&self, encoding: Encoding) -> &Frame {
        let index = match encoding {
            Encoding::Json => 0,
            Encoding::MsgPack => 1,
        };
        self.frames[index].get_or_init(|| {
            let events = self.events();
            let values: Vec<&[u8]> = events.iter().map(Frame::payload).collect();
            let StateSlice { behind, extent, .. } = &self.slice;
            let (epoch, sequence, more) = (&extent.epoch, extent.head, behind.is_some());
            let part = State { channel: &self.channel, epoch, sequence, values: &values, more };
            Answer::State(part).encode(None, encoding)
        })
    }
}

impl Deref for StatePart {
    type Target = StateSlice;

    fn deref(&self) -> &StateSlice {
        &self.slice
    }
}

/// The event that set a key's value, as it was sent.
fn event(keyed: &Keyed) -> Frame {
    let Accepted { event, user, timestamp_ms } = &*keyed.accepted;
    let publication = Publication {
        event,
        sequence: Some(keyed.sequence),
        previous: None,
        timestamp_ms: *timestamp_ms,
        user: user.as_deref(),
    };
    encode_event(&publication, Encoding::Json)
}
