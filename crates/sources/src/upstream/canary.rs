//! Whether the candidate's streams do worse than the others.
//!
//! Streams come to the candidate by a hash of their names, so each is as likely to be there as its share says. What is
//! compared is what each stream did in the last minutes: a difference counts only if it is large (`ratio`), if chance
//! would hardly make it (a randomisation test: the difference of the tracks' means against how much streams differ
//! among themselves), and if several of the candidate's streams show it. One stream that fails all the time says
//! nothing of the candidate, and an upstream that is away hits both tracks alike.

use serde::{Deserialize, Serialize};

use super::Track;

/// How many parts the compared time has.
const PARTS: usize = 18;
/// Differences of less than this many standard deviations are chance …
const SIGMAS: f64 = 3.0;
/// … and of more, where the candidate has few streams: this much more for one, half of it for two, and so on.
const SIGMAS_OF_FEW: f64 = 6.0;
/// Fewer failures or retries of the candidate than this say nothing.
const VOLUME_MIN: f64 = 10.0;
/// A stable track that never fails is taken to fail this often: of attempts, and in a second of each stream.
const FLOOR: [f64; 2] = [0.01, 0.001];

/// By what the candidate is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Worse is more than so many times stable's rate. Default 1.5 (document 002).
    pub ratio: f64,
    /// What is compared lies so long back at most, and being worse so long is final, milliseconds. Default 3 min
    /// (document 002).
    pub window_ms: u64,
    /// So many of the candidate's streams have to show it. Default 3.
    pub streams_min: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { ratio: 1.5, window_ms: 180_000, streams_min: 3 }
    }
}

/// What a stream did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Attempts to connect.
    pub attempts: u32,
    /// Those of them that were not the first.
    pub retries: u32,
    /// Attempts and connections that failed.
    pub errors: u32,
}

impl Counts {
    fn less(self, before: Self) -> Self {
        Self {
            attempts: self.attempts.wrapping_sub(before.attempts),
            retries: self.retries.wrapping_sub(before.retries),
            errors: self.errors.wrapping_sub(before.errors),
        }
    }
}

/// The last minutes of one stream.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    /// What had been counted when each part began, the newest last.
    marks: std::collections::VecDeque<Counts>,
}

impl Recent {
    /// A part of the time has passed; `counted` is what was counted since the stream began. Returns what it did in the
    /// time that is compared.
    pub fn mark(&mut self, counted: Counts) -> Counts {
        // A stream that is new has done nothing before.
        let before = if self.marks.len() == PARTS { self.marks.pop_front() } else { None };
        let before = before.unwrap_or_default();
        self.marks.push_back(counted);
        counted.less(before)
    }
}

/// The time between two marks, milliseconds.
#[must_use]
pub fn part_ms(rules: &Rules) -> u64 {
    (rules.window_ms / PARTS as u64).max(1)
}

/// Sums over the streams of a track. Those of several servers can be added.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sums {
    /// Streams.
    pub streams: u64,
    /// Their attempts.
    pub attempts: u64,
    /// Their retries.
    pub retries: u64,
    /// Their errors.
    pub errors: u64,
    /// Streams that had errors.
    pub streams_with_errors: u64,
    /// Streams that had retries.
    pub streams_with_retries: u64,
    /// Sums of the logarithms (1 + errors) and of their squares.
    pub log_errors: [f64; 2],
    /// The same of retries.
    pub log_retries: [f64; 2],
}

impl Sums {
    /// Adds a stream.
    pub fn add(&mut self, counts: Counts) {
        let log = |count: u32| f64::from(count).ln_1p();
        let [errors, retries] = [log(counts.errors), log(counts.retries)];
        self.merge(&Self {
            streams: 1,
            attempts: counts.attempts.into(),
            retries: counts.retries.into(),
            errors: counts.errors.into(),
            streams_with_errors: u64::from(counts.errors > 0),
            streams_with_retries: u64::from(counts.retries > 0),
            log_errors: [errors, errors * errors],
            log_retries: [retries, retries * retries],
        });
    }

