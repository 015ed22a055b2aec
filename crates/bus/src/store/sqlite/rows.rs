//! Rows: how an event is written, and how it is checked when it is read again.

use pulsewire_protocol::{ChannelName, Event, EventType, MessageId, Tags};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};
use serde_json::value::RawValue;

use crate::store::row::{self, tags_of, tags_text};
use crate::store::{Accepted, Append, DedupKey, Extent, Retention};

/// Columns: sequence, type, data, id, user, key, tags, timestamp, critical, crc.
pub(super) const SELECT_ALL: &str =
    "SELECT sequence, type, data, id, user, key, tags, timestamp, critical, crc
    FROM events WHERE channel = ?1 AND sequence > ?2 ORDER BY sequence";
pub(super) const SELECT_CRITICAL: &str =
    "SELECT sequence, type, data, id, user, key, tags, timestamp, critical, crc
    FROM events WHERE channel = ?1 AND sequence > ?2 AND critical = 1 ORDER BY sequence";
pub(super) const SELECT_STATE: &str =
    "SELECT sequence, type, data, id, user, key, tags, timestamp, critical, crc
    FROM state WHERE channel = ?1 AND key > ?2 ORDER BY key";

/// SQLite's integers are signed; a sequence stays below 2^53.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn sequence(row: &Row<'_>, column: usize) -> Result<u64> {
    row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0))
}

/// Writes something that nobody reads.
pub(super) fn probe(connection: &Connection) -> Result<()> {
    let sql = "INSERT INTO meta (key, value) VALUES ('probed', '1')
               ON CONFLICT (key) DO UPDATE SET value = value + 1";
    connection.execute(sql, []).map(drop)
}

/// Where and with which payload a key stands.
pub(super) fn known(connection: &Connection, channel: i64, dedup: &DedupKey) -> Result<Option<(u64, u64)>> {
    connection
        .prepare_cached("SELECT sequence, payload FROM ids WHERE channel = ?1 AND dedup = ?2")?
        .query_row(params![channel, dedup], |row| {
            Ok((sequence(row, 0)?, row.get::<_, i64>(1)?.cast_unsigned()))
        })
        .optional()
}

pub(super) fn insert(
    connection: &Connection,
    channel: i64,
    sequence: u64,
    append: &Append,
    at_ms: i64,
) -> Result<()> {
    let Accepted { event, user, timestamp_ms } = &*append.accepted;
    let (event_type, data, id) =
        (event.event_type.as_str(), event.data.get(), event.id.as_ref().map(MessageId::as_str));
    let tags = tags_text(&event.tags);
    let critical = append.accepted.is_critical();
    let crc = checksum(sequence, event_type, data, event.key.as_deref());
    connection
        .prepare_cached(
            "INSERT INTO events (channel, sequence, type, data, id, user, key, tags, timestamp, critical, kept_at, crc)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            channel, int(sequence), event_type, data, id, user.as_deref(), event.key.as_deref(), tags,
            timestamp_ms, critical, at_ms, crc
        ])?;
    connection
        .prepare_cached(
            "INSERT INTO ids (channel, dedup, payload, sequence, kept_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![channel, append.dedup, append.payload.cast_signed(), int(sequence), at_ms])?;
    let Some(key) = event.key.as_deref().filter(|_| append.keyed) else { return Ok(()) };
    if data == "null" {
        connection
            .prepare_cached("DELETE FROM state WHERE channel = ?1 AND key = ?2")?
            .execute(params![channel, key])?;
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO state
             (channel, key, sequence, type, data, id, user, tags, timestamp, critical, crc)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            channel,
            key,
            int(sequence),
            event_type,
            data,
            id,
            user.as_deref(),
            tags,
            timestamp_ms,
            critical,
            crc
        ])?;
    Ok(())
}

pub(super) fn set_head(connection: &Connection, channel: i64, head: u64) -> Result<()> {
    connection
        .prepare_cached("UPDATE channels SET head = ?2 WHERE id = ?1")?
        .execute(params![channel, int(head)])
        .map(drop)
}

/// The key of a row, if it can be read.
pub(super) fn key(row: &Row<'_>) -> Option<String> {
    row.get(5).ok()?
}

