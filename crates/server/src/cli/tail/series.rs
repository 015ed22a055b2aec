//! What a `tail` remembers of each series: its newest value, whether it moved, and the values before it.

use std::collections::{BTreeMap, VecDeque};

use pulsewire_client::{Metric, Number, Reading};

/// The most series remembered; the one that said nothing for longest makes room.
pub(super) const SERIES_MAX: usize = 10_000;
/// How many values a sparkline shows.
pub(super) const SPARK_MAX: usize = 30;
const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One series at one moment, or in one window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) channel: String,
    pub(super) name: String,
    /// Those that the command line did not ask for, as `key=value` with spaces between.
    pub(super) tags: String,
    pub(super) timestamp_ms: i64,
    pub(super) reading: Reading,
}

/// What a metric message says, one row for each series; tags that were asked for are known and left out.
pub(super) fn rows(metric: &Metric, fixed: &[(String, String)]) -> Vec<Row> {
    let tags = metric.tags.iter().filter(|(key, _)| fixed.iter().all(|(fixed, _)| fixed != *key));
    let tags: Vec<String> = tags.map(|(key, value)| format!("{key}={value}")).collect();
    let tags = crate::cli::screen::printable(&tags.join(" "));
    let row = |(name, reading): (&str, Reading)| Row {
        channel: metric.channel.clone(),
        name: crate::cli::screen::printable(name),
        tags: tags.clone(),
        timestamp_ms: metric.timestamp_ms,
        reading,
    };
    metric.readings().map(row).collect()
}

impl Row {
    /// The newest value.
    pub(super) fn value(&self) -> Number {
        match self.reading {
            Reading::Value(value) => value,
            Reading::Figures(figures) => figures.last,
        }
    }

    fn mean(&self) -> f64 {
        match self.reading {
            Reading::Value(value) => value.as_f64(),
            Reading::Figures(figures) => figures.avg(),
        }
    }
}

/// How a value compares with the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Up,
    Down,
    /// The same, or the first.
    None,
}

impl Change {
    pub(super) fn mark(self) -> &'static str {
        match self {
            Change::Up => "▲",
            Change::Down => "▼",
            Change::None => " ",
        }
    }
}

/// The newest of one series.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) row: Row,
    pub(super) change: Change,
    means: VecDeque<f64>,
    heard: u64,
}

impl Told {
    /// The last 30 values, or the means of windows, between the smallest and the largest of them.
    pub(super) fn spark(&self) -> String {
        let finite = || self.means.iter().copied().filter(|mean| mean.is_finite());
        let (min, max) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        let height = |mean: f64| match (mean - min) / (max - min) {
            _ if !mean.is_finite() => ' ',
            share if share.is_finite() => SPARKS[((share * 8.0) as usize).min(7)],
            _ => SPARKS[0],
        };
        self.means.iter().map(|mean| height(*mean)).collect()
    }
}

/// All series, by channel, name and tags.
#[derive(Debug, Default)]
pub(super) struct Memory {
    series: BTreeMap<(String, String, String), Told>,
    heard: u64,
}

