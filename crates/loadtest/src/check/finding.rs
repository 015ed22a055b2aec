//! What a check found: anomalies by name, counted, with the first of each kind in words.

use std::collections::BTreeMap;

use serde::Serialize;

use super::record::Line;

/// How many findings of each kind are kept in words; all are counted.
pub const EXAMPLES_MAX: usize = 10;

/// The anomalies, each with the name it is reported under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An event that is known to exist never reached a reader that was there for it, and no gap or reset said so.
    Lost,
    /// A reader got an event that nobody published, or one that was refused.
    Phantom,
    /// A reader got an event twice, or one message has two places in its channel.
    Duplicate,
    /// A reader got an event behind a later one, or the numbering changed without a reset.
    NonMonotonic,
    /// A reader was taken past sequences without a gap; the log does not tell what they were.
    Skipped,
    /// A gap over events that the reader had had, that came after all, or that were there for a later reader.
    FalseGap,
    /// One place in a channel holds two events: another id or another content.
    Fork,
    /// Events stand in another order than their publisher sent them, one after the other.
    OrderMismatch,
    /// An event came later than the bound after its acknowledgement.
    Stale,
    /// A reader got an event it had not subscribed, was not allowed to read, or that its filter leaves out.
    Leak,
}

impl Kind {
    /// All of them, in the order of reports.
    pub const ALL: [Kind; 10] = [
        Kind::Lost,
        Kind::Phantom,
        Kind::Duplicate,
        Kind::NonMonotonic,
        Kind::Skipped,
        Kind::FalseGap,
        Kind::Fork,
        Kind::OrderMismatch,
        Kind::Stale,
        Kind::Leak,
    ];

    /// The name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Lost => "lost",
            Kind::Phantom => "phantom",
            Kind::Duplicate => "duplicate",
            Kind::NonMonotonic => "non-monotonic",
            Kind::Skipped => "skipped without gap",
            Kind::FalseGap => "false gap",
            Kind::Fork => "fork",
            Kind::OrderMismatch => "order mismatch",
            Kind::Stale => "stale",
            Kind::Leak => "leak",
        }
    }
}

/// One anomaly in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name.
    pub kind: Kind,
    /// How many events it is about.
    pub events: u64,
    /// What was seen.
    pub text: String,
    /// The file of the line that shows it, from 0, in the order they were given.
    pub file: u32,
    /// The line, from 1.
    pub line: u64,
    /// Another line that it contradicts.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub other: Option<Other>,
}

/// A second line of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Other {
    /// Its file, from 0.
    pub other_file: u32,
    /// The line, from 1.
    pub other_line: u64,
}

/// What a history holds beside anomalies: what was looked at, so that nothing found means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Messages that publishers sent; one that was tried again is one.
    pub published: u64,
    /// Those that were acknowledged, now or as a duplicate.
    pub acknowledged: u64,
    /// Those of which nobody knows: never answered, or `unknown` at the end.
    pub unknown: u64,
    /// Those that were refused and never accepted.
    pub rejected: u64,
    /// Messages of unknown outcome that readers were told of.
    pub unknown_delivered: u64,
    /// Events that reached readers for the first time.
    pub delivered: u64,
    /// Events that came again after a subscription began before them; clients leave them out.
    pub repeated: u64,
    /// Events that gaps said were missing.
    pub gapped: u64,
    /// Histories that began anew under a reader.
    pub resets: u64,
    /// Events that `dropped` counted.
    pub dropped: u64,
    /// Readers.
    pub readers: u64,
    /// Runs of numbering: channels, each counted once for each of its epochs.
    pub epochs: u64,
}

/// The judgement of a history.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// How many events each anomaly is about; those that were not found are left out.
    pub counts: BTreeMap<Kind, u64>,
    /// The first findings of each kind, in the order they were found.
    pub findings: Vec<Finding>,
    /// What was looked at.
    pub totals: Totals,
}

impl Report {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many events of a kind were found.
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// The report as lines for a terminal; `files` are the names of the files in their order.
    pub fn text(&self, files: &[String]) -> String {
        let Totals { published, acknowledged, unknown, rejected, unknown_delivered, .. } = self.totals;
        let Totals { delivered, repeated, gapped, resets, dropped, readers, epochs, .. } = self.totals;
        let mut lines = vec![
            format!(
                "{published} published: {acknowledged} acknowledged, {rejected} rejected, {unknown} unknown \
                 (of which {unknown_delivered} were delivered)"
            ),
            format!(
                "{delivered} delivered to {readers} readers in {epochs} epochs: {repeated} repeated, {gapped} in gaps, \
                 {resets} resets, {dropped} dropped"
            ),
        ];
        for finding in &self.findings {
            let name = |file: u32| files.get(file as usize).map_or("", String::as_str);
            let other = |other: Other| format!(", see {}:{}", name(other.other_file), other.other_line);
            let other = finding.other.map(other).unwrap_or_default();
            let at = format!("{}:{}{other}", name(finding.file), finding.line);
            lines.push(format!("✗ {}: {} ({at})", finding.kind.name(), finding.text));
        }
        if self.is_clean() {
            lines.push("✓ nothing lost, nothing twice, nothing out of order".to_owned());
        } else {
            let counts: Vec<String> =
                self.counts.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
            lines.push(format!("✗ events: {}", counts.join(", ")));
        }
        // Names come from the log; what steers a terminal is not passed on.
        lines.join("\n").replace(|it: char| it.is_control() && it != '\n', "\u{fffd}")
    }
}

/// Findings while they are collected.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    report: Report,
    kept: BTreeMap<Kind, usize>,
}

impl Findings {
    /// Counts an anomaly about one event.
    pub(crate) fn add(&mut self, kind: Kind, line: Line, text: impl FnOnce() -> String) {
        self.add_many(kind, 1, line, text);
    }

    /// Counts an anomaly that shows in two lines.
    pub(crate) fn add_both(
        &mut self,
        kind: Kind,
        events: u64,
        (line, other): (Line, Line),
        text: impl FnOnce() -> String,
    ) {
        let kept = self.report.findings.len();
        self.add_many(kind, events, line, text);
        if self.report.findings.len() > kept {
            let other = Other { other_file: other.file, other_line: other.line };
            self.report.findings[kept].other = Some(other);
        }
    }

    /// Counts an anomaly; its words are only made while they are kept.
    pub(crate) fn add_many(&mut self, kind: Kind, events: u64, line: Line, text: impl FnOnce() -> String) {
        *self.report.counts.entry(kind).or_default() += events;
        let kept = self.kept.entry(kind).or_default();
        if *kept < EXAMPLES_MAX {
            *kept += 1;
            let Line { file, line } = line;
            self.report.findings.push(Finding { kind, events, text: text(), file, line, other: None });
        }
    }

    pub(crate) fn totals(&mut self) -> &mut Totals {
        &mut self.report.totals
    }

    pub(crate) fn finish(self) -> Report {
        self.report
    }
}
