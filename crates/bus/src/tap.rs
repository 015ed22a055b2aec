//! Whoever wants to know of every event that this node accepts.

use crate::Now;
use crate::store::Accepted;

/// Told once of every event that this node accepted: those that are kept when they are committed, the others as
/// they pass. It is not told of duplicates, of what other nodes accepted, or of what is read back.
///
/// One exception: where a commit's outcome was unknown and the same batch was found kept when it was tried again,
/// an event with a message id of its publisher's looks like a duplicate, and is not told.
pub trait Tap: Send + Sync {
    /// An event passed. Called on the way of the event, by the thread that commits or publishes: it must not wait.
    fn passed(&self, accepted: &Accepted, now: Now);
}
