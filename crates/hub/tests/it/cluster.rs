//! Several nodes with shards, clients and a hostile network each, one store, and a broker between them that loses,
//! repeats and reorders: what each client hears is held against what really was published, wherever it was.
//!
//! `bus/tests/it/cluster.rs` does the same for the bus alone, with stores that fail; here everything a client can
//! ask for of a channel is asked of nodes of which none has published all of it: critical replays, the keyed state,
//! filters, tight outboxes, sessions that break, positions that another node gave.

mod scenes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use pulsewire_bus::store::{
    Batch, Decision, Extent, Failure, Query, ReadLimit, Retention, StateSlice, StoreError, StoredPage,
};
use pulsewire_bus::{Broker, Hint, MemoryStore, Mutant, Store};
use pulsewire_protocol::{ChannelName, Epoch};

use crate::hostile::{number, report, seeds};
use crate::sim::chaos::{self, Twist};
use crate::sim::client::Client;
use crate::sim::rng::Rng;
use crate::sim::world::{EPOCH, Place, World};

const NODES: usize = 3;

/// Hints on their way: to which node, and what.
type Hints = Arc<Mutex<Vec<(usize, Hint)>>>;

struct Network {
    from: usize,
    hints: Hints,
}

impl Broker for Network {
    fn announce(&self, hint: &Hint) {
        let others = (0..NODES).filter(|node| *node != self.from);
        self.hints.lock().extend(others.map(|node| (node, hint.clone())));
    }
}

/// A store that several nodes share, and that cannot be read now and then.
struct Shared {
    memory: Mutex<MemoryStore>,
    rng: Mutex<Rng>,
    healthy: AtomicBool,
    /// An event that is not there any more.
    lost: AtomicU64,
}

impl Shared {
    fn reached(&self) -> Result<(), StoreError> {
        let fails = !self.healthy.load(Ordering::Relaxed) && self.rng.lock().chance(6);
        if fails { Err(StoreError::new(Failure::Unreachable, "chance")) } else { Ok(()) }
    }

    /// The same events are a history of their own from now on: nobody can know that they are the same.
    fn fail_over(&self, epoch: &str) {
        let mut memory = self.memory.lock();
        *memory = memory.copy(Epoch::parse(epoch).expect("an epoch"));
    }
}

impl Store for Shared {
    fn name(&self) -> &'static str {
        "shared"
    }
    fn epoch(&self) -> Epoch {
        self.memory.lock().epoch()
    }
    fn is_shared(&self) -> bool {
        true
    }
    fn extents(&self, channels: &[ChannelName]) -> Result<Vec<Extent>, StoreError> {
        self.reached()?;
        self.memory.lock().extents(channels)
    }
    fn commit(&self, batch: &Batch) -> Result<Vec<Decision>, StoreError> {
        self.memory.lock().commit(batch)
    }
    fn read(&self, channel: &ChannelName, query: &Query) -> Result<StoredPage, StoreError> {
        self.reached()?;
        let mut page = self.memory.lock().read(channel, query)?;
        page.events.retain(|(sequence, _)| sequence.0 != self.lost.load(Ordering::Relaxed));
        Ok(page)
    }
    fn state(
        &self,
        channel: &ChannelName,
        after: Option<&str>,
        limit: ReadLimit,
    ) -> Result<StateSlice, StoreError> {
        self.reached()?;
        self.memory.lock().state(channel, after, limit)
    }
    fn trim(&self, channel: &ChannelName, retention: &Retention, now_ms: i64) -> Result<Extent, StoreError> {
        self.memory.lock().trim(channel, retention, now_ms)
    }
}

/// How much happened, so that a run in which nothing does is noticed.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    events: u64,
    hints_lost: u64,
    crashes: u64,
    moves: u64,
    /// Sessions that went with their clients.
    sessions: u64,
    failovers: u64,
}

struct Cluster {
    seed: u64,
    twist: Twist,
    rng: Rng,
    nodes: Vec<World>,
    store: Arc<Shared>,
    hints: Hints,
    starts: u64,
    tally: Tally,
    faults: Vec<String>,
}

