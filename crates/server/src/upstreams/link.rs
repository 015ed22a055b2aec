//! One connection of a stream: performs what its deciding part says.

use std::collections::BTreeSet;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pulsewire_client::Random;
use pulsewire_client::link::{Link as Socket, Read};
use pulsewire_client::wire::{Opcode, WireError, close_payload};
use pulsewire_sources::upstream::{Around, Effect, Failure, Input, Link, LinkState, Template, Values};
use pulsewire_telemetry::{UpstreamError as Kind, limited};
use tokio::time::{Instant, sleep_until};

use super::dial::{dial, secret};
use super::stream::{Said, Stream, mono_ms};

/// Keys that one message asks for at most; more need more messages.
const KEYS_AT_ONCE: usize = 100;
/// Messages that are taken before others have their turn.
const BURST: usize = 128;
/// The stream is not wanted any more (RFC 6455 §7.4.1).
const CLOSE_NORMAL: u16 = 1000;
/// A message that is longer than is taken (RFC 6455 §7.4.1).
const CLOSE_TOO_BIG: u16 = 1009;
/// A breach of the protocol.
const CLOSE_PROTOCOL: u16 = 1002;

type Opening = Pin<Box<dyn Future<Output = Result<Socket, Failure>> + Send>>;

/// One link at work.
pub(super) struct Worker {
    stream: Arc<Stream>,
    index: usize,
    link: Link,
    random: Random,
    opening: Option<Opening>,
    socket: Option<Socket>,
    /// The keys that were asked for on this connection.
    asked: BTreeSet<Box<str>>,
    /// Messages sent, for `{n}`.
    sent: u64,
    restarts: u64,
}

/// Runs a link until its stream is closed.
pub(super) async fn run(stream: Arc<Stream>, index: usize) {
    let mut wish = stream.wish.subscribe();
    let restarts = wish.borrow_and_update().restarts;
    let mut worker = Worker {
        stream,
        index,
        link: Link::default(),
        random: Random::default(),
        opening: None,
        socket: None,
        asked: BTreeSet::new(),
        sent: 0,
        restarts,
    };
    worker.on(Input::Start);
    loop {
        worker.take().await;
        let now_ms = mono_ms();
        let paused_ms = worker.stream.paused_until_ms(now_ms);
        let next = [worker.link.next_ms(&worker.stream.upstream), worker.stream.next_ms(), paused_ms];
        let next_ms = next.into_iter().flatten().min();
        tokio::select! {
            changed = wish.changed() => {
                let wish = *wish.borrow_and_update();
                if changed.is_err() || wish.closed {
                    break;
                }
                worker.wished(wish.restarts);
            }
            () = at(next_ms, now_ms) => {
                worker.stream.look(mono_ms());
                worker.on(Input::Tick);
            }
            opened = opened(&mut worker.opening) => worker.opened(opened),
            read = turn(&mut worker.socket), if paused_ms.is_none() => match read {
                Ok(true) => worker.link.heard(false, mono_ms()),
                Ok(false) => worker.lost(Failure::new(Kind::Closed, "the connection ended without a close frame")),
                Err(error) => worker.lost(Failure::new(Kind::Closed, error.to_string())),
            },
        }
    }
    worker.let_go(CLOSE_NORMAL);
    worker.stream.link_is(index, None);
}

async fn at(next_ms: Option<i64>, now_ms: i64) {
    match next_ms {
        Some(next_ms) => {
            let wait_ms = u64::try_from(next_ms.saturating_sub(now_ms)).unwrap_or(0);
            sleep_until(Instant::now() + Duration::from_millis(wait_ms)).await;
        }
        None => pending().await,
    }
}

async fn opened(opening: &mut Option<Opening>) -> Result<Socket, Failure> {
    match opening {
        Some(opening) => opening.await,
        None => pending().await,
    }
}

async fn turn(socket: &mut Option<Socket>) -> std::io::Result<bool> {
    match socket {
        Some(socket) => socket.turn().await,
        None => pending().await,
    }
}

impl Worker {
    fn on(&mut self, input: Input) {
        let stream = self.stream.clone();
        let before = self.link.state();
        let effects = {
            let mut breaker = stream.circuit.lock();
            let opened = breaker.opened();
            let mut around = Around {
                upstream: &stream.upstream,
                breaker: &mut breaker,
                budget: &mut stream.shared.budget.lock(),
                chance: self.random.next_u64(),
                now_ms: mono_ms(),
            };
            let effects = self.link.on(input, &mut around);
            if breaker.opened() > opened {
                stream.circuit_opened();
            }
            effects
        };
        for effect in effects {
            self.perform(effect);
        }
        if self.link.state() != before {
            self.show();
        }
    }

