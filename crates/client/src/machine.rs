//! What a connection does: inputs and time go in, effects come out.
//!
//! It reads no clock, sets no timer and opens nothing, so every schedule can be run again. `docs/clients.md` has the
//! table of states; the TypeScript SDK has the same machine (`sdk/typescript/client/src/machine.ts`), and both run the
//! traces of `sdk/conformance/machine.json`. Times are durations since a beginning that the caller chooses.

mod signals;

use std::time::Duration;

use pulsewire_protocol::client as defaults;

pub use self::signals::{Effect, Input};
use crate::backoff::Backoff;
use crate::state::{Ending, State, Status, TokenReason};

/// "Never", as a time.
const NEVER: Duration = Duration::MAX;

/// Further failures change nothing.
const FAILURES_COUNTED: i32 = 99;
const FALLBACK_FAILURES: i32 = defaults::FALLBACK_FAILURES as i32;

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What of a [`Machine`] can be set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachineOptions {
    /// The waits between attempts.
    pub backoff: Backoff,
    /// Opening and being welcomed, together. Default 5 s.
    pub connect: Duration,
    /// A probe unanswered for so long ends the connection. Default 3 s.
    pub probe: Duration,
    /// Asking for a token. Default 10 s.
    pub token: Duration,
    /// Whether there is a way besides WebSocket. Default no.
    pub fallback: bool,
    /// Whether a refused token can be replaced: it comes from a callback. Default no.
    pub renewable: bool,
}

impl Default for MachineOptions {
    fn default() -> MachineOptions {
        MachineOptions {
            backoff: Backoff::default(),
            connect: ms(defaults::CONNECT_TIMEOUT_MS),
            probe: ms(defaults::PROBE_TIMEOUT_MS),
            token: ms(defaults::TOKEN_TIMEOUT_MS),
            fallback: false,
            renewable: false,
        }
    }
}

/// Closes that a server plans: they are no failures.
const PLANNED: [u16; 4] = [1001, 1012, 1013, 4001];

/// What follows a close.
enum After {
    Back,
    AnotherToken,
    End(Ending),
}

