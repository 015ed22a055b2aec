//! What was found, and the four forms it is written in.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

use super::super::Exit;
use super::Format;

/// Every check: its id, which stays, and its title.
pub(super) const CHECKS: [(&str, &str); 22] = [
    ("settings", "settings"),
    ("secret", "signing key"),
    ("certificate", "certificate file"),
    ("files", "file descriptors"),
    ("backlog", "listen backlog"),
    ("ports", "local ports"),
    ("disk", "disk"),
    ("store", "store"),
    ("redis", "redis"),
    ("reach", "reachable"),
    ("tls", "TLS"),
    ("upgrade", "upgrade"),
    ("token", "token"),
    ("clock", "clocks"),
    ("ping", "ping"),
    ("frames", "large frames"),
    ("binary", "binary frames"),
    ("idle", "idle timeout"),
    ("polling", "HTTP polling"),
    ("streaming", "event stream"),
    ("metrics", "metrics"),
    ("health", "health"),
];

/// How one check ended, from well to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// All is well.
    Ok,
    /// It could not be looked at, or there is nothing to look at.
    Skipped,
    /// Somebody may want to do something.
    Warning,
    /// Somebody must do something.
    Critical,
}

impl Verdict {
    fn mark(self) -> char {
        match self {
            Verdict::Ok => '✓',
            Verdict::Skipped => '-',
            Verdict::Warning => '!',
            Verdict::Critical => '✗',
        }
    }
}

/// One check that was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Finding {
    /// Which check; one of [`CHECKS`].
    pub(super) id: &'static str,
    /// How it ended.
    pub(super) verdict: Verdict,
    /// What was seen.
    pub(super) text: String,
    /// What to do, where it is not well.
    pub(super) remedy: Option<String>,
    /// What was measured.
    pub(super) value: Option<f64>,
    /// Its unit: `ms`, `s`, `days`, `bytes` or `count`.
    pub(super) unit: Option<&'static str>,
}

impl Finding {
    fn new(id: &'static str, verdict: Verdict, text: impl Into<String>, remedy: Option<String>) -> Finding {
        Finding { id, verdict, text: text.into(), remedy, value: None, unit: None }
    }

    /// All is well.
    pub(super) fn ok(id: &'static str, text: impl Into<String>) -> Finding {
        Finding::new(id, Verdict::Ok, text, None)
    }

    /// It was not looked at, and why.
    pub(super) fn skipped(id: &'static str, why: impl Into<String>) -> Finding {
        Finding::new(id, Verdict::Skipped, why, None)
    }

    /// Somebody may want to do something.
    pub(super) fn warning(id: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(id, Verdict::Warning, text, Some(remedy.into()))
    }

    /// Somebody must do something.
    pub(super) fn critical(id: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(id, Verdict::Critical, text, Some(remedy.into()))
    }

    /// What was measured.
    #[must_use]
    pub(super) fn value(mut self, value: f64, unit: &'static str) -> Finding {
        (self.value, self.unit) = (Some(value), Some(unit));
        self
    }

    fn title(&self) -> &'static str {
        CHECKS.iter().find(|(id, _)| *id == self.id).map_or(self.id, |(_, title)| title)
    }

    fn is_problem(&self) -> bool {
        self.verdict > Verdict::Skipped
    }
}

/// Everything that was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Examination {
    /// The server that was looked at.
    pub(super) server: Option<String>,
    /// In the order it was looked at.
    pub(super) findings: Vec<Finding>,
    /// Nobody answered.
    pub(super) unreachable: bool,
    /// The token was refused.
    pub(super) unauthorised: bool,
}

