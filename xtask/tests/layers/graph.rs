//! The dependency direction, checked on what the manifests ask for.

use xtask::workspace::Package;

/// What one crate of the workspace may use.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    /// Crates of ours it may use.
    pub(crate) may_use: &'static [&'static str],
    /// Crates of ours its tests may use besides.
    pub(crate) tests_may_use: &'static [&'static str],
    /// Foreign crates that would mean it does another crate's work.
    pub(crate) never: &'static [&'static str],
}

/// One line per dependency that the rules do not allow, and per crate without a rule.
pub(crate) fn faults(ours: &[Package], rules: &[Rule]) -> Vec<String> {
    let mut faults = Vec::new();
    for package in ours {
        let Some(rule) = rules.iter().find(|rule| rule.name == package.name) else {
            faults.push(format!("{} stands in no layer", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let is_test = dependency.kind.as_deref() == Some("dev");
            let is_ours = ours.iter().any(|other| other.name == name);
            let allowed = rule.may_use.contains(&name) || (is_test && rule.tests_may_use.contains(&name));
            if (is_ours && !allowed) || (!is_test && rule.never.contains(&name)) {
                faults.push(format!("{} must not use {name}", package.name));
            }
        }
    }
    faults
}

mod tests {
    use super::{Rule, faults};
    use xtask::workspace::{Dependency, Package};

    const RULES: [Rule; 2] = [
        Rule { name: "low", may_use: &[], tests_may_use: &["high"], never: &["tokio"] },
        Rule { name: "high", may_use: &["low"], tests_may_use: &[], never: &[] },
    ];

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependency = |(name, kind): &(&str, Option<&str>)| Dependency {
            name: (*name).into(),
            kind: kind.map(Into::into),
        };
        Package {
            name: name.into(),
            source: None,
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    fn check(low: &[(&str, Option<&str>)], high: &[(&str, Option<&str>)], expected: &[&str]) {
        assert_eq!(faults(&[package("low", low), package("high", high)], &RULES), expected);
    }

    #[test]
    fn a_crate_may_use_those_before_it() {
        check(&[("bytes", None)], &[("low", None), ("tokio", None)], &[]);
    }

    #[test]
    fn a_crate_that_uses_a_later_one_is_named() {
        check(&[("high", None)], &[], &["low must not use high"]);
        check(&[("high", Some("build"))], &[], &["low must not use high"]);
    }

    #[test]
    fn tests_may_reach_wider_only_where_listed() {
        check(&[("high", Some("dev")), ("tokio", Some("dev"))], &[], &[]);
        check(&[], &[("low", None), ("high", Some("dev"))], &["high must not use high"]);
    }

    #[test]
    fn a_foreign_crate_of_another_layer_is_named() {
        check(&[("tokio", None)], &[], &["low must not use tokio"]);
    }

    #[test]
    fn a_crate_without_a_rule_is_named() {
        assert_eq!(faults(&[package("new", &[])], &RULES), ["new stands in no layer"]);
    }
}
