//! Rows: how events become the columns of a call, and how they are checked when they are read again.
//!
//! PostgreSQL's texts cannot hold a NUL. Payloads and tags are JSON, where it is escaped; types and ids cannot
//! have one; keys are kept as bytes, which also sort as the other stores sort them; a user's name loses it.

use std::collections::HashMap;

use pulsewire_protocol::{ChannelName, Epoch, Event, EventType, MessageId, Position, Sequence, Tags};
use serde_json::value::RawValue;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use crate::store::row::{self, tags_of, tags_text};
use crate::store::{Accepted, Append, Batch, Decision, Declined, DedupKey, Place};

pub(super) const PROBE: &str = "UPDATE meta SET value = (value::bigint + 1)::text WHERE key = 'probed'";
pub(super) const KEEP: &str = "SELECT epoch, sequences, duplicates, conflicts FROM keep(
    $1, $2, $3, coalesce($4, (extract(epoch FROM clock_timestamp()) * 1000)::bigint), $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
pub(super) const TRIM: &str = "SELECT trim_channel(
    $1, $2, $3, $4, $5, $6, $7, coalesce($8, (extract(epoch FROM clock_timestamp()) * 1000)::bigint))";
pub(super) const EXTENTS: &str = "
    SELECT m.value, c.head, c.floor, c.critical_floor
    FROM unnest($1::text[]) WITH ORDINALITY AS n (name, i)
    JOIN meta m ON m.key = 'epoch'
    LEFT JOIN channels c ON c.name = n.name
    ORDER BY n.i";

