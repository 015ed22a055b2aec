//! What a request of another system became: samples, and what was refused of it.
//!
//! A *point* is what the sender counts: a data point of OTLP, a sample of Prometheus. One may become several
//! samples, such as a histogram, and is refused alone.

use pulsewire_protocol::{Sample, SampleFault};

/// How much of a text from outside is repeated in a refusal, in characters.
const REPEATED_MAX: usize = 64;

/// A request that cannot be read, so that nothing of it is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl Malformed {
    pub(crate) fn new(detail: impl Into<String>) -> Self {
        Self(detail.into())
    }
}

/// What a request became.
#[derive(Debug, Clone, PartialEq)]
pub struct Intake {
    /// The samples, in the order of the request.
    pub samples: Vec<Sample>,
    /// Of which point each sample is, from 0; never falls.
    pub points: Vec<u64>,
    /// How many points there were, whatever became of them.
    pub points_total: u64,
    /// Points that were refused.
    pub refused: Refused,
    /// Points that say that there is no value, such as the staleness markers of Prometheus: not taken, and no
    /// mistake of the sender.
    pub without_value: u64,
    count_max: usize,
}

/// Points that were refused, by what is wrong, and the first of them in words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refused {
    counts: [u64; SampleFault::ALL.len()],
    /// What is wrong with the first, for a person.
    pub first: Option<String>,
}

impl Refused {
    /// How many there are in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many there are of each fault; faults that none has are left out.
    pub fn by_fault(&self) -> impl Iterator<Item = (SampleFault, u64)> {
        SampleFault::ALL.iter().copied().zip(self.counts).filter(|(_, count)| *count > 0)
    }
}

impl Intake {
    pub(crate) fn new(count_max: usize) -> Self {
        let (samples, points) = (Vec::new(), Vec::new());
        Self { samples, points, points_total: 0, refused: Refused::default(), without_value: 0, count_max }
    }

    /// Whether so many more samples fit.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        self.samples.len().saturating_add(count) <= self.count_max
    }

    /// Takes a point: all its samples, or why it is refused.
    pub(crate) fn take(&mut self, point: Result<impl IntoIterator<Item = Sample>, Fault>) {
        match point {
            Ok(samples) => {
                let before = self.samples.len();
                self.samples.extend(samples);
                self.points.resize(self.samples.len(), self.points_total);
                debug_assert!(self.samples.len() >= before && self.samples.len() <= self.count_max);
            }
            Err((fault, detail)) => {
                self.refused.counts[fault as usize] += 1;
                self.refused.first.get_or_insert(detail);
            }
        }
        self.points_total += 1;
    }

    /// Passes over a point that says that there is no value.
    pub(crate) fn pass_over(&mut self) {
        self.without_value += 1;
        self.points_total += 1;
    }

    /// Why a point is refused that does not fit any more.
    pub(crate) fn full(&self) -> Fault {
        (SampleFault::BatchMax, format!("the request has more than {} samples", self.count_max))
    }
}

/// Why a point is refused.
pub(crate) type Fault = (SampleFault, String);

/// The beginning of a text, for a refusal.
pub(crate) fn repeated(text: &str) -> String {
    match text.char_indices().nth(REPEATED_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
