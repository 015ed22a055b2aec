//! OTLP metrics in both encodings.

use proptest::prelude::*;
use pulsewire_protocol::SampleFault;
use pulsewire_sources::Intake;
use pulsewire_sources::otlp::{OtlpEncoding, OtlpOptions, read};

use crate::encode::Message;
use crate::{faults, lines};

const AT_NANO: u64 = 1_762_603_200_000_000_000;

fn options(count_max: usize) -> OtlpOptions {
    OtlpOptions { resource_attributes: vec!["service.name".into(), "host.name".into()], count_max }
}

fn protobuf(request: &Message) -> Intake {
    read(&request.0, OtlpEncoding::Protobuf, &options(100)).unwrap()
}

fn json(body: &str) -> Intake {
    read(body.as_bytes(), OtlpEncoding::Json, &options(100)).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn text_pair(key: &str, value: &str) -> Message {
    Message::new().text(1, key).message(2, &Message::new().text(1, value))
}

/// A request of these metrics; the resource stands behind them, as it may.
fn request(metrics: &[Message]) -> Message {
    let scope = metrics.iter().fold(Message::new(), |scope, metric| scope.message(2, metric));
    let resource = Message::new()
        .message(1, &text_pair("service.name", "shop"))
        .message(1, &text_pair("telemetry.sdk.language", "python"));
    Message::new().message(1, &Message::new().message(2, &scope).message(1, &resource))
}

fn number_point(value: f64) -> Message {
    Message::new().fixed(3, AT_NANO).double(4, value).message(7, &text_pair("code", "200"))
}

fn gauge(name: &str, point: &Message) -> Message {
    Message::new().message(5, &Message::new().message(1, point)).text(1, name)
}

/// Every kind of metric, with all kinds of attributes.
fn everything() -> Message {
    let sum = |name: &str, temporality, monotonic| {
        let point = Message::new().fixed(3, AT_NANO).fixed(6, (-7_i64) as u64);
        let data = Message::new().message(1, &point).varint(2, temporality).varint(3, monotonic);
        Message::new().text(1, name).message(7, &data)
    };
    let value = |value: Message| Message::new().text(1, "k").message(2, &value);
    let attributes = [
        value(Message::new().varint(2, 1)),
        value(Message::new().varint(3, (-3_i64) as u64)),
        value(Message::new().double(4, 1.5)),
    ];
    let attributed = attributes.iter().enumerate().map(|(at, attribute)| {
        gauge(&format!("attribute.{at}"), &Message::new().double(4, 1.0).message(7, attribute))
    });
    let histogram = Message::new()
        .fixed(3, AT_NANO)
        .fixed(4, 20)
        .double(5, 150.5)
        .packed_fixed(6, &[10, 10, 0])
        .packed_fixed(7, &[10_f64.to_bits(), 20_f64.to_bits()])
        .message(9, &text_pair("route", "/"))
        .double(11, 1.0)
        .double(12, 19.25);
    let exponential = Message::new()
        .message(1, &text_pair("route", "/"))
        .fixed(4, 8)
        .zigzag(6, -1)
        .fixed(7, 1)
        .message(8, &Message::new().zigzag(1, 1).packed_varint(2, &[4]))
        .message(9, &Message::new().zigzag(1, -1).packed_varint(2, &[3]));
    let quantile = |share, value| Message::new().double(1, share).double(2, value);
    let summary = Message::new()
        .fixed(4, 3)
        .double(5, 6.0)
        .message(6, &quantile(0.0, 1.0))
        .message(6, &quantile(0.5, 2.0))
        .message(6, &quantile(0.9, 2.5))
        .message(6, &quantile(0.999, 2.75))
        .message(6, &quantile(1.0, 3.0))
        .message(6, &quantile(0.99, f64::NAN));
    let cumulative = |data: &Message| Message::new().message(1, data).varint(2, 2);
    let mut metrics = vec![
        gauge("cpu.percent", &number_point(75.5)),
        sum("requests", 2, 1),
        sum("in.flight", 2, 0),
        sum("delta", 1, 1),
    ];
    metrics.extend(attributed);
    metrics.extend([
        Message::new().text(1, "latency").message(9, &cumulative(&histogram)),
        Message::new().text(1, "size").message(10, &Message::new().message(1, &exponential).varint(2, 1)),
        Message::new().text(1, "wait").message(11, &Message::new().message(1, &summary)),
    ]);
    request(&metrics)
}

const EVERYTHING: &str = r#"{"resourceMetrics":[{"scopeMetrics":[{"scope":{"name":"x"},"metrics":[
 {"gauge":{"dataPoints":[{"timeUnixNano":"1762603200000000000","asDouble":75.5,"attributes":[{"key":"code","value":{"stringValue":"200"}}]}]},"name":"cpu.percent"},
 {"name":"requests","unit":"1","sum":{"dataPoints":[{"timeUnixNano":1762603200000000000,"asInt":"-7"}],"aggregationTemporality":2,"isMonotonic":true}},
 {"name":"in.flight","sum":{"dataPoints":[{"timeUnixNano":"1762603200000000000","asInt":-7}],"aggregationTemporality":2}},
 {"name":"delta","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"timeUnixNano":"1762603200000000000","asInt":"-7"}]}},
 {"name":"attribute.0","gauge":{"dataPoints":[{"asDouble":1,"attributes":[{"key":"k","value":{"boolValue":true}}]}]}},
 {"name":"attribute.1","gauge":{"dataPoints":[{"asDouble":"1","attributes":[{"key":"k","value":{"intValue":"-3"}}]}]}},
 {"name":"attribute.2","gauge":{"dataPoints":[{"asDouble":1.0,"attributes":[{"key":"k","value":{"doubleValue":1.5}}]}]}},
 {"name":"latency","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1762603200000000000","count":"20","sum":150.5,"bucketCounts":["10","10",0],"explicitBounds":[10,20.0],"min":1,"max":19.25,"attributes":[{"key":"route","value":{"stringValue":"\u002f"}}]}]}},
 {"name":"size","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[{"count":"8","scale":-1,"zeroCount":"1","positive":{"offset":1,"bucketCounts":["4"]},"negative":{"offset":-1,"bucketCounts":["3"]},"attributes":[{"key":"route","value":{"stringValue":"/"}}]}]}},
 {"name":"wait","summary":{"dataPoints":[{"count":"3","sum":6,"quantileValues":[{"quantile":0,"value":1},{"quantile":0.5,"value":2},{"quantile":0.9,"value":2.5},{"quantile":0.999,"value":2.75},{"quantile":1,"value":3},{"quantile":0.99,"value":"NaN"}]}]}}
]}],"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},{"key":"telemetry.sdk.language","value":{"stringValue":"python"}}]},"schemaUrl":"x","unknown":{"deep":[1]}}]}"#;

