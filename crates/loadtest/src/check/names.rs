//! Names and contents as small numbers, so that an event costs the same whatever its words.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Tags of an event, or those a filter asks for.
pub type Tags = BTreeMap<String, String>;

/// What an event carries, as a hash; `None` if the record does not say. A digest that the log gives and one of `data`
/// are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Content(Option<(Given, u64)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    Data,
    Digest,
}

impl Content {
    /// Of JSON, compared without regard to white space and the order of members.
    pub fn of_data(data: &serde_json::Value) -> Content {
        Content(Some((Given::Data, hash(&data.to_string()))))
    }

    /// Of a digest that the log's writer computed.
    pub fn of_digest(digest: &str) -> Content {
        Content(Some((Given::Digest, hash(digest))))
    }

    pub(crate) fn differs(self, other: Content) -> bool {
        matches!((self.0, other.0), (Some((a, one)), Some((b, two))) if a == b && one != two)
    }

    pub(crate) fn or(self, other: Content) -> Content {
        Content(self.0.or(other.0))
    }

    pub(crate) fn number(self) -> Option<u64> {
        self.0.map(|(_, number)| number)
    }
}

/// A message id as a number; 0 for none.
pub(crate) fn id_of(id: Option<&str>) -> u64 {
    id.map_or(0, |id| hash(id).max(1))
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// A number for each name and each set of tags that was ever seen.
#[derive(Debug, Default)]
pub(crate) struct Names {
    numbers: HashMap<Box<str>, u32>,
    names: Vec<Box<str>>,
    tags: Vec<Tags>,
}

impl Names {
    pub(crate) fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).expect("fewer than four billion names");
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        number
    }

    pub(crate) fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }

    /// The number of a set of tags; 0 is the empty one.
    pub(crate) fn tags(&mut self, tags: &Tags) -> u32 {
        if self.tags.is_empty() {
            self.tags.push(Tags::new());
        }
        let known = self.tags.iter().position(|known| known == tags);
        let index = known.unwrap_or_else(|| {
            self.tags.push(tags.clone());
            self.tags.len() - 1
        });
        u32::try_from(index).expect("fewer than four billion sets of tags")
    }

    /// Whether an event with these tags passes this filter.
    pub(crate) fn passes(&self, tags: u32, filter: u32) -> bool {
        filter == 0 || {
            let (tags, filter) = (&self.tags[tags as usize], &self.tags[filter as usize]);
            filter.iter().all(|(key, value)| tags.get(key) == Some(value))
        }
    }
}
