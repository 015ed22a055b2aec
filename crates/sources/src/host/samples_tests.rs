//! The rules of `system.metrics` on readings written by hand.

use super::*;
use crate::host::{
    cgroup::{CgroupReading, CpuLevel, MemoryLevel},
    network::Traffic,
    reader::Machine,
};

const GIB: u64 = 1 << 30;

/// A machine with 8 CPUs and 16 GiB, `seconds` after the start.
fn machine(seconds: u64) -> Reading {
    Reading {
        at: Duration::from_secs(seconds),
        machine: Machine {
            cpu_percent: (seconds > 0).then_some(45.238_095),
            cpus: 8,
            frequency_mhz: Some(2400.0),
            memory_total_bytes: 16 * GIB,
            memory_available_bytes: 8 * GIB,
        },
        disk: Some(Disk { total_bytes: 1000, free_bytes: 300, available_bytes: 100 }),
        traffic: Traffic { sent_bytes: 1000 * seconds, received_bytes: 10 * seconds },
        ..Reading::default()
    }
}

/// The same machine seen from a group that may use `quota_cpus` and has used `used_ms`.
fn container(seconds: u64, quota_cpus: f64, used_ms: u64) -> Reading {
    let used = Some(Duration::from_millis(used_ms));
    let cpu = vec![CpuLevel { quota_cpus: Some(quota_cpus), used }];
    Reading { cgroup: CgroupReading { cpu, ..CgroupReading::default() }, ..machine(seconds) }
}

fn value(previous: Option<&Reading>, current: &Reading, name: &str) -> Option<f64> {
    let samples = samples(previous, current, &Tags::default());
    samples.iter().find(|sample| sample.name == name).map(|sample| sample.value.as_f64())
}

#[test]
fn the_first_collection_has_no_share_of_time() {
    let first = machine(5);
    for name in ["cpu.percent", "network.bytes_sent_per_second", "network.bytes_recv_per_second"] {
        assert_eq!(value(None, &first, name), None, "{name}");
    }
    assert_eq!(value(None, &container(5, 1.5, 700), "cpu.percent"), None);
}

#[test]
fn the_second_collection_has_every_name_in_order() {
    let second = Reading { load: Some([1.0, 0.5, 0.25]), ..machine(1) };
    let samples = samples(Some(&machine(0)), &second, &Tags::default());
    let found: Vec<_> = samples.iter().map(|sample| (&*sample.name, sample.value)).collect();
    assert_eq!(
        found,
        [
            ("cpu.percent", Number::Float(45.24)),
            ("cpu.count", Number::Whole(8)),
            ("cpu.frequency", Number::Float(2400.0)),
            ("memory.total", Number::Whole(17_179_869_184)),
            ("memory.used", Number::Whole(8_589_934_592)),
            ("memory.percent", Number::Float(50.0)),
            ("disk.total", Number::Whole(1000)),
            ("disk.used", Number::Whole(700)),
            ("disk.percent", Number::Float(87.5)),
            ("network.bytes_sent", Number::Whole(1000)),
            ("network.bytes_recv", Number::Whole(10)),
            ("network.bytes_sent_per_second", Number::Float(1000.0)),
            ("network.bytes_recv_per_second", Number::Float(10.0)),
            ("load.one", Number::Float(1.0)),
            ("load.five", Number::Float(0.5)),
            ("load.fifteen", Number::Float(0.25)),
        ]
    );
    assert_eq!(found.len(), SAMPLES_MAX);
    let counters = samples.iter().filter(|sample| sample.kind == MetricKind::Counter);
    let counters: Vec<_> = counters.map(|sample| &*sample.name).collect();
    assert_eq!(counters, ["network.bytes_sent", "network.bytes_recv"]);
}

#[test]
fn every_sample_carries_the_tags() {
    let tags = Tags::new([("host", "server1"), ("env", "production")]).unwrap();
    assert!(samples(None, &machine(1), &tags).iter().all(|sample| sample.tags == tags));
}

#[test]
fn under_a_quota_the_cpu_percentage_is_of_the_quota() {
    let (before, now) = (container(10, 1.5, 1000), container(12, 1.5, 2500));
    // 1.5 s of CPU time in 2 s, of which 3 s were allowed.
    assert_eq!(value(Some(&before), &now, "cpu.percent"), Some(50.0));
    assert_eq!(value(Some(&before), &now, "cpu.count"), Some(1.5));
}

#[test]
fn a_burst_above_the_quota_is_one_hundred_percent() {
    let (before, now) = (container(10, 0.5, 0), container(11, 0.5, 900));
    assert_eq!(value(Some(&before), &now, "cpu.percent"), Some(100.0));
}

#[test]
fn a_quota_above_the_machine_is_the_machine() {
    let (before, now) = (container(10, 12.0, 0), container(11, 12.0, 900));
    assert_eq!(value(Some(&before), &now, "cpu.percent"), Some(45.24));
    assert_eq!(value(Some(&before), &now, "cpu.count"), Some(8.0));
}

#[test]
fn a_quota_that_appears_or_a_counter_that_restarts_has_no_percentage_once() {
    let now = container(11, 2.0, 500);
    assert_eq!(value(Some(&machine(10)), &now, "cpu.percent"), None);
    assert_eq!(value(Some(&container(10, 2.0, 900)), &now, "cpu.percent"), None);
}

#[test]
fn two_readings_at_one_moment_have_no_rates() {
    let (before, now) = (container(10, 1.0, 100), container(10, 1.0, 100));
    for name in ["cpu.percent", "network.bytes_sent_per_second"] {
        assert_eq!(value(Some(&before), &now, name), None, "{name}");
    }
}

#[test]
fn under_a_limit_memory_is_the_working_set_of_the_limit() {
    let level = MemoryLevel { limit_bytes: Some(GIB), usage_bytes: GIB / 2, inactive_file_bytes: GIB / 4 };
    let cgroup = CgroupReading { memory: vec![level], ..CgroupReading::default() };
    let now = Reading { cgroup, ..machine(1) };
    assert_eq!(value(None, &now, "memory.total"), Some(1_073_741_824.0));
    assert_eq!(value(None, &now, "memory.used"), Some(268_435_456.0));
    assert_eq!(value(None, &now, "memory.percent"), Some(25.0));
}

#[test]
fn what_could_not_be_read_is_left_out() {
    let samples = samples(None, &Reading::default(), &Tags::default());
    let names: Vec<_> = samples.iter().map(|sample| &*sample.name).collect();
    assert_eq!(names, ["network.bytes_sent", "network.bytes_recv"]);
}
