//! What clients say.
//!
//! A message is counted, measured against the rate limit, parsed once and then dealt with here or
//! given to the backend. Nothing a client says can do more than be refused or close its own connection.

use std::sync::Arc;

use pulsewire_bus::{Bus, ChannelKind, Namespace, Now, Variant};
use pulsewire_protocol::client::BACKOFF_MAX_MS;
use pulsewire_protocol::{
    Answer, ChannelName, Connected, Encoding, ErrorAnswer, ErrorCode, GetHistory, Heartbeat, History, Kind,
    Request, RequestError, RequestId, SessionId, Shape, Subscribe, parse, request_from_msgpack,
};
use pulsewire_telemetry::{
    AuthFailure, Direction, DropCause, Layer, MemoryPart, MessageError, MessageType, RateScope,
};

use super::meter::Rate;
use super::slot::{Flags, Guest, Phase};
use super::{Shard, closing};
use crate::command::{
    After, Authenticated, BackendRequest, ConnectWish, HistoryPage, HistoryWish, Wish, WishedChannel, Work,
};
use crate::presence::Parting;
use crate::watch::timeline::{Happening, Note};
use crate::{Action, Carried, ConnKey, Net, Principal};

/// The longest message of a connection that has not authenticated, in bytes.
const PENDING_BYTES_MAX: usize = 8 * 1024;

/// Events of a page of history unless the client says otherwise.
const HISTORY_EVENTS_DEFAULT: usize = 100;
/// Events of a page of history at most; a larger `limit` is cut down to this (S16).
const HISTORY_EVENTS_MAX: usize = 1_000;
/// Messages kept for later, at most.
const STASHED_MAX: usize = 256;

/// A message as it came.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl Raw<'_> {
    pub(super) fn len(self) -> usize {
        match self {
            Raw::Text(text) => text.len(),
            Raw::Binary(bytes) => bytes.len(),
        }
    }

    pub(super) fn copy(self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(match self {
            Raw::Text(text) => text.as_bytes(),
            Raw::Binary(bytes) => bytes,
        })
    }

    fn carry(self) -> Carried {
        match self {
            Raw::Text(text) => Carried::Text(text.into()),
            Raw::Binary(bytes) => Carried::Binary(bytes.into()),
        }
    }
}

impl<N: Net> Shard<N> {
    /// A text message came.
    pub fn text(&mut self, key: ConnKey, text: &str, now: Now) {
        self.message(key, Raw::Text(text), now);
    }

    /// A binary message came.
    pub fn binary(&mut self, key: ConnKey, bytes: &[u8], now: Now) {
        self.message(key, Raw::Binary(bytes), now);
    }

    /// So many bytes were read from a connection.
    pub fn received(&mut self, key: ConnKey, bytes: usize) {
        let Some(slot) = self.slots.get_mut(key.slot as usize) else { return };
        match (&mut slot.session, &mut slot.guest) {
            (Some(session), _) => session.counters.bytes_received += bytes as u64,
            (None, Some(guest)) => guest.bytes_received += bytes as u64,
            (None, None) => {}
        }
        self.metrics.bytes(Direction::Received, Layer::Wire, bytes as u64);
    }

    fn message(&mut self, key: ConnKey, raw: Raw<'_>, now: Now) {
        let Some(index) = self.find(key) else { return };
        self.metrics.bytes(Direction::Received, Layer::Payload, raw.len() as u64);
        if self.attentive {
            self.tap_said(index, raw, now);
        }
        let slot = &mut self.slots[index as usize];
        let expects = slot.encoding();
        let fits =
            matches!((raw, expects), (Raw::Text(_), Encoding::Json) | (Raw::Binary(_), Encoding::MsgPack));
        if slot.flags.has(Flags::STRICT_ENCODING) && !fits {
            self.metrics.message_error(MessageError::ValidationError);
            self.answer(index, &Answer::Error(ErrorAnswer::new(ErrorCode::UnsupportedEncoding)), None);
            self.close_because(index, closing::Cause::UnsupportedEncoding, now);
            return;
        }
        match slot.phase {
            Phase::Open => {}
            Phase::Pending | Phase::Verifying => {
                self.before_session(key, index, raw, now);
                return;
            }
            Phase::Gone | Phase::Closing => return,
        }
        if slot.flags.has(Flags::OPENING) {
            self.stash(key, index, raw, now);
            return;
        }
        if let Some(session) = &mut slot.session {
            session.counters.messages_received += 1;
            session.counters.activity_ns = now.mono_ns;
        }
        if !self.admit(index, now) {
            return;
        }
        self.with_request(raw, |shard, request| match request {
            Ok(request) => shard.request(key, index, request, now),
            Err(error) => {
                shard.metrics.message_received(MessageType::Other);
                shard.metrics.message_error(match error.code {
                    ErrorCode::BadRequest => MessageError::ParseError,
                    ErrorCode::TooLarge => MessageError::TooLarge,
                    _ => MessageError::ValidationError,
                });
                shard.refuse_with(index, error.code, error.detail, error.id.as_ref(), now);
            }
        });
    }

