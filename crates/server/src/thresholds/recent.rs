//! The moments of the last minutes, for rules that look back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::figures::Moment;

/// The time between two moments that are kept. A window is longer by up to so much.
const SPACING: Duration = Duration::from_secs(5);
/// Moments kept: the longest window, and one before it.
const KEPT: usize = 5 * 60 / 5 + 2;

/// The moments of the last minutes, oldest first; about 8 KB each.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<Arc<Moment>>);

impl Recent {
    /// Keeps a moment, if the one before is old enough.
    pub(crate) fn push(&mut self, now: &Arc<Moment>) {
        let spacing_ns = u64::try_from(SPACING.as_nanos()).unwrap_or(u64::MAX);
        // Ticks come about once a second, now and then a little early.
        let due = |last: &Arc<Moment>| now.at.since_ns(last.at.mono_ns) + 500_000_000 >= spacing_ns;
        if self.0.back().is_none_or(due) {
            if self.0.len() == KEPT {
                self.0.pop_front();
            }
            self.0.push_back(now.clone());
        }
    }

    /// The moment that lies `window` back, or a little further; the oldest if none lies so far back.
    pub(crate) fn back(&self, now: &Moment, window: Duration) -> Option<&Arc<Moment>> {
        let window_ns = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX).saturating_sub(500_000_000);
        let far = self.0.iter().rev().find(|moment| now.at.since_ns(moment.at.mono_ns) >= window_ns);
        far.or_else(|| self.0.front())
    }
}
