//! The best of many, and how many there are of each kind.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::filter::{Field, Holds, Subject};
use super::row::RowKey;
use super::{GROUPS_MAX, Sort};

/// Where something stands in an order: smaller is earlier. What was not measured comes last.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// By a number, turned around if the order is from the largest.
    Number(f64),
    /// By a text.
    Text(Box<str>),
    /// By a text, from the last.
    Backwards(Box<str>),
    /// It has none.
    Last,
}

impl Eq for Place {}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(one), Self::Number(another)) => one.total_cmp(another),
            (Self::Text(one), Self::Text(another)) => one.cmp(another),
            (Self::Backwards(one), Self::Backwards(another)) => another.cmp(one),
            (Self::Last, Self::Last) => Ordering::Equal,
            // One order has places of one kind, and the last.
            (Self::Last, _) => Ordering::Greater,
            (_, Self::Last) => Ordering::Less,
            (one, another) => one.kind().cmp(&another.kind()),
        }
    }
}

impl Place {
    fn kind(&self) -> u8 {
        match self {
            Self::Number(_) => 0,
            Self::Text(_) => 1,
            Self::Backwards(_) => 2,
            Self::Last => 3,
        }
    }
}

/// Something that may be among the best.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate<K> {
    /// Where it stands.
    pub place: Place,
    /// Which it is; decides between equals, so that an order is the same each time.
    pub key: K,
}

/// The first so many of those that were seen.
#[derive(Debug)]
pub struct Top<K: Ord> {
    heap: BinaryHeap<Candidate<K>>,
    keep: usize,
}

impl<K: Ord> Top<K> {
    /// Keeps at most `keep`.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self { heap: BinaryHeap::with_capacity(keep.min(1_024) + 1), keep }
    }

    /// Lets something compete for its place in an order. Only a winner allocates, and only where texts are compared.
    pub fn compete<F: Field>(&mut self, subject: &impl Subject<F>, sort: Sort<F>, key: K) {
        let Sort { by, descending } = sort;
        let place = match by.holds() {
            Holds::Text | Holds::Word(_) => {
                let mut place = Place::Last;
                subject.text(by, &mut |text| {
                    place = if descending { Place::Backwards(text.into()) } else { Place::Text(text.into()) };
                    true
                });
                place
            }
            _ => match subject.number(by).map(|number| if descending { -number } else { number }) {
                Some(number) if !self.has_room_for(number) => return,
                Some(number) => Place::Number(number),
                None => Place::Last,
            },
        };
        self.see(Candidate { place, key });
    }

    /// Whether something with a number would be kept, whatever its key: false only if it certainly would not.
    fn has_room_for(&self, number: f64) -> bool {
        self.heap.len() < self.keep
            || self.heap.peek().is_some_and(|last| match &last.place {
                Place::Number(place) => number <= *place,
                _ => true,
            })
    }

    /// Looks at one more.
    pub fn see(&mut self, candidate: Candidate<K>) {
        if self.heap.len() < self.keep {
            self.heap.push(candidate);
        } else if let Some(mut last) = self.heap.peek_mut()
            && candidate < *last
        {
            *last = candidate;
        }
    }

    /// Those that were kept, in order.
    #[must_use]
    pub fn into_sorted(self) -> Vec<Candidate<K>> {
        self.heap.into_sorted_vec()
    }
}

/// Connections that have something in common.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Group {
    /// How many.
    pub connections: u64,
    /// Their subscriptions together.
    pub subscriptions: u64,
    /// Bytes waiting for them together.
    pub queued_bytes: u64,
    /// The longest heartbeat round trip, in nanoseconds; 0 if none was answered.
    pub rtt_ns: u64,
    /// The longest latency of a message, in nanoseconds; 0 if none was measured.
    pub latency_max_ns: u64,
    /// How often their sessions have reconnected.
    pub reconnections: u64,
    /// Messages they did not get.
    pub failures: u64,
    /// The lowest score; `None` where there is none.
    pub worst_score: Option<u8>,
}

impl Group {
    /// This one and another.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            subscriptions: self.subscriptions + other.subscriptions,
            queued_bytes: self.queued_bytes + other.queued_bytes,
            rtt_ns: self.rtt_ns.max(other.rtt_ns),
            latency_max_ns: self.latency_max_ns.max(other.latency_max_ns),
            reconnections: self.reconnections + other.reconnections,
            failures: self.failures + other.failures,
            worst_score: match (self.worst_score, other.worst_score) {
                (Some(one), Some(another)) => Some(one.min(another)),
                (one, another) => one.or(another),
            },
        }
    }
}

