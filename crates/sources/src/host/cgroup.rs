//! The control groups this process lives in: where their files are and what they say now.
//!
//! Files are found once, from `/proc/self/cgroup` and `/proc/self/mountinfo`; values are read
//! at every collection, because limits can change while a container runs. Every ancestor that
//! the mount shows is read, since the tightest limit may stand on a pod or a slice. What a
//! value means is decided in `limits`, which does no I/O.
//!
//! Sources: `cgroups(7)`, `proc_pid_mountinfo(5)`, Linux `admin-guide/cgroup-v2`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Ancestors read at most; a container shows one to four.
const LEVELS_MAX: usize = 16;

/// Which interface files a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// One controller's directories, this process's own first, then its ancestors.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    levels: Vec<PathBuf>,
}

/// The files to read at every collection.
#[derive(Debug, Default)]
pub(super) struct Cgroup {
    cpu: Option<Hierarchy>,
    cpu_accounting: Option<Hierarchy>,
    cpuset: Option<Hierarchy>,
    memory: Option<Hierarchy>,
}

/// What the files said at one moment. Empty when the process is in no control group.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct CgroupReading {
    /// Own group first, then its ancestors.
    pub(super) cpu: Vec<CpuLevel>,
    /// CPUs the process may run on.
    pub(super) cpuset_cpus: Option<u32>,
    /// Own group first, then its ancestors.
    pub(super) memory: Vec<MemoryLevel>,
}

/// One group's share of the CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct CpuLevel {
    /// CPUs' worth of time the group may use; `None` when it is not limited.
    pub(super) quota_cpus: Option<f64>,
    /// CPU time the group has used since it was made.
    pub(super) used: Option<Duration>,
}

/// One group's share of the memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct MemoryLevel {
    /// `None` when the group is not limited.
    pub(super) limit_bytes: Option<u64>,
    /// Everything charged to the group, page cache included.
    pub(super) usage_bytes: u64,
    /// Page cache the kernel can take back at once.
    pub(super) inactive_file_bytes: u64,
}

impl Cgroup {
    /// Finds the files below `root`, which is `/` but in tests.
    pub(super) fn find(root: &Path) -> Self {
        let memberships = read(&root.join("proc/self/cgroup")).unwrap_or_default();
        let mounts = read(&root.join("proc/self/mountinfo")).unwrap_or_default();
        let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
        let find = |controller| hierarchy(root, &mounts, &memberships, controller);
        Self {
            cpu: find("cpu"),
            cpu_accounting: find("cpuacct"),
            cpuset: find("cpuset"),
            memory: find("memory"),
        }
    }

    /// Reads the current values.
    pub(super) fn read(&self) -> CgroupReading {
        CgroupReading {
            cpu: self.cpu.as_ref().map(|cpu| self.read_cpu(cpu)).unwrap_or_default(),
            cpuset_cpus: self.cpuset.as_ref().and_then(read_cpuset),
            memory: self.memory.as_ref().map(read_memory).unwrap_or_default(),
        }
    }

    fn read_cpu(&self, cpu: &Hierarchy) -> Vec<CpuLevel> {
        let level = |(index, group): (usize, &PathBuf)| match cpu.version {
            Version::V2 => CpuLevel {
                quota_cpus: read(&group.join("cpu.max")).and_then(|text| quota_v2(&text)),
                used: read(&group.join("cpu.stat"))
                    .and_then(|text| field(&text, "usage_usec"))
                    .map(Duration::from_micros),
            },
            Version::V1 => CpuLevel {
                quota_cpus: quota_v1(
                    read(&group.join("cpu.cfs_quota_us")).as_deref(),
                    read(&group.join("cpu.cfs_period_us")).as_deref(),
                ),
                used: self
                    .cpu_accounting
                    .as_ref()
                    .and_then(|accounting| accounting.levels.get(index))
                    .and_then(|group| number(&read(&group.join("cpuacct.usage"))?))
                    .map(Duration::from_nanos),
            },
        };
        cpu.levels.iter().enumerate().map(level).collect()
    }
}

fn read_cpuset(cpuset: &Hierarchy) -> Option<u32> {
    let names: &[&str] = match cpuset.version {
        Version::V2 => &["cpuset.cpus.effective"],
        Version::V1 => &["cpuset.effective_cpus", "cpuset.cpus"],
    };
    let group = cpuset.levels.first()?;
    names.iter().find_map(|name| cpu_list_len(&read(&group.join(name))?))
}

