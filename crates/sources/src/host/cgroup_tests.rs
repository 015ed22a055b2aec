//! Cgroup files are found and read in fixture trees.

use super::*;
use crate::host::fixture::Tree;

const V2_MOUNT: &str = "35 25 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";

fn read_tree(files: &[(&str, &str)]) -> CgroupReading {
    let tree = Tree::new(files);
    Cgroup::find(tree.root()).read()
}

fn cpu(quota_cpus: Option<f64>, used: Duration) -> CpuLevel {
    CpuLevel { quota_cpus, used: Some(used) }
}

#[test]
fn a_process_without_cgroups_has_no_limits() {
    assert_eq!(read_tree(&[]), CgroupReading::default());
    assert_eq!(
        read_tree(&[("proc/self/cgroup", "0::/\n"), ("proc/self/mountinfo", "")]),
        CgroupReading::default()
    );
}

#[test]
fn a_version_2_container_reads_the_files_at_its_mount_point() {
    let reading = read_tree(&[
        ("proc/self/cgroup", "0::/\n"),
        ("proc/self/mountinfo", V2_MOUNT),
        ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
        ("sys/fs/cgroup/cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
        ("sys/fs/cgroup/cpuset.cpus.effective", "0-3,8\n"),
        ("sys/fs/cgroup/memory.max", "1073741824\n"),
        ("sys/fs/cgroup/memory.current", "536870912\n"),
        ("sys/fs/cgroup/memory.stat", "anon 1\ninactive_anon 7\ninactive_file 1000\n"),
    ]);
    let memory =
        MemoryLevel { limit_bytes: Some(1_073_741_824), usage_bytes: 536_870_912, inactive_file_bytes: 1000 };
    assert_eq!(
        reading,
        CgroupReading {
            cpu: vec![cpu(Some(1.5), Duration::from_millis(2500))],
            cpuset_cpus: Some(5),
            memory: vec![memory],
        }
    );
}

#[test]
fn max_is_no_limit() {
    let reading = read_tree(&[
        ("proc/self/cgroup", "0::/\n"),
        ("proc/self/mountinfo", V2_MOUNT),
        ("sys/fs/cgroup/cpu.max", "max 100000\n"),
        ("sys/fs/cgroup/cpu.stat", "usage_usec 1000000\n"),
        ("sys/fs/cgroup/memory.max", "max\n"),
        ("sys/fs/cgroup/memory.current", "5\n"),
    ]);
    assert_eq!(reading.cpu, [cpu(None, Duration::from_secs(1))]);
    assert_eq!(reading.memory, [MemoryLevel::default()]);
}

#[test]
fn every_ancestor_up_to_the_mount_point_is_read() {
    let reading = read_tree(&[
        ("proc/self/cgroup", "0::/slice/service\n"),
        ("proc/self/mountinfo", V2_MOUNT),
        ("sys/fs/cgroup/slice/cpu.max", "200000 100000"),
        ("sys/fs/cgroup/slice/cpu.stat", "usage_usec 3000000"),
        ("sys/fs/cgroup/slice/memory.max", "4096"),
        ("sys/fs/cgroup/slice/memory.current", "1024"),
        ("sys/fs/cgroup/slice/service/cpu.max", "max 100000"),
        ("sys/fs/cgroup/slice/service/cpu.stat", "usage_usec 1000000"),
        ("sys/fs/cgroup/slice/service/memory.max", "max"),
    ]);
    let root = CpuLevel::default();
    assert_eq!(
        reading.cpu,
        [cpu(None, Duration::from_secs(1)), cpu(Some(2.0), Duration::from_secs(3)), root]
    );
    assert_eq!(
        reading.memory.iter().map(|level| level.limit_bytes).collect::<Vec<_>>(),
        [None, Some(4096), None]
    );
}

#[test]
fn a_version_1_container_without_a_namespace_reads_its_mount_points() {
    let reading = read_tree(&[
        (
            "proc/self/cgroup",
            "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n2:cpuset:/docker/abc\n0::/docker/abc\n",
        ),
        (
            "proc/self/mountinfo",
            "40 31 0:31 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
             41 31 0:35 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
             42 31 0:36 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n\
             43 31 0:37 /docker/abc /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n",
        ),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "1500000000\n"),
        ("sys/fs/cgroup/cpuset/cpuset.cpus", "1\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2048\n"),
        ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1024\n"),
        ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 24\n"),
    ]);
    assert_eq!(
        reading,
        CgroupReading {
            cpu: vec![cpu(Some(0.5), Duration::from_millis(1500))],
            cpuset_cpus: Some(1),
            memory: vec![MemoryLevel { limit_bytes: Some(2048), usage_bytes: 1024, inactive_file_bytes: 24 }],
        }
    );
}

#[test]
fn a_version_1_machine_without_limits_says_minus_one() {
    let reading = read_tree(&[
        ("proc/self/cgroup", "2:cpuacct:/\n1:cpu:/\n"),
        (
            "proc/self/mountinfo",
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n",
        ),
        ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/cpuacct/cpuacct.usage", "7000000000\n"),
    ]);
    assert_eq!(reading.cpu, [cpu(None, Duration::from_secs(7))]);
}

#[test]
fn a_group_outside_the_mount_is_read_at_the_mount_point() {
    for group in ["/../../elsewhere", "/gone/away"] {
        let reading = read_tree(&[
            ("proc/self/cgroup", &format!("0::{group}\n")),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/cpu.max", "100000 100000\n"),
        ]);
        assert_eq!(reading.cpu, [CpuLevel { quota_cpus: Some(1.0), used: None }], "{group}");
    }
}

#[test]
fn spoilt_files_are_no_limit() {
    let reading = read_tree(&[
        ("proc/self/cgroup", "nonsense\n0::/\n:::\n"),
        ("proc/self/mountinfo", &format!("x\n- \n{V2_MOUNT}\n")),
        ("sys/fs/cgroup/cpu.max", "0 0"),
        ("sys/fs/cgroup/cpu.stat", ""),
        ("sys/fs/cgroup/cpuset.cpus.effective", "3-1"),
        ("sys/fs/cgroup/memory.max", "-5"),
    ]);
    assert_eq!(
        reading,
        CgroupReading {
            cpu: vec![CpuLevel::default()],
            cpuset_cpus: None,
            memory: vec![MemoryLevel::default()],
        }
    );
}

#[test]
fn a_mount_point_with_a_space_is_unescaped() {
    let mount = Mount::parse("35 25 0:30 / /my\\040groups rw shared:4 - cgroup2 cgroup2 rw");
    assert_eq!(mount.map(|mount| mount.point), Some(PathBuf::from("/my groups")));
}
