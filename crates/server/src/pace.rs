//! How many new connections the node takes in a second, and when those beyond come back.
//!
//! A handshake costs a token, a session and its subscriptions: as much as many deliveries. When thousands come back at
//! once they are let in one after the other at a steady pace, so that those who stayed notice little. Who has its turn
//! within a second waits for it where it is; everybody else is answered 503 before anything was spent on them, each with
//! another time: a place in a line that moves at the same pace, so that those who keep to it find room, and the last is
//! back when the budget allows. The lines are two numbers: nobody in them is remembered, and who never comes back
//! leaves its place to whoever comes instead.

use parking_lot::Mutex;
use pulsewire_sources::upstream::breaker::{Admit, Budget};

/// The burst is a so manieth part of a second's worth: a tenth of a second of somebody's work at most.
const BURST_PART: usize = 10;
/// Who has its turn within so many milliseconds waits for it.
const HOLD_MAX_MS: i64 = 1_000;
/// Nobody is told to wait for longer, in milliseconds. Beyond it those who come are spread over its second half.
pub const WAIT_MAX_MS: u64 = 60_000;
/// The shortest wait that is told, in milliseconds: the header that says it counts in seconds.
const WAIT_MIN_MS: u64 = 1_000;
/// Connections accepted for each that the budget lets in: those that are told to wait, and other requests.
const ACCEPTED_EACH: usize = 4;

/// When a new connection has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Now,
    /// In so many milliseconds, at most a second; its place is taken.
    In(u64),
    /// It is to come back in so many milliseconds, from a second to [`WAIT_MAX_MS`].
    Later(u64),
}

/// The budget of new connections, and the line of those who were told to wait.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Option<Line>>);

#[derive(Debug)]
struct Line {
    per_second: usize,
    budget: Budget,
    /// Connections to accept, whatever they turn out to want.
    accepts: Budget,
    /// When the last one who was told to come back has its turn.
    ends_ms: f64,
    /// How many were told to wait for the most there is.
    beyond: u32,
}

impl Line {
    fn new(per_second: usize) -> Self {
        let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let burst = bounded(per_second / BURST_PART);
        let accepts = Budget::with_burst(bounded(per_second.saturating_mul(ACCEPTED_EACH)), burst);
        let budget = Budget::with_burst(bounded(per_second), burst);
        Self { per_second, budget, accepts, ends_ms: 0.0, beyond: 0 }
    }

    /// A place behind all who were told to come back.
    fn later(&mut self, room_ms: i64, now_ms: i64) -> u64 {
        let ends_ms = self.ends_ms.max(room_ms as f64) + 1e3 / self.per_second as f64;
        let wait_ms = (ends_ms - now_ms as f64) as u64;
        if wait_ms > WAIT_MAX_MS {
            // The line is as long as it gets: who is beyond its end shares its second half with the others there.
            self.beyond = self.beyond.wrapping_add(1);
            let part = (u64::from(self.beyond.wrapping_mul(0x9E37_79B9)) * (WAIT_MAX_MS / 2)) >> 32;
            return WAIT_MAX_MS / 2 + part;
        }
        self.ends_ms = ends_ms;
        wait_ms.max(WAIT_MIN_MS)
    }
}

impl Pace {
    /// Gives a new connection its turn, under a budget of `per_second` (0: no limit), at `now_ms` of a clock that never
    /// goes back. Another budget than before begins full.
    pub fn take(&self, per_second: usize, now_ms: i64) -> Turn {
        let mut place = self.0.lock();
        let Some(line) = of(&mut place, per_second) else { return Turn::Now };
        match line.budget.ask(now_ms) {
            Admit::Now => {
                line.budget.spend();
                Turn::Now
            }
            Admit::At(at_ms) if at_ms - now_ms <= HOLD_MAX_MS => {
                line.budget.spend();
                Turn::In(at_ms.abs_diff(now_ms))
            }
            Admit::At(at_ms) => Turn::Later(line.later(at_ms, now_ms)),
        }
    }

    /// How long to wait before the next connection is accepted, in milliseconds. Those that have not been are kept by
    /// the kernel meanwhile, and whatever else the node does has its turn.
    pub fn accept(&self, per_second: usize, now_ms: i64) -> u64 {
        let mut place = self.0.lock();
        let Some(line) = of(&mut place, per_second) else { return 0 };
        match line.accepts.take(now_ms) {
            Admit::Now => 0,
            Admit::At(at_ms) => at_ms.abs_diff(now_ms),
        }
    }