fn read_memory(memory: &Hierarchy) -> Vec<MemoryLevel> {
    let (limit, usage, inactive_file) = match memory.version {
        Version::V2 => ("memory.max", "memory.current", "inactive_file"),
        Version::V1 => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    };
    let level = |group: &PathBuf| {
        // The root group has no limit, and version 2 gives it no usage file either.
        let limit_bytes = read(&group.join(limit)).and_then(|text| number(&text));
        let Some(usage_bytes) = limit_bytes.and_then(|_| number(&read(&group.join(usage))?)) else {
            return MemoryLevel::default();
        };
        let stat = read(&group.join("memory.stat")).unwrap_or_default();
        MemoryLevel {
            limit_bytes,
            usage_bytes,
            inactive_file_bytes: field(&stat, inactive_file).unwrap_or(0),
        }
    };
    memory.levels.iter().map(level).collect()
}

/// One line of `mountinfo` that mounts a cgroup hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// `None` for version 2, which has every controller in one hierarchy.
    controllers_v1: Option<Vec<String>>,
    /// The group shown at the mount point.
    group: PathBuf,
    point: PathBuf,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (group, point) = (unescape(before.next()?), unescape(before.next()?));
        let mut after = after.split(' ');
        let controllers_v1 = match after.next()? {
            "cgroup2" => None,
            "cgroup" => Some(after.nth(1)?.split(',').map(str::to_owned).collect()),
            _ => return None,
        };
        Some(Self { controllers_v1, group: group.into(), point: point.into() })
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers_v1.as_ref().is_some_and(|names| names.iter().any(|name| name == controller))
    }
}

/// The directories of `controller`: version 1 where it is mounted, else version 2.
fn hierarchy(root: &Path, mounts: &[Mount], memberships: &str, controller: &str) -> Option<Hierarchy> {
    let v1 = mounts.iter().find(|mount| mount.has(controller));
    let (version, mount) = match v1 {
        Some(mount) => (Version::V1, mount),
        None => (Version::V2, mounts.iter().find(|mount| mount.controllers_v1.is_none())?),
    };
    let group = memberships.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, group) = (parts.next()?, parts.next()?);
        let ours = match version {
            Version::V1 => names.split(',').any(|name| name == controller),
            Version::V2 => names.is_empty(),
        };
        ours.then_some(Path::new(group))
    })?;
    Some(Hierarchy { version, levels: levels(root, mount, group) })
}

/// The group's directory and its ancestors up to the mount point.
///
/// A container without a cgroup namespace sees its host's path in `/proc/self/cgroup` while its
/// own group is mounted, so a path outside the mount means the mount point itself.
fn levels(root: &Path, mount: &Mount, group: &Path) -> Vec<PathBuf> {
    let point = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
    let inside = group.strip_prefix(&mount.group).unwrap_or(Path::new(""));
    let own = point.join(inside);
    let own = if own.is_dir() && !inside.starts_with("..") { own } else { point.clone() };
    own.ancestors()
        .take_while(|level| level.starts_with(&point))
        .take(LEVELS_MAX)
        .map(Path::to_path_buf)
        .collect()
}

/// `cpu.max`: "quota period" in microseconds, or "max period".
fn quota_v2(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    cpus(words.next()?.parse().ok()?, words.next()?.parse().ok()?)
}

/// `cpu.cfs_quota_us` is -1 when there is no quota.
fn quota_v1(quota: Option<&str>, period: Option<&str>) -> Option<f64> {
    cpus(quota?.trim().parse().ok()?, period?.trim().parse().ok()?)
}

fn cpus(quota_us: i64, period_us: i64) -> Option<f64> {
    (quota_us > 0 && period_us > 0).then(|| quota_us as f64 / period_us as f64)
}

/// The number of CPUs in a list such as `0-3,8`.
fn cpu_list_len(text: &str) -> Option<u32> {
    let mut len = 0u32;
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        len = len.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(len)
}

/// The value of `name` in a file of `name value` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| number(line.strip_prefix(name)?.strip_prefix(' ')?))
}

/// A whole number; `max` and everything else that is none gives `None`.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `mountinfo` writes space, tab, line feed and backslash as octal escapes.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
