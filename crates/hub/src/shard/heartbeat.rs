//! Heartbeats without timers.
//!
//! Time is cut into ticks; in each the connections whose slot number belongs to it are pinged, so the
//! pings of an interval are spread evenly and a connection needs no timer of its own. The same walk,
//! `timeout` later, finds those that did not answer. A ping's nonce is the time at which it was sent.

use pulsewire_bus::Now;
use pulsewire_protocol::{Answer, ClientReport, Frame};
use pulsewire_telemetry::{MessageType, Visibility};

use super::queue::{Class, Item, ItemRef, Source};
use super::slot::{Flags, Phase};
use super::{Shard, closing};
use crate::watch::timeline::{Happening, Note};
use crate::{ConnKey, Net, Reported};
use pulsewire_telemetry::Sent;

/// How often [`Shard::tick`] wants to be called, in milliseconds.
pub(crate) const TICK_MS: u64 = 250;

/// A ping that is answered after so long is answered late.
const LATE_NS: u64 = 1_000_000_000;

/// How far the walks have come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    ticks: u64,
    second: u64,
}

impl<N: Net> Shard<N> {
    /// How long the loop may sleep at most, in milliseconds.
    #[must_use]
    pub fn sleep_ms(&self, now: Now) -> u64 {
        let look_ms =
            self.probes.next_look_ns().map(|look_ns| look_ns.saturating_sub(now.mono_ns) / 1_000_000);
        let wait_ms = [look_ms, self.presence.wait_ms(now)].into_iter().flatten().min();
        wait_ms.map_or(TICK_MS, |wait_ms| wait_ms.clamp(1, TICK_MS))
    }

    /// Time has passed. Call it at least every [`Shard::sleep_ms`].
    pub fn tick(&mut self, now: Now) {
        self.check_probes(now);
        self.presence.tick(now, &self.metrics);
        let tick = now.mono_ns / (TICK_MS * 1_000_000);
        if tick == self.swept.ticks {
            return;
        }
        let first = if self.swept.ticks == 0 { tick } else { self.swept.ticks + 1 };
        let interval = (self.settings.heartbeat_interval_ms / TICK_MS).max(1);
        let timeout = (self.settings.heartbeat_timeout_ms / TICK_MS).max(1);
        // After a stall every slot is visited once, not once for each tick that was missed.
        for tick in first.max((tick + 1).saturating_sub(interval))..=tick {
            self.close_silent(tick.wrapping_sub(timeout) % interval, interval, now);
            self.ping_some(tick % interval, interval, now);
        }
        self.swept.ticks = tick;
        self.end_overdue(now);
        self.retry_reads(now);
        let second = now.mono_ns / 1_000_000_000;
        if second != self.swept.second {
            self.swept.second = second;
            self.check_progress(now);
            self.retries.append(&mut self.retries_later);
            self.release_metered(now);
            self.turn_taps(now);
            self.tell_positions();
            self.tell_stale(now);
            self.check_members(now);
        }
    }

    fn ping_some(&mut self, phase: u64, interval: u64, now: Now) {
        let mut frames = [None; 3];
        let mut receivers = [0; 3];
        let capacity = self.slots.capacity() as u64;
        for index in (phase..capacity).step_by(interval as usize) {
            let index = index as u32;
            let Some(slot) = self.slots.get_mut(index as usize) else { continue };
            if slot.phase != Phase::Open {
                continue;
            }
            let unheard = slot.flags.has(Flags::AWAITING_PONG) || slot.outbox.is_some();
            if self.is_aged(index, now) {
                self.close_aged(index, now);
                continue;
            }
            self.watch_expiry(index, now);
            let slot = &mut self.slots[index as usize];
            if unheard {
                continue;
            }
            slot.flags.set(Flags::AWAITING_PONG);
            slot.pinged_ns = now.mono_ns;
            self.metrics.heartbeat_sent();
            let mut kinds = vec_of_kinds(slot.flags);
            while let Some(kind) = kinds.pop() {
                let item = *frames[kind]
                    .get_or_insert_with(|| self.queue.insert(ping_item(kind, now, self.metric_type)));
                let slot = &mut self.slots[index as usize];
                self.queue.link(index, slot, ItemRef::new(item, false));
                receivers[kind] += 1;
            }
            self.sample(index);
        }
        for (item, receivers) in frames.into_iter().zip(receivers) {
            if let Some(item) = item {
                self.queue.seal(item, receivers);
            }
        }
    }

    /// Pings one connection now, whatever its turn.
    pub(super) fn ping_now(&mut self, index: u32, now: Now) {
        let slot = &mut self.slots[index as usize];
        slot.flags.set(Flags::AWAITING_PONG);
        slot.pinged_ns = now.mono_ns;
        self.metrics.heartbeat_sent();
        self.send_item(index, ping_item(0, now, self.metric_type), false);
    }

    fn close_silent(&mut self, phase: u64, interval: u64, now: Now) {
        let timeout_ns = self.settings.heartbeat_timeout_ms * 1_000_000;
        for index in (phase..self.slots.capacity() as u64).step_by(interval as usize) {
            let index = index as usize;
            let Some(slot) = self.slots.get(index) else { continue };
            let waited = now.since_ns(slot.pinged_ns) + TICK_MS * 1_000_000 >= timeout_ns;
            if slot.phase == Phase::Open && slot.flags.has(Flags::AWAITING_PONG) && waited {
                if let Some(session) = &mut self.slots[index].session {
                    session.counters.heartbeats_missed += 1;
                }
                self.note(index as u32, Note::of(Happening::HeartbeatMissed), now);
                self.close_because(index as u32, closing::Cause::NoPong, now);
            }
        }
    }

