//! The dashboard: built from `dashboard/`, committed in `crates/ui/dist`, and held to its sources.
//!
//! Three guards keep what is served and what is written together. The committed files carry a hash of the sources they
//! were built from, which a test recomputes without Node. Where there is Node, the tests build them again and compare
//! bytes. And a file that is missing does not compile (`crates/ui`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::generated;
use crate::npm::{Counts, Npm, Script};
use crate::setup::CHROMIUM;
use crate::steps::quietly;
use crate::test::Results;
use crate::workspace::Workspace;

/// The sources.
const FOLDER: &str = "dashboard";
/// What Vite writes.
const BUILT: &str = "dashboard/dist";
/// What is committed and served.
const SERVED: &str = "crates/ui/dist";
/// The file with the hash of the sources.
const SOURCE: &str = "SOURCE_SHA256";

/// Everything that the build reads, the SDK that it bundles included.
const SOURCES: [&str; 10] = [
    "dashboard/index.html",
    "dashboard/package-lock.json",
    "dashboard/package.json",
    "dashboard/public",
    "dashboard/src",
    "dashboard/tsconfig.json",
    "dashboard/vite.config.ts",
    "sdk/typescript/client/src",
    "sdk/typescript/connection-health/src",
    "sdk/typescript/tsconfig.base.json",
];

/// What must hold before a build is kept.
const BEFORE: [Script; 2] = [
    Script { name: "typecheck", counts: Counts::Check, tools: &[] },
    Script { name: "test:unit", counts: Counts::Tests, tools: &[] },
];
/// The build, and whether it is within its budget.
const BUILD: [Script; 2] = [
    Script { name: "build", counts: Counts::Check, tools: &[] },
    Script { name: "size", counts: Counts::Check, tools: &[] },
];
const AFTER: [Script; 1] = [Script { name: "test:browser", counts: Counts::Tests, tools: &CHROMIUM }];

/// `cargo xtask dashboard`: checks and builds the dashboard, and puts it where it is served from.
///
/// # Errors
///
/// When Node is missing, or the dashboard is not in order.
pub fn build(workspace: &Workspace) -> Result<ExitCode> {
    let npm = Npm::new(workspace, "dashboard", FOLDER, &BEFORE)?;
    npm.node()?;
    npm.install()?;
    for script in BEFORE.iter().chain(&BUILD) {
        quietly(&mut npm.script(script.name)).with_context(|| format!("npm run {}", script.name))?;
    }
    let served = workspace.path(SERVED);
    for old in files(&served)? {
        fs::remove_file(served.join(old))?;
    }
    for name in files(&workspace.path(BUILT))? {
        fs::copy(workspace.path(BUILT).join(&name), served.join(&name))?;
        println!("wrote {SERVED}/{}", name.display());
    }
    fs::write(served.join(SOURCE), hash(workspace)? + "\n")?;
    Ok(ExitCode::SUCCESS)
}

/// Installs the packages that the stage needs.
///
/// # Errors
///
/// What npm says.
pub fn packages(workspace: &Workspace) -> Result<()> {
    Npm::new(workspace, "dashboard", FOLDER, &BEFORE)?.install()
}

/// The stage of the tests: types, unit tests, the build against what is committed, its size, and a browser.
///
/// # Errors
///
/// When the server does not build, the packages cannot be installed, or `package.json` lacks a script.
pub fn test(workspace: &Workspace, results: &mut Results) -> Result<()> {
    let npm = Npm::new(workspace, "dashboard", FOLDER, &BEFORE)?;
    if let Err(error) = npm.node() {
        results.skip(format!("dashboard: {error:#}"));
        return Ok(());
    }
    let programs = generated::programs(workspace)?;
    let target = programs.parent().context("the programs have no folder")?;
    npm.install()?;
    npm.run(&BEFORE, target, results)?;
    npm.run(&BUILD, target, results)?;
    let same = compare(&workspace.path(BUILT), &workspace.path(SERVED));
    results.add(same.is_ok());
    match same {
        Ok(()) => println!("dashboard bytes ... ok"),
        Err(error) => println!("dashboard bytes ... FAILED\n{error:#}; run `cargo xtask dashboard`"),
    }
    npm.run(&AFTER, target, results)
}

