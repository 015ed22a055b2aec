//! The waits between attempts.

use std::time::Duration;

use pulsewire_protocol::client as defaults;

use crate::machine::ms;

/// Waits between attempts: `min` plus a random time below `2 · min · factorⁿ`, at most `max`.
///
/// Full jitter spreads ten thousand clients of a restarted server over seconds instead of one 100 ms slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Always waited. Default 250 ms.
    pub min: Duration,
    /// No wait is longer, unless the server says so. Default 10 s.
    pub max: Duration,
    /// What the random part grows by with each failure. Default 2.
    pub factor: f64,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { min: ms(defaults::BACKOFF_MIN_MS), max: ms(defaults::BACKOFF_MAX_MS), factor: 2.0 }
    }
}
