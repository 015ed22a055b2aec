//! The lists of document 003 over all nodes: each node makes its part, and the parts are joined here.
//!
//! A node's part holds the first rows of its own list, as many as the page can need: whatever is among the first of
//! all is among the first of its node. Parts are bounded, so in a cluster a page can end at most [`ROWS_MAX`] rows
//! behind the beginning; one node's own list (`?node=`) has no such end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use pulsewire_protocol::{ChannelName, ErrorCode, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::paging::{Paging, Sort};
use super::{last_of_each, record, runs};
use crate::app::App;
use crate::cluster::which::{Elsewhere, Which};
use crate::http::problem::Problem;

/// Rows of a part that goes to another node at most.
const ROWS_MAX: usize = 2_000;
/// Bytes of such a part at most; rows beyond are left out.
const PART_BYTES_MAX: usize = 2 << 20;

/// Which list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum List {
    /// The runs, with how many connections listen to each.
    Runs,
    /// Who is in the run of this channel.
    Run(Box<str>),
    /// Every session that is known.
    Sessions(SessionOrder),
    /// Everything about one.
    Session(Box<str>),
    /// Who is connected, with how many connections and subscriptions.
    Users,
    /// Connections that closed.
    Closed,
}

/// [`Sort`], as nodes tell it each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SessionOrder {
    Newest,
    QueuedBytes,
}

impl From<Sort> for SessionOrder {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Newest => Self::Newest,
            Sort::QueuedBytes => Self::QueuedBytes,
        }
    }
}

/// What is asked of another node.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    list: List,
    /// So many rows from the beginning.
    rows: usize,
}

/// A node's part of a list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Rows of the whole list of the node.
    pub(super) total: usize,
    /// Connections that are there.
    pub(super) live: usize,
    /// Sessions that wait for their client.
    pub(super) detached: usize,
    /// Users of the connections that are there.
    pub(super) users: BTreeSet<Box<str>>,
    /// The first rows.
    pub(super) rows: Vec<Value>,
}

/// A list of the nodes that were asked, from its beginning as far as the page needs it.
pub(super) async fn of_nodes(
    app: &Arc<App>,
    list: List,
    paging: &Paging,
) -> Result<(Part, Option<Vec<Box<str>>>), Problem> {
    let which = app.which_nodes(paging.node.as_deref())?;
    let (wanted, alone) = (paging.end(), app.cluster.is_none() || which == Which::Own);
    if !alone && wanted > ROWS_MAX {
        let detail =
            format!("over all nodes a page ends at the {ROWS_MAX}th row at most; ask one node with `node`");
        return Err(Problem::new(ErrorCode::BadRequest, detail));
    }
    // What is summed up by name is right only if everything is told.
    let rows = match list {
        List::Runs | List::Users if !alone => ROWS_MAX,
        _ => wanted,
    };
    let asked = Asked { list: list.clone(), rows };
    let own = async { if which.includes_own() { own(app, &list, rows).await.map(Some) } else { Ok(None) } };
    let (own, others) = tokio::join!(own, app.ask_nodes::<Part>(&which, "list", &asked));
    let Elsewhere { answers, missing } = others;
    let parts: Vec<Part> = own?.into_iter().chain(answers.into_iter().map(|(_, part)| part)).collect();
    Ok((join(&list, parts), missing))
}

/// Does what another node asks.
pub(crate) async fn answer(app: &Arc<App>, body: &RawValue) -> Option<Box<RawValue>> {
    let Asked { list, rows } = serde_json::from_str(body.get()).ok()?;
    let mut part = own(app, &list, rows.min(ROWS_MAX)).await.ok()?;
    loop {
        let text = to_raw_value(&part).ok()?;
        if text.get().len() <= PART_BYTES_MAX || part.rows.is_empty() {
            return Some(text);
        }
        part.rows.truncate(part.rows.len() / 2);
    }
}

