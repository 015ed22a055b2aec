//! What every dashboard must be, held against the text that is shipped; and broken ones, which must be noticed.
//!
//! The rules are those of Grafana's own linter for dashboards, and ours: names and kinds of the catalogue, no two panels in
//! one place, "per minute" only where something is multiplied by 60.

mod problems;

use std::collections::BTreeSet;

use pulsewire_telemetry::catalog::{Family, families};
use serde_json::{Value, json};

use problems::{identifiers, panels_of, problems, text};

use super::all;
use crate::Pack;

/// Families that no panel needs, and why.
const UNSHOWN: [(&str, &str); 9] = [
    (
        "websocket_subscriptions_total",
        "the gauge of document 001; websocket_active_subscriptions is the same in every format",
    ),
    (
        "websocket_heartbeat_rtt_milliseconds",
        "document 000's name of websocket_heartbeat_latency_milliseconds",
    ),
    ("pulsewire_heartbeat_rtt_seconds", "the same in seconds"),
    ("pulsewire_connections_limit", "our name of websocket_connections_limit"),
    ("pulsewire_accept_rejected_total", "websocket_rejected_total without its stages"),
    ("pulsewire_slow_events_total", "our name of websocket_slow_consumer_total"),
    ("pulsewire_dropped_total", "our name of websocket_messages_dropped_total"),
    ("pulsewire_ratelimited_total", "our name of websocket_rate_limited_total"),
    ("pulsewire_process_rss_bytes", "our name of process_resident_memory_bytes"),
];

#[test]
fn every_dashboard_is_as_it_should_be() {
    let boards: Vec<Value> = all(&Pack::default()).iter().map(|board| parsed(&board.to_json())).collect();
    let problems: Vec<String> = boards.iter().flat_map(problems).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    for key in ["uid", "title"] {
        let different: BTreeSet<&str> = boards.iter().map(|board| text(board, key)).collect();
        assert_eq!(different.len(), boards.len(), "two have the same {key}");
    }
}

#[test]
fn files_have_the_names_of_the_documents() {
    let all = all(&Pack::default());
    let file_of = |title| all.iter().find(|board| board.title() == title).map(|board| board.file);
    assert_eq!(file_of("Upstreams and Canary"), Some("grafana-dashboard.json"));
    assert_eq!(file_of("Collaboration"), Some("grafana-websocket-dashboard.json"));
    assert_eq!(file_of("WebSocket Connections"), Some("websocket-connections.json"));
}

#[test]
fn every_family_of_the_catalogue_is_in_a_panel() {
    let boards: String = all(&Pack::default()).iter().map(super::Dashboard::to_json).collect();
    let shown: BTreeSet<&str> = identifiers(&boards).map(|(name, _)| name).collect();
    let in_a_panel = |family: &Family| {
        ["", "_bucket", "_sum", "_count"]
            .iter()
            .any(|part| shown.contains(format!("{}{part}", family.name).as_str()))
    };
    for family in families() {
        let excused = UNSHOWN.iter().any(|(name, _)| *name == family.name);
        assert_ne!(
            in_a_panel(family),
            excused,
            "{}: a panel, or a reason in UNSHOWN, and not both",
            family.name
        );
    }
}

#[test]
fn every_alert_has_a_panel_and_no_panel_an_alert_that_is_none() {
    let pack = limited();
    let files = crate::rules::files(&pack);
    let mut alerts: BTreeSet<&str> =
        files.iter().flat_map(crate::rules::File::alerts).map(|alert| alert.name).collect();
    assert!(alerts.remove("Watchdog"), "it fires always and means nothing");
    let boards: Vec<Value> = all(&pack).iter().map(|board| parsed(&board.to_json())).collect();
    let panels = boards.iter().flat_map(panels_of);
    let told = panels.filter_map(|panel| text(panel, "description").split_once("\n\nAlerts: "));
    let told: BTreeSet<&str> = told.flat_map(|(_, names)| names.trim_end_matches('.').split(", ")).collect();
    assert_eq!(told, alerts);
}

/// Limits for everything, so that every rule there can be is there.
fn limited() -> Pack {
    let limit = Some(crate::Levels { target: 1.0, warning: 2.0, critical: 3.0, of_maximum: false });
    let limits = crate::Limits {
        connections: limit,
        latency: limit,
        duration: limit,
        memory: limit,
        heartbeats: limit,
        auth: limit,
        fallback: limit,
        reconnects: limit,
        failures: limit,
        drops: limit,
        slow: limit,
        queue: limit,
        files: limit,
        lag: limit,
    };
    Pack { limits, ..Pack::default() }
}

#[test]
fn another_prefix_is_followed_everywhere() {
    let pack = Pack { alias_prefix: "acme".to_owned(), ..Pack::default() };
    for board in all(&pack) {
        assert!(!board.to_json().contains("orchestrator_websocket_"), "{}", board.name);
    }
    assert!(all(&pack).iter().any(|board| board.to_json().contains("acme_message_latency_bucket")));
}

