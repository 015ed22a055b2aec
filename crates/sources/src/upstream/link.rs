//! One connection to an upstream: when it is tried, when it is well, when it is dead, and how long it then stays away.

use pulsewire_telemetry::UpstreamError;

use super::breaker::{Admit, Breaker, Budget};
use super::spec::Upstream;

/// Why a link, or an attempt at one, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which kind of failure.
    pub kind: UpstreamError,
    /// What happened, for a person. It holds no secret.
    pub detail: String,
    /// How long the upstream asked to be left alone, milliseconds (`Retry-After`).
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A failure.
    pub fn new(kind: UpstreamError, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after_ms: None }
    }
}

/// What happens to a link.
#[derive(Debug)]
pub enum Input {
    /// It is wanted.
    Start,
    /// The handshake is done.
    Connected,
    /// It could not be connected, or broke.
    Failed(Failure),
    /// Time has passed: [`Link::next_ms`] has come, or might have.
    Tick,
    /// Somebody wants it to try at once, whatever it has been through.
    Restart,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Connect. `again` unless it is the first time.
    Connect {
        /// Whether it was tried before.
        again: bool,
    },
    /// Ask for a sign of life.
    Ask,
    /// Let go of the connection.
    Disconnect,
    /// It failed, which is to be counted; it is tried again in so many milliseconds, unless there is no such number.
    Failed(Failure, Option<u64>),
    /// No message came for too long: what was passed on is old.
    Stale,
}

/// Where a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Not wanted yet.
    New,
    /// It is being connected, until then at most.
    Connecting {
        /// The moment.
        until_ms: i64,
    },
    /// It is connected.
    Live {
        /// Since when.
        since_ms: i64,
    },
    /// It is tried again then.
    Waiting {
        /// The moment.
        until_ms: i64,
        /// Whether the circuit of its upstream is open.
        circuit: bool,
    },
    /// It has failed too often and waits for somebody to restart it.
    Failed,
}

/// What a link asks beside its own state.
#[derive(Debug)]
pub struct Around<'a> {
    /// How it is connected.
    pub upstream: &'a Upstream,
    /// The circuit of its upstream.
    pub breaker: &'a mut Breaker,
    /// How often the node tries again.
    pub budget: &'a mut Budget,
    /// Any number, another each time.
    pub chance: u64,
    /// Now, in milliseconds of a clock that only goes on.
    pub now_ms: i64,
}

/// The deciding part of one connection.
#[derive(Debug)]
pub struct Link {
    state: LinkState,
    /// In a row, without having been well.
    failures: u32,
    attempts: u64,
    heard_ms: i64,
    message_ms: i64,
    asked_ms: Option<i64>,
}

impl Default for Link {
    fn default() -> Self {
        Self { state: LinkState::New, failures: 0, attempts: 0, heard_ms: 0, message_ms: 0, asked_ms: None }
    }
}

impl Link {
    /// Where it is.
    #[must_use]
    pub fn state(&self) -> LinkState {
        self.state
    }

    /// How often it was tried.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// How often in a row it failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When it is to be told that time has passed; `None` if nothing waits for time.
    #[must_use]
    pub fn next_ms(&self, upstream: &Upstream) -> Option<i64> {
        match self.state {
            LinkState::New | LinkState::Failed => None,
            LinkState::Connecting { until_ms } | LinkState::Waiting { until_ms, .. } => Some(until_ms),
            LinkState::Live { .. } => {
                let heartbeat = &upstream.heartbeat;
                let after = |at_ms: i64, ms: u64| (ms > 0).then(|| at_ms.saturating_add_unsigned(ms));
                let sign = after(self.asked_ms.unwrap_or(self.heard_ms), heartbeat.interval_ms);
                let message = after(self.message_ms, heartbeat.silence_ms);
                sign.into_iter().chain(message).min()
            }
        }
    }

