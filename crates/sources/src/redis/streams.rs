//! The connection of a consumer: one thread's loop that takes the [`Consumer`]'s steps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use pulsewire_protocol::{ChannelName, Event, Sample};
use redis::{Client, Connection, RedisError as Failure, RedisResult, Value, cmd};

use super::consumer::{Consumer, ConsumerOptions, Entry, Fate, PublishRefusal, Step};
use super::entry::refused_fields;
use super::reader::{CONNECT, LOOK, client};
use super::{Backoff, RedisError};

/// How long a consumer that is told to stop brings to its end what it has in hand.
const LAST: Duration = Duration::from_secs(1);
/// A consumer that has nothing and was not seen for so long is gone, milliseconds.
const GONE_MS: u64 = 3_600_000;
/// Removes consumers of a group that have nothing and were not seen for long, all at once: what one is given between
/// a look and its removal would be lost.
const TIDY: &str = "for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do \
    local f = {} for i = 1, #c, 2 do f[c[i]] = c[i + 1] end \
    if f.pending == 0 and f.idle > tonumber(ARGV[2]) and f.name ~= ARGV[3] then \
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], f.name) end end return 0";

/// Where a consumer reads.
#[derive(Clone)]
pub struct StreamsOptions {
    /// The server, as [`RedisOptions::url`](super::RedisOptions).
    pub url: String,
    /// The group; the nodes of one cluster have the same. Default `pulsewire`.
    pub group: String,
    /// The consumer's name in it, which no other has. One that comes back under it goes on where it was.
    pub consumer: String,
    /// At most so many refused entries are kept of each stream, or a few more. Default 10,000.
    pub refused_max: usize,
    /// What is read, and how much at a time.
    pub consumer_options: ConsumerOptions,
}

/// Who publishes what a consumer reads, and is told how it goes.
pub trait Target {
    /// Publishes events in one request; the answer goes to `answer`, now or later.
    fn publish(&mut self, events: Vec<Event>, answer: mpsc::Sender<Result<(), PublishRefusal>>);
    /// Publishes samples.
    ///
    /// # Errors
    ///
    /// Why none was accepted.
    fn publish_samples(&mut self, channel: &ChannelName, samples: Vec<Sample>) -> Result<(), PublishRefusal>;
    /// Something happened.
    fn happens(&mut self, happening: StreamHappening<'_>);
}

/// What a consumer of streams meets.
#[derive(Debug)]
pub enum StreamHappening<'h> {
    /// It is connected, and the groups are there.
    Connected,
    /// It is not connected, or not any more.
    Lost {
        /// Why, for a person.
        error: String,
        /// After which time it tries again.
        pause: Duration,
    },
    /// Entries of another consumer were claimed.
    Claimed(usize),
    /// What was published is tried again.
    Retried,
    /// An entry was acknowledged.
    Acknowledged {
        /// The key of its stream.
        key: &'h str,
        /// Its id.
        id: &'h str,
        /// What became of it.
        fate: &'h Fate,
    },
    /// How many entries wait, over all streams.
    Waiting {
        /// Those that no consumer has been given; `None` if Redis does not know (before Redis 7, or after deletions).
        lag: Option<u64>,
        /// Those that consumers have and nobody has acknowledged.
        pending: u64,
    },
}

/// Reads streams as one consumer of a group until it is told to stop.
pub struct StreamsReader {
    client: Client,
    options: StreamsOptions,
}

impl std::fmt::Debug for StreamsReader {
    /// Without the address, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamsReader").field("group", &self.options.group).finish_non_exhaustive()
    }
}

/// A connection that does not hold, or what Redis said of a command.
enum Trouble {
    /// The group or its stream is gone.
    NoGroup,
    Other(Failure),
}

impl From<Failure> for Trouble {
    fn from(error: Failure) -> Self {
        if error.code() == Some("NOGROUP") { Self::NoGroup } else { Self::Other(error) }
    }
}

