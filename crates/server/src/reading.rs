//! Reading a `log` channel by cursor: the one way of everything that reads over HTTP.
//!
//! A reader is a channel and the sequence up to which it has been told everything. A step reads a page behind
//! that sequence and moves it; what the page cannot hold any more is a gap with its exact range, and a page has
//! at most one, before its first event: so nothing is ever skipped silently, and nobody needs a buffer. Pages
//! come from the channel's ring, from pages others have read, or from the store ([`pulsewire_bus::Bus::read`]).

pub mod fallbacks;
pub mod history;
pub mod readers;
pub mod series;

use std::sync::Arc;

use pulsewire_bus::{Channel, ChannelKind, Only, Page, Publication, Query, ReadLimit, Variant};
use pulsewire_edge::clock;
use pulsewire_protocol::{
    ChannelName, Encoding, ErrorCode, Frame, Gap, GapReason, Position, Sequence, Shape,
};
use pulsewire_telemetry::GapReason as GapMetric;
use tokio::sync::oneshot;

use crate::app::App;

pub use readers::{Attendance, Audience, Readers, Seat};

/// Which events of a channel a reader wants.
#[derive(Debug, Clone)]
pub struct Filter {
    /// All, or the critical ones.
    pub only: Only,
    /// What passes, by its tags.
    pub passing: pulsewire_protocol::Filter,
}

impl Default for Filter {
    fn default() -> Self {
        Self { only: Only::All, passing: pulsewire_protocol::Filter::default() }
    }
}

impl Filter {
    /// Whether an event passes.
    #[must_use]
    pub fn passes(&self, publication: &Publication) -> bool {
        match &publication.body {
            pulsewire_bus::Body::Event(accepted) => {
                self.passing.passes(accepted.event.event_type.as_str(), &accepted.event.tags)
            }
            pulsewire_bus::Body::Metrics(_) => true,
        }
    }
}

/// An event for one reader.
#[derive(Debug, Clone)]
pub struct Told {
    /// The event.
    pub publication: Arc<Publication>,
    /// The one this reader was told of before, when that is not the one before it.
    pub previous: Option<Sequence>,
}

impl Told {
    /// The message, as a WebSocket client gets it.
    #[must_use]
    pub fn frame(&self) -> Frame {
        match self.previous {
            Some(previous) => self.publication.frame_after(previous, Encoding::Json),
            None => self.publication.frame(JSON).clone(),
        }
    }
}

/// How HTTP readers get their events.
pub const JSON: Variant = Variant { shape: Shape::Grouped, encoding: Encoding::Json };

/// What a step came to.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// What is gone; it lies before the events.
    pub gap: Option<Gap>,
    /// The events, oldest first.
    pub events: Vec<Told>,
    /// Up to where the reader has been told everything.
    pub through: Sequence,
    /// The newest sequence when the page was read.
    pub head: Sequence,
}

impl Step {
    /// What a page means for a reader that has been told everything up to `after`, and knows of `told`: less, if
    /// its filter has skipped what lies between.
    #[must_use]
    pub fn of(page: &Page, after: Sequence, told: Sequence, filter: &Filter) -> Self {
        let mut step = Self { through: after, head: page.head, ..Self::default() };
        let floor = if filter.only == Only::Critical { page.critical_floor } else { page.floor };
        if after < floor {
            step.gap = Some(Gap { from: after.next(), to: floor, reason: GapReason::Trimmed });
            step.through = floor;
        }
        let first = step.through;
        let mut told = step.gap.map_or(told, |gap| gap.to);
        let mut corrupt = page.corrupt.iter().copied().filter(|gone| *gone > first).peekable();
        let events = page.publications.iter().filter(|publication| publication.sequence > first);
        for publication in events {
            let sequence = publication.sequence;
            while let Some(gone) = corrupt.next_if(|gone| *gone < sequence) {
                if !step.lacks(gone) {
                    return step;
                }
                told = gone;
            }
            if filter.passes(publication) {
                let previous = (told.next() != sequence).then_some(told);
                step.events.push(Told { publication: publication.clone(), previous });
                told = sequence;
            }
            step.through = sequence;
        }
        for gone in corrupt {
            if !step.lacks(gone) {
                return step;
            }
        }
        step.through = step.through.max(page.through);
        step
    }

