//! What readers were told, one record after the other.

use std::collections::HashMap;

use pulsewire_protocol::{ChannelName, ChannelPattern};

use super::World;
use super::finding::Kind;
use super::names::id_of;
use super::places::{self, Log, Place};
use super::record::{Delivered, Line, Position, Stamped, Told};
use super::subscription::{Because, Subscription};

/// All readers.
#[derive(Debug, Default)]
pub(crate) struct Readers(HashMap<u32, Reader>);

#[derive(Debug, Default)]
struct Reader {
    grants: Option<Vec<ChannelPattern>>,
    /// Its connection goes on where the last one was.
    resumed: bool,
    subscriptions: HashMap<u32, Subscription>,
    /// Where it said that it had waited for everything.
    ended: Option<Line>,
}

impl Readers {
    /// Takes a record of a reader.
    pub(crate) fn take(&mut self, world: &mut World, stamped: &Stamped, reader: &str, told: &Told) {
        let reader = self.0.entry(world.names.number(reader)).or_default();
        reader.ended = None;
        let line = stamped.line;
        match told {
            Told::Grant(patterns) => reader.grants = Some(patterns.clone()),
            Told::Connected { resumed } => reader.resumed = *resumed,
            Told::Disconnected => {
                reader.resumed = false;
                reader.subscriptions.values_mut().for_each(|subscription| subscription.active = false);
            }
            Told::Unsubscribed { channel } => reader.subscription(world, channel).1.active = false,
            Told::Subscribed { channel, position, tags, critical, resumed } => {
                let filter = world.names.tags(tags);
                let resumed = *resumed || reader.resumed;
                let (channel, subscription) = reader.subscription(world, channel);
                subscription.begin_again(world, channel, position.as_ref(), (resumed, line));
                subscription.active = true;
                subscription.filter = filter;
                subscription.critical = *critical;
                subscription.begun_ms = stamped.at_ms;
            }
            Told::Event(event) => reader.event(world, stamped, event),
            Told::Gap { channel, from, to, reason } => {
                let (channel, subscription) = reader.subscription(world, channel);
                subscription.gap(world, (channel, *from, *to, reason), stamped.at_ms, line);
            }
            Told::Reset { channel, position } => {
                world.findings.totals().resets += 1;
                let epoch = world.names.number(&position.epoch);
                let (channel, subscription) = reader.subscription(world, channel);
                subscription.reset(world, channel, epoch, position.sequence);
            }
            Told::Dropped { count, .. } => world.findings.totals().dropped += count,
            Told::Passed { channel, sequence, ends_replay } => {
                let (_, subscription) = reader.subscription(world, channel);
                let valued = std::mem::take(&mut subscription.valued) && !ends_replay;
                let because = if valued { Because::Valued } else { Because::LeftOut };
                subscription.pass(*sequence, because, line);
                subscription.critical &= !ends_replay;
            }
            Told::Values { channel, last } => reader.subscription(world, channel).1.valued = *last,
            Told::End => reader.ended = Some(line),
        }
    }

    /// Judges what only the end can tell.
    pub(crate) fn finish(self, world: &mut World) {
        world.findings.totals().readers = self.0.len() as u64;
        let mut readers: Vec<_> = self.0.into_iter().collect();
        readers.sort_unstable_by_key(|(reader, _)| *reader);
        for (_, reader) in readers {
            let mut subscriptions: Vec<_> = reader.subscriptions.into_iter().collect();
            subscriptions.sort_unstable_by_key(|(channel, _)| *channel);
            for (channel, mut subscription) in subscriptions {
                if let Some(line) = reader.ended {
                    subscription.tail(world, channel, line);
                }
                subscription.close(world, channel);
            }
        }
        let World { sent, findings, places, .. } = world;
        sent.count(findings);
        findings.totals().epochs = places.logs();
    }
}

impl Subscription {
    fn begin_again(
        &mut self,
        world: &mut World,
        channel: u32,
        position: Option<&Position>,
        (resumed, line): (bool, Line),
    ) {
        let Some(position) = position else {
            if !resumed {
                self.close(world, channel);
                self.at = None;
            }
            return;
        };
        let epoch = world.names.number(&position.epoch);
        if resumed && self.at.is_some_and(|(known, _)| known == epoch) {
            self.resume(epoch, position.sequence, line);
        } else {
            self.begin(world, channel, epoch, position.sequence);
        }
    }
}

impl Reader {
    fn subscription(&mut self, world: &mut World, channel: &str) -> (u32, &mut Subscription) {
        let channel = world.names.number(channel);
        (channel, self.subscriptions.entry(channel).or_default())
    }

    fn event(&mut self, world: &mut World, stamped: &Stamped, event: &Delivered) {
        let line = stamped.line;
        let channel = world.names.number(&event.channel);
        let tags = world.names.tags(&event.tags);
        let leak = |world: &mut World, what: &str| {
            world.findings.add(Kind::Leak, line, || format!("{}: {what}", event.channel));
        };
        let allowed = |patterns: &Vec<ChannelPattern>| {
            let name = ChannelName::parse(&event.channel);
            name.is_ok_and(|name| patterns.iter().any(|pattern| pattern.matches(&name)))
        };
        if !self.grants.as_ref().is_none_or(allowed) {
            leak(world, "the reader was not allowed to read it");
        }
        let subscription = self.subscriptions.get_mut(&channel);
        let Some(subscription) = subscription.filter(|subscription| subscription.active) else {
            leak(world, "the reader had not subscribed it");
            return;
        };
        // A log may leave tags out of deliveries: then those count that were published.
        let known = subscription.at.zip(event.sequence).and_then(|((epoch, _), sequence)| {
            world.places.get(Log { channel, epoch }, sequence).map(|place| place.tags)
        });
        let shown = if tags == 0 { known.unwrap_or(0) } else { tags };
        if !world.names.passes(shown, subscription.filter) {
            leak(world, "its tags are not what the reader asked for");
        }
        match event.sequence {
            Some(sequence) => subscription.kept(world, stamped, (channel, tags, sequence), event),
            None => subscription.fleeting(world, stamped, channel, event),
        }
    }
}

