//! The threads of the shards, and the way in.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use mio::{Poll, Waker};
use parking_lot::Mutex;
use pulsewire_hub::{Admission, Arrival, Command, Hub, Inbox, Ledger, Shard, ShardOptions};

use crate::codec::Limits;
use crate::shard_loop::{ShardLoop, WAKER};
use crate::sockets::{Carrier, Sockets};

/// What the shards are made of.
#[derive(Debug, Clone)]
pub struct EdgeOptions {
    /// How many shards, at least 1 and at most 255; the gateway's default is one for each core.
    pub shards: usize,
    /// Publications that may wait in front of a shard. Default 65,536; publishers are refused beyond.
    pub inbox_max: usize,
    /// Closed connections that are remembered. Default 10,000.
    pub ledger_max: usize,
    /// Bounds of what a peer may send.
    pub limits: Limits,
    /// Names this node and its incarnation to clients; letters and digits.
    pub node: String,
}

/// Shards that have inboxes but no threads yet: what is needed to build the bus.
pub struct Prepared {
    polls: Vec<Poll>,
    inboxes: Arc<[Inbox<Carrier>]>,
    options: EdgeOptions,
    /// The handle of the hub to be.
    pub hub: Hub<Carrier>,
}

impl Prepared {
    /// Makes the shards' polls and inboxes.
    ///
    /// # Errors
    ///
    /// If the system gives no epoll instance or event descriptor.
    pub fn new(options: EdgeOptions, admission: Arc<Admission>) -> io::Result<Self> {
        let mut polls = Vec::with_capacity(options.shards);
        let mut inboxes = Vec::with_capacity(options.shards);
        for _ in 0..options.shards {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKER)?;
            let wake = Box::new(move || {
                if let Err(error) = waker.wake() {
                    tracing::error!(%error, "a shard could not be woken");
                }
            });
            inboxes.push(Inbox::new(options.inbox_max, wake));
            polls.push(poll);
        }
        let inboxes: Arc<[_]> = inboxes.into();
        let ledger = Arc::new(Ledger::new(options.ledger_max));
        let hub = Hub::new(inboxes.clone(), admission, ledger, &options.node);
        Ok(Self { polls, inboxes, options, hub })
    }
}

/// The running shards.
pub struct Edge {
    hub: Hub<Carrier>,
    threads: Mutex<Vec<JoinHandle<io::Result<()>>>>,
    stop: Arc<AtomicBool>,
    load: Arc<[AtomicUsize]>,
    next: AtomicUsize,
}

impl Edge {
    /// Starts a thread for each shard; `make` gives each its parts.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub fn start(prepared: Prepared, make: impl Fn(usize) -> ShardOptions) -> io::Result<Self> {
        let Prepared { polls, inboxes, options, hub } = prepared;
        let stop = Arc::new(AtomicBool::new(false));
        let load: Arc<[AtomicUsize]> = polls.iter().map(|_| AtomicUsize::new(0)).collect();
        let mut threads = Vec::with_capacity(polls.len());
        for (index, poll) in polls.into_iter().enumerate() {
            let sockets = Sockets::new(index, poll.registry().try_clone()?, inboxes.clone(), load.clone());
            let shard_options = make(index);
            let (inbox, limits, stop) = (inboxes.clone(), options.limits, stop.clone());
            let name = format!("shard-{index}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || {
                let shard = Shard::new(sockets, shard_options);
                ShardLoop { shard, poll, inbox, index, limits, stop }.run()
            })?);
        }
        Ok(Self { hub, threads: Mutex::new(threads), stop, load, next: AtomicUsize::new(0) })
    }

    /// The handle through which the shards are told things.
    #[must_use]
    pub fn hub(&self) -> &Hub<Carrier> {
        &self.hub
    }

    /// Gives a connection to a shard: that of its session, else the less loaded of two.
    pub fn attach(&self, carrier: Carrier, arrival: Arrival) {
        let shards = self.load.len();
        let shard = match arrival.session.map(|session| usize::from(session.shard())) {
            Some(shard) if shard < shards => shard,
            _ => {
                let first = self.next.fetch_add(1, Ordering::Relaxed) % shards;
                let second = (first + 1 + first / 2) % shards;
                let load = |shard: usize| self.load[shard].load(Ordering::Relaxed);
                if load(second) < load(first) { second } else { first }
            }
        };
        self.load[shard].fetch_add(1, Ordering::Relaxed);
        self.hub.tell(shard, Command::Arrive(carrier, Box::new(arrival)));
    }

    /// The name of a shard's thread that has ended though nobody stopped it: its connections are gone, and nobody
    /// takes what is given to it.
    #[must_use]
    pub fn fallen(&self) -> Option<String> {
        fallen(&self.threads.lock())
    }

    /// Ends the threads, dropping every connection that is left, and waits for them.
    ///
    /// # Errors
    ///
    /// The first error with which a shard ended.
    pub fn stop(&self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.hub.survey(|| Box::new(|_| ()));
        let mut result = Ok(());
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a shard panicked")));
            result = result.and(ended);
        }
        result
    }
}

/// The name of the first of these threads that has ended.
#[must_use]
pub fn fallen<T>(threads: &[JoinHandle<T>]) -> Option<String> {
    let fallen = threads.iter().find(|thread| thread.is_finished())?;
    Some(fallen.thread().name().unwrap_or("without a name").to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_panics_is_named_and_those_that_work_are_not() {
        let (work, wait) = mpsc::channel::<()>();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run).unwrap()
        };
        let working = spawn("works", Box::new(move || wait.recv().unwrap_or_default()));
        let mut threads = vec![working];
        assert_eq!(fallen(&threads), None);
        threads.push(spawn("falls", Box::new(|| panic!("on purpose"))));
        while !threads[1].is_finished() {
            std::thread::yield_now();
        }
        assert_eq!(fallen(&threads).as_deref(), Some("falls"));
        drop(work);
    }
}