    /// Adds the streams of another server.
    pub fn merge(&mut self, other: &Self) {
        self.streams += other.streams;
        self.attempts += other.attempts;
        self.retries += other.retries;
        self.errors += other.errors;
        self.streams_with_errors += other.streams_with_errors;
        self.streams_with_retries += other.streams_with_retries;
        for at in 0..2 {
            self.log_errors[at] += other.log_errors[at];
            self.log_retries[at] += other.log_retries[at];
        }
    }
}

/// Both tracks.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Tracks {
    /// The streams on stable settings.
    pub stable: Sums,
    /// The candidate's.
    pub canary: Sums,
}

impl Tracks {
    /// Adds a stream to its track.
    pub fn add(&mut self, track: Track, counts: Counts) {
        match track {
            Track::Stable => self.stable.add(counts),
            Track::Canary => self.canary.add(counts),
        }
    }

    /// Adds another server's.
    pub fn merge(&mut self, other: &Self) {
        self.stable.merge(&other.stable);
        self.canary.merge(&other.canary);
    }
}

/// One figure of both tracks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Stable's rate.
    pub stable: f64,
    /// The candidate's.
    pub canary: f64,
    /// The candidate's by stable's, or by the least that stable is taken to have.
    pub ratio: f64,
    /// How many standard deviations the tracks' streams are apart.
    pub sigmas: f64,
    /// Whether the candidate is worse.
    pub worse: bool,
}

/// What a look at both tracks finds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Whether there are streams enough on both tracks to say anything.
    pub comparable: bool,
    /// Errors of an attempt.
    pub error_rate: Figure,
    /// Retries in a second of a stream.
    pub retry_rate: Figure,
}

impl Comparison {
    /// Compares the tracks.
    #[must_use]
    pub fn of(tracks: &Tracks, rules: &Rules) -> Self {
        let Tracks { stable, canary } = tracks;
        let comparable =
            canary.streams >= rules.streams_min.max(1) && stable.streams >= rules.streams_min.max(1);
        let seconds = rules.window_ms as f64 / 1e3;
        let share = |events: u64, of: f64| if of > 0.0 { events as f64 / of } else { 0.0 };
        let errors = |sums: &Sums| share(sums.errors, sums.attempts as f64);
        let retries = |sums: &Sums| share(sums.retries, sums.streams as f64 * seconds);
        let count = [canary.streams, stable.streams].map(|streams| streams as f64);
        let judge = |rates: [f64; 2], floor: f64, volume: u64, shown_by: u64, sigmas: f64| {
            let [stable, canary] = rates;
            let ratio = canary / stable.max(floor);
            let worse = comparable
                && ratio > rules.ratio
                && volume as f64 >= VOLUME_MIN
                && shown_by >= rules.streams_min
                && sigmas >= SIGMAS + SIGMAS_OF_FEW / count[0].max(1.0);
            Figure { stable, canary, ratio, sigmas, worse }
        };
        Self {
            comparable,
            error_rate: judge(
                [errors(stable), errors(canary)],
                FLOOR[0],
                canary.errors,
                canary.streams_with_errors,
                sigmas(count, canary.log_errors, stable.log_errors),
            ),
            retry_rate: judge(
                [retries(stable), retries(canary)],
                FLOOR[1],
                canary.retries,
                canary.streams_with_retries,
                sigmas(count, canary.log_retries, stable.log_retries),
            ),
        }
    }

    /// Whether the candidate is worse in anything.
    #[must_use]
    pub fn worse(&self) -> bool {
        self.error_rate.worse || self.retry_rate.worse
    }
}

