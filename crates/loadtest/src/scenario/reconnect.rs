//! Everybody is cut off at once and comes back as told, beside a group that stays.
//!
//! Two threads, a swarm each: those who return obey what a client obeys (`Retry-After`, `reconnect`, and without either
//! the waits of `docs/clients.md`), those who stay get a steady rate and say how late it comes, before and meanwhile.
//! The one that returns yields to the other, so that what is measured is the server.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use pulsewire_protocol::client as defaults;
use serde::Deserialize;

use super::{Bench, Progress, history, percentiles};
use crate::fleet::{Fleet, Plan};
use crate::report::Figure;
use crate::swarm::{Entry, Note, Peer, Swarm};

/// What the node lets in, in a second: the shipped default, which servers under other loads do without.
const PER_SECOND: &str = "limits.handshakes_per_second=300";
/// Those who return.
const CLIENTS: usize = 10_000;
/// Channels of those who return, and of each of them.
const CHANNELS: usize = 100;
const CHANNELS_EACH: usize = 4;
/// Those who stay: subscribers, channels, publications a second.
const STAYING: Plan = Plan { subscribers: 200, channels: 20, publishers: 2 };
const RATE: u32 = 200;
/// Everybody is back within so long (row R1).
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// When it is given up.
const PATIENCE: Duration = Duration::from_secs(180);
/// Connections begun between two looks at what has come.
const BEGUN_AT_ONCE: usize = 64;

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let clients = bench.connections_or(CLIENTS);
    let mut target = bench.server_with(&["store.url=sqlite", PER_SECOND])?;
    let entry = target.entry();
    let (tell, told) = mpsc::channel();
    let (cut, done) = (AtomicBool::new(false), AtomicBool::new(false));
    progress.say(format!("{clients} clients come at the pace of the server"));
    std::thread::scope(|scope| {
        let returning = scope.spawn(|| {
            let outcome = returning(entry, clients, &tell, &cut);
            done.store(true, Ordering::Release);
            drop(tell);
            outcome
        });
        let measured = staying(bench, progress, &mut target, &told, (&cut, &done));
        // Whatever became of those who stay, the others must not wait for it.
        cut.store(true, Ordering::Release);
        let returned = returning.join().map_err(|_| anyhow::anyhow!("the returning clients panicked"))?;
        let (mut figures, returned) = (measured?, returned?);
        figures.splice(0..0, returned.figures(clients));
        Ok(figures)
    })
}

/// Measures those who stay: for the usual time, then while the others return.
fn staying(
    bench: &Bench,
    progress: &Progress,
    target: &mut crate::target::Target,
    told: &mpsc::Receiver<()>,
    (cut, done): (&AtomicBool, &AtomicBool),
) -> anyhow::Result<Vec<Figure>> {
    let mut fleet = Fleet::gather(target, STAYING)?;
    while !done.load(Ordering::Acquire) && told.try_recv().is_err() {
        fleet.rest(Duration::from_millis(50))?;
    }
    fleet.lockstep(40, 1)?;
    let scraped = fleet.target.scrape()?;
    progress.say("live traffic before");
    let until = Instant::now() + bench.duration;
    let before = steady(&mut fleet, || Instant::now() < until)?;
    progress.say("all are cut off and come back");
    cut.store(true, Ordering::Release);
    let used = fleet.target.usage().ok();
    let during = steady(&mut fleet, || !done.load(Ordering::Acquire))?;
    let cpu_ns = fleet.target.usage().ok().zip(used).map(|(after, before)| after.cpu_ns - before.cpu_ns);
    let after = fleet.target.scrape()?;
    let sum = |family: &str, label: &str| after.sum(family, &[label]) - scraped.sum(family, &[label]);
    let p99 = |latency: &Histogram<u64>| latency.value_at_quantile(0.99) as f64;
    let mut figures = vec![
        Figure::new("reconnect_store_reads", sum("pulsewire_history_reads_total", "source=\"store\""), "")
            .at_most((3 * CHANNELS) as f64)
            .note(format!("pages read from the store; at most 3 for each of {CHANNELS} channels")),
        Figure::new(
            "reconnect_shared_reads",
            sum("pulsewire_history_reads_total", "source=\"ring\"")
                + sum("pulsewire_history_reads_total", "source=\"cache\""),
            "",
        )
        .note("pages answered from memory"),
        Figure::new(
            "reconnect_told_to_wait",
            sum("websocket_rejected_total", "reason=\"handshake_rate\""),
            "",
        )
        .note("handshakes answered 503 with a time to come back, by the server's own count"),
    ];
    if let Some(cpu_ns) = cpu_ns {
        let each = cpu_ns as f64 / 1e3 / bench.connections_or(CLIENTS) as f64;
        figures.push(
            Figure::new("reconnect_cpu_us", each, "µs")
                .note("server CPU for each client that was cut off and came back, live traffic included"),
        );
    }
    figures.extend(percentiles("reconnect_live_before", &before));
    figures.extend(percentiles("reconnect_live_during", &during));
    figures.push(
        Figure::new("reconnect_live_ratio", p99(&during) / p99(&before).max(1.0), "")
            .at_most(3.0)
            .note("p99 of those who stay, while the others return, to that before"),
    );
    figures.extend(history("reconnect_live", &fleet));
    Ok(figures)
}

