//! When a key set may be fetched, and which ids it is known not to have. No I/O; time is a parameter.
//!
//! A token names its key before anything of it is believed, so anybody can name ids that nobody has.
//! Whatever they send, one fetch begins in ten seconds at most, and never two at a time: whoever asks
//! for an id while a fetch is under way waits for that one. An id that was not in a fresh set is
//! remembered for a minute, so that asking for it again costs nothing.

use std::collections::HashMap;

use pulsewire_telemetry::KeyFetch;

/// The shortest time from the beginning of one fetch to that of the next.
pub const FETCH_SPACING_MS: i64 = 10_000;
/// How long an id counts as absent.
const ABSENT_MS: i64 = 60_000;
/// Ids that are remembered as absent; one more is not.
const ABSENT_MAX: usize = 1_024;
/// After a failed fetch the next one begins after this at the latest.
const RETRY_MS: i64 = 60_000;

/// What to do about an id that no key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Fetch now; the fetch counts as begun.
    Fetch,
    /// A fetch is under way: wait for its end.
    Wait,
    /// There is no such key, as far as may be known now.
    Absent,
}

/// What the end of a fetch changed for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// It fails, or fails otherwise than before.
    Began(KeyFetch),
    /// It succeeds again.
    Ended,
    /// Nothing is new.
    AsBefore,
}

/// The decisions about one source's fetches.
#[derive(Debug, Clone)]
pub struct Schedule {
    refresh_ms: i64,
    began_ms: Option<i64>,
    under_way: bool,
    /// A fetch was begun and its end will never be heard of.
    cut_off: bool,
    failed: Option<KeyFetch>,
    absent: HashMap<Box<str>, i64>,
}

impl Schedule {
    /// A schedule that fetches every `refresh_ms` and when an unknown id is asked for. The first fetch is due.
    #[must_use]
    pub fn new(refresh_ms: i64) -> Self {
        Self {
            refresh_ms,
            began_ms: None,
            under_way: false,
            cut_off: false,
            failed: None,
            absent: HashMap::new(),
        }
    }

    /// The schedule of the same source under another `refresh_ms`: what was fetched and found stays so.
    #[must_use]
    pub fn continued(&self, refresh_ms: i64) -> Self {
        Self { refresh_ms, under_way: false, cut_off: self.under_way || self.cut_off, ..self.clone() }
    }

    /// Somebody asks for an id that no known key has.
    pub fn unknown(&mut self, kid: &str, now_ms: i64) -> Unknown {
        if self.under_way {
            return Unknown::Wait;
        }
        let absent =
            self.absent.get(kid).is_some_and(|until_ms| (0..=ABSENT_MS).contains(&(until_ms - now_ms)));
        if absent || !self.begin(now_ms) { Unknown::Absent } else { Unknown::Fetch }
    }

    /// Whether the set is to be fetched because of its age; then the fetch counts as begun.
    pub fn refresh(&mut self, now_ms: i64) -> bool {
        !self.under_way && self.due_in_ms(now_ms) == 0 && self.begin(now_ms)
    }

    /// In how long the set is to be fetched because of its age.
    #[must_use]
    pub fn due_in_ms(&self, now_ms: i64) -> i64 {
        let Some(began_ms) = self.began_ms else { return 0 };
        let incomplete = self.failed.is_some() || self.cut_off;
        let age_max_ms = if incomplete { self.refresh_ms.min(RETRY_MS) } else { self.refresh_ms };
        // A wall clock that was set back makes no set young.
        if now_ms < began_ms { 0 } else { (began_ms + age_max_ms - now_ms).max(0) }
    }

    /// The fetch that was begun has ended.
    pub fn ended(&mut self, outcome: KeyFetch) -> Failing {
        (self.under_way, self.cut_off) = (false, false);
        let failed = (outcome != KeyFetch::Ok).then_some(outcome);
        let before = std::mem::replace(&mut self.failed, failed);
        match (before, failed) {
            (before, after) if before == after => Failing::AsBefore,
            (_, Some(outcome)) => Failing::Began(outcome),
            (_, None) => Failing::Ended,
        }
    }

    /// An id was not in the set that has just been fetched. Nothing is learnt from a failed fetch.
    pub fn absent(&mut self, kid: &str, now_ms: i64) {
        if self.failed.is_some() {
            return;
        }
        if self.absent.len() >= ABSENT_MAX {
            self.absent.retain(|_, until_ms| *until_ms > now_ms);
        }
        if self.absent.len() < ABSENT_MAX {
            self.absent.insert(kid.into(), now_ms + ABSENT_MS);
        }
    }

