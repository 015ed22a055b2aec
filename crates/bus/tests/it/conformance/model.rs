//! A store that is too simple to be wrong: every event that ever was, and what is true of it.
//!
//! Nothing is removed; each question is answered by walking over everything.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_bus::{
    Accepted, Append, Batch, Decision, Declined, Extent, Keyed, Only, Place, Query, ReadLimit, Retention,
    StateSlice, Store, StoreError, StoredPage,
};
use pulsewire_protocol::{ChannelName, Epoch, Position, Sequence};

#[derive(Default)]
pub(super) struct Model(Mutex<HashMap<ChannelName, Log>>);

#[derive(Default, Clone)]
struct Log {
    rows: Vec<Row>,
    floor: u64,
    critical_floor: u64,
}

#[derive(Clone)]
struct Row {
    append: Append,
    at_ms: i64,
    kept: bool,
    known: bool,
    in_state: bool,
}

impl Row {
    fn critical(&self) -> bool {
        self.append.accepted.is_critical()
    }

    fn accepted(&self) -> Arc<Accepted> {
        self.append.accepted.clone()
    }
}

impl Log {
    fn numbered(&self) -> impl DoubleEndedIterator<Item = (u64, &Row)> {
        self.rows.iter().enumerate().map(|(index, row)| (index as u64 + 1, row))
    }

    fn extent(&self) -> Extent {
        let [head, floor, critical_floor] =
            [self.rows.len() as u64, self.floor, self.critical_floor].map(Sequence);
        Extent { epoch: epoch(), head, floor, critical_floor }
    }

    /// The newest that would be one too many.
    fn beyond(&self, max: usize, counts: impl Fn(&Row) -> bool) -> u64 {
        self.numbered().rev().filter(|(_, row)| counts(row)).nth(max).map_or(0, |(sequence, _)| sequence)
    }
}

fn epoch() -> Epoch {
    Epoch::parse("model").unwrap()
}

impl Store for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn epoch(&self) -> Epoch {
        epoch()
    }

    fn extents(&self, channels: &[ChannelName]) -> Result<Vec<Extent>, StoreError> {
        let logs = self.0.lock();
        Ok(channels.iter().map(|name| logs.get(name).cloned().unwrap_or_default().extent()).collect())
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Decision>, StoreError> {
        let mut logs = self.0.lock();
        let mut decisions = Vec::new();
        for request in &batch.requests {
            let before = logs.clone();
            let decision = request.iter().enumerate().map(|(index, append)| {
                let log = logs.entry(append.channel().clone()).or_default();
                let known = log.numbered().find(|(_, row)| row.known && row.append.dedup == append.dedup);
                if known.is_some_and(|(_, row)| row.append.payload != append.payload) {
                    return Err(Declined::Conflict(index));
                }
                let duplicate = known.is_some();
                let sequence = known.map_or(log.rows.len() as u64 + 1, |(sequence, _)| sequence);
                if !duplicate {
                    if append.keyed {
                        let key = &append.accepted.event.key;
                        log.rows
                            .iter_mut()
                            .filter(|row| row.append.accepted.event.key == *key)
                            .for_each(|row| row.in_state = false);
                    }
                    let in_state = append.keyed && append.accepted.event.data.get() != "null";
                    let append = append.clone();
                    log.rows.push(Row { append, at_ms: batch.at_ms, kept: true, known: true, in_state });
                }
                let position = Position { epoch: epoch(), sequence: Sequence(sequence) };
                Ok(Place { position, duplicate })
            });
            let decision: Decision = decision.collect();
            if decision.is_err() {
                *logs = before;
            }
            decisions.push(decision);
        }
        Ok(decisions)
    }

    fn read(&self, channel: &ChannelName, query: &Query) -> Result<StoredPage, StoreError> {
        let log = self.0.lock().get(channel).cloned().unwrap_or_default();
        let mut page = StoredPage {
            events: Vec::new(),
            corrupt: Vec::new(),
            through: log.extent().head,
            extent: log.extent(),
        };
        let (mut last, mut bytes) = (query.after, 0);
        if query.only == Only::All {
            last = last.max(Sequence(log.floor));
        }
        for (sequence, row) in log.numbered() {
            if !row.kept || sequence <= last.0 || (query.only == Only::Critical && !row.critical()) {
                continue;
            }
            if page.events.len() == query.limit.publications || bytes > query.limit.bytes {
                page.through = last;
                break;
            }
            bytes += row.append.accepted.bytes();
            last = Sequence(sequence);
            page.events.push((last, row.accepted()));
        }
        Ok(page)
    }

    fn state(
        &self,
        channel: &ChannelName,
        after: Option<&str>,
        limit: ReadLimit,
    ) -> Result<StateSlice, StoreError> {
        let log = self.0.lock().get(channel).cloned().unwrap_or_default();
        let mut values: Vec<_> = log
            .numbered()
            .filter(|(_, row)| row.in_state)
            .map(|(sequence, row)| Keyed { sequence: Sequence(sequence), accepted: row.accepted() })
            .filter(|value| value.accepted.event.key.as_deref() > after)
            .collect();
        values.sort_by(|one, other| one.accepted.event.key.cmp(&other.accepted.event.key));
        let mut bytes = 0;
        let fits = |(index, value): &(usize, &Keyed)| {
            let fits = *index < limit.publications && bytes <= limit.bytes;
            bytes += value.accepted.bytes();
            fits
        };
        let count = values.iter().enumerate().take_while(fits).count();
        let more = count < values.len();
        values.truncate(count);
        let behind = values.last().and_then(|last| last.accepted.event.key.clone()).filter(|_| more);
        Ok(StateSlice { values, corrupt: Vec::new(), behind, extent: log.extent() })
    }

    fn trim(&self, channel: &ChannelName, retention: &Retention, now_ms: i64) -> Result<Extent, StoreError> {
        let mut logs = self.0.lock();
        let Some(log) = logs.get_mut(channel) else { return Ok(Log::default().extent()) };
        let expired =
            |row: &Row| retention.critical_ttl_ms > 0 && row.at_ms < now_ms - retention.critical_ttl_ms;
        let old = log.numbered().rfind(|(_, row)| row.kept && row.critical() && expired(row));
        let old = old.map_or(0, |(sequence, _)| sequence);
        let gone = log.beyond(retention.critical_max, |row| row.kept && row.critical()).max(old);
        log.critical_floor = log.critical_floor.max(gone);
        let ordinary = log.beyond(retention.history_max, |row| row.kept && !row.critical());
        log.floor = log.floor.max(ordinary).max(gone);
        let excess = log.beyond(retention.ids_max, |row| row.known);
        let forgotten_keys = log.beyond(retention.state_max, |row| row.in_state);
        let (floor, critical_floor) = (log.floor, log.critical_floor);
        for (index, row) in log.rows.iter_mut().enumerate() {
            let sequence = index as u64 + 1;
            row.kept &= sequence > if row.critical() { critical_floor } else { floor };
            row.known &= row.kept || (now_ms - row.at_ms < retention.ids_ms && sequence > excess);
            row.in_state &= sequence > forgotten_keys;
        }
        Ok(log.extent())
    }
}
