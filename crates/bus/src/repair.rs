//! Keeping up with what was committed elsewhere, or unheard of.
//!
//! A broker carries hints between nodes: it may lose, repeat and reorder them. What it loses is found in the
//! store: a hole when something later is heard, the tail by asking where channels stand (the head check).
//! Each node repairs once for all its listeners.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pulsewire_protocol::{ChannelName, Epoch, Sequence};
use pulsewire_telemetry::RepairSource;

use crate::reads::Job;
use crate::sequencer::Heard;
use crate::store::{Accepted, Extent, Only, Query, ReadLimit};
use crate::{Bus, Channel, ChannelKind, Hint, Mutant, Now, Publication};

/// Between two head checks, nanoseconds; each is a fifth longer or shorter, so that nodes do not ask together.
const HEAD_CHECK_NS: u64 = 2_000_000_000;
/// The same while the broker is not reached.
const HEAD_CHECK_DEAF_NS: u64 = 500_000_000;
/// After so long without listeners a channel's ring is forgotten, nanoseconds, and at the latest after twice that.
const RING_NS: u64 = 60_000_000_000;
/// Channels of one question for their heads.
const HEADS_MAX: usize = 1_000;
/// Events of one repairing read.
const PAGE: ReadLimit = ReadLimit { publications: 500, bytes: 1 << 20 };

impl Bus {
    /// Takes a hint of another node.
    pub fn receive(&self, hint: &Hint, now: Now) {
        let Some(channel) = self.listed(&hint.channel) else { return };
        let publication = |(sequence, accepted): &(Sequence, Arc<Accepted>)| {
            self.publication(&channel, *sequence, accepted.clone(), crate::publish::Moments::accepted(now))
        };
        let publications: Vec<_> = hint.events.iter().map(publication).collect();
        self.hear(&channel, &hint.epoch, &publications, now);
        if hint.epoch == channel.epoch && publications.is_empty() {
            self.heard_of(&channel, hint.head, now);
        }
    }

    /// Takes events of a channel that keeps nothing from another node, in their order.
    pub fn receive_passed(&self, name: &ChannelName, events: Vec<Arc<Accepted>>, now: Now) {
        let Some(channel) = self.listed(name) else { return };
        if channel.kind != ChannelKind::Ephemeral || self.is_crowded(&channel) {
            return;
        }
        let moments = crate::publish::Moments::accepted(now);
        let publication = |accepted| self.publication(&channel, Sequence::ZERO, accepted, moments);
        let publications: Vec<_> = events.into_iter().map(publication).collect();
        // Under the lock, so that all listeners meet the same order.
        let order = channel.order.lock();
        self.deliver(&channel, &publications);
        drop(order);
    }

    /// Somebody says that an open channel has come so far.
    fn heard_of(&self, channel: &Arc<Channel>, head: Sequence, now: Now) {
        let mut order = channel.order.lock();
        let behind = order.sequencer.is_open() && head > order.sequencer.cursor();
        if behind {
            order.sequencer.stands_at(head, now.mono_ns);
        }
        drop(order);
        if behind {
            self.watch(channel);
        }
    }

    /// Something was committed: passes on what is next, keeps what is not.
    pub(crate) fn hear(
        &self,
        channel: &Arc<Channel>,
        epoch: &Epoch,
        publications: &[Arc<Publication>],
        now: Now,
    ) {
        if *epoch != channel.epoch && !self.is(Mutant::IgnoreEpochs) {
            self.ask_heads(vec![channel.name.clone()]);
            return;
        }
        let mut order = channel.order.lock();
        let listened = channel.listeners() > 0;
        let mut out = Vec::with_capacity(publications.len());
        let mut later = false;
        if self.is(Mutant::PassOnUnordered) {
            self.deliver(channel, publications);
            return;
        }
        for publication in publications {
            match order.sequencer.hear(publication, listened, now.mono_ns, &mut out) {
                Heard::Next => {}
                Heard::Before => self.telemetry.shared().repeated(1),
                Heard::Later => later = true,
            }
        }
        self.deliver(channel, &out);
        drop(order);
        if later && !self.is(Mutant::LeaveHolesToHeads) {
            self.watch(channel);
        }
    }

    /// Has a channel looked after until nothing is missing.
    pub(crate) fn watch(&self, channel: &Arc<Channel>) {
        if self.watched.lock().insert(channel.id, channel.clone()).is_none() {
            self.tick_bell.ring();
        }
    }

    /// Something went wrong after which heads may be wrong: the next tick asks for them.
    pub(crate) fn suspect(&self) {
        self.suspicious.store(true, Ordering::Relaxed);
    }

