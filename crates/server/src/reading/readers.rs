//! Who reads over HTTP, and how they hear that there is something to read.
//!
//! All HTTP readers of the node are one part of the bus's audience. Their channels are rooms; a publication
//! marks its room and rings a bell, nothing more, and one task wakes the room's readers, once for however many
//! publications came meanwhile. Readers of `log` channels then read by cursor. Those of other kinds read a tail
//! that all readers of the room share, bounded in bytes: a reader behind it is told how much it missed.
//!
//! A reader has a seat from before it looks where the channel stands until it is dropped, so there is no hole at
//! the seam. Seats are counted like connections, by node, address and user, and are bounded themselves.

mod listing;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use pulsewire_bus::{Channel, ChannelId, ChannelKind, Publication};
use pulsewire_edge::{Carrier, clock};
use pulsewire_hub::{Admission, Drain, Hub, Now, Principal, Refused, Target};
use pulsewire_protocol::{ChannelName, CloseCode, ErrorCode};
use pulsewire_telemetry::{Codec, Current, RejectReason, RejectStage, Telemetry, Transport};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot, watch};

use super::fallbacks::Fallbacks;
use crate::http::problem::Problem;
pub use listing::{Peer, Sent};

/// How much the readers may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Reads of history at the same time.
    pub reads: usize,
    /// Bytes of a room's tail.
    pub tail_bytes: usize,
    /// Sessions that are remembered to have fallen back.
    pub fallbacks: usize,
}

/// The readers of a node.
pub struct Readers {
    rooms: RwLock<HashMap<ChannelId, Arc<Room>>>,
    seats: Mutex<Seats>,
    /// Rooms in which something happened of which their readers have not heard.
    marked: Mutex<Vec<Arc<Room>>>,
    bell: Notify,
    drain: watch::Sender<Option<Drain>>,
    reads: Semaphore,
    reads_waiting: AtomicUsize,
    bounds: Bounds,
    random: Mutex<Box<dyn FnMut() -> u64 + Send>>,
    /// Who fell back to HTTP.
    pub fallbacks: Fallbacks,
}

#[derive(Default)]
struct Seats {
    taken: HashMap<u64, Taken>,
    made: u64,
}

/// What is known of a seat.
struct Taken {
    transport: Transport,
    user: Box<str>,
    token_id: Option<Box<str>>,
    peer: Peer,
    channel: ChannelName,
    since: Now,
    sent: Arc<Sent>,
    kick: Option<oneshot::Sender<CloseCode>>,
}

/// A channel with readers.
struct Room {
    channel: Arc<Channel>,
    /// Whether something happened since the readers were woken.
    marked: AtomicBool,
    moved: watch::Sender<()>,
    seats: AtomicUsize,
    tail: Mutex<Tail>,
}

/// The newest publications of a channel that keeps none, counted from 1.
#[derive(Default)]
struct Tail {
    recent: VecDeque<Arc<Publication>>,
    bytes: usize,
    count: u64,
}

impl Tail {
    fn push(&mut self, publication: &Arc<Publication>, bytes_max: usize) {
        self.count += 1;
        self.bytes += publication.bytes();
        self.recent.push_back(publication.clone());
        while self.bytes > bytes_max && self.recent.len() > 1 {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
    }
}

/// Who wants to read.
pub struct Guest<'a> {
    /// How.
    pub transport: Transport,
    /// Who it is.
    pub principal: &'a Principal,
    /// From where.
    pub peer: &'a Peer,
    /// How many readers there may be.
    pub readers_max: usize,
}

impl Readers {
    /// No readers yet.
    #[must_use]
    pub fn new(bounds: Bounds, random: Box<dyn FnMut() -> u64 + Send>) -> Self {
        Self {
            rooms: RwLock::default(),
            seats: Mutex::default(),
            marked: Mutex::default(),
            bell: Notify::new(),
            drain: watch::Sender::new(None),
            reads: Semaphore::new(bounds.reads),
            reads_waiting: AtomicUsize::new(0),
            bounds,
            random: Mutex::new(random),
            fallbacks: Fallbacks::new(bounds.fallbacks),
        }
    }