/// Publishes at the fixed rate as long as wanted, and gives the latencies of all deliveries.
fn steady(fleet: &mut Fleet<'_>, wanted: impl Fn() -> bool) -> anyhow::Result<Histogram<u64>> {
    let readers = fleet.readers_of_each() as u64;
    fleet.book.latency = Some(Histogram::new_with_max(60_000_000, 3)?);
    let (begun, every) = (Instant::now(), Duration::from_secs(1) / RATE);
    let delivered = fleet.book.delivered;
    let mut sent = 0;
    while wanted() {
        let meant = begun + every * sent;
        if Instant::now() < meant {
            fleet.turn(meant)?;
            continue;
        }
        fleet.publish(sent as usize % STAYING.channels, 1, meant)?;
        sent += 1;
    }
    let delivered = delivered + u64::from(sent) * readers;
    fleet.until(|book| book.delivered >= delivered)?;
    fleet.book.latency.take().context("the latencies are gone")
}

/// What those who returned say.
struct Returned {
    /// From being cut off to having everything, in milliseconds.
    back: Histogram<u64>,
    /// Waits that were told, in milliseconds.
    told: Histogram<u64>,
    attempts: u64,
    /// Attempts that ended without a word of when to come back.
    failed: u64,
    /// Upgraded connections, by second since the cut.
    opened: BTreeMap<u64, u64>,
}

impl Returned {
    fn figures(&self, clients: usize) -> Vec<Figure> {
        let seconds = |quantile| self.back.value_at_quantile(quantile) as f64 / 1e3;
        let most = self.opened.values().max().copied().unwrap_or_default();
        vec![
            Figure::new("reconnect_all_s", self.back.max() as f64 / 1e3, "s")
                .at_most(BACK_WITHIN.as_secs_f64())
                .note(format!("until the last of {clients} is back and has what it missed")),
            Figure::new("reconnect_p50_s", seconds(0.5), "s"),
            Figure::new("reconnect_p99_s", seconds(0.99), "s"),
            Figure::new("reconnect_rate_max", most as f64, "/s")
                .note("connections let in, in the busiest second"),
            Figure::new("reconnect_attempts", self.attempts as f64, "")
                .note(format!("attempts of all clients; {} failed without a time to come back", self.failed)),
            Figure::new("reconnect_told_p50_s", self.told.value_at_quantile(0.5) as f64 / 1e3, "s")
                .note("the wait that was told"),
            Figure::new("reconnect_told_max_s", self.told.max() as f64 / 1e3, "s"),
        ]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// It tries.
    Due,
    /// Its attempt took too long.
    Late,
}

#[derive(Debug, Default)]
struct Client {
    peer: Option<Peer>,
    session: String,
    positions: BTreeMap<String, Position>,
    failures: i32,
    advice: Option<Duration>,
    /// Timers set for an earlier attempt mean nothing.
    turn: u32,
    confirmed: bool,
    events: usize,
    is_back: bool,
}

#[derive(Debug, Deserialize)]
struct Position {
    epoch: String,
    sequence: u64,
}

/// What is read of the messages that matter.
#[derive(Deserialize)]
struct Said<'a> {
    r#type: &'a str,
    #[serde(default)]
    session: String,
    #[serde(default)]
    retry_ms: Option<u64>,
    #[serde(default)]
    positions: BTreeMap<String, Position>,
}

struct Crowd {
    swarm: Swarm,
    clients: Vec<Client>,
    /// Which client a connection is of.
    of: Vec<usize>,
    timers: BinaryHeap<Reverse<(Instant, usize, u32, Timer)>>,
    random: u64,
    /// Events that each waits for.
    missed: usize,
    back: usize,
    begun: Instant,
    outcome: Returned,
}

/// Connects everybody, waits for the word, cuts all off and has them return.
fn returning(
    entry: Entry,
    clients: usize,
    tell: &mpsc::Sender<()>,
    cut: &AtomicBool,
) -> anyhow::Result<Returned> {
    yield_to_others();
    let mut crowd = Crowd::new(entry, clients)?;
    crowd.all_back()?;
    // Nobody listens any more if the others failed.
    let _ = tell.send(());
    while !cut.load(Ordering::Acquire) {
        crowd.turn(Instant::now() + Duration::from_millis(20))?;
    }
    crowd.cut_off();
    crowd.publish_missed()?;
    crowd.all_back()?;
    Ok(crowd.outcome)
}

