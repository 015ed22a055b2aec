//! What a series costs in memory, and a sample in CPU time, however many share a view.

use std::time::{Duration, Instant};

use super::feed::{Fed, Feed, NAMES, TOGETHER, host_name};
use super::{CHANNEL, grown, taken};
use crate::listeners::{Listeners, Stamp};
use crate::process::Usage;
use crate::report::Figure;
use crate::scenario::{Bench, Progress};
use crate::scrape::Scrape;
use crate::target::Target;

/// Different subscriptions, each of one host: half are sent each sample, half the figures of a second.
const VIEWS: usize = 10;
/// Subscribers of each view, where they are many.
const SHARING: usize = 100;

/// One stretch of the load.
struct Stretch {
    fed: Fed,
    cpu_us: f64,
    messages: f64,
}

impl Stretch {
    fn per_sample_us(&self) -> f64 {
        self.cpu_us / self.fed.accepted as f64
    }

    /// Without what the deliveries cost.
    fn net_per_sample_us(&self, delivery_us: f64) -> f64 {
        (self.cpu_us - self.messages * delivery_us) / self.fed.accepted as f64
    }
}

pub(super) fn run(bench: &Bench, progress: &Progress, delivery_us: f64) -> anyhow::Result<Vec<Figure>> {
    let series = bench.connections_or(10_000).max(TOGETHER) / TOGETHER * TOGETHER;
    let sharing = SHARING.min((bench.connections_or(10_000) / VIEWS).max(2));
    // Kept as a server keeps them: with a file, what waits for it in memory is written and forgotten.
    let target = bench.server_with(&["store.url=sqlite", "series.per_channel_max=20000"])?;
    let origin = Instant::now();
    let mut listeners = Listeners::new(&target, origin)?;
    join(&mut listeners, 1)?;
    let feed =
        |duration: Duration| Feed { hosts: series / NAMES, rate: series, duration: duration.max(SECOND) };
    let look = || -> anyhow::Result<(Scrape, Usage)> { Ok((target.scrape()?, target.usage()?)) };
    let empty = look()?;
    progress.say(format!("{series} series of a sample a second for {:?}", bench.duration));
    let first = stretch(&mut listeners, &target, feed(bench.duration), origin)?;
    let early = look()?;
    let alone = stretch(&mut listeners, &target, feed(bench.duration), origin)?;
    let late = look()?;
    progress.say(format!("the same with {sharing} subscribers of each view"));
    join(&mut listeners, sharing - 1)?;
    let shared = stretch(&mut listeners, &target, feed(bench.duration), origin)?;
    let (end, _) = look()?;
    let sent: u64 = [&first, &alone, &shared].iter().map(|stretch| stretch.fed.sent).sum();
    let each = |bytes: f64| bytes / series as f64;
    let heap = |looked: &(Scrape, Usage)| looked.0.sum("pulsewire_heap_allocated_bytes", &[]);
    let resident = |looked: &(Scrape, Usage)| looked.1.anonymous_bytes as f64;
    let seconds = first.fed.seconds + alone.fed.seconds;
    let ratio = shared.net_per_sample_us(delivery_us) / alone.net_per_sample_us(delivery_us);
    Ok(vec![
        Figure::new("metrics_series_heap_bytes", each(heap(&late) - heap(&empty)), "B").note(format!(
            "per series, growth of what the allocator has given out, after {seconds:.0} s of a sample a second"
        )),
        Figure::new("metrics_series_heap_half_bytes", each(heap(&early) - heap(&empty)), "B")
            .note("the same after half of that time"),
        Figure::new("metrics_series_resident_bytes", each(resident(&late) - resident(&empty)), "B")
            .note("per series, growth of anonymous resident memory"),
        Figure::new("metrics_series_at_hand", end.sum("pulsewire_metric_series", &[]), "")
            .at_least(series as f64),
        Figure::new(
            "metrics_series_not_accepted",
            sent as f64 - taken(&empty.0, &end),
            "",
        )
        .at_most(0.0)
        .note("sent, and not in the server's own count"),
        Figure::new("metrics_series_late", grown(&empty.0, &end, "pulsewire_samples_late_total", &[]), "")
            .at_most(0.0),
        Figure::new("metrics_sample_alone_us", alone.per_sample_us(), "µs").note(format!(
            "server CPU per sample, {VIEWS} views with one subscriber each; HTTP, roll-ups and keeping included"
        )),
        Figure::new("metrics_sample_shared_us", shared.per_sample_us(), "µs").note(format!(
            "the same with {sharing} subscribers of each view: {:.0} deliveries a second instead of {:.0}",
            shared.messages / shared.fed.seconds,
            alone.messages / alone.fed.seconds
        )),
        Figure::new("metrics_sample_ratio", ratio, "").at_most(1.5).note(format!(
            "shared to alone, without {delivery_us:.1} µs for each delivery ({})",
            super::crowd::CPU
        )),
    ])
}

const SECOND: Duration = Duration::from_secs(1);

/// So many more subscribers of each view.
fn join(listeners: &mut Listeners<'_>, count: usize) -> anyhow::Result<()> {
    let wanted = |index: usize| {
        let view = index % VIEWS;
        let interval = if view < VIEWS / 2 { "" } else { r#","aggregation_interval":"1s""# };
        format!(
            r#""channels":["{CHANNEL}"],"tags":{{"host":"{}"}},"shape":"grouped"{interval}"#,
            host_name(view)
        )
    };
    listeners.join(count * VIEWS, Stamp::Nowhere, wanted).map(|_| ())
}

fn stretch(
    listeners: &mut Listeners<'_>,
    target: &Target,
    feed: Feed,
    origin: Instant,
) -> anyhow::Result<Stretch> {
    listeners.forget()?;
    let before = target.usage()?;
    let fed = feed.run(listeners, origin)?;
    let cpu_us = (target.usage()?.cpu_ns - before.cpu_ns) as f64 / 1_000.0;
    let messages = listeners.groups().iter().map(|group| group.messages).sum::<u64>() as f64;
    Ok(Stretch { fed, cpu_us, messages })
}