impl Examination {
    pub(super) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn worst(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Skipped)
    }

    /// 0, or 1 with a problem, 3 if nobody answered, 4 if the token was refused.
    pub(super) fn exit(&self) -> Exit {
        match () {
            () if self.unreachable => Exit::Unreachable,
            () if self.unauthorised => Exit::Unauthorised,
            () if self.findings.iter().any(Finding::is_problem) => Exit::Failed,
            () => Exit::Ok,
        }
    }

    /// What Nagios expects: 0 well, 1 warning, 2 critical, 3 when the token let nobody look.
    pub(super) fn nagios_exit(&self) -> Exit {
        match self.worst() {
            _ if self.unauthorised => Exit::Unreachable,
            Verdict::Critical => Exit::Usage,
            Verdict::Warning => Exit::Failed,
            Verdict::Ok | Verdict::Skipped => Exit::Ok,
        }
    }

    pub(super) fn shown(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Json => serde_json::to_string_pretty(&self.json()).unwrap_or_default(),
            Format::Nagios => self.nagios(),
            Format::Prometheus => self.prometheus(),
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        if let Some(server) = &self.server {
            let _ = writeln!(out, "{server}");
        }
        let width = CHECKS.iter().map(|(_, title)| title.len()).max().unwrap_or(0);
        for finding in &self.findings {
            let _ = writeln!(out, "{} {:width$}  {}", finding.verdict.mark(), finding.title(), finding.text);
            if let Some(remedy) = &finding.remedy {
                let _ = writeln!(out, "  {:width$}  → {remedy}", "");
            }
        }
        let _ = writeln!(out, "{}", self.summary());
        out
    }

    fn summary(&self) -> String {
        let problems = self.findings.iter().filter(|finding| finding.is_problem()).count();
        let critical = self.findings.iter().filter(|finding| finding.verdict == Verdict::Critical).count();
        match (problems, critical) {
            (0, _) => "no problem found".to_owned(),
            (1, 0) => "1 problem".to_owned(),
            (1, _) => "1 problem, critical".to_owned(),
            (problems, critical) => format!("{problems} problems, {critical} critical"),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({ "server": self.server, "verdict": self.worst().max(Verdict::Ok), "checks": self.findings })
    }

    /// One line: the state, what is not well, and behind `|` what was measured.
    fn nagios(&self) -> String {
        let state = match self.nagios_exit() {
            Exit::Ok => "OK",
            Exit::Failed => "WARNING",
            Exit::Usage => "CRITICAL",
            _ => "UNKNOWN",
        };
        let said: Vec<String> = self
            .findings
            .iter()
            .filter(|finding| finding.is_problem())
            .map(|finding| format!("{}: {}", finding.title(), finding.text))
            .collect();
        let said = if said.is_empty() { self.summary() } else { said.join("; ") };
        let measured: Vec<String> = self
            .findings
            .iter()
            .filter_map(|finding| {
                let unit = match finding.unit? {
                    "bytes" => "B",
                    "days" | "count" => "",
                    unit => unit,
                };
                Some(format!("{}={}{unit}", finding.id, round(finding.value?)))
            })
            .collect();
        // A bar begins the measurements, wherever it stands.
        format!("PULSEWIRE {state} - {} | {}", said.replace('|', "/"), measured.join(" "))
    }

    fn prometheus(&self) -> String {
        let mut out = String::from(
            "# HELP pulsewire_doctor_check How a check of `pulsewire doctor` ended: 0 ok, 1 warning, 2 critical.\n\
             # TYPE pulsewire_doctor_check gauge\n",
        );
        for finding in self.findings.iter().filter(|finding| finding.verdict != Verdict::Skipped) {
            let number = match finding.verdict {
                Verdict::Critical => 2,
                Verdict::Warning => 1,
                Verdict::Ok | Verdict::Skipped => 0,
            };
            let _ = writeln!(out, "pulsewire_doctor_check{{id=\"{}\"}} {number}", finding.id);
        }
        out.push_str(
            "# HELP pulsewire_doctor_value What a check of `pulsewire doctor` measured, in the unit it says.\n\
             # TYPE pulsewire_doctor_value gauge\n",
        );
        for Finding { id, value, unit, .. } in &self.findings {
            if let (Some(value), Some(unit)) = (value, unit) {
                let _ =
                    writeln!(out, "pulsewire_doctor_value{{id=\"{id}\",unit=\"{unit}\"}} {}", round(*value));
            }
        }
        out
    }
}

/// Three decimals say enough.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examination() -> Examination {
        let mut examination =
            Examination { server: Some("ws://h:1/ws".to_owned()), ..Examination::default() };
        examination.add(Finding::ok("upgrade", "101 in 38 ms").value(38.042_17, "ms"));
        examination.add(Finding::skipped("tls", "clear text"));
        examination.add(Finding::warning("redis", "RTT 14 ms | far", "move it closer").value(14.0, "ms"));
        examination
    }

    #[test]
    fn a_person_sees_every_check_and_the_remedy_below_what_is_not_well() {
        let shown = examination().shown(Format::Text);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "ws://h:1/ws");
        assert_eq!(lines[1], "✓ upgrade           101 in 38 ms");
        assert_eq!(lines[2], "- TLS               clear text");
        assert_eq!(lines[3], "! redis             RTT 14 ms | far");
        assert_eq!(lines[4], "                    → move it closer");
        assert_eq!(lines[5], "1 problem");
    }

    #[test]
    fn the_worst_decides_how_it_ends() {
        let mut examination = examination();
        let ends = |it: &Examination| (it.exit(), it.nagios_exit() as u8);
        assert_eq!(ends(&Examination::default()), (Exit::Ok, 0));
        assert_eq!(ends(&examination), (Exit::Failed, 1));
        examination.add(Finding::critical("idle", "cut", "wait"));
        assert_eq!(ends(&examination), (Exit::Failed, 2));
        examination.unauthorised = true;
        assert_eq!(ends(&examination), (Exit::Unauthorised, 3));
        let nobody = Examination { unreachable: true, ..Examination::default() };
        assert_eq!(nobody.exit(), Exit::Unreachable);
    }

    #[test]
    fn machines_get_one_line_or_series_or_a_document() {
        let examination = examination();
        assert_eq!(
            examination.shown(Format::Nagios),
            "PULSEWIRE WARNING - redis: RTT 14 ms / far | upgrade=38.042ms redis=14ms"
        );
        let page = examination.shown(Format::Prometheus);
        assert!(page.contains("pulsewire_doctor_check{id=\"redis\"} 1\n"), "{page}");
        assert!(page.contains("pulsewire_doctor_value{id=\"upgrade\",unit=\"ms\"} 38.042\n"), "{page}");
        assert!(!page.contains("tls"), "what was not looked at is neither well nor ill: {page}");
        let json: serde_json::Value = serde_json::from_str(&examination.shown(Format::Json)).unwrap();
        assert_eq!(json["verdict"], "warning");
        assert_eq!(json["checks"][1]["verdict"], "skipped");
    }

    #[test]
    fn a_check_has_one_id() {
        let mut ids: Vec<&str> = CHECKS.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), CHECKS.len());
    }
}
