//! The lines of a history: what a publisher sent and was answered, what a reader was told.
//!
//! One JSON object a line. Lines of readers are the server's own messages with the reader's name and a time beside them,
//! so a client that writes down what it hears has a log already. Every line that is understood becomes one or more
//! [`Record`]s; messages that say nothing about events (`pong`, `ack`, `presence`, …) become none.

use std::collections::BTreeMap;

use pulsewire_protocol::{ChannelPattern, Sequence};
use serde::Deserialize;
use serde_json::Value;

pub use super::names::{Content, Tags};

/// Where a record stands: the number of its file, from 0, and its line, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// Its file.
    pub file: u32,
    /// Its line.
    pub line: u64,
}

/// A record, when it was written and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamped {
    /// Milliseconds since 1970 on clocks that agree, if the line says so.
    pub at_ms: Option<i64>,
    /// Its line.
    pub line: Line,
    /// What it says.
    pub record: Record,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A publisher sent something, or was answered.
    Sent {
        /// The name under which its message ids are unique.
        publisher: String,
        /// What it sent or was answered.
        sent: Attempt,
    },
    /// A reader was told something.
    Told {
        /// Its name.
        reader: String,
        /// What it was told.
        told: Told,
    },
}

/// One step of publishing an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt {
    /// The event is on its way, for the first time or again.
    Publish {
        /// Where to.
        channel: String,
        /// The message id.
        id: Option<String>,
        /// What it carries.
        content: Content,
        /// Its tags.
        tags: Tags,
        /// Whether it is critical, if the publisher says so.
        critical: Option<bool>,
    },
    /// What came back.
    Answer {
        /// Where it was sent to.
        channel: String,
        /// Its message id.
        id: Option<String>,
        /// What became of it.
        answer: Answer,
        /// Its place, if it has one.
        position: Option<Position>,
    },
}

/// What became of an attempt to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was accepted now.
    Ok,
    /// It had been accepted before, at the same place.
    Duplicate,
    /// It was refused; nothing was kept.
    Rejected,
    /// Nobody knows.
    Unknown,
}

/// A place in a channel's history.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Position {
    /// The run of numbering.
    pub epoch: String,
    /// The number in it; 0 stands before the first event.
    pub sequence: u64,
}

/// What a reader was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// From here on it may read what these patterns match, and nothing else.
    Grant(Vec<ChannelPattern>),
    /// It is connected; `resumed` if its subscriptions go on where they were.
    Connected {
        /// Whether they do.
        resumed: bool,
    },
    /// Its subscription of a channel begins, or begins again.
    Subscribed {
        /// The channel.
        channel: String,
        /// Events follow after this place; `None` on channels without places.
        position: Option<Position>,
        /// Only events with these tags.
        tags: Tags,
        /// The past comes as critical events alone, up to `replay_end`.
        critical: bool,
        /// Nothing was meant to be left out since what it was told last.
        resumed: bool,
    },
    /// Its subscription ended.
    Unsubscribed {
        /// The channel.
        channel: String,
    },
    /// Its connection ended: nothing comes before it subscribes again.
    Disconnected,
    /// An event.
    Event(Delivered),
    /// Events are gone.
    Gap {
        /// The channel.
        channel: String,
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
        /// `trimmed`, `corrupt`, or `missed` where only the client noticed, which excuses nothing.
        reason: String,
    },
    /// The history is another one; events follow after this place.
    Reset {
        /// The channel.
        channel: String,
        /// The place.
        position: Position,
    },
    /// So many events of a channel without places were left out.
    Dropped {
        /// The channel.
        channel: String,
        /// How many.
        count: u64,
    },
    /// Everything up to here was passed, what a filter left out included.
    Passed {
        /// The channel.
        channel: String,
        /// The place.
        sequence: u64,
        /// Whether this also ends the replay.
        ends_replay: bool,
    },
    /// The newest event of each key, or a part of them.
    Values {
        /// The channel.
        channel: String,
        /// Whether this was all of it, or the last part.
        last: bool,
    },
    /// The reader waited until it had everything: what it has not been told now, it never will be.
    End,
}

