//! Prometheus and Alertmanager, by their own programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{Check, Pack};
use crate::steps::quietly;

pub(super) const CHECKS: [Check; 3] = [
    Check { name: "prometheus.yml and jobs", tools: &["promtool"], run: configurations },
    Check { name: "routes", tools: &["amtool"], run: routes },
    Check { name: "texts of alerts", tools: &["amtool"], run: texts },
];

/// Every label set that matters, and who is told of it.
const ROUTES: [(&str, &str); 8] = [
    ("alertname=Watchdog severity=none", "deadman"),
    ("alertname=A severity=warning", "chat"),
    ("alertname=A severity=info", "chat"),
    ("alertname=A severity=critical", "pager"),
    ("alertname=A", "chat"),
    ("alertname=A severity=none", "nobody"),
    ("alertname=A severity=warning action=rollback", "rollback,chat"),
    ("alertname=A severity=critical action=rollback", "rollback,pager"),
];

/// A copy of a folder of `deploy/` with the secrets that its files name, which are nobody's.
struct Staged(PathBuf);

impl Staged {
    fn new(pack: &Pack<'_>, folder: &str, secrets: &[(&str, &str)]) -> Result<Self> {
        let to = pack.programs.join("operations-files").join(folder);
        // What an earlier run left is not shipped any more.
        let _ = fs::remove_dir_all(&to);
        copy(&pack.workspace.path(format!("deploy/{folder}")), &to)?;
        fs::create_dir_all(to.join("secrets")).context("cannot make a folder for secrets")?;
        for (name, text) in secrets {
            fs::write(to.join("secrets").join(name), text).context("cannot write a secret")?;
        }
        Ok(Self(to))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// `promtool check config` of what is shipped, and of each job beside it.
fn configurations(pack: &Pack<'_>) -> Result<String> {
    let staged = Staged::new(pack, "prometheus", &[("metrics_token", "a token")])?;
    let mut files = vec![staged.path("prometheus.yml")];
    let jobs = fs::read_dir(staged.path("jobs"))?.collect::<std::io::Result<Vec<_>>>()?;
    files.extend(jobs.iter().map(|job| job.path().display().to_string()));
    ensure!(files.len() > 4, "the documents' jobs are missing");
    let mut promtool = pack.workspace.command("promtool");
    quietly(promtool.args(["check", "config", "--lint=all", "--lint-fatal"]).args(&files))?;
    Ok(format!("{} configurations", files.len()))
}

fn alertmanager(pack: &Pack<'_>) -> Result<Staged> {
    Staged::new(
        pack,
        "alertmanager",
        &[("slack_url", "http://localhost/"), ("pagerduty_key", "a key"), ("rollback_token", "a token")],
    )
}

/// Who is told of what, and that nobody is told by a route that is not there.
fn routes(pack: &Pack<'_>) -> Result<String> {
    let staged = alertmanager(pack)?;
    let file = staged.path("alertmanager.yml");
    quietly(pack.workspace.command("amtool").args(["check-config", &file]))?;
    for (labels, receivers) in ROUTES {
        let mut amtool = pack.workspace.command("amtool");
        amtool.args(["config", "routes", "test", "--config.file", &file]);
        amtool.arg(format!("--verify.receivers={receivers}")).args(labels.split(' '));
        quietly(&mut amtool).with_context(|| format!("{labels} is not told to {receivers}"))?;
    }
    Ok(format!("{} label sets", ROUTES.len()))
}

/// What people read of a group that fires, and of one that has ended.
fn texts(pack: &Pack<'_>) -> Result<String> {
    let staged = alertmanager(pack)?;
    let group = |status: &str| {
        format!(
            r#"{{"receiver": "chat", "status": "{status}",
            "alerts": [{{"status": "{status}", "labels": {{"instance": "a:1"}},
                "annotations": {{"summary": "Too many.", "description": "There are 7."}}}}],
            "groupLabels": {{"alertname": "TooMany"}},
            "commonLabels": {{"job": "pulsewire", "severity": "critical"}},
            "commonAnnotations": {{"runbook_url": "https://runbook/too-many"}},
            "externalURL": "http://alertmanager"}}"#
        )
    };
    let cases = [
        ("firing", "pulsewire.title", "[CRITICAL] TooMany in pulsewire"),
        ("firing", "pulsewire.text", "Too many. (a:1)\nThere are 7.\nWhat to do: https://runbook/too-many\n"),
        ("firing", "pulsewire.color", "danger"),
        ("firing", "pulsewire.runbook", "https://runbook/too-many"),
        ("resolved", "pulsewire.title", "[RESOLVED] TooMany in pulsewire"),
        (
            "resolved",
            "pulsewire.text",
            "Resolved: Too many. (a:1)\nThere are 7.\nWhat to do: https://runbook/too-many\n",
        ),
        ("resolved", "pulsewire.color", "good"),
    ];
    for (status, template, expected) in cases {
        let data = staged.path("group.json");
        fs::write(&data, group(status)).context("cannot write a group of alerts")?;
        let rendered = rendered(pack, &staged.path("templates/*.tmpl"), template, &data)?;
        ensure!(rendered == expected, "{status} {template} is {rendered:?} and not {expected:?}");
    }
    Ok(format!("{} texts", cases.len()))
}

fn rendered(pack: &Pack<'_>, files: &str, template: &str, data: &str) -> Result<String> {
    let mut amtool: Command = pack.workspace.command("amtool");
    amtool.args(["template", "render", "--template.glob", files, "--template.data", data]);
    let output = amtool.arg(format!("--template.text={{{{ template \"{template}\" . }}}}")).output();
    let output = output.context("amtool cannot be started")?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if !output.status.success() {
        bail!("{template}: {}{}", said[0], said[1]);
    }
    let [text, _] = said;
    Ok(text)
}
