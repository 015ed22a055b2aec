//! What can be watched: the lists and documents of the admin API, each asked for once over HTTP or, once a second
//! while somebody listens, on a `$sys` channel.
//!
//! Everything is declared once, in [`WATCHABLES`]: its name, its path and who produces it. The HTTP routes, the
//! channels and the refusal of what is not known follow from that table. A producer makes the whole answer at a
//! moment; what of it is sent is decided by [`Differ`], which knows nothing of channels.

mod alerts;
mod channels;
pub mod connections;
mod differ;
mod errors;
pub(crate) mod nodes;
mod overview;
mod query;
mod rates;
mod tap;
mod upstreams;
mod watcher;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use pulsewire_bus::Channel;
use pulsewire_edge::clock;
use pulsewire_protocol::{ChannelName, EventType};
use serde_json::{Map, Value};

use crate::app::App;
use crate::http::problem::Problem;

pub use differ::{Differ, apply, page};
pub use query::Query;
pub use rates::{PerSecond, Rates};
pub use watcher::start;

/// The fields of a row; `id` is a string and differs from row to row.
pub type Row = Map<String, Value>;

/// A table of rows, in order.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct List {
    /// Further fields of the list, beside the rows; not `revision`, `base`, `at`, `total`, `matched` and `rows`.
    pub meta: Map<String, Value>,
    /// How many rows there are in all.
    pub total: usize,
    /// How many the query selects; the rows are a page of those.
    pub matched: usize,
    /// At most [`ROWS_MAX`].
    pub rows: Vec<Row>,
}

/// Rows of one answer at most.
pub const ROWS_MAX: usize = 200;

/// Rows of connections whose counts are kept to tell their rates.
pub const ROWS_KEPT_MAX: usize = 16_384;

/// An answer on its way.
pub type Producing<'a, T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send + 'a>>;

/// Makes a list. With ids it is asked for these rows again, in this order: what has ended is left out, and what is
/// new may be left out, too, so that nothing need be put in order.
pub type ProduceList = for<'a> fn(&'a Arc<App>, &'a Query, Option<&'a [String]>) -> Producing<'a, List>;

/// Makes a document.
pub type ProduceDocument = for<'a> fn(&'a Arc<App>, &'a Query) -> Producing<'a, Value>;

/// Who makes the answer.
#[derive(Clone, Copy)]
pub enum Produce {
    /// A table of rows: told as `page` and `changes`.
    List(ProduceList),
    /// A document, told whole, as an event of the watchable's name.
    Document(ProduceDocument),
}

/// Something that can be watched.
pub struct Watchable {
    /// What follows `$sys.`.
    pub name: &'static str,
    /// Its path; where it is about one thing, the last part is `{id}`, and the channel's query is that id. It is a list
    /// of one row then, and over HTTP that row.
    pub path: &'static str,
    /// The parameters of its query.
    pub parameters: &'static [&'static str],
    /// Who makes it.
    pub produce: Produce,
}

/// Everything that can be watched and is produced when asked for. What is told as it happens is not here.
pub const WATCHABLES: &[Watchable] = &[
    Watchable {
        name: "overview",
        path: "/api/admin/overview",
        parameters: &[],
        produce: Produce::Document(|app, query| Box::pin(overview::document(app, query))),
    },
    Watchable {
        name: "alerts",
        path: "/api/admin/alerts",
        parameters: &[],
        produce: Produce::List(|app, query, again| Box::pin(alerts::list(app, query, again))),
    },
    Watchable {
        name: "errors",
        path: "/api/admin/errors",
        parameters: &[],
        produce: Produce::List(|app, query, again| Box::pin(errors::list(app, query, again))),
    },
    Watchable {
        name: "nodes",
        path: "/api/admin/nodes",
        parameters: &[],
        produce: Produce::List(|app, query, again| Box::pin(nodes::list(app, query, again))),
    },
    Watchable {
        name: "channels",
        path: "/api/admin/channels",
        parameters: channels::PARAMETERS,
        produce: Produce::List(|app, query, again| Box::pin(channels::list(app, query, again))),
    },
    Watchable {
        name: "channel",
        path: "/api/admin/channels/{id}",
        parameters: &[],
        produce: Produce::List(|app, query, _| Box::pin(channels::one(app, query))),
    },
    Watchable {
        name: "connections",
        path: "/api/admin/connections",
        parameters: connections::PARAMETERS,
        produce: Produce::List(connections::list),
    },
    Watchable {
        name: "connection",
        path: "/api/admin/connections/{id}",
        parameters: &[],
        produce: Produce::List(connections::one),
    },
    Watchable {
        name: "upstreams",
        path: "/api/admin/upstreams",
        parameters: upstreams::PARAMETERS,
        produce: Produce::List(|app, query, again| Box::pin(upstreams::list(app, query, again))),
    },
];

/// Tells whoever listens to a `$sys` channel what has just happened, such as a notable event on `$sys.events`. Costs
/// a look into the table of channels if nobody does.
///
/// # Panics
///
/// If the event type is none.
pub fn tell(app: &App, channel: &str, event_type: &str, data: &Value) {
    let found = ChannelName::parse(channel).ok().and_then(|name| app.bus.find(&name));
    if let Some(channel) = found.filter(|channel| channel.listeners() > 0) {
        tell_on(app, &channel, event_type, data);
    }
}

/// Tells the listeners of a channel something. Returns whether they are told.
fn tell_on(app: &App, channel: &Arc<Channel>, event_type: &str, data: &Value) -> bool {
    let event_type = EventType::parse(event_type).expect("what the server tells has a type");
    let data = serde_json::value::to_raw_value(data).expect("a value is JSON");
    app.bus.tell_system(channel, event_type, data, clock::now())
}

impl Watchable {
    /// The watchable of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        WATCHABLES.iter().find(|watchable| watchable.name == name)
    }

    /// Whether it is about one thing, which its query names.
    #[must_use]
    pub fn has_subject(&self) -> bool {
        self.path.ends_with("/{id}")
    }
}
