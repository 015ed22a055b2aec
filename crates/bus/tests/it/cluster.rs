//! Several nodes, one store, a network that loses, repeats and reorders: does everyone hear everything once?
//!
//! Each run is decided by its seed; `PULSEWIRE_SIM_SEEDS` says how many, `PULSEWIRE_SIM_SEED` names one. The
//! rules that the protocol needs are switched off one at a time, and some seed must notice (`reliability` §4.6).

mod store;
mod world;

use pulsewire_bus::Mutant;
use pulsewire_protocol::ErrorCode;

use world::{Plan, World};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 300;
/// How many seeds a mutant may survive.
const MUTANT_SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn seeds() -> std::ops::Range<u64> {
    match number("PULSEWIRE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PULSEWIRE_SIM_SEEDS").unwrap_or(SEEDS),
    }
}

fn check(plan: Plan) {
    let mut totals = world::Totals::default();
    for seed in seeds() {
        match World::new(seed, plan).run() {
            Ok(run) => totals.add(&run),
            Err(faults) => panic!("seed {seed}: {}", faults.join("\n")),
        }
    }
    // What happened, for whoever reads the output of a long run.
    eprintln!("{totals:?}");
    if std::env::var_os("PULSEWIRE_SIM_SEED").is_none() {
        totals.assert_everything_happened(plan);
    }
}

/// Some seed must notice what a plan has switched off; `PULSEWIRE_SIM_COUNT` says of how many it is counted, for the
/// table in `docs/guarantees.md`.
fn noticed(name: &str, plan: Plan) {
    noticed_in(MUTANT_SEEDS, name, plan);
}

/// The same for a rule that few schedules need.
fn noticed_in(seeds: u64, name: &str, plan: Plan) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let survives = |seed: &u64| {
        let world = World::new(*seed, plan);
        // What a broken rule leaves behind is thrown away.
        let run = std::panic::AssertUnwindSafe(move || world.run());
        std::panic::catch_unwind(run).is_ok_and(|outcome| outcome.is_ok())
    };
    let first = (0..seeds).find(|seed| !survives(seed));
    let count = number("PULSEWIRE_SIM_COUNT").map(|of| (of - (0..of).filter(survives).count() as u64, of));
    std::panic::set_hook(hook);
    if let Some((seeds, of)) = count {
        eprintln!("{name}: {seeds} / {of}");
    }
    assert!(first.is_some(), "{name}: was not noticed");
}

#[test]
fn every_subscriber_hears_every_event_once_or_is_told_which_it_missed() {
    check(Plan::default());
}

#[test]
fn a_store_that_lost_commits_under_a_new_epoch_is_told_as_a_reset() {
    check(Plan { failovers: true, ..Plan::default() });
}

#[test]
fn without_a_ring_everything_is_read_from_the_store_and_nothing_is_lost() {
    check(Plan { ring: 0, ..Plan::default() });
}

#[test]
fn head_checks_alone_find_every_hole_only_later() {
    check(Plan { mutants: &[Mutant::LeaveHolesToHeads], ..Plan::default() });
}

#[test]
fn passing_on_what_is_heard_as_it_comes_is_noticed() {
    let plan = Plan { mutants: &[Mutant::PassOnUnordered], ..Plan::default() };
    noticed("naive fan-out (no sequencer)", plan);
}

#[test]
fn neither_reading_what_is_missing_nor_asking_where_channels_stand_is_noticed() {
    let plan = Plan { mutants: &[Mutant::NeverFetch, Mutant::NeverAskHeads], ..Plan::default() };
    noticed("neither gap fetch nor head check", plan);
}

#[test]
fn never_reading_what_is_missing_is_noticed() {
    noticed("nothing missing is ever read", Plan { mutants: &[Mutant::NeverFetch], ..Plan::default() });
}

#[test]
fn never_asking_where_channels_stand_is_noticed() {
    noticed("no head check", Plan { mutants: &[Mutant::NeverAskHeads], ..Plan::default() });
}

