//! The Pulsewire binary: reads the command line and hands over.

use std::{io, process::ExitCode};

use clap::Parser as _;
use pulsewire::cli::{Cli, Terminal, run};

/// An allocator whose accounting is exact, and that gives the memory of a burst of connections back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (mut out, mut err) = (io::stdout(), io::stderr());
    run(cli, &mut Terminal::new(&mut out, &mut err)).into()
}
