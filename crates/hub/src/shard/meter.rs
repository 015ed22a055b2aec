//! The rate of one client's messages, and of those to it where `limits.rate_direction` is `both`.
//!
//! The rate of what a client says is always looked at (`inbound.rs`). What it is sent is metered only by the strict
//! reading of document 004, and then right before it is written: fan-out knows nothing of it, and while the
//! setting is off nothing here is run. Events and values count; answers, heartbeats and presence do not. A log is sent
//! whatever the rate, and uses it up; beyond it, events of `ephemeral` channels are dropped and counted, and values
//! of `metrics` channels wait for the newest.
//! A client held back goes on, at the next full second, when its rate has room for what it is owed.

use std::collections::HashMap;

use pulsewire_bus::Now;
use pulsewire_telemetry::DropCause;
use smallvec::SmallVec;

use super::Shard;
use super::feed::{Feeding, Subscription};
use super::queue::{Chain, Class, ItemRef};
use super::slot::{Flags, NONE, Phase};
use crate::settings::RateDirection;
use crate::{ConnKey, Net};

/// So many messages a minute, as many at once, evenly after that (GCRA).
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    interval_ns: u64,
    burst_ns: u64,
}

impl Rate {
    /// `None` for 0, which is no limit.
    pub(super) fn new(per_minute: u32) -> Option<Self> {
        let per_minute = u64::from(per_minute);
        let interval_ns = 60_000_000_000_u64.checked_div(per_minute)?;
        Some(Self { interval_ns, burst_ns: interval_ns * (per_minute - 1) })
    }

    /// Takes a message's worth; or changes nothing and says how much too early it comes, in nanoseconds.
    ///
    /// `used_ns` is the theoretical arrival time of the next message, 0 at first.
    pub(super) fn take(self, used_ns: &mut u64, now: Now) -> Result<(), u64> {
        let arrival_ns = (*used_ns).max(now.mono_ns);
        let ahead_ns = arrival_ns - now.mono_ns;
        if ahead_ns > self.burst_ns {
            return Err(ahead_ns - self.burst_ns);
        }
        *used_ns = arrival_ns + self.interval_ns;
        Ok(())
    }

    /// Whether so many messages have room, or all that ever have.
    fn has_room(self, used_ns: u64, messages: usize, now: Now) -> bool {
        let before_last_ns = self.interval_ns.saturating_mul((messages as u64).saturating_sub(1));
        used_ns.saturating_sub(now.mono_ns) + before_last_ns.min(self.burst_ns) <= self.burst_ns
    }
}

/// What connections were sent of late. Whoever has its whole rate left, and is owed nothing, is not here.
#[derive(Debug, Default)]
pub(super) struct Meters(HashMap<ConnKey, Meter>);

#[derive(Debug, Default)]
struct Meter {
    /// As [`Rate::take`] has it.
    used_ns: u64,
    /// Something was kept back that is to be made up for.
    held: bool,
}

impl<N: Net> Shard<N> {
    /// Whether what is sent is metered.
    pub(super) fn is_metered(&self) -> bool {
        self.settings.limits.rate_direction == RateDirection::Both
    }

    /// As [`Shard::flush`], where every message is looked at.
    #[cold]
    pub(super) fn flush_attentively(&mut self, connections: usize, now: Now) -> bool {
        for _ in 0..connections {
            let Some(slot) = self.queue.next_touched() else { break };
            self.flush_slot(slot, now);
        }
        self.queue.has_touched()
    }

    /// Takes out of what waits for a connection that its rate does not allow.
    #[cold]
    pub(super) fn meter(&mut self, index: u32, now: Now) {
        let Some(rate) = Rate::new(self.settings.limits.messages_per_minute) else { return };
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.phase != Phase::Open || slot.first == NONE {
            return;
        }
        let meter = self.meters.0.entry(slot.key(index)).or_default();
        // Messages are counted, so a bundle is its events. Values that came together are one, however they are shaped.
        let chain = self.queue.take(slot);
        let chain = self.queue.expand(chain);
        let (mut kept, mut refused) = (SmallVec::<[ItemRef; 8]>::new(), SmallVec::<[ItemRef; 8]>::new());
        let mut node = chain.first;
        while node != NONE {
            let (item, next) = self.queue.step(node);
            let class = self.queue.item(item).class;
            let early = class.counts() && rate.take(&mut meter.used_ns, now).is_err();
            let may_wait = matches!(class, Class::Ephemeral { .. } | Class::Metrics { .. });
            if early && may_wait {
                refused.push(item);
            } else {
                kept.push(item);
            }
            node = if node == chain.last { NONE } else { next };
        }
        meter.held |= !refused.is_empty();
        self.queue.recycle(chain);
        let mut rest = Chain { first: NONE, last: NONE };
        for item in kept {
            self.queue.append(&mut rest, item);
        }
        (slot.first, slot.last) = (rest.first, rest.last);
        for item in refused {
            self.hold(index, item);
        }
    }