/// An event as a reader got it.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivered {
    /// The channel.
    pub channel: String,
    /// The run of numbering, where the line says it; else that of the subscription.
    pub epoch: Option<String>,
    /// Its place; `None` on channels that keep nothing.
    pub sequence: Option<u64>,
    /// Nothing between this place and the event was meant for the reader.
    pub previous: Option<u64>,
    /// The message id.
    pub id: Option<String>,
    /// What it carries.
    pub content: Content,
    /// Its tags.
    pub tags: Tags,
    /// Whether it is critical.
    pub critical: bool,
}

/// A line that cannot be read.
#[derive(Debug)]
pub struct NotARecord {
    /// The line.
    pub line: Line,
    /// What is wrong.
    pub why: String,
}

impl std::fmt::Display for NotARecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line.line, self.why)
    }
}

impl std::error::Error for NotARecord {}

/// A line as it stands; which members it must have depends on its type.
#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: Option<String>,
    at_ms: Option<i64>,
    publisher: Option<String>,
    reader: Option<String>,
    channel: Option<String>,
    channels: Option<Vec<String>>,
    positions: Option<BTreeMap<String, Position>>,
    epoch: Option<String>,
    sequence: Option<u64>,
    previous: Option<u64>,
    // A message id, or the number of a request, which says nothing here.
    id: Option<Value>,
    data: Option<Value>,
    hash: Option<String>,
    tags: Option<Tags>,
    critical: Option<bool>,
    replay: Option<String>,
    resumed: Option<bool>,
    from: Option<u64>,
    to: Option<u64>,
    reason: Option<String>,
    count: Option<u64>,
    more: Option<bool>,
    answer: Option<Answer>,
}

/// Reads a line and appends what it says. An empty line says nothing.
///
/// # Errors
///
/// When it is no JSON object, names neither a publisher nor a reader, or lacks a member that its type needs.
pub fn parse(text: &[u8], line: Line, records: &mut Vec<Stamped>) -> Result<(), NotARecord> {
    if text.trim_ascii().is_empty() {
        return Ok(());
    }
    let wrong = |why: String| NotARecord { line, why };
    let raw: Raw = serde_json::from_slice(text).map_err(|error| wrong(format!("not a record: {error}")))?;
    raw.check().map_err(wrong)?;
    let at_ms = raw.at_ms;
    let mut push = |record| records.push(Stamped { at_ms, line, record });
    match (raw.publisher.clone(), raw.reader.clone()) {
        (Some(publisher), None) => {
            if let Some(sent) = raw.sent().map_err(wrong)? {
                push(Record::Sent { publisher, sent });
            }
        }
        (None, Some(reader)) => {
            for told in raw.told().map_err(wrong)? {
                push(Record::Told { reader: reader.clone(), told });
            }
        }
        _ => return Err(wrong("it names not exactly one `publisher` or `reader`".to_owned())),
    }
    Ok(())
}

fn need<T>(member: Option<T>, name: &str) -> Result<T, String> {
    member.ok_or_else(|| format!("`{name}` is missing"))
}

impl Raw {
    /// Sequences are those of the protocol, so that nothing is counted beyond what a number holds.
    fn check(&self) -> Result<(), String> {
        let places = self.positions.iter().flat_map(BTreeMap::values).map(|position| position.sequence);
        let bare = [self.sequence, self.previous, self.from, self.to];
        match places.chain(bare.into_iter().flatten()).find(|sequence| *sequence > Sequence::MAX.0) {
            Some(sequence) => Err(format!("{sequence} is no sequence")),
            None if self.kind.as_deref() == Some("event") && self.sequence == Some(0) => {
                Err("0 is no event's sequence".to_owned())
            }
            None => Ok(()),
        }
    }

    fn content(&self) -> Content {
        match (&self.hash, &self.data) {
            (Some(digest), _) => Content::of_digest(digest),
            (None, Some(data)) => Content::of_data(data),
            (None, None) => Content::default(),
        }
    }

    fn message_id(&self) -> Option<String> {
        self.id.as_ref().and_then(Value::as_str).map(str::to_owned)
    }

