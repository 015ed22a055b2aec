//! CPU per delivery, against the bare loop.

use super::{Bench, Progress, cpu_per_unit, history, median};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;
use crate::target::Target;

/// The deliveries of one measurement, so that one takes about a second.
const DELIVERIES: usize = 200_000;
const BURST: usize = 16;

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let sizes = bench.connections.map_or_else(|| vec![1_000, 10_000], |size| vec![size]);
    let mut figures = Vec::new();
    for size in sizes {
        let label = if size % 1_000 == 0 { format!("{}k", size / 1_000) } else { size.to_string() };
        let mut server: [Vec<f64>; 2] = Default::default();
        let mut floor: [Vec<f64>; 2] = Default::default();
        let mut last = Vec::new();
        for round in 1..=bench.rounds {
            progress.say(format!("{size} subscribers, round {round}, bare loop"));
            measure(bench.floor()?, size, &mut floor)?;
            progress.say(format!("{size} subscribers, round {round}, server"));
            last = measure(bench.server()?, size, &mut server)?;
        }
        for (index, kind) in ["single", "burst"].into_iter().enumerate() {
            let (own, bare) = (median(server[index].clone()), median(floor[index].clone()));
            let name = |what: &str| format!("fanout_{label}_{kind}_{what}");
            figures.push(Figure::new(name("cpu_us"), own, "µs").note("server CPU per delivery"));
            figures.push(Figure::new(name("floor_us"), bare, "µs").note(match kind {
                "single" => "the bare loop: one send per subscriber",
                _ => "the bare loop: sixteen messages joined in one send per subscriber",
            }));
            let rounds: Vec<String> = server[index]
                .iter()
                .zip(&floor[index])
                .map(|(own, bare)| format!("{:.2}", own / bare))
                .collect();
            let mut note = format!("of the medians; the rounds themselves: {}", rounds.join(", "));
            if kind == "burst" {
                note.push_str(BURST_NOTE);
            }
            figures.push(Figure::new(name("ratio"), own / bare, "").at_most(1.1).note(note));
        }
        figures.extend(last.into_iter().map(|mut figure: Figure| {
            figure.name = format!("fanout_{label}_{}", figure.name);
            figure
        }));
    }
    Ok(figures)
}

/// Why this ratio moves more than the others; an explanation that fits the figures, not a proof.
const BURST_NOTE: &str = ". A sender also pays for waking its readers, and how often they sleep depends on its pace: \
    the bare loop's joined send can cost less than its send of one message";

fn measure(mut target: Target, size: usize, out: &mut [Vec<f64>; 2]) -> anyhow::Result<Vec<Figure>> {
    let publishers = usize::from(!target.is_floor());
    let mut fleet = Fleet::gather(&mut target, Plan { subscribers: size, channels: 1, publishers })?;
    let mut figures = Vec::new();
    for (out, burst) in out.iter_mut().zip([1, BURST]) {
        let rounds = (DELIVERIES * if burst > 1 { 4 } else { 1 } / (size * burst)).max(5);
        let units = (rounds * burst * size) as f64;
        fleet.lockstep(3, burst)?;
        let calls = |fleet: &Fleet<'_>| -> anyhow::Result<f64> {
            if fleet.target.is_floor() {
                return Ok(0.0);
            }
            Ok(fleet.target.scrape()?.sum("pulsewire_write_calls_total", &[]))
        };
        let before = calls(&fleet)?;
        out.push(cpu_per_unit(&mut fleet, units, |fleet| fleet.lockstep(rounds, burst))?);
        let kind = if burst > 1 { "burst" } else { "single" };
        let writes = Figure::new(format!("{kind}_writes"), (calls(&fleet)? - before) / units, "")
            .at_most(if burst > 1 { 0.10 } else { 1.02 })
            .note("write calls to client sockets per delivery, by the server's own counter");
        figures.push(writes);
    }
    figures.extend(history("history", &fleet));
    Ok(figures)
}
