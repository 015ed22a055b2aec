//! Percentiles out of the buckets of histograms.
//!
//! Within a bucket values are taken to be spread evenly, as Prometheus does; in exponential buckets, evenly on the
//! logarithmic scale. The error is at most the width of the bucket. Where a point says its smallest and largest
//! value, no percentile lies outside.

/// A histogram with explicit bounds.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Explicit {
    pub(super) bounds: Vec<f64>,
    pub(super) counts: Vec<u64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

/// One side of an exponential histogram.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Buckets {
    pub(super) offset: i32,
    pub(super) counts: Vec<u64>,
}

/// A histogram whose bounds are powers of 2^(2^-scale).
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Exponential {
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) positive: Buckets,
    pub(super) negative: Buckets,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

impl Explicit {
    /// Whether the buckets fit together: one more than there are bounds, which rise; or none at all.
    pub(super) fn is_sound(&self) -> bool {
        let rising = self.bounds.windows(2).all(|pair| pair[0] < pair[1]);
        let fits = self.counts.len() == self.bounds.len() + 1;
        rising
            && self.bounds.iter().all(|bound| bound.is_finite())
            && (fits || self.counts.is_empty() && self.bounds.is_empty())
    }

    /// The value below which this share of all values lies, if that can be said.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let (at, fraction) = find(self.counts.iter(), share)?;
        let lower = match at.checked_sub(1) {
            Some(before) => self.bounds.get(before).copied(),
            None => self.min.or_else(|| self.bounds.first().map(|bound| bound.min(0.0))),
        };
        let upper = self.bounds.get(at).copied().or(self.max).or_else(|| self.bounds.last().copied());
        let (lower, upper) = (lower?, upper?);
        within(lower + (upper - lower) * fraction, self.min, self.max)
    }
}

impl Exponential {
    /// The value below which this share of all values lies, if that can be said.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let (negative, positive) = (&self.negative, &self.positive);
        // From the smallest value to the largest: negative buckets backwards, zero, positive buckets.
        let counts = negative.counts.iter().rev().chain([&self.zero_count]).chain(&positive.counts);
        let (at, fraction) = find(counts, share)?;
        let below = negative.counts.len();
        let bound = |index: f64| (index * (-f64::from(self.scale)).exp2()).exp2();
        let value = if at < below {
            let index = f64::from(negative.offset) + (below - 1 - at) as f64;
            -bound(index + 1.0 - fraction)
        } else if at == below {
            0.0
        } else {
            let index = f64::from(positive.offset) + (at - below - 1) as f64;
            bound(index + fraction)
        };
        within(value, self.min, self.max)
    }
}

/// In which bucket the value with this rank lies, and how far into it.
fn find<'c>(counts: impl Iterator<Item = &'c u64> + Clone, share: f64) -> Option<(usize, f64)> {
    let total: f64 = counts.clone().map(|count| *count as f64).sum();
    let rank = share * total;
    let mut before = 0.0;
    let mut last = None;
    for (at, count) in counts.enumerate() {
        if *count == 0 {
            continue;
        }
        let count = *count as f64;
        if before + count >= rank {
            return Some((at, ((rank - before) / count).max(0.0)));
        }
        before += count;
        last = Some((at, 1.0));
    }
    // Only rounding leads here.
    last
}

