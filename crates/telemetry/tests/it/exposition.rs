//! The pages a scraper gets.

use pulsewire_telemetry::{
    Closed, Codec, Current, DisconnectReason, Exposition, Format, Initiator, Options, Proof, Telemetry,
    Transport, content_type, negotiate, numbers, render,
};

use crate::parser::parse;

/// The lines of one family, with the moments of `_created` lines as `T`.
fn lines(page: &str, family: &str) -> String {
    let own = |line: &&str| {
        let name =
            line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')).map_or(*line, |(_, rest)| rest);
        let name = name.split(['{', ' ']).next().unwrap();
        let base = family.strip_suffix("_total").unwrap_or(family);
        name.strip_prefix(base).is_some_and(|end| {
            ["", "_total", "_created", "_bucket", "_sum", "_count", "_gsum", "_gcount"].contains(&end)
        })
    };
    let hidden = |line: &str| match line.rsplit_once(' ') {
        Some((series, _)) if series.contains("_created") => format!("{series} T\n"),
        _ => format!("{line}\n"),
    };
    page.lines().filter(own).map(hidden).collect()
}

fn check(format: Format, family: &str, expected: &str) {
    let telemetry = Telemetry::new(Options::default());
    let shard = telemetry.shard();
    let mut now = Current::default();
    for subscriptions in [0, 3, 3, 70, 101] {
        shard.connection_opened();
        now.connection(Transport::WebSocket, Codec::Json, subscriptions, 0, 0);
    }
    let ended = Closed {
        code: 1000,
        reason: DisconnectReason::ClientClose,
        initiator: Initiator::Client,
        lasted_ns: 12_500_000_000,
    };
    shard.connection_closed(&ended);
    now.subscriptions = 177;
    shard.initial_state_sent(1_000_000);
    shard.initial_state_sent(1_000_001);
    shard.initial_state_sent(9_000_000_000);
    assert_eq!(lines(&render(&telemetry, &now, format), family), expected);
}

