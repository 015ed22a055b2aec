//! The command line: what can be asked, and how the answer ends.
//!
//! Data goes to standard output and talk to standard error, so that output can be piped. Every
//! error says what to do next. The exit code tells scripts what happened; see [`Exit`].

mod admin;
pub mod alerts;
pub mod backup;
pub mod bench;
pub mod canary;
pub mod channels;
pub mod check_history;
pub mod completions;
pub mod config;
pub mod connection;
pub mod conns;
pub mod dashboards;
pub mod doctor;
pub mod health;
pub mod list;
mod number;
pub mod publish;
pub mod replay;
pub mod report;
pub mod rules;
mod screen;
pub mod stat;
pub mod tail;
pub mod token;
pub mod top;
pub mod upstreams;
pub mod watch;

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};

use crate::settings::{Flags, Problem, Settings, Sources, duration_from_text};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It failed.
    Failed = 1,
    /// The command line or the settings are wrong.
    Usage = 2,
    /// A server could not be reached.
    Unreachable = 3,
    /// A token or key was refused.
    Unauthorised = 4,
    /// A measurement missed its threshold, or a history holds what it must not.
    ThresholdMissed = 5,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Real-time events over WebSocket, with every delivery measured.
#[derive(Debug, Parser)]
#[command(name = "pulsewire", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(ServerArguments),
    /// Check, show and explain the settings, without starting anything.
    #[command(subcommand)]
    Config(config::Config),
    /// Make and check tokens and API keys.
    #[command(subcommand)]
    Token(token::Token),
    /// Publish an event, or many.
    Publish(publish::Publish),
    /// Follow channels, line by line.
    #[command(alias = "subscribe")]
    Tail(tail::Tail),
    /// Print what a channel kept, or publish it once more.
    Replay(replay::Replay),
    /// Show a server at a glance, and who is to blame.
    Top(top::Top),
    /// Show how a running server does, a line a second.
    Stat(stat::Stat),
    /// List, show and close connections.
    #[command(subcommand)]
    Conns(conns::Conns),
    /// List and show channels.
    #[command(subcommand)]
    Channels(channels::Channels),
    /// List, show and restart the streams that a server holds open to others.
    #[command(subcommand)]
    Upstreams(upstreams::Upstreams),
    /// Judge the candidate settings of upstreams beside stable's, or take them back.
    #[command(subcommand)]
    Canary(canary::Canary),
    /// List and silence alerts.
    #[command(subcommand)]
    Alerts(alerts::Alerts),
    /// Send clients elsewhere before a node goes.
    Drain(alerts::Drain),
    /// Copy a server's events and metric history, also while it runs.
    Backup(backup::Backup),
    /// Measure a server against the budgets of the design.
    Bench(bench::Bench),
    /// Find what is wrong with a server, with this machine, or on the way between them.
    Doctor(doctor::Doctor),
    /// Ask whether a server answers: exit code 0 if it does, 1 if not.
    Health(health::Health),
    /// Show how a running server did over a period: trends, percentiles, thresholds.
    Report(report::Report),
    /// Make dashboards for Grafana, and back up those that a Grafana has.
    #[command(subcommand)]
    Dashboards(dashboards::Dashboards),
    /// Make rules for Prometheus of the settings.
    #[command(subcommand)]
    Rules(rules::Rules),
    /// Judge logs of publishers and readers: was anything lost, repeated, turned around or leaked?
    CheckHistory(check_history::CheckHistory),
    /// Print completions for a shell.
    Completions(completions::Completions),
}

/// Where settings come from: shared by every command that reads them.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingsArguments {
    /// Settings file; without it `pulsewire.toml` is read if it exists.
    #[arg(short, long, value_name = "FILE", env = "PULSEWIRE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set one key, such as `heartbeat.interval=15s`; can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// For one's own machine: loopback, weak keys allowed, `demo` channels.
    #[arg(long)]
    pub dev: bool,
}

/// The arguments of `serve`, and of the commands that show what it would do.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArguments {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArguments,
    /// Address and port to listen on, such as 127.0.0.1:8000.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Folder for the server's files.
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Serve the dashboard from this folder instead of the binary, to work on it.
    #[arg(long, value_name = "DIR")]
    pub ui_dir: Option<String>,
}

impl SettingsArguments {
    /// The flags as a source of settings.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags { config: self.config.clone(), set: self.set.clone(), dev: self.dev, ..Flags::default() }
    }
}

impl ServerArguments {
    /// The flags as a source of settings.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let (listen, data, ui_dir) = (self.listen.clone(), self.data.clone(), self.ui_dir.clone());
        Flags { listen, data, ui_dir, ..self.settings.flags() }
    }
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Where a command writes: data and talk.
pub struct Terminal<'a> {
    /// Standard output: what was asked for.
    pub out: &'a mut dyn Write,
    /// Standard error: what a person should know.
    pub err: &'a mut dyn Write,
    is_read: bool,
}

