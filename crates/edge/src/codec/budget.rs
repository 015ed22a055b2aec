//! How many pings and pongs a client may send.

/// One client's allowance of control frames.
///
/// A generic cell rate limit in eight bytes: the time up to which the allowance is spent. A quiet
/// connection's budget refills by the passing of time alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ControlBudget {
    spent_until_us: u64,
}

const _: () = assert!(size_of::<ControlBudget>() == 8);

const SECOND_US: u64 = 1_000_000;

impl ControlBudget {
    /// Takes one frame from the budget; false if none is left, and then nothing is taken.
    ///
    /// `per_second` frames are allowed at once and refill evenly over a second; 0 counts as 1.
    pub(super) fn charge(&mut self, now_ms: u64, per_second: u32) -> bool {
        let now_us = now_ms.saturating_mul(1000);
        let cost_us = SECOND_US / u64::from(per_second.max(1));
        let spent_until_us = self.spent_until_us.max(now_us).saturating_add(cost_us);
        let within = spent_until_us <= now_us.saturating_add(SECOND_US);
        if within {
            self.spent_until_us = spent_until_us;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(budget: &mut ControlBudget, now_ms: u64, asked: u32) -> u32 {
        (0..asked).filter(|_| budget.charge(now_ms, 20)).count() as u32
    }

    #[test]
    fn a_second_of_frames_passes_at_once_and_refills_evenly() {
        let mut budget = ControlBudget::default();
        assert_eq!(granted(&mut budget, 5_000, 100), 20);
        assert_eq!(granted(&mut budget, 5_049, 100), 0);
        assert_eq!(granted(&mut budget, 5_050, 100), 1);
        assert_eq!(granted(&mut budget, 5_550, 100), 10);
        assert_eq!(granted(&mut budget, 60_000, 100), 20);
    }

    #[test]
    fn a_clock_that_steps_back_never_grants_more() {
        let mut budget = ControlBudget::default();
        assert_eq!(granted(&mut budget, 5_000, 20), 20);
        assert_eq!(granted(&mut budget, 1_000, 20), 0);
    }
}