    /// Lets the stream know where this link is.
    fn show(&self) {
        self.stream
            .link_is(self.index, Some((self.link.state(), self.link.attempts(), self.link.failures())));
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { again } => {
                self.stream.attempt(again);
                let (stream, index, nonce) = (self.stream.clone(), self.index, self.random.nonce());
                let shared = &self.stream.shared;
                let (most, private) = (&shared.message_bytes_max, &shared.allow_private);
                let bounds = (most.load(Ordering::Relaxed), private.load(Ordering::Relaxed));
                self.opening = Some(Box::pin(async move {
                    let secret: Arc<str> = match &stream.upstream.secret_file {
                        Some(path) => secret(path).await?.into(),
                        None => "".into(),
                    };
                    *stream.secret.lock() = secret.clone();
                    dial(&stream.upstream, index, (&stream.key, &secret), bounds, nonce).await
                }));
            }
            Effect::Ask => match &self.stream.upstream.heartbeat.message {
                Some(message) => self.send(&message.clone(), "", &[]),
                None => {
                    if let Some(socket) = &mut self.socket {
                        socket.send(Opcode::Ping, b"", &mut self.random);
                    }
                }
            },
            Effect::Disconnect => self.let_go(CLOSE_NORMAL),
            Effect::Stale => self.stream.tell(&Said::Stale),
            Effect::Failed(failure, retry_ms) => {
                let upstream = &*self.stream.upstream.name;
                let (kind, detail) = (failure.kind.as_str(), &*failure.detail);
                match retry_ms {
                    Some(retry_ms) => limited!(
                        warn,
                        component = "WSManager",
                        event = "retry",
                        upstream,
                        kind,
                        detail,
                        retry_ms,
                        "WSManager: a stream failed; the next retry is in {retry_ms} ms"
                    ),
                    None => limited!(
                        error,
                        component = "WSManager",
                        event = "failed",
                        upstream,
                        kind,
                        detail,
                        "WSManager: a stream failed too often, no retry follows: `pulsewire upstreams restart {upstream}`"
                    ),
                }
                self.stream.failed(self.index, failure, retry_ms);
            }
        }
    }

    fn wished(&mut self, restarts: u64) {
        if restarts != self.restarts {
            self.restarts = restarts;
            self.on(Input::Restart);
        }
        self.ask_for_keys();
    }

    fn opened(&mut self, opened: Result<Socket, Failure>) {
        self.opening = None;
        match opened {
            Ok(socket) => {
                self.socket = Some(socket);
                self.asked.clear();
                self.stream.link_opened(self.index);
                for message in &self.stream.upstream.greeting.clone() {
                    self.send(message, "", &[]);
                }
                self.ask_for_keys();
                self.on(Input::Connected);
            }
            Err(failure) => self.on(Input::Failed(failure)),
        }
    }

    /// Sends what asks for keys that are wanted and were not asked for, and what asks no more for others.
    fn ask_for_keys(&mut self) {
        if self.socket.is_none() {
            return;
        }
        let wanted: BTreeSet<Box<str>> = self.stream.keys.lock().clone();
        let more: Vec<Box<str>> = wanted.difference(&self.asked).cloned().collect();
        let less: Vec<Box<str>> = self.asked.difference(&wanted).cloned().collect();
        let upstream = self.stream.upstream.clone();
        for (template, keys) in [(&upstream.unsubscribe, less), (&upstream.subscribe, more)] {
            let Some(template) = template else { continue };
            if template.names_key() {
                for key in &keys {
                    self.send(template, key, &[key]);
                }
                continue;
            }
            for keys in keys.chunks(KEYS_AT_ONCE) {
                let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
                self.send(template, "", &keys);
            }
        }
        self.asked = wanted;
    }

    fn send(&mut self, template: &Template, key: &str, keys: &[&str]) {
        let Some(socket) = &mut self.socket else { return };
        self.sent += 1;
        let key = if key.is_empty() { &*self.stream.key } else { key };
        let secret = self.stream.secret.lock().clone();
        let values = Values {
            key,
            keys,
            n: self.sent,
            time_ms: pulsewire_edge::clock::now().wall_ms,
            secret: &secret,
        };
        socket.text(&template.message(&values), &mut self.random);
    }

    /// Takes what has been read, until it is all taken or others should have their turn.
    async fn take(&mut self) {
        let mut taken = 0;
        while let Some(socket) = &mut self.socket {
            if self.stream.paused_until_ms(mono_ms()).is_some() {
                return;
            }
            match socket.next_message() {
                Ok(None) => return,
                Ok(Some(Read::Text(text))) => self.message(text.as_bytes()),
                Ok(Some(Read::Binary(bytes))) => self.message(&bytes),
                Ok(Some(Read::Ping(payload))) => {
                    socket.send(Opcode::Pong, &payload, &mut self.random);
                }
                Ok(Some(Read::Pong)) => {}
                Ok(Some(Read::Close { code, reason })) => {
                    let reason: String = reason.chars().take(100).collect();
                    self.lost(Failure::new(Kind::Closed, format!("closed with {code} {reason}")));
                }
                Err(error) => {
                    let too_long = matches!(error, WireError::TooLong { .. });
                    self.let_go(if too_long { CLOSE_TOO_BIG } else { CLOSE_PROTOCOL });
                    self.on(Input::Failed(Failure::new(Kind::Protocol, error.to_string())));
                }
            }
            taken += 1;
            if taken % BURST == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn message(&mut self, bytes: &[u8]) {
        let now_ms = mono_ms();
        self.link.heard(true, now_ms);
        self.stream.message(self.index, bytes, now_ms);
    }

    fn lost(&mut self, failure: Failure) {
        self.let_go(CLOSE_NORMAL);
        self.on(Input::Failed(failure));
    }

    fn let_go(&mut self, code: u16) {
        self.opening = None;
        if let Some(socket) = self.socket.take() {
            socket.leave(&close_payload(code, ""), &mut self.random);
        }
    }
}

/// The word for where a link is.
pub(super) const fn word(state: LinkState) -> &'static str {
    match state {
        LinkState::New | LinkState::Connecting { .. } => "connecting",
        LinkState::Live { .. } => "live",
        LinkState::Waiting { circuit: false, .. } => "waiting",
        LinkState::Waiting { circuit: true, .. } => "circuit",
        LinkState::Failed => "failed",
    }
}
