//! Whether this machine lets a server do what its settings say.

use std::fs;
use std::path::Path;

use super::finding::{Examination, Finding};
use crate::descriptors::Share;
use crate::serve::cores;
use crate::settings::Settings;

/// Connections that wait to be accepted; a storm of reconnects needs more than the usual 128.
const BACKLOG_MIN: u64 = 1_024;
/// So much of the disk should be free, as a share …
const DISK_WARNING_PERCENT: f64 = 10.0;
/// … and below this it is an emergency.
const DISK_CRITICAL_PERCENT: f64 = 2.0;

pub(super) fn examine(settings: &Settings, found: &mut Examination) {
    found.add(files(settings));
    found.add(backlog(number("/proc/sys/net/core/somaxconn")));
    found.add(ports(&read("/proc/sys/net/ipv4/ip_local_port_range"), settings.limits.connections_max));
    found.add(disk(&settings.server.data_dir));
}

fn files(settings: &Settings) -> Finding {
    let shards = if settings.server.shards == 0 { cores() } else { settings.server.shards };
    let remedy = "raise it with ulimit -n, or LimitNOFILE in the unit file";
    match Share::of_process(settings, shards) {
        Err(too_few) => Finding::critical("files", too_few.to_string(), remedy),
        Ok(share) => match (share.note(), share.limit) {
            (Some(note), limit) => {
                Finding::warning("files", note, remedy).value(limit.unwrap_or(0) as f64, "count")
            }
            (None, Some(limit)) => {
                let text = format!("{limit} for {} connections", share.connections_max);
                Finding::ok("files", text).value(limit as f64, "count")
            }
            (None, None) => Finding::ok("files", "without a limit"),
        },
    }
}

fn backlog(somaxconn: Option<u64>) -> Finding {
    let Some(most) = somaxconn else { return Finding::skipped("backlog", "the kernel does not say") };
    let text = format!("{most} connections may wait to be accepted (net.core.somaxconn)");
    let finding = if most < BACKLOG_MIN {
        Finding::warning(
            "backlog",
            text,
            "sysctl -w net.core.somaxconn=4096: a storm of reconnects fills a short queue",
        )
    } else {
        Finding::ok("backlog", text)
    };
    finding.value(most as f64, "count")
}

/// A proxy on this machine needs a local port for each connection to the server.
fn ports(range: &str, connections_max: usize) -> Finding {
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u64>().ok());
    let (Some(first), Some(last)) = (ends.next(), ends.next()) else {
        return Finding::skipped("ports", "the kernel does not say");
    };
    let ports = (last + 1).saturating_sub(first);
    let text = format!("{ports} for a proxy here, {connections_max} connections allowed");
    let finding = if ports < connections_max as u64 {
        let remedy = "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\", or let the proxy use several local addresses";
        Finding::warning("ports", text, remedy)
    } else {
        Finding::ok("ports", text)
    };
    finding.value(ports as f64, "count")
}

fn disk(folder: &Path) -> Finding {
    // A folder that is made with the first start lies on its parent's disk.
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    match rustix::fs::statvfs(there) {
        Ok(disk) if disk.f_blocks > 0 => {
            let free = disk.f_bavail as f64 * disk.f_frsize as f64;
            free_of(free, disk.f_bavail as f64 / disk.f_blocks as f64 * 100.0, folder)
        }
        Ok(_) => Finding::skipped("disk", format!("{} has no size", folder.display())),
        Err(error) => Finding::skipped("disk", format!("{}: {error}", folder.display())),
    }
}

fn free_of(bytes: f64, percent: f64, folder: &Path) -> Finding {
    let gib = bytes / f64::from(1 << 30);
    let text = format!("{gib:.1} GiB free ({percent:.0} %) for {}", folder.display());
    let remedy = "make room, or bound what is kept: store.bytes_max, and the retention of namespaces";
    let finding = match percent {
        percent if percent < DISK_CRITICAL_PERCENT => Finding::critical("disk", text, remedy),
        percent if percent < DISK_WARNING_PERCENT => Finding::warning("disk", text, remedy),
        _ => Finding::ok("disk", text),
    };
    finding.value(bytes, "bytes")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &str) -> Option<u64> {
    read(path).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn what_the_kernel_allows_is_held_against_what_is_wanted() {
        assert_eq!(backlog(Some(128)).verdict, Verdict::Warning);
        assert_eq!(backlog(Some(4_096)).verdict, Verdict::Ok);
        assert_eq!(backlog(None).verdict, Verdict::Skipped);
        assert_eq!(ports("32768\t60999\n", 10_000).verdict, Verdict::Ok);
        assert_eq!(ports("32768\t60999\n", 28_232).verdict, Verdict::Ok);
        assert_eq!(ports("32768\t60999\n", 28_233).verdict, Verdict::Warning);
        assert_eq!(ports("", 1).verdict, Verdict::Skipped);
    }

    #[test]
    fn a_full_disk_is_told_of_before_it_is_full() {
        let seen = [50.0, 9.9, 1.9].map(|percent| free_of(1e9, percent, Path::new("data")).verdict);
        assert_eq!(seen, [Verdict::Ok, Verdict::Warning, Verdict::Critical]);
        assert_ne!(disk(Path::new("a/folder/that/is/not/there")).verdict, Verdict::Skipped);
    }
}
