//! Rules and tests, read as text.

use std::fs;

use anyhow::{Context, Result};

use super::FOLDER;
use crate::workspace::Workspace;

/// A file of rules.
pub(super) struct RuleFile {
    /// Without `.yml`.
    pub(super) name: String,
    pub(super) text: String,
}

/// A rule in its file: lines, counted from 0.
#[derive(Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) is_alert: bool,
    /// Its first line and the one after its last.
    pub(super) lines: (usize, usize),
    /// The lines of its expression.
    pub(super) expr: (usize, usize),
}

/// A file of tests.
pub(super) struct TestFile {
    pub(super) name: String,
    /// The file of rules that it tests.
    pub(super) rules: String,
    pub(super) text: String,
}

/// Every file of rules.
///
/// # Errors
///
/// When the folder cannot be read.
pub(super) fn rules(workspace: &Workspace) -> Result<Vec<RuleFile>> {
    let read = texts(workspace, "rules", ".yml")?;
    Ok(read.into_iter().map(|(name, text)| RuleFile { name: name.replace(".yml", ""), text }).collect())
}

/// Every file of tests of shipped rules, with its anchors written out.
///
/// # Errors
///
/// When the folder cannot be read.
pub(super) fn tests(workspace: &Workspace) -> Result<Vec<TestFile>> {
    let read = texts(workspace, "tests", ".test.yml")?;
    let tests = read.into_iter().filter_map(|(name, text)| {
        let rules =
            text.lines().find_map(|line| line.strip_prefix("rule_files: [../rules/")?.strip_suffix(']'))?;
        Some(TestFile { name, rules: rules.to_owned(), text: without_anchors(&text) })
    });
    Ok(tests.collect())
}

fn texts(workspace: &Workspace, folder: &str, ending: &str) -> Result<Vec<(String, String)>> {
    let folder = workspace.path(format!("{FOLDER}/{folder}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(ending) {
            let text =
                fs::read_to_string(folder.join(&name)).with_context(|| format!("cannot read {name}"))?;
            found.push((name, text));
        }
    }
    found.sort();
    Ok(found)
}

/// `*all` as what `&all` stands before, so that tests can be taken one by one.
fn without_anchors(text: &str) -> String {
    let Some((_, after)) = text.split_once("&all '") else { return text.to_owned() };
    let Some((value, _)) = after.split_once('\'') else { return text.to_owned() };
    let quoted = format!("'{value}'");
    text.replace(&format!("&all {quoted}"), &quoted).replace("*all", &quoted)
}

impl RuleFile {
    /// Its rules, in their order.
    pub(super) fn rules(&self) -> Vec<Rule> {
        let lines: Vec<_> = self.text.lines().collect();
        let starts = |line: &str| {
            let rule = line.strip_prefix("      - ")?;
            let (kind, name) = rule.split_once(": ")?;
            Some((kind == "alert", name.to_owned()))
        };
        // A comment before a rule, and the next group, are no part of the rule before.
        let ends = |line: &str| {
            line.starts_with("      - ") || line.starts_with("      # ") || line.starts_with("  - ")
        };
        let mut rules = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let Some((is_alert, name)) = starts(line) else { continue };
            let end = (at + 1..lines.len()).find(|&next| ends(lines[next])).unwrap_or(lines.len());
            let expr = at + 2;
            let expr_end = (expr..end).find(|&next| !lines[next].starts_with("          ")).unwrap_or(end);
            rules.push(Rule { name, is_alert, lines: (at, end), expr: (expr, expr_end) });
        }
        rules
    }
}

impl TestFile {
    /// The same file with those tests alone that name a rule; `None` if none does.
    pub(super) fn about(&self, rule: &str) -> Option<String> {
        let (head, tests) = self.text.split_once("tests:\n")?;
        let named = |test: &&str| test.contains(&format!("alertname=\"{rule}\"")) || is_asked(test, rule);
        let about: Vec<_> = tests
            .split("\n  - name: ")
            .filter(named)
            .map(|test| test.trim_start_matches("  - name: "))
            .collect();
        (!about.is_empty()).then(|| format!("{head}tests:\n  - name: {}\n", about.join("\n  - name: ")))
    }
}

/// Whether a test asks for a recorded series.
fn is_asked(test: &str, record: &str) -> bool {
    test.lines().any(|line| line.contains("expr:") && line.contains(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "\
# Head
groups:
  - name: one
    interval: 30s
    rules:
      - record: job:x:sum
        expr: |-
          sum(x)
      # Why.
      - alert: Down
        expr: |-
          up == 0
          or
          absent(up)
        for: 1m
        labels:
          severity: \"critical\"
  - name: two
    interval: 30s
    rules:
      - alert: Last
        expr: |-
          up > 1
";

    #[test]
    fn rules_are_found_with_their_expressions() {
        let file = RuleFile { name: "f".into(), text: RULES.into() };
        let found: Vec<_> = file.rules().into_iter().map(|rule| (rule.name, rule.lines, rule.expr)).collect();
        let expected =
            [("job:x:sum", (5, 8), (7, 8)), ("Down", (9, 17), (11, 14)), ("Last", (20, 23), (22, 23))];
        assert_eq!(found, expected.map(|(name, lines, expr)| (name.to_owned(), lines, expr)));
    }

    #[test]
    fn tests_are_taken_that_name_a_rule() {
        let text = "head\ntests:\n  - name: a\n    alertname=\"Down\"\n\n  - name: b\n    alertname=\"Up\"\n\n  - name: c\n    {expr: 'job:x:sum'}\n";
        let file = TestFile { name: "t".into(), rules: "f.yml".into(), text: text.into() };
        let about = |rule| file.about(rule).map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(about("Up").unwrap(), "head tests: - name: b alertname=\"Up\"");
        assert_eq!(about("Down").unwrap(), "head tests: - name: a alertname=\"Down\"");
        assert_eq!(about("job:x:sum").unwrap(), "head tests: - name: c {expr: 'job:x:sum'}");
        assert_eq!(about("Left"), None);
    }

    #[test]
    fn anchors_are_written_out() {
        assert_eq!(without_anchors("{expr: &all 'a(b)'} {expr: *all}"), "{expr: 'a(b)'} {expr: 'a(b)'}");
    }
}
