//! Labels of events and filters.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json;

/// Labels that subscriptions filter by: at most 16, keys unique and sorted, each part at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tags(Box<[(Box<str>, Box<str>)]>);

impl Tags {
    /// The most tags of one event or filter.
    pub const COUNT_MAX: usize = 16;
    /// The longest key or value in bytes.
    pub const LEN_BYTES_MAX: usize = 64;

    /// Sorts and checks the pairs; `None` when there are too many, too long, empty or repeated keys.
    #[must_use]
    pub fn new<'t>(pairs: impl IntoIterator<Item = (&'t str, &'t str)>) -> Option<Self> {
        let mut tags = Vec::new();
        for (key, value) in pairs {
            let fits =
                !key.is_empty() && key.len() <= Self::LEN_BYTES_MAX && value.len() <= Self::LEN_BYTES_MAX;
            if !fits || tags.len() == Self::COUNT_MAX {
                return None;
            }
            tags.push((key.into(), value.into()));
        }
        tags.sort_unstable();
        let repeated = tags.windows(2).any(|pair: &[(Box<str>, Box<str>)]| pair[0].0 == pair[1].0);
        (!repeated).then(|| Self(tags.into()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(key)).ok().map(|at| &*self.0[at].1)
    }

    /// Whether every pair of `wanted` is here with the same value (document 004: equality, all must hold).
    #[must_use]
    pub fn contains_all(&self, wanted: &Self) -> bool {
        wanted.iter().all(|(key, value)| self.get(key) == Some(value))
    }
}

type Text<'a> = Cow<'a, str>;

/// The pairs of an object of texts, in the order written; `None` if it is anything else or repeats a key.
pub(crate) fn tags_of(raw: &RawValue) -> Option<Vec<(Text<'_>, Text<'_>)>> {
    let pairs = json::members(raw.get(), Tags::COUNT_MAX).ok()?;
    let pairs: Option<Vec<_>> =
        pairs.into_iter().map(|(key, value)| Some((key, json::text_of(value)?))).collect();
    pairs.filter(|pairs| (1..pairs.len()).all(|at| pairs[..at].iter().all(|(key, _)| *key != pairs[at].0)))
}