impl Cluster {
    fn new(seed: u64, twist: Twist) -> Self {
        let mut rng = Rng::new(seed ^ 0xC1C1);
        let store = Arc::new(Shared {
            memory: Mutex::new(MemoryStore::new(Epoch::parse(EPOCH).expect("an epoch"), 1_000)),
            rng: Mutex::new(rng.fork()),
            healthy: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        });
        let (hints, nodes, starts) = (Hints::default(), Vec::new(), 0);
        let (tally, faults) = (Tally::default(), Vec::new());
        let mut cluster = Self { seed, twist, rng, nodes, store, hints, starts, tally, faults };
        for number in 0..NODES {
            let node = cluster.start(number);
            cluster.nodes.push(node);
        }
        cluster
    }

    /// A node begins, with nobody connected. All are made alike but for what happens to them.
    fn start(&mut self, number: usize) -> World {
        self.starts += 1;
        let place = Place {
            number,
            nodes: NODES,
            incarnation: self.starts * 77_777_777,
            store: self.store.clone(),
            broker: Arc::new(Network { from: number, hints: self.hints.clone() }),
        };
        let mut node = chaos::world_at(self.seed, self.twist, Some(place));
        node.rng = self.rng.fork();
        node
    }

    /// Everybody knows what was published anywhere.
    fn share_the_truth(&mut self) {
        let longest = |channel: &String| {
            let logs = self.nodes.iter().filter_map(|node| node.truth.log.get(channel));
            logs.max_by_key(|log| log.len()).cloned().unwrap_or_default()
        };
        let channels: std::collections::BTreeSet<String> =
            self.nodes.iter().flat_map(|node| node.truth.log.keys().cloned()).collect();
        let logs: Vec<_> = channels.into_iter().map(|channel| (longest(&channel), channel)).collect();
        for node in &mut self.nodes {
            for (log, channel) in &logs {
                let known = node.truth.log.entry(channel.clone()).or_default();
                if known.len() < log.len() {
                    known.extend_from_slice(&log[known.len()..]);
                }
            }
        }
    }

    fn advance(&mut self, ms: u64) {
        self.nodes.iter_mut().for_each(|node| node.advance(ms));
    }

    fn carry(&mut self) {
        for _ in 0..self.rng.below(30) {
            let mut hints = self.hints.lock();
            if hints.is_empty() {
                return;
            }
            // Most keep their order.
            let at = if self.rng.chance(20) { self.rng.below(hints.len()) } else { 0 };
            let (node, hint) = hints.remove(at);
            if self.rng.chance(12) {
                self.tally.hints_lost += 1;
                continue;
            }
            if self.rng.chance(10) {
                hints.push((node, hint.clone()));
            }
            drop(hints);
            self.nodes[node].bus.receive(&hint, self.nodes[node].now);
        }
    }

    /// A node ends without a word. Its clients come back to another process with what they know.
    fn crash(&mut self) {
        self.tally.crashes += 1;
        let number = self.rng.below(NODES);
        let mut new = self.start(number);
        let old = &mut self.nodes[number];
        (new.now, new.payloads) = (old.now, old.payloads);
        new.truth.log.clone_from(&old.truth.log);
        new.truth.epoch.clone_from(&old.truth.epoch);
        for (before, after) in old.clients.iter_mut().zip(&mut new.clients) {
            before.disconnected(true);
            after.known.clone_from(&before.known);
            after.heard.clone_from(&before.heard);
            self.tally.events += before.events;
        }
        self.faults.extend(old.collect());
        self.nodes[number] = new;
        self.hints.lock().retain(|(node, _)| *node != number);
    }

