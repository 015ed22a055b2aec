//! Who may use whom: the dependency direction of the workspace, held by a test.
//!
//! The first table says which crates of ours each crate may use, the second what the deciding crates must never
//! touch, the third where `unsafe` may stand. A change here is a change of the architecture: say why in `docs/adr/`.

#[path = "layers/graph.rs"]
mod graph;
#[path = "layers/source.rs"]
mod source;

use graph::Rule;
use source::Ban;
use xtask::workspace::Workspace;

/// Every crate of the workspace, in the order of the path an event takes.
const LAYERS: [Rule; 12] = [
    Rule {
        name: "pulsewire-protocol",
        may_use: &[],
        tests_may_use: &[],
        // Pure bytes: nothing that waits, listens or asks for the time.
        never: &["tokio", "mio", "socket2", "libc", "hyper", "axum", "tracing", "parking_lot"],
    },
    Rule {
        name: "pulsewire-telemetry",
        may_use: &[],
        tests_may_use: &[],
        never: &["tokio", "mio", "socket2", "hyper", "axum"],
    },
    Rule {
        name: "pulsewire-bus",
        may_use: &["pulsewire-protocol", "pulsewire-telemetry"],
        // Itself, with the switches of its simulation.
        tests_may_use: &["pulsewire-bus"],
        never: &["mio", "socket2", "hyper", "axum", "tungstenite"],
    },
    Rule {
        name: "pulsewire-hub",
        may_use: &["pulsewire-protocol", "pulsewire-telemetry", "pulsewire-bus"],
        tests_may_use: &[],
        never: &["tokio", "mio", "socket2", "libc", "hyper", "axum", "reqwest", "rusqlite", "tokio-postgres"],
    },
    Rule {
        name: "pulsewire-edge",
        may_use: &["pulsewire-protocol", "pulsewire-telemetry", "pulsewire-hub"],
        // A shard under test needs something to publish with.
        tests_may_use: &["pulsewire-bus"],
        never: &["tokio", "hyper", "axum", "reqwest", "rusqlite", "tokio-postgres"],
    },
    Rule {
        name: "pulsewire-sources",
        may_use: &["pulsewire-protocol", "pulsewire-telemetry", "pulsewire-bus"],
        tests_may_use: &[],
        never: &["hyper", "axum"],
    },
    Rule {
        name: "pulsewire-client",
        may_use: &["pulsewire-protocol"],
        tests_may_use: &[],
        never: &["hyper", "axum", "rusqlite", "tokio-postgres"],
    },
    Rule {
        name: "pulsewire-loadtest",
        may_use: &["pulsewire-client", "pulsewire-protocol"],
        tests_may_use: &[],
        never: &["hyper", "axum"],
    },
    // Rules and dashboards are data about the metrics, and nothing else.
    Rule {
        name: "pulsewire-operations",
        may_use: &["pulsewire-telemetry"],
        tests_may_use: &[],
        never: &["tokio", "hyper", "axum"],
    },
    // Files that were built elsewhere, and nothing else.
    Rule { name: "pulsewire-ui", may_use: &[], tests_may_use: &[], never: &["tokio", "hyper", "axum"] },
    Rule {
        name: "pulsewire",
        may_use: &[
            "pulsewire-protocol",
            "pulsewire-telemetry",
            "pulsewire-bus",
            "pulsewire-hub",
            "pulsewire-edge",
            "pulsewire-sources",
            // The binary is also the command line: `tail` and `publish` are clients, `bench` is the load tool.
            "pulsewire-client",
            "pulsewire-loadtest",
            "pulsewire-operations",
            "pulsewire-ui",
        ],
        tests_may_use: &[],
        never: &[],
    },
    Rule { name: "xtask", may_use: &[], tests_may_use: &[], never: &["tokio", "clap"] },
];

/// Paths that the deciding crates do not name: time, files and sockets reach them as parameters. Addresses
/// (`std::net::IpAddr`) are values and may be named.
const BANS: [Ban; 3] = [
    Ban { folder: "crates/protocol/src", except: None, paths: WORLD },
    // Stores open files and speak to databases: they perform, and decide nothing but a place in the order.
    Ban { folder: "crates/bus/src", except: Some("crates/bus/src/store"), paths: WORLD },
    Ban { folder: "crates/hub/src", except: None, paths: WORLD },
];

const WORLD: &[&str] = &[
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::fs",
    "std::process",
    "std::thread::sleep",
    "std::thread::spawn",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "mio",
];

/// The one file with `unsafe` code: socket options that no safe crate offers.
const UNSAFE: &[&str] = &["crates/edge/src/sys.rs"];

fn workspace() -> Workspace {
    Workspace::find().expect("the test runs inside the repository")
}

#[test]
fn every_crate_uses_only_the_crates_before_it() {
    let packages = workspace().metadata().expect("Cargo.lock is current").packages;
    let ours: Vec<_> = packages.into_iter().filter(|package| package.source.is_none()).collect();
    assert_eq!(graph::faults(&ours, &LAYERS), [""; 0]);
}

#[test]
fn the_deciding_crates_name_no_clock_file_or_socket() {
    let faults: Vec<_> = BANS.iter().flat_map(|ban| ban.faults(&workspace())).collect();
    assert_eq!(faults, [""; 0]);
}

#[test]
fn unsafe_code_stands_in_one_file() {
    assert_eq!(source::unsafe_faults(&workspace(), UNSAFE), [""; 0]);
}
