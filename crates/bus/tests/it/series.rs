//! Metric channels held to a plain model: what is live, what is rolled up, what is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use pulsewire_bus::{
    Audience, Body, Bus, Channel, ChannelKind, MemorySeriesStore, Namespace, Namespaces, Now, Options,
    Publication, Resolution, RingLimits, SeriesLimits, SeriesOptions, SeriesQuery, SeriesStore, StoreError,
    store,
};
use pulsewire_protocol::{
    ChannelName, ChannelPattern, Epoch, ErrorCode, Filter, Interval, MetricKind, MetricSet, Number, Reading,
    Sample, Tags,
};
use pulsewire_telemetry::{Counter, SampleRefusal, SampleSource, Telemetry};

const BEGIN_MS: i64 = 1_700_000_000_000;

/// Writes down every set.
#[derive(Clone, Default)]
struct Sets(Arc<Mutex<Vec<MetricSet>>>);

impl Audience for Sets {
    fn has_room(&self, _: usize) -> bool {
        true
    }

    fn deliver(&self, _: usize, publications: &[Arc<Publication>]) {
        self.0.lock().extend(publications.iter().filter_map(|publication| match &publication.body {
            Body::Metrics(set) => Some(set.clone()),
            Body::Event(_) => None,
        }));
    }

    fn replaced(&self, _: usize, _: &Arc<Channel>) {}
}

/// A bus with a metric channel that somebody listens to, and what that one hears.
struct World {
    bus: Bus,
    telemetry: Arc<Telemetry>,
    sets: Sets,
    now: Now,
}

impl World {
    fn new(limits: SeriesLimits, store: Option<Arc<dyn SeriesStore>>, incarnation: u64) -> Self {
        let pattern = ChannelPattern::parse("*.metrics").unwrap();
        let sets = Sets::default();
        let options = Options {
            namespaces: Namespaces::new(vec![Namespace::new("metrics", pattern, ChannelKind::Metrics)]),
            shards: 1,
            channels_max: 3,
            epoch: Epoch::parse("e1").unwrap(),
            incarnation,
            store: None,
            broker: None,
            queue_max: 100,
            ring: RingLimits::default(),
            series: SeriesOptions { limits, store },
            tap: None,
        };
        let telemetry = Telemetry::new(Default::default());
        let bus = Bus::new(options, telemetry.clone(), Box::new(sets.clone()));
        let world = Self { bus, telemetry, sets, now: Now { wall_ms: BEGIN_MS, mono_ns: 1 } };
        world.channel().listen(0);
        world
    }

    fn name() -> ChannelName {
        ChannelName::parse("a.metrics").unwrap()
    }

