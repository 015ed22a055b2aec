//! What the server says, taken apart and handed on.

use std::time::Duration;

use pulsewire_protocol::Sequence;
use pulsewire_protocol::transcode::msgpack_to_json;

use super::Session;
use crate::client::Delivery;
use crate::history::Past;
use crate::link::Read;
use crate::machine::Input;
use crate::message::{self, Connected, Event, Incoming, ServerError};
use crate::presence::Heard;
use crate::reason::Reason;
use crate::tracker::{Step, Subscribed};
use crate::wire::{self, Opcode};

impl Session {
    /// Takes every message that has come whole.
    pub(super) async fn read(&mut self) {
        while let Some(link) = &mut self.io.link {
            match link.next_message() {
                Ok(Some(Read::Text(text))) => self.heard_text(text).await,
                Ok(Some(Read::Binary(msgpack))) => {
                    let mut json = Vec::new();
                    if let Ok(Ok(text)) =
                        msgpack_to_json(&msgpack, &mut json).map(|()| String::from_utf8(json))
                    {
                        self.heard_text(text).await;
                    }
                }
                Ok(Some(Read::Ping(payload))) => link.send(Opcode::Pong, &payload, &mut self.random),
                Ok(Some(Read::Pong)) => {}
                Ok(Some(Read::Close { code, reason })) => {
                    let echo = if code == 1005 { Vec::new() } else { wire::close_payload(code, "") };
                    self.leave(&echo);
                    return self.closed(Reason::Closed { code, reason }).await;
                }
                Ok(None) => return,
                Err(error) => {
                    self.leave(&wire::close_payload(1002, ""));
                    return self.closed(Reason::Protocol(error.to_string())).await;
                }
            }
        }
    }

    fn leave(&mut self, payload: &[u8]) {
        if let Some(link) = self.io.link.take() {
            link.leave(payload, &mut self.random);
        }
    }

    pub(super) async fn heard_text(&mut self, text: String) {
        if let Some(incoming) = message::read(&text) {
            self.incoming(incoming, text).await;
        }
    }

    async fn incoming(&mut self, incoming: Incoming, text: String) {
        match incoming {
            Incoming::Welcome { client_id } => self.session = client_id.or(self.session.take()),
            Incoming::Connected(connected) => self.connected(connected).await,
            Incoming::Refreshed { expires_at } => self.runs_out(expires_at),
            Incoming::TokenExpiring => self.renew(),
            Incoming::Subscribed { channels, mut positions } => {
                for channel in channels {
                    let position = positions.remove(&channel);
                    self.confirmed(channel, position).await;
                }
                self.send_cursors();
            }
            Incoming::Event { mut event, previous } => {
                event.frame = text;
                self.event(event, previous).await;
            }
            Incoming::Ack { id, acks } => {
                let ack = acks.into_iter().next().unwrap_or_default();
                let settled = id.and_then(|id| self.outbox.acked(&id, ack));
                self.settle(settled);
            }
            Incoming::Error { id, error } => {
                if let Some(error) = self.refused(id.as_deref(), error) {
                    self.deliver(Delivery::Refused(error)).await;
                }
            }
            Incoming::Ping { timestamp } => self.say(&message::write_pong(timestamp.as_deref())),
            Incoming::Pong { id } => {
                if let Some((_, sent)) = self.ping.take_if(|(asked, _)| Some(&*asked) == id.as_ref()) {
                    self.meter.round_trip(self.now().saturating_sub(sent));
                }
            }
            Incoming::Gap { channel, from, to, reason } => {
                if let Some((from, to)) = self.tracker.gap(&channel, from, to) {
                    self.deliver(Delivery::Gap { channel, from, to, reason }).await;
                }
            }
            Incoming::Reset { channel, position } => {
                if self.tracker.reset(&channel, &position) {
                    self.deliver(Delivery::Reset { channel, position }).await;
                }
            }
            Incoming::Dropped { channel, count } => self.deliver(Delivery::Dropped { channel, count }).await,
            Incoming::Passed { channel, sequence } => self.tracker.advance(&channel, sequence),
            Incoming::ReplayEnd { channel, sequence } => {
                if let Some(sequence) = sequence {
                    self.tracker.advance(&channel, sequence);
                }
                self.tracker.replay_end(&channel);
                self.deliver(Delivery::ReplayEnd { channel }).await;
            }
            Incoming::Reconnect { retry_ms } => {
                self.step(Input::Advice { retry: Duration::from_millis(retry_ms) }, None).await;
            }
            Incoming::Presence(told) => match self.rosters.hear(told, text) {
                Heard::Update(update) => self.deliver(Delivery::Presence(update)).await,
                Heard::Ask(channel) => self.say(&message::write_presence(&channel, None)),
                Heard::Nothing => {}
            },
            Incoming::Values { channel, sequence, values, more } => {
                self.deliver(Delivery::Values { channel, sequence, values, more, text }).await;
            }
            Incoming::Metric(metric) => self.deliver(Delivery::Metric { metric, text }).await,
            Incoming::Stale { channel, since_ms } => {
                self.deliver(Delivery::Stale { channel, since_ms, text }).await;
            }
            Incoming::Past { id, past } => match (id, past) {
                (Some(id), past) => self.questions.settle(&id, Ok(past)),
                (None, Past::Series(page)) => {
                    if page.next_ms.is_none() {
                        self.tracker.past_ended(&page.channel);
                    }
                    self.deliver(Delivery::Past(page)).await;
                }
                (None, Past::Events(_)) => {}
            },
            Incoming::Quiet => {}
            Incoming::Other { kind, channel } => {
                self.deliver(Delivery::Message { kind, channel, text }).await;
            }
        }
    }

