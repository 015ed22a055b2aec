//! Latency at a fixed rate, open loop.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;

use super::{Bench, Progress, history, percentiles};
use crate::fleet::{Book, Fleet, Plan};
use crate::report::Figure;

/// Deliveries a second over all subscribers.
const DELIVERIES_PER_SECOND: usize = 10_000;
/// Subscribers of one channel.
const AUDIENCE: usize = 10;

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let subscribers = bench.connections_or(10_000).max(AUDIENCE) / AUDIENCE * AUDIENCE;
    let mut target = bench.server()?;
    progress.say(format!("connecting {subscribers}"));
    let plan = Plan { subscribers, channels: subscribers / AUDIENCE, publishers: 4 };
    let mut fleet = Fleet::gather(&mut target, plan)?;
    fleet.lockstep(20, 1)?;
    let scraped = fleet.target.scrape()?;
    progress.say(format!("{DELIVERIES_PER_SECOND} deliveries a second for {:?}", bench.duration));
    let latency = at_rate(&mut fleet, plan.channels, DELIVERIES_PER_SECOND / AUDIENCE, bench.duration, None)?;
    let mut figures = percentiles("latency", &latency);
    let stage = ["stage=\"kernel\""];
    if let Some(bound) = fleet.target.scrape()?.quantile(&scraped, "pulsewire_stage_seconds", &stage, 0.99) {
        let figure = Figure::new("latency_accepted_to_kernel_p99_ms", bound * 1_000.0, "ms").at_most(10.0);
        figures.push(figure.note("the server's own histogram: at most this, by its buckets"));
    }
    figures.extend(history("latency", &fleet));
    Ok(figures)
}

/// What is published for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) channels: usize,
    /// Publications a second.
    pub(super) rate: usize,
    pub(super) duration: Duration,
    /// The padding of an event, when it is not the usual.
    pub(super) pad: Option<usize>,
}

/// Publishes at a fixed rate and gives the latencies of all deliveries in microseconds, from the time each publication
/// was meant to leave. `pad` is the padding of an event when it is not the usual.
pub(super) fn at_rate(
    fleet: &mut Fleet<'_>,
    channels: usize,
    rate: usize,
    duration: Duration,
    pad: Option<usize>,
) -> anyhow::Result<Histogram<u64>> {
    at_rate_telling(fleet, Load { channels, rate, duration, pad }, &mut |_, _| {})
}

/// The same, telling once a second how it goes.
pub(super) fn at_rate_telling(
    fleet: &mut Fleet<'_>,
    load: Load,
    tell: &mut dyn FnMut(&Book, Duration),
) -> anyhow::Result<Histogram<u64>> {
    let readers = fleet.readers_of_each() as u64;
    fleet.book.latency = Some(Histogram::new_with_max(60_000_000, 3)?);
    let begun = Instant::now();
    let every = Duration::from_secs(1) / load.rate as u32;
    let (delivered, acks) = (fleet.book.delivered, fleet.book.acks);
    let mut sent = 0_u32;
    let total = (load.duration.as_nanos() / every.as_nanos()) as u32;
    while sent < total {
        let meant = begun + every * sent;
        if Instant::now() < meant {
            fleet.turn(meant)?;
            continue;
        }
        let channel = sent as usize % load.channels;
        match load.pad {
            Some(pad) => fleet.publish_padded(channel, 1, meant, pad)?,
            None => fleet.publish(channel, 1, meant)?,
        }
        sent += 1;
        if (sent as usize).is_multiple_of(load.rate) {
            tell(&fleet.book, begun.elapsed());
        }
    }
    let delivered = delivered + u64::from(sent) * readers;
    fleet.until(|book| book.delivered >= delivered && book.acks >= acks + u64::from(sent))?;
    fleet.book.latency.take().context("the latencies are gone")
}
