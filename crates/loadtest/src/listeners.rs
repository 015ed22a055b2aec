//! Subscribers of metric channels, in groups that ask for the same, and what each group was sent.
//!
//! Metric data has no message `type` and no sequence, so the book of a fleet does not fit it. How long a message took is
//! read from the message itself: from the value, where the generator wrote into it when the sample was meant to leave, or
//! from the `timestamp` of a collector on the same machine.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;

use crate::scan::{Seen, number_after, see};
use crate::swarm::{Note, Peer, Swarm};
use crate::target::Target;

/// How many connections are being made at the same time.
const GATHERING: usize = 256;
/// Nothing that is waited for takes longer, unless the server lost something.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a bench can tell apart goes up to a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Where a message says when it was meant to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// In the number after this key: microseconds since the listeners' origin.
    Micros(&'static str),
    /// In `timestamp`, by the wall clock of this machine, to the millisecond.
    Clock,
    /// Nowhere: the figures of a window are sent when it has ended.
    Nowhere,
}

/// What subscribers of one kind were sent.
#[derive(Debug)]
pub struct Group {
    stamp: Stamp,
    /// Messages with samples or figures.
    pub messages: u64,
    /// Their bytes, frame headers included.
    pub bytes: u64,
    /// Updates that the server says it left out.
    pub dropped: u64,
    /// From the meant time to the receipt, in microseconds.
    pub latency: Histogram<u64>,
}

/// Subscribers of one target.
pub struct Listeners<'t> {
    /// What carries the load.
    pub target: &'t Target,
    swarm: Swarm,
    book: Book,
    begun: usize,
}

struct Book {
    origin: Instant,
    /// Of each connection.
    group_of: Vec<usize>,
    groups: Vec<Group>,
    ready: usize,
    closed: u64,
    refused: Option<String>,
}

impl Group {
    fn new(stamp: Stamp) -> anyhow::Result<Group> {
        let latency = Histogram::new_with_max(LATENCY_US_MAX, 3)?;
        Ok(Group { stamp, messages: 0, bytes: 0, dropped: 0, latency })
    }
}

impl<'t> Listeners<'t> {
    /// Nobody yet; values count microseconds from `origin`.
    ///
    /// # Errors
    ///
    /// When the kernel gives no epoll instance.
    pub fn new(target: &'t Target, origin: Instant) -> anyhow::Result<Listeners<'t>> {
        let book =
            Book { origin, group_of: Vec::new(), groups: Vec::new(), ready: 0, closed: 0, refused: None };
        Ok(Listeners { target, swarm: Swarm::new(target.entry())?, book, begun: 0 })
    }

    /// Connects `count` subscribers and waits until all are subscribed; `wanted` gives the members of each one's
    /// `subscribe`. Returns the group's number.
    ///
    /// # Errors
    ///
    /// When a connection ends or a subscription is refused.
    pub fn join(
        &mut self,
        count: usize,
        stamp: Stamp,
        wanted: impl Fn(usize) -> String,
    ) -> anyhow::Result<usize> {
        let group = self.book.groups.len();
        self.book.groups.push(Group::new(stamp)?);
        let deadline = Instant::now() + PATIENCE;
        let all = self.begun + count;
        let first = self.begun;
        while self.book.ready < all {
            while self.begun < all && self.begun - self.book.ready < GATHERING {
                let hello = format!(
                    r#"{{"type":"connect","id":0,"data":{{"subscribe":{{{}}}}}}}"#,
                    wanted(self.begun - first)
                );
                self.book.group_of.push(group);
                self.swarm.connect(&[&hello], None).context("no socket for another connection")?;
                self.begun += 1;
            }
            self.turn(Instant::now() + Duration::from_millis(100))?;
            ensure!(Instant::now() < deadline, "only {} of {all} subscribers are ready", self.book.ready);
        }
        Ok(group)
    }

    /// Moves bytes until something arrived, at most until `until`.
    ///
    /// # Errors
    ///
    /// When epoll fails, a connection ended or the server refused something.
    pub fn turn(&mut self, until: Instant) -> anyhow::Result<()> {
        let book = &mut self.book;
        self.swarm.turn(until, &mut |peer, note| book.note(peer, note))?;
        if let Some(refused) = &book.refused {
            bail!("the server refused: {refused}");
        }
        ensure!(book.closed == 0, "{} connections ended", book.closed);
        Ok(())
    }

    /// Moves bytes for so long.
    ///
    /// # Errors
    ///
    /// As [`Listeners::turn`].
    pub fn rest(&mut self, duration: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.turn(until)?;
        }
        Ok(())
    }

    /// Moves bytes until `reached` holds for the groups, at most for so long; whether it does.
    ///
    /// # Errors
    ///
    /// As [`Listeners::turn`].
    pub fn until(&mut self, patience: Duration, reached: impl Fn(&[Group]) -> bool) -> anyhow::Result<bool> {
        let deadline = Instant::now() + patience;
        while !reached(&self.book.groups) {
            if Instant::now() > deadline {
                return Ok(false);
            }
            self.turn(Instant::now() + Duration::from_millis(100))?;
        }
        Ok(true)
    }

