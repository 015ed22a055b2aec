//! The ways in which a rule is made wrong.

use std::fmt;

use super::files::{Rule, RuleFile};

/// A file of rules with one thing wrong.
pub(super) struct Mutant {
    /// The file's name without its ending.
    pub(super) file: String,
    /// The rule that is wrong.
    pub(super) rule: String,
    /// What is wrong, with its place.
    what: String,
    /// The whole file.
    pub(super) text: String,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.yml {}: {}", self.file, self.rule, self.what)
    }
}

/// Every mutant of a file.
pub(super) fn of(file: &RuleFile) -> Vec<Mutant> {
    let lines: Vec<_> = file.text.lines().map(str::to_owned).collect();
    file.rules().iter().flat_map(|rule| of_rule(file, &lines, rule)).collect()
}

fn of_rule(file: &RuleFile, lines: &[String], rule: &Rule) -> Vec<Mutant> {
    let mut found = Vec::new();
    let mut add = |what: String, (start, end): (usize, usize), instead: Vec<String>| {
        let mut text = lines.to_vec();
        text.splice(start..end, instead);
        let place = if rule.is_alert { place(lines, rule) } else { String::new() };
        let text = text.join("\n") + "\n";
        found.push(Mutant { file: file.name.clone(), rule: rule.name.clone(), what: what + &place, text });
    };
    add("deleted".into(), rule.lines, Vec::new());
    // A watchdog fires whatever its number: all that can be wrong with it is that it is not there.
    let expr = if rule.name == "Watchdog" { 0..0 } else { rule.expr.0..rule.expr.1 };
    if !expr.is_empty() {
        add("always".into(), rule.expr, vec!["          vector(1)".into()]);
    }
    for (at, line) in lines.iter().enumerate().take(expr.end).skip(expr.start) {
        for (what, line) in of_line(line) {
            add(format!("line {}: {what}", at - expr.start + 1), (at, at + 1), vec![line]);
        }
    }
    for (at, line) in lines.iter().enumerate().take(rule.lines.1).skip(rule.expr.1) {
        for (what, line) in of_attribute(line) {
            add(what, (at, at + 1), vec![line]);
        }
    }
    found
}

/// What tells rules of one name apart.
fn place(lines: &[String], rule: &Rule) -> String {
    let of = |line: &String| line.trim().strip_prefix("long: ").map(|long| format!(" ({long})"));
    lines[rule.lines.0..rule.lines.1].iter().find_map(of).unwrap_or_default()
}

/// A line of an expression with one thing wrong.
fn of_line(line: &str) -> Vec<(String, String)> {
    const WORDS: [(&str, &str); 8] = [
        (" > ", " < "),
        (" < ", " > "),
        (" >= ", " < "),
        (" == ", " != "),
        ("and ", "or "),
        ("or ", "and "),
        ("unless", "and"),
        (" - ", " + "),
    ];
    let mut found = Vec::new();
    let padded = format!("{line} ");
    for (word, instead) in WORDS {
        for (at, _) in padded.match_indices(word).filter(|(at, _)| is_word(&padded, *at, word)) {
            let changed = format!("{}{instead}{}", &padded[..at], &padded[at + word.len()..]);
            found.push((
                format!("`{}` is `{}` at {at}", word.trim(), instead.trim()),
                changed.trim_end().to_owned(),
            ));
        }
    }
    found.extend(matchers(line));
    found.extend(groupings(line));
    found.extend(numbers(line));
    found
}

/// Whether a letter does not go on before.
fn is_word(line: &str, at: usize, word: &str) -> bool {
    let before = line[..at].chars().next_back().unwrap_or(' ');
    word.starts_with(' ') || matches!(before, ' ' | '(')
}

/// `=` for `!=` and so on, of every label matcher.
fn matchers(line: &str) -> Vec<(String, String)> {
    const TURNED: [(&str, &str); 4] = [("=~\"", "!~\""), ("!~\"", "=~\""), ("!=\"", "=\""), ("=\"", "!=\"")];
    let mut found = Vec::new();
    for (from, to) in TURNED {
        for (at, _) in line.match_indices(from) {
            if from == "=\"" && line[..at].ends_with('!') {
                continue;
            }
            found.push((
                format!("{from} at {at}"),
                format!("{}{to}{}", &line[..at], &line[at + from.len()..]),
            ));
        }
    }
    found
}

