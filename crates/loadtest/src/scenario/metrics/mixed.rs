//! Ten thousand samples a second to a thousand subscribers that want different things.

use std::time::Instant;

use super::feed::{Feed, NAMES, host_name};
use super::{CHANNEL, PATIENCE, accepted_to_kernel, receipt, taken};
use crate::listeners::{Group, Listeners, Stamp};
use crate::report::Figure;
use crate::scenario::{Bench, Progress};

/// Hosts: with their names, a thousand series.
const HOSTS: usize = 100;
/// Subscribers, of whom the kinds below have their shares.
const SUBSCRIBERS: usize = 1_000;

/// A kind of subscriber: how many of a thousand, how a message says when it was meant, and what it wants beside the
/// channel, where `HOST` is one of the hosts.
type Kind = (usize, Stamp, &'static str);

const KINDS: [Kind; 6] = [
    (10, Stamp::Micros("\"m0\":"), ""),
    (300, Stamp::Micros("\"value\":"), r#","tags":{"host":"HOST"},"shape":"points""#),
    (300, Stamp::Nowhere, r#","tags":{"host":"HOST"},"aggregation_interval":"1s","shape":"grouped""#),
    (200, Stamp::Nowhere, r#","filter":{"host":{"prefix":"host-001"}},"aggregation_interval":"1s""#),
    (100, Stamp::Nowhere, r#","filter":{"$name":{"eq":"m0"}},"aggregation_interval":"5s""#),
    (90, Stamp::Nowhere, r#","aggregation_interval":"5s","shape":"grouped""#),
];

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let subscribers = bench.connections_or(SUBSCRIBERS).min(SUBSCRIBERS);
    let rate = bench.connections_or(10_000).clamp(HOSTS * NAMES, 10_000);
    let target = bench.server()?;
    let origin = Instant::now();
    let mut listeners = Listeners::new(&target, origin)?;
    progress.say(format!("connecting {subscribers}"));
    for (share, stamp, wanted) in KINDS {
        let wanted = |index: usize| {
            format!("\"channels\":[\"{CHANNEL}\"]{}", wanted.replace("HOST", &host_name(index % HOSTS)))
        };
        listeners.join(count(subscribers, share), stamp, wanted)?;
    }
    let before = target.scrape()?;
    listeners.forget()?;
    let usage = target.usage()?;
    progress.say(format!("{rate} samples a second for {:?}", bench.duration));
    let fed = Feed { hosts: HOSTS, rate, duration: bench.duration }.run(&mut listeners, origin)?;
    // Of the kinds without an interval it is known what they must be sent: documents of a host, points of one host.
    let of_kind = |kind: usize| count(subscribers, KINDS[kind].0) as u64;
    let expected = fed.accepted / NAMES as u64 * of_kind(0) + fed.accepted / HOSTS as u64 * of_kind(1);
    let came = |groups: &[Group]| groups[0].messages + groups[1].messages;
    listeners.until(PATIENCE, |groups| came(groups) >= expected)?;
    let missing = expected as f64 - came(listeners.groups()) as f64;
    let used = target.usage()?;
    let after = target.scrape()?;
    let cpu_s = (used.cpu_ns - usage.cpu_ns) as f64 / 1e9;
    let mut latency = listeners.group(0).latency.clone();
    for group in &listeners.groups()[1..] {
        latency.add(&group.latency)?;
    }
    let messages: u64 = listeners.groups().iter().map(|group| group.messages).sum();
    let dropped: u64 = listeners.groups().iter().map(|group| group.dropped).sum();
    let accepted = taken(&before, &after);
    let mut figures = vec![
        Figure::new("metrics_mixed_samples", fed.accepted as f64 / fed.seconds, "/s")
            .at_least(rate as f64 * 0.99)
            .note(format!("accepted, of {} series, in requests of 100", HOSTS * NAMES)),
        Figure::new("metrics_mixed_not_accepted", fed.sent as f64 - accepted, "")
            .at_most(0.0)
            .note("sent, and not in the server's own count"),
        Figure::new("metrics_mixed_messages", messages as f64 / fed.seconds, "/s").note(format!(
            "to {} subscribers: by host, by a prefix, by name and everything; each sample, 1s and 5s",
            listeners.len()
        )),
        Figure::new("metrics_mixed_cpu_percent", cpu_s / fed.seconds * 100.0, "%")
            .note("of one core, the samples' HTTP included"),
        accepted_to_kernel("metrics_mixed", &before, &after, "samples and windows together")?,
    ];
    let note = "of the kinds without an interval, from when the sample was meant to leave";
    figures.extend(receipt("metrics_mixed", &latency, note));
    figures.extend([
        Figure::new("metrics_mixed_missing", missing, "")
            .at_most(0.0)
            .note("messages of the kinds without an interval that did not come"),
        Figure::new("metrics_mixed_dropped", dropped as f64, "")
            .at_most(0.0)
            .note("updates the server says it left out for a slow reader"),
    ]);
    Ok(figures)
}

/// How many of so many subscribers a share of a thousand is.
fn count(subscribers: usize, share: usize) -> usize {
    (subscribers * share / SUBSCRIBERS).max(1)
}
