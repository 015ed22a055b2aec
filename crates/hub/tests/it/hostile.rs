//! Seeds by the hundred through the simulation.
//!
//! `PULSEWIRE_SIM_SEEDS=N` runs N seeds instead of the default, `PULSEWIRE_SIM_SEED=x` runs one.

use crate::sim::chaos::{Twist, run};

/// How many seeds each simulation runs by default.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn check(twist: Twist, test: &str) {
    let seeds = match number("PULSEWIRE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PULSEWIRE_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let hook = std::panic::take_hook();
    if seeds.end - seeds.start > 1 {
        std::panic::set_hook(Box::new(|_| ()));
    }
    let mut failed = Vec::new();
    let mut events = 0;
    let count = seeds.end - seeds.start;
    for seed in seeds {
        match run(seed, twist) {
            Ok(tally) => events += tally.events,
            Err(faults) => failed.push((seed, faults)),
        }
    }
    std::panic::set_hook(hook);
    let shown: Vec<String> = failed
        .iter()
        .take(8)
        .map(|(seed, faults)| {
            let faults = faults.iter().take(4).cloned().collect::<Vec<_>>().join("\n    ");
            format!("  PULSEWIRE_SIM_SEED={seed} cargo test -p pulsewire-hub --test it {test}\n    {faults}")
        })
        .collect();
    assert!(failed.is_empty(), "{} of {count} seeds failed:\n{}", failed.len(), shown.join("\n"));
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
