//! What holds for every input.

use proptest::collection::vec;
use proptest::prelude::*;
use pulsewire_protocol::{
    ChannelName, ChannelPattern, Event, MessageId, Position, Sequence, SessionId, parse,
    request_from_msgpack,
    transcode::{TranscodeError, json_to_msgpack, msgpack_to_json, output_bytes_max},
};
use serde_json::{Value, json};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-200_i64..300).prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z]{20,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 200, 40, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..40).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_survives_the_way_through_msgpack(value in any_json()) {
        let packed = json_to_msgpack(value.to_string().as_bytes()).unwrap();
        let mut back = Vec::new();
        match msgpack_to_json(&packed, &mut back) {
            Ok(()) => prop_assert_eq!(String::from_utf8(back).unwrap(), value.to_string()),
            Err(error) => prop_assert!(matches!(error, TranscodeError::TooLarge { .. }), "{}", error),
        }
    }

    #[test]
    fn pretty_json_packs_like_compact_json(value in any_json()) {
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(json_to_msgpack(pretty.as_bytes()), json_to_msgpack(value.to_string().as_bytes()));
    }

    #[test]
    fn what_packs_is_json_and_what_unpacks_is_json(bytes in vec(any::<u8>(), 0..200)) {
        let mut json = Vec::new();
        if msgpack_to_json(&bytes, &mut json).is_ok() {
            prop_assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&json).is_ok());
            prop_assert!(json_to_msgpack(&json).is_ok());
        }
    }

    #[test]
    fn the_packer_takes_exactly_what_serde_takes(text in r#"[\[\]{}:,"\\ a-f0-9.eE+\-nulltrs]{0,24}"#) {
        let serde = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
        prop_assert_eq!(json_to_msgpack(text.as_bytes()).is_ok(), serde, "{}", text);
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
        let _ = request_from_msgpack(&bytes, &mut Vec::new());
        let _ = Event::parse_batch(&bytes, 10);
        let text = String::from_utf8_lossy(&bytes);
        let _ = (ChannelName::parse(&text), ChannelPattern::parse(&text), Position::parse(&text));
        let _ = (SessionId::parse(&text), MessageId::parse(&text), Sequence::parse(&text));
    }

    #[test]
    fn a_message_with_any_member_wrong_never_panics(
        name in "(connect|subscribe|publish|get_history|receipt|unsubscribe|refresh|ping|x)",
        members in vec(("(id|data|token|session|subscribe|channels|channel|tags|events|event|since|limit|sequence)", any_json()), 0..4),
    ) {
        let mut message = json!({ "type": name });
        for (key, value) in members {
            message[key] = value;
        }
        let text = message.to_string();
        let packed = json_to_msgpack(text.as_bytes());
        let mut scratch = Vec::new();
        let from_json = parse(text.as_bytes()).map(|request| format!("{request:?}"));
        if let Ok(packed) = packed && msgpack_to_json(&packed, &mut Vec::new()).is_ok() {
            let from_msgpack = request_from_msgpack(&packed, &mut scratch);
            prop_assert_eq!(from_json.is_ok(), from_msgpack.is_ok());
        }
    }

    #[test]
    fn the_json_of_a_msgpack_bomb_stays_within_its_bound(byte in any::<u8>(), len in 0_usize..100_000, items in any::<u32>()) {
        let mut bomb = vec![0xDD];
        bomb.extend_from_slice(&items.to_be_bytes());
        bomb.extend(std::iter::repeat_n(byte, len));
        let mut out = Vec::new();
        let _ = msgpack_to_json(&bomb, &mut out);
        prop_assert!(out.len() <= output_bytes_max(bomb.len()) + 32);
        prop_assert!(out.capacity() <= output_bytes_max(bomb.len()) + 64);
    }

    #[test]
    fn a_channel_name_reads_back_and_matches_itself(text in "[A-Za-z0-9._/@#+=~-]{1,100}(:[A-Za-z0-9._/@#+=~-]{1,100})?") {
        let name = ChannelName::parse(&text).unwrap();
        prop_assert_eq!(name.to_string(), text.clone());
        prop_assert!(ChannelPattern::parse(&text).unwrap().matches(&name));
        prop_assert!(ChannelPattern::parse("*").unwrap().matches(&name));
        let (start, end) = text.split_at(text.len() / 2);
        let pattern = format!("{start}*{end}");
        prop_assert!(ChannelPattern::parse(&pattern).unwrap().matches(&name));
    }

    #[test]
    fn a_position_reads_back(epoch in "[A-Za-z0-9]{1,32}", sequence in 0..=Sequence::MAX.0) {
        let text = format!("{epoch}:{sequence}");
        prop_assert_eq!(Position::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn a_session_id_reads_back(time_ms in 0_u64..1 << 48, shard: u8, slot in 0_u32..1 << 24, random: u64) {
        let id = SessionId::new(time_ms, shard, slot, random);
        prop_assert_eq!((id.time_ms(), id.shard(), id.slot()), (time_ms, shard, slot));
        prop_assert_eq!(SessionId::parse(&id.to_string()), Ok(id));
    }
}

#[test]
fn a_length_that_is_not_there_is_refused_at_once() {
    let mut out = Vec::new();
    for head in
        [[0xDD, 0xFF, 0xFF, 0xFF, 0xFF], [0xDF, 0xFF, 0xFF, 0xFF, 0xFF], [0xDB, 0xFF, 0xFF, 0xFF, 0xFF]]
    {
        assert!(msgpack_to_json(&head, &mut out).is_err());
        assert!(out.capacity() < 1024);
    }
}

#[test]
fn a_large_message_of_nils_is_refused() {
    let mut nils = vec![0xDD, 0, 1, 0, 0];
    nils.resize(5 + 65_536, 0xC0);
    let mut out = Vec::new();
    assert!(matches!(msgpack_to_json(&nils, &mut out), Err(TranscodeError::TooLarge { .. })));
    assert!(out.capacity() <= 4 * nils.len() + 64);
}

#[test]
fn what_json_cannot_say_is_refused_and_what_msgpack_can_say_is_kept() {
    let mut out = Vec::new();
    let nan = [&[0xCB][..], &f64::NAN.to_be_bytes()].concat();
    for wrong in [&nan[..], &[0xC4, 1, 0], &[0xD4, 1, 0], &[0x81, 1, 1], &[0xA1, 0xFF], &[0xC1], &[1, 1], &[]]
    {
        assert!(msgpack_to_json(wrong, &mut out).is_err(), "{wrong:?}");
    }
    assert_eq!(
        json_to_msgpack(br#""\ud83d\ude00""#).unwrap(),
        [&[0xA4][..], "\u{1F600}".as_bytes()].concat()
    );
    assert_eq!(
        json_to_msgpack(br#""\ud83d\ud83d""#).unwrap(),
        [&[0xA6][..], "\u{FFFD}\u{FFFD}".as_bytes()].concat()
    );
    assert_eq!(json_to_msgpack(b"-0").unwrap(), [&[0xCB][..], &(-0.0_f64).to_be_bytes()].concat());
    assert_eq!(json_to_msgpack(b"1e400").unwrap(), [&[0xCB][..], &f64::INFINITY.to_be_bytes()].concat());
}
