//! What every store of roll-ups must do, as one table: a name, and a script of commands with their answers.
//!
//! Each case runs over each store. The words of a script are read by [`subject`]; what a script cannot say (odd and
//! many chunks) stands below it, and what only one kind of store can meet in [`sqlite`] and [`postgres`].

mod cases;
mod postgres;
mod property;
mod sqlite;
mod subject;

use pulsewire_bus::{Chunk, ChunkQuery, Chunks, Tier};
use pulsewire_protocol::{ChannelName, Filter, MetricKind, Series, Tags};
use subject::{Kind, Subject, chunk, one};

use crate::name;

/// Runs a script: every line is a command and, behind an arrow, its answer.
fn run(kind: Kind, script: &str) {
    let Some(mut subject) = Subject::new(kind) else { return };
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let command = line.split_once(" ->").map_or(line, |(command, _)| command);
        let answer = subject.perform(command);
        let told = if answer.is_empty() { command.to_owned() } else { format!("{command} -> {answer}") };
        assert_eq!(told, line, "in\n{script}");
    }
}

/// Everything of a channel in a tier.
fn all<'a>(channel: &'a ChannelName, tier: Tier, filter: &'a Filter) -> ChunkQuery<'a> {
    ChunkQuery { channel, tier, from_ms: i64::MIN, to_ms: i64::MAX, filter, bytes_max: usize::MAX }
}

/// A chunk but for the number of its series, which means nothing in a store.
type Shown<'c> = (&'c str, &'c str, MetricKind, &'c Tags, Tier, u64, i64, i64, &'c [u8]);

fn shown(chunk: &Chunk) -> Shown<'_> {
    let Chunk { channel, series, tier, writer, start_ms, end_ms, windows } = chunk;
    let Series { name, kind, tags, .. } = &**series;
    (channel.as_str(), name, *kind, tags, *tier, *writer, *start_ms, *end_ms, windows)
}

fn every_field_comes_back(kind: Kind) {
    let Some(subject) = Subject::new(kind) else { return };
    let longest = "\u{1}".repeat(Tags::LEN_BYTES_MAX);
    let many: Vec<_> = (10..26).map(|n| format!("{n}{}", &longest[2..])).collect();
    let sets = [
        Tags::default(),
        Tags::new([("a", ""), ("ключ", "'\"\\\0\u{10ffff}")]).unwrap(),
        Tags::new(many.iter().map(|key| (&**key, &*longest))).unwrap(),
    ];
    let kinds = [MetricKind::Gauge, MetricKind::Counter, MetricKind::Histogram];
    let mut chunks = Vec::new();
    for (n, (tags, kind)) in sets.iter().flat_map(|tags| kinds.map(|kind| (tags, kind))).enumerate() {
        let series = Series { id: 7, name: "disk./:-_A9".into(), kind, tags: tags.clone() };
        chunks.push(Chunk {
            channel: name("x.y-z.metrics"),
            series: series.into(),
            tier: Tier::ALL[n % 4],
            writer: [0, 1, u64::MAX, 1 << 63][n % 4],
            start_ms: -5 + n as i64,
            end_ms: 1 << 52,
            windows: (0..=255).cycle().take([0, 1, 4_000, 1 << 20][n % 4]).collect(),
        });
    }
    let store = subject.store();
    assert_eq!(store.keep(&chunks), Ok(0));
    for tier in Tier::ALL {
        let Chunks { chunks: read, more, corrupt } =
            store.read(&all(&name("x.y-z.metrics"), tier, &Filter::default())).unwrap();
        assert_eq!((more, corrupt), (false, 0));
        let expected: Vec<_> = chunks.iter().filter(|chunk| chunk.tier == tier).map(shown).collect();
        assert_eq!(read.iter().map(shown).collect::<Vec<_>>(), expected);
    }
}