    /// Adds a sequence that cannot be read to the gap. It is left to the next step, and the answer is `false`,
    /// if the gap would not be one, or not before the events.
    fn lacks(&mut self, gone: Sequence) -> bool {
        let reason = GapReason::Corrupt;
        match &mut self.gap {
            None if self.events.is_empty() => self.gap = Some(Gap { from: gone, to: gone, reason }),
            Some(gap) if self.events.is_empty() && gap.reason == reason && gap.to.next() == gone => {
                gap.to = gone;
            }
            _ => return false,
        }
        self.through = gone;
        true
    }

    /// Whether there is more to read at once.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.through < self.head
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gap.is_none() && self.events.is_empty()
    }
}

/// Where a reader wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With what comes from now on.
    Now,
    /// Behind a sequence of whatever epoch the channel has.
    After(Sequence),
    /// Behind a position.
    At(Position),
}

impl Start {
    /// Reads `SEQ` or `epoch:seq`.
    ///
    /// # Errors
    ///
    /// As [`Position::parse`] and [`Sequence::parse`].
    pub fn parse(text: &str) -> Result<Self, pulsewire_protocol::PositionError> {
        if text.contains(':') {
            Position::parse(text).map(Self::At)
        } else {
            Sequence::parse(text).map(Self::After)
        }
    }

    /// The sequence that the reader says it has seen; 0 if it says none.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        match self {
            Self::Now => Sequence::ZERO,
            Self::After(sequence) => *sequence,
            Self::At(position) => position.sequence,
        }
    }
}

/// A reader's place in a `log` channel.
#[derive(Debug, Clone)]
pub struct Cursor {
    /// The channel.
    pub channel: Arc<Channel>,
    /// Up to where it has been told everything.
    pub after: Sequence,
    /// The position it knows: behind `after` when its filter has skipped events since.
    pub told: Sequence,
    /// What it wants.
    pub filter: Filter,
}

impl Cursor {
    /// A cursor that begins where the reader wants; or, with `true`, where the channel stands, because that
    /// position belongs to another history or lies ahead (R34).
    #[must_use]
    pub fn begin(channel: Arc<Channel>, start: &Start, filter: Filter) -> (Self, bool) {
        let here = channel.position();
        let wanted = match start {
            Start::Now => Some(here.sequence),
            Start::After(sequence) => Some(*sequence),
            Start::At(position) => (position.epoch == here.epoch).then_some(position.sequence),
        };
        let wanted = wanted.filter(|sequence| *sequence <= channel.head().max(here.sequence));
        let after = wanted.unwrap_or(here.sequence);
        (Self { channel, after, told: after, filter }, wanted.is_none())
    }

    /// The position.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { epoch: self.channel.epoch.clone(), sequence: self.after }
    }

    /// Reads one page and moves behind it.
    ///
    /// # Errors
    ///
    /// `store_unavailable` or `overloaded`; the cursor stays where it is.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future moves nothing.
    pub async fn step(&mut self, app: &App, limit: ReadLimit) -> Result<Step, ErrorCode> {
        let query = Query { after: self.after, only: self.filter.only, limit };
        let page = page(app, &self.channel, query).await?;
        let step = Step::of(&page, self.after, self.told, &self.filter);
        self.after = step.through;
        if !step.is_empty() {
            self.told = step.events.last().map_or(step.through, |last| last.publication.sequence);
        }
        if let Some(gap) = step.gap {
            app.telemetry.shared().gap(match gap.reason {
                GapReason::Trimmed => GapMetric::Trimmed,
                GapReason::Corrupt => GapMetric::Corrupt,
            });
        }
        Ok(step)
    }

    /// Goes on in the channel that took the channel's name, if its history was rewritten. Returns whether it did.
    pub fn follow(&mut self) -> bool {
        let mut newest = None;
        while let Some(next) = newest.as_ref().unwrap_or(&self.channel).successor().cloned() {
            newest = Some(next);
        }
        let Some(channel) = newest else { return false };
        self.after = channel.position().sequence;
        self.told = self.after;
        self.channel = channel;
        true
    }
}

