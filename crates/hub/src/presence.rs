//! Who is in which channel, on this node.
//!
//! One table for all shards: they report who comes, goes and points where, and are told what their
//! watchers have to hear. A telling is made once, at most every `presence_interval` for a channel, put into
//! the inbox of every shard that watches, and encoded there by whoever needs it first, once for each
//! encoding. The lock guards a few lines; nothing on the way of an event takes it, and a shard whose turn
//! comes while another tells goes on with its work.
//!
//! Several nodes: each keeps this table of its own sessions and merges those of the others into it ([`replica`]);
//! clients know the versions of the one node that tells them, and nothing else.

pub(crate) mod replica;
mod room;
mod rooms;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use pulsewire_bus::{Now, PresenceRules};
use pulsewire_protocol::{
    Answer, ChannelName, Encoding, Frame, Member, Presence as Told, PresenceChange, RequestId, SessionId,
};
use pulsewire_telemetry::{PresenceDrop, PresenceEvent, ShardMetrics};
use serde_json::value::RawValue;

use replica::{Replica, ReplicaOptions, ReplicaStatus, Said, Unheard};
pub(crate) use room::{Changes, Full, Placed};
use rooms::Rooms;

/// Rooms that one call of [`Presence::tick`] looks at; the others have their turn with the next.
const ROOMS_PER_TICK: usize = 64;

/// How somebody goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parting {
    /// For good: everybody is told.
    Left,
    /// Its connection broke: it may be back within the grace.
    Broke,
}

/// What shards are told of one channel: who came, who went, and, for those who need it, who is there.
#[derive(Debug)]
pub struct Notice {
    pub(crate) channel: ChannelName,
    pub(crate) serial: u64,
    pub(crate) version: u64,
    node: Arc<str>,
    changes: Option<Changes>,
    everybody: Option<Vec<Member>>,
    /// Changes and everybody, each in both encodings.
    frames: [OnceLock<Frame>; 4],
}

impl Notice {
    /// Whether there is a change to be told to those who know the version before.
    pub(crate) fn has_changes(&self) -> bool {
        self.changes.is_some()
    }

    /// The change, made on first need.
    pub(crate) fn changes(&self, encoding: Encoding) -> Option<Frame> {
        let Changes { joined, left, sessions, cursors } = self.changes.as_ref()?;
        let change = PresenceChange::Diff { joined, left, sessions, cursors };
        let frame = self.frames[encoding as usize].get_or_init(|| self.encode(change, None, encoding));
        Some(frame.clone())
    }

    /// Everybody who is there, made on first need.
    pub(crate) fn everybody(&self, encoding: Encoding) -> Option<Frame> {
        let change = PresenceChange::Snapshot(self.everybody.as_ref()?);
        let frame = self.frames[2 + encoding as usize].get_or_init(|| self.encode(change, None, encoding));
        Some(frame.clone())
    }

    /// Everybody, for one who has asked.
    pub(crate) fn answer(&self, id: &RequestId, encoding: Encoding) -> Option<Frame> {
        let change = PresenceChange::Snapshot(self.everybody.as_ref()?);
        Some(self.encode(change, Some(id), encoding))
    }

    fn encode(&self, change: PresenceChange<'_>, id: Option<&RequestId>, encoding: Encoding) -> Frame {
        let Self { channel, node, version, .. } = self;
        Answer::Presence(Told { channel, node, version: *version, change }).encode(id, encoding)
    }
}

/// Who is in a channel at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct PresenceSnapshot {
    /// The node that counts the versions.
    pub node: Arc<str>,
    /// The version that was told last. What is not told yet is contained already.
    pub version: u64,
    /// Everybody, by user.
    pub members: Vec<Member>,
}

/// The way to the shards' inboxes.
pub(crate) trait Shards: Send + Sync {
    /// Whether a shard can be told more.
    fn has_room(&self, shard: usize) -> bool;
    /// Tells a shard.
    fn tell(&self, shard: usize, notice: Arc<Notice>);
}

/// The rooms, and what other nodes say of them.
#[derive(Default)]
struct Table {
    rooms: Rooms,
    /// None while presence is not shared.
    replica: Option<Box<Replica>>,
}