#[test]
fn every_kind_of_metric_becomes_samples_the_same_in_both_encodings() {
    let intake = protobuf(&everything());
    assert_eq!(
        lines(&intake),
        [
            "0 gauge cpu.percent 75.5 @1762603200000 code=200 service.name=shop",
            "1 counter requests -7 @1762603200000 service.name=shop",
            "2 gauge in.flight -7 @1762603200000 service.name=shop",
            "3 gauge delta -7 @1762603200000 service.name=shop",
            "4 gauge attribute.0 1.0 k=true service.name=shop",
            "5 gauge attribute.1 1.0 k=-3 service.name=shop",
            "6 gauge attribute.2 1.0 k=1.5 service.name=shop",
            "7 counter latency.count 20 @1762603200000 route=/ service.name=shop",
            "7 counter latency.sum 150.5 @1762603200000 route=/ service.name=shop",
            "7 histogram latency.p50 10.0 @1762603200000 route=/ service.name=shop",
            "7 histogram latency.p95 19.0 @1762603200000 route=/ service.name=shop",
            "7 histogram latency.p99 19.25 @1762603200000 route=/ service.name=shop",
            "8 gauge size.count 8 route=/ service.name=shop",
            "8 histogram size.p50 0.0 route=/ service.name=shop",
            "8 histogram size.p95 13.928809012737984 route=/ service.name=shop",
            "8 histogram size.p99 15.562479158596568 route=/ service.name=shop",
            "9 counter wait.count 3 service.name=shop",
            "9 counter wait.sum 6.0 service.name=shop",
            "9 histogram wait.min 1.0 service.name=shop",
            "9 histogram wait.p50 2.0 service.name=shop",
            "9 histogram wait.p90 2.5 service.name=shop",
            "9 histogram wait.p999 2.75 service.name=shop",
            "9 histogram wait.max 3.0 service.name=shop",
        ]
    );
    assert_eq!((intake.points_total, intake.refused.total()), (10, 0));
    assert_eq!(json(EVERYTHING), intake);
}