    /// A client that has no connection goes to another node, and its positions with it.
    fn move_somebody(&mut self) {
        let (from, to) = (self.rng.below(NODES), self.rng.below(NODES));
        let away = |node: &World| -> Vec<usize> {
            node.clients.iter().filter(|client| client.wire.is_none()).map(|client| client.number).collect()
        };
        let (leaving, coming) = (away(&self.nodes[from]), away(&self.nodes[to]));
        if from == to || leaving.is_empty() || coming.is_empty() {
            return;
        }
        let (leaving, coming) = (*self.rng.pick(&leaving), *self.rng.pick(&coming));
        self.tally.moves += 1;
        let known = std::mem::take(&mut self.nodes[from].clients[leaving].known);
        let client: &mut Client = &mut self.nodes[to].clients[coming];
        (client.known, client.session) = (known, None);
        self.nodes[from].clients[leaving].session = None;
    }

    /// A client that has no connection goes to another node with everything it knows, its session's id as well.
    fn move_with_session(&mut self) {
        let (from, to) = (self.rng.below(NODES), self.rng.below(NODES));
        let client = self.rng.below(self.nodes[from].clients.len());
        let is_away = |node: &World| node.clients.get(client).is_some_and(|client| client.wire.is_none());
        if from == to || !is_away(&self.nodes[from]) || !is_away(&self.nodes[to]) {
            return;
        }
        self.tally.moves += 1;
        let mut pair = std::mem::take(&mut self.nodes);
        let [here, there] = pair.get_disjoint_mut([from, to]).expect("two nodes");
        std::mem::swap(&mut here.clients[client], &mut there.clients[client]);
        self.nodes = pair;
    }

    /// Nodes answer each other's questions for sessions, some of them late.
    fn ask_for_sessions(&mut self, patience: usize) {
        for node in 0..NODES {
            let (ready, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.nodes[node].wanted)
                .into_iter()
                .partition(|_| self.rng.chance(patience));
            self.nodes[node].wanted = later;
            for wanted in ready {
                let owner = self.nodes.iter().position(|other| {
                    other.plan.node.as_ref().is_some_and(|place| place.tag() == wanted.session.node())
                });
                // The question or its answer may be lost; then the session is as well, for its client.
                let moved = owner
                    .and_then(|owner| self.nodes[owner].give_up(wanted.session, &wanted.principal.sub))
                    .filter(|_| !self.rng.chance(10));
                self.tally.sessions += u64::from(moved.is_some());
                self.nodes[node].fetched(wanted, moved);
            }
        }
    }

    fn day(&mut self) {
        let steps = self.rng.between(60, 160);
        let busy = self.rng.between(1, 6);
        for number in 0..steps {
            let pause = chaos::pause(&mut self.rng);
            self.advance(pause);
            for node in 0..NODES {
                chaos::step(&mut self.nodes[node], number, busy);
                self.share_the_truth();
            }
            self.carry();
            if self.rng.chance(1) {
                self.crash();
            }
            if self.rng.chance(10) {
                self.move_somebody();
            }
            if self.rng.chance(15) {
                self.move_with_session();
            }
            self.ask_for_sessions(60);
            if self.twist.failovers && self.rng.chance(3) {
                self.fail_over();
            }
        }
    }

    fn fail_over(&mut self) {
        self.tally.failovers += 1;
        let epoch = format!("e{}", self.tally.failovers + 1);
        self.store.fail_over(&epoch);
        self.nodes.iter_mut().for_each(|node| node.truth.epoch.clone_from(&epoch));
    }

    fn run_for(&mut self, ms: u64) {
        for _ in 0..ms / 250 {
            self.ask_for_sessions(100);
            for node in 0..NODES {
                self.nodes[node].settle();
                self.share_the_truth();
            }
            // Nobody hears of anybody: what was published is found in the store.
            self.hints.lock().clear();
            self.advance(250);
        }
        self.nodes.iter_mut().for_each(World::settle);
    }

    fn evening(&mut self) {
        self.store.healthy.store(true, Ordering::Relaxed);
        self.nodes.iter_mut().for_each(chaos::calm);
        self.run_for(3_000);
        for node in 0..NODES {
            chaos::last_words(&mut self.nodes[node]);
            self.share_the_truth();
        }
        self.run_for(60_000);
        self.nodes.iter_mut().for_each(chaos::check_evening);
    }

