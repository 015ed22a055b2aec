//! The publishes that wait for their answer.
//!
//! Nothing here does I/O or reads a clock. A publish is queued until it may be sent, then on its way until the server
//! has answered; in between it may have to be sent again, always under the same id, which the server answers with the
//! first outcome (R44). Those of one channel are sent in their order. It outlives connections: what was on its way when
//! one ends goes out again, in order, on the next. What every client promises of it is in `docs/clients.md`.

use std::collections::VecDeque;
use std::time::Duration;

use pulsewire_protocol::client as defaults;

use crate::machine::ms;
use crate::message::{Ack, ServerError};

/// What gives way when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The new publish is refused.
    #[default]
    Reject,
    /// The oldest ones that are not on their way are given up, as many as it takes. If that is not enough, the new one
    /// is refused.
    DropOldest,
}

/// The bounds of the queue of publishes. It is kept in memory alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueOptions {
    /// So many publishes may wait for their answer. Default 1,000.
    pub messages_max: usize,
    /// Together they may have so many bytes of JSON. Default 1 MiB.
    pub bytes_max: usize,
    /// One that could not be sent for so long is given up. Default 24 hours.
    pub age_max: Duration,
    /// What gives way when it is full.
    pub overflow: Overflow,
}

impl Default for QueueOptions {
    fn default() -> QueueOptions {
        QueueOptions {
            messages_max: defaults::QUEUE_MESSAGES_MAX as usize,
            bytes_max: defaults::QUEUE_BYTES_MAX as usize,
            age_max: ms(defaults::QUEUE_AGE_MAX_MS),
            overflow: Overflow::Reject,
        }
    }
}

/// Why a publish has no acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The server refused it for good; nothing was stored.
    #[error("{0}")]
    Rejected(ServerError),
    /// The server said "later" every time, or for five minutes. What it said last; nothing was stored.
    #[error("still refused after every retry: {0}")]
    RetriesExhausted(ServerError),
    /// No answer, however often it was sent. It may have been stored: publish again with the same id to find out.
    #[error("no acknowledgement after {attempts} attempts")]
    NoAck {
        /// How often it was sent.
        attempts: u32,
    },
    /// The queue is full. It was not sent.
    #[error("the queue of publishes is full")]
    QueueFull,
    /// It waited for longer than the queue keeps publishes. It was not sent.
    #[error("no connection for so long that it was given up")]
    Expired,
    /// The client has ended. If it was sent it may have been stored.
    #[error("the client is closed")]
    Closed,
}

impl PublishError {
    /// The name that every client of Pulsewire has for it; of one that the server refused, the server's code.
    pub fn code(&self) -> &str {
        match self {
            PublishError::Rejected(error) => &error.code,
            PublishError::RetriesExhausted(_) => "retries_exhausted",
            PublishError::NoAck { .. } => "no_ack",
            PublishError::QueueFull => "queue_full",
            PublishError::Expired => "expired",
            PublishError::Closed => "disconnected",
        }
    }
}

/// A publish that is done with, and whom to tell.
pub(crate) type Settled<R> = (R, Result<Ack, PublishError>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// To be sent, but not before this.
    Queued { not_before: Duration },
    /// An answer is expected by then.
    Sent { due: Duration },
    /// The answer is late: whether the connection is alive is being found out.
    Doubted,
}

#[derive(Debug)]
struct Entry<R> {
    id: String,
    channel: String,
    frame: String,
    queued_at: Duration,
    first_sent: Option<Duration>,
    sends: u32,
    place: Place,
    /// What the server said last, if it said "later".
    later: Option<ServerError>,
    reply: R,
}

impl<R> Entry<R> {
    fn is_queued(&self) -> bool {
        matches!(self.place, Place::Queued { .. })
    }

    /// Whether it may be sent again.
    fn has_retries(&self) -> bool {
        u64::from(self.sends) <= defaults::PUBLISH_RETRIES
    }

    /// When it is given up if it cannot be sent before.
    fn gives_up_at(&self, age_max: Duration) -> Duration {
        match self.first_sent {
            Some(first) => first + ms(defaults::PUBLISH_RETRY_FOR_MS),
            None => self.queued_at.saturating_add(age_max),
        }
    }

    fn give_up(self) -> Settled<R> {
        let error = match (self.later, self.sends) {
            (Some(error), _) => PublishError::RetriesExhausted(error),
            (None, 0) => PublishError::Expired,
            (None, attempts) => PublishError::NoAck { attempts },
        };
        (self.reply, Err(error))
    }
}

/// The publishes that wait for their answer, in the order in which they were queued.
#[derive(Debug)]
pub(crate) struct Outbox<R> {
    options: QueueOptions,
    ack_timeout: Duration,
    entries: VecDeque<Entry<R>>,
    bytes: usize,
}

impl<R> Outbox<R> {
    pub(crate) fn new(options: QueueOptions, ack_timeout: Duration) -> Outbox<R> {
        Outbox { options, ack_timeout, entries: VecDeque::new(), bytes: 0 }
    }

