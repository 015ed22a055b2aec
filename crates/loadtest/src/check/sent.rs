//! What publishers sent, and what they were answered.

use std::collections::{HashMap, HashSet};

use super::World;
use super::finding::{Findings, Kind};
use super::names::{Content, id_of};
use super::places::{self, Log, Place};
use super::record::{Answer, Attempt, Line, Stamped};

/// One message of one publisher, however often it was tried.
#[derive(Debug)]
pub(crate) struct Message {
    publisher: u32,
    pub(crate) content: Content,
    tags: u32,
    critical: bool,
    /// When it was first sent, and when first acknowledged, counted in records; 0 is never.
    pub(crate) begun: u64,
    pub(crate) done: u64,
    pub(crate) acked_ms: Option<i64>,
    /// It was refused, and nothing else is known.
    rejected: bool,
    /// The newest place of its publisher in the channel when it was first sent: it belongs behind it.
    behind: Option<(u32, u64)>,
    /// Its place, once it is known.
    pub(crate) place: Option<(Log, u64)>,
    /// It was told to somebody.
    pub(crate) delivered: bool,
    /// Another message of the channel with the same id, by another publisher.
    next: Option<u32>,
}

/// Everything that was sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    messages: Vec<Message>,
    /// By channel and id: the first message of that id.
    by_id: HashMap<(u32, u64), u32>,
    /// By publisher and channel: the message without an id that waits for its answer.
    nameless: HashMap<(u32, u32), u32>,
    /// What messages without an id carried, by channel.
    nameless_contents: HashSet<(u32, Option<u64>)>,
    /// By publisher and channel: where its newest acknowledged event stands.
    newest: HashMap<(u32, u32), (u32, u64)>,
    /// Channels that somebody published to: only those can have phantoms.
    channels: HashSet<u32>,
    records: u64,
}

impl Sent {
    pub(crate) fn knows(&self, channel: u32) -> bool {
        self.channels.contains(&channel)
    }

    /// The messages of a channel with an id.
    pub(crate) fn with_id(&self, channel: u32, id: u64) -> impl Iterator<Item = u32> {
        let first = if id == 0 { None } else { self.by_id.get(&(channel, id)).copied() };
        std::iter::successors(first, |index| self.messages[*index as usize].next)
    }

    pub(crate) fn message(&mut self, index: u32) -> &mut Message {
        &mut self.messages[index as usize]
    }

    pub(crate) fn place(&self, index: u32) -> Option<(Log, u64)> {
        self.messages[index as usize].place
    }

    pub(crate) fn publisher(&self, index: u32) -> u32 {
        self.messages[index as usize].publisher
    }

    /// Whether somebody sent this without an id.
    pub(crate) fn nameless(&self, channel: u32, content: Content) -> bool {
        let mut known = [content.number(), None].into_iter();
        known.any(|content| self.nameless_contents.contains(&(channel, content)))
    }

    /// A message under this id that may have been accepted and can be this event.
    pub(crate) fn explains(&self, index: u32, content: Content) -> bool {
        let message = &self.messages[index as usize];
        !message.rejected && !message.content.differs(content)
    }

    pub(crate) fn count(&self, findings: &mut Findings) {
        let totals = findings.totals();
        totals.published = self.messages.len() as u64;
        for message in &self.messages {
            match (message.done > 0, message.rejected) {
                (true, _) => totals.acknowledged += 1,
                (false, true) => totals.rejected += 1,
                (false, false) => {
                    totals.unknown += 1;
                    totals.unknown_delivered += u64::from(message.delivered);
                }
            }
        }
    }
}

/// Takes a record of a publisher.
pub(crate) fn take(world: &mut World, stamped: &Stamped, publisher: &str, attempt: &Attempt) {
    let publisher = world.names.number(publisher);
    world.sent.records += 1;
    match attempt {
        Attempt::Publish { channel, id, content, tags, critical } => {
            let channel = world.names.number(channel);
            let tags = world.names.tags(tags);
            publish(world, publisher, channel, id_of(id.as_deref()), *content, (tags, *critical));
        }
        Attempt::Answer { channel, id, answer, position } => {
            let channel = world.names.number(channel);
            let id = id_of(id.as_deref());
            let index = if id == 0 {
                world.sent.nameless.remove(&(publisher, channel))
            } else {
                world.sent.with_id(channel, id).find(|index| world.sent.publisher(*index) == publisher)
            };
            // Without a record of its being sent, the answer still says that it was.
            let index = index
                .unwrap_or_else(|| publish(world, publisher, channel, id, Content::default(), (0, None)));
            let position = position
                .as_ref()
                .map(|at| (Log { channel, epoch: world.names.number(&at.epoch) }, at.sequence));
            let message = world.sent.message(index);
            match answer {
                Answer::Ok | Answer::Duplicate => {
                    acknowledged(world, index, id, position, stamped.at_ms, stamped.line);
                }
                Answer::Rejected => message.rejected = message.done == 0,
                Answer::Unknown => message.rejected = false,
            }
        }
    }
}

fn publish(
    world: &mut World,
    publisher: u32,
    channel: u32,
    id: u64,
    content: Content,
    (tags, critical): (u32, Option<bool>),
) -> u32 {
    let sent = &mut world.sent;
    sent.channels.insert(channel);
    let again = sent.with_id(channel, id).find(|index| sent.publisher(*index) == publisher);
    if let Some(index) = again {
        // Whatever was refused before, this attempt may be accepted.
        sent.message(index).rejected = false;
        return index;
    }
    let index = u32::try_from(sent.messages.len()).expect("fewer than four billion messages");
    let next = if id == 0 {
        sent.nameless.insert((publisher, channel), index);
        sent.nameless_contents.insert((channel, content.number()));
        None
    } else {
        sent.by_id.insert((channel, id), index)
    };
    sent.messages.push(Message {
        publisher,
        content,
        tags,
        critical: critical.unwrap_or(false),
        begun: sent.records,
        done: 0,
        acked_ms: None,
        rejected: false,
        behind: sent.newest.get(&(publisher, channel)).copied(),
        place: None,
        delivered: false,
        next,
    });
    index
}

fn acknowledged(
    world: &mut World,
    index: u32,
    id: u64,
    position: Option<(Log, u64)>,
    at_ms: Option<i64>,
    line: Line,
) {
    let records = world.sent.records;
    let message = world.sent.message(index);
    message.rejected = false;
    if message.done == 0 {
        (message.done, message.acked_ms) = (records, at_ms);
    }
    let Some((log, sequence)) = position else { return };
    if let Some((before, other)) = message.place
        && before == log
        && other != sequence
    {
        let channel = world.names.name(log.channel);
        world.findings.add(Kind::Duplicate, line, || {
            format!("a message of {channel} was acknowledged at {other} and at {sequence}")
        });
        return;
    }
    if let Some((epoch, behind)) = message.behind
        && epoch == log.epoch
        && sequence <= behind
        && message.place.is_none()
    {
        let channel = world.names.name(log.channel);
        world.findings.add(Kind::OrderMismatch, line, || {
            format!("{channel} holds at {sequence} what was sent when {behind} had been acknowledged")
        });
    }
    message.place = Some((log, sequence));
    let Message { publisher, content, tags, critical, acked_ms, .. } = *message;
    let newest = world.sent.newest.entry((publisher, log.channel)).or_insert((log.epoch, sequence));
    if newest.0 != log.epoch || newest.1 < sequence {
        *newest = (log.epoch, sequence);
    }
    let place = Place { id, content, tags, critical, acked_ms, read_ms: None, line };
    places::note(world, log, sequence, place);
}
