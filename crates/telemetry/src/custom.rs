//! Metrics that applications push (`POST /api/metrics/custom`).
//!
//! Names and labels come from outside, so everything is bounded: names, labels, series per name
//! and bytes in all. What does not fit is refused with a reason and counted; what is there is
//! never evicted, because a series that comes and goes is worse than one that never came.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::catalog;
use crate::registry::unix_ms_now;

/// The registry of pushed metrics.
pub struct CustomMetrics {
    alias_prefix: String,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    families: BTreeMap<String, CustomFamily>,
    bytes: usize,
    refused: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct CustomFamily {
    pub(crate) counter: bool,
    pub(crate) series: BTreeMap<Labels, Series>,
}

pub(crate) type Labels = Vec<(String, String)>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Series {
    pub(crate) value: f64,
    pub(crate) created_ms: u64,
}

/// Why a pushed value was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustomError {
    /// Not a metric name.
    #[error(
        "metric name must be 1 to {} characters of a-z A-Z 0-9 _ : and not begin with a digit",
        CustomMetrics::NAME_BYTES_MAX
    )]
    BadName,
    /// The name is, or could be mistaken for, one of ours.
    #[error("metric name is reserved")]
    Reserved,
    /// A counter's name ends in `_total` and a gauge's has no reserved ending.
    #[error(
        "a counter's name must end in _total; before that, or at a gauge's end, _total _created _info _bucket _count _sum _gcount _gsum are reserved"
    )]
    BadSuffix,
    /// Not a label name, a label given twice, or a value that is too long.
    #[error(
        "label {name:?} is not allowed, is given twice, or its value is longer than {} bytes",
        CustomMetrics::VALUE_BYTES_MAX
    )]
    BadLabel {
        /// The label.
        name: String,
    },
    /// Too many labels.
    #[error("{count} labels, more than {}", CustomMetrics::LABELS_MAX)]
    TooManyLabels {
        /// How many.
        count: usize,
    },
    /// The name exists with another kind.
    #[error("the metric exists with another kind")]
    OtherKind,
    /// The name exists with other label names.
    #[error("the metric exists with other label names")]
    OtherLabels,
    /// The registry or the metric is full.
    #[error("no room for another series")]
    Full,
    /// The value or a counter's new sum is not a finite number, or a counter's increment is negative.
    #[error("the value must be a finite number, and a counter's increment not negative")]
    BadValue,
}

/// Beginnings of names that are ours.
const RESERVED: [&str; 6] = ["websocket_", "ws_manager_", "pulsewire_", "process_", "scrape_", "__"];

/// Ends of names that the formats give a meaning.
const SUFFIXES: [&str; 8] = ["_total", "_created", "_info", "_bucket", "_count", "_sum", "_gcount", "_gsum"];

impl CustomMetrics {
    /// Names at most.
    pub const NAMES_MAX: usize = 200;
    /// Labels of a series at most.
    pub const LABELS_MAX: usize = 4;
    /// Series of a name at most.
    pub const SERIES_MAX: usize = 50;
    /// Bytes of names and labels of all series together at most, so that a scrape stays small.
    pub const BYTES_MAX: usize = 192 * 1024;
    /// Bytes of a name or label name at most.
    pub const NAME_BYTES_MAX: usize = 64;
    /// Bytes of a label value at most.
    pub const VALUE_BYTES_MAX: usize = 64;

    /// An empty registry; names that begin with `alias_prefix` are ours.
    pub(crate) fn new(alias_prefix: &str) -> Self {
        Self { alias_prefix: alias_prefix.into(), inner: Mutex::default() }
    }

