//! A store of roll-ups under test, and the words of the scripts.
//!
//! `keep cpu:0-60=aa b/mem;host=x@1s#2:0-1=b` keeps two chunks: one of the series `cpu` of the channel `a.metrics` in
//! the tier `1m`, by the writer 1, from 0 to 60 ms and with the windows `aa`; and one of `mem` with a tag, of
//! `b.metrics`, in the tier `1s`, by the writer 2. Answers show them in the same words; those that start together are
//! sorted. An answer that says nothing is not shown.

use std::sync::Arc;

use pulsewire_bus::store::{
    PostgresSeriesOptions, PostgresSeriesStore, SqliteSeriesOptions, SqliteSeriesStore,
};
use pulsewire_bus::{Chunk, ChunkQuery, Chunks, MemorySeriesStore, SeriesStore, Tier};
use pulsewire_protocol::{Filter, MetricKind, Series, Tags};

use crate::database::Database;
use crate::folder::Folder;
use crate::name;

/// Which store.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Memory,
    Sqlite,
    Postgres,
}

/// What of a store is left when it is closed.
enum Place {
    Memory,
    Sqlite(Folder),
    Postgres(&'static Database, String),
}

pub(super) struct Subject {
    store: Option<Box<dyn SeriesStore>>,
    place: Place,
    series_max: usize,
}

impl Subject {
    /// `None` if a store of this kind is to be left out.
    pub(super) fn new(kind: Kind) -> Option<Self> {
        let place = match kind {
            Kind::Memory => Place::Memory,
            Kind::Sqlite => Place::Sqlite(Folder::new("sqlite-series")),
            Kind::Postgres => {
                let database = Database::shared()?;
                Place::Postgres(database, database.fresh_url())
            }
        };
        let mut subject = Self { store: None, place, series_max: 1_000 };
        subject.open(1_000);
        Some(subject)
    }

    pub(super) fn store(&self) -> &dyn SeriesStore {
        &**self.store.as_ref().unwrap()
    }

    /// Whether it can be closed and opened again.
    pub(super) fn lasts(&self) -> bool {
        !matches!(self.place, Place::Memory)
    }

    /// Opens it again, for at most so many series; memory begins anew.
    pub(super) fn open(&mut self, series_max: usize) {
        self.store = None;
        self.series_max = series_max;
        self.store = Some(match &self.place {
            Place::Memory => Box::new(MemorySeriesStore::new(series_max)),
            Place::Sqlite(folder) => {
                let path = folder.path().join("metrics.db");
                let options = SqliteSeriesOptions { path, busy_ms: 5_000, bytes_max: 0, series_max };
                Box::new(SqliteSeriesStore::open(options).unwrap())
            }
            Place::Postgres(_, url) => Box::new(postgres_at(url, series_max)),
        });
    }

    /// Does what a line says, and tells the answer.
    pub(super) fn perform(&mut self, command: &str) -> String {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let words = rest.split(' ').filter(|word| !word.is_empty());
        match verb {
            "keep" => {
                let chunks: Vec<_> = words.map(one).collect();
                let left_out = self.store().keep(&chunks).unwrap();
                if left_out > 0 { format!("left out {left_out}") } else { String::new() }
            }
            "read" => self.read(words),
            "trim" => {
                let words: Vec<_> = words.collect();
                let [tier, "before", before_ms, "max", max] = words[..] else { panic!("{command}") };
                let removed =
                    self.store().trim(tier_of(tier), before_ms.parse().unwrap(), max.parse().unwrap());
                removed.unwrap().to_string()
            }
            "series_max" => {
                self.open(rest.parse().unwrap());
                String::new()
            }
            "reopen" => {
                self.open(self.series_max);
                String::new()
            }
            "damage" => {
                self.sql(&format!("UPDATE chunks SET windows = 'xxxxxxxx' WHERE start_ms = {rest}"));
                String::new()
            }
            "damage_series" => {
                self.sql(&format!("UPDATE series SET tags = '[[' WHERE name = '{rest}'"));
                String::new()
            }
            "set" => {
                self.sql(&format!("UPDATE {rest}"));
                String::new()
            }
            _ => panic!("no such command: {command}"),
        }
    }