/// How far the candidate's mean lies above that of all, if streams came to their tracks by chance: in standard
/// deviations of the mean of as many drawn without putting back.
fn sigmas([drawn, left]: [f64; 2], canary: [f64; 2], stable: [f64; 2]) -> f64 {
    let all = drawn + left;
    if drawn < 1.0 || left < 1.0 || all < 3.0 {
        return 0.0;
    }
    let mean = (canary[0] + stable[0]) / all;
    let variance = ((canary[1] + stable[1]) / all - mean * mean).max(0.0);
    let of_mean = variance / drawn * (left / (all - 1.0));
    if of_mean > 1e-12 { (canary[0] / drawn - mean) / of_mean.sqrt() } else { 0.0 }
}

/// What is to be done with the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There is no candidate.
    Off,
    /// Too few streams to say.
    Insufficient,
    /// It is no worse.
    Pass,
    /// It is worse, but has not been for long.
    Suspect,
    /// It has been worse for as long as is allowed: take it back.
    Fail,
    /// It was taken back.
    RolledBack,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Off, Self::Insufficient, Self::Pass, Self::Suspect, Self::Fail, Self::RolledBack];

    /// Its name in labels and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Insufficient => "insufficient",
            Self::Pass => "pass",
            Self::Suspect => "suspect",
            Self::Fail => "fail",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// Follows the comparison over time.
#[derive(Debug, Default)]
pub struct Judge {
    worse_since_ms: Option<i64>,
    failed_since_ms: Option<i64>,
}

impl Judge {
    /// Takes a comparison. Being worse in one look and not in the next is not being worse.
    pub fn look(&mut self, comparison: &Comparison, rules: &Rules, now_ms: i64) -> Verdict {
        if !comparison.worse() {
            (self.worse_since_ms, self.failed_since_ms) = (None, None);
            return if comparison.comparable { Verdict::Pass } else { Verdict::Insufficient };
        }
        let since_ms = *self.worse_since_ms.get_or_insert(now_ms);
        if now_ms < since_ms.saturating_add_unsigned(rules.window_ms) {
            return Verdict::Suspect;
        }
        self.failed_since_ms.get_or_insert(now_ms);
        Verdict::Fail
    }

