//! How a client is doing, in figures.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::reason::Reason;
use crate::state::{Ending, Status};

/// Round trips that are kept.
const TRIPS_KEPT: usize = 100;
/// Settled publishes that are kept.
const SETTLED_KEPT: usize = 200;

/// How a client is doing.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// Where it is, in words for people.
    pub status: Status,
    /// Why it ended, if it did.
    pub ending: Option<Ending>,
    /// The last round trip. One is measured every 15 s, so there is none in the first 15 s.
    pub latency: Option<Duration>,
    /// Half of the last 100 round trips were no longer.
    pub latency_p50: Option<Duration>,
    /// 95 of the last 100 round trips were no longer.
    pub latency_p95: Option<Duration>,
    /// 99 of the last 100 round trips were no longer.
    pub latency_p99: Option<Duration>,
    /// How often it was connected again.
    pub reconnections: u64,
    /// The part of the last 200 publishes that the server accepted, 0 to 1; 1 before the first. What was still waiting
    /// when the client ended is not counted.
    pub delivery_rate: f64,
    /// Publishes that wait for their answer, sent or not.
    pub queued: usize,
    /// When the next attempt comes, while one is waited for.
    pub next_retry_at: Option<Instant>,
    /// What last went wrong with the connection.
    pub last_error: Option<Reason>,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            status: Status::Idle,
            ending: None,
            latency: None,
            latency_p50: None,
            latency_p95: None,
            latency_p99: None,
            reconnections: 0,
            delivery_rate: 1.0,
            queued: 0,
            next_retry_at: None,
            last_error: None,
        }
    }
}

/// What is measured: the last round trips and the last settled publishes.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    trips: VecDeque<Duration>,
    settled: VecDeque<bool>,
}

impl Meter {
    pub(crate) fn round_trip(&mut self, took: Duration) {
        if self.trips.len() == TRIPS_KEPT {
            self.trips.pop_front();
        }
        self.trips.push_back(took);
    }

    pub(crate) fn settled(&mut self, accepted: bool) {
        if self.settled.len() == SETTLED_KEPT {
            self.settled.pop_front();
        }
        self.settled.push_back(accepted);
    }

    /// Puts what was measured into the health.
    pub(crate) fn tell(&self, health: &mut Health) {
        let mut sorted: Vec<Duration> = self.trips.iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            sorted.get(rank.saturating_sub(1)).copied()
        };
        health.latency = self.trips.back().copied();
        (health.latency_p50, health.latency_p95, health.latency_p99) = (at(50), at(95), at(99));
        let accepted = self.settled.iter().filter(|accepted| **accepted).count();
        health.delivery_rate =
            if self.settled.is_empty() { 1.0 } else { accepted as f64 / self.settled.len() as f64 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_last_hundred_round_trips() {
        let (mut meter, mut health) = (Meter::default(), Health::default());
        meter.tell(&mut health);
        assert_eq!((health.latency, health.latency_p99), (None, None));
        for trip in 1..=150 {
            meter.round_trip(Duration::from_millis(trip));
        }
        meter.tell(&mut health);
        let ms = |trip| Some(Duration::from_millis(trip));
        assert_eq!((health.latency, health.latency_p50), (ms(150), ms(100)));
        assert_eq!((health.latency_p95, health.latency_p99), (ms(145), ms(149)));
    }

    #[test]
    fn the_delivery_rate_is_that_of_the_last_two_hundred_publishes() {
        let (mut meter, mut health) = (Meter::default(), Health::default());
        for _ in 0..100 {
            meter.settled(false);
        }
        for _ in 0..150 {
            meter.settled(true);
        }
        meter.tell(&mut health);
        assert_eq!(health.delivery_rate, 0.75);
    }
}
