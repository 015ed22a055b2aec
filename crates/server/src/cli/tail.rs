//! `pulsewire tail`: what happens on channels, line by line.
//!
//! Events go to standard output; what happens to the connection goes to standard error, so a pipe sees data only. The
//! client behind it resumes by itself: a lost connection costs a line, not events.

mod history;
mod lines;
mod summary;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use pulsewire_client::{
    Attend, Client, Deliveries, Delivery, Narrow, Options, PresenceUpdate, Reason, Sequence, ServerError,
    Start, State,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::history::History;
use self::lines::Lines;
use self::summary::Summary;
use super::connection::{Connection, ConnectionArguments, block_on, report};
use super::{Exit, Terminal};

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
    /// Only events with this tag, such as region=eu; can be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = super::publish::tag)]
    pub tags: Vec<(String, String)>,
    /// Roll metric channels up: 1s, 5s, 1m, 5m or 1h.
    #[arg(long, value_name = "SPAN")]
    pub interval: Option<String>,
    /// Stop after N events.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Show who is in the channels, who comes and who goes.
    #[arg(long)]
    pub presence: bool,
    /// Print each frame as the JSON it came as.
    #[arg(long)]
    pub raw: bool,
    /// Also write what is told to this file, for `pulsewire check-history`; the reader is named like the file.
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Print one line a second with rates and latencies instead of the events.
    #[arg(long, conflicts_with = "raw")]
    pub stats: bool,
    /// Where from.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Follows until interrupted, until `--limit`, or until the server says that coming back is pointless.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Tail, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let connection = command.connection.resolve(terminal)?;
    let create = |path: &PathBuf| {
        History::create(path, &command.tags).map_err(|error| not_written(path, &error, terminal))
    };
    let history = command.history.as_ref().map(create).transpose()?;
    block_on(terminal, async |terminal| {
        let begun = Instant::now();
        let (client, deliveries) = Client::start(command.options(&connection));
        let mut following = Following { history, ..Following::new(command, connection) };
        let exit = following.follow(deliveries, terminal).await;
        client.close().await;
        if following.was_live {
            terminal.say(following.summary.line(begun.elapsed()));
        }
        exit
    })
}

impl Tail {
    fn options(&self, connection: &Connection) -> Options {
        let start = match (self.since, self.last) {
            (Some(sequence), _) => Start::After(Sequence(sequence)),
            (None, Some(last)) => Start::Last(last),
            (None, None) => Start::Live,
        };
        let mut options = Options::new(connection.endpoint.clone());
        options.trust = connection.trust.clone();
        options.token = Some(connection.token.clone());
        options.channels = self.channels.iter().map(|channel| (channel.clone(), start.clone())).collect();
        options.narrow = Narrow {
            tags: self.tags.iter().cloned().collect(),
            interval: self.interval.clone(),
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
    summary: Summary,
    history: Option<History<BufWriter<File>>>,
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
    fn new(command: &'c Tail, connection: Connection) -> Following<'c> {
        Following {
            lines: Lines::new(command.channels.len() > 1),
            summary: Summary::default(),
            history: None,
            command,
            connection,
            was_live: false,
            lost_at: None,
            recovering: None,
        }
    }

    async fn follow(&mut self, mut deliveries: Deliveries, terminal: &mut Terminal<'_>) -> Exit {
        if std::io::stdout().is_terminal() && !self.command.raw {
            let header = if self.command.stats { Summary::header() } else { self.lines.header() };
            terminal.data(header);
        }
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        tick.tick().await;
        let interrupted = interruption();
        tokio::pin!(interrupted);
        loop {
            let delivery = tokio::select! {
                delivery = deliveries.next() => delivery,
                () = &mut interrupted => return Exit::Ok,
                _ = tick.tick(), if self.command.stats => {
                    terminal.data(self.summary.second());
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
    }

    fn take(&mut self, delivery: Delivery, terminal: &mut Terminal<'_>) -> Option<Exit> {
        if let (Some(history), Some(path)) = (&mut self.history, &self.command.history)
            && let Err(error) = history.told(&delivery)
        {
            return Some(not_written(path, &error, terminal));
        }
        match delivery {
            Delivery::State { to, reason, .. } => return self.state(to, reason, terminal),
            Delivery::Refused(error) => {
                terminal.say(format_args!("error: {error}"));
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
                if self.command.raw {
                    terminal.data(&event.frame);
                } else if !self.command.stats {
                    terminal.data(self.lines.event(&event, latency));
                }
            }
            Delivery::Presence(update) => self.presence(&update, terminal),
            Delivery::Values { values, text, .. } => {
                if self.command.raw {
                    terminal.data(&text);
                } else if !self.command.stats {
                    for value in &values {
                        terminal.data(self.lines.value(value));
                    }
                }
            }
            Delivery::Message { kind, channel, text } => {
                self.summary.event(None);
                if self.command.raw {
                    terminal.data(&text);
                } else if !self.command.stats {
                    terminal.data(self.lines.message(&kind, channel.as_deref(), &text));
                }
            }
            Delivery::Gap { channel, from, to, reason } => {
                self.summary.gaps += 1;
                if let Some(recovering) = &mut self.recovering {
                    recovering.gaps += 1;
                }
                terminal.say(format_args!("-- {channel}: events {from} to {to} are missing ({reason})"));
            }
            Delivery::Reset { channel, .. } => {
                terminal.say(format_args!(
                    "-- {channel}: its history starts anew, earlier sequences no longer count"
                ));
            }
            Delivery::Dropped { channel, count } => {
                terminal.say(format_args!("-- {channel}: {count} events dropped, this reader was too slow"));
            }
            Delivery::ReplayEnd { .. } => self.recovered(terminal),
            Delivery::Subscribed { .. } => {}
        }
        None
    }

    /// Who was there, came and went; where they point changes too often for lines.
    fn presence(&mut self, update: &PresenceUpdate, terminal: &mut Terminal<'_>) {
        if self.command.raw {
            terminal.data(&update.frame);
        } else if !self.command.stats {
            let came = if update.first { "present" } else { "joined" };
            for member in &update.joined {
                terminal.data(self.lines.member(came, &update.channel, &member.user));
            }
            for member in &update.left {
                terminal.data(self.lines.member("left", &update.channel, &member.user));
            }
        }
    }

    fn state(&mut self, to: State, reason: Option<Reason>, terminal: &mut Terminal<'_>) -> Option<Exit> {
        match (to, reason) {
            (State::Live, _) => {
                self.was_live = true;
                if let Some(lost_at) = self.lost_at.take() {
                    self.summary.reconnects += 1;
                    self.recovering = Some(Recovering::default());
                    terminal.say(format_args!("-- back after {:.1} s", lost_at.elapsed().as_secs_f64()));
                }
            }
            (State::Waiting { wait }, Some(reason)) if self.was_live => {
                self.lost_at.get_or_insert_with(Instant::now);
                terminal.say(format_args!("-- {reason}, retrying in {:.1} s …", wait.as_secs_f64()));
            }
            (State::Waiting { .. } | State::Closed, Some(reason)) => {
                return Some(report(&reason, &self.connection.endpoint, terminal));
            }
            _ => {}
        }
        None
    }

    fn recovered(&mut self, terminal: &mut Terminal<'_>) {
        if let Some(Recovering { events, gaps }) = self.recovering.take() {
            let gaps = if gaps == 0 { "no gap".to_owned() } else { format!("{gaps} gaps") };
            terminal.say(format_args!("-- {events} events recovered, {gaps}"));
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