impl StreamsReader {
    /// Checks the address; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// If it is not one of a Redis server.
    pub fn new(options: StreamsOptions) -> Result<Self, RedisError> {
        Ok(Self { client: client(&options.url)?, options })
    }

    /// Reads until `stopping` is set, which it finds out within half a second; then it brings to its end, within a
    /// second, what it has in hand. Blocks; `chance` gives any numbers.
    pub fn run(&self, stopping: &AtomicBool, mut chance: impl FnMut() -> u64, target: &mut impl Target) {
        let begun = Instant::now();
        let now_ms = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut consumer = Consumer::new(self.options.consumer_options.clone(), 0);
        let (mut backoff, mut since) = (Backoff::default(), Instant::now());
        let mut connection: Option<Connection> = None;
        let (mut answer, mut last): (Option<Receiver<_>>, Option<Instant>) = (None, None);
        loop {
            if stopping.load(Ordering::Relaxed) {
                consumer.stop();
                if last.get_or_insert_with(Instant::now).elapsed() > LAST {
                    return;
                }
            }
            let step = match consumer.next(now_ms()) {
                Step::Done => return,
                Step::Wait(pause) => {
                    std::thread::sleep(pause);
                    continue;
                }
                Step::Publish(events) => {
                    let (tell, told) = mpsc::channel();
                    target.publish(events, tell);
                    answer = Some(told);
                    continue;
                }
                Step::Samples(channel, samples) => {
                    let published = target.publish_samples(&channel, samples);
                    self.answered(&mut consumer, published, now_ms(), chance(), target);
                    continue;
                }
                Step::Await(pause) => {
                    let told = answer
                        .as_ref()
                        .map_or(Err(RecvTimeoutError::Disconnected), |told| told.recv_timeout(pause));
                    let published = match told {
                        Ok(published) => published,
                        Err(RecvTimeoutError::Timeout) => continue,
                        // Whoever was to answer is gone: the same again, under the same ids.
                        Err(RecvTimeoutError::Disconnected) => Err(PublishRefusal::unknown()),
                    };
                    answer = None;
                    self.answered(&mut consumer, published, now_ms(), chance(), target);
                    continue;
                }
                step => step,
            };
            let connected = match &mut connection {
                Some(connection) => Ok(connection),
                None => self.connect().map(|made| {
                    since = Instant::now();
                    connection.insert(made)
                }),
            };
            let taken = connected
                .map_err(Trouble::from)
                .and_then(|connection| self.take(step, connection, &mut consumer, &now_ms, target));
            match taken {
                Ok(()) => {}
                Err(Trouble::NoGroup) => consumer.unprepared(),
                Err(Trouble::Other(error)) => {
                    let held = if connection.take().is_some() { since.elapsed() } else { Duration::ZERO };
                    let pause = backoff.pause(held, chance());
                    consumer.lost(now_ms(), pause);
                    target.happens(StreamHappening::Lost { error: error.to_string(), pause });
                }
            }
        }
    }

    fn answered(
        &self,
        consumer: &mut Consumer,
        published: Result<(), PublishRefusal>,
        now_ms: u64,
        chance: u64,
        target: &mut impl Target,
    ) {
        if consumer.published(published, now_ms, chance) {
            target.happens(StreamHappening::Retried);
        }
    }

    fn connect(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(CONNECT)?;
        connection.set_write_timeout(Some(CONNECT))?;
        // A read waits for entries in Redis for less than this.
        connection.set_read_timeout(Some(CONNECT + LOOK))?;
        Ok(connection)
    }

