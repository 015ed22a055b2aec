//! Where a replay begins and ends: a sequence, so long ago, or a moment.

use std::time::Duration;

use jiff::Timestamp;

use crate::settings::duration_from_text;

/// One end of a replay; the event it names belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// This sequence.
    Sequence(u64),
    /// So long before now.
    Ago(Duration),
    /// This moment, in milliseconds since 1970.
    At(i64),
}

/// Reads `42`, `15m` or `2026-11-22T02:00:00Z`.
///
/// # Errors
///
/// What can be written.
pub(super) fn parse(text: &str) -> Result<Bound, String> {
    if let Ok(sequence) = text.parse() {
        return Ok(Bound::Sequence(sequence));
    }
    if let Some(ago) = duration_from_text(text) {
        return Ok(Bound::Ago(ago));
    }
    let moment = text.parse::<Timestamp>().map(|at| Bound::At(at.as_millisecond()));
    moment.map_err(|_| {
        "write a sequence such as 42, how long ago such as 15m, or a moment such as 2026-11-22T02:00:00Z"
            .to_owned()
    })
}

/// Reads `0`, `1x`, `1` or `2.5x`.
///
/// # Errors
///
/// What can be written.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    let speed = text.strip_suffix('x').unwrap_or(text).parse::<f64>().ok();
    speed
        .filter(|speed| speed.is_finite() && *speed >= 0.0)
        .ok_or_else(|| "write 1x as it happened, 10x ten times as fast, or 0 at once".to_owned())
}

impl Bound {
    /// The position to ask behind, for a beginning.
    pub(super) fn after(self) -> u64 {
        match self {
            Bound::Sequence(sequence) => sequence.saturating_sub(1),
            Bound::Ago(_) | Bound::At(_) => 0,
        }
    }

    /// Whether an event lies before this beginning.
    pub(super) fn is_behind(self, sequence: u64, at_ms: i64, now_ms: i64) -> bool {
        match self {
            Bound::Sequence(first) => sequence < first,
            Bound::Ago(_) | Bound::At(_) => at_ms < self.moment_ms(now_ms),
        }
    }

    /// Whether an event lies behind this end.
    pub(super) fn is_before(self, sequence: u64, at_ms: i64, now_ms: i64) -> bool {
        match self {
            Bound::Sequence(last) => sequence > last,
            Bound::Ago(_) | Bound::At(_) => at_ms > self.moment_ms(now_ms),
        }
    }

    fn moment_ms(self, now_ms: i64) -> i64 {
        match self {
            Bound::At(at_ms) => at_ms,
            Bound::Ago(ago) => now_ms - i64::try_from(ago.as_millis()).unwrap_or(i64::MAX),
            Bound::Sequence(_) => i64::MIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_sequence_a_span_or_a_moment() {
        assert_eq!(parse("42"), Ok(Bound::Sequence(42)));
        assert_eq!(parse("15m"), Ok(Bound::Ago(Duration::from_secs(900))));
        assert_eq!(parse("1970-01-01T00:00:01Z"), Ok(Bound::At(1_000)));
        assert!(parse("yesterday").unwrap_err().contains("15m"));
        assert_eq!([speed("0"), speed("1x"), speed("2.5")], [Ok(0.0), Ok(1.0), Ok(2.5)]);
        assert!(speed("-1x").is_err() && speed("fast").is_err());
    }

    #[test]
    fn both_ends_belong_to_it() {
        let inside = |from: Bound, to: Bound, sequence, at_ms| {
            !from.is_behind(sequence, at_ms, 10_000) && !to.is_before(sequence, at_ms, 10_000)
        };
        let (two, four) = (Bound::Sequence(2), Bound::Sequence(4));
        assert_eq!([1, 2, 4, 5].map(|sequence| inside(two, four, sequence, 0)), [false, true, true, false]);
        let (early, late) = (Bound::Ago(Duration::from_secs(5)), Bound::At(7_000));
        assert_eq!(
            [4_999, 5_000, 7_000, 7_001].map(|at| inside(early, late, 1, at)),
            [false, true, true, false]
        );
        assert_eq!((two.after(), early.after(), Bound::Sequence(0).after()), (1, 0, 0));
    }
}