/// This node's part.
async fn own(app: &Arc<App>, list: &List, rows: usize) -> Result<Part, Problem> {
    if *list == List::Closed {
        let (page, total) = app.hub.ledger.page(0, rows);
        return Ok(Part { total, rows: page.iter().map(record::ledger).collect(), ..Part::default() });
    }
    let mut all = app.connections().await?;
    Ok(match list {
        List::Closed => Part::default(),
        List::Runs => {
            let live = || all.iter().filter(|info| info.disconnected_at_ms.is_none());
            let mut by_run = BTreeMap::<&str, u64>::new();
            for run in live().flat_map(runs) {
                *by_run.entry(run).or_default() += 1;
            }
            Part {
                total: by_run.len(),
                live: live().count(),
                detached: all.len() - live().count(),
                rows: by_run.into_iter().take(rows).map(|(run, count)| json!([run, count])).collect(),
                ..Part::default()
            }
        }
        List::Run(channel) => {
            let channel = ChannelName::parse(channel)
                .map_err(|error| Problem::new(ErrorCode::InvalidChannel, error.to_string()))?;
            all.retain(|info| info.channels.contains(&channel));
            all.sort_by_key(|info| (info.disconnected_at_ms.is_some(), info.connected_at_ms, info.session));
            let live = || all.iter().filter(|info| info.disconnected_at_ms.is_none());
            Part {
                total: all.len(),
                live: live().count(),
                detached: all.len() - live().count(),
                users: live().map(|info| info.user.clone()).filter(|user| !user.is_empty()).collect(),
                rows: all.iter().take(rows).map(record::brief).collect(),
            }
        }
        List::Sessions(order) => {
            all.sort_by_key(|info| {
                let queued_bytes = if *order == SessionOrder::QueuedBytes { info.queued_bytes } else { 0 };
                let newest = Reverse((info.connected_at_ms, info.session));
                (Reverse(queued_bytes), info.disconnected_at_ms.is_some(), newest)
            });
            let (closed, _) = app.hub.ledger.page(0, usize::MAX);
            let closed = last_of_each(&closed, &all);
            let total = all.len() + closed.len();
            let records = all.iter().map(record::present).chain(closed.into_iter().map(record::closed));
            Part { total, rows: records.take(rows).collect(), ..Part::default() }
        }
        List::Session(session) => {
            let Ok(session) = SessionId::parse(session) else { return Ok(Part::default()) };
            let present = all.into_iter().find(|info| info.session == Some(session));
            let closed = app.hub.ledger.session(session);
            let mut shown = match (&present, closed.first()) {
                (Some(info), _) => record::present(info),
                (None, Some(last)) => record::closed(last),
                (None, None) => return Ok(Part::default()),
            };
            shown["closedConnections"] = closed.iter().map(record::ledger).collect();
            Part { total: 1, rows: vec![shown], ..Part::default() }
        }
        List::Users => {
            let mut by_user = BTreeMap::<&str, (u64, u64)>::new();
            for info in all.iter().filter(|info| info.disconnected_at_ms.is_none() && !info.user.is_empty()) {
                let (connections, subscriptions) = by_user.entry(&info.user).or_default();
                *connections += 1;
                *subscriptions += info.channels.len() as u64;
            }
            let total = by_user.len();
            Part { total, rows: users_in_order(by_user).into_iter().take(rows).collect(), ..Part::default() }
        }
    })
}

fn users_in_order<'u>(by_user: impl IntoIterator<Item = (&'u str, (u64, u64))>) -> Vec<Value> {
    let mut users: Vec<_> = by_user.into_iter().collect();
    users.sort_by_key(|(user, (_, subscriptions))| (Reverse(*subscriptions), *user));
    let shown = |(user, (connections, subscriptions))| json!({ "userId": user, "connections": connections, "subscriptions": subscriptions });
    users.into_iter().map(shown).collect()
}

