//! Who is shut out, on all nodes and after every start: revoked users and tokens, blocked addresses.
//!
//! Whoever lets somebody in looks into [`Revocations`](crate::auth::Revocations) and [`Blocks`](crate::blocks::Blocks),
//! which are in memory. Here is how they come to hold the same everywhere: what an operator decides goes into a log
//! channel of the server's own, [`CHANNEL`], whose keyed state is everything that holds. A node reads the state before
//! it lets anybody in and follows the channel from then on: over the broker within milliseconds, by asking the store
//! where the broker is not reached. An operator's node also asks the others at once, so that it can say how many
//! connections were ended; and what the store does not take now is kept when it does ([`ShutOut::waiting`]).

mod fact;
mod follow;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pulsewire_bus::{ChannelKind, NamedBy, Namespace, Publisher};
use pulsewire_edge::clock;
use pulsewire_hub::Target;
use pulsewire_protocol::{ChannelName, ChannelPattern, CloseCode, ErrorCode, Event, EventType};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::oneshot;

use crate::app::{App, Stalled};
use crate::auth::revocation::REVOCATIONS_MAX;
use crate::blocks::BLOCKS_MAX;
use crate::cluster::questions::PATIENCE;

pub use fact::{Fact, Learned, NoRoom, Sets};
pub use follow::start;

/// The channel, which no client sees.
pub const CHANNEL: &str = "$cluster.control";
/// Somebody is shut out; the data is a [`Fact`].
const SHUT_OUT: &str = "shut_out";
/// An operator lets somebody in again.
const LET_IN: &str = "let_in";
/// The time of what is kept under a key is over.
const OVER: &str = "over";
/// How long an operator waits for the store.
const STORE: Duration = Duration::from_secs(1);
/// Facts whose ended connections are remembered, for the answer to whoever asks after the channel has told it.
const ENDED_MAX: usize = 64;
/// Events that the channel keeps; whoever is further behind reads the state.
const HISTORY_MAX: usize = 1_000;
/// What may wait for the store; facts are bounded by the sets they are in.
const WAITING_MAX: usize = 2 * REVOCATIONS_MAX + 2 * BLOCKS_MAX;

/// The settings of the channel.
///
/// # Panics
///
/// Never: the name is a pattern.
#[must_use]
pub fn namespace() -> Namespace {
    let pattern = ChannelPattern::parse(CHANNEL).expect("a name is a pattern");
    Namespace {
        history_max: HISTORY_MAX,
        // More than there can be: the store must never make room for one by letting somebody else in.
        state_max: 4 * (REVOCATIONS_MAX + BLOCKS_MAX),
        keyed: true,
        read_only: true,
        ..Namespace::new("cluster", pattern, ChannelKind::Log)
    }
}

/// What is on its way to all nodes.
#[derive(Debug, Default)]
pub struct ShutOut {
    /// One fact is taken in at a time, so that its connections are counted once.
    learning: tokio::sync::Mutex<VecDeque<(Fact, usize)>>,
    /// What the store has not taken yet, by key.
    waiting: Mutex<BTreeMap<String, Change>>,
}

/// What is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    ShutOut(Fact),
    LetIn,
    Over,
}

/// What became of an operator's decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Connections that were ended, on all nodes that answered; for an address that is let in, whether any node had
    /// it shut out.
    pub count: usize,
    /// Whether the store has taken it. If not it is tried again until it does, by this node.
    pub kept: bool,
    /// Nodes that have not answered in time, and will hear of it from the store; `None` without a cluster.
    pub missing: Option<Vec<Box<str>>>,
}

/// What nodes ask each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    ShutOut(Fact),
    LetIn(IpAddr),
}

impl ShutOut {
    /// How many decisions wait for the store.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    fn first_waiting(&self) -> Option<(String, Change)> {
        let waiting = self.waiting.lock();
        waiting.first_key_value().map(|(key, change)| (key.clone(), change.clone()))
    }

    fn kept(&self, key: &str, change: &Change) {
        let mut waiting = self.waiting.lock();
        // Another decision about the same may have come meanwhile.
        if waiting.get(key) == Some(change) {
            waiting.remove(key);
        }
    }

    fn wait(&self, key: String, change: Change) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING_MAX && !waiting.contains_key(&key) {
            tracing::error!(key, "too many decisions wait for the store; this one is not kept");
            return;
        }
        waiting.insert(key, change);
    }
}

