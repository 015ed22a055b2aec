//! The process's own figures, from `/proc/self`.
//!
//! Every figure is zero where `/proc` is missing: a scrape must not fail for want of one.

use std::fs;
use std::time::{Duration, Instant};

/// Clock ticks a second in `/proc`; a constant of Linux's user interface on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process's own figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// User and system CPU time, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Virtual memory, bytes.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub fds_open: u64,
    /// File descriptors allowed.
    pub fds_max: u64,
    /// Threads.
    pub threads: u64,
    /// When the process started, Unix seconds.
    pub start_seconds: f64,
}

impl Process {
    /// Reads the figures.
    #[must_use]
    pub fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let mut this =
            Self::parse(&read("/proc/self/stat"), &read("/proc/self/status"), &read("/proc/self/limits"));
        this.start_seconds += boot_seconds(&read("/proc/stat"));
        this.fds_open = fds_open();
        this
    }

    /// `start_seconds` is still relative to the boot.
    fn parse(stat: &str, status: &str, limits: &str) -> Self {
        // The second field is the program's name in parentheses and may hold anything, so count from its end.
        let fields: Vec<&str> =
            stat.rsplit_once(") ").map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
        let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        Self {
            cpu_seconds: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
            resident_bytes: field("VmRSS:") * 1024,
            virtual_bytes: field("VmSize:") * 1024,
            fds_open: 0,
            fds_max: files.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0),
            threads: field("Threads:"),
            start_seconds: ticks(19) / TICKS_PER_SECOND,
        }
    }
}

fn boot_seconds(stat: &str) -> f64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or(0.0)
}

/// Linux 6.2 and later give the count as the folder's size; before that the folder must be read,
/// which takes milliseconds at ten thousand connections.
fn fds_open() -> u64 {
    let size = fs::metadata("/proc/self/fd").map_or(0, |meta| meta.len());
    if size > 0 {
        return size;
    }
    // One of the entries is the folder being read.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| (entries.count() as u64).saturating_sub(1))
}

/// Turns a growing CPU time into a percentage between scrapes.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    since: Instant,
    seconds: f64,
    percent: f64,
}

impl CpuMeter {
    /// A shorter window says nothing, and two scrapers would spoil each other's.
    const WINDOW_MIN: Duration = Duration::from_secs(1);

    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, seconds: 0.0, percent: 0.0 }
    }

    /// The share of `cores` used since the last window, in percent (0 to 100).
    pub(crate) fn percent(&mut self, now: Instant, seconds: f64, cores: usize) -> f64 {
        let window = now.saturating_duration_since(self.since);
        if window >= Self::WINDOW_MIN {
            let used = (seconds - self.seconds).max(0.0);
            self.percent = used / window.as_secs_f64() / cores.max(1) as f64 * 100.0;
            (self.since, self.seconds) = (now, seconds);
        }
        self.percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_kernels_text() {
        let stat = "77 (a) b) R 1 77 77 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 1000 2048 25 18446744073709551615";
        let status = "Name:\ta\nVmSize:\t   2048 kB\nVmRSS:\t    100 kB\nThreads:\t9\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            20000                524288               files     \n";
        let process = Process::parse(stat, status, limits);
        let expected = Process {
            cpu_seconds: 2.0,
            resident_bytes: 102_400,
            virtual_bytes: 2_097_152,
            fds_open: 0,
            fds_max: 20_000,
            threads: 9,
            start_seconds: 10.0,
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("", "", ""), Process::default());
        assert!((boot_seconds("cpu 1 2\nbtime 1700000000\n") - 1_700_000_000.0).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let process = Process::read();
        assert!(
            process.resident_bytes > 0
                && process.threads > 0
                && process.fds_open > 0
                && process.start_seconds > 1e9
        );
    }

    #[test]
    fn a_cpu_percentage_is_over_windows_of_a_second_and_all_cores() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut meter = CpuMeter::new(start);
        assert_eq!(meter.percent(at(0.5), 0.4, 2), 0.0);
        assert_eq!(meter.percent(at(2.0), 1.0, 2), 25.0);
        assert_eq!(meter.percent(at(2.5), 1.5, 2), 25.0);
        assert_eq!(meter.percent(at(3.0), 1.0, 2), 0.0);
    }
}
