//! Every metric family, declared once.
//!
//! A declaration says what the family is (name, kind, help, unit, labels with their closed sets,
//! buckets), which requirement document asks for it, and where its numbers come from. The
//! exposition walks this list, and so do `docs/metrics.md`, the contract check of dashboards and
//! rules, and the tests; a number that is not declared here cannot be shown.

mod data;
mod families;

pub(crate) use data::{Point, Value};
pub(crate) use families::FAMILIES;

/// What the alias family's names begin with unless the settings say otherwise (C5).
pub const ALIAS_PREFIX: &str = "orchestrator_websocket";
/// The `project_id` of all projects beyond the top ones (C12).
pub const PROJECT_OTHER: &str = "__other__";

/// Every family, in the order of the exposition.
#[must_use]
pub fn families() -> &'static [Family] {
    FAMILIES
}

/// Whether a name may begin the alias family's names: a metric name under which none of them
/// takes the name of another family.
#[must_use]
pub fn alias_prefix_allowed(prefix: &str) -> bool {
    let taken = |name: &str| FAMILIES.iter().any(|family| family.name == name);
    let aliases = FAMILIES.iter().filter_map(|family| family.name.strip_prefix(ALIAS_PREFIX));
    prefix == ALIAS_PREFIX
        || (is_metric_name(prefix) && !aliases.into_iter().any(|rest| taken(&format!("{prefix}{rest}"))))
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`
pub(crate) fn is_metric_name(name: &str) -> bool {
    let allowed = |(at, byte): (usize, u8)| {
        byte.is_ascii_alphabetic() || b"_:".contains(&byte) || (at > 0 && byte.is_ascii_digit())
    };
    !name.is_empty() && name.bytes().enumerate().all(allowed)
}

/// The kind of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows; its name ends in `_total`.
    Counter,
    /// A present quantity.
    Gauge,
    /// Observations in buckets since the start.
    Histogram,
    /// How a present quantity is spread now, recomputed at each scrape (C13).
    GaugeHistogram,
    /// Constant labels, value 1; its name ends in `_info`.
    Info,
}

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name in the text format; a counter's includes `_total`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it means, one sentence.
    pub help: &'static str,
    /// Labels in the order of the exposition.
    pub labels: &'static [Label],
    /// Recorded bounds and their unit; empty unless a histogram.
    pub(crate) buckets: Buckets,
    /// The requirement documents that name it, or `own`.
    pub source: &'static str,
    /// Where the numbers come from.
    pub(crate) data: data::Data,
}

/// A label of a family.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// The values a label can take.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// Exactly these, each at zero from the start.
    Closed(&'static [&'static str]),
    /// Interned event types: document 000's from the start, others up to the cap, then `other`.
    EventTypes,
    /// Protocol message types and interned event types.
    MessageTypes,
    /// The projects with the most subscriptions, then [`PROJECT_OTHER`].
    Projects,
    /// One constant of the build.
    Constant,
}

/// Bucket bounds as recorded, and what a recorded 1 is in the unit of the family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buckets {
    pub(crate) recorded: &'static [u64],
    /// Recorded units of a bound in one unit of the family.
    pub(crate) bound_scale: f64,
    /// Recorded units of the sum in one unit of the family.
    pub(crate) sum_scale: f64,
}

impl Family {
    /// Upper bounds in the unit of the family, without `+Inf`.
    #[must_use]
    pub fn bounds(&self) -> Vec<f64> {
        self.buckets.recorded.iter().map(|&bound| bound as f64 / self.buckets.bound_scale).collect()
    }

    /// The unit, as the name states it; `None` for counts and ratios.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        let base = self.name.strip_suffix("_total").unwrap_or(self.name);
        ["milliseconds", "seconds", "bytes", "percent"]
            .into_iter()
            .find(|unit| base.ends_with(&format!("_{unit}")))
    }

    /// Whether it exists because a requirement document names it, so that `metrics.compat = false` hides it.
    ///
    /// `process_*` is every Prometheus client's convention and always shown.
    #[must_use]
    pub fn is_compat(&self) -> bool {
        self.source != "own" && !self.name.starts_with("process_")
    }
}
