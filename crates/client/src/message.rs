//! Messages: what the server says, read; what the client says, written.
//!
//! One flat struct takes every frame, so a frame with an unknown `type` is handed on as it came instead of refused:
//! newer servers may say more than this client knows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use pulsewire_protocol::{Attend, Epoch, Interval, Position, Sequence, Shape};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::history::{self, Past, Question};
use crate::metric::{self, Metric};
use crate::presence::Told;
use crate::tracker::Start;

/// A publication as it was delivered.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its channel.
    pub channel: String,
    /// What the application calls it.
    pub event_type: String,
    /// The payload, as published.
    pub data: Box<RawValue>,
    /// Its place in the channel; none on an ephemeral channel.
    pub sequence: Option<Sequence>,
    /// When the server accepted it, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// The publisher's message id.
    pub id: Option<String>,
    /// Who published it.
    pub user: Option<String>,
    /// The key whose value it replaces.
    pub key: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Whether it is kept longer than others and replayed to late joiners.
    pub critical: bool,
    /// It was published before the subscription became live.
    pub replayed: bool,
    /// The frame as it came.
    pub frame: String,
}

/// An error the server sent in answer to a request, or about the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code}){}", .help.as_ref().map(|help| format!(". {help}")).unwrap_or_default())]
pub struct ServerError {
    /// The stable code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// How long to wait before that.
    pub retry_after_ms: Option<u64>,
}

/// What the server answered for one published event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ack {
    /// The event's place in its channel; none on an ephemeral channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The log the sequence belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// The server knew the message id and answers with the first outcome.
    #[serde(default)]
    pub duplicate: bool,
    /// How many subscribers of this node it went to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<u64>,
}

#[derive(Debug)]
pub(crate) enum Incoming {
    Welcome { client_id: Option<String> },
    Connected(Connected),
    Refreshed { expires_at: Option<i64> },
    TokenExpiring,
    Subscribed { channels: Vec<String>, positions: BTreeMap<String, Position> },
    Event { event: Event, previous: Option<Sequence> },
    Ack { id: Option<String>, acks: Vec<Ack> },
    Error { id: Option<String>, error: ServerError },
    Ping { timestamp: Option<Box<RawValue>> },
    Pong { id: Option<String> },
    Gap { channel: String, from: Sequence, to: Sequence, reason: String },
    Reset { channel: String, position: Position },
    Dropped { channel: String, count: u64 },
    Passed { channel: String, sequence: Sequence },
    ReplayEnd { channel: String, sequence: Option<Sequence> },
    Reconnect { retry_ms: u64 },
    Presence(Told),
    Values { channel: String, sequence: Option<Sequence>, values: Vec<Event>, more: bool },
    Metric(Metric),
    Past { id: Option<String>, past: Past },
    Stale { channel: String, since_ms: i64 },
    Quiet,
    Other { kind: String, channel: Option<String> },
}

/// What a server says when it welcomes a session.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) session: Option<String>,
    pub(crate) heartbeat_ms: Option<u64>,
    /// The longest wait between attempts.
    pub(crate) retry_max_ms: Option<u64>,
    /// When the token runs out, in milliseconds since 1970.
    pub(crate) expires_at: Option<i64>,
    /// What may be shown instead of the token, and for how long.
    pub(crate) ticket: Option<(String, Duration)>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct WirePosition {
    pub(crate) epoch: String,
    pub(crate) sequence: u64,
}

impl WirePosition {
    pub(crate) fn check(self) -> Option<Position> {
        let sequence = Some(Sequence(self.sequence)).filter(|sequence| *sequence <= Sequence::MAX)?;
        Some(Position { epoch: Epoch::parse(&self.epoch).ok()?, sequence })
    }

