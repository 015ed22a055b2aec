//! Several nodes, one store, a network that loses, repeats and reorders: does everyone hear everything once?
//!
//! Each run is decided by its seed; `PULSEWIRE_SIM_SEEDS` says how many, `PULSEWIRE_SIM_SEED` names one. The
//! rules that the protocol needs are switched off one at a time, and some seed must notice (`reliability` §4.6).

mod store;
mod world;

use pulsewire_bus::Mutant;

use world::{Plan, World};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 300;
/// How many seeds a mutant may survive.
const MUTANT_SEEDS: u64 = 300;

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
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

fn noticed(mutant: Mutant, plan: Plan) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let run = |seed| {
        let world = World::new(seed, Plan { mutant: Some(mutant), ..plan });
        // What a broken rule leaves behind is thrown away.
        let run = std::panic::AssertUnwindSafe(move || world.run());
        std::panic::catch_unwind(run).is_ok_and(|outcome| outcome.is_ok())
    };
    let survived = (0..MUTANT_SEEDS).take_while(|seed| run(*seed)).count() as u64;
    std::panic::set_hook(hook);
    assert!(survived < MUTANT_SEEDS, "{mutant:?} was not noticed");
    eprintln!("{mutant:?}: noticed by seed {survived}");
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
fn passing_on_what_is_heard_as_it_comes_is_noticed() {
    noticed(Mutant::PassOnUnordered, Plan::default());
}

#[test]
fn never_reading_what_is_missing_is_noticed() {
    noticed(Mutant::NeverFetch, Plan::default());
}

#[test]
fn never_asking_where_channels_stand_is_noticed() {
    noticed(Mutant::NeverAskHeads, Plan::default());
}

#[test]
fn asking_where_a_channel_stands_before_listening_is_noticed() {
    // The head check would heal it: this rule is what a node with a store of its own has instead.
    noticed(
        Mutant::AskBeforeListening,
        Plan { head_checks: false, lossy: false, store_faults: false, ..Plan::default() },
    );
}

#[test]
fn without_losses_and_head_checks_listening_first_is_enough() {
    check(Plan { head_checks: false, lossy: false, store_faults: false, ..Plan::default() });
}

#[test]
fn believing_a_store_that_stands_behind_is_noticed() {
    noticed(Mutant::TrustPositions, Plan { failovers: true, same_epoch: true, ..Plan::default() });
}

#[test]
fn trying_an_unknown_commit_again_under_other_keys_is_noticed() {
    noticed(Mutant::RetryUnderNewKeys, Plan::default());
}

#[test]
fn taking_a_position_of_another_history_for_one_of_the_present_is_noticed() {
    noticed(Mutant::IgnoreEpochs, Plan { failovers: true, ..Plan::default() });
}
