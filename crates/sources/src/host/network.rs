//! Bytes sent and received by the host, as totals that never fall.
//!
//! Interfaces come and go and their counters restart; a reader of a counter must not see
//! that as negative traffic. So the totals grow by what each interface gained since the
//! last reading: by its whole counter when it is new or has restarted.

use std::collections::BTreeMap;

/// Bytes since the start: of the interfaces at the first reading, of the totals after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
}

/// The totals and the counters they were last advanced by.
#[derive(Debug, Default)]
pub(super) struct TrafficTotals {
    totals: Traffic,
    interfaces: BTreeMap<Box<str>, Traffic>,
}

impl TrafficTotals {
    /// Adds what each interface gained and forgets the interfaces that are gone.
    pub(super) fn advance<'a>(&mut self, counters: impl Iterator<Item = (&'a str, Traffic)>) -> Traffic {
        let mut seen = BTreeMap::new();
        for (name, now) in counters {
            let before = self.interfaces.get(name).copied().unwrap_or_default();
            let gained = |before: u64, now: u64| now.checked_sub(before).unwrap_or(now);
            let totals = &mut self.totals;
            totals.sent_bytes = totals.sent_bytes.saturating_add(gained(before.sent_bytes, now.sent_bytes));
            totals.received_bytes =
                totals.received_bytes.saturating_add(gained(before.received_bytes, now.received_bytes));
            seen.insert(name.into(), now);
        }
        self.interfaces = seen;
        self.totals
    }
}

/// Whether `interface` is left out of the totals: loopback, or named by an ignored prefix.
pub(super) fn ignored(interface: &str, prefixes: &[String]) -> bool {
    let number = interface.strip_prefix("lo");
    let loopback = number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    loopback || prefixes.iter().any(|prefix| !prefix.is_empty() && interface.starts_with(prefix.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each step lists the interfaces as `name sent received`; answers the last totals.
    fn totals(steps: &[&[(&str, u64, u64)]]) -> (u64, u64) {
        let mut totals = TrafficTotals::default();
        let mut last = Traffic::default();
        for step in steps {
            let counters = step
                .iter()
                .map(|&(name, sent_bytes, received_bytes)| (name, Traffic { sent_bytes, received_bytes }));
            last = totals.advance(counters);
        }
        (last.sent_bytes, last.received_bytes)
    }

    #[test]
    fn the_first_totals_are_the_sum_of_the_counters() {
        assert_eq!(totals(&[&[("eth0", 10, 100), ("eth1", 1, 2)]]), (11, 102));
    }

    #[test]
    fn a_counter_that_restarts_adds_what_it_counted_since() {
        assert_eq!(totals(&[&[("eth0", 1000, 500)], &[("eth0", 30, 600)]]), (1030, 600));
    }

    #[test]
    fn an_interface_that_goes_takes_nothing_away() {
        assert_eq!(totals(&[&[("eth0", 10, 10), ("wg0", 5, 5)], &[("eth0", 20, 10)]]), (25, 15));
    }

    #[test]
    fn an_interface_that_comes_adds_its_counter() {
        assert_eq!(totals(&[&[("eth0", 10, 10)], &[("eth0", 10, 10), ("wg0", 7, 8)]]), (17, 18));
    }

    #[test]
    fn loopback_and_ignored_prefixes_are_left_out() {
        let prefixes = ["veth".to_owned(), String::new()];
        for (interface, expected) in
            [("lo", true), ("lo0", true), ("veth12ab", true), ("eth0", false), ("lowpan0", false)]
        {
            assert_eq!(ignored(interface, &prefixes), expected, "{interface}");
        }
    }
}
