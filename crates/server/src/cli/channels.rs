//! `pulsewire channels`: which channels there are, and who reads them.

use clap::{Args, Subcommand};

use super::admin::{Admin, escaped, target};
use super::connection::{ConnectionArguments, block_on};
use super::list::columns::{CHANNEL_GROUPS, CHANNELS, READERS};
use super::list::{self, Output};
use super::{Exit, Terminal, watch};

/// Which channels there are.
#[derive(Debug, Subcommand)]
pub enum Channels {
    /// List channels, those with most subscribers first.
    Ls(Ls),
    /// Show one, with its readers, those furthest behind first.
    Show(Show),
}

/// What to list.
#[derive(Debug, Args)]
pub struct Ls {
    /// Terms that all hold, such as 'prefix:run rate>10'; docs/operate/admin-api.md lists the fields.
    #[arg(long, value_name = "TERMS", allow_hyphen_values = true)]
    pub filter: Option<String>,
    /// By which field, with - in front from the largest: subscribers, rate, bytes, head, present, name.
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// At most so many, up to 200.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub limit: Option<u32>,
    /// Groups instead of channels: by prefix, namespace or kind.
    #[arg(long, value_name = "FIELD")]
    pub group: Option<String>,
    /// How, and how often.
    #[command(flatten)]
    pub view: watch::View,
    /// Where.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Which channel.
#[derive(Debug, Args)]
pub struct Show {
    /// Its name, such as run:42.
    pub channel: String,
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Where.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Lists or shows.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Channels, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    match command {
        Channels::Ls(command) => {
            let columns = if command.group.is_some() { CHANNEL_GROUPS } else { CHANNELS };
            watch::list(&command.view, &command.connection, &command.path(), columns, terminal)
        }
        Channels::Show(command) => show(command, terminal),
    }
}

impl Ls {
    fn path(&self) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        target(
            "/api/admin/channels",
            &[
                ("filter", self.filter.clone()),
                ("sort", self.sort.clone()),
                ("limit", limit),
                ("group", self.group.clone()),
            ],
        )
    }
}

fn show(command: &Show, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let connection = command.connection.resolve(terminal)?;
    let path = format!("/api/admin/channels/{}", escaped(&command.channel, '%'));
    let shown = block_on(terminal, async |terminal| Admin::new(&connection).get(&path, terminal).await)??;
    match command.output {
        Output::Json => terminal.data(serde_json::to_string_pretty(&shown).unwrap_or_default()),
        Output::Jsonl => terminal.data(&shown),
        Output::Table => {
            list::fields(&shown, terminal);
            let readers = shown["readers"].as_array().map_or(&[][..], Vec::as_slice);
            if !readers.is_empty() {
                terminal.data("\nreaders");
                for line in list::table(readers, READERS, list::at(&shown), None) {
                    terminal.data(format_args!("  {line}"));
                }
            }
        }
    }
    Ok(Exit::Ok)
}
