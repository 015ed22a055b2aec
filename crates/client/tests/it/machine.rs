//! The machine: the traces that every client runs, and what holds whatever comes.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use pulsewire_client::machine::{Effect, Input, Machine, MachineOptions};
use pulsewire_client::{Backoff, Ending, Random, State};
use pulsewire_protocol::client as defaults;
use serde::Deserialize;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[derive(Deserialize)]
struct Trace {
    name: String,
    #[serde(default)]
    options: WrittenOptions,
    random: f64,
    steps: Vec<Written>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct WrittenOptions {
    fallback: bool,
    renewable: bool,
    backoff: Option<WrittenBackoff>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBackoff {
    min_ms: u64,
    max_ms: u64,
    factor: f64,
}

impl WrittenOptions {
    fn read(self) -> MachineOptions {
        let WrittenOptions { fallback, renewable, backoff } = self;
        let options = MachineOptions { fallback, renewable, ..MachineOptions::default() };
        let waits =
            |WrittenBackoff { min_ms, max_ms, factor }| Backoff { min: ms(min_ms), max: ms(max_ms), factor };
        MachineOptions { backoff: backoff.map_or(options.backoff, waits), ..options }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    at: u64,
    r#in: WrittenInput,
    state: String,
    status: String,
    r#do: Vec<String>,
    deadline: Option<u64>,
    ending: Option<String>,
    next_retry_at: Option<u64>,
    token_reason: Option<String>,
}

/// What the machine said, as the traces write it.
#[derive(Debug, PartialEq)]
struct Told<'a> {
    state: &'a str,
    status: &'a str,
    effects: Vec<&'a str>,
    deadline: Option<u64>,
    ending: Option<&'a str>,
    next_retry_at: Option<u64>,
    token_reason: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum WrittenInput {
    Connect,
    Reconnect,
    Disconnect,
    TokenSet,
    Token,
    TokenFailed,
    TokenRefused,
    Opened,
    Welcome { heartbeat_ms: Option<u64>, retry_max_ms: Option<u64> },
    Heard,
    Advice { retry_ms: u64 },
    Closed { code: u16 },
    Suspect,
    Online,
    Offline,
    Visible,
    PollOk,
    PollFailed,
    Tick,
}

impl WrittenInput {
    fn read(&self) -> Input {
        match *self {
            WrittenInput::Connect => Input::Connect,
            WrittenInput::Reconnect => Input::Reconnect,
            WrittenInput::Disconnect => Input::Disconnect,
            WrittenInput::TokenSet => Input::TokenSet,
            WrittenInput::Token => Input::Token,
            WrittenInput::TokenFailed => Input::TokenFailed,
            WrittenInput::TokenRefused => Input::TokenRefused,
            WrittenInput::Opened => Input::Opened,
            WrittenInput::Welcome { heartbeat_ms, retry_max_ms } => {
                Input::Welcome { heartbeat: heartbeat_ms.map(ms), retry_max: retry_max_ms.map(ms) }
            }
            WrittenInput::Heard => Input::Heard,
            WrittenInput::Advice { retry_ms } => Input::Advice { retry: ms(retry_ms) },
            WrittenInput::Closed { code } => Input::Closed { code },
            WrittenInput::Suspect => Input::Suspect,
            WrittenInput::Online => Input::Online,
            WrittenInput::Offline => Input::Offline,
            WrittenInput::Visible => Input::Visible,
            WrittenInput::PollOk => Input::PollOk,
            WrittenInput::PollFailed => Input::PollFailed,
            WrittenInput::Tick => Input::Tick,
        }
    }
}

fn whole(at: Option<Duration>) -> Option<u64> {
    at.map(|at| (at.as_secs_f64() * 1_000.0).round() as u64)
}

#[test]
fn the_traces_that_every_client_runs_hold() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/conformance/machine.json");
    let traces: Vec<Trace> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert!(traces.len() > 40, "{} traces", traces.len());
    for Trace { name, options, random, steps } in traces {
        let mut machine = Machine::new(options.read());
        for step in steps {
            let effects = machine.step(step.r#in.read(), ms(step.at), &mut || random);
            let told = Told {
                state: machine.state().name(),
                status: machine.status().name(),
                effects: effects.iter().map(|effect| effect.name()).collect(),
                deadline: whole(machine.deadline()),
                ending: machine.ending().map(Ending::name),
                next_retry_at: whole(machine.next_retry_at()),
                token_reason: step.token_reason.is_some().then(|| machine.token_reason().name()),
            };
            let expected = Told {
                state: &step.state,
                status: &step.status,
                effects: step.r#do.iter().map(String::as_str).collect(),
                deadline: step.deadline,
                ending: step.ending.as_deref(),
                next_retry_at: step.next_retry_at,
                token_reason: step.token_reason.as_deref(),
            };
            assert_eq!(told, expected, "{name}: {step:?}");
        }
    }
}

/// The table of `docs/clients.md`; without a network `waiting` goes on to `offline` at once.
fn may_follow(from: State) -> &'static [State] {
    use State::{Authorizing, Closed, Greeting, Idle, Live, Offline, Opening, Polling, Probing, Waiting};
    match from {
        Idle => &[Authorizing, Closed],
        Authorizing => &[Opening, Waiting, Offline, Polling, Closed],
        Opening => &[Greeting, Authorizing, Waiting, Offline, Polling, Closed],
        Greeting => &[Live, Authorizing, Waiting, Offline, Polling, Closed],
        Live => &[Probing, Authorizing, Waiting, Offline, Closed],
        Probing => &[Live, Authorizing, Waiting, Offline, Closed],
        Waiting => &[Authorizing, Offline, Polling, Closed],
        Offline => &[Authorizing, Waiting, Polling, Closed],
        Polling => &[Live, Authorizing, Opening, Greeting, Waiting, Offline, Closed],
        Closed => &[Authorizing],
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Socket {
    None,
    Opening,
    Open,
}

/// What the effects so far have left behind; it refuses those that do not fit.
#[derive(Debug)]
struct Performed {
    asking: bool,
    socket: Socket,
    polling: bool,
}

impl Performed {
    fn before(&mut self, input: Input, state: State) {
        match input {
            Input::Closed { .. } => self.socket = Socket::None,
            Input::Opened if self.socket == Socket::Opening && state != State::Authorizing => {
                self.socket = Socket::Open;
            }
            Input::Token | Input::TokenFailed | Input::TokenRefused => self.asking = false,
            _ => {}
        }
    }

    fn perform(&mut self, effect: Effect) {
        let nothing = !self.asking && self.socket == Socket::None;
        match effect {
            Effect::Authorize => {
                assert!(nothing, "asks for a token beside {self:?}");
                self.asking = true;
            }
            Effect::Open => {
                assert!(nothing, "opens a socket beside {self:?}");
                self.socket = Socket::Opening;
            }
            Effect::Greet | Effect::Ready | Effect::Probe => {
                assert_eq!(self.socket, Socket::Open, "{effect:?} without a socket");
            }
            Effect::Drop => (self.asking, self.socket) = (false, Socket::None),
            Effect::Poll | Effect::StopPoll => {
                assert_eq!(self.polling, effect == Effect::StopPoll, "{effect:?}");
                self.polling = effect == Effect::Poll;
            }
        }
    }

    /// Nothing is left behind where nothing is wanted.
    fn settled(&self, state: State) {
        let left = (self.asking, self.socket, self.polling);
        match state {
            State::Idle | State::Closed => assert_eq!(left, (false, Socket::None, false), "{state}"),
            State::Waiting | State::Offline => {
                assert_eq!((left.0, left.1), (false, Socket::None), "{state}");
            }
            State::Live | State::Probing => assert_eq!(left, (false, Socket::Open, false), "{state}"),
            State::Authorizing | State::Opening | State::Greeting | State::Polling => {}
        }
    }
}

fn input() -> impl Strategy<Value = Input> {
    let plain = |inputs: &'static [Input]| proptest::sample::select(inputs);
    let welcome = Input::Welcome { heartbeat: None, retry_max: None };
    prop_oneof![
        6 => plain(&[Input::Tick, Input::Token, Input::Opened]),
        3 => Just(welcome),
        4 => plain(&[
            Input::Connect, Input::Reconnect, Input::Disconnect, Input::TokenSet, Input::TokenFailed,
            Input::TokenRefused, Input::Heard, Input::Suspect, Input::Online, Input::Offline,
            Input::Visible, Input::PollOk, Input::PollFailed,
        ]),
        1 => (0..120_000_u64).prop_map(|retry| Input::Advice { retry: ms(retry) }),
        1 => plain(&[
            Input::Closed { code: 0 }, Input::Closed { code: 1006 }, Input::Closed { code: 1012 },
            Input::Closed { code: 4001 }, Input::Closed { code: 4002 }, Input::Closed { code: 4501 },
        ]),
        1 => (0..5_100_u16).prop_map(|code| Input::Closed { code }),
        1 => (0..60_000_u64, 1_000..60_000_u64).prop_map(|(heartbeat, retry_max)| Input::Welcome {
            heartbeat: Some(ms(heartbeat)),
            retry_max: Some(ms(retry_max)),
        }),
    ]
}

/// How much later an input comes: when something is due, or after so long.
fn after() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![1 => Just(None), 1 => (0..100_u64).prop_map(Some), 1 => (0..40_000_u64).prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn whatever_comes_the_machine_stays_in_the_table_and_its_effects_fit_together(
        all in proptest::collection::vec((input(), after(), 0.0..1.0_f64), 0..150),
        fallback: bool,
        renewable: bool,
    ) {
        let mut machine = Machine::new(MachineOptions { fallback, renewable, ..MachineOptions::default() });
        let mut performed = Performed { asking: false, socket: Socket::None, polling: false };
        let mut now = Duration::ZERO;
        for (input, after, random) in all {
            now = match after {
                Some(after) => now + ms(after),
                None => now.max(machine.deadline().unwrap_or(now)),
            };
            let before = machine.state();
            performed.before(input, before);
            for effect in machine.step(input, now, &mut || random) {
                performed.perform(effect);
            }
            let state = machine.state();
            prop_assert!(state == before || may_follow(before).contains(&state), "{before} → {state} by {input:?}");
            performed.settled(state);
            if input == Input::Tick {
                prop_assert!(machine.deadline().is_none_or(|deadline| deadline >= now));
            }
            prop_assert_eq!(machine.ending().is_some(), state == State::Closed);
            let wait = machine.next_retry_at().unwrap_or(now).saturating_sub(now);
            prop_assert!(wait <= ms(defaults::PROBE_WS_MAX_MS), "{wait:?}");
            if state == State::Waiting && !matches!(before, State::Waiting | State::Polling | State::Offline) {
                prop_assert!(wait >= ms(defaults::BACKOFF_MIN_MS), "{wait:?}");
            }
        }
    }
}

/// K11.
#[test]
fn a_thousand_clients_of_a_server_that_was_away_for_a_minute_do_not_come_back_at_once() {
    const AWAY: Duration = Duration::from_secs(60);
    let begun = Duration::from_secs(20);
    let mut random = Random::default();
    let (mut attempts, mut backs) = (vec![0_u32; 80], vec![0_u32; 80]);
    for _ in 0..1_000 {
        let mut machine = Machine::new(MachineOptions::default());
        let mut step = |machine: &mut Machine, input, now| {
            machine.step(input, now, &mut || random.unit());
        };
        let welcome = Input::Welcome { heartbeat: None, retry_max: None };
        for input in [Input::Connect, Input::Token, Input::Opened, welcome] {
            step(&mut machine, input, Duration::ZERO);
        }
        step(&mut machine, Input::Closed { code: 1006 }, begun);
        while let Some(now) = machine.next_retry_at() {
            let second = (now - begun).as_secs() as usize;
            attempts[second] += 1;
            step(&mut machine, Input::Tick, now);
            step(&mut machine, Input::Token, now);
            if now - begun < AWAY {
                step(&mut machine, Input::Closed { code: 0 }, now);
            } else {
                step(&mut machine, Input::Opened, now);
                step(&mut machine, welcome, now);
                backs[second] += 1;
            }
        }
        assert_eq!(machine.state(), State::Live);
    }
    // Everybody is back within the longest wait.
    assert_eq!(backs[60..=70].iter().sum::<u32>(), 1_000, "{backs:?}");
    let later = &attempts[5..70];
    let (largest, mean) =
        (f64::from(*later.iter().max().unwrap()), f64::from(later.iter().sum::<u32>()) / later.len() as f64);
    println!("attempts: largest second {largest}, mean {mean:.1}; back: {:?}", &backs[60..=70]);
    assert!(largest <= 3.0 * mean, "{attempts:?}");
    assert!(backs.iter().all(|count| f64::from(*count) <= 3.0 * 1_000.0 / 10.0), "{backs:?}");
}
