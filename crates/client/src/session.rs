//! The life of one client: attempt, greet, live, wait, again.
//!
//! One task owns everything: the socket, the cursors and the publishes that wait for an answer. It talks to the
//! application through two bounded queues only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use pulsewire_protocol::Sequence;
use pulsewire_protocol::transcode::msgpack_to_json;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::client::{Delivery, Options, PUBLISHES_WAITING_MAX, PublishError};
use crate::history::{HistoryError, Past, Question};
use crate::link::{Link, Read, RetryAdvice};
use crate::message::{self, Ack, Incoming, NewEvent};
use crate::presence::{Heard, Rosters};
use crate::questions::Questions;
use crate::random::Random;
use crate::state::{Next, Reason, State};
use crate::tracker::{Start, Step, Subscribed, Tracker};
use crate::wire::{self, Opcode};

/// A connection that lived so long resets the failure count.
const STABLE_AFTER: Duration = Duration::from_secs(5);
/// How often one publish is sent before it fails.
const ATTEMPTS_MAX: u32 = 3;
/// The wait for the server's half of the closing handshake.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) enum Command {
    Publish { event: Box<NewEvent>, reply: oneshot::Sender<Result<Ack, PublishError>> },
    Cursor { channel: String, cursor: Box<RawValue> },
    Ask { question: Box<Question>, reply: oneshot::Sender<Result<Past, HistoryError>> },
    Close,
}

struct Waiting {
    id: String,
    frame: String,
    attempts: u32,
    due: Option<Instant>,
    reply: oneshot::Sender<Result<Ack, PublishError>>,
}

pub(crate) struct Session {
    options: Options,
    commands: mpsc::Receiver<Command>,
    deliveries: mpsc::Sender<Delivery>,
    state: watch::Sender<State>,
    random: Random,
    tracker: Tracker,
    rosters: Rosters,
    /// The channels that the server has confirmed on this connection.
    subscribed: BTreeSet<String>,
    /// The cursors this client has placed, and whether the server has been told.
    cursors: BTreeMap<String, (Box<RawValue>, bool)>,
    session: Option<String>,
    waiting: VecDeque<Waiting>,
    questions: Questions,
    requests: u64,
    failures: u32,
    ping_interval: Duration,
    advice: RetryAdvice,
    closing: Option<Instant>,
}

impl Session {
    pub(crate) fn new(
        options: Options,
        commands: mpsc::Receiver<Command>,
        deliveries: mpsc::Sender<Delivery>,
        state: watch::Sender<State>,
    ) -> Session {
        let mut tracker = Tracker::default();
        for (channel, start) in &options.channels {
            tracker.want(channel.clone(), start.clone());
        }
        Session {
            ping_interval: options.timeouts.ping_interval,
            options,
            commands,
            deliveries,
            state,
            random: Random::default(),
            tracker,
            rosters: Rosters::default(),
            subscribed: BTreeSet::new(),
            cursors: BTreeMap::new(),
            session: None,
            waiting: VecDeque::new(),
            questions: Questions::default(),
            requests: 0,
            failures: 0,
            advice: None,
            closing: None,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let begun = Instant::now();
            let reason = self.attempt().await;
            let next = if self.deliveries.is_closed() { Next::Stop } else { reason.next() };
            if begun.elapsed() >= STABLE_AFTER {
                self.failures = 0;
            }
            let wait = match next {
                Next::Stop => break self.enter(State::Closed, Some(reason)).await,
                Next::Planned => self.options.backoff.wait(0, self.advice.take(), &mut self.random),
                Next::Retry => {
                    self.failures += 1;
                    self.options.backoff.wait(self.failures - 1, self.advice.take(), &mut self.random)
                }
            };
            self.enter(State::Waiting { wait }, Some(reason)).await;
            if self.pause(wait).await {
                break self.enter(State::Closed, Some(Reason::Client)).await;
            }
        }
        self.commands.close();
        for waiting in self.waiting.drain(..) {
            let _ = waiting.reply.send(Err(PublishError::Closed));
        }
    }

