//! Channel names and the patterns that select them.
//!
//! One grammar holds for every path that takes a name (R10): `[prefix:]key`, 1 to 255 bytes of
//! `A-Z a-z 0-9 . _ - : / @ # + = ~ $`. `$` stands only first (`$sys.…` belongs to the server). The excluded
//! characters are those that would need escaping in a URL path segment list, a log line or a glob.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The name of a channel, checked against the grammar. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why a text is not a channel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelNameError {
    /// The text has no bytes.
    #[error("channel name is empty")]
    Empty,
    /// The text is longer than a name may be.
    #[error("channel name is {len_bytes} bytes, more than {}", ChannelName::LEN_BYTES_MAX)]
    TooLong {
        /// Length of the refused text.
        len_bytes: usize,
    },
    /// A character outside the grammar, or `$` after the first place.
    #[error("channel name has a character that is not allowed at byte {at}")]
    Character {
        /// Offset of the character in bytes.
        at: usize,
    },
    /// The part before or after `:` is missing.
    #[error("channel name has an empty prefix or an empty key")]
    EmptyPart,
}

impl ChannelName {
    /// The longest name in bytes.
    pub const LEN_BYTES_MAX: usize = 255;

    /// Checks `text` and keeps a copy.
    ///
    /// # Errors
    ///
    /// [`ChannelNameError`] says which rule the text breaks; clients get `invalid_channel`.
    pub fn parse(text: &str) -> Result<Self, ChannelNameError> {
        check(text, false)?;
        Ok(Self(text.into()))
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first `:`, if there is one: `run` of `run:42`.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        self.0.split_once(':').map(|(prefix, _)| prefix)
    }

    /// What stands after the first `:`, or the whole name: `42` of `run:42`.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(_, key)| key)
    }

    /// Whether the channel belongs to the server (`$sys.…`): clients may read it but not publish to it.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ChannelName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ChannelName {
    type Err = ChannelNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// A pattern over channel names: `*` stands for any run of characters (also none), the rest for itself.
///
/// Used by capabilities in tokens and by namespaces in settings: `run:*`, `*.metrics`, `team:*:events`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ChannelPattern(Box<str>);

/// Why a text is not a channel pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelPatternError {
    /// The text without its stars breaks the grammar of names.
    #[error("channel pattern: {0}")]
    Name(#[from] ChannelNameError),
    /// More stars than matching may cost.
    #[error("channel pattern has {stars} stars, more than {}", ChannelPattern::STARS_MAX)]
    TooManyStars {
        /// Stars found.
        stars: usize,
    },
}

impl ChannelPattern {
    /// The most `*` in one pattern; bounds the work of one match.
    pub const STARS_MAX: usize = 8;

    /// Checks `text` and keeps a copy.
    ///
    /// # Errors
    ///
    /// [`ChannelPatternError`] when the text is no name with stars in it.
    pub fn parse(text: &str) -> Result<Self, ChannelPatternError> {
        let stars = text.bytes().filter(|byte| *byte == b'*').count();
        if stars > Self::STARS_MAX {
            return Err(ChannelPatternError::TooManyStars { stars });
        }
        check(text, stars > 0)?;
        Ok(Self(text.into()))
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern selects `channel`.
    #[must_use]
    pub fn matches(&self, channel: &ChannelName) -> bool {
        glob(self.0.as_bytes(), channel.as_str().as_bytes())
    }
}

impl fmt::Display for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn check(text: &str, stars: bool) -> Result<(), ChannelNameError> {
    if text.is_empty() {
        return Err(ChannelNameError::Empty);
    }
    if text.len() > ChannelName::LEN_BYTES_MAX {
        return Err(ChannelNameError::TooLong { len_bytes: text.len() });
    }
    let allowed = |at: usize, byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => true,
        b'.' | b'_' | b'-' | b':' | b'/' | b'@' | b'#' | b'+' | b'=' | b'~' => true,
        b'$' => at == 0,
        b'*' => stars,
        _ => false,
    };
    if let Some(at) = text.bytes().enumerate().position(|(at, byte)| !allowed(at, byte)) {
        return Err(ChannelNameError::Character { at });
    }
    if text.starts_with(':') || text.ends_with(':') {
        return Err(ChannelNameError::EmptyPart);
    }
    Ok(())
}

/// Greedy matching with one point of return: linear in practice, never exponential.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_grammar_is_kept_as_it_is() {
        let longest = "x".repeat(255);
        for text in ["a", "run:42", "system.metrics", "$sys.stats", "a:b:c", "t/x@y#z+1=2~3_-", &longest] {
            assert_eq!(ChannelName::parse(text).unwrap().as_str(), text);
        }
        let name = ChannelName::parse("run:42:x").unwrap();
        assert_eq!((name.prefix(), name.key()), (Some("run"), "42:x"));
    }

    #[test]
    fn a_name_outside_the_grammar_says_what_is_wrong() {
        use ChannelNameError::{Character, Empty, EmptyPart, TooLong};
        let check = |text: &str, error| assert_eq!(ChannelName::parse(text), Err(error), "{text}");
        check("", Empty);
        check(&"x".repeat(256), TooLong { len_bytes: 256 });
        check("a b", Character { at: 1 });
        check("a*", Character { at: 1 });
        check("a$", Character { at: 1 });
        check("caf\u{e9}", Character { at: 3 });
        check("a\0", Character { at: 1 });
        check("run:", EmptyPart);
        check(":42", EmptyPart);
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let check = |pattern: &str, name: &str, wanted: bool| {
            let pattern = ChannelPattern::parse(pattern).unwrap();
            assert_eq!(pattern.matches(&ChannelName::parse(name).unwrap()), wanted, "{pattern} {name}");
        };
        check("run:*", "run:42", true);
        check("run:*", "rune", false);
        check("*.metrics", "system.metrics", true);
        check("*.metrics", "system.metrics.x", false);
        check("*", "anything:at.all", true);
        check("a", "a", true);
        check("a", "ab", false);
        check("a*b*c", "aXbYbc", true);
        check("a*b*c", "aXbYb", false);
        check("*:*", "a:b", true);
    }

    #[test]
    fn a_pattern_may_not_cost_too_much() {
        assert!(ChannelPattern::parse(&"*a".repeat(8)).is_ok());
        assert_eq!(
            ChannelPattern::parse(&"*a".repeat(9)),
            Err(ChannelPatternError::TooManyStars { stars: 9 })
        );
    }
}
