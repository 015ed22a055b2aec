//! What comes from the broker, on its way to being read, and whether anything comes at all.
//!
//! The broker's connection puts messages here and never waits; one task reads them. What waits is bounded in messages
//! and bytes; what finds no place is counted, and logs are looked up in the store instead. Messages of this node to
//! itself ([`Echoes`]) say that the way there and back is open, and how long it is: a connection can be dead without
//! anybody being told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pulsewire_bus::Now;
use pulsewire_edge::clock;
use tokio::sync::{Notify, mpsc};

/// Messages that may wait to be read.
const HEARD_MAX: usize = 16_384;
/// A way on which nothing has come back for so long is closed.
pub(super) const DEAF_AFTER: Duration = Duration::from_secs(7);
/// Questions whose time is remembered.
const ASKED_MAX: usize = 16;

/// Where a connection puts what it hears.
pub(super) struct Ears {
    sender: mpsc::Sender<Bytes>,
    bytes: AtomicUsize,
    bytes_max: usize,
    missed: AtomicU64,
    echoes: Mutex<Echoes>,
    /// How long the newest echo took, nanoseconds; 0 once it was taken.
    lag_ns: AtomicU64,
    ended: Mutex<Option<String>>,
    bell: Notify,
}

impl Ears {
    pub(super) fn new(bytes_max: usize) -> (Arc<Self>, mpsc::Receiver<Bytes>) {
        let (sender, incoming) = mpsc::channel(HEARD_MAX);
        let ears = Self {
            sender,
            bytes: AtomicUsize::new(0),
            bytes_max,
            missed: AtomicU64::new(0),
            echoes: Mutex::new(Echoes::new(1, clock::now())),
            lag_ns: AtomicU64::new(0),
            ended: Mutex::new(None),
            bell: Notify::new(),
        };
        (Arc::new(ears), incoming)
    }

    /// A message came.
    pub(super) fn message(&self, message: Bytes) {
        let bytes = message.len();
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting + bytes > self.bytes_max || self.sender.try_send(message).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A message of so many bytes is read.
    pub(super) fn read(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Messages that found no place since the last time this was asked.
    pub(super) fn missed(&self) -> u64 {
        if self.missed.load(Ordering::Relaxed) == 0 { 0 } else { self.missed.swap(0, Ordering::Relaxed) }
    }

    /// There are so many ways, each of which can be closed alone.
    pub(super) fn ways(&self, ways: usize) {
        *self.echoes.lock() = Echoes::new(ways, clock::now());
    }

    /// A question is sent on all ways; its number goes with it.
    pub(super) fn ask(&self) -> u64 {
        self.echoes.lock().ask(clock::now())
    }

    /// A question came back.
    pub(super) fn echo(&self, way: usize, number: u64) {
        if let Some(lag_ns) = self.echoes.lock().heard(way, number, clock::now()) {
            self.lag_ns.store(lag_ns.max(1), Ordering::Relaxed);
        }
    }

    /// How long the newest echo took, nanoseconds, if there is a new one.
    pub(super) fn lag_ns(&self) -> Option<u64> {
        Some(self.lag_ns.swap(0, Ordering::Relaxed)).filter(|lag_ns| *lag_ns > 0)
    }

    /// The first way on which nothing has come back for too long.
    pub(super) fn deaf(&self) -> Option<usize> {
        self.echoes.lock().deaf(clock::now())
    }

    /// The connection is gone, or part of it.
    pub(super) fn ended(&self, why: impl Into<String>) {
        self.ended.lock().get_or_insert_with(|| why.into());
        self.bell.notify_one();
    }

    /// Waits until the connection is gone; says why.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn end(&self) -> String {
        loop {
            if let Some(why) = self.ended.lock().clone() {
                return why;
            }
            self.bell.notified().await;
        }
    }
}

/// Which ways are open: sans I/O.
#[derive(Debug)]
struct Echoes {
    /// When something came back on each way, nanoseconds.
    heard_ns: Vec<u64>,
    /// The newest questions and when they were asked.
    asked: VecDeque<(u64, u64)>,
    next: u64,
}

impl Echoes {
    fn new(ways: usize, now: Now) -> Self {
        Self { heard_ns: vec![now.mono_ns; ways], asked: VecDeque::new(), next: 1 }
    }

    fn ask(&mut self, now: Now) -> u64 {
        if self.asked.len() >= ASKED_MAX {
            self.asked.pop_front();
        }
        let number = self.next;
        self.next += 1;
        self.asked.push_back((number, now.mono_ns));
        number
    }

    /// Returns how long the question was on its way; nothing if nobody asked it, or too long ago.
    fn heard(&mut self, way: usize, number: u64, now: Now) -> Option<u64> {
        let (_, asked_ns) = *self.asked.iter().find(|(asked, _)| *asked == number)?;
        *self.heard_ns.get_mut(way)? = now.mono_ns;
        Some(now.since_ns(asked_ns))
    }

    fn deaf(&self, now: Now) -> Option<usize> {
        let deaf_ns = DEAF_AFTER.as_nanos() as u64;
        self.heard_ns.iter().position(|heard_ns| now.since_ns(*heard_ns) >= deaf_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono_ns: 1_000_000_000, wall_ms: 0 }.plus_ms(ms)
    }

    #[test]
    fn a_way_is_closed_when_nothing_comes_back_on_it_whatever_comes_on_others() {
        let mut echoes = Echoes::new(3, at(0));
        for second in 0..10 {
            let number = echoes.ask(at(second * 1_000));
            assert_eq!(echoes.heard(0, number, at(second * 1_000 + 2)), Some(2_000_000));
            assert_eq!(echoes.heard(2, number, at(second * 1_000 + 3)), Some(3_000_000));
            let deaf = (second >= 7).then_some(1);
            assert_eq!(echoes.deaf(at(second * 1_000 + 5)), deaf, "after {second} s");
        }
    }

    #[test]
    fn what_nobody_asked_is_no_echo() {
        let mut echoes = Echoes::new(1, at(0));
        assert_eq!(echoes.heard(0, 1, at(1)), None);
        let first = echoes.ask(at(0));
        for _ in 0..ASKED_MAX {
            echoes.ask(at(1));
        }
        assert_eq!(echoes.heard(0, first, at(2)), None, "too long ago");
        assert_eq!(echoes.heard(1, first + 1, at(2)), None, "there is no such way");
        assert_eq!(echoes.deaf(at(7_000)), Some(0));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes_and_the_rest_is_counted() {
        let (ears, mut incoming) = Ears::new(10);
        for text in ["12345", "1234567", "12345", "1"] {
            ears.message(Bytes::from_static(text.as_bytes()));
        }
        assert_eq!(ears.missed(), 2);
        assert_eq!(ears.missed(), 0);
        let first = incoming.recv().await.expect("it waits");
        ears.read(first.len());
        ears.message(Bytes::from_static(b"1234"));
        assert_eq!(ears.missed(), 0, "there is room again");
        ears.ended("first");
        ears.ended("second");
        assert_eq!(ears.end().await, "first");
    }
}