    fn channel(&self) -> Arc<Channel> {
        self.bus.at_hand(&Self::name(), pulsewire_protocol::Sequence::ZERO).unwrap().unwrap()
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    /// Takes samples written as `name host value`, dated so much before now; says what was refused.
    fn take(&self, samples: &[(&str, &str, f64)], ago_ms: i64) -> Vec<(usize, ErrorCode)> {
        let samples = self.samples(samples, ago_ms);
        let receipt = self.bus.publish_samples(self.now, SampleSource::Http, &Self::name(), samples).unwrap();
        receipt.refused.iter().map(|refused| (refused.index, refused.code)).collect()
    }

    /// Takes samples, written the same way, that another node accepted.
    fn receive(&self, samples: &[(&str, &str, f64)], ago_ms: i64) {
        self.bus.receive_samples(self.now, &Self::name(), self.samples(samples, ago_ms));
    }

    fn samples(&self, samples: &[(&str, &str, f64)], ago_ms: i64) -> Vec<Sample> {
        let sample = |(name, host, value): &(&str, &str, f64)| Sample {
            name: (*name).to_owned().into(),
            kind: if name.ends_with("total") { MetricKind::Counter } else { MetricKind::Gauge },
            value: Number::Float(*value),
            tags: Tags::new([("host", *host)]).unwrap(),
            timestamp_ms: Some(self.now.wall_ms - ago_ms),
        };
        samples.iter().map(sample).collect()
    }

    /// The newest of what it accepted itself, as name, host, seconds since the beginning and value.
    fn newest_own(&self) -> Vec<String> {
        let mut newest: Vec<String> = self
            .bus
            .newest_samples(&Self::name())
            .iter()
            .map(|sample| {
                let at_s = (sample.timestamp_ms.unwrap() - BEGIN_MS) as f64 / 1e3;
                format!(
                    "{} {} {at_s} {}",
                    sample.name,
                    sample.tags.get("host").unwrap(),
                    sample.value.as_f64()
                )
            })
            .collect();
        newest.sort();
        newest
    }

    /// What whoever subscribes now is told first, as name, host, seconds since the beginning and value.
    fn newest(&self) -> Vec<String> {
        let Some(newest) = self.bus.newest(&self.channel(), None) else { return Vec::new() };
        self.sets.0.lock().clear();
        self.sets.deliver(0, &[newest]);
        self.heard().iter().map(|heard| heard["- ".len()..].to_owned()).collect()
    }

    /// What was heard since the last time: interval, then name, host, seconds since the beginning and last value.
    fn heard(&self) -> Vec<String> {
        let begin = |ms: i64| (ms - BEGIN_MS) as f64 / 1e3;
        let mut heard = Vec::new();
        for set in std::mem::take(&mut *self.sets.0.lock()) {
            let interval = set.interval.map_or("-", Interval::name);
            for point in &set.points {
                let host = point.series.tags.get("host").unwrap();
                let said = match point.reading {
                    Reading::Value(value) => format!("{}", value.as_f64()),
                    Reading::Figures(figures) => format!("{}x{}", figures.count, figures.sum),
                };
                heard.push(format!(
                    "{interval} {} {host} {} {said}",
                    point.series.name,
                    begin(point.timestamp_ms)
                ));
            }
        }
        heard
    }

    /// The windows of an interval that were heard, by start and host, as their count and sum.
    fn live(&self, interval: Interval) -> Vec<Window> {
        let sets = self.sets.0.lock();
        let heard = sets.iter().filter(|set| set.interval == Some(interval)).flat_map(|set| &set.points);
        let window = |point: &pulsewire_protocol::Point| match point.reading {
            Reading::Figures(figures) => {
                let host = point.series.tags.get("host").unwrap().to_owned();
                (host, point.timestamp_ms, figures.count, figures.sum)
            }
            Reading::Value(_) => panic!("windows are rolled up"),
        };
        let mut windows: Vec<Window> = heard.map(window).collect();
        windows.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        windows
    }

    /// History: windows by host and start, as their count and sum.
    fn history(&self, query: &SeriesQuery) -> (Vec<Window>, &'static str, Option<i64>) {
        let history = self.bus.series_history(self.now, &self.channel(), query).unwrap();
        assert_eq!(history.corrupt, 0);
        let window = |point: &pulsewire_protocol::Point| match point.reading {
            Reading::Figures(figures) => {
                let host = point.series.tags.get("host").unwrap().to_owned();
                (host, point.timestamp_ms, figures.count, figures.sum)
            }
            Reading::Value(_) => panic!("history is rolled up"),
        };
        (history.points.iter().map(window).collect(), history.resolution.name(), history.next_ms)
    }
}

/// Host, start, count and sum of a window.
type Window = (String, i64, u64, f64);

fn everything(interval: Option<Interval>, now: Now) -> SeriesQuery {
    SeriesQuery {
        from_ms: BEGIN_MS - 60_000,
        to_ms: now.wall_ms + 1,
        resolution: interval.map(Resolution::from),
        fits: 1_000_000,
        filter: Filter::default(),
        points_max: 1_000_000,
        open: true,
    }
}

#[test]
fn samples_are_refused_one_by_one_and_the_others_go_on() {
    let limits = SeriesLimits { per_channel_max: 3, ..SeriesLimits::default() };
    let world = World::new(limits, None, 1);
    let bad = ErrorCode::BadRequest;
    let refused = world.take(
        &[
            ("a", "x", 1.0),
            ("no name", "x", 1.0),
            ("a", "x", f64::NAN),
            ("b", "x", 2.0),
            ("c", "x", 3.0),
            ("d", "x", 4.0),
        ],
        0,
    );
    assert_eq!(refused, [(1, bad), (2, bad), (5, ErrorCode::LimitExceeded)]);
    assert_eq!(world.heard(), ["- a x 0 1", "- b x 0 2", "- c x 0 3"]);
    assert_eq!(world.take(&[("a", "x", 1.0)], -60_001), [(0, bad)], "more than a minute ahead");
    assert_eq!(world.take(&[("a", "x", 1.0)], -60_000), []);
    assert_eq!(world.take(&[("a", "x", 1.0)], BEGIN_MS + 1), [(0, bad)], "before 1970");
    let kind = Sample {
        name: "a".into(),
        kind: MetricKind::Counter,
        value: Number::Whole(1),
        tags: Tags::new([("host", "x")]).unwrap(),
        timestamp_ms: None,
    };
    let receipt =
        world.bus.publish_samples(world.now, SampleSource::Http, &World::name(), vec![kind]).unwrap();
    assert_eq!(receipt.refused[0].detail, "`a` is a gauge, not a counter");
    let other = ChannelName::parse("elsewhere").unwrap();
    let nowhere = world.bus.publish_samples(world.now, SampleSource::Http, &other, Vec::new());
    assert_eq!(nowhere.unwrap_err(), ErrorCode::UnknownChannel);
}

/// Row M7: nobody sees the time of a series go back.
#[test]
fn a_sample_older_than_the_newest_is_rolled_up_and_not_sent() {
    let mut world = World::new(SeriesLimits::default(), None, 1);
    world.channel().want(Interval::S1);
    world.take(&[("a", "x", 1.0)], 0);
    world.pass(500);
    world.take(&[("a", "x", 5.0)], 0);
    world.take(&[("a", "x", 2.0), ("a", "y", 9.0)], 200);
    assert_eq!(world.heard(), ["- a x 0 1", "- a x 0.5 5", "- a y 0.3 9"]);
    world.pass(749);
    world.bus.roll(world.now);
    assert_eq!(world.heard(), [""; 0], "a quarter of a second later others may still come");
    world.pass(1);
    assert_eq!(world.bus.roll(world.now), BEGIN_MS + 2_250);
    assert_eq!(world.heard(), ["1s a x 0 3x8", "1s a y 0 1x9"]);
    world.take(&[("a", "x", 7.0)], 900);
    world.pass(10_000);
    world.bus.roll(world.now);
    assert_eq!(world.heard(), [""; 0], "its window has closed, and it is older than the newest");
}

#[test]
fn a_clock_that_is_set_back_makes_nobody_wait() {
    let mut world = World::new(SeriesLimits::default(), None, 1);
    world.channel().want(Interval::S1);
    world.take(&[("a", "x", 1.0)], 0);
    world.now.wall_ms -= 3_600_000;
    world.take(&[("a", "x", 2.0)], 0);
    world.pass(2_000);
    world.bus.roll(world.now);
    assert_eq!(world.heard(), ["- a x 0 1", "- a x -3600 2", "1s a x 0 1x1", "1s a x -3600 1x2"]);
}

/// Whoever is sent windows when they close is not sent them before, as a part.
#[test]
fn the_past_of_a_subscriber_to_windows_ends_where_they_are_open() {
    let store = Arc::new(MemorySeriesStore::new(1_000));
    let mut world = World::new(SeriesLimits::default(), Some(store.clone()), 1);
    let run = |world: &mut World| {
        for second in 0..13 {
            world.take(&[("a", "x", f64::from(second))], 0);
            world.pass(1_000);
            world.bus.roll(world.now);
        }
    };
    run(&mut world);
    let closed = |world: &World| {
        let query = SeriesQuery { open: false, ..everything(Some(Interval::S5), world.now) };
        let (windows, ..) = world.history(&query);
        windows
            .iter()
            .map(|(_, start_ms, count, _)| ((start_ms - BEGIN_MS) / 1_000, *count))
            .collect::<Vec<_>>()
    };
    assert_eq!(closed(&world), [(0, 5), (5, 5)], "the window of 10 to 15 s is open");
    world.bus.keep_series(world.now, true).unwrap();
    let now = world.now;
    let mut world = World::new(SeriesLimits::default(), Some(store), 2);
    world.now = now.plus_ms(2_000);
    run(&mut world);
    assert_eq!(
        closed(&world),
        [(0, 5), (5, 5), (10, 3), (15, 5), (20, 5)],
        "what was before a restart is closed"
    );
}

#[test]
fn only_intervals_that_are_wanted_are_sent_and_late_joiners_get_the_last_window() {
    let mut world = World::new(SeriesLimits::default(), None, 1);
    let channel = world.channel();
    for second in 0..6 {
        world.take(&[("a", "x", f64::from(second))], 0);
        world.pass(1_000);
        world.bus.roll(world.now);
    }
    world.heard();
    channel.want(Interval::S5);
    let newest = world.bus.newest(&channel, Some(Interval::S5)).unwrap();
    let Body::Metrics(set) = &newest.body else { panic!("values") };
    let Reading::Figures(figures) = set.points[0].reading else { panic!("figures") };
    assert_eq!((set.points[0].timestamp_ms, figures.count, figures.sum), (BEGIN_MS, 5, 10.0));
    assert!(
        Arc::ptr_eq(&newest, &world.bus.newest(&channel, Some(Interval::S5)).unwrap()),
        "made once for all"
    );
    for second in 6..12 {
        world.take(&[("a", "x", f64::from(second))], 0);
        world.pass(1_000);
        world.bus.roll(world.now);
    }
    let rolled: Vec<String> = world.heard().into_iter().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(rolled, ["5s a x 5 5x35"]);
    channel.unwant(Interval::S5);
    world.pass(10_000);
    world.bus.roll(world.now);
    assert_eq!(world.heard(), [""; 0]);
}

#[test]
fn a_series_that_says_nothing_is_forgotten_and_makes_room() {
    let limits = SeriesLimits { per_channel_max: 1, idle_ms: 60_000, ..SeriesLimits::default() };
    let mut world = World::new(limits, None, 1);
    assert_eq!(world.take(&[("a", "x", 1.0), ("b", "x", 1.0)], 0), [(1, ErrorCode::LimitExceeded)]);
    assert_eq!(world.bus.series().0, 1);
    let full = world.bus.series().1;
    world.now.wall_ms += 7_200_000 - world.now.wall_ms.rem_euclid(60_000);
    world.bus.roll(world.now);
    assert_eq!(world.bus.series().0, 0);
    assert!(world.bus.series().1 <= full);
    assert_eq!(world.take(&[("b", "x", 1.0)], 0), []);
}

/// A store that can be switched off.
struct Switched {
    store: MemorySeriesStore,
    off: std::sync::atomic::AtomicBool,
}

impl SeriesStore for Switched {
    fn keep(&self, chunks: &[store::Chunk]) -> Result<usize, StoreError> {
        if self.off.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(StoreError::new(pulsewire_bus::Failure::Full, "off"));
        }
        self.store.keep(chunks)
    }

