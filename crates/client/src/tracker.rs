//! Where this client is in every channel it wants.
//!
//! The server promises every event after the position exactly once, or an explicit `gap` or `reset`; on the wire an
//! event may come twice around a reconnect. So: a sequence at or below the cursor is dropped, the next one is handed
//! on, and a hole the server did not announce makes the client ask again from where it is (`reliability.md` §3.3).

use std::collections::BTreeMap;
use std::time::Duration;

use pulsewire_protocol::{Epoch, Position, Sequence};

/// Where a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// With what is published from now on.
    #[default]
    Live,
    /// With the last so many events.
    Last(u32),
    /// With the event after this position.
    Since(Position),
    /// With the event after this sequence, in whatever epoch the channel is. For people, who remember a number.
    After(Sequence),
    /// With the critical events that are still kept.
    Critical,
    /// With what a metric channel's series did in so long a time before now, in whole seconds. It is asked for until it
    /// has come to its end; a connection after that begins live.
    Past(Duration),
}

/// What to do with an event that has a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Hand it to the application.
    Deliver {
        /// It was published before the subscription became live.
        replayed: bool,
    },
    /// It was handed on before, or will come again in the replay that was asked for.
    Drop,
    /// Events are missing and nobody said so: subscribe again from the cursor.
    Repair,
    /// The hole is there after a repair too: tell the application, then hand the event on.
    Hole {
        /// The first missing sequence.
        from: Sequence,
        /// The last missing sequence.
        to: Sequence,
    },
}

/// What to do about an accepted subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subscribed {
    /// Nothing.
    Settled,
    /// Subscribe again, from the cursor.
    Ask,
    /// The channel has another history than before, which goes on after this position: tell the application.
    Reset(Position),
}

#[derive(Debug)]
struct Cursor {
    start: Start,
    epoch: Option<Epoch>,
    sequence: Option<Sequence>,
    replaying: bool,
    /// The critical events that were asked for have not all come: they are asked for again.
    critical: bool,
    repair: Repair,
    /// A reset that was told before the server said it.
    told_reset: Option<Position>,
}

/// How far the repair of a hole is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    None,
    /// Asked again; what arrives may still belong to the old subscription.
    Asked,
    /// The server answered; what arrives now is what there is.
    Answered,
}

/// The cursors of all wanted channels.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    cursors: BTreeMap<String, Cursor>,
}

impl Tracker {
    pub(crate) fn want(&mut self, channel: String, start: Start) {
        let (epoch, sequence) = match &start {
            Start::Since(position) => (Some(position.epoch.clone()), Some(position.sequence)),
            Start::After(sequence) => (None, Some(*sequence)),
            _ => (None, None),
        };
        let critical = start == Start::Critical;
        let cursor = Cursor {
            start,
            epoch,
            sequence,
            replaying: true,
            critical,
            repair: Repair::None,
            told_reset: None,
        };
        self.cursors.insert(channel, cursor);
    }

