//! One reader's subscription of one channel: where it stands, what it has been told, what is open.

use std::collections::HashMap;

use super::World;
use super::finding::Kind;
use super::places::{Log, Place};
use super::ranges::Ranges;
use super::record::Line;

/// A server may show a page of history again for this long after it read it; only a reader that subscribed later than
/// that proves that events were there.
const PAGE_MS: i64 = 1_000;

/// A reader's way through one channel.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    pub(crate) active: bool,
    /// The tags it asks for; 0 for all events.
    pub(crate) filter: u32,
    /// Up to the end of its replay, critical events alone come.
    pub(crate) critical: bool,
    pub(crate) begun_ms: Option<i64>,
    /// It has just been told the newest values: a `pos` now stands for all changes up to there.
    pub(crate) valued: bool,
    /// The run of numbering and the last place that it has passed; `None` until it is known.
    pub(crate) at: Option<(u32, u64)>,
    /// Where its subscription began.
    start: u64,
    /// What it has been told of this epoch, or was not meant to be: events, gaps.
    pub(crate) told: Ranges,
    /// A resumed subscription began this far behind what had been told, which counts unless the reader asks again before
    /// anything else comes: the server only knows what it sent.
    ahead: Option<(u64, u64, Line)>,
    /// Sequences that were jumped over without a word; they may still come, late.
    holes: Vec<(u64, u64, Line)>,
    /// The same sequences, each once.
    jumped: Ranges,
    /// Sequences that were left out by its filter, and the filter.
    left_out: Vec<LeftOut>,
    gaps: Vec<Gap>,
    /// For channels without sequences, by publisher: the newest message and when it was sent.
    pub(crate) newest: HashMap<u32, (u32, u64)>,
}

#[derive(Debug)]
struct LeftOut {
    from: u64,
    to: u64,
    filter: u32,
    critical: bool,
}

#[derive(Debug)]
struct Gap {
    from: u64,
    to: u64,
    at_ms: Option<i64>,
    trimmed: bool,
    line: Line,
}

/// How a place came to be passed without its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Because {
    /// The server says that nothing there was meant for the reader.
    LeftOut,
    /// The newest values took the place of the changes (R36b).
    Valued,
    /// It did not say anything.
    Nothing,
}

impl Subscription {
    /// Whether the server may leave events out without a gap.
    fn narrow(&self) -> bool {
        self.filter != 0 || self.critical
    }

    /// A connection goes on with a subscription, in the same epoch, from what the server says is its place.
    pub(crate) fn resume(&mut self, epoch: u32, sequence: u64, line: Line) {
        let ahead = self.ahead.take();
        let at = ahead.map(|(from, ..)| from - 1).or(self.at.map(|(_, at)| at)).unwrap_or(sequence);
        self.ahead = (sequence > at).then_some((at + 1, sequence, line));
        self.at = Some((epoch, sequence));
    }

    /// It did not ask again.
    fn settle(&mut self) {
        if let Some((from, to, line)) = self.ahead.take() {
            self.jump(from, to, line);
        }
    }

    fn jump(&mut self, from: u64, to: u64, line: Line) {
        for (from, to) in self.told.missing(from, to) {
            let again = self.jumped.missing(from, to).into_iter();
            self.holes.extend(again.map(|(from, to)| (from, to, line)));
            self.jumped.insert(from, to);
        }
    }

    /// Passes everything up to a sequence.
    pub(crate) fn pass(&mut self, to: u64, because: Because, line: Line) {
        self.settle();
        let Some((_, at)) = &mut self.at else { return };
        let from = *at + 1;
        *at = (*at).max(to);
        if because == Because::Valued {
            return self.told.insert(from, to);
        }
        if because == Because::Nothing || !self.narrow() {
            return self.jump(from, to, line);
        }
        for (from, to) in self.told.missing(from, to) {
            let (filter, critical) = (self.filter, self.critical);
            self.left_out.push(LeftOut { from, to, filter, critical });
            self.told.insert(from, to);
        }
    }

    /// A subscription of its own begins: nothing before is owed, and everything after, had or not.
    pub(crate) fn begin(&mut self, world: &mut World, channel: u32, epoch: u32, sequence: u64) {
        self.ahead = None;
        if self.at.is_some_and(|(known, _)| known != epoch) {
            self.close(world, channel);
        }
        self.told.cut_after(sequence);
        self.told.insert(1, sequence);
        (self.at, self.start) = (Some((epoch, sequence)), sequence);
    }

    /// Goes on in another history, or in the same one cut short.
    pub(crate) fn reset(&mut self, world: &mut World, channel: u32, epoch: u32, sequence: u64) {
        self.close(world, channel);
        self.begin(world, channel, epoch, sequence);
    }

    /// Where it stands, from what it is told first if nobody said.
    pub(crate) fn at(&mut self, world: &mut World, channel: u32, epoch: u32, sequence: u64) -> (u32, u64) {
        if self.at.is_none() {
            self.begin(world, channel, epoch, sequence);
        }
        self.at.unwrap_or((epoch, sequence))
    }

