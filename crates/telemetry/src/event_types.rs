//! The event type names that have series of their own.
//!
//! Names come from applications, so there is a cap: the names of document 000 are there from the
//! start, others are added as they are first seen, and when the set is full the rest share
//! `other`. A name is never removed, so an id stays valid for the life of the process.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};

use crate::registry::unix_ms_now;

/// An interned event type name. `0` is [`EventTypeId::OTHER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventTypeId(pub u16);

impl EventTypeId {
    /// What every name beyond the cap shares.
    pub const OTHER: Self = Self(0);
}

/// The names of document 000, which have series before anything happened.
pub(crate) const EVENT_TYPES_KNOWN: [&str; 12] = [
    "agent:status",
    "task:progress",
    "task:completed",
    "task:failed",
    "message:new",
    "draft:pending",
    "activity:log",
    "task_assign",
    "draft_approve",
    "draft_reject",
    "message_send",
    "state_sync",
];

/// Distinct refused names remembered, so that each is counted once; later ones are counted each time.
const REFUSED_MAX: usize = 32_768;

/// A registered name.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) name: Box<str>,
    /// When its series began, Unix milliseconds.
    pub(crate) created_ms: u64,
}

/// The bounded set of event type names.
pub struct EventTypes {
    names: RwLock<Names>,
    names_max: usize,
    refused: Mutex<HashSet<u64>>,
    refused_total: AtomicU64,
    hasher: RandomState,
}

#[derive(Default)]
struct Names {
    ids: HashMap<Box<str>, u16>,
    list: Vec<Registered>,
}

impl EventTypes {
    /// Names longer than this share [`EventTypeId::OTHER`].
    pub const NAME_BYTES_MAX: usize = 64;

    /// A set of at most `names_max` names beside `other`; at least document 000's twelve.
    pub(crate) fn new(names_max: usize) -> Self {
        let this = Self {
            names: RwLock::default(),
            names_max: names_max.clamp(EVENT_TYPES_KNOWN.len(), usize::from(u16::MAX) - 1),
            refused: Mutex::default(),
            refused_total: AtomicU64::new(0),
            hasher: RandomState::new(),
        };
        this.names.write().add("other");
        for name in EVENT_TYPES_KNOWN {
            this.intern(name);
        }
        this
    }

    /// The id of a name, registering it if there is room.
    ///
    /// Costs one shared lock and one look-up: do it once for a publication, not for each subscriber.
    pub fn intern(&self, name: &str) -> EventTypeId {
        if let Some(id) = self.names.read().ids.get(name) {
            return EventTypeId(*id);
        }
        if name.len() <= Self::NAME_BYTES_MAX && !name.is_empty() {
            let mut names = self.names.write();
            if let Some(id) = names.ids.get(name) {
                return EventTypeId(*id);
            }
            if names.list.len() <= self.names_max {
                return EventTypeId(names.add(name));
            }
        }
        self.refuse(name);
        EventTypeId::OTHER
    }

    /// The name behind an id; `other` for one that was never given out.
    #[must_use]
    pub fn name(&self, id: EventTypeId) -> Box<str> {
        let names = self.names.read();
        names.list.get(usize::from(id.0)).map_or_else(|| "other".into(), |registered| registered.name.clone())
    }

    /// Registered names, `other` included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.read().list.len()
    }

    /// Never: `other` is always there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Distinct names that found the set full.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused_total.load(Relaxed)
    }

    /// Rows a block needs: every name and `other`.
    pub(crate) fn rows(&self) -> usize {
        self.names_max + 1
    }

    /// The registered names in the order of their ids.
    pub(crate) fn registered(&self) -> Vec<Registered> {
        self.names.read().list.clone()
    }

    fn refuse(&self, name: &str) {
        let hash = self.hasher.hash_one(name);
        let mut refused = self.refused.lock();
        if refused.contains(&hash) {
            return;
        }
        if refused.len() < REFUSED_MAX {
            refused.insert(hash);
        }
        self.refused_total.fetch_add(1, Relaxed);
    }
}

impl Names {
    fn add(&mut self, name: &str) -> u16 {
        let id = u16::try_from(self.list.len()).unwrap_or(0);
        self.ids.insert(name.into(), id);
        self.list.push(Registered { name: name.into(), created_ms: unix_ms_now() });
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_cap_share_other_and_each_is_counted_once() {
        let types = EventTypes::new(14);
        assert_eq!(types.intern("task:progress"), EventTypeId(2));
        assert_eq!((types.intern("a"), types.intern("b")), (EventTypeId(13), EventTypeId(14)));
        for _ in 0..3 {
            assert_eq!(types.intern("c"), EventTypeId::OTHER);
        }
        types.intern("d");
        assert_eq!((types.refused(), types.len(), types.rows()), (2, 15, 15));
        assert_eq!(types.intern("a"), EventTypeId(13));
        assert_eq!(&*types.name(EventTypeId(13)), "a");
    }

    #[test]
    fn other_is_a_name_like_any_other_and_overlong_names_get_it() {
        let types = EventTypes::new(200);
        assert_eq!(types.intern("other"), EventTypeId::OTHER);
        assert_eq!(types.refused(), 0);
        assert_eq!(types.intern(&"x".repeat(65)), EventTypeId::OTHER);
        assert_eq!(types.intern(""), EventTypeId::OTHER);
        assert_eq!(types.refused(), 2);
        assert_eq!(&*types.name(EventTypeId(999)), "other");
    }

    #[test]
    fn ten_thousand_names_leave_two_hundred_and_a_count_of_the_rest() {
        let types = EventTypes::new(200);
        for n in 0..10_000 {
            types.intern(&format!("type-{n}"));
        }
        assert_eq!(types.len(), 201);
        assert_eq!(types.refused(), 10_000 - (200 - 12));
    }
}
