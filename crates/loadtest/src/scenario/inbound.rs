//! Messages from clients.

use std::time::Instant;

use super::{Bench, Progress, cpu_per_unit};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;

const CLIENTS: usize = 64;
const AT_A_TIME: usize = 50;
const ROUNDS: usize = 60;

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let mut target = bench.server()?;
    let mut fleet = Fleet::gather(&mut target, Plan { subscribers: 1, channels: 1, publishers: CLIENTS })?;
    let ping = format!(r#"{{"type":"ping","timestamp":1,"pad":"{}"}}"#, "x".repeat(160));
    let round = |fleet: &mut Fleet<'_>| {
        let pongs = fleet.book.pongs + (CLIENTS * AT_A_TIME) as u64;
        for _ in 0..AT_A_TIME {
            for client in 0..CLIENTS {
                fleet.say(client, &ping);
            }
        }
        fleet.until(|book| book.pongs >= pongs)
    };
    round(&mut fleet)?;
    progress.say(format!("{} messages", ROUNDS * CLIENTS * AT_A_TIME));
    let units = (ROUNDS * CLIENTS * AT_A_TIME) as f64;
    let begun = Instant::now();
    let cpu_us = cpu_per_unit(&mut fleet, units, |fleet| (0..ROUNDS).try_for_each(|_| round(fleet)))?;
    let rate = units / begun.elapsed().as_secs_f64();
    Ok(vec![
        Figure::new("inbound_cpu_us", cpu_us, "µs").note("server CPU per message, its answer included"),
        Figure::new("inbound_rate", rate, "/s").note("with the generator on the other CPU"),
    ])
}
