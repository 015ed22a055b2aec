//! While a load runs: did this reader get every event once, in order, or was it told otherwise?
//!
//! It counts four of the anomalies of [`mod@crate::check`] for one reader of one channel, without a log: **lost**,
//! **duplicate**, **out of order** and **skip without gap**. The common case, the next sequence, costs one comparison; holes are remembered until they fill or the
//! run ends, because only then is a skip known to be a loss and not a late arrival.

/// What one reader of one channel has seen.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    begun: u64,
    last: u64,
    holes: Vec<(u64, u64)>,
    verdict: Verdict,
}

/// What was wrong, counted in events. All zero is a clean history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// Events that arrived in order, once.
    pub delivered: u64,
    /// Published events that never arrived and were not announced as a gap, the end of the log included.
    pub lost: u64,
    /// Events that arrived again.
    pub duplicate: u64,
    /// Events that arrived after a later one.
    pub out_of_order: u64,
    /// Events jumped over without a gap message at the moment of the jump.
    pub skipped: u64,
    /// Events the server announced as missing.
    pub announced: u64,
}

impl Verdict {
    /// Whether every event arrived once, in order, or was announced as missing.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicate == 0 && self.out_of_order == 0 && self.skipped == 0
    }
}

impl std::ops::AddAssign for Verdict {
    fn add_assign(&mut self, other: Verdict) {
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicate += other.duplicate;
        self.out_of_order += other.out_of_order;
        self.skipped += other.skipped;
        self.announced += other.announced;
    }
}

impl Reader {
    /// A reader that has seen everything up to `sequence`.
    pub fn after(sequence: u64) -> Reader {
        Reader { begun: sequence, last: sequence, ..Reader::default() }
    }

    /// An event arrived; `previous` is what the server says this reader got before, if it says so.
    pub fn event(&mut self, sequence: u64, previous: Option<u64>) {
        let expected = self.last + 1;
        if sequence >= expected {
            // A filter may skip events on purpose; the frame then names the one before.
            if sequence > expected && previous != Some(self.last) {
                self.verdict.skipped += sequence - expected;
                self.holes.push((expected, sequence - 1));
            }
            self.last = sequence;
            self.verdict.delivered += 1;
            return;
        }
        match self.holes.iter().position(|(from, to)| (*from..=*to).contains(&sequence)) {
            Some(index) => {
                let (from, to) = self.holes.swap_remove(index);
                let rest = [(from, sequence - 1), (sequence + 1, to)];
                self.holes.extend(rest.into_iter().filter(|(from, to)| from <= to));
                self.verdict.out_of_order += 1;
                self.verdict.delivered += 1;
            }
            None => self.verdict.duplicate += 1,
        }
    }

    /// The server announced that everything up to `to` that has not arrived is gone.
    pub fn gap(&mut self, to: u64) {
        if to > self.last {
            self.verdict.announced += to - self.last;
            self.last = to;
        }
    }

    /// The sequence it subscribed at.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// The newest sequence it has seen.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The judgement when the log ends at `head`.
    pub fn finish(&self, head: u64) -> Verdict {
        let holes: u64 = self.holes.iter().map(|(from, to)| to - from + 1).sum();
        Verdict { lost: holes + head.saturating_sub(self.last), ..self.verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `5` an event, `7<4` an event that names its previous, `g6` a gap up to 6.
    fn check(seen: &str, head: u64, [lost, duplicate, out_of_order, skipped]: [u64; 4]) {
        let mut reader = Reader::default();
        for word in seen.split_whitespace() {
            if let Some(to) = word.strip_prefix('g') {
                reader.gap(to.parse().unwrap());
            } else {
                let (sequence, previous) = word.split_once('<').unwrap_or((word, ""));
                reader.event(sequence.parse().unwrap(), previous.parse().ok());
            }
        }
        let verdict = reader.finish(head);
        let seen_verdict = [verdict.lost, verdict.duplicate, verdict.out_of_order, verdict.skipped];
        assert_eq!(seen_verdict, [lost, duplicate, out_of_order, skipped], "{seen}");
        assert_eq!(verdict.is_clean(), seen_verdict == [0; 4]);
    }

    #[test]
    fn every_anomaly_is_found_where_it_was_seeded() {
        check("1 2 3", 3, [0, 0, 0, 0]);
        check("1 2", 3, [1, 0, 0, 0]);
        check("1 2 2 3", 3, [0, 1, 0, 0]);
        check("1 3 2", 3, [0, 0, 1, 1]);
        check("1 5", 5, [3, 0, 0, 3]);
        check("1 5 3 3", 5, [2, 1, 1, 3]);
        check("1 g4 5", 5, [0, 0, 0, 0]);
        check("1 4<1 5", 5, [0, 0, 0, 0]);
        check("1 4<2", 4, [2, 0, 0, 2]);
        check("", 0, [0, 0, 0, 0]);
    }

    #[test]
    fn a_reader_counts_from_where_it_subscribed() {
        let mut reader = Reader::after(40);
        reader.event(41, None);
        assert!(reader.finish(41).is_clean());
    }
}
