//! The life of one client: what the machine decides, performed.
//!
//! One task owns everything: the socket, the cursors and the publishes that wait for an answer. It talks to the
//! application through two bounded queues only. What connects when, and what follows an end, is the machine's; which
//! publish is sent when, the outbox's; what an event is, the tracker's. This file only carries messages between them.

mod incoming;
mod requests;
mod schedule;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pulsewire_protocol::client as defaults;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::client::{Delivery, Options};
use crate::fallback::{Fallback, FallbackHost, Handle, Report};
use crate::health::{Health, Meter};
use crate::history::{HistoryError, Past, Question};
use crate::link::{Link, Opening, RetryAdvice};
use crate::machine::{Effect, Input, Machine, MachineOptions, ms};
use crate::message::{Ack, NewEvent};
use crate::outbox::{Outbox, PublishError, Settled};
use crate::presence::Rosters;
use crate::questions::Questions;
use crate::random::Random;
use crate::reason::Reason;
use crate::state::State;
use crate::token::{Asking, TokenError, Tokens};
use crate::tracker::Tracker;
use crate::wire::Opcode;

/// So many commands are taken between two reads.
const COMMANDS_AT_ONCE: usize = 64;
/// A callback that gave no token while the one in use still holds is asked again after so long.
const RENEW_AGAIN: Duration = Duration::from_secs(10);

type Reply = oneshot::Sender<Result<Ack, PublishError>>;

#[derive(Debug)]
pub(crate) enum Command {
    Publish { event: Box<NewEvent>, reply: Reply },
    Cursor { channel: String, cursor: Box<RawValue> },
    Ask { question: Box<Question>, reply: oneshot::Sender<Result<Past, HistoryError>> },
    Reconnect,
    SetToken(Option<String>),
    Close,
}

/// What is open or under way. The machine says which of them there are.
#[derive(Default)]
struct Io {
    asking: Option<Asking>,
    opening: Option<Opening>,
    link: Option<Link>,
    /// Another token for the connection that lives.
    renewing: Option<Asking>,
    fallback: Option<Handle>,
}

/// Something that the client waited for.
enum Happening {
    Token(Result<Option<String>, TokenError>),
    Opened(Box<Result<Link, (Reason, RetryAdvice)>>),
    Read(std::io::Result<bool>),
    Renewed(Result<Option<String>, TokenError>),
    Polled(Option<Report>),
    Command(Option<Command>),
    /// The application has dropped its deliveries.
    Unwanted,
    Due,
}

pub(crate) struct Session {
    options: Options,
    commands: mpsc::Receiver<Command>,
    commands_open: bool,
    deliveries: mpsc::Sender<Delivery>,
    state: watch::Sender<State>,
    health: watch::Sender<Health>,
    machine: Machine,
    /// Where the machine's time begins.
    began: Instant,
    random: Random,
    io: Io,
    tokens: Tokens,
    /// The token of the last attempt, or a newer one.
    token: Option<String>,
    /// What the attempt under way shows instead.
    ticket: Option<String>,
    renew_at: Option<Duration>,
    tracker: Tracker,
    rosters: Rosters,
    /// The channels that the server has confirmed on this connection.
    subscribed: BTreeSet<String>,
    /// The cursors this client has placed, and whether the server has been told.
    cursors: BTreeMap<String, (Box<RawValue>, bool)>,
    session: Option<String>,
    outbox: Outbox<Reply>,
    questions: Questions,
    requests: u64,
    meter: Meter,
    /// When the round trip is measured next, and the question that is out.
    ping_at: Option<Duration>,
    ping: Option<(String, Duration)>,
    connections: u64,
    last_error: Option<Reason>,
    closing: Option<Duration>,
}

