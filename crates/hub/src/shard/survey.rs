//! What there is, counted where it is kept.

use pulsewire_bus::Now;
use pulsewire_protocol::Encoding;
use pulsewire_telemetry::{Codec, Current, MemoryClass, SelfCheck, Transport};

use super::feed::{Feed, Listener, Subscription};
use super::queue::{Class, ItemRef};
use super::slot::{Detached, Guest, Phase, Session, Slot};
use super::{Shard, outbox::Outbox};
use crate::{ConnectionInfo, Net, Reported};

impl<N: Net> Shard<N> {
    /// Counts everything in this shard.
    pub(super) fn survey(&self, now: Now) -> Current {
        let mut current = Current::default();
        let (mut sessions, mut subscriptions, mut outboxes) = (0, 0, 0);
        for (_, slot) in &self.slots {
            let session = slot.session.as_deref();
            let count = session.map_or(0, |session| session.subscriptions.len());
            let queued = slot.outbox.as_ref().map_or(0, |outbox| outbox.bytes);
            if slot.is_active() {
                let codec = match slot.encoding() {
                    Encoding::Json => Codec::Json,
                    Encoding::MsgPack => Codec::MsgPack,
                };
                let connected_ns = match (session, &slot.guest) {
                    (Some(session), _) => session.peer.connected_ns,
                    (None, Some(guest)) => guest.peer.connected_ns,
                    (None, None) => now.mono_ns,
                };
                let age_ms = now.since_ns(connected_ns) / 1_000_000;
                current.connection(Transport::WebSocket, codec, count as u64, queued as u64, age_ms);
                if let Some(session) = session {
                    current.kernel_unsent_bytes += u64::from(session.counters.kernel_unsent_bytes);
                    current.kernel_unacked_bytes += u64::from(session.counters.kernel_unacked_bytes);
                    let queued = session.report.as_ref().and_then(|reported| reported.report.queued);
                    current.client_queued_messages += u64::from(queued.unwrap_or(0));
                }
            }
            sessions +=
                session.map_or(0, session_bytes) + slot.guest.as_ref().map_or(0, |_| size_of::<Guest>());
            subscriptions += session.map_or(0, |session| {
                if session.subscriptions.spilled() {
                    session.subscriptions.capacity() * size_of::<Subscription>()
                } else {
                    0
                }
            });
            outboxes += slot.outbox.as_ref().map_or(0, |outbox| {
                size_of::<Outbox>() + outbox.entries.capacity() * size_of::<(u32, u32)>() + outbox.bytes
            });
        }
        for (_, feed) in &self.feeds {
            subscriptions += size_of::<Feed>() + feed.listeners.capacity() * size_of::<Listener>();
            current.subscriptions += feed.listeners.len() as u64;
            if feed.channel.name.prefix() == Some("project") {
                let key = feed.channel.name.key().to_owned();
                current.subscriptions_by_project.push((key, feed.listeners.len() as u64));
            }
        }
        current.sessions_detached = self.detached_count as u64;
        let detached = |slot: &Slot| slot.session.as_ref().is_some_and(|session| session.detached.is_some());
        let detached = self.slots.iter().filter(|(_, slot)| detached(slot)).count();
        let sessions_listen: usize = self
            .slots
            .iter()
            .filter_map(|(_, slot)| slot.session.as_ref())
            .map(|session| session.subscriptions.len())
            .sum();
        let active = self.slots.iter().filter(|(_, slot)| slot.is_active()).count();
        let mismatch = &mut current.selfcheck_mismatch;
        mismatch[SelfCheck::Connections as usize] = active.abs_diff(self.active_count) as u64;
        mismatch[SelfCheck::Sessions as usize] = detached.abs_diff(self.detached_count) as u64;
        mismatch[SelfCheck::Subscriptions as usize] = current.subscriptions.abs_diff(sessions_listen as u64);
        let memory = &mut current.memory_bytes;
        memory[MemoryClass::Connections as usize] =
            (self.slots.capacity() * size_of::<Slot>() + self.queue.bytes()) as u64;
        memory[MemoryClass::Sessions as usize] = sessions as u64;
        memory[MemoryClass::Subscriptions as usize] = (subscriptions + self.attending.bytes()) as u64;
        memory[MemoryClass::Outboxes as usize] = outboxes as u64;
        memory[MemoryClass::ReadBuffers as usize] =
            (self.net.held_bytes() + self.scratch.held_bytes()) as u64;
        current.draining = self.drain.is_some();
        current
    }

    /// Lists connections and detached sessions.
    pub(super) fn list(&self, now: Now) -> Vec<ConnectionInfo> {
        self.slots.iter().filter_map(|(_, slot)| self.info(slot, now)).collect()
    }

