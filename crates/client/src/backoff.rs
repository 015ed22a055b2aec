//! How long to wait before the next attempt.
//!
//! `250 ms + U(0, 500 ms · 2ⁿ)`, at most 10 s: full jitter spreads ten thousand clients of a restarted server over
//! seconds instead of one 100 ms slot. Advice of the server (`retry_ms`) wins, because only the server knows how many
//! others it sends away. A planned close never counts as a failure.

use std::time::Duration;

use crate::random::Random;

/// The constants of the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Always waited. Default 250 ms.
    pub floor: Duration,
    /// The random part of the first wait; doubles with every failure. Default 500 ms.
    pub step: Duration,
    /// No wait is longer. Default 10 s.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            floor: Duration::from_millis(250),
            step: Duration::from_millis(500),
            cap: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row (0 after a planned close).
    pub fn wait(&self, failures: u32, advice: Option<Duration>, random: &mut Random) -> Duration {
        if let Some(advice) = advice {
            // A server that asks for an hour is answered with its own word, a server that asks for nothing with ours.
            return advice.max(self.floor);
        }
        let spread = self.step.saturating_mul(1_u32 << failures.min(10)).min(self.cap);
        (self.floor + spread.mul_f64(random.unit())).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_spread_over_the_whole_window_and_stay_below_the_cap() {
        let (backoff, mut random) = (Backoff::default(), Random::default());
        for failures in [0, 1, 3, 10, 1_000] {
            let window = backoff.step.saturating_mul(1 << failures.min(10)).min(backoff.cap);
            let waits: Vec<Duration> =
                (0..2_000).map(|_| backoff.wait(failures, None, &mut random)).collect();
            assert!(waits.iter().all(|wait| (backoff.floor..=backoff.cap).contains(wait)));
            assert!(waits.iter().any(|wait| *wait < backoff.floor + window / 10), "{failures}");
            assert!(
                waits.iter().any(|wait| *wait > (backoff.floor + window * 9 / 10).min(backoff.cap) / 2),
                "{failures}"
            );
        }
    }

    #[test]
    fn advice_of_the_server_wins() {
        let (backoff, mut random) = (Backoff::default(), Random::default());
        assert_eq!(backoff.wait(9, Some(Duration::from_secs(3)), &mut random), Duration::from_secs(3));
        assert_eq!(backoff.wait(9, Some(Duration::ZERO), &mut random), backoff.floor);
    }
}