    /// Wakes readers until `stop` changes.
    pub async fn serve(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = self.bell.notified() => {}
                _ = stop.changed() => return,
            }
            for room in std::mem::take(&mut *self.marked.lock()) {
                // Before the readers look: what comes from now on marks the room again.
                room.marked.store(false, Ordering::SeqCst);
                room.moved.send_replace(());
            }
        }
    }

    /// Gives a reader its seat, which ends when it is dropped.
    ///
    /// # Errors
    ///
    /// `overloaded` if there are too many readers, or too many connections of the node, the address or the user.
    pub fn sit(
        self: &Arc<Self>,
        channel: &Arc<Channel>,
        guest: &Guest<'_>,
        admission: &Arc<Admission>,
        telemetry: &Telemetry,
    ) -> Result<Seat, Problem> {
        let refuse = |reason, detail: &str| {
            telemetry.shared().rejected(RejectStage::Handshake, reason);
            Err(Problem::new(ErrorCode::Overloaded, detail))
        };
        let Guest { transport, principal, peer, readers_max } = *guest;
        let address = peer.remote.ip();
        match admission.connect(address) {
            Ok(()) => {}
            Err(Refused::Address) => {
                return refuse(RejectReason::AddressLimit, "too many connections from your address");
            }
            Err(Refused::Node | Refused::User) => {
                let detail = "the server has all the connections it takes";
                return refuse(RejectReason::ConnectionLimit, detail);
            }
        }
        if admission.enter(&principal.sub).is_err() {
            admission.disconnect(address);
            return refuse(RejectReason::UserLimit, "you have too many connections; close one of them");
        }
        let (kick, kicked) = oneshot::channel();
        let sent = Arc::<Sent>::default();
        let taken = Taken {
            transport,
            user: principal.sub.clone(),
            token_id: principal.token_id.clone(),
            peer: peer.clone(),
            channel: channel.name.clone(),
            since: clock::now(),
            sent: sent.clone(),
            kick: Some(kick),
        };
        let mut seats = self.seats.lock();
        if seats.taken.len() >= readers_max {
            drop(seats);
            admission.leave(&principal.sub);
            admission.disconnect(address);
            return refuse(RejectReason::Overloaded, "the server has all the HTTP readers it takes");
        }
        seats.made += 1;
        let id = seats.made;
        seats.taken.insert(id, taken);
        drop(seats);
        let (room, moved) = self.enter(channel);
        let user = principal.sub.clone();
        let (readers, admission) = (self.clone(), admission.clone());
        let drain = self.drain.subscribe();
        Ok(Seat { readers, admission, id, user, address, room, moved, kicked, drain, sent })
    }

    fn enter(&self, channel: &Arc<Channel>) -> (Arc<Room>, watch::Receiver<()>) {
        let mut rooms = self.rooms.write();
        let room = rooms.entry(channel.id).or_insert_with(|| {
            Arc::new(Room {
                channel: channel.clone(),
                marked: AtomicBool::new(false),
                moved: watch::Sender::new(()),
                seats: AtomicUsize::new(0),
                tail: Mutex::default(),
            })
        });
        room.seats.fetch_add(1, Ordering::Relaxed);
        let moved = room.moved.subscribe();
        let room = room.clone();
        drop(rooms);
        // The reader is in the room before it is counted, so whatever is delivered finds the room.
        channel.listen(part_of(channel));
        (room, moved)
    }

    /// Hears of a channel as a reader does, without a seat: for what in the server itself follows a channel.
    #[must_use]
    pub fn attend(self: &Arc<Self>, channel: &Arc<Channel>) -> Attendance {
        let (room, moved) = self.enter(channel);
        Attendance { readers: self.clone(), room, moved }
    }

    fn leave(&self, room: &Arc<Room>) {
        room.channel.unlisten(part_of(&room.channel));
        let mut rooms = self.rooms.write();
        if room.seats.fetch_sub(1, Ordering::Relaxed) == 1 {
            rooms.remove(&room.channel.id);
        }
    }

    /// Publications of one channel, in order. Called under the channel's lock.
    fn deliver(&self, publications: &[Arc<Publication>]) {
        let Some(first) = publications.first() else { return };
        let Some(room) = self.rooms.read().get(&first.channel.id).cloned() else { return };
        if room.channel.kind != ChannelKind::Log {
            let mut tail = room.tail.lock();
            publications.iter().for_each(|publication| tail.push(publication, self.bounds.tail_bytes));
        }
        self.mark(room);
    }

    fn replaced(&self, channel: &Channel) {
        if let Some(room) = self.rooms.read().get(&channel.id).cloned() {
            self.mark(room);
        }
    }

    fn mark(&self, room: Arc<Room>) {
        if !room.marked.swap(true, Ordering::SeqCst) {
            self.marked.lock().push(room);
            self.bell.notify_one();
        }
    }

    /// Leave to read history; it waits its turn.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(permit) = self.reads.try_acquire() {
            return Some(permit);
        }
        let _waiting = Waiting::new(&self.reads_waiting);
        self.reads.acquire().await.ok()
    }

    /// Ends readers. Returns how many there were.
    pub fn close(&self, target: &Target, code: CloseCode) -> usize {
        let meant = |taken: &Taken| match target {
            // A session has connections of a shard; a reader has none.
            Target::Session(_) => false,
            Target::User(user) => taken.user == *user,
            Target::Token(id) => taken.token_id.as_ref() == Some(id),
            Target::Address(address) => taken.peer.remote.ip() == *address,
        };
        let mut seats = self.seats.lock();
        let kicks =
            seats.taken.values_mut().filter(|taken| meant(taken)).filter_map(|taken| taken.kick.take());
        // A reader that is leaving already has no need to hear it.
        kicks.map(|kick| kick.send(code).is_ok()).filter(|told| *told).count()
    }

    /// Sends everybody away.
    pub fn drain(&self, drain: Option<Drain>) {
        self.drain.send_replace(drain);
    }

    /// A number from 0 up to, not including, `below`; 0 if that is 0.
    pub fn random(&self, below: u64) -> u64 {
        (self.random.lock())().checked_rem(below).unwrap_or(0)
    }

    /// Adds the readers to what there is now.
    pub fn survey(&self, current: &mut Current) {
        let now = clock::now();
        for taken in self.seats.lock().taken.values() {
            current.connection(
                taken.transport,
                Codec::Json,
                1,
                0,
                now.since_ns(taken.since.mono_ns) / 1_000_000,
            );
            current.subscriptions += 1;
            if let Some(project) = project(&taken.channel) {
                current.subscriptions_by_project.push((project, 1));
            }
        }
        current.history_reads_active += (self.bounds.reads - self.reads.available_permits()) as u64;
        current.history_reads_waiting += self.reads_waiting.load(Ordering::Relaxed) as u64;
    }
}

