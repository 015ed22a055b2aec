//! What the rest of the process may ask of the hub.
//!
//! A handle is cheap to clone. It can queue something for a shard and nothing else; answers come
//! through the [`Reply`] that goes along.

use std::sync::Arc;

use pulsewire_bus::{Audience, Channel, Publication};
use pulsewire_protocol::CloseCode;
use pulsewire_telemetry::Current;

use crate::command::{Order, Target};
use crate::presence::Shards;
use crate::{Admission, Command, ConnectionInfo, Drain, HubSettings, Inbox, Ledger, Notice, Presence, Reply};

/// The hub of one process: its shards' inboxes and the tables they share.
pub struct Hub<S> {
    inboxes: Arc<[Inbox<S>]>,
    /// How many connections there are, and how many there may be.
    pub admission: Arc<Admission>,
    /// The connections that closed.
    pub ledger: Arc<Ledger>,
    /// Who is in which channel.
    pub presence: Arc<Presence>,
}

impl<S> Clone for Hub<S> {
    fn clone(&self) -> Self {
        Self {
            inboxes: self.inboxes.clone(),
            admission: self.admission.clone(),
            ledger: self.ledger.clone(),
            presence: self.presence.clone(),
        }
    }
}

impl<S: Send + 'static> Hub<S> {
    /// A hub whose shards read these inboxes. `node` names it, and its incarnation, where it counts versions.
    #[must_use]
    pub fn new(inboxes: Arc<[Inbox<S>]>, admission: Arc<Admission>, ledger: Arc<Ledger>, node: &str) -> Self {
        let presence = Arc::new(Presence::new(node, Box::new(inboxes.clone())));
        Self { inboxes, admission, ledger, presence }
    }
}

impl<S: Send> Hub<S> {
    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// Queues a command for a shard.
    pub fn tell(&self, shard: usize, command: Command<S>) {
        self.inboxes[shard].push(command);
    }

    /// Queues an order for a shard.
    pub fn order(&self, shard: usize, order: Order) {
        self.tell(shard, Command::Order(order));
    }

    /// Counts everything; `reply` is called once for each shard.
    pub fn survey(&self, mut reply: impl FnMut() -> Reply<Current>) {
        (0..self.shards()).for_each(|shard| self.order(shard, Order::Survey(reply())));
    }

    /// Lists connections and detached sessions; `reply` is called once for each shard.
    pub fn list(&self, mut reply: impl FnMut() -> Reply<Vec<ConnectionInfo>>) {
        (0..self.shards()).for_each(|shard| self.order(shard, Order::List(reply())));
    }

    /// Ends connections; `reply` is called once for each shard with the number of closed ones.
    pub fn close(&self, target: &Target, code: CloseCode, mut reply: impl FnMut() -> Reply<usize>) {
        for shard in 0..self.shards() {
            self.order(shard, Order::Close { target: target.clone(), code, reply: reply() });
        }
    }

    /// Sends everybody away, spread over the plan's time.
    pub fn drain(&self, drain: Drain) {
        (0..self.shards()).for_each(|shard| self.order(shard, Order::Drain(drain)));
    }

    /// Takes clients in again; whoever was told to leave leaves all the same.
    pub fn undrain(&self) {
        (0..self.shards()).for_each(|shard| self.order(shard, Order::Undrain));
    }

    /// Replaces the settings in all shards.
    pub fn configure(&self, settings: &Arc<HubSettings>) {
        (0..self.shards()).for_each(|shard| self.order(shard, Order::Settings(settings.clone())));
    }
}

impl<S: Send> Shards for Arc<[Inbox<S>]> {
    fn has_room(&self, shard: usize) -> bool {
        self[shard].has_room()
    }

    fn tell(&self, shard: usize, notice: Arc<Notice>) {
        self[shard].push(Command::Order(Order::Presence(notice)));
    }
}

impl<S: Send> Audience for Hub<S> {
    fn has_room(&self, shard: usize) -> bool {
        self.inboxes[shard].has_room()
    }

    fn deliver(&self, shard: usize, publications: &[Arc<Publication>]) {
        self.inboxes[shard].publish(publications);
    }

    fn replaced(&self, shard: usize, channel: &Arc<Channel>) {
        self.order(shard, Order::Replaced(channel.clone()));
    }
}
