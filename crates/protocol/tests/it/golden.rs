//! Every transcript in `tests/golden` is what this crate reads and writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pulsewire_protocol::{
    Ack, Answer, ChannelName, CloseCode, Connected, Encoding, Epoch, ErrorAnswer, ErrorCode, Event,
    EventType, Figures, Frame, Gap, GapReason, History, Interval, Kind, Member, MessageId, MetricKind,
    MetricSet, Number, Point, Position, Presence, PresenceChange, Publication, Published, Reading, Refused,
    RequestId, Sequence, Series, SeriesPage, SessionId, State, Tags, encode_event, encode_grouped,
    encode_points, parse, request_from_msgpack, transcode,
};
use serde_json::Value;
use serde_json::value::RawValue;

const SESSION: &str = "01HF6ZQ8G00000000000000000";

#[test]
fn every_line_of_every_transcript_is_read_or_written_as_it_stands() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            check_transcript(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap());
            files += 1;
        }
    }
    assert!(files >= 7, "only {files} transcripts found");
}

#[test]
fn every_example_of_the_protocol_page_is_read_or_written_as_it_stands() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut examples = 0;
    // What HTTP answers are made of is the server's; its tests read them.
    let messages = page.lines().enumerate().take_while(|(_, line)| !line.starts_with("## Reading over HTTP"));
    for (at, line) in messages {
        let json = line.strip_prefix("> ").or_else(|| line.strip_prefix("< ")).unwrap_or(line);
        if !json.starts_with("{\"") {
            continue;
        }
        let place = format!("docs/protocol.md:{}", at + 1);
        let kind = parse(json.as_bytes()).map(|request| request.kind);
        match kind {
            // Whatever is no request of ours looks like a client event, or has no type.
            Err(_) => check_server_line(&place, json),
            Ok(Kind::ClientEvent { event_type, .. }) if event_type != "task_assign" => {
                check_server_line(&place, json);
            }
            Ok(_) => assert_eq!(check_client_line(&place, json), None),
        }
        examples += 1;
    }
    assert!(examples >= 40, "only {examples} examples found");
}

fn check_transcript(name: &str, text: &str) {
    let mut refused: Option<(ErrorCode, Option<RequestId>, String)> = None;
    for (at, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", at + 1);
        match line.split_at_checked(2) {
            Some(("# " | "@ " | ". ", _)) => {}
            Some(("> ", message)) => {
                assert!(refused.is_none(), "{place}: the refused request before this line was not answered");
                refused = check_client_line(&place, &filled(message));
            }
            Some(("< ", message)) => {
                let message = filled(message);
                if let Some((code, id, detail)) = refused.take() {
                    let error = ErrorAnswer { detail: detail.into(), ..ErrorAnswer::new(code) };
                    let frame = Answer::Error(error).encode(id.as_ref(), Encoding::Json);
                    assert_eq!(std::str::from_utf8(frame.payload()).unwrap(), message, "{place}");
                }
                check_server_line(&place, &message);
            }
            _ => panic!("{place}: not a transcript line"),
        }
    }
}

fn check_client_line(place: &str, json: &str) -> Option<(ErrorCode, Option<RequestId>, String)> {
    let packed = transcode::json_to_msgpack(json.as_bytes()).unwrap();
    let mut scratch = Vec::new();
    let from_msgpack = request_from_msgpack(&packed, &mut scratch);
    let from_json = parse(json.as_bytes());
    assert_eq!(format!("{from_json:?}"), format!("{from_msgpack:?}"), "{place}: the encodings differ");
    from_json.err().map(|error| (error.code, error.id, error.detail))
}

fn check_server_line(place: &str, json: &str) {
    let written =
        |encoding| write(json, encoding).unwrap_or_else(|| panic!("{place}: no answer writes this"));
    assert_eq!(std::str::from_utf8(written(Encoding::Json).payload()).unwrap(), json, "{place}");
    let mut back = Vec::new();
    transcode::msgpack_to_json(written(Encoding::MsgPack).payload(), &mut back).unwrap();
    assert_eq!(std::str::from_utf8(&back).unwrap(), json, "{place}: MessagePack says something else");
}

