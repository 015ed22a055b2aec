//! What tells series apart: a sample can be looked up without being copied.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use pulsewire_protocol::{Series, Tags};

/// A name and tags.
pub(super) trait Named {
    fn name(&self) -> (&str, &Tags);
}

impl Named for (&str, &Tags) {
    fn name(&self) -> (&str, &Tags) {
        *self
    }
}

impl Hash for dyn Named + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Named + '_ {}

/// A series as a key.
#[derive(Debug)]
pub(super) struct Known(pub(super) Arc<Series>);

impl Named for Known {
    fn name(&self) -> (&str, &Tags) {
        (&self.0.name, &self.0.tags)
    }
}

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Known {}

impl<'a> Borrow<dyn Named + 'a> for Known {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}