#[test]
fn a_data_point_that_cannot_be_taken_is_refused_alone() {
    let long = "x".repeat(65);
    let attribute = |pair: Message| Message::new().double(4, 1.0).message(7, &pair);
    let many = (0..16).fold(Message::new().double(4, 1.0), |point, at| {
        point.message(7, &text_pair(&format!("k{at}"), "v"))
    });
    let list = Message::new().text(1, "k").message(2, &Message::new().message(5, &Message::new()));
    let histogram = |name: &str, data: Message| {
        Message::new().text(1, name).message(9, &Message::new().message(1, &data))
    };
    for (metric, fault, part) in [
        (gauge("two words", &number_point(1.0)), SampleFault::Name, "two words"),
        (gauge(&"n".repeat(129), &number_point(1.0)), SampleFault::Name, "nnn…`"),
        (histogram(&"n".repeat(123), Message::new()), SampleFault::Name, "1 to 122 bytes"),
        (gauge("n", &number_point(f64::NAN)), SampleFault::Value, "not a finite number"),
        (gauge("n", &Message::new()), SampleFault::Value, "no value"),
        (gauge("n", &attribute(text_pair("k", &long))), SampleFault::Tags, "longer than 64 bytes"),
        (gauge("n", &attribute(text_pair(&long, "v"))), SampleFault::Tags, "longer than 64 bytes"),
        (gauge("n", &attribute(text_pair("", "v"))), SampleFault::Tags, "no key"),
        (gauge("n", &attribute(list)), SampleFault::Tags, "no text, number or boolean"),
        (gauge("n", &many), SampleFault::Tags, "more than 16 attributes"),
        (histogram("n", Message::new().packed_fixed(6, &[1, 2])), SampleFault::Malformed, "do not fit"),
        (histogram("n", Message::new().double(5, f64::INFINITY)), SampleFault::Value, "finite"),
    ] {
        let good = gauge("good", &number_point(1.0));
        let intake = protobuf(&request(&[good.clone(), metric, good]));
        let names: Vec<_> = lines(&intake).iter().map(|line| line[..12].to_owned()).collect();
        assert_eq!(names, ["0 gauge good", "2 gauge good"], "{part}");
        assert_eq!(faults(&intake), [(fault, 1)], "{part}");
        let first = intake.refused.first.clone().unwrap();
        assert!(first.contains(part) && first.len() < 200, "{part}: {first}");
    }
}

#[test]
fn a_point_that_says_that_there_is_no_value_is_passed_over() {
    let intake = protobuf(&request(&[gauge("n", &Message::new().varint(8, 1))]));
    assert_eq!((lines(&intake).len(), intake.without_value, intake.refused.total()), (0, 1, 0));
    let json = json(
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"n","gauge":{"dataPoints":[{"flags":1}]}}]}]}]}"#,
    );
    assert_eq!(json, intake);
}

