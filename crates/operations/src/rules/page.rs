//! The text of `docs/operate/alerts.md`.

use std::fmt::Write as _;

use super::{Alert, File};

const HEAD: &str = "\
# Alerts

Written by `cargo xtask generate` from `operations::rules`; edit that instead.

What Prometheus tells of, from the files in [`deploy/prometheus/rules`](../../deploy/prometheus/rules). Each name leads to what to do about it.
The numbers are those of the default settings. Where they come from `thresholds.*` or `limits.*`, make the files for your own:

```sh
pulsewire rules generate --config /etc/pulsewire/pulsewire.toml --runbooks https://wiki.example.org/runbook --out /etc/prometheus/rules
```

- **One place for a number.** The server judges itself by the same settings ([thresholds](thresholds.md)); a rule that is `off` there has no alert here. `--set thresholds.profile=seed-001` makes document 001's numbers to the letter.
- **\"Ours\"** marks a number that no document names. Most say how much must have happened before a share means something.
- **`--form kubernetes`** prints a `PrometheusRule` for each file. `--profile seed-literal` prints the documents' own rules, for comparison: most of them never fire, or fire on healthy servers.
- **Labels**: `severity` (`critical` wakes somebody, `warning` is for today, `info` is good to know), `component`, `condition` (a critical alert mutes the warnings of the same condition), `runbook_url` as an annotation.
";

/// The page about every alert of the files.
#[must_use]
pub fn page(files: &[File]) -> String {
    let mut out = HEAD.to_owned();
    for file in files.iter().filter(|file| file.alerts().next().is_some()) {
        let _ = write!(out, "\n## {}.yml\n\n{}\n\n", file.name, file.about);
        out.push_str(
            "| alert | severity | fires when | for | the numbers are from |\n|---|---|---|---|---|\n",
        );
        for alert in file.alerts() {
            row(&mut out, alert);
        }
    }
    out
}

fn row(out: &mut String, alert: &Alert) {
    let Alert { name, when, from, .. } = alert;
    let hold = if alert.hold.is_empty() { "–" } else { alert.hold };
    let severity = alert.severity.as_str();
    let _ = writeln!(out, "| [`{name}`](../runbook/{name}.md) | {severity} | {when} | {hold} | {from} |");
}