/// Joins the parts of one list.
fn join(list: &List, mut parts: Vec<Part>) -> Part {
    if parts.len() == 1 {
        return parts.pop().unwrap_or_default();
    }
    let mut all = Part::default();
    let mut told = 0;
    for part in parts {
        all.total += part.total;
        all.live += part.live;
        all.detached += part.detached;
        all.users.extend(part.users);
        told += part.rows.len();
        all.rows.extend(part.rows);
    }
    // What nodes have beyond what they told may be the same on several; it is counted for each.
    let untold = all.total - told.min(all.total);
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    match list {
        List::Runs => {
            let mut by_run = BTreeMap::<String, u64>::new();
            for row in &all.rows {
                *by_run.entry(row[0].as_str().unwrap_or_default().to_owned()).or_default() +=
                    row[1].as_u64().unwrap_or(0);
            }
            all.total = by_run.len() + untold;
            all.rows = by_run.into_iter().map(|(run, count)| json!([run, count])).collect();
        }
        List::Users => {
            let mut by_user = BTreeMap::<String, (u64, u64)>::new();
            for row in &all.rows {
                let (connections, subscriptions) = by_user.entry(text(row, "userId")).or_default();
                *connections += row["connections"].as_u64().unwrap_or(0);
                *subscriptions += row["subscriptions"].as_u64().unwrap_or(0);
            }
            all.total = by_user.len() + untold;
            all.rows = users_in_order(by_user.iter().map(|(user, counts)| (user.as_str(), *counts)));
        }
        List::Run(_) => all.rows.sort_by_cached_key(|row| {
            (!row["disconnectedAt"].is_null(), text(row, "connectedAt"), text(row, "sessionId"))
        }),
        List::Closed => all.rows.sort_by_cached_key(|row| Reverse(text(row, "disconnectedAt"))),
        List::Sessions(order) => {
            let is_closed = |row: &Value| row["state"] == "closed";
            all.rows.sort_by_cached_key(|row| {
                let queued =
                    if *order == SessionOrder::QueuedBytes { row["queuedBytes"].as_u64() } else { None };
                let newest = if is_closed(row) { "disconnectedAt" } else { "connectedAt" };
                let newest = Reverse((text(row, newest), text(row, "sessionId")));
                (is_closed(row), Reverse(queued), !row["disconnectedAt"].is_null(), newest)
            });
            // A session that went on elsewhere closed at the node where it was: those that are there come first.
            let mut seen = HashSet::new();
            let before = all.rows.len();
            all.rows.retain(|row| row["sessionId"].as_str().is_none_or(|id| seen.insert(id.to_owned())));
            all.total -= before - all.rows.len();
        }
        List::Session(_) => {
            all.rows.sort_by_cached_key(|row| {
                (row["state"] == "closed", row["state"] == "detached", Reverse(text(row, "lastActivity")))
            });
            let closed = all.rows.iter_mut().filter_map(|row| row["closedConnections"].as_array_mut());
            let mut closed: Vec<Value> = closed.flat_map(std::mem::take).collect();
            closed.sort_by_cached_key(|row| Reverse(text(row, "disconnectedAt")));
            all.rows.truncate(1);
            all.rows.iter_mut().for_each(|row| row["closedConnections"] = std::mem::take(&mut closed).into());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(total: usize, rows: &[Value]) -> Part {
        Part { total, live: total, rows: rows.to_vec(), ..Part::default() }
    }

    #[test]
    fn counts_of_the_same_name_are_added_up() {
        let runs = join(
            &List::Runs,
            vec![part(2, &[json!(["1", 2]), json!(["3", 1])]), part(3, &[json!(["1", 5]), json!(["2", 1])])],
        );
        assert_eq!(runs.rows, [json!(["1", 7]), json!(["2", 1]), json!(["3", 1])]);
        assert_eq!((runs.total, runs.live), (4, 5), "one run was not told");
        let user = |name: &str, subscriptions: u64| json!({"userId": name, "connections": 1, "subscriptions": subscriptions});
        let users =
            join(&List::Users, vec![part(2, &[user("ann", 5), user("bob", 4)]), part(1, &[user("bob", 2)])]);
        let bob = json!({"userId": "bob", "connections": 2, "subscriptions": 6});
        assert_eq!((users.total, users.rows), (2, vec![bob, user("ann", 5)]));
    }

    #[test]
    fn a_session_that_went_on_elsewhere_is_listed_once() {
        let row = |id: &str, state: &str, at: &str, gone: Option<&str>| json!({"sessionId": id, "state": state, "connectedAt": at, "disconnectedAt": gone});
        let here = part(
            2,
            &[row("b", "connected", "2024-02", None), row("a", "closed", "2024-01", Some("2024-03"))],
        );
        let there = part(
            2,
            &[row("a", "connected", "2024-03", None), row("c", "detached", "2024-04", Some("2024-05"))],
        );
        let all = join(&List::Sessions(SessionOrder::Newest), vec![here, there]);
        let ids: Vec<_> = all.rows.iter().map(|row| row["sessionId"].as_str().unwrap()).collect();
        assert_eq!((ids, all.total), (vec!["a", "b", "c"], 3));
        assert_eq!(all.rows[0]["state"], "connected");
    }

    #[test]
    fn rows_of_two_nodes_are_put_in_the_order_of_the_list() {
        let row = |id: &str, at: &str, gone: Option<&str>| json!({"sessionId": id, "connectedAt": at, "disconnectedAt": gone});
        let ids = |list: &List, parts: Vec<Part>| {
            let all = join(list, parts);
            all.rows.iter().map(|row| row["sessionId"].as_str().unwrap().to_owned()).collect::<String>()
        };
        let one = part(2, &[row("a", "2024-01", None), row("b", "2024-01", Some("2024-09"))]);
        let two = part(2, &[row("c", "2024-02", None), row("d", "2024-01", Some("2024-08"))]);
        assert_eq!(ids(&List::Run("run:1".into()), vec![two.clone(), one.clone()]), "acbd");
        let closed = |part: Part| Part { rows: part.rows[1..].to_vec(), ..part };
        assert_eq!(ids(&List::Closed, vec![closed(two), closed(one)]), "bd");
    }
}
