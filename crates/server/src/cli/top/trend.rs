//! What a figure did, a second a value, as a line of bars.

use std::collections::VecDeque;

use serde_json::Value;

/// As many seconds as the widest terminal has columns.
const VALUES_MAX: usize = 300;

/// The newest values of one figure.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Trend(VecDeque<f64>);

impl Trend {
    /// What the server remembers; seconds in which nothing was measured are nothing.
    pub(super) fn remembered(history: &Value, figure: &str) -> Trend {
        let all = history["figures"][figure].as_array();
        let mut trend = Trend::default();
        for value in all.into_iter().flatten() {
            trend.push(value.as_f64());
        }
        trend
    }

    pub(super) fn push(&mut self, value: Option<f64>) {
        if self.0.len() == VALUES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(value.unwrap_or(0.0));
    }

    pub(super) fn max(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// The newest so many, as whole thousandths of the largest.
    pub(super) fn bars(&self, width: usize) -> Vec<u64> {
        let max = self.max();
        let from = self.0.len().saturating_sub(width);
        let share = |value: &f64| if max > 0.0 { (value / max * 1_000.0) as u64 } else { 0 };
        self.0.iter().skip(from).map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_values_fill_the_width() {
        let history = serde_json::json!({"figures": {"messages.out": [1.0, null, 4.0]}});
        let mut trend = Trend::remembered(&history, "messages.out");
        trend.push(Some(2.0));
        assert_eq!(trend.bars(3), [0, 1_000, 500]);
        assert_eq!(trend.bars(10), [250, 0, 1_000, 500]);
        for _ in 0..VALUES_MAX {
            trend.push(None);
        }
        assert_eq!((trend.bars(1_000).len(), trend.max()), (VALUES_MAX, 0.0));
    }
}