    fn read(&self, query: &store::ChunkQuery<'_>) -> Result<store::Chunks, StoreError> {
        self.store.read(query)
    }

    fn trim(&self, tier: store::Tier, before_ms: i64, chunks_max: usize) -> Result<usize, StoreError> {
        self.store.trim(tier, before_ms, chunks_max)
    }
}

#[test]
fn what_the_store_does_not_take_waits_within_its_bound_and_is_there_for_readers() {
    let store = Arc::new(Switched { store: MemorySeriesStore::new(1_000), off: true.into() });
    let limits = SeriesLimits { waiting_bytes_max: 1_000, ..SeriesLimits::default() };
    let mut world = World::new(limits, Some(store.clone()), 1);
    let run = |world: &mut World, seconds: i64| {
        for _ in 0..seconds {
            world.take(&[("a", "x", 1.0)], 0);
            world.pass(1_000);
            world.bus.roll(world.now);
        }
    };
    run(&mut world, 20);
    assert!(world.bus.keep_series(world.now, false).is_err());
    assert_eq!(world.history(&everything(Some(Interval::S1), world.now)).0.len(), 20);
    store.off.store(false, std::sync::atomic::Ordering::Relaxed);
    world.bus.keep_series(world.now, false).unwrap();
    assert_eq!(world.history(&everything(Some(Interval::S1), world.now)).0.len(), 20);
    store.off.store(true, std::sync::atomic::Ordering::Relaxed);
    run(&mut world, 200);
    assert!(world.bus.keep_series(world.now, false).is_err());
    let kept = world.history(&everything(Some(Interval::S1), world.now)).0.len();
    assert!((20..220).contains(&kept), "{kept}: more than the bound was given up");
}

