//! What really was published, against which every client is held.

use std::collections::{BTreeMap, HashMap};

pub const LOGS: [&str; 4] = ["run:1", "run:2", "project:7", "workspace"];
pub const EPHEMERAL: [&str; 2] = ["cursor:1", "cursor:2"];
pub const METRICS: [&str; 2] = ["system.metrics", "host.metrics"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Log,
    Ephemeral,
    Metrics,
}

pub fn kind(channel: &str) -> Kind {
    if channel.starts_with("cursor:") {
        Kind::Ephemeral
    } else if channel.ends_with(".metrics") {
        Kind::Metrics
    } else {
        Kind::Log
    }
}

/// The hosts of a metric channel's `n`th set: everybody's, and every second and every third one's.
pub fn host_has(host: char, n: u64) -> bool {
    match host {
        'a' => n.is_multiple_of(2),
        'b' => n.is_multiple_of(3),
        _ => true,
    }
}

/// The host that an event is tagged with.
pub fn host_of(payload: u64) -> Option<char> {
    [None, Some('a'), Some('b')][(payload % 3) as usize]
}

/// Whether an event of a `log` channel is critical.
pub fn is_critical(payload: u64) -> bool {
    payload % 7 == 3
}

/// The key of an event of a `log` channel.
pub fn key_of(payload: u64) -> Option<String> {
    payload.is_multiple_of(2).then(|| format!("k{}", payload / 2 % 6))
}

/// Whether an event removes its key: its data is null then, and its id says its payload.
pub fn removes(payload: u64) -> bool {
    payload % 10 == 4
}

/// The newest event of each key, by key: its sequence and its payload.
pub type Keys = BTreeMap<String, (u64, u64)>;

/// How many of a metric channel's first `n` sets have a host.
pub fn rank(host: char, n: u64) -> u64 {
    match host {
        'a' => n / 2,
        'b' => n / 3,
        _ => n,
    }
}

#[derive(Default)]
pub struct Truth {
    /// The payload of each sequence, from 1.
    pub log: HashMap<String, Vec<u64>>,
    /// The payloads of each ephemeral channel.
    pub ephemeral: HashMap<String, Vec<u64>>,
    /// How many sets each metric channel had; they are numbered from 1.
    pub metrics: HashMap<String, u64>,
    /// The place of each payload in its ephemeral channel, from 1.
    pub places: HashMap<u64, u64>,
    /// Ephemeral publications that every shard has dealt with.
    pub dealt_with: HashMap<String, u64>,
    pub history_max: u64,
    pub critical_max: u64,
    /// The epoch of its `log` channels.
    pub epoch: String,
    /// Whether publications may be lost on their way to a shard.
    pub lossy: bool,
    /// Whether what clients are sent is metered: then it may be the newest events that are dropped.
    pub metered: bool,
}

impl Truth {
    pub fn head(&self, channel: &str) -> u64 {
        self.log.get(channel).map_or(0, |log| log.len() as u64)
    }

    /// The highest floor that retention can have made of a channel's events so far.
    pub fn floor(&self, channel: &str) -> u64 {
        self.beyond(channel, false, self.history_max).max(self.critical_floor(channel))
    }

    /// The same of its critical events.
    pub fn critical_floor(&self, channel: &str) -> u64 {
        self.beyond(channel, true, self.critical_max)
    }

    /// The newest of the critical or the other events that is one too many.
    fn beyond(&self, channel: &str, critical: bool, max: u64) -> u64 {
        let Some(log) = self.log.get(channel) else { return 0 };
        let numbered = log.iter().enumerate().rev();
        let mut of_sort = numbered.filter(|(_, payload)| is_critical(**payload) == critical);
        of_sort.nth(max as usize).map_or(0, |(index, _)| index as u64 + 1)
    }

    pub fn is_critical(&self, channel: &str, sequence: u64) -> bool {
        let log = self.log.get(channel);
        log.and_then(|log| log.get(sequence as usize - 1)).is_some_and(|payload| is_critical(*payload))
    }

    /// A channel's keyed state when this was its newest event.
    pub fn state_at(&self, channel: &str, sequence: u64) -> Keys {
        let mut keys = Keys::new();
        let log = self.log.get(channel).map_or(&[][..], |log| log);
        for (payload, at) in log.iter().zip(1..=sequence) {
            match key_of(*payload) {
                Some(key) if removes(*payload) => drop(keys.remove(&key)),
                Some(key) => drop(keys.insert(key, (at, *payload))),
                None => {}
            }
        }
        keys
    }

    /// Whether none of the events of a `log` channel in this range is tagged with a host.
    pub fn none_of(&self, channel: &str, host: char, range: std::ops::Range<u64>) -> bool {
        let Some(log) = self.log.get(channel) else { return true };
        let at = |sequence: u64| log.get(sequence as usize - 1).and_then(|payload| host_of(*payload));
        range.into_iter().all(|sequence| at(sequence) != Some(host))
    }

    pub fn said(&self, channel: &str) -> u64 {
        self.ephemeral.get(channel).map_or(0, |list| list.len() as u64)
    }

    pub fn sets(&self, channel: &str) -> u64 {
        self.metrics.get(channel).copied().unwrap_or(0)
    }
}
