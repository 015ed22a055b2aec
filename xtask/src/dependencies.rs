//! What we depend on: licences, origin, duplicates, minimum versions, known vulnerabilities.
//!
//! The rules are in `deny.toml`, in the words of `cargo deny`, which reads the same file. It is not used here because
//! installing it compiles a git client and an HTTP stack with full link-time optimisation; what follows takes a
//! second and works offline.

mod advisories;
mod minimums;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::steps;
use crate::workspace::Workspace;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Applies every rule to the packages of the build.
///
/// # Errors
///
/// One line per package that breaks a rule.
pub fn check(workspace: &Workspace) -> Result<String> {
    let rules: Rules = toml::from_str(&workspace.read("deny.toml")?).context("cannot read deny.toml")?;
    let lock: Lock = toml::from_str(&workspace.read("Cargo.lock")?).context("cannot read Cargo.lock")?;
    let built = built_packages(workspace)?;
    fuzz_lock_is_current(workspace)?;
    let mut faults = licence_faults(&built, &rules.licenses.allow);
    faults.extend(origin_faults(&lock.package));
    faults.extend(duplicate_faults(&built, &rules.bans.skip)?);
    faults.extend(minimums::faults(&lock.package));
    let advisories = advisories::check(workspace, &lock.package, &rules.advisories.ignore)?;
    faults.extend(advisories.faults);
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(format!("{} packages; {}", built.len(), advisories.summary))
}

#[derive(Debug, Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    advisories: Advisories,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    skip: Vec<Known>,
}

#[derive(Debug, Deserialize)]
struct Advisories {
    ignore: Vec<Ignored>,
}

/// A second version of a package that we know of, `name@version`.
#[derive(Debug, Deserialize)]
struct Known {
    #[serde(rename = "crate")]
    package: String,
}

/// An advisory that does not concern us; `deny.toml` says why.
#[derive(Debug, Deserialize)]
struct Ignored {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

/// One entry of `Cargo.lock`: all platforms, and optional packages that nobody turned on.
#[derive(Debug, Deserialize)]
struct Locked {
    name: String,
    version: Version,
    /// `None` for the crates of this repository.
    source: Option<String>,
}

/// A foreign package that is compiled, into the product or into its tests.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Built {
    name: String,
    version: Version,
    licence: String,
}

/// Asks `cargo tree`, because `cargo metadata` also lists optional packages that are not turned on.
fn built_packages(workspace: &Workspace) -> Result<BTreeSet<Built>> {
    let mut tree = workspace.cargo(["tree", "--locked", "--workspace", "--edges=normal,build,dev"]);
    tree.args(["--target=x86_64-unknown-linux-gnu", "--prefix=none", "--format={p}\t{l}"]);
    let output = tree.output().context("cannot start cargo tree")?;
    ensure!(output.status.success(), "cargo tree failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).context("cargo tree did not print text")?;
    let foreign = text.lines().filter(|line| !line.is_empty() && !line.contains(" (/"));
    foreign.map(|line| Built::read(line).with_context(|| format!("cannot read `{line}`"))).collect()
}

/// The fuzz targets are a workspace of their own, whose lock file follows our manifests only when somebody says so.
fn fuzz_lock_is_current(workspace: &Workspace) -> Result<()> {
    let mut tree =
        workspace.cargo(["tree", "--locked", "--quiet", "--depth=0", "--manifest-path=fuzz/Cargo.toml"]);
    steps::quietly(&mut tree)
        .context("mend it with: cargo update --workspace --manifest-path fuzz/Cargo.toml")
}

impl Built {
    /// Reads `name v1.2.3 (proc-macro)<tab>MIT (*)`.
    fn read(line: &str) -> Option<Self> {
        let (package, licence) = line.split_once('\t')?;
        let mut words = package.split(' ');
        let name = words.next()?.to_owned();
        let version = words.next()?.strip_prefix('v')?.parse().ok()?;
        Some(Self { name, version, licence: licence.trim_end_matches(" (*)").to_owned() })
    }
}

fn licence_faults(packages: &BTreeSet<Built>, allowed: &BTreeSet<String>) -> Vec<String> {
    let refused = packages.iter().filter(|package| !licence_allowed(&package.licence, allowed));
    let describe = |package: &Built| {
        format!("{} {}: licence `{}` is not allowed", package.name, package.version, package.licence)
    };
    refused.map(describe).collect()
}

fn licence_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // Lax: older manifests write `MIT/Apache-2.0`.
    spdx::Expression::parse_mode(expression, spdx::ParseMode::LAX)
        .is_ok_and(|parsed| parsed.evaluate(|requirement| allowed.contains(&requirement.to_string())))
}