    /// Takes what happened, and says what is to be done.
    pub fn on(&mut self, input: Input, around: &mut Around<'_>) -> Vec<Effect> {
        let mut out = Vec::new();
        match (input, self.state) {
            (Input::Start, LinkState::New) => self.attempt(around, &mut out),
            (Input::Connected, LinkState::Connecting { .. }) => {
                let now_ms = around.now_ms;
                around.breaker.succeeded();
                self.state = LinkState::Live { since_ms: now_ms };
                (self.heard_ms, self.message_ms, self.asked_ms) = (now_ms, now_ms, None);
            }
            (Input::Failed(failure), LinkState::Connecting { .. } | LinkState::Live { .. }) => {
                self.fail(failure, around, &mut out);
            }
            (Input::Tick, _) => self.tick(around, &mut out),
            (Input::Restart, state) => {
                if matches!(state, LinkState::Connecting { .. } | LinkState::Live { .. }) {
                    out.push(Effect::Disconnect);
                }
                self.failures = 0;
                around.breaker.reset();
                self.attempt(around, &mut out);
            }
            // What comes late of a connection that is given up already.
            (Input::Start | Input::Connected | Input::Failed(_), _) => {}
        }
        out
    }

    /// Something came, which is a sign of life, or a whole message.
    pub fn heard(&mut self, message: bool, now_ms: i64) {
        self.heard_ms = now_ms;
        self.asked_ms = None;
        if message {
            self.message_ms = now_ms;
        }
    }

    fn tick(&mut self, around: &mut Around<'_>, out: &mut Vec<Effect>) {
        let now_ms = around.now_ms;
        let heartbeat = &around.upstream.heartbeat;
        let over = |at_ms: i64, ms: u64| ms > 0 && now_ms >= at_ms.saturating_add_unsigned(ms);
        match self.state {
            LinkState::New | LinkState::Failed => {}
            LinkState::Waiting { until_ms, .. } if now_ms >= until_ms => self.attempt(around, out),
            LinkState::Connecting { until_ms } if now_ms >= until_ms => {
                let ms = around.upstream.connect_timeout_ms;
                self.give_up(
                    Failure::new(UpstreamError::Timeout, format!("not connected within {ms} ms")),
                    around,
                    out,
                );
            }
            LinkState::Waiting { .. } | LinkState::Connecting { .. } => {}
            LinkState::Live { .. } if over(self.message_ms, heartbeat.silence_ms) => {
                let ms = heartbeat.silence_ms;
                out.push(Effect::Stale);
                self.give_up(
                    Failure::new(UpstreamError::Timeout, format!("no message for {ms} ms")),
                    around,
                    out,
                );
            }
            LinkState::Live { .. } => match self.asked_ms {
                Some(asked_ms) if over(asked_ms, heartbeat.interval_ms) => {
                    let ms = heartbeat.interval_ms;
                    let detail = format!("no sign of life within {ms} ms of being asked for one");
                    self.give_up(Failure::new(UpstreamError::Timeout, detail), around, out);
                }
                None if over(self.heard_ms, heartbeat.interval_ms) => {
                    self.asked_ms = Some(now_ms);
                    out.push(Effect::Ask);
                }
                _ => {}
            },
        }
    }

    fn give_up(&mut self, failure: Failure, around: &mut Around<'_>, out: &mut Vec<Effect>) {
        out.push(Effect::Disconnect);
        self.fail(failure, around, out);
    }

    fn fail(&mut self, failure: Failure, around: &mut Around<'_>, out: &mut Vec<Effect>) {
        let (now_ms, retry) = (around.now_ms, &around.upstream.retry);
        match self.state {
            LinkState::Live { since_ms } if now_ms >= since_ms.saturating_add_unsigned(retry.stable_ms) => {
                self.failures = 0;
            }
            LinkState::Connecting { .. } => {
                let _ = around.breaker.failed(now_ms, retry.circuit_failures, retry.circuit_ms);
            }
            _ => {}
        }
        self.failures = self.failures.saturating_add(1);
        if retry.attempts_max > 0 && self.failures >= retry.attempts_max {
            self.state = LinkState::Failed;
            return out.push(Effect::Failed(failure, None));
        }
        let grown = retry.factor.powi(i32::try_from(self.failures - 1).unwrap_or(i32::MAX));
        let most_ms = (retry.min_ms as f64 * grown).min(retry.max_ms as f64) as u64;
        let jittered = around.chance % most_ms.saturating_add(1);
        // What it asks for is heard, but not for ever.
        let asked = failure.retry_after_ms.unwrap_or(0).min(retry.max_ms.max(60_000) * 10);
        let wait_ms = jittered.max(asked);
        let until_ms = now_ms.saturating_add_unsigned(wait_ms);
        self.state = LinkState::Waiting { until_ms, circuit: false };
        out.push(Effect::Failed(failure, Some(wait_ms)));
    }

