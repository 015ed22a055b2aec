//! A scrape stays small however much applications and clients try.

use pulsewire_telemetry::{
    Codec, Current, CustomMetrics, Format, Options, Proof, Telemetry, Transport, numbers, render,
};

use crate::parser::parse;

const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
// Pushed metrics leave room for ours, even with each name on three lines.
const _: () = assert!(CustomMetrics::BYTES_MAX <= PAGE_BYTES_MAX / 8);

/// Ten thousand connections and names, everything as long as it may be.
fn crowded() -> (std::sync::Arc<Telemetry>, Current) {
    let telemetry = Telemetry::new(Options::default());
    let shard = telemetry.shard();
    for n in 0..10_000_u64 {
        let id = telemetry.event_types().intern(&format!("{n:0>64}"));
        shard.event_emitted(id, 1 << 40);
        shard.event_received(id);
        shard.event_failed(id);
        shard.message_sent(id, 1 << 40, 1 << 40);
        shard.delivered(id, 300_000, 1 << 30);
        shard.receipt(id, 900_000_000 + n, Proof::TcpAck);
    }
    let label = |n: u64| format!("{n:0>64}");
    for n in 0..100_000_u64 {
        let name = format!("{:a>58}_{:05}", "", n / 50);
        let labels = [label(n), label(n + 1), label(n + 2), label(n + 3)];
        let names = [1, 2, 3, 4].map(|label| format!("{label:b>64}"));
        let pairs: Vec<_> = names.iter().map(String::as_str).zip(labels.iter().map(String::as_str)).collect();
        let _ = telemetry.custom().gauge(&name, &pairs, 123_456_789.125);
    }
    let mut now = Current::default();
    for n in 0..10_000 {
        now.connection(Transport::WebSocket, Codec::MsgPack, n % 130, n * 1000, n * 100_000);
        now.subscriptions_by_project.push((format!("{n:0>200}"), n));
    }
    (telemetry, now)
}

#[test]
fn a_page_of_ten_thousand_connections_is_under_two_mebibytes() {
    let (telemetry, now) = crowded();
    for format in [Format::Text004, Format::OpenMetrics] {
        let page = render(&telemetry, &now, format);
        assert!(page.len() < PAGE_BYTES_MAX, "{format:?} has {} bytes", page.len());
        let families = parse(&page, format);
        let types = families.iter().find(|(name, _)| name.starts_with("websocket_events_emitted")).unwrap().1;
        let types = types.samples.iter().filter(|s| !s.name.ends_with("_created")).count();
        assert_eq!(types, 201);
        assert_eq!(families["websocket_subscriptions_by_project"].samples.len(), 51);
    }
    let seen = numbers(&telemetry, &now);
    assert_eq!(seen["pulsewire_series_dropped_total{metric=\"event_type\"}"], 10_000.0 - 188.0);
    assert!(seen["pulsewire_series_dropped_total{metric=\"custom\"}"] > 90_000.0);
    assert_eq!(
        seen["websocket_metrics_series_dropped_total"],
        seen["pulsewire_series_dropped_total{metric=\"event_type\"}"]
            + seen["pulsewire_series_dropped_total{metric=\"custom\"}"]
    );
}
