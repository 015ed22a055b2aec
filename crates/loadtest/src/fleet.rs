//! Subscribers and publishers on one target, and the book kept about them.
//!
//! Everything happens on the calling thread: [`Fleet::turn`] moves bytes and writes the book, the scenarios decide what
//! to send next. Events are stamped with the time they were *meant* to leave, so a generator or server that falls
//! behind shows as latency instead of hiding it (coordinated omission).

mod slow;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use pulsewire_protocol::CloseCode;

pub use slow::slow_readers;

use crate::history::{Reader, Verdict};
use crate::scan::{Seen, epoch, see};
use crate::swarm::{Note, Peer, Swarm};
use crate::target::Target;

/// How many connections are being made at the same time while a fleet gathers.
const GATHERING: usize = 256;
/// A message of about 256 bytes on the wire, as in the measurements of the design.
const PAD_BYTES: usize = 90;
/// Nothing a scenario waits for takes longer, unless the server lost something.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who takes part.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Connections with one subscription each.
    pub subscribers: usize,
    /// The channels they are spread over, evenly.
    pub channels: usize,
    /// Connections that publish; the bare loop needs none.
    pub publishers: usize,
}

/// What is known about the readers.
pub struct Book {
    origin: Instant,
    readers: Vec<Reader>,
    roles: Vec<Role>,
    /// Subscribers whose subscription the server confirmed.
    pub ready: usize,
    /// Other connections whose subscription the server confirmed.
    pub crowd: usize,
    /// From the connect to the confirmed subscription, in microseconds.
    pub greeting: Histogram<u64>,
    connecting: Vec<Instant>,
    /// Events that arrived at all subscribers together.
    pub delivered: u64,
    /// Answers to publishes.
    pub acks: u64,
    /// Answers to ping messages.
    pub pongs: u64,
    /// Refusals, with the first one's text.
    pub errors: (u64, String),
    /// Connections that ended, by close code.
    pub closed: BTreeMap<u16, u64>,
    /// The epoch of the first subscription's channel.
    pub epoch: String,
    /// Latencies in microseconds, when they are wanted.
    pub latency: Option<Histogram<u64>>,
    /// Arrivals of the publications that not everybody has yet, when they are wanted.
    pub window: Option<Window>,
}

/// Which publications have arrived everywhere.
#[derive(Debug, Default)]
pub struct Window {
    first: u64,
    arrivals: VecDeque<u32>,
    readers: u32,
    /// Publications that arrived everywhere.
    pub complete: u64,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Subscriber(usize),
    Publisher,
    Crowd,
    /// One that does not keep up, and that nobody counts.
    Slow,
    Gone,
}

/// Subscribers and publishers of one target.
pub struct Fleet<'t> {
    /// What carries the load.
    pub target: &'t mut Target,
    /// The connections.
    pub swarm: Swarm,
    /// What arrived.
    pub book: Book,
    plan: Plan,
    publishers: Vec<Peer>,
    next_publisher: usize,
    published: Vec<u64>,
    frame: String,
    slow: slow::SlowReaders,
}