/// An extent and the events above a sequence, in one statement, so that they fit together. Events behind those
/// whose payloads fill the page come without their content: they are not asked for, and may be large.
macro_rules! page {
    ($table:literal, $key:literal, $place:literal, $where:literal, $order:literal) => {
        concat!(
            "SELECT m.value, c.head, c.floor, c.critical_floor, e.sequence,
                CASE WHEN e.before <= $4::bigint THEN e.type END, CASE WHEN e.before <= $4::bigint THEN e.data END,
                e.id, e.\"user\", e.key, e.tags, e.timestamp, e.critical, e.crc
            FROM meta m LEFT JOIN channels c ON c.name = $1
            LEFT JOIN LATERAL (
                SELECT p.*, coalesce(sum(octet_length(p.data)::bigint) OVER (
                    ORDER BY ",
            $order,
            " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
                FROM (SELECT t.* FROM ",
            $table,
            " t WHERE t.channel = c.id AND ",
            $where,
            "
                      ORDER BY ",
            $key,
            " LIMIT $3) p
            ) e ON true
            WHERE m.key = 'epoch' ORDER BY e.",
            $place
        )
    };
}

pub(super) const READ_ALL: &str =
    page!("events", "t.sequence", "sequence", "t.sequence > greatest($2::bigint, c.floor)", "p.sequence");
pub(super) const READ_CRITICAL: &str =
    page!("events", "t.sequence", "sequence", "t.sequence > $2::bigint AND t.critical", "p.sequence");
pub(super) const STATE: &str = page!("state", "t.key", "key", "t.key > $2::bytea", "p.key");

/// PostgreSQL's integers are signed; a sequence stays below 2^53.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn sequence(row: &Row, column: usize) -> Result<Option<Sequence>, Error> {
    let number: Option<i64> = row.try_get(column)?;
    Ok(number.map(|number| Sequence(u64::try_from(number).unwrap_or(0))))
}

/// Whether only the place of an event is there, because those before it are as much as was asked for.
pub(super) fn is_left_out(row: &Row) -> bool {
    matches!(row.try_get::<_, Option<&str>>(5), Ok(None))
}

/// The key behind the four columns of an extent, if it can be read.
pub(super) fn key(row: &Row) -> Option<&str> {
    std::str::from_utf8(row.try_get::<_, Option<&[u8]>>(9).ok()??).ok()
}

/// The event behind the four columns of an extent; `None` if the row is not what was written.
pub(super) fn accepted(row: &Row, channel: &ChannelName) -> Option<Accepted> {
    let (event_type, data): (&str, &str) = (row.try_get(5).ok()?, row.try_get(6).ok()?);
    let key: Option<&[u8]> = row.try_get(9).ok()?;
    let key = key.map(std::str::from_utf8).transpose().ok()?;
    if row.try_get::<_, i64>(13).ok()? != checksum(channel, event_type, data, key) {
        return None;
    }
    let data = RawValue::from_string(data.to_owned()).ok()?;
    let mut event = Event::new(channel.clone(), EventType::parse(event_type)?, data);
    event.id = row.try_get::<_, Option<&str>>(7).ok()?.and_then(MessageId::parse);
    event.key = key.map(Into::into);
    event.tags = row.try_get::<_, Option<&str>>(10).ok()?.map_or_else(|| Some(Tags::default()), tags_of)?;
    event.critical = Some(row.try_get(12).ok()?);
    let user = row.try_get::<_, Option<&str>>(8).ok()?.map(Into::into);
    Some(Accepted { event, user, timestamp_ms: row.try_get(11).ok()? })
}

/// A batch as the function takes it: one array for each part of its events.
#[derive(Default)]
pub(super) struct Columns<'b> {
    names: Vec<&'b str>,
    rounds: Vec<i32>,
    request: Vec<i32>,
    channel: Vec<i32>,
    dedup: Vec<&'b [u8]>,
    payload: Vec<i64>,
    keyed: Vec<bool>,
    event_type: Vec<&'b str>,
    data: Vec<&'b str>,
    id: Vec<Option<&'b str>>,
    user: Vec<Option<String>>,
    key: Vec<Option<&'b [u8]>>,
    tags: Vec<Option<String>>,
    timestamp: Vec<i64>,
    critical: Vec<bool>,
    crc: Vec<i64>,
}

impl<'b> Columns<'b> {
    pub(super) fn of(batch: &'b Batch) -> Self {
        let mut columns = Self::default();
        let mut numbers: HashMap<&ChannelName, i32> = HashMap::new();
        let mut round: HashMap<(i32, &DedupKey), i32> = HashMap::new();
        for (request, appends) in (1_i32..).zip(&batch.requests) {
            let from = columns.channel.len();
            for append in appends.iter() {
                let next = numbers.len() as i32 + 1;
                let number = *numbers.entry(append.channel()).or_insert_with(|| {
                    columns.names.push(append.channel().as_str());
                    next
                });
                columns.push(request, number, append);
            }
            let keys =
                columns.channel[from..].iter().copied().zip(appends.iter().map(|append| &append.dedup));
            // What an earlier request of the round may keep decides about this one: that has to be seen first.
            if keys.clone().any(|key| round.contains_key(&key)) {
                columns.rounds.push(request - 1);
                round.clear();
            }
            round.extend(keys.map(|key| (key, request)));
        }
        columns.rounds.push(batch.requests.len() as i32);
        columns
    }

    fn push(&mut self, request: i32, channel: i32, append: &'b Append) {
        let Accepted { event, user, timestamp_ms } = &*append.accepted;
        self.request.push(request);
        self.channel.push(channel);
        self.dedup.push(&append.dedup);
        self.payload.push(append.payload.cast_signed());
        self.keyed.push(append.keyed && event.key.is_some());
        self.event_type.push(event.event_type.as_str());
        self.data.push(event.data.get());
        self.id.push(event.id.as_ref().map(MessageId::as_str));
        self.user.push(user.as_ref().map(|user| user.replace('\0', "\u{fffd}")));
        self.key.push(event.key.as_ref().map(|key| key.as_bytes()));
        self.tags.push(tags_text(&event.tags));
        self.timestamp.push(*timestamp_ms);
        self.critical.push(append.accepted.is_critical());
        let (event_type, data) = (event.event_type.as_str(), event.data.get());
        self.crc.push(checksum(&event.channel, event_type, data, event.key.as_deref()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.channel.is_empty()
    }

    pub(super) fn parameters<'p>(
        &'p self,
        batch: &'p Batch,
        at_ms: &'p Option<i64>,
    ) -> [&'p (dyn ToSql + Sync); 18] {
        [
            &self.names,
            &self.rounds,
            &batch.strict,
            at_ms,
            &self.request,
            &self.channel,
            &self.dedup,
            &self.payload,
            &self.keyed,
            &self.event_type,
            &self.data,
            &self.id,
            &self.user,
            &self.key,
            &self.tags,
            &self.timestamp,
            &self.critical,
            &self.crc,
        ]
    }

    /// What the function answered, by request.
    pub(super) fn decisions(&self, batch: &Batch, epoch: &Epoch, row: &Row) -> Result<Vec<Decision>, Error> {
        let (sequences, duplicates): (Vec<Option<i64>>, Vec<bool>) = (row.try_get(1)?, row.try_get(2)?);
        let conflicts: Vec<bool> = row.try_get(3)?;
        let mut answers = sequences.into_iter().zip(duplicates).zip(conflicts);
        let decide = |request: &std::sync::Arc<[Append]>| {
            let answers: Vec<_> = answers.by_ref().take(request.len()).collect();
            if let Some(at) = answers.iter().position(|(_, conflict)| *conflict) {
                return Err(Declined::Conflict(at));
            }
            let place = |((sequence, duplicate), _): ((Option<i64>, bool), bool)| {
                let sequence = Sequence(sequence.map_or(0, i64::cast_unsigned));
                Place { position: Position { epoch: epoch.clone(), sequence }, duplicate }
            };
            Ok(answers.into_iter().map(place).collect())
        };
        Ok(batch.requests.iter().map(decide).collect())
    }
}

/// Over what must not change unseen. The sequence is given by the database and cannot be in it.
fn checksum(channel: &ChannelName, event_type: &str, data: &str, key: Option<&str>) -> i64 {
    row::checksum(&[], &[channel.as_str(), event_type, data, key.unwrap_or("")]).into()
}