impl Table {
    /// Writes down what others are to be told of what has changed.
    fn note(&mut self) {
        if let Some(replica) = &mut self.replica {
            replica.note(&mut self.rooms);
        }
    }
}

/// The presence of a node.
pub struct Presence {
    node: Arc<str>,
    table: Mutex<Table>,
    /// When a room wants to be looked at; `u64::MAX` if none does.
    due_ns: AtomicU64,
    shards: Box<dyn Shards>,
}

impl Presence {
    pub(crate) fn new(node: &str, shards: Box<dyn Shards>) -> Self {
        Self { node: node.into(), table: Mutex::default(), due_ns: AtomicU64::new(u64::MAX), shards }
    }

    fn with<T>(&self, then: impl FnOnce(&mut Rooms) -> T) -> T {
        let mut table = self.table.lock();
        let result = then(&mut table.rooms);
        table.note();
        self.plan(&table.rooms);
        result
    }

    fn plan(&self, rooms: &Rooms) {
        self.due_ns.store(rooms.due_ns().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A session of a user is there. Says whether that is new.
    pub(crate) fn join(
        &self,
        channel: &ChannelName,
        rules: PresenceRules,
        who: (&str, SessionId),
        now: Now,
    ) -> Result<bool, Full> {
        let joined = self.with(|rooms| rooms.with(channel, Some(rules), |room| room.join(who.0, who.1, now)));
        joined.expect("the room was made")
    }

    /// A session goes.
    pub(crate) fn part(&self, channel: &ChannelName, who: (&str, SessionId), how: Parting, now: Now) {
        self.with(|rooms| {
            rooms.with(channel, None, |room| match how {
                Parting::Left => room.leave(who.0, who.1),
                Parting::Broke => room.part(who.0, who.1, now),
            })
        });
    }

    /// A session puts its user's cursor somewhere, or takes it away.
    pub(crate) fn place(
        &self,
        channel: &ChannelName,
        who: (&str, SessionId),
        cursor: Option<Arc<RawValue>>,
        now: Now,
    ) -> Placed {
        let placed =
            self.with(|rooms| rooms.with(channel, None, |room| room.place(who.0, who.1, cursor, now)));
        placed.unwrap_or(Placed::NotThere)
    }

    /// A shard wants to hear of a channel from now on, beginning with everybody who is there. Returns the
    /// serial of the first notice that knows of everything up to now.
    pub(crate) fn watch(&self, channel: &ChannelName, rules: PresenceRules, shard: usize) -> u64 {
        self.with(|rooms| rooms.watch(channel, rules, shard))
    }

    /// A shard wants to hear of a channel no more.
    pub(crate) fn unwatch(&self, channel: &ChannelName, shard: usize) {
        self.with(|rooms| rooms.unwatch(channel, shard));
    }

    /// How long until a room wants to be looked at, in milliseconds; `None` if none does.
    pub(crate) fn wait_ms(&self, now: Now) -> Option<u64> {
        let due_ns = self.due_ns.load(Ordering::Relaxed);
        (due_ns != u64::MAX).then(|| due_ns.saturating_sub(now.mono_ns).div_ceil(1_000_000))
    }

    /// Tells what is due. Any shard may do it; one at a time does.
    pub(crate) fn tick(&self, now: Now, metrics: &ShardMetrics) {
        if self.due_ns.load(Ordering::Relaxed) > now.mono_ns {
            return;
        }
        let Some(mut table) = self.table.try_lock() else { return };
        let rooms = &mut table.rooms;
        for _ in 0..ROOMS_PER_TICK {
            let Some(telling) = rooms.settle(now) else { break };
            let Some(telling) = telling else { continue };
            if let Some(changes) = &telling.changes {
                metrics.presence_told(PresenceEvent::Joined, changes.joined.len() as u64);
                metrics.presence_told(PresenceEvent::Left, changes.left.len() as u64);
                metrics.presence_told(PresenceEvent::Cursor, changes.cursors.len() as u64);
            }
            let shards = telling.shards;
            let notice = Arc::new(Notice {
                channel: telling.channel,
                serial: telling.serial,
                version: telling.version,
                node: self.node.clone(),
                changes: telling.changes,
                everybody: telling.everybody,
                frames: Default::default(),
            });
            // Under the lock: every shard hears of the versions in their order.
            for shard in shards {
                if self.shards.has_room(shard) {
                    self.shards.tell(shard, notice.clone());
                } else {
                    metrics.presence_dropped(PresenceDrop::Lagging, 1);
                    rooms.missed(&notice.channel, shard);
                }
            }
        }
        table.note();
        self.plan(&table.rooms);
    }

    /// Who is in a channel.
    #[must_use]
    pub fn snapshot(&self, channel: &ChannelName) -> PresenceSnapshot {
        let (version, members) = self.table.lock().rooms.look(channel);
        PresenceSnapshot { node: self.node.clone(), version, members }
    }

    /// How many users are in a channel, on whatever node.
    #[must_use]
    pub fn present(&self, channel: &ChannelName) -> usize {
        self.table.lock().rooms.present(channel)
    }

    /// Channels with somebody in them, and the users in all of them, on whatever node.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        self.table.lock().rooms.count()
    }

    /// Channels with somebody of this node in them, and its users in all of them: what may be summed over nodes, in
    /// which a user who is on two of them counts twice.
    #[must_use]
    pub fn count_here(&self) -> (usize, usize) {
        self.table.lock().rooms.count_here()
    }

    /// Whether nobody is anywhere and nobody watches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.lock().rooms.is_empty()
    }

