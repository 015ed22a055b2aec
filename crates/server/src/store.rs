//! The store the settings name, and the threads that wait for it.
//!
//! One thread commits, a few read; each works through what the bus has waiting and then waits for its bell.
//! A PostgreSQL that cannot be reached at the start is waited for; a SQLite file that cannot be used ends it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use pulsewire_bus::store::{
    Ages, PostgresOptions, PostgresSeriesOptions, PostgresSeriesStore, PostgresStore, SERIES_MAX,
    SchemaSteps, SqliteOptions, SqliteSeriesOptions, SqliteSeriesStore, SqliteStore,
};
use pulsewire_bus::{Bus, MemorySeriesStore, SeriesStore, Store, Turn};
use pulsewire_edge::clock;
use pulsewire_protocol::Epoch;
use pulsewire_telemetry::limited;

use crate::settings::Settings;

/// The file of events in the data folder.
const FILE: &str = "pulsewire.db";
/// The file of metric history in the data folder, and what is behind the name of one beside another file of events.
const SERIES_FILE: &str = "metrics.db";
/// How long a thread without work sleeps at most: the bell wakes it earlier.
const IDLE: Duration = Duration::from_secs(1);
/// How often missing events are looked for while there are any …
const TICK: Duration = Duration::from_millis(20);
/// … and due head checks while there are none.
const CALM: Duration = Duration::from_millis(500);

/// What `store.url` names.
enum Place<'s> {
    Memory,
    File(PathBuf),
    Database(&'s str),
}

impl<'s> Place<'s> {
    fn of(settings: &'s Settings) -> anyhow::Result<Self> {
        let url = settings.store.url.as_ref().map_or("sqlite", |url| url.expose());
        Ok(match url {
            "memory" | "memory:" => Self::Memory,
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => Self::Database(url),
            "sqlite" | "sqlite:" => Self::File(settings.server.data_dir.join(FILE)),
            other => match other.strip_prefix("sqlite:") {
                Some(path) => Self::File(path.trim_start_matches("//").into()),
                None => bail!("store.url: expected `sqlite`, `sqlite:FILE`, `postgres://…` or `memory`"),
            },
        })
    }
}

/// The address of the database that the settings name as the store; `None` if it is one that nodes cannot share.
///
/// # Errors
///
/// If they name no store.
pub fn database(settings: &Settings) -> anyhow::Result<Option<&str>> {
    Ok(match Place::of(settings)? {
        Place::Database(url) => Some(url),
        Place::Memory | Place::File(_) => None,
    })
}

/// Opens the store that `store.url` names; `None` for memory.
///
/// # Errors
///
/// If the URL names no store, or the file cannot be used. A database is not asked yet.
pub fn open(settings: &Settings, epoch: Epoch) -> anyhow::Result<Option<Arc<dyn Store>>> {
    let path = match Place::of(settings)? {
        Place::Memory => return Ok(None),
        Place::Database(url) => {
            let options = PostgresOptions {
                url: url.to_owned(),
                epoch,
                readers: settings.store.readers,
                synchronous_replication: settings.store.synchronous_replication,
                ages: Ages::OfDatabase,
            };
            let store = PostgresStore::new(&options).context("store.url")?;
            return Ok(Some(Arc::new(store)));
        }
        Place::File(path) => path,
    };
    let (busy_ms, bytes_max) = (busy_ms(settings), settings.store.bytes_max as u64);
    let shown = path.display().to_string();
    let store = SqliteStore::open(SqliteOptions { path, epoch, busy_ms, bytes_max })
        .with_context(|| format!("opening the store {shown}"))?;
    Ok(Some(Arc::new(store)))
}

/// Opens the store of metric history beside the events: in memory, in a file of its own, or in the same database.
///
/// The file is `metrics.db` in the data folder; beside `sqlite:FILE` it has the name of that, with the extension
/// `.metrics.db` instead of its own. `store.bytes_max` holds for each of the two files.
///
/// # Errors
///
/// If the URL names no store, or the file cannot be used. A database is not asked yet.
pub fn open_series(settings: &Settings) -> anyhow::Result<Arc<dyn SeriesStore>> {
    let series_max = SERIES_MAX;
    Ok(match Place::of(settings)? {
        Place::Memory => Arc::new(MemorySeriesStore::new(series_max)),
        Place::Database(url) => {
            let options = PostgresSeriesOptions {
                url: url.to_owned(),
                readers: settings.store.readers,
                synchronous_replication: settings.store.synchronous_replication,
                series_max,
            };
            Arc::new(PostgresSeriesStore::new(&options).context("store.url")?)
        }
        Place::File(events) => {
            let path = series_file(&settings.server.data_dir, &events);
            let (busy_ms, bytes_max) = (busy_ms(settings), settings.store.bytes_max as u64);
            let shown = path.display().to_string();
            let store = SqliteSeriesStore::open(SqliteSeriesOptions { path, busy_ms, bytes_max, series_max })
                .with_context(|| format!("opening the store of metric history {shown}"))?;
            Arc::new(store)
        }
    })
}

