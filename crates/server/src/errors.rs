//! What went wrong, by kind: how often, since when, and what the newest was about.
//!
//! Counts are the metrics' own and therefore exact. When a kind was first and last seen comes from looking at them
//! once a second. Who was concerned comes from a small book of the newest errors, written where the server's side
//! meets them; a kind that nobody writes down has no sample.

use std::collections::VecDeque;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use pulsewire_telemetry::{
    AuthFailure, ConnectionError, Counter, DropCause, GapReason, HookOutcome, KeyFetch, MessageError,
    PublishOutcome, RateScope, RejectReason, ReloadOutcome, SampleRefusal, SlowAction, Snapshot,
    StoreFailure,
};

/// Errors in the book; the oldest makes room.
const BOOK_MAX: usize = 256;
/// The longest text of an error in the book, in characters.
const TEXT_MAX: usize = 200;
/// A limit that was not reached for so long is told when it is reached again, in milliseconds.
const QUIET_MS: i64 = 5 * 60_000;

/// A kind of error.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// What it is about.
    pub group: &'static str,
    /// What it is.
    pub kind: &'static str,
    /// How often it happened.
    pub counter: Counter,
    /// What the group means.
    pub help: &'static str,
    /// Whether a limit of the settings was reached.
    pub limit: bool,
}

/// Every kind, in the order of the answers.
pub static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(kinds);

/// An error that was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The session, if there was one.
    pub session: Option<String>,
    /// The user, if one is known.
    pub user: Option<String>,
    /// The address it came from.
    pub address: Option<std::net::IpAddr>,
    /// What was said of it.
    pub text: String,
}

/// When kinds were seen, and the newest of them.
#[derive(Debug, Default)]
pub struct Errors {
    seen: BTreeMap<usize, Seen>,
    counts: Vec<u64>,
    book: VecDeque<(&'static str, &'static str, Sample)>,
}

/// When a kind was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// First, Unix milliseconds.
    pub first_ms: i64,
    /// Last, Unix milliseconds.
    pub last_ms: i64,
}

impl Errors {
    /// Looks at the counts. Returns the limits that were reached now and had not been for a while.
    pub fn tick(&mut self, totals: &Snapshot, now_ms: i64) -> Vec<&'static Kind> {
        let mut reached = Vec::new();
        self.counts.resize(KINDS.len(), 0);
        for (index, (kind, count)) in KINDS.iter().zip(&mut self.counts).enumerate() {
            let now = totals.count(kind.counter);
            if now == *count {
                continue;
            }
            *count = now;
            let seen = self.seen.entry(index).or_insert(Seen { first_ms: now_ms, last_ms: i64::MIN / 2 });
            if kind.limit && now_ms - seen.last_ms > QUIET_MS {
                reached.push(kind);
            }
            seen.last_ms = now_ms;
        }
        reached
    }

    /// Writes an error down.
    pub fn write(&mut self, group: &'static str, kind: &'static str, mut sample: Sample) {
        sample.text = sample.text.chars().take(TEXT_MAX).collect();
        if self.book.len() == BOOK_MAX {
            self.book.pop_front();
        }
        self.book.push_back((group, kind, sample));
    }

    /// The kinds that happened, with when they were seen.
    pub fn seen(&self) -> impl Iterator<Item = (&'static Kind, Seen)> {
        self.seen.iter().map(|(index, seen)| (&KINDS[*index], *seen))
    }

    /// The newest of a kind, and how many sessions, or else addresses, the book knows of it.
    #[must_use]
    pub fn newest(&self, kind: &Kind) -> Option<(&Sample, usize)> {
        let of_kind = |(group, name, _): &&(&str, &str, Sample)| *group == kind.group && *name == kind.kind;
        let samples = || self.book.iter().filter(of_kind).map(|(.., sample)| sample);
        let who = |sample: &Sample| sample.session.clone().or_else(|| Some(sample.address?.to_string()));
        let who: BTreeSet<_> = samples().filter_map(who).collect();
        samples().next_back().map(|newest| (newest, who.len()))
    }
}

fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut add = |group, kind, counter, help, limit| kinds.push(Kind { group, kind, counter, help, limit });
    for kind in MessageError::ALL {
        add(
            "message",
            kind.as_str(),
            Counter::message_errors(*kind),
            "Messages that could not be read, used or written.",
            false,
        );
    }
    add("event", "failed", Counter::EVENTS_FAILED, "Events of clients whose handling failed.", false);
    for kind in AuthFailure::ALL {
        add("auth", kind.as_str(), Counter::auth_failed(*kind), "Authentications that failed.", false);
    }
    for kind in ConnectionError::ALL {
        add(
            "connection",
            kind.as_str(),
            Counter::connection_errors(*kind),
            "Errors of connection attempts and live connections.",
            false,
        );
    }
    for kind in RejectReason::ALL {
        use RejectReason::{AddressLimit, ConnectionLimit, HandshakeRate, Overloaded, RateLimit, UserLimit};
        let limit = matches!(
            kind,
            ConnectionLimit | AddressLimit | UserLimit | RateLimit | HandshakeRate | Overloaded
        );
        add(
            "rejected",
            kind.as_str(),
            Counter::rejected(*kind),
            "Connection attempts that were refused.",
            limit,
        );
    }
    add("heartbeat", "timeout", Counter::HEARTBEAT_TIMEOUTS, "Pings that were not answered in time.", false);
    for kind in RateScope::ALL {
        add("rate_limited", kind.as_str(), Counter::rate_limited(*kind), "Refusals by a rate limit.", true);
    }
    for kind in DropCause::ALL {
        let limit = matches!(kind, DropCause::QueueFull);
        add(
            "dropped",
            kind.as_str(),
            Counter::dropped(*kind),
            "Messages discarded instead of delivered or handled.",
            limit,
        );
    }
    for kind in [SlowAction::Lag, SlowAction::Drop, SlowAction::Close] {
        add(
            "slow",
            kind.as_str(),
            Counter::slow(kind),
            "What was done about readers that could not keep up.",
            false,
        );
    }
    for kind in GapReason::ALL {
        add(
            "gap",
            kind.as_str(),
            Counter::gaps(*kind),
            "Times a reader was told that events are missing.",
            false,
        );
    }
    for kind in [PublishOutcome::Rejected, PublishOutcome::Failed, PublishOutcome::Unknown] {
        add(
            "publish",
            kind.as_str(),
            Counter::publish(kind),
            "Publish requests that were not accepted.",
            false,
        );
    }
    for kind in [HookOutcome::Refused, HookOutcome::Failed, HookOutcome::TimedOut] {
        add(
            "hook",
            kind.as_str(),
            Counter::hook(kind),
            "Calls of the hook for client events that did not end well.",
            false,
        );
    }
    for kind in StoreFailure::ALL {
        add(
            "store",
            kind.as_str(),
            Counter::store_errors(*kind),
            "Times a store did not do what it was asked.",
            matches!(kind, StoreFailure::Full),
        );
    }
    add("store", "unreadable_event", Counter::STORE_CORRUPT, "Stored events that could not be read.", false);
    for kind in SampleRefusal::ALL {
        use SampleRefusal::{BatchMax, Overloaded, SeriesMax};
        let limit = matches!(kind, SeriesMax | BatchMax | Overloaded);
        add(
            "samples",
            kind.as_str(),
            Counter::samples_refused(*kind),
            "Samples of metric channels that were refused.",
            limit,
        );
    }
    for kind in KeyFetch::ALL.iter().filter(|kind| **kind != KeyFetch::Ok) {
        add(
            "keys",
            kind.as_str(),
            Counter::key_fetches(*kind),
            "Fetches of the key set of auth.jwks_url that failed.",
            false,
        );
    }
    add(
        "settings",
        "reload",
        Counter::reloads(ReloadOutcome::Failed),
        "Reloads of the settings that failed; the old ones stay.",
        false,
    );
    kinds
}

#[cfg(test)]
mod tests {
    use pulsewire_telemetry::{Options, RejectStage, Telemetry};

    use super::*;

    fn sample(at_ms: i64, session: Option<&str>, address: u8) -> Sample {
        Sample {
            at_ms,
            session: session.map(str::to_owned),
            user: None,
            address: Some([127, 0, 0, address].into()),
            text: "x".repeat(500),
        }
    }

    #[test]
    fn a_kind_is_seen_first_and_last_and_never_if_it_did_not_happen() {
        let telemetry = Telemetry::new(Options::default());
        let shard = telemetry.shard();
        let mut errors = Errors::default();
        assert!(errors.tick(&telemetry.snapshot(), 1_000).is_empty());
        assert_eq!(errors.seen().count(), 0);
        shard.message_error(MessageError::ParseError);
        errors.tick(&telemetry.snapshot(), 2_000);
        errors.tick(&telemetry.snapshot(), 3_000);
        shard.message_error(MessageError::ParseError);
        errors.tick(&telemetry.snapshot(), 4_000);
        let seen: Vec<_> = errors.seen().map(|(kind, seen)| (kind.group, kind.kind, seen)).collect();
        assert_eq!(seen, [("message", "parse_error", Seen { first_ms: 2_000, last_ms: 4_000 })]);
    }

    #[test]
    fn a_limit_is_told_when_it_is_reached_and_again_after_a_while() {
        let telemetry = Telemetry::new(Options::default());
        let shard = telemetry.shard();
        let mut errors = Errors::default();
        let mut told = |now_ms: i64| {
            shard.rejected(RejectStage::Handshake, RejectReason::ConnectionLimit);
            shard.rejected(RejectStage::Handshake, RejectReason::Origin);
            errors.tick(&telemetry.snapshot(), now_ms).iter().map(|kind| kind.kind).collect::<Vec<_>>()
        };
        assert_eq!(told(1_000), ["connection_limit"]);
        assert!(told(2_000).is_empty() && told(QUIET_MS + 1_000).is_empty());
        assert_eq!(told(2 * QUIET_MS + 2_000), ["connection_limit"]);
    }

    #[test]
    fn the_book_knows_the_newest_and_how_many_were_concerned() {
        let mut errors = Errors::default();
        let kind = KINDS.iter().find(|kind| (kind.group, kind.kind) == ("auth", "invalid_token")).unwrap();
        assert_eq!(errors.newest(kind), None);
        for (at_ms, session, address) in [(1, None, 1), (2, None, 2), (3, Some("s"), 2), (4, None, 1)] {
            errors.write("auth", "invalid_token", sample(at_ms, session, address));
        }
        let (newest, concerned) = errors.newest(kind).unwrap();
        assert_eq!((newest.at_ms, newest.text.len(), concerned), (4, TEXT_MAX, 3));
        (0..BOOK_MAX).for_each(|_| errors.write("auth", "expired_token", sample(9, None, 1)));
        assert_eq!((errors.newest(kind), errors.book.len()), (None, BOOK_MAX));
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: BTreeSet<_> = KINDS.iter().map(|kind| (kind.group, kind.kind)).collect();
        assert_eq!(names.len(), KINDS.len());
        assert!(KINDS.len() <= crate::watch::ROWS_MAX);
    }
}
