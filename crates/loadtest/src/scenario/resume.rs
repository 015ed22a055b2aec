//! Coming back: what many who missed the same cost the store, and what a replay costs.

use std::time::{Duration, Instant};

use super::{Bench, Progress, cpu_per_unit, history, median};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;
use crate::target::Target;

/// Events that everybody has missed: more than a channel's ring holds, so that the store is needed.
const MISSED: u64 = 300;
/// Connections being made at the same time: about what a listening socket queues.
const GATHERING: usize = 2_000;
/// The few beside whom the many are seen.
const FEW: usize = 100;
/// Events of a replay: what a channel keeps unless its namespace says otherwise.
const REPLAYED: u64 = 1_000;
/// Events of one publish request.
const BURST: u64 = 100;
/// How long a page that was read serves others; after twice that it is read again.
const PAGE_FORGOTTEN: Duration = Duration::from_secs(2);

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let many = bench.connections_or(10_000);
    let mut target = bench.server_with(&["store.url=sqlite"])?;
    let mut figures = Vec::new();
    let mut reads = Vec::new();
    for (name, clients) in [("resume_few", FEW), ("resume_many", many)] {
        progress.say(format!("{clients} clients"));
        reads.push(resume(&mut target, clients, name, &mut figures)?);
    }
    if let [few, many] = reads[..] {
        figures.push(Figure::new("resume_store_reads_more", many - few, "").at_most(10.0).note(
            "pages read from the store for the many, beyond those for the few: constant, not one for each client",
        ));
    }
    progress.say("a replay of 1,000 events");
    figures.extend(replay(&mut target, bench.rounds)?);
    Ok(figures)
}

/// Everybody is cut off, misses the same events and comes back. Returns the pages read from the store.
fn resume(target: &mut Target, clients: usize, name: &str, figures: &mut Vec<Figure>) -> anyhow::Result<f64> {
    let plan = Plan { subscribers: clients, channels: 1, publishers: 1 };
    let mut fleet = Fleet::gather_at(target, plan, GATHERING)?;
    fleet.lockstep(1, 1)?;
    let position = fleet.position();
    fleet.cut_off();
    publish(&mut fleet, MISSED)?;
    fleet.rest(PAGE_FORGOTTEN)?;
    let before = fleet.target.scrape()?;
    let (begun, delivered) = (Instant::now(), fleet.book.delivered);
    let expected = clients as u64 * MISSED;
    let cpu_us = cpu_per_unit(&mut fleet, expected as f64, |fleet| {
        fleet.come_back(position, MISSED, GATHERING)?;
        fleet.until(|book| book.delivered - delivered >= expected)
    })?;
    let elapsed = begun.elapsed().as_secs_f64();
    let after = fleet.target.scrape()?;
    let pages = |source: &str| {
        let labels = [format!("source=\"{source}\"")];
        let labels = labels.each_ref().map(String::as_str);
        let family = "pulsewire_history_reads_total";
        after.sum(family, &labels) - before.sum(family, &labels)
    };
    let store = pages("store");
    figures.extend([
        Figure::new(format!("{name}_s"), elapsed, "s")
            .note(format!("until the last of {clients} has its {MISSED} events")),
        Figure::new(format!("{name}_store_reads"), store, "").note("pages read from the store"),
        Figure::new(format!("{name}_shared_reads"), pages("cache") + pages("ring"), "")
            .note("pages answered from one that was read already, or from the newest events in memory"),
        Figure::new(format!("{name}_cpu_us"), cpu_us, "µs")
            .note("server CPU per event, accept, handshake and session included"),
    ]);
    figures.extend(history(name, &fleet));
    Ok(store)
}

/// Fills a channel, and has it replayed from the oldest event it keeps.
fn replay(target: &mut Target, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    {
        let mut fleet = Fleet::gather(target, Plan { subscribers: 1, channels: 1, publishers: 1 })?;
        publish(&mut fleet, REPLAYED)?;
        fleet.until(|book| book.delivered >= REPLAYED)?;
        let since = fleet.position() - REPLAYED;
        for _ in 0..rounds {
            fleet.cut_off();
            fleet.rest(PAGE_FORGOTTEN)?;
            cold.push(once(&mut fleet, since)?);
            fleet.cut_off();
            warm.push(once(&mut fleet, since)?);
        }
        figures.extend(history("replay", &fleet));
    }
    let (cold, warm) = (median(cold), median(warm));
    let mut fleet = Fleet::gather(target, Plan { subscribers: FEW, channels: 1, publishers: 1 })?;
    fleet.lockstep(20, 1)?;
    let live = cpu_per_unit(&mut fleet, (200 * FEW) as f64, |fleet| fleet.lockstep(200, 1))?;
    let since = fleet.position() - REPLAYED;
    fleet.cut_off();
    let delivered = fleet.book.delivered;
    let expected = REPLAYED * FEW as u64;
    let replayed = cpu_per_unit(&mut fleet, expected as f64, |fleet| {
        fleet.come_back(since, REPLAYED, GATHERING)?;
        fleet.until(|book| book.delivered - delivered >= expected)
    })?;
    figures.extend([
        Figure::new("replay_cold_ms", cold, "ms")
            .note(format!("connect to the last of {REPLAYED} events, one client, read from the store")),
        Figure::new("replay_warm_ms", warm, "ms").note("the same, from pages somebody else has just read"),
        Figure::new("replay_cpu_us", replayed, "µs")
            .note(format!("server CPU per event, {FEW} clients at once, accept and session included")),
        Figure::new("replay_cpu_ratio", replayed / live, "")
            .at_most(1.0)
            .note("to the CPU of one live delivery to the same clients in the same run"),
    ]);
    Ok(figures)
}

/// Milliseconds until the only client, newly connected, has everything behind a position.
fn once(fleet: &mut Fleet<'_>, since: u64) -> anyhow::Result<f64> {
    let (begun, delivered) = (Instant::now(), fleet.book.delivered);
    fleet.come_back(since, REPLAYED, 1)?;
    fleet.until(|book| book.delivered - delivered >= REPLAYED)?;
    Ok(begun.elapsed().as_secs_f64() * 1_000.0)
}

fn publish(fleet: &mut Fleet<'_>, events: u64) -> anyhow::Result<()> {
    for _ in 0..events / BURST {
        let acks = fleet.book.acks;
        fleet.publish(0, BURST as usize, Instant::now())?;
        fleet.until(|book| book.acks > acks)?;
    }
    Ok(())
}
