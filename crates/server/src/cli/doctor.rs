//! `pulsewire doctor`: what stands between clients and a server, and what to do about it.
//!
//! Each check has an id that stays, a verdict, and one remedy where it is not well. `local` looks at the settings and
//! the machine a server would run on, `remote` at a server as a client sees it, with everything that stands between
//! them; `idle` waits to see who ends a connection on which nothing is said. What was found is written in one of four
//! forms by `finding`.

mod finding;
mod idle;
mod line;
mod local;
mod machine;
mod remote;
mod talk;
mod web;

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use self::finding::Examination;
use super::connection::ConnectionArguments;
use super::{Exit, SettingsArguments, Terminal};

/// Find what is wrong with a server, with this machine, or on the way between them.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Which server; with a URL on the command line and no settings, only that server is looked at.
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// The settings a server on this machine would have.
    #[command(flatten)]
    pub settings: SettingsArguments,
    /// Look at the settings and this machine only.
    #[arg(long, conflicts_with_all = ["url", "deep"])]
    pub local: bool,
    /// Also say nothing on a connection for a while, to see whether a proxy ends it.
    #[arg(long)]
    pub deep: bool,
    /// How long --deep says nothing; most proxies wait for 60 s.
    #[arg(long, value_name = "SPAN", default_value = "70s", value_parser = super::span, requires = "deep")]
    pub silence: Duration,
    /// A channel that may take a test event of 48 KiB; nothing is kept of it if the channel keeps nothing.
    #[arg(long, value_name = "CHANNEL", default_value = "demo:doctor")]
    pub channel: String,
    /// How to print what was found.
    #[arg(short = 'o', long, visible_alias = "output", default_value = "text")]
    pub format: Format,
    /// Show no progress.
    #[arg(long)]
    pub no_progress: bool,
}

/// The form of what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: a line for each check, and the remedy below what is not well.
    Text,
    /// For programs: every check with its id, verdict, text, value and remedy.
    Json,
    /// A line for Nagios and its kin, with exit codes 0 to 3.
    Nagios,
    /// For the text file collector of Prometheus.
    Prometheus,
}

/// Examines and reports.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Doctor, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let mut examination = Examination::default();
    let server = if command.local { None } else { Some(command.connection.locate(terminal)?) };
    if command.looks_here() {
        let mut flags = command.settings.flags();
        // Whoever runs `serve --dev` here without a file means the same settings.
        let plain = flags.config.is_none() && flags.set.is_empty() && !Path::new("pulsewire.toml").exists();
        flags.dev |= plain && server.as_ref().is_some_and(|server| server.of_dev);
        local::examine(flags, &mut examination);
    }
    if let Some(server) = &server {
        let silence = command.deep.then_some(command.silence);
        let patience = Patience { silence, progress: command.progress(), channel: &command.channel };
        remote::examine(server, &patience, &mut examination);
    }
    let exit = match command.format {
        Format::Nagios => examination.nagios_exit(),
        _ => examination.exit(),
    };
    terminal.data(examination.shown(command.format).trim_end());
    Ok(exit)
}

/// What the examination of a server may take.
#[derive(Debug, Clone, Copy)]
struct Patience<'a> {
    /// How long nothing is said, if that is looked at.
    silence: Option<Duration>,
    progress: bool,
    channel: &'a str,
}

impl Doctor {
    fn looks_here(&self) -> bool {
        let Self { settings, connection, local, .. } = self;
        *local
            || connection.url.is_none()
            || settings.config.is_some()
            || settings.dev
            || !settings.set.is_empty()
    }

    fn progress(&self) -> bool {
        !self.no_progress && std::io::stderr().is_terminal()
    }
}

/// A bar for something that takes so long, on a terminal only.
fn bar(shown: bool, what: &'static str, span: Duration) -> ProgressBar {
    if !shown {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(span.as_secs());
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos} s / {len} s") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}
