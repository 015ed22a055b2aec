//! What a consumer of Redis streams does next: one of a group, whose entries become events.
//!
//! Sans I/O: whoever runs it asks for the next [`Step`], takes it, and says how it went. What always holds: an entry is
//! acknowledged only when the bus has committed its event or has refused it for good, and then it stands in the
//! stream of refused ones first. Entries are published in the order in which they came, and none overtakes another
//! that is tried again. An entry that comes twice has the same message id, so it is one event.
//!
//! Entries in hand are bounded: none is read while any is. While they wait for the bus they are held, so that no other
//! consumer claims them; entries of consumers that died are claimed when nobody has touched them for a while.

use std::time::Duration;

use pulsewire_protocol::{ChannelName, ErrorCode, Event, Sample};

use super::Backoff;
use super::entry::{Content, EntryRefusal, Fields, StreamSource, read_entry};

/// How long a read waits for entries: so soon does a consumer find out that it is to stop.
const READ: Duration = Duration::from_millis(500);
/// How often it is looked how many entries wait.
const LOOK_MS: u64 = 5_000;
/// How often consumers that are gone are looked for.
const TIDY_MS: u64 = 600_000;

/// What a consumer works with.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// The streams.
    pub streams: Vec<StreamSource>,
    /// An entry that another consumer has not touched for so long is claimed. Default 30 seconds.
    pub claim_after: Duration,
    /// Entries in hand at a time, over all streams. Default 256.
    pub in_flight_max: usize,
}

/// An entry, as Redis gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Of which stream, by its place in the options.
    pub stream: usize,
    /// Its id in the stream.
    pub id: String,
    /// Its fields; `None` if somebody has deleted it.
    pub fields: Option<Fields>,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The bus has it, perhaps from an earlier time.
    Kept,
    /// It was deleted before it was read.
    Gone,
    /// It is refused for good.
    Refused(EntryRefusal),
}

/// Why events were not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRefusal {
    /// Which of them, from 0; `None` if it concerns all of them.
    pub index: Option<usize>,
    /// The code; it says whether they are tried again.
    pub code: ErrorCode,
    /// What was wrong, for a person.
    pub detail: String,
    /// When to try again, if that is known.
    pub retry_after: Option<Duration>,
}

/// What to do next. All but the first four and the last need Redis.
#[derive(Debug, Clone)]
pub enum Step {
    /// Publish these events in one request, without waiting for the answer.
    Publish(Vec<Event>),
    /// Publish samples.
    Samples(ChannelName, Vec<Sample>),
    /// Wait for the answer to what was published, so long at most.
    Await(Duration),
    /// Wait.
    Wait(Duration),
    /// Make the group where it is missing (`XGROUP CREATE … 0 MKSTREAM`).
    Prepare,
    /// Read what is pending in its own name (`XREADGROUP … 0`).
    Own,
    /// Claim entries of a stream that nobody has touched (`XAUTOCLAIM`), from an id on.
    Claim(usize, String),
    /// Read new entries (`XREADGROUP … >`), waiting so long for the first.
    Read(Duration),
    /// Say that these entries are still worked on (`XCLAIM … 0 … JUSTID`): of which stream, and which.
    Hold(Vec<(usize, Vec<String>)>),
    /// Keep those that are refused in the stream of refused ones, then acknowledge all (`XACK`).
    Settle(Vec<(Entry, Fate)>),
    /// Look how many entries wait (`XINFO GROUPS`).
    Look,
    /// Remove consumers that have nothing and have not been seen for long.
    Tidy,
    /// It was told to stop and has nothing in hand.
    Done,
}

#[derive(Debug)]
struct Held {
    entry: Entry,
    state: State,
}

#[derive(Debug)]
enum State {
    Event(Box<Event>),
    Samples(ChannelName, Vec<Sample>),
    Settled(Fate),
}

/// One consumer of a group.
#[derive(Debug)]
pub struct Consumer {
    options: ConsumerOptions,
    /// In the order in which they came.
    hand: Vec<Held>,
    /// Which of them are being published; empty if none are.
    asked: Vec<usize>,
    /// So many events are published at a time; fewer where one of them is to be found.
    together_max: usize,
    backoff: Backoff,
    /// When what was refused for now is tried again.
    retry_at_ms: u64,
    /// When what is in hand was last held.
    held_at_ms: u64,
    /// When Redis may be asked again.
    redis_at_ms: u64,
    prepared: bool,
    own_read: bool,
    claiming: Option<(usize, String)>,
    claim_at_ms: u64,
    look_at_ms: u64,
    tidy_at_ms: u64,
    stopping: bool,
}

