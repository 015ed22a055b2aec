//! Attempts of one address: failed ones to sign in (row A18), and new connections (row 001-98).
//!
//! Each address has a budget of failures that refills evenly over a minute; when it is used up the
//! address is answered 429 before its credential is looked at, so guessing costs the guesser and
//! not the server. Successes cost nothing. An IPv6 address counts with its /64, which is one
//! subscriber's. When too many addresses fail at once, the new ones share one budget. The clock that is set plays no
//! part: set forward it would forgive everybody, set back it would refuse them for as long.

use std::{collections::HashMap, net::IpAddr};

use parking_lot::Mutex;
use pulsewire_hub::Now;

/// Addresses that are told apart.
pub const ADDRESSES_MAX: usize = 16_384;

const MINUTE_MS: i64 = 60_000;

/// The address has used its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// When the next attempt is looked at, in milliseconds from now.
    pub retry_after_ms: u64,
}

/// A budget in milliseconds: a failure costs a minute divided by the budget's size.
#[derive(Debug, Clone, Copy)]
struct Budget {
    /// When the budget is whole again, on the monotonic clock.
    full_at_ms: i64,
}

/// The failures of every address.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<Option<IpAddr>, Budget>>);

impl Attempts {
    /// Whether an attempt of `address` may be looked at, under `per_minute` failures (0: no limit).
    ///
    /// # Errors
    ///
    /// [`TooMany`] with the time to wait.
    pub fn check(&self, address: IpAddr, per_minute: usize, now: Now) -> Result<(), TooMany> {
        let now_ms = monotonic_ms(now);
        if per_minute == 0 {
            return Ok(());
        }
        let budgets = self.0.lock();
        let network = Some(network_of(address));
        let shared = if budgets.len() > ADDRESSES_MAX { budgets.get(&None) } else { None };
        let Some(budget) = budgets.get(&network).or(shared) else { return Ok(()) };
        let wait_ms = budget.full_at_ms + cost_ms(per_minute) - (now_ms + MINUTE_MS);
        match u64::try_from(wait_ms) {
            Ok(wait_ms) if wait_ms > 0 => Err(TooMany { retry_after_ms: wait_ms }),
            _ => Ok(()),
        }
    }

    /// Counts an attempt whatever becomes of it, if it may be looked at.
    ///
    /// # Errors
    ///
    /// As [`Attempts::check`]; then nothing is counted.
    pub fn take(&self, address: IpAddr, per_minute: usize, now: Now) -> Result<(), TooMany> {
        self.check(address, per_minute, now)?;
        self.failed(address, per_minute, now);
        Ok(())
    }

    /// Counts a failure of `address`.
    pub fn failed(&self, address: IpAddr, per_minute: usize, now: Now) {
        let now_ms = monotonic_ms(now);
        if per_minute == 0 {
            return;
        }
        let mut budgets = self.0.lock();
        let mut place = Some(network_of(address));
        if !budgets.contains_key(&place) && budgets.len() >= ADDRESSES_MAX {
            budgets.retain(|_, budget| budget.full_at_ms > now_ms);
            if budgets.len() >= ADDRESSES_MAX {
                place = None;
            }
        }
        let budget = budgets.entry(place).or_insert(Budget { full_at_ms: now_ms });
        let used = budget.full_at_ms.max(now_ms) + cost_ms(per_minute);
        // Attempts that ran side by side may overdraw; nobody waits longer than for a whole budget.
        budget.full_at_ms = used.min(now_ms + MINUTE_MS);
    }
}

fn monotonic_ms(now: Now) -> i64 {
    i64::try_from(now.mono_ns / 1_000_000).unwrap_or(i64::MAX / 2)
}

fn cost_ms(per_minute: usize) -> i64 {
    (MINUTE_MS / i64::try_from(per_minute).unwrap_or(MINUTE_MS)).max(1)
}

/// The address itself, or the /64 of an IPv6 address.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono_ns: ms * 1_000_000, wall_ms: 1_700_000_000_000 }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Row A18, as far as it needs no server.
    #[test]
    fn an_address_is_refused_after_its_budget_and_heard_again_as_it_refills() {
        let attempts = Attempts::default();
        let one = address("192.0.2.1");
        let looked_at = (0..1_000)
            .filter(|_| {
                let looked_at = attempts.check(one, 60, at(0)).is_ok();
                if looked_at {
                    attempts.failed(one, 60, at(0));
                }
                looked_at
            })
            .count();
        assert_eq!(looked_at, 60);
        assert_eq!(attempts.check(one, 60, at(0)), Err(TooMany { retry_after_ms: 1_000 }));
        assert_eq!(attempts.check(one, 60, at(1_000)), Ok(()));
        assert_eq!(attempts.check(address("192.0.2.2"), 60, at(0)), Ok(()));
    }

    /// Rows C1 and C2.
    #[test]
    fn a_clock_that_is_set_forgives_nobody_and_refuses_nobody_longer() {
        let attempts = Attempts::default();
        let (one, now) = (address("192.0.2.1"), at(0));
        (0..60).for_each(|_| attempts.failed(one, 60, now));
        for jump_ms in [86_400_000, -3_600_000] {
            let set = |now: Now| Now { wall_ms: now.wall_ms + jump_ms, ..now };
            assert_eq!(attempts.check(one, 60, set(now)), Err(TooMany { retry_after_ms: 1_000 }));
            assert_eq!(attempts.check(one, 60, set(at(1_000))), Ok(()));
        }
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_share_a_budget() {
        let attempts = Attempts::default();
        for host in 0..10 {
            attempts.failed(address(&format!("2001:db8::{host}")), 10, at(0));
        }
        assert!(attempts.check(address("2001:db8::ffff"), 10, at(0)).is_err());
        assert!(attempts.check(address("2001:db8:0:1::1"), 10, at(0)).is_ok());
    }

    #[test]
    fn the_table_of_addresses_is_bounded() {
        let attempts = Attempts::default();
        for number in 0..u32::try_from(ADDRESSES_MAX).unwrap() + 1_000 {
            attempts.failed(IpAddr::V4(number.into()), 60, at(0));
        }
        assert_eq!(attempts.0.lock().len(), ADDRESSES_MAX + 1);
        assert!(attempts.check(address("198.51.100.1"), 60, at(0)).is_err(), "newcomers share a used budget");
        attempts.failed(address("198.51.100.1"), 60, at(120_000));
        assert_eq!(attempts.0.lock().len(), 1, "budgets that are whole again make room");
    }

    #[test]
    fn zero_means_no_limit() {
        let attempts = Attempts::default();
        attempts.failed(address("192.0.2.1"), 0, at(0));
        assert!(attempts.check(address("192.0.2.1"), 0, at(0)).is_ok());
    }
}
