//! Which sessions fell back to HTTP, so that each is counted once (003-14).
//!
//! A client that gave up WebSocket names itself in each poll and event stream (R90). The table holds a digest of
//! its user and name, and is bounded: with more sessions than it holds the oldest is forgotten, and would be
//! counted again.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

/// The longest name of a session that fell back, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The sessions that fell back.
pub struct Fallbacks {
    known: Mutex<Known>,
    sessions_max: usize,
}

#[derive(Default)]
struct Known {
    digests: HashSet<[u8; 16]>,
    order: VecDeque<[u8; 16]>,
}

impl Fallbacks {
    /// A table of at most so many sessions.
    #[must_use]
    pub fn new(sessions_max: usize) -> Self {
        Self { known: Mutex::default(), sessions_max }
    }

    /// Notes a session of a user. Returns whether it is new.
    pub fn note(&self, user: &str, name: &str) -> bool {
        let digest = Sha256::new().chain_update(user).chain_update([0]).chain_update(name).finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        let mut known = self.known.lock();
        if !known.digests.insert(key) {
            return false;
        }
        known.order.push_back(key);
        while known.order.len() > self.sessions_max {
            let Some(oldest) = known.order.pop_front() else { break };
            known.digests.remove(&oldest);
        }
        true
    }
}

/// Whether a text may name a session: 1 to 64 letters, digits, `-` and `_`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_new_once_until_it_is_forgotten() {
        let fallbacks = Fallbacks::new(2);
        assert!(fallbacks.note("ada", "1"));
        assert!(!fallbacks.note("ada", "1"));
        assert!(fallbacks.note("bob", "1"));
        assert!(fallbacks.note("bob", "2"));
        assert!(!fallbacks.note("bob", "1"));
        assert!(fallbacks.note("ada", "1"), "the oldest was forgotten");
    }

    #[test]
    fn a_name_is_short_and_plain() {
        assert!(is_name("01HF6ZQ8G00000000000000000") && is_name("a-b_c"));
        assert!(!is_name("") && !is_name("a b") && !is_name("ü") && !is_name(&"x".repeat(65)));
    }
}
