//! Looking at connections for operators: a slice of them held against a query, and rows of those that were chosen.
//!
//! Nobody is asked for anything while nobody looks. Of a connection for which nothing waits a look reads what is stored;
//! only of one that lags the kernel is asked, because there it decides what is wrong.

use pulsewire_bus::Now;
use pulsewire_protocol::ChannelName;
use pulsewire_telemetry::Transport;
use slab::Slab;

use super::Shard;
use super::feed::{self, Feed, Subscription};
use super::slot::{Flags, Peer, Session, Slot};
use crate::settings::HubSettings;
use crate::watch::filter::Subject;
use crate::watch::{
    self, ConnectionField, Detail, Diagnosis, Group, Query, Ranked, Row, RowKey, SLICE_SLOTS, STUCK_NS,
    Short, Signs, State, Subscribed, Top,
};
use crate::{Net, Role, TcpSample, client_version};

impl<N: Net> Shard<N> {
    /// Holds the slots from `from` on against a query, at most a slice of them.
    pub(super) fn rank(&mut self, from: u32, query: &Query, now: Now) -> Ranked {
        let capacity = u32::try_from(self.slots.capacity()).unwrap_or(u32::MAX);
        let end = from.saturating_add(SLICE_SLOTS).min(capacity);
        let mut ranked = Ranked { next: (end < capacity).then_some(end), ..Ranked::default() };
        let mut top = Top::new(query.keep);
        for index in from..end {
            let tcp = match self.slots.get(index as usize) {
                Some(slot) if slot.outbox.is_some() => self.net.sample(slot.key(index)),
                _ => None,
            };
            let Some(seen) = self.look(index, tcp, now, &query.node) else { continue };
            ranked.total += 1;
            if !query.filter.passes(&seen) {
                continue;
            }
            ranked.matched += 1;
            match query.group {
                Some(by) => ranked.groups.join(&seen, by, &seen.group()),
                None => top.compete(&seen, query.sort, seen.key),
            }
        }
        ranked.candidates = top.into_sorted();
        ranked
    }

    /// The rows of those that are still there.
    pub(super) fn rows(&mut self, keys: &[RowKey], now: Now) -> Vec<Row> {
        keys.iter().filter_map(|key| self.row(*key, now)).collect()
    }

    fn row(&mut self, key: RowKey, now: Now) -> Option<Row> {
        let index = self.slot_of(key)?;
        let tcp = self.net.sample(self.slots[index as usize].key(index));
        let seen = self.look(index, tcp, now, "")?;
        Some(Row {
            key,
            state: seen.state,
            diagnosis: seen.diagnosis,
            cause_text: seen.signs.explain(seen.diagnosis.cause),
            queued_for_ns: self.queued_for_ns(seen.slot, now),
            tcp,
            heartbeats_missed: seen.session.map_or(0, |session| session.counters.heartbeats_missed),
            info: self.info(seen.slot, now)?,
        })
    }

    /// Everything about one connection.
    pub(super) fn detail(&mut self, key: RowKey, now: Now) -> Option<Detail> {
        let row = self.row(key, now)?;
        let slot = &self.slots[self.slot_of(key)? as usize];
        let session = slot.session.as_deref();
        let detached = session.and_then(|session| session.detached.as_deref());
        let subscriptions = match (session, detached) {
            (_, Some(detached)) => detached.parked.iter().map(parked).collect(),
            (Some(session), None) => session.subscriptions.iter().map(|it| self.subscribed(it)).collect(),
            (None, None) => Vec::new(),
        };
        let principal = session.map(|session| &session.principal);
        Some(Detail {
            row,
            expires_at_ms: principal.and_then(|principal| principal.expires_at_ms),
            role: principal.map_or(Role::User, |principal| principal.role),
            resumable: principal.is_some_and(|principal| !principal.is_anonymous())
                && self.settings.resume_window_ms > 0,
            subscriptions,
        })
    }

    pub(super) fn subscribed(&self, subscription: &Subscription) -> Subscribed {
        let feed = &self.feeds[subscription.feed as usize];
        let keeps = feed.channel.kind == pulsewire_bus::ChannelKind::Log;
        let position = match subscription.feeding {
            feed::Feeding::Live => feed.cursor,
            _ => subscription.next.saturating_sub(1),
        };
        Subscribed {
            channel: feed.channel.clone(),
            position: keeps.then_some(position),
            feeding: match subscription.feeding {
                feed::Feeding::Live => watch::Feeding::Live,
                feed::Feeding::Reading => watch::Feeding::Reading,
                feed::Feeding::Skipping => watch::Feeding::Ahead,
                feed::Feeding::Lagging => watch::Feeding::Lagging,
                feed::Feeding::Stale => watch::Feeding::Stale,
            },
            filter: feed.view.filter.clone(),
            interval: feed.view.interval,
        }
    }

