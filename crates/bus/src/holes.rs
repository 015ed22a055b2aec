//! What should be in a page and is not.
//!
//! A store gives sequences without holes (I1), and what follows a floor is kept. If a page lacks an event nevertheless,
//! somebody has taken it out of the store, or the store has lost it: whoever reads is told, like of an event that
//! cannot be read, and everything else goes on. A reader that met the hole unprepared could only stop.

use pulsewire_protocol::Sequence;

use crate::store::StoredPage;

/// Sequences that one page names as gone, at most; what follows is another page.
const GONE_MAX: usize = 1_000;

/// Names everything as corrupt that a page of all events behind a sequence should hold and does not. Returns how many
/// the store had not named.
pub(crate) fn name(page: &mut StoredPage, after: Sequence) -> usize {
    let known = page.corrupt.len();
    let mut gone = Vec::new();
    let mut next = after.max(page.extent.floor).0 + 1;
    let present = page.events.iter().map(|(sequence, _)| sequence.0).filter(|sequence| *sequence >= next);
    let ends: Vec<u64> = present.chain([page.through.0 + 1]).collect();
    for end in ends {
        while next < end {
            if gone.len() == GONE_MAX {
                page.through = Sequence(next - 1);
                page.events.retain(|(sequence, _)| sequence.0 < next);
                page.corrupt = gone;
                return GONE_MAX.saturating_sub(known);
            }
            gone.push(Sequence(next));
            next += 1;
        }
        next = end + 1;
    }
    page.corrupt = gone;
    page.corrupt.len().saturating_sub(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Accepted, Extent};
    use pulsewire_protocol::{Epoch, Event};
    use std::sync::Arc;

    /// Says what a page of these events names as gone, how much of that was news, and how far it goes.
    fn check(
        after: u64,
        floor: u64,
        events: &[u64],
        corrupt: &[u64],
        through: u64,
    ) -> (Vec<u64>, usize, u64) {
        let event = Event::parse_one(br#"{"channel":"run:1","type":"x","data":1}"#).unwrap();
        let accepted = Arc::new(Accepted { event, user: None, timestamp_ms: 0 });
        let floor = Sequence(floor);
        let epoch = Epoch::parse("e1").unwrap();
        let mut page = StoredPage {
            events: events.iter().map(|sequence| (Sequence(*sequence), accepted.clone())).collect(),
            corrupt: corrupt.iter().copied().map(Sequence).collect(),
            through: Sequence(through),
            extent: Extent { epoch, head: Sequence(through), floor, critical_floor: Sequence(0) },
        };
        let news = name(&mut page, Sequence(after));
        assert!(page.events.last().is_none_or(|(last, _)| *last <= page.through));
        (page.corrupt.iter().map(|sequence| sequence.0).collect(), news, page.through.0)
    }

    #[test]
    fn a_whole_page_names_nothing() {
        assert_eq!(check(0, 2, &[3, 4], &[], 4), (vec![], 0, 4));
        assert_eq!(check(4, 2, &[], &[], 4), (vec![], 0, 4));
        assert_eq!(check(2, 0, &[3], &[4], 4), (vec![4], 0, 4), "what the store names is no news");
    }

    #[test]
    fn holes_are_named_wherever_they_are() {
        assert_eq!(check(0, 0, &[2, 5], &[4], 6), (vec![1, 3, 4, 6], 3, 6));
    }

    #[test]
    fn a_large_hole_takes_several_pages() {
        let (gone, news, through) = check(0, 0, &[1, 5_000], &[], 5_000);
        assert_eq!((gone.len(), gone[0], news, through), (1_000, 2, 1_000, 1_001));
    }
}