#[test]
fn sequences_given_before_the_commit_are_noticed() {
    noticed("seq allocated outside commit order", Plan { early_sequences: true, ..Plan::default() });
}

#[test]
fn asking_where_a_channel_stands_before_listening_is_noticed() {
    // The head check would heal it: this rule is what a node with a store of its own has instead.
    let without = Plan { head_checks: false, lossy: false, store_faults: false, ..Plan::default() };
    let plan = Plan { mutants: &[Mutant::AskBeforeListening], ..without };
    noticed("head read before bus subscription, no head check", plan);
}

#[test]
fn without_losses_and_head_checks_listening_first_is_enough() {
    check(Plan { head_checks: false, lossy: false, store_faults: false, ..Plan::default() });
}

#[test]
fn through_a_broker_with_topics_that_is_lost_and_confirms_late_or_never_everyone_hears_everything() {
    check(Plan { topics: true, outages: true, ..Plan::default() });
}

/// Nobody is lost between the reading and the hearing: so without losses it needs no head checks.
#[test]
fn hearing_a_topic_before_reading_its_channel_is_enough_without_losses() {
    let calm =
        Plan { topics: true, head_checks: false, lossy: false, store_faults: false, ..Plan::default() };
    check(calm);
    check(Plan { mutants: &[Mutant::LeaveHeardAlone], ..calm });
    let plan = Plan { mutants: &[Mutant::OpenBeforeHeard, Mutant::LeaveHeardAlone], ..calm };
    noticed("a channel is read before its topic is heard, and not asked for then", plan);
}

/// Without the broker a node misses what is said: once it hears again, it asks.
#[test]
fn asking_where_a_channel_stands_when_its_topic_is_heard_makes_up_for_outages() {
    let without = Plan { head_checks: false, lossy: false, store_faults: false, ..Plan::default() };
    let outages = Plan { topics: true, outages: true, ..without };
    check(outages);
    let plan = Plan { mutants: &[Mutant::LeaveHeardAlone], ..outages };
    // Whoever misses the end of an outage is told by what is published after it, but for the last event.
    noticed_in(10 * MUTANT_SEEDS, "nobody asks when a topic is heard, no head check", plan);
}

#[test]
fn a_store_that_lost_commits_and_kept_its_epoch_is_noticed() {
    // Nobody can know that another event stands where one was heard, unless the store stands behind: so epochs change.
    let plan = Plan { failovers: true, same_epoch: true, ..Plan::default() };
    noticed("failover without epoch change, with position-ahead check", plan);
}

#[test]
fn believing_a_store_that_stands_behind_is_noticed() {
    let failover = Plan { failovers: true, same_epoch: true, ..Plan::default() };
    let plan = Plan { mutants: &[Mutant::TrustPositions], ..failover };
    noticed("failover without epoch change, without position-ahead check", plan);
    noticed("the same, other events in known places excused", Plan { excused: true, ..plan });
}

#[test]
fn with_an_epoch_that_stays_a_store_that_stands_behind_is_told_as_a_reset() {
    check(Plan { failovers: true, same_epoch: true, excused: true, ..Plan::default() });
}

#[test]
fn trying_an_unknown_commit_again_under_other_keys_is_noticed() {
    noticed("no dedup on retry", Plan { mutants: &[Mutant::RetryUnderNewKeys], ..Plan::default() });
}

#[test]
fn taking_a_position_of_another_history_for_one_of_the_present_is_noticed() {
    let plan = Plan { mutants: &[Mutant::IgnoreEpochs], failovers: true, ..Plan::default() };
    noticed("failover with epoch change, epochs ignored", plan);
}

#[test]
fn the_state_of_another_history_is_nobodys() {
    let state = World::new(1, Plan::default()).state_of_another_history();
    assert_eq!(state.err(), Some(ErrorCode::StoreUnavailable));
}