impl Consumer {
    /// One that has not begun. Times are milliseconds of any clock that does not go back.
    #[must_use]
    pub fn new(options: ConsumerOptions, now_ms: u64) -> Self {
        Self {
            options,
            hand: Vec::new(),
            asked: Vec::new(),
            together_max: usize::MAX,
            backoff: Backoff::default(),
            retry_at_ms: now_ms,
            held_at_ms: now_ms,
            redis_at_ms: now_ms,
            prepared: false,
            own_read: false,
            claiming: None,
            claim_at_ms: now_ms,
            look_at_ms: now_ms,
            tidy_at_ms: now_ms,
            stopping: false,
        }
    }

    /// Entries to ask for at a time, of each stream.
    #[must_use]
    pub fn entries_max(&self) -> usize {
        (self.options.in_flight_max / self.options.streams.len().max(1)).max(1)
    }

    /// How many entries are in hand.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.hand.len()
    }

    /// What to do next.
    pub fn next(&mut self, now_ms: u64) -> Step {
        if let Some(step) = self.publish_next(now_ms) {
            return step;
        }
        let waits = self.undecided().next().is_some();
        if now_ms < self.redis_at_ms {
            let until_ms = if waits && self.asked.is_empty() {
                self.retry_at_ms.min(self.redis_at_ms)
            } else {
                self.redis_at_ms
            };
            return self.pass(until_ms, now_ms);
        }
        if !self.prepared {
            return if self.stopping && self.hand.is_empty() { Step::Done } else { Step::Prepare };
        }
        if waits {
            let hold_at_ms = self.held_at_ms + self.hold_ms();
            if now_ms >= hold_at_ms {
                return Step::Hold(self.held());
            }
            let until_ms = if self.asked.is_empty() { self.retry_at_ms.min(hold_at_ms) } else { hold_at_ms };
            return self.pass(until_ms, now_ms);
        }
        if !self.hand.is_empty() {
            let settled = self.hand.iter().map(|held| match &held.state {
                State::Settled(fate) => (held.entry.clone(), fate.clone()),
                State::Event(_) | State::Samples(..) => unreachable!("all are decided"),
            });
            return Step::Settle(settled.collect());
        }
        if self.stopping {
            return Step::Done;
        }
        if !self.own_read {
            return Step::Own;
        }
        if self.claiming.is_none() && now_ms >= self.claim_at_ms && !self.options.streams.is_empty() {
            self.claim_at_ms = now_ms + ms(self.options.claim_after) / 2;
            self.claiming = Some((0, "0-0".to_owned()));
        }
        if let Some((stream, from)) = &self.claiming {
            return Step::Claim(*stream, from.clone());
        }
        if now_ms >= self.look_at_ms {
            self.look_at_ms = now_ms + LOOK_MS;
            return Step::Look;
        }
        if now_ms >= self.tidy_at_ms {
            self.tidy_at_ms = now_ms + TIDY_MS;
            return Step::Tidy;
        }
        Step::Read(READ)
    }

    /// Waiting, for an answer if one is to come.
    fn pass(&self, until_ms: u64, now_ms: u64) -> Step {
        // Whoever is told to stop finds out in time.
        let pause =
            Duration::from_millis(until_ms.saturating_sub(now_ms)).clamp(Duration::from_millis(1), READ);
        if self.asked.is_empty() { Step::Wait(pause) } else { Step::Await(pause) }
    }

    /// Entries that are neither kept nor refused.
    fn undecided(&self) -> impl Iterator<Item = usize> {
        let open = |(_, held): &(usize, &Held)| !matches!(held.state, State::Settled(_));
        self.hand.iter().enumerate().filter(open).map(|(at, _)| at)
    }

    /// Publishes what comes next, if it is time: events that follow one another, or the samples of one entry.
    fn publish_next(&mut self, now_ms: u64) -> Option<Step> {
        if !self.asked.is_empty() || now_ms < self.retry_at_ms {
            return None;
        }
        let first = self.undecided().next()?;
        if let State::Samples(channel, samples) = &self.hand[first].state {
            let step = Step::Samples(channel.clone(), samples.clone());
            self.asked = vec![first];
            return Some(step);
        }
        let (mut asked, mut events) = (Vec::new(), Vec::new());
        for at in self.undecided().take(self.together_max) {
            let State::Event(event) = &self.hand[at].state else { break };
            asked.push(at);
            events.push((**event).clone());
        }
        self.asked = asked;
        Some(Step::Publish(events))
    }

    fn held(&self) -> Vec<(usize, Vec<String>)> {
        let of = |stream: usize| {
            let ids = self.hand.iter().filter(|held| held.entry.stream == stream);
            (stream, ids.map(|held| held.entry.id.clone()).collect::<Vec<_>>())
        };
        let streams = (0..self.options.streams.len()).map(of);
        streams.filter(|(_, ids)| !ids.is_empty()).collect()
    }

    /// How often entries in hand are held: three times before anybody would claim them.
    fn hold_ms(&self) -> u64 {
        (ms(self.options.claim_after) / 3).max(1)
    }

    /// Redis has the group of each stream.
    pub fn prepared(&mut self) {
        self.prepared = true;
    }

    /// The group, or a stream, is gone: somebody has deleted it.
    pub fn unprepared(&mut self) {
        self.prepared = false;
    }

    /// Redis does not answer. It is asked again after a pause; what is in hand goes on to be published meanwhile.
    pub fn lost(&mut self, now_ms: u64, pause: Duration) {
        self.redis_at_ms = now_ms + ms(pause);
        // What Redis gave out and never came is found in its own name.
        (self.prepared, self.own_read, self.claiming) = (false, false, None);
    }

    /// What [`Step::Own`] found; all that is pending in its own name has been read when there is nothing.
    pub fn own(&mut self, entries: Vec<Entry>, now_ms: u64) {
        self.own_read = entries.is_empty();
        self.take(entries, now_ms);
    }

    /// What [`Step::Claim`] found, and from where to go on; `0-0` if it has seen all. Returns how many it took.
    pub fn claimed(&mut self, entries: Vec<Entry>, next: &str, now_ms: u64) -> usize {
        let Some((stream, from)) = &mut self.claiming else { return 0 };
        if next == "0-0" {
            *stream += 1;
            "0-0".clone_into(from);
        } else {
            next.clone_into(from);
        }
        if *stream >= self.options.streams.len() {
            self.claiming = None;
        }
        let count = entries.len();
        self.take(entries, now_ms);
        count
    }

    /// New entries.
    pub fn read(&mut self, entries: Vec<Entry>, now_ms: u64) {
        self.take(entries, now_ms);
    }

    fn take(&mut self, entries: Vec<Entry>, now_ms: u64) {
        self.held_at_ms = now_ms;
        for entry in entries {
            let state = match &entry.fields {
                None => State::Settled(Fate::Gone),
                Some(fields) => match read_entry(&self.options.streams[entry.stream], &entry.id, fields) {
                    Ok(Content::Event(event)) => State::Event(event),
                    Ok(Content::Samples { channel, samples }) => State::Samples(channel, samples),
                    Err(refusal) => State::Settled(Fate::Refused(refusal)),
                },
            };
            self.hand.push(Held { entry, state });
        }
    }

    /// What was published was answered: all of it was committed, or none. `chance` is any number. Returns whether it is
    /// tried again.
    pub fn published(&mut self, answer: Result<(), PublishRefusal>, now_ms: u64, chance: u64) -> bool {
        let asked = std::mem::take(&mut self.asked);
        let settle = |held: &mut Held, fate: Fate| held.state = State::Settled(fate);
        let refusal = match answer {
            Ok(()) => {
                asked.iter().for_each(|at| settle(&mut self.hand[*at], Fate::Kept));
                (self.backoff, self.together_max) = (Backoff::default(), usize::MAX);
                return false;
            }
            Err(refusal) => refusal,
        };
        if refusal.code.retryable() {
            let pause = self.backoff.pause(Duration::ZERO, chance);
            let pause = pause.max(refusal.retry_after.unwrap_or_default().min(Duration::from_secs(10)));
            self.retry_at_ms = now_ms + ms(pause);
            return true;
        }
        // Those before the one that is refused go first, so that it is alone and they are in order.
        let index = refusal.index.unwrap_or(if asked.len() > 1 { asked.len() / 2 } else { 0 });
        match (index, asked.first()) {
            (0, Some(first)) => {
                let EntryRefusal { code, detail } = of_publish(refusal);
                settle(&mut self.hand[*first], Fate::Refused(EntryRefusal { code, detail }));
                self.together_max = usize::MAX;
            }
            _ => self.together_max = index,
        }
        false
    }

    /// What was in hand is acknowledged.
    pub fn settled(&mut self) {
        self.hand.clear();
    }

    /// What is in hand is held.
    pub fn was_held(&mut self, now_ms: u64) {
        self.held_at_ms = now_ms;
    }

    /// Reads nothing more; what is in hand is brought to its end.
    pub fn stop(&mut self) {
        self.stopping = true;
    }
}

fn of_publish(refusal: PublishRefusal) -> EntryRefusal {
    let PublishRefusal { code, detail, .. } = refusal;
    EntryRefusal { code, detail: if detail.is_empty() { code.message() } else { detail } }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