impl App {
    /// Where it is looked up who is shut out.
    #[must_use]
    pub fn shut_out_sets(&self) -> Sets<'_> {
        Sets { revocations: &self.revocations, blocks: &self.blocks }
    }
}

/// Shuts somebody out, everywhere and from now on, and ends their connections.
///
/// # Errors
///
/// [`Stalled`] if a shard of this node does not answer: they are shut out all the same.
///
/// # Cancel safety
///
/// Dropping the future may leave it undone or half done.
pub async fn shut_out(app: &Arc<App>, fact: Fact) -> Result<Done, Stalled> {
    let key = fact.key();
    let change = Change::ShutOut(fact.clone());
    let question = Question::ShutOut(fact.clone());
    let (here, (kept, (elsewhere, missing))) = tokio::join!(take_in(app, &fact, Told::ByOperator), async {
        tokio::join!(keep_or_wait(app, key, change), ask(app, &question))
    });
    Ok(Done { count: here? + elsewhere, kept, missing })
}

/// Lets an address in again, everywhere.
pub async fn let_in(app: &Arc<App>, address: IpAddr) -> Done {
    let here = usize::from(app.blocks.unblock(address));
    let key = Fact::Address { address, until_ms: 0 }.key();
    let question = Question::LetIn(address);
    let (kept, (elsewhere, missing)) =
        tokio::join!(keep_or_wait(app, key, Change::LetIn), ask(app, &question));
    Done { count: here + elsewhere, kept, missing }
}

/// Asks the other nodes to do the same. Returns what they counted, and who has not answered.
async fn ask(app: &Arc<App>, question: &Question) -> (usize, Option<Vec<Box<str>>>) {
    let Some(cluster) = &app.cluster else { return (0, None) };
    let answers = cluster.ask("shut_out", question, None, PATIENCE).await;
    let counts =
        answers.answers.values().filter_map(|answer| serde_json::from_str::<usize>(answer.get()).ok());
    (counts.sum(), Some(answers.missing))
}

/// Does what another node asks.
pub(crate) async fn answer(app: &Arc<App>, body: &RawValue) -> Option<Box<RawValue>> {
    let count = match serde_json::from_str(body.get()).ok()? {
        Question::ShutOut(fact) => take_in(app, &fact, Told::ByOperator).await.ok()?,
        Question::LetIn(address) => usize::from(app.blocks.unblock(address)),
    };
    to_raw_value(&count).ok()
}

/// Who told of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// An operator, here or through another node: there may be connections though the fact is known.
    ByOperator,
    /// The channel.
    ByChannel,
}

/// Takes a fact in and ends connections. Returns how many this fact has ended here.
async fn take_in(app: &Arc<App>, fact: &Fact, told: Told) -> Result<usize, Stalled> {
    let mut ended = app.shut_out.learning.lock().await;
    let now_ms = clock::now().wall_ms;
    let learned = match app.shut_out_sets().learn(fact, now_ms) {
        Ok(learned) => learned,
        Err(error) => {
            // Whoever decided had room: this node has other entries, whose time is not over either.
            tracing::error!(%error, "another node shut somebody out, and there is no room to know that here");
            return Ok(0);
        }
    };
    if let Some(more) = learned.more {
        app.shut_out.wait(more.key(), Change::ShutOut(more));
    }
    if let Some((_, count)) = ended.iter().find(|(known, _)| known == fact) {
        return Ok(*count);
    }
    if (told == Told::ByChannel && !learned.news) || fact.until_ms() <= now_ms {
        return Ok(0);
    }
    // At the start there may be many facts; whoever comes from now on is held against this one.
    if told == Told::ByChannel && app.hub.admission.connections() == 0 {
        return Ok(0);
    }
    let count = app.close(&fact.target(), CloseCode::Revoked).await?;
    if ended.len() >= ENDED_MAX {
        ended.pop_front();
    }
    ended.push_back((fact.clone(), count));
    Ok(count)
}

