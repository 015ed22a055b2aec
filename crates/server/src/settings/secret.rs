//! A value that must never be shown.
//!
//! `Debug`, `Display` and `Serialize` write `[redacted]`, so a secret cannot reach a log, a dump of
//! the settings or an error text by accident. Reading it is one visible call, [`Secret::expose`].

use std::fmt;

use subtle::ConstantTimeEq;

/// A secret text: a signing key, a token for scrapers, a webhook key.
#[derive(Clone)]
pub struct Secret(Box<str>);

/// What is written instead of a secret.
pub const REDACTED: &str = "[redacted]";

impl Secret {
    /// Wraps a text. The text itself should be dropped by the caller soon after.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// 32 bytes from the system's generator, as 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()))
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.0.len()
    }

    /// Whether `candidate` is this secret, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.expose())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_written() {
        let secret = Secret::new("canary-5d1f");
        assert_eq!(format!("{secret:?} {secret}"), "[redacted] [redacted]");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"[redacted]\"");
    }

    #[test]
    fn two_random_secrets_differ_and_are_long_enough_to_sign_with() {
        let (one, two) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len_bytes(), 64);
    }
}
