//! The client as an application holds it: a handle to publish and close, and a stream of deliveries.

use std::sync::Arc;
use std::time::Duration;

use pulsewire_protocol::{Position, Sequence, client as defaults};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};

use crate::backoff::Backoff;
use crate::fallback::Fallback;
use crate::health::Health;
use crate::history::{HistoryError, Past, Question, SeriesPage};
use crate::machine::ms;
use crate::message::{Ack, Event, Narrow, NewEvent, ServerError};
use crate::metric::Metric;
use crate::outbox::{PublishError, QueueOptions};
use crate::presence::PresenceUpdate;
use crate::reason::Reason;
use crate::session::{Command, Session};
use crate::state::State;
use crate::token::TokenProvider;
use crate::tracker::Start;
use crate::trust::Trust;
use crate::url::Endpoint;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Connecting, upgrading and being welcomed together. Default 5 s.
    pub connect: Duration,
    /// Asking a callback for a token. Default 10 s.
    pub token: Duration,
    /// A probe unanswered for so long ends the connection. Default 3 s.
    pub probe: Duration,
    /// A publish unanswered for so long is sent again with the same id. Default 5 s.
    pub ack: Duration,
    /// How long [`Client::close`] waits for answers that are due. Default 5 s.
    pub flush: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: ms(defaults::CONNECT_TIMEOUT_MS),
            token: ms(defaults::TOKEN_TIMEOUT_MS),
            probe: ms(defaults::PROBE_TIMEOUT_MS),
            ack: ms(defaults::ACK_TIMEOUT_MS),
            flush: Duration::from_secs(5),
        }
    }
}

/// What a client connects to and wants.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub endpoint: Endpoint,
    /// Who may vouch for the server's certificate.
    pub trust: Trust,
    /// Where bearer tokens come from.
    pub token: TokenProvider,
    /// The channels to subscribe to, with where to begin.
    pub channels: Vec<(String, Start)>,
    /// Tags and roll-up of all of them.
    pub narrow: Narrow,
    /// The wait between attempts.
    pub backoff: Backoff,
    /// The bounds of the queue of publishes.
    pub queue: QueueOptions,
    /// A way besides WebSocket. Default none; this crate ships none.
    pub fallback: Option<Arc<dyn Fallback>>,
    /// The other times.
    pub timeouts: Timeouts,
}

impl Options {
    /// Options with every default and no channel.
    pub fn new(endpoint: Endpoint) -> Options {
        Options {
            endpoint,
            trust: Trust::default(),
            token: TokenProvider::None,
            channels: Vec::new(),
            narrow: Narrow::default(),
            backoff: Backoff::default(),
            queue: QueueOptions::default(),
            fallback: None,
            timeouts: Timeouts::default(),
        }
    }
}

/// Something that reached the client.
#[derive(Debug)]
pub enum Delivery {
    /// The connection changed.
    State {
        /// Where it was.
        from: State,
        /// Where it is now.
        to: State,
        /// Why it ended, when it did.
        reason: Option<Reason>,
        /// How long until the next attempt, while one is waited for.
        retry_in: Option<Duration>,
    },
    /// The server accepted a subscription; `position` is where the channel's log stands, if it has one.
    Subscribed {
        /// The channel.
        channel: String,
        /// The end of its log.
        position: Option<Position>,
    },
    /// A publication, each at most once and in order.
    Event(Event),
    /// Somebody came to a channel, went, or points somewhere else.
    Presence(PresenceUpdate),
    /// The newest event of each key of a channel, or a part of them. They take the place of whatever was known of the
    /// channel's keys; where an event has come with a higher sequence, that one is newer.
    Values {
        /// The channel.
        channel: String,
        /// Where the channel stood when they were read.
        sequence: Option<Sequence>,
        /// The events, in the order of their keys.
        values: Vec<Event>,
        /// Whether further parts follow.
        more: bool,
        /// The frame as it came.
        text: String,
    },
    /// What a metric channel says: a value, the figures of a window, or several at once.
    Metric {
        /// What it says.
        metric: Metric,
        /// The frame as JSON, as it came unless it was compressed.
        text: String,
    },
    /// A part of a metric channel's past, before what it says from now on ([`Start::Past`]). The last part has no
    /// [`next_ms`](SeriesPage::next_ms).
    Past(SeriesPage),
    /// A metric channel has said nothing for three of its intervals. Whatever it says next ends that.
    Stale {
        /// The channel.
        channel: String,
        /// When it last said something, in milliseconds since 1970.
        since_ms: i64,
        /// The frame as it came.
        text: String,
    },
    /// A frame that is none of these, such as one of a newer server.
    Message {
        /// Its `type`.
        kind: String,
        /// Its channel, if it has one.
        channel: Option<String>,
        /// The frame as it came.
        text: String,
    },
    /// Events are missing for good.
    Gap {
        /// The channel.
        channel: String,
        /// The first missing sequence.
        from: Sequence,
        /// The last missing sequence.
        to: Sequence,
        /// `trimmed`, `corrupt`, or `missed` when only this client noticed.
        reason: String,
    },
    /// The channel's log is a new one; state built from the old one is void.
    Reset {
        /// The channel.
        channel: String,
        /// Where the new log stands.
        position: Position,
    },
    /// Events of an ephemeral channel were dropped because this client read too slowly, or values of a metric channel:
    /// of that the newest of every series follows.
    Dropped {
        /// The channel.
        channel: String,
        /// How many.
        count: u64,
    },
    /// What was asked for from the past has been delivered; what follows is live.
    ReplayEnd {
        /// The channel.
        channel: String,
    },
    /// The server refused something that nobody waits for, such as a subscription.
    Refused(ServerError),
}

