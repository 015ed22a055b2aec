//! Which limit counts: the decision between the machine and its control groups.
//!
//! A limit counts only where it is tighter than the machine; among several the tightest does.
//! Pure functions of one reading.

use std::time::Duration;

use super::cgroup::{CgroupReading, MemoryLevel};

/// The CPU share that binds this process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CpuLimit {
    /// CPUs' worth of time, a fraction where the quota is one.
    pub(super) cpus: f64,
    /// CPU time used by the group that carries the limit.
    pub(super) used: Option<Duration>,
    /// Which group that is, so that two readings are compared only for the same one.
    pub(super) level: usize,
}

/// Memory as a reader of `memory.percent` understands it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total_bytes: u64,
    pub(super) used_bytes: u64,
}

impl CgroupReading {
    /// The tightest CPU limit below `machine_cpus`, if there is one.
    pub(super) fn cpu_limit(&self, machine_cpus: u32) -> Option<CpuLimit> {
        let quotas =
            self.cpu.iter().enumerate().filter_map(|(level, group)| {
                Some(CpuLimit { cpus: group.quota_cpus?, used: group.used, level })
            });
        let cpuset = self.cpuset_cpus.map(|cpus| CpuLimit {
            cpus: f64::from(cpus),
            used: self.cpu.first().and_then(|own| own.used),
            level: 0,
        });
        quotas
            .chain(cpuset)
            .min_by(|left, right| left.cpus.total_cmp(&right.cpus))
            .filter(|limit| machine_cpus == 0 || limit.cpus < f64::from(machine_cpus))
    }

    /// The tightest memory limit below `machine_bytes`, with the working set of its group.
    ///
    /// The working set is what is charged without the page cache that can go at once: the
    /// figure by which Kubernetes evicts.
    pub(super) fn memory_limit(&self, machine_bytes: u64) -> Option<Memory> {
        let limit = |group: &MemoryLevel| {
            Some(Memory {
                total_bytes: group.limit_bytes?,
                used_bytes: group.usage_bytes.saturating_sub(group.inactive_file_bytes),
            })
        };
        self.memory
            .iter()
            .filter_map(limit)
            .min_by_key(|memory| memory.total_bytes)
            .filter(|memory| machine_bytes == 0 || memory.total_bytes < machine_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroup::CpuLevel;

    fn cpu(quotas: &[Option<f64>], cpuset_cpus: Option<u32>) -> CgroupReading {
        let level = |(index, quota_cpus): (usize, &Option<f64>)| CpuLevel {
            quota_cpus: *quota_cpus,
            used: Some(Duration::from_secs(index as u64 + 1)),
        };
        CgroupReading {
            cpu: quotas.iter().enumerate().map(level).collect(),
            cpuset_cpus,
            ..CgroupReading::default()
        }
    }

    #[test]
    fn the_tightest_quota_counts_with_the_time_of_its_own_group() {
        let limit = cpu(&[Some(3.0), Some(1.5), None], Some(4)).cpu_limit(8);
        let expected = CpuLimit { cpus: 1.5, used: Some(Duration::from_secs(2)), level: 1 };
        assert_eq!(limit, Some(expected));
    }

    #[test]
    fn a_set_of_cpus_counts_where_no_quota_is_tighter() {
        let limit = cpu(&[None, Some(3.0)], Some(2)).cpu_limit(8);
        assert_eq!(limit, Some(CpuLimit { cpus: 2.0, used: Some(Duration::from_secs(1)), level: 0 }));
    }

    #[test]
    fn a_cpu_limit_not_below_the_machine_is_none() {
        assert_eq!(cpu(&[Some(4.0)], Some(4)).cpu_limit(4), None);
        assert_eq!(cpu(&[Some(6.0)], None).cpu_limit(4), None);
        assert_eq!(cpu(&[None], None).cpu_limit(4), None);
    }

    fn memory(levels: &[(Option<u64>, u64, u64)]) -> CgroupReading {
        let level = |&(limit_bytes, usage_bytes, inactive_file_bytes): &(Option<u64>, u64, u64)| {
            MemoryLevel { limit_bytes, usage_bytes, inactive_file_bytes }
        };
        CgroupReading { memory: levels.iter().map(level).collect(), ..CgroupReading::default() }
    }

    #[test]
    fn used_memory_is_usage_without_the_inactive_page_cache() {
        let found = memory(&[(Some(1000), 700, 200)]).memory_limit(4000);
        assert_eq!(found, Some(Memory { total_bytes: 1000, used_bytes: 500 }));
    }

    #[test]
    fn the_tightest_memory_limit_counts_even_on_an_ancestor() {
        let found = memory(&[(None, 0, 0), (Some(3000), 10, 0), (Some(2000), 900, 0)]).memory_limit(4000);
        assert_eq!(found, Some(Memory { total_bytes: 2000, used_bytes: 900 }));
    }

    #[test]
    fn a_memory_limit_not_below_the_machine_is_none() {
        // Version 1 writes "no limit" as the largest page-aligned signed number.
        assert_eq!(memory(&[(Some(9_223_372_036_854_771_712), 700, 0)]).memory_limit(4000), None);
    }
}
