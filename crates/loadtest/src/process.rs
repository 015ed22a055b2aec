//! What a process has used so far, read from `/proc`.
//!
//! CPU time is the sum over the threads of `schedstat`, which counts nanoseconds where `stat` counts ticks of 10 ms.
//! Threads that ended are missing from it; a server's threads live as long as it does.

use std::fs;
use std::io;

/// The use of one process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Time on a CPU of all living threads, user and kernel, in nanoseconds.
    pub cpu_ns: u64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Resident memory that is no file, in bytes: heap and stacks.
    pub anonymous_bytes: u64,
}

impl Usage {
    /// Reads the usage of a process now.
    ///
    /// # Errors
    ///
    /// When the process is gone or belongs to somebody else.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let mut usage = Usage::default();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            usage.cpu_ns += text.split(' ').next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        usage.resident_bytes = kibibytes(&status, "VmRSS:") * 1024;
        usage.anonymous_bytes = kibibytes(&status, "RssAnon:") * 1024;
        Ok(usage)
    }
}

/// The kernel's slab memory of the whole machine, in bytes; sockets live there.
///
/// # Errors
///
/// When `/proc/meminfo` cannot be read.
pub fn kernel_slab_bytes() -> io::Result<u64> {
    Ok(kibibytes(&fs::read_to_string("/proc/meminfo")?, "Slab:") * 1024)
}

fn kibibytes(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The machine a measurement was made on.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, PartialEq, Eq)]
pub struct Machine {
    /// CPUs this process may use.
    pub cores: usize,
    /// The CPU's name for itself.
    pub cpu: String,
    /// The kernel's release.
    pub kernel: String,
    /// Memory in GiB, rounded.
    pub memory_gib: u64,
    /// Processes waiting for a CPU when the measurement began: anything above 1 was other work.
    pub load: String,
}

impl Machine {
    /// Describes this machine; what cannot be read stays empty.
    pub fn here() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let cpu =
            cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: cpu.map(|(_, name)| name.to_owned()).unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_gib: (kibibytes(&read("/proc/meminfo"), "MemTotal:") + (1 << 19)) >> 20,
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_the_usage_of_this_process() {
        let before = Usage::of(std::process::id()).unwrap();
        let mut sum = 0_u64;
        let mut after = before;
        while after.cpu_ns == before.cpu_ns {
            sum = (0..1_000_000_u64).fold(sum, |sum, number| sum ^ number.wrapping_mul(sum | 1));
            after = Usage::of(std::process::id()).unwrap();
        }
        assert!(after.cpu_ns > before.cpu_ns && after.resident_bytes > 1 << 20, "{sum}");
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(Usage::of(u32::MAX).is_err());
    }
}
