//! The `$sys` channels: who listens is told what they ask for, once a second.
//!
//! One task looks four times a second which of the server's own channels have listeners; without any it does nothing
//! else. Each answer is made by a task of its own that takes the watch along and brings it back, so a slow one delays
//! no other and is never asked twice at a time. Whoever joins is told a whole page with the next look.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pulsewire_bus::{Channel, ChannelId, Now};
use pulsewire_edge::clock;
use pulsewire_protocol::{ChannelName, ErrorCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::MissedTickBehavior;

use super::{Differ, Produce, Query, WATCHABLES, Watchable, tap, tell_on};
use crate::app::App;
use crate::http::health::iso;
use crate::http::problem::Problem;

/// How often is looked who listens: as long as who joins may wait for the first page.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// How often a watch is told what changed.
const TELL_NS: u64 = 1_000_000_000;
/// How often rows are put in order again.
const ORDER_NS: u64 = 5_000_000_000;
/// By how much a moment may come too early: looks are not exact.
const EARLY_NS: u64 = 50_000_000;

/// Begins to serve the `$sys` channels; ends when `stop` changes.
pub fn start(app: &Arc<App>, mut stop: watch::Receiver<bool>) {
    let mut watcher =
        Watcher { app: app.clone(), places: HashMap::new(), out: HashMap::new(), tasks: JoinSet::new() };
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = looks.tick() => watcher.look(clock::now()),
                Some(done) = watcher.tasks.join_next_with_id(), if !watcher.tasks.is_empty() => watcher.back(done),
                _ = stop.changed() => break,
            }
        }
    });
}

struct Watcher {
    app: Arc<App>,
    places: HashMap<ChannelId, Place>,
    /// Whose answers are being made.
    out: HashMap<Id, ChannelId>,
    tasks: JoinSet<Box<Watch>>,
}

/// What is known of a channel that somebody listens to.
enum Place {
    /// It is answered.
    Here(Box<Watch>),
    /// Its answer is being made.
    Out,
    /// It is not answered; whoever had joined by then was told why.
    Refused(u64),
    /// It is a tap, which is served beside.
    Tapped { _served: tap::Served },
    /// Nothing is told from here: what is told on it is told as it happens, or its answer was our fault.
    Silent,
}

/// A query that is answered.
struct Watch {
    channel: Arc<Channel>,
    watchable: &'static Watchable,
    query: Query,
    differ: Differ,
    /// How many had joined when a page was told last.
    joined: u64,
    told_ns: u64,
    ordered_ns: u64,
    /// Why there was no answer the last time.
    failed: Option<ErrorCode>,
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Page,
    Changes,
}

impl Watcher {
    /// Sees who listens, and begins what is due.
    fn look(&mut self, now: Now) {
        let channels = self.app.bus.system_channels();
        if channels.is_empty() && self.places.is_empty() {
            return;
        }
        // What is out is forgotten when it is back.
        self.places.retain(|id, place| {
            matches!(place, Place::Out) || channels.iter().any(|channel| channel.id == *id)
        });
        for channel in channels {
            self.look_at(channel, now);
        }
        self.app.watches.store(self.watches(), Ordering::Relaxed);
    }

    fn look_at(&mut self, channel: Arc<Channel>, now: Now) {
        let id = channel.id;
        let known = self.places.get(&id);
        let joined = channel.joined();
        let told = match known {
            Some(Place::Out | Place::Silent | Place::Tapped { .. }) => return,
            Some(Place::Here(_)) => None,
            Some(Place::Refused(told)) => Some(*told),
            None => Some(0),
        };
        if let Some(told) = told {
            let place = match asked(&channel.name) {
                Ok(Asked::Pushed) => Place::Silent,
                Ok(Asked::Tap(wanted)) if self.has_room() => {
                    Place::Tapped { _served: tap::Served::begin(&self.app, channel, wanted) }
                }
                Ok(Asked::Watch(watchable, query)) if self.has_room() => {
                    Place::Here(Box::new(Watch::new(channel, watchable, query)))
                }
                refused => {
                    if told != joined {
                        let problem = refused.err().unwrap_or_else(|| self.too_many());
                        refuse(&self.app, &channel, &problem, now);
                    }
                    Place::Refused(joined)
                }
            };
            self.places.insert(id, place);
        }
        let Some(Place::Here(watch)) = self.places.get(&id) else { return };
        let Some(due) = watch.due(now) else { return };
        if let Some(Place::Here(watch)) = self.places.insert(id, Place::Out) {
            let task = self.tasks.spawn(answer(self.app.clone(), watch, due));
            self.out.insert(task.id(), id);
        }
    }

    /// An answer was made.
    fn back(&mut self, done: Result<(Id, Box<Watch>), tokio::task::JoinError>) {
        let (task, place) = match done {
            Ok((task, watch)) => (task, Place::Here(watch)),
            Err(error) => {
                tracing::error!(%error, "what a $sys channel shows could not be produced");
                (error.id(), Place::Silent)
            }
        };
        if let Some(id) = self.out.remove(&task) {
            self.places.insert(id, place);
        }
    }

