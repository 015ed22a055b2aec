//! What happened to connections: one ring for each shard, written by its thread alone.
//!
//! An entry is 32 bytes and names its session by a part of its id, so a connection costs nothing and a timeline is a
//! walk over the ring. When the ring is full the oldest entry makes room, whosever it is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pulsewire_bus::ChannelId;
use pulsewire_protocol::{CloseCode, ErrorCode, SessionId};

/// Declares the kinds with their texts and lanes.
macro_rules! kinds {
    ($($(#[$help:meta])* $variant:ident $text:literal $lane:ident;)+) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Happening { $($(#[$help])* $variant,)+ }

        impl Happening {
            /// Every kind, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Where it is drawn.
            #[must_use]
            pub const fn lane(self) -> Lane {
                match self { $(Self::$variant => Lane::$lane,)+ }
            }
        }
    };
}

/// The part of a connection's life that something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Lane {
    /// It came, it went, who it is.
    Lifecycle,
    /// What it listens to.
    Subscriptions,
    /// What reaches it.
    Delivery,
    /// Whether it answers.
    Heartbeat,
}

impl Lane {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        ["lifecycle", "subscriptions", "delivery", "heartbeat"][self as usize]
    }
}

kinds! {
    /// The connection was accepted; the value is its address, if that is an IPv4 address.
    Opened "opened" Lifecycle;
    /// Its token was accepted.
    Authenticated "authenticated" Lifecycle;
    /// It goes on with its session; the value is how often it has by now.
    Resumed "resumed" Lifecycle;
    /// Its token ends soon; the value is in how many milliseconds.
    TokenExpiring "token_expiring" Lifecycle;
    /// It has a new token.
    TokenRefreshed "token_refreshed" Lifecycle;
    /// Its client gave WebSocket up for a time and reads over HTTP.
    FellBack "fell_back" Lifecycle;
    /// A stream over HTTP began.
    StreamOpened "stream_opened" Lifecycle;
    /// A stream over HTTP ended.
    StreamClosed "stream_closed" Lifecycle;
    /// The connection closed; the code is that of the close frame, 1006 without one.
    Closed "closed" Lifecycle;
    /// The session waits for its client.
    Detached "detached" Lifecycle;
    /// The session ended, because nobody went on with it.
    Ended "ended" Lifecycle;
    /// It listens to a channel.
    Subscribed "subscribed" Subscriptions;
    /// It does not any more.
    Unsubscribed "unsubscribed" Subscriptions;
    /// The same happened to further channels; the value is to how many.
    AndMore "and_more" Subscriptions;
    /// It is sent what was before; the value is the first sequence.
    Replaying "replaying" Subscriptions;
    /// It has all that was before; the value is the last sequence.
    Recovered "recovered" Subscriptions;
    /// The channel's history is another one now; the value is the sequence from which on it hears.
    Reset "reset" Subscriptions;
    /// Events are gone that it has not seen; the value is how many.
    Gap "gap" Delivery;
    /// Its outbox is full, and it will read what is missing; the value is how many bytes wait.
    Lagging "lagging" Delivery;
    /// It has read what was missing; the value is the last sequence.
    CaughtUp "caught_up" Delivery;
    /// Events were dropped, or values merged, because its outbox was full; the value is how many.
    Dropped "dropped" Delivery;
    /// It takes nothing of what waits; the value is how many bytes that is.
    Slow "slow" Delivery;
    /// It sent more than it may.
    RateLimited "rate_limited" Delivery;
    /// Something it asked for was refused; the code is the place of the error code in its table.
    Error "error" Delivery;
    /// A ping was not answered in time.
    HeartbeatMissed "heartbeat_missed" Heartbeat;
    /// A ping was answered late; the value is after how many milliseconds.
    LatePong "late_pong" Heartbeat;
}

/// Something that is to be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// What happened.
    pub what: Happening,
    /// A number that belongs to it.
    pub value: u64,
    /// A code that belongs to it.
    pub code: u16,
    /// The channel it is about.
    pub channel: Option<ChannelId>,
}

impl Note {
    /// Something without a number.
    #[must_use]
    pub fn of(what: Happening) -> Self {
        Self { what, value: 0, code: 0, channel: None }
    }

