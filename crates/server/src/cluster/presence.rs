//! Who is where, told between nodes.
//!
//! What is said and what is made of it is decided in [`pulsewire_hub::Presence`]; here it is carried.

use std::sync::Arc;
use std::time::Duration;

use pulsewire_bus::{Item, Topic};
use pulsewire_edge::clock;
use pulsewire_hub::{ReplicaOptions, Said};
use pulsewire_telemetry::limited;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::Cluster;
use crate::app::App;

/// What its messages are called.
pub(super) const KIND: &str = "presence";
/// How often is looked whether something is to be said.
const LOOK: Duration = Duration::from_millis(100);

/// Shares this node's presence with the others from now on.
pub(super) fn start(app: &Arc<App>, cluster: &Arc<Cluster>, mut stopped: watch::Receiver<bool>) {
    let bus = app.bus.clone();
    let rules = Arc::new(move |channel: &_| bus.namespace(channel)?.presence);
    app.hub.presence.replicate(ReplicaOptions { rules, ..ReplicaOptions::default() });
    let (app, cluster) = (app.clone(), cluster.clone());
    tokio::spawn(async move {
        let mut every = tokio::time::interval(LOOK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = every.tick() => say(&app, &cluster),
                _ = stopped.changed() => return,
            }
        }
    });
}

fn say(app: &App, cluster: &Cluster) {
    for Said { to, body } in app.hub.presence.outgoing(clock::now(), cluster.is_connected()) {
        let topic = to.map_or(Topic::All, Topic::Node);
        cluster.send(topic, Item::Other { kind: KIND.into(), body });
    }
}

/// Another node said something.
pub(super) fn hear(app: &App, cluster: &Cluster, from: &str, body: &RawValue) {
    if let Err(error) = app.hub.presence.hear(from, body, clock::now()) {
        limited!(warn, from, %error, "what another node says of its presence was refused");
    }
    // It may have asked for something.
    say(app, cluster);
}
