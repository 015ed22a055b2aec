//! Rules as YAML: of what can be written in it, exactly this shape.
//!
//! Texts are written as JSON strings, which YAML 1.2 reads as they are; queries as blocks, so that nothing in them needs
//! an escape.

use std::fmt::Write as _;

use super::{Alert, File, Form, Group, Rule};

/// How wide a comment may be.
const WIDTH: usize = 110;

pub(super) fn text(file: &File, form: Form) -> String {
    let mut out = String::new();
    comment(&mut out, "", "Written by `pulsewire rules generate`, which makes it for other settings, too.");
    comment(&mut out, "", file.about);
    let depth = match form {
        Form::Prometheus => "",
        Form::Kubernetes => {
            kubernetes(&mut out, file.name);
            "  "
        }
    };
    let _ = writeln!(out, "{depth}groups:");
    for one in &file.groups {
        group(&mut out, depth, one);
    }
    out
}

fn kubernetes(out: &mut String, name: &str) {
    out.push_str("apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n");
    let _ = writeln!(out, "  name: pulsewire-{name}");
    out.push_str(
        "  labels:\n    app.kubernetes.io/name: pulsewire\n    app.kubernetes.io/component: monitoring\n",
    );
    out.push_str("spec:\n");
}

fn group(out: &mut String, depth: &str, group: &Group) {
    let _ = writeln!(out, "{depth}  - name: {}\n{depth}    interval: {}", group.name, group.interval);
    let _ = writeln!(out, "{depth}    rules:");
    let inner = format!("{depth}      ");
    for one in &group.rules {
        match one {
            Rule::Record(record) => {
                comment(out, &inner, record.why);
                let _ = writeln!(out, "{inner}- record: {}", record.name);
                block(out, &inner, &record.expr);
            }
            Rule::Alert(one) => alert(out, &inner, one),
        }
    }
}

fn alert(out: &mut String, depth: &str, alert: &Alert) {
    comment(out, depth, alert.why);
    let _ = writeln!(out, "{depth}- alert: {}", alert.name);
    block(out, depth, &alert.expr);
    if !alert.hold.is_empty() {
        let _ = writeln!(out, "{depth}  for: {}", alert.hold);
    }
    let mut labels = vec![
        ("severity", alert.severity.as_str()),
        ("component", alert.component),
        ("condition", alert.condition),
    ];
    labels.retain(|(_, value)| !value.is_empty());
    labels.extend(&alert.labels);
    pairs(out, depth, "labels", &labels);
    let mut annotations = vec![
        ("summary", alert.summary.as_str()),
        ("description", &alert.description),
        ("runbook_url", &alert.runbook_url),
    ];
    annotations.retain(|(_, value)| !value.is_empty());
    pairs(out, depth, "annotations", &annotations);
}

fn pairs(out: &mut String, depth: &str, name: &str, pairs: &[(&str, &str)]) {
    if !pairs.is_empty() {
        let _ = writeln!(out, "{depth}  {name}:");
    }
    for (key, value) in pairs {
        let _ = writeln!(out, "{depth}    {key}: {}", serde_json::Value::from(*value));
    }
}

fn block(out: &mut String, depth: &str, expr: &str) {
    let _ = writeln!(out, "{depth}  expr: |-");
    for line in expr.lines() {
        let _ = writeln!(out, "{depth}    {line}");
    }
}

/// Lines of a comment; nothing if there is nothing to say.
fn comment(out: &mut String, depth: &str, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && depth.len() + line.len() + word.len() + 3 > WIDTH {
            let _ = writeln!(out, "{depth}#{line}");
            line.clear();
        }
        line.push(' ');
        line.push_str(word);
    }
    if !line.is_empty() {
        let _ = writeln!(out, "{depth}#{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity, record};
    use super::*;
    use crate::Pack;

    fn file() -> File {
        let down = Alert {
            expr: "up{job=~\"a\"} == 0".to_owned(),
            hold: "1m",
            summary: "\"{{ $labels.job }}\" is down".to_owned(),
            why: "Because.",
            ..super::super::alert(&Pack::default(), "Down", Severity::Critical, "down")
        };
        let sum = record("job:x:sum", "", "sum by (job) (\n  x\n)".to_owned());
        let groups = vec![Group { name: "one", interval: "30s", rules: vec![sum, down.into()] }];
        File { name: "file", about: "About.", groups }
    }

    #[test]
    fn a_file_is_written_as_prometheus_reads_it() {
        let expected = r#"# Written by `pulsewire rules generate`, which makes it for other settings, too.
# About.
groups:
  - name: one
    interval: 30s
    rules:
      - record: job:x:sum
        expr: |-
          sum by (job) (
            x
          )
      # Because.
      - alert: Down
        expr: |-
          up{job=~"a"} == 0
        for: 1m
        labels:
          severity: "critical"
          component: "websocket"
          condition: "down"
        annotations:
          summary: "\"{{ $labels.job }}\" is down"
          runbook_url: "https://pulsewire.example/docs/runbook/Down.md"
"#;
        assert_eq!(text(&file(), Form::Prometheus), expected);
    }

    #[test]
    fn for_the_operator_the_same_groups_are_a_resource() {
        let text = text(&file(), Form::Kubernetes);
        assert!(text.contains("\nkind: PrometheusRule\nmetadata:\n  name: pulsewire-file\n"), "{text}");
        assert!(text.contains("\nspec:\n  groups:\n    - name: one\n      interval: 30s\n"), "{text}");
        assert!(text.contains("\n          expr: |-\n            up{job=~\"a\"} == 0\n"), "{text}");
    }

    #[test]
    fn a_long_comment_is_broken_between_words() {
        let mut out = String::new();
        comment(&mut out, "  ", &"word ".repeat(40));
        assert!(
            out.lines().count() == 2
                && out.lines().all(|line| line.len() <= WIDTH && line.starts_with("  # word"))
        );
    }
}