/// Puts one possible value where a placeholder stands.
fn filled(line: &str) -> String {
    let mut line = line.to_owned();
    if line.contains("\"<help>\"") {
        let code = line.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let help = serde_json::to_string(ErrorCode::from_name(code).unwrap().help()).unwrap();
        let message = serde_json::to_string(&ErrorCode::from_name(code).unwrap().message()).unwrap();
        line = line.replace("\"<help>\"", &help).replace("\"<message>\"", &message);
    }
    let values = [
        ("\"<time>\"", "1699459200.0"),
        ("\"<ms>\"", "1699459200000"),
        ("<iso>", "2025-11-08T12:00:00Z"),
        ("<session>", SESSION),
        ("<session1>", SESSION),
        ("<epoch1>", "e1"),
        ("<epoch>", "e1"),
        ("\"<number>\"", "75.5"),
        ("\"<whole>\"", "8"),
        ("<token>", "header.payload.signature"),
        ("<ticket>", "pwt1.contents.seal"),
    ];
    for (placeholder, value) in values {
        line = line.replace(placeholder, value);
    }
    assert!(!line.contains("\"<"), "unknown placeholder in {line}");
    line
}

/// Reads a server line into the value that should write it, and writes it.
fn write(json: &str, encoding: Encoding) -> Option<Frame> {
    let raw: BTreeMap<String, Box<RawValue>> = serde_json::from_str(json).unwrap();
    let value: Value = serde_json::from_str(json).unwrap();
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let number = |key: &str| value[key].as_u64();
    let channel = text("channel").map(|name| ChannelName::parse(&name).unwrap());
    let sequence = number("sequence").map(Sequence);
    let epoch = text("epoch").map(|epoch| Epoch::parse(&epoch).unwrap());
    let channels: Vec<ChannelName> = value["channels"].as_array().map_or(Vec::new(), |names| {
        names.iter().map(|name| ChannelName::parse(name.as_str().unwrap()).unwrap()).collect()
    });
    let timestamp_ms = value["timestamp"].as_f64().unwrap_or(0.0);
    let name = text("type");
    if name.as_deref() == Some("event") {
        return Some(write_event(&raw, &value, encoding));
    }
    if matches!(name.as_deref(), None | Some("gauge" | "counter" | "histogram")) {
        return Some(write_metric(&value, json, encoding));
    }
    let id = raw.get("id").map(|id| RequestId::from_raw(id).unwrap());
    let (positions, results, samples_refused);
    let values: Vec<Box<RawValue>> =
        raw.get("values").map_or(Vec::new(), |values| serde_json::from_str(values.get()).unwrap());
    let values: Vec<&[u8]> = values.iter().map(|value| value.get().as_bytes()).collect();
    let (everybody, joined, left, sessions, cursors);
    let error_detail;
    let answer = match name.as_deref()? {
        "welcome" => Answer::Welcome {
            client_id: SessionId::parse(&text("client_id")?).unwrap(),
            timestamp_ms: (timestamp_ms * 1000.0) as i64,
        },
        "connected" => Answer::Connected(Connected {
            session: SessionId::parse(&text("session")?).unwrap(),
            resumed: value["resumed"].as_bool()?,
            user: value["user"].as_str()?,
            expires_at_ms: value["expires_at"].as_i64(),
            heartbeat_ms: number("heartbeat_ms")? as u32,
            retry_max_ms: number("retry_max_ms").map(|ms| ms as u32),
            epoch: value["epoch"].as_str(),
            ticket: value["ticket"].as_str().zip(value["ticket_ms"].as_u64()),
        }),
        "refreshed" => Answer::Refreshed { expires_at_ms: value["expires_at"].as_i64() },
        "subscribed" => {
            let position = |(name, at): (&String, &Value)| {
                let epoch = Epoch::parse(at["epoch"].as_str().unwrap()).unwrap();
                let sequence = Sequence(at["sequence"].as_u64().unwrap());
                (ChannelName::parse(name).unwrap(), Position { epoch, sequence })
            };
            positions = value["positions"]
                .as_object()
                .map_or(Vec::new(), |map| map.iter().map(position).collect::<Vec<_>>());
            Answer::Subscribed { channels: &channels, positions: &positions }
        }
        "unsubscribed" => Answer::Unsubscribed { channels: &channels },
        "ack" if value["accepted"].is_u64() => {
            let refused = |one: &Value| {
                let index = usize::try_from(one["index"].as_u64().unwrap()).unwrap();
                let code = ErrorCode::from_name(one["code"].as_str().unwrap()).unwrap();
                (index, code, one["detail"].as_str().unwrap().to_owned())
            };
            samples_refused = value["refused"].as_array()?.iter().map(refused).collect::<Vec<_>>();
            let accepted = usize::try_from(value["accepted"].as_u64()?).ok()?;
            Answer::Ack(Ack::Samples { accepted, refused: &samples_refused })
        }
        "ack" => match (raw.get("data"), value["results"].as_array()) {
            (Some(data), _) => Answer::Ack(Ack::Data(data)),
            (None, Some(list)) => {
                results = list.iter().map(outcome).collect::<Vec<_>>();
                Answer::Ack(Ack::Published(&results))
            }
            (None, None) => {
                results = vec![Ok(published(&value))];
                Answer::Ack(Ack::Published(&results))
            }
        },
        "error" => {
            let code = ErrorCode::from_name(&text("code")?).unwrap();
            let message = text("message")?;
            let start = code.message_with("\u{0}").find('\u{0}').filter(|_| message != code.message());
            error_detail = start.map_or(String::new(), |start| message[start..].to_owned());
            Answer::Error(ErrorAnswer {
                code,
                detail: error_detail.into(),
                channel: channel.as_ref().map(|channel| channel.as_str().into()),
                retry_after_ms: number("retry_after_ms").map(|ms| ms as u32),
            })
        }
        "ping" => Answer::Ping { timestamp_ms: (timestamp_ms * 1000.0) as i64 },
        "pong" => Answer::Pong { timestamp: value["timestamp"].as_f64() },
        "gap" => Answer::Gap {
            channel: channel.as_ref()?,
            from: Sequence(number("from")?),
            to: Sequence(number("to")?),
            reason: if text("reason")? == "trimmed" { GapReason::Trimmed } else { GapReason::Corrupt },
        },
        "reset" => Answer::Reset { channel: channel.as_ref()?, epoch: epoch.as_ref()?, sequence: sequence? },
        "dropped" => Answer::Dropped { channel: channel.as_ref()?, count: number("count")? },
        "stale" => {
            Answer::Stale { channel: channel.as_ref()?, since_ms: i64::try_from(number("since")?).ok()? }
        }
        "pos" => Answer::Pos { channel: channel.as_ref()?, sequence: sequence? },
        "replay_end" => Answer::ReplayEnd { channel: channel.as_ref()?, sequence: sequence? },
        "state" => Answer::State(State {
            channel: channel.as_ref()?,
            epoch: epoch.as_ref()?,
            sequence: sequence?,
            values: &values,
            more: value["more"].as_bool()?,
        }),
        "history" if value["resolution"].is_string() => Answer::Series(SeriesPage {
            channel: channel.as_ref()?,
            resolution: value["resolution"].as_str()?,
            start_ms: moment(&value["start_time"]),
            end_ms: moment(&value["end_time"]),
            events: &[],
            next_ms: value["next_time"].is_string().then(|| moment(&value["next_time"])),
        }),
        "history" => Answer::History(History {
            channel: channel.as_ref()?,
            epoch: epoch.as_ref(),
            events: &[],
            gap: value["gap"].is_object().then(|| {
                let gap = &value["gap"];
                let at = |key: &str| Sequence(gap[key].as_u64().unwrap());
                let trimmed = gap["reason"] == "trimmed";
                let reason = if trimmed { GapReason::Trimmed } else { GapReason::Corrupt };
                Gap { from: at("from"), to: at("to"), reason }
            }),
            reset: None,
            next_sequence: number("next_sequence").map(Sequence),
        }),
        "presence" => {
            joined = members(&raw, "joined");
            left = value["left"].as_array().map_or(Vec::new(), |users| {
                users.iter().map(|user| user.as_str().unwrap().into()).collect::<Vec<Arc<str>>>()
            });
            let map = |key: &str| -> Vec<(Arc<str>, Box<RawValue>)> {
                raw.get(key).map_or(Vec::new(), |map| {
                    let map: BTreeMap<String, Box<RawValue>> = serde_json::from_str(map.get()).unwrap();
                    map.into_iter().map(|(user, value)| (user.into(), value)).collect()
                })
            };
            sessions = map("sessions")
                .into_iter()
                .map(|(user, count)| (user, count.get().parse().unwrap()))
                .collect::<Vec<(Arc<str>, u32)>>();
            cursors = map("cursors")
                .into_iter()
                .map(|(user, cursor)| (user, (cursor.get() != "null").then(|| cursor.into())))
                .collect::<Vec<(Arc<str>, Option<Arc<RawValue>>)>>();
            everybody = members(&raw, "members");
            Answer::Presence(Presence {
                channel: channel.as_ref()?,
                node: value["node"].as_str()?,
                version: number("version")?,
                change: if raw.contains_key("members") {
                    PresenceChange::Snapshot(&everybody)
                } else {
                    PresenceChange::Diff {
                        joined: &joined,
                        left: &left,
                        sessions: &sessions,
                        cursors: &cursors,
                    }
                },
            })
        }
        "reconnect" => Answer::Reconnect {
            retry_ms: number("retry_ms")? as u32,
            code: CloseCode::from_u16(number("code")? as u16)?,
        },
        "token_expiring" => Answer::TokenExpiring { expires_in_ms: number("expires_in_ms")? },
        _ => return None,
    };
    assert_eq!(answer.name(), name?);
    Some(answer.encode(id.as_ref(), encoding))
}

