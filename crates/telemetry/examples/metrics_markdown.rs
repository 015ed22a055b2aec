//! Prints `docs/metrics.md`; run by `cargo xtask generate`.
#![expect(clippy::print_stdout, reason = "printing the page is all it does")]

fn main() {
    print!("{}", pulsewire_telemetry::docs_markdown());
}
