//! Numbers derived from events: the bus tells what passes, and once an interval they are published.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_bus::{Accepted, Now, Tap};
use pulsewire_edge::clock;
use pulsewire_protocol::{MetricKind, Number, Sample, Tags};
use pulsewire_sources::derive::{DISTRIBUTED, Derive, DeriveOptions, Heard, Nodes, Types};
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

/// How many nodes there are, this one included.
fn nodes(app: &App) -> Nodes {
    let Some(cluster) = &app.cluster else { return Nodes { active: 1, total: 1 } };
    let known = cluster.nodes.lock();
    let active = known.present().len() as u64 + 1;
    Nodes { active, total: active + known.missing().len() as u64 }
}

/// The numbers of `distributed.metrics` for all nodes, out of this one's and what the others say of themselves; none if
/// another node publishes them.
fn of_all(app: &App, samples: Vec<Sample>) -> Option<Vec<Sample>> {
    let own = samples.iter().filter(|sample| !sample.name.starts_with("nodes."));
    let own: BTreeMap<Box<str>, f64> =
        own.map(|sample| (sample.name.as_ref().into(), sample.value.as_f64())).collect();
    *app.tasks.lock() = own.clone();
    let Some(cluster) = &app.cluster else { return Some(samples) };
    let others = {
        let known = cluster.nodes.lock();
        if !known.is_first() {
            return None;
        }
        known.others(clock::now())
    };
    let others = others.into_values().filter(|other| !other.missing).map(|other| other.figures.tasks);
    Some(summed(samples, others))
}

/// Adds to a node's numbers those of others.
fn summed(mut samples: Vec<Sample>, others: impl Iterator<Item = BTreeMap<Box<str>, f64>>) -> Vec<Sample> {
    for (name, value) in others.flatten() {
        if !TASKS.contains(&&*name) {
            continue;
        }
        let sum = |known: f64| {
            let sum = ((known + value) * 1_000.0).round() / 1_000.0;
            // Whole numbers stay whole.
            if sum.fract() == 0.0 && sum.abs() < 1e15 { Number::from(sum as u64) } else { Number::from(sum) }
        };
        match samples.iter_mut().find(|sample| *sample.name == *name) {
            Some(sample) => sample.value = sum(sample.value.as_f64()),
            None => {
                let kind = if &*name == "tasks.completed" { MetricKind::Counter } else { MetricKind::Gauge };
                let (value, tags) = (sum(0.0), Tags::default());
                samples.push(Sample {
                    name: String::from(name).into(),
                    kind,
                    value,
                    tags,
                    timestamp_ms: None,
                });
            }
        }
    }
    samples
}

/// What is summed up over the nodes.
const TASKS: [&str; 4] = ["tasks.pending", "tasks.running", "tasks.completed", "throughput"];

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
                (derive.collect(nodes(&app), mono_ms(now)), derive.forgotten())
            };
            app.telemetry.shared().derived_forgotten(forgotten - forgotten_before);
            forgotten_before = forgotten;
            for (channel, samples) in collected {
                let shared = channel.as_str() == DISTRIBUTED;
                let Some(samples) = (if shared { of_all(&app, samples) } else { Some(samples) }) else {
                    continue;
                };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(samples: &[Sample]) -> String {
        let one = |sample: &Sample| format!("{}={}", sample.name, sample.value.as_f64());
        samples.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn gauge(name: &'static str, value: impl Into<Number>) -> Sample {
        let (value, tags) = (value.into(), Tags::default());
        Sample { name: name.into(), kind: MetricKind::Gauge, value, tags, timestamp_ms: None }
    }

    #[test]
    fn the_tasks_of_all_nodes_are_added_up_and_the_nodes_are_not() {
        let own = vec![gauge("nodes.active", 3_u64), gauge("tasks.pending", 2_u64), gauge("throughput", 0.5)];
        let other = |pairs: &[(&str, f64)]| {
            pairs.iter().map(|(name, value)| ((*name).into(), *value)).collect::<BTreeMap<Box<str>, f64>>()
        };
        let others = [
            other(&[("tasks.pending", 3.0), ("nodes.active", 3.0), ("tasks.running", 1.0)]),
            other(&[("throughput", 0.25), ("of a newer version", 9.0)]),
        ];
        let all = summed(own, others.into_iter());
        assert_eq!(shown(&all), "nodes.active=3 tasks.pending=5 throughput=0.75 tasks.running=1");
    }
}