/// A grouping without its last label.
fn groupings(line: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, opening) in line.match_indices("by (") {
        let start = at + opening.len();
        let Some(end) = line[start..].find(')').map(|length| start + length) else { continue };
        let Some(comma) = line[start..end].rfind(',') else { continue };
        let label = line[start + comma + 1..end].trim();
        found
            .push((format!("not by {label} at {at}"), format!("{}{}", &line[..start + comma], &line[end..])));
    }
    found
}

/// Every number halved and doubled; nothing as one. Those of spans, names and texts are left alone.
fn numbers(line: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut quoted = false;
    let bytes = line.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        quoted ^= bytes[at] == b'"';
        let fresh = at == 0 || matches!(bytes[at - 1], b' ' | b'(');
        if quoted || !fresh || !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let end =
            (at..bytes.len()).find(|&next| !matches!(bytes[next], b'0'..=b'9' | b'.')).unwrap_or(bytes.len());
        let is_span = bytes.get(end).is_some_and(u8::is_ascii_alphabetic);
        if let (false, Ok(number)) = (is_span, line[at..end].parse::<f64>()) {
            let others = if number == 0.0 { vec![1.0] } else { vec![number * 2.0, number / 2.0] };
            for other in others {
                let changed = format!("{}{other}{}", &line[..at], &line[end..]);
                found.push((format!("{number} is {other} at {at}"), changed));
            }
        }
        at = end;
    }
    found
}

/// How long an alert holds and what it is labelled with, otherwise.
fn of_attribute(line: &str) -> Vec<(String, String)> {
    if let Some(span) = line.strip_prefix("        for: ") {
        let (number, unit) = span.split_at(span.len() - 1);
        let longer = number.parse::<u32>().map_or(0, |number| number * 20);
        return vec![
            ("does not hold".into(), "        for: 0s".into()),
            ("holds longer".into(), format!("        for: {longer}{unit}")),
        ];
    }
    let Some((label, value)) = line.strip_prefix("          ").and_then(|pair| pair.split_once(": ")) else {
        return Vec::new();
    };
    match label {
        "severity" | "page" | "track" | "action" | "long" | "short" => {
            vec![(format!("{label} is not {value}"), format!("          {label}: \"another\""))]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&str]) {
        let found: Vec<_> = of_line(line).into_iter().map(|(_, line)| line).collect();
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn a_line_is_made_wrong_in_every_way() {
        check(
            "(a{x=\"1\"} > 0.5)",
            &["(a{x=\"1\"} < 0.5)", "(a{x!=\"1\"} > 0.5)", "(a{x=\"1\"} > 1)", "(a{x=\"1\"} > 0.25)"],
        );
        check(
            "and b{x!~\"1 > 2\"}[5m]",
            &["and b{x!~\"1 < 2\"}[5m]", "or b{x!~\"1 > 2\"}[5m]", "and b{x=~\"1 > 2\"}[5m]"],
        );
        check("sum by (a, le) (x offset 5m)", &["sum by (a) (x offset 5m)"]);
        check("unless up == 0", &["unless up != 0", "and up == 0", "unless up == 1"]);
        check("or", &["and"]);
        check("rate5m >= 3", &["rate5m < 3", "rate5m >= 6", "rate5m >= 1.5"]);
    }

    #[test]
    fn what_is_around_an_expression_is_changed_too() {
        let changed = |line| of_attribute(line).into_iter().map(|(_, line)| line).collect::<Vec<_>>();
        assert_eq!(changed("        for: 2m"), ["        for: 0s", "        for: 40m"]);
        assert_eq!(changed("          severity: \"critical\""), ["          severity: \"another\""]);
        assert!(changed("          summary: \"a\"").is_empty());
    }
}
