//! `pulsewire tail`: what happens on channels, line by line.
//!
//! Events go to standard output; what happens to the connection goes to standard error, so a pipe sees data only. The
//! client behind it resumes by itself: a lost connection costs a line, not events. What metric channels say is a table
//! on a terminal and one JSON line a message anywhere else.

mod asked;
mod lines;
mod live;
mod record;
mod series;
mod summary;
mod table;
mod view;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use pulsewire_client::{
    Attend, Client, Deliveries, Delivery, Interval, Narrow, Options, PresenceUpdate, Reason, Sequence,
    ServerError, Shape, Start, State,
};
use serde_json::value::RawValue;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::lines::Lines;
use self::record::Record;
use self::summary::Summary;
use self::view::View;
use super::connection::{Connection, ConnectionArguments, block_on, report};
use super::{Exit, Output, Terminal};

/// How often `--live` draws, if there is something new.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// The next step when the server refused what only metric channels have.
const FOR_METRICS: &str = "--interval and --history are for metric channels, such as system.metrics; follow other channels with a \
                           `pulsewire tail` of their own, without them";

/// Follow channels.
#[derive(Debug, Args)]
pub struct Tail {
    /// Channels, such as run:42 or system.metrics.
    #[arg(required = true, value_name = "CHANNEL")]
    pub channels: Vec<String>,
    /// Begin after this sequence.
    #[arg(long, value_name = "SEQ", conflicts_with = "last")]
    pub since: Option<u64>,
    /// Begin with the last N events.
    #[arg(long, value_name = "N")]
    pub last: Option<u32>,
    /// Show only these event types; comma-separated or repeated.
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub types: Vec<String>,
    /// Only events and series with this tag, such as region=eu; can be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = super::publish::tag)]
    pub tags: Vec<(String, String)>,
    /// Only events and series that pass this filter, such as '{"host":{"prefix":"web-"}}'.
    #[arg(long, value_name = "JSON", value_parser = asked::filter)]
    pub filter: Option<Box<RawValue>>,
    /// Roll metric channels up: 1s, 5s, 1m, 5m or 1h.
    #[arg(long, value_name = "SPAN", value_parser = asked::interval)]
    pub interval: Option<Interval>,
    /// Begin metric channels with their past, such as 15m, 6h or 7d.
    #[arg(long, value_name = "SPAN", value_parser = asked::span, conflicts_with_all = ["since", "last"])]
    pub history: Option<Duration>,
    /// Have metric channels sent as points (one message a series) or grouped (one a moment and set of tags).
    #[arg(long, value_name = "SHAPE", value_parser = asked::shape)]
    pub shape: Option<Shape>,
    /// Have the channels sent as MessagePack, which is smaller; what is printed is the same.
    #[arg(long)]
    pub compression: bool,
    /// Draw metric channels as a table in place, one row a series, with a sparkline of its last 30 values.
    #[arg(long, conflicts_with_all = ["raw", "output", "stats"])]
    pub live: bool,
    /// Stop after N events; a metric channel's messages count as events.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Show who is in the channels, who comes and who goes.
    #[arg(long)]
    pub presence: bool,
    /// Print each frame as the JSON it came as; those of metric channels are printed so whenever this is no terminal.
    #[arg(long)]
    pub raw: bool,
    /// `json` is the same as --raw.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Also write what is told to this file, for `pulsewire check-history`; the reader is named like the file.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Print one line a second with rates and latencies instead of the events.
    #[arg(long, conflicts_with_all = ["raw", "output"])]
    pub stats: bool,
    /// Where from.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

impl Tail {
    /// Whether each frame is printed as the JSON it came as.
    fn as_json(&self) -> bool {
        self.raw || self.output == Output::Json
    }
}

/// Follows until interrupted, until `--limit`, or until the server says that coming back is pointless.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Tail, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let is_terminal = io::stdout().is_terminal();
    if command.live && !is_terminal {
        terminal.say(
            "error: --live draws on a terminal, and standard output is none; leave it out to have one JSON line a message",
        );
        return Err(Exit::Usage);
    }
    let connection = command.connection.resolve(terminal)?;
    let create = |path: &PathBuf| {
        Record::create(path, &command.tags).map_err(|error| not_written(path, &error, terminal))
    };
    let record = command.record.as_ref().map(create).transpose()?;
    block_on(terminal, async |terminal| {
        let begun = Instant::now();
        let view = View::open(command, is_terminal).map_err(|error| {
            terminal.say(format_args!("error: the terminal cannot be drawn on: {error}"));
            Exit::Failed
        })?;
        let (client, deliveries) = Client::start(command.options(&connection));
        let mut following = Following { record, ..Following::new(command, connection, view) };
        let exit = following.follow(deliveries, terminal).await;
        following.view.close();
        client.close().await;
        if following.was_live {
            terminal.say(following.summary.line(begun.elapsed()));
        }
        Ok(exit)
    })?
}

