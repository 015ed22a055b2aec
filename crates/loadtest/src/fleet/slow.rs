//! Readers that do not keep up, beside those that are counted.
//!
//! Half of them never read, the other half reads what is there now and then. A reader that was closed comes back, and one
//! that never reads is replaced before long, so whoever looks at the server sees some at any time. Nobody's figures count
//! them: what they are sent, how they end and what they are refused is the server's business.

use std::time::{Duration, Instant};

use super::{Fleet, Role};
use crate::swarm::Peer;

/// Small, so that the server meets them early.
const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;
/// How often they are looked after.
const EVERY: Duration = Duration::from_secs(1);
/// How often one of those reads that read at all.
const READS_EVERY: u64 = 5;
/// By then the server has closed one that never reads, with its default of 30 s (`limits.slow_after`).
const REPLACED_EVERY: u64 = 45;

/// The slow readers of a fleet.
#[derive(Debug, Default)]
pub(super) struct SlowReaders {
    /// Where each is now; those with an odd number read now and then.
    peers: Vec<Peer>,
    next: Option<Instant>,
    rounds: u64,
}

/// How many slow readers a share of so many subscribers is: one at least, if any.
pub fn slow_readers(share: f64, subscribers: usize) -> usize {
    (share.max(0.0) * subscribers as f64).ceil() as usize
}

impl Fleet<'_> {
    /// Adds slow readers, spread over the channels.
    ///
    /// # Errors
    ///
    /// When the kernel gives no socket.
    pub(super) fn add_slow(&mut self, count: usize) -> anyhow::Result<()> {
        for number in 0..count {
            let peer = self.slow_reader(number)?;
            self.slow.peers.push(peer);
        }
        self.slow.next = (count > 0).then(|| Instant::now() + EVERY);
        Ok(())
    }

    /// How many there are.
    pub fn slow_count(&self) -> usize {
        self.slow.peers.len()
    }

    fn slow_reader(&mut self, number: usize) -> anyhow::Result<Peer> {
        let channel = number % self.plan.channels.max(1);
        self.subscriber(channel, Role::Slow, Some(RECEIVE_BUFFER_BYTES), None)
    }

    /// Lets some read and has others come back, once a second.
    pub(super) fn tend_slow(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        if self.slow.next.is_none_or(|next| now < next) {
            return Ok(());
        }
        self.slow.next = Some(now + EVERY);
        self.slow.rounds += 1;
        for number in 0..self.slow.peers.len() {
            let peer = self.slow.peers[number];
            let turn = self.slow.rounds + number as u64;
            let reads = number % 2 == 1;
            if !self.swarm.is_open(peer) || !reads && turn.is_multiple_of(REPLACED_EVERY) {
                self.swarm.drop_peer(peer);
                self.slow.peers[number] = self.slow_reader(number)?;
            } else if reads && turn.is_multiple_of(READS_EVERY) {
                self.stall(peer, false);
                self.stall(peer, true);
            } else if self.swarm.is_upgraded(peer) {
                self.stall(peer, true);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_somebody_is_somebody() {
        assert_eq!([0.0, 0.01, 0.05].map(|share| slow_readers(share, 100)), [0, 1, 5]);
        assert_eq!(slow_readers(0.01, 10), 1);
    }
}