fn origin_faults(packages: &[Locked]) -> Vec<String> {
    let fault = |package: &Locked| {
        let source = package.source.as_deref()?;
        (source != REGISTRY)
            .then(|| format!("{} {}: comes from {source}, not from crates.io", package.name, package.version))
    };
    packages.iter().filter_map(fault).collect()
}

fn duplicate_faults(packages: &BTreeSet<Built>, known: &[Known]) -> Result<Vec<String>> {
    let known: Vec<(&str, VersionReq)> = known.iter().map(Known::parse).collect::<Result<_>>()?;
    let mut versions: BTreeMap<&str, BTreeSet<&Version>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let skipped = |name: &str, version: &Version| {
        known.iter().any(|(known, required)| *known == name && required.matches(version))
    };
    let mut faults = Vec::new();
    for (name, versions) in &versions {
        let counted: Vec<_> =
            versions.iter().filter(|version| !skipped(name, version)).map(ToString::to_string).collect();
        if counted.len() > 1 {
            faults.push(format!("{name}: {} versions in the build: {}", counted.len(), counted.join(", ")));
        }
    }
    for (name, required) in &known {
        let versions = versions.get(name);
        let needed = versions.is_some_and(|all| all.len() > 1 && all.iter().any(|v| required.matches(v)));
        if !needed {
            faults.push(format!("deny.toml: `{name}` {required} is no duplicate any more; drop the line"));
        }
    }
    Ok(faults)
}

impl Known {
    fn parse(&self) -> Result<(&str, VersionReq)> {
        let (name, version) =
            self.package.split_once('@').with_context(|| format!("`{}` names no version", self.package))?;
        Ok((name, VersionReq::parse(&format!("={version}"))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built<const N: usize>(packages: [(&str, &str); N]) -> BTreeSet<Built> {
        packages.map(|(name, version)| Built::read(&format!("{name} v{version}\tMIT")).unwrap()).into()
    }

    #[test]
    fn a_licence_expression_needs_an_allowed_way_through() {
        let allowed =
            BTreeSet::from(["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(String::from));
        let allows = |expression| licence_allowed(expression, &allowed);
        assert!(allows("MIT/Apache-2.0"));
        assert!(allows("GPL-3.0-only OR MIT"));
        assert!(allows("Apache-2.0 WITH LLVM-exception"));
        assert!(!allows("MIT AND GPL-3.0-only"));
        assert!(!allows("none declared"));
    }

    #[test]
    fn a_line_of_cargo_tree_is_read() {
        let built = Built::read("paste v1.0.15 (proc-macro)\tMIT OR Apache-2.0 (*)").unwrap();
        let expected = Built {
            name: "paste".into(),
            version: Version::new(1, 0, 15),
            licence: "MIT OR Apache-2.0".into(),
        };
        assert_eq!(built, expected);
    }

    #[test]
    fn a_refused_licence_is_named_with_its_package() {
        let faults = licence_faults(&built([("a", "1.0.0")]), &BTreeSet::from(["ISC".to_owned()]));
        assert_eq!(faults, ["a 1.0.0: licence `MIT` is not allowed"]);
    }

    #[test]
    fn a_package_from_git_is_refused_and_ours_are_not_asked() {
        let locked = |source: Option<&str>| Locked {
            name: "x".into(),
            version: Version::new(1, 0, 0),
            source: source.map(Into::into),
        };
        let packages = [locked(Some("git+https://example.com/x")), locked(Some(REGISTRY)), locked(None)];
        assert_eq!(
            origin_faults(&packages),
            ["x 1.0.0: comes from git+https://example.com/x, not from crates.io"]
        );
    }

    #[test]
    fn a_duplicate_is_refused_unless_it_is_known() {
        let packages = built([("a", "0.22.1"), ("a", "0.23.0"), ("b", "1.0.0")]);
        let known = |name: &str| vec![Known { package: name.into() }];
        let faults = |known: &[Known]| duplicate_faults(&packages, known).unwrap();
        assert_eq!(faults(&[]), ["a: 2 versions in the build: 0.22.1, 0.23.0"]);
        assert_eq!(faults(&known("a@0.22")), [""; 0]);
    }

    #[test]
    fn a_known_duplicate_that_is_none_must_be_dropped() {
        let known = [Known { package: "a@0.22".into() }];
        let faults = duplicate_faults(&built([("a", "0.23.0")]), &known).unwrap();
        assert_eq!(faults, ["deny.toml: `a` =0.22 is no duplicate any more; drop the line"]);
    }
}