    /// A pong frame came. One that was not asked for counts for nothing.
    pub fn pong(&mut self, key: ConnKey, payload: &[u8], now: Now) {
        let Some(index) = self.find(key) else { return };
        if let Ok(nonce) = <[u8; 8]>::try_from(payload) {
            self.answered(index, u64::from_be_bytes(nonce), now);
        }
    }

    /// A `pong` message came, with the timestamp of a `ping` message.
    pub(super) fn pong_message(&mut self, index: u32, timestamp: Option<f64>, now: Now) {
        let slot = &self.slots[index as usize];
        if !slot.flags.has(Flags::MESSAGE_PINGS) || !slot.flags.has(Flags::AWAITING_PONG) {
            return;
        }
        // Document 004's timestamp is Unix seconds and may be the client's own: the answer counts, and the
        // round trip is measured if it is an echo.
        let sent_ms = now.wall_ms - i64::try_from(now.since_ns(slot.pinged_ns) / 1_000_000).unwrap_or(0);
        let echo = timestamp.is_some_and(|timestamp| (timestamp * 1_000.0 - sent_ms as f64).abs() < 2.0);
        let pinged_ns = slot.pinged_ns;
        if echo {
            self.answered(index, pinged_ns, now);
        } else {
            self.slots[index as usize].flags.clear(Flags::AWAITING_PONG);
        }
    }

    /// A client said how it is, on a `ping` or a `pong`; whether that was asked for does not matter.
    pub(super) fn reported(&mut self, index: u32, report: Option<ClientReport>, now: Now) {
        let Some(report) = report else { return };
        let Some(session) = &mut self.slots[index as usize].session else { return };
        let reported = Reported { report, at_ms: now.wall_ms };
        match &mut session.report {
            Some(last) => **last = reported,
            none => *none = Some(Box::new(reported)),
        }
        let visibility = match report.visible {
            Some(true) => Visibility::Visible,
            Some(false) => Visibility::Hidden,
            None => Visibility::Unknown,
        };
        self.metrics.client_reported(
            visibility,
            report.queued.map(u64::from),
            report.handler_us.map(|us| u64::from(us) * 1_000),
            report.gaps_healed.map_or(0, u64::from),
        );
    }

    fn answered(&mut self, index: u32, nonce: u64, now: Now) {
        let slot = &mut self.slots[index as usize];
        if !slot.flags.has(Flags::AWAITING_PONG) || slot.pinged_ns != nonce {
            return;
        }
        slot.flags.clear(Flags::AWAITING_PONG);
        let rtt_ns = now.since_ns(nonce);
        self.metrics.heartbeat_answered(rtt_ns);
        if let Some(session) = &mut slot.session {
            session.counters.heartbeat_rtt_ns = rtt_ns;
            session.counters.activity_ns = now.mono_ns;
        }
        if rtt_ns >= LATE_NS {
            self.note(index, Note::of(Happening::LatePong).value(rtt_ns / 1_000_000), now);
        }
    }

    /// A ping frame came: RFC 6455 §5.5.3 wants its payload back.
    pub fn ping(&mut self, key: ConnKey, payload: &[u8], _now: Now) {
        if let Some(index) = self.find(key) {
            self.send(index, Frame::pong(payload), MessageType::Pong, 0);
        }
    }

    /// Takes the kernel's view of a connection into the session and the counters.
    fn sample(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let Some(sample) = self.net.sample(slot.key(index)) else { return };
        let Some(session) = &mut slot.session else { return };
        let retransmits = sample.retransmits.saturating_sub(session.counters.tcp_retransmits);
        session.counters.tcp_retransmits = sample.retransmits;
        session.counters.tcp_rtt_us = sample.rtt_us;
        session.counters.kernel_unsent_bytes = sample.unsent_bytes;
        session.counters.kernel_unacked_bytes = sample.unacked_bytes;
        self.metrics.tcp_sample(
            u64::from(sample.rtt_us) * 1_000,
            u64::from(retransmits),
            u64::from(sample.unsent_bytes),
            u64::from(sample.unacked_bytes),
        );
    }
}

/// Which pings a connection gets: a frame always, and document 004's message in its encoding if it wants it.
fn vec_of_kinds(flags: Flags) -> smallvec::SmallVec<[usize; 2]> {
    let mut kinds = smallvec::SmallVec::new();
    kinds.push(0);
    if flags.has(Flags::MESSAGE_PINGS) {
        kinds.push(if flags.has(Flags::MSGPACK) { 2 } else { 1 });
    }
    kinds
}

fn ping_item(kind: usize, now: Now, event_type: pulsewire_telemetry::EventTypeId) -> Item {
    let answer = Answer::Ping { timestamp_ms: now.wall_ms };
    let frame = match kind {
        0 => Frame::ping(now.mono_ns.to_be_bytes()),
        1 => answer.encode(None, pulsewire_protocol::Encoding::Json),
        _ => answer.encode(None, pulsewire_protocol::Encoding::MsgPack),
    };
    Item::new(Source::Ready(frame), Class::Answer, Sent::Message(MessageType::Ping), event_type, 0)
}
