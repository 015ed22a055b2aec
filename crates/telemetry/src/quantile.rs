//! Quantiles of what the histograms hold, for answers that are not Prometheus'.

use crate::catalog::{FAMILIES, Value};
use crate::current::Current;
use crate::registry::Telemetry;
use crate::view::View;

/// The buckets of a histogram family over all its series.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// Upper bounds in the unit of the family, without infinity.
    pub bounds: Vec<f64>,
    /// Observations in each, not cumulative; the last are above all bounds.
    pub counts: Vec<u64>,
}

impl Buckets {
    /// Those of a family; `None` if there is no such histogram.
    #[must_use]
    pub fn of(telemetry: &Telemetry, current: &Current, family: &str) -> Option<Self> {
        let family = FAMILIES.iter().find(|known| known.name == family)?;
        let view = View::new(telemetry, current);
        let bounds = family.bounds();
        let mut counts = vec![0; bounds.len() + 1];
        for point in family.points(&view) {
            let Value::Histogram(slots) = point.value else { return None };
            for (count, n) in counts.iter_mut().zip(slots) {
                *count += n;
            }
        }
        Some(Self { bounds, counts })
    }

    /// Quantiles, each `q` from 0 to 1.
    ///
    /// Computed as Prometheus' `histogram_quantile` does: linear inside a bucket, and the highest
    /// bound for what lies above all bounds. `None` if it is empty.
    #[must_use]
    pub fn quantiles(&self, qs: &[f64]) -> Option<Vec<f64>> {
        let total: u64 = self.counts.iter().sum();
        (total > 0).then(|| {
            qs.iter().map(|&q| quantile(self.bounds.iter().copied(), &self.counts, total, q)).collect()
        })
    }
}

/// Quantiles (each `q` from 0 to 1) of a histogram family over all its series, in its unit; see
/// [`Buckets::quantiles`]. `None` if there is no such histogram or it is empty.
#[must_use]
pub fn quantiles(telemetry: &Telemetry, current: &Current, family: &str, qs: &[f64]) -> Option<Vec<f64>> {
    Buckets::of(telemetry, current, family)?.quantiles(qs)
}

/// The quantile `q` of `total` observations, of which `counts` says how many lie up to each of the `bounds` and,
/// last, above all of them.
pub(crate) fn quantile(bounds: impl Iterator<Item = f64>, counts: &[u64], total: u64, q: f64) -> f64 {
    let rank = q.clamp(0.0, 1.0) * total as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for (upper, &n) in bounds.zip(counts) {
        let n = n as f64;
        if n > 0.0 && below + n >= rank {
            // The lowest bound may be 0 itself: nothing to interpolate.
            return lower + (upper - lower) * ((rank - below) / n).max(0.0);
        }
        (below, lower) = (below + n, upper);
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    #[test]
    fn quantiles_are_linear_inside_a_bucket_and_end_at_the_highest_bound() {
        let telemetry = Telemetry::new(Options::default());
        let of = |name, qs: &[f64]| quantiles(&telemetry, &Current::default(), name, qs);
        let name = "websocket_event_latency_milliseconds";
        assert_eq!(of(name, &[0.5]), None);
        let types = telemetry.event_types();
        let shard = telemetry.shard();
        // Two types, four deliveries: three between 50 and 100 ms, one above all bounds.
        shard.delivered(types.intern("a"), 70_000_000, 2);
        shard.delivered(types.intern("b"), 80_000_000, 1);
        shard.delivered(types.intern("b"), 90_000_000_000, 1);
        let expected = vec![50.0, 75.0, 100.0, 5000.0, 5000.0];
        assert_eq!(of(name, &[0.0, 0.375, 0.75, 0.99, 2.0]), Some(expected));
        assert_eq!(of("websocket_connections_total", &[0.5]), None);
        assert_eq!(of("no such family", &[0.5]), None);
    }
}
