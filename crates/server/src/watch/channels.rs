//! `channels`: what this node has at hand of applications' channels, and who reads one of them.
//!
//! The table of channels is copied, which costs a reference each, and looked at without its lock. What is dear (heads,
//! who is present) is asked of the rows of a page only, unless the order or the filter needs it. Counts are of this
//! node, and of the time since it has had the channel at hand.

mod one;

use std::collections::HashMap;
use std::sync::Arc;

use pulsewire_bus::{Channel, ChannelKind, Passed};
use pulsewire_edge::clock;
use pulsewire_hub::watch::filter::{Field, Holds, Subject};
use pulsewire_hub::watch::{GROUPS_MAX, Sort, Top};
use pulsewire_protocol::ChannelName;
use serde_json::{Map, Value, json};

use super::connections::asked::{LIMIT_DEFAULT, OFFSET_MAX, Order, order};
use super::{List, PerSecond, Query, ROWS_MAX, Row};
use crate::app::App;
use crate::http::problem::Problem;

pub(super) use one::{listeners, one};

/// The parameters of the list.
pub(super) const PARAMETERS: &[&str] = &["filter", "sort", "limit", "offset", "group"];

/// What can be asked of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChannelField {
    Name,
    Prefix,
    Namespace,
    Kind,
    Subscribers,
    Rate,
    Bytes,
    Head,
    Present,
}

impl Field for ChannelField {
    const FIELDS: &'static [(&'static str, Self, Holds)] = &[
        ("name", Self::Name, Holds::Text),
        ("channel", Self::Name, Holds::Text),
        ("prefix", Self::Prefix, Holds::Text),
        ("namespace", Self::Namespace, Holds::Text),
        ("kind", Self::Kind, Holds::Word(&["log", "ephemeral", "metrics"])),
        ("subscribers", Self::Subscribers, Holds::Count),
        ("rate", Self::Rate, Holds::Count),
        ("bytes", Self::Bytes, Holds::Bytes),
        ("head", Self::Head, Holds::Count),
        ("present", Self::Present, Holds::Count),
    ];
    const WORDS_IN: &'static [Self] = &[Self::Name];
    const SORTS: &'static [Self] =
        &[Self::Subscribers, Self::Rate, Self::Bytes, Self::Head, Self::Present, Self::Name];
    const GROUPS: &'static [Self] = &[Self::Prefix, Self::Namespace, Self::Kind];
}

/// Those that most listen to first, unless it was asked otherwise.
const MOST_FIRST: Sort<ChannelField> = Sort { by: ChannelField::Subscribers, descending: true };

/// A channel that is looked at.
struct Seen<'a> {
    app: &'a App,
    channel: &'a Channel,
    rates: PerSecond,
}

/// `GET /api/admin/channels`: a page of them, or their groups. With ids, those rows again.
pub(super) async fn list(app: &Arc<App>, query: &Query, ids: Option<&[String]>) -> Result<List, Problem> {
    let order: Order<ChannelField> = order(query)?;
    let limit = query.count("limit", 1..=ROWS_MAX, LIMIT_DEFAULT)?;
    let offset = query.count("offset", 0..=OFFSET_MAX, 0)?;
    let mut all = app.bus.all_channels();
    all.retain(|channel| !channel.name.is_system());
    let counts = all.iter().map(|channel| {
        let Passed { publications, bytes, .. } = channel.passed();
        (channel.id, [publications, bytes])
    });
    let rates = app.channel_rates.of(counts, clock::now());
    let seen = all.iter().zip(rates).map(|(channel, rates)| Seen { app, channel, rates });
    let matching: Vec<Seen<'_>> = seen.filter(|seen| order.filter.passes(seen)).collect();
    let (total, matched) = (all.len(), matching.len());
    let rows = match (order.group, ids) {
        (Some(by), _) => groups(&matching, by, order.sort, offset, limit),
        (None, Some(ids)) => again(&matching, ids),
        (None, None) => {
            let mut top = Top::new(offset + limit);
            for (index, seen) in matching.iter().enumerate() {
                // Equals stand in the order of their names.
                top.compete(seen, order.sort.unwrap_or(MOST_FIRST), (seen.channel.name.clone(), index));
            }
            let page = top.into_sorted().into_iter().skip(offset);
            page.map(|found| matching[found.key.1].row()).collect()
        }
    };
    Ok(List { meta: Map::new(), total, matched, rows })
}

