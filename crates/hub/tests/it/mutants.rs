//! Does the simulation notice? One rule is broken at a time, and some seed must report it.

use pulsewire_bus::Mutant;

use crate::sim::chaos::{Twist, run};
use crate::sim::client::Mangle;
use crate::sim::world::Sabotage;

/// How many seeds a mutant may survive.
const SEEDS: u64 = 300;

fn check(twist: Twist, expected: &str) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let found = (0..SEEDS).find_map(|seed| run(seed, twist).err());
    let count = std::env::var("PULSEWIRE_SIM_COUNT").ok().and_then(|text| text.parse::<u64>().ok());
    let count = count.map(|of| ((0..of).filter(|seed| run(*seed, twist).is_err()).count(), of));
    std::panic::set_hook(hook);
    if let Some((seeds, of)) = count {
        eprintln!("{twist:?}: {seeds} / {of}");
    }
    let faults = found.unwrap_or_default().join("\n");
    assert!(faults.contains(expected), "{twist:?} was not noticed: {faults}");
}

fn mangled(mangle: Mangle) -> Twist {
    Twist { mangle: Some(mangle), ..Twist::default() }
}

fn sabotaged(sabotage: Sabotage) -> Twist {
    Twist { sabotage: Some(sabotage), ..Twist::default() }
}

fn without(mutant: Mutant) -> Twist {
    Twist { mutant: Some(mutant), ..Twist::default() }
}

#[test]
fn going_live_where_the_page_ends_is_noticed() {
    check(without(Mutant::EndWithThePage), "was next");
}

#[test]
fn stepping_over_what_retention_removed_is_noticed() {
    check(without(Mutant::TrimSilently), "was next");
}

#[test]
fn a_state_that_does_not_come_is_noticed() {
    check(mangled(Mangle::EatState), "before the state");
}

#[test]
fn a_lost_event_is_noticed() {
    check(mangled(Mangle::LoseEvent), "was next");
}

#[test]
fn a_repeated_event_is_noticed() {
    check(mangled(Mangle::RepeatEvent), "was next");
}

#[test]
fn two_swapped_messages_are_noticed() {
    check(mangled(Mangle::SwapEvents), "was next");
}

#[test]
fn a_dropped_notice_that_does_not_come_is_noticed() {
    check(mangled(Mangle::EatDropped), "published, counted");
}

#[test]
fn a_conflated_notice_that_does_not_come_is_noticed() {
    check(mangled(Mangle::EatConflated), "with None merged");
}

#[test]
fn a_gap_that_is_not_told_is_noticed() {
    check(mangled(Mangle::EatGap), "was next");
}

#[test]
fn an_ack_that_does_not_come_is_noticed() {
    check(mangled(Mangle::EatAck), "was not answered");
}

#[test]
fn a_frame_that_is_not_whole_is_noticed() {
    check(mangled(Mangle::CorruptLength), "not a frame");
}

#[test]
fn a_publication_that_never_reaches_a_shard_is_noticed() {
    check(sabotaged(Sabotage::LosePublication), "is next, head is");
}

#[test]
fn a_page_with_a_hole_is_noticed() {
    check(sabotaged(Sabotage::HolePage), "I4: a page has no hole");
}

#[test]
fn a_gap_over_events_that_are_kept_is_noticed() {
    check(sabotaged(Sabotage::ShortenPage), "is the floor");
}

#[test]
fn a_close_that_is_not_written_down_is_noticed() {
    check(sabotaged(Sabotage::ForgetClose), "is not in the ledger");
}

#[test]
fn a_leaked_listener_is_noticed() {
    check(sabotaged(Sabotage::LeakListener), "still has 1 listeners");
}

#[test]
fn a_leaked_connection_is_noticed() {
    check(sabotaged(Sabotage::LeakAdmission), "admission still counts 1");
}
