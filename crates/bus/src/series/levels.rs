//! The windows of one series, from a second to an hour.
//!
//! Windows align to the clock. A sample opens its window of a second; each window that closes becomes part of the
//! next longer one: 1 s, 5 s, 10 s, 1 min, 5 min, 1 h. A window closes when it has ended and so much more time has
//! passed as the series usually comes late, or when more than [`OPEN_MAX`] are open. So whoever sends what is
//! some seconds old, as Prometheus does, loses nothing, and whoever is on time waits for nobody.

use pulsewire_protocol::{Interval, Number};
use smallvec::SmallVec;

use super::window::Window;
use crate::store::Tier;

/// Windows of a second that a series may have open; one more closes the oldest.
const OPEN_MAX: usize = 8;
/// How long a series that says nothing is waited for at most, milliseconds. While it says something, as one that is
/// filled in later does, it is waited for as long as it is late.
const LAG_MAX_MS: i64 = 60_000;
/// When a series counts as one that says nothing, milliseconds.
const QUIET_MS: i64 = 5_000;

/// How long a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    S1,
    S5,
    S10,
    M1,
    M5,
    H1,
}

impl Level {
    pub(crate) const ALL: [Self; 6] = [Self::S1, Self::S5, Self::S10, Self::M1, Self::M5, Self::H1];

    pub(crate) fn span_ms(self) -> i64 {
        [1_000, 5_000, 10_000, 60_000, 300_000, 3_600_000][self as usize]
    }

    /// The interval at which subscribers can have it.
    pub(crate) fn interval(self) -> Option<Interval> {
        match self {
            Self::S1 => Some(Interval::S1),
            Self::S5 => Some(Interval::S5),
            Self::S10 => None,
            Self::M1 => Some(Interval::M1),
            Self::M5 => Some(Interval::M5),
            Self::H1 => Some(Interval::H1),
        }
    }

    /// The tier that keeps it.
    pub(crate) fn tier(self) -> Option<Tier> {
        match self {
            Self::S1 => Some(Tier::S1),
            Self::S10 => Some(Tier::S10),
            Self::M1 => Some(Tier::M1),
            Self::H1 => Some(Tier::H1),
            Self::S5 | Self::M5 => None,
        }
    }
}

/// A window and when it began, Unix milliseconds.
pub(crate) type Dated = (i64, Window);

/// Windows that closed: level, start, values.
pub(crate) type Closed = Vec<(Level, i64, Window)>;

/// The open windows of a series.
#[derive(Debug, Clone)]
pub(crate) struct Levels {
    /// Windows of a second, oldest first.
    seconds: SmallVec<[Dated; 2]>,
    /// The open window of each longer level.
    longer: [Option<Dated>; 5],
    /// Up to where each level has closed, Unix milliseconds.
    closed_ms: [i64; 6],
    /// How late this series usually comes, milliseconds.
    lag_ms: i64,
    /// When something last came, Unix milliseconds.
    came_ms: i64,
    /// Values that came too late for a longer window, and are in none of that length.
    skipped: u64,
}

impl Default for Levels {
    fn default() -> Self {
        Self {
            seconds: SmallVec::new(),
            longer: Default::default(),
            closed_ms: [i64::MIN; 6],
            lag_ms: 0,
            came_ms: 0,
            skipped: 0,
        }
    }
}

impl Levels {
    /// Takes a value. `false` if its window has closed.
    pub(crate) fn add(&mut self, value: Number, at_ms: i64, now_ms: i64, closed: &mut Closed) -> bool {
        let lag_ms = (now_ms - at_ms).max(0);
        self.came_ms = now_ms;
        // Up at once, down slowly: one sample that is on time does not make the others late.
        self.lag_ms = lag_ms.max(self.lag_ms - (self.lag_ms - lag_ms + 15) / 16);
        let start_ms = at_ms - at_ms.rem_euclid(1_000);
        if start_ms < self.closed_ms[0] {
            return false;
        }
        match self.seconds.binary_search_by_key(&start_ms, |(start_ms, _)| *start_ms) {
            Ok(at) => self.seconds[at].1.add(value, at_ms),
            Err(at) => {
                self.seconds.insert(at, (start_ms, Window::of(value, at_ms)));
                if self.seconds.len() > OPEN_MAX {
                    self.close_second(closed);
                }
            }
        }
        true
    }