/// More than a database answers at once, in pages that end where it does and where it does not.
fn many_chunks_come_whole_and_in_order(kind: Kind) {
    const SERIES: usize = 25;
    const STARTS: usize = 120;
    let Some(subject) = Subject::new(kind) else { return };
    let store = subject.store();
    let tags = |n: usize| Tags::new([("n", &*n.to_string())]).unwrap();
    let mut chunks = Vec::new();
    for start in (0..STARTS).rev() {
        chunks.extend((0..SERIES).map(|n| {
            let series = Series { id: 0, name: "m".into(), kind: MetricKind::Gauge, tags: tags(n) };
            let start_ms = start as i64 * 10;
            Chunk { series: series.into(), ..chunk("m:0-0=ab", start_ms, start_ms + 10) }
        }));
    }
    assert_eq!(store.keep(&chunks), Ok(0));
    let (channel, everything) = (name("a.metrics"), Filter::default());
    let whole = all(&channel, Tier::M1, &everything);
    for (bytes_max, expected) in [
        (usize::MAX, SERIES * STARTS),
        (2 * SERIES * STARTS, SERIES * STARTS),
        (2 * SERIES * STARTS - 1, SERIES * STARTS),
        (2 * SERIES * STARTS - 2, SERIES * STARTS),
        (2 * SERIES * STARTS - 3, SERIES * STARTS - 1),
        (4_000, 2_001),
        (3_999, 2_000),
        (3_998, 2_000),
        (3_997, 1_999),
        (0, 1),
    ] {
        let read = store.read(&ChunkQuery { bytes_max, ..whole.clone() }).unwrap();
        assert_eq!((read.chunks.len(), read.more), (expected, expected < SERIES * STARTS), "{bytes_max}");
        assert!(read.chunks.iter().map(|chunk| chunk.start_ms / 10).eq((0..expected as i64).map(|n| n / 25)));
    }
    // One of many, and half of them.
    let one = Filter::equal([("n", "7")]).unwrap();
    let read = store.read(&ChunkQuery { from_ms: 55, to_ms: 105, ..all(&channel, Tier::M1, &one) }).unwrap();
    assert_eq!(read.chunks.iter().map(|chunk| chunk.start_ms).collect::<Vec<_>>(), [50, 60, 70, 80, 90, 100]);
    assert!(read.chunks.iter().all(|chunk| chunk.series.tags == tags(7)));
    let few = ["1", "2", "11", "21"].map(|n| format!("\"{n}\"")).join(",");
    let few = serde_json::value::RawValue::from_string(format!("{{\"n\":{{\"in\":[{few}]}}}}")).unwrap();
    let few = Filter::read(None, Some(&few)).unwrap();
    let read = store.read(&ChunkQuery { bytes_max: 9, ..all(&channel, Tier::M1, &few) }).unwrap();
    assert_eq!(read.chunks.iter().map(|chunk| chunk.start_ms).collect::<Vec<_>>(), [0, 0, 0, 0, 10]);
    assert!(read.more);
    assert!(read.chunks.iter().all(|chunk| few.passes("m", &chunk.series.tags)));
}

/// What one process keeps, another may read at once; what is kept twice is there once.
fn keeping_reading_and_trimming_go_on_at_the_same_time(kind: Kind) {
    const THREADS: u64 = 3;
    const ROUNDS: i64 = 12;
    let Some(subject) = Subject::new(kind) else { return };
    let store = subject.store();
    let (channel, everything) = (name("a.metrics"), Filter::default());
    std::thread::scope(|scope| {
        for writer in 0..THREADS {
            let (channel, everything) = (&channel, &everything);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let mut chunks = vec![one("cpu:0-60=a"), one("mem:0-60=b"), one("old@1s:0-1=c")];
                    for chunk in &mut chunks {
                        chunk.writer = writer;
                        chunk.windows = vec![round as u8; 3].into();
                    }
                    assert_eq!(store.keep(&chunks), Ok(0));
                    let read = store.read(&all(channel, Tier::M1, everything)).unwrap();
                    let own = read.chunks.iter().filter(|chunk| chunk.writer == writer);
                    assert!(own.map(|chunk| chunk.windows[0]).eq([round as u8; 2]));
                    store.trim(Tier::S1, 1, 2).unwrap();
                }
            });
        }
    });
    assert_eq!(store.read(&all(&channel, Tier::M1, &everything)).unwrap().chunks.len(), 2 * THREADS as usize);
    while store.trim(Tier::S1, 1, 100).unwrap() > 0 {}
    assert!(store.read(&all(&channel, Tier::S1, &everything)).unwrap().chunks.is_empty());
}
