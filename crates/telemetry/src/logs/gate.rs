//! At most one line a second from one place in the code.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Lets one call a second through and counts the others.
#[derive(Debug, Default)]
pub struct Gate {
    /// Milliseconds on the gate's clock before which nothing passes.
    opens_ms: AtomicU64,
    suppressed: AtomicU64,
}

impl Gate {
    const INTERVAL: Duration = Duration::from_secs(1);

    /// An open gate.
    #[must_use]
    pub const fn new() -> Self {
        Self { opens_ms: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Whether the caller may pass now, and how many could not since the last one that did.
    pub fn pass(&self) -> Option<u64> {
        static START: OnceLock<Instant> = OnceLock::new();
        self.pass_at(START.get_or_init(Instant::now).elapsed())
    }

    fn pass_at(&self, now: Duration) -> Option<u64> {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let opens_ms = self.opens_ms.load(Relaxed);
        let next_ms = now_ms + Self::INTERVAL.as_millis() as u64;
        // Of several callers at the same moment the exchange lets one through.
        if now_ms < opens_ms || self.opens_ms.compare_exchange(opens_ms, next_ms, Relaxed, Relaxed).is_err() {
            self.suppressed.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Relaxed))
    }
}

/// Logs at most one line a second from this place in the code, with the number of lines that were held back.
///
/// ```
/// # let peer = "192.0.2.1";
/// pulsewire_telemetry::limited!(warn, %peer, "frame refused");
/// ```
#[macro_export]
macro_rules! limited {
    ($level:ident, $($fields:tt)+) => {{
        static GATE: $crate::logs::Gate = $crate::logs::Gate::new();
        if let Some(suppressed) = GATE.pass() {
            // An absent field is not shown.
            let suppressed = (suppressed > 0).then_some(suppressed);
            $crate::tracing::$level!(suppressed, $($fields)+);
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_passes_and_tells_of_the_others() {
        let gate = Gate::new();
        let at = |ms| gate.pass_at(Duration::from_millis(ms));
        assert_eq!(
            [at(0), at(1), at(999), at(1000), at(1001), at(9000)],
            [Some(0), None, None, Some(2), None, Some(1)]
        );
    }
}