impl std::fmt::Debug for Terminal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Terminal")
    }
}

impl<'a> Terminal<'a> {
    /// Data go to the first, talk to the second.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Terminal { out, err, is_read: true }
    }

    /// Writes a line of data. A reader that went away, as `head` does, is no error.
    pub fn data(&mut self, text: impl std::fmt::Display) {
        self.is_read &= writeln!(self.out, "{text}").and_then(|()| self.out.flush()).is_ok();
    }

    /// Whether somebody reads the data still: a command that would go on for ever ends when nobody does.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.is_read
    }

    /// Writes a line of talk.
    pub fn say(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.err, "{text}");
    }

    /// Writes every problem and how many there are.
    pub fn problems(&mut self, problems: &[Problem]) -> Exit {
        for problem in problems {
            self.say(format_args!("error: {problem}"));
        }
        let many = if problems.len() == 1 { "problem" } else { "problems" };
        self.say(format_args!("{} {many} in the settings; nothing was started", problems.len()));
        Exit::Usage
    }
}

/// Reads a span of time of the command line that is not nothing.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    duration_from_text(text)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "expected a time such as 10s, 30m or 12h".to_owned())
}

/// Loads settings, or says everything that is wrong with them.
///
/// # Errors
///
/// The exit code, after the problems have been written.
pub fn load(sources: &Sources, terminal: &mut Terminal<'_>) -> Result<Settings, Exit> {
    Settings::load(sources).map_err(|problems| terminal.problems(&problems))
}

/// Reads settings for what needs no key, or says everything that is wrong with them.
///
/// # Errors
///
/// The exit code, after the problems have been written.
pub fn read(sources: &Sources, terminal: &mut Terminal<'_>) -> Result<Settings, Exit> {
    Settings::read(sources).map_err(|problems| terminal.problems(&problems))
}

/// Gathers this process's sources.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn sources(flags: Flags, terminal: &mut Terminal<'_>) -> Result<Sources, Exit> {
    Sources::of_process(flags).map_err(|error| {
        terminal.say(format_args!("error: the system gives no randomness for a key: {error}"));
        Exit::Failed
    })
}

/// Writes a file whole or not at all; its folder is made if it is missing.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub(crate) fn keep(path: &Path, text: &str, terminal: &mut Terminal<'_>) -> Result<(), Exit> {
    let beside = path.with_added_extension("part");
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&beside, text))
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|error| {
            terminal.say(format_args!("error: cannot write {}: {error}", path.display()));
            Exit::Failed
        })
}

/// Runs a command to its end.
pub fn run(cli: Cli, terminal: &mut Terminal<'_>) -> Exit {
    let ended = match cli.command {
        Command::Serve(arguments) => serve(&arguments, terminal),
        Command::Config(command) => config::run(&command, terminal),
        Command::Token(command) => token::run(&command, terminal),
        Command::Publish(command) => publish::run(&command, terminal),
        Command::Tail(command) => tail::run(&command, terminal),
        Command::Replay(command) => replay::run(&command, terminal),
        Command::Top(command) => top::run(&command, terminal),
        Command::Stat(command) => stat::run(&command, terminal),
        Command::Conns(command) => conns::run(&command, terminal),
        Command::Channels(command) => channels::run(&command, terminal),
        Command::Upstreams(command) => upstreams::run(&command, terminal),
        Command::Canary(command) => canary::run(&command, terminal),
        Command::Alerts(command) => alerts::run(&command, terminal),
        Command::Drain(command) => alerts::drain(&command, terminal),
        Command::Backup(command) => backup::run(&command, terminal),
        Command::Bench(command) => bench::run(&command, terminal),
        Command::Doctor(command) => doctor::run(&command, terminal),
        Command::Health(command) => health::run(&command, terminal),
        Command::Report(command) => report::run(&command, terminal),
        Command::Dashboards(command) => dashboards::run(&command, terminal),
        Command::Rules(command) => rules::run(&command, terminal),
        Command::CheckHistory(command) => check_history::run(&command, terminal),
        Command::Completions(command) => Ok(completions::run(&command, terminal)),
    };
    ended.unwrap_or_else(|exit| exit)
}

fn serve(arguments: &ServerArguments, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let sources = sources(arguments.flags(), terminal)?;
    let settings = load(&sources, terminal)?;
    crate::serve::run(sources, settings).map_or_else(
        |error| {
            terminal.say(format_args!("error: {error:#}"));
            Err(Exit::Failed)
        },
        |()| Ok(Exit::Ok),
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn a_span_is_some_time() {
        assert_eq!(span("2s"), Ok(Duration::from_secs(2)));
        assert!(span("0s").is_err() && span("soon").is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
