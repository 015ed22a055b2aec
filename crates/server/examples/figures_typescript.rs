//! Prints the figures for the dashboard, as TypeScript; run by `cargo xtask generate`.
#![expect(clippy::print_stdout, reason = "printing the file is all it does")]

fn main() {
    print!("{}", pulsewire::figures::typescript());
}