    /// Has missing events read, and heads asked for when it is time. Returns whether something is missing: then
    /// it is to be called again in about 20 ms, else when its bell rings, or in half a second.
    pub fn tick(&self, now: Now) -> bool {
        let watched = std::mem::take(&mut *self.watched.lock());
        for channel in watched.into_values() {
            let mut order = channel.order.lock();
            let fetch = order.sequencer.fetch(now.mono_ns);
            let still = order.sequencer.has_hole();
            drop(order);
            if let Some(after) = fetch.filter(|_| !self.is(Mutant::NeverFetch)) {
                let query = Query { after, only: Only::All, limit: PAGE };
                self.enqueue(Job::Repair { channel: channel.clone(), query });
            }
            if still {
                self.watch(&channel);
            }
        }
        if now.since_ns(self.swept_ns.load(Ordering::Relaxed)) >= RING_NS {
            self.swept_ns.store(now.mono_ns, Ordering::Relaxed);
            for channel in self.channels.read().values().filter(|channel| channel.listeners() == 0) {
                channel.order.lock().sequencer.forget();
            }
        }
        let last = self.checked_ns.load(Ordering::Relaxed);
        // After a pause of the whole process (SIGSTOP, a sleeping machine) what was missed is asked for at once.
        let stalled = now.since_ns(self.ticked_ns.swap(now.mono_ns, Ordering::Relaxed)) > 2 * HEAD_CHECK_NS;
        self.tend_topics(now);
        // While hints do not come, the store is asked instead.
        let interval_ns = if self.is_deaf() { HEAD_CHECK_DEAF_NS } else { HEAD_CHECK_NS };
        let spread_ns = self.spread_ns() * interval_ns / HEAD_CHECK_NS;
        let due = now.since_ns(last) >= interval_ns - interval_ns / 5 + spread_ns;
        let shared = self.has_shared_store();
        let missing = !self.watched.lock().is_empty() || self.waits_for_topics();
        if self.is(Mutant::NeverAskHeads) {
            return missing;
        }
        let suspicious = shared && self.suspicious.load(Ordering::Relaxed);
        if (shared && (due || stalled || suspicious)) || (due && self.suspicious.load(Ordering::Relaxed)) {
            self.suspicious.store(false, Ordering::Relaxed);
            self.checked_ns.store(now.mono_ns, Ordering::Relaxed);
            // While the store does not answer one round, another would only wait behind it.
            if !self.asks_heads() {
                self.check_heads();
            }
        }
        missing
    }

    /// Asks where every channel stands that somebody listens to.
    pub fn check_heads(&self) {
        let listened = |channel: &&Arc<Channel>| channel.kind == ChannelKind::Log && channel.listeners() > 0;
        let names: Vec<ChannelName> =
            self.channels.read().values().filter(listened).map(|channel| channel.name.clone()).collect();
        self.check_heads_of(&names);
    }

    /// Asks where these channels stand.
    pub(crate) fn check_heads_of(&self, names: &[ChannelName]) {
        for names in names.chunks(HEADS_MAX) {
            self.ask_heads(names.to_vec());
        }
    }

    fn ask_heads(&self, names: Vec<ChannelName>) {
        self.enqueue(Job::Heads { names });
    }

    /// How far a channel had been passed on: to be asked before the store is, since it may move meanwhile.
    pub(crate) fn passed(&self, name: &ChannelName) -> Sequence {
        self.listed(name).map_or(Sequence::ZERO, |channel| channel.order.lock().sequencer.cursor())
    }

    /// The store said where a channel stands; it had been `passed` on so far when it was asked.
    pub(crate) fn stands_at(&self, name: &ChannelName, extent: &Extent, passed: Sequence, now: Now) {
        let Some(channel) = self.listed(name) else { return };
        let mut order = channel.order.lock();
        if !order.sequencer.is_open() {
            return;
        }
        let other_epoch = extent.epoch != channel.epoch && !self.is(Mutant::IgnoreEpochs);
        let rewound = extent.head < passed && !self.is(Mutant::TrustPositions);
        if other_epoch || rewound {
            if !other_epoch {
                // The store has lost what it acknowledged, and nobody changed the epoch.
                self.telemetry.shared().position_ahead();
                tracing::error!(
                    channel = %name, head = extent.head.0, cursor = order.sequencer.cursor().0,
                    "the store stands behind what it acknowledged; its history was rewritten without a new epoch"
                );
            }
            drop(order);
            self.replace(&channel, extent);
            return;
        }
        let behind = extent.head > order.sequencer.cursor();
        order.sequencer.stands_at(extent.head, now.mono_ns);
        drop(order);
        if behind {
            self.watch(&channel);
        }
    }

    /// Missing events were read, or could not be.
    pub(crate) fn repaired(&self, channel: &Arc<Channel>, page: Option<&crate::Page>, now: Now) {
        let mut order = channel.order.lock();
        let mut out = Vec::new();
        let tail = order.sequencer.fetched(page, now.mono_ns, &mut out);
        if page.is_some() {
            let found = if tail { RepairSource::HeadCheck } else { RepairSource::Hole };
            self.telemetry.shared().repaired(found);
        }
        self.deliver(channel, &out);
        let still = order.sequencer.has_hole();
        drop(order);
        if still {
            self.watch(channel);
        }
    }

    /// A channel's history was rewritten: another takes its name, and whoever listens is told.
    fn replace(&self, old: &Arc<Channel>, extent: &Extent) {
        let new = Arc::new(self.channel(&old.name, old.namespace, old.kind, extent.epoch.clone()));
        // Nobody has been told of it yet, so nothing waits in it.
        new.order.lock().sequencer.opens_at(extent.head, 0, &mut Vec::new());
        let mut channels = self.channels.write();
        match channels.get(&old.name) {
            Some(present) if present.id == old.id => {
                // Whoever finds the new one in the table finds it behind the old one, too.
                old.succeed(new.clone());
                channels.insert(old.name.clone(), new)
            }
            // Somebody else was faster, or nobody wants it any more.
            _ => return,
        };
        drop(channels);
        self.telemetry.shared().channel_reset();
        for part in self.parts().filter(|part| old.has_listeners(*part)) {
            self.audience.replaced(part, old);
        }
    }
}
