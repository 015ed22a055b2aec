//! Seeds by the hundred through the simulation.
//!
//! `PULSEWIRE_SIM_SEEDS=N` runs N seeds instead of the default, `PULSEWIRE_SIM_SEED=x` runs one.

use crate::sim::chaos::{Twist, run};

/// How many seeds each simulation runs by default.
const SEEDS: u64 = 300;

pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Which seeds to run: so many if nobody says otherwise.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    match number("PULSEWIRE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PULSEWIRE_SIM_SEEDS").unwrap_or(default),
    }
}

/// Runs seeds and says which failed, and how to run one of them again.
pub fn report(seeds: std::ops::Range<u64>, test: &str, mut run: impl FnMut(u64) -> Result<(), Vec<String>>) {
    let hook = std::panic::take_hook();
    let count = seeds.end - seeds.start;
    if count > 1 {
        std::panic::set_hook(Box::new(|_| ()));
    }
    let failed: Vec<_> = seeds.filter_map(|seed| run(seed).err().map(|faults| (seed, faults))).collect();
    std::panic::set_hook(hook);
    let shown = failed.iter().take(8).map(|(seed, faults)| {
        let faults = faults.iter().take(4).cloned().collect::<Vec<_>>().join("\n    ");
        format!("  PULSEWIRE_SIM_SEED={seed} cargo test -p pulsewire-hub --test it {test}\n    {faults}")
    });
    let shown: Vec<String> = shown.collect();
    assert!(failed.is_empty(), "{} of {count} seeds failed:\n{}", failed.len(), shown.join("\n"));
}

fn check(twist: Twist, test: &str) {
    let mut events = 0;
    let seeds = seeds(SEEDS);
    let count = seeds.end - seeds.start;
    report(seeds, test, |seed| {
        events += run(seed, twist)?.events;
        Ok(())
    });
    assert!(count < 10 || events > count * 20, "only {events} events were delivered in {count} seeds");
}

#[test]
fn nothing_is_lost_repeated_or_leaked_in_a_hostile_network() {
    check(Twist::default(), "nothing_is_lost");
}

#[test]
fn what_is_lost_on_the_way_to_a_shard_is_repaired() {
    check(Twist { lossy: true, ..Twist::default() }, "what_is_lost");
}
