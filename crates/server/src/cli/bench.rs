//! `pulsewire bench`: measure a server, against the budgets of the design or your own.
//!
//! Each scenario starts servers of its own in temporary folders on free local ports; `--url` measures one that runs.
//! Environment variables never point it anywhere: load is only sent where the command line says.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use pulsewire_loadtest::floor;
use pulsewire_loadtest::process::Machine;
use pulsewire_loadtest::report::{Header, Report, Threshold};
use pulsewire_loadtest::scenario::{Bench as Setup, LIVE, PROOFS, Running, SCENARIOS, Scenario};

use super::connection::{ConnectionArguments, Server};
use super::{Exit, Output, Terminal};

/// Measure a server.
#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// Scenarios: idle, fanout, flat, saturation, latency, stalled, storm, inbound, keep, resume, reconnect,
    /// metrics, cluster, counts, or all. Proofs: vanish, hostile, scrapers, secrets, rest, or proofs, which take some minutes. Without any: live,
    /// a load of a minute on the server that `serve --dev` started here, for looking at it meanwhile.
    #[arg(value_name = "SCENARIO", value_parser = scenario)]
    pub scenarios: Vec<String>,
    /// Measure this server instead of one of our own; set its limits high enough.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Trust the certificates in this PEM file, and no others, to vouch for a wss:// server.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca_file: Option<PathBuf>,
    /// Bearer token for --url; without it the one `pulsewire serve --dev` left in ./data, if it is that server's.
    #[arg(long, value_name = "TOKEN", env = "PULSEWIRE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Process of --url, when it runs here: for its CPU time and memory.
    #[arg(long, value_name = "PID", requires = "url")]
    pub pid: Option<u32>,
    /// Connections or subscribers, instead of the scenario's own number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub conns: Option<u32>,
    /// Short for `reconnect --conns N`: so many clients are cut off at once and come back as they are told.
    #[arg(long, value_name = "N", conflicts_with_all = ["scenarios", "conns"], value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub storm: Option<u32>,
    /// How long a timed load lasts; 10s where the scenario does not say otherwise.
    #[arg(long, value_name = "SPAN", value_parser = super::span)]
    pub duration: Option<Duration>,
    /// Deliveries a second of live, instead of 4,000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Bytes of padding of each event of live, instead of 1,024.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub size: Option<u32>,
    /// So many further readers beside those of each load, as a share of them, that stop reading or read slowly.
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    pub slow: Option<f64>,
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
    /// Also carry events between nodes through this Redis, where several nodes are measured.
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    pub redis: Option<String>,
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

/// What `--storm` is short for.
const STORM: &str = "reconnect";
/// The scenario that is not one: the bare loop the others are compared with.
const FLOOR: &str = "floor";

fn scenario(name: &str) -> Result<String, String> {
    if matches!(name, "all" | "proofs") || name == FLOOR || Scenario::named(name).is_some() {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> =
        SCENARIOS.iter().chain(PROOFS).chain([&LIVE]).map(|scenario| scenario.name).collect();
    Err(format!("expected {}, all, or proofs", names.join(", ")))
}

/// Reads `1%`, `0.5%` or `1`: a percentage, as a share of one.
fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    percent
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "expected a percentage, such as 1% or 0.5%".to_owned())
}

