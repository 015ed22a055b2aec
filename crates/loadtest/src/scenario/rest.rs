//! Row X15: ten thousand idle connections for ten minutes.

use std::time::{Duration, Instant};

use super::{Bench, Progress};
use crate::fleet::{Fleet, Plan};
use crate::process::Usage;
use crate::report::Figure;
use crate::scrape::Scrape;
use crate::target::Target;

/// What a first connection makes the server allocate once is not part of a connection.
const WARM: usize = 200;
/// How often the memory is looked at while nothing happens.
const LOOKS: u32 = 20;

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let connections = bench.connections_or(10_000);
    let mut target = bench.server()?;
    drop(Fleet::gather(&mut target, Plan { subscribers: WARM, channels: WARM, publishers: 0 })?);
    let look =
        |target: &Target| -> anyhow::Result<(Scrape, Usage)> { Ok((target.scrape()?, target.usage()?)) };
    let (page_empty, empty) = look(&target)?;
    progress.say(format!("connecting {connections}"));
    let plan = Plan { subscribers: connections, channels: connections.min(1_000), publishers: 0 };
    let mut fleet = Fleet::gather(&mut target, plan)?;
    fleet.rest(Duration::from_secs(2))?;
    let (page_begin, begin) = look(fleet.target)?;
    let begun = Instant::now();
    let mut highest = begin.anonymous_bytes;
    for part in 1..=LOOKS {
        progress.say(format!("resting, {} of {:?}", part - 1, bench.duration));
        fleet.rest((bench.duration * part / LOOKS).saturating_sub(begun.elapsed()))?;
        highest = highest.max(fleet.target.usage()?.anonymous_bytes);
    }
    let (page_end, end) = look(fleet.target)?;
    let rested = begun.elapsed();
    let each = |bytes: f64| bytes / connections as f64;
    let heap = |page: &Scrape| page.sum("pulsewire_heap_allocated_bytes", &[]);
    let grown = |family: &str| page_end.sum(family, &[]) - page_begin.sum(family, &[]);
    let cpu = (end.cpu_ns - begin.cpu_ns) as f64 / rested.as_nanos() as f64 * 100.0;
    let closed: u64 = fleet.book.closed.values().sum();
    let sent = grown("websocket_heartbeats_sent_total");
    Ok(vec![
        Figure::new("rest_seconds", rested.as_secs_f64(), "s")
            .note(format!("{connections} connections, authenticated, one subscription each")),
        Figure::new("rest_heap_bytes", each(heap(&page_end) - heap(&page_empty)), "B")
            .at_most(600.0)
            .note("per connection, growth of what the allocator has given out, at the end"),
        Figure::new(
            "rest_resident_bytes",
            each(end.anonymous_bytes as f64 - empty.anonymous_bytes as f64),
            "B",
        )
        .at_most(1_024.0)
        .note("per connection, growth of anonymous resident memory, at the end"),
        Figure::new("rest_resident_bytes_highest", each(highest as f64 - empty.anonymous_bytes as f64), "B")
            .at_most(1_024.0)
            .note(format!("the highest of {LOOKS} looks")),
        Figure::new(
            "rest_resident_drift_bytes",
            end.anonymous_bytes as f64 - begin.anonymous_bytes as f64,
            "B",
        )
        .note("of the whole process, from the beginning of the rest to its end"),
        Figure::new("rest_cpu_percent", cpu, "%").at_most(5.0).note("of one core, heartbeats included"),
        Figure::new("rest_heartbeats", sent, "")
            .at_least((rested.as_secs() / 30) as f64 * connections as f64 * 0.9)
            .note("pings sent; one each in 30 s"),
        Figure::new("rest_timeouts", grown("websocket_heartbeat_timeouts_total"), "").at_most(0.0),
        Figure::new("rest_closed", closed as f64, "").at_most(0.0).note("connections that ended meanwhile"),
    ])
}
