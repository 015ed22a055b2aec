//! The history beside a model that keeps everything.

use std::collections::BTreeMap;

use pulsewire_hub::Now;
use pulsewire_telemetry::{Current, Options, Process, ShardMetrics, Status, Telemetry};

use super::*;
use crate::figures::index_of;

/// 2026-01-01T00:00:00Z, which begins a step of every length.
const START_MS: i64 = 1_767_225_600_000;

struct World {
    telemetry: Arc<Telemetry>,
    shard: ShardMetrics,
    at: Now,
    history: History,
}

impl World {
    fn new() -> Self {
        let telemetry = Telemetry::new(Options::default());
        let shard = telemetry.shard();
        Self {
            telemetry,
            shard,
            at: Now { mono_ns: 5_000_000_000, wall_ms: START_MS },
            history: History::default(),
        }
    }

    fn moment(&self, detached: u64) -> Arc<Moment> {
        let current = Current { sessions_detached: detached, ..Current::default() };
        let totals = self.telemetry.snapshot();
        Arc::new(Moment {
            at: self.at,
            totals,
            process: Process::default(),
            current: Some(Arc::new(current)),
        })
    }

    /// Time passes, then somebody looks.
    fn look(&mut self, ms: u64, detached: u64) -> Arc<Moment> {
        self.at = self.at.plus_ms(ms);
        let moment = self.moment(detached);
        self.history.tick(&moment);
        moment
    }

    fn window(&self, id: &str, seconds: u64) -> (i64, u64, Vec<Option<f32>>) {
        let figure = index_of(id).unwrap();
        let window = self.history.window(&[figure], Duration::from_secs(seconds), self.at.wall_ms);
        (
            (window.from_ms - START_MS) / 1_000,
            window.step.as_secs(),
            window.values.into_iter().next().unwrap(),
        )
    }
}

#[test]
fn a_value_is_of_the_step_that_ended_and_a_rate_is_per_second() {
    let mut world = World::new();
    world.look(0, 1);
    (0..3).for_each(|_| world.shard.connection_opened());
    world.look(1_003, 2);
    world.look(998, 3);
    assert_eq!(world.window("connections.detached", 3), (-1, 1, vec![None, Some(2.0), Some(3.0)]));
    let (_, _, rates) = world.window("connections.opened", 2);
    assert_eq!(rates, [Some((3.0 / 1.003) as f32), Some(0.0)]);
    // A second has ended and nobody has looked yet: the window ends with the last that is known.
    world.at = world.at.plus_ms(1_000);
    assert_eq!(world.window("connections.detached", 2).2, [Some(2.0), Some(3.0)]);
    world.at = world.at.plus_ms(1_000);
    assert_eq!(world.window("connections.detached", 2).2, [None, None]);
}

#[test]
fn a_percentile_of_ten_seconds_is_of_all_that_happened_in_them() {
    let mut world = World::new();
    let event = world.telemetry.event_types().intern("a");
    world.look(0, 0);
    for second in 0..10 {
        // Ninety-nine slow deliveries in one second, one quick one in each of the others.
        let (ns, n) = if second == 4 { (400_000_000, 99) } else { (50_000, 1) };
        world.shard.delivered(event, ns, n);
        world.look(1_000, 0);
    }
    let seconds = world.window("latency.p50", 10).2;
    assert_eq!(seconds.iter().filter(|value| value.unwrap() < 1.0).count(), 9);
    let (from, step, tens) = world.window("latency.p50", 3_600);
    assert_eq!((from, step, tens.len()), (10 - 3_600, 10, 360));
    // A mean of the ten medians would be 38 ms.
    assert!(tens[359].unwrap() > 250.0 && tens[..359].iter().all(Option::is_none), "{:?}", tens[359]);
    assert_eq!(world.window("receipt.p50", 10).2, [None; 10]);
}

#[test]
fn a_process_that_stood_still_leaves_a_gap_and_no_burst() {
    let mut world = World::new();
    world.look(0, 1);
    world.look(1_000, 1);
    world.shard.connection_opened();
    world.look(7_000, 5);
    world.look(1_000, 6);
    let detached = world.window("connections.detached", 9).2;
    let expected = [Some(1.0), None, None, None, None, None, None, Some(5.0), Some(6.0)];
    assert_eq!(detached, expected);
    // What was opened meanwhile was not opened in one second.
    let opened = world.window("connections.opened", 9).2;
    assert_eq!(opened, [Some(0.0), None, None, None, None, None, None, None, Some(0.0)]);
}

