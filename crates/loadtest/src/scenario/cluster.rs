//! What it costs that there are several nodes: the hop from one to another, and a database that they share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;

use super::{Bench, Progress, median};
use crate::post::Poster;
use crate::report::Figure;
use crate::target::Target;

/// Publications of each way from publisher to reader.
const HOPS: u32 = 1_000;
/// Threads that publish at each cluster, one event under way each.
const PUBLISHERS: usize = 24;
/// How long nodes may take to find each other, and an event to arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long throughput is measured, at most.
const SPAN: Duration = Duration::from_secs(5);

const NAMESPACES: &str = "[[namespace]]\nname = \"hop\"\npattern = \"hop:*\"\nkind = \"ephemeral\"\n\
    [[namespace]]\nname = \"kept\"\npattern = \"kept:*\"\nkind = \"log\"\ndurability = \"strict\"\n";

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if bench.database.is_none() {
        return Ok(figures);
    }
    for carrier in ["redis", "postgres"] {
        if carrier == "redis" && bench.redis.is_none() {
            continue;
        }
        progress.say(format!("hops through {carrier}"));
        let nodes = nodes(bench, carrier, 3)?;
        for (kind, channel) in [("ephemeral", "hop:1"), ("log", "kept:1")] {
            figures.extend(hops(&nodes, carrier, kind, channel)?);
        }
        figures.extend(bystander(&nodes, carrier)?);
    }
    progress.say("publishing through one, two and three nodes");
    let carrier = if bench.redis.is_some() { "redis" } else { "postgres" };
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..bench.rounds {
        for (count, rates) in rates.iter_mut().enumerate() {
            rates.push(throughput(&nodes(bench, carrier, count + 1)?, bench.duration.min(SPAN))?);
        }
    }
    let rates = rates.map(median);
    for (count, rate) in rates.iter().enumerate() {
        let name = format!("cluster_publish_{}", count + 1);
        let note = format!(
            "strict events acknowledged a second through {} nodes of one database, {PUBLISHERS} publishers in all",
            count + 1
        );
        figures.push(Figure::new(name, *rate, "/s").note(note));
    }
    figures
        .push(Figure::new("cluster_publish_ratio", rates[2] / rates[0], "").note(
            "three nodes against one; all of them, the database and the publishers share this machine",
        ));
    Ok(figures)
}

/// Nodes that share the database and know each other.
fn nodes(bench: &Bench, carrier: &str, count: usize) -> anyhow::Result<Vec<Target>> {
    let mut launch = bench.launch();
    launch.database.clone_from(&bench.database);
    launch.tables = NAMESPACES.to_owned();
    launch.set.push(format!("cluster.broker={carrier}"));
    launch.set.push("cluster.key=a key of more than thirty-two bytes for all".to_owned());
    if let Some(redis) = &bench.redis {
        launch.set.push(format!("cluster.url={redis}"));
    }
    let nodes = (0..count).map(|_| launch.server()).collect::<anyhow::Result<Vec<_>>>()?;
    let begun = Instant::now();
    for node in &nodes {
        while node.scrape()?.sum("pulsewire_cluster_nodes", &["state=\"present\""]) < (count - 1) as f64 {
            ensure!(begun.elapsed() < PATIENCE, "the nodes do not find each other through {carrier}");
        }
    }
    Ok(nodes)
}

/// Latencies from the first node to a reader of itself and to one of the second, in turns.
fn hops(nodes: &[Target], carrier: &str, kind: &str, channel: &str) -> anyhow::Result<Vec<Figure>> {
    let mut poster = nodes[0].poster()?;
    let readers = [nodes[0].listen(channel)?, nodes[1].listen(channel)?];
    let mut latencies =
        [Histogram::<u64>::new_with_max(60_000_000, 3)?, Histogram::new_with_max(60_000_000, 3)?];
    let event = format!(r#"{{"channel":"{channel}","type":"hop","data":{{"pad":"{}"}}}}"#, "x".repeat(200));
    for turn in 0..HOPS + 50 {
        let begun = Instant::now();
        let (status, body) = poster.post("/api/publish", event.as_bytes())?;
        ensure!(status == 200, "publishing: {status} {}", String::from_utf8_lossy(&body));
        for (reader, latency) in readers.iter().zip(&mut latencies) {
            let heard = arrived(reader)?;
            // What is fresh is slower.
            if turn >= 50 {
                latency.record(u64::try_from(heard.duration_since(begun).as_micros())?.max(1))?;
            }
        }
    }
    let at = |latency: &Histogram<u64>, quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let mut figures = Vec::new();
    for (label, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let [here, there] = [at(&latencies[0], quantile), at(&latencies[1], quantile)];
        let name = |what: &str| format!("cluster_{carrier}_{kind}_{what}_{label}_ms");
        figures.push(Figure::new(name("here"), here, "ms").note("publish to a reader of the same node"));
        figures.push(
            Figure::new(name("there"), there, "ms").note("the same publish to a reader of another node"),
        );
        figures.push(Figure::new(name("added"), there - here, "ms").note("what the hop adds"));
    }
    Ok(figures)
}

fn arrived(reader: &Receiver<Instant>) -> anyhow::Result<Instant> {
    reader.recv_timeout(PATIENCE).context("an event did not arrive")
}

/// What a node is told of a channel that nobody listens to there.
fn bystander(nodes: &[Target], carrier: &str) -> anyhow::Result<Vec<Figure>> {
    let told = |node: &Target| -> anyhow::Result<f64> {
        let page = node.scrape()?;
        let of = |kind| page.sum("pulsewire_broker_messages_total", &["direction=\"received\"", kind]);
        Ok(of("kind=\"committed\"") + of("kind=\"passed\""))
    };
    let before = told(&nodes[2])?;
    let mut poster = nodes[0].poster()?;
    let reader = nodes[1].listen("hop:2")?;
    for _ in 0..HOPS {
        poster.post("/api/publish", br#"{"channel":"hop:2","type":"hop","data":1}"#)?;
        arrived(&reader)?;
    }
    let figure = Figure::new(format!("cluster_{carrier}_bystander"), told(&nodes[2])? - before, "items");
    let note = format!("that a node without a reader was told of {HOPS} events of a channel");
    Ok(vec![if carrier == "redis" { figure.at_most(0.0).note(note) } else { figure.note(note) }])
}

/// Acknowledged events a second of all nodes together.
fn throughput(nodes: &[Target], span: Duration) -> anyhow::Result<f64> {
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let posters: Vec<_> =
        (0..PUBLISHERS).map(|publisher| nodes[publisher % nodes.len()].poster()).collect::<Result<_, _>>()?;
    let publish = |publisher: usize, mut poster: Poster| -> anyhow::Result<u64> {
        let event = format!(r#"{{"channel":"kept:{publisher}","type":"note","data":1}}"#);
        let mut acknowledged = 0;
        while !stop.load(Ordering::Relaxed) {
            let (status, body) = poster.post("/api/publish", event.as_bytes())?;
            ensure!(status == 200, "publishing: {status} {}", String::from_utf8_lossy(&body));
            acknowledged += 1;
        }
        Ok(acknowledged)
    };
    let acknowledged = std::thread::scope(|scope| {
        let publish = &publish;
        let threads: Vec<_> = posters
            .into_iter()
            .enumerate()
            .map(|(at, poster)| scope.spawn(move || publish(at, poster)))
            .collect();
        std::thread::sleep(span);
        stop.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a publisher panicked"))?)
            .sum::<anyhow::Result<u64>>()
    })?;
    Ok(acknowledged as f64 / begun.elapsed().as_secs_f64())
}