    /// Does for a message beyond the rate what a full outbox does: counts it, and has it made up for.
    fn hold(&mut self, index: u32, item: ItemRef) {
        let (class, fresh) = (self.queue.item(item).class, self.queue.item(item).accepted_ns > 0);
        self.queue.forget(item);
        let (Class::Ephemeral { feed } | Class::Metrics { feed }) = class else { return };
        let position = self.subscription(index, feed);
        if matches!(class, Class::Ephemeral { .. }) {
            self.metrics.dropped(DropCause::RateLimit, 1);
            self.metrics.message_failed(1);
        } else if fresh {
            // The newest values, sent again, were counted when they came.
            self.metrics.conflated(1);
        }
        let Some(position) = position else { return };
        if matches!(class, Class::Metrics { .. }) {
            let feeding = self.subscription_mut(index, position).feeding;
            if feeding != Feeding::Stale {
                self.fall_back(index, position, 0, Feeding::Stale);
            }
            self.subscription_mut(index, position).missed += u32::from(fresh);
            return;
        }
        let slot = &mut self.slots[index as usize];
        slot.flags.set(Flags::HELD_BACK);
        let session = slot.session.as_mut().expect("it subscribes");
        session.subscriptions[position].missed += 1;
        session.counters.messages_failed += 1;
    }

    /// Lets those go on whose rate has room for what they are owed. Called once a second.
    pub(super) fn release_metered(&mut self, now: Now) {
        if self.meters.0.is_empty() {
            return;
        }
        let limits = &self.settings.limits;
        let rate = if self.is_metered() { Rate::new(limits.messages_per_minute) } else { None };
        let mut meters = std::mem::take(&mut self.meters.0);
        let mut ready = Vec::new();
        meters.retain(|key, meter| {
            if self.find(*key).is_none() {
                return false;
            }
            if meter.held && rate.is_none_or(|rate| rate.has_room(meter.used_ns, self.owed(key.slot), now)) {
                meter.held = false;
                ready.push(*key);
            }
            meter.held || meter.used_ns > now.mono_ns
        });
        self.meters.0 = meters;
        // In an order that is the same in every run.
        ready.sort_unstable_by_key(|key| (key.slot, key.stamp));
        for key in ready {
            let place = &mut self.slots[key.slot as usize];
            // Whoever does not read either goes on when its outbox has drained.
            if place.outbox.is_none() {
                place.flags.clear(Flags::HELD_BACK);
                self.catch_up(key.slot, now);
            }
        }
    }

    /// Messages that make up for what was kept back from a connection: the newest values of each channel.
    fn owed(&self, index: u32) -> usize {
        let session = self.slots[index as usize].session.as_ref();
        let stale = |it: &&Subscription| it.feeding == Feeding::Stale;
        session.map_or(0, |session| session.subscriptions.iter().filter(stale).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ns: u64) -> Now {
        Now { mono_ns, wall_ms: 0 }
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_one_in_its_time() {
        let rate = Rate::new(60).unwrap();
        let (mut used_ns, second) = (0, 1_000_000_000);
        let burst = (0..100).take_while(|_| rate.take(&mut used_ns, at(5 * second)).is_ok()).count();
        assert_eq!(burst, 60);
        assert_eq!(rate.take(&mut used_ns, at(5 * second)), Err(second));
        assert!(rate.take(&mut used_ns, at(6 * second)).is_ok());
        assert_eq!(rate.take(&mut used_ns, at(6 * second)), Err(second));
        assert!(Rate::new(0).is_none(), "0 is no limit");
    }

    #[test]
    fn there_is_room_for_what_can_be_taken() {
        for (per_minute, taken) in [(60, 0), (60, 57), (60, 60), (1, 0), (1, 1)] {
            let rate = Rate::new(per_minute).unwrap();
            let now = at(1_000_000_000);
            let mut used_ns = 0;
            (0..taken).for_each(|_| rate.take(&mut used_ns, now).unwrap());
            let left = per_minute as usize - taken;
            assert_eq!(rate.has_room(used_ns, left, now), left > 0, "{per_minute} {taken}");
            let more = left + 1;
            let ever = taken == 0;
            assert_eq!(
                rate.has_room(used_ns, more, now),
                ever,
                "{per_minute} {taken}: all that ever have room"
            );
        }
    }
}
