//! A look at what one connection is sent and says.
//!
//! While no tap is open on a shard nothing here is run: the flush path takes its cold variant only then. A tap tells at
//! most [`PER_SECOND_MAX`] messages a second, and counts the rest.

use std::borrow::Cow;

use bytes::Bytes;
use pulsewire_bus::Now;
use pulsewire_protocol::{ChannelName, Encoding, Sequence, SessionId};
use pulsewire_telemetry::Direction;

/// Messages that a tap tells in a second; the others are counted.
pub const PER_SECOND_MAX: u32 = 100;
/// Taps that may be open on a shard at a time.
pub const TAPS_MAX: usize = 16;

/// A message that a connection was sent, or that it sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Tapped {
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Which way.
    pub direction: Direction,
    /// The message's type on the wire; `other` where that is not known.
    pub kind: Cow<'static, str>,
    /// The channel it is about.
    pub channel: Option<ChannelName>,
    /// Its place in the channel.
    pub sequence: Option<Sequence>,
    /// Its length: of the frame if it was sent, else of the message.
    pub bytes: usize,
    /// How long after it was accepted it was handed to the kernel, in nanoseconds.
    pub latency_ns: Option<u64>,
    /// The message itself, sharing its memory with everybody else who has it; empty where it carries a token.
    pub payload: Bytes,
    /// How it is encoded.
    pub encoding: Encoding,
}

/// What a tap tells.
#[derive(Debug, Clone, PartialEq)]
pub enum TapEvent {
    /// A message.
    Message(Box<Tapped>),
    /// So many messages were not told.
    Skipped(u64),
    /// The session has ended; nothing follows.
    Ended,
}

/// Takes what a tap tells; says whether anybody still wants it. It must not wait.
pub type TapSink = Box<dyn FnMut(TapEvent) -> bool + Send>;

/// An open tap.
pub(crate) struct Tap {
    pub(crate) number: u64,
    pub(crate) session: SessionId,
    sink: TapSink,
    wanted: bool,
    second: u64,
    told: u32,
    skipped: u64,
}

impl Tap {
    pub(crate) fn new(number: u64, session: SessionId, sink: TapSink) -> Self {
        Self { number, session, sink, wanted: true, second: 0, told: 0, skipped: 0 }
    }

    /// Whether somebody still wants to hear of it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted
    }

    pub(crate) fn tell(&mut self, message: &Tapped, now: Now) {
        self.turn(now);
        if self.told >= PER_SECOND_MAX {
            self.skipped += 1;
            return;
        }
        self.told += 1;
        self.say(TapEvent::Message(Box::new(message.clone())));
    }

    /// Says what was skipped when its second is over.
    pub(crate) fn turn(&mut self, now: Now) {
        let second = now.mono_ns / 1_000_000_000;
        if second == self.second {
            return;
        }
        (self.second, self.told) = (second, 0);
        let skipped = std::mem::take(&mut self.skipped);
        if skipped > 0 {
            self.say(TapEvent::Skipped(skipped));
        }
    }

    /// The session is gone.
    pub(crate) fn end(&mut self) {
        let skipped = std::mem::take(&mut self.skipped);
        if skipped > 0 {
            self.say(TapEvent::Skipped(skipped));
        }
        self.say(TapEvent::Ended);
        self.wanted = false;
    }

    fn say(&mut self, event: TapEvent) {
        self.wanted = self.wanted && (self.sink)(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn tapped() -> Tapped {
        Tapped {
            at_ms: 0,
            direction: Direction::Sent,
            kind: "event".into(),
            channel: None,
            sequence: None,
            bytes: 1,
            latency_ns: None,
            payload: Bytes::new(),
            encoding: Encoding::Json,
        }
    }

    #[test]
    fn a_tap_tells_a_hundred_a_second_and_how_many_it_left_out() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = {
            let told = told.clone();
            Box::new(move |event| {
                told.lock().unwrap().push(event);
                true
            })
        };
        let mut tap = Tap::new(1, SessionId::new(1, 0, 0, 1), sink);
        let at = |ms: u64| Now::default().plus_ms(10_000 + ms);
        (0..130).for_each(|ms| tap.tell(&tapped(), at(ms)));
        assert_eq!(told.lock().unwrap().len(), 100);
        tap.turn(at(999));
        assert_eq!(told.lock().unwrap().len(), 100);
        tap.tell(&tapped(), at(1_000));
        let told = told.lock().unwrap();
        assert_eq!((&told[100], told.len()), (&TapEvent::Skipped(30), 102));
    }

    #[test]
    fn nobody_is_told_any_more_after_they_have_gone() {
        let mut tap = Tap::new(1, SessionId::new(1, 0, 0, 1), Box::new(|_| false));
        assert!(tap.is_wanted());
        tap.tell(&tapped(), Now::default());
        assert!(!tap.is_wanted());
    }
}
