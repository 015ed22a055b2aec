//! Row X7: a hundred scrapers at the same time, on a page with ten thousand series.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{Bench, Progress, latency};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;

const SCRAPERS: usize = 100;
/// Each has some three dozen series.
const EVENT_TYPES: usize = 300;
const SERIES: usize = 10_000;
const DELIVERIES_PER_SECOND: usize = 1_000;
/// Between two scrapes of one scraper, ten times as often as Prometheus does by default.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let mut target = bench.server_with(&["metrics.event_types_max=400"])?;
    let entry = target.entry();
    let plan = Plan { subscribers: 100, channels: 10, publishers: 1 };
    let mut fleet = Fleet::gather(&mut target, plan)?;
    for number in 0..EVENT_TYPES {
        let text =
            format!(r#"{{"type":"publish","id":1,"channel":"demo","event":"kind-{number}","data":null}}"#);
        fleet.say(0, &text);
    }
    fleet.until(|book| book.acks >= EVENT_TYPES as u64)?;
    let rate = DELIVERIES_PER_SECOND / fleet.readers_of_each();
    let stage = ["stage=\"kernel\""];
    let p99 = |fleet: &mut Fleet<'_>| -> anyhow::Result<f64> {
        let before = fleet.target.scrape()?;
        latency::at_rate(fleet, plan.channels, rate, bench.duration, None)?;
        let after = fleet.target.scrape()?;
        let bound = after.quantile(&before, "pulsewire_stage_seconds", &stage, 0.99);
        Ok(bound.context("nothing was delivered")? * 1_000.0)
    };
    progress.say("deliveries alone");
    let alone = p99(&mut fleet)?;
    let series = fleet.target.scrape()?.series();
    progress.say(format!("{SCRAPERS} scrapers for {:?}", bench.duration));
    let (pages, answers, refused) = (Mutex::new(HashSet::new()), AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let beside = std::thread::scope(|scope| {
        for number in 0..SCRAPERS {
            let (stop, pages, answers, refused, entry) = (&stop, &pages, &answers, &refused, &entry);
            scope.spawn(move || {
                // Scrapers do not know of each other: their moments are spread over the pause.
                std::thread::sleep(PAUSE * number as u32 / SCRAPERS as u32);
                while !stop.load(Relaxed) {
                    match page(entry.address()) {
                        Ok((200, body)) => {
                            answers.fetch_add(1, Relaxed);
                            let mut hasher = DefaultHasher::new();
                            body.hash(&mut hasher);
                            if let Ok(mut pages) = pages.lock() {
                                pages.insert(hasher.finish());
                            }
                        }
                        _ => {
                            refused.fetch_add(1, Relaxed);
                        }
                    }
                    std::thread::sleep(PAUSE);
                }
            });
        }
        let beside = p99(&mut fleet);
        stop.store(true, Relaxed);
        beside
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let pages = pages.into_inner().map_or(0, |pages| pages.len());
    ensure!(answers.load(Relaxed) > 0, "no scraper was answered");
    let mut figures = vec![
        Figure::new("scrapers_series", series as f64, "").at_least(SERIES as f64),
        Figure::new("scrapers_answers", answers.load(Relaxed) as f64, "")
            .note(format!("by {SCRAPERS} scrapers in {seconds:.0} s")),
        Figure::new("scrapers_not_answered", refused.load(Relaxed) as f64, "").at_most(0.0),
        Figure::new("scrapers_renders_per_second", pages as f64 / seconds, "/s")
            .at_most(1.0 + 1.0 / seconds)
            .note("different pages that were shown, over the time"),
        Figure::new("scrapers_p99_alone_ms", alone, "ms")
            .note("accepted to kernel, the server's own histogram: at most this, by its buckets"),
        Figure::new("scrapers_p99_beside_ms", beside, "ms"),
        Figure::new("scrapers_p99_ratio", beside / alone, "").at_most(2.0).note("of two bucket bounds"),
    ];
    figures.extend(super::history("scrapers", &fleet));
    Ok(figures)
}

fn page(address: std::net::SocketAddr) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let status = answer.get(9..12).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").context("half an answer")? + 4;
    Ok((status.context("no status")?, answer.split_off(body)))
}
