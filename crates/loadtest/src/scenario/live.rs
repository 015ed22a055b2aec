//! A load that lasts, for looking at a server while it is under it.

use std::time::Duration;

use super::latency::{Load, at_rate_telling};
use super::{Bench, Progress, history, percentiles};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;

/// Subscribers, where nobody says otherwise.
const SUBSCRIBERS: usize = 200;
/// Subscribers of one channel.
const AUDIENCE: usize = 10;
/// Deliveries a second, where nobody says otherwise: 20 to each.
const DELIVERIES_PER_SECOND: u32 = 4_000;
/// The padding of an event: with it a reader that stops fills its outbox within half a minute.
const PAD_BYTES: usize = 1_024;
/// Publications a second of one publisher, well below the default of `limits.messages_per_minute`.
const PER_PUBLISHER: usize = 12;

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let subscribers = bench.connections_or(SUBSCRIBERS).max(AUDIENCE) / AUDIENCE * AUDIENCE;
    let deliveries = bench.rate.unwrap_or(DELIVERIES_PER_SECOND) as usize;
    let rate = (deliveries / AUDIENCE).max(1);
    let mut target = bench.server()?;
    progress.say(format!("connecting {subscribers}"));
    let plan =
        Plan { subscribers, channels: subscribers / AUDIENCE, publishers: rate.div_ceil(PER_PUBLISHER) };
    let mut fleet = Fleet::gather(&mut target, plan)?;
    let closed = |fleet: &Fleet<'_>| -> anyhow::Result<f64> {
        Ok(fleet.target.scrape()?.sum("websocket_closes_total", &["code=\"4004\""]))
    };
    let closed_before = closed(&fleet)?;
    let slow = fleet.slow_count();
    let load = Load {
        channels: plan.channels,
        rate,
        duration: bench.duration,
        pad: Some(bench.size.unwrap_or(PAD_BYTES)),
    };
    let whole = bench.duration.as_secs();
    let latency = at_rate_telling(&mut fleet, load, &mut |book, passed: Duration| {
        let Some(latency) = &book.latency else { return };
        let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
        let passed = passed.as_secs();
        progress.through(passed, whole);
        progress.say(format!(
            "{:.0}/s   p50 {:.1}  p95 {:.1}  p99 {:.1} ms   {slow} slow",
            latency.len() as f64 / passed.max(1) as f64,
            ms(0.5),
            ms(0.95),
            ms(0.99)
        ));
    })?;
    let per_second = latency.len() as f64 / bench.duration.as_secs_f64();
    let mut figures = vec![Figure::new("live_deliveries", per_second, "/s").note("to readers that keep up")];
    figures.extend(percentiles("live", &latency));
    if slow > 0 {
        let closed = closed(&fleet)? - closed_before;
        figures.push(
            Figure::new("live_slow_readers", slow as f64, "").note("further readers that do not keep up"),
        );
        figures.push(
            Figure::new("live_slow_closed", closed, "").note("closed as slow_consumer (4004) meanwhile"),
        );
    }
    figures.extend(history("live", &fleet));
    Ok(figures)
}
