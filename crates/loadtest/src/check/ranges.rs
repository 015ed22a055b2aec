//! A set of sequences, kept as the ranges it consists of: one range for a reader that missed nothing.

/// Sequences, as sorted ranges (both ends included) that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds a range; one that ends before it begins is nothing.
    pub(crate) fn insert(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        // The common case: the next sequence after the last one.
        if let Some((_, last)) = self.0.last_mut()
            && from == *last + 1
        {
            *last = to;
            return;
        }
        let first = self.0.partition_point(|(_, end)| *end + 1 < from);
        let behind = self.0.partition_point(|(begin, _)| *begin <= to.saturating_add(1));
        let (mut from, mut to) = (from, to);
        if first < behind {
            from = from.min(self.0[first].0);
            to = to.max(self.0[behind - 1].1);
        }
        self.0.splice(first..behind, [(from, to)]);
    }

    pub(crate) fn contains(&self, sequence: u64) -> bool {
        let index = self.0.partition_point(|(_, to)| *to < sequence);
        self.0.get(index).is_some_and(|(from, _)| *from <= sequence)
    }

    /// Takes one sequence out.
    pub(crate) fn remove(&mut self, sequence: u64) {
        let index = self.0.partition_point(|(_, to)| *to < sequence);
        if let Some(&(from, to)) = self.0.get(index)
            && from <= sequence
        {
            let rest = [(from, sequence.wrapping_sub(1)), (sequence + 1, to)];
            let rest = rest.into_iter().filter(|(begin, end)| *begin >= from && *end <= to && begin <= end);
            self.0.splice(index..=index, rest);
        }
    }

    /// Takes everything behind a sequence out.
    pub(crate) fn cut_after(&mut self, sequence: u64) {
        self.0.retain(|(from, _)| *from <= sequence);
        if let Some((_, to)) = self.0.last_mut() {
            *to = (*to).min(sequence);
        }
    }

    /// The parts of a range that are not in the set.
    pub(crate) fn missing(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        let mut next = from;
        let index = self.0.partition_point(|(_, end)| *end < from);
        for &(begin, end) in self.0[index..].iter().take_while(|(begin, _)| *begin <= to) {
            if begin > next {
                missing.push((next, begin - 1));
            }
            next = next.max(end.saturating_add(1));
        }
        if next <= to {
            missing.push((next, to));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The same as a plain set of numbers, over every turn of some ranges.
    #[test]
    fn it_holds_what_a_plain_set_holds() {
        let steps: [(u64, u64); 8] = [(1, 3), (8, 9), (4, 4), (20, 20), (5, 12), (7, 6), (2, 2), (21, 25)];
        for turn in 0..steps.len() {
            let (mut ranges, mut plain) = (Ranges::default(), BTreeSet::new());
            for (from, to) in steps.iter().cycle().skip(turn).take(steps.len()) {
                ranges.insert(*from, *to);
                plain.extend(*from..=*to);
            }
            for sequence in [1, 10, 20] {
                ranges.remove(sequence);
                plain.remove(&sequence);
            }
            ranges.cut_after(24);
            plain.retain(|sequence| *sequence <= 24);
            assert!((0..30).all(|sequence| ranges.contains(sequence) == plain.contains(&sequence)));
            let missing: BTreeSet<u64> =
                ranges.missing(2, 28).into_iter().flat_map(|(from, to)| from..=to).collect();
            assert_eq!(missing, (2..=28).filter(|sequence| !plain.contains(sequence)).collect());
        }
    }
}
