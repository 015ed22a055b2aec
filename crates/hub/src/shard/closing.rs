//! How connections end, and what remains of them.
//!
//! A connection is counted as closed once, at the moment it is decided; its socket may linger until
//! the peer has read the close frame. What remains is the session, if the close code lets the client
//! come back: it waits in its slot, without a listener anywhere, until it is resumed or its time is up.

use pulsewire_bus::{ChannelKind, Now};
use pulsewire_protocol::{Answer, CloseCode, ErrorAnswer, ErrorCode, Frame, Reconnect, Sequence};
use pulsewire_telemetry::{
    AuthFailure, Closed as ClosedMetric, ConnectionError, DisconnectReason, Initiator, MemoryPart,
    MessageError, MessageType, RateScope, ReconnectOutcome, SlowAction,
};
use std::cmp::Reverse;

use super::Shard;
use super::feed::Feeding;
use super::slot::{Detached, Flags, NONE, Phase};
use crate::command::{Drain, Target};
use crate::ledger::{Closed, Failed, FailedStage};
use crate::presence::Parting;
use crate::watch::timeline::{Happening, Note};
use crate::{ConnKey, Net};

/// How long before a token's end its client is told at the latest, in milliseconds.
const NOTICE_MS: i64 = 30_000;
/// Tokens that were made together end together: each connection is told by up to so much earlier, so that whoever
/// makes the new ones is not asked for all of them in one second.
const NOTICE_SPREAD_MS: u64 = 30_000;

/// How long a close frame may take to be read and answered.
const LINGER_NS: u64 = 1_000_000_000;

/// A rule of RFC 6455 or of our limits that a peer broke, as the decoder saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violated {
    /// The close code it asks for.
    pub close: CloseCode,
    /// What was wrong, for the client's `error` message or the log.
    pub detail: &'static str,
}

/// Why the server closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Violation(Violated),
    NoPong,
    Slow,
    AuthTimeout,
    MissingToken,
    InvalidToken,
    TokenExpired,
    ConnectionLimit,
    TooManyErrors,
    Superseded,
    Draining,
    Aged,
    UnsupportedEncoding,
    TooLarge,
    Asked(CloseCode),
}

impl Cause {
    fn code(self) -> CloseCode {
        match self {
            Self::Violation(violated) => violated.close,
            Self::NoPong => CloseCode::NoPong,
            Self::Slow => CloseCode::SlowConsumer,
            Self::AuthTimeout => CloseCode::AuthTimeout,
            Self::MissingToken | Self::InvalidToken => CloseCode::InvalidToken,
            Self::TokenExpired => CloseCode::TokenExpired,
            Self::ConnectionLimit => CloseCode::ConnectionLimit,
            Self::TooManyErrors => CloseCode::TooManyErrors,
            Self::Superseded => CloseCode::Superseded,
            Self::Draining | Self::Aged => CloseCode::ServiceRestart,
            Self::UnsupportedEncoding => CloseCode::UnsupportedData,
            Self::TooLarge => CloseCode::MessageTooBig,
            Self::Asked(code) => code,
        }
    }

    fn reason(self) -> DisconnectReason {
        match self {
            Self::Violation(violated) => match violated.close {
                CloseCode::MessageTooBig => DisconnectReason::TooLarge,
                CloseCode::RateLimited => DisconnectReason::RateLimit,
                _ => DisconnectReason::ProtocolError,
            },
            Self::NoPong => DisconnectReason::HeartbeatTimeout,
            Self::Slow => DisconnectReason::SlowConsumer,
            Self::AuthTimeout => DisconnectReason::AuthTimeout,
            Self::MissingToken | Self::InvalidToken => DisconnectReason::InvalidToken,
            Self::TokenExpired => DisconnectReason::AuthExpired,
            Self::ConnectionLimit => DisconnectReason::ConnectionLimit,
            Self::TooManyErrors => DisconnectReason::TooManyErrors,
            Self::Superseded => DisconnectReason::Superseded,
            Self::Draining => DisconnectReason::Drain,
            Self::UnsupportedEncoding => DisconnectReason::ProtocolError,
            Self::TooLarge => DisconnectReason::TooLarge,
            Self::Asked(CloseCode::Revoked) => DisconnectReason::Revoked,
            Self::Aged | Self::Asked(_) => DisconnectReason::ServerClose,
        }
    }