    /// Since when the candidate has been worse, if it is.
    #[must_use]
    pub fn worse_since_ms(&self) -> Option<i64> {
        self.worse_since_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator: the same schedule for the same seed (SplitMix64).
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    struct World {
        streams: Vec<(Track, f64, Counts, Recent)>,
        judge: Judge,
        rules: Rules,
        now_ms: i64,
    }

    impl World {
        /// Streams that differ a lot among themselves, a tenth of them the candidate's. `worse` says how often those fail,
        /// in a second, that would fail so often with stable's settings.
        fn new(chance: &mut Chance, streams: usize, worse: impl Fn(f64) -> f64) -> Self {
            let streams = (0..streams)
                .map(|_| {
                    let track = if chance.next() < 0.1 { Track::Canary } else { Track::Stable };
                    // From one failure in nine hours to one in a hundred seconds.
                    let own = 10_f64.powf(-2.0 - 2.5 * chance.next());
                    (
                        track,
                        if track == Track::Canary { worse(own) } else { own },
                        Counts::default(),
                        Recent::default(),
                    )
                })
                .collect();
            Self { streams, judge: Judge::default(), rules: Rules::default(), now_ms: 0 }
        }

        /// One part of the time. `outage` hits everybody.
        fn step(&mut self, chance: &mut Chance, outage: bool) -> Verdict {
            let part_ms = part_ms(&self.rules);
            let mut tracks = Tracks::default();
            for (track, rate, counts, recent) in &mut self.streams {
                let expected = if outage { 3.0 } else { *rate * part_ms as f64 / 1e3 };
                let mut failures = expected.floor() as u32;
                failures += u32::from(chance.next() < expected.fract());
                counts.errors += failures;
                counts.retries += failures;
                counts.attempts += failures;
                tracks.add(*track, recent.mark(*counts));
            }
            self.now_ms += i64::try_from(part_ms).unwrap();
            self.judge.look(&Comparison::of(&tracks, &self.rules), &self.rules, self.now_ms)
        }
    }

    /// How many schedules are tried: `PULSEWIRE_SIM_SEEDS`, as in the other simulations.
    fn seeds() -> u64 {
        std::env::var("PULSEWIRE_SIM_SEEDS").ok().map_or(300, |text| text.parse().unwrap())
    }

    /// An hour each. Chance is not forbidden: once in a thousand hours it may look like a fault.
    #[test]
    fn a_candidate_that_is_no_worse_is_never_taken_back() {
        let mut alarms = Vec::new();
        for seed in 0..seeds() {
            let mut chance = Chance(seed);
            let mut world = World::new(&mut chance, 60 + 40 * (seed as usize % 8), |own| own);
            // An upstream that is away for five minutes of the hour.
            let alarm =
                (0..360).find(|step| world.step(&mut chance, (100..130).contains(step)) == Verdict::Fail);
            alarms.extend(alarm.map(|step| (seed, step)));
        }
        assert!(alarms.len() as u64 <= seeds() / 1_000, "seeds and steps: {alarms:?}");
    }

    /// A candidate whose streams fail every ten seconds, as one that cannot connect does.
    #[test]
    fn a_candidate_that_is_worse_is_failed_within_four_minutes() {
        for seed in 0..seeds() {
            let mut chance = Chance(seed);
            let mut world = World::new(&mut chance, 40 + 40 * (seed as usize % 8), |_| 0.1);
            let canaries = world.streams.iter().filter(|stream| stream.0 == Track::Canary).count();
            let failed = (0..24).any(|_| world.step(&mut chance, false) == Verdict::Fail);
            // With fewer there is no verdict.
            assert_eq!(failed, canaries >= 3, "seed {seed}: {canaries} streams");
        }
    }

    #[test]
    fn one_stream_that_fails_says_nothing_of_the_candidate() {
        let mut world = World::new(&mut Chance(1), 100, |own| own);
        for (at, stream) in world.streams.iter_mut().enumerate() {
            stream.0 = if at < 10 { Track::Canary } else { Track::Stable };
            stream.1 = if at < 2 { 1.0 } else { 0.0 };
        }
        let mut chance = Chance(2);
        for _ in 0..100 {
            assert_eq!(world.step(&mut chance, false), Verdict::Pass);
        }
    }

    #[test]
    fn too_few_streams_are_no_verdict() {
        let mut world = World::new(&mut Chance(1), 10, |own| own);
        for stream in &mut world.streams {
            (stream.0, stream.1) = (Track::Stable, 1.0);
        }
        world.streams[0].0 = Track::Canary;
        world.streams[1].0 = Track::Canary;
        assert_eq!(world.step(&mut Chance(2), false), Verdict::Insufficient);
    }

    #[test]
    fn what_a_stream_did_is_forgotten_after_the_window() {
        let mut recent = Recent::default();
        let counts = |errors| Counts { errors, ..Counts::default() };
        assert_eq!(recent.mark(counts(5)).errors, 5, "it is new: all of it is recent");
        for _ in 0..PARTS - 1 {
            let _ = recent.mark(counts(5));
        }
        assert_eq!(recent.mark(counts(7)).errors, 2);
    }

    #[test]
    fn sums_of_servers_add_up_to_those_of_one() {
        let counts = |errors| Counts { attempts: errors + 1, retries: errors, errors };
        let (mut whole, mut parts) = (Tracks::default(), Tracks::default());
        for at in 0..20_u32 {
            let track = if at % 5 == 0 { Track::Canary } else { Track::Stable };
            whole.add(track, counts(at));
            let mut server = Tracks::default();
            server.add(track, counts(at));
            parts.merge(&server);
        }
        let rules = Rules::default();
        let [one, other] = [whole, parts].map(|tracks| Comparison::of(&tracks, &rules));
        assert!((one.error_rate.sigmas - other.error_rate.sigmas).abs() < 1e-9);
        assert!((one.retry_rate.ratio - other.retry_rate.ratio).abs() < 1e-9);
    }
}
