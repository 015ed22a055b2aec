//! `pulsewire alerts` and `pulsewire drain`: what an operator does when something fires, or before a node goes.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::admin::{Admin, escaped};
use super::connection::{ConnectionArguments, block_on};
use super::conns::confirmed;
use super::list::Output;
use super::list::columns::ALERTS;
use super::{Exit, Terminal, watch};

/// What the server thinks of itself.
#[derive(Debug, Subcommand)]
pub enum Alerts {
    /// List every rule and its state.
    Ls(Ls),
    /// Have one tell nobody for a while; it is evaluated and shown as before.
    Silence(Silence),
}

/// What to list.
#[derive(Debug, Args)]
pub struct Ls {
    /// How, and how often.
    #[command(flatten)]
    pub view: watch::View,
    /// Where.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Which alert, and for how long.
#[derive(Debug, Args)]
pub struct Silence {
    /// The rule, as `alerts ls` shows it.
    pub alert: String,
    /// For so many minutes; 0 ends it.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub minutes: u32,
    /// How to print what was done.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Where; the token needs the role operator or admin.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Whether clients are sent elsewhere.
#[derive(Debug, Args)]
pub struct Drain {
    /// `on` sends clients elsewhere and lets nobody new in until `off`.
    pub state: Switch,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// How to print what was done.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Where; the token needs the role operator or admin.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// From now on.
    On,
    /// No longer.
    Off,
}

/// Lists or silences.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Alerts, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    match command {
        Alerts::Ls(command) => {
            watch::list(&command.view, &command.connection, "/api/admin/alerts", ALERTS, terminal)
        }
        Alerts::Silence(command) => {
            let path = format!("/api/admin/alerts/{}/silence", escaped(&command.alert, '%'));
            let body = json!({ "minutes": command.minutes });
            let told = match command.minutes {
                0 => format!("{} tells again", command.alert),
                minutes => format!("{} tells nobody for {minutes} min", command.alert),
            };
            act(&command.connection, &path, &body, command.output, &told, terminal)
        }
    }
}

/// Sends clients elsewhere, or stops that.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn drain(command: &Drain, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let on = command.state == Switch::On;
    if on {
        confirmed("send every client elsewhere and let nobody new in?", command.yes, terminal)?;
    }
    let told =
        if on { "clients are sent elsewhere; `pulsewire drain off` ends it" } else { "clients are let in" };
    act(&command.connection, "/api/admin/drain", &json!({ "drain": on }), command.output, told, terminal)
}

fn act(
    connection: &ConnectionArguments,
    path: &str,
    body: &serde_json::Value,
    output: Output,
    told: &str,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Exit> {
    let connection = connection.resolve(terminal)?;
    let done =
        block_on(terminal, async |terminal| Admin::new(&connection).post(path, body, terminal).await)??;
    match output {
        Output::Table => terminal.data(told),
        Output::Json | Output::Jsonl => terminal.data(&done),
    }
    Ok(Exit::Ok)
}
