//! `pulsewire report`: how a server did over a period, for the weekly look.
//!
//! Reads the samples the server keeps (`/api/admin/heap`, a day of minutes) and its limits (`/metrics`), and says
//! how its figures moved, how long things took, and which of document 001's thresholds were crossed. Nothing is
//! stored here: for longer than a day, ask Prometheus.

use std::time::Duration;

use clap::Args;
use pulsewire_client::Http;
use pulsewire_loadtest::scrape::Scrape;
use pulsewire_telemetry::Buckets;
use serde::{Deserialize, Serialize};

use super::connection::{ConnectionArguments, block_on, report_request};
use super::{Exit, Output, Terminal};
use crate::memory::Sample;
use crate::settings::duration_to_text;

/// Trends, percentiles and thresholds of a running server.
#[derive(Debug, Args)]
pub struct Report {
    /// The period, up to now; the server keeps a day.
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = super::span)]
    pub since: Duration,
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// End with exit code 5 if a threshold is crossed.
    #[arg(long)]
    pub strict: bool,
    /// Which server; the token needs the role admin.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// What `/api/admin/heap` answers, as far as it is used.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    samples: Vec<Sample>,
    bounds: std::collections::BTreeMap<String, Vec<f64>>,
}

/// How a figure moved.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trend {
    name: String,
    first: f64,
    last: f64,
    lowest: f64,
    highest: f64,
    /// The change per hour; for counters what happened per hour.
    per_hour: f64,
}

/// How long something took.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Percentiles {
    name: String,
    count: u64,
    p50: f64,
    p95: f64,
    p99: f64,
}

/// A threshold and what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Check {
    name: &'static str,
    value: f64,
    warning: f64,
    critical: f64,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Critical,
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Review {
    from: String,
    to: String,
    samples: usize,
    trends: Vec<Trend>,
    percentiles: Vec<Percentiles>,
    thresholds: Vec<Check>,
}

/// Reads and prints.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Report, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let connection = command.connection.resolve(terminal)?;
    let since = duration_to_text(command.since);
    let read = block_on(terminal, async |terminal| {
        let mut http = Http::new(connection.endpoint, connection.trust, Some(connection.token));
        let mut bodies = Vec::new();
        for path in [format!("/api/admin/heap?since={since}"), "/metrics".to_owned()] {
            let answer = http.request("GET", &path, b"").await;
            let answer = answer.map_err(|error| report_request(&error, terminal))?;
            match answer.status {
                200 => bodies.push(answer.body),
                401 | 403 => {
                    terminal.say(format_args!(
                        "error: {path} answered {}; it needs a token with the role admin",
                        answer.status
                    ));
                    return Err(Exit::Unauthorised);
                }
                status => {
                    terminal.say(format_args!(
                        "error: {path} answered {status}: {}",
                        String::from_utf8_lossy(&answer.body)
                    ));
                    return Err(Exit::Failed);
                }
            }
        }
        Ok(bodies)
    })??;
    let answered: Answered = serde_json::from_slice(&read[0]).map_err(|error| {
        terminal.say(format_args!("error: /api/admin/heap is not what this version reads: {error}"));
        Exit::Failed
    })?;
    let page = Scrape::parse(&String::from_utf8_lossy(&read[1]));
    let Some(review) = review(&answered, page.sum("websocket_connections_limit", &[])) else {
        terminal.say("error: the server has no samples");
        return Err(Exit::Failed);
    };
    match command.output {
        Output::Table => terminal.data(review.table().trim_end()),
        Output::Json => terminal.data(serde_json::to_string_pretty(&review).unwrap_or_default()),
    }
    let crossed = review.thresholds.iter().any(|check| check.verdict > Verdict::Ok);
    Ok(if command.strict && crossed { Exit::ThresholdMissed } else { Exit::Ok })
}

/// Connections from which memory per connection is judged.
const CROWD: u64 = 100;

