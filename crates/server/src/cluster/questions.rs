//! Questions to all other nodes, and their answers.
//!
//! Whoever asks waits a moment for everybody who is there; who has not answered by then is named as missing, and the
//! answer goes without them. A question says what it is about; a node that does not know it says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pulsewire_bus::Topic;
use pulsewire_telemetry::limited;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::{Cluster, sessions};
use crate::app::App;

/// Questions of others that are being answered at the same time; further ones are not answered.
const ANSWERING_MAX: usize = 64;

/// How long an operator who asks waits for nodes that do not answer.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Questions that wait for answers.
#[derive(Default)]
pub struct Questions {
    asked: AtomicU64,
    answering: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<Said>>>,
}

/// A node and its answer, if it has one.
type Said = (Box<str>, Option<Box<RawValue>>);

/// What other nodes answered.
#[derive(Debug, Default)]
pub struct Answers {
    /// By node.
    pub answers: BTreeMap<Box<str>, Box<RawValue>>,
    /// Nodes that are missing or have not answered.
    pub missing: Vec<Box<str>>,
}

#[derive(Serialize, Deserialize)]
struct Asked<'a> {
    id: u64,
    what: &'a str,
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct Answered<'a> {
    id: u64,
    /// Absent if the node does not know what it was asked.
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
}

impl Cluster {
    /// Asks all other nodes, or some of them, and waits for their answers, at most so long.
    pub async fn ask(
        &self,
        what: &str,
        body: &impl Serialize,
        nodes: Option<&[Box<str>]>,
        patience: Duration,
    ) -> Answers {
        let mut answers = Answers::default();
        let wanted = |name: &str| nodes.is_none_or(|nodes| nodes.iter().any(|node| **node == *name));
        let (mut open, missing) = {
            let known = self.nodes.lock();
            (known.present(), known.missing())
        };
        open.retain(|name| wanted(name));
        answers.missing = missing.into_iter().filter(|name| wanted(name)).collect();
        let Ok(body) = serde_json::value::to_raw_value(body) else { return answers };
        if open.is_empty() || !self.is_connected() {
            answers.missing.append(&mut open);
            return answers;
        }
        let id = self.questions.asked.fetch_add(1, Ordering::Relaxed);
        let (sender, mut receiver) = mpsc::channel(open.len());
        self.questions.waiting.lock().insert(id, sender);
        let question = Asked { id, what, body: &body };
        match nodes {
            None => self.tell(Topic::All, "ask", &question),
            Some(_) => open.iter().for_each(|node| self.tell(Topic::Node(node.clone()), "ask", &question)),
        }
        let collect = async {
            while !open.is_empty() {
                let Some((from, body)) = receiver.recv().await else { return };
                open.retain(|name| *name != from);
                match body {
                    Some(body) => drop(answers.answers.insert(from, body)),
                    // It does not know what it was asked, or cannot tell now.
                    None => answers.missing.push(from),
                }
            }
        };
        // Whoever has not answered by then is missing.
        let _ = tokio::time::timeout(patience, collect).await;
        self.questions.waiting.lock().remove(&id);
        answers.missing.append(&mut open);
        answers
    }
}

impl Questions {
    /// Another node answered.
    pub(super) fn answered(&self, from: &str, body: &RawValue) {
        let Ok(Answered { id, body }) = serde_json::from_str(body.get()) else { return };
        let waiting = self.waiting.lock().get(&id).cloned();
        if let Some(waiting) = waiting {
            // Full only if a node answers twice.
            let _ = waiting.try_send((from.into(), body.map(ToOwned::to_owned)));
        }
    }
}

/// Answers another node, beside everything else.
pub(super) fn answer(app: &Arc<App>, cluster: &Arc<Cluster>, from: &str, body: &RawValue) {
    let Ok(Asked { id, what, body }) = serde_json::from_str(body.get()) else { return };
    if cluster.questions.answering.fetch_add(1, Ordering::Relaxed) >= ANSWERING_MAX as u64 {
        cluster.questions.answering.fetch_sub(1, Ordering::Relaxed);
        limited!(warn, from, what, "too many questions of other nodes at the same time; one is not answered");
        return;
    }
    let (app, cluster, from, what, body) =
        (app.clone(), cluster.clone(), from.to_owned(), what.to_owned(), body.to_owned());
    tokio::spawn(async move {
        let answer = reply(&app, &what, &body).await;
        let answered = Answered { id, body: answer.as_deref() };
        cluster.tell(Topic::Node(from.into()), "answer", &answered);
        cluster.questions.answering.fetch_sub(1, Ordering::Relaxed);
    });
}

/// What this node knows of what it is asked; `None` if it does not know what that is.
async fn reply(app: &Arc<App>, what: &str, body: &RawValue) -> Option<Box<RawValue>> {
    match what {
        "session" => sessions::give_up(app, body).await,
        "row" => serde_json::value::to_raw_value(&crate::watch::nodes::row(app).await).ok(),
        "shut_out" => crate::shut_out::answer(app, body).await,
        "close" => crate::shut_out::close_here(app, body).await,
        "list" => crate::http::admin::answer_list(app, body).await,
        "cleanup_stale" => crate::http::admin::forget_stale(app, body),
        "cleanup_upstreams" => crate::http::admin::cleanup_here(app, body),
        "drain" => crate::http::admin::drain_here(app, body),
        "connections" => crate::watch::connections::answer(app, body).await,
        "connection" => crate::watch::connections::answer_one(app, body).await,
        _ => None,
    }
}