#[test]
fn history_says_how_fine_it_is_and_where_it_was_cut() {
    let store = Arc::new(MemorySeriesStore::new(1_000));
    let mut world = World::new(SeriesLimits::default(), Some(store), 1);
    for second in 0..600 {
        world.take(&[("a", "x", f64::from(second)), ("a", "y", 1.0)], 0);
        world.pass(1_000);
        world.bus.roll(world.now);
        if second % 10 == 0 {
            world.bus.keep_series(world.now, false).unwrap();
        }
    }
    let ask = |interval, points_max| SeriesQuery {
        from_ms: BEGIN_MS,
        points_max,
        fits: points_max,
        filter: Filter::equal([("host", "x")]).unwrap(),
        ..everything(interval, world.now)
    };
    let (windows, resolution, cut) = world.history(&ask(None, 1_000));
    assert_eq!((windows.len(), resolution, cut), (600, "1s", None));
    assert!(windows.iter().all(|(host, ..)| host == "x"));
    let (windows, resolution, cut) = world.history(&ask(None, 100));
    assert_eq!((windows.len(), resolution, cut), (60, "10s", None));
    let (windows, resolution, cut) = world.history(&ask(Some(Interval::S1), 100));
    assert_eq!((windows.len(), resolution, cut), (100, "1s", Some(BEGIN_MS + 100_000)));
    // Page after page, everything comes once.
    let mut pages = Vec::new();
    let mut query = ask(Some(Interval::S5), 7);
    loop {
        let (windows, _, cut) = world.history(&query);
        assert!(windows.len() <= 7);
        pages.extend(windows);
        match cut {
            Some(next_ms) => query.from_ms = next_ms,
            None => break,
        }
    }
    assert_eq!(pages, world.history(&ask(Some(Interval::S5), 1_000)).0);
    let limits = SeriesLimits { kept_ms: [0; 4], ..SeriesLimits::default() };
    let none = World::new(limits, Some(Arc::new(MemorySeriesStore::new(1))), 1);
    let refused = none.bus.series_history(none.now, &none.channel(), &ask(None, 1));
    assert_eq!(refused.unwrap_err(), ErrorCode::HistoryUnavailable);
}

