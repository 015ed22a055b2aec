//! `pulsewire upstreams`: the streams that a server holds open to others, and what an operator does with them.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{Admin, escaped, target};
use super::canary;
use super::connection::{ConnectionArguments, block_on};
use super::list::columns::{LINKS, STREAMS};
use super::list::{self, Output};
use super::{Exit, Terminal, watch};

/// The streams that a server holds open to others.
#[derive(Debug, Subcommand)]
pub enum Upstreams {
    /// List streams, what is wrong first.
    Ls(Ls),
    /// Show an upstream: what is declared, its streams and their links.
    Show(Show),
    /// Have an upstream's streams try again at once, whatever they have been through.
    Restart(Restart),
    /// Close streams that nobody has listened to for a while.
    Cleanup(Cleanup),
    /// Show how the candidate does beside stable, and what the server thinks of it.
    Canary(Compare),
}

/// What to list.
#[derive(Debug, Args)]
pub struct Ls {
    /// Terms that all hold, such as 'upstream:quotes state:waiting errors>10'; docs/operate/admin-api.md lists the fields.
    #[arg(long, value_name = "TERMS", allow_hyphen_values = true)]
    pub filter: Option<String>,
    /// By which field, with - in front from the largest: trouble, upstream, key, listeners, rate, retries, errors, idle …
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// At most so many, up to 200.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub limit: Option<u32>,
    /// How, and how often.
    #[command(flatten)]
    pub view: watch::View,
    /// Where.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Which upstream.
#[derive(Debug, Args)]
pub struct Show {
    /// Its name, such as quotes.
    pub name: String,
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Where.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Which upstream, or which of its streams.
#[derive(Debug, Args)]
pub struct Restart {
    /// Its name, such as quotes, or the id of one stream, as `upstreams show` shows it.
    pub name: String,
    /// How to print what was done.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Where; the token needs the role operator or admin.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Which streams.
#[derive(Debug, Args)]
pub struct Cleanup {
    /// Those that nobody has listened to for so long; 0s means all that nobody listens to now.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = idle)]
    pub idle: Duration,
    /// How to print what was done.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Where; the token needs the role operator or admin.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// How to show the comparison.
#[derive(Debug, Args)]
pub struct Compare {
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Where.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// A span of time, which may be nothing.
fn idle(text: &str) -> Result<Duration, String> {
    crate::settings::duration_from_text(text)
        .ok_or_else(|| "expected a time such as 0s, 30s or 10m".to_owned())
}

/// Lists, shows or does something.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Upstreams, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    match command {
        Upstreams::Ls(command) => {
            watch::list(&command.view, &command.connection, &command.path(), STREAMS, terminal)
        }
        Upstreams::Show(command) => show(command, terminal),
        Upstreams::Restart(command) => restart(command, terminal),
        Upstreams::Cleanup(command) => cleanup(command, terminal),
        Upstreams::Canary(command) => canary::show(&command.connection, command.output, terminal),
    }
}

impl Ls {
    fn path(&self) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        let parameters = [("filter", self.filter.clone()), ("sort", self.sort.clone()), ("limit", limit)];
        target("/api/admin/upstreams", &parameters)
    }
}

fn show(command: &Show, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let connection = command.connection.resolve(terminal)?;
    let parameters = [("upstream", Some(command.name.clone())), ("limit", Some("200".to_owned()))];
    let path = target("/api/admin/upstreams", &parameters);
    let found = block_on(terminal, async |terminal| Admin::new(&connection).get(&path, terminal).await)??;
    let declared = &found["declared"][0];
    if declared.is_null() && list::rows(&found).is_empty() {
        terminal.say(format_args!(
            "error: there is no upstream {}; `pulsewire upstreams ls` shows which there are",
            command.name
        ));
        return Err(Exit::Failed);
    }
    match command.output {
        Output::Json => {
            let shown = json!({ "declared": declared, "streams": found["rows"] });
            terminal.data(serde_json::to_string_pretty(&shown).unwrap_or_default());
        }
        Output::Jsonl => list::rows(&found).iter().for_each(|row| terminal.data(row)),
        Output::Table => page(&found, terminal),
    }
    Ok(Exit::Ok)
}

/// What is declared, then the streams, then the links of each.
fn page(found: &Value, terminal: &mut Terminal<'_>) {
    let declared = &found["declared"][0];
    list::fields(declared, terminal);
    for url in declared["urls"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        terminal.data(format_args!("  {:24} {}", "url", super::screen::printable(url)));
    }
    let streams = list::rows(found);
    if streams.is_empty() {
        terminal.say("no stream is open: one opens when somebody subscribes to a channel that it feeds");
        return;
    }
    let mut shown = |title: &str, rows: &[Value], columns| {
        terminal.data(format_args!("\n{title}"));
        for line in list::table(rows, columns, list::at(found), None) {
            terminal.data(format_args!("  {line}"));
        }
    };
    shown("streams", streams, STREAMS);
    let links: Vec<Value> = streams.iter().flat_map(links).collect();
    shown("links", &links, LINKS);
    if let Some(rest) = list::rest(found, LINKS) {
        terminal.say(rest);
    }
}

/// The links of a stream, each with the stream's id.
fn links(stream: &Value) -> Vec<Value> {
    let all = stream["links"].as_array().into_iter().flatten();
    all.map(|link| {
        let mut link = link.clone();
        link["stream"] = stream["id"].clone();
        link
    })
    .collect()
}

fn restart(command: &Restart, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let path = format!("/api/admin/upstreams/{}/restart", escaped(&command.name, '%'));
    let done = act(&command.connection, &path, terminal)?;
    let told = match done["restarted"].as_u64() {
        Some(0) => format!("{} has no stream that could be restarted", command.name),
        Some(restarted) => format!("{restarted} restarted; `pulsewire upstreams ls` shows how it goes"),
        None => format!("{} is restarted", command.name),
    };
    print(&done, &told, command.output, terminal);
    Ok(Exit::Ok)
}

fn cleanup(command: &Cleanup, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let path = format!("/api/admin/upstreams/cleanup?idle_ms={}", command.idle.as_millis());
    let done = act(&command.connection, &path, terminal)?;
    print(&done, &format!("{} closed", done["closed"]), command.output, terminal);
    Ok(Exit::Ok)
}

/// Asks for something to be done that takes no more words than its path.
pub(super) fn act(
    connection: &ConnectionArguments,
    path: &str,
    terminal: &mut Terminal<'_>,
) -> Result<Value, Exit> {
    let connection = connection.resolve(terminal)?;
    block_on(terminal, async |terminal| Admin::new(&connection).post(path, &json!({}), terminal).await)?
}

/// Writes what was done, for people or as the server said it.
pub(super) fn print(done: &Value, told: &str, output: Output, terminal: &mut Terminal<'_>) {
    match output {
        Output::Table => terminal.data(told),
        Output::Json | Output::Jsonl => terminal.data(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_may_be_idle_for_no_time_at_all() {
        assert_eq!(idle("0s"), Ok(Duration::ZERO));
        assert_eq!(idle("2m"), Ok(Duration::from_secs(120)));
        assert!(idle("soon").is_err());
    }
}
