//! Numbered messages: what is missing is found, what comes twice is left out.
//!
//! One link's messages come in order, so a hole in their numbers is a gap at once. Where two links feed one channel, the
//! other may have what one misses: what follows a hole waits a little, and in a small space, for it.

use std::collections::BTreeMap;

/// Messages of one key that wait behind a hole.
const WAITING_MAX: usize = 256;
/// How long they wait for the other link, milliseconds.
const WAIT_MS: i64 = 500;
/// Numbers so far below the last are another count, not an old message: the upstream began anew.
const ANEW: u64 = 1_000;
/// So long nothing but such numbers, although another link is there: both count anew, or one garbled number ran far
/// ahead of what both send. A link that lags catches up sooner.
const ANEW_MS: i64 = 5_000;

/// The order of one key's messages.
#[derive(Debug)]
pub struct Sequencer<T> {
    last: Option<u64>,
    waiting: BTreeMap<u64, (u64, T)>,
    /// Until when, Unix milliseconds or any other clock that goes on.
    until_ms: i64,
    /// Since when nothing came but numbers far below the last.
    below_since_ms: Option<i64>,
}

/// Numbers that did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
}

/// What a message led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Offer<T> {
    /// It is to be passed on.
    Pass(T),
    /// Numbers are missing before what follows.
    Missing(Gap),
    /// The upstream counts anew.
    Anew,
    /// It had come already.
    Duplicate,
}

impl<T> Default for Sequencer<T> {
    fn default() -> Self {
        Self { last: None, waiting: BTreeMap::new(), until_ms: 0, below_since_ms: None }
    }
}

impl<T> Sequencer<T> {
    /// Takes a message that stands for the numbers from `first` to `last`. `others` says whether another link may have
    /// what is missing; `fresh` whether it is the first of its link since that was opened.
    pub fn offer(
        &mut self,
        (first, last): (u64, u64),
        message: T,
        (others, fresh): (bool, bool),
        now_ms: i64,
        out: &mut dyn FnMut(Offer<T>),
    ) {
        let Some(before) = self.last else {
            self.last = Some(last);
            return out(Offer::Pass(message));
        };
        if last <= before {
            // A link that is opened again may begin with what was sent, or count from anew; beside another link that
            // goes on, it is late.
            let far_below = last.saturating_add(ANEW) < before;
            let stuck = far_below && now_ms >= self.below_since_ms.unwrap_or(now_ms).saturating_add(ANEW_MS);
            if far_below && self.below_since_ms.is_none() {
                self.below_since_ms = Some(now_ms);
            }
            if stuck || ((far_below || (fresh && last < before)) && !others) {
                self.waiting.clear();
                self.below_since_ms = None;
                self.last = Some(last);
                out(Offer::Anew);
                return out(Offer::Pass(message));
            }
            return out(Offer::Duplicate);
        }
        self.below_since_ms = None;
        if first <= before.saturating_add(1) {
            self.last = Some(last);
            out(Offer::Pass(message));
            return self.catch_up(out);
        }
        if !others {
            return self.jump(first, last, message, out);
        }
        // The links may cut the same numbers differently: the message that stands for more of them waits.
        match self.waiting.get(&first) {
            Some((other, _)) if *other >= last => return out(Offer::Duplicate),
            Some(_) => out(Offer::Duplicate),
            None => {}
        }
        if self.waiting.is_empty() {
            self.until_ms = now_ms.saturating_add(WAIT_MS);
        }
        self.waiting.insert(first, (last, message));
        if self.waiting.len() > WAITING_MAX {
            self.give_up(out);
        }
    }

    /// When what waits has waited long enough; `None` while nothing waits.
    #[must_use]
    pub fn until_ms(&self) -> Option<i64> {
        (!self.waiting.is_empty()).then_some(self.until_ms)
    }

    /// How many messages wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Passes on what waits, and says what is missing, if it has waited long enough or nobody else can have it.
    pub fn look(&mut self, others: bool, now_ms: i64, out: &mut dyn FnMut(Offer<T>)) {
        while !self.waiting.is_empty() && (!others || now_ms >= self.until_ms) {
            self.give_up(out);
        }
    }

    /// Says that what is missing before the first that waits will not come.
    fn give_up(&mut self, out: &mut dyn FnMut(Offer<T>)) {
        if let Some((first, (last, message))) = self.waiting.pop_first() {
            self.jump(first, last, message, out);
        }
    }

    fn jump(&mut self, first: u64, last: u64, message: T, out: &mut dyn FnMut(Offer<T>)) {
        let next = self.last.map_or(first, |before| before.saturating_add(1));
        if first > next {
            out(Offer::Missing(Gap { from: next, to: first - 1 }));
        }
        self.last = Some(last);
        out(Offer::Pass(message));
        self.catch_up(out);
    }

