//! Idle connections: memory, heartbeat cost, scrape time and the start of the server.

use std::time::{Duration, Instant};

use super::{Bench, Progress, median};
use crate::fleet::{Fleet, Plan};
use crate::process::kernel_slab_bytes;
use crate::report::Figure;

/// What a first connection makes the server allocate once is not part of a connection.
const WARM: usize = 200;

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let connections = bench.connections_or(10_000);
    let mut target = bench.server()?;
    let start = target.start;
    drop(Fleet::gather(&mut target, Plan { subscribers: WARM, channels: WARM, publishers: 0 })?);
    let settled = |target: &crate::target::Target| -> anyhow::Result<([f64; 2], crate::process::Usage, u64)> {
        let page = target.scrape()?;
        let bytes = ["websocket_memory_usage_bytes", "pulsewire_heap_allocated_bytes"];
        Ok((bytes.map(|family| page.sum(family, &[])), target.usage()?, kernel_slab_bytes()?))
    };
    let ([attributed_before, heap_before], before, slab_before) = settled(&target)?;
    progress.say(format!("connecting {connections}"));
    let plan = Plan { subscribers: connections, channels: connections.min(1_000), publishers: 0 };
    let mut fleet = Fleet::gather(&mut target, plan)?;
    fleet.rest(Duration::from_secs(2))?;
    let ([attributed_after, heap_after], after, slab_after) = settled(fleet.target)?;
    progress.say(format!("resting for {:?}", bench.duration));
    let resting = fleet.target.usage()?.cpu_ns;
    let begun = Instant::now();
    fleet.rest(bench.duration)?;
    let rested = (fleet.target.usage()?.cpu_ns - resting) as f64 / begun.elapsed().as_nanos() as f64;
    let scrapes: Vec<_> = (0..7).map(|_| fleet.target.scrape()).collect::<Result<_, _>>()?;
    let scrape_ms = median(scrapes.iter().map(|scrape| scrape.took.as_secs_f64() * 1_000.0).collect());
    let page_bytes = scrapes.last().map_or(0, |scrape| scrape.len_bytes);
    let each = |after: f64, before: f64| (after - before) / connections as f64;
    let closed: u64 = fleet.book.closed.values().sum();
    let mut figures = vec![
        Figure::new("idle_allocated_bytes", each(heap_after, heap_before), "B")
            .at_most(600.0)
            .note("per connection, growth of what the allocator has given out to the whole process"),
        Figure::new("idle_attributed_bytes", each(attributed_after, attributed_before), "B")
            .at_most(600.0)
            .note("per connection, as the server accounts for it: session, subscription, tables"),
        Figure::new(
            "idle_resident_bytes",
            each(after.anonymous_bytes as f64, before.anonymous_bytes as f64),
            "B",
        )
        .at_most(1_024.0)
        .note("per connection, growth of anonymous resident memory"),
        Figure::new("idle_kernel_bytes", each(slab_after as f64, slab_before as f64) / 2.0, "B")
            .note("per socket, kernel slab growth of the whole machine; both ends are here, so half of it"),
        Figure::new("idle_cpu_percent", rested * 100.0, "%")
            .at_most(5.0)
            .note("of one core, heartbeats included"),
        Figure::new("idle_closed", closed as f64, "").at_most(0.0).note("connections that ended meanwhile"),
        Figure::new("scrape_ms", scrape_ms, "ms")
            .at_most(10.0)
            .note(format!("GET /metrics with {connections} connections, {page_bytes} B, median of 7")),
    ];
    if !start.is_zero() {
        let start_ms = start.as_secs_f64() * 1_000.0;
        figures.push(
            Figure::new("start_ms", start_ms, "ms").at_most(100.0).note("process start to first connection"),
        );
    }
    Ok(figures)
}
