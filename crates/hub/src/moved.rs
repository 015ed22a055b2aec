//! A session on its way to another node.
//!
//! What a client was subscribed to and what it would have received next goes from the node that has its session to
//! the one it came back to; everything else is made anew there, under a new id. It is told as JSON between nodes and
//! checked like anything that comes from elsewhere.

use std::sync::Arc;

use pulsewire_bus::Channel;
use pulsewire_protocol::{Attend, ChannelName, Epoch, Filter, Interval, Sequence, Shape};
use serde::{Deserialize, Serialize};

use crate::shard::feed::{Parked, View};
use crate::{ConnectWish, Principal};

/// What a session was subscribed to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Moved {
    subscriptions: Vec<Subscribed>,
}

/// One subscription of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Subscribed {
    channel: String,
    epoch: String,
    /// The sequence it would have received next; 0 on channels that number nothing.
    next: u64,
    /// Up to here it reads critical events alone.
    #[serde(default)]
    critical_until: u64,
    shape: String,
    /// As [`Filter::write_list`] writes it.
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    interval: Option<String>,
    #[serde(default)]
    msgpack: bool,
    /// 0: nothing of its presence, 1: to see, 2: to be seen.
    #[serde(default)]
    attend: u8,
    /// Whether it was being sent the keyed state.
    #[serde(default)]
    state: bool,
}

/// A session that came from another node, for the connection that asked for it.
pub struct Fetched {
    /// Who it is.
    pub principal: Arc<Principal>,
    /// What its client asked for.
    pub wish: ConnectWish,
    /// What it was subscribed to, and those channels as they are at hand now; `None` if no node has it.
    pub moved: Option<(Moved, Vec<Arc<Channel>>)>,
}

impl Moved {
    pub(crate) fn of(parked: &[Parked]) -> Self {
        let subscription = |parked: &Parked| Subscribed {
            channel: parked.channel.name.as_str().to_owned(),
            epoch: parked.epoch.as_str().to_owned(),
            next: parked.next,
            critical_until: parked.critical_until,
            shape: parked.view.shape.name().to_owned(),
            filter: (!parked.view.filter.is_empty()).then(|| parked.view.filter.write_list()),
            interval: parked.view.interval.map(|interval| interval.name().to_owned()),
            msgpack: parked.msgpack,
            attend: parked.attend as u8,
            state: parked.state,
        };
        Self { subscriptions: parked.iter().map(subscription).collect() }
    }

    /// The channels that have to be at hand, and the sequence up to which the client has seen each.
    #[must_use]
    pub fn channels(&self) -> Vec<(ChannelName, Sequence)> {
        let seen = |known: &Subscribed| {
            Some((ChannelName::parse(&known.channel).ok()?, Sequence(known.next.saturating_sub(1))))
        };
        self.subscriptions.iter().filter_map(seen).collect()
    }

    /// What it was subscribed to, with the channels that are at hand. What cannot be read is left out: its client
    /// misses it among its subscriptions.
    pub(crate) fn parked(&self, channels: &[Arc<Channel>]) -> Vec<Parked> {
        self.subscriptions.iter().filter_map(|known| known.parked(channels)).collect()
    }
}

impl Subscribed {
    fn parked(&self, channels: &[Arc<Channel>]) -> Option<Parked> {
        let channel = channels.iter().find(|channel| channel.name.as_str() == self.channel)?.clone();
        let filter = match &self.filter {
            Some(text) => Filter::read_list(text).ok()?,
            None => Filter::default(),
        };
        let interval = match &self.interval {
            Some(name) => Some(Interval::from_name(name)?),
            None => None,
        };
        let view = View { shape: Shape::from_name(&self.shape)?, filter, interval };
        let attend = match self.attend {
            0 => Attend::No,
            1 => Attend::Watch,
            _ => Attend::Join,
        };
        let epoch = Epoch::parse(&self.epoch).ok()?;
        let Self { next, critical_until, msgpack, state, .. } = *self;
        Some(Parked { channel, epoch, view, msgpack, attend, state, next, critical_until })
    }
}