    /// The channels with where to begin now: at the position reached, else where the application asked.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (&str, Start)> {
        self.cursors.iter().map(|(channel, cursor)| (channel.as_str(), cursor.next_start()))
    }

    pub(crate) fn next_start(&self, channel: &str) -> Start {
        self.cursors.get(channel).map_or(Start::Live, Cursor::next_start)
    }

    /// A new connection begins: what comes first is replay.
    pub(crate) fn reconnecting(&mut self) {
        for cursor in self.cursors.values_mut() {
            cursor.replaying = true;
            cursor.repair = Repair::None;
            cursor.told_reset = None;
        }
    }

    /// The server accepted the subscription; `position` is where its log stood. `Ask` means that only now the epoch is
    /// known from which the application wants to hear.
    pub(crate) fn subscribed(&mut self, channel: &str, position: Option<&Position>) -> Subscribed {
        let Some(cursor) = self.cursors.get_mut(channel) else { return Subscribed::Settled };
        let Some(position) = position else {
            cursor.replaying = false;
            return Subscribed::Settled;
        };
        if cursor.epoch.is_none() && cursor.sequence.is_some_and(|sequence| sequence < position.sequence) {
            cursor.epoch = Some(position.epoch.clone());
            cursor.repair = Repair::Asked;
            return Subscribed::Ask;
        }
        if cursor.epoch.as_ref().is_some_and(|known| *known != position.epoch) {
            // A server that was asked for a position says `reset` too, but the connection may break before that comes;
            // one that was not asked for one does not. Either way all that is known of the channel is void.
            cursor.begin_again(position);
            cursor.told_reset = Some(position.clone());
            return Subscribed::Reset(position.clone());
        }
        if cursor.repair == Repair::Asked {
            cursor.repair = Repair::Answered;
        }
        let fresh = cursor.sequence.is_none();
        cursor.epoch = Some(position.epoch.clone());
        // With a replay to come the position is where the log ends, not where this client is.
        if fresh && cursor.start == Start::Live {
            cursor.sequence = Some(position.sequence);
            cursor.replaying = false;
        }
        Subscribed::Settled
    }

    /// An event came; `critical` is what it says of itself.
    pub(crate) fn event(
        &mut self,
        channel: &str,
        sequence: Sequence,
        previous: Option<Sequence>,
        critical: bool,
    ) -> Step {
        let Some(cursor) = self.cursors.get_mut(channel) else { return Step::Deliver { replayed: false } };
        let replayed = cursor.replaying;
        // Where only critical events come, any other one is behind them: from there on a position is enough.
        cursor.critical &= critical;
        let Some(last) = cursor.sequence else {
            cursor.sequence = Some(sequence);
            return Step::Deliver { replayed };
        };
        if sequence <= last {
            return Step::Drop;
        }
        // A filtered or critical-only subscription skips on purpose and says where it came from.
        let previous = previous.unwrap_or(Sequence(sequence.0.saturating_sub(1)));
        if previous <= last {
            cursor.sequence = Some(sequence);
            cursor.repair = Repair::None;
            return Step::Deliver { replayed };
        }
        match cursor.repair {
            Repair::None => {
                cursor.repair = Repair::Asked;
                return Step::Repair;
            }
            Repair::Asked => return Step::Drop,
            Repair::Answered => {}
        }
        cursor.sequence = Some(sequence);
        cursor.repair = Repair::None;
        Step::Hole { from: last.next(), to: previous }
    }

    /// Events up to `sequence` were not meant for this subscription, or are gone and were announced as a gap.
    pub(crate) fn advance(&mut self, channel: &str, sequence: Sequence) {
        if let Some(cursor) = self.cursors.get_mut(channel) {
            cursor.sequence = Some(cursor.sequence.map_or(sequence, |last| last.max(sequence)));
            cursor.repair = Repair::None;
        }
    }

    /// The past of a metric channel has come to its end.
    pub(crate) fn past_ended(&mut self, channel: &str) {
        if let Some(cursor) = self.cursors.get_mut(channel)
            && matches!(cursor.start, Start::Past(_))
        {
            cursor.start = Start::Live;
        }
    }

    /// The log is a new one; whether that is news.
    pub(crate) fn reset(&mut self, channel: &str, position: &Position) -> bool {
        let Some(cursor) = self.cursors.get_mut(channel) else { return true };
        let known = cursor.told_reset.take().is_some_and(|told| told == *position);
        if !known {
            cursor.begin_again(position);
            cursor.critical = false;
        }
        !known
    }

    /// The events of this range are gone; what of it the application has not been told of, if anything.
    pub(crate) fn gap(
        &mut self,
        channel: &str,
        from: Sequence,
        to: Sequence,
    ) -> Option<(Sequence, Sequence)> {
        let known = self.cursors.get(channel).and_then(|cursor| cursor.sequence);
        self.advance(channel, to);
        let from = known.map_or(from, |last| from.max(last.next()));
        (from <= to).then_some((from, to))
    }

    pub(crate) fn replay_end(&mut self, channel: &str) {
        if let Some(cursor) = self.cursors.get_mut(channel) {
            cursor.replaying = false;
            cursor.critical = false;
        }
    }

    #[cfg(test)]
    fn position(&self, channel: &str) -> Option<Position> {
        let cursor = self.cursors.get(channel)?;
        Some(Position { epoch: cursor.epoch.clone()?, sequence: cursor.sequence? })
    }
}

impl Cursor {
    /// Another history begins after this position.
    fn begin_again(&mut self, position: &Position) {
        self.epoch = Some(position.epoch.clone());
        self.sequence = Some(position.sequence);
        self.repair = Repair::None;
    }