/// The readers' part of a channel's audience: the last.
fn part_of(channel: &Channel) -> usize {
    channel.parts() - 1
}

fn project(channel: &ChannelName) -> Option<String> {
    (channel.prefix() == Some("project")).then(|| channel.key().to_owned())
}

/// Counts one who waits, as long as it lives.
struct Waiting<'c>(&'c AtomicUsize);

impl<'c> Waiting<'c> {
    fn new(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A reader's place in a room.
pub struct Seat {
    readers: Arc<Readers>,
    admission: Arc<Admission>,
    id: u64,
    user: Box<str>,
    address: IpAddr,
    room: Arc<Room>,
    moved: watch::Receiver<()>,
    kicked: oneshot::Receiver<CloseCode>,
    /// What the reader was told.
    pub sent: Arc<Sent>,
    drain: watch::Receiver<Option<Drain>>,
}

/// What a reader was woken by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Something happened in its channel.
    Moved,
    /// It is sent away.
    Kicked(CloseCode),
    /// The server is going away.
    Drained(Drain),
}

impl Seat {
    /// Whatever happens after this call ends the next [`Seat::woken`]. Call it before reading.
    pub fn look(&mut self) {
        self.moved.mark_unchanged();
    }

    /// Waits until something happens.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn woken(&mut self) -> Woken {
        let drained =
            async |drain: &mut watch::Receiver<Option<Drain>>| match drain.wait_for(Option::is_some).await {
                Ok(plan) => *plan,
                Err(_) => None,
            };
        tokio::select! {
            biased;
            Ok(code) = &mut self.kicked => Woken::Kicked(code),
            Some(plan) = drained(&mut self.drain) => Woken::Drained(plan),
            Ok(()) = self.moved.changed() => Woken::Moved,
            else => std::future::pending().await,
        }
    }

