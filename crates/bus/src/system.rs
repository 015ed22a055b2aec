//! The server's own channels (`$sys.…`): what happens inside is told on them to whoever listens, and nothing of it
//! is kept, tapped or counted as an application's.
//!
//! They begin to exist when somebody subscribes to them, under names that say what is asked. So those that nobody
//! listens to any more are forgotten at the next look, not when the table of channels is full.

use std::sync::{Arc, Weak};

use pulsewire_protocol::{Event, EventType, Sequence};
use serde_json::value::RawValue;

use crate::{Accepted, Body, Bus, Channel, ChannelKind, Now, Publication};

/// The type under which what is told on them is counted.
const COUNTED_AS: &str = "sys";

impl Bus {
    /// The server's own channels that somebody listens to and that keep nothing, in the order in which they came to
    /// be. Those that nobody listens to are forgotten.
    pub fn system_channels(&self) -> Vec<Arc<Channel>> {
        let mut all: Vec<Arc<Channel>> = self.system.lock().iter().filter_map(Weak::upgrade).collect();
        let known = all.len();
        all.retain(|channel| channel.listeners() > 0);
        if all.len() < known {
            self.forget_system();
        }
        // What is kept is no answer to anybody: it is between the nodes.
        all.retain(|channel| channel.kind != ChannelKind::Log);
        all
    }

    fn forget_system(&self) {
        let mut channels = self.channels.write();
        self.system.lock().retain(|channel| {
            let Some(channel) = channel.upgrade() else { return false };
            // The table's and the one here: nobody else has it at hand to begin to listen.
            let forgotten = Arc::strong_count(&channel) <= 2 && channel.is_idle();
            if forgotten && channels.get(&channel.name).is_some_and(|listed| listed.id == channel.id) {
                channels.remove(&channel.name);
            }
            !forgotten
        });
    }

    /// Tells the listeners of one of the server's own channels something. Returns whether they are told: if their
    /// shards have no room, they are not. It counts as no delivery whose latency matters.
    pub fn tell_system(
        &self,
        channel: &Arc<Channel>,
        event_type: EventType,
        data: Box<RawValue>,
        now: Now,
    ) -> bool {
        debug_assert!(channel.name.is_system(), "applications publish");
        if self.is_crowded(channel) {
            return false;
        }
        let event = Event::new(channel.name.clone(), event_type, data);
        let accepted = Arc::new(Accepted { event, user: None, timestamp_ms: now.wall_ms });
        let counted_as = self.telemetry.event_types().intern(COUNTED_AS);
        let publication =
            Publication::new(channel.clone(), Sequence::ZERO, 0, counted_as, Body::Event(accepted));
        self.deliver_ephemeral(&[Arc::new(publication)]);
        true
    }
}