    fn next_start(&self) -> Start {
        if self.critical {
            return Start::Critical;
        }
        match (&self.epoch, self.sequence) {
            (Some(epoch), Some(sequence)) => Start::Since(Position { epoch: epoch.clone(), sequence }),
            // The epoch of `After` comes with the answer to a live subscription.
            _ if matches!(self.start, Start::After(_)) => Start::Live,
            _ => self.start.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_epoch(epoch: &str, sequence: u64) -> Position {
        Position { epoch: Epoch::parse(epoch).unwrap(), sequence: Sequence(sequence) }
    }

    fn event(tracker: &mut Tracker, sequence: u64) -> Step {
        tracker.event("c", Sequence(sequence), None, false)
    }

    fn at(sequence: u64) -> Position {
        in_epoch("e1", sequence)
    }

    fn live_at(sequence: u64) -> Tracker {
        let mut tracker = Tracker::default();
        tracker.want("c".to_owned(), Start::Live);
        tracker.subscribed("c", Some(&at(sequence)));
        tracker
    }

    #[test]
    fn the_next_event_is_handed_on_and_a_known_one_dropped() {
        let mut tracker = live_at(7);
        assert_eq!(event(&mut tracker, 8), Step::Deliver { replayed: false });
        assert_eq!(event(&mut tracker, 8), Step::Drop);
        assert_eq!(event(&mut tracker, 3), Step::Drop);
        assert_eq!(tracker.position("c"), Some(at(8)));
    }

    #[test]
    fn a_hole_asks_again_once_and_is_then_told() {
        let mut tracker = live_at(7);
        assert_eq!(event(&mut tracker, 10), Step::Repair);
        assert_eq!(event(&mut tracker, 11), Step::Drop, "the old subscription is still sending");
        assert_eq!(tracker.next_start("c"), Start::Since(at(7)));
        tracker.subscribed("c", Some(&at(11)));
        assert_eq!(event(&mut tracker, 10), Step::Hole { from: Sequence(8), to: Sequence(9) });
        assert_eq!(event(&mut tracker, 11), Step::Deliver { replayed: false });
    }

    #[test]
    fn a_repaired_hole_is_never_told() {
        let mut tracker = live_at(7);
        assert_eq!(event(&mut tracker, 10), Step::Repair);
        tracker.subscribed("c", Some(&at(10)));
        for sequence in 8..=10 {
            assert_eq!(event(&mut tracker, sequence), Step::Deliver { replayed: false });
        }
    }

    #[test]
    fn an_announced_skip_is_no_hole() {
        let mut tracker = live_at(7);
        assert_eq!(
            tracker.event("c", Sequence(12), Some(Sequence(7)), false),
            Step::Deliver { replayed: false }
        );
        tracker.advance("c", Sequence(20));
        assert_eq!(event(&mut tracker, 21), Step::Deliver { replayed: false });
        tracker.advance("c", Sequence(3));
        assert_eq!(tracker.position("c"), Some(at(21)));
    }

    #[test]
    fn a_reconnect_resumes_from_the_position_reached() {
        let mut tracker = live_at(7);
        event(&mut tracker, 8);
        tracker.reconnecting();
        assert_eq!(tracker.wanted().collect::<Vec<_>>(), [("c", Start::Since(at(8)))]);
        tracker.subscribed("c", Some(&at(10)));
        assert_eq!(event(&mut tracker, 9), Step::Deliver { replayed: true });
        assert_eq!(event(&mut tracker, 10), Step::Deliver { replayed: true });
        tracker.replay_end("c");
        assert_eq!(event(&mut tracker, 11), Step::Deliver { replayed: false });
    }

    #[test]
    fn the_last_events_come_before_the_live_ones() {
        let mut tracker = Tracker::default();
        tracker.want("c".to_owned(), Start::Last(3));
        tracker.subscribed("c", Some(&at(9)));
        for sequence in 7..=9 {
            assert_eq!(event(&mut tracker, sequence), Step::Deliver { replayed: true });
        }
    }

    #[test]
    fn a_remembered_number_is_asked_for_once_the_epoch_is_known() {
        let mut tracker = Tracker::default();
        tracker.want("c".to_owned(), Start::After(Sequence(5)));
        assert_eq!(tracker.wanted().collect::<Vec<_>>(), [("c", Start::Live)]);
        assert_eq!(tracker.subscribed("c", Some(&at(9))), Subscribed::Ask);
        assert_eq!(event(&mut tracker, 10), Step::Drop);
        assert_eq!(tracker.next_start("c"), Start::Since(at(5)));
        assert_eq!(tracker.subscribed("c", Some(&at(9))), Subscribed::Settled);
        assert_eq!(event(&mut tracker, 6), Step::Deliver { replayed: true });
    }

    #[test]
    fn the_past_of_a_metric_channel_is_asked_for_until_it_has_come() {
        let mut tracker = Tracker::default();
        let past = Start::Past(Duration::from_secs(900));
        tracker.want("c".to_owned(), past.clone());
        tracker.subscribed("c", None);
        tracker.reconnecting();
        assert_eq!(tracker.next_start("c"), past, "it broke before the end");
        tracker.past_ended("c");
        assert_eq!(tracker.next_start("c"), Start::Live);
    }

    #[test]
    fn a_reset_starts_over_in_the_new_epoch() {
        let mut tracker = live_at(700);
        assert!(tracker.reset("c", &in_epoch("e2", 0)));
        assert_eq!(event(&mut tracker, 1), Step::Deliver { replayed: false });
        assert_eq!(tracker.position("c"), Some(in_epoch("e2", 1)));
    }

    #[test]
    fn another_epoch_on_resume_is_a_reset_and_told_once() {
        let mut tracker = live_at(7);
        tracker.reconnecting();
        let position = in_epoch("e2", 3);
        assert_eq!(tracker.subscribed("c", Some(&position)), Subscribed::Reset(position.clone()));
        // If the connection breaks here, the new history is asked for and nothing of the old one.
        assert_eq!(tracker.next_start("c"), Start::Since(position.clone()));
        assert!(!tracker.reset("c", &position), "the server says what has been told");
        assert_eq!(event(&mut tracker, 4), Step::Deliver { replayed: true });
        assert!(tracker.reset("c", &in_epoch("e3", 0)));
        assert_eq!(tracker.subscribed("c", Some(&in_epoch("e3", 0))), Subscribed::Settled);
    }

    fn critical() -> Tracker {
        let mut tracker = Tracker::default();
        tracker.want("c".to_owned(), Start::Critical);
        assert_eq!(tracker.subscribed("c", Some(&at(0))), Subscribed::Settled);
        tracker
    }

    fn critical_event(tracker: &mut Tracker, sequence: u64, previous: u64) -> Step {
        tracker.event("c", Sequence(sequence), Some(Sequence(previous)), true)
    }

    #[test]
    fn critical_events_are_asked_for_again_until_they_have_all_come() {
        let mut tracker = critical();
        assert_eq!(critical_event(&mut tracker, 3, 0), Step::Deliver { replayed: true });
        assert_eq!(critical_event(&mut tracker, 9, 3), Step::Deliver { replayed: true });
        tracker.reconnecting();
        assert_eq!(tracker.next_start("c"), Start::Critical, "it broke before the end");
        tracker.subscribed("c", Some(&at(0)));
        assert_eq!(critical_event(&mut tracker, 3, 0), Step::Drop);
        assert_eq!(critical_event(&mut tracker, 9, 3), Step::Drop);
        assert_eq!(critical_event(&mut tracker, 14, 9), Step::Deliver { replayed: true });
        tracker.advance("c", Sequence(20));
        tracker.replay_end("c");
        assert_eq!(tracker.next_start("c"), Start::Since(at(20)));
    }

    #[test]
    fn critical_events_are_behind_a_client_that_hears_others() {
        let mut tracker = critical();
        assert_eq!(critical_event(&mut tracker, 1, 0), Step::Deliver { replayed: true });
        assert_eq!(event(&mut tracker, 2), Step::Deliver { replayed: true });
        assert_eq!(tracker.next_start("c"), Start::Since(at(2)));
    }

    #[test]
    fn critical_events_of_another_history_all_come_after_a_reset() {
        let mut tracker = critical();
        critical_event(&mut tracker, 9, 0);
        tracker.reconnecting();
        let position = in_epoch("e2", 0);
        assert_eq!(tracker.subscribed("c", Some(&position)), Subscribed::Reset(position));
        assert_eq!(critical_event(&mut tracker, 2, 0), Step::Deliver { replayed: true });
        assert_eq!(tracker.next_start("c"), Start::Critical);
    }

    #[test]
    fn a_gap_is_told_as_far_as_it_is_news() {
        let mut tracker = live_at(7);
        let range = |from, to| (Sequence(from), Sequence(to));
        assert_eq!(tracker.gap("c", Sequence(1), Sequence(5)), None);
        assert_eq!(tracker.gap("c", Sequence(5), Sequence(9)), Some(range(8, 9)));
        assert_eq!(tracker.gap("c", Sequence(10), Sequence(12)), Some(range(10, 12)));
        assert_eq!(event(&mut tracker, 13), Step::Deliver { replayed: false });
    }
}
