//! What the transcripts do not show about answers.

use pulsewire_protocol::{
    Ack, Answer, ChannelName, CloseCode, Encoding, ErrorAnswer, ErrorCode, Event, EventType, Gap, GapReason,
    History, Publication, Published, Reconnect, Refused, Sequence, encode_event, generated, transcode,
};
use serde_json::value::RawValue;

fn json(answer: &Answer<'_>) -> String {
    String::from_utf8(answer.encode(None, Encoding::Json).payload().to_vec()).unwrap()
}

fn channel() -> ChannelName {
    ChannelName::parse("run:1").unwrap()
}

fn event(data: &str) -> Event {
    let data = RawValue::from_string(data.to_owned()).unwrap();
    Event::new(channel(), EventType::parse("x").unwrap(), data)
}

#[test]
fn one_refused_event_is_an_error_and_one_of_several_is_a_result() {
    let refused = || Err(Refused { code: ErrorCode::Forbidden, detail: String::new() });
    let accepted = Ok(Published { channel: channel(), position: None, duplicate: false, matched: 2 });
    let one = json(&Answer::Ack(Ack::Published(&[refused()])));
    assert!(one.starts_with(r#"{"type":"error","message":"Forbidden","code":"forbidden","#), "{one}");
    assert_eq!(
        json(&Answer::Ack(Ack::Published(&[accepted, refused()]))),
        r#"{"type":"ack","results":[{"channel":"run:1","duplicate":false,"matched":2},{"error":{"code":"forbidden","message":"Forbidden"}}]}"#
    );
    assert_eq!(json(&Answer::Ack(Ack::Done)), r#"{"type":"ack"}"#);
}

#[test]
fn a_text_from_a_client_cannot_break_out_of_an_answer() {
    let error = ErrorAnswer { detail: "\",\"code\":\"x\n".into(), ..ErrorAnswer::new(ErrorCode::BadRequest) };
    let text = json(&Answer::Error(error));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["code"], "bad_request");
    assert_eq!(value["message"], "Bad request: \",\"code\":\"x\n");
}

#[test]
fn history_holds_the_publications_as_they_were_sent() {
    let event = event("[1]");
    let publication = Publication {
        event: &event,
        sequence: Some(Sequence(3)),
        previous: None,
        timestamp_ms: 5,
        user: None,
    };
    let frame = encode_event(&publication, Encoding::Json);
    let history = Answer::History(History {
        channel: &event.channel,
        epoch: None,
        events: &[frame.payload(), frame.payload()],
        gap: Some(Gap { from: Sequence(1), to: Sequence(2), reason: GapReason::Trimmed }),
        reset: None,
        next_sequence: Some(Sequence(4)),
    });
    let one = r#"{"type":"event","channel":"run:1","sequence":3,"event":"x","data":[1],"timestamp":5}"#;
    let wanted = format!(
        r#"{{"type":"history","channel":"run:1","events":[{one},{one}],"gap":{{"from":1,"to":2,"reason":"trimmed"}},"has_more":true,"next_sequence":4}}"#
    );
    assert_eq!(json(&history), wanted);
}

#[test]
fn a_payload_of_any_depth_is_written_without_a_panic() {
    for depth in [1, 31, 32, 33, 5000] {
        let data = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let event = event(&data);
        let publication =
            Publication { event: &event, sequence: None, previous: None, timestamp_ms: 5, user: None };
        let frame = encode_event(&publication, Encoding::Json);
        let events = [frame.payload()];
        let history = History {
            channel: &event.channel,
            epoch: None,
            events: &events,
            gap: None,
            reset: None,
            next_sequence: None,
        };
        let answer = Answer::History(history);
        let packed = answer.encode(None, Encoding::MsgPack);
        assert_eq!(packed.payload()[0], 0x84, "depth {depth}");
        let expected = if depth <= 32 { data.as_str() } else { "null" };
        assert!(json(&answer).contains(&format!("\"data\":{expected},")), "depth {depth}");
        assert!(json(&Answer::Ack(Ack::Data(&event.data))).ends_with(&format!("\"data\":{expected}}}")));
    }
}

#[test]
fn msgpack_answers_say_what_json_answers_say() {
    let channel = channel();
    let (from, to) = (Sequence(1), Sequence(u64::from(u32::MAX)));
    for answer in [
        Answer::Gap { channel: &channel, from, to, reason: GapReason::Corrupt },
        Answer::Reconnect { retry_ms: 9000, code: CloseCode::Draining },
        Answer::Pong { timestamp: None },
    ] {
        let mut back = Vec::new();
        transcode::msgpack_to_json(answer.encode(None, Encoding::MsgPack).payload(), &mut back).unwrap();
        assert_eq!(String::from_utf8(back).unwrap(), json(&answer));
    }
}

#[test]
fn every_code_is_in_every_generated_text() {
    let (page, script) = (generated::codes_markdown(), generated::codes_typescript());
    let constants: serde_json::Value = serde_json::from_str(&generated::constants_json()).unwrap();
    for code in ErrorCode::ALL {
        assert!(page.contains(&format!("| `{}` | {} |", code.name(), code.http_status())), "{code}");
        assert!(script.contains(&format!("  {}: {},\n", code.name(), code.retryable())), "{code}");
        assert_eq!(constants["errors"][code.name()]["status"], code.http_status());
    }
    for code in CloseCode::ALL {
        assert!(page.contains(&format!("| {} | `{}` |", code.code(), code.name())), "{code}");
        assert!(script.contains(&format!("  {}: '{}';\n", code.code(), code.name())), "{code}");
        assert_eq!(constants["closes"][code.code().to_string()]["name"], code.name());
        // Outside the ranges the script has to say it.
        let said = script.contains(&format!("  {}: {},\n", code.code(), code.reconnect() == Reconnect::Yes));
        let range = if code.code() < 4_500 { Reconnect::Yes } else { Reconnect::No };
        assert!(said != (code.code() >= 4_000) && (said || code.reconnect() == range), "{code}");
    }
    let script = generated::defaults_typescript();
    assert!(script.contains("\nexport const BACKOFF_MAX_MS = 10_000;\n"), "{script}");
    assert!(script.contains("\nexport const QUEUE_BYTES_MAX = 1_048_576;\n"), "{script}");
    assert!(script.contains("\nexport const POOR_QUEUED = 50;\n"), "{script}");
}
