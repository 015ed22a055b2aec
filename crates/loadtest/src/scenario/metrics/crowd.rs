//! A thousand and ten thousand clients of `system.metrics`, and what one client is sent in each form.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{PATIENCE, accepted_to_kernel, receipt};
use crate::fleet::{Fleet, Plan};
use crate::listeners::{Listeners, Stamp};
use crate::report::Figure;
use crate::scenario::{Bench, Progress, cpu_per_unit};
use crate::scrape::Scrape;
use crate::target::Target;

/// Long enough to read what waits.
const SETTLE: Duration = Duration::from_millis(500);
/// Rounds of the bare loop: the first ones find their pace.
const FLOOR_WARM: usize = 3;
const FLOOR_ROUNDS: usize = 20;

/// What one delivery costs the server when everybody is sent the same.
pub(super) const CPU: &str = "metrics_10k_cpu_us";

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let target = bench.server_with(&["collector.enabled=true"])?;
    let clients = bench.connections_or(10_000);
    let mut figures = crowd(bench, progress, &target, clients.min(1_000), "metrics_1k")?;
    figures.extend(crowd(bench, progress, &target, clients, "metrics_10k")?);
    figures.push(collected(&target)?);
    figures.push(floor(bench, clients)?);
    progress.say("one client in each form");
    figures.extend(bytes(bench, &target)?);
    Ok(figures)
}

fn crowd(
    bench: &Bench,
    progress: &Progress,
    target: &Target,
    clients: usize,
    name: &str,
) -> anyhow::Result<Vec<Figure>> {
    progress.say(format!("connecting {clients}"));
    let mut listeners = Listeners::new(target, Instant::now())?;
    let group = listeners.join(clients, Stamp::Clock, |_| r#""channels":["system.metrics"]"#.to_owned())?;
    let before = target.scrape()?;
    // What came while nobody read is no measurement.
    listeners.rest(SETTLE)?;
    listeners.forget()?;
    let (usage, begun) = (target.usage()?, Instant::now());
    progress.say(format!("{clients} clients of system.metrics for {:?}", bench.duration));
    listeners.rest(bench.duration)?;
    let said = listeners.until(PATIENCE, |groups| groups[group].messages > 0)?;
    ensure!(said, "the collector says nothing");
    let (used, took) = (target.usage()?, begun.elapsed().as_secs_f64());
    let after = target.scrape()?;
    let group = listeners.group(group);
    let messages = group.messages as f64;
    let cpu_ns = (used.cpu_ns - usage.cpu_ns) as f64;
    let mut figures = vec![
        Figure::new(format!("{name}_messages"), messages / took, "/s").note(format!(
            "to {clients} clients of one channel, {:.0} B each",
            group.bytes as f64 / messages
        )),
        Figure::new(format!("{name}_cpu_us"), cpu_ns / 1_000.0 / messages, "µs")
            .note("server CPU per delivery, collecting and heartbeats included"),
        Figure::new(format!("{name}_cpu_percent"), cpu_ns / 1e9 / took * 100.0, "%").note("of one core"),
        accepted_to_kernel(
            name,
            &before,
            &after,
            "the server's own histogram: at most this, by its buckets. On one CPU the last client is written to after \
             all others, which the bare loop does not do faster: metrics_floor_span_ms",
        )?,
    ];
    let note = "from the document's timestamp, which the collector takes before its work";
    figures.extend(receipt(name, &group.latency, note));
    figures.push(Figure::new(format!("{name}_dropped"), group.dropped as f64, "").at_most(0.0));
    Ok(figures)
}

/// How long rounds of the collector took since the server began.
fn collected(target: &Target) -> anyhow::Result<Figure> {
    let bound = target
        .scrape()?
        .quantile(&Scrape::default(), "pulsewire_collector_seconds", &[], 0.99)
        .context("the collector counted no round")?;
    Ok(Figure::new("metrics_collection_p99_ms", bound * 1_000.0, "ms")
        .at_most(50.0)
        .note("one round of the host collector, by the server's buckets"))
}

/// The CPU time of a bare loop that writes one message to each client.
fn floor(bench: &Bench, clients: usize) -> anyhow::Result<Figure> {
    let mut floor = bench.floor()?;
    let mut fleet = Fleet::gather(&mut floor, Plan { subscribers: clients, channels: 1, publishers: 0 })?;
    fleet.lockstep(FLOOR_WARM, 1)?;
    let span_us = cpu_per_unit(&mut fleet, FLOOR_ROUNDS as f64, |fleet| fleet.lockstep(FLOOR_ROUNDS, 1))?;
    Ok(Figure::new("metrics_floor_span_ms", span_us / 1_000.0, "ms")
        .note(format!("what a bare loop on one CPU takes to write one message to each of {clients} clients")))
}

/// The forms that are weighed: a name, and the members of the subscription.
const FORMS: [(&str, &str); 2] = [
    ("grouped", r#""channels":["system.metrics"]"#),
    ("points_1s", r#""channels":["system.metrics"],"aggregation_interval":"1s","shape":"points""#),
];

fn bytes(bench: &Bench, target: &Target) -> anyhow::Result<Vec<Figure>> {
    let mut listeners = Listeners::new(target, Instant::now())?;
    let mut groups = Vec::new();
    for (name, wanted) in FORMS {
        let json = listeners.join(1, Stamp::Nowhere, |_| wanted.to_owned())?;
        let packed = listeners.join(1, Stamp::Nowhere, |_| format!("{wanted},\"compression\":true"))?;
        groups.push((name, json, packed));
    }
    listeners.forget()?;
    listeners.rest(bench.duration)?;
    let said = listeners.until(PATIENCE, |groups| groups.iter().all(|group| group.messages > 0))?;
    ensure!(said, "not every form was sent something");
    let mut figures = Vec::new();
    for (name, json, packed) in groups {
        let each = |group: usize| {
            let group = listeners.group(group);
            group.bytes as f64 / group.messages as f64
        };
        let (json, packed) = (each(json), each(packed));
        figures.extend([
            Figure::new(format!("metrics_bytes_{name}_json"), json, "B")
                .note("a message on the wire, its frame included"),
            Figure::new(format!("metrics_bytes_{name}_msgpack"), packed, "B"),
            Figure::new(format!("metrics_bytes_{name}_ratio"), packed / json, "")
                .at_most(1.0)
                .note("MessagePack to JSON"),
        ]);
    }
    Ok(figures)
}
