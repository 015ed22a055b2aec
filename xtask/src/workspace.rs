//! Where the repository is and what `cargo metadata` says about it.
//!
//! Every command that xtask starts goes through [`Workspace::cargo`] or [`Workspace::command`], so all of them
//! run at the root and inherit the caller's environment, `CARGO_TARGET_DIR` included.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The repository's root folder.
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Finds the root from the place xtask was compiled at, which Cargo sets again at run time.
    ///
    /// # Errors
    ///
    /// When there is no `Cargo.toml` where one must be.
    pub fn find() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().context("xtask has no parent folder")?.to_path_buf();
        ensure!(root.join("Cargo.toml").is_file(), "no Cargo.toml in {}", root.display());
        Ok(Self { root })
    }

    /// A workspace elsewhere, for tests.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file or folder below the root.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Any program, started at the root.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        // Set for xtask's own build; a child that rebuilds something must not see it.
        for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
            command.env_remove(name);
        }
        command
    }

    /// The Cargo that runs us, with these arguments.
    pub fn cargo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments);
        command
    }

    /// Reads a file below the root.
    ///
    /// # Errors
    ///
    /// When it cannot be read, naming it.
    pub fn read(&self, relative: &str) -> Result<String> {
        std::fs::read_to_string(self.path(relative)).with_context(|| format!("cannot read {relative}"))
    }

    /// `cargo metadata` for the platform we ship for, from the lock file as it is.
    ///
    /// # Errors
    ///
    /// When Cargo refuses, for example because `Cargo.lock` is not current.
    pub fn metadata(&self) -> Result<Metadata> {
        let output = self
            .cargo(["metadata", "--locked", "--format-version", "1", "--filter-platform"])
            .arg("x86_64-unknown-linux-gnu")
            .output()
            .context("cannot start cargo metadata")?;
        ensure!(
            output.status.success(),
            "cargo metadata --locked failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).context("cannot read the answer of cargo metadata")
    }
}

/// The part of `cargo metadata` we look at.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// Every package, ours and foreign, with those that nobody turned on.
    pub packages: Vec<Package>,
    /// Where Cargo puts what it builds.
    pub target_directory: PathBuf,
}

/// One package.
#[derive(Debug, Clone, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Where it comes from; `None` for the crates of this repository.
    pub source: Option<String>,
    /// What its manifest asks for, all kinds and platforms.
    pub dependencies: Vec<Dependency>,
}

/// One line of a manifest's dependencies.
#[derive(Debug, Clone, Deserialize)]
pub struct Dependency {
    /// The package asked for.
    pub name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub kind: Option<String>,
}