impl Tail {
    fn options(&self, connection: &Connection) -> Options {
        let start = match (self.since, self.last, self.history) {
            (Some(sequence), ..) => Start::After(Sequence(sequence)),
            (None, Some(last), _) => Start::Last(last),
            (None, None, Some(span)) => Start::Past(span),
            (None, None, None) => Start::Live,
        };
        let mut options = Options::new(connection.endpoint.clone());
        options.trust = connection.trust.clone();
        options.token = connection.token.clone().into();
        options.channels = self.channels.iter().map(|channel| (channel.clone(), start.clone())).collect();
        options.narrow = Narrow {
            tags: self.tags.iter().cloned().collect(),
            filter: self.filter.clone(),
            interval: self.interval,
            shape: self.shape,
            compression: self.compression,
            presence: if self.presence { Attend::Watch } else { Attend::No },
        };
        options
    }
}

/// The state of one `tail`.
struct Following<'c> {
    command: &'c Tail,
    connection: Connection,
    lines: Lines,
    view: View,
    summary: Summary,
    record: Option<Record<BufWriter<File>>>,
    was_live: bool,
    lost_at: Option<Instant>,
    recovering: Option<Recovering>,
}

/// What came since the connection is back.
#[derive(Default)]
struct Recovering {
    events: u64,
    gaps: u64,
}

