//! Samples as applications send them: what is read, and that a wrong one is refused alone.

use proptest::prelude::*;
use pulsewire_protocol::{
    BATCH_SAMPLES_MAX, ChannelName, ErrorCode, Kind, MetricKind, Number, Sample, SampleBatch, SampleFault,
    parse, read_samples, request_from_msgpack, transcode::json_to_msgpack,
};

fn read(json: &str) -> SampleBatch {
    read_samples(json.as_bytes(), None, 100).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// The batch as lines: channel, item, kind, name, value, time, tags.
fn lines(batch: &SampleBatch) -> Vec<String> {
    let line = |channel: &ChannelName, index: usize, sample: &Sample| {
        let value = match sample.value {
            Number::Whole(value) => value.to_string(),
            Number::Float(value) => format!("{value:?}"),
        };
        let moment = sample.timestamp_ms.map(|ms| format!(" @{ms}")).unwrap_or_default();
        let tags: String = sample.tags.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        format!("{channel} {index} {} {} {value}{moment}{tags}", sample.kind.name(), sample.name)
    };
    let samples = |group: &pulsewire_protocol::ChannelSamples| {
        let pairs = group.indexes.iter().zip(&group.samples);
        pairs.map(|(index, sample)| line(&group.channel, *index, sample)).collect::<Vec<_>>()
    };
    batch.channels.iter().flat_map(samples).collect()
}

fn faults(batch: &SampleBatch) -> Vec<(usize, SampleFault)> {
    batch.refused.iter().map(|refused| (refused.index.unwrap(), refused.fault)).collect()
}

#[test]
fn document_004_points_are_read() {
    let point = r#"{"channel":"system.metrics","name":"cpu.percent","type":"gauge","value":75.5,"timestamp":"2025-11-08T12:00:00Z","tags":{"host":"server1","env":"production"}}"#;
    let wanted = "system.metrics 0 gauge cpu.percent 75.5 @1762603200000 env=production host=server1";
    assert_eq!(lines(&read(point)), [wanted]);
    assert_eq!(lines(&read(&format!(" [{point}] "))), [wanted]);
    let short = r#"{"channel":"a.metrics","name":"n","value":8,"timestamp":1762603200000}"#;
    assert_eq!(lines(&read(short)), ["a.metrics 0 gauge n 8 @1762603200000"]);
    let counter = r#"[{"channel":"a.metrics","name":"n","value":1e2,"type":"counter"},{"channel":"b.metrics","name":"h","value":-0.5,"type":"histogram"}]"#;
    assert_eq!(lines(&read(counter)), ["a.metrics 0 counter n 100.0", "b.metrics 1 histogram h -0.5"]);
}

#[test]
fn document_004_grouped_documents_become_a_sample_for_each_number() {
    let document = r#"{"channel":"system.metrics","timestamp":"2025-11-08T12:00:00Z","cpu":{"percent":45.2,"count":8,"frequency":2400.0},"memory":{"total":16777216000},"throughput":50.5,"tags":{"host":"a"}}"#;
    assert_eq!(
        lines(&read(document)),
        [
            "system.metrics 0 gauge cpu.percent 45.2 @1762603200000 host=a",
            "system.metrics 0 gauge cpu.count 8 @1762603200000 host=a",
            "system.metrics 0 gauge cpu.frequency 2400.0 @1762603200000 host=a",
            "system.metrics 0 gauge memory.total 16777216000 @1762603200000 host=a",
            "system.metrics 0 gauge throughput 50.5 @1762603200000 host=a",
        ]
    );
    let deep = |parts: usize| {
        let inner = format!("{}1{}", "{\"p\":".repeat(parts - 1), "}".repeat(parts - 1));
        read(&format!(r#"{{"channel":"a.metrics","p":{inner},"q":2}}"#))
    };
    assert_eq!(lines(&deep(8))[0], "a.metrics 0 gauge p.p.p.p.p.p.p.p 1");
    assert_eq!(lines(&deep(9)), ["a.metrics 0 gauge q 2"], "what lies too deep is refused alone");
    assert_eq!(faults(&deep(9)), [(0, SampleFault::Name)]);
}

#[test]
fn the_channel_may_come_from_around_the_items() {
    let wrapped = r#"{"channel":"a.metrics","samples":[{"name":"n","value":1},{"x":2},{"channel":"a.metrics","name":"n","value":3},{"channel":"b.metrics","name":"n","value":4}]}"#;
    let batch = read(wrapped);
    assert_eq!(
        lines(&batch),
        ["a.metrics 0 gauge n 1", "a.metrics 1 gauge x 2", "a.metrics 2 gauge n 3"],
        "an item that names another channel is refused"
    );
    assert_eq!(faults(&batch), [(3, SampleFault::Channel)]);
    let given = ChannelName::parse("a.metrics").unwrap();
    let batch = read_samples(br#"{"name":"n","value":1}"#, Some(&given), 100).unwrap();
    assert_eq!(lines(&batch), ["a.metrics 0 gauge n 1"]);
    let other = read_samples(br#"{"channel":"b.metrics","samples":[{"x":1}]}"#, Some(&given), 100);
    assert_eq!(other.unwrap_err().fault, SampleFault::Channel);
    // A number called `samples` is a number.
    assert_eq!(lines(&read(r#"{"channel":"a.metrics","samples":3}"#)), ["a.metrics 0 gauge samples 3"]);
}

#[test]
fn a_wrong_item_is_refused_alone() {
    let good = r#"{"channel":"a.metrics","name":"good","value":1}"#;
    let long = "x".repeat(65);
    for (wrong, fault, code) in [
        ("7", SampleFault::Malformed, ErrorCode::BadRequest),
        (r#"{"name":"n","value":1}"#, SampleFault::Channel, ErrorCode::BadRequest),
        (r#"{"channel":7,"name":"n","value":1}"#, SampleFault::Channel, ErrorCode::BadRequest),
        (r#"{"channel":"a b","name":"n","value":1}"#, SampleFault::Channel, ErrorCode::InvalidChannel),
        (r#"{"channel":"a.metrics","name":"two words","value":1}"#, SampleFault::Name, ErrorCode::BadRequest),
        (r#"{"channel":"a.metrics","name":1,"value":1}"#, SampleFault::Name, ErrorCode::BadRequest),
        (r#"{"channel":"a.metrics","type":"gauge","value":1}"#, SampleFault::Name, ErrorCode::BadRequest),
        (r#"{"channel":"a.metrics","name":"n"}"#, SampleFault::Value, ErrorCode::BadRequest),
        (r#"{"channel":"a.metrics","name":"n","value":null}"#, SampleFault::Value, ErrorCode::BadRequest),
        (r#"{"channel":"a.metrics","name":"n","value":"1"}"#, SampleFault::Value, ErrorCode::BadRequest),
        (r#"{"channel":"a.metrics","name":"n","value":1e999}"#, SampleFault::Value, ErrorCode::BadRequest),
        (
            r#"{"channel":"a.metrics","name":"n","value":1,"type":"set"}"#,
            SampleFault::Malformed,
            ErrorCode::BadRequest,
        ),
        (
            r#"{"channel":"a.metrics","name":"n","value":1,"unit":"s"}"#,
            SampleFault::Malformed,
            ErrorCode::BadRequest,
        ),
        (
            r#"{"channel":"a.metrics","name":"n","value":1,"value":2}"#,
            SampleFault::Malformed,
            ErrorCode::BadRequest,
        ),
        (
            r#"{"channel":"a.metrics","channel":"a.metrics","name":"n","value":1}"#,
            SampleFault::Malformed,
            ErrorCode::BadRequest,
        ),
        (
            r#"{"channel":"a.metrics","name":"n","value":1,"timestamp":"noon"}"#,
            SampleFault::Malformed,
            ErrorCode::BadRequest,
        ),
        (
            r#"{"channel":"a.metrics","name":"n","value":1,"timestamp":-1}"#,
            SampleFault::Malformed,
            ErrorCode::BadRequest,
        ),
        (
            r#"{"channel":"a.metrics","name":"n","value":1,"tags":{"a":1}}"#,
            SampleFault::Tags,
            ErrorCode::BadRequest,
        ),
        (
            &format!(r#"{{"channel":"a.metrics","name":"n","value":1,"tags":{{"a":"{long}"}}}}"#),
            SampleFault::Tags,
            ErrorCode::BadRequest,
        ),
        (r#"{"channel":"a.metrics","x":true}"#, SampleFault::Value, ErrorCode::BadRequest),
        (r#"{"channel":"a.metrics","x":[1]}"#, SampleFault::Value, ErrorCode::BadRequest),
        (r#"{"channel":"a.metrics","a b":1}"#, SampleFault::Name, ErrorCode::BadRequest),
    ] {
        let batch = read(&format!("[{good},{wrong},{good}]"));
        assert_eq!(lines(&batch), ["a.metrics 0 gauge good 1", "a.metrics 2 gauge good 1"], "{wrong}");
        assert_eq!(faults(&batch), [(1, fault)], "{wrong}");
        assert_eq!(batch.refused[0].code, code, "{wrong}");
        assert!(batch.refused[0].detail.len() < 200, "{wrong}: {}", batch.refused[0].detail);
    }
    let document = read(r#"{"channel":"a.metrics","cpu":{"percent":1.5,"state":"idle","mode":null},"ok":2}"#);
    assert_eq!(lines(&document), ["a.metrics 0 gauge cpu.percent 1.5", "a.metrics 0 gauge ok 2"]);
    assert_eq!(faults(&document), [(0, SampleFault::Value); 2]);
    assert_eq!(document.refused[0].to_string(), "item 0: `cpu.state` is not a finite number");
}

#[test]
fn a_body_of_another_shape_and_one_with_too_many_samples_are_refused_whole() {
    let check = |json: &str, fault, part: &str| {
        let error = read_samples(json.as_bytes(), None, 3).expect_err(json);
        assert_eq!((error.index, error.fault), (None, fault), "{json}");
        assert!(error.detail.contains(part), "{json}: {error}");
    };
    check("", SampleFault::Malformed, "EOF");
    check("7", SampleFault::Malformed, "not an object");
    check("[]", SampleFault::Malformed, "no samples");
    check(r#"[{"name":"n"},"#, SampleFault::Malformed, "EOF");
    check(r#"{"samples":[]}"#, SampleFault::Malformed, "no samples");
    check(r#"{"samples":[1],"tags":{}}"#, SampleFault::Malformed, "`tags` does not belong");
    check(r#"{"channel":"a b","samples":[1]}"#, SampleFault::Channel, "");
    check(&"[".repeat(40), SampleFault::Malformed, "nested");
    check("[1,2,3,4]", SampleFault::BatchMax, "more than 3");
    check(r#"{"channel":"a.metrics","a":1,"b":{"c":2,"d":3},"e":4}"#, SampleFault::BatchMax, "more than 3");
    check(
        r#"[{"channel":"a.metrics","a":1,"b":2},{"channel":"a.metrics","a":1,"b":2}]"#,
        SampleFault::BatchMax,
        "",
    );
    let empties = format!(r#"{{"channel":"a.metrics","x":{{{}"z":{{}}}}}}"#, r#""y":{},"#.repeat(3));
    check(&empties, SampleFault::BatchMax, "more than 3");
    assert_eq!(read_samples(b"\xff", None, 3).unwrap_err().fault, SampleFault::Malformed);
    let full = r#"{"channel":"a.metrics","a":1,"b":{"c":2,"d":3}}"#;
    assert_eq!(lines(&read_samples(full.as_bytes(), None, 3).unwrap()).len(), 3, "exactly as many go");
}

#[test]
fn a_samples_message_is_read_in_both_nestings_and_encodings() {
    let flat = r#"{"type":"samples","id":7,"channel":"agent.metrics","samples":[{"name":"n","value":1,"type":"counter"},{"name":"n"}]}"#;
    let nested = r#"{"type":"samples","id":7,"data":{"channel":"agent.metrics","samples":[{"name":"n","value":1,"type":"counter"},{"name":"n"}]}}"#;
    let packed = json_to_msgpack(flat.as_bytes()).unwrap();
    let mut scratch = Vec::new();
    let unpacked = request_from_msgpack(&packed, &mut scratch).unwrap();
    for request in [parse(flat.as_bytes()).unwrap(), parse(nested.as_bytes()).unwrap(), unpacked] {
        assert_eq!(request.id.unwrap().as_json(), "7");
        let Kind::Samples(batch) = request.kind else { panic!("not samples") };
        assert_eq!(lines(&batch), ["agent.metrics 0 counter n 1"]);
        assert_eq!(batch.channels[0].samples[0].kind, MetricKind::Counter);
        assert_eq!(faults(&batch), [(1, SampleFault::Value)]);
    }
    let message =
        |members: &str| parse(format!(r#"{{"type":"samples","id":7{members}}}"#).as_bytes()).map(|_| ());
    for (members, code) in [
        ("", ErrorCode::BadRequest),
        (r#","samples":{}"#, ErrorCode::BadRequest),
        (r#","samples":[]"#, ErrorCode::BadRequest),
        (r#","channel":"a b","samples":[1]"#, ErrorCode::InvalidChannel),
        (&format!(r#","samples":[{}1]"#, "1,".repeat(BATCH_SAMPLES_MAX)), ErrorCode::LimitExceeded),
    ] {
        let error = message(members).unwrap_err();
        assert_eq!((error.code, error.id.unwrap().as_json()), (code, "7"), "{members}");
    }
    assert!(message(&format!(r#","samples":[{}1]"#, "1,".repeat(BATCH_SAMPLES_MAX - 1))).is_ok());
}

/// Items that are nearly right, so that a good share of them is.
fn item() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        any::<i64>().prop_map(|value| value.to_string()),
        prop::num::f64::NORMAL.prop_map(|value| format!("{value:e}")),
        Just("null".to_owned()),
        Just(r#"{"a":1,"b":{"c":2.5}}"#.to_owned()),
        Just("{}".to_owned()),
        Just(r#""text""#.to_owned()),
    ];
    let key = prop_oneof![
        Just("name"),
        Just("value"),
        Just("type"),
        Just("timestamp"),
        Just("tags"),
        Just("channel"),
        Just("cpu"),
        Just("a.b"),
        Just("two words"),
        Just("samples"),
    ];
    let fixed = prop_oneof![
        Just(String::new()),
        Just(r#""name":"n","#.to_owned()),
        Just(r#""tags":{"host":"a"},"#.to_owned()),
    ];
    let members = prop::collection::vec((key, value), 0..5);
    (fixed, members).prop_map(|(fixed, members)| {
        let members: String = members.iter().map(|(key, value)| format!(r#""{key}":{value},"#)).collect();
        format!(r#"{{{fixed}{members}"last":1}}"#)
    })
}

proptest! {
    #[test]
    fn whatever_bytes_come_what_is_read_is_good_and_within_the_bound(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        text in r#"[\[\]{}:,"a-c0-9.eE+\- ]{0,40}"#,
        count_max in 0_usize..4,
    ) {
        for json in [&bytes, text.as_bytes()] {
            if let Ok(batch) = read_samples(json, None, count_max) {
                check(&batch, count_max);
            }
        }
    }

    #[test]
    fn an_item_is_read_the_same_whatever_stands_beside_it(items in prop::collection::vec(item(), 1..6)) {
        let channel = ChannelName::parse("a.metrics").unwrap();
        let together = read_samples(format!("[{}]", items.join(",")).as_bytes(), Some(&channel), 1_000).unwrap();
        check(&together, 1_000);
        let (mut good, mut wrong) = (Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate() {
            let alone = read_samples(format!("[{item}]").as_bytes(), Some(&channel), 1_000).unwrap();
            good.extend(alone.channels.iter().flat_map(|group| group.samples.clone()).map(|one| (index, one)));
            wrong.extend(alone.refused.into_iter().map(|one| (index, one.detail)));
        }
        let of = |group: &pulsewire_protocol::ChannelSamples| {
            group.indexes.iter().copied().zip(group.samples.iter().cloned()).collect::<Vec<_>>()
        };
        prop_assert_eq!(together.channels.iter().flat_map(of).collect::<Vec<_>>(), good);
        let refused = together.refused.into_iter().map(|one| (one.index.unwrap(), one.detail));
        prop_assert_eq!(refused.collect::<Vec<_>>(), wrong);
    }
}

fn check(batch: &SampleBatch, count_max: usize) {
    let samples: usize = batch.channels.iter().map(|group| group.samples.len()).sum();
    assert!(samples + batch.refused.len() <= count_max);
    for group in &batch.channels {
        assert_eq!(group.samples.len(), group.indexes.len());
        for sample in &group.samples {
            assert!(Sample::is_name(&sample.name), "{sample:?}");
            assert!(sample.value.as_f64().is_finite(), "{sample:?}");
        }
    }
}