    /// The slot that a row was made of, if it is still there.
    fn slot_of(&self, key: RowKey) -> Option<u32> {
        match key {
            RowKey::Session(id) => {
                let slot = self.slots.get(id.slot() as usize)?;
                slot.session.as_ref().is_some_and(|session| session.id == id).then_some(id.slot())
            }
            RowKey::Guest(_, index, stamp) => {
                let slot = self.slots.get(index as usize)?;
                (slot.stamp == stamp && slot.session.is_none()).then_some(index)
            }
            RowKey::Reader(_) => None,
        }
    }

    /// How long the oldest byte has waited in an outbox.
    fn queued_for_ns(&self, slot: &Slot, now: Now) -> Option<u64> {
        let outbox = slot.outbox.as_ref()?;
        let (first, _) = outbox.entries.front()?;
        let accepted_ns = self.queue.item(*first).accepted_ns;
        Some(now.since_ns(if accepted_ns > 0 { accepted_ns } else { outbox.since_ns }))
    }

    /// What is known of a slot; `None` if there is nobody in it.
    fn look<'s>(&'s self, index: u32, tcp: Option<TcpSample>, now: Now, node: &'s str) -> Option<Seen<'s>> {
        let slot = self.slots.get(index as usize)?;
        let session = slot.session.as_deref();
        let is_detached = session.is_some_and(|session| session.detached.is_some());
        if !slot.is_active() && !is_detached {
            return None;
        }
        let peer = match (session, &slot.guest) {
            (Some(session), _) => &session.peer,
            (None, Some(guest)) => &guest.peer,
            (None, None) => return None,
        };
        let key = match session {
            Some(session) => RowKey::Session(session.id),
            None => RowKey::guest(self.index, slot.key(index)),
        };
        let signs = signs(slot, &self.settings, tcp, now);
        let state = match session {
            None => State::Authenticating,
            Some(_) if is_detached => State::Detached,
            Some(_) if signs.queued_bytes > 0 && signs.stuck_ns >= STUCK_NS => State::Slow,
            Some(_) if signs.lagging => State::Lagging,
            Some(_) => State::Connected,
        };
        let diagnosis = signs.diagnose();
        Some(Seen { key, slot, session, peer, feeds: &self.feeds, signs, diagnosis, state, now, node })
    }
}

fn parked(parked: &feed::Parked) -> Subscribed {
    let keeps = parked.channel.kind == pulsewire_bus::ChannelKind::Log;
    Subscribed {
        channel: parked.channel.clone(),
        position: keeps.then_some(parked.next.saturating_sub(1)),
        feeding: watch::Feeding::Parked,
        filter: parked.view.filter.clone(),
        interval: parked.view.interval,
    }
}

fn signs(slot: &Slot, settings: &HubSettings, tcp: Option<TcpSample>, now: Now) -> Signs {
    let mut signs = Signs {
        tcp,
        slow_after_ns: settings.limits.slow_after_ms * 1_000_000,
        heartbeat_timeout_ns: settings.heartbeat_timeout_ms * 1_000_000,
        ..Signs::default()
    };
    if let Some(outbox) = &slot.outbox {
        signs.queued_bytes = outbox.bytes as u64;
        signs.stuck_ns = now.since_ns(outbox.progress_ns);
    } else if slot.flags.has(Flags::AWAITING_PONG) {
        signs.awaited_ns = now.since_ns(slot.pinged_ns);
    }
    let Some(session) = slot.session.as_deref() else { return signs };
    let counters = &session.counters;
    signs.detached = session.detached.is_some();
    signs.lagging = session.subscriptions.iter().any(|subscription| match subscription.feeding {
        feed::Feeding::Lagging | feed::Feeding::Stale => true,
        feed::Feeding::Reading => subscription.began_ms == 0,
        feed::Feeding::Live | feed::Feeding::Skipping => false,
    });
    signs.tcp_rtt_us = counters.tcp_rtt_us;
    signs.retransmits = tcp.map_or(counters.tcp_retransmits, |tcp| tcp.retransmits);
    // Where the kernel does not count segments, there are as many as full ones would hold, or as messages.
    let estimate = slot.messages_sent.max(slot.bytes_sent / 1_448);
    signs.segments = tcp.and_then(|tcp| tcp.segments_sent).map_or(estimate, u64::from);
    signs.heartbeat_rtt_ns = counters.heartbeat_rtt_ns;
    signs.reconnections = counters.reconnections;
    signs.session_age_ns = now.wall_ms.unsigned_abs().saturating_sub(session.id.time_ms()) * 1_000_000;
    let second = u32::try_from(now.mono_ns / 1_000_000_000).unwrap_or(u32::MAX);
    signs.limited =
        counters.limited_notice_s > 0 && second.saturating_sub(counters.limited_notice_s) < LIMITED_S;
    signs.report = session.report.as_ref().map(|reported| reported.report);
    signs
}

/// For so many seconds a connection counts as one that was limited.
const LIMITED_S: u32 = 60;

