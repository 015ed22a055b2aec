//! The scenarios: what is done to a server and which figures come out.
//!
//! Each starts a server of its own (or uses one that runs), so they can be run alone and in any order. On a machine with
//! more than one CPU the generator keeps to the first and the server to the second, with one shard: what is measured is
//! the cost of the work, not the scheduler. Comparisons take turns within one run and use medians.

mod cluster;
mod counts;
mod fanout;
mod flat;
mod hostile;
mod idle;
mod inbound;
mod keep;
mod latency;
mod live;
mod metrics;
mod raw;
mod reconnect;
mod rest;
mod resume;
mod saturation;
mod scrapers;
mod secrets;
mod stalled;
mod storm;
mod vanish;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::fleet::Fleet;
use crate::report::{Figure, Outcome};
use crate::target::{Launch, Target};

/// How a bench is run.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The `pulsewire` program that is measured; it also serves as the bare loop.
    pub program: PathBuf,
    /// A server that runs already, instead of one of our own.
    pub running: Option<Running>,
    /// How many subscribers or connections, instead of the scenario's own number.
    pub connections: Option<usize>,
    /// Deliveries a second, where a scenario lets one choose.
    pub rate: Option<u32>,
    /// Bytes of padding of an event, where a scenario lets one choose.
    pub size: Option<usize>,
    /// So many further readers that do not keep up join each load, as a share of its subscribers. Default 0.
    pub slow_share: f64,
    /// How long a timed load lasts.
    pub duration: Duration,
    /// How often comparisons are repeated. Default 3.
    pub rounds: usize,
    /// A PostgreSQL database that may keep events too, where that is measured.
    pub database: Option<String>,
    /// A Redis between nodes, where several are measured.
    pub redis: Option<String>,
    /// Whether generator and server each keep to one CPU.
    pub pin: bool,
    /// Whether progress is shown; only ever on a terminal.
    pub progress: bool,
}

/// A server that runs already.
#[derive(Debug, Clone)]
pub struct Running {
    /// Its URL.
    pub url: String,
    /// Who may vouch for its certificate.
    pub trust: pulsewire_client::Trust,
    /// The bearer token.
    pub token: Option<String>,
    /// Its process, when it runs here.
    pub pid: Option<u32>,
}

/// One scenario of the list.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// How long its timed load lasts where nobody says otherwise.
    pub duration: Duration,
    run: fn(&Bench, &Progress) -> anyhow::Result<Vec<Figure>>,
}

/// How long a timed load lasts by default.
const USUAL: Duration = Duration::from_secs(10);

