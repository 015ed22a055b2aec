//! The process under load: a server of our own, the bare loop, or a server that runs already.
//!
//! Client and server are separate processes, because each may open only so many files and because the server's CPU time
//! must not hold the generator's. A child is killed and its folder removed when its [`Target`] is dropped.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use pulsewire_client::{Endpoint, Trust, http1};
use serde::Deserialize;

use crate::post::Poster;
use crate::process::Usage;
use crate::scrape::{self, Scrape};
use crate::swarm::{Entry, Secure};

/// How a child is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The `pulsewire` program.
    pub program: PathBuf,
    /// A program and its arguments to run it under, such as `valgrind`.
    pub wrapper: Vec<String>,
    /// Settings as `KEY=VALUE`, beside what every load needs.
    pub set: Vec<String>,
    /// Further tables of the settings file, such as a namespace.
    pub tables: String,
    /// The PostgreSQL database that keeps its events, instead of its memory.
    pub database: Option<String>,
    /// How long it may take until it accepts connections.
    pub patience: Duration,
}

/// What carries the load.
pub struct Target {
    child: Option<Child>,
    input: Option<ChildStdin>,
    folder: Option<PathBuf>,
    /// The process, when it runs on this machine.
    pub pid: Option<u32>,
    /// Its address as a URL.
    pub endpoint: Endpoint,
    address: SocketAddr,
    secure: Option<Secure>,
    token: Option<String>,
    /// So many further readers that do not keep up join each fleet, as a share of its subscribers. Default 0.
    pub slow_share: f64,
    /// From starting it to the first accepted connection.
    pub start: Duration,
    scraped: Cell<Option<Instant>>,
}

/// How long the server may show the same page to all scrapers.
const PAGE_AGE_MAX: Duration = Duration::from_millis(1_100);

/// What a server started with `--dev` writes into its data folder.
#[derive(Deserialize)]
struct DevFile {
    url: String,
    token: String,
}

/// Settings without which a load test measures its own limits.
const SETTINGS: &str = "# What a disk does is no part of what these runs measure.
[store]
url = \"memory\"
[limits]
connections_max = 65536
connections_soft = 65536
connections_per_address = 0
connections_per_user = 0
handshakes_per_second = 0
messages_per_minute = 10000000
errors_per_minute = 100000
[collector]
enabled = false
";

static FOLDERS: AtomicU32 = AtomicU32::new(0);

impl Launch {
    /// A launch of `program` without wrapper or further settings.
    pub fn new(program: &Path) -> Launch {
        Launch {
            program: program.to_owned(),
            wrapper: Vec::new(),
            set: Vec::new(),
            tables: String::new(),
            database: None,
            patience: Duration::from_secs(20),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self
            .wrapper
            .iter()
            .map(String::as_str)
            .chain(self.program.to_str())
            .chain(arguments.iter().copied());
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    /// Starts a server with a folder of its own, a free port and one development token.
    ///
    /// # Errors
    ///
    /// When it does not accept connections in time; the end of its log is in the error.
    pub fn server(&self) -> anyhow::Result<Target> {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("pulsewire-bench-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let (settings, log) = (folder.join("bench.toml"), folder.join("log"));
        fs::write(&settings, format!("{SETTINGS}{}", self.tables))?;
        let data = folder.join("data");
        let paths = [settings.display().to_string(), data.display().to_string()];
        let mut arguments =
            vec!["serve", "--dev", "-c", &paths[0], "--listen", "127.0.0.1:0", "--data", &paths[1]];
        arguments.extend(self.set.iter().flat_map(|set| ["--set", set.as_str()]));
        let mut command = self.command(&arguments);
        // A developer's own settings must not leak into a measurement.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("PULSEWIRE_") || text.starts_with("WS_") || text.ends_with("_URL") {
                command.env_remove(name);
            }
        }
        // Not on the command line, which everybody on the machine can read.
        command.envs(self.database.iter().map(|url| ("DATABASE_URL", url)));
        let output = fs::File::create(&log)?;
        let errors = output.try_clone()?;
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.with_context(|| format!("cannot start {}", self.program.display()))?;
        let mut starting = Starting { child: Some(child), folder: Some(folder) };
        let dev_file = data.join("dev.json");
        loop {
            if let Some(target) = starting.arrived(&dev_file, begun)? {
                return Ok(target);
            }
            let ended = starting.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))));
            if ended || begun.elapsed() > self.patience {
                let log = fs::read_to_string(&log).unwrap_or_default();
                let end: Vec<&str> = log.lines().rev().take(12).collect();
                let end: Vec<&str> = end.into_iter().rev().collect();
                bail!("the server did not come up in {:?}:\n{}", begun.elapsed(), end.join("\n"));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts the bare loop of `pulsewire bench floor`.
    ///
    /// # Errors
    ///
    /// When it does not say where it listens.
    pub fn floor(&self) -> anyhow::Result<Target> {
        let mut command = self.command(&["bench", "floor"]);
        let begun = Instant::now();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("the bare loop has no output")?;
        let pid = child.id();
        let starting = Starting { child: Some(child), folder: None };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let url = line.trim().strip_prefix("listening on ").ok_or_else(|| anyhow!("unexpected: {line:?}"))?;
        let mut target = starting.target(url, None, begun)?;
        target.pid = Some(pid);
        target.input = input;
        Ok(target)
    }
}

