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

    /// A message id: unique without coordination, 26 characters.
    pub fn message_id(&mut self) -> String {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut bits = u128::from(self.next_u64()) << 64 | u128::from(self.next_u64());
        (0..26)
            .map(|_| {
                let character = ALPHABET[(bits & 31) as usize] as char;
                bits >>= 5;
                character
            })
            .collect()
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
    fn message_ids_do_not_repeat() {
        let mut random = Random::default();
        let ids: std::collections::HashSet<String> = (0..10_000).map(|_| random.message_id()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 26 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())));
    }
}
