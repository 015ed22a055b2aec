//! `upstreams`: the streams that this node holds open to others, what is declared, and how the candidate does.
//!
//! What a stream did is known where it is performed; here it is chosen, put in order and cut to a page. Times such as
//! `idleMs` are as of the moment of the answer, so a row of a stream that does nothing changes, too.

use std::collections::HashMap;
use std::sync::Arc;

use pulsewire_hub::watch::filter::{Field, Holds, Subject};
use pulsewire_hub::watch::{Sort, Top};
use pulsewire_sources::upstream::Totals;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::connections::asked::{LIMIT_DEFAULT, OFFSET_MAX, Order, order};
use super::{List, Query, ROWS_MAX, Row};
use crate::app::App;
use crate::http::problem::Problem;
use crate::upstreams::{CanaryInfo, StreamInfo, UpstreamInfo};

/// The parameters of the list.
pub(super) const PARAMETERS: &[&str] = &["upstream", "filter", "sort", "limit", "offset"];

/// Declarations of an answer at most; `declaredTotal` says how many there are, and `upstream` finds each.
const DECLARED_MAX: usize = 200;
/// Keys of a row at most where rows of all upstreams are shown; with `upstream` there are as many as are known.
const KEYS_MAX: usize = 10;

/// What can be asked of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamField {
    Upstream,
    Key,
    Track,
    State,
    Trouble,
    Listeners,
    Rate,
    Retries,
    Errors,
    Dropped,
    Missing,
    Duplicates,
    Failovers,
    Idle,
    Silent,
}

impl Field for StreamField {
    const FIELDS: &'static [(&'static str, Self, Holds)] = &[
        ("upstream", Self::Upstream, Holds::Text),
        ("key", Self::Key, Holds::Text),
        ("track", Self::Track, Holds::Word(&["stable", "canary"])),
        ("state", Self::State, Holds::Word(&STATES)),
        ("trouble", Self::Trouble, Holds::Count),
        ("listeners", Self::Listeners, Holds::Count),
        ("rate", Self::Rate, Holds::Count),
        ("retries", Self::Retries, Holds::Count),
        ("errors", Self::Errors, Holds::Count),
        ("dropped", Self::Dropped, Holds::Count),
        ("missing", Self::Missing, Holds::Count),
        ("duplicates", Self::Duplicates, Holds::Count),
        ("failovers", Self::Failovers, Holds::Count),
        ("idle", Self::Idle, Holds::Time),
        ("silent", Self::Silent, Holds::Time),
    ];
    const WORDS_IN: &'static [Self] = &[Self::Upstream, Self::Key];
    const SORTS: &'static [Self] = &[
        Self::Trouble,
        Self::Upstream,
        Self::Key,
        Self::Listeners,
        Self::Rate,
        Self::Retries,
        Self::Errors,
        Self::Dropped,
        Self::Missing,
        Self::Duplicates,
        Self::Failovers,
        Self::Idle,
        Self::Silent,
    ];
    const GROUPS: &'static [Self] = &[];
}

/// The states of a stream, from what is well to what is worst: the place of each is its `trouble`.
const STATES: [&str; 7] = ["live", "closing", "connecting", "waiting", "stale", "circuit", "failed"];

/// What is worst first, unless it was asked otherwise.
const WORST_FIRST: Sort<StreamField> = Sort { by: StreamField::Trouble, descending: true };

/// `GET /api/admin/upstreams`: a page of streams. With ids, those rows again.
pub(super) async fn list(app: &Arc<App>, query: &Query, ids: Option<&[String]>) -> Result<List, Problem> {
    let asked = Asked::read(query)?;
    let mut list = page(app.upstreams.streams(), &asked, ids);
    let canary = app.upstreams.canary();
    list.meta = meta(&app.upstreams.totals(), app.upstreams.declared(), &canary, asked.upstream);
    Ok(list)
}

/// What a query asks for.
struct Asked<'q> {
    upstream: Option<&'q str>,
    order: Order<StreamField>,
    limit: usize,
    offset: usize,
}

impl<'q> Asked<'q> {
    fn read(query: &'q Query) -> Result<Self, Problem> {
        Ok(Self {
            upstream: query.text("upstream"),
            order: order(query)?,
            limit: query.count("limit", 1..=ROWS_MAX, LIMIT_DEFAULT)?,
            offset: query.count("offset", 0..=OFFSET_MAX, 0)?,
        })
    }
}

