//! Versions below which a library has a defect that breaks one of our promises.
//!
//! The list stands in for the advisory database where that is not at hand. A name that is not in `Cargo.lock` costs
//! nothing and is ready for the day somebody adds it.

use semver::Version;

use super::Locked;

/// Package, lowest good version, what the older ones do.
const MINIMUMS: [(&str, &str, &str); 16] = [
    ("tungstenite", "0.20.1", "handshake headers of any length exhaust memory and time"),
    ("jsonwebtoken", "10.3.0", "a claim of the wrong type skips its check"),
    ("tokio", "1.44.2", "a broadcast channel clones values that are not `Sync` in parallel"),
    ("bytes", "1.11.1", "BytesMut::reserve overflows"),
    ("h2", "0.4.16", "empty DATA frames are taken without a bound"),
    ("rustls-webpki", "0.103.13", "a malformed revocation list panics, name constraints are passed over"),
    ("tracing-subscriber", "0.3.20", "terminal escapes in logged values are passed through"),
    ("time", "0.3.47", "a crafted date exhausts the stack"),
    ("lru", "0.18.2", "a panic in `pop` leaves a dangling entry"),
    ("tokio-postgres", "0.7.18", "a row with too few fields panics the client"),
    ("postgres-protocol", "0.6.12", "a hostile server keeps the client busy or panics it"),
    ("sqlx", "0.8.1", "lengths above 4 GiB are truncated into other statements"),
    ("rmpv", "0.4.2", "a declared length is allocated before it is read"),
    ("rmp-serde", "1.1.1", "invalid UTF-8 reaches a `str`"),
    ("rusqlite", "0.41.0", "bundles an SQLite before 3.51.3, which can corrupt a WAL database"),
    ("sqlx-sqlite", "0.9.0", "bundles an SQLite before 3.51.3, which can corrupt a WAL database"),
];

/// One line per locked package that is too old.
pub(super) fn faults(packages: &[Locked]) -> Vec<String> {
    packages.iter().filter_map(fault).collect()
}

fn fault(package: &Locked) -> Option<String> {
    let (name, lowest, why) = MINIMUMS.iter().find(|(name, ..)| *name == package.name)?;
    let lowest = Version::parse(lowest).expect("the table holds versions, as its test shows");
    (package.version < lowest)
        .then(|| format!("{name} {}: older than {lowest}, where {why} is mended", package.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(name: &str, version: &str) -> Locked {
        Locked { name: name.into(), version: version.parse().unwrap(), source: None }
    }

    #[test]
    fn an_old_version_is_named_with_the_reason() {
        let found = faults(&[locked("tokio", "1.44.1"), locked("tokio", "1.44.2"), locked("other", "0.0.1")]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("tokio 1.44.1: older than 1.44.2"), "{}", found[0]);
    }

    #[test]
    fn every_minimum_is_a_version_and_every_package_stands_once() {
        let names: std::collections::BTreeSet<_> = MINIMUMS.iter().map(|(name, ..)| name).collect();
        assert_eq!(names.len(), MINIMUMS.len());
        assert_eq!(faults(&MINIMUMS.map(|(name, lowest, _)| locked(name, lowest))), [""; 0]);
    }
}
