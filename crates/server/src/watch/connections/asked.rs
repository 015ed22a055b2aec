//! What a query asks of the connections, read strictly.

use pulsewire_hub::watch::filter::{Field, Filter};
use pulsewire_hub::watch::{ClosedField, ConnectionField, FailedField, Sort};

use crate::http::problem::Problem;
use crate::settings::duration_from_text;
use crate::watch::query::wrong;
use crate::watch::{Query, ROWS_MAX};

/// Rows of a page when `limit` is not given.
pub(in crate::watch) const LIMIT_DEFAULT: usize = 50;
/// The furthest a page may begin; beyond it a filter helps more than a page.
pub(in crate::watch) const OFFSET_MAX: usize = 1_000;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) tab: Tab,
    pub(super) limit: usize,
    pub(super) offset: usize,
    /// Closed and failed ones of so many milliseconds before now only.
    pub(super) window_ms: Option<i64>,
    /// Whether rows are to say where they stand, to be put in order with those of other nodes.
    pub(super) places: bool,
}

/// Of which connections, which of them, and in which order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tab {
    Active(Order<ConnectionField>),
    Closed(Order<ClosedField>),
    Failed(Order<FailedField>),
}

/// Which, in which order, or in which groups.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::watch) struct Order<F> {
    pub(in crate::watch) filter: Filter<F>,
    /// `None` if nothing was said.
    pub(in crate::watch) sort: Option<Sort<F>>,
    pub(in crate::watch) group: Option<F>,
}

impl Asked {
    pub(super) fn read(query: &Query) -> Result<Self, Problem> {
        query.allow(super::PARAMETERS)?;
        let tab = match query.word("tab", &["active", "closed", "failed"])? {
            Some("closed") => Tab::Closed(order(query)?),
            Some("failed") => Tab::Failed(order(query)?),
            _ => Tab::Active(order(query)?),
        };
        let window_ms = query.text("window").map(window).transpose()?;
        if window_ms.is_some() && matches!(tab, Tab::Active(_)) {
            return Err(wrong("`window` is for the tabs closed and failed"));
        }
        Ok(Self {
            tab,
            limit: query.count("limit", 1..=ROWS_MAX, LIMIT_DEFAULT)?,
            offset: query.count("offset", 0..=OFFSET_MAX, 0)?,
            window_ms,
            places: false,
        })
    }

    /// Whether groups are asked for, not connections.
    pub(super) fn is_grouped(&self) -> bool {
        match &self.tab {
            Tab::Active(order) => order.group.is_some(),
            Tab::Closed(order) => order.group.is_some(),
            Tab::Failed(order) => order.group.is_some(),
        }
    }

    /// How many have to be known to choose the page.
    pub(super) fn keep(&self) -> usize {
        self.offset + self.limit
    }

    /// The page of what is in order.
    pub(super) fn page<I: IntoIterator>(&self, items: I) -> impl Iterator<Item = I::Item> {
        items.into_iter().skip(self.offset).take(self.limit)
    }
}

/// A time such as `15m`.
fn window(text: &str) -> Result<i64, Problem> {
    let window = duration_from_text(text).filter(|window| !window.is_zero());
    let window_ms = window.and_then(|window| i64::try_from(window.as_millis()).ok());
    window_ms.ok_or_else(|| wrong(format!("`window` is a time such as 15m, not `{text}`")))
}

pub(in crate::watch) fn order<F: Field>(query: &Query) -> Result<Order<F>, Problem> {
    let filter = Filter::parse(query.text("filter").unwrap_or_default());
    let filter = filter.map_err(|error| wrong(format!("`filter`, {error}")))?;
    let sort = query.text("sort").map(|text| {
        let (descending, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
        Ok::<_, Problem>(Sort { by: named(F::SORTS, "sort", name)?, descending })
    });
    let group = query.text("group").map(|name| named(F::GROUPS, "group", name)).transpose()?;
    Ok(Order { filter, sort: sort.transpose()?, group })
}

fn named<F: Field>(known: &[F], parameter: &str, name: &str) -> Result<F, Problem> {
    known.iter().copied().find(|field| field.name() == name).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|field| field.name()).collect();
        wrong(match names.as_slice() {
            [] => format!("`{parameter}` is not for this tab"),
            names => format!("`{parameter}` is one of {}, not `{name}`", names.join(", ")),
        })
    })
}