impl<'t> Fleet<'t> {
    /// Connects and subscribes everybody.
    ///
    /// # Errors
    ///
    /// When a connection is refused or a subscription does not come about in time.
    pub fn gather(target: &'t mut Target, plan: Plan) -> anyhow::Result<Fleet<'t>> {
        Fleet::gather_at(target, plan, GATHERING)
    }

    /// As [`Fleet::gather`], with so many connections being made at the same time.
    ///
    /// # Errors
    ///
    /// As [`Fleet::gather`].
    pub fn gather_at(target: &'t mut Target, plan: Plan, gathering: usize) -> anyhow::Result<Fleet<'t>> {
        let swarm = Swarm::new(target.entry())?;
        let book = Book {
            origin: Instant::now(),
            readers: vec![Reader::default(); plan.subscribers],
            roles: Vec::with_capacity(plan.subscribers + plan.publishers),
            ready: 0,
            crowd: 0,
            greeting: Histogram::new_with_max(PATIENCE.as_micros() as u64, 3)?,
            connecting: Vec::with_capacity(plan.subscribers + plan.publishers),
            delivered: 0,
            acks: 0,
            pongs: 0,
            errors: (0, String::new()),
            closed: BTreeMap::new(),
            epoch: String::new(),
            latency: None,
            window: None,
        };
        let publishers = Vec::new();
        let published = vec![0; plan.channels];
        let (frame, slow) = (String::new(), slow::SlowReaders::default());
        let mut fleet =
            Fleet { target, swarm, book, plan, publishers, next_publisher: 0, published, frame, slow };
        for _ in 0..plan.publishers {
            fleet.book.roles.push(Role::Publisher);
            fleet.book.connecting.push(Instant::now());
            let peer = fleet.swarm.connect(&[r#"{"type":"connect","id":0}"#], None)?;
            fleet.publishers.push(peer);
        }
        fleet.arrive(gathering, None)?;
        fleet.book.roles.shrink_to_fit();
        let slow = slow_readers(fleet.target.slow_share, plan.subscribers);
        fleet.add_slow(slow)?;
        Ok(fleet)
    }

    /// Connects and subscribes everybody; `since` is the position behind which each wants to go on.
    fn arrive(&mut self, gathering: usize, since: Option<u64>) -> anyhow::Result<()> {
        let Plan { subscribers, channels, .. } = self.plan;
        let deadline = Instant::now() + PATIENCE;
        let mut begun = 0;
        while self.book.ready < subscribers {
            while begun < subscribers && begun - self.book.ready < gathering {
                self.subscriber(begun % channels, Role::Subscriber(begun), None, since)?;
                begun += 1;
            }
            self.turn(Instant::now() + Duration::from_millis(100))?;
            if let Some((code, count)) = self.book.closed.first_key_value() {
                let why = CloseCode::from_u16(*code)
                    .map_or_else(String::new, |known| format!(", {}: {}", known.name(), known.help()));
                bail!("{count} of {begun} connections ended with code {code} while subscribing{why}");
            }
            if self.book.errors.0 > 0 {
                bail!("the server refused a subscription: {}", self.book.errors.1);
            }
            if Instant::now() > deadline {
                bail!("only {} of {subscribers} subscribers are ready after {PATIENCE:?}", self.book.ready);
            }
        }
        Ok(())
    }

    /// Cuts off every subscriber at once.
    pub fn cut_off(&mut self) {
        for (peer, role) in self.book.roles.iter_mut().enumerate() {
            if matches!(role, Role::Subscriber(_)) {
                self.swarm.drop_peer(peer);
                *role = Role::Gone;
            }
        }
        self.book.ready = 0;
    }

    /// Everybody comes back, each going on behind a position of the only channel, from which `missed` events follow.
    ///
    /// # Errors
    ///
    /// As [`Fleet::gather`].
    pub fn come_back(&mut self, since: u64, missed: u64, gathering: usize) -> anyhow::Result<()> {
        self.published[0] = missed;
        self.arrive(gathering, Some(since))
    }

    /// Where the first subscriber's channel stands, as far as that one knows.
    pub fn position(&self) -> u64 {
        self.book.readers.first().map_or(0, Reader::last)
    }

    fn subscriber(
        &mut self,
        channel: usize,
        role: Role,
        receive_buffer_bytes: Option<usize>,
        since: Option<u64>,
    ) -> anyhow::Result<Peer> {
        let name = format!("\"project:bench-{channel}\"");
        let wanted = match since {
            None => name,
            Some(sequence) => format!(
                r#"{{"channel":{name},"since":{{"epoch":"{}","sequence":{sequence}}}}}"#,
                self.book.epoch
            ),
        };
        let hello =
            format!(r#"{{"type":"connect","id":0,"data":{{"subscribe":{{"channels":[{wanted}]}}}}}}"#);
        self.book.roles.push(role);
        self.book.connecting.push(Instant::now());
        self.swarm.connect(&[&hello], receive_buffer_bytes).context("no socket for another connection")
    }

    /// Adds a subscriber of the first channel that nobody counts and that can be stalled.
    ///
    /// # Errors
    ///
    /// When the kernel gives no socket.
    pub fn bystander(&mut self, receive_buffer_bytes: usize) -> anyhow::Result<Peer> {
        self.subscriber(0, Role::Publisher, Some(receive_buffer_bytes), None)
    }

    /// Moves bytes until something arrived, at most until `until`.
    ///
    /// # Errors
    ///
    /// When epoll fails.
    pub fn turn(&mut self, until: Instant) -> anyhow::Result<()> {
        self.tend_slow()?;
        let book = &mut self.book;
        Ok(self.swarm.turn(until, &mut |peer, note| book.note(peer, note))?)
    }

    /// Publishes `burst` events to a channel in one request, stamped with the time they were meant to leave.
    ///
    /// # Errors
    ///
    /// When the bare loop is gone.
    pub fn publish(&mut self, channel: usize, burst: usize, meant: Instant) -> anyhow::Result<()> {
        self.publish_padded(channel, burst, meant, PAD_BYTES)
    }

    /// As [`Fleet::publish`], with so many bytes of padding in each event.
    ///
    /// # Errors
    ///
    /// As [`Fleet::publish`].
    pub fn publish_padded(
        &mut self,
        channel: usize,
        burst: usize,
        meant: Instant,
        pad: usize,
    ) -> anyhow::Result<()> {
        use std::fmt::Write as _;
        let at = meant.saturating_duration_since(self.book.origin).as_nanos();
        self.published[channel] += burst as u64;
        if self.target.is_floor() {
            let how = if burst > 1 { "joined" } else { "single" };
            return self.target.order(&format!("{burst} {how} {at} {pad}\n"));
        }
        self.frame.clear();
        let frame = &mut self.frame;
        let padding = "x".repeat(pad);
        if burst == 1 {
            let _ = write!(
                frame,
                r#"{{"type":"publish","id":1,"channel":"project:bench-{channel}","event":"tick","data":{{"at":{at},"pad":"{padding}"}}}}"#
            );
        } else {
            frame.push_str(r#"{"type":"publish","id":1,"events":["#);
            for index in 0..burst {
                let comma = if index == 0 { "" } else { "," };
                let _ = write!(
                    frame,
                    r#"{comma}{{"channel":"project:bench-{channel}","type":"tick","data":{{"at":{at},"pad":"{padding}"}}}}"#
                );
            }
            frame.push_str("]}");
        }
        let peer = self.publishers[self.next_publisher % self.publishers.len()];
        self.next_publisher += 1;
        self.swarm.send(peer, &self.frame);
        Ok(())
    }

    /// Adds connections that each subscribe to a channel of their own, which nobody publishes to.
    ///
    /// # Errors
    ///
    /// As [`Fleet::gather`].
    pub fn crowd(&mut self, connections: usize) -> anyhow::Result<()> {
        let wanted = self.book.crowd + connections;
        let mut begun = 0;
        let deadline = Instant::now() + PATIENCE;
        while self.book.crowd < wanted {
            while begun < connections && begun < self.book.crowd + connections + GATHERING - wanted {
                self.subscriber(1_000_000 + begun, Role::Crowd, None, None)?;
                begun += 1;
            }
            self.turn(Instant::now() + Duration::from_millis(100))?;
            if !self.book.closed.is_empty() || Instant::now() > deadline {
                bail!("only {} of {connections} further connections came about", self.book.crowd);
            }
        }
        Ok(())
    }

    /// Ends a connection at once.
    pub fn drop_peer(&mut self, peer: Peer) {
        self.swarm.drop_peer(peer);
    }

    /// Moves bytes for so long.
    ///
    /// # Errors
    ///
    /// As [`Fleet::turn`].
    pub fn rest(&mut self, duration: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.turn(until)?;
        }
        Ok(())
    }

    /// Makes a connection stop or resume reading.
    pub fn stall(&mut self, peer: Peer, stalled: bool) {
        let book = &mut self.book;
        self.swarm.stall(peer, stalled, &mut |peer, note| book.note(peer, note));
    }

    /// Subscribers of each channel.
    pub fn readers_of_each(&self) -> usize {
        self.plan.subscribers / self.plan.channels
    }

    /// Sends a text message from a publisher.
    pub fn say(&mut self, publisher: usize, text: &str) {
        self.swarm.send(self.publishers[publisher], text);
    }

    /// Turns until `reached` holds.
    ///
    /// # Errors
    ///
    /// When that takes longer than anything should, or the server refuses a request meanwhile.
    pub fn until(&mut self, reached: impl Fn(&Book) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !reached(&self.book) {
            self.turn(Instant::now() + Duration::from_millis(200))?;
            if self.book.errors.0 > 0 {
                bail!("the server refused {} requests: {}", self.book.errors.0, self.book.errors.1);
            }
            if Instant::now() > deadline {
                bail!("{} events arrived, then nothing for {PATIENCE:?}", self.book.delivered);
            }
        }
        Ok(())
    }

    /// Publishes and waits until everybody has everything, `rounds` times.
    ///
    /// # Errors
    ///
    /// As [`Fleet::until`].
    pub fn lockstep(&mut self, rounds: usize, burst: usize) -> anyhow::Result<()> {
        let readers = self.readers_of_each() as u64;
        for round in 0..rounds {
            let delivered = self.book.delivered + readers * burst as u64;
            let acks = self.book.acks + u64::from(!self.target.is_floor());
            self.publish(round % self.plan.channels, burst, Instant::now())?;
            self.until(|book| book.delivered >= delivered && book.acks >= acks)?;
        }
        Ok(())
    }

    /// Counts which publications of the only channel arrive everywhere, from now on.
    pub fn open_window(&mut self) {
        let readers = self.plan.subscribers as u32;
        let first = self.book.readers.first().map_or(0, Reader::begun) + self.published[0] + 1;
        self.book.window = Some(Window { first, arrivals: VecDeque::new(), readers, complete: 0 });
    }

    /// The judgement of the history checker over all subscribers.
    pub fn verdict(&self) -> Verdict {
        let mut all = Verdict::default();
        for (index, reader) in self.book.readers.iter().enumerate() {
            // Everybody subscribed before the first publication.
            all += reader.finish(reader.begun() + self.published[index % self.plan.channels]);
        }
        all
    }
}

impl Book {
    fn note(&mut self, peer: Peer, note: Note<'_>) {
        match note {
            // Nothing a fleet subscribes to comes in binary.
            Note::Open | Note::Binary(_) | Note::RetryAfter(_) => {}
            // Being closed is what slow readers are for.
            Note::Closed(_) if matches!(self.roles[peer], Role::Slow) => {}
            Note::Closed(code) => *self.closed.entry(code).or_default() += 1,
            Note::Text(text) => self.text(peer, text),
        }
    }

    fn text(&mut self, peer: Peer, text: &[u8]) {
        let role = self.roles[peer];
        match (see(text), role) {
            (Seen::Event { sequence, previous, at_ns }, Role::Subscriber(index)) => {
                self.delivered += 1;
                if let Some(sequence) = sequence {
                    self.readers[index].event(sequence, previous);
                    if let Some(window) = &mut self.window {
                        window.arrived(sequence);
                    }
                }
                if let (Some(latency), Some(at_ns)) = (&mut self.latency, at_ns) {
                    let micros =
                        self.origin.elapsed().saturating_sub(Duration::from_nanos(at_ns)).as_micros();
                    latency.saturating_record(micros as u64);
                }
            }
            (Seen::Gap { to }, Role::Subscriber(index)) => self.readers[index].gap(to),
            (Seen::Subscribed { sequence }, Role::Subscriber(index)) => {
                if self.epoch.is_empty() {
                    self.epoch = epoch(text).unwrap_or_default();
                }
                self.readers[index] = Reader::after(sequence);
                self.ready += 1;
                self.greeting.saturating_record(self.connecting[peer].elapsed().as_micros() as u64);
            }
            (Seen::Subscribed { .. }, Role::Crowd) => self.crowd += 1,
            (Seen::Ack, _) => self.acks += 1,
            (Seen::Pong, _) => self.pongs += 1,
            (Seen::Error, Role::Slow) => {}
            (Seen::Error, _) => {
                self.errors.0 += 1;
                if self.errors.1.is_empty() {
                    self.errors.1 = String::from_utf8_lossy(text).into_owned();
                }
            }
            _ => {}
        }
    }
}

impl Window {
    fn arrived(&mut self, sequence: u64) {
        let Some(index) = sequence.checked_sub(self.first) else { return };
        let index = index as usize;
        if index >= self.arrivals.len() {
            self.arrivals.resize(index + 1, 0);
        }
        self.arrivals[index] += 1;
        while self.arrivals.front().is_some_and(|arrived| *arrived >= self.readers) {
            self.arrivals.pop_front();
            self.first += 1;
            self.complete += 1;
        }
    }
}
