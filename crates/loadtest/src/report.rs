//! What a run found: figures, each beside its budget.
//!
//! Every figure has one name, so a threshold on the command line, a line of the table, a member of the JSON and the next
//! run's comparison mean the same number.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::process::Machine;

/// One number that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Unique within a report: scenario, what, unit.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit; empty for counts and ratios.
    pub unit: String,
    /// What the design allows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub budget: Option<Budget>,
    /// How to read it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub note: String,
}

/// A limit of the design or of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// On which side of the limit the value must be.
    pub bound: Bound,
    /// The limit.
    pub limit: f64,
}

/// The side of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// The value must not exceed the limit.
    #[serde(rename = "<=")]
    AtMost,
    /// The value must reach the limit.
    #[serde(rename = ">=")]
    AtLeast,
}

impl Budget {
    /// Whether a value is within it.
    pub fn holds(&self, value: f64) -> bool {
        match self.bound {
            Bound::AtMost => value <= self.limit,
            Bound::AtLeast => value >= self.limit,
        }
    }

    fn sign(&self) -> &'static str {
        match self.bound {
            Bound::AtMost => "≤",
            Bound::AtLeast => "≥",
        }
    }
}

impl Figure {
    /// A figure without budget and note.
    pub fn new(name: impl Into<String>, value: f64, unit: &str) -> Figure {
        Figure { name: name.into(), value, unit: unit.to_owned(), budget: None, note: String::new() }
    }

    /// The value must not exceed `limit`.
    #[must_use]
    pub fn at_most(mut self, limit: f64) -> Figure {
        self.budget = Some(Budget { bound: Bound::AtMost, limit });
        self
    }

    /// The value must reach `limit`.
    #[must_use]
    pub fn at_least(mut self, limit: f64) -> Figure {
        self.budget = Some(Budget { bound: Bound::AtLeast, limit });
        self
    }

    /// Says how to read it.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Figure {
        self.note = note.into();
        self
    }

    /// The verdict in words: `within`, or by how much the budget is missed.
    fn verdict(&self) -> String {
        match self.budget {
            None => String::new(),
            Some(budget) if budget.holds(self.value) => "within".to_owned(),
            Some(budget) if budget.limit == 0.0 => "missed".to_owned(),
            Some(budget) => {
                let percent = (self.value / budget.limit - 1.0).abs() * 100.0;
                let decimals = usize::from(percent < 2.0);
                format!("missed by {percent:.decimals$} %")
            }
        }
    }
}

/// What one scenario found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name on the command line.
    pub scenario: String,
    /// What it does, in a sentence.
    pub about: String,
    /// The command that repeats it.
    pub command: String,
    /// The numbers.
    pub figures: Vec<Figure>,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version under test.
    pub version: String,
    /// Where it ran.
    pub machine: Machine,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What and where.
    #[serde(flatten)]
    pub header: Header,
    /// Each scenario's numbers.
    pub outcomes: Vec<Outcome>,
}

impl Outcome {
    /// The numbers as a section of a page of the documentation.
    pub fn section(&self) -> String {
        let Outcome { scenario, about, command, figures } = self;
        let mut out = format!("\n## {scenario}\n\n{about}\n\n```sh\n{command}\n```\n\n");
        out.push_str("| figure | value | budget | | |\n|---|--:|--:|---|---|\n");
        for figure in figures {
            let budget = figure.budget.map(|budget| format!("{} {}", budget.sign(), shown(budget.limit)));
            let _ = writeln!(
                out,
                "| `{}` | {} {} | {} | {} | {} |",
                figure.name,
                shown(figure.value),
                figure.unit,
                budget.unwrap_or_default(),
                figure.verdict(),
                figure.note
            );
        }
        out
    }
}

impl Report {
    /// The figure of that name.
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.outcomes.iter().flat_map(|outcome| &outcome.figures).find(|figure| figure.name == name)
    }

    /// The report as lines for a terminal.
    pub fn table(&self) -> String {
        let machine = &self.header.machine;
        let mut out = format!(
            "pulsewire {} on {} cores, {}, Linux {}, {} GiB, load {}\n",
            self.header.version, machine.cores, machine.cpu, machine.kernel, machine.memory_gib, machine.load
        );
        for Outcome { scenario, about, command, figures } in &self.outcomes {
            let _ = write!(out, "\n{scenario}: {about}\n  $ {command}\n");
            let width = figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or(0);
            for figure in figures {
                let value = format!("{} {}", shown(figure.value), figure.unit);
                let budget = figure.budget.map(|budget| format!("{} {}", budget.sign(), shown(budget.limit)));
                let line = format!(
                    "  {:width$}  {value:>16}  {:12} {:16} {}",
                    figure.name,
                    budget.unwrap_or_default(),
                    figure.verdict(),
                    figure.note
                );
                let _ = writeln!(out, "{}", line.trim_end());
            }
        }
        out
    }

    /// The report as a page of the documentation, with its title and the command that wrote it.
    pub fn page(&self, title: &str, command: &str) -> String {
        let machine = &self.header.machine;
        let day = civil_date(self.header.at);
        let mut out = format!(
            "# {title}\n\n\
             Written by `{command}`; do not edit. Client and server ran on the same\n\
             machine over loopback, so the sender's CPU time holds part of the receiver's network work in every row, the\n\
             floor's as well. Ratios and counts can be compared with other machines, times only with this one. Channels are\n\
             kept in memory, but for `keep`, `resume` and the series of `metrics`; the example `store_bench` of the bus\n\
             measures the stores alone.\n\n\
             | | |\n|---|---|\n| version | {} |\n| date | {day} |\n| cores | {} |\n| CPU | {} |\n| kernel | Linux {} |\n\
             | memory | {} GiB |\n| load before the run | {} |\n",
            self.header.version, machine.cores, machine.cpu, machine.kernel, machine.memory_gib, machine.load
        );
        out.extend(self.outcomes.iter().map(Outcome::section));
        out
    }
}

