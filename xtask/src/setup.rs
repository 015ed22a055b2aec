//! Debian packages that tests need, installed when missing.
//!
//! Only what is missing is installed, only as root, and only by `apt-get`; anybody else is told the command.

use std::process::Command;

/// A package of the system and what it is for.
pub struct Package {
    /// Its Debian name.
    pub name: &'static str,
    /// A program it brings, by which its presence is recognised.
    pub program: &'static str,
    /// What cannot be tested without it.
    pub needed_for: &'static str,
}

/// Browsers for tests, of which any will do. The shell is Chromium without windows: it needs half the CPU time.
pub const CHROMIUM: [&str; 2] = ["chromium-headless-shell", "chromium"];

/// Everything any test needs.
pub const PACKAGES: [Package; 16] = [
    Package {
        name: "valgrind",
        program: "valgrind",
        needed_for: "budgets: instructions per delivery (callgrind)",
    },
    Package {
        name: "strace",
        program: "strace",
        needed_for: "budgets: system calls per delivery; cargo: syncs that fail (row D4)",
    },
    Package {
        name: "postgresql",
        program: "initdb",
        needed_for: "cargo: the PostgreSQL store; its tests FAIL, or are left out with PULSEWIRE_WITHOUT_POSTGRES=1",
    },
    Package {
        name: "redis-server",
        program: "redis-server",
        needed_for: "cargo: samples from Redis; its tests FAIL, or are left out with PULSEWIRE_WITHOUT_REDIS=1",
    },
    Package {
        name: "tmux",
        program: "tmux",
        needed_for: "cargo: `pulsewire top` on a terminal; its test FAILS without",
    },
    Package {
        name: CHROMIUM[0],
        program: CHROMIUM[0],
        needed_for: "sdk, dashboard: the TypeScript SDK, the health element and the dashboard in a browser, unless there is another Chromium",
    },
    Package {
        name: "nodejs",
        program: "node",
        needed_for: "sdk: everything about the TypeScript SDK; it needs 20.19 or newer",
    },
    // Where Node comes from elsewhere it brings its own npm, beside which Debian's cannot be installed.
    Package { name: "npm", program: "node", needed_for: "sdk: everything about the TypeScript SDK" },
    Package {
        name: "prometheus",
        program: "promtool",
        needed_for: "operations: rules, their tests and their mutants; cargo: the pipeline from load to receiver",
    },
    Package {
        name: "prometheus-alertmanager",
        program: "amtool",
        needed_for: "operations: routes and texts of alerts; cargo: the pipeline from load to receiver",
    },
    Package {
        name: "kubernetes-client",
        program: "kubectl",
        needed_for: "operations: the manifests as Kustomize builds them",
    },
    Package {
        name: "python3-venv",
        program: "python3",
        needed_for: "operations: schemas of Compose and Kubernetes, the Dockerfile",
    },
    Package { name: "systemd", program: "systemd-analyze", needed_for: "operations: the systemd unit" },
    Package {
        name: "nginx-light",
        program: "nginx",
        needed_for: "cargo: the server behind nginx; its test FAILS, or is left out with PULSEWIRE_WITHOUT_PROXIES=1",
    },
    Package {
        name: "haproxy",
        program: "haproxy",
        needed_for: "cargo: the server behind HAProxy; its test FAILS, or is left out with PULSEWIRE_WITHOUT_PROXIES=1",
    },
    Package {
        name: "caddy",
        program: "caddy",
        needed_for: "cargo: the server behind Caddy; its test FAILS, or is left out with PULSEWIRE_WITHOUT_PROXIES=1",
    },
];

/// Installs what is missing where that is possible, and returns what is missing still.
pub fn ensure() -> Vec<&'static Package> {
    let missing: Vec<_> = PACKAGES.iter().filter(|package| !installed(package.program)).collect();
    if missing.is_empty() {
        return missing;
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    println!("setup: missing packages: {}", names.join(" "));
    if !installed("apt-get") || !is_root() || !install(&names) {
        println!(
            "setup: install them with: sudo apt-get update && sudo apt-get install -y {}",
            names.join(" ")
        );
    }
    missing.into_iter().filter(|package| !installed(package.program)).collect()
}

/// Whether a program is found on the path, where Debian keeps those of PostgreSQL's server, or among the system's.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let servers = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders = std::env::split_paths(&path)
        .chain(servers.map(|version| version.path().join("bin")))
        .chain(["/usr/sbin".into()]);
    folders.any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn install(names: &[&str]) -> bool {
    let apt = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
            .is_ok_and(|status| status.success())
    };
    // The package lists of a fresh machine are empty, those of an old one may name what is gone.
    apt(&["update", "-qq"]);
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"], names].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_only_if_it_exists() {
        assert!(installed("sh"));
        assert!(!installed("no-such-program-anywhere"));
    }
}
