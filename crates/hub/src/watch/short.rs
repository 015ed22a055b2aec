//! Texts for comparing that need no allocation.

use std::fmt::{self, Write as _};

/// A short text made without allocating: an id or an address, cut off where it is longer.
pub struct Short {
    bytes: [u8; 64],
    len: usize,
}

impl Short {
    /// Writes a value down.
    #[must_use]
    pub fn of(value: impl fmt::Display) -> Self {
        let mut short = Self { bytes: [0; 64], len: 0 };
        // What does not fit is left out, and everything that is shown here fits.
        let _ = write!(short, "{value}");
        short
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