    /// With a number.
    #[must_use]
    pub fn value(self, value: u64) -> Self {
        Self { value, ..self }
    }

    /// With a code.
    #[must_use]
    pub fn code(self, code: u16) -> Self {
        Self { code, ..self }
    }

    /// About a channel.
    #[must_use]
    pub fn channel(self, channel: ChannelId) -> Self {
        Self { channel: Some(channel), ..self }
    }

    /// A connection that was accepted from an address.
    #[must_use]
    pub fn opened(remote: SocketAddr) -> Self {
        let value = match remote.ip().to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()) << 16 | u64::from(remote.port()),
            IpAddr::V6(_) => 0,
        };
        Self::of(Happening::Opened).value(value)
    }

    /// The number that belongs to it, for people and programs.
    #[must_use]
    pub fn shown_value(&self) -> Option<u64> {
        match self.what {
            // An address is in the text.
            Happening::Opened => None,
            Happening::Closed => Some(u64::from(self.code)),
            _ => (self.value > 0).then_some(self.value),
        }
    }

    /// What happened, in words. `channel` is its name, if that is still known.
    #[must_use]
    pub fn text(&self, channel: Option<&str>) -> String {
        let Self { what, value, code, .. } = *self;
        let channel = channel.unwrap_or("a channel that is gone");
        match what {
            Happening::Opened if value == 0 => "opened".to_owned(),
            Happening::Opened => {
                let address = Ipv4Addr::from_bits(u32::try_from(value >> 16).unwrap_or_default());
                format!("opened from {address}:{}", value & 0xffff)
            }
            Happening::Authenticated => "authenticated".to_owned(),
            Happening::Resumed => format!("resumed its session for the {} time", ordinal(value)),
            Happening::TokenExpiring => format!("was told that its token ends in {} s", value / 1_000),
            Happening::TokenRefreshed => "brought a new token".to_owned(),
            Happening::FellBack => "fell back to HTTP".to_owned(),
            Happening::StreamOpened => format!("began to read {channel} over HTTP"),
            Happening::StreamClosed => format!("stopped reading {channel} over HTTP"),
            Happening::Closed => {
                let name = CloseCode::from_u16(code).map_or("", CloseCode::name);
                format!("closed {code} {name}").trim_end().to_owned()
            }
            Happening::Detached => "waits for its client to come back".to_owned(),
            Happening::Ended => "ended: its client did not come back in time".to_owned(),
            Happening::Subscribed => format!("subscribed to {channel}"),
            Happening::Unsubscribed => format!("unsubscribed from {channel}"),
            Happening::AndMore => format!("and the same for {value} more channels"),
            Happening::Replaying => format!("is sent {channel} from {value} on"),
            Happening::Recovered => format!("recovered {channel} up to {value}"),
            Happening::Reset => format!("was told that {channel} begins anew at {value}"),
            Happening::Gap => format!("was told of a gap of {value} events in {channel}"),
            Happening::Lagging => format!("lags in {channel}: {value} bytes wait for it"),
            Happening::CaughtUp => format!("caught up with {channel} at {value}"),
            Happening::Dropped => format!("missed {value} events or values of {channel}"),
            Happening::Slow => format!("slow: takes nothing of {value} bytes"),
            Happening::RateLimited => "sent more than it may: rate limited".to_owned(),
            Happening::Error => {
                let name = ErrorCode::ALL.get(usize::from(code)).map_or("unknown", |code| code.name());
                format!("was refused: {name}")
            }
            Happening::HeartbeatMissed => "missed a heartbeat".to_owned(),
            Happening::LatePong => format!("answered a ping after {value} ms"),
        }
    }
}

