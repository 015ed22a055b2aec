//! The catalogue against the requirement documents and against what a scraper sees.

use std::collections::BTreeSet;

use pulsewire_telemetry::catalog::{Family, Kind, Values, families};
use pulsewire_telemetry::{Current, Format, MessageType, Options, Telemetry, docs_markdown, render};

use crate::parser::parse;

/// Document 000's names of events.
const EVENTS: [&str; 12] = [
    "agent:status",
    "task:progress",
    "task:completed",
    "task:failed",
    "message:new",
    "draft:pending",
    "activity:log",
    "task_assign",
    "draft_approve",
    "draft_reject",
    "message_send",
    "state_sync",
];

/// Every family of the checklist's tables 000, 001 and 002 and the aliases of 003: name, kind, labels, the
/// buckets the documents ask for.
type Wanted = (&'static str, Kind, &'static [(&'static str, &'static [&'static str])], &'static [f64]);

const WANTED: &[Wanted] = &[
    ("websocket_active_connections", Kind::Gauge, &[], &[]),
    ("websocket_connections_total", Kind::Counter, &[("status", &["opened", "closed", "failed"])], &[]),
    ("websocket_disconnections_total", Kind::Counter, &[], &[]),
    (
        "websocket_connection_duration_seconds",
        Kind::Histogram,
        &[],
        &[1., 5., 10., 15., 30., 60., 300., 600., 1800., 3600., 7200., 21600., 43200., 86400.],
    ),
    ("websocket_events_emitted_total", Kind::Counter, &[("event_type", &EVENTS)], &[]),
    ("websocket_events_received_total", Kind::Counter, &[("event_type", &EVENTS)], &[]),
    ("websocket_event_errors_total", Kind::Counter, &[("event_type", &EVENTS)], &[]),
    ("websocket_event_latency_milliseconds", Kind::Histogram, &[("event_type", &EVENTS)], &LATENCY),
    (
        "websocket_heartbeat_rtt_milliseconds",
        Kind::Histogram,
        &[],
        &[1., 5., 10., 25., 50., 100., 250., 500., 1000.],
    ),
    (
        "websocket_initial_state_latency_milliseconds",
        Kind::Histogram,
        &[],
        &[10., 25., 50., 100., 250., 500., 1000., 2500., 5000.],
    ),
    (
        "websocket_auth_failures_total",
        Kind::Counter,
        &[("reason", &["missing_token", "invalid_token", "expired_token"])],
        &[],
    ),
    ("websocket_subscriptions_total", Kind::Gauge, &[], &[]),
    ("websocket_subscriptions_by_project", Kind::Gauge, &[("project_id", &["__other__"])], &[]),
    ("websocket_subscriptions_per_connection", Kind::GaugeHistogram, &[], &[0., 1., 2., 5., 10., 20., 50.]),
    (
        "websocket_messages_total",
        Kind::Counter,
        &[("direction", &["sent", "received"]), ("type", &EVENTS)],
        &[],
    ),
    ("websocket_message_latency_milliseconds", Kind::Histogram, &[("event_type", &EVENTS)], &LATENCY),
    (
        "websocket_message_errors_total",
        Kind::Counter,
        &[("error_type", &["parse_error", "validation_error", "send_error"])],
        &[],
    ),
    ("ws_manager_active_connections", Kind::Gauge, &[], &[]),
    ("ws_manager_active_connections_hwm", Kind::Gauge, &[], &[]),
    ("ws_manager_retry_count_total", Kind::Counter, &[], &[]),
    ("ws_manager_stream_creations_total", Kind::Counter, &[], &[]),
    ("ws_manager_stream_cleanups_total", Kind::Counter, &[], &[]),
    ("websocket_heartbeats_sent_total", Kind::Counter, &[], &[]),
    (
        "websocket_heartbeat_latency_milliseconds",
        Kind::Histogram,
        &[],
        &[1., 5., 10., 25., 50., 100., 250., 500.],
    ),
    ("websocket_heartbeat_timeouts_total", Kind::Counter, &[], &[]),
    ("websocket_memory_usage_bytes", Kind::Gauge, &[], &[]),
    ("websocket_cpu_usage_percent", Kind::Gauge, &[], &[]),
    ("process_cpu_seconds_total", Kind::Counter, &[], &[]),
    ("process_resident_memory_bytes", Kind::Gauge, &[], &[]),
    ("pulsewire_reconnections_total", Kind::Counter, &[("outcome", &["resumed", "replayed", "reset"])], &[]),
    ("pulsewire_connection_errors_total", Kind::Counter, &[("kind", &[])], &[]),
    ("orchestrator_websocket_connections_total", Kind::Counter, &[], &[]),
    ("orchestrator_websocket_disconnections_total", Kind::Counter, &[], &[]),
    ("orchestrator_websocket_reconnections_total", Kind::Counter, &[], &[]),
    ("orchestrator_websocket_messages_in_total", Kind::Counter, &[], &[]),
    ("orchestrator_websocket_messages_out_total", Kind::Counter, &[], &[]),
    ("orchestrator_websocket_message_failures_total", Kind::Counter, &[], &[]),
    ("orchestrator_websocket_message_latency", Kind::Histogram, &[], &[0.001, 0.005, 0.01, 0.1, 1.0, 2.5]),
    ("orchestrator_websocket_fallback_http_total", Kind::Counter, &[], &[]),
];

/// Documents 000 and 001 together, and ruling C3.
const LATENCY: [f64; 15] =
    [0.1, 0.25, 0.5, 1., 2.5, 5., 10., 25., 50., 100., 250., 500., 1000., 2500., 5000.];

fn family(name: &str) -> &'static Family {
    families()
        .iter()
        .find(|family| family.name == name)
        .unwrap_or_else(|| panic!("{name} is not in the catalogue"))
}

#[test]
fn every_family_of_the_documents_is_there_with_its_labels_buckets_and_first_values() {
    let telemetry = Telemetry::new(Options::default());
    let page = parse(&render(&telemetry, &Current::default(), Format::Text004), Format::Text004);
    for (name, kind, labels, buckets) in WANTED {
        let family = family(name);
        assert_eq!(family.kind, *kind, "{name}");
        assert!(
            family.labels.iter().map(|label| label.name).eq(labels.iter().map(|label| label.0)),
            "{name}"
        );
        let bounds = family.bounds();
        assert!(buckets.iter().all(|bound| bounds.contains(bound)), "{name}: {bounds:?}");
        for (label, values) in *labels {
            for value in *values {
                let samples = &page[*name].samples;
                assert!(
                    samples.iter().any(|s| s.label(label) == Some(*value)),
                    "{name}{{{label}={value:?}}}"
                );
            }
        }
    }
}

/// The label values that must be there before anything has happened.
fn first_values(values: Values) -> BTreeSet<String> {
    let events = EVENTS.iter().chain(&["other"]).map(|name| (*name).to_owned());
    match values {
        Values::Closed(values) => values.iter().map(|value| (*value).to_owned()).collect(),
        Values::EventTypes => events.collect(),
        Values::MessageTypes => {
            events.chain(MessageType::NAMES.iter().map(|name| (*name).to_owned())).collect()
        }
        Values::Projects => ["__other__".to_owned()].into(),
        Values::Constant => BTreeSet::new(),
    }
}

#[test]
fn every_series_of_the_catalogue_is_at_zero_from_the_start_and_nothing_else_is_there() {
    let telemetry = Telemetry::new(Options::default());
    for format in [Format::Text004, Format::OpenMetrics] {
        let mut page = parse(&render(&telemetry, &Current::default(), format), format);
        for family in families() {
            let base = match (format, family.kind) {
                (Format::OpenMetrics, Kind::Counter) => family.name.strip_suffix("_total").unwrap(),
                (Format::OpenMetrics, Kind::Info) => family.name.strip_suffix("_info").unwrap(),
                _ => family.name,
            };
            let Some(shown) = page.remove(base) else {
                assert_eq!((format, family.name), (Format::OpenMetrics, "websocket_subscriptions_total"));
                continue;
            };
            assert_eq!(shown.help, family.help);
            let series: BTreeSet<_> = shown.samples.iter().map(crate::parser::Sample::series).collect();
            let absent = [
                "pulsewire_tls_certificate_expiry_timestamp_seconds",
                "pulsewire_redis_connected",
                "pulsewire_redis_streams_connected",
                "pulsewire_redis_stream_lag_entries",
                "pulsewire_redis_stream_pending_entries",
                "pulsewire_broker_connected",
                "pulsewire_broker_queue_bytes",
                "websocket_bus_connected",
                "websocket_clock_skew_seconds",
            ];
            if absent.contains(&family.name) {
                assert!(
                    series.is_empty(),
                    "without TLS nothing expires, without Redis or a broker nothing is connected"
                );
                continue;
            }
            let expected: usize =
                family.labels.iter().map(|label| first_values(label.values).len().max(1)).product();
            assert_eq!(series.len(), expected, "{base}");
            for label in family.labels {
                let found: BTreeSet<_> =
                    shown.samples.iter().map(|s| s.label(label.name).unwrap().to_owned()).collect();
                let first = first_values(label.values);
                assert!(first.is_empty() || found == first, "{base}: {found:?}");
            }
            for sample in &shown.samples {
                let measured = base.starts_with("process_") || base.starts_with("pulsewire_process");
                let constant = sample.name.ends_with("_created") || family.kind == Kind::Info;
                // Without a candidate, that is the verdict.
                let first = f64::from(u8::from(
                    base == "ws_manager_canary_verdict" && sample.label("verdict") == Some("off"),
                ));
                assert!(measured || constant || sample.value == first, "{sample:?}");
            }
        }
        assert!(page.is_empty(), "not in the catalogue: {:?}", page.keys());
    }
}

#[test]
fn names_follow_the_rules_of_the_formats() {
    let mut names = BTreeSet::new();
    for family in families() {
        let base = family.name.strip_suffix("_total").unwrap_or(family.name);
        assert!(names.insert(family.name), "{} is declared twice", family.name);
        assert!(
            (family.kind == Kind::Counter) == family.name.ends_with("_total")
                || family.name == "websocket_subscriptions_total"
        );
        assert!(base.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{base}");
        for end in ["_created", "_bucket", "_count", "_sum", "_gcount", "_gsum"] {
            // Document 002 has named it so, and no histogram is called the rest.
            assert!(!base.ends_with(end) || base == "ws_manager_retry_count", "{base}");
        }
        assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\', '"']), "{base}");
        assert_eq!(
            matches!(family.kind, Kind::Histogram | Kind::GaugeHistogram),
            !family.bounds().is_empty()
        );
        for label in family.labels {
            assert!(!["le", "user", "session", "channel", "run"].contains(&label.name));
            if let Values::Closed(values) = label.values {
                assert!((2..=31).contains(&values.len()), "{base} {}", label.name);
                assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), values.len());
            }
        }
    }
}

#[test]
fn the_documentation_names_every_family_label_value_and_bucket() {
    let text = docs_markdown();
    for family in families() {
        let start =
            text.find(&format!("\n### {}\n", family.name)).unwrap_or_else(|| panic!("{}", family.name));
        let section = &text[start + 4..];
        let section = &section[..section.find("\n### ").unwrap_or(section.len())];
        assert!(section.contains(family.help) && section.contains(family.source));
        for label in family.labels {
            assert!(section.contains(&format!("- label `{}`: ", label.name)));
            if let Values::Closed(values) = label.values {
                assert!(values.iter().all(|value| section.contains(&format!("`{value}`"))));
            }
        }
        assert!(family.bounds().iter().all(|bound| section.contains(&bound.to_string())));
    }
    assert_eq!(text, docs_markdown());
}