    /// Sets a gauge.
    ///
    /// # Errors
    ///
    /// A name, label or value that is not allowed, or no room.
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)], value: f64) -> Result<(), CustomError> {
        self.record(name, labels, value, false)
    }

    /// Adds to a counter.
    ///
    /// # Errors
    ///
    /// A name, label or increment that is not allowed, or no room.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)], increment: f64) -> Result<(), CustomError> {
        self.record(name, labels, increment, true)
    }

    /// Pushes that were refused for want of room.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.inner.lock().refused
    }

    /// A copy of everything, for a scrape.
    pub(crate) fn families(&self) -> Vec<(String, CustomFamily)> {
        self.inner.lock().families.iter().map(|(name, family)| (name.clone(), family.clone())).collect()
    }

    fn record(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
        counter: bool,
    ) -> Result<(), CustomError> {
        self.check_name(name, counter)?;
        let labels = check_labels(labels)?;
        if !value.is_finite() || (counter && value < 0.0) {
            return Err(CustomError::BadValue);
        }
        let mut inner = self.inner.lock();
        let result = inner.record(name, labels, value, counter);
        inner.refused += u64::from(result == Err(CustomError::Full));
        result
    }

    fn check_name(&self, name: &str, counter: bool) -> Result<(), CustomError> {
        if name.len() > Self::NAME_BYTES_MAX || !catalog::is_metric_name(name) {
            return Err(CustomError::BadName);
        }
        let ours = RESERVED.iter().any(|prefix| name.starts_with(prefix));
        if ours || name.starts_with(&self.alias_prefix) {
            return Err(CustomError::Reserved);
        }
        // A base that ends like a generated series could take that series' name.
        let base = if counter { name.strip_suffix("_total") } else { Some(name) };
        let fits =
            base.is_some_and(|base| !base.is_empty() && !SUFFIXES.iter().any(|end| base.ends_with(end)));
        if fits { Ok(()) } else { Err(CustomError::BadSuffix) }
    }
}

impl Inner {
    fn record(&mut self, name: &str, labels: Labels, value: f64, counter: bool) -> Result<(), CustomError> {
        // In OpenMetrics `jobs` and `jobs_total` are the same family name.
        let twin = name.strip_suffix("_total").map_or_else(|| format!("{name}_total"), str::to_owned);
        if self.families.contains_key(&twin) {
            return Err(CustomError::OtherKind);
        }
        let bytes =
            name.len() + labels.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
        let room = self.bytes + bytes <= CustomMetrics::BYTES_MAX;
        if !self.families.contains_key(name) {
            if !room || self.families.len() >= CustomMetrics::NAMES_MAX {
                return Err(CustomError::Full);
            }
            self.families.insert(name.into(), CustomFamily { counter, series: BTreeMap::new() });
        }
        let Some(family) = self.families.get_mut(name) else { return Err(CustomError::Full) };
        if family
            .series
            .keys()
            .next()
            .is_some_and(|first| !first.iter().map(|l| &l.0).eq(labels.iter().map(|l| &l.0)))
        {
            return Err(CustomError::OtherLabels);
        }
        if let Some(series) = family.series.get_mut(&labels) {
            let next = if counter { series.value + value } else { value };
            if !next.is_finite() {
                return Err(CustomError::BadValue);
            }
            series.value = next;
            return Ok(());
        }
        if !room || family.series.len() >= CustomMetrics::SERIES_MAX {
            return Err(CustomError::Full);
        }
        family.series.insert(labels, Series { value, created_ms: unix_ms_now() });
        self.bytes += bytes;
        Ok(())
    }
}

fn check_labels(labels: &[(&str, &str)]) -> Result<Labels, CustomError> {
    if labels.len() > CustomMetrics::LABELS_MAX {
        return Err(CustomError::TooManyLabels { count: labels.len() });
    }
    let mut list: Labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    list.sort();
    for (at, (name, value)) in list.iter().enumerate() {
        let word = name.bytes().enumerate().all(|(at, byte)| {
            byte.is_ascii_alphabetic() || byte == b'_' || (at > 0 && byte.is_ascii_digit())
        });
        let reserved = name.is_empty()
            || name.starts_with("__")
            || ["le", "quantile", "job", "instance"].contains(&name.as_str());
        let twice = at > 0 && list[at - 1].0 == *name;
        if !word
            || reserved
            || twice
            || name.len() > CustomMetrics::NAME_BYTES_MAX
            || value.len() > CustomMetrics::VALUE_BYTES_MAX
        {
            let name = name.chars().take(CustomMetrics::NAME_BYTES_MAX).collect();
            return Err(CustomError::BadLabel { name });
        }
    }
    Ok(list)
}