    /// Closes what has ended, and for which nobody is waited any more.
    pub(crate) fn roll(&mut self, now_ms: i64, lateness_ms: i64, closed: &mut Closed) {
        let quiet = now_ms - self.came_ms >= QUIET_MS;
        let lag_ms = if quiet { self.lag_ms.min(LAG_MAX_MS) } else { self.lag_ms };
        let until_ms = now_ms - lateness_ms.max(lag_ms);
        while self.seconds.first().is_some_and(|(start_ms, _)| start_ms + 1_000 <= until_ms) {
            self.close_second(closed);
        }
        for at in 1..Level::ALL.len() {
            let span_ms = Level::ALL[at].span_ms();
            if self.longer[at - 1].as_ref().is_some_and(|(start_ms, _)| start_ms + span_ms <= until_ms) {
                self.close_longer(at, closed);
            }
        }
    }

    /// Closes every window, and lets time begin anew: the clock by which they were dated was wrong.
    pub(crate) fn restart(&mut self, closed: &mut Closed) {
        while !self.seconds.is_empty() {
            self.close_second(closed);
        }
        for at in 1..Level::ALL.len() {
            self.close_longer(at, closed);
        }
        *self = Self { skipped: self.skipped, ..Self::default() };
    }

    /// How many values came too late for a longer window since this was last asked, once for each such window.
    pub(crate) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Whether no window is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.seconds.is_empty() && self.longer.iter().all(Option::is_none)
    }

    /// The window of a level that is open, with what is open below it.
    pub(crate) fn open(&self, level: Level) -> Vec<Dated> {
        let span_ms = level.span_ms();
        let mut open: Vec<Dated> = Vec::new();
        let mut add = |(start_ms, window): &Dated| {
            let start_ms = start_ms - start_ms.rem_euclid(span_ms);
            match open.iter_mut().find(|(known, _)| *known == start_ms) {
                Some((_, known)) => known.merge(window),
                None => open.push((start_ms, window.clone())),
            }
        };
        self.longer[..level as usize].iter().flatten().rev().for_each(&mut add);
        self.seconds.iter().for_each(&mut add);
        // What has closed at this level is not open, though something may have come for it that is.
        open.retain(|(start_ms, _)| *start_ms >= self.closed_ms[level as usize]);
        open.sort_by_key(|(start_ms, _)| *start_ms);
        open
    }

    fn close_second(&mut self, closed: &mut Closed) {
        let (start_ms, window) = self.seconds.remove(0);
        self.closed_ms[0] = self.closed_ms[0].max(start_ms + 1_000);
        self.rise(1, start_ms, &window, closed);
        closed.push((Level::S1, start_ms, window));
    }

    fn close_longer(&mut self, at: usize, closed: &mut Closed) {
        let Some((start_ms, window)) = self.longer[at - 1].take() else { return };
        let level = Level::ALL[at];
        self.closed_ms[at] = self.closed_ms[at].max(start_ms + level.span_ms());
        self.rise(at + 1, start_ms, &window, closed);
        closed.push((level, start_ms, window));
    }

    /// Makes a closed window part of the next longer one. One that comes too late for a level is part of the next.
    fn rise(&mut self, at: usize, part_ms: i64, part: &Window, closed: &mut Closed) {
        let Some(level) = Level::ALL.get(at) else { return };
        let start_ms = part_ms - part_ms.rem_euclid(level.span_ms());
        match &mut self.longer[at - 1] {
            Some((open_ms, window)) if *open_ms == start_ms => window.merge(part),
            Some((open_ms, _)) if *open_ms < start_ms => {
                self.close_longer(at, closed);
                self.longer[at - 1] = Some((start_ms, part.clone()));
            }
            None if start_ms >= self.closed_ms[at] => self.longer[at - 1] = Some((start_ms, part.clone())),
            _ => {
                self.skipped += part.count();
                self.rise(at + 1, part_ms, part, closed);
            }
        }
    }

    /// The bytes it takes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let windows = self.seconds.iter().chain(self.longer.iter().flatten());
        windows.map(|(_, window)| window.heap_bytes()).sum::<usize>()
            + if self.seconds.spilled() { self.seconds.capacity() * size_of::<Dated>() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// When windows of each level began, and how many values they held, in the order they closed.
    type Seen = Vec<(Level, i64, u64)>;

    /// Adds values that come so much later than they are dated, and closes windows now and then.
    fn run(values: &[(i64, i64, bool)], lateness_ms: i64) -> (Seen, Vec<i64>) {
        let (mut levels, mut closed, mut now_ms) = (Levels::default(), Closed::new(), 1_000_000_000);
        let mut accepted = Vec::new();
        for (pause_ms, lag_ms, roll) in values {
            now_ms += pause_ms;
            if *roll {
                levels.roll(now_ms, lateness_ms, &mut closed);
            }
            let at_ms = now_ms - lag_ms;
            if levels.add(Number::Whole(1), at_ms, now_ms, &mut closed) {
                accepted.push(at_ms);
            }
        }
        levels.roll(now_ms + 10_000_000, lateness_ms, &mut closed);
        assert!(levels.is_empty());
        (
            closed
                .iter()
                .map(|(level, start_ms, window)| (*level, *start_ms, window.figures().count))
                .collect(),
            accepted,
        )
    }

    /// What a plain count of the values by windows says.
    fn counted(level: Level, values: &[i64]) -> BTreeMap<i64, u64> {
        let mut windows = BTreeMap::new();
        values
            .iter()
            .for_each(|at_ms| *windows.entry(at_ms - at_ms.rem_euclid(level.span_ms())).or_default() += 1);
        windows
    }

    fn of(level: Level, seen: &Seen) -> BTreeMap<i64, u64> {
        seen.iter().filter(|(of, ..)| *of == level).map(|(_, start_ms, count)| (*start_ms, *count)).collect()
    }

    proptest! {
        /// Values that come on time are all there at every level, each in its window, and every window closes once.
        #[test]
        fn windows_hold_what_came_on_time(
            values in prop::collection::vec((0..4_000_i64, 0..250_i64, any::<bool>()), 1..400),
        ) {
            let (seen, accepted) = run(&values, 250);
            prop_assert_eq!(accepted.len(), values.len());
            for level in Level::ALL {
                prop_assert_eq!(of(level, &seen), counted(level, &accepted), "{:?}", level);
                prop_assert_eq!(of(level, &seen).len(), seen.iter().filter(|(of, ..)| *of == level).count());
            }
        }

        /// Whatever comes when, seconds hold what was accepted, no window closes twice, and windows of one level
        /// close in the order of time.
        #[test]
        fn windows_close_once_and_in_order_whatever_comes(
            values in prop::collection::vec((0..4_000_i64, -30_000..90_000_i64, any::<bool>()), 1..400),
        ) {
            let (seen, accepted) = run(&values, 250);
            prop_assert_eq!(of(Level::S1, &seen), counted(Level::S1, &accepted));
            for level in Level::ALL {
                let starts: Vec<i64> =
                    seen.iter().filter(|(of, ..)| *of == level).map(|(_, start_ms, _)| *start_ms).collect();
                prop_assert!(starts.is_sorted_by(|a, b| a < b), "{level:?}: {starts:?}");
            }
        }

        /// What is filled in later, quickly and in order, is all there too.
        #[test]
        fn what_is_filled_in_later_is_all_there(
            begin_s in 60..100_000_i64,
            pauses in prop::collection::vec(0..20_i64, 1..600),
        ) {
            let values: Vec<(i64, i64, bool)> = pauses
                .iter()
                .enumerate()
                .map(|(at, pause_ms)| (*pause_ms, (begin_s - at as i64).max(0) * 1_000, true))
                .collect();
            let (seen, accepted) = run(&values, 250);
            prop_assert_eq!(accepted.len(), values.len());
            for level in Level::ALL {
                prop_assert_eq!(of(level, &seen), counted(level, &accepted), "{:?}", level);
            }
        }

        /// A source that is late by the same time, as Prometheus is, loses nothing after its first samples.
        #[test]
        fn who_is_late_by_the_same_time_loses_nothing(
            pauses in prop::collection::vec((100..2_000_i64, Just(5_000_i64), Just(true)), 50..200),
        ) {
            let (seen, accepted) = run(&pauses, 250);
            prop_assert_eq!(accepted.len(), pauses.len());
            for level in Level::ALL {
                prop_assert_eq!(of(level, &seen), counted(level, &accepted), "{:?}", level);
            }
        }
    }
}
