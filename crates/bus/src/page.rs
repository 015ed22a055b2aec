//! Publications in sequence order, and where they lie in their channel.

use std::sync::Arc;

use pulsewire_protocol::Sequence;

use crate::Publication;

/// What a read returned.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The publications, oldest first.
    pub publications: Vec<Arc<Publication>>,
    /// Sequences that are kept and cannot be read.
    pub corrupt: Vec<Sequence>,
    /// Up to where the page tells everything there is of what was asked.
    pub through: Sequence,
    /// The highest sequence up to which ordinary events are gone; 0 if none ever went, or if the page does
    /// not begin below it.
    pub floor: Sequence,
    /// The highest sequence up to which critical events are gone; likewise.
    pub critical_floor: Sequence,
    /// The newest sequence when the page was read.
    pub head: Sequence,
}
