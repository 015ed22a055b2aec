//! When an upstream is not tried: its circuit is open, or the node tries too often already. The same budget holds what
//! is read of a stream.

/// Whether a link may try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// Now.
    Now,
    /// Not before this moment, in milliseconds of the clock that asked.
    At(i64),
}

/// The circuit of one upstream: after so many failures in a row, of all its links, nobody tries for a while; then one
/// does, and what becomes of it decides.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    open_until_ms: Option<i64>,
    /// Until when the one that tries has to be done; it may have been closed instead.
    trying_until_ms: Option<i64>,
    opened: u64,
}

impl Breaker {
    /// Whether a link may try; if so, and the circuit was open, it is the one that tries, for `timeout_ms`.
    pub fn ask(&mut self, now_ms: i64, timeout_ms: u64) -> Admit {
        let Some(until_ms) = self.open_until_ms else { return Admit::Now };
        if now_ms < until_ms {
            return Admit::At(until_ms);
        }
        match self.trying_until_ms {
            Some(trying_ms) if now_ms < trying_ms => Admit::At(trying_ms),
            _ => {
                self.trying_until_ms = Some(now_ms.saturating_add_unsigned(timeout_ms));
                Admit::Now
            }
        }
    }

    /// A link was connected.
    pub fn succeeded(&mut self) {
        (self.failures, self.open_until_ms, self.trying_until_ms) = (0, None, None);
    }

    /// A link could not be connected. `after` failures in a row open the circuit for `for_ms`; 0 never does. Returns
    /// whether it has just opened.
    pub fn failed(&mut self, now_ms: i64, after: u32, for_ms: u64) -> bool {
        self.failures = self.failures.saturating_add(1);
        if after == 0 || self.failures < after {
            return false;
        }
        let was_open = self.open_until_ms.is_some_and(|until_ms| now_ms < until_ms);
        if !was_open {
            self.open_until_ms = Some(now_ms.saturating_add_unsigned(for_ms));
            self.trying_until_ms = None;
            self.opened += 1;
        }
        !was_open
    }

    /// Until when it is open, if it is.
    #[must_use]
    pub fn open_until_ms(&self, now_ms: i64) -> Option<i64> {
        self.open_until_ms.filter(|until_ms| now_ms < *until_ms)
    }

    /// How often it opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Lets everybody try at once, as somebody asked.
    pub fn reset(&mut self) {
        self.succeeded();
    }
}

/// How much there may be of something in a second, with a burst of some seconds' worth.
#[derive(Debug)]
pub struct Budget {
    per_second: f64,
    most: f64,
    left: f64,
    at_ms: i64,
}

impl Budget {
    /// A full budget; 0 a second means no limit.
    #[must_use]
    pub fn new(per_second: u32, burst_seconds: u32) -> Self {
        Self::with_burst(per_second, per_second.saturating_mul(burst_seconds.max(1)))
    }

    /// A full budget with so many at once, at least one; 0 a second means no limit.
    #[must_use]
    pub fn with_burst(per_second: u32, burst: u32) -> Self {
        let most = f64::from(burst.max(1));
        Self { per_second: f64::from(per_second), most, left: most, at_ms: i64::MIN }
    }

    /// Whether there is room for one more, or when there will be.
    pub fn ask(&mut self, now_ms: i64) -> Admit {
        if self.per_second <= 0.0 {
            return Admit::Now;
        }
        if self.at_ms != i64::MIN {
            let passed_s = now_ms.saturating_sub(self.at_ms).max(0) as f64 / 1e3;
            self.left = (self.left + passed_s * self.per_second).min(self.most);
        }
        self.at_ms = now_ms;
        if self.left >= 1.0 {
            return Admit::Now;
        }
        let wait_ms = ((1.0 - self.left) / self.per_second * 1e3).ceil();
        Admit::At(now_ms.saturating_add(wait_ms as i64).max(now_ms + 1))
    }

    /// Takes one, or says when there will be room for it.
    pub fn take(&mut self, now_ms: i64) -> Admit {
        let admit = self.ask(now_ms);
        if admit == Admit::Now {
            self.spend();
        }
        admit
    }

    /// Takes one, whether or not there is room: what follows waits for longer.
    pub fn spend(&mut self) {
        self.left -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_opens_after_failures_in_a_row_and_one_tries_when_it_has_been_open() {
        let mut breaker = Breaker::default();
        for at in 0..2 {
            assert!(!breaker.failed(at, 3, 100));
        }
        assert_eq!(breaker.ask(2, 10), Admit::Now);
        assert!(breaker.failed(2, 3, 100));
        assert!(!breaker.failed(3, 3, 100), "it is open already");
        assert_eq!(breaker.ask(50, 10), Admit::At(102));
        assert_eq!(breaker.ask(102, 10), Admit::Now);
        assert_eq!(breaker.ask(103, 10), Admit::At(112), "one tries, the others wait for what becomes of it");
        assert!(breaker.failed(104, 3, 100));
        assert_eq!((breaker.ask(105, 10), breaker.opened()), (Admit::At(204), 2));
        assert_eq!(breaker.ask(204, 10), Admit::Now);
        breaker.succeeded();
        assert_eq!((breaker.ask(205, 10), breaker.open_until_ms(205)), (Admit::Now, None));
    }

    #[test]
    fn one_that_tried_and_was_never_heard_of_again_keeps_nobody_out() {
        let mut breaker = Breaker::default();
        assert!(breaker.failed(0, 1, 100));
        assert_eq!(breaker.ask(100, 10), Admit::Now);
        assert_eq!(breaker.ask(111, 10), Admit::Now);
    }

    #[test]
    fn a_budget_holds_over_time_whatever_is_asked() {
        let mut budget = Budget::new(5, 10);
        let taken = (0..10_000).filter(|at| budget.take(*at) == Admit::Now).count();
        assert!((99..=100).contains(&taken), "50 at once and 5 a second for 10 seconds: {taken}");
        let _ = budget.take(10_000);
        let Admit::At(at) = budget.take(10_000) else { panic!("it is used up") };
        assert!((10_001..=10_200).contains(&at), "{at}");
        assert_eq!(Budget::new(0, 10).take(0), Admit::Now);
    }
}