/// Three or four digits that matter, with thousands apart.
fn shown(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 100.0 || value == 0.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 2.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) =
        text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{sign}{grouped}.{fraction}"),
        None => format!("{sign}{grouped}"),
    }
}

/// The day of a time, by the calendar (Howard Hinnant's `civil_from_days`).
fn civil_date(seconds: u64) -> String {
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

/// A threshold of the command line: `NAME<=LIMIT`, `NAME>=LIMIT` or `NAME==LIMIT`.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    name: String,
    bounds: Vec<Budget>,
}

impl std::str::FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Threshold, String> {
        let at_most = |limit| Budget { bound: Bound::AtMost, limit };
        let at_least = |limit| Budget { bound: Bound::AtLeast, limit };
        for (sign, bounds) in
            [("<=", [Some(Bound::AtMost), None]), (">=", [Some(Bound::AtLeast), None]), ("==", [None; 2])]
        {
            if let Some((name, limit)) = text.split_once(sign) {
                let limit =
                    limit.trim().parse().map_err(|_| format!("{limit:?} in {text:?} is not a number"))?;
                let bounds = match bounds[0] {
                    Some(Bound::AtMost) => vec![at_most(limit)],
                    Some(Bound::AtLeast) => vec![at_least(limit)],
                    None => vec![at_most(limit), at_least(limit)],
                };
                return Ok(Threshold { name: name.trim().to_owned(), bounds });
            }
        }
        Err(format!("{text:?} is not NAME<=LIMIT, NAME>=LIMIT or NAME==LIMIT"))
    }
}

impl Threshold {
    /// Whether a report keeps it, with the line to show; a figure that was not measured is missed.
    pub fn judge(&self, report: &Report) -> (bool, String) {
        let Some(figure) = report.figure(&self.name) else {
            return (false, format!("✗ {} was not measured", self.name));
        };
        let held = self.bounds.iter().all(|bound| bound.holds(figure.value));
        let limits: Vec<String> =
            self.bounds.iter().map(|bound| format!("{} {}", bound.sign(), shown(bound.limit))).collect();
        let mark = if held { '✓' } else { '✗' };
        (held, format!("{mark} {} {} ({})", self.name, limits.join(" and "), shown(figure.value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let machine = Machine {
            cores: 2,
            cpu: "C".to_owned(),
            kernel: "6".to_owned(),
            memory_gib: 4,
            load: "0.1".to_owned(),
        };
        let figures = vec![
            Figure::new("cpu_us", 4.5, "µs").at_most(5.0).note("median"),
            Figure::new("rate", 123_456.0, "/s").at_least(200_000.0),
        ];
        let outcome =
            Outcome { scenario: "s".to_owned(), about: "A.".to_owned(), command: "x".to_owned(), figures };
        let header = Header { version: "0".to_owned(), machine, at: 1_795_000_000 };
        Report { header, outcomes: vec![outcome] }
    }

    #[test]
    fn a_missed_budget_says_by_how_much() {
        let table = report().table();
        assert!(table.contains("cpu_us           4.50 µs  ≤ 5.00       within           median"), "{table}");
        assert!(table.contains("≥ 200,000    missed by 38 %"), "{table}");
        assert!(report().page("T", "x").contains("| `rate` | 123,456 /s | ≥ 200,000 | missed by 38 % |  |"));
    }

    #[test]
    fn thresholds_name_a_figure_and_a_limit() {
        let judge = |text: &str| text.parse::<Threshold>().map(|threshold| threshold.judge(&report()).0);
        assert_eq!(judge("cpu_us<=4.5"), Ok(true));
        assert_eq!(judge("cpu_us >= 4.6"), Ok(false));
        assert_eq!(judge("rate==123456"), Ok(true));
        assert_eq!(judge("rate==123457"), Ok(false));
        assert_eq!(judge("other<=1"), Ok(false));
        assert!(judge("rate<5").is_err());
        assert!(judge("rate<=x").is_err());
    }

    #[test]
    fn a_report_survives_json() {
        let text = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
    }

    #[test]
    fn numbers_and_days_are_written_for_people() {
        let written: Vec<String> =
            [0.0, 0.0123, 4.5, 12.34, 999.9, 1_234_567.0, -1_500.0].map(shown).to_vec();
        assert_eq!(written, ["0", "0.012", "4.50", "12.3", "1,000", "1,234,567", "-1,500"]);
        assert_eq!(
            [0, 951_782_400, 1_795_000_000].map(civil_date),
            ["1970-01-01", "2000-02-29", "2026-11-18"]
        );
    }
}