    /// Forgets what came so far.
    ///
    /// # Errors
    ///
    /// Never, in practice: the histograms are made as they were.
    pub fn forget(&mut self) -> anyhow::Result<()> {
        for group in &mut self.book.groups {
            *group = Group::new(group.stamp)?;
        }
        Ok(())
    }

    /// What the group of that number was sent.
    pub fn group(&self, number: usize) -> &Group {
        &self.book.groups[number]
    }

    /// What all were sent.
    pub fn groups(&self) -> &[Group] {
        &self.book.groups
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.book.ready
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Book {
    fn note(&mut self, peer: Peer, note: Note<'_>) {
        match note {
            Note::Open | Note::RetryAfter(_) => {}
            Note::Closed(_) => self.closed += 1,
            Note::Binary(message) => self.data(peer, message),
            Note::Text(text) => match see(text) {
                Seen::Subscribed { .. } => self.ready += 1,
                Seen::Error => {
                    self.refused.get_or_insert_with(|| String::from_utf8_lossy(text).into_owned());
                }
                _ if text.starts_with(br#"{"channel":"#) => self.data(peer, text),
                _ if text.starts_with(br#"{"type":"dropped""#) => {
                    let count = number_after(text, br#""count":"#).unwrap_or(1);
                    self.groups[self.group_of[peer]].dropped += count;
                }
                _ => {}
            },
        }
    }

    fn data(&mut self, peer: Peer, message: &[u8]) {
        let group = &mut self.groups[self.group_of[peer]];
        group.messages += 1;
        group.bytes += (message.len() + frame_head_bytes(message.len())) as u64;
        let took_us = match group.stamp {
            Stamp::Nowhere => None,
            Stamp::Micros(key) => number_after(message, key.as_bytes())
                .map(|at| (self.origin.elapsed().as_micros() as u64).saturating_sub(at)),
            Stamp::Clock => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                written_ms(message)
                    .map(|at_ms| (now.as_micros() as u64).saturating_sub(at_ms.saturating_mul(1_000)))
            }
        };
        if let Some(took_us) = took_us {
            group.latency.saturating_record(took_us);
        }
    }
}

/// The head of a frame from the server, which is not masked (RFC 6455 §5.2).
fn frame_head_bytes(len: usize) -> usize {
    match len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// The `timestamp` of a message, in Unix milliseconds.
fn written_ms(message: &[u8]) -> Option<u64> {
    const KEY: &[u8] = br#""timestamp":""#;
    let at = message.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let len = message[at..].iter().position(|byte| *byte == b'"')?;
    let time: jiff::Timestamp = std::str::from_utf8(&message[at..at + len]).ok()?.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(stamp: Stamp) -> Book {
        let groups = vec![Group::new(stamp).unwrap()];
        Book { origin: Instant::now(), group_of: vec![0], groups, ready: 0, closed: 0, refused: None }
    }

    #[test]
    fn the_time_of_a_message_is_read_with_and_without_milliseconds() {
        let check = |text: &str, expected: Option<u64>| {
            let message =
                format!(r#"{{"channel":"system.metrics","timestamp":"{text}","cpu":{{"percent":1}}}}"#);
            assert_eq!(written_ms(message.as_bytes()), expected, "{text}");
        };
        check("1970-01-01T00:00:00Z", Some(0));
        check("2000-02-29T00:00:00Z", Some(951_782_400_000));
        check("2026-11-18T10:40:00.007Z", Some(1_794_998_400_007));
        check("yesterday", None);
        assert_eq!(written_ms(br#"{"channel":"a","value":1}"#), None);
    }

    #[test]
    fn data_counts_with_its_frame_and_control_messages_do_not() {
        let mut book = book(Stamp::Micros("\"value\":"));
        let point = br#"{"channel":"a.metrics","name":"m0","type":"gauge","value":0,"timestamp":"x"}"#;
        book.note(0, Note::Text(br#"{"type":"subscribed","channels":["a.metrics"]}"#));
        book.note(0, Note::Text(point));
        book.note(0, Note::Binary(&[0; 200]));
        book.note(0, Note::Text(br#"{"type":"dropped","channel":"a.metrics","count":3}"#));
        book.note(0, Note::Text(br#"{"type":"stale","channel":"a.metrics","since":1}"#));
        let group = &book.groups[0];
        let bytes = point.len() as u64 + 2 + 204;
        assert_eq!((book.ready, group.messages, group.bytes, group.dropped), (1, 2, bytes, 3));
        assert_eq!(group.latency.len(), 1);
    }

    #[test]
    fn a_refusal_is_kept_with_its_words() {
        let mut book = book(Stamp::Nowhere);
        book.note(0, Note::Text(br#"{"type":"error","code":"invalid_filter"}"#));
        assert!(book.refused.unwrap().contains("invalid_filter"));
    }
}