fn members(raw: &BTreeMap<String, Box<RawValue>>, key: &str) -> Vec<Member> {
    #[derive(serde::Deserialize)]
    struct Shown {
        user: String,
        sessions: u32,
        since: i64,
        cursor: Option<Box<RawValue>>,
    }
    let list: Vec<Shown> = raw.get(key).map_or(Vec::new(), |list| serde_json::from_str(list.get()).unwrap());
    let member = |shown: Shown| Member {
        user: shown.user.into(),
        sessions: shown.sessions,
        since_ms: shown.since,
        cursor: shown.cursor.map(Into::into),
    };
    list.into_iter().map(member).collect()
}

fn outcome(value: &Value) -> Result<Published, Refused> {
    match value["error"]["code"].as_str() {
        Some(code) => {
            let code = ErrorCode::from_name(code).unwrap();
            Err(Refused { code, detail: String::new() })
        }
        None => Ok(published(value)),
    }
}

fn published(value: &Value) -> Published {
    let epoch = value["epoch"].as_str().map(|epoch| Epoch::parse(epoch).unwrap());
    let sequence = value["sequence"].as_u64().map(Sequence);
    Published {
        channel: ChannelName::parse(value["channel"].as_str().unwrap()).unwrap(),
        position: epoch.zip(sequence).map(|(epoch, sequence)| Position { epoch, sequence }),
        duplicate: value["duplicate"].as_bool().unwrap(),
        matched: value["matched"].as_u64().unwrap(),
    }
}

