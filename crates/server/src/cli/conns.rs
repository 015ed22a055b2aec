//! `pulsewire conns`: who is connected, what is wrong with whom, and sending somebody away.

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::admin::{Admin, escaped, target};
use super::connection::{ConnectionArguments, block_on};
use super::list::columns::{ACTIVE, CLOSED, FAILED, GROUPS, SUBSCRIPTIONS, TIMELINE};
use super::list::{self, Column, Output};
use super::{Exit, Terminal, watch};

/// Who is connected.
#[derive(Debug, Subcommand)]
pub enum Conns {
    /// List connections, worst first.
    Ls(Ls),
    /// Show everything about one.
    Show(Show),
    /// Close connections; clients come back unless --code says otherwise.
    Kill(Kill),
}

/// Which connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tab {
    /// Those that are there, or may come back to their session.
    Active,
    /// Those that ended, newest first.
    Closed,
    /// Handshakes that failed, newest first.
    Failed,
}

/// What to list.
#[derive(Debug, Args)]
pub struct Ls {
    /// Which connections.
    #[arg(long, default_value = "active")]
    pub tab: Tab,
    /// Terms that all hold, such as 'user:ann* queue>64k -state:detached'; docs/operate/admin-api.md lists the fields.
    #[arg(long, value_name = "TERMS", allow_hyphen_values = true)]
    pub filter: Option<String>,
    /// By which field, with - in front from the largest: score, queue, latency, rtt, reconnects, subs, age, sent, user …
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// At most so many, up to 200.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub limit: Option<u32>,
    /// Groups instead of connections: by user, run, project, transport, version, address, cause, node, state …
    #[arg(long, value_name = "FIELD")]
    pub group: Option<String>,
    /// Of closed and failed ones those of this time only.
    #[arg(long, value_name = "SPAN")]
    pub window: Option<String>,
    /// How, and how often.
    #[command(flatten)]
    pub view: watch::View,
    /// Where.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Which connection.
#[derive(Debug, Args)]
pub struct Show {
    /// Its id, as `conns ls` shows it.
    pub id: String,
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Where.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Which connections to close.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["id", "user", "address"]))]
pub struct Kill {
    /// The session with this id.
    pub id: Option<String>,
    /// Every connection of this user.
    #[arg(long)]
    pub user: Option<String>,
    /// Every connection from this IP address.
    #[arg(long)]
    pub address: Option<String>,
    /// The close code, 4000 to 4999, instead of 1013 (come back later); docs/codes.md says what each makes clients do.
    #[arg(long)]
    pub code: Option<u16>,
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

/// Lists, shows or closes.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Conns, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    match command {
        Conns::Ls(command) => {
            watch::list(&command.view, &command.connection, &command.path(), command.columns(), terminal)
        }
        Conns::Show(command) => show(command, terminal),
        Conns::Kill(command) => kill(command, terminal),
    }
}

impl Ls {
    fn path(&self) -> String {
        let tab = match self.tab {
            Tab::Active => None,
            Tab::Closed => Some("closed".to_owned()),
            Tab::Failed => Some("failed".to_owned()),
        };
        let limit = self.limit.map(|limit| limit.to_string());
        target(
            "/api/admin/connections",
            &[
                ("tab", tab),
                ("filter", self.filter.clone()),
                ("sort", self.sort.clone()),
                ("limit", limit),
                ("group", self.group.clone()),
                ("window", self.window.clone()),
            ],
        )
    }

    fn columns(&self) -> &'static [Column] {
        match (self.tab, &self.group) {
            (_, Some(_)) => GROUPS,
            (Tab::Active, None) => ACTIVE,
            (Tab::Closed, None) => CLOSED,
            (Tab::Failed, None) => FAILED,
        }
    }
}

fn show(command: &Show, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let connection = command.connection.resolve(terminal)?;
    let path = format!("/api/admin/connections/{}", escaped(&command.id, '%'));
    let shown = block_on(terminal, async |terminal| Admin::new(&connection).get(&path, terminal).await)??;
    match command.output {
        Output::Table => page(&shown, terminal),
        Output::Json => terminal.data(serde_json::to_string_pretty(&shown).unwrap_or_default()),
        Output::Jsonl => terminal.data(&shown),
    }
    Ok(Exit::Ok)
}

/// The parts of a connection that have a part of the page of their own.
const PARTS: [(&str, &str); 3] = [
    ("latencySplit", "where its latency comes from"),
    ("network", "its network"),
    ("clientReport", "what it says itself"),
];
/// The lists of a connection.
const LISTS: [(&str, &str, &[Column]); 3] = [
    ("subscriptionList", "subscriptions", SUBSCRIPTIONS),
    ("timeline", "timeline", TIMELINE),
    ("closedConnections", "earlier connections", CLOSED),
];

fn page(shown: &Value, terminal: &mut Terminal<'_>) {
    list::fields(shown, terminal);
    for (part, title) in PARTS {
        if shown[part].is_object() {
            terminal.data(format_args!("\n{title}"));
            list::fields(&shown[part], terminal);
        }
    }
    let now = list::at(shown);
    for (part, title, columns) in LISTS {
        let rows = shown[part].as_array().map_or(&[][..], Vec::as_slice);
        if !rows.is_empty() {
            terminal.data(format_args!("\n{title}"));
            for line in list::table(rows, columns, now, None) {
                terminal.data(format_args!("  {line}"));
            }
        }
    }
}

fn kill(command: &Kill, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let connection = command.connection.resolve(terminal)?;
    let (kind, whom) = match (&command.id, &command.user, &command.address) {
        (Some(id), ..) => ("session", id),
        (_, Some(user), _) => ("user", user),
        (_, _, Some(address)) => ("address", address),
        _ => return Err(Exit::Usage),
    };
    let question = format!("close every connection of {kind} {whom} at {}?", connection.endpoint);
    confirmed(&question, command.yes, terminal)?;
    let mut body = json!({ kind: whom });
    if let Some(code) = command.code {
        body["code"] = code.into();
    }
    let done = block_on(terminal, async |terminal| {
        Admin::new(&connection).post("/api/admin/websocket/disconnect", &body, terminal).await
    })??;
    match command.output {
        Output::Table => terminal.data(format_args!("{} closed", done["closed"])),
        Output::Json | Output::Jsonl => terminal.data(&done),
    }
    if done["closed"] == 0 {
        terminal.say(format_args!("no connection of {kind} {whom}; `pulsewire conns ls` shows who is there"));
        return Ok(Exit::Failed);
    }
    Ok(Exit::Ok)
}

/// Asks on a terminal; elsewhere --yes has to say it.
///
/// # Errors
///
/// The exit code if the answer is no.
pub(super) fn confirmed(question: &str, yes: bool, terminal: &mut Terminal<'_>) -> Result<(), Exit> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        terminal.say(format_args!("error: {question} Nobody can be asked here; --yes says that it is meant"));
        return Err(Exit::Usage);
    }
    let _ = write!(terminal.err, "{question} [y/N] ");
    let _ = terminal.err.flush();
    let mut answer = String::new();
    // What cannot be read is no yes.
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    terminal.say("nothing was done");
    Err(Exit::Failed)
}