/// Measures and reports.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Bench, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let stormy = command.storm.map(|clients| Bench {
        scenarios: vec![STORM.to_owned()],
        conns: Some(clients),
        storm: None,
        ..command.clone()
    });
    let command = stormy.as_ref().unwrap_or(command);
    if command.scenarios == [FLOOR] {
        let served = floor::serve(io::stdin().lock(), &mut *terminal.out);
        return served.map(|()| Exit::Ok).map_err(|error| failed(&error, terminal));
    }
    if cfg!(debug_assertions) {
        terminal
            .say("note: this is a debug build; its figures say nothing about speed (cargo run --release)");
    }
    let program = std::env::current_exe().map_err(|error| failed(&error.into(), terminal))?;
    let mut setup = command.setup(program, terminal)?;
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
    fn setup(&self, program: PathBuf, terminal: &mut Terminal<'_>) -> Result<Setup, Exit> {
        let running = match &self.url {
            Some(_) => Some(self.named(terminal)?),
            None if self.scenarios.is_empty() => started_here(terminal),
            None => None,
        };
        Ok(Setup {
            program,
            running,
            connections: self.conns.map(|conns| conns as usize),
            rate: self.rate,
            size: self.size.map(|size| size as usize),
            slow_share: self.slow.unwrap_or(0.0),
            duration: self.duration.unwrap_or_default(),
            rounds: usize::from(self.rounds),
            database: self.database.clone(),
            redis: self.redis.clone(),
            pin: !self.no_pin,
            progress: !self.no_progress,
        })
    }

    /// The server of `--url`.
    fn named(&self, terminal: &mut Terminal<'_>) -> Result<Running, Exit> {
        let Self { url, ca_file, token, .. } = self;
        let of = ConnectionArguments { url: url.clone(), ca_file: ca_file.clone(), token: token.clone() };
        let Server { endpoint, trust, token, .. } = of.locate(terminal)?;
        Ok(Running { url: endpoint.to_string(), trust, token, pid: self.pid })
    }

    fn chosen(&self) -> Vec<&'static Scenario> {
        if self.scenarios.is_empty() {
            return vec![&LIVE];
        }
        let named = |all: &'static str, list: &'static [Scenario]| {
            let wanted = move |scenario: &&Scenario| {
                self.scenarios.iter().any(|name| name == all || name == scenario.name)
            };
            list.iter().filter(wanted)
        };
        let live = self.scenarios.iter().any(|name| name == LIVE.name).then_some(&LIVE);
        named("all", SCENARIOS).chain(named("proofs", PROOFS)).chain(live).collect()
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

/// The server that was started in this folder with --dev, if it is there: anybody else's has to be named.
fn started_here(terminal: &mut Terminal<'_>) -> Option<Running> {
    let server = ConnectionArguments::default().locate(terminal).ok().filter(|server| server.of_dev)?;
    let there = TcpStream::connect((server.endpoint.host(), server.endpoint.port())).is_ok();
    let Server { endpoint, trust, token, .. } = server;
    there.then(|| {
        terminal.say(format_args!("load for {endpoint}, which was started here with --dev"));
        Running { url: endpoint.to_string(), trust, token, pid: None }
    })
}

/// Where the part of a page begins that was measured elsewhere.
const ELSEWHERE: &str = "<!-- Measured by other commands: -->";

/// Writes the page anew, but for what was measured elsewhere.
fn write(file: &Path, report: &Report, bench: &Bench) -> anyhow::Result<()> {
    let title = if bench.scenarios == ["proofs"] { "Proofs" } else { "Benchmarks" };
    let database = if bench.database.is_some() { " --database URL" } else { "" };
    let command =
        format!("pulsewire bench {}{database} --write {}", bench.scenarios.join(" "), file.display());
    let before = std::fs::read_to_string(file).unwrap_or_default();
    Ok(std::fs::write(file, renewed(&before, report.page(title, &command)))?)
}

/// A page with what was measured elsewhere in the one before.
fn renewed(before: &str, page: String) -> String {
    match before.find(ELSEWHERE) {
        Some(from) => page + "\n" + &before[from..],
        None => page,
    }
}

fn failed(error: &anyhow::Error, terminal: &mut Terminal<'_>) -> Exit {
    terminal.say(format_args!("error: {error:#}"));
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage() {
        assert_eq!([share("1%"), share("0.5 %"), share("100")], [Ok(0.01), Ok(0.005), Ok(1.0)]);
        assert!(share("101%").is_err() && share("few").is_err());
    }

    #[test]
    fn what_was_measured_elsewhere_stays_on_the_page() {
        let elsewhere = format!("{ELSEWHERE}\n\n## dashboard\n");
        let page = renewed(&format!("# Old\n\n{elsewhere}"), "# New\n".to_owned());
        assert_eq!(page, format!("# New\n\n{elsewhere}"));
        assert_eq!(renewed(&page, "# New\n".to_owned()), page);
        assert_eq!(renewed("# Old\n", "# New\n".to_owned()), "# New\n");
    }

    #[test]
    fn only_scenarios_that_exist_are_accepted() {
        for scenario in SCENARIOS {
            assert!(super::scenario(scenario.name).is_ok());
        }
        assert!(scenario("all").is_ok());
        assert!(scenario("everything").unwrap_err().contains("fanout"));
    }
}
