//! Recording and alert rules.
//!
//! A [`File`] is what Prometheus loads, and its rules are made of a [`Pack`]. Expressions aggregate by cluster,
//! namespace and job, which is harmless where a label is missing; look further back than an alert holds; and ask for
//! some volume, so that one bad event of three is no alert. Numbers that are settings come from the pack; every other
//! number stands here once and is named in `docs/operate/alerts.md`.

mod alerts;
mod collaboration;
mod latency;
mod literal;
mod meta;
mod page;
mod query;
mod recording;
mod sessions;
mod slo;
mod upstreams;
mod yaml;

pub use page::page;

use crate::Pack;

/// A file of rules.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// Its name without `.yml`.
    pub name: &'static str,
    /// What is in it, for readers.
    pub about: &'static str,
    /// Its groups; their names differ over all files.
    pub groups: Vec<Group>,
}

/// Rules that are evaluated together, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// How often it is evaluated.
    pub interval: &'static str,
    /// What it evaluates.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// A query whose answer is kept as a series.
    Record(Record),
    /// A query whose answer is what is wrong.
    Alert(Box<Alert>),
}

/// A query whose answer is kept as a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The series: level, metric, operation.
    pub name: String,
    /// The query.
    pub expr: String,
    /// Why it is as it is; may be empty.
    pub why: &'static str,
}

/// A query whose answer is what is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Its name; rules of one name differ by their labels.
    pub name: &'static str,
    /// The query.
    pub expr: String,
    /// How long it must be so before it fires; empty for at once.
    pub hold: &'static str,
    /// How urgent it is.
    pub severity: Severity,
    /// The part of the system: `websocket`, `collaboration`, `ws-manager`, `streaming`, `meta`.
    pub component: &'static str,
    /// What is wrong, whatever the degree: a critical alert mutes the warnings of the same condition.
    pub condition: &'static str,
    /// Further labels.
    pub labels: Vec<(&'static str, &'static str)>,
    /// One line for whoever is woken; a template.
    pub summary: String,
    /// The value and what it is compared with; a template.
    pub description: String,
    /// Where the runbook's page is.
    pub runbook_url: String,
    /// Why it is as it is; may be empty.
    pub why: &'static str,
    /// When it fires, in words, with its numbers.
    pub when: String,
    /// Where the numbers come from.
    pub from: &'static str,
}

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Somebody is woken.
    Critical,
    /// Somebody looks at it today.
    Warning,
    /// Good to know.
    Info,
    /// Of the pack itself.
    None,
}

/// How files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As Prometheus reads them.
    Prometheus,
    /// As the Prometheus Operator reads them: a `PrometheusRule` each.
    Kubernetes,
}

/// Every file that is shipped.
#[must_use]
pub fn files(pack: &Pack) -> Vec<File> {
    vec![
        recording::file(pack),
        alerts::file(pack),
        collaboration::file(pack),
        upstreams::file(pack),
        slo::file(pack),
        meta::file(pack),
    ]
}

/// The rules of documents 000 to 003 to the letter, as far as Prometheus loads them: for comparison, not for use.
#[must_use]
pub fn literal() -> File {
    literal::file()
}

impl File {
    /// The file's text.
    #[must_use]
    pub fn text(&self, form: Form) -> String {
        yaml::text(self, form)
    }

    /// Every alert of the file.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.groups.iter().flat_map(|group| &group.rules).filter_map(|rule| match rule {
            Rule::Alert(alert) => Some(&**alert),
            Rule::Record(_) => None,
        })
    }
}

impl Severity {
    /// As it stands in the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::None => "none",
        }
    }
}

/// What two alerts of one thing share: the second is the worse.
struct Pair<'a> {
    pack: &'a Pack,
    names: [&'static str; 2],
    holds: [&'static str; 2],
    condition: &'static str,
    why: &'static str,
    from: &'static str,
}

impl Pair<'_> {
    /// The alerts for a limit each.
    fn alerts(&self, limits: [f64; 2], make: impl Fn(Alert, f64) -> Alert) -> [Rule; 2] {
        let severities = [Severity::Warning, Severity::Critical];
        [0, 1].map(|at| {
            let alert = alert(self.pack, self.names[at], severities[at], self.condition);
            let why = if at == 0 { self.why } else { "" };
            make(Alert { hold: self.holds[at], why, from: self.from, ..alert }, limits[at]).into()
        })
    }
}

/// An alert of the component `websocket` without a query.
fn alert(pack: &Pack, name: &'static str, severity: Severity, condition: &'static str) -> Alert {
    Alert {
        name,
        expr: String::new(),
        hold: "",
        severity,
        component: "websocket",
        condition,
        labels: Vec::new(),
        summary: String::new(),
        description: String::new(),
        runbook_url: format!("{}/{name}.md", pack.runbooks.trim_end_matches('/')),
        why: "",
        when: String::new(),
        from: "",
    }
}

fn record(name: impl Into<String>, why: &'static str, expr: String) -> Rule {
    Rule::Record(Record { name: name.into(), expr, why })
}

impl From<Alert> for Rule {
    fn from(alert: Alert) -> Self {
        Self::Alert(Box::new(alert))
    }
}