impl Session {
    pub(crate) fn new(
        options: Options,
        commands: mpsc::Receiver<Command>,
        deliveries: mpsc::Sender<Delivery>,
        state: watch::Sender<State>,
        health: watch::Sender<Health>,
    ) -> Session {
        let mut tracker = Tracker::default();
        for (channel, start) in &options.channels {
            tracker.want(channel.clone(), start.clone());
        }
        let tokens = Tokens::new(options.token.clone());
        let timeouts = &options.timeouts;
        let machine = Machine::new(MachineOptions {
            backoff: options.backoff,
            connect: timeouts.connect,
            probe: timeouts.probe,
            token: timeouts.token,
            fallback: options.fallback.is_some(),
            renewable: tokens.are_renewable(),
        });
        Session {
            outbox: Outbox::new(options.queue, timeouts.ack),
            options,
            commands,
            commands_open: true,
            deliveries,
            state,
            health,
            machine,
            began: Instant::now(),
            random: Random::default(),
            io: Io::default(),
            tokens,
            token: None,
            ticket: None,
            renew_at: None,
            tracker,
            rosters: Rosters::default(),
            subscribed: BTreeSet::new(),
            cursors: BTreeMap::new(),
            session: None,
            questions: Questions::default(),
            requests: 0,
            meter: Meter::default(),
            ping_at: None,
            ping: None,
            connections: 0,
            last_error: None,
            closing: None,
        }
    }

