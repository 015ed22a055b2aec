//! The connections of all nodes: each makes its own list, and the lists are joined here.
//!
//! Every row of a node's list says where it stands in the order that was asked for, so that rows of several nodes are
//! put in one order without being looked into. An id that only its node knows gets the node's name behind an `@`.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pulsewire_hub::watch::Place;
use pulsewire_protocol::{ErrorCode, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::asked::Asked;
use crate::app::App;
use crate::cluster::which::{Elsewhere, Which};
use crate::http::problem::Problem;
use crate::watch::{List, Query, ROWS_MAX, Row};

/// Where a row stands, as nodes tell each other; never shown.
const PLACE: &str = "_place";
/// Groups that a node tells at most.
const GROUPS: usize = super::asked::OFFSET_MAX + ROWS_MAX;
/// Bytes of a node's list at most; rows beyond are left out.
const PART_BYTES_MAX: usize = 2 << 20;

/// What is asked of another node.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    /// As a channel carries it.
    query: String,
    ids: Option<Vec<String>>,
}

/// A page of the lists of the nodes that were asked.
pub(super) async fn list(
    app: &Arc<App>,
    which: &Which,
    asked: &Asked,
    query: &Query,
    ids: Option<&[String]>,
) -> Result<List, Problem> {
    let question = Question { query: query.to_channel(), ids: ids.map(<[String]>::to_vec) };
    let own = async { if which.includes_own() { part(app, query, ids).await.map(Some) } else { Ok(None) } };
    let (own, others) = tokio::join!(own, app.ask_nodes::<List>(which, "connections", &question));
    let Elsewhere { answers, missing } = others;
    let lists = own?.into_iter().chain(answers.into_iter().map(|(_, list)| list)).collect();
    let mut all = join(lists, asked.is_grouped());
    match ids.filter(|_| !asked.is_grouped()) {
        Some(ids) => {
            let places: HashMap<&str, usize> =
                ids.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
            all.rows.sort_by_key(|row| places.get(id(row)).copied().unwrap_or(usize::MAX));
        }
        None => all.rows = asked.page(std::mem::take(&mut all.rows)).collect(),
    }
    all.rows.iter_mut().for_each(|row| drop(row.remove(PLACE)));
    all.meta.insert("missing_nodes".to_owned(), json!(missing.unwrap_or_default()));
    Ok(all)
}

/// This node's list, as far as a page of all can need it.
async fn part(app: &Arc<App>, query: &Query, ids: Option<&[String]>) -> Result<List, Problem> {
    let mut asked = Asked::read(query)?;
    asked.limit = if asked.is_grouped() { GROUPS } else { asked.keep() };
    asked.offset = 0;
    asked.places = true;
    let ids = ids.map(|ids| ids.iter().filter_map(|id| own_id(id, &app.node)).collect::<Vec<_>>());
    let mut list = super::local(app, &asked, query, ids.as_deref()).await?;
    if !asked.is_grouped() {
        list.rows.iter_mut().for_each(|row| qualify(row, &app.node));
    }
    Ok(list)
}

/// Does what another node asks.
pub(crate) async fn answer(app: &Arc<App>, body: &RawValue) -> Option<Box<RawValue>> {
    let Question { query, ids } = serde_json::from_str(body.get()).ok()?;
    let query = Query::of_channel(&query, false).ok()?;
    let mut list = part(app, &query, ids.as_deref()).await.ok()?;
    loop {
        let text = to_raw_value(&list).ok()?;
        if text.get().len() <= PART_BYTES_MAX || list.rows.is_empty() {
            return Some(text);
        }
        list.rows.truncate(list.rows.len() / 2);
    }
}

/// One connection, on whatever node it is.
pub(super) async fn one(app: &Arc<App>, asked: &str) -> Result<List, Problem> {
    let (id, node) = asked.split_once('@').map_or((asked, None), |(id, node)| (id, Some(node)));
    let which = app.which_nodes(node)?;
    let own = if which.includes_own() { Some(super::one::list(app, id).await) } else { None };
    let is_over =
        |list: &List| list.rows.iter().all(|row| row.get("state").is_some_and(|state| state == "closed"));
    // What is not a session is known to its node only.
    let elsewhere = which != Which::Own && (node.is_some() || SessionId::parse(id).is_ok());
    if !elsewhere || app.cluster.is_none() || matches!(&own, Some(Ok(list)) if !is_over(list)) {
        return own.unwrap_or(Err(ErrorCode::NotFound.into()));
    }
    let Elsewhere { answers, missing } = app.ask_nodes::<Option<Row>>(&which, "connection", &id).await;
    let found = answers.into_iter().filter_map(|(_, row)| row).map(|row| super::list_of(vec![row], 1, 1));
    let mut all: Vec<List> = own.into_iter().filter_map(Result::ok).chain(found).collect();
    all.sort_by_key(is_over);
    let missing = missing.unwrap_or_default();
    all.into_iter().next().ok_or_else(|| {
        let unknown = "no such connection, or it closed long ago";
        let detail = match missing.as_slice() {
            [] => unknown.to_owned(),
            missing => format!("{unknown}, or it is at a node that has not answered: {}", missing.join(", ")),
        };
        Problem::new(ErrorCode::NotFound, detail)
    })
}

