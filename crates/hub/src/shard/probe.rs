//! How long until a message has really arrived.
//!
//! Two proofs beyond the hand-off to the kernel: TCP's acknowledgement of the bytes, for a few sampled
//! deliveries at a time, and the receipt that a client sends for what it has handled. Both are bounded:
//! so many probes under way, so many publications remembered.

use pulsewire_bus::{Now, Publication};
use pulsewire_telemetry::{EventTypeId, Proof};

use super::Shard;
use crate::{ConnKey, Net};

/// Probes under way at a time.
const PROBES_MAX: usize = 4;
/// A probe begins at most so often: each costs a few system calls.
const SPACING_NS: u64 = 250_000_000;
/// A probe that sees no acknowledgement for so long is given up.
const GIVE_UP_NS: u64 = 5_000_000_000;

/// A delivery whose acknowledgement is awaited.
struct Probe {
    key: ConnKey,
    accepted_ns: u64,
    event_type: EventTypeId,
    /// `acked_bytes` at which it has arrived.
    target: u64,
    /// When to look again, and how long to wait then: each look costs system calls, so they become rarer.
    look_ns: u64,
    wait_ns: u64,
}

/// How long to wait before the first look, and at most between two looks.
const WAIT_MIN_NS: u64 = 1_000_000;
const WAIT_MAX_NS: u64 = 64_000_000;

/// Deliveries whose acknowledgement is awaited.
#[derive(Default)]
pub(super) struct Probes {
    under_way: Vec<Probe>,
    next_ns: u64,
}

impl Probes {
    /// When a probe wants to be looked at; `None` if there is none.
    pub(super) fn next_look_ns(&self) -> Option<u64> {
        self.under_way.iter().map(|probe| probe.look_ns).min()
    }

    pub(super) fn wanted(&self, now: Now) -> bool {
        self.under_way.len() < PROBES_MAX && now.mono_ns >= self.next_ns
    }
}

/// When the last publications of `log` channels were accepted, by channel and sequence.
#[derive(Default)]
pub(super) struct Receipts {
    entries: Vec<Option<Noted>>,
}

#[derive(Clone, Copy)]
struct Noted {
    channel: u32,
    sequence: u64,
    accepted_ns: u64,
    begun_ns: u64,
    event_type: EventTypeId,
}

/// How many publications are remembered for receipts; later ones take their places.
const RECEIPTS_MAX: usize = 4_096;

impl Receipts {
    fn place(channel: u32, sequence: u64) -> usize {
        let mixed = (u64::from(channel) << 32 ^ sequence).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 52) as usize % RECEIPTS_MAX
    }

    pub(super) fn note(&mut self, publication: &Publication) {
        if self.entries.is_empty() {
            self.entries = vec![None; RECEIPTS_MAX];
        }
        let (channel, sequence) = (publication.channel.id.0, publication.sequence.0);
        self.entries[Self::place(channel, sequence)] = Some(Noted {
            channel,
            sequence,
            accepted_ns: publication.accepted_ns,
            begun_ns: publication.begun_ns,
            event_type: publication.event_type,
        });
    }

    fn find(&self, channel: u32, sequence: u64) -> Option<Noted> {
        let noted = (*self.entries.get(Self::place(channel, sequence))?)?;
        (noted.channel == channel && noted.sequence == sequence).then_some(noted)
    }
}

impl<N: Net> Shard<N> {
    /// Watches a delivery that was just handed to the kernel.
    pub(super) fn probe(&mut self, key: ConnKey, accepted_ns: u64, event_type: EventTypeId, now: Now) {
        let Some(sample) = self.net.sample(key) else { return };
        let target = sample.acked_bytes + u64::from(sample.unsent_bytes) + u64::from(sample.unacked_bytes);
        self.probes.next_ns = now.mono_ns + SPACING_NS;
        let look_ns = now.mono_ns + WAIT_MIN_NS;
        let probe = Probe { key, accepted_ns, event_type, target, look_ns, wait_ns: WAIT_MIN_NS };
        self.probes.under_way.push(probe);
    }

    pub(super) fn check_probes(&mut self, now: Now) {
        if self.probes.next_look_ns().is_none_or(|look_ns| look_ns > now.mono_ns) {
            return;
        }
        let mut under_way = std::mem::take(&mut self.probes.under_way);
        under_way.retain_mut(|probe| {
            if probe.look_ns > now.mono_ns {
                return true;
            }
            if self.find(probe.key).is_none() || now.since_ns(probe.accepted_ns) > GIVE_UP_NS {
                return false;
            }
            let Some(sample) = self.net.sample(probe.key) else { return false };
            if sample.acked_bytes < probe.target {
                probe.wait_ns = (probe.wait_ns * 2).min(WAIT_MAX_NS);
                probe.look_ns = now.mono_ns + probe.wait_ns;
                return true;
            }
            let latency_ns = now.since_ns(probe.accepted_ns);
            self.metrics.receipt(probe.event_type, latency_ns, Proof::TcpAck);
            self.latency(probe.key.slot, latency_ns);
            false
        });
        self.probes.under_way = under_way;
    }

    /// A client says that it has handled a publication.
    pub(super) fn receipt(&mut self, slot: u32, channel: u32, sequence: u64, now: Now) {
        if let Some(noted) = self.receipts.find(channel, sequence) {
            let latency_ns = now.since_ns(noted.accepted_ns);
            self.metrics.receipt(noted.event_type, latency_ns, Proof::AppAck);
            if noted.begun_ns > 0 {
                self.metrics.round_trip(now.since_ns(noted.begun_ns));
            }
            self.latency(slot, latency_ns);
        }
    }

    fn latency(&mut self, slot: u32, latency_ns: u64) {
        if let Some(session) = self.slots.get_mut(slot as usize).and_then(|slot| slot.session.as_mut()) {
            session.counters.latency(latency_ns);
        }
    }
}