/// Every scenario that measures, in the order `all` runs them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "idle",
        about: "10,000 authenticated connections with a session and one subscription each, doing nothing.",
        duration: USUAL,
        run: idle::run,
    },
    Scenario {
        name: "fanout",
        about: "One publisher, everybody subscribed to one channel; the next publication leaves when all have the last. \
                Each figure beside a bare loop of the same sends to the same readers in the same run.",
        duration: USUAL,
        run: fanout::run,
    },
    Scenario {
        name: "flat",
        about: "The same fan-out to 1,000 subscribers while other connections, each on a channel of its own, do nothing.",
        duration: USUAL,
        run: flat::run,
    },
    Scenario {
        name: "saturation",
        about: "1,000 subscribers of one channel, four publications under way at any time.",
        duration: USUAL,
        run: saturation::run,
    },
    Scenario {
        name: "latency",
        about: "10,000 subscribers on 1,000 channels, 10,000 deliveries a second, whether or not the server keeps up. \
                Latencies count from the time a publication was meant to leave.",
        duration: USUAL,
        run: latency::run,
    },
    Scenario {
        name: "stalled",
        about: "200 live subscribers beside 50 that stop reading, 50 publications of 4 KiB a second. \
                A reader that takes nothing for 3 s is closed (limits.slow_after=3s).",
        duration: USUAL,
        run: stalled::run,
    },
    Scenario {
        name: "storm",
        about: "10,000 clients connect and subscribe at once; then all are cut off and come back at once.",
        duration: USUAL,
        run: storm::run,
    },
    Scenario {
        name: "inbound",
        about: "64 clients send 200-byte ping messages, 50 at a time; each is parsed, rate-limited and answered.",
        duration: USUAL,
        run: inbound::run,
    },
    Scenario {
        name: "keep",
        about: "What keeping costs: publish to delivery by how well an event is kept, 100 publications a second to 10 \
                readers each; and strict events a second with one publish under way against 1,024 (group commit).",
        duration: USUAL,
        run: keep::run,
    },
    Scenario {
        name: "resume",
        about: "10,000 clients of one channel come back at once, and each has missed 300 events; then a replay of 1,000 \
                events to one client and to 100 at once.",
        duration: USUAL,
        run: resume::run,
    },
    Scenario {
        name: "reconnect",
        about: "10,000 clients with four channels each are cut off at once, miss an event of each channel, and come back as \
                they are told (limits.handshakes_per_second=300); beside them 200 subscribers stay, with 2,000 deliveries \
                a second.",
        duration: USUAL,
        run: reconnect::run,
    },
    Scenario {
        name: "metrics",
        about: "Live metrics: 1,000 and 10,000 clients of `system.metrics`, collected once a second; 10,000 samples a second by \
                HTTP to 1,000 subscribers with mixed filters and intervals; 10,000 series of a sample a second each, and \
                what they cost with one subscriber and with a hundred for each view.",
        duration: Duration::from_secs(30),
        run: metrics::run,
    },
    Scenario {
        name: "cluster",
        about: "Three nodes that share a PostgreSQL database: what the hop from one to another adds through Redis and through \
                PostgreSQL's notifications, what a node is told that has no reader, and strict events a second through one, \
                two and three nodes. Without a database nothing is measured.",
        duration: USUAL,
        run: cluster::run,
    },
    Scenario {
        name: "counts",
        about: "User instructions (callgrind) and system calls (strace) per delivery to 500 subscribers: the difference \
                of two runs, repeatable within about 2 % while other work goes on.",
        duration: USUAL,
        run: counts::run,
    },
];

/// The load for looking at a server; what `bench` does without a scenario. It measures, too, and is none of `all`.
pub const LIVE: Scenario = Scenario {
    name: "live",
    about: "200 subscribers on 20 channels, 4,000 deliveries of 1 KiB a second, for looking at the server meanwhile.",
    duration: Duration::from_secs(60),
    run: live::run,
};

/// Every scenario that holds the server to a row of the fault catalogue, in the order `proofs` runs them.
pub const PROOFS: &[Scenario] = &[
    Scenario {
        name: "vanish",
        about: "Row P24: 10,000 clients that vanish in four ways; none leaves a descriptor, each is counted once.",
        duration: USUAL,
        run: vanish::run,
    },
    Scenario {
        name: "hostile",
        about: "Rows P11, P18 and X4: frames that announce 2⁶² and 2⁶³ bytes, messages that nest as deep as they are long, \
                a client that wants a million subscriptions; by the process's memory and its allocator.",
        duration: USUAL,
        run: hostile::run,
    },
    Scenario {
        name: "scrapers",
        about: "Row X7: 100 scrapers for 60 s beside 1,000 deliveries a second, on a page with 10,000 series.",
        duration: Duration::from_secs(60),
        run: scrapers::run,
    },
    Scenario {
        name: "secrets",
        about: "Row A18: 100,000 wrong API keys, by how much of the secret is right; then logins beside 2,000 guesses a \
                second from one address.",
        duration: USUAL,
        run: secrets::run,
    },
    Scenario {
        name: "rest",
        about: "Row X15: 10,000 authenticated connections with one subscription each, idle for 10 min.",
        duration: Duration::from_secs(600),
        run: rest::run,
    },
];

