//! What a client may say, and what it hears when it says it wrong.

use pulsewire_protocol::{
    ClientReport, ErrorCode, Event, Filter, GetHistory, Heartbeat, Interval, Kind, Position, Replay,
    RequestId, Shape, parse, request_from_msgpack, transcode,
};

fn kind(json: &str) -> Kind<'_> {
    parse(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}")).kind
}

fn refused(json: &str) -> ErrorCode {
    parse(json.as_bytes()).map(|request| panic!("{json}: {request:?}")).unwrap_err().code
}

#[test]
fn document_004_subscribe_is_read_in_both_nestings() {
    let nested = r#"{"type":"subscribe","data":{"channels":["system.metrics","workflow.metrics"],"tags":{"env":"production"},"aggregation_interval":"5s","compression":true}}"#;
    let flat = r#"{"type":"subscribe","channels":["system.metrics","workflow.metrics"],"tags":{"env":"production"},"aggregation_interval":"5s","compression":true}"#;
    for json in [nested, flat] {
        let Kind::Subscribe(subscribe) = kind(json) else { panic!("not a subscribe") };
        let names: Vec<_> = subscribe.channels.iter().map(|wanted| &*wanted.channel).collect();
        assert_eq!(names, ["system.metrics", "workflow.metrics"]);
        assert_eq!(subscribe.filter, Filter::equal([("env", "production")]).unwrap());
        assert_eq!(subscribe.interval, Some(Interval::S5));
        assert!(subscribe.compression);
    }
    let unsubscribe = r#"{"type":"unsubscribe","data":{"channels":["a"]}}"#;
    assert!(matches!(kind(unsubscribe), Kind::Unsubscribe { channels } if channels == ["a"]));
    let twice = r#"{"type":"subscribe","channels":["a"],"data":{"channels":["b"]}}"#;
    assert_eq!(refused(twice), ErrorCode::BadRequest);
}

