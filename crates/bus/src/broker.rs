//! What nodes tell each other, decided here and carried by whoever runs the bus.
//!
//! A broker brings hints: what was committed, what passes without being kept, samples, and what the layers above
//! have to say. It may lose, repeat and reorder them. What it loses of a log is found in the store (`repair.rs`);
//! so nothing here is waited for, and nothing is acknowledged because of it.
//!
//! [`Envelope`] is what goes over the wire, [`Outgoing`] the bounded queue on the way to it, and `topics.rs`
//! decides which channels a node hears: those that somebody listens to.

mod outgoing;
pub(crate) mod topics;
mod wire;

use std::sync::Arc;

use pulsewire_protocol::{ChannelName, Epoch, Sample, Sequence};
use pulsewire_telemetry::BrokerItem;
use serde_json::value::RawValue;

use crate::store::Accepted;

pub use outgoing::{Outgoing, OutgoingOptions, Overflow, Parcel, Taken};
pub use wire::{ENVELOPE_BYTES_MAX, Envelope, Key, OpenError, PARCEL_BYTES};

/// Carries what happens here to the other nodes. It may lose, repeat and reorder.
pub trait Broker: Send + Sync {
    /// Something was committed here. Must not wait.
    fn announce(&self, hint: &Hint);

    /// Events of a channel that keeps nothing passed here, in this order. Must not wait.
    fn pass(&self, channel: &ChannelName, events: &[Arc<Accepted>]) {
        let _ = (channel, events);
    }

    /// Samples of a metric channel were accepted here. Must not wait.
    fn samples(&self, channel: &ChannelName, samples: &[Sample]) {
        let _ = (channel, samples);
    }

    /// Whether a node hears of a channel only if it asked to ([`Broker::listen`]). Else everything comes to all.
    fn has_topics(&self) -> bool {
        false
    }

    /// Whether there are times at which nothing comes through it, of which the bus is told
    /// ([`crate::Bus::broker_reached`], [`crate::Bus::broker_lost`]).
    fn can_be_lost(&self) -> bool {
        self.has_topics()
    }

    /// From now on this node is to hear of these channels; [`crate::Bus::heard`] is called when it does. Must not wait.
    fn listen(&self, channels: Vec<ChannelName>) {
        let _ = channels;
    }

    /// Nobody here listens to these channels any more. Must not wait.
    fn unlisten(&self, channels: Vec<ChannelName>) {
        let _ = channels;
    }
}

/// What a node says that it committed.
#[derive(Debug, Clone)]
pub struct Hint {
    /// In which channel.
    pub channel: ChannelName,
    /// In which history.
    pub epoch: Epoch,
    /// The events, oldest first. Without any it says only where the channel stands.
    pub events: Vec<(Sequence, Arc<Accepted>)>,
    /// Where the channel stands at least.
    pub head: Sequence,
}

impl Hint {
    /// Says that these events were committed, oldest first.
    #[must_use]
    pub fn new(channel: ChannelName, epoch: Epoch, events: Vec<(Sequence, Arc<Accepted>)>) -> Self {
        let head = events.last().map_or(Sequence::ZERO, |(sequence, _)| *sequence);
        Self { channel, epoch, events, head }
    }

    /// The same without what was said: whoever listens reads it from the store.
    #[must_use]
    pub fn without_events(self) -> Self {
        Self { events: Vec::new(), ..self }
    }
}

/// To whom something is said.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// To the nodes that listen to a channel.
    Channel(ChannelName),
    /// To every node.
    All,
    /// To one node.
    Node(Box<str>),
}

/// One thing that is said.
#[derive(Debug, Clone)]
pub enum Item {
    /// Events of a log were committed.
    Committed(Hint),
    /// Events of a channel that keeps nothing.
    Passed {
        /// The channel.
        channel: ChannelName,
        /// The events, in order.
        events: Vec<Arc<Accepted>>,
    },
    /// Samples of a metric channel.
    Samples {
        /// The channel.
        channel: ChannelName,
        /// The samples.
        samples: Vec<Sample>,
        /// Whether they are the newest of their series, said again to a node that has just begun to listen.
        recalled: bool,
    },
    /// Something of the layers above.
    Other {
        /// What it is, for whoever takes it.
        kind: Box<str>,
        /// What it says.
        body: Box<RawValue>,
    },
}

impl Item {
    /// What kind of thing it is, for whoever counts.
    #[must_use]
    pub const fn kind(&self) -> BrokerItem {
        match self {
            Self::Committed(_) => BrokerItem::Committed,
            Self::Passed { .. } => BrokerItem::Passed,
            Self::Samples { .. } => BrokerItem::Samples,
            Self::Other { .. } => BrokerItem::Other,
        }
    }

    /// The bytes it takes on its way, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let events = |events: &mut dyn Iterator<Item = &Arc<Accepted>>| -> usize {
            events.map(|accepted| accepted.bytes()).sum()
        };
        let said = match self {
            Self::Committed(hint) => events(&mut hint.events.iter().map(|(_, accepted)| accepted)),
            Self::Passed { events: passed, .. } => events(&mut passed.iter()),
            Self::Samples { samples, .. } => samples.len() * size_of::<Sample>(),
            Self::Other { body, .. } => body.get().len(),
        };
        size_of::<Self>() + said
    }
}