/// The event of a row; `None` if the row is not what was written.
pub(super) fn accepted(row: &Row<'_>, channel: &ChannelName) -> Option<Accepted> {
    let sequence = sequence(row, 0).ok()?;
    let (event_type, data): (String, String) = (row.get(1).ok()?, row.get(2).ok()?);
    let key: Option<String> = row.get(5).ok()?;
    let crc: u32 = row.get(9).ok()?;
    if crc != checksum(sequence, &event_type, &data, key.as_deref()) {
        return None;
    }
    let mut event =
        Event::new(channel.clone(), EventType::parse(&event_type)?, RawValue::from_string(data).ok()?);
    event.id = row.get::<_, Option<String>>(3).ok()?.and_then(|id| MessageId::parse(&id));
    event.key = key.map(Into::into);
    event.tags =
        row.get::<_, Option<String>>(6).ok()?.map_or_else(|| Some(Tags::default()), |text| tags_of(&text))?;
    event.critical = Some(row.get(8).ok()?);
    let user = row.get::<_, Option<String>>(4).ok()?.map(Into::into);
    Some(Accepted { event, user, timestamp_ms: row.get(7).ok()? })
}

/// Removes what may no longer be kept, a bounded number of rows at a time, and moves the floors.
pub(super) fn trim(
    connection: &Connection,
    channel: i64,
    extent: &Extent,
    retention: &Retention,
    now_ms: i64,
) -> Result<()> {
    let nth = |critical: bool, max: usize| {
        connection
            .prepare_cached(
                "SELECT sequence FROM events WHERE channel = ?1 AND critical = ?2
                 ORDER BY sequence DESC LIMIT 1 OFFSET ?3",
            )?
            .query_row(params![channel, critical, int(max as u64)], |row| self::sequence(row, 0))
            .optional()
    };
    let old_critical = connection
        .prepare_cached(
            "SELECT max(sequence) FROM events WHERE channel = ?1 AND critical = 1 AND kept_at < ?2",
        )?
        .query_row(params![channel, now_ms - retention.critical_ttl_ms], |row| {
            row.get::<_, Option<i64>>(0)
        })?;
    let old_critical = old_critical.filter(|_| retention.critical_ttl_ms > 0).map(i64::cast_unsigned);
    let critical_floor = nth(true, retention.critical_max)?
        .max(old_critical)
        .map_or(extent.critical_floor.0, |sequence| sequence.max(extent.critical_floor.0));
    // What follows the floor has no holes, so it moves behind a critical event that goes.
    let moved = if critical_floor > extent.critical_floor.0 { critical_floor } else { 0 };
    let floor = nth(false, retention.history_max)?.unwrap_or(0).max(extent.floor.0).max(moved);
    for (critical, up_to) in [(false, floor), (true, critical_floor)] {
        connection
            .prepare_cached("DELETE FROM events WHERE channel = ?1 AND sequence <= ?2 AND critical = ?3")?
            .execute(params![channel, int(up_to), critical])?;
    }
    connection
        .prepare_cached("UPDATE channels SET floor = ?2, critical_floor = ?3 WHERE id = ?1")?
        .execute(params![channel, int(floor), int(critical_floor)])?;
    forget_ids(connection, channel, floor, retention, now_ms)?;
    connection
        .prepare_cached(
            "DELETE FROM state WHERE channel = ?1 AND sequence <=
             (SELECT sequence FROM state WHERE channel = ?1 ORDER BY sequence DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![channel, int(retention.state_max as u64)])
        .map(drop)
}

fn forget_ids(
    connection: &Connection,
    channel: i64,
    floor: u64,
    retention: &Retention,
    now_ms: i64,
) -> Result<()> {
    let excess = connection
        .prepare_cached(
            "SELECT sequence FROM ids WHERE channel = ?1 ORDER BY sequence DESC LIMIT 1 OFFSET ?2",
        )?
        .query_row(params![channel, int(retention.ids_max as u64)], |row| row.get::<_, i64>(0))
        .optional()?
        .unwrap_or(0);
    connection
        .prepare_cached(
            "DELETE FROM ids WHERE channel = ?1 AND sequence <= ?2 AND (kept_at <= ?3 OR sequence <= ?4)
             AND NOT EXISTS (SELECT 1 FROM events
                             WHERE events.channel = ids.channel AND events.sequence = ids.sequence)",
        )?
        .execute(params![channel, int(floor), now_ms - retention.ids_ms, excess])
        .map(drop)
}

/// Over what must not change unseen: place, type, payload and key.
fn checksum(sequence: u64, event_type: &str, data: &str, key: Option<&str>) -> u32 {
    row::checksum(&sequence.to_le_bytes(), &[event_type, data, key.unwrap_or("")])
}
