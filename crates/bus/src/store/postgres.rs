//! Events kept in a PostgreSQL database that several nodes share.
//!
//! A batch is one call of one function in a transaction of its own, so a node that is stopped in the middle holds no
//! lock while others wait for it; the function gives the sequences while it holds the channels' rows. Nothing is
//! connected before it is needed: a database that is not there yet is tried again by whoever asks next, and a
//! connection that failed is dropped with everything on it. Nobody is notified inside of a transaction: that would
//! make all commits of the database queue behind one lock. How old something is, the database alone says: nodes whose
//! clocks differ keep the same.

pub(super) mod failure;
pub(super) mod link;
mod notices;
mod options;
pub(super) mod pool;
mod rows;
mod schema;
mod tls;

use std::sync::Arc;

use parking_lot::RwLock;
use pulsewire_protocol::{ChannelName, Epoch, Sequence};
use tokio_postgres::types::ToSql;

use super::{
    Batch, Decision, Extent, Failure, Only, Outcome, Query, ReadLimit, Retention, StateSlice, Store,
    StoreError, StoredPage,
    filling::{PageFilling, StateFilling},
};
use failure::{commit_failed, failed};
use link::Link;
pub use notices::{Hearing, NOTICE_BYTES_MAX, Notice, NoticesLink, PostgresNotices};
pub use options::{Ages, PostgresOptions};
use pool::Pool;
use rows::Columns;

/// A store in a database.
pub struct PostgresStore {
    pool: Pool,
    ages: Ages,
    /// As the database last said; before that, one that no channel has.
    epoch: RwLock<Epoch>,
}

impl PostgresStore {
    /// A store that connects when it is first used.
    ///
    /// # Errors
    ///
    /// If the address is none, or names a file that cannot be read.
    pub fn new(options: &PostgresOptions) -> Result<Self, StoreError> {
        let pool = Pool::new(&options.url, options.synchronous_replication, options.readers)?;
        Ok(Self { pool, ages: options.ages, epoch: RwLock::new(options.epoch.clone()) })
    }

    fn writing<T>(&self, write: impl FnOnce(&mut Link) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.pool.writing(write)
    }

    fn reading<T>(&self, read: impl FnOnce(&mut Link) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.pool.reading(read)
    }

    fn learned(&self, text: &str) -> Result<Epoch, StoreError> {
        let known = self.epoch.read();
        if known.as_str() == text {
            return Ok(known.clone());
        }
        drop(known);
        let epoch = Epoch::parse(text).map_err(|error| {
            StoreError::new(Failure::Corrupt, format!("the epoch in the database: {error}"))
        })?;
        *self.epoch.write() = epoch.clone();
        Ok(epoch)
    }
}

impl Store for PostgresStore {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn epoch(&self) -> Epoch {
        self.epoch.read().clone()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn probe(&self) -> Result<(), StoreError> {
        self.writing(|link| link.rows(rows::PROBE, &[]).map(drop))
    }

    fn extents(&self, channels: &[ChannelName]) -> Result<Vec<Extent>, StoreError> {
        let names: Vec<&str> = channels.iter().map(ChannelName::as_str).collect();
        self.reading(|link| {
            let found = link.rows(rows::EXTENTS, &[&names])?;
            found.iter().map(|row| self.extent(row)).collect()
        })
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Decision>, StoreError> {
        let columns = Columns::of(batch);
        if columns.is_empty() {
            return Ok(batch.requests.iter().map(|_| Ok(Vec::new())).collect());
        }
        let at_ms = self.ages.told(batch.at_ms);
        let row = self.writing(|link| link.keep(rows::KEEP, &columns.parameters(batch, &at_ms)))?;
        // From here on it is kept, and an answer that cannot be read says only that.
        let epoch = self
            .learned(row.try_get(0).map_err(commit_failed)?)
            .map_err(|error| StoreError { outcome: Outcome::Unknown, ..error })?;
        columns.decisions(batch, &epoch, &row).map_err(commit_failed)
    }

    fn read(&self, channel: &ChannelName, query: &Query) -> Result<StoredPage, StoreError> {
        let sql = match query.only {
            Only::All => rows::READ_ALL,
            Only::Critical => rows::READ_CRITICAL,
        };
        // One more than wanted, to know whether there is one.
        let limit = rows::int(query.limit.publications as u64).saturating_add(1);
        let (after, bytes) = (rows::int(query.after.0), rows::int(query.limit.bytes as u64));
        let parameters: [&(dyn ToSql + Sync); 4] = [&channel.as_str(), &after, &limit, &bytes];
        let found = self.reading(|link| link.rows(sql, &parameters))?;
        let Some(first) = found.first() else { return Err(failure::missing("the epoch")) };
        let extent = self.extent(first)?;
        let mut page = PageFilling::new(extent, query);
        for row in &found {
            let Some(sequence) = rows::sequence(row, 4).map_err(failed)? else { break };
            if rows::is_left_out(row) {
                page.stop();
                break;
            }
            if !page.take(sequence, rows::accepted(row, channel).map(Arc::new)) {
                break;
            }
        }
        Ok(page.finish())
    }

    fn state(
        &self,
        channel: &ChannelName,
        after: Option<&str>,
        limit: ReadLimit,
    ) -> Result<StateSlice, StoreError> {
        let after = after.unwrap_or("").as_bytes();
        let (most, most_bytes) =
            (rows::int(limit.publications as u64).saturating_add(1), rows::int(limit.bytes as u64));
        let parameters: [&(dyn ToSql + Sync); 4] = [&channel.as_str(), &after, &most, &most_bytes];
        let found = self.reading(|link| link.rows(rows::STATE, &parameters))?;
        let Some(first) = found.first() else { return Err(failure::missing("the epoch")) };
        let mut slice = StateFilling::new(self.extent(first)?, limit);
        for row in &found {
            let Some(sequence) = rows::sequence(row, 4).map_err(failed)? else { break };
            if rows::is_left_out(row) {
                slice.stop();
                break;
            }
            let accepted = rows::accepted(row, channel).map(Arc::new);
            if !slice.take(rows::key(row), sequence, accepted) {
                break;
            }
        }
        Ok(slice.finish())
    }

    fn trim(&self, channel: &ChannelName, retention: &Retention, now_ms: i64) -> Result<Extent, StoreError> {
        let count = |number: usize| rows::int(number as u64);
        let (history, critical) = (count(retention.history_max), count(retention.critical_max));
        let (state, ids) = (count(retention.state_max), count(retention.ids_max));
        let now_ms = self.ages.told(now_ms);
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &channel.as_str(),
            &history,
            &critical,
            &retention.critical_ttl_ms,
            &state,
            &retention.ids_ms,
            &ids,
            &now_ms,
        ];
        self.writing(|link| {
            link.rows(rows::TRIM, &parameters)?;
            let found = link.rows(rows::EXTENTS, &[&vec![channel.as_str()]])?;
            found.first().map_or_else(|| Err(failure::missing("the epoch")), |row| self.extent(row))
        })
    }
}

impl PostgresStore {
    /// The extent in the first four columns of a row.
    fn extent(&self, row: &tokio_postgres::Row) -> Result<Extent, StoreError> {
        let epoch = self.learned(row.try_get(0).map_err(failed)?)?;
        let at = |column| Ok(rows::sequence(row, column).map_err(failed)?.unwrap_or(Sequence::ZERO));
        Ok(Extent { epoch, head: at(1)?, floor: at(2)?, critical_floor: at(3)? })
    }
}