    fn run(mut self) -> Result<Tally, Vec<String>> {
        self.day();
        self.evening();
        for node in &mut self.nodes {
            chaos::night(node);
            self.tally.events += node.clients.iter().map(|client| client.events).sum::<u64>();
        }
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let faults = node.collect();
            self.faults.extend(faults.into_iter().map(|fault| format!("node {number}: {fault}")));
        }
        if self.faults.is_empty() { Ok(self.tally) } else { Err(self.faults) }
    }
}

fn run(seed: u64, twist: Twist) -> Result<Tally, Vec<String>> {
    let outcome = catch_unwind(AssertUnwindSafe(|| Cluster::new(seed, twist).run()));
    outcome.unwrap_or_else(|panic| Err(vec![chaos::panicked(panic.as_ref())]))
}

fn check(twist: Twist, test: &str) {
    let tally = Mutex::new(Tally::default());
    // A run of several nodes takes as long as many of one.
    let mut seeds = seeds(4 * 100);
    if number("PULSEWIRE_SIM_SEED").is_none() {
        seeds.end = seeds.end.div_ceil(4);
    }
    report(seeds, test, |seed| {
        let run = run(seed, twist)?;
        let mut tally = tally.lock();
        tally.events += run.events;
        tally.hints_lost += run.hints_lost;
        tally.crashes += run.crashes;
        tally.moves += run.moves;
        tally.sessions += run.sessions;
        tally.failovers += run.failovers;
        Ok(())
    });
    let tally = *tally.lock();
    eprintln!("{tally:?}");
    if number("PULSEWIRE_SIM_SEED").is_none() {
        assert_eq!(tally.failovers > 0, twist.failovers, "{tally:?}");
        assert!(
            tally.events > 1_000
                && tally.hints_lost > 0
                && tally.crashes > 0
                && tally.moves > 0
                && tally.sessions > 0,
            "{tally:?}"
        );
    }
}

fn noticed(mutant: Mutant) {
    let twist = Twist { mutant: Some(mutant), ..Twist::default() };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let found = (0..100).any(|seed| run(seed, twist).is_err());
    let count = number("PULSEWIRE_SIM_COUNT");
    let count = count.map(|of| ((0..of).filter(|seed| run(*seed, twist).is_err()).count(), of));
    std::panic::set_hook(hook);
    if let Some((seeds, of)) = count {
        eprintln!("several nodes, {mutant:?}: {seeds} / {of}");
    }
    assert!(found, "{mutant:?} was not noticed");
}

#[test]
fn wherever_it_is_published_everybody_hears_it_once_on_every_node() {
    check(Twist::default(), "wherever_it_is_published");
}

#[test]
fn a_history_that_is_replaced_is_told_as_a_reset_on_every_node() {
    check(Twist { failovers: true, ..Twist::default() }, "a_history_that_is_replaced");
}

#[test]
fn holes_that_are_left_to_head_checks_are_only_filled_later() {
    let twist = Twist { mutant: Some(Mutant::LeaveHolesToHeads), ..Twist::default() };
    check(twist, "holes_that_are_left");
}

#[test]
fn a_node_that_passes_on_what_it_hears_as_it_comes_is_noticed() {
    noticed(Mutant::PassOnUnordered);
}

#[test]
fn a_node_that_never_reads_what_is_missing_is_noticed() {
    noticed(Mutant::NeverFetch);
}

#[test]
fn a_node_that_never_asks_where_channels_stand_is_noticed() {
    noticed(Mutant::NeverAskHeads);
}

#[test]
fn a_reader_who_goes_live_where_its_page_ends_is_noticed() {
    noticed(Mutant::EndWithThePage);
}

#[test]
fn a_node_that_steps_over_what_retention_removed_is_noticed() {
    noticed(Mutant::TrimSilently);
}
