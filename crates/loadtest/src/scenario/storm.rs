//! Everybody at once.

use std::time::Instant;

use super::{Bench, Progress};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;

/// Connections being made at the same time: about what a listening socket queues.
const GATHERING: usize = 2_000;

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let connections = bench.connections_or(10_000);
    let plan = Plan { subscribers: connections, channels: connections.min(1_000), publishers: 0 };
    let mut target = bench.server()?;
    let mut figures = Vec::new();
    for name in ["storm_first", "storm_again"] {
        progress.say(format!("{connections} connections at once"));
        let before = target.usage()?;
        let begun = Instant::now();
        let fleet = Fleet::gather_at(&mut target, plan, GATHERING)?;
        let elapsed = begun.elapsed().as_secs_f64();
        let after = fleet.target.usage()?;
        let cpu_us = (after.cpu_ns - before.cpu_ns) as f64 / 1_000.0 / connections as f64;
        let p99 = fleet.book.greeting.value_at_quantile(0.99) as f64 / 1_000.0;
        figures.push(Figure::new(format!("{name}_s"), elapsed, "s").note("until the last one is subscribed"));
        figures.push(Figure::new(format!("{name}_rate"), connections as f64 / elapsed, "/s"));
        figures.push(
            Figure::new(format!("{name}_cpu_us"), cpu_us, "µs")
                .note("server CPU per connection: accept, handshake, token, session, subscription"),
        );
        figures.push(Figure::new(format!("{name}_ready_p99_ms"), p99, "ms").note("connect to subscribed"));
    }
    Ok(figures)
}