#[test]
fn a_counter_in_text_has_its_whole_name() {
    check(
        Format::Text004,
        "websocket_connections_total",
        "\
# HELP websocket_connections_total Connections established, ended, and attempts that failed or were refused.
# TYPE websocket_connections_total counter
websocket_connections_total{status=\"opened\"} 5
websocket_connections_total{status=\"closed\"} 1
websocket_connections_total{status=\"failed\"} 0
",
    );
}

#[test]
fn a_counter_in_openmetrics_says_when_it_began() {
    check(
        Format::OpenMetrics,
        "websocket_connections_total",
        "\
# HELP websocket_connections Connections established, ended, and attempts that failed or were refused.
# TYPE websocket_connections counter
websocket_connections_total{status=\"opened\"} 5
websocket_connections_created{status=\"opened\"} T
websocket_connections_total{status=\"closed\"} 1
websocket_connections_created{status=\"closed\"} T
websocket_connections_total{status=\"failed\"} 0
websocket_connections_created{status=\"failed\"} T
",
    );
}

#[test]
fn a_histogram_has_inclusive_bounds_and_its_unit() {
    check(
        Format::OpenMetrics,
        "websocket_initial_state_latency_milliseconds",
        "\
# HELP websocket_initial_state_latency_milliseconds From an accepted request to the last byte of the initial state being handed to the kernel.
# TYPE websocket_initial_state_latency_milliseconds histogram
# UNIT websocket_initial_state_latency_milliseconds milliseconds
websocket_initial_state_latency_milliseconds_bucket{le=\"1.0\"} 1
websocket_initial_state_latency_milliseconds_bucket{le=\"2.5\"} 2
websocket_initial_state_latency_milliseconds_bucket{le=\"5.0\"} 2
websocket_initial_state_latency_milliseconds_bucket{le=\"10.0\"} 2
websocket_initial_state_latency_milliseconds_bucket{le=\"25.0\"} 2
websocket_initial_state_latency_milliseconds_bucket{le=\"50.0\"} 2
websocket_initial_state_latency_milliseconds_bucket{le=\"100.0\"} 2
websocket_initial_state_latency_milliseconds_bucket{le=\"250.0\"} 2
websocket_initial_state_latency_milliseconds_bucket{le=\"500.0\"} 2
websocket_initial_state_latency_milliseconds_bucket{le=\"1000.0\"} 2
websocket_initial_state_latency_milliseconds_bucket{le=\"2500.0\"} 2
websocket_initial_state_latency_milliseconds_bucket{le=\"5000.0\"} 2
websocket_initial_state_latency_milliseconds_bucket{le=\"+Inf\"} 3
websocket_initial_state_latency_milliseconds_sum 9002
websocket_initial_state_latency_milliseconds_count 3
websocket_initial_state_latency_milliseconds_created T
",
    );
}

#[test]
fn subscriptions_per_connection_show_the_present_in_both_forms() {
    let name = "websocket_subscriptions_per_connection";
    let help = format!(
        "# HELP {name} Live connections by their number of subscriptions now; each is counted once.\n"
    );
    let counts = [("0", 1), ("1", 1), ("2", 1), ("5", 3), ("10", 3), ("20", 3), ("50", 3), ("100", 4)];
    let text: String = counts.iter().map(|(le, n)| format!("{name}_bucket{{le=\"{le}\"}} {n}\n")).collect();
    let open: String = counts.iter().map(|(le, n)| format!("{name}_bucket{{le=\"{le}.0\"}} {n}\n")).collect();
    let last = format!("{name}_bucket{{le=\"+Inf\"}} 5\n");
    check(
        Format::Text004,
        name,
        &format!("{help}# TYPE {name} histogram\n{text}{last}{name}_sum 177\n{name}_count 5\n"),
    );
    check(
        Format::OpenMetrics,
        name,
        &format!("{help}# TYPE {name} gaugehistogram\n{open}{last}{name}_gsum 177\n{name}_gcount 5\n"),
    );
}

#[test]
fn a_gauge_with_a_counters_name_is_in_text_only() {
    let expected = "\
# HELP websocket_subscriptions_total Present subscriptions; a gauge in spite of its name, and not shown in OpenMetrics: use websocket_active_subscriptions.
# TYPE websocket_subscriptions_total gauge
websocket_subscriptions_total 177
";
    check(Format::Text004, "websocket_subscriptions_total", expected);
    check(Format::OpenMetrics, "websocket_subscriptions_total", "");
}

#[test]
fn ended_connections_last_a_time_in_seconds() {
    let telemetry = Telemetry::new(Options::default());
    let ended = |lasted_ns| Closed {
        code: 1006,
        reason: DisconnectReason::Network,
        initiator: Initiator::Network,
        lasted_ns,
    };
    telemetry.shard().connection_closed(&ended(12_500_000_000));
    telemetry.shared().connection_closed(&ended(90_000_000_000_000));
    let page = render(&telemetry, &Current::default(), Format::Text004);
    for line in [
        "websocket_connection_duration_seconds_bucket{le=\"10\"} 0",
        "websocket_connection_duration_seconds_bucket{le=\"15\"} 1",
        "websocket_connection_duration_seconds_bucket{le=\"86400\"} 1",
        "websocket_connection_duration_seconds_sum 90012.5",
        "websocket_connection_duration_seconds_count 2",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn one_measurement_under_several_names_is_the_same_in_each_unit() {
    let telemetry = Telemetry::new(Options::default());
    let id = telemetry.event_types().intern("agent:status");
    telemetry.shard().receipt(id, 1_250_000_000, Proof::AppAck);
    telemetry.shard().heartbeat_answered(30_000_000);
    let seen = numbers(&telemetry, &Current::default());
    assert_eq!(seen["websocket_message_latency_milliseconds_sum{event_type=\"agent:status\"}"], 1250.0);
    assert_eq!(seen["orchestrator_websocket_message_latency_sum"], 0.0, "a receipt alone is no round trip");
    assert_eq!(seen["pulsewire_delivery_seconds_sum{proof=\"app_ack\"}"], 1.25);
    assert_eq!(seen["websocket_heartbeat_rtt_milliseconds_sum"], 30.0);
    assert_eq!(seen["websocket_heartbeat_latency_milliseconds_sum"], 30.0);
    assert_eq!(seen["pulsewire_heartbeat_rtt_seconds_sum"], 0.03);
}

#[test]
fn both_forms_can_be_read_whatever_names_applications_choose() {
    let telemetry = Telemetry::new(Options { version: "1\"2\\3\n4".into(), ..Options::default() });
    for name in ["a\"b", "a\\b", "a\nb", "ping", "event", "other", "ünïcode", "le", "}"] {
        let id = telemetry.event_types().intern(name);
        telemetry.shared().event_emitted(id, 2);
        telemetry.shared().message_sent(id, 3, 30);
        telemetry.shared().event_received(id);
    }
    let mut now = Current::default();
    now.subscriptions_by_project.push(("p\"\\\n".into(), 4));
    for format in [Format::Text004, Format::OpenMetrics] {
        let families = parse(&render(&telemetry, &now, format), format);
        let emitted = if format == Format::Text004 {
            "websocket_events_emitted_total"
        } else {
            "websocket_events_emitted"
        };
        let named = |wanted: &str| {
            let samples = &families[emitted].samples;
            samples
                .iter()
                .find(|s| s.label("event_type") == Some(wanted) && !s.name.ends_with("_created"))
                .unwrap()
                .value
        };
        assert_eq!(["a\"b", "a\\b", "a\nb", "ping", "other", "}"].map(named), [2.0; 6]);
        let project = &families["websocket_subscriptions_by_project"].samples[0];
        assert_eq!((project.label("project_id"), project.value), (Some("p\"\\\n"), 4.0));
    }
}

#[test]
fn the_accept_header_chooses_the_form() {
    let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let cases = [
        (Some(prometheus_2), Format::OpenMetrics),
        (Some(prometheus_3), Format::OpenMetrics),
        (Some("application/openmetrics-text"), Format::OpenMetrics),
        (Some("Application/OpenMetrics-Text; version=\"1.0.0\""), Format::OpenMetrics),
        (Some("text/plain, application/openmetrics-text"), Format::OpenMetrics),
        (Some("application/openmetrics-text;q=0.2, text/plain"), Format::Text004),
        (Some("application/openmetrics-text;version=0.0.1"), Format::Text004),
        (Some("application/openmetrics-text;q=0"), Format::Text004),
        (Some("application/openmetrics-text;q=x"), Format::Text004),
        (Some("text/html,*/*;q=0.8"), Format::Text004),
        (Some(";;q=,,="), Format::Text004),
        (Some(""), Format::Text004),
        (None, Format::Text004),
    ];
    for (accept, expected) in cases {
        assert_eq!(negotiate(accept), Exposition::Text(expected), "{accept:?}");
    }
    assert_eq!(content_type(Format::Text004), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(
        content_type(Format::OpenMetrics),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
}

#[test]
fn the_documents_families_can_be_hidden_and_the_alias_renamed() {
    let page = |options| render(&Telemetry::new(options), &Current::default(), Format::Text004);
    let own = page(Options { compat: false, ..Options::default() });
    assert!(!own.contains("websocket_connections_total") && !own.contains("orchestrator_"));
    assert!(own.contains("pulsewire_connections{") && own.contains("process_open_fds"));
    let renamed = page(Options { alias_prefix: "acme_ws".into(), ..Options::default() });
    assert!(
        renamed.contains("\nacme_ws_connections_total 0\n") && !renamed.contains("orchestrator_websocket_")
    );
    // `websocket_connections_total` would be there twice.
    for refused in ["websocket", "a b", "", "9"] {
        let page = page(Options { alias_prefix: refused.into(), ..Options::default() });
        assert!(page.contains("\norchestrator_websocket_connections_total 0\n"), "{refused:?}");
        parse(&page, Format::Text004);
    }
}
