//! Known vulnerabilities, looked up in a local copy of the RustSec advisory database.
//!
//! Nothing is downloaded: without a copy the check says so and passes, and the minimum versions still hold.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use semver::{Version, VersionReq};
use serde::Deserialize;

use super::{Ignored, Locked};
use crate::workspace::Workspace;

/// What the database says about the lock file.
pub(super) struct Report {
    pub(super) faults: Vec<String>,
    pub(super) summary: String,
}

/// Looks every locked package up in the database, if there is one.
pub(super) fn check(workspace: &Workspace, packages: &[Locked], ignored: &[Ignored]) -> Result<Report> {
    let Some(database) = find(workspace) else {
        let summary = "advisories NOT checked: no database (set PULSEWIRE_ADVISORY_DB)".into();
        return Ok(Report { faults: Vec::new(), summary });
    };
    let mut faults = Vec::new();
    for package in packages {
        for advisory in advisories_of(&database, &package.name)? {
            if advisory.concerns(&package.version) && ignored.iter().all(|id| id.id != advisory.head.id) {
                faults.push(format!("{} {}: {}", package.name, package.version, advisory.describe()));
            }
        }
    }
    Ok(Report { faults, summary: "no open advisory".into() })
}

fn find(workspace: &Workspace) -> Option<PathBuf> {
    let places =
        [std::env::var_os("PULSEWIRE_ADVISORY_DB").map(PathBuf::from), Some("../shared/advisory-db".into())];
    places
        .into_iter()
        .flatten()
        .map(|place| workspace.path(place).join("crates"))
        .find(|place| place.is_dir())
}

fn advisories_of(database: &Path, package: &str) -> Result<Vec<Advisory>> {
    let Ok(entries) = std::fs::read_dir(database.join(package)) else { return Ok(Vec::new()) };
    let mut advisories = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        advisories.push(Advisory::read(&text).with_context(|| format!("cannot read {}", path.display()))?);
    }
    Ok(advisories)
}

#[derive(Debug, Deserialize)]
struct Advisory {
    #[serde(rename = "advisory")]
    head: Head,
    versions: Versions,
    #[serde(skip)]
    title: String,
}

#[derive(Debug, Deserialize)]
struct Head {
    id: String,
    withdrawn: Option<String>,
    informational: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Versions {
    #[serde(default)]
    patched: Vec<VersionReq>,
    #[serde(default)]
    unaffected: Vec<VersionReq>,
}

impl Advisory {
    /// An advisory is a Markdown page that opens with a fenced block of TOML.
    fn read(page: &str) -> Result<Self> {
        let (_, rest) = page.split_once("```toml").context("no TOML block")?;
        let (head, text) = rest.split_once("```").context("the TOML block has no end")?;
        let mut advisory: Self = toml::from_str(head)?;
        let title = text.lines().find_map(|line| line.strip_prefix("# "));
        advisory.title = title.unwrap_or("no title").to_owned();
        Ok(advisory)
    }

    fn concerns(&self, version: &Version) -> bool {
        let safe = self.versions.patched.iter().chain(&self.versions.unaffected);
        self.head.withdrawn.is_none() && !safe.into_iter().any(|range| range.matches(version))
    }

    fn describe(&self) -> String {
        let kind = self.head.informational.as_deref().unwrap_or("vulnerability");
        let patched: Vec<_> = self.versions.patched.iter().map(ToString::to_string).collect();
        let mended = if patched.is_empty() { "no mended version".into() } else { patched.join(" or ") };
        format!("{} ({kind}): {} — {mended}", self.head.id, self.title)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2000-0001\"\npackage = \"x\"\n\n[versions]\n\
        patched = [\">= 1.8.4, < 1.9.0\", \">= 1.13.1\"]\nunaffected = [\"< 0.1.14\"]\n```\n\n# It leaks\n";

    fn concerned(page: &str, version: &str) -> bool {
        Advisory::read(page).unwrap().concerns(&version.parse().unwrap())
    }

    #[test]
    fn only_versions_outside_the_safe_ranges_are_concerned() {
        for (version, expected) in
            [("0.1.13", false), ("1.8.3", true), ("1.8.4", false), ("1.9.0", true), ("1.13.1", false)]
        {
            assert_eq!(concerned(PAGE, version), expected, "{version}");
        }
    }

    #[test]
    fn a_withdrawn_advisory_concerns_nobody() {
        let withdrawn = PAGE.replace("package =", "withdrawn = \"2001-01-01\"\npackage =");
        assert!(!concerned(&withdrawn, "1.8.3"));
    }

    #[test]
    fn a_finding_names_the_advisory_and_the_way_out() {
        let text = Advisory::read(PAGE).unwrap().describe();
        assert_eq!(text, "RUSTSEC-2000-0001 (vulnerability): It leaks — >=1.8.4, <1.9.0 or >=1.13.1");
    }

    #[test]
    fn a_page_without_the_block_is_an_error() {
        assert!(Advisory::read("# nothing here").is_err());
    }
}