#[test]
fn the_attribute_of_a_data_point_counts_more_than_that_of_its_resource() {
    let point = Message::new().double(4, 1.0).message(7, &text_pair("service.name", "other"));
    assert_eq!(lines(&protobuf(&request(&[gauge("n", &point)]))), ["0 gauge n 1.0 service.name=other"]);
}

#[test]
fn points_beyond_the_bound_are_refused_and_a_histogram_goes_whole_or_not_at_all() {
    let histogram = Message::new().fixed(4, 2).packed_fixed(6, &[2, 0]).packed_fixed(7, &[1_f64.to_bits()]);
    let histogram = Message::new().text(1, "h").message(9, &Message::new().message(1, &histogram));
    let small = gauge("n", &number_point(1.0));
    let body = request(&[small.clone(), histogram, small.clone(), small]);
    let intake = read(&body.0, OtlpEncoding::Protobuf, &options(2)).unwrap();
    assert_eq!(lines(&intake).len(), 2);
    assert_eq!(intake.points, [0, 2], "the histogram has four samples");
    assert_eq!(faults(&intake), [(SampleFault::BatchMax, 2)]);
    assert_eq!(intake.points_total, 4);
}

#[test]
fn a_request_that_cannot_be_decoded_is_refused_whole_and_an_empty_one_is_taken() {
    for body in [&b"\xff"[..], b"\x0a\x05abc", b"\x08\x01\x0b", b"\x0a\x02\x0a"] {
        assert!(read(body, OtlpEncoding::Protobuf, &options(9)).is_err(), "{body:?}");
    }
    for body in [
        "",
        "[]",
        "7",
        "{",
        r#"{"resourceMetrics":7}"#,
        r#"{"resourceMetrics":[7]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":7}]}]}]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"n","gauge":{"dataPoints":[{"asInt":"x"}]}}]}]}]}"#,
    ] {
        assert!(read(body.as_bytes(), OtlpEncoding::Json, &options(9)).is_err(), "{body}");
    }
    assert_eq!(protobuf(&Message::new()).points_total, 0);
    assert_eq!(json(r#"{"resourceMetrics":[]}"#).points_total, 0);
}

/// Row X1 of hostile input: what is built is bounded by `count_max`, not by how many messages there are.
#[test]
fn empty_messages_cost_nothing() {
    let body = [0x0a, 0].repeat(1 << 20);
    assert_eq!(read(&body, OtlpEncoding::Protobuf, &options(9)).unwrap().points_total, 0);
    let points = [0x0a, 0].repeat(1 << 20);
    let metric = Message::new().text(1, "n").bytes(5, &points);
    let intake = protobuf(&request(&[metric]));
    assert_eq!((intake.points_total, intake.samples.capacity()), (1 << 20, 0));
    assert_eq!(faults(&intake), [(SampleFault::Value, 1 << 20)]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for encoding in [OtlpEncoding::Protobuf, OtlpEncoding::Json] {
            let _ = read(&bytes, encoding, &options(9));
        }
    }

    #[test]
    fn nor_does_a_request_in_which_a_few_bytes_are_others(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        for (mut body, encoding) in [
            (everything().0, OtlpEncoding::Protobuf),
            (EVERYTHING.as_bytes().to_vec(), OtlpEncoding::Json),
        ] {
            for (at, byte) in &changes {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            if let Ok(intake) = read(&body, encoding, &options(9)) {
                prop_assert!(intake.samples.len() <= 9);
                prop_assert!(intake.samples.iter().all(|sample| sample.value.as_f64().is_finite()));
                let taken = intake.points.iter().collect::<std::collections::BTreeSet<_>>().len() as u64;
                prop_assert_eq!(intake.points_total, taken + intake.refused.total() + intake.without_value);
            }
        }
    }
}
