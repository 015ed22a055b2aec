//! A store under test, and the words of the scripts.
//!
//! `keep 1:a=2!@k | 2:b` is a batch of two requests; the first is one event to `run:1` with the id `a`, another
//! payload than its first, critical, and setting the key `k`; `@k-` removes the key. Answers show sequences, with
//! `=` behind a duplicate's. An answer that says nothing is not shown.

use std::sync::Arc;

use pulsewire_bus::store::{Ages, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use pulsewire_bus::{
    Accepted, Append, Batch, Decision, Declined, Extent, MemoryStore, Only, Query, ReadLimit, Retention,
    Store, StoredPage,
};
use pulsewire_protocol::{ChannelName, Epoch, Event, EventType, MessageId, Sequence};
use serde_json::value::RawValue;

use crate::database::Database;
use crate::folder::Folder;

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
    store: Option<Box<dyn Store>>,
    place: Place,
    at_ms: i64,
    opened: u32,
    /// Before the numbers in channel names, so that scripts can share a store.
    pub(super) scope: String,
}

impl Subject {
    /// `None` if a store of this kind is to be left out.
    pub(super) fn new(kind: Kind) -> Option<Self> {
        let place = match kind {
            Kind::Memory => Place::Memory,
            Kind::Sqlite => Place::Sqlite(Folder::new("sqlite")),
            Kind::Postgres => {
                let database = Database::shared()?;
                Place::Postgres(database, database.fresh_url())
            }
        };
        let mut subject = Self { store: None, place, at_ms: 1, opened: 0, scope: String::new() };
        subject.open();
        Some(subject)
    }

    /// Another store than one that is opened here.
    pub(super) fn of(store: Box<dyn Store>) -> Self {
        Self { store: Some(store), place: Place::Memory, at_ms: 1, opened: 0, scope: String::new() }
    }

    pub(super) fn store(&self) -> &dyn Store {
        &**self.store.as_ref().unwrap()
    }

    /// Whether it can be closed and opened again.
    pub(super) fn lasts(&self) -> bool {
        !matches!(self.place, Place::Memory)
    }

    fn open(&mut self) {
        self.store = None;
        // Another epoch each time: what is kept must say which it is.
        self.opened += 1;
        let epoch = Epoch::parse(&format!("e{}", self.opened)).unwrap();
        self.store = Some(match &self.place {
            Place::Memory => Box::new(MemoryStore::new(epoch, 100_000)),
            Place::Sqlite(folder) => {
                let path = folder.path().join("test.db");
                Box::new(
                    SqliteStore::open(SqliteOptions { path, epoch, busy_ms: 5_000, bytes_max: 0 }).unwrap(),
                )
            }
            Place::Postgres(_, url) => {
                let url = url.clone();
                let options = PostgresOptions {
                    url,
                    epoch,
                    readers: 2,
                    synchronous_replication: false,
                    ages: Ages::OfCaller,
                };
                Box::new(PostgresStore::new(&options).unwrap())
            }
        });
    }

    fn reopen(&mut self) {
        let epoch = self.extent(&name("run:0")).epoch;
        self.open();
        assert_eq!(self.extent(&name("run:0")).epoch, epoch);
        assert_eq!(self.store().epoch(), epoch);
    }

    /// Does what a line says, and tells the answer.
    pub(super) fn perform(&mut self, command: &str) -> String {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let mut words = rest.split(' ').filter(|word| !word.is_empty());
        match verb {
            "keep" => return self.keep(rest),
            "at" => self.at_ms = rest.parse().unwrap(),
            "reopen" => self.reopen(),
            "damage" => self.damage("events", &self.channel(words.next().unwrap()), words.next().unwrap()),
            "damage_value" => {
                self.damage("state", &self.channel(words.next().unwrap()), words.next().unwrap());
            }
            "extent" => return shown(&self.extent(&self.channel(rest))),
            "extents" => {
                let names: Vec<_> = words.map(|word| self.channel(word)).collect();
                let extents = self.store().extents(&names).unwrap();
                return joined(extents.iter().map(|extent| extent.head.0.to_string()));
            }
            "read" => return self.read(&self.channel(words.next().unwrap()), words),
            "state" => return self.state(&self.channel(words.next().unwrap()), words),
            "trim" => return self.trim(&self.channel(words.next().unwrap()), words),
            _ => panic!("no such command: {command}"),
        }
        String::new()
    }

