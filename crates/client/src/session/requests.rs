//! What the client says to the server.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::{Reply, Session, unix_ms};
use crate::history::{HistoryError, Past, Question};
use crate::message::{self, NewEvent};
use crate::outbox::PublishError;
use crate::state::State;
use crate::tracker::Start;

impl Session {
    /// Queues a message on the connection, if there is one.
    pub(super) fn say(&mut self, text: &str) {
        if let Some(link) = &mut self.io.link {
            link.text(text, &mut self.random);
        }
    }

    /// Opens the conversation: everything that is wanted, in one message.
    pub(super) fn greet(&mut self) {
        self.tracker.reconnecting();
        self.rosters.reconnecting();
        self.questions.reconnecting();
        self.subscribed.clear();
        let id = self.next_id();
        let wanted: Vec<(&str, Start)> = self.tracker.wanted().collect();
        let hello = message::write_connect(&id, self.session.as_deref(), &wanted, &self.options.narrow);
        self.say(&hello);
    }

    /// Another token for the connection that lives.
    pub(super) fn refresh(&mut self, token: String) {
        let id = self.next_id();
        self.say(&message::write_refresh(&id, &token));
        self.token = Some(token);
        // It says what the old token said.
        self.tokens.keep(None);
    }

    /// Asks the server for a sign of life, to see how long it takes.
    pub(super) fn measure(&mut self, now: Duration) {
        let id = self.next_id();
        self.say(&message::write_ping(&id));
        self.ping = Some((id, now));
    }

    /// Subscribes again from the cursor.
    pub(super) fn ask_again(&mut self, channel: &str) {
        let id = self.next_id();
        self.say(&message::write_unsubscribe(&id, &[channel]));
        let wanted = [(channel, self.tracker.next_start(channel))];
        let id = self.next_id();
        let ask = message::write_subscribe(&id, &wanted, &self.options.narrow);
        self.say(&ask);
    }

    /// Whether nothing more is taken from the application.
    fn is_over(&self) -> bool {
        self.closing.is_some() || self.machine.state() == State::Closed
    }

    pub(super) fn ask(&mut self, question: &Question, reply: oneshot::Sender<Result<Past, HistoryError>>) {
        if self.is_over() {
            let _ = reply.send(Err(HistoryError::Closed));
            return;
        }
        let id = self.next_id();
        let frame = message::write_question(&id, question);
        self.questions.take(id, frame, reply);
    }

    pub(super) fn publish(&mut self, mut event: NewEvent, reply: Reply) {
        if self.is_over() {
            let _ = reply.send(Err(PublishError::Closed));
            return;
        }
        // Without an id a second attempt could store the event twice.
        event.id.get_or_insert_with(|| self.random.message_id(unix_ms()));
        let id = self.next_id();
        let frame = message::write_publish(&id, &event);
        let now = self.now();
        let settled = self.outbox.push(id, event.channel, frame, reply, now);
        self.settle(settled);
    }

    /// Keeps a cursor until it can be sent; the newest of a channel is enough.
    pub(super) fn place(&mut self, channel: String, cursor: Box<RawValue>) {
        if self.options.channels.iter().any(|(wanted, _)| *wanted == channel) {
            self.cursors.insert(channel, (cursor, false));
        }
    }

    /// Sends what has waited for a connection or for its turn.
    pub(super) fn send_waiting(&mut self) {
        if !self.is_open() {
            return;
        }
        let now = self.now();
        let Some(link) = &mut self.io.link else { return };
        while let Some(frame) = self.outbox.next(now) {
            link.text(frame, &mut self.random);
        }
        while let Some(frame) = self.questions.next_unsent() {
            link.text(&frame, &mut self.random);
        }
        self.send_cursors();
    }

    pub(super) fn send_cursors(&mut self) {
        let Some(link) = &mut self.io.link else { return };
        let subscribed = &self.subscribed;
        let waits =
            |(channel, (_, told)): &(&String, &mut (_, bool))| !*told && subscribed.contains(*channel);
        for (channel, (cursor, told)) in self.cursors.iter_mut().filter(waits) {
            *told = true;
            link.text(&message::write_presence(channel, Some(cursor)), &mut self.random);
        }
    }
}