/// A connection that is looked at.
struct Seen<'s> {
    key: RowKey,
    slot: &'s Slot,
    session: Option<&'s Session>,
    peer: &'s Peer,
    feeds: &'s Slab<Feed>,
    signs: Signs,
    diagnosis: Diagnosis,
    state: State,
    now: Now,
    node: &'s str,
}

impl Seen<'_> {
    fn user(&self) -> &str {
        self.session.map_or("", |session| &session.principal.sub)
    }

    /// Shows each channel until one will do.
    fn any_channel(&self, will_do: &mut dyn FnMut(&ChannelName) -> bool) -> bool {
        let Some(session) = self.session else { return false };
        match &session.detached {
            Some(detached) => detached.parked.iter().any(|parked| will_do(&parked.channel.name)),
            None => {
                let mut listens = session.subscriptions.iter();
                listens.any(|subscription| will_do(&self.feeds[subscription.feed as usize].channel.name))
            }
        }
    }

    fn any_key(&self, prefix: &str, will_do: &mut dyn FnMut(&str) -> bool) -> bool {
        self.any_channel(&mut |name| name.prefix() == Some(prefix) && will_do(name.key()))
    }

    fn messages_sent(&self) -> u64 {
        let detached = self.session.and_then(|session| session.detached.as_ref());
        detached.map_or(self.slot.messages_sent, |detached| detached.messages_sent)
    }

    fn subscriptions(&self) -> usize {
        let Some(session) = self.session else { return 0 };
        session.detached.as_ref().map_or(session.subscriptions.len(), |detached| detached.parked.len())
    }

    fn group(&self) -> Group {
        let counters = self.session.map(|session| session.counters).unwrap_or_default();
        Group {
            connections: 1,
            subscriptions: self.subscriptions() as u64,
            queued_bytes: self.signs.queued_bytes,
            rtt_ns: counters.heartbeat_rtt_ns,
            latency_max_ns: counters.latency_max_ns,
            reconnections: u64::from(counters.reconnections),
            failures: u64::from(counters.messages_failed),
            worst_score: Some(self.diagnosis.score),
        }
    }
}

impl Subject<ConnectionField> for Seen<'_> {
    fn text(&self, field: ConnectionField, will_do: &mut dyn FnMut(&str) -> bool) -> bool {
        match field {
            ConnectionField::User => !self.user().is_empty() && will_do(self.user()),
            ConnectionField::Id => will_do(Short::of(self.key).as_str()),
            ConnectionField::Run => self.any_key("run", will_do),
            ConnectionField::Project => self.any_key("project", will_do),
            ConnectionField::Channel => self.any_channel(&mut |name| will_do(name.as_str())),
            ConnectionField::Transport => will_do(Transport::WebSocket.as_str()),
            ConnectionField::State => will_do(self.state.as_str()),
            ConnectionField::Cause => will_do(self.diagnosis.cause.as_str()),
            ConnectionField::Encoding => will_do(self.slot.encoding().name()),
            ConnectionField::Address => will_do(Short::of(self.peer.remote).as_str()),
            ConnectionField::Agent => will_do(&self.peer.user_agent),
            ConnectionField::Version => client_version(&self.peer.user_agent).is_some_and(will_do),
            ConnectionField::Node => will_do(self.node),
            _ => false,
        }
    }

    fn number(&self, field: ConnectionField) -> Option<f64> {
        let session = self.session;
        let counters = || session.map(|session| &session.counters);
        let ms = |ns: u64| ns as f64 / 1e6;
        match field {
            ConnectionField::Rtt => {
                counters().map(|it| it.heartbeat_rtt_ns).filter(|rtt_ns| *rtt_ns > 0).map(ms)
            }
            ConnectionField::Latency => {
                let measured = counters().filter(|counters| counters.latency_count > 0);
                measured.map(|it| ms(it.latency_sum_ns) / f64::from(it.latency_count))
            }
            ConnectionField::Queue => Some(self.signs.queued_bytes as f64),
            ConnectionField::Delivery => {
                let failed = u64::from(counters().map_or(0, |counters| counters.messages_failed));
                let sent = self.messages_sent();
                (sent + failed > 0).then(|| sent as f64 / (sent + failed) as f64)
            }
            ConnectionField::Score => Some(f64::from(self.diagnosis.score)),
            ConnectionField::Reconnects => {
                Some(f64::from(counters().map_or(0, |counters| counters.reconnections)))
            }
            ConnectionField::Missed => {
                Some(f64::from(counters().map_or(0, |counters| counters.heartbeats_missed)))
            }
            ConnectionField::Subs => Some(self.subscriptions() as f64),
            ConnectionField::Age => Some(ms(self.now.since_ns(self.peer.connected_ns))),
            ConnectionField::Failures => {
                Some(f64::from(counters().map_or(0, |counters| counters.messages_failed)))
            }
            ConnectionField::Sent => Some(self.messages_sent() as f64),
            ConnectionField::Received => Some(counters().map_or(0, |it| it.messages_received) as f64),
            _ => None,
        }
    }
}