#[test]
fn document_004_history_times_are_rfc_3339_or_milliseconds() {
    let json = r#"{"type":"get_history","data":{"channel":"system.metrics","start_time":"2025-11-08T00:00:00Z","end_time":1762563600000}}"#;
    let Kind::GetHistory(GetHistory { channel, start_ms, end_ms, .. }) = kind(json) else {
        panic!("not a history")
    };
    assert_eq!(
        (&*channel, start_ms, end_ms),
        ("system.metrics", Some(1_762_560_000_000), Some(1_762_563_600_000))
    );
    assert_eq!(
        refused(r#"{"type":"get_history","channel":"a","start_time":"yesterday"}"#),
        ErrorCode::BadRequest
    );
    assert_eq!(refused(r#"{"type":"get_history","channel":"a","limit":-1}"#), ErrorCode::BadRequest);
}

#[test]
fn a_channel_may_say_what_to_replay() {
    let check = |item: &str, replay| {
        let json = format!(r#"{{"type":"subscribe","channels":[{item}]}}"#);
        let Kind::Subscribe(subscribe) = kind(&json) else { panic!("not a subscribe") };
        assert_eq!((&*subscribe.channels[0].channel, &subscribe.channels[0].replay), ("run:1", &replay));
    };
    check(r#""run:1""#, Replay::Live);
    check(r#"{"channel":"run:1"}"#, Replay::Live);
    check(r#"{"channel":"run:1","last":10}"#, Replay::Last(10));
    check(r#"{"channel":"run:1","replay":"none"}"#, Replay::Live);
    check(r#"{"channel":"run:1","replay":"critical"}"#, Replay::Critical);
    let since = Replay::Since(Position::parse("e1:42").unwrap());
    check(r#"{"channel":"run:1","since":{"epoch":"e1","sequence":42}}"#, since);
}

#[test]
fn a_wrong_position_is_invalid_position_and_never_wraps() {
    let long = format!("{{\"epoch\":\"{}\",\"sequence\":1}}", "e".repeat(1 << 20));
    let sequences =
        ["-1", "1.5", "\"42\"", "9007199254740992", "18446744073709551615", "18446744073709551616", "null"];
    let objects = sequences.map(|sequence| format!(r#"{{"epoch":"e1","sequence":{sequence}}}"#));
    let others = [
        "null",
        "7",
        "\"e1:7\"",
        "{}",
        r#"{"epoch":"e1"}"#,
        r#"{"epoch":5,"sequence":1}"#,
        "[\"e1\",1]",
        &long,
    ];
    for since in objects.iter().map(String::as_str).chain(others) {
        let json =
            format!(r#"{{"type":"subscribe","id":1,"channels":[{{"channel":"run:1","since":{since}}}]}}"#);
        let error = parse(json.as_bytes()).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidPosition, "{since}");
        assert_eq!(error.id.as_ref().map(RequestId::as_json), Some("1"));
        assert!(error.detail.len() < 200);
    }
}

#[test]
fn an_id_is_a_text_or_a_number_and_comes_back_as_it_was_written() {
    for id in ["1", "-1.50e3", "\"a\"", "\"\\u00e9\"", "\"\""] {
        let json = format!(r#"{{"type":"ping","id":{id}}}"#);
        assert_eq!(parse(json.as_bytes()).unwrap().id.unwrap().as_json(), id);
    }
    let long = format!("\"{}\"", "x".repeat(127));
    for id in ["null", "true", "[1]", "{}", &long] {
        assert_eq!(refused(&format!(r#"{{"type":"ping","id":{id}}}"#)), ErrorCode::BadRequest, "{id}");
    }
}

/// R52a.
#[test]
fn a_ping_and_a_pong_may_say_how_the_client_is() {
    let check = |report: &str, expected: Option<ClientReport>| {
        for json in [
            format!(r#"{{"type":"pong","timestamp":1.5{report}}}"#),
            format!(r#"{{"type":"ping","timestamp":1.5{report}}}"#),
            format!(r#"{{"type":"pong","data":{{"timestamp":1.5{report}}}}}"#),
        ] {
            let (Kind::Ping { timestamp, report } | Kind::Pong { timestamp, report }) = kind(&json) else {
                panic!("{json}")
            };
            assert_eq!((timestamp, report), (Some(1.5), expected), "{json}");
        }
    };
    check("", None);
    check(r#","report":{}"#, Some(ClientReport::default()));
    check(r#","report":{"newer":[1]}"#, Some(ClientReport::default()));
    let all =
        ClientReport { queued: Some(3), handler_us: Some(12_500), gaps_healed: Some(1), visible: Some(true) };
    check(r#","report":{"queued":3,"handler_ms":12.5,"gaps_healed":1,"visible":true}"#, Some(all));
    let most = ClientReport {
        queued: Some(1_000_000),
        handler_us: Some(600_000_000),
        gaps_healed: Some(1_000_000),
        visible: Some(false),
    };
    let report = r#","report":{"queued":1000000,"handler_ms":6e5,"gaps_healed":1000000,"visible":false}"#;
    check(report, Some(most));
    let least = ClientReport { queued: Some(0), handler_us: Some(0), gaps_healed: Some(0), visible: None };
    check(r#","report":{"queued":0,"handler_ms":0,"gaps_healed":0}"#, Some(least));
}

#[test]
fn a_report_beyond_its_bounds_is_a_bad_request() {
    for report in [
        "null",
        "[]",
        "[3,12.5,1,true]",
        "\"fine\"",
        r#"{"queued":1000001}"#,
        r#"{"queued":-1}"#,
        r#"{"queued":1.5}"#,
        r#"{"queued":"3"}"#,
        r#"{"queued":null}"#,
        r#"{"queued":1,"queued":2}"#,
        r#"{"handler_ms":-0.1}"#,
        r#"{"handler_ms":600000.1}"#,
        r#"{"handler_ms":1e999}"#,
        r#"{"handler_ms":"NaN"}"#,
        r#"{"gaps_healed":1000001}"#,
        r#"{"visible":1}"#,
    ] {
        for kind in ["ping", "pong"] {
            let json = format!(r#"{{"type":"{kind}","report":{report}}}"#);
            assert_eq!(refused(&json), ErrorCode::BadRequest, "{json}");
        }
    }
}

#[test]
fn a_wrong_message_is_a_bad_request_that_keeps_its_id() {
    for json in [
        r#"{"id":7}"#,
        r#"{"id":7,"type":5}"#,
        r#"{"id":7,"type":""}"#,
        r#"{"id":7,"type":"two words"}"#,
        r#"{"id":7,"type":"subscribe"}"#,
        r#"{"id":7,"type":"subscribe","channels":[]}"#,
        r#"{"id":7,"type":"subscribe","channels":"a"}"#,
        r#"{"id":7,"type":"subscribe","channels":[5]}"#,
        r#"{"id":7,"type":"subscribe","channels":[{"last":5}]}"#,
        r#"{"id":7,"type":"subscribe","channels":[{"channel":"a","last":5,"replay":"none"}]}"#,
        r#"{"id":7,"type":"subscribe","channels":[{"channel":"a","lats":5}]}"#,
        r#"{"id":7,"type":"subscribe","channels":["a"],"aggregation_interval":"2s"}"#,
        r#"{"id":7,"type":"subscribe","channels":["a"],"compression":"yes"}"#,
        r#"{"id":7,"type":"subscribe","channels":["a"],"shape":"round"}"#,
        r#"{"id":7,"type":"subscribe","data":[]}"#,
        r#"{"id":7,"type":"unsubscribe","channels":[{}]}"#,
        r#"{"id":7,"type":"connect","session":"x"}"#,
        r#"{"id":7,"type":"connect","subscribe":5}"#,
        r#"{"id":7,"type":"connect","heartbeat":"often"}"#,
        r#"{"id":7,"type":"refresh"}"#,
        r#"{"id":7,"type":"ping","timestamp":"now"}"#,
        r#"{"id":7,"type":"receipt","channel":"a"}"#,
        r#"{"id":7,"type":"publish","channel":"a"}"#,
        r#"{"id":7,"type":"publish","event":"a"}"#,
        r#"{"id":7,"type":"publish","channel":"a","event":"b","events":[]}"#,
        r#"{"id":7,"type":"publish","events":[]}"#,
        r#"{"id":7,"type":"publish","events":[5]}"#,
        r#"{"id":7,"type":"publish","events":[{"channel":"a","type":"b","critcal":true}]}"#,
    ] {
        let error = parse(json.as_bytes()).map(|request| panic!("{json}: {request:?}")).unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest, "{json}");
        assert_eq!(error.id.as_ref().map(RequestId::as_json), Some("7"), "{json}");
    }
}

#[test]
fn what_is_no_message_at_all_is_a_bad_request() {
    for json in ["", " ", "null", "5", "[]", "\"x\"", "{", "{}", "{}x", r#"{"type":"ping","type":"ping"}"#] {
        assert_eq!(refused(json), ErrorCode::BadRequest, "{json}");
    }
    assert_eq!(parse(b"{\"type\":\"\xFF\"}").unwrap_err().code, ErrorCode::BadRequest);
}

#[test]
fn nesting_ends_at_32_levels_in_both_encodings() {
    let message =
        |depth: usize| format!(r#"{{"type":"x","data":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert!(parse(message(32).as_bytes()).is_ok());
    assert_eq!(refused(&message(33)), ErrorCode::BadRequest);
    assert_eq!(refused(&message(100_000)), ErrorCode::BadRequest);
    assert_eq!(refused(&"[".repeat(1 << 20)), ErrorCode::BadRequest);

    let mut scratch = Vec::new();
    let packed = transcode::json_to_msgpack(message(32).as_bytes()).unwrap();
    assert!(request_from_msgpack(&packed, &mut scratch).is_ok());
    let bomb = [0x91; 100_000];
    assert_eq!(request_from_msgpack(&bomb, &mut scratch).unwrap_err().code, ErrorCode::BadRequest);
}

#[test]
fn a_filter_has_at_most_16_tags_of_64_bytes() {
    let subscribe = |tags: &str| format!(r#"{{"type":"subscribe","channels":["a"],"tags":{tags}}}"#);
    let many = |count: usize| {
        let pairs: Vec<_> = (0..count).map(|at| format!(r#""k{at}":"v""#)).collect();
        format!("{{{}}}", pairs.join(","))
    };
    let long = |len| format!(r#"{{"k":"{}"}}"#, "v".repeat(len));
    for fine in [many(0), many(16), long(64)] {
        kind(&subscribe(&fine));
    }
    for wrong in [
        many(17),
        long(65),
        r#"{"a":1}"#.into(),
        "[]".into(),
        r#"{"a":"1","a":"2"}"#.into(),
        r#"{"":"x"}"#.into(),
    ] {
        assert_eq!(refused(&subscribe(&wrong)), ErrorCode::InvalidFilter, "{wrong}");
    }
}

#[test]
fn connect_carries_everything_a_client_needs_to_go_on() {
    let json = r#"{"type":"connect","token":"t","session":"01HF6ZQ8G00000000000000000","heartbeat":"message","subscribe":{"channels":["a"],"shape":"points"}}"#;
    let Kind::Connect(connect) = kind(json) else { panic!("not a connect") };
    assert_eq!(connect.token.as_deref(), Some("t"));
    assert_eq!(connect.session.unwrap().to_string(), "01HF6ZQ8G00000000000000000");
    assert_eq!(connect.heartbeat, Some(Heartbeat::Message));
    assert_eq!(connect.subscribe.unwrap().shape, Some(Shape::Points));
    let Kind::Connect(short) = kind(r#"{"type":"connect","subscribe":["a","b"]}"#) else {
        panic!("not a connect")
    };
    assert_eq!(short.subscribe.unwrap().channels.len(), 2);
}

#[test]
fn a_published_event_is_checked_and_its_payload_is_kept_to_the_byte() {
    let json = r#"{"type":"publish","id":1,"channel":"run:1","event":"GRAFT","data":{"b": 1,"a":[1e400,"\ud800"]},"message_id":"m 1","key":"k","tags":{"z":"1","a":"2"},"critical":true,"timestamp":1699459200000}"#;
    let Kind::Publish(events) = kind(json) else { panic!("not a publish") };
    let Event { channel, event_type, data, id, key, tags, critical, timestamp_ms } = &events[0];
    assert_eq!((channel.as_str(), event_type.as_str()), ("run:1", "GRAFT"));
    assert_eq!(data.get(), r#"{"b": 1,"a":[1e400,"\ud800"]}"#);
    assert_eq!((id.as_ref().unwrap().as_str(), key.as_deref()), ("m 1", Some("k")));
    assert_eq!(tags.iter().collect::<Vec<_>>(), [("a", "2"), ("z", "1")]);
    assert_eq!((*critical, *timestamp_ms), (Some(true), Some(1_699_459_200_000)));

    let batch =
        r#"{"type":"publish","events":[{"channel":"a","type":"x"},{"channel":"b","type":"y","data":null}]}"#;
    let Kind::Publish(events) = kind(batch) else { panic!("not a publish") };
    assert_eq!(events.iter().map(|event| event.data.get()).collect::<Vec<_>>(), ["null", "null"]);
}

#[test]
fn a_batch_names_the_event_that_is_wrong() {
    let body = br#"[{"channel":"a","type":"x"},{"channel":"a b","type":"x"}]"#;
    let error = Event::parse_batch(body, 10).unwrap_err();
    assert_eq!((error.index, error.code), (Some(1), ErrorCode::InvalidChannel));
    assert_eq!(Event::parse_batch(body, 1).unwrap_err().code, ErrorCode::LimitExceeded);
    assert_eq!(Event::parse_batch(b"[]", 1).unwrap_err().code, ErrorCode::BadRequest);
    assert_eq!(Event::parse_one(body).unwrap_err().code, ErrorCode::BadRequest);
    let events: Vec<_> = (0..501).map(|_| r#"{"channel":"a","type":"x"}"#).collect();
    let json = format!(r#"{{"type":"publish","events":[{}]}}"#, events.join(","));
    assert_eq!(refused(&json), ErrorCode::LimitExceeded);
}

#[test]
fn a_path_that_names_the_channel_fills_it_in() {
    let channel = "run:1".parse().unwrap();
    let one = Event::parse_batch_in(&channel, br#" {"type":"x","data":{}} "#, 10).unwrap();
    assert_eq!(one[0].channel, channel);
    let other = Event::parse_batch_in(&channel, br#"{"channel":"run:2","type":"x"}"#, 10);
    assert_eq!(other.unwrap_err().code, ErrorCode::BadRequest);
}

#[test]
fn any_other_type_is_a_client_event() {
    let json = r#"{"type":"task_assign","id":1,"channel":"workspace","data":{"task":1}}"#;
    let Kind::ClientEvent { event_type, channel, data } = kind(json) else { panic!("not a client event") };
    assert_eq!(
        (&*event_type, channel.as_deref(), data.get()),
        ("task_assign", Some("workspace"), r#"{"task":1}"#)
    );
    assert!(
        matches!(kind(r#"{"type":"message_send"}"#), Kind::ClientEvent { data, .. } if data.get() == "null")
    );
}

#[test]
fn a_message_names_at_most_4096_channels() {
    let subscribe = |count: usize| {
        let names = vec!["\"a\""; count].join(",");
        format!(r#"{{"type":"subscribe","channels":[{names}]}}"#)
    };
    kind(&subscribe(4096));
    assert_eq!(refused(&subscribe(4097)), ErrorCode::LimitExceeded);
}