/// A child that may still fail to start: dropping it cleans up.
struct Starting {
    child: Option<Child>,
    folder: Option<PathBuf>,
}

impl Starting {
    fn arrived(&mut self, dev_file: &Path, begun: Instant) -> anyhow::Result<Option<Target>> {
        // Half a file is no JSON yet.
        let Some(DevFile { url, token }) =
            fs::read(dev_file).ok().and_then(|text| serde_json::from_slice(&text).ok())
        else {
            return Ok(None);
        };
        let taken = Starting { child: self.child.take(), folder: self.folder.take() };
        taken.target(&url, Some(token), begun).map(Some)
    }

    fn target(mut self, url: &str, token: Option<String>, begun: Instant) -> anyhow::Result<Target> {
        let endpoint = Endpoint::parse(url)?;
        let address = resolve(&endpoint)?;
        TcpStream::connect(address).with_context(|| format!("cannot reach {endpoint}"))?;
        let start = begun.elapsed();
        let child = self.child.take();
        let pid = child.as_ref().map(|child| served_by(child.id()));
        Ok(Target {
            child,
            input: None,
            folder: self.folder.take(),
            pid,
            endpoint,
            address,
            secure: None,
            token,
            slow_share: 0.0,
            start,
            scraped: Cell::new(None),
        })
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        clean(self.child.take(), None, self.folder.take());
    }
}

fn resolve(endpoint: &Endpoint) -> anyhow::Result<SocketAddr> {
    let mut addresses = (endpoint.host(), endpoint.port()).to_socket_addrs()?;
    addresses.next().with_context(|| format!("{endpoint} has no address"))
}

/// The process itself, or its only child when it is a tracer that runs the server.
fn served_by(pid: u32) -> u32 {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    match children.split_whitespace().next().and_then(|child| child.parse().ok()) {
        Some(child) if name.trim() == "strace" => child,
        _ => pid,
    }
}

impl Target {
    /// A server that runs already; `trust` is for one behind `wss://`. Its memory and CPU time are known when it runs here and `pid` is given.
    ///
    /// # Errors
    ///
    /// When the URL cannot be read or nobody listens there.
    pub fn running(
        url: &str,
        trust: &Trust,
        token: Option<String>,
        pid: Option<u32>,
    ) -> anyhow::Result<Target> {
        let endpoint = Endpoint::parse(url)?;
        let secure = Secure::new(&endpoint, trust)?;
        let address = resolve(&endpoint)?;
        TcpStream::connect(address).with_context(|| format!("cannot reach {endpoint}"))?;
        Ok(Target {
            child: None,
            input: None,
            folder: None,
            pid,
            endpoint,
            address,
            secure,
            token,
            slow_share: 0.0,
            start: Duration::ZERO,
            scraped: Cell::new(None),
        })
    }