    pub(super) fn info(&self, slot: &Slot, now: Now) -> Option<ConnectionInfo> {
        let session = slot.session.as_deref();
        let detached = session.and_then(|session| session.detached.as_deref());
        if !slot.is_active() && detached.is_none() {
            return None;
        }
        let peer = match (session, &slot.guest) {
            (Some(session), _) => &session.peer,
            (None, Some(guest)) => &guest.peer,
            (None, None) => return None,
        };
        let counters = session.map(|session| session.counters).unwrap_or_default();
        let activity_ms =
            i64::try_from(now.since_ns(counters.activity_ns.max(peer.connected_ns)) / 1_000_000);
        let channels = match detached {
            Some(Detached { parked, .. }) => {
                parked.iter().map(|parked| parked.channel.name.clone()).collect()
            }
            None => session.map_or_else(Vec::new, |session| self.channels_of(session)),
        };
        Some(ConnectionInfo {
            transport: Transport::WebSocket,
            session: session.map(|session| session.id),
            user: session.map_or_else(|| "".into(), |session| session.principal.sub.clone()),
            channels,
            remote: peer.remote,
            user_agent: peer.user_agent.clone(),
            encoding: slot.encoding(),
            connected_at_ms: peer.connected_at_ms,
            disconnected_at_ms: detached.map(|detached| detached.at_ms),
            last_activity_ms: now.wall_ms - activity_ms.unwrap_or(0),
            reconnections: counters.reconnections,
            messages_sent: detached.map_or(slot.messages_sent, |detached| detached.messages_sent),
            messages_received: counters.messages_received,
            messages_failed: u64::from(counters.messages_failed),
            bytes_sent: detached.map_or(slot.bytes_sent, |detached| detached.bytes_sent),
            bytes_received: counters.bytes_received,
            queued_bytes: slot.outbox.as_ref().map_or(0, |outbox| outbox.bytes as u64),
            heartbeat_rtt_ns: counters.heartbeat_rtt_ns,
            latency_sum_ns: counters.latency_sum_ns,
            latency_count: counters.latency_count,
            latency_max_ns: counters.latency_max_ns,
            tcp_rtt_us: counters.tcp_rtt_us,
            tcp_retransmits: counters.tcp_retransmits,
            report: session.and_then(|session| session.report.as_deref().copied()),
        })
    }

    fn channels_of(&self, session: &Session) -> Vec<pulsewire_protocol::ChannelName> {
        let feed = |subscription: &Subscription| self.feeds[subscription.feed as usize].channel.name.clone();
        session.subscriptions.iter().map(feed).collect()
    }

    /// The run a session takes part in: the first `run:` channel it listens to.
    pub(super) fn run_of(&self, session: &Session) -> Option<Box<str>> {
        session.subscriptions.iter().find_map(|subscription| {
            let name = &self.feeds[subscription.feed as usize].channel.name;
            (name.prefix() == Some("run")).then(|| name.key().into())
        })
    }

    /// Checks that tables which must agree do; for tests and the self-check.
    ///
    /// # Panics
    ///
    /// If they do not.
    pub fn audit(&self) {
        let active = self.slots.iter().filter(|(_, slot)| slot.is_active()).count();
        assert_eq!(active, self.active_count, "active connections are counted as they come and go");
        let detached = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.session.as_ref().is_some_and(|session| session.detached.is_some()));
        assert_eq!(detached.count(), self.detached_count, "waiting sessions are counted as they come and go");
        let mut listeners = 0;
        for (index, feed) in &self.feeds {
            assert!(!feed.listeners.is_empty(), "a feed without listeners is gone");
            for (place, listener) in feed.listeners.iter().enumerate() {
                let slot = &self.slots[listener.slot as usize];
                assert_eq!(slot.phase, Phase::Open, "only open connections listen");
                let session = slot.session.as_ref().expect("only sessions listen");
                let subscription = &session.subscriptions[listener.subscription()];
                assert_eq!((subscription.feed as usize, subscription.listener as usize), (index, place));
                assert_eq!(
                    listener.is_live(),
                    subscription.feeding == super::feed::Feeding::Live,
                    "a listener is live when its subscription is"
                );
                listeners += 1;
            }
        }
        let subscriptions: usize = self
            .slots
            .iter()
            .filter_map(|(_, slot)| slot.session.as_ref())
            .map(|session| session.subscriptions.len())
            .sum();
        assert_eq!(listeners, subscriptions, "every subscription is a listener of its feed");
        self.slots.iter().for_each(|(_, slot)| self.audit_outbox(slot));
        self.audit_presence();
    }

    /// I9: what waits is counted, and what nobody asked for is bounded: by the setting, or by one frame that is larger.
    fn audit_outbox(&self, slot: &Slot) {
        let Some(outbox) = &slot.outbox else { return };
        let bytes: usize = outbox.entries.iter().map(|(_, len)| *len as usize).sum();
        assert_eq!(bytes - outbox.written, outbox.bytes, "bytes are counted as they come and go");
        let bytes_max = self.settings.limits.outbox_bytes_max;
        let unasked = |(item, _): &&(ItemRef, u32)| self.queue.item(*item).class != Class::Answer;
        let first = outbox.entries.front().filter(unasked);
        let unasked: usize = outbox.entries.iter().filter(unasked).map(|(_, len)| *len as usize).sum();
        let unasked = unasked - first.map_or(0, |_| outbox.written);
        let largest = first.map_or(0, |(_, len)| *len as usize);
        assert!(
            unasked <= bytes_max.max(largest),
            "I9: {unasked} bytes that nobody asked for wait, and {bytes_max} may"
        );
    }

    /// Whether nothing is left: no connection, no session, no feed, nothing waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.feeds.is_empty() && self.queue.is_empty() && self.attending.is_empty()
    }
}

fn session_bytes(session: &Session) -> usize {
    size_of::<Session>()
        + session.report.as_ref().map_or(0, |_| size_of::<Reported>())
        + session.detached.as_ref().map_or(0, |detached| {
            size_of::<Detached>() + detached.parked.len() * size_of::<super::feed::Parked>()
        })
}