impl<'c> Following<'c> {
    fn new(command: &'c Tail, connection: Connection, view: View) -> Following<'c> {
        Following {
            lines: Lines::new(command.channels.len() > 1),
            view,
            summary: Summary::default(),
            record: None,
            command,
            connection,
            was_live: false,
            lost_at: None,
            recovering: None,
        }
    }

    async fn follow(&mut self, mut deliveries: Deliveries, terminal: &mut Terminal<'_>) -> Exit {
        if self.command.stats && io::stdout().is_terminal() {
            terminal.data(Summary::header());
        }
        let period = if self.command.live { DRAW_EVERY } else { Duration::from_secs(1) };
        let mut tick = interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        tick.tick().await;
        let interrupted = interruption();
        tokio::pin!(interrupted);
        while terminal.is_read() {
            let delivery = tokio::select! {
                delivery = deliveries.next() => delivery,
                () = &mut interrupted => return Exit::Ok,
                _ = tick.tick(), if self.command.stats || self.command.live => {
                    if self.command.stats {
                        terminal.data(self.summary.second());
                    }
                    self.view.draw();
                    continue;
                }
            };
            let Some(delivery) = delivery else { return Exit::Failed };
            if let Some(exit) = self.take(delivery, terminal) {
                return exit;
            }
            if self.command.limit.is_some_and(|limit| self.summary.shown >= limit) {
                return Exit::Ok;
            }
        }
        Exit::Ok
    }

    fn take(&mut self, delivery: Delivery, terminal: &mut Terminal<'_>) -> Option<Exit> {
        if let (Some(record), Some(path)) = (&mut self.record, &self.command.record)
            && let Err(error) = record.told(&delivery)
        {
            self.view.close();
            return Some(not_written(path, &error, terminal));
        }
        match delivery {
            Delivery::State { to, reason, retry_in, .. } => {
                return self.state(to, reason, retry_in, terminal);
            }
            Delivery::Refused(error) => {
                self.view.close();
                terminal.say(format_args!("error: {error}"));
                if error.code == "unsupported"
                    && (self.command.interval.is_some() || self.command.history.is_some())
                {
                    terminal.say(FOR_METRICS);
                }
                return Some(exit_of(&error));
            }
            Delivery::Event(event) => {
                if let Some(recovering) = self.recovering.as_mut().filter(|_| event.replayed) {
                    recovering.events += 1;
                }
                if !self.command.types.is_empty() && !self.command.types.contains(&event.event_type) {
                    return None;
                }
                let latency = (!event.replayed).then(|| age(event.timestamp_ms)).flatten();
                self.summary.event(latency);
                if self.command.as_json() {
                    terminal.data(&event.frame);
                } else if !self.command.stats {
                    self.view.event(terminal, &mut self.lines, |lines| lines.event(&event, latency));
                }
            }
            Delivery::Metric { metric, text } => {
                self.summary.event(None);
                self.view.metric(&metric, &text, terminal);
            }
            Delivery::Past(page) => {
                self.summary.event(None);
                self.view.past(&page, terminal);
            }
            Delivery::Stale { channel, since_ms, text } => {
                if self.command.as_json() {
                    terminal.data(text);
                } else {
                    self.view.say(terminal, view::stale(&channel, since_ms));
                }
            }
            Delivery::Presence(update) => self.presence(&update, terminal),
            Delivery::Values { values, text, .. } => {
                if self.command.as_json() {
                    terminal.data(&text);
                } else if !self.command.stats {
                    for value in &values {
                        self.view.event(terminal, &mut self.lines, |lines| lines.value(value));
                    }
                }
            }
            Delivery::Message { kind, channel, text } => {
                self.summary.event(None);
                if self.command.as_json() {
                    terminal.data(&text);
                } else if !self.command.stats {
                    let channel = channel.as_deref();
                    self.view.event(terminal, &mut self.lines, |lines| lines.message(&kind, channel, &text));
                }
            }
            Delivery::Gap { channel, from, to, reason } => {
                self.summary.gaps += 1;
                if let Some(recovering) = &mut self.recovering {
                    recovering.gaps += 1;
                }
                let text = format_args!("-- {channel}: events {from} to {to} are missing ({reason})");
                self.view.say(terminal, text);
            }
            Delivery::Reset { channel, .. } => {
                let text =
                    format_args!("-- {channel}: its history starts anew, earlier sequences no longer count");
                self.view.say(terminal, text);
            }
            Delivery::Dropped { channel, count } => {
                let text = self.view.dropped(&channel, count);
                self.view.say(terminal, text);
            }
            Delivery::ReplayEnd { .. } => self.recovered(terminal),
            Delivery::Subscribed { .. } => {}
        }
        None
    }

    /// Who was there, came and went; where they point changes too often for lines.
    fn presence(&mut self, update: &PresenceUpdate, terminal: &mut Terminal<'_>) {
        if self.command.as_json() {
            terminal.data(&update.frame);
        } else if !self.command.stats {
            let came = if update.first { "present" } else { "joined" };
            let told = update.joined.iter().map(|member| (came, member));
            for (what, member) in told.chain(update.left.iter().map(|member| ("left", member))) {
                let line = |lines: &mut Lines| lines.member(what, &update.channel, &member.user);
                self.view.event(terminal, &mut self.lines, line);
            }
        }
    }

    fn state(
        &mut self,
        to: State,
        reason: Option<Reason>,
        retry_in: Option<Duration>,
        terminal: &mut Terminal<'_>,
    ) -> Option<Exit> {
        match (to, reason) {
            (State::Live, _) => {
                if !self.was_live && self.command.live {
                    self.view.say(terminal, "live; ctrl-c ends it");
                }
                self.was_live = true;
                if let Some(lost_at) = self.lost_at.take() {
                    self.summary.reconnects += 1;
                    self.recovering = Some(Recovering::default());
                    let text = format_args!("-- back after {:.1} s", lost_at.elapsed().as_secs_f64());
                    self.view.say(terminal, text);
                }
            }
            (State::Waiting, Some(reason)) if self.was_live => {
                self.lost_at.get_or_insert_with(Instant::now);
                let text = format_args!(
                    "-- {reason}, retrying in {:.1} s …",
                    retry_in.unwrap_or_default().as_secs_f64()
                );
                self.view.say(terminal, text);
            }
            (State::Waiting | State::Closed, Some(reason)) => {
                self.view.close();
                return Some(report(&reason, &self.connection.endpoint, terminal));
            }
            _ => {}
        }
        None
    }

    fn recovered(&mut self, terminal: &mut Terminal<'_>) {
        if let Some(Recovering { events, gaps }) = self.recovering.take() {
            let gaps = if gaps == 0 { "no gap".to_owned() } else { format!("{gaps} gaps") };
            self.view.say(terminal, format_args!("-- {events} events recovered, {gaps}"));
        }
    }
}

fn not_written(path: &Path, error: &io::Error, terminal: &mut Terminal<'_>) -> Exit {
    terminal.say(format_args!("error: {} cannot be written: {error}", path.display()));
    Exit::Failed
}

/// Waits for Ctrl-C or for being asked to stop; both end with the summary.
async fn interruption() {
    let Ok(mut asked) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = asked.recv() => {}
    }
}

fn exit_of(error: &ServerError) -> Exit {
    match error.code.as_str() {
        "unauthorized" | "forbidden" | "wrong_credential" | "invalid_token" | "token_expired" => {
            Exit::Unauthorised
        }
        _ => Exit::Failed,
    }
}

/// How long ago a server time was. The clocks of two machines may differ; a time in the future counts as now.
fn age(timestamp_ms: Option<i64>) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis();
    let then = u128::try_from(timestamp_ms?).ok()?;
    Some(Duration::from_millis(u64::try_from(now.saturating_sub(then)).unwrap_or(u64::MAX)))
}