/// One file of a backup.
#[derive(Debug)]
pub struct Copy {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Copies the files of events and of metric history into a folder, which is made if it is missing, under the names that
/// they have in a data folder. They are only read, and may be in use. The copy of the events has the epoch that is given.
///
/// # Errors
///
/// If the store is no file, if a copy is there already, or if a file cannot be read or written.
pub fn back_up(settings: &Settings, folder: &Path, epoch: &Epoch) -> anyhow::Result<Vec<Copy>> {
    let events = match Place::of(settings)? {
        Place::Memory => bail!("events are kept in memory only (store.url): there is nothing to copy"),
        Place::Database(_) => {
            bail!("events are in PostgreSQL (store.url): back it up with its own tools, such as pg_dump")
        }
        Place::File(path) => path,
    };
    let series = series_file(&settings.server.data_dir, &events);
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut copies = Vec::new();
    let path = folder.join(FILE);
    let bytes = SqliteStore::back_up(&events, &path, epoch)
        .with_context(|| format!("copying {}", events.display()))?;
    copies.push(Copy { path, bytes });
    // A server that never kept any has no such file.
    if series.exists() {
        let path = folder.join(SERIES_FILE);
        let bytes = SqliteSeriesStore::back_up(&series, &path)
            .with_context(|| format!("copying {}", series.display()))?;
        copies.push(Copy { path, bytes });
    }
    Ok(copies)
}

/// An epoch that no history had.
///
/// # Errors
///
/// If it is none, which it always is.
pub fn new_epoch(random: &mut impl FnMut() -> u64) -> anyhow::Result<Epoch> {
    Epoch::parse(&format!("{:012x}", random() >> 16)).context("making an epoch")
}

/// What [`look`] found.
pub enum Looked {
    /// Events are kept in memory only.
    Memory,
    /// The file is not there yet.
    NoFile(PathBuf),
    /// A file.
    File {
        /// Where it is.
        path: PathBuf,
        /// How its tables are made: the steps it has taken, and those this version knows.
        schema: SchemaSteps,
        /// Its size.
        bytes: u64,
    },
    /// A database, which is connected to when it is first asked. It makes the tables it has not, as a server's does.
    Database(Arc<dyn Store>),
}

/// Looks at the store that `store.url` names. A file is only read, and may be in use.
///
/// # Errors
///
/// If the URL names no store, or the file cannot be read.
pub fn look(settings: &Settings) -> anyhow::Result<Looked> {
    let path = match Place::of(settings)? {
        Place::Memory => return Ok(Looked::Memory),
        Place::Database(_) => {
            let epoch = Epoch::parse("doctor").context("an epoch")?;
            let database = open(settings, epoch)?.context("a database keeps events")?;
            return Ok(Looked::Database(database));
        }
        Place::File(path) => path,
    };
    let Ok(metadata) = std::fs::metadata(&path) else { return Ok(Looked::NoFile(path)) };
    let schema = SqliteStore::schema_of(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Looked::File { path, schema, bytes: metadata.len() })
}

/// The file of metric history that belongs to a file of events; never that file itself.
fn series_file(data_dir: &Path, events: &Path) -> PathBuf {
    if events == data_dir.join(FILE) {
        return data_dir.join(SERIES_FILE);
    }
    events.with_extension(SERIES_FILE)
}

fn busy_ms(settings: &Settings) -> u64 {
    u64::try_from(settings.store.busy_timeout.as_millis()).unwrap_or(u64::MAX)
}

/// The threads of a bus.
pub struct Workers {
    bus: Arc<Bus>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub fn start(bus: &Arc<Bus>, readers: usize, keep_series: Duration) -> anyhow::Result<Self> {
        let mut workers = Self { bus: bus.clone(), stopping: Arc::default(), threads: Vec::new() };
        if bus.durable_lane().is_some() {
            workers.spawn("store-writer", commit)?;
            for _ in 0..readers.max(1) {
                workers.spawn("store-reader", read)?;
            }
        }
        workers.spawn("bus-tick", tick)?;
        workers.spawn("series", move |bus, stopping| series(bus, stopping, keep_series))?;
        Ok(workers)
    }

    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(&Bus, &AtomicBool) + Send + 'static,
    ) -> anyhow::Result<()> {
        let (bus, stopping) = (self.bus.clone(), self.stopping.clone());
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&bus, &stopping))
            .with_context(|| format!("starting the thread {name}"))?;
        self.threads.push(thread);
        Ok(())
    }

    /// The name of a thread that has ended though nobody stopped it: what it did is not done any more.
    #[must_use]
    pub fn fallen(&self) -> Option<String> {
        pulsewire_edge::fallen(&self.threads)
    }

    /// Keeps what still waits, then ends the threads.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(lane) = self.bus.durable_lane() {
            lane.bell.ring();
        }
        self.bus.tick_bell.ring();
        self.bus.series_bell.ring();
        for _ in &self.threads {
            self.bus.reads_bell().ring();
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

fn commit(bus: &Bus, stopping: &AtomicBool) {
    let Some(lane) = bus.durable_lane() else { return };
    loop {
        let turn = bus.commit(lane, clock::now());
        let ending = stopping.load(Ordering::Relaxed);
        match turn {
            Turn::Done => {}
            _ if ending => return,
            Turn::Idle => lane.bell.wait(IDLE),
            Turn::Pause(until_ns) => {
                let left = Duration::from_nanos(until_ns.saturating_sub(clock::now().mono_ns));
                std::thread::sleep(left.min(Duration::from_millis(50)));
            }
        }
    }
}

fn read(bus: &Bus, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Relaxed) {
        if bus.perform(clock::now()) {
            // There may be more, for another thread too.
            continue;
        }
        bus.reads_bell().wait(IDLE);
    }
    // Whoever is next in line hears the bell, too.
    bus.reads_bell().ring();
}

