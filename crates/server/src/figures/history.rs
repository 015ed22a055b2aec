//! What the figures did: seconds for a quarter of an hour, ten seconds for six hours, minutes for a week.
//!
//! A tier is a ring of steps whose ends are the multiples of their length on the wall clock. A step is written when
//! a moment comes in the step after it, from that moment and the tier's moment before. What no moment came for is
//! empty, as is what went on while the process or the clock jumped: nothing is made up. If the clock is set back,
//! the values of the time that is to come again are let go of.
//!
//! 13,140 steps of 66 figures at most are 3.4 MB; a page of them is touched only when it is written.

use std::sync::Arc;
use std::time::Duration;

use super::{FIGURES, Moment, Step};

/// The most figures there is room for.
pub(super) const FIGURES_MAX: usize = 66;
/// A step's length and how many are kept, the shortest first.
pub const TIERS: [(Duration, usize); 3] = [
    (Duration::from_secs(1), 15 * 60),
    (Duration::from_secs(10), 6 * 360),
    (Duration::from_secs(60), 7 * 24 * 60),
];

const BYTES_MAX: usize = 3_500_000;
const _: () = assert!((TIERS[0].1 + TIERS[1].1 + TIERS[2].1) * FIGURES_MAX * size_of::<u32>() <= BYTES_MAX);

/// What the figures did, at each length of step.
#[derive(Debug)]
pub struct History {
    tiers: [Tier; 3],
    began_ms: Option<i64>,
}

/// A part of the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// When its first step begins, Unix milliseconds.
    pub from_ms: i64,
    /// How long a step is.
    pub step: Duration,
    /// For each figure that was asked for a value for each step; `None` where there is none.
    pub values: Vec<Vec<Option<f32>>>,
}

/// One length of step.
#[derive(Debug)]
pub struct Tier {
    step_ms: i64,
    steps: usize,
    /// The values of step `n` are at `n % steps`, the complement of their bits: so memory that was never written
    /// holds nothing, whose bits are those of a number that is none.
    values: Vec<u32>,
    /// The last step that was written or passed over.
    newest: Option<i64>,
    /// The moment at which the step that goes on began, and that step.
    last: Option<(i64, Arc<Moment>)>,
}

impl Default for History {
    fn default() -> Self {
        Self { tiers: TIERS.map(|(step, steps)| Tier::new(step, steps)), began_ms: None }
    }
}

impl History {
    /// Takes in what is now. Call it once a second, soon after a second of the wall clock has begun.
    pub fn tick(&mut self, now: &Arc<Moment>) {
        self.began_ms.get_or_insert(now.at.wall_ms);
        for tier in &mut self.tiers {
            tier.tick(now);
        }
    }

    /// When the first moment came, Unix milliseconds.
    #[must_use]
    pub const fn began_ms(&self) -> Option<i64> {
        self.began_ms
    }

    /// The figures (places in [`FIGURES`]) over the last `range`, in the shortest steps that are kept so long.
    #[must_use]
    pub fn window(&self, figures: &[usize], range: Duration, now_ms: i64) -> Window {
        let kept = |tier: &&Tier| tier.step() * u32::try_from(tier.steps).unwrap_or(u32::MAX) >= range;
        let tier = self.tiers.iter().find(kept).unwrap_or(&self.tiers[2]);
        tier.window(figures, range, now_ms)
    }

    /// Every figure over the last second that was recorded; all are `None` if that is long ago.
    #[must_use]
    pub fn newest(&self, now_ms: i64) -> Vec<Option<f32>> {
        let tier = &self.tiers[0];
        let step = tier.newest.filter(|step| now_ms.div_euclid(tier.step_ms) - step <= 3);
        (0..FIGURES.len()).map(|figure| tier.value(figure, step?)).collect()
    }
}

impl Tier {
    fn new(step: Duration, steps: usize) -> Self {
        let step_ms = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        Self { step_ms, steps, values: vec![0; steps * FIGURES.len()], newest: None, last: None }
    }

    fn step(&self) -> Duration {
        Duration::from_millis(self.step_ms.unsigned_abs())
    }

    fn tick(&mut self, now: &Arc<Moment>) {
        let going = now.at.wall_ms.div_euclid(self.step_ms);
        match self.last.take() {
            // The step goes on.
            Some((since, before)) if since == going => self.last = Some((since, before)),
            Some((since, before)) if since < going => {
                self.pass_over(since, going);
                let row = self.row(going - 1);
                self.write(row, &Step::new(&before, now, since + 1 == going && self.is_whole(&before, now)));
                self.last = Some((going, now.clone()));
            }
            Some((since, _)) => {
                self.pass_over(going, since);
                self.newest = Some(going - 1);
                self.last = Some((going, now.clone()));
            }
            None => {
                self.newest = Some(going - 1);
                self.last = Some((going, now.clone()));
            }
        }
    }

    /// Whether about one step passed, by both clocks.
    fn is_whole(&self, before: &Moment, now: &Moment) -> bool {
        let step = self.step_ms as f64;
        let near = |ms: f64| (0.5 * step..1.5 * step).contains(&ms);
        near(now.at.mono_ns.saturating_sub(before.at.mono_ns) as f64 / 1e6)
            && near((now.at.wall_ms - before.at.wall_ms) as f64)
    }

    /// Empties the steps from `from` to before `to`, and the one at `to - 1` is the newest.
    fn pass_over(&mut self, from: i64, to: i64) {
        let first = from.max(to - self.steps as i64);
        for step in first..to {
            let row = self.row(step);
            self.values[row..row + FIGURES.len()].fill(0);
        }
        self.newest = Some(to - 1);
    }

    fn write(&mut self, row: usize, step: &Step<'_>) {
        for (place, figure) in self.values[row..].iter_mut().zip(FIGURES) {
            let value = (figure.of)(step).map(|value| value as f32).filter(|value| value.is_finite());
            *place = value.map_or(0, |value| !value.to_bits());
        }
    }

    fn row(&self, step: i64) -> usize {
        usize::try_from(step.rem_euclid(self.steps as i64)).unwrap_or(0) * FIGURES.len()
    }

    fn value(&self, figure: usize, step: i64) -> Option<f32> {
        let newest = self.newest?;
        let known = step <= newest && step > newest - self.steps as i64;
        let bits = if known { self.values[self.row(step) + figure] } else { 0 };
        (bits != 0).then(|| f32::from_bits(!bits))
    }

    /// It ends with the last step that has ended; if that is not recorded yet, with the one before.
    fn window(&self, figures: &[usize], range: Duration, now_ms: i64) -> Window {
        let ended = now_ms.div_euclid(self.step_ms);
        let end = self.newest.map_or(ended, |newest| if newest + 2 == ended { newest + 1 } else { ended });
        let count = range.as_millis().div_ceil(self.step().as_millis()).max(1);
        let count = i64::try_from(count).unwrap_or(i64::MAX).min(self.steps as i64);
        let values =
            figures.iter().map(|&figure| (end - count..end).map(|step| self.value(figure, step)).collect());
        Window { from_ms: (end - count) * self.step_ms, step: self.step(), values: values.collect() }
    }
}

#[cfg(test)]
mod tests;