fn within(value: f64, min: Option<f64>, max: Option<f64>) -> Option<f64> {
    let value = min.map_or(value, |min| value.max(min));
    let value = max.map_or(value, |max| value.min(max));
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explicit(bounds: &[f64], counts: &[u64], min: Option<f64>, max: Option<f64>) -> Explicit {
        Explicit { bounds: bounds.to_vec(), counts: counts.to_vec(), min, max }
    }

    #[test]
    fn percentiles_of_explicit_buckets_are_interpolated() {
        let histogram = explicit(&[10.0, 20.0, 30.0], &[10, 10, 0, 0], None, None);
        assert_eq!(histogram.quantile(0.25), Some(5.0), "the first bucket begins at 0");
        assert_eq!(histogram.quantile(0.5), Some(10.0));
        assert_eq!(histogram.quantile(0.95), Some(19.0));
        let above = explicit(&[10.0], &[0, 4], None, None);
        assert_eq!(above.quantile(0.5), Some(10.0), "of the last bucket only its beginning is known");
        let known = explicit(&[10.0], &[0, 4], Some(12.0), Some(30.0));
        assert_eq!(known.quantile(0.5), Some(20.0), "unless the largest value is");
        assert_eq!(known.quantile(0.01), Some(12.0), "nothing lies below the smallest");
        let negative = explicit(&[-5.0, 5.0], &[2, 2, 0], None, None);
        assert_eq!(negative.quantile(0.25), Some(-5.0), "no bucket below zero begins at 0");
        assert_eq!(explicit(&[], &[3], None, None).quantile(0.5), None);
        assert_eq!(explicit(&[], &[4], Some(1.0), Some(3.0)).quantile(0.5), Some(2.0));
        assert_eq!(explicit(&[1.0], &[0, 0], None, None).quantile(0.5), None);
    }

    #[test]
    fn buckets_that_do_not_fit_together_are_noticed() {
        assert!(explicit(&[], &[], None, None).is_sound());
        assert!(explicit(&[1.0, 2.0], &[0, 0, 0], None, None).is_sound());
        for (bounds, counts) in
            [(&[1.0][..], &[1][..]), (&[2.0, 1.0], &[1, 1, 1]), (&[f64::NAN], &[1, 1]), (&[1.0], &[])]
        {
            assert!(!explicit(bounds, counts, None, None).is_sound(), "{bounds:?} {counts:?}");
        }
    }

    #[test]
    fn percentiles_of_exponential_buckets_lie_in_their_bucket() {
        let buckets = |offset, counts: &[u64]| Buckets { offset, counts: counts.to_vec() };
        // Scale 0: bounds are powers of 2. (1, 2] and (2, 4].
        let one = Exponential { positive: buckets(0, &[10, 10]), ..Exponential::default() };
        assert_eq!(one.quantile(0.5), Some(2.0));
        assert_eq!(one.quantile(0.75), Some(8_f64.sqrt()), "evenly on the logarithmic scale");
        // Scale -1: powers of 4; scale 1: powers of the root of 2.
        let coarse = Exponential { scale: -1, positive: buckets(1, &[4]), ..Exponential::default() };
        assert_eq!(coarse.quantile(0.5), Some(8.0));
        let fine = Exponential { scale: 1, positive: buckets(2, &[4]), ..Exponential::default() };
        assert_eq!(fine.quantile(1.0), Some(3_f64.mul_add(0.5, 0.0).exp2()));
        let both = Exponential {
            zero_count: 2,
            negative: buckets(0, &[1, 1]),
            positive: buckets(0, &[4]),
            ..Exponential::default()
        };
        assert_eq!(both.quantile(0.0), Some(-4.0));
        assert_eq!(both.quantile(0.125), Some(-2.0));
        assert_eq!(both.quantile(0.25), Some(-1.0));
        assert_eq!(both.quantile(0.5), Some(0.0));
        assert_eq!(both.quantile(1.0), Some(2.0));
        let bounded = Exponential { min: Some(1.5), max: Some(1.75), ..one };
        assert_eq!((bounded.quantile(0.01), bounded.quantile(0.99)), (Some(1.5), Some(1.75)));
    }

    #[test]
    fn impossible_scales_and_contradicting_bounds_give_no_number_rather_than_a_panic() {
        let wild = Exponential {
            scale: i32::MIN,
            positive: Buckets { offset: i32::MAX, counts: vec![u64::MAX; 3] },
            ..Exponential::default()
        };
        assert_eq!(wild.quantile(0.5), None);
        assert_eq!(explicit(&[1.0], &[1, 1], Some(f64::NAN), Some(-1.0)).quantile(0.5), Some(-1.0));
    }
}