    /// Shares presence with other nodes from now on. Before this is called once, nothing is said, heard or kept for
    /// others; a second call changes nothing.
    pub fn replicate(&self, options: ReplicaOptions) {
        let mut table = self.table.lock();
        if table.replica.is_none() {
            table.rooms.share(&self.node, options.linger_ms);
            table.replica = Some(Box::new(Replica::new(self.node.clone(), options)));
            table.note();
        }
    }

    /// Does something with what is known of other nodes; none if presence is not shared. Whoever waits for the lock has
    /// it next.
    fn replica_with<T>(&self, then: impl FnOnce(&mut Rooms, &mut Replica) -> T) -> Option<T> {
        let mut table = self.table.lock();
        let Table { rooms, replica } = &mut *table;
        let result = then(rooms, replica.as_mut()?);
        table.note();
        self.plan(&table.rooms);
        MutexGuard::unlock_fair(table);
        Some(result)
    }

    /// What is to be said to other nodes now; `connected` says whether anybody could hear it. To be called about
    /// every 100 ms, and after [`Presence::hear`]: silence of others is counted, and rows of nodes that went are let
    /// go, in here. At most [`ReplicaOptions::bodies_max`] bodies of rows, a digest, and a question to each node.
    #[must_use]
    pub fn outgoing(&self, now: Now, connected: bool) -> Vec<Said> {
        let Some(mut speech) = self.replica_with(|_, replica| replica.begin(now, connected)) else {
            return Vec::new();
        };
        // The lock is let go of after each step.
        while self.replica_with(|rooms, replica| replica.go_on(rooms, now, &mut speech)) == Some(true) {}
        let body = |text| RawValue::from_string(text).expect("it was written as JSON");
        let said = speech.said.into_iter();
        said.map(|(to, text)| Said { to: to.map(|node| (&*node).into()), body: body(text) }).collect()
    }

    /// Another node said something.
    ///
    /// # Errors
    ///
    /// [`Unheard`] if it is not what a node says, or if it is one node too many; then nothing has changed.
    pub fn hear(&self, from: &str, body: &RawValue, now: Now) -> Result<(), Unheard> {
        replica::check_name(from)?;
        let reading = replica::read(body)?;
        self.replica_with(|rooms, replica| replica.hear(rooms, from, reading, now)).ok_or(Unheard::Alone)?
    }

    /// Another node said goodbye: whoever was there only is gone after the grace, unless it is back elsewhere.
    pub fn gone(&self, node: &str, now: Now) {
        self.replica_with(|_, replica| replica.gone(node, now));
    }

    /// How the sharing of presence goes; all zero while it is not shared.
    #[must_use]
    pub fn replica(&self) -> ReplicaStatus {
        self.replica_with(|_, replica| replica.status()).unwrap_or_default()
    }
}
