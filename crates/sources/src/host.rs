//! The host's own metrics, for the channel `system.metrics`.
//!
//! A [`HostCollector`] reads the host when it is asked to, usually once a second, and answers
//! with samples; it has no thread and no timer. Inside a container every figure is of the
//! container's limits. Three parts: `reader` does all I/O, `limits` and `samples` decide
//! without any, so every rule is tested on readings written by hand.
//!
//! `docs/operate/host-metrics.md` lists the names.

mod cgroup;
#[cfg(test)]
mod fixture;
mod limits;
mod network;
mod reader;
mod samples;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use pulsewire_protocol::{ChannelName, Sample, Tags};
use sysinfo::System;

use self::{
    reader::{Reader, Reading},
    samples::samples,
};

/// How long a collection should take at most (document 004).
pub const COLLECTION_TARGET: Duration = Duration::from_millis(50);

/// The channel the samples are for unless another is set.
pub const CHANNEL: &str = "system.metrics";

/// What is collected and how it is marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOptions {
    /// The channel the samples are for. Default: [`CHANNEL`].
    pub channel: String,
    /// The tag `host`, cut at 64 bytes. Default: the host's name, or no tag if it has none.
    pub host: Option<String>,
    /// Further tags of every sample; `host` here replaces the tag above. Default: none.
    pub tags: Vec<(String, String)>,
    /// A path on the file system that the disk samples are about. Default: `/`.
    pub disk_path: PathBuf,
    /// Interfaces whose name starts with one of these are left out of the network samples, as
    /// loopback always is. Default: those whose bytes another interface counts again.
    pub interfaces_ignored: Vec<String>,
    /// What stands for `/` when control groups and the CPU frequency are read. Default: `/`.
    pub root: PathBuf,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            channel: CHANNEL.to_owned(),
            host: None,
            tags: Vec::new(),
            disk_path: PathBuf::from("/"),
            interfaces_ignored: ["veth", "docker", "br-", "virbr"].map(str::to_owned).to_vec(),
            root: PathBuf::from("/"),
        }
    }
}

/// Why the host cannot be collected.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Not a channel name.
    #[error("collector channel {channel:?} is not a channel name")]
    Channel {
        /// The text found.
        channel: String,
    },
    /// Too many tags, or one too long, empty or repeated.
    #[error(
        "collector tags must be at most {} with the tag host, each key and value 1 to {} bytes",
        Tags::COUNT_MAX,
        Tags::LEN_BYTES_MAX
    )]
    Tags,
    /// An operating system that cannot be read.
    #[error("host metrics cannot be read on this system")]
    Unsupported(#[source] sysinfo::Error),
}

/// One look at the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Collection {
    /// The channel the samples are for.
    pub channel: ChannelName,
    /// What was found.
    pub samples: Vec<Sample>,
    /// How long it took, to be compared with [`COLLECTION_TARGET`].
    pub took: Duration,
}

/// Reads the host again and again.
#[derive(Debug)]
pub struct HostCollector {
    channel: ChannelName,
    tags: Tags,
    reader: Reader,
    previous: Option<Reading>,
}

impl HostCollector {
    /// Finds the control groups and the host's name; measures nothing yet.
    ///
    /// # Errors
    ///
    /// [`HostError`] says which option cannot be used, or that the system cannot be read.
    pub fn new(options: &HostOptions) -> Result<Self, HostError> {
        let channel = ChannelName::parse(&options.channel)
            .map_err(|_| HostError::Channel { channel: options.channel.clone() })?;
        Ok(Self { channel, tags: tags(options)?, reader: Reader::new(options)?, previous: None })
    }

    /// Reads the host and tells what changed since the last call, stamped with `now_ms`, Unix
    /// milliseconds.
    ///
    /// Blocks on reading files, usually for less than a millisecond. The first collection lacks
    /// what needs two: `cpu.percent` and the network rates. A part of the host that cannot be
    /// read is left out.
    pub fn collect(&mut self, now_ms: i64) -> Collection {
        let started = Instant::now();
        let current = self.reader.read();
        let mut samples = samples(self.previous.as_ref(), &current, &self.tags);
        samples.iter_mut().for_each(|sample| sample.timestamp_ms = Some(now_ms));
        self.previous = Some(current);
        Collection { channel: self.channel.clone(), samples, took: started.elapsed() }
    }
}

/// The host's name, if it has one.
#[must_use]
pub fn host_name() -> Option<String> {
    System::host_name().ok()
}

fn tags(options: &HostOptions) -> Result<Tags, HostError> {
    let host = options.host.clone().or_else(|| System::host_name().ok()).unwrap_or_default();
    let host = &host[..host.floor_char_boundary(Tags::LEN_BYTES_MAX)];
    let named = options.tags.iter().any(|(key, _)| key == "host");
    let own = (!named && !host.is_empty()).then_some(("host", host));
    let further = options.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    Tags::new(own.into_iter().chain(further)).ok_or(HostError::Tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(collection: &Collection) -> Vec<&str> {
        collection.samples.iter().map(|sample| &*sample.name).collect()
    }

    #[test]
    fn this_host_has_the_names_of_document_004() {
        let mut collector = HostCollector::new(&HostOptions::default()).unwrap();
        let first = collector.collect(1_762_603_200_000);
        assert_eq!(first.channel.as_str(), "system.metrics");
        assert!(first.samples.iter().all(|sample| sample.timestamp_ms == Some(1_762_603_200_000)));
        let found = names(&first);
        for name in ["cpu.count", "memory.total", "memory.used", "memory.percent", "disk.percent"] {
            assert!(found.contains(&name), "{name} is not in {found:?}");
        }
        assert!(!found.contains(&"cpu.percent"), "there is no share of time after one reading");
        let second = collector.collect(1_762_603_201_000);
        assert!(names(&second).contains(&"network.bytes_recv_per_second"));
    }

    #[test]
    fn every_percentage_of_this_host_is_one() {
        let mut collector = HostCollector::new(&HostOptions::default()).unwrap();
        let collection = collector.collect(0);
        for sample in collection.samples.iter().filter(|sample| sample.name.ends_with("percent")) {
            let value = sample.value.as_f64();
            assert!((0.0..=100.0).contains(&value), "{} is {value}", sample.name);
        }
    }

    #[test]
    fn the_tag_host_can_be_set_and_replaced_and_is_cut() {
        let check = |host: &str, tags: &[(&str, &str)], expected: &str| {
            let tags = tags.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
            let options = HostOptions { host: Some(host.to_owned()), tags, ..HostOptions::default() };
            let found = super::tags(&options).unwrap();
            assert_eq!(
                found.iter().map(|(key, value)| format!("{key}={value} ")).collect::<String>(),
                expected
            );
        };
        check("server1", &[("env", "production")], "env=production host=server1 ");
        check("server1", &[("host", "blue")], "host=blue ");
        check("", &[], "");
        check(&"é".repeat(40), &[], &format!("host={} ", "é".repeat(32)));
    }

    #[test]
    fn options_that_cannot_be_used_are_refused() {
        let channel = HostOptions { channel: "two words".to_owned(), ..HostOptions::default() };
        assert!(matches!(HostCollector::new(&channel), Err(HostError::Channel { .. })));
        let tags = vec![("key".to_owned(), "x".repeat(65))];
        let tags = HostOptions { tags, ..HostOptions::default() };
        assert!(matches!(HostCollector::new(&tags), Err(HostError::Tags)));
    }
}