/// Whether what is committed was built from the sources as they are.
///
/// # Errors
///
/// When it was not, with what to do; or when something cannot be read.
pub fn check_source(workspace: &Workspace) -> Result<()> {
    let noted = workspace.read(&format!("{SERVED}/{SOURCE}"))?;
    ensure!(
        noted.trim() == hash(workspace)?,
        "{SERVED} was built from other sources than those in {FOLDER}: run `cargo xtask dashboard`"
    );
    Ok(())
}

/// A hash over the names and contents of all sources. Names and contents are preceded by their lengths, so that nothing
/// can move from one into the other.
fn hash(workspace: &Workspace) -> Result<String> {
    let mut digest = Sha256::new();
    for name in SOURCES {
        let path = workspace.path(name);
        let below = if path.is_dir() { files(&path)? } else { vec![PathBuf::new()] };
        for file in below {
            let place = if file.as_os_str().is_empty() { path.clone() } else { path.join(&file) };
            let content = fs::read(&place).with_context(|| format!("cannot read {}", place.display()))?;
            let full = Path::new(name).join(&file);
            let shown = full.to_string_lossy().trim_end_matches('/').to_owned();
            for part in [shown.as_bytes(), &content] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// All files below a folder, as paths inside it, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inside) = folders.pop() {
        let entries = fs::read_dir(folder.join(&inside))
            .with_context(|| format!("cannot read {}", folder.join(&inside).display()))?;
        for entry in entries {
            let entry = entry?;
            let path = inside.join(entry.file_name());
            if entry.file_type()?.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether two folders hold the same files, but for the hash.
fn compare(built: &Path, served: &Path) -> Result<()> {
    let (new, old) = (files(built)?, files(served)?);
    let old: Vec<_> = old.into_iter().filter(|name| name != Path::new(SOURCE)).collect();
    ensure!(new == old, "there are {new:?}, and {old:?} are committed");
    for name in new {
        if fs::read(built.join(&name))? != fs::read(served.join(&name))? {
            bail!("{} is not what is committed", name.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with a dashboard of one file in each place.
    fn repository(name: &str) -> (Workspace, PathBuf) {
        let root = std::env::temp_dir().join(format!("pulsewire-dashboard-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for source in SOURCES {
            let path = root.join(source);
            let path = if path.extension().is_some() { path } else { path.join("deep/file.ts") };
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, source).unwrap();
        }
        (Workspace::at(&root), root)
    }

    #[test]
    fn every_source_is_in_the_hash_by_name_and_content() {
        let (workspace, root) = repository("hash");
        let before = hash(&workspace).unwrap();
        assert_eq!(before.len(), 64);
        let file = root.join("dashboard/src/deep/file.ts");
        let content = fs::read(&file).unwrap();
        fs::write(&file, "another").unwrap();
        assert_ne!(hash(&workspace).unwrap(), before);
        fs::write(&file, &content).unwrap();
        assert_eq!(hash(&workspace).unwrap(), before);
        fs::rename(&file, root.join("dashboard/src/deep/other.ts")).unwrap();
        assert_ne!(hash(&workspace).unwrap(), before);
        fs::write(root.join("dashboard/README.md"), "not a source").unwrap();
        fs::rename(root.join("dashboard/src/deep/other.ts"), &file).unwrap();
        assert_eq!(hash(&workspace).unwrap(), before);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_file_that_differs_or_is_missing_is_named() {
        let (_, root) = repository("compare");
        let (built, served) = (root.join("a"), root.join("b"));
        for folder in [&built, &served] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("app.js"), "1").unwrap();
        }
        fs::write(served.join(SOURCE), "x").unwrap();
        assert!(compare(&built, &served).is_ok());
        fs::write(built.join("app.js"), "2").unwrap();
        assert_eq!(compare(&built, &served).unwrap_err().to_string(), "app.js is not what is committed");
        fs::write(built.join("app.css"), "2").unwrap();
        assert!(compare(&built, &served).is_err());
        fs::remove_dir_all(root).unwrap();
    }
}