    fn position(&self) -> Option<Position> {
        Some(Position { epoch: self.epoch.clone()?, sequence: self.sequence? })
    }

    fn sent(self) -> Result<Option<Attempt>, String> {
        let id = self.message_id();
        Ok(Some(match self.kind.as_deref() {
            Some("publish") => Attempt::Publish {
                id,
                content: self.content(),
                channel: need(self.channel, "channel")?,
                tags: self.tags.unwrap_or_default(),
                critical: self.critical,
            },
            Some("answer") => Attempt::Answer {
                id,
                position: self.position(),
                answer: need(self.answer, "answer")?,
                channel: need(self.channel, "channel")?,
            },
            other => return Err(format!("a publisher's `type` is `publish` or `answer`, not {other:?}")),
        }))
    }

    fn told(self) -> Result<Vec<Told>, String> {
        let one = |told| Ok(vec![told]);
        match self.kind.as_deref() {
            Some("grant") => {
                let parse = |text: &String| {
                    ChannelPattern::parse(text).map_err(|error| format!("{text:?} in `channels`: {error}"))
                };
                let patterns =
                    need(self.channels, "channels")?.iter().map(parse).collect::<Result<_, _>>()?;
                one(Told::Grant(patterns))
            }
            Some("connected") => one(Told::Connected { resumed: self.resumed.unwrap_or(false) }),
            Some("subscribed") => self.subscribed(),
            Some("unsubscribed") => {
                let channels = self.channels.or(self.channel.map(|channel| vec![channel]));
                let ended = |channel| Told::Unsubscribed { channel };
                Ok(need(channels, "channels")?.into_iter().map(ended).collect())
            }
            Some("disconnected") => one(Told::Disconnected),
            Some("event") => one(Told::Event(Delivered {
                id: self.message_id(),
                content: self.content(),
                channel: need(self.channel, "channel")?,
                epoch: self.epoch,
                sequence: self.sequence,
                previous: self.previous,
                tags: self.tags.unwrap_or_default(),
                critical: self.critical.unwrap_or(false),
            })),
            Some("gap") => {
                let (from, to) = (need(self.from, "from")?, need(self.to, "to")?);
                if from == 0 || from > to {
                    return Err(format!("a gap from {from} to {to} is none"));
                }
                let reason = self.reason.unwrap_or_default();
                one(Told::Gap { channel: need(self.channel, "channel")?, from, to, reason })
            }
            Some("reset") => {
                let position = need(self.position(), "epoch` or `sequence")?;
                one(Told::Reset { channel: need(self.channel, "channel")?, position })
            }
            Some("dropped") => {
                let count = need(self.count, "count")?;
                one(Told::Dropped { channel: need(self.channel, "channel")?, count })
            }
            Some(kind @ ("pos" | "replay_end")) => {
                let ends_replay = kind == "replay_end";
                let sequence = need(self.sequence, "sequence")?;
                one(Told::Passed { channel: need(self.channel, "channel")?, sequence, ends_replay })
            }
            Some("state") => {
                let last = !self.more.unwrap_or(false);
                one(Told::Values { channel: need(self.channel, "channel")?, last })
            }
            Some("end") => one(Told::End),
            _ => Ok(Vec::new()),
        }
    }

    fn subscribed(self) -> Result<Vec<Told>, String> {
        let single = self.position();
        let (tags, mut positions) = (self.tags.unwrap_or_default(), self.positions.unwrap_or_default());
        let (critical, resumed) = (self.replay.as_deref() == Some("critical"), self.resumed.unwrap_or(false));
        let begun = |channel: String, position| Told::Subscribed {
            channel,
            position,
            tags: tags.clone(),
            critical,
            resumed,
        };
        if let Some(channel) = self.channel {
            let position = single.or_else(|| positions.remove(&channel));
            return Ok(vec![begun(channel, position)]);
        }
        let channels = need(self.channels, "channels")?.into_iter();
        Ok(channels
            .map(|channel| (positions.remove(&channel), channel))
            .map(|(at, channel)| begun(channel, at))
            .collect())
    }
}
