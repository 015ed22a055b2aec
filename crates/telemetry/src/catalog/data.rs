//! How a family's numbers are found in a [`View`].

use std::borrow::Cow;

use super::{Family, Values};
use crate::current::Spread;
use crate::labels::MessageType;
use crate::layout as at;
use crate::view::View;

/// Where a family's numbers come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data {
    /// Counters at consecutive places, one for each combination of the closed labels, the last label fastest.
    Counters(usize),
    /// Histograms, likewise.
    Histograms(usize),
    /// A counter of every event type's row.
    TypeCounter(usize),
    /// A histogram of every event type's row.
    TypeHistogram(usize),
    /// One number without labels.
    Number(fn(&View<'_>) -> f64),
    /// One number without labels, where there is such a thing.
    Option(fn(&View<'_>) -> Option<f64>),
    /// One number for each combination of the closed labels, the last label fastest.
    Each(fn(&View<'_>, usize) -> f64),
    /// One histogram for each value of the family's single closed label; without labels the index is 0.
    EachHistogram(fn(&View<'_>, usize) -> Vec<u64>),
    /// A spread of a present quantity.
    Spread(fn(&View<'_>) -> Spread),
    /// Live connections by transport and codec.
    Connections,
    /// Messages by direction and type.
    Messages,
    /// The largest projects.
    Projects,
    /// Version and revision.
    Build,
}

/// One series (or one histogram) of a family.
pub(crate) struct Point<'v> {
    pub(crate) labels: Vec<Cow<'v, str>>,
    pub(crate) value: Value,
    /// When it began, Unix milliseconds.
    pub(crate) created_ms: u64,
}

/// What a point shows.
pub(crate) enum Value {
    /// A plain number.
    Number(f64),
    /// Bucket counts, not cumulative, `+Inf` and the recorded sum last.
    Histogram(Vec<u64>),
}

impl Family {
    /// Every series of the family.
    pub(crate) fn points<'v>(&self, view: &'v View<'_>) -> Vec<Point<'v>> {
        let histogram = self.buckets.recorded.len() + 2;
        let fixed = &view.totals.fixed;
        let number = |labels: Vec<Cow<'v, str>>, n: f64| Point::new(view, labels, Value::Number(n));
        match self.data {
            Data::Counters(place) => {
                let counters = self.combinations().into_iter().zip(&fixed[place..]);
                counters.map(|(labels, n)| number(labels, *n as f64)).collect()
            }
            Data::Histograms(place) => {
                let histograms = self.combinations().into_iter().zip(fixed[place..].chunks_exact(histogram));
                histograms
                    .map(|(labels, slots)| Point::new(view, labels, Value::Histogram(slots.to_vec())))
                    .collect()
            }
            Data::TypeCounter(place) => per_type(view, |row| Value::Number(row[place] as f64)),
            Data::TypeHistogram(place) => {
                per_type(view, |row| Value::Histogram(row[place..place + histogram].to_vec()))
            }
            Data::Number(read) => vec![number(vec![], read(view))],
            Data::Option(read) => read(view).map(|n| number(vec![], n)).into_iter().collect(),
            Data::Each(read) => self
                .combinations()
                .into_iter()
                .enumerate()
                .map(|(at, labels)| number(labels, read(view, at)))
                .collect(),
            Data::EachHistogram(read) => {
                let labels = self.combinations().into_iter().enumerate();
                labels
                    .map(|(at, labels)| Point::new(view, labels, Value::Histogram(read(view, at))))
                    .collect()
            }
            Data::Spread(read) => vec![Point::new(view, vec![], Value::Histogram(read(view).slots()))],
            Data::Connections => {
                let counts = view.current.connections.iter().flatten();
                self.combinations()
                    .into_iter()
                    .zip(counts)
                    .map(|(labels, n)| number(labels, *n as f64))
                    .collect()
            }
            Data::Messages => messages(view),
            Data::Projects => {
                let (top, other) = view.current.projects(view.options.projects_max.min(500));
                let top = top.into_iter().chain([(super::PROJECT_OTHER, other)]);
                top.map(|(name, n)| number(vec![name.into()], n as f64)).collect()
            }
            Data::Build => {
                let labels = [&view.options.version, &view.options.revision].map(|text| text.as_str().into());
                vec![number(labels.to_vec(), 1.0)]
            }
        }
    }

    /// The combinations of the closed labels' values, the last label fastest; one empty one without labels.
    fn combinations<'v>(&self) -> Vec<Vec<Cow<'v, str>>> {
        let mut list = vec![vec![]];
        for label in self.labels {
            let Values::Closed(values) = label.values else { continue };
            let longer = |start: Vec<Cow<'v, str>>| {
                values.iter().map(move |&value| start.iter().cloned().chain([value.into()]).collect())
            };
            list = list.into_iter().flat_map(longer).collect();
        }
        list
    }
}

impl<'v> Point<'v> {
    fn new(view: &View<'_>, labels: Vec<Cow<'v, str>>, value: Value) -> Self {
        Self { labels, value, created_ms: view.created_ms }
    }
}

fn per_type<'v>(view: &'v View<'_>, value: impl Fn(&[u64; at::ROW]) -> Value) -> Vec<Point<'v>> {
    let rows = view.types.iter().zip(&view.totals.rows);
    rows.map(|(registered, row)| Point {
        labels: vec![Cow::Borrowed(&*registered.name)],
        value: value(row),
        created_ms: registered.created_ms,
    })
    .collect()
}

/// Protocol messages first; an event type that is named like a protocol message shares its series.
fn messages<'v>(view: &'v View<'_>) -> Vec<Point<'v>> {
    let mut points = Vec::new();
    for (direction, row_place) in [("received", at::RECEIVED), ("sent", at::SENT)] {
        let protocol = at::MESSAGES + usize::from(direction == "sent") * MessageType::COUNT;
        let mut counts = view.totals.fixed[protocol..protocol + MessageType::COUNT].to_vec();
        let start = points.len();
        for (registered, row) in view.types.iter().zip(&view.totals.rows) {
            if let Some(index) = MessageType::NAMES.iter().position(|name| **name == *registered.name) {
                counts[index] += row[row_place];
                continue;
            }
            points.push(Point {
                labels: vec![direction.into(), Cow::Borrowed(&*registered.name)],
                value: Value::Number(row[row_place] as f64),
                created_ms: registered.created_ms,
            });
        }
        let protocol = MessageType::NAMES.iter().zip(counts);
        points.splice(
            start..start,
            protocol.map(|(name, n)| {
                Point::new(view, vec![direction.into(), (*name).into()], Value::Number(n as f64))
            }),
        );
    }
    points
}