#[test]
fn samples_of_other_nodes_are_live_here_and_kept_there() {
    let store: Arc<dyn SeriesStore> = Arc::new(MemorySeriesStore::new(1_000));
    let mut world = World::new(SeriesLimits::default(), Some(store.clone()), 1);
    world.channel().want(Interval::S1);
    // What was here alone is what is kept, also once others have said something of it.
    world.take(&[("a", "x", 1.0)], 0);
    world.pass(100);
    world.receive(&[("a", "x", 2.0), ("a", "y", 10.0)], 0);
    world.pass(100);
    world.take(&[("a", "x", 4.0)], 0);
    assert_eq!(world.heard(), ["- a x 0 1", "- a x 0.1 2", "- a y 0.1 10", "- a x 0.2 4"]);
    assert_eq!(world.newest(), ["a y 0.1 10", "a x 0.2 4"]);
    assert_eq!(world.newest_own(), ["a x 0.2 4"]);
    // Row M7: nobody sees the time of a series go back, whoever says it.
    world.receive(&[("a", "x", 8.0)], 50);
    world.pass(2_000);
    world.bus.roll(world.now);
    assert_eq!(world.heard(), ["1s a x 0 4x15", "1s a y 0 1x10"]);
    let second = |world: &World| world.history(&everything(Some(Interval::S1), world.now)).0;
    assert_eq!(second(&world), [("x".to_owned(), BEGIN_MS, 2, 5.0)]);
    world.bus.keep_series(world.now, true).unwrap();
    let another = World::new(SeriesLimits::default(), Some(store), 2);
    assert_eq!(second(&another), [("x".to_owned(), BEGIN_MS, 2, 5.0)]);
    assert_eq!(another.newest_own(), [""; 0], "it accepted nothing");
}

#[test]
fn what_another_node_remembers_is_shown_and_counts_for_no_window() {
    let mut world = World::new(SeriesLimits::default(), None, 1);
    world.channel().want(Interval::S1);
    world.pass(5_000);
    let remembered = world.samples(&[("a", "x", 1.0), ("a", "y", 2.0)], 5_000);
    for _ in 0..2 {
        world.bus.recall_samples(world.now, &World::name(), remembered.clone());
    }
    assert_eq!(world.heard(), ["- a x 0 1", "- a y 0 2"], "once, however often it is told");
    world.receive(&[("a", "x", 3.0)], 0);
    world.take(&[("a", "y", 4.0)], 0);
    world.bus.recall_samples(world.now, &World::name(), remembered);
    assert_eq!(world.newest(), ["a x 5 3", "a y 5 4"]);
    assert_eq!(world.newest_own(), ["a y 5 4"]);
    world.pass(2_000);
    world.bus.roll(world.now);
    let windows: Vec<String> = world.heard().into_iter().filter(|heard| heard.starts_with("1s")).collect();
    assert_eq!(windows, ["1s a x 5 1x3", "1s a y 5 1x4"]);
}