impl Scenario {
    /// The scenario of that name.
    pub fn named(name: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().chain(PROOFS).chain([&LIVE]).find(|scenario| scenario.name == name)
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// When a server or a tool cannot be started, or the server loses what it should have delivered.
    pub fn run(&self, bench: &Bench) -> anyhow::Result<Outcome> {
        let progress = Progress::new(bench.progress, self.name);
        if bench.pin && cores() > 1 {
            keep_to_first_cpu();
        }
        let figures = (self.run)(bench, &progress)?;
        progress.0.finish_and_clear();
        let scenario = self.name.to_owned();
        let about = self.about.split_whitespace().collect::<Vec<_>>().join(" ");
        let command = format!("pulsewire bench {}", self.name);
        Ok(Outcome { scenario, about, command, figures })
    }
}

/// What a server that keeps to one CPU needs.
const ONE_CPU: [&str; 2] = ["server.shards=1", "server.workers=1"];

impl Bench {
    fn launch(&self) -> Launch {
        let mut launch = Launch::new(&self.program);
        if self.pin && cores() > 1 {
            launch.wrapper = ["taskset", "-c", "1"].map(str::to_owned).to_vec();
            launch.set = ONE_CPU.map(str::to_owned).to_vec();
        }
        launch
    }

    /// The server under load.
    fn server(&self) -> anyhow::Result<Target> {
        self.server_with(&[])
    }

    /// The server under load, with further settings if it is one of our own.
    fn server_with(&self, set: &[&str]) -> anyhow::Result<Target> {
        let mut target = match &self.running {
            Some(Running { url, trust, token, pid }) => Target::running(url, trust, token.clone(), *pid),
            None => {
                let mut launch = self.launch();
                launch.set.extend(set.iter().map(|set| (*set).to_owned()));
                launch.server()
            }
        }?;
        target.slow_share = self.slow_share;
        Ok(target)
    }

    fn floor(&self) -> anyhow::Result<Target> {
        self.launch().floor()
    }

    fn connections_or(&self, usual: usize) -> usize {
        self.connections.unwrap_or(usual)
    }
}

/// A line that says what is going on, on a terminal only.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    fn new(shown: bool, name: &'static str) -> Progress {
        let bar = if shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.set_prefix(name);
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar)
    }

    /// So much of a load is done; from now on a bar says so.
    pub(crate) fn through(&self, passed: u64, whole: u64) {
        if self.0.length().is_none() {
            let style = ProgressStyle::with_template("{bar:24} {pos} s / {len} s   {msg}");
            self.0.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.0.set_length(whole);
        }
        self.0.set_position(passed.min(whole));
    }

    pub(crate) fn say(&self, what: impl Into<String>) {
        self.0.set_message(format!("{}: {}", self.0.prefix(), what.into()));
    }
}

fn cores() -> usize {
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    // Asked before this process keeps to one of them.
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn keep_to_first_cpu() {
    // Without taskset the kernel decides; the figures are noisier, not wrong.
    let mut command = Command::new("taskset");
    command.args(["-cp", "0", &std::process::id().to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = command.status();
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// CPU microseconds of the target per unit of `work`.
pub(crate) fn cpu_per_unit(
    fleet: &mut Fleet<'_>,
    units: f64,
    work: impl FnOnce(&mut Fleet<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let before = fleet.target.usage()?;
    work(fleet)?;
    let after = fleet.target.usage()?;
    Ok((after.cpu_ns - before.cpu_ns) as f64 / 1_000.0 / units)
}

/// The history checker's figures.
pub(crate) fn history(name: &str, fleet: &Fleet<'_>) -> Vec<Figure> {
    let verdict = fleet.verdict();
    let figure =
        |what: &str, value: u64| Figure::new(format!("{name}_{what}"), value as f64, "events").at_most(0.0);
    vec![
        figure("lost", verdict.lost),
        figure("duplicate", verdict.duplicate),
        figure("out_of_order", verdict.out_of_order),
        figure("skipped_without_gap", verdict.skipped),
    ]
}

/// The percentiles of a histogram of microseconds, in milliseconds.
pub(crate) fn percentiles(name: &str, histogram: &hdrhistogram::Histogram<u64>) -> Vec<Figure> {
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99_9", 0.999), ("max", 1.0)]
        .map(|(label, quantile)| {
            let value = histogram.value_at_quantile(quantile) as f64 / 1_000.0;
            Figure::new(format!("{name}_{label}_ms"), value, "ms")
        })
        .to_vec()
}