/// Reads one page.
///
/// # Errors
///
/// `store_unavailable` or `overloaded`.
pub async fn page(app: &App, channel: &Arc<Channel>, query: Query) -> Result<Arc<Page>, ErrorCode> {
    let _permit = app.readers.permit().await;
    let (reply, answer) = oneshot::channel();
    // Whoever asked may have gone.
    app.bus.read(clock::now(), channel, query, Box::new(|page| drop(reply.send(page))));
    answer.await.unwrap_or(Err(ErrorCode::StoreUnavailable))
}

/// Brings a channel to hand, as far as a sequence that somebody has seen.
///
/// # Errors
///
/// As [`pulsewire_bus::Bus::open`].
pub async fn open(app: &App, name: &ChannelName, at_least: Sequence) -> Result<Arc<Channel>, ErrorCode> {
    if let Some(channel) = app.bus.at_hand(name, at_least)? {
        return Ok(channel);
    }
    let (reply, answer) = oneshot::channel();
    let names = vec![(name.clone(), at_least)];
    app.bus.open(clock::now(), names, Box::new(|opened| drop(reply.send(opened))));
    let opened = answer.await.map_err(|_| ErrorCode::StoreUnavailable)?.map_err(|(code, _)| code)?;
    opened.into_iter().next().ok_or(ErrorCode::StoreUnavailable)
}

/// The same for a channel that keeps events.
///
/// # Errors
///
/// As [`open`], and `history_unavailable` for one that keeps none.
pub async fn open_log(app: &App, name: &ChannelName, at_least: Sequence) -> Result<Arc<Channel>, ErrorCode> {
    let channel = open(app, name, at_least).await?;
    if channel.kind == ChannelKind::Log { Ok(channel) } else { Err(ErrorCode::HistoryUnavailable) }
}

#[cfg(test)]
mod tests {
    use pulsewire_bus::{Accepted, Body, Bus, MemoryStore, Namespaces, Options, RingLimits};
    use pulsewire_protocol::{ChannelPattern, Epoch, Event, EventType};
    use pulsewire_telemetry::Telemetry;

    use super::*;

    struct Nobody;

    impl pulsewire_bus::Audience for Nobody {
        fn has_room(&self, _: usize) -> bool {
            true
        }
        fn deliver(&self, _: usize, _: &[Arc<Publication>]) {}
        fn replaced(&self, _: usize, _: &Arc<Channel>) {}
    }

    fn channel() -> Arc<Channel> {
        let epoch = Epoch::parse("e1").expect("an epoch");
        let namespace = pulsewire_bus::Namespace {
            durability: pulsewire_bus::Durability::Memory,
            ..pulsewire_bus::Namespace::new(
                "all",
                ChannelPattern::parse("*").expect("a pattern"),
                ChannelKind::Log,
            )
        };
        let options = Options {
            namespaces: Namespaces::new(vec![namespace]),
            shards: 0,
            channels_max: 1,
            epoch: epoch.clone(),
            incarnation: 1,
            store: Some(Arc::new(MemoryStore::new(epoch, 1))),
            broker: None,
            queue_max: 1,
            ring: RingLimits::default(),
            series: Default::default(),
            tap: None,
        };
        let telemetry = Telemetry::new(pulsewire_telemetry::Options::default());
        let bus = Bus::new(options, telemetry, Box::new(Nobody));
        let (sender, receiver) = std::sync::mpsc::channel();
        let names = vec![(ChannelName::parse("a").expect("a name"), Sequence::ZERO)];
        bus.open(clock::now(), names, Box::new(move |opened| drop(sender.send(opened))));
        receiver.recv().expect("an answer").expect("a channel").remove(0)
    }

    /// Publications of these sequences; those in `tagged` carry `a=b`.
    fn page(sequences: &[u64], tagged: &[u64], corrupt: &[u64], floor: u64, through: u64, head: u64) -> Page {
        let channel = channel();
        let telemetry = Telemetry::new(pulsewire_telemetry::Options::default());
        let publication = |sequence: &u64| {
            let event_type = EventType::parse("note").expect("a type");
            let data = serde_json::value::RawValue::from_string("1".to_owned()).expect("JSON");
            let mut event = Event::new(channel.name.clone(), event_type, data);
            if tagged.contains(sequence) {
                event.tags = pulsewire_protocol::Tags::new([("a", "b")]).expect("tags");
            }
            let accepted = Arc::new(Accepted { event, user: None, timestamp_ms: 1 });
            let id = telemetry.event_types().intern("note");
            Arc::new(Publication::new(channel.clone(), Sequence(*sequence), 0, id, Body::Event(accepted)))
        };
        Page {
            publications: sequences.iter().map(publication).collect(),
            corrupt: corrupt.iter().map(|gone| Sequence(*gone)).collect(),
            through: Sequence(through),
            floor: Sequence(floor),
            critical_floor: Sequence(0),
            head: Sequence(head),
        }
    }

