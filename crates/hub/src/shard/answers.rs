//! Saying something to one client.

use std::borrow::Cow;

use pulsewire_bus::{Now, Receipt, Refusal};
use pulsewire_protocol::{Ack, Answer, ErrorAnswer, ErrorCode, Frame, Position, Published, RequestId};
use pulsewire_telemetry::{MessageType, Sent};

use super::queue::{Class, Item, ItemRef, Source};
use super::slot::Phase;
use super::{Shard, closing};
use crate::command::EventAnswer;
use crate::{ConnKey, Net};

impl<N: Net> Shard<N> {
    /// The slot of a connection that takes part: one that is neither gone nor closing.
    pub(super) fn find(&self, key: ConnKey) -> Option<u32> {
        let slot = self.slots.get(key.slot as usize)?;
        (slot.stamp == key.stamp && slot.is_active()).then_some(key.slot)
    }

    /// The slot of a connection that still has a socket.
    pub(super) fn find_any(&self, key: ConnKey) -> Option<u32> {
        let slot = self.slots.get(key.slot as usize)?;
        (slot.stamp == key.stamp && slot.phase != Phase::Gone).then_some(key.slot)
    }

    /// Queues a message for one connection; nothing follows a close frame (RFC 6455 §5.5.1).
    pub(super) fn answer(&mut self, slot: u32, answer: &Answer<'_>, id: Option<&RequestId>) {
        if !self.slots[slot as usize].is_active() {
            return;
        }
        let frame = answer.encode(id, self.slots[slot as usize].encoding());
        self.send(slot, frame, MessageType::named(answer.name()), 0);
    }

    /// Queues a frame for one connection. `initial_ns` is when the subscription began that it completes.
    pub(super) fn send(&mut self, slot: u32, frame: Frame, kind: MessageType, initial_ns: u64) {
        let mut item =
            Item::new(Source::Ready(frame), Class::Answer, Sent::Message(kind), self.metric_type, 0);
        item.initial_ns = initial_ns;
        self.send_item(slot, item, false);
    }

    pub(super) fn send_item(&mut self, slot: u32, item: Item, msgpack: bool) {
        let item = self.queue.insert(item);
        self.queue.link(slot, &mut self.slots[slot as usize], ItemRef::new(item, msgpack));
        self.queue.seal(item, 1);
    }

    /// Tells a client that something it asked for was refused, and counts it against the client.
    pub(super) fn refuse(&mut self, slot: u32, error: &ErrorAnswer<'_>, id: Option<&RequestId>, now: Now) {
        self.answer(slot, &Answer::Error(error.clone()), id);
        self.note_error(slot, error.code, now);
        let place = &mut self.slots[slot as usize];
        let errors = match (&mut place.session, &mut place.guest) {
            (Some(session), _) => &mut session.errors,
            (None, Some(guest)) => &mut guest.errors,
            (None, None) => return,
        };
        if error.code.http_status() < 500 && errors.count(now) > self.settings.limits.errors_per_minute {
            self.close_because(slot, closing::Cause::TooManyErrors, now);
        }
    }

    /// A refusal with its detail.
    pub(super) fn refuse_with(
        &mut self,
        slot: u32,
        code: ErrorCode,
        detail: impl Into<String>,
        id: Option<&RequestId>,
        now: Now,
    ) {
        let error = ErrorAnswer { detail: Cow::Owned(detail.into()), ..ErrorAnswer::new(code) };
        self.refuse(slot, &error, id, now);
    }

    pub(super) fn published(
        &mut self,
        conn: ConnKey,
        id: Option<&RequestId>,
        single: bool,
        outcome: Result<Vec<Receipt>, Refusal>,
        now: Now,
    ) {
        let Some(slot) = self.find(conn) else { return };
        match outcome {
            Ok(receipts) => {
                let results: Vec<_> = receipts.into_iter().map(|receipt| Ok(published(receipt))).collect();
                debug_assert!(!single || results.len() == 1, "one event, one result");
                self.answer(slot, &Answer::Ack(Ack::Published(&results)), id);
            }
            Err(refusal) => {
                let detail = match refusal.index {
                    Some(index) if !single && refusal.detail.is_empty() => format!("event {index}"),
                    Some(index) if !single => format!("event {index}: {}", refusal.detail),
                    _ => refusal.detail,
                };
                self.refuse_with(slot, refusal.code, detail, id, now);
            }
        }
    }

    pub(super) fn event_answered(&mut self, conn: ConnKey, answer: &EventAnswer, now: Now) {
        if answer.outcome.is_err() {
            let event_type = self.telemetry.event_types().intern(&answer.event_type);
            self.metrics.event_failed(event_type);
        }
        let Some(slot) = self.find(conn) else { return };
        match &answer.outcome {
            Ok(Some(data)) => self.answer(slot, &Answer::Ack(Ack::Data(data)), answer.id.as_ref()),
            Ok(None) => self.answer(slot, &Answer::Ack(Ack::Done), answer.id.as_ref()),
            Err((code, detail)) => self.refuse_with(slot, *code, detail.clone(), answer.id.as_ref(), now),
        }
    }
}

fn published(receipt: Receipt) -> Published {
    Published {
        channel: receipt.channel,
        position: receipt.sequence.zip(receipt.epoch).map(|(sequence, epoch)| Position { epoch, sequence }),
        duplicate: receipt.duplicate,
        matched: u64::from(receipt.matched),
    }
}
