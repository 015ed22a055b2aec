//! Looking at connections: which, in what order, and what is wrong with them.
//!
//! Nothing here reads a clock or a socket. A [`Query`] is compiled once, by whoever asks; a shard holds it against a
//! slice of its slots at a time and keeps the best of them, so that a look at ten thousand connections never holds a
//! shard for longer than a slice, allocates nothing for a connection that is not chosen, and costs nothing while
//! nobody looks. What is dear (names, texts, the kernel's own figures) is made for the rows of a page only.

mod ended;
mod fields;
pub mod filter;
mod health;
mod rank;
mod reader;
mod row;
mod short;
pub mod tap;
pub mod timeline;

pub use fields::{ClosedField, ConnectionField, FailedField};
pub(crate) use health::STUCK_NS;
pub use health::{Cause, Diagnosis, Signs};
pub use rank::{Candidate, Group, Groups, Place, Ranked, Top};
pub use reader::{Reader, Readership};
pub use row::{Detail, Feeding, Row, RowKey, RowKeyError, State, Subscribed};
pub use short::Short;

use std::sync::Arc;

use filter::Filter;

/// Slots that a shard looks at in one go.
pub const SLICE_SLOTS: u32 = 1_000;
/// Listeners of a channel that a shard looks at in one go.
pub const SLICE_LISTENERS: usize = 10_000;
/// Listeners of a channel that are shown at most: those furthest behind.
pub const READERS_MAX: usize = 200;
/// The most groups of a list; connections of further groups are counted only.
pub const GROUPS_MAX: usize = 10_000;

/// Which connections are wanted, and which of them first.
#[derive(Debug, Clone)]
pub struct Query {
    /// Which.
    pub filter: Filter<ConnectionField>,
    /// In which order.
    pub sort: Sort<ConnectionField>,
    /// How many are kept: what comes before a page, and the page.
    pub keep: usize,
    /// Groups instead of connections.
    pub group: Option<ConnectionField>,
    /// The node's name, for `node:` in filters.
    pub node: Arc<str>,
}

/// An order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort<F> {
    /// By what.
    pub by: F,
    /// From the largest.
    pub descending: bool,
}
