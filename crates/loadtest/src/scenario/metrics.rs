//! Live metrics: many clients of one collector, many samples to many views, what a series costs, and bytes on the wire.

mod crowd;
mod feed;
mod mixed;
mod series;

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;

use super::{Bench, Progress};
use crate::report::Figure;
use crate::scrape::Scrape;

/// The channel whose samples come from here.
const CHANNEL: &str = "load.metrics";
/// What is under way is waited for so long before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let mut figures = crowd::run(bench, progress)?;
    let delivery_us = figures
        .iter()
        .find(|figure| figure.name == crowd::CPU)
        .map(|figure| figure.value)
        .context("nothing was delivered")?;
    figures.extend(mixed::run(bench, progress)?);
    figures.extend(series::run(bench, progress, delivery_us)?);
    Ok(figures)
}

/// From the acceptance of samples, or the end of a window, to the kernel, by the server's own histogram.
fn accepted_to_kernel(name: &str, before: &Scrape, after: &Scrape, note: &str) -> anyhow::Result<Figure> {
    let labels = ["event_type=\"metric\""];
    let bound = after.quantile(before, "websocket_event_latency_milliseconds", &labels, 0.99);
    let bound = bound.context("the server counted no delivery of samples")?;
    Ok(Figure::new(format!("{name}_accepted_to_kernel_p99_ms"), bound, "ms").at_most(10.0).note(note))
}

fn receipt(name: &str, latency: &Histogram<u64>, note: &str) -> Vec<Figure> {
    let figure = |label: &str, quantile: f64| {
        let value = latency.value_at_quantile(quantile) as f64 / 1_000.0;
        Figure::new(format!("{name}_receipt_{label}_ms"), value, "ms")
    };
    vec![figure("p50", 0.5), figure("p99", 0.99).at_most(100.0).note(note)]
}

fn grown(before: &Scrape, after: &Scrape, family: &str, labels: &[&str]) -> f64 {
    after.sum(family, labels) - before.sum(family, labels)
}

/// Samples of ours that the server counted: others come by themselves.
fn taken(before: &Scrape, after: &Scrape) -> f64 {
    grown(before, after, "pulsewire_samples_total", &["source=\"http\""])
}
