//! Unpredictable numbers for masks, keys, ids and jitter.
//!
//! A keyed SipHash of a counter, keyed by the operating system through [`RandomState`]. RFC 6455 §5.3 asks that
//! masks cannot be predicted by whoever chose the payload; a keyed hash gives that without another dependency.

use std::hash::{BuildHasher, RandomState};

/// A source of unpredictable numbers. Not meant for keys that protect secrets.
#[derive(Debug, Default)]
pub struct Random {
    key: RandomState,
    counter: u64,
}

impl Random {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.counter += 1;
        self.key.hash_one(self.counter)
    }

    /// A masking key of RFC 6455 §5.3.
    pub fn mask(&mut self) -> [u8; 4] {
        (self.next_u64() as u32).to_ne_bytes()
    }

    /// The nonce of a handshake, RFC 6455 §4.1.
    pub fn nonce(&mut self) -> [u8; 16] {
        (u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())).to_ne_bytes()
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A message id: a UUID of version 7 (RFC 9562 §5.7), which sorts by its time, in milliseconds since 1970.
    pub fn message_id(&mut self, unix_ms: u64) -> String {
        let time = (unix_ms & 0xffff_ffff_ffff) << 16;
        let high = time | 0x7000 | (self.next_u64() & 0x0fff);
        let low = 0x8000_0000_0000_0000 | (self.next_u64() >> 2);
        let bits = u128::from(high) << 64 | u128::from(low);
        let hex = format!("{bits:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fill_the_unit_interval() {
        let mut random = Random::default();
        let draws: Vec<f64> = (0..10_000).map(|_| random.unit()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        assert!((draws.iter().sum::<f64>() / 10_000.0 - 0.5).abs() < 0.05);
    }

    #[test]
    fn message_ids_are_uuids_that_sort_by_time_and_do_not_repeat() {
        let mut random = Random::default();
        let ids: Vec<String> = (0..10_000).map(|ms| random.message_id(1_763_000_000_000 + ms)).collect();
        assert!(ids.is_sorted());
        let same: std::collections::HashSet<String> = (0..10_000).map(|_| random.message_id(7)).collect();
        assert_eq!(same.len(), 10_000);
        for id in same {
            let parts: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
            assert!(id.starts_with("00000000-0007-7") && "89ab".contains(&id[19..20]), "{id}");
        }
    }
}
