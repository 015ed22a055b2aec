//! Telling operators what one connection is sent and says, while somebody taps it.
//!
//! Everything here is cold: the shard is `attentive` only while a tap is open, or while what it sends is metered.

use bytes::Bytes;
use pulsewire_bus::Now;
use pulsewire_protocol::{Encoding, Kind, Sequence, SessionId};
use pulsewire_telemetry::{Direction, MessageType, Sent};
use smallvec::SmallVec;

use super::Shard;
use super::inbound::{Raw, message_type};
use super::queue::{Class, ItemRef};
use super::slot::{NONE, Phase};
use crate::watch::tap::{TAPS_MAX, Tap, TapSink, Tapped};
use crate::{ConnKey, Net};

/// What is about to be written to a connection that is tapped.
pub(super) struct About {
    key: ConnKey,
    /// How many bytes it had been sent before.
    bytes_sent: u64,
    messages: Vec<Tapped>,
}

impl<N: Net> Shard<N> {
    /// Opens a tap. `false` if the session is not here, or as many are open as may be.
    pub(super) fn tap(&mut self, number: u64, session: SessionId, sink: TapSink) -> bool {
        if !self.has_session(session) || self.taps.len() >= TAPS_MAX {
            return false;
        }
        self.taps.push(Tap::new(number, session, sink));
        self.see_to_attention();
        true
    }

    /// Closes a tap.
    pub(super) fn untap(&mut self, number: u64) {
        self.taps.retain(|tap| tap.number != number);
        self.see_to_attention();
    }

    /// Whether the flush path has to look at each connection: set wherever the reasons change.
    pub(super) fn see_to_attention(&mut self) {
        self.attentive = self.is_metered() || !self.taps.is_empty();
    }

    /// Says what was left out, and lets go of taps that nobody listens to or whose session is gone. Called once a second.
    pub(super) fn turn_taps(&mut self, now: Now) {
        if self.taps.is_empty() {
            return;
        }
        let mut taps = std::mem::take(&mut self.taps);
        taps.retain_mut(|tap| {
            tap.turn(now);
            if !self.has_session(tap.session) {
                tap.end();
            }
            tap.is_wanted()
        });
        self.taps = taps;
        self.see_to_attention();
    }

    fn has_session(&self, id: SessionId) -> bool {
        let slot = self.slots.get(id.slot() as usize);
        slot.and_then(|slot| slot.session.as_ref()).is_some_and(|session| session.id == id)
    }

    fn is_tapped(&self, index: u32) -> bool {
        let Some(session) = self.slots.get(index as usize).and_then(|slot| slot.session.as_ref()) else {
            return false;
        };
        self.taps.iter().any(|tap| tap.session == session.id)
    }

    /// As [`Shard::flush_slot`], where what is written is metered or told.
    #[cold]
    pub(super) fn flush_slot_attentively(&mut self, index: u32, now: Now) {
        if self.is_metered() {
            self.meter(index, now);
        }
        let about = self.about_to_write(index, now);
        self.write_slot(index, now);
        if let Some(about) = about {
            self.written_now(index, &about, now);
        }
    }

    /// What waits for a connection that is tapped. Behind an outbox it is told when that is written.
    fn about_to_write(&mut self, index: u32, now: Now) -> Option<About> {
        let slot = self.slots.get(index as usize)?;
        if slot.first == NONE || slot.outbox.is_some() || slot.phase == Phase::Gone || !self.is_tapped(index)
        {
            return None;
        }
        let (key, bytes_sent) = (slot.key(index), slot.bytes_sent);
        let (mut messages, mut node) = (Vec::new(), slot.first);
        while node != NONE {
            let (item, next) = self.queue.step(node);
            messages.extend(self.describe(item, now));
            node = next;
        }
        Some(About { key, bytes_sent, messages })
    }

    /// Tells what the kernel took whole; of the rest it is told when that is taken, or dropped.
    fn written_now(&mut self, index: u32, about: &About, now: Now) {
        let Some(slot) = self.slots.get(index as usize).filter(|slot| slot.stamp == about.key.stamp) else {
            return;
        };
        let mut taken = slot.bytes_sent.saturating_sub(about.bytes_sent);
        for message in &about.messages {
            let Some(left) = taken.checked_sub(message.bytes as u64) else { return };
            taken = left;
            self.tell_taps(index, message, now);
        }
    }