    fn read<'w>(&self, words: impl Iterator<Item = &'w str>) -> String {
        let mut channel = name("a.metrics");
        let mut pairs = Vec::new();
        let (mut tier, mut from_ms, mut to_ms, mut bytes_max) = (Tier::M1, i64::MIN, i64::MAX, usize::MAX);
        let mut words = words;
        while let Some(word) = words.next() {
            let value = words.next().unwrap();
            match word {
                "of" => channel = name(&format!("{value}.metrics")),
                "tier" => tier = tier_of(value),
                "from" => from_ms = value.parse().unwrap(),
                "to" => to_ms = value.parse().unwrap(),
                "bytes" => bytes_max = value.parse().unwrap(),
                "name" => pairs.push(("$name", value)),
                "tag" => pairs.push(value.split_once('=').unwrap()),
                _ => panic!("no such word: {word}"),
            }
        }
        let filter = Filter::equal(pairs).unwrap();
        let query = ChunkQuery { channel: &channel, tier, from_ms, to_ms, filter: &filter, bytes_max };
        let Chunks { chunks, more, corrupt } = self.store().read(&query).unwrap();
        assert!(chunks.is_sorted_by_key(|chunk| chunk.start_ms), "{chunks:?}");
        let mut words: Vec<_> = chunks.iter().map(|chunk| (chunk.start_ms, word(chunk))).collect();
        words.sort_unstable();
        let mut words: Vec<_> = words.into_iter().map(|(_, word)| word).collect();
        words.extend((corrupt > 0).then(|| format!("corrupt:{corrupt}")));
        words.extend(more.then(|| "more".to_owned()));
        words.join(" ")
    }

    /// Changes what is kept behind the store's back.
    fn sql(&self, sql: &str) {
        match &self.place {
            Place::Memory => panic!("memory cannot be damaged"),
            Place::Sqlite(folder) => {
                let connection = rusqlite::Connection::open(folder.path().join("metrics.db")).unwrap();
                assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
            }
            Place::Postgres(database, url) => {
                let (_, schema) = url.split_once("schema=").unwrap();
                let sql = sql.replacen("UPDATE ", "UPDATE metric_", 1);
                let changed = database.sql(&format!(
                    "SET search_path = {schema}; WITH c AS ({sql} RETURNING 1) SELECT count(*) FROM c"
                ));
                assert_ne!(changed, "0", "{sql}");
            }
        }
    }
}

pub(super) fn postgres_at(url: &str, series_max: usize) -> PostgresSeriesStore {
    let options =
        PostgresSeriesOptions { url: url.to_owned(), readers: 2, synchronous_replication: false, series_max };
    PostgresSeriesStore::new(&options).unwrap()
}

fn tier_of(text: &str) -> Tier {
    Tier::ALL.into_iter().find(|tier| tier.name() == text).unwrap()
}

/// The chunk of a word.
pub(super) fn one(word: &str) -> Chunk {
    let (_, times) = word.rsplit_once(':').unwrap();
    let (times, _) = times.split_once('=').unwrap();
    // The first may be below zero.
    let (start_ms, end_ms) = times.split_at(1 + times[1..].find('-').unwrap());
    let end_ms = &end_ms[1..];
    chunk(word, start_ms.parse().unwrap(), end_ms.parse().unwrap())
}

/// The chunk of a word at another time.
pub(super) fn chunk(word: &str, start_ms: i64, end_ms: i64) -> Chunk {
    let (channel, rest) = word.split_once('/').unwrap_or(("a", word));
    let (place, windows) = rest.rsplit_once('=').unwrap();
    let (rest, _) = place.rsplit_once(':').unwrap();
    let (rest, writer) = rest.split_once('#').unwrap_or((rest, "1"));
    let (rest, tier) = rest.split_once('@').unwrap_or((rest, "1m"));
    let mut parts = rest.split(';');
    let series_name = parts.next().unwrap().to_owned();
    let tags = Tags::new(parts.map(|tag| tag.split_once('=').unwrap())).unwrap();
    let series = Series { id: 0, name: series_name.into(), kind: MetricKind::Gauge, tags };
    Chunk {
        channel: name(&format!("{channel}.metrics")),
        series: Arc::new(series),
        tier: tier_of(tier),
        writer: writer.parse().unwrap(),
        start_ms,
        end_ms,
        windows: windows.as_bytes().into(),
    }
}

fn word(chunk: &Chunk) -> String {
    let Chunk { channel, series, tier, writer, start_ms, end_ms, windows } = chunk;
    let channel = channel.as_str().trim_end_matches(".metrics");
    let channel = if channel == "a" { String::new() } else { format!("{channel}/") };
    let tags: String = series.tags.iter().map(|(key, value)| format!(";{key}={value}")).collect();
    let tier = if *tier == Tier::M1 { String::new() } else { format!("@{}", tier.name()) };
    let writer = if *writer == 1 { String::new() } else { format!("#{writer}") };
    let windows = std::str::from_utf8(windows).unwrap();
    format!("{channel}{}{tags}{tier}{writer}:{start_ms}-{end_ms}={windows}", series.name)
}