fn write_event(raw: &BTreeMap<String, Box<RawValue>>, value: &Value, encoding: Encoding) -> Frame {
    let text = |key: &str| value[key].as_str();
    let channel = ChannelName::parse(text("channel").unwrap()).unwrap();
    let mut event =
        Event::new(channel, EventType::parse(text("event").unwrap()).unwrap(), raw["data"].clone());
    event.id = text("id").map(|id| MessageId::parse(id).unwrap());
    event.key = text("key").map(Into::into);
    event.tags = tags(&value["tags"]);
    event.critical = value["critical"].as_bool();
    let publication = Publication {
        event: &event,
        sequence: value["sequence"].as_u64().map(Sequence),
        previous: value["previous"].as_u64().map(Sequence),
        timestamp_ms: value["timestamp"].as_i64().unwrap(),
        user: text("user"),
    };
    encode_event(&publication, encoding)
}

/// Milliseconds of a time as document 004 writes it.
fn moment(value: &Value) -> i64 {
    value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn tags(value: &Value) -> Tags {
    let pairs = value.as_object().into_iter().flatten();
    Tags::new(pairs.map(|(key, value)| (key.as_str(), value.as_str().unwrap()))).unwrap()
}

/// A metric line has the channel of document 004; the samples are found by their dots.
fn write_metric(value: &Value, json: &str, encoding: Encoding) -> Frame {
    let number = |value: &Value| value.as_i64().map_or_else(|| value.as_f64().unwrap().into(), Number::Whole);
    let timestamp_ms = moment(&value["timestamp"]);
    let sample = |name: String, value: Number, tags| Point {
        series: Arc::new(Series { id: 0, name: name.into(), kind: MetricKind::Gauge, tags }),
        timestamp_ms,
        reading: Reading::Value(value),
    };
    let set = |points| MetricSet {
        channel: ChannelName::parse(value["channel"].as_str().unwrap()).unwrap(),
        number: 1,
        interval: value["interval"].as_str().and_then(Interval::from_name),
        points,
    };
    if let Some(name) = value["name"].as_str() {
        let mut sample = sample(name.to_owned(), number(&value["value"]), tags(&value["tags"]));
        if value["interval"].is_string() {
            let float = |key: &str| value[key].as_f64().unwrap();
            sample.reading = Reading::Figures(Figures {
                last: number(&value["last"]),
                min: float("min"),
                max: float("max"),
                sum: float("sum"),
                count: value["count"].as_u64().unwrap(),
                p50: float("p50"),
                p95: float("p95"),
                p99: float("p99"),
            });
        }
        return encode_points(&set(vec![sample]), encoding).remove(0);
    }
    // The order of the members is the order in the line.
    let mut samples = Vec::new();
    for (group, members) in value.as_object().unwrap() {
        for (name, member) in members.as_object().into_iter().flatten() {
            let at = json.find(&format!("\"{group}\":{{")).unwrap();
            let at = at + json[at..].find(&format!("\"{name}\":")).unwrap();
            samples.push((at, sample(format!("{group}.{name}"), number(member), Tags::default())));
        }
    }
    samples.sort_by_key(|(at, _)| *at);
    encode_grouped(&set(samples.into_iter().map(|(_, sample)| sample).collect()), encoding).remove(0)
}
