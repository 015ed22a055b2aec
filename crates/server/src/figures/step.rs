//! What lies between two moments.

use pulsewire_telemetry::{Counter, Current, Distribution, Process};

use super::Moment;

/// Two moments, and what happened between them.
///
/// A number about the time between is `None` unless the step is whole: what a process that stood still for ten
/// seconds did in them is nothing that happened in one second, and is not shown as if it were.
#[derive(Debug, Clone, Copy)]
pub struct Step<'m> {
    before: &'m Moment,
    now: &'m Moment,
    whole: bool,
}

impl<'m> Step<'m> {
    /// The step between two moments; `whole` says that it is as long as it is taken for.
    #[must_use]
    pub const fn new(before: &'m Moment, now: &'m Moment, whole: bool) -> Self {
        Self { before, now, whole }
    }

    /// How long it was, by the monotonic clock, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.now.at.mono_ns.saturating_sub(self.before.at.mono_ns) as f64 / 1e9
    }

    /// What there is at its end; `None` if a shard did not answer.
    #[must_use]
    pub fn current(&self) -> Option<&'m Current> {
        self.now.current.as_deref()
    }

    /// The process at its end.
    #[must_use]
    pub const fn process(&self) -> &'m Process {
        &self.now.process
    }

    /// A number of what there is.
    pub fn gauge(&self, of: impl Fn(&Current) -> u64) -> Option<f64> {
        self.current().map(|current| of(current) as f64)
    }

    /// How often something happened.
    #[must_use]
    pub fn count(&self, counter: Counter) -> Option<u64> {
        self.whole.then(|| self.now.totals.count_since(&self.before.totals, counter))
    }

    /// How much was observed.
    #[must_use]
    pub fn observed(&self, of: Distribution) -> Option<u64> {
        self.whole.then(|| self.now.totals.observed_since(&self.before.totals, of))
    }

    /// How often something happened, per second.
    #[must_use]
    pub fn rate(&self, counter: Counter) -> Option<f64> {
        self.per_second(self.count(counter)? as f64)
    }

    /// The share of `part` in `part` and `rest`, in percent; `None` if nothing of both happened.
    #[must_use]
    pub fn share(&self, part: Counter, rest: Counter) -> Option<f64> {
        let (part, rest) = (self.count(part)? as f64, self.count(rest)? as f64);
        (part + rest > 0.0).then(|| part / (part + rest) * 100.0)
    }

    /// The share of `part` in `whole`, in percent, at most 100; `None` if nothing of `whole` happened.
    #[must_use]
    pub fn share_of(&self, part: Counter, whole: Counter) -> Option<f64> {
        let (part, whole) = (self.count(part)? as f64, self.count(whole)? as f64);
        (whole > 0.0).then(|| (part / whole * 100.0).min(100.0))
    }

    /// A quantile (0 to 1) of what was observed; `None` if nothing was.
    #[must_use]
    pub fn quantile(&self, of: Distribution, q: f64) -> Option<f64> {
        if !self.whole {
            return None;
        }
        self.now.totals.quantile_since(&self.before.totals, of, q)
    }

    /// The share of all cores that the process used, in percent.
    #[must_use]
    pub fn cpu_process(&self) -> Option<f64> {
        self.cpu(self.now.process.cpu_seconds - self.before.process.cpu_seconds)
    }

    /// The share of all cores that the shards used, in percent.
    #[must_use]
    pub fn cpu_shards(&self) -> Option<f64> {
        let before = self.before.current.as_ref()?;
        self.cpu(self.current()?.shard_cpu_seconds - before.shard_cpu_seconds)
    }

    fn cpu(&self, seconds: f64) -> Option<f64> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cores_used = self.whole.then_some(seconds.max(0.0)).and_then(|used| self.per_second(used));
        cores_used.map(|used| used / cores as f64 * 100.0)
    }

    fn per_second(&self, n: f64) -> Option<f64> {
        let seconds = self.seconds();
        (seconds > 0.0).then(|| n / seconds)
    }
}