    fn channel(&self, number: &str) -> ChannelName {
        name(&format!("run:{}{number}", self.scope))
    }

    fn extent(&self, channel: &ChannelName) -> Extent {
        self.store().extents(std::slice::from_ref(channel)).unwrap().remove(0)
    }

    fn keep(&self, text: &str) -> String {
        let request = |text: &str| {
            text.split(' ').filter(|word| !word.is_empty()).map(|word| self.event(word)).collect()
        };
        let requests: Vec<_> =
            if text.is_empty() { Vec::new() } else { text.split('|').map(request).collect() };
        let batch = Batch { requests, strict: self.at_ms % 2 == 0, at_ms: self.at_ms };
        let decisions = self.store().commit(&batch).unwrap();
        let epoch = self.extent(&name("run:0")).epoch;
        let one = |decision: &Decision| match decision {
            Ok(places) if places.is_empty() => "nothing".to_owned(),
            Ok(places) => joined(places.iter().map(|place| {
                assert_eq!(place.position.epoch, epoch);
                format!("{}{}", place.position.sequence.0, if place.duplicate { "=" } else { "" })
            })),
            Err(Declined::Conflict(at)) => format!("conflict {at}"),
            Err(Declined::Full(at)) => format!("full {at}"),
        };
        decisions.iter().map(one).collect::<Vec<_>>().join(" | ")
    }

    fn event(&self, word: &str) -> Append {
        let (channel, rest) = word.split_once(':').unwrap();
        let (rest, key) = rest.split_once('@').map_or((rest, None), |(rest, key)| (rest, Some(key)));
        let (rest, critical) = rest.strip_suffix('!').map_or((rest, false), |rest| (rest, true));
        let (id, payload) = rest.split_once('=').unwrap_or((rest, "1"));
        let removes = key.is_some_and(|key| key.ends_with('-'));
        let mut append = append(self.channel(channel), id, if removes { "null" } else { "\"value\"" });
        append.payload = payload.parse().unwrap();
        append.keyed = key.is_some();
        let accepted = Arc::make_mut(&mut append.accepted);
        accepted.event.critical = Some(critical);
        accepted.event.key = key.map(|key| key.trim_end_matches('-').into());
        append
    }