/// A figure of a sample.
type Read = fn(&Sample) -> f64;

const FIGURES: [(&str, Read); 8] = [
    ("connections", |sample| sample.connections as f64),
    ("subscriptions", |sample| sample.subscriptions as f64),
    ("bytesPerConnection", |sample| sample.bytes_per_connection as f64),
    ("attributedBytes", |sample| sample.attributed_bytes as f64),
    ("heapAllocatedBytes", |sample| sample.heap.allocated as f64),
    ("heapResidentBytes", |sample| sample.heap.resident as f64),
    ("heapRetainedBytes", |sample| sample.heap.retained as f64),
    ("processResidentBytes", |sample| sample.process_resident_bytes as f64),
];

fn review(answered: &Answered, limit: f64) -> Option<Review> {
    let samples = &answered.samples;
    let (first, last) = (samples.first()?, samples.last()?);
    let hours = ((last.at_ms - first.at_ms).max(0) as f64 / 3_600_000.0).max(1.0 / 3_600.0);
    let trend = |name: &str, read: &dyn Fn(&Sample) -> f64| {
        let values = samples.iter().map(read);
        Trend {
            name: name.to_owned(),
            first: read(first),
            last: read(last),
            lowest: values.clone().fold(f64::INFINITY, f64::min),
            highest: values.fold(f64::NEG_INFINITY, f64::max),
            per_hour: (read(last) - read(first)) / hours,
        }
    };
    let mut trends: Vec<Trend> = FIGURES.into_iter().map(|(name, read)| trend(name, &read)).collect();
    let counter = |sample: &Sample, name: &str| sample.counters.get(name).copied().unwrap_or(0) as f64;
    for name in last.counters.keys() {
        trends.push(trend(name, &|sample| counter(sample, name)));
    }
    let percentiles: Vec<Percentiles> = last
        .histograms
        .iter()
        .filter_map(|(name, counts)| {
            let earlier = first.histograms.get(name)?;
            let counts: Vec<u64> =
                counts.iter().zip(earlier).map(|(now, then)| now.saturating_sub(*then)).collect();
            let buckets = Buckets { bounds: answered.bounds.get(name)?.clone(), counts };
            let found = buckets.quantiles(&[0.5, 0.95, 0.99])?;
            let [p50, p95, p99] = found.try_into().ok()?;
            Some(Percentiles { name: name.clone(), count: buckets.counts.iter().sum(), p50, p95, p99 })
        })
        .collect();
    let grown = |name: &str| counter(last, name) - counter(first, name);
    // Nothing out of nothing is no failure.
    let percent = |part: f64, whole: f64| if whole > 0.0 { part / whole * 100.0 } else { 0.0 };
    // What a server keeps for itself would be shared by too few below that.
    let crowded = samples.iter().filter(|sample| sample.connections >= CROWD);
    let memory = crowded.map(|sample| sample.bytes_per_connection).max().unwrap_or(0) as f64;
    let highest =
        |name: &str| trends.iter().find(|trend| trend.name == name).map_or(0.0, |trend| trend.highest);
    let latency = percentiles.iter().find(|found| found.name == "websocket_event_latency_milliseconds");
    let attempts = grown("connectionsOpened") + grown("authFailures");
    let thresholds = [
        ("connections, % of the limit", percent(highest("connections"), limit), 80.0, 95.0),
        ("event latency p95, ms", latency.map_or(0.0, |found| found.p95), 100.0, 500.0),
        ("memory per connection, bytes", memory, 5_120.0, 10_240.0),
        (
            "heartbeats not answered, %",
            percent(grown("heartbeatTimeouts"), grown("heartbeatsSent")),
            1.0,
            5.0,
        ),
        ("failed authentications, %", percent(grown("authFailures"), attempts), 5.0, 10.0),
        (
            "reconnections, % of connections",
            percent(grown("reconnections"), grown("connectionsOpened")),
            50.0,
            80.0,
        ),
    ];
    let thresholds = thresholds.map(|(name, value, warning, critical)| {
        let verdict = match value {
            value if value > critical => Verdict::Critical,
            value if value > warning => Verdict::Warning,
            _ => Verdict::Ok,
        };
        Check { name, value, warning, critical, verdict }
    });
    let iso = crate::http::health::iso;
    Some(Review {
        from: iso(first.at_ms),
        to: iso(last.at_ms),
        samples: samples.len(),
        trends,
        percentiles,
        thresholds: thresholds.to_vec(),
    })
}

