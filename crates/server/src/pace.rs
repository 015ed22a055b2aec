//! How many new connections the node takes in a second, and when those beyond come back.
//!
//! A handshake costs a token, a session and its subscriptions: as much as many deliveries. When thousands come back at
//! once they are let in at a steady pace, so that those who stayed notice little, and everybody else is answered 503
//! before anything was spent on them. Each is told another time to come back: a place in a line that moves at the pace
//! of the budget, so that those who keep to it find room, and the last is back when the budget allows. The line is two
//! numbers: nobody in it is remembered, and who never comes back leaves its place to whoever comes instead.

use parking_lot::Mutex;
use pulsewire_sources::upstream::breaker::{Admit, Budget};

/// The burst, in seconds' worth of the budget: what an ordinary morning brings at once.
const BURST_SECONDS: u32 = 2;
/// Nobody is told to wait for longer, in milliseconds. Beyond it those who come are spread over its second half.
pub const WAIT_MAX_MS: u64 = 60_000;
/// The shortest wait that is told, in milliseconds: the header that says it counts in seconds.
const WAIT_MIN_MS: u64 = 1_000;

/// The budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// When to come back, in milliseconds from now.
    pub retry_after_ms: u64,
}

/// The budget of new connections, and the line of those who were told to wait.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Option<Line>>);

#[derive(Debug)]
struct Line {
    per_second: usize,
    budget: Budget,
    /// When the last one in the line has its turn.
    ends_ms: f64,
    /// How many were told to wait for the most there is.
    beyond: u32,
}

impl Line {
    fn new(per_second: usize) -> Self {
        let budget = Budget::new(u32::try_from(per_second).unwrap_or(u32::MAX), BURST_SECONDS);
        Self { per_second, budget, ends_ms: 0.0, beyond: 0 }
    }
}

impl Pace {
    /// Takes one new connection out of a budget of `per_second` (0: no limit), at `now_ms` of a clock that never goes
    /// back. Another budget than before begins full.
    ///
    /// # Errors
    ///
    /// [`Wait`], from [`WAIT_MIN_MS`] to [`WAIT_MAX_MS`]; nothing is counted then.
    pub fn take(&self, per_second: usize, now_ms: i64) -> Result<(), Wait> {
        let mut place = self.0.lock();
        if per_second == 0 {
            *place = None;
            return Ok(());
        }
        let line = place.get_or_insert_with(|| Line::new(per_second));
        if line.per_second != per_second {
            *line = Line::new(per_second);
        }
        let Admit::At(room_ms) = line.budget.take(now_ms) else { return Ok(()) };
        let step_ms = 1e3 / per_second as f64;
        let ends_ms = line.ends_ms.max(room_ms as f64) + step_ms;
        let wait_ms = (ends_ms - now_ms as f64) as u64;
        if wait_ms > WAIT_MAX_MS {
            // The line is as long as it gets: who is beyond its end shares its second half with the others there.
            line.beyond = line.beyond.wrapping_add(1);
            let part = u64::from(line.beyond.wrapping_mul(0x9E37_79B9)) * (WAIT_MAX_MS / 2) >> 32;
            return Err(Wait { retry_after_ms: WAIT_MAX_MS / 2 + part });
        }
        line.ends_ms = ends_ms;
        Err(Wait { retry_after_ms: wait_ms.max(WAIT_MIN_MS) })
    }

    /// How many were told to come back later and have not had their turn yet.
    #[must_use]
    pub fn waiting(&self, now_ms: i64) -> u64 {
        let place = self.0.lock();
        let Some(line) = &*place else { return 0 };
        ((line.ends_ms - now_ms as f64).max(0.0) * line.per_second as f64 / 1e3) as u64
    }
}

/// How long it takes until so many connections are let in, in milliseconds: over so long those who are sent away
/// together come back.
#[must_use]
pub fn window_ms(connections: usize, per_second: usize) -> u64 {
    if per_second == 0 { 0 } else { (connections as u64).saturating_mul(1_000) / per_second as u64 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Row R1, as far as the budget decides it.
    #[test]
    fn ten_thousand_who_come_at_once_and_keep_to_what_they_are_told_are_in_when_the_budget_allows() {
        let (pace, per_second) = (Pace::default(), 500);
        let mut coming = BTreeMap::from([(0_i64, 10_000_u32)]);
        let (mut entered, mut refused) = (BTreeMap::<i64, u32>::new(), 0);
        while let Some((now_ms, count)) = coming.pop_first() {
            for _ in 0..count {
                match pace.take(per_second, now_ms) {
                    Ok(()) => *entered.entry(now_ms / 1_000).or_default() += 1,
                    Err(Wait { retry_after_ms }) => {
                        refused += 1;
                        // The header counts in whole seconds.
                        let back_ms = now_ms + retry_after_ms.div_ceil(1_000).cast_signed() * 1_000;
                        *coming.entry(back_ms).or_default() += 1;
                    }
                }
            }
        }
        assert_eq!(entered.values().sum::<u32>(), 10_000);
        let (last_s, most) = (*entered.keys().last().unwrap(), *entered.values().max().unwrap());
        assert!(last_s <= 22, "20 s at 500 a second, and a second or two of rounding: {last_s}");
        assert!(most <= 1_500, "the burst and a second's worth: {most}");
        assert!(refused <= 12_000, "few are told to wait twice: {refused}");
    }

    #[test]
    fn nobody_waits_for_longer_than_a_minute_and_those_beyond_are_spread() {
        let pace = Pace::default();
        let mut halves = [0; 2];
        for _ in 0..2_000 {
            if let Err(Wait { retry_after_ms }) = pace.take(1, 0) {
                assert!((1_000..=WAIT_MAX_MS).contains(&retry_after_ms), "{retry_after_ms}");
                halves[usize::from(retry_after_ms >= WAIT_MAX_MS * 3 / 4)] += 1;
            }
        }
        assert!(halves.iter().all(|half| *half > 900), "{halves:?}");
        assert!(pace.waiting(0) <= 61, "the line is as long as the longest wait");
        assert_eq!(pace.waiting(120_000), 0, "whoever did not come back is not waited for");
    }

    #[test]
    fn another_budget_counts_from_the_next_connection_on_and_zero_is_none() {
        let pace = Pace::default();
        assert!((0..2).all(|_| pace.take(1, 0).is_ok()), "two seconds' worth");
        assert_eq!(pace.take(1, 0), Err(Wait { retry_after_ms: 2_000 }), "behind the one who has the next second");
        assert_eq!(pace.take(0, 0), Ok(()));
        assert_eq!((pace.waiting(0), pace.take(5, 0)), (0, Ok(())));
    }

    #[test]
    fn the_window_of_many_is_what_the_budget_needs_for_them() {
        assert_eq!([window_ms(10_000, 500), window_ms(10, 500), window_ms(10_000, 0)], [20_000, 20, 0]);
    }
}
