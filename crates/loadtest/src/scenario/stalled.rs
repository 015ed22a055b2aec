//! Readers that stop reading beside others that do not.

use std::time::{Duration, Instant};

use super::{Bench, Progress, history, latency::at_rate};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;

const LIVE: usize = 200;
const STALLED: usize = 50;
const RATE: usize = 50;
const PAD_BYTES: usize = 4_096;
/// The outbox plus what the kernel may hold unsent, per reader: the design's bound on what a stalled reader costs.
const BOUND_BYTES: f64 = (64 * 1024) as f64;

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let mut target = bench.server()?;
    let mut fleet = Fleet::gather(&mut target, Plan { subscribers: LIVE, channels: 1, publishers: 1 })?;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(fleet.bystander(16 * 1024)?);
    }
    let settle = Instant::now() + Duration::from_secs(1);
    while Instant::now() < settle {
        fleet.turn(settle)?;
    }
    let phase = bench.duration / 2;
    progress.say("everybody reads");
    at_rate(&mut fleet, 1, RATE, Duration::from_secs(1), Some(PAD_BYTES))?;
    let alone = at_rate(&mut fleet, 1, RATE, phase, Some(PAD_BYTES))?;
    let before = fleet.target.usage()?;
    for peer in &stalled {
        fleet.stall(*peer, true);
    }
    progress.say(format!("{STALLED} have stopped reading"));
    let beside = at_rate(&mut fleet, 1, RATE, phase, Some(PAD_BYTES))?;
    let after = fleet.target.usage()?;
    for peer in &stalled {
        fleet.stall(*peer, false);
    }
    let settle = Instant::now() + Duration::from_secs(2);
    while Instant::now() < settle {
        fleet.turn(settle)?;
    }
    let p99 = |histogram: &hdrhistogram::Histogram<u64>| histogram.value_at_quantile(0.99) as f64 / 1_000.0;
    let growth = after.anonymous_bytes.saturating_sub(before.anonymous_bytes) as f64 / STALLED as f64;
    let slow = fleet.book.closed.get(&4004).copied().unwrap_or(0);
    let cut = fleet.book.closed.values().sum::<u64>() - slow;
    let mut figures = vec![
        Figure::new("stalled_p99_alone_ms", p99(&alone), "ms").note("the live readers before anybody stalls"),
        Figure::new("stalled_p99_beside_ms", p99(&beside), "ms")
            .note("the live readers beside the stalled ones"),
        Figure::new("stalled_p99_ratio", p99(&beside) / p99(&alone), "")
            .at_most(1.25)
            .note("unchanged, within noise"),
        Figure::new("stalled_growth_bytes", growth, "B")
            .at_most(BOUND_BYTES * 1.25)
            .note("server memory per stalled reader: its outbox of 64 KiB and bookkeeping"),
        Figure::new("stalled_closed_4004", slow as f64, "")
            .note(format!("of {STALLED}; the code lets them resume")),
        Figure::new("stalled_closed_otherwise", cut as f64, "")
            .note("reset before the close frame could be read, or by another code"),
    ];
    figures.extend(history("stalled", &fleet));
    Ok(figures)
}
