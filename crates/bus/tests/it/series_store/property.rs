//! Random operations: a store does what they do to a plain list.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use pulsewire_bus::{Chunk, ChunkQuery, Tier};
use pulsewire_protocol::{Filter, MetricKind, Series, Tags};

use super::subject::{Kind, Subject};
use super::{all, shown};
use crate::name;

const CHANNELS: [&str; 2] = ["a.metrics", "b.metrics"];
const SERIES_MAX: usize = 20;

#[derive(Debug, Clone)]
enum Operation {
    Keep(Vec<Chunk>),
    Read { channel: usize, tier: Tier, from_ms: i64, to_ms: i64, filter: Filter, bytes_max: usize },
    Trim { tier: Tier, before_ms: i64, chunks_max: usize },
    Reopen,
}

/// Runs as many cases as `PROPTEST_CASES` says, in one store, which each leaves empty.
pub(super) fn hold(kind: Kind) {
    let Some(mut subject) = Subject::new(kind) else { return };
    subject.open(SERIES_MAX);
    let subject = RefCell::new(subject);
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&vec(operation(), 1..16), |operations| {
        let subject = &mut *subject.borrow_mut();
        let mut list = List::default();
        let done = operations.iter().try_for_each(|operation| list.perform(subject, operation));
        for tier in Tier::ALL {
            subject.store().trim(tier, i64::MAX, usize::MAX).unwrap();
        }
        done
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// The chunks that are kept.
#[derive(Default)]
struct List(Vec<Chunk>);

fn series_of(chunk: &Chunk) -> (&str, &str, MetricKind, &Tags) {
    (chunk.channel.as_str(), &chunk.series.name, chunk.series.kind, &chunk.series.tags)
}

fn key_of(chunk: &Chunk) -> impl PartialEq {
    (series_of(chunk), chunk.tier, chunk.start_ms, chunk.writer)
}

impl List {
    fn perform(&mut self, subject: &mut Subject, operation: &Operation) -> Result<(), TestCaseError> {
        match operation {
            Operation::Keep(chunks) => {
                let mut left_out = 0;
                for chunk in chunks {
                    let known: HashSet<_> = self.0.iter().map(series_of).collect();
                    if known.len() >= SERIES_MAX && !known.contains(&series_of(chunk)) {
                        left_out += 1;
                        continue;
                    }
                    self.0.retain(|other| key_of(other) != key_of(chunk));
                    self.0.push(chunk.clone());
                }
                prop_assert_eq!(subject.store().keep(chunks).unwrap(), left_out);
            }
            Operation::Read { channel, tier, from_ms, to_ms, filter, bytes_max } => {
                let channel = name(CHANNELS[*channel]);
                let (tier, from_ms, to_ms, bytes_max) = (*tier, *from_ms, *to_ms, *bytes_max);
                self.read(
                    subject,
                    &ChunkQuery { channel: &channel, tier, from_ms, to_ms, filter, bytes_max },
                )?;
            }
            Operation::Trim { tier, before_ms, chunks_max } => {
                self.trim(subject, *tier, *before_ms, *chunks_max)?;
            }
            Operation::Reopen if subject.lasts() => subject.open(SERIES_MAX),
            Operation::Reopen => {}
        }
        Ok(())
    }

    fn read(&self, subject: &Subject, query: &ChunkQuery<'_>) -> Result<(), TestCaseError> {
        let wanted = |chunk: &&Chunk| {
            chunk.channel == *query.channel
                && chunk.tier == query.tier
                && chunk.end_ms > query.from_ms
                && chunk.start_ms < query.to_ms
                && query.filter.passes(&chunk.series.name, &chunk.series.tags)
        };
        let mut expected: Vec<_> = self.0.iter().filter(wanted).collect();
        expected.sort_by_key(|chunk| chunk.start_ms);
        let read = subject.store().read(query).unwrap();
        prop_assert_eq!(read.corrupt, 0);
        prop_assert_eq!(read.more, read.chunks.len() < expected.len());
        let starts = |chunk: &Chunk| chunk.start_ms;
        prop_assert!(
            read.chunks
                .iter()
                .map(starts)
                .eq(expected.iter().map(|chunk| starts(chunk)).take(read.chunks.len())),
            "{:?} of {:?}",
            read,
            expected
        );
        let expected: BTreeSet<_> = expected.iter().map(|chunk| format!("{:?}", shown(chunk))).collect();
        let came: BTreeSet<_> = read.chunks.iter().map(|chunk| format!("{:?}", shown(chunk))).collect();
        prop_assert_eq!(came.len(), read.chunks.len(), "one came twice");
        prop_assert!(came.is_subset(&expected), "{:?} of {:?}", came, expected);
        let bytes: usize = read.chunks.iter().map(|chunk| chunk.windows.len()).sum();
        let last = read.chunks.last().map_or(0, |chunk| chunk.windows.len());
        prop_assert!(bytes - last <= query.bytes_max && (!read.more || bytes > query.bytes_max));
        Ok(())
    }

    fn trim(
        &mut self,
        subject: &Subject,
        tier: Tier,
        before_ms: i64,
        chunks_max: usize,
    ) -> Result<(), TestCaseError> {
        let ended = |chunk: &Chunk| chunk.tier == tier && chunk.end_ms <= before_ms;
        let removed = self.0.iter().filter(|chunk| ended(chunk)).count().min(chunks_max);
        prop_assert_eq!(subject.store().trim(tier, before_ms, chunks_max).unwrap(), removed);
        let everything = Filter::default();
        let mut left = Vec::new();
        for (channel, tier) in CHANNELS.iter().flat_map(|channel| Tier::ALL.map(|tier| (name(channel), tier)))
        {
            left.extend(subject.store().read(&all(&channel, tier, &everything)).unwrap().chunks);
        }
        prop_assert_eq!(left.len(), self.0.len() - removed);
        let is_left = |chunk: &Chunk| left.iter().any(|other| shown(other) == shown(chunk));
        prop_assert!(self.0.iter().all(|chunk| ended(chunk) || is_left(chunk)), "{:?}", left);
        // Which of those that ended go first, a store decides.
        self.0.retain(is_left);
        prop_assert_eq!(left.len(), self.0.len());
        Ok(())
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    let bytes = prop_oneof![Just(usize::MAX), Just(0), 0..20_usize];
    let read = (0..2_usize, tier(), time(), time(), filter(), bytes).prop_map(
        |(channel, tier, from_ms, to_ms, filter, bytes_max)| Operation::Read {
            channel,
            tier,
            from_ms,
            to_ms,
            filter,
            bytes_max,
        },
    );
    let trim = (tier(), time(), prop_oneof![0..4_usize, Just(1_000)])
        .prop_map(|(tier, before_ms, chunks_max)| Operation::Trim { tier, before_ms, chunks_max });
    prop_oneof![
        5 => vec(chunk(), 0..20).prop_map(Operation::Keep),
        5 => read,
        2 => trim,
        1 => Just(Operation::Reopen),
    ]
}

fn tier() -> impl Strategy<Value = Tier> {
    prop_oneof![Just(Tier::S1), Just(Tier::M1)]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![8 => -3..25_i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
}

fn filter() -> impl Strategy<Value = Filter> {
    let name = prop_oneof![Just(None), "[a-d]".prop_map(Some)];
    let host = prop_oneof![Just(None), "[x-z]".prop_map(Some)];
    (name, host).prop_map(|(name, host)| {
        let pairs = [name.as_deref().map(|name| ("$name", name)), host.as_deref().map(|host| ("host", host))];
        Filter::equal(pairs.into_iter().flatten()).unwrap()
    })
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let kind = prop_oneof![9 => Just(MetricKind::Gauge), 1 => Just(MetricKind::Counter)];
    let host = prop_oneof![Just(None), "[x-z]".prop_map(Some)];
    let series = ("[a-d]", kind, host).prop_map(|(name, kind, host)| {
        let tags = Tags::new(host.as_deref().map(|host| ("host", host))).unwrap();
        Series { id: 0, name: name.into(), kind, tags }
    });
    let length = prop_oneof![4 => 1..4_i64, 1 => 4..20_i64];
    (0..2_usize, series, tier(), 0..2_u64, 0..20_i64, length, vec(any::<u8>(), 0..6)).prop_map(
        |(channel, series, tier, writer, start_ms, length, windows)| Chunk {
            channel: name(CHANNELS[channel]),
            series: series.into(),
            tier,
            writer: writer.wrapping_neg(),
            start_ms,
            end_ms: start_ms + length,
            windows: windows.into(),
        },
    )
}