#[test]
fn bands_follow_the_limits_of_the_settings() {
    let latency = Some(crate::Levels { target: 11.0, warning: 22.0, critical: 33.0, of_maximum: false });
    let pack = Pack { limits: crate::Limits { latency, ..Default::default() }, ..Pack::default() };
    let board = parsed(&all(&pack)[0].to_json());
    let panels = panels_of(&board);
    let panel = panels.iter().find(|panel| panel["title"] == "Message Latency (p95)").expect("it is there");
    let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].clone();
    let step = |color: &str, value: Value| json!({ "color": color, "value": value });
    let expected = [
        step("green", Value::Null),
        step("yellow", json!(11.0)),
        step("orange", json!(22.0)),
        step("red", json!(33.0)),
    ];
    assert_eq!(steps, json!(expected));
}

#[test]
fn pages_of_the_runbook_are_linked_once_it_is_known_where_they_are() {
    let linked =
        |pack: &Pack| all(pack).iter().any(|board| board.to_json().contains("/HighWebSocketLatency.md"));
    assert!(!linked(&Pack::default()), "a link to nowhere is worse than none");
    let pack = Pack { runbooks: "https://wiki.example/runbook".to_owned(), ..Pack::default() };
    assert!(
        linked(&pack)
            && all(&pack)[0].to_json().contains("\"https://wiki.example/runbook/HighWebSocketLatency.md\"")
    );
}

/// One way to break a dashboard, and what must be said of it.
#[test]
fn broken_dashboards_are_noticed() {
    let whole = parsed(&all(&Pack::default())[0].to_json());
    let check = |said: &str, breaks: &dyn Fn(&mut Value)| {
        let mut board = whole.clone();
        breaks(&mut board);
        let problems = problems(&board);
        assert!(problems.iter().any(|problem| problem.contains(said)), "`{said}` is not in {problems:#?}");
    };
    let chart = |board: &mut Value, change: &dyn Fn(&mut Value)| {
        let charts = board["panels"].as_array_mut().expect("panels");
        change(charts.iter_mut().find(|panel| panel["title"] == "Connection Rate").expect("it is there"));
    };
    let expression = |with: &str| {
        let with = with.to_owned();
        move |board: &mut Value| chart(board, &|panel| panel["targets"][0]["expr"] = json!(with))
    };
    check("no title", &|board| chart(board, &|panel| panel["title"] = json!("")));
    check("no description", &|board| chart(board, &|panel| panel["description"] = json!("x")));
    check("unknown unit", &|board| {
        chart(board, &|panel| panel["fieldConfig"]["defaults"]["unit"] = json!("qps"));
    });
    check("no targets", &|board| chart(board, &|panel| panel["targets"] = json!([])));
    check("another data source", &|board| chart(board, &|panel| panel["datasource"]["uid"] = json!("prom")));
    check("another data source", &|board| {
        chart(board, &|panel| panel["targets"][0]["datasource"]["uid"] = json!("prom"));
    });
    check("no legend", &|board| chart(board, &|panel| panel["targets"][0]["legendFormat"] = json!("")));
    check("lies on", &|board| chart(board, &|panel| panel["gridPos"]["x"] = json!(0)));
    check("beyond the page", &|board| chart(board, &|panel| panel["gridPos"]["x"] = json!(20)));
    check("id twice", &|board| chart(board, &|panel| panel["id"] = json!(1)));
    check("title twice", &|board| chart(board, &|panel| panel["title"] = json!("Active Connections")));
    check("no variable job", &|board| {
        board["templating"]["list"]
            .as_array_mut()
            .expect("variables")
            .retain(|variable| variable["name"] != "job");
    });
    let labels = r#"cluster=~"$cluster",namespace=~"$namespace",job=~"$job",instance=~"$instance""#;
    check("not in the catalogue", &expression(&format!("sum(websocket_conections_total{{{labels}}})")));
    check("without labels", &expression("sum(websocket_active_connections)"));
    check("does not follow $instance", &expression(r#"sum(websocket_active_connections{job=~"$job"})"#));
    check("does not follow $job", &expression(r#"sum(websocket_active_connections{instance=~"$instance"})"#));
    check(
        "a range of its own",
        &expression(&format!("sum(rate(websocket_disconnections_total{{{labels}}}[5m])) * 60")),
    );
    check(
        "rate of a gauge",
        &expression(&format!("sum(rate(websocket_active_connections{{{labels}}}[$__rate_interval])) * 60")),
    );
    let spread = format!(
        "sum by (le) (rate(websocket_subscriptions_per_connection_bucket{{{labels}}}[$__rate_interval])) * 60"
    );
    check("rate of a gauge", &expression(&spread));
    check("without rate", &expression(&format!("sum(websocket_disconnections_total{{{labels}}}) * 60")));
    check(
        "not times 60",
        &expression(&format!("sum(rate(websocket_disconnections_total{{{labels}}}[$__rate_interval]))")),
    );
    check(
        "not aggregated",
        &expression(&format!("rate(websocket_disconnections_total{{{labels}}}[$__rate_interval]) * 60")),
    );
    let quantile = format!(
        "histogram_quantile(0.9, sum(rate(websocket_event_latency_milliseconds_bucket{{{labels}}}[$__rate_interval]))) * 60"
    );
    check("without le", &expression(&quantile));
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("it is JSON")
}