    /// How connections to it begin.
    pub fn entry(&self) -> Entry {
        Entry::new(&self.endpoint, self.address, self.token.as_deref()).over(self.secure.clone())
    }

    /// What it has used so far.
    ///
    /// # Errors
    ///
    /// When its process is unknown or gone.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let pid = self.pid.context("the server's process is unknown; give --pid")?;
        Usage::of(pid).with_context(|| format!("process {pid} is gone"))
    }

    /// Reads `/metrics`.
    ///
    /// # Errors
    ///
    /// When the server does not answer with its metrics.
    pub fn scrape(&self) -> anyhow::Result<Scrape> {
        // The page is rendered once a second at most; one that somebody was shown before is no measurement.
        if let Some(scraped) = self.scraped.get() {
            thread::sleep(PAGE_AGE_MAX.saturating_sub(scraped.elapsed()));
        }
        self.scraped.set(Some(Instant::now()));
        scrape::get(self.address, &self.endpoint, self.secure.as_ref(), self.token.as_deref())
    }

    /// A connection for requests over HTTP, for a thread of its own.
    ///
    /// # Errors
    ///
    /// When nobody listens.
    pub fn poster(&self) -> anyhow::Result<Poster> {
        Poster::new(self.address, &self.endpoint, self.secure.as_ref(), self.token.as_deref())
    }

    /// Listens to a channel as an event stream: when each event came, from a thread of its own that ends with the
    /// stream or the receiver.
    ///
    /// # Errors
    ///
    /// When nobody listens, or the server does not answer with a stream.
    pub fn listen(&self, channel: &str) -> anyhow::Result<Receiver<Instant>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        let authority = self.endpoint.authority();
        let mut headers = vec!["Accept: text/event-stream".to_owned()];
        headers.extend(self.token.iter().map(|token| format!("Authorization: Bearer {token}")));
        let path = format!("/api/channels/{channel}/sse");
        stream.write_all(&http1::write_request("GET", &path, &authority, &headers, b""))?;
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next().context("the server closed the stream")??;
        ensure!(first.contains(" 200"), "no event stream: {first}");
        // From here on the channel is listened to.
        for line in lines.by_ref() {
            if line?.contains(r#""type":"subscribed""#) {
                break;
            }
        }
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let is_event = line.starts_with("data:") && line.contains(r#""type":"event""#);
                if is_event && sender.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    /// Whether it is the bare loop.
    pub fn is_floor(&self) -> bool {
        self.input.is_some()
    }

    /// Tells the bare loop what to send.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn order(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("only the bare loop takes orders")?;
        input.write_all(line.as_bytes())?;
        Ok(input.flush()?)
    }

    /// Asks the server to stop in an orderly way and waits for it, at most so long; gives what it left behind in its
    /// folder to `read` before that is removed.
    ///
    /// # Errors
    ///
    /// When it does not stop.
    pub fn stop<T>(mut self, patience: Duration, read: impl FnOnce(&Path) -> T) -> anyhow::Result<T> {
        let pid = self.pid.context("no process to stop")?;
        Command::new("kill").args(["-TERM", &pid.to_string()]).status().context("cannot run kill")?;
        let begun = Instant::now();
        let child = self.child.as_mut().context("only a child can be stopped")?;
        while child.try_wait()?.is_none() {
            if begun.elapsed() > patience {
                bail!("the server did not stop within {patience:?}");
            }
            thread::sleep(Duration::from_millis(5));
        }
        let folder = self.folder.clone().unwrap_or_default();
        Ok(read(&folder))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let traced = self.pid.filter(|pid| self.child.as_ref().is_some_and(|child| child.id() != *pid));
        clean(self.child.take(), traced, self.folder.take());
    }
}

fn clean(child: Option<Child>, traced: Option<u32>, folder: Option<PathBuf>) {
    if let Some(pid) = traced {
        let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
    }
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
    if let Some(folder) = folder {
        let _ = fs::remove_dir_all(folder);
    }
}