    /// How many wait, on their way or not.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Queues a publish under the id of its request. What gives way, maybe itself, is returned.
    pub(crate) fn push(
        &mut self,
        id: String,
        channel: String,
        frame: String,
        reply: R,
        now: Duration,
    ) -> Vec<Settled<R>> {
        let mut settled = Vec::new();
        while self.entries.len() >= self.options.messages_max
            || self.bytes.saturating_add(frame.len()) > self.options.bytes_max
        {
            let fits = frame.len() <= self.options.bytes_max && self.options.messages_max > 0;
            let oldest = match self.options.overflow {
                Overflow::DropOldest if fits => self.entries.iter().position(Entry::is_queued),
                Overflow::DropOldest | Overflow::Reject => None,
            };
            let Some(gone) = oldest.and_then(|index| self.take(index)) else {
                settled.push((reply, Err(PublishError::QueueFull)));
                return settled;
            };
            settled.push((gone.reply, Err(PublishError::QueueFull)));
        }
        self.bytes += frame.len();
        self.entries.push_back(Entry {
            id,
            channel,
            frame,
            queued_at: now,
            first_sent: None,
            sends: 0,
            place: Place::Queued { not_before: Duration::ZERO },
            later: None,
            reply,
        });
        settled
    }

    /// The next one to send now, which counts as sent.
    pub(crate) fn next(&mut self, now: Duration) -> Option<&str> {
        let on_their_way = self.entries.iter().filter(|entry| !entry.is_queued()).count();
        if on_their_way as u64 >= defaults::PUBLISH_IN_FLIGHT {
            return None;
        }
        let mut held = Vec::new();
        let index = self.entries.iter().position(|entry| match entry.place {
            Place::Queued { not_before } if not_before > now => {
                held.push(entry.channel.as_str());
                false
            }
            Place::Queued { .. } => !held.contains(&entry.channel.as_str()),
            Place::Sent { .. } | Place::Doubted => false,
        })?;
        let entry = &mut self.entries[index];
        entry.sends += 1;
        entry.first_sent.get_or_insert(now);
        entry.place = Place::Sent { due: now + self.ack_timeout };
        Some(&entry.frame)
    }

    /// Whether this request is a publish that waits for its answer.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.entries.iter().any(|entry| entry.id == id)
    }

    /// The server accepted it.
    pub(crate) fn acked(&mut self, id: &str, ack: Ack) -> Option<Settled<R>> {
        let entry = self.take(self.find(id)?)?;
        Some((entry.reply, Ok(ack)))
    }

    /// The server refused it, for good or for now.
    pub(crate) fn refused(&mut self, id: &str, error: ServerError, now: Duration) -> Option<Settled<R>> {
        let index = self.find(id)?;
        let entry = &mut self.entries[index];
        if !error.retryable {
            let entry = self.take(index)?;
            return Some((entry.reply, Err(PublishError::Rejected(error))));
        }
        // A server that does not say when is asked after half a second, one second, two seconds.
        let doubled = defaults::BACKOFF_STEP_MS << entry.sends.saturating_sub(1).min(10);
        let wait = ms(error.retry_after_ms.unwrap_or(doubled));
        entry.place = Place::Queued { not_before: now.saturating_add(wait) };
        entry.later = Some(error);
        if entry.has_retries() { None } else { self.take(index).map(Entry::give_up) }
    }

    /// The connection has ended: what was on its way goes out again.
    pub(crate) fn lost(&mut self) -> Vec<Settled<R>> {
        self.send_again(|place| !matches!(place, Place::Queued { .. }))
    }

    /// The connection is alive after all: what it did not answer goes out again.
    pub(crate) fn proved(&mut self) -> Vec<Settled<R>> {
        self.send_again(|place| place == Place::Doubted)
    }

    fn send_again(&mut self, which: impl Fn(Place) -> bool) -> Vec<Settled<R>> {
        for entry in self.entries.iter_mut().filter(|entry| which(entry.place)) {
            entry.place = Place::Queued { not_before: Duration::ZERO };
            // What it said before was about an earlier sending.
            entry.later = None;
        }
        self.settle_where(|entry| entry.is_queued() && !entry.has_retries())
    }

    /// What is over by now, and whether answers are so late that the connection has to prove that it lives.
    pub(crate) fn expire(&mut self, now: Duration) -> (Vec<Settled<R>>, bool) {
        let mut suspicious = false;
        for entry in &mut self.entries {
            if matches!(entry.place, Place::Sent { due } if due <= now) {
                entry.place = Place::Doubted;
                entry.later = None;
                suspicious = true;
            }
        }
        let age_max = self.options.age_max;
        let settled = self.settle_where(|entry| match entry.place {
            Place::Queued { .. } => entry.gives_up_at(age_max) <= now,
            Place::Sent { .. } => false,
            Place::Doubted => !entry.has_retries(),
        });
        (settled, suspicious)
    }

    /// When [`Outbox::expire`] or [`Outbox::next`] is wanted next if nothing happens before.
    pub(crate) fn due(&self, now: Duration) -> Option<Duration> {
        let of_entry = |entry: &Entry<R>| match entry.place {
            Place::Queued { not_before } => {
                let end = entry.gives_up_at(self.options.age_max);
                Some(if not_before > now { not_before.min(end) } else { end })
            }
            Place::Sent { due } => Some(due),
            Place::Doubted => None,
        };
        self.entries.iter().filter_map(of_entry).min()
    }

    /// The client has ended.
    pub(crate) fn close(&mut self) -> Vec<Settled<R>> {
        self.bytes = 0;
        self.entries.drain(..).map(|entry| (entry.reply, Err(PublishError::Closed))).collect()
    }

    fn find(&self, id: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.id == id)
    }

    fn take(&mut self, index: usize) -> Option<Entry<R>> {
        let entry = self.entries.remove(index)?;
        self.bytes -= entry.frame.len();
        Some(entry)
    }

    fn settle_where(&mut self, over: impl Fn(&Entry<R>) -> bool) -> Vec<Settled<R>> {
        let mut settled = Vec::new();
        while let Some(entry) = self.entries.iter().position(&over).and_then(|index| self.take(index)) {
            settled.push(entry.give_up());
        }
        settled
    }
}

#[cfg(test)]
mod tests;
