//! Numbers about the events that pass: workflow executions, agent calls and tasks.
//!
//! [`Derive`] is a state machine without I/O, threads or a clock: it is told of events and asked for samples.
//! An event is looked at in two steps, so that whoever shares a [`Derive`] holds its lock as shortly as possible:
//! [`Types`] says what an event's type means, [`Heard::read`] reads what its payload says about that, once,
//! and [`Derive::hear`] counts it.
//!
//! `docs/operate/derived-metrics.md` lists the names.

mod payload;
mod tasks;
#[cfg(test)]
mod tests;
mod types;
mod window;

use pulsewire_protocol::{ChannelName, MetricKind, Number, Sample, Tags};

pub use self::payload::Heard;
use self::payload::What;
use self::tasks::Tasks;
pub use self::types::{Meaning, Types};
use self::window::{Figures, Ring};

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeriveOptions {
    /// What averages, percentiles and the throughput are about: this long back, milliseconds, to within a thirtieth.
    /// Default: five minutes.
    pub window_ms: u64,
    /// Tasks that are known to wait or to run; of more, those that have been silent longest are forgotten.
    /// Default: 10,000.
    pub tasks_max: usize,
    /// A task that says nothing for so long is forgotten, milliseconds. Default: one day.
    pub task_idle_ms: u64,
}

impl Default for DeriveOptions {
    fn default() -> Self {
        Self { window_ms: 300_000, tasks_max: 10_000, task_idle_ms: 86_400_000 }
    }
}

/// How many nodes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nodes {
    /// Those that work.
    pub active: u64,
    /// All of them.
    pub total: u64,
}

/// The channel of numbers about workflow executions.
pub const WORKFLOW: &str = "workflow.metrics";
/// The channel of numbers about agent calls.
pub const AGENT: &str = "agent.metrics";
/// The channel of numbers about nodes and tasks.
pub const DISTRIBUTED: &str = "distributed.metrics";

/// Totals since the start.
#[derive(Debug, Default)]
struct Outcomes {
    successful: u64,
    failed: u64,
}

impl Outcomes {
    fn count(&mut self, failed: bool) {
        *(if failed { &mut self.failed } else { &mut self.successful }) += 1;
    }

    fn total(&self) -> u64 {
        self.successful + self.failed
    }
}

/// What is known of the events that passed.
///
/// Its memory is bounded: by `tasks_max` tasks of at most 600 bytes, and by two windows of 30 parts of at most 20 KiB.
#[derive(Debug)]
pub struct Derive {
    channels: [ChannelName; 3],
    tasks: Tasks,
    executions: Outcomes,
    durations: Ring<Figures>,
    calls: Outcomes,
    errors: u64,
    latencies: Ring<Figures>,
    completions: Ring<u64>,
    /// Whether there was an event about a task, and about an agent: before, nothing is said about them.
    has_tasks: bool,
    has_agents: bool,
    begun_ms: u64,
}

impl Derive {
    /// Begins to count. All times are of one clock that never goes back, in milliseconds.
    #[must_use]
    pub fn new(options: &DeriveOptions, now_ms: u64) -> Self {
        let channels =
            [WORKFLOW, AGENT, DISTRIBUTED].map(|name| ChannelName::parse(name).expect("a channel name"));
        Self {
            channels,
            tasks: Tasks::new(options.tasks_max, options.task_idle_ms),
            executions: Outcomes::default(),
            durations: Ring::new(options.window_ms),
            calls: Outcomes::default(),
            errors: 0,
            latencies: Ring::new(options.window_ms),
            completions: Ring::new(options.window_ms),
            has_tasks: false,
            has_agents: false,
            begun_ms: now_ms,
        }
    }

    /// Looks at an event: nothing happens if its type has no meaning.
    pub fn observe(
        &mut self,
        types: &Types,
        event_type: &str,
        key: Option<&str>,
        channel: &ChannelName,
        data: &str,
        now_ms: u64,
    ) {
        if let Some(meaning) = types.meaning(event_type) {
            self.hear(Heard::read(meaning, key, channel, data), now_ms);
        }
    }

