//! `pulsewire stat`: how a server does, a line at a time.
//!
//! Each line is one look at `GET /api/admin/overview`; a connection that fails is a line on standard error, and the next
//! look tries again.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;
use tokio::signal::ctrl_c;
use tokio::time::{MissedTickBehavior, interval};

use super::admin::Admin;
use super::connection::{ConnectionArguments, block_on};
use super::list::Output;
use super::number::{Unit, number_text};
use super::{Exit, Terminal};

/// The heading comes again after so many lines.
const HEADING_EVERY: u64 = 20;

/// How a server does, a line at a time.
#[derive(Debug, Args)]
pub struct Stat {
    /// Stop after so many lines.
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// How often.
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = super::span)]
    pub interval: Duration,
    /// How to print it; json is one document a look, as jsonl is.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Where.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Prints a line for each look until interrupted, or as often as was asked.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Stat, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let connection = command.connection.resolve(terminal)?;
    block_on(terminal, async |terminal| {
        let mut admin = Admin::new(&connection);
        let mut tick = interval(command.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut looks, mut answered) = (0, false);
        while terminal.is_read() && command.count.is_none_or(|count| looks < count) {
            tokio::select! {
                _ = tick.tick() => {}
                _ = ctrl_c() => break,
            }
            let overview = match admin.get("/api/admin/overview", terminal).await {
                Ok(overview) => overview,
                // A server that was there may be starting anew.
                Err(Exit::Unreachable) if answered => continue,
                Err(exit) => return Err(exit),
            };
            answered = true;
            if command.output == Output::Table && heads(looks) {
                terminal.data(heading());
            }
            match command.output {
                Output::Table => terminal.data(line(&overview)),
                Output::Json | Output::Jsonl => terminal.data(&overview),
            }
            looks += 1;
        }
        Ok(Exit::Ok)
    })?
}

/// One look with its heading.
pub(super) fn print(overview: &Value, terminal: &mut Terminal<'_>) {
    terminal.data(heading());
    terminal.data(line(overview));
}

/// In a pipe one heading is enough.
fn heads(looks: u64) -> bool {
    looks == 0 || std::io::stdout().is_terminal() && looks.is_multiple_of(HEADING_EVERY)
}

/// A column: its title, its figure, its unit and its width.
type Shown = (&'static str, &'static str, Unit, usize);

const SHOWN: [Shown; 13] = [
    ("CONNS", "connections.active", Unit::Plain, 6),
    ("OPEN/S", "connections.opened", Unit::Plain, 6),
    ("CLOSE/S", "connections.closed", Unit::Plain, 7),
    ("FAIL/S", "connections.failed", Unit::Plain, 6),
    ("IN/S", "messages.in", Unit::Plain, 6),
    ("OUT/S", "messages.out", Unit::Plain, 6),
    ("P50", "latency.p50", Unit::Milliseconds, 7),
    ("P95", "latency.p95", Unit::Milliseconds, 7),
    ("P99", "latency.p99", Unit::Milliseconds, 7),
    ("DROP/S", "dropped.rate", Unit::Plain, 6),
    ("QUEUED", "outbox.bytes", Unit::Bytes, 8),
    ("CPU", "cpu.process", Unit::Percent, 6),
    ("RSS", "memory.rss", Unit::Bytes, 8),
];

fn heading() -> String {
    let titles: Vec<String> = SHOWN.iter().map(|(title, _, _, width)| format!("{title:>width$}")).collect();
    format!("{:8}  {}  STATUS", "TIME", titles.join("  "))
}

fn line(overview: &Value) -> String {
    let at = overview["at"].as_str().and_then(|at| at.parse().ok()).unwrap_or_else(Timestamp::now);
    let clock = at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string();
    let cells: Vec<String> = SHOWN
        .iter()
        .map(|(_, figure, unit, width)| format!("{:>width$}", figure_text(overview, figure, *unit)))
        .collect();
    let firing = overview["counts"]["alerts"].as_u64().filter(|firing| *firing > 0);
    let firing = firing.map_or_else(String::new, |firing| format!(", {firing} firing"));
    format!("{clock}  {}  {}{firing}", cells.join("  "), overview["status"].as_str().unwrap_or("-"))
}

/// A figure of an overview as people read it; `-` for what was not measured.
pub(super) fn figure_text(overview: &Value, figure: &str, unit: Unit) -> String {
    let value = overview["figures"][figure].as_f64();
    value.map_or_else(|| "-".to_owned(), |value| number_text(value, unit))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_has_a_cell_for_each_title() {
        let overview = json!({"at": "2026-11-22T02:00:00Z", "status": "degraded", "counts": {"alerts": 1},
            "figures": {"connections.active": 4812, "messages.out": 12_345.6, "latency.p95": 3.2, "latency.p99": null,
                        "memory.rss": 123_000_000, "cpu.process": 71.25}});
        let (heading, line) = (heading(), line(&overview));
        assert_eq!(heading.split_whitespace().count(), SHOWN.len() + 2);
        assert!(line.ends_with("degraded, 1 firing"), "{line}");
        for (title, cell) in [
            ("CONNS", "4.81k"),
            ("OUT/S", "12.3k"),
            ("P95", "3.20 ms"),
            ("P99", "-"),
            ("CPU", "71.2%"),
            ("RSS", "117 MiB"),
        ] {
            let end = heading.find(title).unwrap() + title.len();
            let begin = line[..end].trim_end();
            assert!(begin.ends_with(cell), "{title}: {line}");
            assert_eq!(begin.len(), end, "{title} stands below its title: {line}");
        }
    }
}
