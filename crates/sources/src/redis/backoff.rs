//! How long to wait before a lost connection is tried again.

use std::time::Duration;

/// The first pause is at most this …
const FIRST_MS: u64 = 200;
/// … and none is longer than this.
const LONGEST_MS: u64 = 10_000;
/// A connection that held for so long was a good one: what comes after it is a first failure.
const GOOD: Duration = Duration::from_secs(10);

/// Pauses that double with each failure up to ten seconds, each between half of that and all of it, so that nodes
/// that lost the same server do not come back at once.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    longest_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(LONGEST_MS)
    }
}

impl Backoff {
    /// Pauses that are never longer than this, milliseconds; at least 200.
    #[must_use]
    pub fn up_to(longest_ms: u64) -> Self {
        Self { failures: 0, longest_ms: longest_ms.max(FIRST_MS) }
    }

    /// The pause after a failure. `held` is how long the connection had been good, `chance` any number.
    pub fn pause(&mut self, held: Duration, chance: u64) -> Duration {
        if held >= GOOD {
            self.failures = 0;
        }
        let longest_ms = (FIRST_MS << self.failures.min(16)).min(self.longest_ms);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(longest_ms - chance % (longest_ms / 2 + 1))
    }
}
