//! The rules: what is wrong with a dashboard, as it is written.

use std::collections::BTreeSet;

use pulsewire_telemetry::catalog::{Family, Kind, families};
use serde_json::Value;

/// Units of Grafana that are used; another one is looked up in its list of formats first.
const UNITS: [&str; 12] = [
    "short",
    "percent",
    "percentunit",
    "s",
    "ms",
    "dtdurations",
    "bytes",
    "decbytes",
    "Bps",
    "cps",
    "cpm",
    "ops",
];
/// Series that no family of the catalogue is: Prometheus makes them.
const OF_PROMETHEUS: [&str; 4] = ["up", "scrape_duration_seconds", "scrape_samples_scraped", "ALERTS"];
/// Everything that is wrong with a dashboard, each with where it is.
pub(super) fn problems(board: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let variables: BTreeSet<&str> = board["templating"]["list"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|variable| text(variable, "name"))
        .collect();
    for name in ["datasource", "cluster", "namespace", "job", "instance", "quantile"] {
        if !variables.contains(name) {
            found.push(format!("no variable {name}"));
        }
    }
    if board["refresh"] != "30s" {
        found.push("not asked again each 30 s".to_owned());
    }
    let panels = panels_of(board);
    for panel in &panels {
        found.extend(problems_of(panel).into_iter().map(|problem| format!("{}: {problem}", panel["title"])));
    }
    found.extend(twice(&panels));
    let rows = board["panels"].as_array().expect("panels").iter();
    let everything: Vec<&Value> = rows.filter(|panel| panel["type"] == "row").chain(panels).collect();
    found.extend(misplaced(&everything));
    let title = text(board, "title");
    found.into_iter().map(|problem| format!("{title}: {problem}")).collect()
}

/// A text of an object; nothing if it has none.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// All panels but rows, those in closed rows too.
pub(super) fn panels_of(board: &Value) -> Vec<&Value> {
    let all = board["panels"].as_array().expect("panels");
    let within = all.iter().flat_map(|panel| panel["panels"].as_array().into_iter().flatten());
    all.iter().chain(within).filter(|panel| panel["type"] != "row").collect()
}

fn problems_of(panel: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut unless = |holds: bool, said: &str| {
        if !holds {
            found.push(said.to_owned());
        }
    };
    let targets = panel["targets"].as_array().expect("targets");
    unless(!text(panel, "title").is_empty(), "no title");
    unless(text(panel, "description").len() > 30, "no description");
    let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
    unless(UNITS.contains(&unit), "unknown unit");
    unless(!targets.is_empty(), "no targets");
    let ours = |value: &Value| value["datasource"]["uid"] == "${datasource}";
    unless(ours(panel) && targets.iter().all(ours), "another data source");
    for target in targets {
        unless(panel["type"] == "table" || !text(target, "legendFormat").is_empty(), "no legend");
        let expression = text(target, "expr");
        for problem in expression_problems(expression) {
            unless(false, &format!("{problem} in {expression}"));
        }
        let counted = ["rate(", "increase("].iter().any(|call| expression.contains(call));
        unless(unit != "cpm" || !counted || expression.contains("* 60"), "not times 60");
    }
    found
}

fn expression_problems(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, at) in identifiers(expression) {
        let rest = &expression[at + name.len()..];
        let recorded = name.contains(':');
        let family = family_of(name);
        if !recorded && family.is_none() && !OF_PROMETHEUS.contains(&name) {
            if is_metric(name) {
                found.push(format!("{name} is not in the catalogue"));
            }
            continue;
        }
        let Some(labels) =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(labels, _)| labels)
        else {
            found.push(format!("{name} without labels"));
            continue;
        };
        if !labels.contains(r#"job=~"$job"#) {
            found.push(format!("{name} does not follow $job"));
        }
        if !labels.contains(r#"instance=~"$instance""#) && !recorded && name != "ALERTS" {
            found.push(format!("{name} does not follow $instance"));
        }
        let counts = family.is_some_and(|family| counts(family, name));
        let call = expression[..at].rsplit_once('(').map(|(before, _)| before).unwrap_or_default();
        let rated = call.ends_with("rate") || call.ends_with("increase");
        if rated && !counts {
            found.push(format!("rate of a gauge, {name}"));
        }
        // How much there was of it in all says nothing: it begins anew with each start.
        if counts && !rated {
            found.push(format!("{name} without rate"));
        }
        if rated && !["sum", "max", "avg"].iter().any(|word| expression[..at].contains(word)) {
            found.push(format!("{name} is not aggregated"));
        }
    }
    let ranges = expression.split('[').skip(1).filter_map(|rest| rest.split_once(']'));
    for (range, _) in ranges {
        // An hour stands where an hour is meant, in words.
        if range != "$__rate_interval" && range != "1h" {
            found.push(format!("a range of its own, {range},"));
        }
    }
    for quantile in expression.split("histogram_quantile(").skip(1) {
        if !["by (le)", "by (le,"].iter().any(|by| quantile.contains(by)) {
            found.push("a quantile without le".to_owned());
        }
    }
    found
}

/// Words that may be names of series, each with where it begins.
pub(super) fn identifiers(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let named = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | ':');
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(named)?;
        let word = &rest[start..];
        let end = word.find(|character| !named(character)).unwrap_or(word.len());
        let at = text.len() - word.len();
        rest = &word[end..];
        Some((&word[..end], at))
    })
}

fn is_metric(name: &str) -> bool {
    let ours = ["websocket_", "pulsewire_", "ws_manager_", "orchestrator_websocket_", "process_", "scrape_"];
    ours.iter().any(|prefix| name.starts_with(prefix))
}

fn family_of(name: &str) -> Option<&'static Family> {
    let spread = |family: &&Family| matches!(family.kind, Kind::Histogram | Kind::GaugeHistogram);
    let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
    families().iter().find(|family| family.name == name && !spread(family)).or_else(|| {
        parts.into_iter().find_map(|base| families().iter().filter(spread).find(|family| family.name == base))
    })
}

/// Whether a series of this family only grows.
fn counts(family: &Family, name: &str) -> bool {
    family.kind == Kind::Counter || (family.kind == Kind::Histogram && name != family.name)
}

fn twice(panels: &[&Value]) -> Vec<String> {
    let mut titles = BTreeSet::new();
    panels
        .iter()
        .filter(|panel| !titles.insert(text(panel, "title")))
        .map(|panel| format!("title twice: {}", panel["title"]))
        .collect()
}

fn misplaced(panels: &[&Value]) -> Vec<String> {
    let mut found = Vec::new();
    let mut ids = BTreeSet::new();
    let place =
        |panel: &Value| ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap_or_default());
    for (at, panel) in panels.iter().enumerate() {
        if !ids.insert(panel["id"].as_u64()) {
            found.push(format!("id twice: {}", panel["id"]));
        }
        let [x, y, w, h] = place(panel);
        if x + w > 24 || w == 0 || h == 0 {
            found.push(format!("{} is beyond the page", panel["title"]));
        }
        for other in &panels[at + 1..] {
            let [other_x, other_y, other_w, other_h] = place(other);
            if x < other_x + other_w && other_x < x + w && y < other_y + other_h && other_y < y + h {
                found.push(format!("{} lies on {}", panel["title"], other["title"]));
            }
        }
    }
    found
}