fn ordinal(number: u64) -> String {
    let suffix = match (number % 10, number % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

/// Whose an entry is: a session, or a reader over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose(u64);

impl Whose {
    /// A session's: 48 bits of chance and 16 of its slot.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what differs within a shard")]
    pub fn session(session: SessionId) -> Self {
        Self(session.as_u128() as u64)
    }
}

/// An entry as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Counts the entries of the ring.
    pub id: u64,
    /// When it happened, Unix milliseconds.
    pub at_ms: i64,
    /// What happened.
    pub note: Note,
}

/// An entry as it is kept.
#[derive(Debug, Clone, Copy)]
struct Kept {
    at_ms: i64,
    whose: u64,
    value: u64,
    /// [`NO_CHANNEL`] if it is about none.
    channel: u32,
    code: u16,
    what: Happening,
}

const _: () = assert!(size_of::<Kept>() == 32, "65,536 entries take 2 MiB");

const NO_CHANNEL: u32 = u32::MAX;

/// The ring.
#[derive(Debug)]
pub struct Timeline {
    kept: Vec<Kept>,
    kept_max: usize,
    written: u64,
}

impl Timeline {
    /// An empty ring of at most so many entries; 0 keeps nothing. Memory is taken as entries come.
    #[must_use]
    pub fn new(kept_max: usize) -> Self {
        Self { kept: Vec::new(), kept_max, written: 0 }
    }

    /// Writes down what happened, over the oldest entry if there is no more room.
    pub fn write(&mut self, whose: Whose, note: Note, at_ms: i64) {
        if self.kept_max == 0 {
            return;
        }
        let channel = note.channel.map_or(NO_CHANNEL, |channel| channel.0);
        let Note { what, value, code, .. } = note;
        let kept = Kept { at_ms, whose: whose.0, value, channel, code, what };
        if self.kept.len() < self.kept_max {
            self.kept.push(kept);
        } else {
            let place = (self.written % self.kept_max as u64) as usize;
            self.kept[place] = kept;
        }
        self.written += 1;
    }

    /// What happened to one, oldest first.
    pub fn of(&self, whose: Whose) -> impl Iterator<Item = Entry> {
        let first = self.written - self.kept.len() as u64;
        let all = (first..self.written).map(|id| (id, &self.kept[(id % self.kept_max as u64) as usize]));
        all.filter(move |(_, kept)| kept.whose == whose.0).map(|(id, kept)| {
            let channel = (kept.channel != NO_CHANNEL).then_some(ChannelId(kept.channel));
            let note = Note { what: kept.what, value: kept.value, code: kept.code, channel };
            Entry { id, at_ms: kept.at_ms, note }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_ring_has_the_newest_entries_of_everybody_in_order(
            kept_max in 0_usize..20,
            written in prop::collection::vec(0_u64..4, 0..60),
        ) {
            let mut ring = Timeline::new(kept_max);
            for (value, whose) in (0..).zip(&written) {
                ring.write(Whose(*whose), Note::of(Happening::Slow).value(value), value as i64);
            }
            let newest = written.len() - written.len().min(kept_max);
            for whose in 0..4 {
                let expected: Vec<_> = (0_u64..).zip(&written).skip(newest)
                    .filter(|(_, of)| **of == whose).map(|(value, _)| value).collect();
                let found: Vec<_> = ring.of(Whose(whose)).map(|entry| entry.note.value).collect();
                prop_assert_eq!(&found, &expected);
                let ids: Vec<_> = ring.of(Whose(whose)).map(|entry| entry.id).collect();
                prop_assert_eq!(&ids, &expected);
            }
        }
    }

    #[test]
    fn every_kind_has_words_for_it() {
        for what in Happening::ALL {
            let note = Note { channel: Some(ChannelId(1)), ..Note::of(*what).value(3) };
            let text = note.text(Some("run:1"));
            assert!(!text.is_empty() && !text.contains("gone"), "{what:?}: {text}");
        }
        let remote = "192.0.2.7:5000".parse().expect("an address");
        assert_eq!(Note::opened(remote).text(None), "opened from 192.0.2.7:5000");
        assert_eq!(Note::opened("[2001:db8::1]:5000".parse().expect("an address")).text(None), "opened");
        assert_eq!(Note::of(Happening::Closed).code(4004).text(None), "closed 4004 slow_consumer");
        assert_eq!(Note::of(Happening::Closed).code(1006).text(None), "closed 1006");
        let code = ErrorCode::NotSubscribed as u16;
        assert_eq!(Note::of(Happening::Error).code(code).text(None), "was refused: not_subscribed");
    }
}
