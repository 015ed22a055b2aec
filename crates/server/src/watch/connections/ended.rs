//! Who was there: connections that closed, and attempts to connect that failed.

use std::cmp::Reverse;

use pulsewire_hub::Ledger;
use pulsewire_hub::watch::filter::{Field, Subject};
use pulsewire_hub::watch::{Candidate, Group, Groups, Place, Top};
use pulsewire_hub::{Closed, Failed};
use serde_json::{Map, Value};

use super::asked::{Asked, Order};
use super::{list_of, shown, wide};
use crate::http::problem::Problem;
use crate::watch::List;
use crate::watch::query::wrong;

/// A record of the ledger.
pub(super) trait Record<F>: Subject<F> + Sized {
    fn id(&self) -> u64;
    fn at_ms(&self) -> i64;
    /// As the only member of a group.
    fn group(&self) -> Group;
    fn each(ledger: &Ledger, see: impl FnMut(&Self));
    fn pick(ledger: &Ledger, numbers: &[u64]) -> Vec<Self>;
    fn show(&self) -> Map<String, Value>;
}

/// A page of the records since a moment; with ids, these again.
pub(super) fn list<F: Field, R: Record<F>>(
    ledger: &Ledger,
    asked: &Asked,
    order: &Order<F>,
    since_ms: Option<i64>,
    ids: Option<&[String]>,
) -> Result<List, Problem> {
    let ids = if order.group.is_some() { None } else { ids };
    let mut top = Top::new(if ids.is_some() { 0 } else { asked.keep() });
    let mut groups = Groups::default();
    let (mut total, mut matched) = (0, 0);
    R::each(ledger, |record| {
        total += 1;
        if since_ms.is_some_and(|since_ms| record.at_ms() < since_ms) || !order.filter.passes(record) {
            return;
        }
        matched += 1;
        let newest = Reverse(record.id());
        match (order.group, order.sort) {
            (Some(by), _) => groups.join(record, by, &record.group()),
            (None, Some(sort)) => top.compete(record, sort, newest),
            (None, None) => top.see(Candidate { place: Place::Last, key: newest }),
        }
    });
    if order.group.is_some() {
        return Ok(shown::groups(groups, asked, order.sort, total, matched));
    }
    let mut places = Vec::new();
    let numbers = match ids {
        Some(ids) => {
            let number = |id: &String| id.parse().map_err(|_| wrong(format!("`{id}` is no id of this list")));
            ids.iter().map(number).collect::<Result<Vec<u64>, _>>()?
        }
        None => {
            let place = |Candidate { key: Reverse(number), place }: Candidate<Reverse<u64>>| {
                places.push((number.to_string(), place));
                number
            };
            asked.page(top.into_sorted()).map(place).collect()
        }
    };
    let mut rows: Vec<_> = R::pick(ledger, &numbers).iter().map(R::show).collect();
    if asked.places {
        wide::place(&mut rows, &places);
    }
    Ok(list_of(rows, total, matched))
}

impl Record<pulsewire_hub::watch::ClosedField> for Closed {
    fn id(&self) -> u64 {
        self.number
    }

    fn at_ms(&self) -> i64 {
        self.closed_at_ms
    }

    fn group(&self) -> Group {
        Group {
            connections: 1,
            reconnections: u64::from(self.reconnections),
            failures: self.messages_failed,
            ..Group::default()
        }
    }

    fn each(ledger: &Ledger, see: impl FnMut(&Self)) {
        ledger.each_closed(see);
    }

    fn pick(ledger: &Ledger, numbers: &[u64]) -> Vec<Self> {
        ledger.closed(numbers)
    }

    fn show(&self) -> Map<String, Value> {
        shown::closed(self)
    }
}

impl Record<pulsewire_hub::watch::FailedField> for Failed {
    fn id(&self) -> u64 {
        self.number
    }

    fn at_ms(&self) -> i64 {
        self.at_ms
    }

    fn group(&self) -> Group {
        Group { connections: 1, ..Group::default() }
    }

    fn each(ledger: &Ledger, see: impl FnMut(&Self)) {
        ledger.each_failed(see);
    }

    fn pick(ledger: &Ledger, numbers: &[u64]) -> Vec<Self> {
        ledger.failed(numbers)
    }

    fn show(&self) -> Map<String, Value> {
        shown::failed(self)
    }
}