    /// Events are said to be gone.
    pub(crate) fn gap(
        &mut self,
        world: &mut World,
        (channel, from, to, reason): (u32, u64, u64, &str),
        at_ms: Option<i64>,
        line: Line,
    ) {
        // What is gone lies before everything else that comes, so it also says where a reader stands that has not
        // been told.
        let unknown = world.names.number("");
        let (_, at) = self.at(world, channel, unknown, from - 1);
        if from <= at {
            let channel = world.names.name(channel);
            world.findings.add_many(Kind::FalseGap, to.min(at) - from + 1, line, || {
                format!("{channel}: {from} to {} are said to be gone, behind {at}", to.min(at))
            });
        }
        self.pass(from - 1, Because::LeftOut, line);
        // A client that noticed by itself was told nothing.
        if reason == "missed" {
            self.pass(to, Because::Nothing, line);
            return;
        }
        if let Some((_, at)) = &mut self.at
            && to > *at
        {
            self.told.insert(*at + 1, to);
            world.findings.totals().gapped += to - *at;
            *at = to;
        }
        self.gaps.push(Gap { from, to, at_ms, trimmed: reason == "trimmed", line });
    }

    /// An event at or before the last place that was passed.
    pub(crate) fn behind(&mut self, world: &mut World, channel: u32, sequence: u64, line: Line) {
        self.settle();
        let (kind, what) = if self.gaps.iter().any(|gap| (gap.from..=gap.to).contains(&sequence)) {
            (Kind::FalseGap, "came after it was said to be gone")
        } else if self.told.contains(sequence) && sequence > self.start {
            (Kind::Duplicate, "came again")
        } else {
            (Kind::NonMonotonic, "came behind a later one")
        };
        if kind == Kind::NonMonotonic {
            self.fill(sequence);
        }
        let channel = world.names.name(channel);
        world.findings.add(kind, line, || format!("{sequence} of {channel} {what}"));
    }

    fn fill(&mut self, sequence: u64) {
        self.told.insert(sequence, sequence);
        self.jumped.remove(sequence);
        let Some(index) = self.holes.iter().position(|(from, to, _)| (*from..=*to).contains(&sequence))
        else {
            return;
        };
        let (from, to, line) = self.holes.swap_remove(index);
        if from < sequence {
            self.holes.push((from, sequence - 1, line));
        }
        if sequence < to {
            self.holes.push((sequence + 1, to, line));
        }
    }

    fn owed(world: &World, place: &Place, filter: u32, critical: bool) -> bool {
        world.names.passes(place.tags, filter) && (place.critical || !critical)
    }

    /// Judges what is open in an epoch that is over.
    pub(crate) fn close(&mut self, world: &mut World, channel: u32) {
        self.settle();
        let Some((epoch, _)) = self.at else { return };
        let log = Log { channel, epoch };
        for (from, to, line) in std::mem::take(&mut self.holes) {
            // What the reader asked for again and got was skipped, and not lost.
            let missing = |(sequence, _): &(u64, &Place)| !self.told.contains(*sequence);
            let lost = world.places.between(log, from, to).filter(missing);
            let lost: Vec<u64> = lost.map(|(sequence, _)| sequence).collect();
            if let Some(first) = lost.first() {
                lose(world, log, (*first, lost.len() as u64), line);
            }
            let skipped = to - from + 1 - lost.len() as u64;
            if skipped > 0 {
                let channel = world.names.name(channel);
                world.findings.add_many(Kind::Skipped, skipped, line, || {
                    format!("{channel}: from {} to {} without a gap", from - 1, to + 1)
                });
            }
        }
        for LeftOut { from, to, filter, critical } in std::mem::take(&mut self.left_out) {
            let places = world.places.between(log, from, to);
            let lost: Vec<(u64, Line)> = places
                .filter(|(_, place)| Self::owed(world, place, filter, critical))
                .map(|(sequence, place)| (sequence, place.line))
                .collect();
            for (sequence, line) in lost {
                lose(world, log, (sequence, 1), line);
            }
        }
        for gap in std::mem::take(&mut self.gaps) {
            let Some(at_ms) = gap.at_ms.filter(|_| gap.trimmed) else { continue };
            let there = world
                .places
                .between(log, gap.from, gap.to)
                .filter(|(_, place)| place.read_ms.is_some_and(|read_ms| read_ms > at_ms + PAGE_MS));
            let there: Vec<u64> = there.map(|(sequence, _)| sequence).collect();
            if let Some(first) = there.first() {
                let channel = world.names.name(channel);
                world.findings.add_many(Kind::FalseGap, there.len() as u64, gap.line, || {
                    format!("{channel}: {first} was said to be gone, and a later reader got it")
                });
            }
        }
        (self.told, self.jumped) = Default::default();
    }

    /// Judges what came after the last thing that a reader was told, which waited until it had everything.
    pub(crate) fn tail(&self, world: &mut World, channel: u32, line: Line) {
        let Some((epoch, at)) = self.at.filter(|_| self.active) else { return };
        let log = Log { channel, epoch };
        let places = world.places.between(log, at + 1, u64::MAX);
        // A resumed reader may stand behind what it has had: that is not owed again.
        let owed = places.filter(|(sequence, place)| {
            !self.told.contains(*sequence) && Self::owed(world, place, self.filter, self.critical)
        });
        let lost: Vec<u64> = owed.map(|(sequence, _)| sequence).collect();
        if let Some(first) = lost.first() {
            lose(world, log, (*first, lost.len() as u64), line);
        }
    }
}

fn lose(world: &mut World, log: Log, (first, events): (u64, u64), line: Line) {
    let World { names, findings, places, .. } = world;
    let known = places.get(log, first).map_or(line, |place| place.line);
    findings.add_both(Kind::Lost, events, (line, known), || {
        let channel = names.name(log.channel);
        match events {
            1 => format!("{first} of {channel} never came"),
            _ => format!("{first} of {channel} never came, nor did {} later ones", events - 1),
        }
    });
}
