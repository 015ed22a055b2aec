//! Prints what the SDK shares with the server, as TypeScript: `codes` or `defaults`; run by `cargo xtask generate`.
#![expect(clippy::print_stdout, reason = "printing the file is all it does")]

use std::process::ExitCode;

use pulsewire_protocol::generated;

fn main() -> ExitCode {
    let text = match std::env::args().nth(1).as_deref() {
        Some("codes") => generated::codes_typescript(),
        Some("defaults") => generated::defaults_typescript(),
        _ => return ExitCode::from(2),
    };
    print!("{text}");
    ExitCode::SUCCESS
}
