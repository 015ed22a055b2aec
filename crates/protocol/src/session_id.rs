//! The name of a session, which is also document 004's `client_id`.
//!
//! 128 bits shown as 26 Crockford base-32 characters: 48 bits of creation time in milliseconds, so ids sort
//! by age; 8 bits of shard and 24 of slot, so the owner is found without a table; 16 bits that its node made of its own
//! name, so that other nodes know whom to ask; 32 random bits, so a slot's next tenant cannot be mistaken for the last. It is a name, not a secret: resuming also needs the same user.

use std::fmt;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LEN: usize = 26;

/// Identifies a session for as long as it can be resumed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u128);

/// The text is not 26 upper-case Crockford base-32 characters of a 128-bit number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("session id is not {LEN} characters of 0-9 and A-Z without I, L, O and U")]
pub struct SessionIdError;

impl SessionId {
    /// The highest slot number an id can carry.
    pub const SLOT_MAX: u32 = (1 << 24) - 1;

    /// Joins the parts. Bits above 48 of the time and of `random`, and above 24 of `slot`, are dropped. The upper 16 of
    /// the 48 bits of `random` are the node's.
    #[must_use]
    pub fn new(time_ms: u64, shard: u8, slot: u32, random: u64) -> Self {
        let time = u128::from(time_ms & 0xFFFF_FFFF_FFFF) << 80;
        let shard = u128::from(shard) << 72;
        let slot = u128::from(slot & Self::SLOT_MAX) << 48;
        Self(time | shard | slot | u128::from(random & 0xFFFF_FFFF_FFFF))
    }

    /// Reads the canonical text: upper case, no aliases.
    ///
    /// # Errors
    ///
    /// [`SessionIdError`] for everything else.
    pub fn parse(text: &str) -> Result<Self, SessionIdError> {
        // Two bits of the first character would not fit into 128.
        if text.len() != LEN || text.as_bytes()[0] > b'7' {
            return Err(SessionIdError);
        }
        text.bytes()
            .try_fold(0, |value: u128, byte| Some(value << 5 | digit(byte)?))
            .map(Self)
            .ok_or(SessionIdError)
    }

    /// When the session began, in milliseconds since 1970.
    #[must_use]
    pub fn time_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// The shard that owns the session.
    #[must_use]
    pub fn shard(self) -> u8 {
        (self.0 >> 72) as u8
    }

    /// The session's slot in its shard.
    #[must_use]
    pub fn slot(self) -> u32 {
        (self.0 >> 48) as u32 & Self::SLOT_MAX
    }

    /// What the session's node made of its name.
    #[must_use]
    pub fn node(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// The whole 128 bits.
    #[must_use]
    pub fn as_u128(self) -> u128 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: [u8; LEN] = std::array::from_fn(|at| {
            let shift = 5 * (LEN - 1 - at);
            ALPHABET[(self.0 >> shift) as usize & 31]
        });
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

fn digit(byte: u8) -> Option<u128> {
    ALPHABET.iter().position(|letter| *letter == byte).map(|value| value as u128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_parts() {
        let id = SessionId::new(1_762_603_200_000, 7, 123_456, 0xABCD_EF01_2345);
        assert_eq!((id.time_ms(), id.shard(), id.slot()), (1_762_603_200_000, 7, 123_456));
        assert_eq!(SessionId::parse(&id.to_string()), Ok(id));
        assert_eq!(id.node(), 0xABCD);
    }

    #[test]
    fn only_the_canonical_text_is_an_id() {
        let largest = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
        assert_eq!(SessionId::parse(largest).unwrap().as_u128(), u128::MAX);
        for text in ["", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", &largest.to_lowercase(), &largest[1..]] {
            assert_eq!(SessionId::parse(text), Err(SessionIdError), "{text}");
        }
        for letter in ["I", "L", "O", "U", "-", "\u{e9}"] {
            let text = format!("0{letter}{}", "0".repeat(25 - letter.len()));
            assert_eq!(SessionId::parse(&text), Err(SessionIdError), "{text}");
        }
    }
}
