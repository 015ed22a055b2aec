//! Reading the host: all the I/O of the collector and none of its decisions.
//!
//! `sysinfo` reads the machine, and only the parts that are shown are refreshed. Three things
//! are read here instead: control groups, which it knows for memory alone; the frequency,
//! which it reads for every CPU although that can take milliseconds for each; and the disk,
//! because it lists every mount, and one dead network mount would stall the collector.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, Networks, System};
use tracing::warn;

use super::{
    HostError, HostOptions,
    cgroup::{Cgroup, CgroupReading},
    network::{Traffic, TrafficTotals, ignored},
};

/// The host at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reading {
    /// When, on a clock that only goes forward.
    pub(super) at: Duration,
    pub(super) machine: Machine,
    pub(super) cgroup: CgroupReading,
    /// `None` where the file system cannot be asked.
    pub(super) disk: Option<Disk>,
    pub(super) traffic: Traffic,
    /// Over one, five and fifteen minutes.
    pub(super) load: Option<[f64; 3]>,
}

/// The machine without regard to limits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Machine {
    /// Since the reading before; `None` at the first.
    pub(super) cpu_percent: Option<f64>,
    pub(super) cpus: u32,
    /// Of the first CPU, in megahertz; `None` where the system does not tell.
    pub(super) frequency_mhz: Option<f64>,
    pub(super) memory_total_bytes: u64,
    /// What could be given to a new process without swapping.
    pub(super) memory_available_bytes: u64,
}

/// One file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) total_bytes: u64,
    pub(super) free_bytes: u64,
    /// Free for users: what `free_bytes` leaves after the system's reserve.
    pub(super) available_bytes: u64,
}

/// Reads the host again and again.
#[derive(Debug)]
pub(super) struct Reader {
    root: PathBuf,
    disk_path: PathBuf,
    interfaces_ignored: Vec<String>,
    started: Instant,
    system: System,
    networks: Networks,
    cgroup: Cgroup,
    traffic: TrafficTotals,
    cpu_refreshed: Option<Instant>,
    cpu_percent: Option<f64>,
    disk_fails: bool,
}

impl Reader {
    pub(super) fn new(options: &HostOptions) -> Result<Self, HostError> {
        Ok(Self {
            root: options.root.clone(),
            disk_path: options.disk_path.clone(),
            interfaces_ignored: options.interfaces_ignored.clone(),
            started: Instant::now(),
            system: System::new().map_err(HostError::Unsupported)?,
            networks: Networks::new().map_err(HostError::Unsupported)?,
            cgroup: Cgroup::find(&options.root),
            traffic: TrafficTotals::default(),
            cpu_refreshed: None,
            cpu_percent: None,
            disk_fails: false,
        })
    }

    pub(super) fn read(&mut self) -> Reading {
        // The two sides of the CPU percentage stand first, close to the time they are measured by.
        let at = self.started.elapsed();
        let cgroup = self.cgroup.read();
        Reading {
            at,
            machine: self.read_machine(),
            cgroup,
            disk: self.read_disk(),
            traffic: self.read_traffic(),
            load: System::load_average().ok().map(|load| [load.one, load.five, load.fifteen]),
        }
    }

    fn read_machine(&mut self) -> Machine {
        self.refresh_cpu();
        self.system.refresh_memory();
        Machine {
            cpu_percent: self.cpu_percent,
            cpus: u32::try_from(self.system.cpus().len()).unwrap_or(u32::MAX),
            frequency_mhz: frequency_mhz(&self.root),
            memory_total_bytes: self.system.total_memory(),
            memory_available_bytes: self.system.available_memory(),
        }
    }

    /// The library's first percentage is since boot, and it ignores a refresh that comes too
    /// early; neither may look like a measurement.
    fn refresh_cpu(&mut self) {
        let due = self.cpu_refreshed.is_none_or(|at| at.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL);
        if due {
            self.system.refresh_cpu_usage();
            let first = self.cpu_refreshed.replace(Instant::now()).is_none();
            self.cpu_percent = (!first).then(|| f64::from(self.system.global_cpu_usage()));
        }
    }

    fn read_disk(&mut self) -> Option<Disk> {
        match rustix::fs::statvfs(&self.disk_path) {
            Ok(stat) => {
                self.disk_fails = false;
                Some(Disk {
                    total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
                    free_bytes: stat.f_bfree.saturating_mul(stat.f_frsize),
                    available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
                })
            }
            Err(error) => {
                if !self.disk_fails {
                    warn!(path = %self.disk_path.display(), %error, "disk cannot be measured");
                }
                self.disk_fails = true;
                None
            }
        }
    }

    fn read_traffic(&mut self) -> Traffic {
        self.networks.refresh(true);
        let counted = self.networks.iter().filter_map(|(name, data)| {
            let name = name.to_str().filter(|name| !ignored(name, &self.interfaces_ignored))?;
            let (sent_bytes, received_bytes) = (data.total_transmitted(), data.total_received());
            Some((name, Traffic { sent_bytes, received_bytes }))
        });
        self.traffic.advance(counted)
    }
}

/// The first CPU's frequency: where the kernel scales it, else as it was found at boot.
fn frequency_mhz(root: &Path) -> Option<f64> {
    let scaled = root.join("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq");
    if let Ok(khz) = fs::read_to_string(scaled) {
        return khz.trim().parse::<u64>().ok().map(|khz| khz as f64 / 1000.0);
    }
    let text = fs::read_to_string(root.join("proc/cpuinfo")).ok()?;
    let line = text.lines().find(|line| line.starts_with("cpu MHz"))?;
    line.split_once(':')?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::Tree;

    #[test]
    fn the_scaled_frequency_is_preferred_to_the_one_of_boot() {
        let scaled = ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2400000\n");
        let boot = ("proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 2596.150\ncpu MHz\t\t: 1.0\n");
        assert_eq!(frequency_mhz(Tree::new(&[scaled, boot]).root()), Some(2400.0));
        assert_eq!(frequency_mhz(Tree::new(&[boot]).root()), Some(2596.15));
        assert_eq!(frequency_mhz(Tree::new(&[]).root()), None);
    }

    #[test]
    fn the_first_reading_has_no_cpu_percentage_nor_has_one_that_follows_at_once() {
        let mut reader = Reader::new(&HostOptions::default()).unwrap();
        assert_eq!(reader.read().machine.cpu_percent, None);
        reader.cpu_refreshed = Some(Instant::now());
        assert_eq!(reader.read().machine.cpu_percent, None);
    }

    #[test]
    fn a_disk_path_that_is_gone_leaves_the_disk_out() {
        let options = HostOptions { disk_path: "/no/such/path".into(), ..HostOptions::default() };
        let mut reader = Reader::new(&options).unwrap();
        assert_eq!(reader.read().disk, None);
    }
}