    fn read<'a>(&self, channel: &ChannelName, words: impl Iterator<Item = &'a str>) -> String {
        let limit = ReadLimit { publications: 1_000, bytes: usize::MAX };
        let mut query = Query { after: Sequence::ZERO, only: Only::All, limit };
        let mut words = words;
        while let Some(word) = words.next() {
            let mut number = || words.next().unwrap().parse().unwrap();
            match word {
                "critical" => query.only = Only::Critical,
                "after" => query.after = Sequence(number() as u64),
                "limit" => query.limit.publications = number(),
                "bytes" => query.limit.bytes = number(),
                _ => panic!("no such word: {word}"),
            }
        }
        let StoredPage { events, corrupt, through, extent } = self.store().read(channel, &query).unwrap();
        let mut parts = Vec::new();
        if !events.is_empty() {
            parts.push(joined(events.iter().map(|(sequence, accepted)| {
                format!("{}:{}{}", sequence.0, id_of(accepted), if accepted.is_critical() { "!" } else { "" })
            })));
        }
        if !corrupt.is_empty() {
            parts.push(format!("corrupt {}", joined(corrupt.iter().map(|sequence| sequence.0.to_string()))));
        }
        parts.push(format!("through {}, {}", through.0, shown(&extent)));
        parts.join("; ")
    }

    fn state<'a>(&self, channel: &ChannelName, mut words: impl Iterator<Item = &'a str>) -> String {
        let mut limit = ReadLimit { publications: 1_000, bytes: usize::MAX };
        let mut after = None;
        while let Some(word) = words.next() {
            let value = words.next().unwrap();
            match word {
                "after" => after = Some(value),
                "limit" => limit.publications = value.parse().unwrap(),
                "bytes" => limit.bytes = value.parse().unwrap(),
                _ => panic!("no such word: {word}"),
            }
        }
        let slice = self.store().state(channel, after, limit).unwrap();
        let value = |value: &pulsewire_bus::Keyed| {
            let key = value.accepted.event.key.as_deref().unwrap();
            format!("{key}={}:{}", value.sequence.0, id_of(&value.accepted))
        };
        let last = slice.values.last().and_then(|last| last.accepted.event.key.as_deref());
        let more = slice.behind.as_deref().map(|behind| match last == Some(behind) {
            true => "more".to_owned(),
            false => format!("more behind {behind}"),
        });
        let corrupt = slice.corrupt.iter().map(|sequence| format!("corrupt:{}", sequence.0));
        joined(slice.values.iter().map(value).chain(corrupt).chain(more))
    }

    fn trim<'a>(&self, channel: &ChannelName, mut words: impl Iterator<Item = &'a str>) -> String {
        let mut retention = Retention {
            history_max: 1_000,
            critical_max: 1_000,
            critical_ttl_ms: 0,
            state_max: 1_000,
            ids_ms: 1_000_000,
            ids_max: 1_000,
        };
        while let Some(word) = words.next() {
            let number: i64 = words.next().unwrap().parse().unwrap();
            let count = usize::try_from(number).unwrap();
            match word {
                "history" => retention.history_max = count,
                "critical" => retention.critical_max = count,
                "ttl" => retention.critical_ttl_ms = number,
                "state" => retention.state_max = count,
                "ids_ms" => retention.ids_ms = number,
                "ids_max" => retention.ids_max = count,
                _ => panic!("no such word: {word}"),
            }
        }
        shown(&self.store().trim(channel, &retention, self.at_ms).unwrap())
    }

    /// Changes what is kept of an event behind the store's back.
    fn damage(&self, table: &str, channel: &ChannelName, sequence: &str) {
        let sql = format!(
            "UPDATE {table} SET data = '\"other\"' WHERE sequence = {sequence} AND channel =
             (SELECT id FROM channels WHERE name = '{channel}')"
        );
        match &self.place {
            Place::Memory => panic!("memory cannot be damaged"),
            Place::Sqlite(folder) => {
                let connection = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
                assert_eq!(connection.execute(&sql, []).unwrap(), 1);
            }
            Place::Postgres(database, url) => {
                let (_, schema) = url.split_once("schema=").unwrap();
                database.sql(&format!("SET search_path = {schema}; {sql}"));
            }
        }
    }
}

/// An ordinary event, not keyed, whose key for duplicates is its id.
pub(crate) fn append(channel: ChannelName, id: &str, data: &str) -> Append {
    let data = RawValue::from_string(data.to_owned()).unwrap();
    let mut event = Event::new(channel, EventType::parse("GRAFT").unwrap(), data);
    event.id = MessageId::parse(id);
    event.critical = Some(false);
    let mut dedup = [0; 16];
    dedup[..id.len()].copy_from_slice(id.as_bytes());
    let accepted = Arc::new(Accepted { event, user: None, timestamp_ms: 1 });
    Append { accepted, dedup, payload: 1, keyed: false }
}

pub(super) fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

fn id_of(accepted: &Accepted) -> &str {
    accepted.event.id.as_ref().unwrap().as_str()
}

fn shown(extent: &Extent) -> String {
    format!("floors {} {}, head {}", extent.floor.0, extent.critical_floor.0, extent.head.0)
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
}