/// Does what another node asks.
pub(crate) async fn answer_one(app: &Arc<App>, body: &RawValue) -> Option<Box<RawValue>> {
    let id: String = serde_json::from_str(body.get()).ok()?;
    let row = super::one::list(app, &id).await.ok().and_then(|list| list.rows.into_iter().next());
    to_raw_value(&row).ok()
}

/// Writes into rows where they stand.
pub(super) fn place(rows: &mut [Row], places: &[(String, Place)]) {
    let places: HashMap<&str, &Place> = places.iter().map(|(id, place)| (id.as_str(), place)).collect();
    for row in rows {
        let shown = match places.get(id(row)) {
            Some(Place::Number(number)) => json!(number),
            Some(Place::Text(text)) => json!(text),
            Some(Place::Backwards(text)) => json!([text]),
            Some(Place::Last) | None => Value::Null,
        };
        row.insert(PLACE.to_owned(), shown);
    }
}

fn id(row: &Row) -> &str {
    row.get("id").and_then(Value::as_str).unwrap_or_default()
}

/// Says of which node a row is, in its id too if only that node knows it.
fn qualify(row: &mut Row, node: &str) {
    if SessionId::parse(id(row)).is_err() {
        let qualified = format!("{}@{node}", id(row));
        row.insert("id".to_owned(), qualified.into());
    }
    row.insert("node".to_owned(), node.into());
}

/// What this node calls a row, if it can be its.
fn own_id(id: &str, own: &str) -> Option<String> {
    match id.split_once('@') {
        Some((id, node)) => (node == own).then(|| id.to_owned()),
        None => Some(id.to_owned()),
    }
}

fn join(lists: Vec<List>, grouped: bool) -> List {
    let mut all = List::default();
    for list in lists {
        all.total += list.total;
        all.matched += list.matched;
        all.rows.extend(list.rows);
        for (name, value) in list.meta {
            add(all.meta.entry(name).or_insert(Value::Null), value);
        }
    }
    if grouped {
        all.rows = join_groups(all.rows);
        all.meta.insert("groups".to_owned(), all.rows.len().into());
        return all;
    }
    all.rows.sort_by(order);
    // A session that went on elsewhere may be remembered where it was.
    let waits = |row: &Row| row.get("state").is_some_and(|state| state == "detached");
    let mut seen: HashSet<String> =
        all.rows.iter().filter(|row| !waits(row)).map(|row| id(row).to_owned()).collect();
    all.rows.retain(|row| !waits(row) || seen.insert(id(row).to_owned()));
    all
}

/// Adds counts up, also within objects.
fn add(sum: &mut Value, value: Value) {
    match (sum, value) {
        (sum @ Value::Null, value) => *sum = value,
        (Value::Object(sum), Value::Object(value)) => {
            for (name, value) in value {
                add(sum.entry(name).or_insert(Value::Null), value);
            }
        }
        (sum, value) => {
            if let (Some(one), Some(other)) = (sum.as_u64(), value.as_u64()) {
                *sum = (one + other).into();
            }
        }
    }
}

