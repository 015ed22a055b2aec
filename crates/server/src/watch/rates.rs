//! How much a second: the difference between two looks at the same thing.
//!
//! Nothing is counted for it. Of each thing that was shown the counts of the last look are kept, a bounded number of
//! them; one that was not shown lately has no rates yet.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;
use pulsewire_hub::Now;

/// Two looks that are nearer than this say nothing new.
const NEAR_NS: u64 = 800_000_000;
/// Two looks that are further apart than this say nothing of now.
const FAR_NS: u64 = 10_000_000_000;

/// What two counts do a second; `None` where they were not looked at before.
pub type PerSecond = [Option<f64>; 2];

/// What was seen of things when they were last shown.
#[derive(Debug)]
pub struct Rates<K> {
    looks: Mutex<HashMap<K, Look>>,
    /// How many are kept; beyond it those are forgotten that were not shown lately, and then all.
    kept_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at_ns: u64,
    counts: [u64; 2],
    rates: PerSecond,
}

impl<K: Eq + Hash> Rates<K> {
    /// Keeps the counts of at most so many things.
    #[must_use]
    pub fn new(kept_max: usize) -> Self {
        Self { looks: Mutex::default(), kept_max }
    }

    /// The rates of things whose counts are these now, in their order.
    pub fn of(&self, counts: impl ExactSizeIterator<Item = (K, [u64; 2])>, now: Now) -> Vec<PerSecond> {
        let mut looks = self.looks.lock();
        if looks.len() + counts.len() > self.kept_max {
            looks.retain(|_, look| now.since_ns(look.at_ns) < FAR_NS);
        }
        if looks.len() + counts.len() > 2 * self.kept_max {
            looks.clear();
        }
        counts.map(|(key, counts)| look(&mut looks, key, counts, now)).collect()
    }
}

fn look<K: Eq + Hash>(looks: &mut HashMap<K, Look>, key: K, counts: [u64; 2], now: Now) -> PerSecond {
    let fresh = Look { at_ns: now.mono_ns, counts, rates: PerSecond::default() };
    let look = looks.entry(key).or_insert(fresh);
    let passed_ns = now.since_ns(look.at_ns);
    if passed_ns < NEAR_NS {
        return look.rates;
    }
    let per_second = |at: usize| {
        // What came back counts from zero again.
        let count = counts[at].checked_sub(look.counts[at])?;
        Some((count as f64 / (passed_ns as f64 / 1e9) * 10.0).round() / 10.0)
    };
    let rates = if passed_ns > FAR_NS { PerSecond::default() } else { [per_second(0), per_second(1)] };
    *look = Look { rates, ..fresh };
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_difference_of_two_looks_that_are_neither_near_nor_far() {
        let rates = Rates::new(10);
        let at = |ms: u64| Now { mono_ns: ms * 1_000_000, wall_ms: 0 };
        let look = |ms, counts| rates.of([(1, counts)].into_iter(), at(ms)).remove(0);
        assert_eq!(look(1_000, [10, 100]), [None, None], "nothing to compare with");
        assert_eq!(look(1_500, [15, 100]), [None, None], "too near");
        assert_eq!(look(3_000, [30, 100]), [Some(10.0), Some(0.0)]);
        assert_eq!(look(3_100, [90, 900]), [Some(10.0), Some(0.0)], "as it was");
        assert_eq!(look(4_000, [5, 200]), [None, Some(100.0)], "one counts from zero again");
        assert_eq!(look(20_000, [6, 200]), [None, None], "too far");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let rates = Rates::new(10);
        let at = |ms: u64| Now { mono_ns: ms * 1_000_000, wall_ms: 0 };
        for key in 0..100_u64 {
            rates.of([(key, [0, 0])].into_iter(), at(key));
            assert!(rates.looks.lock().len() <= 20);
        }
        rates.of([(7_000, [0, 0])].into_iter(), at(30_000));
        assert_eq!(rates.looks.lock().len(), 1, "what was not shown lately is forgotten");
    }
}
