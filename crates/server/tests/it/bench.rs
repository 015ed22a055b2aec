//! Short forms of scenarios of `pulsewire bench` whose counts hold on any machine: nothing here looks at a time.

use std::path::PathBuf;
use std::time::Duration;

use pulsewire_loadtest::report::{Figure, Outcome};
use pulsewire_loadtest::scenario::{Bench, Scenario};

fn short(name: &str) -> Outcome {
    let bench = Bench {
        program: PathBuf::from(env!("CARGO_BIN_EXE_pulsewire")),
        running: None,
        connections: Some(20),
        rate: Some(200),
        size: None,
        slow_share: 0.1,
        duration: Duration::from_secs(1),
        rounds: 1,
        database: None,
        redis: None,
        pin: false,
        progress: false,
    };
    Scenario::named(name).unwrap().run(&bench).unwrap()
}

#[test]
fn every_sample_of_the_metrics_bench_is_accepted_and_reaches_whoever_wants_it() {
    let outcome = short("metrics");
    let figure = |name: &str| -> &Figure {
        let found = outcome.figures.iter().find(|figure| figure.name == name);
        found.unwrap_or_else(|| panic!("no {name}: {outcome:?}"))
    };
    for name in [
        "metrics_10k_dropped",
        "metrics_mixed_not_accepted",
        "metrics_mixed_missing",
        "metrics_mixed_dropped",
        "metrics_series_not_accepted",
        "metrics_series_late",
    ] {
        assert_eq!(figure(name).value, 0.0, "{name}");
    }
    // Others come by themselves.
    assert!(figure("metrics_series_at_hand").value >= 100.0, "{outcome:?}");
    assert!(figure("metrics_mixed_messages").value > 0.0);
    for form in ["grouped", "points_1s"] {
        let bytes = |packing: &str| figure(&format!("metrics_bytes_{form}_{packing}")).value;
        assert!(bytes("json") > 100.0 && bytes("msgpack") < bytes("json"), "{outcome:?}");
    }
    // What the scenario holds by itself is there to be held.
    for bounded in
        ["metrics_10k_accepted_to_kernel_p99_ms", "metrics_collection_p99_ms", "metrics_sample_ratio"]
    {
        assert!(figure(bounded).budget.is_some(), "{bounded}");
    }
}

/// Readers that do not keep up are beside the others: these get everything all the same.
#[test]
fn a_live_load_reaches_everybody_but_the_slow() {
    let outcome = short("live");
    let figure =
        |name: &str| outcome.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value);
    assert_eq!(figure("live_slow_readers"), Some(2.0), "{outcome:?}");
    for name in ["live_lost", "live_duplicate", "live_out_of_order", "live_skipped_without_gap"] {
        assert_eq!(figure(name), Some(0.0), "{name}");
    }
    assert!(figure("live_deliveries").is_some_and(|rate| rate > 100.0), "{outcome:?}");
}
