//! Which of several nodes takes what is published in Redis.
//!
//! Every subscriber of a Redis channel hears every message, so of nodes that share their events one must take it and the
//! others must not. They agree by a key in Redis with the name of the one who does, which expires unless it is
//! renewed. Sans I/O: this says when to ask, and whether the answer still counts.

/// How long a node has the key without renewing it, milliseconds: so long nobody takes anything when it dies.
pub(super) const LASTS_MS: u64 = 5_000;
/// How often it is renewed, and asked for by the others, milliseconds.
const ASKED_MS: u64 = 1_000;

/// Takes or renews the key: 1 if it is the caller's now. Its name, then how long it lasts.
pub(super) const TAKE: &str = "local v = redis.call('GET', KEYS[1]) \
    if v == false or v == ARGV[1] then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1 end return 0";
/// Gives the key up, if it is the caller's.
pub(super) const LEAVE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// A node's view of the key. Times are milliseconds of any clock that does not go back.
#[derive(Debug, Default)]
pub(super) struct Lease {
    until_ms: u64,
    ask_at_ms: u64,
}

impl Lease {
    /// Whether Redis is to be asked.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.ask_at_ms
    }

    /// What Redis answered to a question of `asked_ms`. What it granted is counted from then on, which is before Redis
    /// counted it: so it ends here before it ends there.
    pub(super) fn answered(&mut self, asked_ms: u64, is_mine: bool) {
        self.until_ms = if is_mine { asked_ms + LASTS_MS } else { 0 };
        self.ask_at_ms = asked_ms + ASKED_MS;
    }

    /// Whether this node takes what comes now.
    pub(super) fn is_held(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_for_as_long_as_redis_keeps_it_and_asked_for_each_second() {
        let mut lease = Lease::default();
        assert!(lease.is_due(0) && !lease.is_held(0));
        lease.answered(100, true);
        assert!(!lease.is_due(1_099) && lease.is_due(1_100));
        assert!(lease.is_held(5_099) && !lease.is_held(5_100), "whoever was stopped for long has lost it");
        lease.answered(5_200, false);
        assert!(!lease.is_held(5_201) && !lease.is_due(6_199) && lease.is_due(6_200));
    }
}
