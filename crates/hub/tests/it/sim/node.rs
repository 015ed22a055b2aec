//! What a simulated node is made of: its store, if that takes its time, and its namespaces.

use pulsewire_bus::store;
use pulsewire_bus::{ChannelKind, MemoryStore, Namespace, Namespaces, PresenceRules, Store};
use pulsewire_protocol::{ChannelName, ChannelPattern, Epoch};

/// A store in memory that takes its time.
pub struct Distant(pub MemoryStore);

impl Store for Distant {
    fn name(&self) -> &'static str {
        "distant"
    }
    fn epoch(&self) -> Epoch {
        self.0.epoch()
    }
    fn extents(&self, channels: &[ChannelName]) -> Result<Vec<store::Extent>, store::StoreError> {
        self.0.extents(channels)
    }
    fn commit(&self, batch: &store::Batch) -> Result<Vec<store::Decision>, store::StoreError> {
        self.0.commit(batch)
    }
    fn read(
        &self,
        channel: &ChannelName,
        query: &store::Query,
    ) -> Result<store::StoredPage, store::StoreError> {
        self.0.read(channel, query)
    }
    fn state(
        &self,
        channel: &ChannelName,
        after: Option<&str>,
        limit: store::ReadLimit,
    ) -> Result<store::StateSlice, store::StoreError> {
        self.0.state(channel, after, limit)
    }
    fn trim(
        &self,
        channel: &ChannelName,
        retention: &store::Retention,
        now_ms: i64,
    ) -> Result<store::Extent, store::StoreError> {
        self.0.trim(channel, retention, now_ms)
    }
}

/// The namespaces of the channels that [`super::truth`] names.
pub fn namespaces(history_max: usize, critical_max: usize) -> Namespaces {
    let namespace = |name: &str, pattern: &str, kind: ChannelKind| Namespace {
        history_max,
        critical_max,
        ..Namespace::new(name, ChannelPattern::parse(pattern).expect("a pattern"), kind)
    };
    Namespaces::new(vec![
        Namespace {
            presence: Some(PresenceRules { members_max: 8, ..PresenceRules::default() }),
            state_max: 100,
            ..namespace("run", "run:*", ChannelKind::Log)
        },
        Namespace {
            presence: Some(PresenceRules { members_max: 2_000, ..PresenceRules::default() }),
            ..namespace("hall", "hall:*", ChannelKind::Log)
        },
        namespace("project", "project:*", ChannelKind::Log),
        namespace("workspace", "workspace", ChannelKind::Log),
        namespace("metrics", "*.metrics", ChannelKind::Metrics),
        namespace("cursor", "cursor:*", ChannelKind::Ephemeral),
        Namespace { read_only: true, ..namespace("sys", "$sys.*", ChannelKind::Log) },
    ])
}
