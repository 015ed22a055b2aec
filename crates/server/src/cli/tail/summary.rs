//! What a `tail` saw, in one line.

use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies beyond this count as this: one minute.
const LATENCY_MS_MAX: u64 = 60_000;

/// Counts of one `tail`, and of its current second.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) shown: u64,
    pub(super) reconnects: u64,
    pub(super) gaps: u64,
    all: Latencies,
    second: Latencies,
    shown_before: u64,
}

/// How often each whole millisecond occurred; at most 60,001 entries.
#[derive(Debug, Default)]
struct Latencies {
    counts: BTreeMap<u64, u64>,
    total: u64,
}

impl Latencies {
    fn record(&mut self, latency: Duration) {
        let ms = u64::try_from(latency.as_millis()).unwrap_or(LATENCY_MS_MAX).min(LATENCY_MS_MAX);
        *self.counts.entry(ms).or_default() += 1;
        self.total += 1;
    }

    fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        self.counts.iter().find_map(|(ms, count)| {
            seen += count;
            (seen >= rank).then_some(*ms)
        })
    }
}

impl Summary {
    pub(super) fn event(&mut self, latency: Option<Duration>) {
        self.shown += 1;
        if let Some(latency) = latency {
            self.all.record(latency);
            self.second.record(latency);
        }
    }

    pub(super) fn header() -> String {
        "EVENTS/S   P50 MS   P95 MS   P99 MS   GAPS".to_owned()
    }

    /// The line of `--stats`, and a new second.
    pub(super) fn second(&mut self) -> String {
        let rate = self.shown - self.shown_before;
        self.shown_before = self.shown;
        let second = std::mem::take(&mut self.second);
        let shown = |percent| second.percentile(percent).map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        format!("{rate:>8}   {:>6}   {:>6}   {:>6}   {:>4}", shown(50), shown(95), shown(99), self.gaps)
    }

    /// The line at the end, after so long.
    pub(super) fn line(&self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let latency = match (self.all.percentile(50), self.all.percentile(95)) {
            (Some(half), Some(most)) => format!("latency p50 {half} ms p95 {most} ms, "),
            _ => String::new(),
        };
        let plural = |count: u64, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        format!(
            "{}, {:.1}/s, {latency}{}, {}",
            plural(self.shown, "event"),
            self.shown as f64 / seconds,
            plural(self.reconnects, "reconnect"),
            plural(self.gaps, "gap")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_tells_rate_latency_reconnects_and_gaps() {
        let mut summary = Summary::default();
        for ms in 1..=100 {
            summary.event(Some(Duration::from_millis(ms)));
        }
        summary.event(None);
        summary.reconnects = 1;
        assert_eq!(
            summary.line(Duration::from_secs(10)),
            "101 events, 10.1/s, latency p50 50 ms p95 95 ms, 1 reconnect, 0 gaps"
        );
        assert_eq!(summary.second(), "     101       50       95       99      0");
        assert_eq!(summary.second(), "       0        -        -        -      0");
    }

    #[test]
    fn nothing_seen_is_said_without_latencies() {
        let summary = Summary::default();
        assert_eq!(summary.line(Duration::from_secs(1)), "0 events, 0.0/s, 0 reconnects, 0 gaps");
    }
}
