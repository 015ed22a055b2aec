//! `pulsewire replay`: what a channel kept, printed or published once more.
//!
//! Pages of `GET /api/channels/{channel}/events`, one after the other. Published into another channel, each event has an
//! id made of where it came from (`copy::id`), so doing it twice, or going on after it was interrupted, repeats nothing.

mod bound;
mod copy;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use pulsewire_client::Http;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};

use self::bound::Bound;
use self::copy::Copies;
use super::admin::{escaped, target};
use super::connection::{Connection, ConnectionArguments, block_on, problem, report_request};
use super::list::Output;
use super::screen::printable;
use super::{Exit, Terminal};

/// The most events the server gives on one page.
const PAGE_EVENTS: u64 = 1_000;

/// Print what a channel kept, or publish it once more.
#[derive(Debug, Args)]
pub struct Replay {
    /// A channel that keeps events, such as run:42.
    pub channel: String,
    /// Begin with this sequence, or so long ago (15m), or at this moment (2026-11-22T02:00:00Z).
    #[arg(long, value_name = "WHERE", value_parser = bound::parse)]
    pub from: Option<Bound>,
    /// End with this sequence, or so long ago, or at this moment.
    #[arg(long, value_name = "WHERE", value_parser = bound::parse)]
    pub to: Option<Bound>,
    /// At most so many events.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Only critical ones, which are kept longer.
    #[arg(long)]
    pub critical: bool,
    /// In the time they took: 1x as they happened, 10x ten times as fast; 0 at once.
    #[arg(long, value_name = "SPEED", default_value = "0", value_parser = bound::speed)]
    pub speed: f64,
    /// Publish them into this channel instead of printing them.
    #[arg(long, value_name = "CHANNEL")]
    pub into: Option<String>,
    /// How to print them; jsonl where standard output is no terminal.
    #[arg(short, long)]
    pub output: Option<Output>,
    /// Show no progress.
    #[arg(long)]
    pub no_progress: bool,
    /// Where.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// A page of the past, as far as it is used.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    epoch: String,
    events: Vec<Box<RawValue>>,
    next_sequence: u64,
    has_more: bool,
    head: u64,
    #[serde(default)]
    gap: Option<Gap>,
}

#[derive(Debug, Deserialize)]
struct Gap {
    from: u64,
    to: u64,
    reason: String,
}

/// An event of the past.
#[derive(Debug, Deserialize)]
pub(super) struct Kept {
    pub(super) sequence: u64,
    #[serde(rename = "event")]
    pub(super) kind: String,
    pub(super) data: Box<RawValue>,
    timestamp: i64,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    pub(super) key: Option<String>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) critical: bool,
}

/// Prints or publishes.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Replay, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let connection = command.connection.resolve(terminal)?;
    block_on(terminal, async |terminal| {
        let mut replay = Replaying::new(command, &connection);
        let ended = replay.through(terminal).await;
        replay.bar.finish_and_clear();
        let all = match ended {
            Ok(()) => replay.copies.flush(&mut replay.http, terminal).await,
            Err(exit) => Err(exit),
        };
        replay.summary(terminal);
        all.map(|()| Exit::Ok)
    })?
}

/// One replay on its way.
struct Replaying<'c> {
    command: &'c Replay,
    http: Http,
    copies: Copies,
    output: Output,
    bar: ProgressBar,
    /// When the first event was printed, and when it had happened.
    begun: Option<(Instant, i64)>,
    seen: u64,
}

