//! Readers that stop reading beside others that do not.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Bench, Progress, history, latency::at_rate, median};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;

const LIVE: usize = 200;
const STALLED: usize = 50;
const RATE: usize = 50;
const PAD_BYTES: usize = 4_096;
/// A stalled reader's outbox, in bytes: the default of `limits.outbox_bytes_max`.
const OUTBOX_BYTES: f64 = 65_536.0;
/// By now the kernel's buffers and the outbox of a stalled reader are full, and none is closed yet.
const FULL_AFTER: Duration = Duration::from_millis(2_500);
/// By now every stalled reader is closed: `limits.slow_after` and some seconds.
const CLOSED_AFTER: Duration = Duration::from_secs(5);

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let mut target = bench.server_with(&["limits.slow_after=3s"])?;
    let mut fleet = Fleet::gather(&mut target, Plan { subscribers: LIVE, channels: 1, publishers: 1 })?;
    let load = |fleet: &mut Fleet<'_>, duration| at_rate(fleet, 1, RATE, duration, Some(PAD_BYTES));
    load(&mut fleet, Duration::from_secs(1))?;
    let (mut alone, mut beside, mut growth) = (Vec::new(), Vec::new(), Vec::new());
    let closed = |fleet: &Fleet<'_>| -> anyhow::Result<f64> {
        Ok(fleet.target.scrape()?.sum("websocket_closes_total", &["code=\"4004\""]))
    };
    let closed_before = closed(&fleet)?;
    for round in 1..=bench.rounds {
        progress.say(format!("round {round}, everybody reads"));
        let mut stalled = Vec::new();
        for _ in 0..STALLED {
            stalled.push(fleet.bystander(16 * 1024)?);
        }
        fleet.rest(Duration::from_millis(500))?;
        alone.push(p99(&load(&mut fleet, FULL_AFTER + CLOSED_AFTER)?));
        let before = fleet.target.usage()?;
        for peer in &stalled {
            fleet.stall(*peer, true);
        }
        progress.say(format!("round {round}, {STALLED} have stopped reading"));
        let mut latency = load(&mut fleet, FULL_AFTER)?;
        let after = fleet.target.usage()?;
        latency.add(load(&mut fleet, CLOSED_AFTER)?)?;
        beside.push(p99(&latency));
        growth.push(after.anonymous_bytes.saturating_sub(before.anonymous_bytes) as f64 / STALLED as f64);
        for peer in stalled {
            fleet.drop_peer(peer);
        }
    }
    let closed_slow = closed(&fleet)? - closed_before;
    let stalled = (STALLED * bench.rounds) as f64;
    // The memory of a closed reader is used again by the next round's.
    let growth = growth.into_iter().fold(0.0, f64::max);
    let (alone, beside) = (median(alone), median(beside));
    let mut figures = vec![
        Figure::new("stalled_p99_alone_ms", alone, "ms").note("the live readers while everybody reads"),
        Figure::new("stalled_p99_beside_ms", beside, "ms").note("the live readers beside the stalled ones"),
        Figure::new("stalled_p99_ratio", beside / alone, "").at_most(1.25).note("unchanged, within noise"),
        Figure::new("stalled_growth_bytes", growth, "B")
            .at_most(OUTBOX_BYTES * 1.25)
            .note("server memory per stalled reader with everything full: its outbox and bookkeeping"),
        Figure::new("stalled_closed", closed_slow, "")
            .at_least(stalled)
            .note(format!("closed as slow_consumer, of {stalled}; the code lets them resume")),
    ];
    figures.extend(history("stalled", &fleet));
    Ok(figures)
}

fn p99(histogram: &Histogram<u64>) -> f64 {
    histogram.value_at_quantile(0.99) as f64 / 1_000.0
}