    /// Takes a step that needs Redis.
    fn take(
        &self,
        step: Step,
        connection: &mut Connection,
        consumer: &mut Consumer,
        now_ms: &impl Fn() -> u64,
        target: &mut impl Target,
    ) -> Result<(), Trouble> {
        match step {
            Step::Prepare => {
                self.prepare(connection)?;
                consumer.prepared();
                target.happens(StreamHappening::Connected);
            }
            Step::Own => {
                let entries = self.read(connection, consumer.entries_max(), None)?;
                consumer.own(entries, now_ms());
            }
            Step::Read(wait) => {
                let entries = self.read(connection, consumer.entries_max(), Some(wait))?;
                consumer.read(entries, now_ms());
            }
            Step::Claim(stream, from) => {
                let (next, entries) = self.claim(connection, stream, &from, consumer.entries_max())?;
                let count = consumer.claimed(entries, &next, now_ms());
                if count > 0 {
                    target.happens(StreamHappening::Claimed(count));
                }
            }
            Step::Hold(entries) => {
                for (stream, ids) in entries {
                    let mut hold = cmd("XCLAIM");
                    hold.arg(self.key(stream)).arg(&self.options.group).arg(&self.options.consumer).arg(0);
                    hold.arg(ids).arg("JUSTID").exec(connection)?;
                }
                consumer.was_held(now_ms());
            }
            Step::Settle(entries) => {
                self.settle(connection, &entries)?;
                consumer.settled();
                for (entry, fate) in &entries {
                    let key = self.key(entry.stream);
                    target.happens(StreamHappening::Acknowledged { key, id: &entry.id, fate });
                }
            }
            Step::Look => {
                let (lag, pending) = self.look(connection)?;
                target.happens(StreamHappening::Waiting { lag, pending });
            }
            Step::Tidy => self.tidy(connection)?,
            Step::Publish(_) | Step::Samples(..) | Step::Await(_) | Step::Wait(_) | Step::Done => {}
        }
        Ok(())
    }

    fn key(&self, stream: usize) -> &str {
        &self.options.consumer_options.streams[stream].key
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.options.consumer_options.streams.iter().map(|stream| &*stream.key)
    }

    fn prepare(&self, connection: &mut Connection) -> Result<(), Failure> {
        for key in self.keys() {
            let mut create = cmd("XGROUP");
            // From the beginning: what was added before the first start is not lost.
            create.arg("CREATE").arg(key).arg(&self.options.group).arg("0").arg("MKSTREAM");
            match create.exec(connection) {
                Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads new entries, waiting for the first; or without `wait` those that are pending in its own name.
    fn read(
        &self,
        connection: &mut Connection,
        count: usize,
        wait: Option<Duration>,
    ) -> Result<Vec<Entry>, Failure> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.options.group).arg(&self.options.consumer).arg("COUNT").arg(count);
        if let Some(wait) = wait {
            read.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        }
        read.arg("STREAMS");
        read.arg(self.keys().collect::<Vec<_>>());
        let from = if wait.is_some() { ">" } else { "0" };
        read.arg(vec![from; self.options.consumer_options.streams.len()]);
        let answer: Value = read.query(connection)?;
        let mut entries = Vec::new();
        for stream in list(answer) {
            let mut stream = list(stream).into_iter();
            let key = stream.next().and_then(text).ok_or_else(strange)?;
            let at = self.keys().position(|known| known == key).ok_or_else(strange)?;
            entries.extend(entries_of(at, stream.next().unwrap_or_default())?);
        }
        Ok(entries)
    }

    fn claim(
        &self,
        connection: &mut Connection,
        stream: usize,
        from: &str,
        count: usize,
    ) -> Result<(String, Vec<Entry>), Failure> {
        let idle_ms =
            u64::try_from(self.options.consumer_options.claim_after.as_millis()).unwrap_or(u64::MAX);
        let mut claim = cmd("XAUTOCLAIM");
        claim.arg(self.key(stream)).arg(&self.options.group).arg(&self.options.consumer).arg(idle_ms);
        let answer: Value = claim.arg(from).arg("COUNT").arg(count).query(connection)?;
        let mut answer = list(answer).into_iter();
        let next = answer.next().and_then(text).ok_or_else(strange)?;
        Ok((next, entries_of(stream, answer.next().unwrap_or_default())?))
    }

    /// Refused entries first, then the acknowledgement: what is cut off in between is refused twice, and not lost.
    fn settle(&self, connection: &mut Connection, entries: &[(Entry, Fate)]) -> Result<(), Failure> {
        let mut keep = redis::pipe();
        for (entry, fate) in entries {
            if let (Fate::Refused(refusal), Some(fields)) = (fate, &entry.fields) {
                let key = self.options.consumer_options.streams[entry.stream].refused_key();
                let add =
                    keep.cmd("XADD").arg(key).arg("MAXLEN").arg("~").arg(self.options.refused_max).arg("*");
                for (name, value) in refused_fields(&entry.id, refusal, fields) {
                    add.arg(name).arg(value);
                }
                add.ignore();
            }
        }
        if !keep.is_empty() {
            keep.exec(connection)?;
        }
        let mut acknowledge = redis::pipe();
        for (stream, key) in self.keys().enumerate() {
            let ids = entries.iter().filter(|(entry, _)| entry.stream == stream);
            let ids: Vec<&str> = ids.map(|(entry, _)| &*entry.id).collect();
            if !ids.is_empty() {
                acknowledge.cmd("XACK").arg(key).arg(&self.options.group).arg(ids).ignore();
            }
        }
        acknowledge.exec(connection)
    }

    fn look(&self, connection: &mut Connection) -> Result<(Option<u64>, u64), Failure> {
        let (mut lag, mut pending) = (Some(0_u64), 0);
        for key in self.keys() {
            let answer: Value = cmd("XINFO").arg("GROUPS").arg(key).query(connection)?;
            for group in list(answer) {
                let mut members = list(group).into_iter();
                let mut of: Vec<(String, Value)> = Vec::new();
                while let (Some(name), Some(value)) = (members.next().and_then(text), members.next()) {
                    of.push((name, value));
                }
                let number = |wanted: &str| {
                    of.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| match value {
                        Value::Int(number) => u64::try_from(*number).ok(),
                        _ => None,
                    })
                };
                let name =
                    of.iter().find(|(name, _)| name == "name").and_then(|(_, value)| text(value.clone()));
                if name.as_deref() == Some(&*self.options.group) {
                    lag = lag.zip(number("lag")).map(|(sum, lag)| sum + lag);
                    pending += number("pending").unwrap_or(0);
                }
            }
        }
        Ok((lag, pending))
    }

