//! Prints `deploy/checks/src/catalogue.json`; run by `cargo xtask generate`.
#![expect(clippy::print_stdout, reason = "printing the file is all it does")]

fn main() {
    print!("{}", pulsewire_operations::contract::catalogue());
}