/// A handle to a running client. Cheap to clone; the client ends when it is closed, or when its
/// [`Deliveries`] are dropped. One that the server has sent away ends with its last handle: until then
/// [`Client::set_token`] and [`Client::reconnect`] revive it.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<State>,
    health: watch::Receiver<Health>,
}

/// The deliveries of one client, in order.
///
/// At most 1,024 wait here; then the client stops reading and the server holds back, which is what bounds memory.
#[derive(Debug)]
pub struct Deliveries {
    receiver: mpsc::Receiver<Delivery>,
}

impl Deliveries {
    /// The next delivery; `None` once the client is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no delivery.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.receiver.recv().await
    }
}

impl Client {
    /// Starts a client on the current tokio runtime. It connects at once and keeps reconnecting until it is closed or
    /// the server says that coming back is pointless. What every client does and when is in `docs/clients.md`.
    pub fn start(options: Options) -> (Client, Deliveries) {
        let (commands, command_receiver) = mpsc::channel(64);
        let (deliveries, receiver) = mpsc::channel(1_024);
        let (state_sender, state) = watch::channel(State::Idle);
        let (health_sender, health) = watch::channel(Health::default());
        let session = Session::new(options, command_receiver, deliveries, state_sender, health_sender);
        tokio::spawn(session.run());
        (Client { commands, state, health }, Deliveries { receiver })
    }

    /// The state now; [`watch::Receiver::changed`] waits for the next.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// How the client is doing; [`watch::Receiver::changed`] waits for the next change.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Tries now instead of later, whatever the server has advised. It asks a connection that lives for a sign of life,
    /// revives a client that was sent away, and does nothing to one that was closed.
    pub async fn reconnect(&self) {
        let _ = self.commands.send(Command::Reconnect).await;
    }

    /// Gives the client another token: at once on a connection that lives, and a client that was sent away comes back
    /// with it. It takes the place of a fixed one; a callback is asked again when the server refuses it or it runs out.
    /// `None` logs out: it disconnects, and what waits for an answer fails with [`PublishError::Closed`].
    pub async fn set_token(&self, token: Option<String>) {
        let _ = self.commands.send(Command::SetToken(token)).await;
    }

    /// Publishes an event and waits for the server's answer. While the connection is down, or the server says "later",
    /// the event waits in a queue in memory ([`QueueOptions`]); it is sent again with the same id, which the server
    /// answers with the first outcome, three times and for five minutes at most. Up to 16 are on their way at once,
    /// those of one channel in their order; that order holds while the server accepts.
    ///
    /// # Errors
    ///
    /// [`PublishError`] says whether the event may have been stored.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not take the event back.
    pub async fn publish(&self, event: NewEvent) -> Result<Ack, PublishError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Publish { event: Box::new(event), reply };
        self.commands.send(command).await.map_err(|_| PublishError::Closed)?;
        answer.await.unwrap_or(Err(PublishError::Closed))
    }

    /// Asks for what a channel said earlier and waits for the answer; of a metric channel that is a page of windows, of
    /// others a page of events. While the connection is down the question waits, and after a reconnect it is asked
    /// again. How long to wait is the caller's business: dropping the future takes the question back.
    ///
    /// # Errors
    ///
    /// [`HistoryError`].
    pub async fn history(&self, question: Question) -> Result<Past, HistoryError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Ask { question: Box::new(question), reply };
        self.commands.send(command).await.map_err(|_| HistoryError::Closed)?;
        answer.await.unwrap_or(Err(HistoryError::Closed))
    }

    /// Puts this user's cursor in a channel somewhere, for everybody who watches; `null` takes it away. It needs
    /// [`Attend::Join`](crate::Attend). While the connection is down the newest one waits.
    ///
    /// # Errors
    ///
    /// [`PublishError::Closed`]. What the server refuses comes as [`Delivery::Refused`].
    pub async fn place_cursor(&self, channel: &str, cursor: Box<RawValue>) -> Result<(), PublishError> {
        let command = Command::Cursor { channel: channel.to_owned(), cursor };
        self.commands.send(command).await.map_err(|_| PublishError::Closed)
    }

    /// Says goodbye to the server and ends the client; waits until publishes are answered, at most
    /// [`Timeouts::flush`].
    pub async fn close(&self) {
        if self.commands.send(Command::Close).await.is_ok() {
            self.commands.closed().await;
        }
    }
}
