//! `pulsewire bench`: measure a server, against the budgets of the design or your own.
//!
//! Each scenario starts servers of its own in temporary folders on free local ports; `--url` measures one that runs.
//! Environment variables never point it anywhere: load is only sent where the command line says.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use pulsewire_loadtest::floor;
use pulsewire_loadtest::process::Machine;
use pulsewire_loadtest::report::{Header, Report, Threshold};
use pulsewire_loadtest::scenario::{Bench as Setup, PROOFS, Running, SCENARIOS, Scenario};

use super::connection::trust;
use super::{Exit, Terminal};
use crate::settings::duration_from_text;

/// Measure a server.
#[derive(Debug, Args)]
pub struct Bench {
    /// Scenarios: idle, fanout, flat, saturation, latency, stalled, storm, inbound, keep, resume, metrics,
    /// counts, or all. Proofs: vanish, hostile, scrapers, secrets, rest, or proofs, which take some minutes.
    #[arg(required = true, value_name = "SCENARIO", value_parser = scenario)]
    pub scenarios: Vec<String>,
    /// Measure this server instead of one of our own; set its limits high enough.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Trust the certificates in this PEM file, and no others, to vouch for a wss:// server.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca_file: Option<PathBuf>,
    /// Bearer token for --url.
    #[arg(long, value_name = "TOKEN", requires = "url")]
    pub token: Option<String>,
    /// Process of --url, when it runs here: for its CPU time and memory.
    #[arg(long, value_name = "PID", requires = "url")]
    pub pid: Option<u32>,
    /// Connections or subscribers, instead of the scenario's own number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub conns: Option<u32>,
    /// How long a timed load lasts; 10s where the scenario does not say otherwise.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub duration: Option<Duration>,
    /// How often a comparison is repeated; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub rounds: u8,
    /// A threshold, such as `instructions_single<=250`; can be repeated. A missed one ends with exit code 5.
    #[arg(long = "assert", value_name = "NAME<=LIMIT")]
    pub thresholds: Vec<Threshold>,
    /// Every budget of the design is a threshold.
    #[arg(long)]
    pub strict: bool,
    /// Also keep events in this PostgreSQL database, where keeping is measured: a database of its own, tables are made.
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    pub database: Option<String>,
    /// How to print the report.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Also write the report as a page of the documentation.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Let the kernel move generator and server between CPUs.
    #[arg(long)]
    pub no_pin: bool,
    /// Show no progress.
    #[arg(long)]
    pub no_progress: bool,
}

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The scenario that is not one: the bare loop the others are compared with.
const FLOOR: &str = "floor";

fn scenario(name: &str) -> Result<String, String> {
    if matches!(name, "all" | "proofs") || name == FLOOR || Scenario::named(name).is_some() {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = SCENARIOS.iter().chain(PROOFS).map(|scenario| scenario.name).collect();
    Err(format!("expected {}, all, or proofs", names.join(", ")))
}

fn span(text: &str) -> Result<Duration, String> {
    duration_from_text(text)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "expected a time such as 10s or 2m".to_owned())
}

/// Measures and reports.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Bench, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    if command.scenarios == [FLOOR] {
        let served = floor::serve(io::stdin().lock(), &mut *terminal.out);
        return served.map(|()| Exit::Ok).map_err(|error| failed(&error, terminal));
    }
    if cfg!(debug_assertions) {
        terminal
            .say("note: this is a debug build; its figures say nothing about speed (cargo run --release)");
    }
    let program = std::env::current_exe().map_err(|error| failed(&error.into(), terminal))?;
    let mut setup = command.setup(program);
    let machine = Machine::here();
    let mut outcomes = Vec::new();
    for scenario in command.chosen() {
        setup.duration = command.duration.unwrap_or(scenario.duration);
        let outcome = scenario.run(&setup).map_err(|error| {
            terminal.say(format_args!("error: scenario {}", scenario.name));
            failed(&error, terminal)
        })?;
        outcomes.push(outcome);
    }
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let header = Header { version: env!("CARGO_PKG_VERSION").to_owned(), machine, at };
    let report = Report { header, outcomes };
    match command.output {
        Output::Table => terminal.data(report.table().trim_end()),
        Output::Json => terminal.data(serde_json::to_string_pretty(&report).unwrap_or_default()),
    }
    if let Some(file) = &command.write {
        write(file, &report, command).map_err(|error| failed(&error, terminal))?;
    }
    Ok(command.judge(&report, terminal))
}

impl Bench {
    fn setup(&self, program: PathBuf) -> Setup {
        let trust = trust(self.ca_file.as_deref());
        let running =
            self.url.clone().map(|url| Running { url, trust, token: self.token.clone(), pid: self.pid });
        Setup {
            program,
            running,
            connections: self.conns.map(|conns| conns as usize),
            duration: self.duration.unwrap_or_default(),
            rounds: usize::from(self.rounds),
            database: self.database.clone(),
            pin: !self.no_pin,
            progress: !self.no_progress,
        }
    }

    fn chosen(&self) -> Vec<&'static Scenario> {
        let named = |all: &'static str, list: &'static [Scenario]| {
            let wanted = move |scenario: &&Scenario| {
                self.scenarios.iter().any(|name| name == all || name == scenario.name)
            };
            list.iter().filter(wanted)
        };
        named("all", SCENARIOS).chain(named("proofs", PROOFS)).collect()
    }

    fn judge(&self, report: &Report, terminal: &mut Terminal<'_>) -> Exit {
        let mut held = true;
        for threshold in &self.thresholds {
            let (holds, line) = threshold.judge(report);
            held &= holds;
            terminal.say(line);
        }
        if self.strict {
            let figures = report.outcomes.iter().flat_map(|outcome| &outcome.figures);
            for figure in
                figures.filter(|figure| figure.budget.is_some_and(|budget| !budget.holds(figure.value)))
            {
                held = false;
                terminal.say(format_args!("✗ {} misses its budget", figure.name));
            }
        }
        if held { Exit::Ok } else { Exit::ThresholdMissed }
    }
}

fn write(file: &Path, report: &Report, bench: &Bench) -> anyhow::Result<()> {
    let title = if bench.scenarios == ["proofs"] { "Proofs" } else { "Benchmarks" };
    let database = if bench.database.is_some() { " --database URL" } else { "" };
    let command =
        format!("pulsewire bench {}{database} --write {}", bench.scenarios.join(" "), file.display());
    Ok(std::fs::write(file, report.page(title, &command))?)
}

fn failed(error: &anyhow::Error, terminal: &mut Terminal<'_>) -> Exit {
    terminal.say(format_args!("error: {error:#}"));
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scenarios_that_exist_are_accepted() {
        for scenario in SCENARIOS {
            assert!(super::scenario(scenario.name).is_ok());
        }
        assert!(scenario("all").is_ok());
        assert!(scenario("everything").unwrap_err().contains("fanout"));
    }

    #[test]
    fn a_timed_load_takes_some_time() {
        assert_eq!(span("2s"), Ok(Duration::from_secs(2)));
        assert!(span("0s").is_err() && span("soon").is_err());
    }
}