/// The rows of these, as far as they are still there and still match.
fn again(matching: &[Seen<'_>], ids: &[String]) -> Vec<Row> {
    let wanted: HashMap<&str, usize> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    let mut rows: Vec<(usize, Row)> = matching
        .iter()
        .filter_map(|seen| wanted.get(seen.channel.name.as_str()).map(|at| (*at, seen.row())))
        .collect();
    rows.sort_by_key(|(at, _)| *at);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Channels that have something in common.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    channels: u64,
    subscribers: u64,
    rates: PerSecond,
}

fn groups(
    matching: &[Seen<'_>],
    by: ChannelField,
    sort: Option<Sort<ChannelField>>,
    offset: usize,
    limit: usize,
) -> Vec<Row> {
    let mut groups: HashMap<String, Group> = HashMap::new();
    for seen in matching {
        let mut name = String::new();
        seen.text(by, &mut |text| {
            name.push_str(text);
            true
        });
        // Prefixes are the applications' own words; groups beyond the bound are together.
        let name =
            if groups.len() >= GROUPS_MAX && !groups.contains_key(&name) { "…".to_owned() } else { name };
        let group = groups.entry(name).or_default();
        group.channels += 1;
        group.subscribers += u64::from(seen.channel.listeners());
        for (sum, rate) in group.rates.iter_mut().zip(seen.rates) {
            *sum = rate.map_or(*sum, |rate| Some(sum.unwrap_or(0.0) + rate));
        }
    }
    let mut groups: Vec<(String, Group)> = groups.into_iter().collect();
    let sort = sort.unwrap_or(MOST_FIRST);
    let place = |group: &Group| match sort.by {
        ChannelField::Rate => group.rates[0].unwrap_or(0.0),
        ChannelField::Bytes => group.rates[1].unwrap_or(0.0),
        _ => group.subscribers as f64,
    };
    groups.sort_by(|(one_name, one), (other_name, other)| {
        let places = if sort.by == ChannelField::Name {
            std::cmp::Ordering::Equal
        } else if sort.descending {
            place(other).total_cmp(&place(one))
        } else {
            place(one).total_cmp(&place(other))
        };
        places.then_with(|| one_name.cmp(other_name))
    });
    let page = groups.into_iter().skip(offset).take(limit);
    let row = |(name, group): (String, Group)| {
        fields(json!({
            "id": name,
            "channels": group.channels,
            "subscribers": group.subscribers,
            "publishedPerSecond": group.rates[0],
            "bytesPerSecond": group.rates[1],
        }))
    };
    page.map(row).collect()
}

impl Seen<'_> {
    fn namespace(&self) -> &pulsewire_bus::Namespace {
        self.app.bus.namespaces().get(self.channel.namespace)
    }

    fn head(&self) -> Option<u64> {
        (self.channel.kind == ChannelKind::Log).then(|| self.channel.head().0)
    }

    fn present(&self) -> Option<usize> {
        self.namespace().presence.map(|_| self.app.hub.presence.present(&self.channel.name))
    }

    fn row(&self) -> Row {
        let Passed { publications, bytes, critical } = self.channel.passed();
        let is_log = self.channel.kind == ChannelKind::Log;
        let share = (publications > 0).then(|| critical as f64 / publications as f64);
        fields(json!({
            "id": self.channel.name.as_str(),
            "channel": self.channel.name.as_str(),
            "namespace": &*self.namespace().name,
            "kind": self.channel.kind.as_str(),
            "subscribers": self.channel.listeners(),
            "publishedPerSecond": self.rates[0],
            "bytesPerSecond": self.rates[1],
            "published": publications,
            "publishedBytes": bytes,
            "criticalShare": share.map(|share| (share * 1e4).round() / 1e4).filter(|_| is_log),
            "head": self.head(),
            "epoch": is_log.then(|| self.channel.epoch.as_str()),
            "floor": is_log.then(|| self.channel.floor().0),
            "present": self.present(),
            "series": (self.channel.kind == ChannelKind::Metrics).then(|| self.channel.series()),
        }))
    }
}

impl Subject<ChannelField> for Seen<'_> {
    fn text(&self, field: ChannelField, will_do: &mut dyn FnMut(&str) -> bool) -> bool {
        match field {
            ChannelField::Name => will_do(self.channel.name.as_str()),
            ChannelField::Prefix => will_do(self.channel.name.prefix().unwrap_or_default()),
            ChannelField::Namespace => will_do(&self.namespace().name),
            ChannelField::Kind => will_do(self.channel.kind.as_str()),
            _ => false,
        }
    }

    fn number(&self, field: ChannelField) -> Option<f64> {
        match field {
            ChannelField::Subscribers => Some(f64::from(self.channel.listeners())),
            ChannelField::Rate => self.rates[0],
            ChannelField::Bytes => self.rates[1],
            ChannelField::Head => self.head().map(|head| head as f64),
            ChannelField::Present => self.present().map(|present| present as f64),
            _ => None,
        }
    }
}

fn fields(row: Value) -> Row {
    match row {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

/// The channel of this name, as it is looked at.
fn find(app: &App, name: &ChannelName) -> Option<Arc<Channel>> {
    app.bus.find(name).filter(|channel| !channel.name.is_system())
}