impl Memory {
    /// Takes a row and says how it compares with the one before.
    pub(super) fn take(&mut self, row: &Row) -> Change {
        self.heard += 1;
        let key = (row.channel.clone(), row.name.clone(), row.tags.clone());
        if let Some(told) = self.series.get_mut(&key) {
            let (before, now) = (told.row.value().as_f64(), row.value().as_f64());
            told.change = match now.partial_cmp(&before) {
                Some(std::cmp::Ordering::Greater) => Change::Up,
                Some(std::cmp::Ordering::Less) => Change::Down,
                _ => Change::None,
            };
            if told.means.len() == SPARK_MAX {
                told.means.pop_front();
            }
            told.means.push_back(row.mean());
            (told.row, told.heard) = (row.clone(), self.heard);
            return told.change;
        }
        if self.series.len() >= SERIES_MAX
            && let Some(oldest) =
                self.series.iter().min_by_key(|(_, told)| told.heard).map(|(key, _)| key.clone())
        {
            self.series.remove(&oldest);
        }
        let means = VecDeque::from([row.mean()]);
        let told = Told { row: row.clone(), change: Change::None, means, heard: self.heard };
        self.series.insert(key, told);
        Change::None
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Told> {
        self.series.values()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use pulsewire_client::{Content, Figures, MetricKind};

    use super::*;

    pub(crate) fn row(name: &str, value: f64) -> Row {
        let reading = Reading::Value(Number::Float(value));
        Row {
            channel: "a.metrics".to_owned(),
            name: name.to_owned(),
            tags: String::new(),
            timestamp_ms: 0,
            reading,
        }
    }

    /// A point of `host` at a time; with `figures` of a window from `value - 1` to `value + 1`.
    pub(crate) fn point(name: &str, value: f64, timestamp_ms: i64, host: &str, windowed: bool) -> Metric {
        let figures = windowed.then_some(Figures {
            last: Number::Float(value + 1.0),
            min: value - 1.0,
            max: value + 1.0,
            sum: 2.0 * value,
            count: 2,
            p50: value,
            p95: value + 0.5,
            p99: value + 1.0,
        });
        Metric {
            channel: "system.metrics".to_owned(),
            timestamp_ms,
            interval: windowed.then(|| "5s".to_owned()),
            tags: BTreeMap::from([
                ("env".to_owned(), "prod".to_owned()),
                ("host".to_owned(), host.to_owned()),
            ]),
            content: Content::Point {
                name: name.to_owned(),
                kind: MetricKind::Gauge,
                value: Number::Float(value),
                figures,
            },
        }
    }

    #[test]
    fn tags_that_were_asked_for_are_left_out() {
        let metric = point("cpu.percent", 5.0, 7, "web-1", false);
        assert_eq!(rows(&metric, &[])[0].tags, "env=prod host=web-1");
        let fixed = [("host".to_owned(), "web-1".to_owned())];
        assert_eq!(rows(&metric, &fixed)[0].tags, "env=prod");
    }

    #[test]
    fn a_series_tells_whether_it_moved_since_its_last_value() {
        let mut memory = Memory::default();
        let changes = [3.0, 5.0, 5.0, 4.0].map(|value| memory.take(&row("x", value)));
        assert_eq!(changes, [Change::None, Change::Up, Change::None, Change::Down]);
        assert_eq!(memory.take(&row("y", 9.0)), Change::None, "another series");
    }

    #[test]
    fn a_sparkline_shows_the_last_thirty_between_their_extremes() {
        let mut memory = Memory::default();
        let spark = |memory: &Memory| memory.all().next().unwrap().spark();
        memory.take(&row("x", 5.0));
        memory.take(&row("x", 5.0));
        assert_eq!(spark(&memory), "▁▁", "flat");
        memory = Memory::default();
        for value in [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, f64::NAN] {
            memory.take(&row("x", value));
        }
        assert_eq!(spark(&memory), "▁▂▃▄▅▆▇██ ");
        for value in 0..40 {
            memory.take(&row("x", f64::from(value)));
        }
        let shown = spark(&memory);
        assert_eq!(
            (shown.chars().count(), shown.chars().next(), shown.chars().last()),
            (30, Some('▁'), Some('█'))
        );
    }

    #[test]
    fn the_series_that_was_silent_for_longest_makes_room() {
        let mut memory = Memory::default();
        for index in 0..SERIES_MAX {
            memory.take(&row(&format!("s{index}"), 1.0));
        }
        memory.take(&row("s0", 2.0));
        memory.take(&row("new", 1.0));
        assert_eq!(memory.len(), SERIES_MAX);
        assert_eq!(memory.take(&row("s0", 1.0)), Change::Down, "it spoke lately");
        assert_eq!(memory.take(&row("s1", 9.0)), Change::None, "forgotten");
    }
}
