//! Positions in a channel's history.
//!
//! A sequence counts the publications of one epoch from 1. An epoch is opaque and changes whenever stored
//! history may have been rewritten, so a position is always the two together (R30). A sequence stays below
//! 2^53 because JavaScript reads JSON numbers as doubles.

use std::fmt;
use std::sync::Arc;

/// The place of a publication in its channel; 0 stands before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Before the first publication.
    pub const ZERO: Self = Self(0);
    /// The highest sequence: 2^53 − 1.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Reads the decimal digits of a sequence.
    ///
    /// # Errors
    ///
    /// [`PositionError::Sequence`] for a sign, a fraction, an exponent, or more than [`Sequence::MAX`].
    pub fn parse(text: &str) -> Result<Self, PositionError> {
        let digits = !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(value) if digits && value <= Self::MAX.0 => Ok(Self(value)),
            _ => Err(PositionError::Sequence),
        }
    }

    /// The sequence after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One unbroken history of a channel: 1 to 32 bytes of `A-Z a-z 0-9`. Cloning shares the text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// The longest epoch in bytes.
    pub const LEN_BYTES_MAX: usize = 32;

    /// Checks `text` and keeps a copy.
    ///
    /// # Errors
    ///
    /// [`PositionError::Epoch`] for other characters or lengths.
    pub fn parse(text: &str) -> Result<Self, PositionError> {
        let fits = (1..=Self::LEN_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self(text.into()))
        } else {
            Err(PositionError::Epoch)
        }
    }

    /// The text of the epoch.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a reader stands: everything up to and including `sequence` of `epoch` has been seen.
///
/// As text it is `epoch:sequence`, the form of an SSE `Last-Event-ID`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// The history that `sequence` counts in.
    pub epoch: Epoch,
    /// The last publication seen; 0 for none.
    pub sequence: Sequence,
}

impl Position {
    /// Reads `epoch:sequence`.
    ///
    /// # Errors
    ///
    /// [`PositionError`]; clients get `invalid_position`.
    pub fn parse(text: &str) -> Result<Self, PositionError> {
        let (epoch, sequence) = text.split_once(':').ok_or(PositionError::Separator)?;
        Ok(Self { epoch: Epoch::parse(epoch)?, sequence: Sequence::parse(sequence)? })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.sequence)
    }
}

/// Why something is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Not a whole number from 0 to 2^53 − 1.
    #[error("sequence is not a whole number from 0 to {}", Sequence::MAX)]
    Sequence,
    /// Not 1 to 32 letters and digits.
    #[error("epoch is not 1 to {} letters and digits", Epoch::LEN_BYTES_MAX)]
    Epoch,
    /// No `:` between epoch and sequence.
    #[error("position is not written as epoch:sequence")]
    Separator,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_a_whole_number_below_two_to_the_53() {
        assert_eq!(Sequence::parse("0"), Ok(Sequence::ZERO));
        assert_eq!(Sequence::parse("9007199254740991"), Ok(Sequence::MAX));
        let wrong = ["", "-1", "+1", "1.5", "1e3", "9007199254740992", "18446744073709551615"];
        for text in wrong.into_iter().chain(["18446744073709551616", "\"42\"", " 1", "null"]) {
            assert_eq!(Sequence::parse(text), Err(PositionError::Sequence), "{text}");
        }
    }

    #[test]
    fn a_position_reads_back_what_it_shows() {
        let position = Position::parse("e7:42").unwrap();
        assert_eq!(position.to_string(), "e7:42");
        assert_eq!(Position::parse("e7"), Err(PositionError::Separator));
        assert_eq!(Position::parse(":1"), Err(PositionError::Epoch));
        assert_eq!(Position::parse(&format!("{}:1", "e".repeat(33))), Err(PositionError::Epoch));
    }
}