#[test]
fn a_shard_that_does_not_answer_leaves_a_gap_in_what_there_is() {
    let mut world = World::new();
    world.look(0, 1);
    world.at = world.at.plus_ms(1_000);
    let deaf = Moment { current: None, ..Moment::clone(&world.moment(1)) };
    world.history.tick(&Arc::new(deaf));
    assert_eq!(world.window("connections.detached", 1).2, [None]);
    assert_eq!(world.window("connections.opened", 1).2, [Some(0.0)]);
}

#[test]
fn the_newest_values_are_those_of_the_last_seconds() {
    let mut world = World::new();
    world.look(0, 1);
    assert!(world.history.newest(world.at.wall_ms).iter().all(Option::is_none));
    world.look(1_000, 4);
    let figure = index_of("connections.detached").unwrap();
    assert_eq!(world.history.newest(world.at.wall_ms)[figure], Some(4.0));
    assert_eq!(world.history.newest(world.at.wall_ms + 3_000)[figure], None);
}

/// Every step that a look has ended, for one length of step.
#[derive(Default)]
struct Model {
    values: BTreeMap<i64, [Option<f32>; 2]>,
    last: Option<Arc<Moment>>,
}

impl Model {
    fn tick(&mut self, step_ms: i64, steps: i64, now: &Arc<Moment>) {
        let step_of = |moment: &Moment| moment.at.wall_ms.div_euclid(step_ms);
        let Some(before) = self.last.clone() else { return self.last = Some(now.clone()) };
        let (from, to) = (step_of(&before), step_of(now));
        if from == to {
            return;
        }
        // What lies longer ago than is kept is gone for good, though the clock may be set back to it.
        self.values.retain(|step, _| *step < to && *step > to - 1 - steps);
        if from < to {
            let passed = |ms: f64| ms >= 0.5 * step_ms as f64 && ms < 1.5 * step_ms as f64;
            let mono_ms = (now.at.mono_ns - before.at.mono_ns) as f64 / 1e6;
            let whole =
                from + 1 == to && passed(mono_ms) && passed((now.at.wall_ms - before.at.wall_ms) as f64);
            let opened = pulsewire_telemetry::Counter::connections(Status::Opened);
            let opened = now.totals.count_since(&before.totals, opened) as f64 / (mono_ms / 1e3);
            let detached = now.current.as_ref().unwrap().sessions_detached as f32;
            self.values.insert(to - 1, [Some(detached), whole.then_some(opened as f32)]);
        }
        self.last = Some(now.clone());
    }
}

/// A generator that is good enough to choose with.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[test]
fn the_history_says_what_a_model_says_that_keeps_everything() {
    let figures = ["connections.detached", "connections.opened"].map(|id| index_of(id).unwrap());
    for seed in 0..6 {
        let mut state = seed;
        let mut world = World::new();
        let mut models = TIERS.map(|(step, steps)| (step.as_millis() as i64, steps as i64, Model::default()));
        for round in 0..2_500_u64 {
            (0..random(&mut state, 3)).for_each(|_| world.shard.connection_opened());
            let ms = match random(&mut state, 200) {
                0 => random(&mut state, 100_000),
                1..40 => 900 + random(&mut state, 200),
                _ => 1_000,
            };
            match random(&mut state, 400) {
                0 => world.at.wall_ms -= i64::try_from(random(&mut state, 1_000_000)).unwrap(),
                1 => world.at.wall_ms += i64::try_from(random(&mut state, 1_000_000)).unwrap(),
                _ => {}
            }
            let now = world.look(ms, round);
            for (step_ms, steps, model) in &mut models {
                model.tick(*step_ms, *steps, &now);
            }
            if round % 500 == 499 {
                for ((step_ms, _, model), (_, steps)) in models.iter().zip(TIERS) {
                    let range = Duration::from_millis(step_ms.unsigned_abs()) * u32::try_from(steps).unwrap();
                    let window = world.history.window(&figures, range, world.at.wall_ms);
                    assert_eq!((window.step.as_millis() as i64, window.values[0].len()), (*step_ms, steps));
                    for index in 0..steps {
                        let step = window.from_ms / step_ms + index as i64;
                        let expected = model.values.get(&step).copied().unwrap_or_default();
                        let found = [window.values[0][index], window.values[1][index]];
                        assert_eq!(
                            found, expected,
                            "seed {seed}, round {round}, step {step} of {step_ms} ms"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn all_of_it_is_three_and_a_half_megabytes_at_most() {
    let history = History::default();
    let bytes: usize = history.tiers.iter().map(|tier| tier.values.capacity() * size_of::<u32>()).sum();
    assert!((2_500_000..=3_500_000).contains(&bytes), "{bytes}");
}