    async fn connected(&mut self, connected: Connected) {
        let Connected { session, heartbeat_ms, retry_max_ms, expires_at, ticket } = connected;
        let now = self.now();
        // Who came with a ticket is given no other; it may come again with the same.
        if let Some((ticket, lasts)) = ticket {
            self.tokens.keep(Some((ticket, now.saturating_add(lasts))));
        }
        self.session = session.or(self.session.take());
        let heartbeat = heartbeat_ms.map(Duration::from_millis);
        let retry_max = retry_max_ms.map(Duration::from_millis);
        self.runs_out(expires_at);
        self.step(Input::Welcome { heartbeat, retry_max }, None).await;
    }

    /// The server has accepted a subscription.
    async fn confirmed(&mut self, channel: String, position: Option<pulsewire_protocol::Position>) {
        // A session that could not be resumed has lost its cursors.
        if let Some((_, told)) = self.cursors.get_mut(&channel) {
            *told = false;
        }
        self.subscribed.insert(channel.clone());
        let then = self.tracker.subscribed(&channel, position.as_ref());
        let reset = match then {
            Subscribed::Ask => {
                self.ask_again(&channel);
                None
            }
            Subscribed::Reset(position) => Some(Delivery::Reset { channel: channel.clone(), position }),
            Subscribed::Settled => None,
        };
        self.deliver(Delivery::Subscribed { channel, position }).await;
        if let Some(reset) = reset {
            self.deliver(reset).await;
        }
    }

    async fn event(&mut self, mut event: Event, previous: Option<Sequence>) {
        let Some(sequence) = event.sequence else {
            return self.deliver(Delivery::Event(event)).await;
        };
        match self.tracker.event(&event.channel, sequence, previous, event.critical) {
            Step::Deliver { replayed } => event.replayed = replayed,
            Step::Drop => return,
            Step::Repair => return self.ask_again(&event.channel),
            Step::Hole { from, to } => {
                let (channel, reason) = (event.channel.clone(), "missed".to_owned());
                self.deliver(Delivery::Gap { channel, from, to, reason }).await;
            }
        }
        self.deliver(Delivery::Event(event)).await;
    }

    /// Gives an error to the publish or question it belongs to; gives it back when nobody waits for it.
    fn refused(&mut self, id: Option<&str>, error: ServerError) -> Option<ServerError> {
        let Some(id) = id else { return Some(error) };
        if self.outbox.has(id) {
            let settled = self.outbox.refused(id, error, self.now());
            self.settle(settled);
            None
        } else if self.questions.has(id) {
            self.questions.settle(id, Err(crate::history::HistoryError::Refused(error)));
            None
        } else {
            Some(error)
        }
    }
}