impl<'c> Replaying<'c> {
    fn new(command: &'c Replay, connection: &Connection) -> Replaying<'c> {
        let Connection { endpoint, trust, token } = connection.clone();
        let is_terminal = std::io::stdout().is_terminal();
        let output = command.output.unwrap_or(if is_terminal { Output::Table } else { Output::Jsonl });
        // Beside lines on the same terminal a bar is in the way.
        let quiet =
            command.no_progress || !std::io::stderr().is_terminal() || command.into.is_none() && is_terminal;
        Replaying {
            command,
            http: Http::new(endpoint, trust, Some(token)),
            copies: Copies::new(command.into.as_deref()),
            output,
            bar: if quiet { ProgressBar::hidden() } else { bar() },
            begun: None,
            seen: 0,
        }
    }

    /// Every page, until the end that was asked for.
    async fn through(&mut self, terminal: &mut Terminal<'_>) -> Result<(), Exit> {
        let mut after = self.command.from.map_or(0, Bound::after);
        let now_ms = Timestamp::now().as_millisecond();
        let mut epoch: Option<String> = None;
        loop {
            let position =
                epoch.as_ref().map_or_else(|| after.to_string(), |epoch| format!("{epoch}:{after}"));
            let page = self.page(&position, terminal).await?;
            if let Some(Gap { from, to, reason }) = &page.gap {
                terminal.say(format_args!("-- {from} to {to} are gone ({reason})"));
            }
            self.bar.set_length(self.length(&page));
            for event in &page.events {
                let kept: Kept =
                    serde_json::from_str(event.get()).map_err(|error| unread(&error, terminal))?;
                if self.command.from.is_some_and(|from| from.is_behind(kept.sequence, kept.timestamp, now_ms))
                {
                    continue;
                }
                let over =
                    self.command.to.is_some_and(|to| to.is_before(kept.sequence, kept.timestamp, now_ms));
                if over || self.command.limit.is_some_and(|limit| self.seen >= limit) {
                    return Ok(());
                }
                self.pace(kept.timestamp).await;
                self.one(&page.epoch, &kept, event, terminal).await?;
            }
            if !page.has_more || self.command.limit.is_some_and(|limit| self.seen >= limit) {
                return Ok(());
            }
            (after, epoch) = (page.next_sequence, Some(page.epoch));
        }
    }

    async fn page(&mut self, after: &str, terminal: &mut Terminal<'_>) -> Result<Page, Exit> {
        let left = self.command.limit.map_or(PAGE_EVENTS, |limit| (limit - self.seen).clamp(1, PAGE_EVENTS));
        // A moment is looked for here, so a limit counts only from there on.
        let moment = matches!(self.command.from, Some(Bound::Ago(_) | Bound::At(_)));
        let limit = if moment { PAGE_EVENTS } else { left };
        let path = target(
            &format!("/api/channels/{}/events", escaped(&self.command.channel, '%')),
            &[
                ("after", Some(after.to_owned())),
                ("limit", Some(limit.to_string())),
                ("only", self.command.critical.then(|| "critical".to_owned())),
            ],
        );
        let answer = self.http.request("GET", &path, b"").await;
        let answer = answer.map_err(|error| report_request(&error, terminal))?;
        match answer.status {
            200 => serde_json::from_slice(&answer.body).map_err(|error| unread(&error, terminal)),
            status => {
                let text = String::from_utf8_lossy(&answer.body);
                terminal.say(format_args!("error: {}", problem(status, &text)));
                Err(if matches!(status, 401 | 403) { Exit::Unauthorised } else { Exit::Failed })
            }
        }
    }

    /// How many events there are at most.
    fn length(&self, page: &Page) -> u64 {
        let ahead = page.head.saturating_sub(page.next_sequence) + page.events.len() as u64;
        self.command.limit.unwrap_or(u64::MAX).min(self.seen + ahead)
    }

    /// Waits until the event is due.
    async fn pace(&mut self, timestamp_ms: i64) {
        if self.command.speed <= 0.0 {
            return;
        }
        let (begun, first_ms) = *self.begun.get_or_insert_with(|| (Instant::now(), timestamp_ms));
        let passed_ms = timestamp_ms.saturating_sub(first_ms).max(0) as f64;
        sleep_until(begun + Duration::from_secs_f64(passed_ms / 1_000.0 / self.command.speed)).await;
    }

    async fn one(
        &mut self,
        epoch: &str,
        kept: &Kept,
        event: &RawValue,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Exit> {
        self.seen += 1;
        self.bar.inc(1);
        if self.command.into.is_some() {
            self.copies.push(&self.command.channel, epoch, kept);
            if self.command.speed > 0.0 || self.copies.is_full() {
                self.copies.flush(&mut self.http, terminal).await?;
            }
            return Ok(());
        }
        match self.output {
            Output::Table => terminal.data(line(kept)),
            Output::Json | Output::Jsonl => terminal.data(event.get()),
        }
        Ok(())
    }

    fn summary(&self, terminal: &mut Terminal<'_>) {
        let Copies { published, duplicates, .. } = self.copies;
        match &self.command.into {
            Some(into) => terminal.say(format_args!(
                "{} read, {published} published into {into}, {duplicates} were there already",
                self.seen
            )),
            None if self.seen == 1 => terminal.say("1 event"),
            None => terminal.say(format_args!("{} events", self.seen)),
        }
    }
}

fn unread(error: &serde_json::Error, terminal: &mut Terminal<'_>) -> Exit {
    terminal.say(format_args!("error: the answer is not what this version reads: {error}"));
    Exit::Failed
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("replay {bar:30} {pos}/{len}  {per_sec}") {
        bar.set_style(style);
    }
    bar
}

/// An event of the past for people.
fn line(kept: &Kept) -> String {
    let at = Timestamp::from_millisecond(kept.timestamp).unwrap_or(Timestamp::UNIX_EPOCH);
    let at = at.to_zoned(jiff::tz::TimeZone::system()).strftime("%F %H:%M:%S%.3f").to_string();
    let kind = if kept.critical { format!("{} !", kept.kind) } else { kept.kind.clone() };
    let user = printable(kept.user.as_deref().unwrap_or("-"));
    let line = format!(
        "{at}  {:>6}  {:14}  {user:12}  {}",
        kept.sequence,
        printable(&kind),
        printable(kept.data.get())
    );
    line.trim_end().to_owned()
}