    pub(crate) fn of(position: &Position) -> WirePosition {
        WirePosition { epoch: position.epoch.as_str().to_owned(), sequence: position.sequence.0 }
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    heartbeat_ms: Option<u64>,
    #[serde(default)]
    retry_max_ms: Option<u64>,
    #[serde(default)]
    ticket: Option<String>,
    #[serde(default)]
    ticket_ms: Option<u64>,
    #[serde(default)]
    expires_at: Option<i64>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    positions: BTreeMap<String, WirePosition>,
    #[serde(default)]
    event: Option<String>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(default)]
    sequence: Option<u64>,
    #[serde(default)]
    previous: Option<u64>,
    #[serde(default)]
    epoch: Option<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    critical: bool,
    #[serde(default)]
    results: Vec<Ack>,
    #[serde(default)]
    duplicate: bool,
    #[serde(default)]
    matched: Option<u64>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default, borrow)]
    code: Option<&'a RawValue>,
    #[serde(default)]
    help: Option<String>,
    #[serde(default)]
    retryable: bool,
    #[serde(default)]
    retry_after_ms: Option<u64>,
    #[serde(default)]
    retry_ms: Option<u64>,
    #[serde(default)]
    from: Option<u64>,
    #[serde(default)]
    to: Option<u64>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    count: Option<u64>,
    #[serde(default, borrow)]
    values: Vec<&'a RawValue>,
    #[serde(default)]
    more: bool,
    #[serde(default, borrow)]
    since: Option<&'a RawValue>,
}

/// Reads one text message. `None` means that it is not a JSON object with a `type`, or a field has the wrong shape.
pub(crate) fn read(text: &str) -> Option<Incoming> {
    let Ok(wire) = serde_json::from_str::<Wire<'_>>(text) else { return read_other(text) };
    let id = wire.id.map(|id| id.get().trim_matches('"').to_owned());
    Some(match &*wire.kind {
        "welcome" => Incoming::Welcome { client_id: wire.client_id },
        "connected" => {
            let session = wire.session.or(wire.client_id);
            let ticket = wire.ticket.zip(wire.ticket_ms.map(Duration::from_millis));
            let Wire { heartbeat_ms, retry_max_ms, expires_at, .. } = wire;
            Incoming::Connected(Connected { session, heartbeat_ms, retry_max_ms, expires_at, ticket })
        }
        "refreshed" => Incoming::Refreshed { expires_at: wire.expires_at },
        "token_expiring" => Incoming::TokenExpiring,
        "subscribed" => {
            let positions = wire.positions.into_iter();
            let positions =
                positions.filter_map(|(channel, position)| Some((channel, position.check()?))).collect();
            Incoming::Subscribed { channels: wire.channels, positions }
        }
        "event" => {
            let event = Event {
                channel: wire.channel?,
                event_type: wire.event?,
                data: wire.data.map_or_else(|| RawValue::NULL.to_owned(), ToOwned::to_owned),
                sequence: wire.sequence.map(Sequence),
                timestamp_ms: wire
                    .timestamp
                    .and_then(|number| number.get().parse::<f64>().ok())
                    .map(|ms| ms as i64),
                id,
                user: wire.user,
                key: wire.key,
                tags: wire.tags,
                critical: wire.critical,
                replayed: false,
                frame: String::new(),
            };
            Incoming::Event { event, previous: wire.previous.map(Sequence) }
        }
        "ack" if !wire.results.is_empty() => Incoming::Ack { id, acks: wire.results },
        "ack" => {
            let ack = Ack {
                sequence: wire.sequence,
                epoch: wire.epoch,
                duplicate: wire.duplicate,
                matched: wire.matched,
            };
            Incoming::Ack { id, acks: vec![ack] }
        }
        "error" => Incoming::Error {
            id,
            error: ServerError {
                // `reconnect` has the number of a close code here.
                code: wire.code.map(|code| code.get().trim_matches('"').to_owned()).unwrap_or_default(),
                message: wire.message.unwrap_or_default(),
                help: wire.help,
                retryable: wire.retryable,
                retry_after_ms: wire.retry_after_ms,
            },
        },
        "ping" => Incoming::Ping { timestamp: wire.timestamp.map(ToOwned::to_owned) },
        "pong" => Incoming::Pong { id },
        "unsubscribed" => Incoming::Quiet,
        "gap" => Incoming::Gap {
            channel: wire.channel?,
            from: Sequence(wire.from?),
            to: Sequence(wire.to?),
            reason: wire.reason.unwrap_or_default(),
        },
        "reset" => {
            let position = WirePosition { epoch: wire.epoch?, sequence: wire.sequence? }.check()?;
            Incoming::Reset { channel: wire.channel?, position }
        }
        "dropped" => Incoming::Dropped { channel: wire.channel?, count: wire.count.unwrap_or(1) },
        "pos" => Incoming::Passed { channel: wire.channel?, sequence: Sequence(wire.sequence?) },
        "replay_end" => Incoming::ReplayEnd { channel: wire.channel?, sequence: wire.sequence.map(Sequence) },
        "reconnect" => Incoming::Reconnect { retry_ms: wire.retry_ms.unwrap_or_default() },
        "state" => {
            let value = |text: &&RawValue| match read(text.get())? {
                Incoming::Event { event, .. } => Some(event),
                _ => None,
            };
            Incoming::Values {
                channel: wire.channel?,
                sequence: wire.sequence.map(Sequence),
                values: wire.values.iter().map(value).collect::<Option<_>>()?,
                more: wire.more,
            }
        }
        "presence" => Incoming::Presence(serde_json::from_str(text).ok()?),
        "history" => match history::read(text) {
            Some(past) => Incoming::Past { id, past },
            None => Incoming::Other { kind: wire.kind.into_owned(), channel: wire.channel },
        },
        "stale" => {
            let since_ms = wire.since.and_then(|number| number.get().parse().ok())?;
            Incoming::Stale { channel: wire.channel?, since_ms }
        }
        "gauge" | "counter" | "histogram" => return read_other(text),
        _ => Incoming::Other { kind: wire.kind.into_owned(), channel: wire.channel },
    })
}

