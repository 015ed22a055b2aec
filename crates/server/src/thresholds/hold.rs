//! A condition that must hold for a while before it counts.

/// A condition, and whether it counts: it begins to when it has held for long enough, and ends to when it has not
/// held for as long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hold {
    counts: bool,
    /// Since when the condition is not what counts, on the monotonic clock.
    turned_ns: Option<u64>,
}

impl Hold {
    /// Takes in whether the condition holds now. Returns whether it counts.
    pub(super) fn tick(&mut self, holds: bool, now_ns: u64, hold_ns: u64) -> bool {
        if holds == self.counts {
            self.turned_ns = None;
        } else if now_ns.saturating_sub(*self.turned_ns.get_or_insert(now_ns)) >= hold_ns {
            *self = Self { counts: holds, turned_ns: None };
        }
        self.counts
    }

    /// Nobody has looked for a while: what began before begins again.
    pub(super) fn resume(&mut self) {
        self.turned_ns = None;
    }

    /// Whether it counts.
    pub(super) const fn counts(&self) -> bool {
        self.counts
    }

    /// For how long the condition has held without counting yet, in nanoseconds.
    pub(super) fn pending_ns(&self, now_ns: u64) -> Option<u64> {
        self.turned_ns.filter(|_| !self.counts).map(|turned_ns| now_ns.saturating_sub(turned_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_counts_when_it_has_held_and_ends_when_it_has_not_for_as_long() {
        let mut hold = Hold::default();
        let mut tick = |holds: bool, at_s: u64| hold.tick(holds, at_s, 3);
        let holds = [(0, true), (1, true), (2, false), (3, true), (4, true), (5, true)];
        assert!(holds.iter().all(|(at, holds)| !tick(*holds, *at)), "it was interrupted");
        assert!(tick(true, 6), "three seconds since the third");
        assert!(tick(false, 7) && tick(false, 9) && tick(true, 10) && tick(false, 11) && tick(false, 13));
        assert!(!tick(false, 14));
    }

    #[test]
    fn without_a_time_to_hold_it_counts_at_once() {
        let mut hold = Hold::default();
        assert!(hold.tick(true, 5, 0) && !hold.tick(false, 6, 0));
    }

    #[test]
    fn what_began_before_a_pause_begins_again() {
        let mut hold = Hold::default();
        assert!(!hold.tick(true, 0, 3));
        assert_eq!(hold.pending_ns(2), Some(2));
        hold.resume();
        assert_eq!(hold.pending_ns(100), None);
        assert!(!hold.tick(true, 100, 3) && !hold.tick(true, 102, 3) && hold.tick(true, 103, 3));
        assert_eq!(hold.pending_ns(104), None);
    }
}