/// By place, then the newest, then by id.
fn order(one: &Row, other: &Row) -> Ordering {
    let place = |row: &Row| row.get(PLACE).cloned().unwrap_or(Value::Null);
    let by_place = match (place(one), place(other)) {
        (Value::Number(one), Value::Number(other)) => {
            one.as_f64().unwrap_or(f64::MAX).total_cmp(&other.as_f64().unwrap_or(f64::MAX))
        }
        (Value::String(one), Value::String(other)) => one.cmp(&other),
        (Value::Array(one), Value::Array(other)) => {
            let text = |array: &[Value]| array.first().and_then(Value::as_str).unwrap_or_default().to_owned();
            text(&other).cmp(&text(&one))
        }
        // What was not measured comes last.
        (one, other) => one.is_null().cmp(&other.is_null()),
    };
    let over = |row: &Row| {
        let at = row.get("at").or_else(|| row.get("disconnectedAt").filter(|_| row.contains_key("reason")));
        at.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    by_place.then_with(|| over(other).cmp(&over(one))).then_with(|| id(one).cmp(id(other)))
}

/// Groups of the same name as one; in the order of their connections.
fn join_groups(rows: Vec<Row>) -> Vec<Row> {
    let mut by_name: HashMap<String, Row> = HashMap::new();
    let mut names = Vec::new();
    for row in rows {
        let name = id(&row).to_owned();
        let Some(known) = by_name.get_mut(&name) else {
            names.push(name.clone());
            by_name.insert(name, row);
            continue;
        };
        for (field, value) in row {
            let Some(sum) = known.get_mut(&field) else { continue };
            let number = |value: &Value| value.as_f64();
            match field.as_str() {
                "connections" | "subscriptions" | "queuedBytes" | "reconnections" | "messageFailures" => {
                    add(sum, value);
                }
                "worstScore"
                    if number(sum).is_none_or(|known| number(&value).is_some_and(|new| new < known)) =>
                {
                    *sum = value;
                }
                "rttMs" | "latencyMaxMs"
                    if number(sum).is_none_or(|known| number(&value).is_some_and(|new| new > known)) =>
                {
                    *sum = value;
                }
                _ => {}
            }
        }
    }
    let mut joined: Vec<Row> = names.iter().filter_map(|name| by_name.remove(name)).collect();
    joined.sort_by_cached_key(|row| {
        let connections = row.get("connections").and_then(Value::as_u64).unwrap_or(0);
        (std::cmp::Reverse(connections), id(row).to_owned())
    });
    joined
}

/// The meta of a list that is asked of one node in a cluster.
pub(super) fn alone(list: &mut List, app: &App) {
    if app.cluster.is_some() {
        list.meta.insert("missing_nodes".to_owned(), Value::Array(Vec::new()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn list(rows: &[Value]) -> List {
        let rows: Vec<Row> = rows.iter().map(|row| row.as_object().cloned().unwrap()).collect();
        let meta = Map::from_iter([("tabs".to_owned(), json!({"active": rows.len(), "closed": 1}))]);
        List { total: rows.len(), matched: rows.len(), rows, meta }
    }

    fn ids(list: &List) -> Vec<&str> {
        list.rows.iter().map(id).collect()
    }

    #[test]
    fn rows_of_several_nodes_stand_in_one_order() {
        let row = |id: &str, place: Value| json!({"id": id, "_place": place});
        let numbers = [
            list(&[row("a", json!(-9.5)), row("b", json!(-1))]),
            list(&[row("c", json!(-3)), row("d", Value::Null)]),
        ];
        let all = join(numbers.to_vec(), false);
        assert_eq!(ids(&all), ["a", "c", "b", "d"]);
        assert_eq!((all.total, &all.meta["tabs"]), (4, &json!({"active": 4, "closed": 2})));
        let texts =
            [list(&[row("a", json!(["x"]))]), list(&[row("b", json!(["y"])), row("c", json!(["w"]))])];
        assert_eq!(ids(&join(texts.to_vec(), false)), ["b", "a", "c"], "backwards");
        let over =
            |id: &str, at: &str| json!({"id": id, "_place": null, "reason": "x", "disconnectedAt": at});
        let closed =
            [list(&[over("1@a", "2024-03"), over("2@a", "2024-01")]), list(&[over("1@b", "2024-02")])];
        assert_eq!(ids(&join(closed.to_vec(), false)), ["1@a", "1@b", "2@a"], "the newest first");
    }

    #[test]
    fn a_session_that_went_on_elsewhere_stands_there_once() {
        let row = |state: &str| json!({"id": "s", "state": state, "_place": 1});
        let all = join(vec![list(&[row("detached")]), list(&[row("connected")])], false);
        assert_eq!((ids(&all), &all.rows[0]["state"]), (vec!["s"], &json!("connected")));
    }

    #[test]
    fn groups_of_one_name_are_one() {
        let group = |id: &str, connections: u64, rtt: Value, score: Value| json!({"id": id, "connections": connections, "rttMs": rtt, "worstScore": score});
        let all = join(
            vec![
                list(&[group("ann", 2, Value::Null, json!(50)), group("bob", 3, json!(1.0), json!(90))]),
                list(&[group("ann", 2, json!(7.5), json!(40))]),
            ],
            true,
        );
        let rows: Vec<Value> = all.rows.into_iter().map(Value::Object).collect();
        assert_eq!(rows, [group("ann", 4, json!(7.5), json!(40)), group("bob", 3, json!(1.0), json!(90))]);
        assert_eq!(all.meta["groups"], 2);
    }

    #[test]
    fn an_id_that_only_its_node_knows_says_which_node_that_is() {
        let mut row = Map::from_iter([("id".to_owned(), json!("c0-1-2"))]);
        qualify(&mut row, "aa");
        assert_eq!((id(&row), &row["node"]), ("c0-1-2@aa", &json!("aa")));
        assert_eq!((own_id("c0-1-2@aa", "aa").as_deref(), own_id("c0-1-2@aa", "bb")), (Some("c0-1-2"), None));
        let session = SessionId::new(1, 2, 3, 4).to_string();
        let mut row = Map::from_iter([("id".to_owned(), json!(session))]);
        qualify(&mut row, "aa");
        assert_eq!(id(&row), session);
    }
}