    pub(crate) async fn run(mut self) {
        self.step(Input::Connect, None).await;
        loop {
            let happening = self.wait().await;
            if matches!(happening, Happening::Unwanted) {
                break;
            }
            self.happened(happening).await;
            for _ in 0..COMMANDS_AT_ONCE {
                let Ok(command) = self.commands.try_recv() else { break };
                self.command(command).await;
            }
            self.pass_time().await;
            self.send_waiting();
            self.tell_health();
            let ended = self.machine.state() == State::Closed;
            let flushed = self.outbox.len() == 0 || ended || self.closing.is_some_and(|by| by <= self.now());
            if (self.closing.is_some() && flushed) || (ended && !self.commands_open) {
                break;
            }
        }
        self.end().await;
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits for the next thing to happen. Reading comes first, so that what has come is known before a deadline passes.
    async fn wait(&mut self) -> Happening {
        let due = self.due().map(|due| self.began + due);
        let Io { asking, opening, link, renewing, fallback } = &mut self.io;
        tokio::select! {
            biased;
            () = self.deliveries.closed() => Happening::Unwanted,
            read = optional(link.as_mut().map(Link::turn)) => Happening::Read(read),
            token = optional(asking.as_mut()) => Happening::Token(token),
            opened = optional(opening.as_mut()) => Happening::Opened(Box::new(opened)),
            token = optional(renewing.as_mut()) => Happening::Renewed(token),
            polled = optional(fallback.as_mut().map(Handle::next)) => Happening::Polled(polled),
            () = optional(due.map(sleep_until)) => Happening::Due,
            command = self.commands.recv(), if self.commands_open => Happening::Command(command),
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.machine.state(), State::Live | State::Probing)
    }

    async fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Token(answer) => {
                self.io.asking = None;
                match answer {
                    Ok(token) => {
                        self.token = token;
                        self.step(Input::Token, None).await;
                    }
                    Err(error) => self.no_token(error).await,
                }
            }
            Happening::Opened(opened) => {
                self.io.opening = None;
                match *opened {
                    Ok(link) => {
                        self.io.link = Some(link);
                        self.step(Input::Opened, None).await;
                    }
                    Err((reason, advice)) => {
                        if let Some(retry) = advice {
                            self.step(Input::Advice { retry }, None).await;
                        }
                        self.closed(reason).await;
                    }
                }
            }
            Happening::Read(Ok(true)) => {
                self.step(Input::Heard, None).await;
                self.read().await;
            }
            Happening::Read(Ok(false) | Err(_)) => {
                self.closed(Reason::Closed { code: 1006, reason: String::new() }).await;
            }
            Happening::Renewed(answer) => {
                self.io.renewing = None;
                match answer {
                    Ok(Some(token)) => self.refresh(token),
                    Ok(None) => {}
                    Err(error) => self.no_token(error).await,
                }
            }
            Happening::Polled(Some(Report::Message(text))) => self.heard_text(text).await,
            Happening::Polled(Some(Report::Succeeded)) => self.step(Input::PollOk, None).await,
            Happening::Polled(Some(Report::Failed)) => self.step(Input::PollFailed, None).await,
            Happening::Polled(None) => {
                while self.io.fallback.is_some() {
                    self.step(Input::PollFailed, None).await;
                }
            }
            Happening::Command(Some(command)) => self.command(command).await,
            Happening::Command(None) => self.commands_open = false,
            // Nothing is left to read, so whoever was silent is silent still.
            Happening::Due => {
                if self.machine.deadline().is_some_and(|due| due <= self.now()) {
                    self.step(Input::Tick, None).await;
                }
            }
            Happening::Unwanted => {}
        }
    }

    async fn no_token(&mut self, error: TokenError) {
        match error {
            TokenError::Unauthorized(why) => {
                self.step(Input::TokenRefused, Some(Reason::Unauthorized(why))).await;
            }
            TokenError::Failed(why) => {
                let reason = Reason::Token(why);
                if self.is_open() {
                    // The token in use still holds: another is asked for again, but not at once.
                    self.renew_at = Some(self.now() + RENEW_AGAIN);
                    self.last_error = Some(reason);
                } else {
                    self.step(Input::TokenFailed, Some(reason)).await;
                }
            }
        }
    }

    /// The socket ended, or could not be opened.
    async fn closed(&mut self, reason: Reason) {
        self.io.link = None;
        self.io.opening = None;
        let by_ticket = self.ticket.take().is_some();
        if by_ticket && !self.is_open() && reason.is_unauthorized() {
            // Not the token was refused: the same attempt is made again with it.
            self.tokens.keep(None);
            return self.step(Input::TokenSet, None).await;
        }
        self.step(Input::Closed { code: reason.code() }, Some(reason)).await;
    }

    /// Lets the machine decide, performs it and tells the application.
    async fn step(&mut self, input: Input, reason: Option<Reason>) {
        let from = self.machine.state();
        let (now, random) = (self.now(), &mut self.random);
        let effects = self.machine.step(input, now, &mut || random.unit());
        let to = self.machine.state();
        for effect in effects {
            self.perform(effect);
        }
        if !self.is_open() && self.ping_at.take().is_some() {
            // What belonged to the connection ends with it.
            (self.ping, self.renew_at, self.io.renewing) = (None, None, None);
            let settled = self.outbox.lost();
            self.settle(settled);
        }
        match (from, to) {
            (State::Probing, State::Live) => {
                let settled = self.outbox.proved();
                self.settle(settled);
            }
            (_, State::Closed) => {
                let settled = self.outbox.close();
                self.settle(settled);
                self.tokens.keep(None);
                self.questions = Questions::default();
            }
            _ => {}
        }
        if from == to {
            return;
        }
        let reason = reason.or_else(|| given_up(from, to));
        if reason.as_ref().is_some_and(|reason| *reason != Reason::Client) {
            self.last_error.clone_from(&reason);
        }
        self.state.send_replace(to);
        self.tell_health();
        let retry_in = self.machine.next_retry_at().map(|at| at.saturating_sub(now));
        self.deliver(Delivery::State { from, to, reason, retry_in }).await;
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Authorize => {
                let reason = self.machine.token_reason();
                self.ticket = self.tokens.ticket(reason, self.now());
                // The token that the ticket was made of is the newest still.
                self.io.asking = Some(match self.ticket {
                    Some(_) => Box::pin(std::future::ready(Ok(self.token.clone()))),
                    None => self.tokens.ask(reason),
                });
            }
            Effect::Open => {
                let Options { endpoint, trust, .. } = &self.options;
                let (endpoint, trust, nonce) = (endpoint.clone(), trust.clone(), self.random.nonce());
                let shown = self.ticket.clone().or_else(|| self.token.clone());
                self.io.opening = Some(Box::pin(Link::open(endpoint, trust, shown, nonce)));
            }
            Effect::Greet => self.greet(),
            Effect::Ready => {
                self.ping_at = Some(self.now() + ms(defaults::RTT_INTERVAL_MS));
                self.connections += 1;
            }
            Effect::Probe => {
                if let Some(link) = &mut self.io.link {
                    link.send(Opcode::Ping, b"probe", &mut self.random);
                }
            }
            Effect::Drop => {
                (self.io.asking, self.io.opening, self.io.link) = (None, None, None);
            }
            Effect::Poll => {
                self.io.fallback = self.options.fallback.clone().map(|fallback| self.fall_back(&*fallback));
            }
            Effect::StopPoll => self.io.fallback = None,
        }
    }

    fn fall_back(&self, fallback: &dyn Fallback) -> Handle {
        let (reports, receiver) = mpsc::channel(64);
        let Options { endpoint, trust, .. } = &self.options;
        let channels = self.tracker.wanted().map(|(channel, start)| (channel.to_owned(), start));
        let host = FallbackHost {
            endpoint: endpoint.clone(),
            trust: trust.clone(),
            token: self.token.clone(),
            session: self.session.clone(),
            channels: channels.collect(),
            reports,
        };
        Handle::new(receiver, fallback.run(host))
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Publish { event, reply } => self.publish(*event, reply),
            Command::Cursor { channel, cursor } => self.place(channel, cursor),
            Command::Ask { question, reply } => self.ask(&question, reply),
            Command::Reconnect => self.step(Input::Reconnect, None).await,
            Command::SetToken(Some(token)) => {
                self.tokens.set(token.clone());
                if self.is_open() {
                    self.refresh(token);
                }
                self.step(Input::TokenSet, None).await;
            }
            Command::SetToken(None) => {
                self.tokens.forget();
                self.say_goodbye().await;
                self.step(Input::Disconnect, Some(Reason::Client)).await;
            }
            Command::Close => self.closing = Some(self.now() + self.options.timeouts.flush),
        }
    }

    async fn say_goodbye(&mut self) {
        if let Some(link) = self.io.link.take() {
            link.say_goodbye(&mut self.random).await;
        }
    }

    /// The application wants no more.
    async fn end(mut self) {
        self.say_goodbye().await;
        self.step(Input::Disconnect, Some(Reason::Client)).await;
        self.tell_health();
    }

    fn settle(&mut self, settled: impl IntoIterator<Item = Settled<Reply>>) {
        for (reply, outcome) in settled {
            if outcome != Err(PublishError::Closed) {
                self.meter.settled(outcome.is_ok());
            }
            // A publisher that stopped waiting does not want to know.
            let _ = reply.send(outcome);
        }
    }

    /// Puts what has changed where the application can see it.
    fn tell_health(&self) {
        self.health.send_if_modified(|health| {
            let before = health.clone();
            health.status = self.machine.status();
            health.ending = self.machine.ending();
            health.queued = self.outbox.len();
            health.reconnections = self.connections.saturating_sub(1);
            health.last_error.clone_from(&self.last_error);
            health.next_retry_at = self.machine.next_retry_at().map(|at| (self.began + at).into_std());
            self.meter.tell(health);
            *health != before
        });
    }

    async fn deliver(&mut self, delivery: Delivery) {
        // An application that dropped its deliveries ends the client at the next turn.
        let _ = self.deliveries.send(delivery).await;
    }

    fn next_id(&mut self) -> String {
        self.requests += 1;
        self.requests.to_string()
    }
}

/// Why the machine itself gave up.
fn given_up(from: State, to: State) -> Option<Reason> {
    match (from, to) {
        (State::Probing, State::Waiting | State::Offline) => Some(Reason::Silent),
        (_, State::Waiting | State::Offline) => Some(Reason::Timeout),
        _ => None,
    }
}

/// Waits for something that there may not be.
async fn optional<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