/// Has a change kept; what is not kept now waits. Says which.
async fn keep_or_wait(app: &Arc<App>, key: String, change: Change) -> bool {
    match keep(app, &key, &change).await {
        Ok(()) => {
            // What waited under the key is older.
            app.shut_out.waiting.lock().remove(&key);
            true
        }
        Err(code) => {
            tracing::error!(%code, "who is shut out could not be kept; it holds here, and is tried again");
            app.shut_out.wait(key, change);
            false
        }
    }
}

/// Has a change kept.
async fn keep(app: &App, key: &str, change: &Change) -> Result<(), ErrorCode> {
    let (event_type, data) = match change {
        Change::ShutOut(fact) => (SHUT_OUT, to_raw_value(fact)),
        // What is null takes the key out of the state.
        Change::LetIn => (LET_IN, to_raw_value(&())),
        Change::Over => (OVER, to_raw_value(&())),
    };
    let data = data.map_err(|_| ErrorCode::Internal)?;
    let event_type = EventType::parse(event_type).ok_or(ErrorCode::Internal)?;
    let event = Event { key: Some(key.into()), ..Event::new(channel(), event_type, data) };
    let publisher = Publisher { named_by: NamedBy::Server, principal: "", user: None, begun_ns: 0 };
    let (reply, answer) = oneshot::channel();
    // Whoever asked may have gone.
    app.bus.publish(clock::now(), publisher, vec![event], Box::new(move |kept| drop(reply.send(kept))));
    match tokio::time::timeout(STORE, answer).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(refusal))) => Err(refusal.code),
        Ok(Err(_)) | Err(_) => Err(ErrorCode::StoreUnavailable),
    }
}

/// Ends connections on all nodes, once: whoever they are may come back. Returns how many there were, and who has not
/// answered.
///
/// # Errors
///
/// [`Stalled`] if a shard of this node does not answer.
pub async fn close(
    app: &Arc<App>,
    target: &Target,
    code: CloseCode,
) -> Result<(usize, Option<Vec<Box<str>>>), Stalled> {
    let Some(cluster) = &app.cluster else { return Ok((app.close(target, code).await?, None)) };
    let asked = Closing { target: Whose::of(target), code: code.code() };
    let (here, answers) = tokio::join!(app.close(target, code), cluster.ask("close", &asked, None, PATIENCE));
    let counts =
        answers.answers.values().filter_map(|answer| serde_json::from_str::<usize>(answer.get()).ok());
    Ok((here? + counts.sum::<usize>(), Some(answers.missing)))
}

/// Does what another node asks.
pub(crate) async fn close_here(app: &Arc<App>, body: &RawValue) -> Option<Box<RawValue>> {
    let Closing { target, code } = serde_json::from_str(body.get()).ok()?;
    let count = app.close(&target.target()?, CloseCode::from_u16(code)?).await.ok()?;
    to_raw_value(&count).ok()
}

#[derive(Serialize, Deserialize)]
struct Closing {
    target: Whose,
    code: u16,
}

/// A target as nodes tell each other.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Whose {
    Session(String),
    User(String),
    Token(String),
    Address(IpAddr),
}

impl Whose {
    fn of(target: &Target) -> Self {
        match target {
            Target::Session(session) => Self::Session(session.to_string()),
            Target::User(user) => Self::User(user.to_string()),
            Target::Token(token) => Self::Token(token.to_string()),
            Target::Address(address) => Self::Address(*address),
        }
    }

    fn target(self) -> Option<Target> {
        Some(match self {
            Self::Session(text) => Target::Session(pulsewire_protocol::SessionId::parse(&text).ok()?),
            Self::User(user) => Target::User(user.into()),
            Self::Token(token) => Target::Token(token.into()),
            Self::Address(address) => Target::Address(address),
        })
    }
}

fn channel() -> ChannelName {
    ChannelName::parse(CHANNEL).expect("it is a name")
}