#[test]
fn what_another_node_accepted_is_held_to_the_bounds_of_this_one() {
    let limits = SeriesLimits { per_channel_max: 2, ..SeriesLimits::default() };
    let world = World::new(limits, None, 1);
    world.receive(&[("a", "x", 1.0), ("no name", "x", 1.0), ("a", "y", 2.0), ("a", "z", 3.0)], 0);
    world.receive(&[("a", "x", 1.0)], -60_001);
    assert_eq!(world.heard(), ["- a x 0 1", "- a y 0 2"]);
    assert_eq!(world.take(&[("b", "x", 1.0)], 0), [(0, ErrorCode::LimitExceeded)]);
    let counted = world.telemetry.snapshot();
    let refused = |reason| counted.count(Counter::samples_refused(reason));
    assert_eq!(
        [SampleRefusal::Name, SampleRefusal::SeriesMax, SampleRefusal::Future].map(refused),
        [1, 2, 1]
    );
    let elsewhere = ChannelName::parse("b.metrics").unwrap();
    world.bus.receive_samples(world.now, &elsewhere, world.samples(&[("a", "x", 1.0)], 0));
    assert_eq!(world.bus.series().0, 2, "of a channel that nobody has at hand nothing is known");
    assert!(world.bus.newest_samples(&elsewhere).is_empty());
}

