//! Metric frames are document 004's, byte for byte.

use std::sync::Arc;

use pulsewire_protocol::{
    ChannelName, Encoding, MetricKind, MetricSet, Number, Point, Reading, Series, Tags, encode_grouped,
    encode_points,
};

fn set(samples: &[(&'static str, Number)], tags: &Tags) -> MetricSet {
    let point = |(name, value): &(&'static str, Number)| Point {
        series: Arc::new(Series { id: 0, name: (*name).into(), kind: MetricKind::Gauge, tags: tags.clone() }),
        timestamp_ms: 1_762_603_200_000,
        reading: Reading::Value(*value),
    };
    let channel = ChannelName::parse("system.metrics").unwrap();
    MetricSet { channel, number: 1, interval: None, points: samples.iter().map(point).collect() }
}

fn grouped(samples: &[(&'static str, Number)]) -> String {
    let frames = encode_grouped(&set(samples, &Tags::default()), Encoding::Json);
    String::from_utf8(frames[0].payload().to_vec()).unwrap()
}

#[test]
fn the_grouped_example_of_document_004_comes_out_as_written() {
    let text = grouped(&[
        ("cpu.percent", 45.2.into()),
        ("cpu.count", 8_u64.into()),
        ("cpu.frequency", 2400.0.into()),
        ("memory.total", 16_777_216_000_u64.into()),
        ("memory.used", 8_388_608_000_u64.into()),
        ("memory.percent", 50.0.into()),
    ]);
    assert_eq!(
        text,
        r#"{"channel":"system.metrics","timestamp":"2025-11-08T12:00:00Z","cpu":{"percent":45.2,"count":8,"frequency":2400.0},"memory":{"total":16777216000,"used":8388608000,"percent":50.0}}"#
    );
}

#[test]
fn a_point_is_the_metric_data_of_document_004() {
    let tags = Tags::new([("host", "server1"), ("env", "production")]).unwrap();
    let frames = encode_points(&set(&[("cpu.percent", 75.5.into())], &tags), Encoding::Json);
    assert_eq!(
        std::str::from_utf8(frames[0].payload()).unwrap(),
        r#"{"channel":"system.metrics","name":"cpu.percent","type":"gauge","value":75.5,"timestamp":"2025-11-08T12:00:00Z","tags":{"env":"production","host":"server1"}}"#
    );
}

#[test]
fn names_that_collide_still_make_one_json_object() {
    let check = |samples: &[(&'static str, Number)], wanted: &str| {
        let text = grouped(samples);
        assert!(text.ends_with(&format!(",{wanted}}}")), "{text}");
    };
    let (one, two) = (Number::Whole(1), Number::Whole(2));
    check(&[("a", one), ("a", two)], r#""a":2"#);
    check(&[("a", one), ("a.b", two)], r#""a":{"value":1,"b":2}"#);
    check(&[("a.b", two), ("a", one)], r#""a":{"value":1,"b":2}"#);
    check(&[("a", one), ("a.value", two)], r#""a":{"value":2}"#);
    check(&[("success_rate", 95.0.into())], r#""success_rate":95.0"#);
    check(&[("nan", f64::NAN.into())], r#""nan":null"#);
}

#[test]
fn a_sample_cannot_take_the_place_of_channel_or_timestamp() {
    let text = grouped(&[("channel", 1_i64.into()), ("timestamp.x", 2_i64.into()), ("b", 3_i64.into())]);
    assert_eq!(text, r#"{"channel":"system.metrics","timestamp":"2025-11-08T12:00:00Z","b":3}"#);
}
