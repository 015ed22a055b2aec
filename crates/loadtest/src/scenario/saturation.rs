//! As much as goes: a closed loop that keeps four publications under way.

use std::time::Instant;

use super::{Bench, Progress, history, median};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;
use crate::target::Target;

/// Publications that not everybody has yet.
const UNDER_WAY: u64 = 4;

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let size = bench.connections_or(1_000);
    let (mut server, mut floor) = (Vec::new(), Vec::new());
    let mut last = Vec::new();
    for round in 1..=bench.rounds {
        progress.say(format!("round {round}, bare loop"));
        floor.push(measure(bench, bench.floor()?, size)?.0);
        progress.say(format!("round {round}, server"));
        let (figures, checked) = measure(bench, bench.server()?, size)?;
        server.push(figures);
        last = checked;
    }
    let rate = |runs: &[(f64, f64)]| median(runs.iter().map(|(rate, _)| *rate).collect());
    let cpu = |runs: &[(f64, f64)]| median(runs.iter().map(|(_, cpu)| *cpu).collect());
    let mut figures = vec![
        Figure::new("saturation_per_cpu_second", 1_000_000.0 / cpu(&server), "/s").at_least(800_000.0).note(
            "deliveries per second of server CPU. A write carries what was published since the connection's \
                 last one; probably not all four of the window, for which it would have to wait",
        ),
        Figure::new("saturation_cpu_us", cpu(&server), "µs").note("server CPU per delivery"),
        Figure::new("saturation_deliveries", rate(&server), "/s")
            .note("by the clock, beside whatever else ran"),
        Figure::new("saturation_floor_deliveries", rate(&floor), "/s")
            .note("the bare loop, one send per delivery"),
        Figure::new("saturation_floor_us", cpu(&floor), "µs"),
    ];
    figures.extend(last);
    Ok(figures)
}

/// Deliveries a second and CPU per delivery.
fn measure(bench: &Bench, mut target: Target, size: usize) -> anyhow::Result<((f64, f64), Vec<Figure>)> {
    let publishers = usize::from(!target.is_floor());
    let mut fleet = Fleet::gather(&mut target, Plan { subscribers: size, channels: 1, publishers })?;
    fleet.lockstep(5, 1)?;
    fleet.open_window();
    let before = fleet.target.usage()?;
    let delivered = fleet.book.delivered;
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < bench.duration / 2 {
        let complete = fleet.book.window.as_ref().map_or(0, |window| window.complete);
        while sent < complete + UNDER_WAY {
            fleet.publish(0, 1, Instant::now())?;
            sent += 1;
        }
        fleet.turn(Instant::now() + std::time::Duration::from_millis(100))?;
    }
    fleet.until(|book| book.window.as_ref().is_some_and(|window| window.complete >= sent))?;
    let elapsed = begun.elapsed().as_secs_f64();
    let after = fleet.target.usage()?;
    let deliveries = (fleet.book.delivered - delivered) as f64;
    let cpu_us = (after.cpu_ns - before.cpu_ns) as f64 / 1_000.0 / deliveries;
    Ok(((deliveries / elapsed, cpu_us), history("saturation", &fleet)))
}
