//! User agents, each kept once however many clients call themselves so.
//!
//! Bounded: beyond `NAMES_MAX` different names the rest share one, and the table is emptied of names
//! that nobody uses any more before that happens.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// How many different names are kept.
const NAMES_MAX: usize = 4_096;

/// The table of names.
#[derive(Debug)]
pub struct Agents {
    names: Mutex<HashSet<Arc<str>>>,
    other: Arc<str>,
}

impl Default for Agents {
    fn default() -> Self {
        Self { names: Mutex::default(), other: "other".into() }
    }
}

impl Agents {
    /// The shared form of a name.
    pub fn intern(&self, name: &str) -> Arc<str> {
        let mut names = self.names.lock();
        if let Some(known) = names.get(name) {
            return known.clone();
        }
        if names.len() >= NAMES_MAX {
            names.retain(|known| Arc::strong_count(known) > 1);
            if names.len() >= NAMES_MAX {
                return self.other.clone();
            }
        }
        let name: Arc<str> = name.into();
        names.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_uses_make_room() {
        let agents = Agents::default();
        let used: Vec<_> = (0..NAMES_MAX).map(|number| agents.intern(&number.to_string())).collect();
        assert_eq!(&*agents.intern("one more"), "other");
        drop(used);
        assert_eq!(&*agents.intern("one more"), "one more");
        assert!(Arc::ptr_eq(&agents.intern("one more"), &agents.intern("one more")));
    }
}
