//! What the server says to `top`: over `$sys` channels as it happens, and by asking where those are silent.

use std::time::Duration;

use pulsewire_client::{Answer, Client, Deliveries, Delivery, Http, Options, Start};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};

use super::super::connection::{Connection, problem};
use super::view::Wanted;

/// Pages come every 5 s and changes every second; whoever hears nothing for longer asks.
const SILENCE: Duration = Duration::from_millis(2_500);
/// Keys wait meanwhile, so nobody waits long for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The channel of the overview.
const OVERVIEW: &str = "$sys.overview";

/// What came.
#[derive(Debug)]
pub(super) enum News {
    /// How the server does.
    Overview(Value),
    /// The list of the view, whole.
    List(Value),
    /// What went wrong.
    Trouble(String),
}

/// A subscription to what is wanted, and a connection for questions.
pub(super) struct Feed {
    connection: Connection,
    http: Http,
    wanted: Wanted,
    client: Client,
    deliveries: Deliveries,
    list: Table,
    overview_at: Option<Instant>,
    list_at: Option<Instant>,
}

impl Feed {
    pub(super) fn new(connection: &Connection, wanted: &Wanted) -> Feed {
        let Connection { endpoint, trust, token } = connection.clone();
        let http = Http::new(endpoint, trust, Some(token));
        let (client, deliveries) = subscribe(connection, wanted);
        Feed {
            connection: connection.clone(),
            http,
            wanted: wanted.clone(),
            client,
            deliveries,
            list: Table::default(),
            overview_at: None,
            list_at: None,
        }
    }

    /// Listens to something else from now on.
    pub(super) fn want(&mut self, wanted: &Wanted) {
        let former = self.client.clone();
        tokio::spawn(async move { former.close().await });
        (self.client, self.deliveries) = subscribe(&self.connection, wanted);
        (self.wanted, self.list, self.list_at) = (wanted.clone(), Table::default(), None);
    }

    /// What the server says by itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<News> {
        let Some(delivery) = self.deliveries.next().await else {
            // The client has ended for good; asking goes on.
            return std::future::pending().await;
        };
        match delivery {
            Delivery::Event(event) => {
                let data: Value = serde_json::from_str(event.data.get()).unwrap_or_default();
                self.heard(&event.channel, &event.event_type, data)
            }
            // Whatever the way is, questions tell it better.
            _ => None,
        }
    }

    fn heard(&mut self, channel: &str, kind: &str, data: Value) -> Option<News> {
        if kind == "error" {
            return Some(News::Trouble(data["message"].as_str().unwrap_or("refused").to_owned()));
        }
        if channel == OVERVIEW {
            self.overview_at = Some(Instant::now());
            return Some(News::Overview(data));
        }
        let whole = self.list.take(kind, data)?;
        self.list_at = Some(Instant::now());
        Some(News::List(whole))
    }

    /// Asks for what nothing was heard of lately.
    pub(super) async fn ask(&mut self) -> Vec<News> {
        let silent = |at: Option<Instant>| at.is_none_or(|at| at.elapsed() > SILENCE);
        let mut news = Vec::new();
        if silent(self.overview_at) {
            news.push(self.get("/api/admin/overview").await.map_or_else(News::Trouble, News::Overview));
        }
        if silent(self.list_at) {
            news.push(self.get(&self.wanted.path()).await.map_or_else(News::Trouble, News::List));
        }
        news
    }

    /// One document.
    ///
    /// # Errors
    ///
    /// Why there is none, for a person.
    pub(super) async fn get(&mut self, path: &str) -> Result<Value, String> {
        self.exchange("GET", path, b"").await
    }

    /// Does something.
    ///
    /// # Errors
    ///
    /// Why it was not done, for a person.
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Value, String> {
        self.exchange("POST", path, body.to_string().as_bytes()).await
    }

    async fn exchange(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Value, String> {
        let answer = timeout(PATIENCE, self.http.request(method, path, body)).await;
        let answer = answer.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
        let Answer { status, body } = answer.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&body);
        if (200..300).contains(&status) {
            return serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"));
        }
        Err(problem(status, &text))
    }
}

fn subscribe(connection: &Connection, wanted: &Wanted) -> (Client, Deliveries) {
    let mut options = Options::new(connection.endpoint.clone());
    options.trust = connection.trust.clone();
    options.token = connection.token.clone().into();
    let channels = std::iter::once(OVERVIEW.to_owned()).chain([wanted.channel()]);
    options.channels = channels.map(|channel| (channel, Start::Live)).collect();
    Client::start(options)
}

/// A list as it stands after what was told of it.
#[derive(Debug, Default)]
struct Table(Map<String, Value>);

impl Table {
    /// Takes a page or changes; the whole list, unless something is missing that these changes build on.
    fn take(&mut self, kind: &str, data: Value) -> Option<Value> {
        let Value::Object(mut told) = data else { return None };
        match kind {
            "page" => self.0 = told,
            "changes" if !self.0.is_empty() && self.0.get("revision") == told.get("base") => {
                let changed = told.remove("rows").unwrap_or_default();
                told.remove("base");
                self.0.extend(told);
                let rows = self.0.get_mut("rows").and_then(Value::as_array_mut)?;
                for change in changed.as_array().into_iter().flatten() {
                    apply(rows, change);
                }
            }
            _ => return None,
        }
        Some(Value::Object(self.0.clone()))
    }
}

fn apply(rows: &mut Vec<Value>, change: &Value) {
    let at = rows.iter().position(|row| row["id"] == change["id"]);
    match (at, change.as_object()) {
        (Some(at), _) if change["gone"] == true => drop(rows.remove(at)),
        (Some(at), Some(fields)) => {
            for (name, value) in fields {
                rows[at][name] = value.clone();
            }
        }
        (None, Some(_)) if change["gone"] != true => rows.push(change.clone()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_put_onto_the_page_they_build_on() {
        let mut table = Table::default();
        assert_eq!(table.take("changes", json!({"revision": 2, "base": 1, "rows": []})), None, "onto what?");
        let page =
            json!({"revision": 1, "total": 2, "rows": [{"id": "a", "n": 1, "m": 5}, {"id": "b", "n": 2}]});
        assert_eq!(table.take("page", page.clone()), Some(page));
        let changes = json!({"revision": 2, "base": 1, "total": 3, "rows": [{"id": "a", "n": 7}, {"id": "b", "gone": true}, {"id": "c", "n": 3}]});
        let expected =
            json!({"revision": 2, "total": 3, "rows": [{"id": "a", "n": 7, "m": 5}, {"id": "c", "n": 3}]});
        assert_eq!(table.take("changes", changes.clone()), Some(expected));
        assert_eq!(table.take("changes", changes), None, "one was missed");
        assert_eq!(table.take("page", json!({"revision": 9, "rows": []})).unwrap()["revision"], 9);
    }
}