    /// `gap a-b reason | sequences (after previous) | through`.
    fn shown(step: &Step) -> String {
        let gap =
            step.gap.map_or_else(String::new, |gap| format!("{}-{} {}", gap.from, gap.to, gap.reason.name()));
        let events: Vec<String> = step
            .events
            .iter()
            .map(|told| match told.previous {
                Some(previous) => format!("{}<{previous}", told.publication.sequence),
                None => told.publication.sequence.to_string(),
            })
            .collect();
        format!("{gap}|{}|{}{}", events.join(" "), step.through, if step.has_more() { "+" } else { "" })
    }

    fn check(page: &Page, after: u64, filter: &Filter, expected: &str) {
        assert_eq!(shown(&Step::of(page, Sequence(after), Sequence(after), filter)), expected);
    }

    #[test]
    fn a_step_tells_every_event_of_a_page_and_moves_behind_it() {
        let all = Filter::default();
        check(&page(&[3, 4], &[], &[], 0, 4, 4), 2, &all, "|3 4|4");
        check(&page(&[3, 4], &[], &[], 0, 4, 9), 2, &all, "|3 4|4+");
        check(&page(&[], &[], &[], 0, 2, 2), 2, &all, "||2");
    }

    #[test]
    fn what_is_gone_is_a_gap_before_the_events() {
        let all = Filter::default();
        check(&page(&[6, 7], &[], &[], 5, 7, 7), 2, &all, "3-5 trimmed|6 7|7");
        check(&page(&[], &[], &[], 5, 5, 5), 2, &all, "3-5 trimmed||5");
        check(&page(&[5, 6], &[], &[3, 4], 0, 6, 6), 2, &all, "3-4 corrupt|5 6|6");
        check(&page(&[], &[], &[3], 0, 3, 3), 2, &all, "3-3 corrupt||3");
    }

    #[test]
    fn a_second_gap_is_left_to_the_next_step() {
        let all = Filter::default();
        let page = page(&[6, 8], &[], &[7], 5, 8, 8);
        check(&page, 2, &all, "3-5 trimmed|6|6+");
        check(&page, 6, &all, "7-7 corrupt|8|8");
        let both = self::page(&[7], &[], &[6], 5, 7, 7);
        check(&both, 2, &all, "3-5 trimmed||5+");
        let behind = self::page(&[3], &[], &[4], 0, 4, 4);
        check(&behind, 2, &all, "|3|3+");
    }

    #[test]
    fn a_filter_moves_on_and_names_the_event_before() {
        let tagged = Filter {
            passing: pulsewire_protocol::Filter::equal([("a", "b")]).expect("a filter"),
            ..Filter::default()
        };
        check(&page(&[3, 4, 5, 6], &[4, 6], &[], 0, 6, 6), 2, &tagged, "|4<2 6<4|6");
        check(&page(&[3, 4], &[], &[], 0, 4, 9), 2, &tagged, "||4+");
        let critical = Filter { only: Only::Critical, ..Filter::default() };
        check(&page(&[3, 9], &[], &[], 7, 12, 12), 2, &critical, "|3 9<3|12");
    }

    #[test]
    fn a_position_is_a_sequence_or_an_epoch_with_one() {
        assert_eq!(Start::parse("7"), Ok(Start::After(Sequence(7))));
        assert!(matches!(Start::parse("e1:7"), Ok(Start::At(position)) if position.sequence == Sequence(7)));
        for wrong in ["", "-1", "1.5", "e1", "e1:", ":7", "e-1:7", "e1:9007199254740992", "1:2:3"] {
            assert!(Start::parse(wrong).is_err(), "{wrong}");
        }
    }
}