/// By range, so that a new code needs no new client.
fn after(code: u16) -> After {
    match code {
        4002 | 4501 => After::AnotherToken,
        4505 => After::End(Ending::Unauthorized),
        4502 => After::End(Ending::Forbidden),
        4503 | 4509 | 1002 | 1003 | 1007..=1009 => After::End(Ending::Protocol),
        1000 | 4500..=4999 => After::End(Ending::Kicked),
        _ => After::Back,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poll {
    Off,
    Trying,
    On,
}

/// Decides what a connection does.
#[derive(Debug, Clone)]
pub struct Machine {
    options: MachineOptions,
    /// The way of the WebSocket, never `Polling`: that lies over it.
    state: State,
    poll: Poll,
    poll_failures: u64,
    /// WebSocket attempts since polling began.
    probes: i32,
    /// When HTTP is to be tried: without service for too long.
    poll_from: Duration,
    poll_tried: bool,
    due: Duration,
    ever_live: bool,
    online: bool,
    failures: i32,
    rejections: u64,
    live_since: Duration,
    advice: Option<Duration>,
    /// Until when the server advised to wait: only the user may cut it short.
    not_before: Duration,
    heartbeat: Duration,
    retry_max: Duration,
    ending: Option<Ending>,
    reason: TokenReason,
}

impl Machine {
    /// A machine that was asked for nothing yet.
    pub fn new(options: MachineOptions) -> Machine {
        Machine {
            options,
            state: State::Idle,
            poll: Poll::Off,
            poll_failures: 0,
            probes: 0,
            poll_from: NEVER,
            poll_tried: false,
            due: NEVER,
            ever_live: false,
            online: true,
            failures: 0,
            rejections: 0,
            live_since: Duration::ZERO,
            advice: None,
            not_before: Duration::ZERO,
            heartbeat: ms(defaults::HEARTBEAT_MS),
            retry_max: options.backoff.max,
            ending: None,
            reason: TokenReason::Initial,
        }
    }

    /// Where the client is.
    pub fn state(&self) -> State {
        if self.poll == Poll::On && self.state != State::Closed { State::Polling } else { self.state }
    }

    /// The same in words for people.
    pub fn status(&self) -> Status {
        match self.state() {
            State::Idle => Status::Idle,
            State::Live | State::Probing => Status::Connected,
            State::Polling => Status::Polling,
            State::Closed => Status::Disconnected,
            State::Offline => Status::Reconnecting,
            _ if self.ever_live => Status::Reconnecting,
            _ => Status::Connecting,
        }
    }

    /// Why it is [`State::Closed`].
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Why a token is asked for.
    pub fn token_reason(&self) -> TokenReason {
        self.reason
    }

    /// When the next attempt comes; none while none is waited for.
    pub fn next_retry_at(&self) -> Option<Duration> {
        matches!(self.state, State::Waiting | State::Offline).then_some(self.due)
    }

    /// When [`Input::Tick`] is wanted next; none if never.
    pub fn deadline(&self) -> Option<Duration> {
        Some(self.due.min(self.poll_due())).filter(|at| *at < NEVER)
    }

    /// Whether a socket is open, or being opened.
    fn has_socket(&self) -> bool {
        self.is_open() || matches!(self.state, State::Opening | State::Greeting)
    }

    /// Whether messages flow, whatever lies over it.
    fn is_open(&self) -> bool {
        matches!(self.state, State::Live | State::Probing)
    }

    /// When HTTP is to be tried if nothing happens before.
    fn poll_due(&self) -> Duration {
        if self.poll == Poll::Off && !self.poll_tried { self.poll_from } else { NEVER }
    }

    /// Takes an input. `random` gives numbers from 0 up to 1.
    pub fn step(&mut self, input: Input, now: Duration, random: &mut dyn FnMut() -> f64) -> Vec<Effect> {
        let mut out = Vec::new();
        match input {
            Input::Connect => {
                if matches!(self.state, State::Idle | State::Closed) {
                    self.begin(now, &mut out);
                }
            }
            Input::Reconnect => match self.state {
                State::Idle | State::Closed => self.begin(now, &mut out),
                State::Waiting | State::Offline => self.authorize(now, TokenReason::Initial, &mut out),
                State::Live => self.suspect(now, &mut out),
                _ => {}
            },
            Input::TokenSet => self.token_set(now, &mut out),
            Input::Disconnect => {
                if self.state != State::Closed {
                    self.close(Ending::Client, &mut out);
                }
            }
            Input::Token => {
                if self.state == State::Authorizing {
                    self.enter(State::Opening, now + self.options.connect);
                    out.push(Effect::Open);
                }
            }
            Input::TokenFailed => {
                if self.state == State::Authorizing {
                    self.lose(0, now, random, &mut out);
                }
            }
            Input::TokenRefused => {
                // Also while the connection lives: a token that was to be renewed.
                if self.state == State::Authorizing || self.is_open() {
                    self.close(Ending::Unauthorized, &mut out);
                }
            }
            Input::Opened => {
                if self.state == State::Opening {
                    self.state = State::Greeting;
                    out.push(Effect::Greet);
                }
            }
            Input::Welcome { heartbeat, retry_max } => {
                if self.state == State::Greeting {
                    self.heartbeat = heartbeat.unwrap_or(ms(defaults::HEARTBEAT_MS));
                    self.retry_max = retry_max.unwrap_or(self.options.backoff.max);
                    self.ever_live = true;
                    self.live_since = now;
                    self.live(now);
                    self.stop_poll(&mut out);
                    self.poll_from = NEVER;
                    out.push(Effect::Ready);
                }
            }
            Input::Heard => {
                if self.is_open() {
                    self.live(now);
                }
            }
            Input::Advice { retry } => {
                if self.has_socket() {
                    self.advice = Some(retry);
                }
            }
            Input::Closed { code } => {
                if self.has_socket() {
                    self.lose(code, now, random, &mut out);
                }
            }
            Input::Suspect => {
                if self.state == State::Live {
                    self.suspect(now, &mut out);
                }
            }
            Input::Offline => {
                self.online = false;
                match self.state {
                    State::Live => self.suspect(now, &mut out),
                    State::Waiting => self.rest(now, Duration::ZERO),
                    _ => {}
                }
            }
            Input::Online => {
                self.online = true;
                self.wake(now, &mut out);
            }
            Input::Visible => self.wake(now, &mut out),
            Input::PollOk => {
                self.poll_failures = 0;
                if self.poll == Poll::Trying {
                    self.poll = Poll::On;
                    self.probes = 0;
                }
            }
            Input::PollFailed => self.poll_failed(now, random, &mut out),
            Input::Tick => {
                if self.due <= now {
                    self.expire(now, random, &mut out);
                }
                if self.poll_due() <= now {
                    self.try_poll(&mut out);
                }
            }
        }
        out
    }

    fn enter(&mut self, state: State, due: Duration) {
        self.state = state;
        self.due = due;
    }

    /// A first attempt, after nothing or an end.
    fn begin(&mut self, now: Duration, out: &mut Vec<Effect>) {
        self.ending = None;
        self.failures = 0;
        self.rejections = 0;
        self.watch(now);
        self.authorize(now, TokenReason::Initial, out);
    }

    /// Service is missing from now on.
    fn watch(&mut self, now: Duration) {
        let after = if self.ever_live { defaults::FALLBACK_AFTER_MS } else { defaults::FALLBACK_FIRST_MS };
        self.poll_from = now + ms(after);
        self.poll_tried = !self.options.fallback;
    }

    fn authorize(&mut self, now: Duration, reason: TokenReason, out: &mut Vec<Effect>) {
        // Time without a network was nobody's fault.
        if self.state == State::Offline {
            self.watch(now);
        }
        self.reason = reason;
        self.advice = None;
        self.enter(State::Authorizing, now + self.options.token);
        out.push(Effect::Authorize);
    }

    fn token_set(&mut self, now: Duration, out: &mut Vec<Effect>) {
        self.rejections = 0;
        match self.state {
            State::Closed => self.begin(now, out),
            State::Waiting if now >= self.not_before => self.authorize(now, TokenReason::Initial, out),
            State::Authorizing | State::Opening | State::Greeting => {
                // The attempt was made with a token that nobody wants any more.
                out.push(Effect::Drop);
                self.authorize(now, TokenReason::Initial, out);
            }
            _ => {}
        }
    }

    fn live(&mut self, now: Duration) {
        self.enter(State::Live, now + self.heartbeat + ms(defaults::HEARTBEAT_GRACE_MS));
    }

    fn suspect(&mut self, now: Duration, out: &mut Vec<Effect>) {
        self.enter(State::Probing, now + self.options.probe);
        out.push(Effect::Probe);
    }

    /// Something says that it may work now.
    fn wake(&mut self, now: Duration, out: &mut Vec<Effect>) {
        match self.state {
            State::Live => self.suspect(now, out),
            State::Waiting if now >= self.not_before => self.authorize(now, TokenReason::Initial, out),
            State::Offline if self.online && now >= self.not_before => {
                self.authorize(now, TokenReason::Initial, out);
            }
            State::Offline if self.online => {
                self.watch(self.not_before);
                self.enter(State::Waiting, self.not_before);
            }
            _ => {}
        }
    }

    fn close(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        if !matches!(self.state, State::Idle | State::Closed) {
            out.push(Effect::Drop);
        }
        self.stop_poll(out);
        self.poll_from = NEVER;
        self.ending = Some(ending);
        self.enter(State::Closed, NEVER);
    }

    fn stop_poll(&mut self, out: &mut Vec<Effect>) {
        if self.poll != Poll::Off {
            out.push(Effect::StopPoll);
        }
        self.poll = Poll::Off;
        self.poll_failures = 0;
    }

    fn try_poll(&mut self, out: &mut Vec<Effect>) {
        self.poll = Poll::Trying;
        self.poll_tried = true;
        out.push(Effect::Poll);
    }

    fn poll_failed(&mut self, now: Duration, random: &mut dyn FnMut() -> f64, out: &mut Vec<Effect>) {
        if self.poll == Poll::On {
            self.poll_failures += 1;
        }
        if self.poll == Poll::Off
            || (self.poll == Poll::On && self.poll_failures < defaults::POLL_FAILURES_MAX)
        {
            return;
        }
        // What was waited for at the pace of polling is waited for no longer than without.
        if self.poll == Poll::On && self.state == State::Waiting && now >= self.not_before {
            self.due = self.due.min(now + self.backoff(random));
        }
        self.stop_poll(out);
        self.poll_tried = true;
    }

    /// The deadline of a state has passed.
    fn expire(&mut self, now: Duration, random: &mut dyn FnMut() -> f64, out: &mut Vec<Effect>) {
        let late = now - self.due > ms(defaults::LATE_TIMER_MS);
        // Time asleep was nobody's fault.
        if late && self.poll_from < NEVER {
            self.watch(now);
        }
        match self.state {
            State::Live => self.suspect(now, out),
            // A timer that comes far too late says that this machine slept, not that the server is gone.
            State::Probing if late => self.suspect(now, out),
            State::Probing => {
                out.push(Effect::Drop);
                self.lose(1006, now, random, out);
            }
            State::Waiting | State::Offline => self.authorize(now, TokenReason::Initial, out),
            _ => {
                out.push(Effect::Drop);
                self.lose(0, now, random, out);
            }
        }
    }

    /// An attempt failed, or a connection ended.
    fn lose(&mut self, code: u16, now: Duration, random: &mut dyn FnMut() -> f64, out: &mut Vec<Effect>) {
        let was_live = self.is_open();
        let stable = was_live && now - self.live_since >= ms(defaults::STABLE_AFTER_MS);
        if stable {
            self.failures = 0;
            self.rejections = 0;
        }
        if was_live {
            self.watch(now);
        }
        match after(code) {
            After::End(ending) => return self.close(ending, out),
            After::AnotherToken => {
                self.rejections += u64::from(self.options.renewable);
                if !self.options.renewable || self.rejections >= defaults::REJECTIONS_MAX {
                    return self.close(Ending::Unauthorized, out);
                }
                return self.authorize(now, TokenReason::Rejected, out);
            }
            After::Back => {}
        }
        let advice = self.advice;
        // A server that refuses an attempt may say when to come back: a failure all the same.
        let planned = PLANNED.contains(&code) || (was_live && advice.is_some());
        if !planned && !stable && self.online {
            self.failures = (self.failures + 1).min(FAILURES_COUNTED);
        }
        let wait = match advice {
            Some(advice) => advice.max(self.options.backoff.min),
            None if self.poll == Poll::On => self.probe_wait(random),
            None => self.backoff(random),
        };
        self.not_before = advice.map_or(Duration::ZERO, |_| now.saturating_add(wait));
        if planned && was_live {
            self.poll_from = self.poll_from.saturating_add(wait);
        }
        self.rest(now, wait);
        let failed = self.failures >= FALLBACK_FAILURES || now >= self.poll_from;
        if failed && self.poll == Poll::Off && self.online && self.options.fallback {
            self.try_poll(out);
        }
    }

    fn rest(&mut self, now: Duration, wait: Duration) {
        if self.online {
            return self.enter(State::Waiting, now.saturating_add(wait));
        }
        self.poll_from = NEVER;
        self.enter(State::Offline, (now + ms(defaults::OFFLINE_RETRY_MS)).max(self.not_before));
    }

    fn backoff(&self, random: &mut dyn FnMut() -> f64) -> Duration {
        let Backoff { min, factor, .. } = self.options.backoff;
        let growth = factor.powi((self.failures - 1).max(0));
        let bound = (2.0 * min.as_secs_f64() * growth).min(self.retry_max.as_secs_f64());
        (min + Duration::from_secs_f64(random() * bound)).min(self.retry_max)
    }

    fn probe_wait(&mut self, random: &mut dyn FnMut() -> f64) -> Duration {
        let (min, max) = (ms(defaults::PROBE_WS_MIN_MS), ms(defaults::PROBE_WS_MAX_MS));
        // 2³⁰ times the shortest is far beyond the longest.
        let wait = min.as_secs_f64() * 2_f64.powi(self.probes.min(30)) * (0.75 + random() / 2.0);
        self.probes = self.probes.saturating_add(1);
        Duration::from_secs_f64(wait.min(max.as_secs_f64()))
    }
}