/// Metric data; or a frame whose fields mean something else than here, which is handed on untouched. One without a
/// `type` is called `metric` here.
fn read_other(text: &str) -> Option<Incoming> {
    if let Some(metric) = metric::read(text) {
        return Some(Incoming::Metric(metric));
    }
    #[derive(Deserialize)]
    struct Minimal {
        #[serde(rename = "type")]
        kind: Option<String>,
        #[serde(default)]
        channel: Option<String>,
    }
    let Minimal { kind, channel } = serde_json::from_str(text).ok()?;
    let kind = kind.or_else(|| channel.is_some().then(|| "metric".to_owned()))?;
    Some(Incoming::Other { kind, channel })
}

/// An event to publish.
#[derive(Debug, Clone, Serialize)]
pub struct NewEvent {
    /// Where to.
    pub channel: String,
    /// What it is called, 1–64 characters of `A–Z a–z 0–9 _ : . - /`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Any JSON.
    pub data: Box<RawValue>,
    /// The idempotency key; the client makes one when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The key whose value it replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Tags for filters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Keep it longer and replay it to late joiners; `None` lets the channel decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical: Option<bool>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Wanted<'a> {
    Live(&'a str),
    From {
        channel: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        last: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<WirePosition>,
        #[serde(skip_serializing_if = "Option::is_none")]
        replay: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        history: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        presence: Option<WirePresence>,
    },
}

/// `true` or `"watch"`.
#[derive(Serialize)]
#[serde(untagged)]
enum WirePresence {
    Join(bool),
    Watch(&'static str),
}

/// The narrowing of all subscriptions of a client, and what they want beside events.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Narrow {
    /// Only events, and series of metric channels, with all of these tags.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Only those that pass this filter, a JSON object of conditions (R25).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Box<RawValue>>,
    /// The roll-up of metric channels. The server refuses it if one of the channels is none.
    #[serde(
        rename = "aggregation_interval",
        skip_serializing_if = "Option::is_none",
        serialize_with = "history::interval"
    )]
    pub interval: Option<Interval>,
    /// How metric channels are shaped; the server decides when absent.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "history::shape")]
    pub shape: Option<Shape>,
    /// Have these channels sent as MessagePack, which is smaller. What is delivered is the same. Default off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub compression: bool,
    /// Whether to see who is in the channels, or to be seen there, too.
    #[serde(skip)]
    pub presence: Attend,
}

#[derive(Serialize)]
struct Subscribe<'a> {
    channels: Vec<Wanted<'a>>,
    #[serde(flatten)]
    narrow: &'a Narrow,
}

#[derive(Serialize)]
struct Outgoing<'a, D> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    data: D,
}

#[derive(Serialize)]
struct Connect<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribe: Option<Subscribe<'a>>,
}