    /// When somebody comes back for whom there is no place at all, in milliseconds: in a second without a budget.
    pub fn turn_away(&self, per_second: usize, now_ms: i64) -> u64 {
        let mut place = self.0.lock();
        of(&mut place, per_second).map_or(WAIT_MIN_MS, |line| line.later(now_ms, now_ms))
    }

    /// How many were told to come back later and have not had their turn yet.
    #[must_use]
    pub fn waiting(&self, now_ms: i64) -> u64 {
        let place = self.0.lock();
        let Some(line) = &*place else { return 0 };
        ((line.ends_ms - now_ms as f64).max(0.0) * line.per_second as f64 / 1e3) as u64
    }
}

/// The line of a budget, if there is one.
fn of(place: &mut Option<Line>, per_second: usize) -> Option<&mut Line> {
    if per_second == 0 {
        *place = None;
    } else if place.as_ref().is_none_or(|line| line.per_second != per_second) {
        *place = Some(Line::new(per_second));
    }
    place.as_mut()
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
                let wait_ms = match pace.take(per_second, now_ms) {
                    Turn::Now => 0,
                    Turn::In(wait_ms) => wait_ms.cast_signed(),
                    Turn::Later(wait_ms) => {
                        refused += 1;
                        // The header counts in whole seconds.
                        let back_ms = now_ms + wait_ms.div_ceil(1_000).cast_signed() * 1_000;
                        *coming.entry(back_ms).or_default() += 1;
                        continue;
                    }
                };
                *entered.entry((now_ms + wait_ms) / 100).or_default() += 1;
            }
        }
        assert_eq!(entered.values().sum::<u32>(), 10_000);
        let (last, most) = (*entered.keys().last().unwrap(), *entered.values().max().unwrap());
        assert!(last <= 230, "20 s at 500 a second, and a second or two of rounding: {last} tenths");
        assert!(most <= 101, "a tenth of a second's worth in each, and the burst in the first: {most}");
        assert!(refused <= 12_000, "few are told to wait twice: {refused}");
    }

    #[test]
    fn nobody_waits_for_longer_than_a_minute_and_those_beyond_are_spread() {
        let pace = Pace::default();
        let mut halves = [0; 2];
        for _ in 0..2_000 {
            if let Turn::Later(wait_ms) = pace.take(1, 0) {
                assert!((1_000..=WAIT_MAX_MS).contains(&wait_ms), "{wait_ms}");
                halves[usize::from(wait_ms >= WAIT_MAX_MS * 3 / 4)] += 1;
            }
        }
        assert!(halves.iter().all(|half| *half > 900), "{halves:?}");
        assert!(pace.waiting(0) <= 61, "the line is as long as the longest wait");
        assert_eq!(pace.waiting(120_000), 0, "whoever did not come back is not waited for");
    }

    #[test]
    fn who_has_its_turn_within_a_second_waits_for_it() {
        let pace = Pace::default();
        let turns: Vec<_> = (0..4).map(|_| pace.take(2, 0)).collect();
        assert_eq!(turns, [Turn::Now, Turn::In(500), Turn::In(1_000), Turn::Later(2_000)]);
        assert_eq!(pace.take(2, 1_000), Turn::In(500), "the place in the line is for whoever comes");
    }

    #[test]
    fn another_budget_counts_from_the_next_connection_on_and_zero_is_none() {
        let pace = Pace::default();
        assert_eq!([pace.take(1, 0), pace.take(1, 0)], [Turn::Now, Turn::In(1_000)]);
        assert_eq!(pace.turn_away(1, 0), 1_000);
        assert_eq!([pace.take(0, 0), pace.take(0, 0)], [Turn::Now; 2]);
        assert_eq!((pace.waiting(0), pace.take(5, 0)), (0, Turn::Now));
    }

    #[test]
    fn connections_are_accepted_at_four_times_the_pace() {
        let pace = Pace::default();
        let (mut now_ms, mut accepted) = (0, 0);
        while now_ms < 10_000 {
            let wait_ms = pace.accept(100, now_ms);
            accepted += usize::from(wait_ms == 0);
            now_ms += wait_ms.cast_signed();
        }
        assert!((4_000..=4_011).contains(&accepted), "400 a second and a burst: {accepted}");
        assert_eq!(pace.accept(0, now_ms), 0);
    }

    #[test]
    fn the_window_of_many_is_what_the_budget_needs_for_them() {
        assert_eq!([window_ms(10_000, 500), window_ms(10, 500), window_ms(10_000, 0)], [20_000, 20, 0]);
    }
}
