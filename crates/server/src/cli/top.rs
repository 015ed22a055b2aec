//! `pulsewire top`: a server at a glance, and who is to blame.
//!
//! What is shown and what a key does is decided without I/O in `state` and drawn in `draw`; `feed` brings what the
//! server says, and `screen` is the terminal. Without a terminal it prints what `stat` does.

#[cfg(feature = "tui")]
mod draw;
#[cfg(feature = "tui")]
mod feed;
#[cfg(feature = "tui")]
mod screen;
#[cfg(feature = "tui")]
mod sheet;
#[cfg(feature = "tui")]
mod state;
#[cfg(feature = "tui")]
mod trend;
#[cfg(feature = "tui")]
mod view;

#[cfg(feature = "tui")]
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::admin::{Admin, target};
use super::connection::{ConnectionArguments, block_on};
use super::list::Output;
use super::stat::{self, Stat};
use super::{Exit, Terminal};

/// A server at a glance, and who is to blame.
#[derive(Debug, Args)]
pub struct Top {
    /// Only connections for which all of these terms hold, such as 'user:ann* queue>64k'; / changes it.
    #[arg(long, value_name = "TERMS", allow_hyphen_values = true)]
    pub filter: Option<String>,
    /// By which field connections are sorted, with - in front from the largest; s and r change it.
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// How often the server is asked where it cannot tell by itself.
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = super::span)]
    pub interval: Duration,
    /// Print overview and connections once, as a document, and end.
    #[arg(long)]
    pub once: bool,
    /// How --once and a pipe print it.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Where.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Shows until it is left.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Top, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    if command.once {
        return once(command, terminal);
    }
    #[cfg(feature = "tui")]
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        let connection = command.connection.resolve(terminal)?;
        let wanted = view::Wanted::new(command.sort.clone(), command.filter.clone());
        return screen::run(&connection, wanted, command.interval, terminal);
    }
    let Top { interval, output, connection, .. } = command;
    let stat = Stat { count: None, interval: *interval, output: *output, connection: connection.clone() };
    stat::run(&stat, terminal)
}

/// Everything that would be shown first, as one document.
fn once(command: &Top, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let connection = command.connection.resolve(terminal)?;
    let path = target(
        "/api/admin/connections",
        &[("sort", command.sort.clone()), ("filter", command.filter.clone())],
    );
    let (overview, connections) = block_on(terminal, async |terminal| {
        let mut admin = Admin::new(&connection);
        let overview = admin.get("/api/admin/overview", terminal).await?;
        Ok((overview, admin.get(&path, terminal).await?))
    })??;
    match command.output {
        Output::Json => {
            let all = json!({ "overview": overview, "connections": connections });
            terminal.data(serde_json::to_string_pretty(&all).unwrap_or_default());
        }
        Output::Jsonl => terminal.data(json!({ "overview": overview, "connections": connections })),
        Output::Table => {
            stat::print(&overview, terminal);
            terminal.data("");
            let columns = super::list::columns::ACTIVE;
            super::list::show(&connections, columns, Output::Table, None, terminal);
        }
    }
    Ok(Exit::Ok)
}