fn subscribe<'a>(wanted: &'a [(&'a str, Start)], narrow: &'a Narrow) -> Subscribe<'a> {
    let presence = || match narrow.presence {
        Attend::No => None,
        Attend::Watch => Some(WirePresence::Watch("watch")),
        Attend::Join => Some(WirePresence::Join(true)),
    };
    let channels = wanted
        .iter()
        .map(|(channel, start)| {
            let (mut last, mut since, mut replay, mut history) = (None, None, None, None);
            match start {
                Start::Live | Start::After(_) if narrow.presence == Attend::No => {
                    return Wanted::Live(channel);
                }
                Start::Live | Start::After(_) => {}
                Start::Last(count) => last = Some(*count),
                Start::Since(position) => since = Some(WirePosition::of(position)),
                Start::Critical => replay = Some("critical"),
                // The server counts whole seconds, and at least one.
                Start::Past(span) => {
                    let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
                    history = Some(format!("{}s", seconds.max(1)));
                }
            }
            Wanted::From { channel, last, since, replay, history, presence: presence() }
        })
        .collect();
    Subscribe { channels, narrow }
}

fn write(kind: &'static str, id: &str, data: impl Serialize) -> String {
    // Strings, numbers and maps with string keys always serialise.
    serde_json::to_string(&Outgoing { kind, id, data }).unwrap_or_default()
}

pub(crate) fn write_connect(
    id: &str,
    session: Option<&str>,
    wanted: &[(&str, Start)],
    narrow: &Narrow,
) -> String {
    let subscribe = (!wanted.is_empty()).then(|| subscribe(wanted, narrow));
    write("connect", id, Connect { session, subscribe })
}

pub(crate) fn write_subscribe(id: &str, wanted: &[(&str, Start)], narrow: &Narrow) -> String {
    write("subscribe", id, subscribe(wanted, narrow))
}

pub(crate) fn write_unsubscribe(id: &str, channels: &[&str]) -> String {
    #[derive(Serialize)]
    struct Channels<'a> {
        channels: &'a [&'a str],
    }
    write("unsubscribe", id, Channels { channels })
}

pub(crate) fn write_question(id: &str, question: &Question) -> String {
    write("get_history", id, question)
}

pub(crate) fn write_publish(id: &str, event: &NewEvent) -> String {
    // On the socket `type` and `id` belong to the message, so the event's own are `event` and `message_id`.
    #[derive(Serialize)]
    struct Publish<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        id: &'a str,
        channel: &'a str,
        event: &'a str,
        data: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<&'a str>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        tags: &'a BTreeMap<String, String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        critical: Option<bool>,
    }
    let NewEvent { channel, event_type, data, id: message_id, key, tags, critical } = event;
    let publish = Publish {
        kind: "publish",
        id,
        channel,
        event: event_type,
        data,
        message_id: message_id.as_deref(),
        key: key.as_deref(),
        tags,
        critical: *critical,
    };
    serde_json::to_string(&publish).unwrap_or_default()
}

/// Asks for a sign of life.
pub(crate) fn write_ping(id: &str) -> String {
    format!(r#"{{"type":"ping","id":"{id}"}}"#)
}

/// Another token for the connection that lives.
pub(crate) fn write_refresh(id: &str, token: &str) -> String {
    #[derive(Serialize)]
    struct Token<'a> {
        token: &'a str,
    }
    write("refresh", id, Token { token })
}

/// Asks who is in a channel, or puts the cursor somewhere.
pub(crate) fn write_presence(channel: &str, cursor: Option<&RawValue>) -> String {
    #[derive(Serialize)]
    struct Presence<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        channel: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<&'a RawValue>,
    }
    serde_json::to_string(&Presence { kind: "presence", channel, cursor }).unwrap_or_default()
}

