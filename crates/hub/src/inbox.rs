//! Commands on their way to a shard.
//!
//! Anyone may push; the shard takes everything at once. A push wakes the shard only if it sleeps,
//! so a busy shard costs its publishers a short lock and no system call. The number of publications
//! waiting is bounded: publishers ask [`Inbox::has_room`] first and refuse what does not fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use pulsewire_bus::Publication;

use crate::Command;

/// The queue in front of one shard. `S` is what the network moves between shards: a socket.
pub struct Inbox<S> {
    queue: Mutex<Vec<Command<S>>>,
    publications: AtomicUsize,
    publications_max: usize,
    asleep: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl<S> Inbox<S> {
    /// An inbox that takes `publications_max` publications and calls `wake` when its shard sleeps.
    #[must_use]
    pub fn new(publications_max: usize, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            queue: Mutex::default(),
            publications: AtomicUsize::new(0),
            publications_max,
            asleep: AtomicBool::new(false),
            wake,
        }
    }

    /// Whether publications still fit. Concurrent publishers may overshoot by one request each.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.publications.load(Ordering::Relaxed) < self.publications_max
    }

    /// Queues a command.
    pub fn push(&self, command: Command<S>) {
        self.queue.lock().push(command);
        self.rouse();
    }

    /// Queues publications, in order.
    pub fn publish(&self, publications: &[Arc<Publication>]) {
        let mut queue = self.queue.lock();
        self.publications.fetch_add(publications.len(), Ordering::Relaxed);
        queue.extend(publications.iter().map(|publication| Command::Publish(publication.clone())));
        drop(queue);
        self.rouse();
    }

    fn rouse(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            (self.wake)();
        }
    }

    /// Swaps everything queued into `taken`, which must be empty. For the shard only.
    pub fn take(&self, taken: &mut Vec<Command<S>>) {
        debug_assert!(taken.is_empty(), "what was taken before has been dealt with");
        let mut queue = self.queue.lock();
        std::mem::swap(&mut *queue, taken);
        self.publications.store(0, Ordering::Relaxed);
    }

    /// Says that the shard is about to sleep. Returns `false` if something is queued already.
    pub fn sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let empty = self.queue.lock().is_empty();
        if !empty {
            self.asleep.store(false, Ordering::SeqCst);
        }
        empty
    }

    /// Says that the shard is awake.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}
