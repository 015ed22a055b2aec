//! `cargo xtask check`: everything CI runs before the tests, cheapest first.

use std::process::ExitCode;

use anyhow::Result;

use crate::steps::{self, Step, quietly};
use crate::workspace::Workspace;
use crate::{dependencies, generated, links};

const STEPS: [Step; 7] = [
    Step { name: "format", repair: FORMAT, run: format },
    Step { name: "links", repair: "correct the links named above", run: links::check },
    Step { name: "dependencies", repair: "cargo update, or say why in deny.toml", run: dependencies::check },
    Step { name: "layers", repair: "see the table in xtask/tests/layers.rs", run: layers },
    Step {
        name: "clippy",
        repair: "cargo clippy --workspace --all-targets --fix --allow-dirty",
        run: clippy,
    },
    Step { name: "docs", repair: "cargo doc --workspace --no-deps, then mend the links it names", run: docs },
    Step { name: "generated", repair: "cargo xtask generate", run: generated::check },
];

const FORMAT: &str = "cargo fmt --all && cargo fmt --manifest-path fuzz/Cargo.toml";

/// Runs the named steps, or all.
///
/// # Errors
///
/// When a name is no step's.
pub fn run(workspace: &Workspace, names: &[String]) -> Result<ExitCode> {
    steps::run(workspace, &STEPS, names)
}

fn format(workspace: &Workspace) -> Result<String> {
    quietly(&mut workspace.cargo(["fmt", "--all", "--check", "--", "-l"]))?;
    if workspace.path("fuzz/Cargo.toml").is_file() {
        quietly(&mut workspace.cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check", "--", "-l"]))?;
    }
    Ok("all crates".into())
}

fn layers(workspace: &Workspace) -> Result<String> {
    let mut test = workspace.cargo(["test", "--quiet", "--package", "xtask", "--test", "layers"]);
    quietly(test.env("RUST_BACKTRACE", "0"))?;
    Ok("dependency direction, pure crates, unsafe code".into())
}

fn clippy(workspace: &Workspace) -> Result<String> {
    quietly(&mut workspace.cargo(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-Dwarnings"]))?;
    Ok("warnings denied".into())
}

fn docs(workspace: &Workspace) -> Result<String> {
    let mut rustdoc = workspace.cargo(["doc", "--workspace", "--no-deps", "--quiet"]);
    quietly(rustdoc.env("RUSTDOCFLAGS", "-Dwarnings"))?;
    Ok("warnings denied".into())
}