/// What happens next in a run.
#[derive(Debug, Clone)]
enum Step {
    /// So much time passes and a sample of a host comes, at one of two nodes.
    Sample {
        node: usize,
        host: usize,
        pause_ms: u64,
        value: i32,
    },
    Keep {
        node: usize,
    },
    /// The node is stopped and another takes its place.
    Restart {
        node: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2_usize, 0..3_usize, 0..3_000_u64, -50..1_000_i32)
            .prop_map(|(node, host, pause_ms, value)| Step::Sample { node, host, pause_ms, value }),
        3 => (0..2_usize).prop_map(|node| Step::Keep { node }),
        1 => (0..2_usize).prop_map(|node| Step::Restart { node }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Two nodes write windows of the same series, are stopped and started again: what is read at any of them, at
    /// every interval, is what was sent to both, counted plainly.
    #[test]
    fn what_nodes_keep_adds_up_to_what_came(steps in prop::collection::vec(step(), 1..150)) {
        const HOSTS: [&str; 3] = ["x", "y", "z"];
        let store: Arc<dyn SeriesStore> = Arc::new(MemorySeriesStore::new(1_000));
        let mut incarnation = 0;
        let mut node = || {
            incarnation += 1;
            World::new(SeriesLimits::default(), Some(store.clone()), incarnation)
        };
        let mut nodes = [node(), node()];
        let mut sent: Vec<(usize, i64, i32)> = Vec::new();
        let mut now = nodes[0].now;
        for step in steps {
            match step {
                Step::Sample { node, host, pause_ms, value } => {
                    now = now.plus_ms(pause_ms);
                    nodes.iter_mut().for_each(|world| world.now = now);
                    nodes[node].bus.roll(now);
                    prop_assert_eq!(nodes[node].take(&[("a", HOSTS[host], f64::from(value))], 0), []);
                    sent.push((host, now.wall_ms, value));
                }
                Step::Keep { node } => nodes[node].bus.keep_series(now, false).unwrap(),
                Step::Restart { node: at } => {
                    nodes[at].bus.keep_series(now, true).unwrap();
                    nodes[at] = node();
                    nodes[at].now = now;
                }
            }
        }
        // What the other has not kept yet is nowhere to be read.
        nodes.iter().for_each(|world| world.bus.keep_series(now, true).unwrap());
        for (interval, span_ms) in [(Interval::S1, 1_000), (Interval::S5, 5_000), (Interval::M1, 60_000), (Interval::M5, 300_000), (Interval::H1, 3_600_000)] {
            let mut plain: BTreeMap<(i64, &str), (u64, f64)> = BTreeMap::new();
            for (host, at_ms, value) in &sent {
                let window = plain.entry((at_ms - at_ms.rem_euclid(span_ms), HOSTS[*host])).or_default();
                *window = (window.0 + 1, window.1 + f64::from(*value));
            }
            let plain: Vec<Window> = plain
                .iter()
                .map(|((start_ms, host), (count, sum))| ((*host).to_owned(), *start_ms, *count, *sum))
                .collect();
            for world in &nodes {
                let from_ms = BEGIN_MS - 4_000_000;
                let (windows, resolution, cut) =
                    world.history(&SeriesQuery { from_ms, ..everything(Some(interval), now) });
                prop_assert_eq!((resolution, cut), (interval.name(), None));
                prop_assert_eq!(&windows, &plain, "{}", interval.name());
            }
        }
    }

    /// Two nodes hear each other's samples, at once or later: what both keep adds up to what came to both, each sample
    /// once; and what is live at either shows all of them in their windows, if it was told in time.
    #[test]
    fn nodes_that_hear_each_other_show_everything_and_keep_it_once(
        steps in prop::collection::vec(step(), 1..150),
        at_once in any::<bool>(),
    ) {
        const HOSTS: [&str; 3] = ["x", "y", "z"];
        let store: Arc<dyn SeriesStore> = Arc::new(MemorySeriesStore::new(1_000));
        let mut nodes = [1, 2].map(|incarnation| World::new(SeriesLimits::default(), Some(store.clone()), incarnation));
        for world in &nodes {
            Interval::ALL.iter().for_each(|interval| world.channel().want(*interval));
        }
        let mut sent: Vec<(usize, i64, i32)> = Vec::new();
        // What the other has not been told yet.
        let mut untold: [Vec<Sample>; 2] = Default::default();
        let mut now = nodes[0].now;
        for step in steps {
            match step {
                Step::Sample { node, host, pause_ms, value } => {
                    now = now.plus_ms(pause_ms);
                    nodes.iter_mut().for_each(|world| world.now = now);
                    for world in &nodes {
                        world.bus.roll(now);
                    }
                    let sample = [("a", HOSTS[host], f64::from(value))];
                    prop_assert_eq!(nodes[node].take(&sample, 0), []);
                    sent.push((host, now.wall_ms, value));
                    untold[node].extend(nodes[node].samples(&sample, 0));
                }
                Step::Keep { node } => nodes[node].bus.keep_series(now, false).unwrap(),
                Step::Restart { node } => {
                    let newest = nodes[node].bus.newest_samples(&World::name());
                    nodes[1 - node].bus.recall_samples(now, &World::name(), newest);
                }
            }
            for node in 0..2 {
                if at_once || now.wall_ms % 3 == 0 {
                    nodes[1 - node].bus.receive_samples(now, &World::name(), std::mem::take(&mut untold[node]));
                }
            }
        }
        let later = now.plus_ms(10_000_000);
        for world in &mut nodes {
            world.bus.roll(later);
            world.bus.keep_series(now, true).unwrap();
            world.now = later;
        }
        for (interval, span_ms) in [(Interval::S1, 1_000), (Interval::S5, 5_000), (Interval::M1, 60_000), (Interval::M5, 300_000), (Interval::H1, 3_600_000)] {
            let mut plain: BTreeMap<(i64, &str), (u64, f64)> = BTreeMap::new();
            for (host, at_ms, value) in &sent {
                let window = plain.entry((at_ms - at_ms.rem_euclid(span_ms), HOSTS[*host])).or_default();
                *window = (window.0 + 1, window.1 + f64::from(*value));
            }
            let plain: Vec<Window> = plain
                .iter()
                .map(|((start_ms, host), (count, sum))| ((*host).to_owned(), *start_ms, *count, *sum))
                .collect();
            for world in &nodes {
                let from_ms = BEGIN_MS - 4_000_000;
                let (windows, ..) = world.history(&SeriesQuery { from_ms, ..everything(Some(interval), now) });
                prop_assert_eq!(&windows, &plain, "kept, {}", interval.name());
                if at_once {
                    prop_assert_eq!(&world.live(interval), &plain, "live, {}", interval.name());
                }
            }
        }
        for world in &nodes {
            let mut newest: BTreeMap<String, i64> = BTreeMap::new();
            for set in world.sets.0.lock().iter().filter(|set| set.interval.is_none()) {
                for point in &set.points {
                    let host = point.series.tags.get("host").unwrap().to_owned();
                    let before_ms = newest.insert(host, point.timestamp_ms);
                    prop_assert!(before_ms.is_none_or(|before_ms| before_ms <= point.timestamp_ms));
                }
            }
        }
    }
}
