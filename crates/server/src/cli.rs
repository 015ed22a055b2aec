//! The command line: what can be asked, and how the answer ends.
//!
//! Data goes to standard output and talk to standard error, so that output can be piped. Every
//! error says what to do next. The exit code tells scripts what happened; see [`Exit`].

pub mod bench;
pub mod check_history;
pub mod config;
pub mod connection;
pub mod publish;
pub mod report;
pub mod tail;
pub mod token;

use std::{io::Write, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::settings::{Flags, Problem, Settings, Sources};

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
    /// Measure a server against the budgets of the design.
    Bench(bench::Bench),
    /// Show how a running server did over a period: trends, percentiles, thresholds.
    Report(report::Report),
    /// Judge logs of publishers and readers: was anything lost, repeated, turned around or leaked?
    CheckHistory(check_history::CheckHistory),
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
        Flags { listen: self.listen.clone(), data: self.data.clone(), ..self.settings.flags() }
    }
}

/// Where a command writes: data and talk.
pub struct Terminal<'a> {
    /// Standard output: what was asked for.
    pub out: &'a mut dyn Write,
    /// Standard error: what a person should know.
    pub err: &'a mut dyn Write,
}

impl std::fmt::Debug for Terminal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Terminal")
    }
}

impl Terminal<'_> {
    /// Writes a line of data. A reader that went away, as `head` does, is no error.
    pub fn data(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.out, "{text}");
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

/// Loads settings, or says everything that is wrong with them.
///
/// # Errors
///
/// The exit code, after the problems have been written.
pub fn load(sources: &Sources, terminal: &mut Terminal<'_>) -> Result<Settings, Exit> {
    Settings::load(sources).map_err(|problems| terminal.problems(&problems))
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

/// Runs a command to its end.
pub fn run(cli: Cli, terminal: &mut Terminal<'_>) -> Exit {
    let ended = match cli.command {
        Command::Serve(arguments) => serve(&arguments, terminal),
        Command::Config(command) => config::run(&command, terminal),
        Command::Token(command) => token::run(&command, terminal),
        Command::Publish(command) => publish::run(&command, terminal),
        Command::Tail(command) => tail::run(&command, terminal),
        Command::Bench(command) => bench::run(&command, terminal),
        Command::Report(command) => report::run(&command, terminal),
        Command::CheckHistory(command) => check_history::run(&command, terminal),
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
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