impl Crowd {
    fn new(entry: Entry, clients: usize) -> anyhow::Result<Crowd> {
        let mut crowd = Crowd {
            swarm: Swarm::new(entry)?,
            clients: Vec::new(),
            of: Vec::new(),
            timers: BinaryHeap::new(),
            random: 0x9E37_79B9_7F4A_7C15,
            missed: 0,
            back: 0,
            begun: Instant::now(),
            outcome: Returned::new()?,
        };
        for client in 0..clients {
            crowd.clients.push(Client::default());
            crowd.rest(client, Duration::ZERO);
        }
        Ok(crowd)
    }

    fn cut_off(&mut self) {
        (self.begun, self.back, self.missed) = (Instant::now(), 0, CHANNELS_EACH);
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            (client.is_back, client.events) = (false, 0);
            if let Some(peer) = client.peer.take() {
                self.swarm.drop_peer(peer);
            }
            let wait = self.backoff(0);
            self.rest(index, wait);
        }
        if let Ok(outcome) = Returned::new() {
            self.outcome = outcome;
        }
    }

    /// One event for each channel while everybody is away.
    fn publish_missed(&mut self) -> anyhow::Result<()> {
        let event = |channel| format!(r#"{{"channel":"{}","type":"tick","data":{{}}}}"#, name(channel));
        let events: Vec<_> = (0..CHANNELS).map(event).collect();
        let publish = format!(r#"{{"type":"publish","id":1,"events":[{}]}}"#, events.join(","));
        // It is nobody's connection: it comes before those who return, so there is room for it.
        let peer = self.swarm.connect(&[r#"{"type":"connect","id":0}"#, &publish], None)?;
        self.of.resize(peer + 1, usize::MAX);
        Ok(())
    }

    /// Turns until everybody is there and has what was missed.
    fn all_back(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.back < self.clients.len() {
            self.turn(Instant::now() + Duration::from_millis(20))?;
            if Instant::now() > deadline {
                bail!("{} of {} clients are back after {PATIENCE:?}", self.back, self.clients.len());
            }
        }
        Ok(())
    }

    fn turn(&mut self, until: Instant) -> anyhow::Result<()> {
        let now = Instant::now();
        let mut begun = 0;
        while let Some(Reverse((at, index, turn, timer))) = self.timers.peek().copied() {
            if at > now || begun >= BEGUN_AT_ONCE {
                break;
            }
            self.timers.pop();
            if self.clients[index].turn != turn {
                continue;
            }
            begun += 1;
            match timer {
                Timer::Due => self.connect(index, now)?,
                Timer::Late => {
                    if let Some(peer) = self.clients[index].peer.take() {
                        self.swarm.drop_peer(peer);
                    }
                    self.lost(index);
                }
            }
        }
        let until = if begun >= BEGUN_AT_ONCE { now } else { until };
        let next = self.timers.peek().map_or(until, |Reverse((at, ..))| until.min(*at));
        let mut heard = Vec::new();
        self.swarm.turn(next, &mut |peer, note| match note {
            Note::Text(text) => heard.push((peer, Heard::read(text))),
            Note::Open => heard.push((peer, Heard::Open)),
            Note::RetryAfter(wait) => heard.push((peer, Heard::Advice(wait))),
            Note::Closed(_) => heard.push((peer, Heard::Closed)),
            Note::Binary(_) => {}
        })?;
        for (peer, heard) in heard {
            let index = self.of[peer];
            if index != usize::MAX && self.clients[index].peer == Some(peer) {
                self.heard(index, heard);
            }
        }
        Ok(())
    }

    fn connect(&mut self, index: usize, now: Instant) -> anyhow::Result<()> {
        let client = &self.clients[index];
        let wanted = |channel: usize| {
            let name = name(index * CHANNELS_EACH + channel);
            match client.positions.get(&name) {
                None => format!("\"{name}\""),
                Some(Position { epoch, sequence }) => {
                    format!(r#"{{"channel":"{name}","since":{{"epoch":"{epoch}","sequence":{sequence}}}}}"#)
                }
            }
        };
        let channels: Vec<_> = (0..CHANNELS_EACH).map(wanted).collect();
        let session = if client.session.is_empty() {
            String::new()
        } else {
            format!(r#""session":"{}","#, client.session)
        };
        let hello = format!(
            r#"{{"type":"connect","id":0,"data":{{{session}"subscribe":{{"channels":[{}]}}}}}}"#,
            channels.join(",")
        );
        let peer = self.swarm.connect(&[&hello], None).context("no socket for another connection")?;
        self.of.resize(peer + 1, usize::MAX);
        self.of[peer] = index;
        self.outcome.attempts += 1;
        let client = &mut self.clients[index];
        (client.peer, client.confirmed, client.advice) = (Some(peer), false, None);
        client.turn += 1;
        let late = now + Duration::from_millis(defaults::CONNECT_TIMEOUT_MS);
        self.timers.push(Reverse((late, index, client.turn, Timer::Late)));
        Ok(())
    }

    fn heard(&mut self, index: usize, heard: Heard) {
        let client = &mut self.clients[index];
        match heard {
            Heard::Open => *self.outcome.opened.entry(self.begun.elapsed().as_secs()).or_default() += 1,
            Heard::Session(session) => {
                client.session = session;
                client.failures = 0;
                // Whoever is welcomed is not late any more.
                client.turn += 1;
            }
            Heard::Positions(positions) => {
                client.confirmed = true;
                // What it stands behind is what it has: the missed events follow.
                if client.positions.is_empty() {
                    client.positions = positions;
                }
            }
            Heard::Event => client.events += 1,
            Heard::Advice(wait) => {
                self.outcome.told.saturating_record(wait.as_millis() as u64);
                client.advice = Some(wait);
            }
            Heard::Closed => {
                client.peer = None;
                if std::mem::take(&mut client.is_back) {
                    self.back -= 1;
                }
                return self.lost(index);
            }
            Heard::Other => {}
        }
        let client = &mut self.clients[index];
        if !client.is_back && client.confirmed && client.events >= self.missed {
            client.is_back = true;
            self.back += 1;
            self.outcome.back.saturating_record(self.begun.elapsed().as_millis() as u64);
        }
    }

    /// An attempt failed, or a connection ended.
    fn lost(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let wait = match client.advice {
            Some(advice) => advice.max(Duration::from_millis(defaults::BACKOFF_MIN_MS)),
            None => {
                self.outcome.failed += 1;
                client.failures += 1;
                let failures = client.failures;
                self.backoff(failures)
            }
        };
        self.rest(index, wait);
    }

    fn rest(&mut self, index: usize, wait: Duration) {
        let client = &mut self.clients[index];
        client.turn += 1;
        self.timers.push(Reverse((Instant::now() + wait, index, client.turn, Timer::Due)));
    }

    /// The waits of `docs/clients.md`.
    fn backoff(&mut self, failures: i32) -> Duration {
        // An xorshift: nothing here has to be secret or well spread in more than one dimension.
        for (left, by) in [(true, 13), (false, 7), (true, 17)] {
            self.random ^= if left { self.random << by } else { self.random >> by };
        }
        let random = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        let bound = defaults::BACKOFF_STEP_MS as f64 * 2_f64.powi((failures - 1).clamp(0, 30));
        let bound = bound.min(defaults::BACKOFF_MAX_MS as f64);
        let wait = (defaults::BACKOFF_MIN_MS as f64 + random * bound).min(defaults::BACKOFF_MAX_MS as f64);
        Duration::from_millis(wait as u64)
    }
}

enum Heard {
    Open,
    Session(String),
    Positions(BTreeMap<String, Position>),
    Event,
    Advice(Duration),
    Closed,
    Other,
}

impl Heard {
    fn read(text: &[u8]) -> Heard {
        if text.starts_with(br#"{"type":"event","#) {
            return Heard::Event;
        }
        let Ok(said) = serde_json::from_slice::<Said<'_>>(text) else { return Heard::Other };
        match (said.r#type, said.retry_ms) {
            ("connected", _) => Heard::Session(said.session),
            ("subscribed", _) => Heard::Positions(said.positions),
            ("reconnect", Some(retry_ms)) => Heard::Advice(Duration::from_millis(retry_ms)),
            _ => Heard::Other,
        }
    }
}

impl Returned {
    fn new() -> anyhow::Result<Returned> {
        let histogram = || Histogram::new_with_max(PATIENCE.as_millis() as u64, 3);
        let (back, told) = (histogram()?, histogram()?);
        Ok(Returned { back, told, attempts: 0, failed: 0, opened: BTreeMap::new() })
    }
}

fn name(channel: usize) -> String {
    format!("project:return-{}", channel % CHANNELS)
}

/// Has this thread run only when nobody else wants to: those who stay are on the same CPU and must not wait for it.
fn yield_to_others() {
    let Ok(thread) = std::fs::read_link("/proc/thread-self") else { return };
    let Some(id) = thread.file_name().and_then(|id| id.to_str()) else { return };
    // Without renice the figures are noisier, not wrong.
    let mut command = Command::new("renice");
    command.args(["-n", "19", "-p", id]).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = command.status();
}
