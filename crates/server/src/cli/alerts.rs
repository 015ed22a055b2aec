//! `pulsewire alerts` and `pulsewire drain`: what an operator does when something fires, or before a node goes.

use clap::{Args, Subcommand};
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
    /// `on` has the node that is asked send its clients elsewhere and let nobody new in until `off`; the id or the name
    /// of another node, as `/api/admin/nodes` shows it, has that one do so.
    #[arg(value_name = "on|off|NODE")]
    pub target: String,
    /// Have the other node take clients in again.
    #[arg(long)]
    pub off: bool,
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
    let (on, node) = match command.target.as_str() {
        "on" => (!command.off, None),
        "off" => (false, None),
        node => (!command.off, Some(node)),
    };
    if on {
        let question = "send every client elsewhere and let nobody new in?";
        let question = node.map_or_else(|| question.to_owned(), |node| format!("{node}: {question}"));
        confirmed(&question, command.yes, terminal)?;
    }
    let told = match (on, node) {
        (true, None) => "clients are sent elsewhere; `pulsewire drain off` ends it".to_owned(),
        (true, Some(node)) => {
            format!("{node} sends its clients elsewhere; `pulsewire drain {node} --off` ends it")
        }
        (false, None) => "clients are let in".to_owned(),
        (false, Some(node)) => format!("{node} lets clients in"),
    };
    let mut body = json!({ "drain": on });
    if let Some(node) = node {
        body["node"] = node.into();
    }
    act(&command.connection, "/api/admin/drain", &body, command.output, &told, terminal)
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