fn tick(bus: &Bus, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Relaxed) {
        if bus.tick(clock::now()) {
            std::thread::sleep(TICK);
        } else {
            bus.tick_bell.wait(CALM);
        }
    }
}

/// Closes the windows of metric channels when they end, keeps them now and then, and once a minute lets go of what
/// is too old; at the end everything is kept.
fn series(bus: &Bus, stopping: &AtomicBool, keep: Duration) {
    let keep_ns = u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX);
    let (mut kept_ns, mut trimmed_ns) = (clock::now().mono_ns, 0);
    while !stopping.load(Ordering::Relaxed) {
        let now = clock::now();
        let next_ms = bus.roll(now);
        if now.since_ns(kept_ns) >= keep_ns {
            kept_ns = now.mono_ns;
            if let Err(error) = bus.keep_series(now, false) {
                limited!(warn, %error, "roll-ups of metric channels were not kept; they wait for the next time");
            }
        }
        if now.since_ns(trimmed_ns) >= TRIMMED_NS {
            trimmed_ns = now.mono_ns;
            if let Err(error) = bus.trim_series(now) {
                limited!(warn, %error, "old roll-ups of metric channels could not be removed; they will be");
            }
        }
        let left_ms = u64::try_from(next_ms - clock::now().wall_ms).unwrap_or(0);
        bus.series_bell.wait(Duration::from_millis(left_ms.clamp(1, 1_000)));
    }
    if let Err(error) = bus.keep_series(clock::now(), true) {
        tracing::error!(%error, "the last roll-ups of metric channels were not kept");
    }
}

/// How often old roll-ups are looked for.
const TRIMMED_NS: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_history_has_a_file_of_its_own() {
        let file = |events: &str| series_file(Path::new("/data"), Path::new(events)).display().to_string();
        assert_eq!(file("/data/pulsewire.db"), "/data/metrics.db");
        assert_eq!(file("/data/live.db"), "/data/live.metrics.db");
        assert_eq!(file("/other/pulsewire.db"), "/other/pulsewire.metrics.db");
        assert_eq!(file("events"), "events.metrics.db");
        for events in ["/data/metrics.db", "/data/a.metrics.db", "metrics"] {
            assert_ne!(file(events), events);
        }
    }
}