/// Groups by what their members have in common; at most [`GROUPS_MAX`].
#[derive(Debug, Default)]
pub struct Groups {
    /// The groups.
    pub by_name: HashMap<Box<str>, Group>,
    /// Connections for whose group there was no room.
    pub left_out: u64,
}

impl Groups {
    /// Adds something to its group; to that without a name, if it has none. An address belongs to its group
    /// whatever its port.
    pub fn join<F: Field>(&mut self, subject: &impl Subject<F>, by: F, one: &Group) {
        let in_one = subject.text(by, &mut |text| {
            let host = text.rsplit_once(':').filter(|_| by.name() == "address");
            self.add(host.map_or(text, |(host, _)| host), one);
            true
        });
        if !in_one {
            self.add("", one);
        }
    }

    /// Adds to a group, which is made if there is none and room for it. Allocates for a new group only.
    pub fn add(&mut self, name: &str, group: &Group) {
        if let Some(known) = self.by_name.get_mut(name) {
            *known = known.and(group);
        } else if self.by_name.len() < GROUPS_MAX {
            self.by_name.insert(name.into(), *group);
        } else {
            self.left_out += group.connections;
        }
    }

    /// Adds what was found elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.left_out += other.left_out;
        other.by_name.iter().for_each(|(name, group)| self.add(name, group));
    }
}

/// What a shard found in a slice of its slots.
#[derive(Debug, Default)]
pub struct Ranked {
    /// The slot at which the next slice begins; `None` if this was the last.
    pub next: Option<u32>,
    /// Connections and sessions that wait.
    pub total: u64,
    /// Those that the filter let pass.
    pub matched: u64,
    /// The first of them, unless groups were wanted.
    pub candidates: Vec<Candidate<RowKey>>,
    /// Their groups, if groups were wanted.
    pub groups: Groups,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(number: Option<u16>, key: u64) -> Candidate<u64> {
        let place = number.map_or(Place::Last, |number| Place::Number(f64::from(number)));
        Candidate { place, key }
    }

    proptest! {
        #[test]
        fn the_top_is_what_sorting_all_would_give(
            numbers in prop::collection::vec(prop::option::of(0_u16..50), 0..200),
            keep in 0_usize..60,
            cut in 0_usize..200,
        ) {
            let all: Vec<_> = numbers.iter().zip(0..).map(|(number, id)| candidate(*number, id)).collect();
            // In two parts and merged, as from two shards.
            let (one, another) = all.split_at(cut.min(all.len()));
            let mut merged = Top::new(keep);
            for part in [one, another] {
                let mut top = Top::new(keep);
                for candidate in part {
                    let would_fit = match candidate.place {
                        Place::Number(number) => top.has_room_for(number),
                        _ => true,
                    };
                    if !would_fit {
                        continue;
                    }
                    top.see(candidate.clone());
                }
                top.into_sorted().into_iter().for_each(|candidate| merged.see(candidate));
            }
            let mut sorted = all;
            sorted.sort();
            sorted.truncate(keep);
            prop_assert_eq!(merged.into_sorted(), sorted);
        }
    }

    #[test]
    fn names_stand_in_their_order_and_the_nameless_last() {
        let mut places = vec![Place::Last, Place::Text("b".into()), Place::Text("a".into())];
        places.sort();
        assert_eq!(places, [Place::Text("a".into()), Place::Text("b".into()), Place::Last]);
        let mut places = vec![Place::Last, Place::Backwards("a".into()), Place::Backwards("b".into())];
        places.sort();
        assert_eq!(places, [Place::Backwards("b".into()), Place::Backwards("a".into()), Place::Last]);
    }

    #[test]
    fn what_has_no_room_among_the_groups_is_counted() {
        let mut groups = Groups::default();
        let one = Group { connections: 1, worst_score: Some(50), ..Group::default() };
        (0..GROUPS_MAX + 3).for_each(|name| groups.add(&name.to_string(), &one));
        groups.add("0", &Group { worst_score: Some(20), ..one });
        assert_eq!((groups.by_name.len(), groups.left_out), (GROUPS_MAX, 3));
        assert_eq!(groups.by_name["0"], Group { connections: 2, worst_score: Some(20), ..one });
    }
}