    /// Moves to the room of another channel: the one that took the name of this one.
    pub fn follow(&mut self, channel: &Arc<Channel>) {
        let (room, moved) = self.readers.enter(channel);
        self.readers.leave(&self.room);
        (self.room, self.moved) = (room, moved);
    }

    /// How many publications the tail has seen; a reader that begins now begins behind them.
    #[must_use]
    pub fn tail_count(&self) -> u64 {
        self.room.tail.lock().count
    }

    /// The publication behind the first `seen` that the tail still holds, and how many it holds no more before it.
    #[must_use]
    pub fn tail_next(&self, seen: u64) -> Option<(Arc<Publication>, u64)> {
        let tail = self.room.tail.lock();
        let first = tail.count - tail.recent.len() as u64;
        let skip = usize::try_from(seen.saturating_sub(first)).ok()?;
        tail.recent.get(skip).map(|next| (next.clone(), first.saturating_sub(seen)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.readers.leave(&self.room);
        self.readers.seats.lock().taken.remove(&self.id);
        self.admission.leave(&self.user);
        self.admission.disconnect(self.address);
    }
}

/// The place in a room of what follows a channel inside the server. It ends when it is dropped.
pub struct Attendance {
    readers: Arc<Readers>,
    room: Arc<Room>,
    moved: watch::Receiver<()>,
}

impl Attendance {
    /// Whatever happens after this call ends the next [`Attendance::moved`]. Call it before reading.
    pub fn look(&mut self) {
        self.moved.mark_unchanged();
    }

    /// Waits until something happens in the channel.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn moved(&mut self) {
        if self.moved.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Moves to the room of the channel that took the name of this one.
    pub fn follow(&mut self, channel: &Arc<Channel>) {
        let (room, moved) = self.readers.enter(channel);
        self.readers.leave(&self.room);
        (self.room, self.moved) = (room, moved);
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.readers.leave(&self.room);
    }
}

/// Who hears of publications: the shards and, behind them, the readers.
pub struct Audience {
    /// The shards.
    pub hub: Hub<Carrier>,
    /// The readers.
    pub readers: Arc<Readers>,
}

impl pulsewire_bus::Audience for Audience {
    fn has_room(&self, part: usize) -> bool {
        // A room is marked or not: readers never fill up.
        part >= self.hub.shards() || self.hub.has_room(part)
    }

    fn deliver(&self, part: usize, publications: &[Arc<Publication>]) {
        if part < self.hub.shards() {
            self.hub.deliver(part, publications);
        } else {
            self.readers.deliver(publications);
        }
    }

    fn replaced(&self, part: usize, channel: &Arc<Channel>) {
        if part < self.hub.shards() {
            self.hub.replaced(part, channel);
        } else {
            self.readers.replaced(channel);
        }
    }
}
