//! Numbers derived from events: the bus tells what passes, and once an interval they are published.

use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_bus::{Accepted, Now, Tap};
use pulsewire_edge::clock;
use pulsewire_sources::derive::{Derive, DeriveOptions, Heard, Nodes, Types};
use pulsewire_telemetry::{SampleSource, limited};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::app::App;
use crate::settings;

/// What is known of the events that passed here.
pub struct Derived {
    types: Types,
    derive: Mutex<Derive>,
}

impl Derived {
    /// Begins to count.
    #[must_use]
    pub fn new(settings: &settings::Derive, now: Now) -> Self {
        let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let options = DeriveOptions {
            window_ms: ms(settings.window),
            tasks_max: settings.tasks_max,
            task_idle_ms: ms(settings.task_idle_max),
        };
        let lists = settings.types();
        let types = lists
            .iter()
            .flat_map(|(_, meaning, types)| types.iter().map(|event_type| (*meaning, event_type.as_str())));
        Self { types: Types::new(types), derive: Mutex::new(Derive::new(&options, mono_ms(now))) }
    }
}

fn mono_ms(now: Now) -> u64 {
    now.mono_ns / 1_000_000
}

impl Tap for Derived {
    fn passed(&self, accepted: &Accepted, now: Now) {
        let event = &accepted.event;
        let Some(meaning) = self.types.meaning(event.event_type.as_str()) else { return };
        // The payload is read before the lock is taken.
        let heard = Heard::read(meaning, event.key.as_deref(), &event.channel, event.data.get());
        self.derive.lock().hear(heard, mono_ms(now));
    }
}

/// This node, which knows of no other.
const NODES: Nodes = Nodes { active: 1, total: 1 };

/// Starts to publish; ends when `stop` changes.
pub fn start(app: &Arc<App>, derived: Arc<Derived>, mut stop: watch::Receiver<bool>) {
    let mut interval = tokio::time::interval(app.live.load().settings.derive.interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let app = app.clone();
    tokio::spawn(async move {
        let mut forgotten_before = 0;
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                _ = stop.changed() => break,
            }
            let now = clock::now();
            let (collected, forgotten) = {
                let mut derive = derived.derive.lock();
                (derive.collect(NODES, mono_ms(now)), derive.forgotten())
            };
            app.telemetry.shared().derived_forgotten(forgotten - forgotten_before);
            forgotten_before = forgotten;
            for (channel, samples) in collected {
                match app.bus.publish_samples(now, SampleSource::Derived, &channel, samples) {
                    Ok(receipt) => {
                        for refused in receipt.refused {
                            limited!(warn, %channel, detail = refused.detail, "a derived number was not accepted");
                        }
                    }
                    Err(code) => limited!(warn, %channel, %code, "derived numbers were not accepted"),
                }
            }
        }
    });
}