    /// Waits between attempts; `true` when the client was closed meanwhile.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(until) => return false,
                () = self.deliveries.closed() => return true,
                command = self.commands.recv() => match command {
                    Some(Command::Publish { event, reply }) => self.accept(*event, reply),
                    Some(Command::Cursor { channel, cursor }) => self.place(channel, cursor),
                    Some(Command::Ask { question, reply }) => self.ask(&question, reply),
                    Some(Command::Close) => return true,
                    None => return std::future::pending().await,
                }
            }
        }
    }

    async fn attempt(&mut self) -> Reason {
        self.enter(State::Opening, None).await;
        let greet_by = Instant::now() + self.options.timeouts.connect;
        let Options { endpoint, trust, token, .. } = &self.options;
        let opening = Link::open(endpoint, trust, token.as_deref(), &mut self.random);
        let mut link = match timeout_at(greet_by, opening).await {
            Ok(Ok(link)) => link,
            Ok(Err((reason, advice))) => {
                self.advice = advice;
                return reason;
            }
            Err(_) => return Reason::Timeout,
        };
        self.enter(State::Greeting, None).await;
        self.tracker.reconnecting();
        self.rosters.reconnecting();
        self.questions.reconnecting();
        self.subscribed.clear();
        let wanted: Vec<(&str, Start)> = self.tracker.wanted().collect();
        let id = next_id(&mut self.requests);
        let hello = message::write_connect(&id, self.session.as_deref(), &wanted, &self.options.narrow);
        match link.text(&hello, &mut self.random).await {
            Ok(()) => self.converse(&mut link, greet_by).await,
            Err(_) => broken(),
        }
    }

    /// Reads and writes until the connection ends.
    async fn converse(&mut self, link: &mut Link, greet_by: Instant) -> Reason {
        let mut heard = Instant::now();
        let mut commands_open = true;
        loop {
            loop {
                match link.next() {
                    Ok(Some(Read::Close { code, reason })) => {
                        let echo = if code == 1005 { Vec::new() } else { wire::close_payload(code, "") };
                        let _ = link.send(Opcode::Close, &echo, &mut self.random).await;
                        return if self.closing.is_some() {
                            Reason::Client
                        } else {
                            Reason::Closed { code, reason }
                        };
                    }
                    Ok(Some(read)) => {
                        if self.handle(link, read).await.is_err() {
                            return broken();
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        let goodbye = wire::close_payload(1002, "");
                        let _ = link.send(Opcode::Close, &goodbye, &mut self.random).await;
                        return Reason::Protocol(error.to_string());
                    }
                }
            }
            if self.closing.is_some_and(|until| self.waiting.is_empty() || Instant::now() >= until) {
                return self.say_goodbye(link).await;
            }
            let live = !matches!(*self.state.borrow(), State::Greeting);
            let alarm = self.alarm(heard, greet_by);
            tokio::select! {
                filled = link.fill() => match filled {
                    Ok(true) => {
                        heard = Instant::now();
                        if *self.state.borrow() == State::Probing {
                            self.enter(State::Live, None).await;
                        }
                    }
                    Ok(false) | Err(_) => return broken(),
                },
                command = self.commands.recv(), if commands_open => match command {
                    Some(Command::Publish { event, reply }) => self.accept(*event, reply),
                    Some(Command::Cursor { channel, cursor }) => self.place(channel, cursor),
                    Some(Command::Ask { question, reply }) => self.ask(&question, reply),
                    Some(Command::Close) => self.closing = Some(Instant::now() + self.options.timeouts.flush),
                    None => commands_open = false,
                },
                () = self.deliveries.closed() => return self.say_goodbye(link).await,
                () = sleep_until(alarm) => {
                    if let Some(reason) = self.alarmed(link, heard, greet_by).await {
                        return reason;
                    }
                }
            }
            if live && self.send_waiting(link).await.is_err() {
                return broken();
            }
        }
    }

    /// When something is next due without anything happening.
    fn alarm(&self, heard: Instant, greet_by: Instant) -> Instant {
        let timeouts = &self.options.timeouts;
        let silent = heard + self.ping_interval + timeouts.ping_grace;
        let state = match *self.state.borrow() {
            State::Greeting => greet_by,
            State::Probing => silent + timeouts.probe,
            _ => silent,
        };
        let acks = self.waiting.iter().filter_map(|waiting| waiting.due).min();
        [acks, self.closing].into_iter().flatten().fold(state, Instant::min)
    }

    async fn alarmed(&mut self, link: &mut Link, heard: Instant, greet_by: Instant) -> Option<Reason> {
        let now = Instant::now();
        let timeouts = self.options.timeouts;
        let silent = heard + self.ping_interval + timeouts.ping_grace;
        let state = *self.state.borrow();
        match state {
            State::Greeting if now >= greet_by => return Some(Reason::Timeout),
            State::Probing if now >= silent + timeouts.probe => return Some(Reason::Silent),
            State::Live if now >= silent => {
                self.enter(State::Probing, None).await;
                if link.send(Opcode::Ping, b"probe", &mut self.random).await.is_err() {
                    return Some(broken());
                }
            }
            _ => {}
        }
        for index in (0..self.waiting.len()).rev() {
            let waiting = &mut self.waiting[index];
            if waiting.due.is_some_and(|due| now >= due) {
                waiting.due = None;
                if waiting.attempts >= ATTEMPTS_MAX {
                    let attempts = waiting.attempts;
                    self.settle_at(index, Err(PublishError::NoAck { attempts }));
                }
            }
        }
        None
    }

    async fn handle(&mut self, link: &mut Link, read: Read) -> std::io::Result<()> {
        match read {
            Read::Text(text) => self.read(link, text).await,
            Read::Binary(msgpack) => {
                let mut json = Vec::new();
                match msgpack_to_json(&msgpack, &mut json).map(|()| String::from_utf8(json)) {
                    Ok(Ok(text)) => self.read(link, text).await,
                    _ => Ok(()),
                }
            }
            Read::Ping(payload) => link.send(Opcode::Pong, &payload, &mut self.random).await,
            Read::Pong | Read::Close { .. } => Ok(()),
        }
    }

    async fn read(&mut self, link: &mut Link, text: String) -> std::io::Result<()> {
        match message::read(&text) {
            Some(incoming) => self.incoming(link, incoming, text).await,
            None => Ok(()),
        }
    }

    async fn incoming(&mut self, link: &mut Link, incoming: Incoming, text: String) -> std::io::Result<()> {
        match incoming {
            Incoming::Welcome { client_id } => self.session = client_id.or(self.session.take()),
            Incoming::Connected { session, heartbeat_ms } => {
                self.session = session.or(self.session.take());
                self.ping_interval = heartbeat_ms.map_or(self.ping_interval, Duration::from_millis);
                self.enter(State::Live, None).await;
                for waiting in &mut self.waiting {
                    waiting.due = None;
                }
                self.send_waiting(link).await?;
            }
            Incoming::Subscribed { channels, mut positions } => {
                for channel in channels {
                    // A session that could not be resumed has lost its cursors.
                    if let Some((_, told)) = self.cursors.get_mut(&channel) {
                        *told = false;
                    }
                    self.subscribed.insert(channel.clone());
                    let position = positions.remove(&channel);
                    if self.tracker.subscribed(&channel, position.as_ref()) == Subscribed::Ask {
                        self.ask_again(link, &channel).await?;
                    }
                    self.deliver(Delivery::Subscribed { channel, position }).await;
                }
                self.send_cursors(link).await?;
            }
            Incoming::Event { mut event, previous } => {
                event.frame = text;
                self.event(link, event, previous).await?;
            }
            Incoming::Ack { id, acks } => {
                let ack = acks.into_iter().next().unwrap_or_default();
                self.settle(id.as_deref(), Ok(ack));
            }
            Incoming::Error { id, error } => {
                if let Some(error) = self.refused(id.as_deref(), error) {
                    self.deliver(Delivery::Refused(error)).await;
                }
            }
            Incoming::Ping { timestamp } => {
                link.text(&message::write_pong(timestamp.as_deref()), &mut self.random).await?;
            }
            Incoming::Gap { channel, from, to, reason } => {
                self.tracker.advance(&channel, to);
                self.deliver(Delivery::Gap { channel, from, to, reason }).await;
            }
            Incoming::Reset { channel, position } => {
                self.tracker.reset(&channel, position.clone());
                self.deliver(Delivery::Reset { channel, position }).await;
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
            Incoming::Reconnect { retry_ms } => self.advice = Some(Duration::from_millis(retry_ms)),
            Incoming::Presence(told) => match self.rosters.hear(told, text) {
                Heard::Update(update) => self.deliver(Delivery::Presence(update)).await,
                Heard::Ask(channel) => {
                    link.text(&message::write_presence(&channel, None), &mut self.random).await?;
                }
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
        Ok(())
    }

    async fn event(
        &mut self,
        link: &mut Link,
        mut event: crate::message::Event,
        previous: Option<Sequence>,
    ) -> std::io::Result<()> {
        let Some(sequence) = event.sequence else {
            self.deliver(Delivery::Event(event)).await;
            return Ok(());
        };
        match self.tracker.event(&event.channel, sequence, previous) {
            Step::Deliver { replayed } => event.replayed = replayed,
            Step::Drop => return Ok(()),
            Step::Repair => return self.ask_again(link, &event.channel).await,
            Step::Hole { from, to } => {
                let (channel, reason) = (event.channel.clone(), "missed".to_owned());
                self.deliver(Delivery::Gap { channel, from, to, reason }).await;
            }
        }
        self.deliver(Delivery::Event(event)).await;
        Ok(())
    }

    /// Subscribes again from the cursor.
    async fn ask_again(&mut self, link: &mut Link, channel: &str) -> std::io::Result<()> {
        let leave = message::write_unsubscribe(&next_id(&mut self.requests), &[channel]);
        link.text(&leave, &mut self.random).await?;
        let wanted = [(channel, self.tracker.next_start(channel))];
        let ask = message::write_subscribe(&next_id(&mut self.requests), &wanted, &self.options.narrow);
        link.text(&ask, &mut self.random).await
    }

    fn ask(&mut self, question: &Question, reply: oneshot::Sender<Result<Past, HistoryError>>) {
        if self.closing.is_some() {
            let _ = reply.send(Err(HistoryError::Closed));
            return;
        }
        let id = next_id(&mut self.requests);
        let frame = message::write_question(&id, question);
        self.questions.take(id, frame, reply);
    }

    /// Gives an error to the publish or question it belongs to; gives it back when nobody waits for it.
    fn refused(&mut self, id: Option<&str>, error: message::ServerError) -> Option<message::ServerError> {
        let Some(id) = id else { return Some(error) };
        match self.waiting.iter().position(|waiting| waiting.id == id) {
            Some(index) => {
                self.settle_at(index, Err(PublishError::Rejected(error)));
                None
            }
            None if self.questions.has(id) => {
                self.questions.settle(id, Err(HistoryError::Refused(error)));
                None
            }
            None => Some(error),
        }
    }

    fn accept(&mut self, mut event: NewEvent, reply: oneshot::Sender<Result<Ack, PublishError>>) {
        if self.closing.is_some() || self.waiting.len() >= PUBLISHES_WAITING_MAX {
            let error = if self.closing.is_some() { PublishError::Closed } else { PublishError::QueueFull };
            let _ = reply.send(Err(error));
            return;
        }
        // Without an id a second attempt could store the event twice.
        event.id.get_or_insert_with(|| self.random.message_id());
        let id = next_id(&mut self.requests);
        let frame = message::write_publish(&id, &event);
        self.waiting.push_back(Waiting { id, frame, attempts: 0, due: None, reply });
    }

    /// Keeps a cursor until it can be sent; the newest of a channel is enough.
    fn place(&mut self, channel: String, cursor: Box<RawValue>) {
        if self.options.channels.iter().any(|(wanted, _)| *wanted == channel) {
            self.cursors.insert(channel, (cursor, false));
        }
    }

    async fn send_waiting(&mut self, link: &mut Link) -> std::io::Result<()> {
        let due = Instant::now() + self.options.timeouts.ack;
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.due.is_none()) {
            waiting.attempts += 1;
            waiting.due = Some(due);
            link.text(&waiting.frame, &mut self.random).await?;
        }
        while let Some(frame) = self.questions.next_unsent() {
            link.text(&frame, &mut self.random).await?;
        }
        self.send_cursors(link).await
    }

    async fn send_cursors(&mut self, link: &mut Link) -> std::io::Result<()> {
        let subscribed = &self.subscribed;
        let waits =
            |(channel, (_, told)): &(&String, &mut (_, bool))| !*told && subscribed.contains(*channel);
        let placed = self.cursors.iter_mut().filter(waits);
        for (channel, (cursor, told)) in placed {
            *told = true;
            link.text(&message::write_presence(channel, Some(cursor)), &mut self.random).await?;
        }
        Ok(())
    }

    fn settle(&mut self, id: Option<&str>, outcome: Result<Ack, PublishError>) {
        let index = id.and_then(|id| self.waiting.iter().position(|waiting| waiting.id == id));
        if let Some(index) = index {
            self.settle_at(index, outcome);
        }
    }

    fn settle_at(&mut self, index: usize, outcome: Result<Ack, PublishError>) {
        if let Some(waiting) = self.waiting.remove(index) {
            // A publisher that stopped waiting does not want to know.
            let _ = waiting.reply.send(outcome);
        }
    }

    async fn say_goodbye(&mut self, link: &mut Link) -> Reason {
        let _ = link.send(Opcode::Close, &wire::close_payload(1000, ""), &mut self.random).await;
        let echo = async {
            loop {
                match link.next() {
                    Ok(Some(Read::Close { .. })) | Err(_) => return,
                    Ok(Some(_)) => {}
                    Ok(None) => match link.fill().await {
                        Ok(true) => {}
                        Ok(false) | Err(_) => return,
                    },
                }
            }
        };
        let _ = timeout(CLOSE_WAIT, echo).await;
        Reason::Client
    }

    async fn enter(&mut self, to: State, reason: Option<Reason>) {
        let from = self.state.send_replace(to);
        if from != to {
            self.deliver(Delivery::State { from, to, reason }).await;
        }
    }

    async fn deliver(&self, delivery: Delivery) {
        // An application that dropped its deliveries ends the client at the next turn.
        let _ = self.deliveries.send(delivery).await;
    }
}

fn next_id(requests: &mut u64) -> String {
    *requests += 1;
    requests.to_string()
}

fn broken() -> Reason {
    Reason::Closed { code: 1006, reason: String::new() }
}