    fn begin(&mut self, now_ms: i64) -> bool {
        let too_soon =
            self.began_ms.is_some_and(|began_ms| (0..FETCH_SPACING_MS).contains(&(now_ms - began_ms)));
        if !too_soon {
            self.began_ms = Some(now_ms);
            self.under_way = true;
        }
        !too_soon
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH_MS: i64 = 600_000;

    /// A schedule whose first fetch began at 0 and ended well.
    fn fetched() -> Schedule {
        let mut schedule = Schedule::new(REFRESH_MS);
        assert!(schedule.refresh(0), "the first fetch is due at once");
        assert_eq!(schedule.ended(KeyFetch::Ok), Failing::AsBefore);
        schedule
    }

    /// Row A4 and threat S3.
    #[test]
    fn whatever_is_asked_for_one_fetch_begins_in_ten_seconds() {
        let mut schedule = fetched();
        let mut began = vec![0];
        for now_ms in 0..60_000 {
            // A thousand ids a second that nobody has, each once, and one that is asked for all the time.
            for kid in [format!("random-{now_ms}"), "same".to_owned()] {
                if schedule.unknown(&kid, now_ms) == Unknown::Fetch {
                    began.push(now_ms);
                    assert_eq!(schedule.unknown(&kid, now_ms), Unknown::Wait);
                    schedule.ended(KeyFetch::Ok);
                    schedule.absent(&kid, now_ms);
                }
            }
        }
        assert_eq!(began, [0, 10_000, 20_000, 30_000, 40_000, 50_000]);
    }

    #[test]
    fn only_one_fetch_is_under_way_and_the_others_wait_for_it() {
        let mut schedule = fetched();
        assert_eq!(schedule.unknown("a", 10_000), Unknown::Fetch);
        assert_eq!(schedule.unknown("b", 10_001), Unknown::Wait);
        assert_eq!(schedule.unknown("b", 90_000), Unknown::Wait, "however long it takes");
        assert!(!schedule.refresh(900_000));
        schedule.ended(KeyFetch::TimedOut);
        assert_eq!(schedule.unknown("b", 90_001), Unknown::Fetch);
    }

    #[test]
    fn an_absent_id_is_asked_for_again_after_a_minute() {
        let mut schedule = fetched();
        schedule.absent("gone", 0);
        assert_eq!(schedule.unknown("gone", 59_999), Unknown::Absent);
        assert_eq!(schedule.unknown("gone", 60_001), Unknown::Fetch);
        schedule.ended(KeyFetch::Unreachable);
        schedule.absent("other", 60_001);
        assert_eq!(schedule.unknown("other", 70_001), Unknown::Fetch, "a failed fetch teaches nothing");
    }

    #[test]
    fn the_table_of_absent_ids_is_bounded_and_forgets_what_is_over() {
        let mut schedule = fetched();
        for number in 0..5_000 {
            schedule.absent(&number.to_string(), 0);
        }
        assert_eq!(schedule.absent.len(), ABSENT_MAX);
        schedule.absent("later", ABSENT_MS);
        assert_eq!(schedule.absent.len(), 1);
    }

    #[test]
    fn a_set_is_refreshed_by_its_age_and_sooner_after_a_failure() {
        let mut schedule = fetched();
        assert_eq!(schedule.due_in_ms(1_000), REFRESH_MS - 1_000);
        assert!(!schedule.refresh(REFRESH_MS - 1));
        assert!(schedule.refresh(REFRESH_MS));
        schedule.ended(KeyFetch::Refused);
        assert_eq!(schedule.due_in_ms(REFRESH_MS), RETRY_MS);
        assert!(schedule.refresh(REFRESH_MS + RETRY_MS));
        schedule.ended(KeyFetch::Ok);
        assert_eq!(schedule.due_in_ms(REFRESH_MS + RETRY_MS), REFRESH_MS);
        // A clock that was set back neither forbids nor postpones a fetch.
        assert!(schedule.refresh(5));
    }

    #[test]
    fn a_failure_is_news_when_it_changes() {
        let mut schedule = fetched();
        for (outcome, news) in [
            (KeyFetch::Unreachable, Failing::Began(KeyFetch::Unreachable)),
            (KeyFetch::Unreachable, Failing::AsBefore),
            (KeyFetch::TooLarge, Failing::Began(KeyFetch::TooLarge)),
            (KeyFetch::Ok, Failing::Ended),
            (KeyFetch::Ok, Failing::AsBefore),
        ] {
            assert_eq!(schedule.ended(outcome), news, "{outcome}");
        }
    }

    #[test]
    fn a_reload_keeps_the_time_of_the_last_fetch() {
        let mut schedule = fetched().continued(60_000);
        assert_eq!(schedule.unknown("a", 9_999), Unknown::Absent);
        assert_eq!(schedule.due_in_ms(0), 60_000);
        // One that was under way belongs to the schedule of before: its keys come here by a fetch soon.
        assert!(schedule.refresh(60_000));
        let mut schedule = schedule.continued(REFRESH_MS);
        assert_eq!(schedule.due_in_ms(60_000), RETRY_MS);
        assert_eq!(schedule.unknown("a", 70_000), Unknown::Fetch);
        schedule.ended(KeyFetch::Ok);
        assert_eq!(schedule.due_in_ms(70_000), REFRESH_MS);
    }
}
