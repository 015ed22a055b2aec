//! What can be counted exactly: instructions and system calls per delivery.
//!
//! A run with N publications and one with 2 N differ by N publications and nothing else, so starting, greeting and
//! stopping drop out. What goes by the clock (ticks, what the server samples and judges each second) does not, and
//! under callgrind a second holds fifty times fewer deliveries than it should: it is counted at rest, shown as a
//! figure of its own, and taken off by the time that the runs took.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::{Bench, Progress};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;
use crate::target::Launch;

const READERS: usize = 500;
/// Deliveries by which the two runs differ. Tracing every call is slower, but counts nothing else.
const COUNTED: usize = 300_000;
const TRACED: usize = 50_000;
const WARM: usize = 10;
/// For how long one run is at rest longer than another.
const REST: Duration = Duration::from_secs(8);
const BURST: usize = 16;
/// Under callgrind everything takes fifty times as long.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    if bench.running.is_some() {
        bail!("instructions can only be counted on a server of our own; leave out --url");
    }
    let mut figures = Vec::new();
    let (counting, tracing) = (tool("valgrind"), tool("strace"));
    let mut each_second = 0.0;
    if counting {
        progress.say("counting instructions at rest");
        let resting = |rest: Duration| instructions_of(bench, 0, 1, rest).map(|(counted, _)| counted);
        each_second = (resting(REST + REST)? - resting(REST)?) / REST.as_secs_f64();
        let figure = Figure::new("instructions_rest", each_second, "/s");
        figures.push(figure.note(format!("user instructions a second with {READERS} readers and nothing to deliver; those of the seconds that a run took are not counted as its deliveries'")));
    }
    let debug = if cfg!(debug_assertions) { "; a build with debug assertions, not comparable" } else { "" };
    for (kind, burst, instructions, calls) in [("single", 1, 250.0, 1.02), ("burst", BURST, 120.0, 0.10)] {
        let counted = (COUNTED / (burst * READERS)).max(10);
        let traced = (TRACED / (burst * READERS)).max(10);
        let deliveries = |rounds: usize| (rounds * burst * READERS) as f64;
        if counting {
            progress.say(format!("{kind}: counting instructions"));
            let (twice, longer) = instructions_of(bench, 2 * counted, burst, Duration::ZERO)?;
            let (once, shorter) = instructions_of(bench, counted, burst, Duration::ZERO)?;
            let by_the_clock = each_second * (longer.as_secs_f64() - shorter.as_secs_f64());
            let each = (twice - once - by_the_clock) / deliveries(counted);
            let figure = Figure::new(format!("instructions_{kind}"), each, "").at_most(instructions);
            figures.push(figure.note(format!("user instructions per delivery to {READERS} readers, publish included: what accepting an event costs (checks, its lane, its place in the store, its id) is shared by them{debug}")));
        }
        if tracing {
            progress.say(format!("{kind}: counting system calls"));
            let each =
                (calls_of(bench, 2 * traced, burst)? - calls_of(bench, traced, burst)?) / deliveries(traced);
            let figure = Figure::new(format!("system_calls_{kind}"), each, "").at_most(calls);
            figures.push(figure.note("system calls per delivery, publish and wake-ups included"));
        }
    }
    if figures.is_empty() {
        bail!("neither valgrind nor strace is installed; on Debian: apt-get install valgrind strace");
    }
    Ok(figures)
}

fn tool(name: &str) -> bool {
    let mut command = Command::new(name);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn launch(bench: &Bench, wrapper: &[&str]) -> Launch {
    let mut launch = Launch::new(&bench.program);
    launch.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
    let quiet = ["heartbeat.interval=1h"];
    launch.set = super::ONE_CPU.into_iter().chain(quiet).map(str::to_owned).collect();
    launch.patience = PATIENCE;
    launch
}

/// Publishes so often, is at rest for so long, and says how long the publishing took.
fn load(launch: &Launch, rounds: usize, burst: usize, rest: Duration) -> anyhow::Result<Duration> {
    let mut target = launch.server()?;
    let mut fleet = Fleet::gather(&mut target, Plan { subscribers: READERS, channels: 1, publishers: 1 })?;
    let began = Instant::now();
    fleet.lockstep(WARM + rounds, burst)?;
    let took = began.elapsed();
    std::thread::sleep(rest);
    let verdict = fleet.verdict();
    if !verdict.is_clean() {
        bail!("the server lost or repeated events: {verdict:?}");
    }
    drop(fleet);
    target.stop(PATIENCE, |_| ())?;
    Ok(took)
}

struct Output(PathBuf);

impl Output {
    fn new(name: &str) -> Output {
        Output(std::env::temp_dir().join(format!("pulsewire-{name}-{}.out", std::process::id())))
    }

    fn read(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.0).with_context(|| format!("nothing was counted in {}", self.0.display()))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn instructions_of(
    bench: &Bench,
    rounds: usize,
    burst: usize,
    rest: Duration,
) -> anyhow::Result<(f64, Duration)> {
    let output = Output::new("callgrind");
    let out_file = format!("--callgrind-out-file={}", output.0.display());
    let took = load(&launch(bench, &["valgrind", "--tool=callgrind", &out_file]), rounds, burst, rest)?;
    Ok((instructions_in(&output.read()?).context("callgrind wrote no total")?, took))
}

fn instructions_in(text: &str) -> Option<f64> {
    let total = |key| text.lines().find_map(|line: &str| line.strip_prefix(key));
    total("totals:").or_else(|| total("summary:"))?.split_whitespace().next()?.parse().ok()
}

fn calls_of(bench: &Bench, rounds: usize, burst: usize) -> anyhow::Result<f64> {
    let output = Output::new("strace");
    let out_file = output.0.display().to_string();
    load(&launch(bench, &["strace", "-f", "-c", "-o", &out_file]), rounds, burst, Duration::ZERO)?;
    calls_in(&output.read()?).context("strace wrote no total")
}

fn calls_in(text: &str) -> Option<f64> {
    let total = text.lines().rev().find(|line| line.trim_end().ends_with("total"))?;
    total.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_found_in_what_the_tools_write() {
        assert_eq!(instructions_in("events: Ir\nfn=x\n1 2\ntotals: 123456\n"), Some(123_456.0));
        assert_eq!(instructions_in("summary: 99\n"), Some(99.0));
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     90.00    0.001000           1       900         2 sendto\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.001100           1       914         2 total\n";
        assert_eq!(calls_in(table), Some(914.0));
        assert_eq!(calls_in(""), None);
    }
}
