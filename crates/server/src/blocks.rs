//! Addresses that an operator shut out for a time.
//!
//! Asked before anything is spent on a request. Bounded; entries whose time is over make room.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;

/// Addresses that can be shut out at the same time.
pub const BLOCKS_MAX: usize = 10_000;

/// There are [`BLOCKS_MAX`] addresses already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{BLOCKS_MAX} addresses are shut out already")]
pub struct Full;

/// The addresses, each with the Unix milliseconds until which it is shut out.
#[derive(Debug, Default)]
pub struct Blocks(Mutex<HashMap<IpAddr, i64>>);

impl Blocks {
    /// Shuts an address out until a moment.
    ///
    /// # Errors
    ///
    /// [`Full`]; nothing is changed then.
    pub fn block(&self, address: IpAddr, until_ms: i64, now_ms: i64) -> Result<(), Full> {
        let mut blocks = self.0.lock();
        if blocks.len() >= BLOCKS_MAX {
            blocks.retain(|_, until| *until > now_ms);
        }
        if blocks.len() >= BLOCKS_MAX && !blocks.contains_key(&address) {
            return Err(Full);
        }
        blocks.insert(address, until_ms);
        Ok(())
    }

    /// Lets an address in again; says whether it was shut out.
    pub fn unblock(&self, address: IpAddr) -> bool {
        self.0.lock().remove(&address).is_some()
    }

    /// Until when an address is shut out, Unix milliseconds, as far as that is known; it may have passed.
    #[must_use]
    pub fn until(&self, address: IpAddr) -> Option<i64> {
        self.0.lock().get(&address).copied()
    }

    /// Every address with the moment until which it is shut out, which may have passed.
    #[must_use]
    pub fn all(&self) -> Vec<(IpAddr, i64)> {
        self.0.lock().iter().map(|(address, until)| (*address, *until)).collect()
    }

    /// Whether an address is shut out now.
    #[must_use]
    pub fn is_blocked(&self, address: IpAddr, now_ms: i64) -> bool {
        self.0.lock().get(&address).is_some_and(|until| *until > now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shut_out_until_its_time_is_over() {
        let (blocks, address) = (Blocks::default(), IpAddr::from([127, 0, 0, 9]));
        assert_eq!(blocks.block(address, 2_000, 1_000), Ok(()));
        assert!(blocks.is_blocked(address, 1_999) && !blocks.is_blocked(address, 2_000));
        assert!(blocks.unblock(address) && !blocks.is_blocked(address, 1_500) && !blocks.unblock(address));
    }

    #[test]
    fn blocks_that_are_over_make_room_and_others_do_not() {
        let blocks = Blocks::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..BLOCKS_MAX as u32 {
            assert_eq!(blocks.block(address(number), 2_000, 1_000), Ok(()));
        }
        assert_eq!(blocks.block(address(u32::MAX), 3_000, 1_000), Err(Full));
        assert_eq!(blocks.block(address(7), 3_000, 1_000), Ok(()), "one that is known needs no room");
        assert_eq!(blocks.block(address(u32::MAX), 3_000, 2_500), Ok(()));
    }
}