    fn tidy(&self, connection: &mut Connection) -> Result<(), Failure> {
        for key in self.keys() {
            let mut tidy = cmd("EVAL");
            tidy.arg(TIDY).arg(1).arg(key).arg(&self.options.group).arg(GONE_MS).arg(&self.options.consumer);
            match tidy.exec(connection) {
                // A server without scripts, or a user without the right to them: the names stay, which costs little.
                Err(error) if error.is_io_error() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl PublishRefusal {
    fn unknown() -> Self {
        Self {
            index: None,
            code: pulsewire_protocol::ErrorCode::OutcomeUnknown,
            detail: String::new(),
            retry_after: None,
        }
    }
}

/// An answer's items; none if it has none.
fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

/// Entries of a stream: each an id and its fields, or nothing where it was deleted.
fn entries_of(stream: usize, value: Value) -> Result<Vec<Entry>, Failure> {
    let entry = |value: Value| {
        let mut parts = match value {
            Value::Array(parts) => parts.into_iter(),
            // Redis 6.2 tells of a claimed entry that was deleted in this way, without its id.
            Value::Nil => return Ok(None),
            _ => return Err(strange()),
        };
        let id = parts.next().and_then(text).ok_or_else(strange)?;
        let fields = match parts.next() {
            Some(Value::Array(words)) => {
                let mut words = words.into_iter();
                let mut fields = Vec::with_capacity(words.len() / 2);
                while let Some(name) = words.next() {
                    let value = words.next().and_then(bytes).ok_or_else(strange)?;
                    fields.push((bytes(name).ok_or_else(strange)?, value));
                }
                Some(fields)
            }
            _ => None,
        };
        Ok(Some(Entry { stream, id, fields }))
    };
    list(value).into_iter().filter_map(|value| entry(value).transpose()).collect()
}

fn strange() -> Failure {
    Failure::from((redis::ErrorKind::UnexpectedReturnType, "not the answer that Redis gives"))
}
