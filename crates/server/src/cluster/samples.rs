//! Samples of other nodes, and the values of series that a node has not heard of yet.
//!
//! A node that begins to hear a metric channel knows of no series but its own. It asks the others once, and they say
//! the newest values that they took themselves; from then on it hears every sample.

use std::sync::Arc;

use pulsewire_bus::{ChannelKind, Item, Topic};
use pulsewire_edge::clock;
use pulsewire_protocol::{ChannelName, Sample};
use serde_json::value::RawValue;

use super::Cluster;
use crate::app::App;

/// What the question is called.
pub(super) const KIND: &str = "newest";
/// Channels of one question that are answered.
const CHANNELS_MAX: usize = 1_000;
/// Samples of one message.
const SAMPLES_MAX: usize = 1_000;

/// Another node took samples, or said its newest again.
pub(super) fn take(app: &App, channel: &ChannelName, samples: Vec<Sample>, recalled: bool) {
    if recalled {
        app.bus.recall_samples(clock::now(), channel, samples);
    } else {
        app.bus.receive_samples(clock::now(), channel, samples);
    }
}

/// Asks the others for the newest values of those of these channels that are metric channels.
pub(super) fn recall(app: &App, cluster: &Cluster, names: &[ChannelName]) {
    let is_metric = |name: &&ChannelName| {
        app.bus.namespace(name).is_some_and(|namespace| namespace.kind == ChannelKind::Metrics)
    };
    let names: Vec<&str> = names.iter().filter(is_metric).map(ChannelName::as_str).collect();
    for names in names.chunks(CHANNELS_MAX) {
        cluster.tell(Topic::All, KIND, &names);
    }
}

/// Another node asks.
pub(super) fn answer(app: &Arc<App>, cluster: &Cluster, from: &str, body: &RawValue) {
    let Ok(names) = serde_json::from_str::<Vec<&str>>(body.get()) else { return };
    let names = names.into_iter().take(CHANNELS_MAX).filter_map(|name| ChannelName::parse(name).ok());
    for channel in names {
        for samples in app.bus.newest_samples(&channel).chunks(SAMPLES_MAX) {
            let item = Item::Samples { channel: channel.clone(), samples: samples.to_vec(), recalled: true };
            cluster.send(Topic::Node(from.into()), item);
        }
    }
}