    /// A message left the outbox of a connection.
    #[cold]
    pub(super) fn tap_taken(&mut self, index: u32, item: ItemRef, now: Now) {
        if self.is_tapped(index) {
            for message in self.describe(item, now) {
                self.tell_taps(index, &message, now);
            }
        }
    }

    /// A connection said something.
    #[cold]
    pub(super) fn tap_said(&mut self, index: u32, raw: Raw<'_>, now: Now) {
        if !self.is_tapped(index) {
            return;
        }
        let encoding = self.slots[index as usize].encoding();
        let (payload, bytes) = (raw.copy(), raw.len());
        self.with_request(raw, |shard, request| {
            let (kind, channel, secret) = match &request {
                Ok(request) => {
                    let secret = matches!(request.kind, Kind::Connect(_) | Kind::Refresh { .. });
                    (message_type(&request.kind).as_str(), channel_of(&request.kind), secret)
                }
                // Whatever it is, it may hold a token.
                Err(_) => ("invalid", None, true),
            };
            let channel = channel.and_then(|name| pulsewire_protocol::ChannelName::parse(name).ok());
            let payload = if secret { Bytes::new() } else { payload };
            let at_ms = now.wall_ms;
            let message = Tapped {
                at_ms,
                direction: Direction::Received,
                kind: kind.into(),
                channel,
                sequence: None,
                bytes,
                latency_ns: None,
                payload,
                encoding,
            };
            shard.tell_taps(index, &message, now);
        });
    }

    fn tell_taps(&mut self, index: u32, message: &Tapped, now: Now) {
        let Some(session) = self.slots.get(index as usize).and_then(|slot| slot.session.as_ref()) else {
            return;
        };
        let id = session.id;
        self.taps.iter_mut().filter(|tap| tap.session == id).for_each(|tap| tap.tell(message, now));
    }

    /// The messages of an item.
    fn describe(&mut self, item: ItemRef, now: Now) -> SmallVec<[Tapped; 1]> {
        let frames: SmallVec<[_; 1]> = self.queue.frame(item).messages().collect();
        let known = self.queue.item(item);
        let kind = match known.sent() {
            Sent::Event(_) => MessageType::Event,
            Sent::Message(kind) => kind,
        };
        let (first, feed) = match known.class {
            Class::Log { feed, sequence } => (Some(sequence), Some(feed)),
            Class::Ephemeral { feed } | Class::Metrics { feed } => (None, Some(feed)),
            Class::Answer | Class::Presence { .. } => (None, None),
        };
        let channel =
            feed.and_then(|feed| self.feeds.get(feed as usize)).map(|feed| feed.channel.name.clone());
        let latency_ns = (known.accepted_ns > 0).then(|| now.since_ns(known.accepted_ns));
        let encoding = if item.is_msgpack() { Encoding::MsgPack } else { Encoding::Json };
        let describe = |(place, frame): (u64, pulsewire_protocol::Frame)| Tapped {
            at_ms: now.wall_ms,
            direction: Direction::Sent,
            kind: match kind {
                MessageType::Other => {
                    named_in(frame.payload()).map_or("other".into(), |name| name.to_owned().into())
                }
                kind => kind.as_str().into(),
            },
            channel: channel.clone(),
            // Events of one delivery follow one another.
            sequence: first.map(|first| Sequence(first + place)),
            bytes: frame.len(),
            latency_ns,
            // It holds a ticket, which as the client's token is for nobody else.
            payload: if kind == MessageType::Connected { Bytes::new() } else { frame.payload_bytes() },
            encoding,
        };
        (0..).zip(frames).map(describe).collect()
    }
}

/// The channel that a message is about, if it is about one.
fn channel_of<'k>(kind: &'k Kind<'_>) -> Option<&'k str> {
    match kind {
        Kind::Subscribe(subscribe) => subscribe.channels.first().map(|wanted| &*wanted.channel),
        Kind::Unsubscribe { channels } => channels.first().map(|channel| &**channel),
        Kind::Publish(events) => events.first().map(|event| event.channel.as_str()),
        Kind::GetHistory(history) => Some(&*history.channel),
        Kind::Receipt { channel, .. } | Kind::Presence { channel, .. } => Some(&**channel),
        Kind::ClientEvent { channel, .. } => channel.as_deref(),
        _ => None,
    }
}

/// The type of a JSON message of ours, which begins with it.
fn named_in(payload: &[u8]) -> Option<&str> {
    let rest = std::str::from_utf8(payload).ok()?.strip_prefix(r#"{"type":""#)?;
    rest.split('"').next()
}
