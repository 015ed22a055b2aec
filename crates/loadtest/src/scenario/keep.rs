//! What it costs to keep an event before its publisher is told so.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant};

use super::latency::at_rate;
use super::{Bench, Progress, history, median};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;
use crate::target::Target;

const CHANNELS: usize = 10;
const AUDIENCE: usize = 10;
/// Publications a second: less than one commit after the other takes on any disk, so that nothing queues.
const RATE: usize = 100;
/// Connections that publish, and publishes of each under way, when commits are shared.
const PUBLISHERS: usize = 32;
const UNDER_WAY: usize = 32;
/// How long each of the two rates is measured, at most.
const RATE_SPAN: Duration = Duration::from_secs(5);

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, table) in [
        ("strict", "kind = \"log\"\ndurability = \"strict\""),
        ("relaxed", "kind = \"log\"\ndurability = \"relaxed\""),
        ("memory", "kind = \"log\"\ndurability = \"memory\""),
        ("ephemeral", "kind = \"ephemeral\""),
    ] {
        progress.say(format!("{RATE} {name} publications a second for {:?}", bench.duration));
        figures.extend(latency(bench, &mut embedded(bench, table)?, &format!("keep_{name}"))?);
    }
    let strict = "kind = \"log\"\ndurability = \"strict\"";
    progress.say("one publish under way, then many");
    figures.push(fsync()?);
    figures.extend(group_commit(bench, || embedded(bench, strict), "keep_sqlite", 20.0)?);
    if bench.database.is_some() {
        progress.say("the same with PostgreSQL");
        figures.extend(latency(bench, &mut database(bench, strict)?, "keep_postgres_strict")?);
        figures.extend(group_commit(bench, || database(bench, strict), "keep_postgres", 10.0)?);
    }
    Ok(figures)
}

fn embedded(bench: &Bench, table: &str) -> anyhow::Result<Target> {
    let mut launch = bench.launch();
    launch.set.push("store.url=sqlite".to_owned());
    launch.tables = namespace(table);
    launch.server()
}

fn database(bench: &Bench, table: &str) -> anyhow::Result<Target> {
    let mut launch = bench.launch();
    launch.database.clone_from(&bench.database);
    launch.tables = namespace(table);
    launch.server()
}

/// The channels of a fleet, kept in another way than the shipped one.
fn namespace(table: &str) -> String {
    format!("[[namespace]]\nname = \"project\"\npattern = \"project:*\"\n{table}\n")
}

fn latency(bench: &Bench, target: &mut Target, name: &str) -> anyhow::Result<Vec<Figure>> {
    let plan = Plan { subscribers: CHANNELS * AUDIENCE, channels: CHANNELS, publishers: 4 };
    let mut fleet = Fleet::gather(target, plan)?;
    fleet.lockstep(20, 1)?;
    let latency = at_rate(&mut fleet, CHANNELS, RATE, bench.duration, None)?;
    let mut figures: Vec<Figure> = [("p50", 0.5), ("p99", 0.99)]
        .map(|(label, quantile)| {
            let value = latency.value_at_quantile(quantile) as f64 / 1_000.0;
            Figure::new(format!("{name}_{label}_ms"), value, "ms").note("publish to delivery")
        })
        .to_vec();
    // Events of channels that keep nothing have no sequence to judge by.
    if !name.ends_with("ephemeral") {
        figures.extend(history(name, &fleet));
    }
    Ok(figures)
}

/// Events a second when each is committed alone, and when those that wait are committed together.
fn group_commit(
    bench: &Bench,
    target: impl Fn() -> anyhow::Result<Target>,
    name: &str,
    ratio_min: f64,
) -> anyhow::Result<Vec<Figure>> {
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        alone.push(acknowledged(&mut target()?, 1, 1, bench.duration)?);
        together.push(acknowledged(&mut target()?, PUBLISHERS, UNDER_WAY, bench.duration)?);
    }
    let (alone, together) = (median(alone), median(together));
    Ok(vec![
        Figure::new(format!("{name}_alone"), alone, "/s")
            .note("strict events acknowledged a second, one publish under way: each is a commit of its own"),
        Figure::new(format!("{name}_together"), together, "/s").note(format!(
            "the same, {} under way from {PUBLISHERS} publishers: commits are shared",
            PUBLISHERS * UNDER_WAY
        )),
        Figure::new(format!("{name}_ratio"), together / alone, "").at_least(ratio_min).note(
            "of the medians of the rounds: group commit against one commit for each event, with parsing, acknowledging \
             and delivering. The faster the disk flushes (keep_fsync_p50_ms), the less there is to share",
        ),
    ])
}

/// Acknowledged events a second with so many publishes of each publisher under way.
fn acknowledged(
    target: &mut Target,
    publishers: usize,
    under_way: usize,
    duration: Duration,
) -> anyhow::Result<f64> {
    let mut fleet = Fleet::gather(target, Plan { subscribers: 1, channels: 1, publishers })?;
    fleet.lockstep(5, 1)?;
    let (begun, first) = (Instant::now(), fleet.book.acks);
    let span = duration.min(RATE_SPAN);
    let mut sent = first;
    while begun.elapsed() < span {
        while sent < fleet.book.acks + (publishers * under_way) as u64 {
            fleet.publish(0, 1, Instant::now())?;
            sent += 1;
        }
        fleet.turn(Instant::now() + Duration::from_millis(100))?;
    }
    let rate = (fleet.book.acks - first) as f64 / begun.elapsed().as_secs_f64();
    fleet.until(|book| book.acks >= sent)?;
    Ok(rate)
}

/// What the disk needs to make 4 KiB durable, beside which the rest must be seen.
fn fsync() -> anyhow::Result<Figure> {
    let path = std::env::temp_dir().join(format!("pulsewire-bench-fsync-{}", std::process::id()));
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        file.seek(SeekFrom::Start(0))?;
        let begun = Instant::now();
        file.write_all(&[0; 4_096])?;
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    drop(file);
    std::fs::remove_file(path)?;
    Ok(Figure::new("keep_fsync_p50_ms", median(times), "ms")
        .note("one write of 4 KiB and fdatasync, in the folder for temporary files"))
}