    pub(super) fn with_request(
        &mut self,
        raw: Raw<'_>,
        then: impl FnOnce(&mut Self, Result<Request<'_>, RequestError>),
    ) {
        match raw {
            Raw::Text(text) => then(self, parse(text.as_bytes())),
            Raw::Binary(bytes) => {
                let mut json = Vec::new();
                then(self, request_from_msgpack(bytes, &mut json));
            }
        }
    }

    /// Whether the client may send a message now (GCRA). If not, it is told once a second and the message is gone.
    fn admit(&mut self, index: u32, now: Now) -> bool {
        let Some(rate) = Rate::new(self.settings.limits.messages_per_minute) else { return true };
        let slot = &mut self.slots[index as usize];
        let Err(early_ns) = rate.take(&mut slot.rate_ns, now) else { return true };
        self.metrics.rate_limited(RateScope::Connection);
        self.metrics.dropped(DropCause::RateLimit, 1);
        let second = u32::try_from(now.mono_ns / 1_000_000_000).unwrap_or(u32::MAX).max(1);
        let Some(session) = &mut slot.session else { return false };
        if session.counters.limited_notice_s != second {
            session.counters.limited_notice_s = second;
            let retry_after_ms = u32::try_from(early_ns / 1_000_000 + 1).ok();
            let error = ErrorAnswer { retry_after_ms, ..ErrorAnswer::new(ErrorCode::RateLimited) };
            self.note(index, Note::of(Happening::RateLimited), now);
            // Being limited is told, and not held against the client as an error of its own.
            self.answer(index, &Answer::Error(error), None);
        }
        false
    }

    /// Keeps a message until what came before it is decided.
    fn stash(&mut self, key: ConnKey, index: u32, raw: Raw<'_>, now: Now) {
        let stash = self.stashes.entry(key).or_default();
        stash.bytes += raw.len();
        if stash.bytes > self.settings.limits.stash_bytes_max || stash.messages.len() >= STASHED_MAX {
            self.close_because(index, closing::Cause::TooLarge, now);
            return;
        }
        stash.messages.push_back(raw.carry());
    }

    /// Goes on with what was kept, until something has to be waited for again.
    pub(super) fn unstash(&mut self, key: ConnKey, now: Now) {
        let Some(stash) = self.stashes.remove(&key) else { return };
        for message in stash.messages {
            match message {
                Carried::Text(text) => self.text(key, &text, now),
                Carried::Binary(bytes) => self.binary(key, &bytes, now),
            }
        }
    }

    /// A message of a connection without a session: `connect`, or something that must wait for it.
    fn before_session(&mut self, key: ConnKey, index: u32, raw: Raw<'_>, now: Now) {
        let stash_max = self.settings.limits.stash_bytes_max;
        let slot = &mut self.slots[index as usize];
        let Some(guest) = &mut slot.guest else { return };
        if slot.phase == Phase::Verifying {
            if guest.stash_bytes + raw.len() > stash_max || guest.stash.len() >= STASHED_MAX {
                self.metrics.memory_limited(MemoryPart::Stash);
                self.close_because(index, closing::Cause::TooLarge, now);
                return;
            }
            guest.stash_bytes += raw.len();
            guest.stash.push(raw.carry());
            return;
        }
        if raw.len() > PENDING_BYTES_MAX {
            self.close_because(index, closing::Cause::TooLarge, now);
            return;
        }
        self.with_request(raw, |shard, request| match request {
            Ok(Request { id, kind: Kind::Connect(connect) }) => {
                shard.metrics.message_received(MessageType::Connect);
                let Some(token) = connect.token.as_deref().map(Box::<str>::from) else {
                    shard.reject(
                        index,
                        ErrorCode::Unauthorized,
                        closing::Cause::MissingToken,
                        id.as_ref(),
                        now,
                    );
                    return;
                };
                let wish = connect_wish(id, &connect);
                shard.verify(key, index, token, After::Connect(wish), now);
            }
            Ok(Request { id, .. }) => {
                shard.metrics.message_received(MessageType::Other);
                // R16: it may still say who it is, until its time or its patience with errors is up.
                shard.metrics.auth_failed(AuthFailure::MissingToken);
                shard.refuse(index, &ErrorAnswer::new(ErrorCode::Unauthorized), id.as_ref(), now);
            }
            Err(error) => {
                shard.metrics.message_received(MessageType::Other);
                shard.metrics.message_error(MessageError::ParseError);
                shard.refuse_with(index, error.code, error.detail, error.id.as_ref(), now);
            }
        });
    }

    /// Says why a connection gets no session, and closes it.
    fn reject(
        &mut self,
        index: u32,
        code: ErrorCode,
        cause: closing::Cause,
        id: Option<&RequestId>,
        now: Now,
    ) {
        self.answer(index, &Answer::Error(ErrorAnswer::new(code)), id);
        self.close_because(index, cause, now);
    }

    fn verify(&mut self, key: ConnKey, index: u32, token: Box<str>, after: After, now: Now) {
        let slot = &mut self.slots[index as usize];
        if slot.phase == Phase::Pending {
            slot.phase = Phase::Verifying;
        }
        let remote = match (&slot.session, &slot.guest) {
            (Some(session), _) => session.peer.remote.ip(),
            (None, Some(guest)) => guest.peer.remote.ip(),
            (None, None) => return,
        };
        let work = Work::Authenticate { token, remote, after };
        let request = Box::new(BackendRequest { shard: self.index, conn: key, work });
        if let Err(refused) = self.backend.request(request)
            && let Work::Authenticate { after, .. } = refused.work
        {
            let authenticated = Authenticated { outcome: Err(ErrorCode::Overloaded), after };
            self.authenticated(key, authenticated, now);
        }
    }

    /// A token was verified.
    pub(super) fn authenticated(&mut self, key: ConnKey, authenticated: Authenticated, now: Now) {
        let Some(index) = self.find(key) else { return };
        match authenticated {
            Authenticated { outcome: Ok(principal), after: After::Connect(wish) } => {
                self.metrics.auth_succeeded();
                let slot = &mut self.slots[index as usize];
                if !slot.flags.has(Flags::ENTERED) && !principal.is_anonymous() {
                    if self.admission.enter(&principal.sub).is_err() {
                        self.reject(
                            index,
                            ErrorCode::LimitExceeded,
                            closing::Cause::ConnectionLimit,
                            wish.id.as_ref(),
                            now,
                        );
                        return;
                    }
                    slot.flags.set(Flags::ENTERED);
                }
                self.connect(key, principal, wish, now);
            }
            Authenticated { outcome: Ok(principal), after: After::Refresh(id) } => {
                self.refreshed(index, principal, id.as_ref(), now);
            }
            Authenticated { outcome: Err(code), after } => {
                self.metrics.auth_failed(match code {
                    ErrorCode::TokenExpired => AuthFailure::ExpiredToken,
                    ErrorCode::Forbidden => AuthFailure::Forbidden,
                    _ => AuthFailure::InvalidToken,
                });
                match after {
                    After::Refresh(id) => self.refuse(index, &ErrorAnswer::new(code), id.as_ref(), now),
                    After::Connect(wish) => {
                        let cause = match code {
                            ErrorCode::TokenExpired => closing::Cause::TokenExpired,
                            ErrorCode::Overloaded => {
                                closing::Cause::Asked(pulsewire_protocol::CloseCode::Overloaded)
                            }
                            _ => closing::Cause::InvalidToken,
                        };
                        self.reject(index, code, cause, wish.id.as_ref(), now);
                    }
                }
            }
        }
    }

    fn refreshed(&mut self, index: u32, principal: Arc<Principal>, id: Option<&RequestId>, now: Now) {
        let slot = &mut self.slots[index as usize];
        let Some(session) = &mut slot.session else { return };
        if session.principal.sub != principal.sub {
            self.metrics.auth_failed(AuthFailure::InvalidToken);
            self.reject(index, ErrorCode::InvalidToken, closing::Cause::InvalidToken, id, now);
            return;
        }
        self.metrics.auth_succeeded();
        let expires_at_ms = principal.expires_at_ms;
        if expires_at_ms < session.principal.expires_at_ms {
            // What is in the heap would come too late for an earlier end.
            slot.flags.clear(Flags::EXPIRY_WATCHED);
        }
        session.principal = principal;
        slot.flags.clear(Flags::EXPIRY_TOLD);
        self.answer(index, &Answer::Refreshed { expires_at_ms }, id);
        self.note(index, Note::of(Happening::TokenRefreshed), now);
        self.enforce_grants(index, now);
        self.watch_expiry(index, now);
    }

    /// Ends subscriptions that a new token no longer allows.
    fn enforce_grants(&mut self, index: u32, now: Now) {
        let Some(session) = &self.slots[index as usize].session else { return };
        let principal = session.principal.clone();
        let lost: Vec<Box<str>> = session
            .subscriptions
            .iter()
            .map(|subscription| &self.feeds[subscription.feed as usize].channel.name)
            .filter(|name| !principal.may(Action::Subscribe, name))
            .map(|name| name.as_str().into())
            .collect();
        if !lost.is_empty() {
            self.unsubscribe(index, &lost, None, now);
        }
        self.enforce_presence(index, &principal, now);
    }

    /// A connection has its session: says so, and goes on with what it asked for.
    pub(super) fn opened(
        &mut self,
        key: ConnKey,
        wish: ConnectWish,
        resumed: bool,
        stash: Vec<Carried>,
        now: Now,
    ) {
        let index = key.slot;
        let slot = &mut self.slots[index as usize];
        slot.phase = Phase::Open;
        if let Some(heartbeat) = wish.heartbeat {
            slot.flags.put(Flags::MESSAGE_PINGS, heartbeat == Heartbeat::Message);
        }
        let session = slot.session.as_mut().expect("an open connection has a session");
        let detached = session.detached.take();
        let (id, principal) = (session.id, session.principal.clone());
        if detached.is_some() {
            self.detached_count -= 1;
        }
        if wish.asked || resumed {
            let ticket = self.settings.tickets.make(&principal, now);
            let connected = Connected {
                session: id,
                resumed,
                user: &principal.sub,
                expires_at_ms: principal.expires_at_ms,
                heartbeat_ms: u32::try_from(self.settings.heartbeat_interval_ms).unwrap_or(u32::MAX),
                retry_max_ms: Some(self.settings.retry_max_ms)
                    .filter(|retry_max_ms| *retry_max_ms != BACKOFF_MAX_MS)
                    .and_then(|retry_max_ms| u32::try_from(retry_max_ms).ok()),
                epoch: None,
                ticket: ticket.as_ref().map(|ticket| (&*ticket.text, ticket.lasts_ms)),
            };
            self.answer(index, &Answer::Connected(connected), wish.id.as_ref());
        } else {
            self.answer(index, &Answer::Welcome { client_id: id, timestamp_ms: now.wall_ms }, None);
        }
        self.watch_expiry(index, now);
        if let Some(detached) = detached {
            let named: Vec<&str> = wish
                .subscribe
                .iter()
                .flat_map(|wish| wish.channels.iter().map(|wished| &*wished.name))
                .collect();
            let parked = detached.parked.into_iter().filter(|parked| {
                principal.may(Action::Subscribe, &parked.channel.name)
                    && !named.contains(&parked.channel.name.as_str())
            });
            self.rejoin(index, parked.collect(), now);
        }
        if let Some(subscribe) = wish.subscribe {
            self.subscribe(index, subscribe, wish.id, &[], now);
        }
        for message in stash {
            match message {
                Carried::Text(text) => self.text(key, &text, now),
                Carried::Binary(bytes) => self.binary(key, &bytes, now),
            }
        }
    }

    fn request(&mut self, key: ConnKey, index: u32, request: Request<'_>, now: Now) {
        let Request { id, kind } = request;
        // A client's event is counted under its own type, once it is known to be allowed.
        if !matches!(kind, Kind::ClientEvent { .. }) {
            self.metrics.message_received(message_type(&kind));
        }
        match kind {
            Kind::Connect(connect) => self.connect_again(key, index, id, &connect, now),
            Kind::Refresh { token } => {
                self.verify(key, index, token.as_ref().into(), After::Refresh(id), now);
            }
            Kind::Subscribe(subscribe) => self.subscribe(index, wish(&subscribe), id, &[], now),
            Kind::Unsubscribe { channels } => {
                let channels: Vec<Box<str>> = channels.iter().map(|name| name.as_ref().into()).collect();
                self.unsubscribe(index, &channels, id.as_ref(), now);
            }
            Kind::Publish(events) => self.client_publish(key, index, id, events, now),
            Kind::Samples(batch) => self.samples(key, index, batch, id, now),
            Kind::GetHistory(history) => self.history(key, index, &history, id, now),
            Kind::Ping { timestamp, report } => {
                self.reported(index, report, now);
                self.answer(index, &Answer::Pong { timestamp }, id.as_ref());
            }
            Kind::Pong { timestamp, report } => {
                self.reported(index, report, now);
                self.pong_message(index, timestamp, now);
            }
            Kind::Receipt { channel, sequence } => {
                let Some(session) = &self.slots[index as usize].session else { return };
                let channel = session.subscriptions.iter().find_map(|subscription| {
                    let known = &self.feeds[subscription.feed as usize].channel;
                    (known.name.as_str() == channel).then_some(known.id)
                });
                match channel {
                    Some(channel) => self.receipt(index, channel.0, sequence.0, now),
                    None => self.refuse_with(index, ErrorCode::NotSubscribed, "receipt", id.as_ref(), now),
                }
            }
            Kind::Presence { channel, cursor } => {
                self.presence_request(index, &channel, cursor, id, now);
            }
            Kind::ClientEvent { event_type, channel, data } => {
                self.client_event(key, index, id, &event_type, channel.as_deref(), data, now);
            }
        }
    }

    /// `connect` on a connection that has a session: to resume another, or to subscribe.
    fn connect_again(
        &mut self,
        key: ConnKey,
        index: u32,
        id: Option<RequestId>,
        connect: &pulsewire_protocol::Connect<'_>,
        now: Now,
    ) {
        let Some(session) = &self.slots[index as usize].session else { return };
        let own: SessionId = session.id;
        let principal = session.principal.clone();
        let mut wish = connect_wish(id, connect);
        let moves = wish.session.is_some_and(|wanted| wanted != own) && !principal.is_anonymous();
        if moves && self.is_written(key, now) {
            self.leave_all(index, Parting::Left, now);
            let slot = &mut self.slots[index as usize];
            let Some(session) = slot.session.take() else { return };
            let bytes_received = session.counters.bytes_received;
            slot.guest = Some(Box::new(Guest {
                peer: session.peer,
                bytes_received,
                stash: Vec::new(),
                stash_bytes: 0,
                errors: session.errors,
                principal: Some(principal.clone()),
            }));
            slot.phase = Phase::Verifying;
            // Not now: the connection must not change its key while its bytes are being decoded.
            self.deferred.push((key, principal, wish));
            return;
        }
        if self.find(key).is_none() {
            return;
        }
        wish.session = None;
        if let Some(token) = connect.token.as_deref() {
            // A token in a later connect is a refresh.
            self.verify(key, index, token.into(), After::Refresh(None), now);
            if self.find(key).is_none() {
                return;
            }
        }
        self.opened(key, wish, false, Vec::new(), now);
    }

    fn client_publish(
        &mut self,
        key: ConnKey,
        index: u32,
        id: Option<RequestId>,
        events: Vec<pulsewire_protocol::Event>,
        now: Now,
    ) {
        let Some(session) = &self.slots[index as usize].session else { return };
        let principal = session.principal.clone();
        if let Some(event) = events.iter().find(|event| !principal.may(Action::Publish, &event.channel)) {
            let detail = format!("your token does not allow to publish to `{}`", event.channel);
            self.refuse_with(index, ErrorCode::Forbidden, detail, id.as_ref(), now);
            return;
        }
        let single = events.len() == 1;
        let begun_ns = match session.counters.heartbeat_rtt_ns {
            0 => 0,
            rtt_ns => now.mono_ns.saturating_sub(rtt_ns),
        };
        let work = Work::Publish { id, principal, single, begun_ns, events };
        self.ask(key, index, work, now);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    fn client_event(
        &mut self,
        key: ConnKey,
        index: u32,
        id: Option<RequestId>,
        event_type: &str,
        channel: Option<&str>,
        data: &serde_json::value::RawValue,
        now: Now,
    ) {
        if !self.settings.client_events.iter().any(|known| **known == *event_type) {
            self.metrics.message_received(MessageType::Other);
            self.metrics.message_error(MessageError::ValidationError);
            let shown: String = event_type.chars().take(64).collect();
            self.refuse_with(
                index,
                ErrorCode::UnknownEvent,
                format!("`{}`", shown.escape_debug()),
                id.as_ref(),
                now,
            );
            return;
        }
        let counted = self.telemetry.event_types().intern(event_type);
        self.metrics.event_received(counted);
        let channel = match channel.map(ChannelName::parse).transpose() {
            Ok(channel) => channel,
            Err(error) => {
                self.metrics.event_failed(counted);
                self.refuse_with(index, ErrorCode::InvalidChannel, error.to_string(), id.as_ref(), now);
                return;
            }
        };
        let Some(session) = &self.slots[index as usize].session else { return };
        let (principal, session) = (session.principal.clone(), session.id);
        let work = Work::ClientEvent {
            id,
            principal,
            session,
            event_type: event_type.into(),
            channel,
            data: data.to_owned(),
        };
        self.ask(key, index, work, now);
    }

    /// Asks the backend. Without room there the client is refused, and the answer is `false`.
    pub(super) fn ask(&mut self, key: ConnKey, index: u32, work: Work, now: Now) -> bool {
        let Err(refused) =
            self.backend.request(Box::new(BackendRequest { shard: self.index, conn: key, work }))
        else {
            return true;
        };
        let id = match refused.work {
            Work::Publish { id, .. }
            | Work::ClientEvent { id, .. }
            | Work::Open { id, .. }
            | Work::History { id, .. }
            | Work::Samples { id, .. }
            | Work::Series { id, .. } => id,
            Work::Authenticate { .. } | Work::Fetch { .. } | Work::Read { .. } | Work::State { .. } => None,
        };
        let error = ErrorAnswer { retry_after_ms: Some(1_000), ..ErrorAnswer::new(ErrorCode::Overloaded) };
        self.refuse(index, &error, id.as_ref(), now);
        false
    }

    fn history(
        &mut self,
        key: ConnKey,
        index: u32,
        history: &GetHistory<'_>,
        id: Option<RequestId>,
        now: Now,
    ) {
        let metrics = ChannelName::parse(&history.channel)
            .ok()
            .and_then(|name| self.bus.namespace(&name))
            .is_some_and(|namespace| namespace.kind == ChannelKind::Metrics);
        if metrics {
            return self.series_history(key, index, history, id, now);
        }
        let Some(session) = &self.slots[index as usize].session else { return };
        let limits = &self.settings.limits;
        match history_wish(&self.bus, &session.principal, history, limits.outbox_bytes_max / 2) {
            Ok((channel, wish)) => {
                self.ask(key, index, Work::History { id, channel, wish }, now);
            }
            Err((code, detail)) => self.refuse_with(index, code, detail, id.as_ref(), now),
        }
    }

    /// A page of a channel's past was read for a client, or cannot be.
    pub(super) fn history_read(
        &mut self,
        conn: ConnKey,
        id: Option<&RequestId>,
        outcome: Result<Box<HistoryPage>, (ErrorCode, String)>,
        now: Now,
    ) {
        let Some(index) = self.find(conn) else { return };
        match outcome {
            Ok(page) => {
                let json = Variant { shape: Shape::Grouped, encoding: Encoding::Json };
                let events: Vec<&[u8]> =
                    page.publications.iter().map(|event| event.frame(json).payload()).collect();
                let history = History {
                    channel: &page.channel.name,
                    epoch: Some(&page.channel.epoch),
                    events: &events,
                    gap: page.gap,
                    reset: page.reset,
                    next_sequence: page.next,
                };
                self.answer(index, &Answer::History(history), id);
            }
            Err((code, detail)) => self.refuse_with(index, code, detail, id, now),
        }
    }
}

/// The channel of whose past a client asks, if there is one of the name and the client may read it.
pub(super) fn history_channel<'b>(
    bus: &'b Bus,
    principal: &Principal,
    name: &str,
) -> Result<(ChannelName, &'b Namespace), (ErrorCode, String)> {
    let name = ChannelName::parse(name).map_err(|error| (ErrorCode::InvalidChannel, error.to_string()))?;
    let namespace = bus.namespace(&name).ok_or((ErrorCode::UnknownChannel, String::new()))?;
    let open_to_all = namespace.anonymous && principal.is_anonymous();
    if !open_to_all && !principal.may(Action::History, &name) {
        let detail = format!("your token does not allow to read the history of `{name}`");
        return Err((ErrorCode::Forbidden, detail));
    }
    Ok((name, namespace))
}

/// Checks what a client asks of a channel's past.
fn history_wish(
    bus: &Bus,
    principal: &Principal,
    history: &GetHistory<'_>,
    bytes_max: usize,
) -> Result<(ChannelName, HistoryWish), (ErrorCode, String)> {
    let (name, namespace) = history_channel(bus, principal, &history.channel)?;
    if namespace.kind != ChannelKind::Log {
        return Err((ErrorCode::HistoryUnavailable, format!("`{name}` keeps no events")));
    }
    if history.interval.is_some() {
        let detail = format!("`{name}` is not a metric channel: `aggregation_interval` is for those");
        return Err((ErrorCode::Unsupported, detail));
    }
    let limit = match history.limit {
        Some(0) => return Err((ErrorCode::BadRequest, "`limit` is at least 1".to_owned())),
        Some(limit) => usize::try_from(limit).unwrap_or(HISTORY_EVENTS_MAX).min(HISTORY_EVENTS_MAX),
        None => HISTORY_EVENTS_DEFAULT,
    };
    let since = history.since.clone();
    let (start_ms, end_ms) = (history.start_ms, history.end_ms);
    Ok((name, HistoryWish { since, start_ms, end_ms, limit, bytes_max }))
}

pub(super) fn message_type(kind: &Kind<'_>) -> MessageType {
    match kind {
        Kind::Connect(_) => MessageType::Connect,
        Kind::Refresh { .. } => MessageType::Refresh,
        Kind::Subscribe(_) => MessageType::Subscribe,
        Kind::Unsubscribe { .. } => MessageType::Unsubscribe,
        Kind::Publish(_) => MessageType::Publish,
        Kind::Samples(_) => MessageType::Samples,
        Kind::GetHistory(_) => MessageType::GetHistory,
        Kind::Ping { .. } => MessageType::Ping,
        Kind::Pong { .. } => MessageType::Pong,
        Kind::Receipt { .. } => MessageType::Receipt,
        Kind::Presence { .. } => MessageType::Presence,
        Kind::ClientEvent { .. } => MessageType::Event,
    }
}

fn connect_wish(id: Option<RequestId>, connect: &pulsewire_protocol::Connect<'_>) -> ConnectWish {
    ConnectWish {
        id,
        asked: true,
        session: connect.session,
        subscribe: connect.subscribe.as_ref().map(wish),
        heartbeat: connect.heartbeat,
    }
}

fn wish(subscribe: &Subscribe<'_>) -> Wish {
    Wish {
        channels: subscribe
            .channels
            .iter()
            .map(|wanted| WishedChannel {
                name: wanted.channel.as_ref().into(),
                replay: wanted.replay.clone(),
                state: wanted.state,
                attend: wanted.attend,
            })
            .collect(),
        filter: subscribe.filter.clone(),
        interval: subscribe.interval,
        compression: subscribe.compression,
        shape: subscribe.shape,
    }
}