    /// Connects, unless the circuit is open or the node tries too often.
    fn attempt(&mut self, around: &mut Around<'_>, out: &mut Vec<Effect>) {
        let now_ms = around.now_ms;
        let again = self.attempts > 0;
        if let Some(until_ms) = around.breaker.open_until_ms(now_ms) {
            self.state = LinkState::Waiting { until_ms, circuit: true };
            return;
        }
        if again && let Admit::At(until_ms) = around.budget.take(now_ms) {
            self.state = LinkState::Waiting { until_ms, circuit: false };
            return;
        }
        if let Admit::At(until_ms) = around.breaker.ask(now_ms, around.upstream.connect_timeout_ms) {
            self.state = LinkState::Waiting { until_ms, circuit: true };
            return;
        }
        self.attempts += 1;
        let until_ms = now_ms.saturating_add_unsigned(around.upstream.connect_timeout_ms);
        self.state = LinkState::Connecting { until_ms };
        out.push(Effect::Connect { again });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{ChannelTemplate, Template};

    struct Bench {
        upstream: Upstream,
        breaker: Breaker,
        budget: Budget,
        link: Link,
        now_ms: i64,
    }

    impl Bench {
        fn new(change: impl FnOnce(&mut Upstream)) -> Self {
            let url = Template::parse("ws://h/").unwrap();
            let mut upstream = Upstream::new("u", vec![url], ChannelTemplate::parse("upstream:u").unwrap());
            change(&mut upstream);
            let (breaker, budget) = (Breaker::default(), Budget::new(0, 1));
            Self { upstream, breaker, budget, link: Link::default(), now_ms: 0 }
        }

        fn on(&mut self, input: Input) -> Vec<Effect> {
            // The longest wait that chance may give.
            let mut around = Around {
                upstream: &self.upstream,
                breaker: &mut self.breaker,
                budget: &mut self.budget,
                chance: u64::MAX,
                now_ms: self.now_ms,
            };
            self.link.on(input, &mut around)
        }

        fn fails(&mut self) -> Option<u64> {
            let effects = self.on(Input::Failed(Failure::new(UpstreamError::Connect, "no")));
            let [Effect::Failed(_, wait)] = effects[..] else { panic!("{effects:?}") };
            wait
        }

        /// Goes to the next moment something waits for.
        fn next(&mut self) -> Vec<Effect> {
            self.now_ms = self.link.next_ms(&self.upstream).unwrap();
            self.on(Input::Tick)
        }
    }

    #[test]
    fn waits_grow_by_chance_up_to_their_cap_and_each_attempt_is_one() {
        // A chance of u64::MAX is the remainder 18446744073709551615 mod (most + 1).
        let mut bench = Bench::new(|upstream| upstream.retry.circuit_failures = 0);
        assert_eq!(bench.on(Input::Start), [Effect::Connect { again: false }]);
        for failures in 1..20_u32 {
            let most = (500_u64 << (failures - 1).min(10)).min(30_000);
            assert_eq!(bench.fails(), Some(u64::MAX % (most + 1)), "after {failures} failures");
            assert_eq!(bench.next(), [Effect::Connect { again: true }]);
            assert_eq!(bench.link.attempts(), u64::from(failures) + 1);
        }
    }

    #[test]
    fn a_link_was_well_only_when_it_lived_long_enough() {
        let mut bench = Bench::new(|upstream| upstream.retry.stable_ms = 1_000);
        bench.on(Input::Start);
        bench.fails();
        for (lived_ms, failures) in [(999, 2), (999, 3), (1_000, 1)] {
            bench.next();
            bench.on(Input::Connected);
            bench.now_ms += lived_ms;
            bench.fails();
            assert_eq!(bench.link.failures(), failures);
        }
    }

    #[test]
    fn a_dead_peer_is_found_within_two_intervals() {
        let mut bench = Bench::new(|upstream| upstream.heartbeat.interval_ms = 100);
        bench.on(Input::Start);
        bench.on(Input::Connected);
        bench.now_ms = 50;
        bench.link.heard(false, bench.now_ms);
        assert_eq!(bench.next(), [Effect::Ask]);
        assert_eq!(bench.now_ms, 150);
        bench.now_ms = 160;
        bench.link.heard(false, bench.now_ms);
        assert_eq!(bench.next(), [Effect::Ask]);
        let effects = bench.next();
        assert_eq!(bench.now_ms, 360, "200 ms after the last sign");
        assert!(
            matches!(
                &effects[..],
                [Effect::Disconnect, Effect::Failed(Failure { kind: UpstreamError::Timeout, .. }, _)]
            ),
            "{effects:?}"
        );
    }

    #[test]
    fn an_open_link_that_says_nothing_is_stale_although_it_answers_pings() {
        let mut bench = Bench::new(|upstream| upstream.heartbeat.silence_ms = 1_000);
        bench.on(Input::Start);
        bench.on(Input::Connected);
        bench.now_ms = 900;
        bench.link.heard(false, bench.now_ms);
        bench.now_ms = 1_000;
        let effects = bench.on(Input::Tick);
        assert!(
            matches!(&effects[..], [Effect::Stale, Effect::Disconnect, Effect::Failed(..)]),
            "{effects:?}"
        );
    }

    #[test]
    fn one_that_failed_too_often_waits_for_somebody_and_no_timer_is_left() {
        let mut bench = Bench::new(|upstream| upstream.retry.attempts_max = 2);
        bench.on(Input::Start);
        bench.fails();
        bench.next();
        assert_eq!(bench.fails(), None);
        assert_eq!((bench.link.state(), bench.link.next_ms(&bench.upstream)), (LinkState::Failed, None));
        bench.now_ms += 1_000_000;
        assert_eq!(bench.on(Input::Tick), []);
        assert_eq!(bench.on(Input::Restart), [Effect::Connect { again: true }]);
        assert_eq!(bench.link.failures(), 0);
    }

    #[test]
    fn an_open_circuit_and_a_used_up_budget_are_waited_for() {
        let mut bench = Bench::new(|upstream| upstream.retry.circuit_failures = 2);
        bench.on(Input::Start);
        bench.fails();
        assert_eq!(bench.next(), [Effect::Connect { again: true }]);
        bench.fails();
        assert_eq!(bench.next(), []);
        let LinkState::Waiting { until_ms, circuit: true } = bench.link.state() else { panic!() };
        assert!(until_ms > bench.now_ms);
        assert_eq!(bench.next(), [Effect::Connect { again: true }]);
        bench.budget = Budget::new(1, 10);
        for _ in 0..10 {
            let _ = bench.budget.take(bench.now_ms);
        }
        bench.breaker.reset();
        bench.on(Input::Failed(Failure {
            retry_after_ms: Some(0),
            ..Failure::new(UpstreamError::Connect, "no")
        }));
        bench.now_ms = bench.link.next_ms(&bench.upstream).unwrap().min(bench.now_ms + 1);
        let _ = bench.on(Input::Tick);
        assert!(matches!(bench.link.state(), LinkState::Waiting { circuit: false, .. }));
    }

    #[test]
    fn what_an_upstream_asks_for_is_waited() {
        let mut bench = Bench::new(|_| {});
        bench.on(Input::Start);
        let failure =
            Failure { retry_after_ms: Some(7_000), ..Failure::new(UpstreamError::Handshake, "429") };
        let effects = bench.on(Input::Failed(failure));
        assert!(matches!(effects[..], [Effect::Failed(_, Some(7_000))]), "{effects:?}");
    }
}