fn page(mut streams: Vec<StreamInfo>, asked: &Asked<'_>, ids: Option<&[String]>) -> List {
    streams.retain(|stream| asked.upstream.is_none_or(|name| name == &*stream.upstream));
    let total = streams.len();
    streams.retain(|stream| asked.order.filter.passes(stream));
    let keys_max = if asked.upstream.is_some() { usize::MAX } else { KEYS_MAX };
    let row = |stream: &StreamInfo| row(stream, keys_max);
    let rows = match ids {
        Some(ids) => {
            let known: HashMap<&str, &StreamInfo> =
                streams.iter().map(|stream| (stream.id.as_str(), stream)).collect();
            ids.iter().filter_map(|id| known.get(id.as_str()).map(|stream| row(stream))).collect()
        }
        None => {
            let mut top = Top::new(asked.offset + asked.limit);
            for (index, stream) in streams.iter().enumerate() {
                // Equals stand in the order of their names, and those of one name as they were opened.
                let key = (stream.upstream.clone(), stream.key.clone(), index);
                top.compete(stream, asked.order.sort.unwrap_or(WORST_FIRST), key);
            }
            let chosen = top.into_sorted().into_iter().skip(asked.offset);
            chosen.map(|found| row(&streams[found.key.2])).collect()
        }
    };
    List { meta: Map::new(), total, matched: streams.len(), rows }
}

fn row(stream: &StreamInfo, keys_max: usize) -> Row {
    let mut row = fields(stream);
    if let Some(Value::Array(keys)) = row.get_mut("keys") {
        keys.truncate(keys_max);
    }
    row
}

/// What the list says beside its rows.
fn meta(
    totals: &Totals,
    mut declared: Vec<UpstreamInfo>,
    canary: &CanaryInfo,
    upstream: Option<&str>,
) -> Map<String, Value> {
    declared.retain(|known| upstream.is_none_or(|name| name == &*known.name));
    let declared_total = declared.len();
    declared.truncate(DECLARED_MAX);
    // What both tracks did in the time that is compared is what all streams did.
    let seconds = canary.window_ms as f64 / 1e3;
    let per_second = |events: u64| (seconds > 0.0).then(|| (events as f64 / seconds * 1e3).round() / 1e3);
    let tracks = &canary.tracks;
    fields(&json!({
        "totals": {
            "active": totals.active,
            "limit": totals.limit,
            "highWater": totals.high_water,
            "highWaterToday": totals.high_water_today,
            "uncleaned": totals.uncleaned,
            "created": totals.created,
            "cleaned": totals.cleaned,
            "retriesPerSecond": per_second(tracks.stable.retries + tracks.canary.retries),
            "errorsPerSecond": per_second(tracks.stable.errors + tracks.canary.errors),
        },
        "declared": declared,
        "declaredTotal": declared_total,
        "canary": canary,
    }))
}