    /// What the client is told before the close frame, whose reason has no room for it (R70).
    ///
    /// Only of our own limits: whoever broke the framing itself is not spoken to any more, as
    /// RFC 6455 §7.1.7 has it.
    fn told(self) -> Option<ErrorAnswer<'static>> {
        let Self::Violation(violated) = self else { return None };
        let code = match violated.close {
            CloseCode::MessageTooBig => ErrorCode::TooLarge,
            CloseCode::RateLimited => ErrorCode::RateLimited,
            _ => return None,
        };
        Some(ErrorAnswer { detail: violated.detail.into(), ..ErrorAnswer::new(code) })
    }
}

/// A drain under way.
pub(super) struct Draining {
    began_ns: u64,
    within_ns: u64,
    /// Connections there were when it began, and how many were closed since.
    total: usize,
    closed: usize,
}

impl<N: Net> Shard<N> {
    /// Sends a close frame and ends the connection's part in everything.
    pub(super) fn close_because(&mut self, index: u32, cause: Cause, now: Now) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        if !slot.is_active() {
            return;
        }
        if let Some(error) = cause.told()
            && self.slots[index as usize].outbox.is_none()
        {
            self.answer(index, &Answer::Error(error), None);
        }
        if matches!(cause, Cause::Draining | Cause::Aged) {
            self.tell_where_it_stands(index);
        }
        // What waits is written or held back while the subscriptions can still say how far each has come.
        self.flush_slot(index, now);
        if self.slots.get(index as usize).is_none_or(|slot| !slot.is_active()) {
            return;
        }
        match cause {
            Cause::Violation(violated) => {
                self.metrics.connection_errored(ConnectionError::Protocol);
                self.metrics.message_error(match violated.close {
                    CloseCode::MessageTooBig => MessageError::TooLarge,
                    _ => MessageError::Protocol,
                });
                if violated.close == CloseCode::MessageTooBig {
                    self.metrics.memory_limited(MemoryPart::Message);
                }
                if violated.close == CloseCode::RateLimited {
                    self.metrics.rate_limited(RateScope::Connection);
                }
            }
            Cause::NoPong => self.metrics.heartbeat_timed_out(),
            Cause::Slow => self.metrics.slow(SlowAction::Close),
            Cause::MissingToken | Cause::AuthTimeout => self.metrics.auth_failed(AuthFailure::MissingToken),
            _ => {}
        }
        let code = cause.code();
        let resumable = code.reconnect() == Reconnect::Yes || cause == Cause::Superseded;
        self.end(index, code.code(), cause.reason(), Initiator::Server, resumable, now);
        if cause == Cause::Slow {
            self.discard(index);
        }
        self.send(index, Frame::close(code), MessageType::Other, 0);
        let slot = &mut self.slots[index as usize];
        slot.phase = Phase::Closing;
        let key = slot.key(index);
        self.closing.push_back((now.mono_ns + LINGER_NS, key));
    }

    /// Tells whoever is sent elsewhere how far it is where a filter has skipped what came last: what it has not been told
    /// of it would have read again.
    fn tell_where_it_stands(&mut self, index: u32) {
        let Some(session) = &self.slots[index as usize].session else { return };
        for subscription in 0..session.subscriptions.len() {
            let entry = *self.subscription_mut(index, subscription);
            let feed = &self.feeds[entry.feed as usize];
            // A feed without a filter may have been told less than its cursor, too, when its listeners read instead.
            let skips = feed.channel.kind == ChannelKind::Log && !feed.view.filter.is_empty();
            if skips && entry.feeding == Feeding::Live && feed.told < feed.cursor {
                let cursor = Sequence(feed.cursor);
                self.send_pos(index, entry.feed, cursor);
            }
        }
    }

    /// The peer broke a rule.
    pub fn violated(&mut self, key: ConnKey, violated: Violated, now: Now) {
        if let Some(index) = self.find(key) {
            self.close_because(index, Cause::Violation(violated), now);
        }
    }

    /// The peer sent a close frame.
    pub fn peer_closed(&mut self, key: ConnKey, code: Option<u16>, now: Now) {
        let Some(index) = self.find(key) else { return };
        self.flush_slot(index, now);
        if self.find(key).is_none() {
            return;
        }
        let resumable = !matches!(code, None | Some(1000));
        self.end(
            index,
            code.unwrap_or(1005),
            DisconnectReason::ClientClose,
            Initiator::Client,
            resumable,
            now,
        );
        // RFC 6455 §5.5.1: the code is echoed; then the server is the first to close the TCP connection.
        self.send(index, Frame::close_echo(code), MessageType::Other, 0);
        let slot = &mut self.slots[index as usize];
        slot.phase = Phase::Closing;
        self.closing.push_back((now.mono_ns + LINGER_NS, key));
    }

    /// The peer will send nothing more, or the connection broke.
    pub fn gone(&mut self, key: ConnKey, now: Now) {
        if let Some(index) = self.find_any(key) {
            self.lost(index, now);
        }
    }

    /// A connection is gone without a word.
    pub(super) fn lost(&mut self, index: u32, now: Now) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        if slot.is_active() {
            self.end(index, 1006, DisconnectReason::Network, Initiator::Network, true, now);
        }
        self.drop_connection(index);
    }

    /// Counts the end of a connection, writes it down, and parks or ends its session.
    fn end(
        &mut self,
        index: u32,
        code: u16,
        reason: DisconnectReason,
        initiator: Initiator,
        resumable: bool,
        now: Now,
    ) {
        self.active_count -= 1;
        let undelivered = self.undelivered(index);
        let slot = &mut self.slots[index as usize];
        let entered = slot.flags.has(Flags::ENTERED);
        slot.flags.clear(Flags::ENTERED);
        let slot = &self.slots[index as usize];
        let (messages_sent, bytes_sent) = (slot.messages_sent, slot.bytes_sent);
        let queued = slot.outbox.as_ref().map_or(0, |outbox| outbox.entries.len() as u64);
        let peer = match (&slot.session, &slot.guest) {
            (Some(session), _) => session.peer.clone(),
            (None, Some(guest)) => guest.peer.clone(),
            (None, None) => return,
        };
        let lasted_ns = now.since_ns(peer.connected_ns);
        let session = slot.session.as_ref();
        let entry = Closed {
            number: 0,
            session: session.map(|session| session.id),
            user: session
                .map(|session| &session.principal)
                .or(slot.guest.as_ref().and_then(|guest| guest.principal.as_ref()))
                .map_or_else(|| "".into(), |principal| principal.sub.clone()),
            run: session.and_then(|session| self.run_of(session)),
            remote: peer.remote,
            user_agent: peer.user_agent,
            connected_at_ms: peer.connected_at_ms,
            closed_at_ms: now.wall_ms,
            lasted_ns,
            code,
            reason,
            initiator,
            bytes_sent,
            bytes_received: session.map_or(0, |session| session.counters.bytes_received),
            messages_sent,
            messages_received: session.map_or(0, |session| session.counters.messages_received),
            messages_failed: session.map_or(0, |session| u64::from(session.counters.messages_failed))
                + queued,
            reconnections: session.map_or(0, |session| session.counters.reconnections),
        };
        self.metrics.connection_closed(&ClosedMetric { code, reason, initiator, lasted_ns });
        self.admission.disconnect(peer.remote.ip());
        if entered {
            self.admission.leave(&entry.user);
        }
        if session.is_none() && initiator == Initiator::Server {
            self.ledger.write_failed(Failed {
                number: 0,
                at_ms: now.wall_ms,
                remote: entry.remote,
                user_agent: entry.user_agent.clone(),
                origin: None,
                path: None,
                stage: FailedStage::Connect,
                reason: reason.as_str(),
                status: Some(code),
                detail: CloseCode::from_u16(code).map_or("", CloseCode::help).into(),
            });
        }
        let keep =
            resumable && session.is_some() && !entry.user.is_empty() && self.settings.resume_window_ms > 0;
        self.ledger.write(entry);
        self.note(index, Note::of(Happening::Closed).code(code), now);
        // Whoever is sent away by somebody is meant to go; all else that can be resumed may be an accident.
        let sent_away = matches!(reason, DisconnectReason::ServerClose | DisconnectReason::Revoked);
        let how = if resumable && !sent_away { Parting::Broke } else { Parting::Left };
        if keep {
            self.park(index, &undelivered, how, now);
        } else {
            self.end_session(index, how, now);
        }
    }

    /// Takes a session out of all feeds and lets it wait. What was not delivered it will read again: it
    /// may reach the client on this connection yet, but nobody would know.
    fn park(&mut self, index: u32, undelivered: &[(u32, u64)], how: Parting, now: Now) {
        let feeds = self.slots[index as usize].session.as_ref().map_or_else(Vec::new, |session| {
            session.subscriptions.iter().map(|subscription| subscription.feed).collect()
        });
        let mut parked = self.leave_all(index, how, now);
        for (feed, parked) in feeds.into_iter().zip(&mut parked) {
            if let Some((_, first)) = undelivered.iter().find(|(of, _)| *of == feed) {
                parked.next = parked.next.min(*first);
            }
        }
        let slot = &mut self.slots[index as usize];
        let (messages_sent, bytes_sent) = (slot.messages_sent, slot.bytes_sent);
        let Some(session) = &mut slot.session else { return };
        let until_ns = now.mono_ns + self.settings.resume_window_ms * 1_000_000;
        let id = session.id;
        session.report = None;
        session.detached =
            Some(Box::new(Detached { until_ns, at_ms: now.wall_ms, parked, messages_sent, bytes_sent }));
        self.detached.push_back((until_ns, index, id));
        self.detached_count += 1;
        self.note(index, Note::of(Happening::Detached), now);
        while self.detached_count > self.settings.limits.detached_max {
            self.expire_oldest(now);
        }
    }

    pub(super) fn end_session(&mut self, index: u32, how: Parting, now: Now) {
        self.leave_all(index, how, now);
        if how == Parting::Left {
            self.parked_leave(index, now);
        }
        if let Some(session) = self.slots[index as usize].session.take()
            && session.detached.is_some()
        {
            self.detached_count -= 1;
        }
    }

    fn expire_oldest(&mut self, now: Now) {
        let Some((until_ns, index, id)) = self.detached.pop_front() else { return };
        self.expire(index, id, until_ns, now);
    }

    /// Ends a waiting session if it still waits for the same moment: it may have been resumed meanwhile.
    fn expire(&mut self, index: u32, id: pulsewire_protocol::SessionId, until_ns: u64, now: Now) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        let waits = |session: &super::slot::Session| {
            session.id == id
                && session.detached.as_ref().is_some_and(|detached| detached.until_ns == until_ns)
        };
        if slot.session.as_deref().is_some_and(waits) {
            self.note(index, Note::of(Happening::Ended), now);
            // Where it was a member, it is one until its grace is over.
            self.end_session(index, Parting::Broke, now);
            self.release(index);
        }
    }

    /// Drops a slot's connection at once.
    pub(super) fn drop_connection(&mut self, index: u32) {
        self.discard_all(index);
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.first == NONE, "nothing is written to a connection that is gone");
        let key = slot.key(index);
        slot.phase = Phase::Gone;
        slot.guest = None;
        slot.flags = Flags::default();
        self.net.close(key);
        self.release(index);
    }

    /// Gives a slot back when nothing is left in it.
    pub(super) fn release(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        if slot.phase == Phase::Gone && slot.session.is_none() {
            self.slots.remove(index as usize);
        }
    }

    /// Ends what had time enough: close handshakes, authentications, waiting sessions, tokens. Called every tick.
    pub(super) fn end_overdue(&mut self, now: Now) {
        while let Some(&(deadline, key)) = self.closing.front() {
            if deadline > now.mono_ns {
                break;
            }
            self.closing.pop_front();
            if let Some(index) = self.find_any(key)
                && self.slots[index as usize].phase == Phase::Closing
            {
                self.drop_connection(index);
            }
        }
        while let Some(&(deadline, key)) = self.pending.front() {
            if deadline > now.mono_ns {
                break;
            }
            self.pending.pop_front();
            if let Some(index) = self.find(key)
                && self.slots[index as usize].phase != Phase::Open
            {
                self.close_because(index, Cause::AuthTimeout, now);
            }
        }
        while let Some(&(until, index, id)) = self.detached.front() {
            if until > now.mono_ns {
                break;
            }
            self.detached.pop_front();
            self.expire(index, id, until, now);
        }
        self.expire_tokens(now);
        self.drain_some(now);
    }

    /// Warns of tokens that end soon and closes those whose token has ended.
    fn expire_tokens(&mut self, now: Now) {
        while let Some(&Reverse((at_ms, index, stamp))) = self.expiring.peek() {
            if at_ms > now.wall_ms {
                break;
            }
            self.expiring.pop();
            let Some(index) = self.find(ConnKey { slot: index, stamp }) else { continue };
            let slot = &mut self.slots[index as usize];
            slot.flags.clear(Flags::EXPIRY_WATCHED);
            let Some(expires) = slot.session.as_ref().and_then(|session| session.principal.expires_at_ms)
            else {
                continue;
            };
            if expires <= now.wall_ms {
                self.answer(index, &Answer::Error(ErrorAnswer::new(ErrorCode::TokenExpired)), None);
                self.metrics.auth_failed(AuthFailure::ExpiredToken);
                self.close_because(index, Cause::TokenExpired, now);
            } else {
                // A refresh may have moved the end.
                let near = expires - now.wall_ms <= notice_ms(slot.stamp);
                if near && !slot.flags.has(Flags::EXPIRY_TOLD) {
                    slot.flags.set(Flags::EXPIRY_TOLD);
                    let expires_in_ms = expires.abs_diff(now.wall_ms);
                    self.answer(index, &Answer::TokenExpiring { expires_in_ms }, None);
                    self.note(index, Note::of(Happening::TokenExpiring).value(expires_in_ms), now);
                }
                self.watch_expiry(index, now);
            }
        }
    }

    /// Puts a token's end, or the moment to announce it, in the heap if it is near.
    pub(super) fn watch_expiry(&mut self, index: u32, now: Now) {
        let slot = &mut self.slots[index as usize];
        let Some(expires) = slot.session.as_ref().and_then(|session| session.principal.expires_at_ms) else {
            return;
        };
        let interval_ms = i64::try_from(self.settings.heartbeat_interval_ms).unwrap_or(i64::MAX / 4);
        let horizon_ms = interval_ms * 2 + notice_ms(slot.stamp);
        if slot.flags.has(Flags::EXPIRY_WATCHED) || expires - now.wall_ms > horizon_ms {
            return;
        }
        let told = slot.flags.has(Flags::EXPIRY_TOLD);
        slot.flags.set(Flags::EXPIRY_WATCHED);
        let at_ms = if told { expires } else { (expires - notice_ms(slot.stamp)).max(now.wall_ms) };
        self.expiring.push(Reverse((at_ms, index, slot.stamp)));
    }

    /// Whether a connection has reached the age at which it is sent around.
    pub(super) fn is_aged(&self, index: u32, now: Now) -> bool {
        let age_max_ms = self.settings.limits.connection_age_max_ms;
        if age_max_ms == 0 || self.drain.is_some() {
            return false;
        }
        let slot = &self.slots[index as usize];
        let Some(session) = &slot.session else { return false };
        let earlier_ms = spread(slot.stamp, age_max_ms / 4);
        now.since_ns(session.peer.connected_ns) / 1_000_000 >= age_max_ms - earlier_ms
    }

    /// Sends a connection around: its client comes back at once and resumes, wherever it is let in.
    pub(super) fn close_aged(&mut self, index: u32, now: Now) {
        self.answer(index, &Answer::Reconnect { retry_ms: 0, code: CloseCode::ServiceRestart }, None);
        self.close_because(index, Cause::Aged, now);
    }

    /// Closes all connections of a session, a user or an address; returns how many.
    pub(super) fn close_all(&mut self, target: &Target, code: CloseCode, now: Now) -> usize {
        let matches = |slot: &super::slot::Slot| match target {
            Target::Session(id) => slot.session.as_ref().is_some_and(|session| session.id == *id),
            Target::User(user) => slot.session.as_ref().is_some_and(|session| session.principal.sub == *user),
            Target::Token(id) => {
                slot.session.as_ref().is_some_and(|session| session.principal.token_id.as_ref() == Some(id))
            }
            Target::Address(address) => match (&slot.session, &slot.guest) {
                (Some(session), _) => session.peer.remote.ip() == *address,
                (None, Some(guest)) => guest.peer.remote.ip() == *address,
                (None, None) => false,
            },
        };
        let found: Vec<u32> =
            self.slots.iter().filter(|(_, slot)| matches(slot)).map(|(index, _)| index as u32).collect();
        let mut closed = 0;
        for index in found {
            // Parking one session may have ended another that waited the longest.
            let Some(slot) = self.slots.get(index as usize) else { continue };
            if slot.is_active() {
                closed += 1;
                self.close_because(index, Cause::Asked(code), now);
            } else if code.reconnect() == Reconnect::No {
                self.end_session(index, Parting::Left, now);
                self.release(index);
            }
        }
        closed
    }

    /// Tells everybody to come back later, each at another time, and begins to close connections.
    pub(super) fn begin_drain(&mut self, drain: Drain, now: Now) {
        let active: Vec<u32> =
            self.slots.iter().filter(|(_, slot)| slot.is_active()).map(|(index, _)| index as u32).collect();
        let spread = drain.retry_max_ms.saturating_sub(drain.retry_min_ms) + 1;
        for index in &active {
            let retry_ms = drain.retry_min_ms + (self.random)() % spread;
            let retry_ms = u32::try_from(retry_ms).unwrap_or(u32::MAX);
            self.answer(*index, &Answer::Reconnect { retry_ms, code: CloseCode::ServiceRestart }, None);
        }
        self.drain = Some(Draining {
            began_ns: now.mono_ns,
            within_ns: drain.within_ms * 1_000_000,
            total: active.len(),
            closed: 0,
        });
        self.drain_some(now);
    }

    /// Closes as many connections as should be closed by now.
    fn drain_some(&mut self, now: Now) {
        let Some(draining) = &mut self.drain else { return };
        let passed = now.since_ns(draining.began_ns).min(draining.within_ns);
        let due = if draining.within_ns == 0 {
            usize::MAX
        } else {
            (draining.total as u128 * u128::from(passed) / u128::from(draining.within_ns)) as usize
        };
        let due = if passed == draining.within_ns { usize::MAX } else { due };
        let count = due.saturating_sub(draining.closed);
        if count == 0 {
            return;
        }
        let indices: Vec<u32> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.is_active())
            .take(count)
            .map(|(index, _)| index as u32)
            .collect();
        draining.closed += indices.len();
        for index in indices {
            self.close_because(index, Cause::Draining, now);
        }
    }

    /// Counts how a resumed session went on.
    pub(super) fn count_resumed(&mut self, outcome: ReconnectOutcome) {
        self.metrics.reconnected(outcome);
    }
}

/// How long before its token's end a connection is told.
fn notice_ms(stamp: u32) -> i64 {
    NOTICE_MS + spread(stamp, NOTICE_SPREAD_MS).cast_signed()
}

/// A part of a span, another one for each connection. Multiples of the golden ratio fill the span evenly, however many
/// connections there are.
fn spread(stamp: u32, span_ms: u64) -> u64 {
    let turn = u128::from(stamp.wrapping_mul(0x9E37_79B9));
    ((turn * u128::from(span_ms)) >> 32) as u64
}