impl Review {
    fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut out = format!("{} to {}, {} samples\n\n", self.from, self.to, self.samples);
        let _ = writeln!(
            out,
            "{:22}{:>14}{:>14}{:>14}{:>14}{:>16}",
            "trend", "first", "last", "lowest", "highest", "per hour"
        );
        for Trend { name, first, last, lowest, highest, per_hour } in &self.trends {
            let _ = writeln!(
                out,
                "{name:22}{first:>14.0}{last:>14.0}{lowest:>14.0}{highest:>14.0}{per_hour:>16.1}"
            );
        }
        let _ =
            writeln!(out, "\n{:42}{:>12}{:>10}{:>10}{:>10}", "milliseconds", "count", "p50", "p95", "p99");
        for Percentiles { name, count, p50, p95, p99 } in &self.percentiles {
            let _ = writeln!(out, "{name:42}{count:>12}{p50:>10.2}{p95:>10.2}{p99:>10.2}");
        }
        let _ = writeln!(out, "\n{:36}{:>12}{:>12}{:>12}", "threshold", "found", "warning", "critical");
        for Check { name, value, warning, critical, verdict } in &self.thresholds {
            let verdict = match verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "WARNING",
                Verdict::Critical => "CRITICAL",
            };
            let _ = writeln!(out, "{name:36}{value:>12.2}{warning:>12.0}{critical:>12.0}  {verdict}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: i64, connections: u64, opened: u64, failures: u64, latency: [u64; 3]) -> Sample {
        let counters = [("connectionsOpened", opened), ("authFailures", failures)];
        Sample {
            at_ms,
            connections,
            bytes_per_connection: 600,
            counters: counters.map(|(name, value)| (name.to_owned(), value)).into(),
            histograms: [("websocket_event_latency_milliseconds".to_owned(), latency.to_vec())].into(),
            ..Sample::default()
        }
    }

    #[test]
    fn a_period_is_what_happened_between_its_ends() {
        let answered = Answered {
            samples: vec![
                sample(0, 10, 100, 50, [90, 10, 0]),
                sample(1_800_000, 90, 180, 50, [90, 10, 0]),
                sample(3_600_000, 50, 190, 60, [90, 110, 0]),
            ],
            bounds: [("websocket_event_latency_milliseconds".to_owned(), vec![100.0, 200.0])].into(),
        };
        let review = review(&answered, 100.0).unwrap();
        let connections = &review.trends[0];
        assert_eq!((connections.lowest, connections.highest, connections.per_hour), (10.0, 90.0, 40.0));
        let latency = &review.percentiles[0];
        assert_eq!((latency.count, latency.p50), (100, 150.0), "only the hundred of this hour");
        let verdicts: Vec<_> = review.thresholds.iter().map(|check| (check.name, check.verdict)).collect();
        assert_eq!(verdicts[0], ("connections, % of the limit", Verdict::Warning));
        assert_eq!(verdicts[1], ("event latency p95, ms", Verdict::Warning));
        assert_eq!(
            verdicts[4],
            ("failed authentications, %", Verdict::Warning),
            "ten of a hundred, not more than ten"
        );
        assert_eq!(verdicts[3].1, Verdict::Ok, "no heartbeat is no failure");
        let table = review.table();
        assert!(table.contains("WARNING") && table.contains("connections "), "{table}");
    }
}