fn fields(of: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(of) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

impl Subject<StreamField> for StreamInfo {
    fn text(&self, field: StreamField, will_do: &mut dyn FnMut(&str) -> bool) -> bool {
        match field {
            StreamField::Upstream => will_do(&self.upstream),
            StreamField::Key => will_do(&self.key) || self.keys.iter().any(|key| will_do(key)),
            StreamField::Track => will_do(self.track),
            StreamField::State => will_do(self.state),
            _ => false,
        }
    }

    fn number(&self, field: StreamField) -> Option<f64> {
        let count = |count: u64| Some(count as f64);
        match field {
            StreamField::Trouble => count(STATES.iter().position(|state| *state == self.state)? as u64),
            StreamField::Listeners => count(self.listeners),
            StreamField::Rate => Some(self.messages_per_second),
            StreamField::Retries => count(self.retries),
            StreamField::Errors => count(self.errors),
            StreamField::Dropped => count(self.dropped),
            StreamField::Missing => count(self.missing),
            StreamField::Duplicates => count(self.duplicates),
            StreamField::Failovers => count(self.failovers),
            StreamField::Idle => self.idle_ms.and_then(count),
            StreamField::Silent => self.last_message_ago_ms.and_then(count),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use pulsewire_sources::upstream::canary::{Sums, Tracks};

    use super::*;

    fn stream(id: u64, upstream: &str, key: &str, state: &'static str) -> StreamInfo {
        StreamInfo {
            id: id.to_string(),
            upstream: upstream.into(),
            key: key.into(),
            track: "stable",
            state,
            ..StreamInfo::default()
        }
    }

    fn streams() -> Vec<StreamInfo> {
        vec![
            StreamInfo {
                listeners: 40,
                messages_per_second: 120.5,
                keys: (0..12).map(|n| format!("k{n}").into()).collect(),
                keys_total: 300,
                ..stream(1, "quotes", "", "live")
            },
            StreamInfo { idle_ms: Some(12_000), retries: 3, ..stream(2, "depth", "eur", "live") },
            StreamInfo {
                errors: 9,
                retries: 7,
                track: "canary",
                last_message_ago_ms: Some(90_000),
                ..stream(3, "depth", "usd", "waiting")
            },
            stream(4, "news", "", "failed"),
        ]
    }

    /// The ids of a page, how many match and how many there are.
    fn found(query: &str) -> (String, usize, usize) {
        let query = Query::of_url(None, Some(query)).unwrap();
        let list = page(streams(), &Asked::read(&query).unwrap(), None);
        let ids: Vec<&str> = list.rows.iter().filter_map(|row| row["id"].as_str()).collect();
        (ids.join(" "), list.matched, list.total)
    }

    #[test]
    fn what_is_worst_is_first_and_equals_stand_by_name() {
        assert_eq!(found(""), ("4 3 2 1".to_owned(), 4, 4));
        assert_eq!(found("limit=1&offset=1"), ("3".to_owned(), 4, 4));
    }

    #[test]
    fn streams_are_found_by_what_is_known_of_them() {
        let cases = [
            ("filter=state:live", "2 1"),
            ("filter=-state:live", "4 3"),
            ("filter=trouble>0+-state:failed", "3"),
            ("filter=track:canary", "3"),
            ("filter=key:k11", "1"),
            ("filter=upstream:d*", "3 2"),
            ("filter=eur", "2"),
            ("filter=retries>5", "3"),
            ("filter=idle>10s", "2"),
            ("filter=silent>1m", "3"),
            ("filter=rate>100", "1"),
            ("sort=-retries", "3 2 4 1"),
            ("sort=upstream", "2 3 4 1"),
            ("sort=-idle", "2 3 4 1"),
            ("sort=-rate&filter=listeners>0", "1"),
        ];
        for (query, ids) in cases {
            assert_eq!(found(query).0, ids, "{query}");
        }
        assert_eq!(found("upstream=depth&filter=errors>0"), ("3".to_owned(), 1, 2));
        let wrong = |query: &str| {
            let query = Query::of_url(None, Some(query)).unwrap();
            Asked::read(&query).err().map(|problem| problem.detail).unwrap_or_default()
        };
        assert!(wrong("filter=state:dead").contains("circuit"), "{}", wrong("filter=state:dead"));
        assert!(wrong("sort=state").contains("trouble"), "{}", wrong("sort=state"));
    }

    #[test]
    fn rows_that_are_shown_are_asked_for_again_in_their_order() {
        let query = Query::of_url(None, Some("filter=-state:failed")).unwrap();
        let ids = ["1", "9", "4", "3"].map(str::to_owned);
        let list = page(streams(), &Asked::read(&query).unwrap(), Some(&ids));
        let shown: Vec<_> = list.rows.iter().map(|row| row["id"].clone()).collect();
        assert_eq!(shown, ["1", "3"], "9 has ended, and 4 does not match any more");
    }

    #[test]
    fn a_row_says_what_is_known_of_a_stream_and_some_of_its_keys() {
        let row_of = |query: &str| {
            let query = Query::of_url(None, Some(query)).unwrap();
            page(streams(), &Asked::read(&query).unwrap(), None).rows.pop().unwrap()
        };
        let row = row_of("filter=upstream:quotes");
        assert_eq!((row["keys"].as_array().unwrap().len(), &row["keysTotal"]), (KEYS_MAX, &json!(300)));
        assert_eq!((&row["messagesPerSecond"], &row["idleMs"]), (&json!(120.5), &Value::Null));
        assert_eq!(row_of("upstream=quotes")["keys"].as_array().unwrap().len(), 12);
    }

    #[test]
    fn the_list_says_how_many_there_are_and_how_often_they_are_tried_again() {
        let tracks = Tracks {
            stable: Sums { retries: 27, errors: 9, ..Sums::default() },
            canary: Sums { retries: 9, ..Sums::default() },
        };
        let canary = CanaryInfo { verdict: "pass", window_ms: 180_000, tracks, ..CanaryInfo::default() };
        let many =
            || (0..300).map(|n| UpstreamInfo { name: format!("u{n}").into(), ..UpstreamInfo::default() });
        let totals = Totals { active: 3, limit: 100, high_water: 5, ..Totals::default() };
        let told = meta(&totals, many().collect(), &canary, None);
        assert_eq!((&told["totals"]["active"], &told["totals"]["highWater"]), (&json!(3), &json!(5)));
        assert_eq!(told["totals"]["retriesPerSecond"], 0.2);
        assert_eq!(told["totals"]["errorsPerSecond"], 0.05);
        assert_eq!(told["declared"].as_array().unwrap().len(), DECLARED_MAX);
        assert_eq!((&told["declaredTotal"], &told["canary"]["verdict"]), (&json!(300), &json!("pass")));
        let one = meta(&totals, many().collect(), &CanaryInfo::default(), Some("u250"));
        assert_eq!((&one["declared"][0]["name"], &one["declaredTotal"]), (&json!("u250"), &json!(1)));
        assert_eq!(one["totals"]["retriesPerSecond"], Value::Null, "nothing is compared yet");
    }
}