impl Subscription {
    /// An event with a place in the channel's history.
    fn kept(
        &mut self,
        world: &mut World,
        stamped: &Stamped,
        (channel, tags, sequence): (u32, u32, u64),
        event: &Delivered,
    ) {
        self.valued = false;
        let line = stamped.line;
        let previous = event.previous.unwrap_or(sequence.saturating_sub(1));
        let said = event.epoch.as_deref().map(|epoch| world.names.number(epoch));
        let unknown = world.names.number("");
        let (epoch, mut at) = self.at(world, channel, said.unwrap_or(unknown), previous);
        if let Some(said) = said.filter(|said| *said != epoch) {
            world.findings.add(Kind::NonMonotonic, line, || {
                format!("{} goes on in another epoch without a reset", event.channel)
            });
            self.reset(world, channel, said, previous);
            at = previous;
        }
        let log = Log { channel, epoch: said.unwrap_or(epoch) };
        let id = id_of(event.id.as_deref());
        let (content, critical) = (event.content, event.critical);
        let seen = Place { id, content, tags, critical, acked_ms: None, read_ms: self.begun_ms, line };
        if places::note(world, log, sequence, seen) {
            explain(world, Some((log, sequence)), channel, id, event, line);
        }
        if sequence <= at {
            self.behind(world, channel, sequence, line);
            return;
        }
        // Up to `previous` it may be owed; from there on the server says that nothing was.
        self.pass(previous.min(sequence - 1), Because::Nothing, line);
        if previous < sequence - 1 {
            self.pass(sequence - 1, Because::LeftOut, line);
        }
        if self.told.contains(sequence) {
            world.findings.totals().repeated += 1;
        } else {
            world.findings.totals().delivered += 1;
            self.told.insert(sequence, sequence);
        }
        self.at = Some((log.epoch, sequence));
        let acked_ms = world.places.get(log, sequence).and_then(|place| place.acked_ms);
        self.age(world, acked_ms, stamped, event);
    }

    /// An event of a channel that keeps nothing.
    fn fleeting(&mut self, world: &mut World, stamped: &Stamped, channel: u32, event: &Delivered) {
        let id = id_of(event.id.as_deref());
        let Some(index) = explain(world, None, channel, id, event, stamped.line) else { return };
        let publisher = world.sent.publisher(index);
        let message = world.sent.message(index);
        let (begun, done, acked_ms) = (message.begun, message.done, message.acked_ms);
        let newest = self.newest.entry(publisher).or_insert((u32::MAX, 0));
        if newest.0 == index {
            world
                .findings
                .add(Kind::Duplicate, stamped.line, || format!("an event of {} came again", event.channel));
            return;
        }
        if done != 0 && done < newest.1 {
            world.findings.add(Kind::OrderMismatch, stamped.line, || {
                format!("an event of {} came behind one that was sent later", event.channel)
            });
        }
        if begun > newest.1 {
            *newest = (index, begun);
        }
        world.findings.totals().delivered += 1;
        self.age(world, acked_ms, stamped, event);
    }

    /// Whether an event came too late.
    fn age(&self, world: &mut World, acked_ms: Option<i64>, stamped: &Stamped, event: &Delivered) {
        let (Some(acked_ms), Some(now_ms)) = (acked_ms, stamped.at_ms) else { return };
        let late_ms = now_ms - acked_ms.max(self.begun_ms.unwrap_or(acked_ms));
        if late_ms > world.bounds.stale_ms {
            world.findings.add(Kind::Stale, stamped.line, || {
                format!("an event of {} came {late_ms} ms after its acknowledgement", event.channel)
            });
        }
    }
}

/// Finds the message that an event is; without one it is a phantom. Only channels whose publishers are in the log can be
/// judged. A place that was acknowledged needs no other explanation.
fn explain(
    world: &mut World,
    place: Option<(Log, u64)>,
    channel: u32,
    id: u64,
    event: &Delivered,
    line: Line,
) -> Option<u32> {
    if !world.sent.knows(channel) {
        return None;
    }
    let candidates: Vec<u32> =
        world.sent.with_id(channel, id).filter(|index| world.sent.explains(*index, event.content)).collect();
    let Some(first) = candidates.first() else {
        if !world.sent.nameless(channel, event.content) {
            world.findings.add(Kind::Phantom, line, || match event.sequence {
                Some(sequence) => format!("{sequence} of {} was published by nobody", event.channel),
                None => format!("an event of {} was published by nobody", event.channel),
            });
        }
        return None;
    };
    // One place for each message that bears the id.
    let free = |index: &&u32| match (place, world.sent.place(**index)) {
        (Some((log, _)), Some((known, _))) => known != log,
        _ => true,
    };
    let Some(index) = candidates.iter().find(free) else {
        world.findings.add(Kind::Duplicate, line, || {
            format!(
                "{} of {} holds a message that has another place",
                event.sequence.unwrap_or(0),
                event.channel
            )
        });
        return Some(*first);
    };
    let message = world.sent.message(*index);
    message.delivered = true;
    message.place = place.or(message.place);
    Some(*index)
}