    /// Passes on what waited for what has come.
    fn catch_up(&mut self, out: &mut dyn FnMut(Offer<T>)) {
        while let Some(entry) = self.waiting.first_entry() {
            let before = self.last.unwrap_or(0);
            if *entry.key() > before.saturating_add(1) {
                break;
            }
            let (last, message) = entry.remove();
            if last <= before {
                out(Offer::Duplicate);
                continue;
            }
            self.last = Some(last);
            out(Offer::Pass(message));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offered(steps: &[(u64, bool, bool, i64)]) -> String {
        let mut sequencer = Sequencer::default();
        let mut text = Vec::new();
        for &(number, others, fresh, at) in steps {
            sequencer.look(others, at, &mut |offer| text.push(shown(&offer)));
            sequencer
                .offer((number, number), number, (others, fresh), at, &mut |offer| text.push(shown(&offer)));
        }
        text.join(" ")
    }

    fn shown(offer: &Offer<u64>) -> String {
        match offer {
            Offer::Pass(number) => number.to_string(),
            Offer::Missing(gap) => format!("-{}..{}", gap.from, gap.to),
            Offer::Anew => "anew".to_owned(),
            Offer::Duplicate => "=".to_owned(),
        }
    }

    #[test]
    fn a_hole_of_one_link_is_a_gap_at_once() {
        assert_eq!(
            offered(&[(5, false, true, 0), (6, false, false, 0), (9, false, false, 0)]),
            "5 6 -7..8 9"
        );
        assert_eq!(offered(&[(5, false, true, 0), (5, false, false, 0), (4, false, false, 0)]), "5 = =");
    }

    #[test]
    fn another_link_fills_a_hole_in_order_or_it_is_a_gap_after_a_while() {
        assert_eq!(
            offered(&[(1, true, true, 0), (3, true, false, 0), (2, true, true, 1), (3, true, false, 2)]),
            "1 2 3 ="
        );
        assert_eq!(offered(&[(1, true, true, 0), (3, true, false, 0), (4, true, false, 500)]), "1 -2..2 3 4");
        assert_eq!(offered(&[(1, true, true, 0), (3, true, false, 0), (4, false, false, 1)]), "1 -2..2 3 4");
    }

    #[test]
    fn a_count_that_begins_anew_is_said_to_unless_another_goes_on() {
        assert_eq!(
            offered(&[(5_000, false, true, 0), (1, false, false, 0), (2, false, false, 0)]),
            "5000 anew 1 2"
        );
        assert_eq!(offered(&[(50, false, true, 0), (10, false, true, 0)]), "50 anew 10");
        assert_eq!(offered(&[(50, true, true, 0), (10, true, true, 0)]), "50 =");
    }

    #[test]
    fn a_message_may_stand_for_several_numbers() {
        let mut sequencer = Sequencer::default();
        let mut text = Vec::new();
        for range in [(1, 3), (3, 5), (6, 6), (9, 10)] {
            sequencer.offer(range, range.0, (false, false), 0, &mut |offer| text.push(shown(&offer)));
        }
        assert_eq!(text.join(" "), "1 3 6 -7..8 9");
    }

    #[test]
    fn two_links_that_both_count_anew_are_heard_after_a_while() {
        let steps = |to_ms: i64| {
            let mut steps = vec![(50_000, true, true, 0)];
            steps.extend((0..=to_ms / 1_000).map(|second| (second as u64 + 1, true, false, second * 1_000)));
            offered(&steps)
        };
        assert_eq!(steps(4_000), "50000 = = = = =");
        assert_eq!(steps(6_000), "50000 = = = = = anew 6 7");
        // A link that lags is no new count while the other goes on.
        let lagging: Vec<_> = (0..60_u64)
            .flat_map(|second| {
                [
                    (50_000 + second, true, false, second as i64 * 1_000),
                    (1 + second, true, false, second as i64 * 1_000),
                ]
            })
            .collect();
        assert!(!offered(&lagging).contains("anew"));
    }

    #[test]
    fn one_garbled_number_silences_two_links_for_a_while_only() {
        let mut steps = vec![(1, true, true, 0), (u64::MAX, true, false, 0)];
        steps.extend((1..=8).map(|second| (second as u64 + 1, true, false, second * 1_000)));
        // It waited for what is before it, then both links' next numbers were far below.
        assert_eq!(offered(&steps), "1 -2..18446744073709551614 18446744073709551615 = = = = = anew 7 8 9");
    }

    #[test]
    fn of_two_messages_behind_a_hole_that_begin_alike_the_longer_waits() {
        let mut sequencer = Sequencer::default();
        let mut text = Vec::new();
        for range in [(1, 1), (3, 4), (3, 9), (3, 5), (2, 2), (10, 10)] {
            sequencer.offer(range, range.1, (true, false), 0, &mut |offer| text.push(shown(&offer)));
        }
        assert_eq!(text.join(" "), "1 = = 2 9 10");
    }

    proptest! {
        /// Two links that each lose some and never the same: everything comes once, in order, and nothing is missing.
        #[test]
        fn two_links_make_one_whole(lost in proptest::collection::vec(0..3_u8, 1..200), lag in 0..40_usize) {
            let mut sequencer = Sequencer::default();
            let mut seen = Vec::new();
            let count = lost.len();
            let mut send = |link: u8, index: usize| {
                if index < count && (lost[index] != link || index == 0) {
                    let number = index as u64 + 1;
                    sequencer.offer((number, number), number, (true, false), index as i64, &mut |offer| {
                        if !matches!(offer, Offer::Duplicate) { seen.push(shown(&offer)); }
                    });
                }
            };
            for index in 0..count + lag {
                send(1, index);
                if index >= lag { send(2, index - lag); }
            }
            sequencer.look(false, 0, &mut |offer| seen.push(shown(&offer)));
            let expected: Vec<String> = (1..=count as u64).map(|number| number.to_string()).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
