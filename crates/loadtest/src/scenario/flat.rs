//! Whether a delivery costs the same beside many other connections and channels.

use super::{Bench, Progress, cpu_per_unit, median};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;

const READERS: usize = 1_000;
const ROUNDS: usize = 150;

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let others = bench.connections_or(15_000).saturating_sub(READERS);
    let mut alone = Vec::new();
    let mut crowded = Vec::new();
    for round in 1..=bench.rounds {
        for (out, others) in [(&mut alone, 0), (&mut crowded, others)] {
            progress.say(format!("round {round}, beside {others} others"));
            let mut target = bench.server()?;
            let mut fleet =
                Fleet::gather(&mut target, Plan { subscribers: READERS, channels: 1, publishers: 1 })?;
            fleet.crowd(others)?;
            fleet.lockstep(5, 1)?;
            let units = (ROUNDS * READERS) as f64;
            out.push(cpu_per_unit(&mut fleet, units, |fleet| fleet.lockstep(ROUNDS, 1))?);
        }
    }
    let (alone, crowded) = (median(alone), median(crowded));
    let total = READERS + others;
    Ok(vec![
        Figure::new("flat_alone_us", alone, "µs")
            .note("server CPU per delivery, 1,000 connections on 1 channel"),
        Figure::new("flat_crowded_us", crowded, "µs")
            .note(format!("the same 1,000 among {total} connections on {} channels", others + 1)),
        Figure::new("flat_ratio", crowded / alone, "").at_most(1.15),
    ])
}