pub(crate) fn write_pong(timestamp: Option<&RawValue>) -> String {
    match timestamp {
        Some(timestamp) => format!(r#"{{"type":"pong","timestamp":{}}}"#, timestamp.get()),
        None => r#"{"type":"pong"}"#.to_owned(),
    }
}

#[cfg(test)]
mod golden;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_event_is_read_with_everything_it_carries() {
        let text = r#"{"type":"event","channel":"run:42","sequence":42,"event":"GRAFT","data":{"node":"a7"},"timestamp":1699459200123,"id":"m1","user":"u","tags":{"a":"b"},"critical":true,"previous":40}"#;
        let Some(Incoming::Event { event, previous }) = read(text) else { panic!("not read as an event") };
        assert_eq!(
            (event.channel.as_str(), event.event_type.as_str(), event.sequence),
            ("run:42", "GRAFT", Some(Sequence(42)))
        );
        assert_eq!(
            (event.data.get(), event.timestamp_ms, previous),
            (r#"{"node":"a7"}"#, Some(1_699_459_200_123), Some(Sequence(40)))
        );
        assert!(event.critical);
        assert_eq!(event.id.as_deref(), Some("m1"));
    }

    #[test]
    fn a_planned_restart_is_read_with_its_wait() {
        let text = r#"{"type":"reconnect","retry_ms":4619,"reason":"service_restart","code":1012}"#;
        assert!(matches!(read(text), Some(Incoming::Reconnect { retry_ms: 4619 })));
        let text =
            r#"{"type":"error","message":"no","code":"forbidden","help":"h","retryable":false,"id":"7"}"#;
        let Some(Incoming::Error { id, error }) = read(text) else { panic!("not read as an error") };
        assert_eq!((id.as_deref(), error.code.as_str()), (Some("7"), "forbidden"));
    }

    #[test]
    fn a_part_of_the_state_is_read_as_the_events_it_holds() {
        let text = r#"{"type":"state","channel":"run:42","epoch":"e7","sequence":57,"values":[{"type":"event","channel":"run:42","sequence":40,"event":"task","data":{"done":2},"timestamp":1699459200123,"key":"t2"}],"more":true}"#;
        let Some(Incoming::Values { channel, sequence, values, more }) = read(text) else {
            panic!("not read as a state")
        };
        assert_eq!((channel.as_str(), sequence, more), ("run:42", Some(Sequence(57)), true));
        let [value] = &values[..] else { panic!("{values:?}") };
        assert_eq!((value.key.as_deref(), value.data.get()), (Some("t2"), r#"{"done":2}"#));
        assert_eq!(value.sequence, Some(Sequence(40)));
        // A message of that name which is none is handed on as it is.
        let strange = r#"{"type":"state","channel":"run:42","values":[{"type":"gap"}]}"#;
        assert!(read(strange).is_none_or(|read| matches!(read, Incoming::Other { .. })), "{strange}");
    }

    #[test]
    fn what_is_not_known_is_handed_on() {
        let Some(Incoming::Other { kind, channel }) =
            read(r#"{"type":"metric","channel":"system.metrics","count":"x"}"#)
        else {
            panic!("refused")
        };
        assert_eq!((kind.as_str(), channel.as_deref()), ("metric", Some("system.metrics")));
        let Some(Incoming::Other { kind, .. }) =
            read(r#"{"channel":"system.metrics","timestamp":"2026","cpu":{}}"#)
        else {
            panic!("refused")
        };
        assert_eq!(kind, "metric");
        assert!(read("[]").is_none());
        assert!(read("{}").is_none());
    }

    #[test]
    fn metric_channels_are_asked_for_with_everything_a_subscription_may_say() {
        let narrow = Narrow {
            tags: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
            filter: Some(RawValue::from_string(r#"{"host":{"prefix":"web-"}}"#.to_owned()).unwrap()),
            interval: Some(Interval::S5),
            shape: Some(Shape::Points),
            compression: true,
            presence: Attend::No,
        };
        assert_eq!(
            write_subscribe("2", &[("a.metrics", Start::Live)], &narrow),
            r#"{"type":"subscribe","id":"2","data":{"channels":["a.metrics"],"tags":{"env":"prod"},"filter":{"host":{"prefix":"web-"}},"aggregation_interval":"5s","shape":"points","compression":true}}"#
        );
    }

    #[test]
    fn a_silent_metric_channel_is_told_with_when_it_spoke_last() {
        let text = r#"{"type":"stale","channel":"a.metrics","since":1699459200000}"#;
        let Some(Incoming::Stale { channel, since_ms }) = read(text) else { panic!("not read as stale") };
        assert_eq!((channel.as_str(), since_ms), ("a.metrics", 1_699_459_200_000));
    }

    #[test]
    fn wanted_channels_are_written_with_their_start() {
        let position = Position { epoch: Epoch::parse("e").unwrap(), sequence: Sequence(42) };
        let wanted = [
            ("a", Start::Live),
            ("b", Start::Last(10)),
            ("c", Start::Since(position)),
            ("d", Start::Critical),
            ("e", Start::Past(Duration::from_millis(900_001))),
        ];
        assert_eq!(
            write_connect("1", Some("S"), &wanted, &Narrow::default()),
            r#"{"type":"connect","id":"1","data":{"session":"S","subscribe":{"channels":["a",{"channel":"b","last":10},{"channel":"c","since":{"epoch":"e","sequence":42}},{"channel":"d","replay":"critical"},{"channel":"e","history":"901s"}]}}}"#
        );
    }
}