    fn watches(&self) -> usize {
        self.places.values().filter(|place| matches!(place, Place::Here(_) | Place::Out)).count()
    }

    /// Whether one more may be answered or tapped.
    fn has_room(&self) -> bool {
        let taps = self.places.values().filter(|place| matches!(place, Place::Tapped { .. })).count();
        self.watches() + taps < self.queries_max()
    }

    fn queries_max(&self) -> usize {
        self.app.live.load().settings.watch.queries_max
    }

    fn too_many(&self) -> Problem {
        self.app.telemetry.shared().watch_refused();
        let detail =
            format!("{} queries and taps are watched already (watch.queries_max)", self.queries_max());
        Problem::new(ErrorCode::LimitExceeded, detail)
    }
}

impl Watch {
    fn new(channel: Arc<Channel>, watchable: &'static Watchable, query: Query) -> Self {
        let differ = Differ::default();
        Self { channel, watchable, query, differ, joined: 0, told_ns: 0, ordered_ns: 0, failed: None }
    }

    fn due(&self, now: Now) -> Option<Due> {
        let late = |since_ns: u64, every_ns: u64| now.since_ns(since_ns) + EARLY_NS >= every_ns;
        if self.joined != self.channel.joined()
            || (late(self.told_ns, TELL_NS) && late(self.ordered_ns, ORDER_NS))
        {
            Some(Due::Page)
        } else {
            late(self.told_ns, TELL_NS).then_some(Due::Changes)
        }
    }
}

/// What a channel's name asks for.
enum Asked {
    Watch(&'static Watchable, Query),
    Tap(tap::Wanted),
    Pushed,
}

/// What is told as it happens, by name.
const PUSHED: [&str; 1] = ["events"];

/// What is told of one connection, which the query names.
const TAP: &str = "tap";

fn asked(channel: &ChannelName) -> Result<Asked, Problem> {
    let text = channel.as_str().strip_prefix("$sys.").unwrap_or_default();
    let (name, query) = text.split_once(':').unwrap_or((text, ""));
    if PUSHED.contains(&name) && query.is_empty() {
        return Ok(Asked::Pushed);
    }
    if name == TAP {
        return tap::Wanted::parse(query).map(Asked::Tap);
    }
    let watchable = Watchable::named(name).ok_or_else(|| {
        let known =
            WATCHABLES.iter().map(|watchable| watchable.name).chain(PUSHED).chain([TAP]).collect::<Vec<_>>();
        super::query::wrong(format!("there is no `$sys.{name}`; there are {}", known.join(", ")))
    })?;
    let query = Query::of_channel(query, watchable.has_subject())?;
    query.allow(watchable.parameters)?;
    Ok(Asked::Watch(watchable, query))
}

/// Makes an answer and tells it.
async fn answer(app: Arc<App>, mut watch: Box<Watch>, due: Due) -> Box<Watch> {
    let began = clock::now();
    let joined = watch.channel.joined();
    match produce(&app, &mut watch, due).await {
        Ok(told) => {
            watch.failed = None;
            let untold =
                told.is_some_and(|(event_type, data)| !tell_on(&app, &watch.channel, event_type, &data));
            if untold {
                // Whoever listens lacks it: they go on with a page.
                watch.differ = Differ::default();
            } else if due == Due::Page {
                watch.joined = joined;
            }
        }
        Err(problem) if watch.failed == Some(problem.code) && watch.joined == joined => {}
        Err(problem) => {
            refuse(&app, &watch.channel, &problem, began);
            (watch.failed, watch.joined) = (Some(problem.code), joined);
        }
    }
    watch.told_ns = began.mono_ns;
    if due == Due::Page {
        watch.ordered_ns = began.mono_ns;
    }
    app.telemetry.shared().watched(clock::now().since_ns(began.mono_ns));
    watch
}

/// What there is to tell, and as what.
async fn produce(
    app: &Arc<App>,
    watch: &mut Watch,
    due: Due,
) -> Result<Option<(&'static str, Value)>, Problem> {
    let produce = match watch.watchable.produce {
        Produce::Document(produce) => {
            return produce(app, &watch.query).await.map(|document| Some((watch.watchable.name, document)));
        }
        Produce::List(produce) => produce,
    };
    let again = watch.differ.rows().filter(|_| due == Due::Changes);
    let list = produce(app, &watch.query, again.as_deref()).await?;
    let at = iso(clock::now().wall_ms);
    if due == Due::Page {
        return Ok(Some(("page", watch.differ.page(list, &at))));
    }
    match watch.differ.changes(list, &at) {
        Ok(changes) => Ok(changes.map(|changes| ("changes", changes))),
        Err(list) => Ok(Some(("page", watch.differ.page(list, &at)))),
    }
}

/// Tells listeners why they are told nothing.
pub(super) fn refuse(app: &App, channel: &Arc<Channel>, problem: &Problem, now: Now) {
    let data = json!({ "code": problem.code.name(), "message": problem.code.message_with(&problem.detail) });
    tracing::debug!(channel = %channel.name, code = problem.code.name(), at = now.wall_ms, "a watch was refused");
    tell_on(app, channel, "error", &data);
}