    /// Counts what an event said.
    pub fn hear(&mut self, heard: Heard, now_ms: u64) {
        match heard.what {
            What::Waits(task) => {
                self.has_tasks = true;
                self.tasks.waits(task, now_ms);
            }
            What::Runs(task) => {
                self.has_tasks = true;
                self.tasks.runs(task, now_ms);
            }
            What::Ended { task, failed, duration_ms } => {
                self.has_tasks = true;
                let since_ms = task.and_then(|task| self.tasks.ended(&task, now_ms));
                self.executions.count(failed);
                if !failed {
                    *self.completions.at(now_ms) += 1;
                }
                let measured = since_ms.map(|since_ms| now_ms.saturating_sub(since_ms) as f64);
                if let Some(duration_ms) = duration_ms.or(measured) {
                    self.durations.at(now_ms).record(duration_ms);
                }
            }
            What::Called { failed, latency_ms } => {
                self.has_agents = true;
                self.calls.count(failed);
                if let Some(latency_ms) = latency_ms {
                    self.latencies.at(now_ms).record(latency_ms);
                }
            }
            What::Erred => {
                self.has_agents = true;
                self.errors += 1;
            }
        }
    }

    /// How many tasks have been forgotten though they had not ended.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.tasks.forgotten()
    }

    /// What there is to say now, for each channel. Samples bear no time: they are of the moment they are published.
    pub fn collect(&mut self, nodes: Nodes, now_ms: u64) -> Vec<(ChannelName, Vec<Sample>)> {
        self.tasks.forget_silent(now_ms);
        let [workflow, agent, distributed] = self.channels.clone();
        let all = [
            (workflow, self.workflow(now_ms)),
            (agent, self.agent(now_ms)),
            (distributed, self.distributed(nodes, now_ms)),
        ];
        all.into_iter().filter(|(_, samples)| !samples.is_empty()).collect()
    }

    fn workflow(&self, now_ms: u64) -> Vec<Sample> {
        let total = self.executions.total();
        if total == 0 {
            return Vec::new();
        }
        let mut samples = vec![
            counter("executions.total", total),
            counter("executions.successful", self.executions.successful),
            counter("executions.failed", self.executions.failed),
            gauge("success_rate", rounded(100.0 * self.executions.successful as f64 / total as f64)),
        ];
        push_figures(&mut samples, ["duration.avg", "duration.p95"], &self.durations, now_ms);
        samples
    }

    fn agent(&self, now_ms: u64) -> Vec<Sample> {
        if !self.has_agents {
            return Vec::new();
        }
        let mut samples = vec![
            counter("calls.total", self.calls.total()),
            counter("calls.successful", self.calls.successful),
            counter("calls.failed", self.calls.failed),
        ];
        push_figures(&mut samples, ["latency.avg", "latency.p95"], &self.latencies, now_ms);
        samples.push(counter("errors.total", self.errors));
        samples
    }

    fn distributed(&self, nodes: Nodes, now_ms: u64) -> Vec<Sample> {
        let mut samples = vec![gauge("nodes.active", nodes.active), gauge("nodes.total", nodes.total)];
        if self.has_tasks {
            let (waiting, running) = self.tasks.count();
            let completed: u64 = self.completions.live(now_ms).sum();
            let seconds = (self.completions.covers_ms(self.begun_ms, now_ms) as f64 / 1_000.0).max(1.0);
            samples.extend([
                gauge("tasks.pending", waiting as u64),
                gauge("tasks.running", running as u64),
                counter("tasks.completed", self.executions.successful),
                gauge("throughput", rounded(completed as f64 / seconds)),
            ]);
        }
        samples
    }
}

/// The mean and the 95th percentile, if there was anything in the window.
fn push_figures(samples: &mut Vec<Sample>, names: [&'static str; 2], ring: &Ring<Figures>, now_ms: u64) {
    let mut all = Figures::default();
    ring.live(now_ms).for_each(|part| all.add(part));
    if let Some((average, p95)) = all.average_and_p95() {
        samples.push(gauge(names[0], rounded(average)));
        samples.push(sample(names[1], MetricKind::Histogram, rounded(p95).into()));
    }
}

fn counter(name: &'static str, value: u64) -> Sample {
    sample(name, MetricKind::Counter, value.into())
}

fn gauge(name: &'static str, value: impl Into<Number>) -> Sample {
    sample(name, MetricKind::Gauge, value.into())
}

fn sample(name: &'static str, kind: MetricKind, value: Number) -> Sample {
    Sample { name: name.into(), kind, value, tags: Tags::default(), timestamp_ms: None }
}

/// To a thousandth: more digits say nothing.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
