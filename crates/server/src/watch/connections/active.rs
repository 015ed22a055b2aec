//! Who is there now: connections, sessions that wait, and readers over HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_hub::watch::{self, Candidate, ConnectionField, Groups, Row, RowKey, Sort, Top};
use pulsewire_hub::{Order as ShardOrder, Reply};
use serde_json::{Map, Value};

use super::asked::{Asked, Order};
use super::{key, list_of, shown, wide};
use crate::app::{App, Stalled};
use crate::http::problem::Problem;
use crate::watch::{List, Query};

/// The worst first, unless it was asked otherwise.
const WORST_FIRST: Sort<ConnectionField> = Sort { by: ConnectionField::Score, descending: false };

/// What was found in all shards and among the readers.
pub(crate) struct Found {
    pub(crate) total: usize,
    pub(crate) matched: usize,
    pub(crate) top: Top<RowKey>,
    pub(crate) groups: Groups,
}

pub(super) async fn list(
    app: &Arc<App>,
    asked: &Asked,
    order: &Order<ConnectionField>,
    query: &Query,
    ids: Option<&[String]>,
) -> Result<List, Problem> {
    if let (Some(ids), None) = (ids, order.group) {
        return again(app, asked, order, ids, query).await;
    }
    let found = find(app, asked, order, asked.keep()).await?;
    let (total, matched) = (found.total, found.matched);
    app.counted.put(query, (total, matched));
    if order.group.is_some() {
        let groups = found.groups;
        return Ok(shown::groups(groups, asked, order.sort, total, matched));
    }
    let candidates: Vec<_> = asked.page(found.top.into_sorted()).collect();
    let keys = candidates.iter().map(|candidate| candidate.key).collect();
    let mut rows = shown_rows(app, keys).await?;
    if asked.places {
        let place = |Candidate { key, place }: Candidate<RowKey>| (key.to_string(), place);
        wide::place(&mut rows, &candidates.into_iter().map(place).collect::<Vec<_>>());
    }
    Ok(list_of(rows, total, matched))
}

/// The rows that are shown already. How many there are in all, and how many match, is what the last page said:
/// counting them would be ranking again.
async fn again(
    app: &Arc<App>,
    asked: &Asked,
    order: &Order<ConnectionField>,
    ids: &[String],
    query: &Query,
) -> Result<List, Problem> {
    let keys = ids.iter().map(|id| key(id)).collect::<Result<Vec<_>, _>>()?;
    let (total, matched) = match app.counted.last(query) {
        Some(counts) => counts,
        None => {
            let found = find(app, asked, order, 0).await?;
            (found.total, found.matched)
        }
    };
    Ok(list_of(shown_rows(app, keys).await?, total, matched))
}

/// What the last page of each query counted; all are forgotten when there are too many.
#[derive(Debug, Default)]
pub struct Counted(Mutex<HashMap<String, (usize, usize)>>);

/// Queries whose counts are remembered: as many as can be watched.
const COUNTED_MAX: usize = 1_024;

impl Counted {
    fn last(&self, query: &Query) -> Option<(usize, usize)> {
        self.0.lock().get(&query.to_channel()).copied()
    }

    fn put(&self, query: &Query, counts: (usize, usize)) {
        let mut counted = self.0.lock();
        if counted.len() >= COUNTED_MAX {
            counted.clear();
        }
        counted.insert(query.to_channel(), counts);
    }
}

async fn shown_rows(app: &Arc<App>, keys: Vec<RowKey>) -> Result<Vec<Map<String, Value>>, Problem> {
    Ok(with_rates(app, &rows(app, keys).await?))
}

/// Rows as they are shown.
pub(super) fn with_rates(app: &App, rows: &[Row]) -> Vec<Map<String, Value>> {
    let node = &app.node;
    let counts = rows.iter().map(|row| (row.key, [row.info.messages_sent, row.info.messages_received]));
    let rates = app.rates.of(counts, pulsewire_edge::clock::now());
    rows.iter().zip(rates).map(|(row, rates)| shown::row(row, node, rates)).collect()
}

/// Holds everything that is there against a query, a slice of a shard at a time.
async fn find(
    app: &Arc<App>,
    asked: &Asked,
    order: &Order<ConnectionField>,
    keep: usize,
) -> Result<Found, Stalled> {
    let query = Arc::new(watch::Query {
        filter: order.filter.clone(),
        sort: order.sort.unwrap_or(WORST_FIRST),
        keep,
        group: order.group,
        node: app.node.clone(),
    });
    debug_assert!(keep <= asked.keep(), "a page needs no more");
    let mut found = Found { total: 0, matched: 0, top: Top::new(keep), groups: Groups::default() };
    for shard in 0..app.hub.shards() {
        let mut next = Some(0);
        while let Some(from) = next {
            let query = query.clone();
            let ranked = app.ask(shard, |reply| ShardOrder::Rank { from, query, reply }).await?;
            found.total += usize::try_from(ranked.total).unwrap_or(usize::MAX);
            found.matched += usize::try_from(ranked.matched).unwrap_or(usize::MAX);
            found.groups.merge(&ranked.groups);
            ranked.candidates.into_iter().for_each(|candidate| found.top.see(candidate));
            next = ranked.next;
        }
    }
    app.readers.rank(&query, &mut found);
    Ok(found)
}

/// The rows of these, as far as they are still there, in the same order.
pub(super) async fn rows(app: &Arc<App>, keys: Vec<RowKey>) -> Result<Vec<Row>, Stalled> {
    let mut by_shard = vec![Vec::new(); app.hub.shards()];
    let mut readers = Vec::new();
    for key in &keys {
        match key.shard() {
            Some(shard) => by_shard.get_mut(shard).into_iter().for_each(|of_shard| of_shard.push(*key)),
            None => readers.push(*key),
        }
    }
    let mut found: HashMap<RowKey, Row> =
        app.readers.rows(&readers).into_iter().map(|row| (row.key, row)).collect();
    for (shard, keys) in by_shard.into_iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
        let rows = app.ask(shard, |reply: Reply<Vec<Row>>| ShardOrder::Rows { keys, reply }).await?;
        found.extend(rows.into_iter().map(|row| (row.key, row)));
    }
    Ok(keys.iter().filter_map(|key| found.remove(key)).collect())
}
