//! What happened within the last minutes, in bounded memory.

use hdrhistogram::Histogram;

/// Parts of a window: its length is right to within one of them.
const PARTS: u64 = 30;

/// A sliding window of parts, each of which begins empty and is overwritten when its time comes again.
#[derive(Debug)]
pub(super) struct Ring<T> {
    part_ms: u64,
    /// Which part of all time each is, and what it holds.
    parts: Vec<(u64, T)>,
}

impl<T: Default> Ring<T> {
    pub(super) fn new(window_ms: u64) -> Self {
        let parts = (0..PARTS).map(|_| (0, T::default())).collect();
        Self { part_ms: (window_ms / PARTS).max(1), parts }
    }

    /// The part of now.
    pub(super) fn at(&mut self, now_ms: u64) -> &mut T {
        let number = now_ms / self.part_ms;
        let part = &mut self.parts[(number % PARTS) as usize];
        if part.0 < number {
            *part = (number, T::default());
        }
        &mut part.1
    }

    /// The parts that are not too old.
    pub(super) fn live(&self, now_ms: u64) -> impl Iterator<Item = &T> {
        let oldest = self.oldest(now_ms);
        self.parts.iter().filter(move |(number, _)| *number >= oldest).map(|(_, part)| part)
    }

    /// How long a time the live parts are about, if there was nothing before `begun_ms`.
    pub(super) fn covers_ms(&self, begun_ms: u64, now_ms: u64) -> u64 {
        now_ms.saturating_sub(begun_ms.max(self.oldest(now_ms) * self.part_ms))
    }

    fn oldest(&self, now_ms: u64) -> u64 {
        (now_ms / self.part_ms).saturating_sub(PARTS - 1)
    }
}

/// Amounts of time: how many, their mean, and their distribution to within one percent.
#[derive(Debug, Default)]
pub(super) struct Figures {
    count: u64,
    sum_ms: f64,
    max_ms: f64,
    /// In microseconds. Made with the first amount.
    distribution: Option<Histogram<u32>>,
}

/// What is longer counts as this in percentiles, milliseconds: 30 days.
const MS_MAX: f64 = 30.0 * 86_400_000.0;

impl Figures {
    pub(super) fn record(&mut self, ms: f64) {
        let ms = ms.min(MS_MAX);
        self.count += 1;
        self.sum_ms += ms;
        self.max_ms = self.max_ms.max(ms);
        self.distribution.get_or_insert_with(empty).saturating_record((ms * 1_000.0).round() as u64);
    }

    pub(super) fn add(&mut self, other: &Self) {
        let Some(distribution) = &other.distribution else { return };
        self.count += other.count;
        self.sum_ms += other.sum_ms;
        self.max_ms = self.max_ms.max(other.max_ms);
        let own = self.distribution.get_or_insert_with(empty);
        own.add(distribution).expect("both are of one size");
    }

    /// The mean and the 95th percentile in milliseconds; `None` if nothing was recorded.
    pub(super) fn average_and_p95(&self) -> Option<(f64, f64)> {
        let distribution = self.distribution.as_ref()?;
        let p95_ms = distribution.value_at_quantile(0.95) as f64 / 1_000.0;
        Some((self.sum_ms / self.count as f64, p95_ms.min(self.max_ms)))
    }
}

/// Two digits take at most 20 KiB, however many amounts there are and whatever they are.
fn empty() -> Histogram<u32> {
    Histogram::new_with_bounds(1, (MS_MAX * 1_000.0) as u64, 2).expect("bounds that are in order")
}
