//! From two readings to samples: every name, unit and rule of `system.metrics`.
//!
//! Pure. What is not known is left out, never shown as zero: a share of time needs two
//! readings, and a part that could not be read has no sample.

use std::time::Duration;

use pulsewire_protocol::{MetricKind, Number, Sample, Tags};

use super::{
    limits::Memory,
    reader::{Disk, Reading},
};

/// What a reading says, given the one before it. Every sample carries `tags`.
pub(super) fn samples(previous: Option<&Reading>, current: &Reading, tags: &Tags) -> Vec<Sample> {
    let mut out = Samples { samples: Vec::with_capacity(SAMPLES_MAX), tags };
    cpu(&mut out, previous, current);
    memory(&mut out, current);
    disk(&mut out, current);
    network(&mut out, previous, current);
    load(&mut out, current);
    out.samples
}

/// The names of `docs/operate/host-metrics.md`.
const SAMPLES_MAX: usize = 16;

/// The samples so far.
struct Samples<'a> {
    samples: Vec<Sample>,
    tags: &'a Tags,
}

impl Samples<'_> {
    /// Adds a value that goes up and down.
    fn gauge(&mut self, name: &'static str, value: impl Into<Number>) {
        self.push(name, MetricKind::Gauge, value.into());
    }

    /// Adds a total, which never falls while the collector runs.
    fn counter(&mut self, name: &'static str, value: impl Into<Number>) {
        self.push(name, MetricKind::Counter, value.into());
    }

    fn push(&mut self, name: &'static str, kind: MetricKind, value: Number) {
        let tags = self.tags.clone();
        self.samples.push(Sample { name: name.into(), kind, value, tags, timestamp_ms: None });
    }
}

fn cpu(out: &mut Samples<'_>, previous: Option<&Reading>, current: &Reading) {
    let machine = &current.machine;
    let (percent, count) = match current.cgroup.cpu_limit(machine.cpus) {
        Some(limit) => (previous.and_then(|previous| quota_percent(previous, current)), limit.cpus),
        None => (previous.and(machine.cpu_percent), f64::from(machine.cpus)),
    };
    if let Some(percent) = percent {
        out.gauge("cpu.percent", hundredths(percent.clamp(0.0, 100.0)));
    }
    if count > 0.0 {
        out.gauge("cpu.count", whole_if_whole(hundredths(count)));
    }
    if let Some(frequency_mhz) = machine.frequency_mhz {
        out.gauge("cpu.frequency", hundredths(frequency_mhz));
    }
}

/// CPU time used between two readings, of the time the quota allowed.
///
/// `None` when another group carries the limit than before, or its counter restarted.
fn quota_percent(previous: &Reading, current: &Reading) -> Option<f64> {
    let before = previous.cgroup.cpu_limit(previous.machine.cpus)?;
    let now = current.cgroup.cpu_limit(current.machine.cpus)?;
    if before.level != now.level {
        return None;
    }
    let used = now.used?.checked_sub(before.used?)?;
    let allowed = elapsed(previous, current)?.as_secs_f64() * now.cpus;
    Some(100.0 * used.as_secs_f64() / allowed)
}

fn memory(out: &mut Samples<'_>, current: &Reading) {
    let machine = Memory {
        total_bytes: current.machine.memory_total_bytes,
        used_bytes: current.machine.memory_total_bytes.saturating_sub(current.machine.memory_available_bytes),
    };
    let memory = current.cgroup.memory_limit(machine.total_bytes).unwrap_or(machine);
    if memory.total_bytes > 0 {
        out.gauge("memory.total", memory.total_bytes);
        out.gauge("memory.used", memory.used_bytes);
        out.gauge("memory.percent", share_percent(memory.used_bytes, memory.total_bytes));
    }
}

/// As `df` has it: what is reserved for the system is neither used nor available.
fn disk(out: &mut Samples<'_>, current: &Reading) {
    let Some(Disk { total_bytes, free_bytes, available_bytes }) = current.disk else { return };
    let used_bytes = total_bytes.saturating_sub(free_bytes);
    let usable_bytes = used_bytes.saturating_add(available_bytes);
    if usable_bytes > 0 {
        out.gauge("disk.total", total_bytes);
        out.gauge("disk.used", used_bytes);
        out.gauge("disk.percent", share_percent(used_bytes, usable_bytes));
    }
}

fn network(out: &mut Samples<'_>, previous: Option<&Reading>, current: &Reading) {
    let now = current.traffic;
    out.counter("network.bytes_sent", now.sent_bytes);
    out.counter("network.bytes_recv", now.received_bytes);
    let Some(previous) = previous else { return };
    let Some(elapsed) = elapsed(previous, current) else { return };
    let rate = |before: u64, now: u64| hundredths(now.saturating_sub(before) as f64 / elapsed.as_secs_f64());
    let before = previous.traffic;
    out.gauge("network.bytes_sent_per_second", rate(before.sent_bytes, now.sent_bytes));
    out.gauge("network.bytes_recv_per_second", rate(before.received_bytes, now.received_bytes));
}

fn load(out: &mut Samples<'_>, current: &Reading) {
    if let Some([one, five, fifteen]) = current.load {
        out.gauge("load.one", hundredths(one));
        out.gauge("load.five", hundredths(five));
        out.gauge("load.fifteen", hundredths(fifteen));
    }
}

/// The time between two readings, when there is any.
fn elapsed(previous: &Reading, current: &Reading) -> Option<Duration> {
    current.at.checked_sub(previous.at).filter(|elapsed| !elapsed.is_zero())
}

fn share_percent(part: u64, whole: u64) -> f64 {
    hundredths((100.0 * part as f64 / whole as f64).min(100.0))
}

/// Eight CPUs are 8, one and a half are 1.5.
fn whole_if_whole(number: f64) -> Number {
    if number.fract() == 0.0 { Number::Whole(number as i64) } else { Number::Float(number) }
}

/// Two decimals are more than any of these is known to, and keep frames short.
fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
