//! From untouched values to a request.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Attend, ClientReport, Connect, GetHistory, Heartbeat, Kind, Replay, Request, RequestError, RequestId,
    Subscribe, Wanted,
};
use crate::channel::ChannelName;
use crate::code::ErrorCode;
use crate::event::{self, EventError, EventType, RawEvent, present};
use crate::json::{self, ItemsError, text_of};
use crate::metric::{self, Filter, Interval, Shape};
use crate::position::{Epoch, Position, Sequence};
use crate::session_id::SessionId;
use crate::{BATCH_EVENTS_MAX, BATCH_SAMPLES_MAX, CHANNELS_MAX};

type Text<'a> = Cow<'a, str>;

macro_rules! raw_message {
    ($($field:ident $key:literal)*) => {
        /// Every member that any message has, untouched. Unknown members are ignored: they may be a newer
        /// client's. A member that stands twice is an error.
        #[derive(Default, Deserialize)]
        struct Raw<'a> {
            $(#[serde(borrow, default, rename = $key, deserialize_with = "present")]
            $field: Option<&'a RawValue>,)*
        }

        impl<'a> Raw<'a> {
            /// Takes over the members of document 004's `data` object.
            fn merge(&mut self, inner: Self) -> Result<(), Refusal> {
                $(if let Some(value) = inner.$field {
                    if self.$field.replace(value).is_some() {
                        return Err(bad(concat!("`", $key, "` stands both in the message and in its `data`")));
                    }
                })*
                Ok(())
            }
        }
    };
}

raw_message! {
    kind "type" id "id" data "data" token "token" session "session" subscribe "subscribe"
    heartbeat "heartbeat" channels "channels" channel "channel" tags "tags"
    interval "aggregation_interval" compression "compression" shape "shape" events "events" event "event"
    message_id "message_id" key "key" critical "critical" timestamp "timestamp" since "since" filter "filter"
    resolution "resolution" samples "samples" report "report"
    start_time "start_time" end_time "end_time" limit "limit" sequence "sequence" cursor "cursor"
}

/// A refusal before the request's id is put to it.
pub(super) type Refusal = (ErrorCode, String);

pub(super) fn bad(detail: impl Into<String>) -> Refusal {
    (ErrorCode::BadRequest, detail.into())
}

pub(super) fn request(json: &str) -> Result<Request<'_>, RequestError> {
    // serde would also read a struct from an array.
    if !json.trim_start().starts_with('{') {
        return Err(RequestError::bad("message is not a JSON object"));
    }
    let mut raw: Raw<'_> =
        serde_json::from_str(json).map_err(|error| RequestError::bad(error.to_string()))?;
    let id = match raw.id.take() {
        None => None,
        Some(id) => match RequestId::from_raw(id) {
            None => return Err(RequestError::bad("`id` is not a text or a number of at most 128 bytes")),
            id => id,
        },
    };
    match kind(raw) {
        Ok(kind) => Ok(Request { id, kind }),
        Err((code, detail)) => Err(RequestError { id, code, detail }),
    }
}

fn kind(mut raw: Raw<'_>) -> Result<Kind<'_>, Refusal> {
    let name = text(raw.kind.take(), "type")?.ok_or_else(|| bad("`type` is missing"))?;
    match &*name {
        "publish" => return publish(&raw),
        "connect" | "refresh" | "subscribe" | "unsubscribe" | "get_history" | "ping" | "pong" | "receipt"
        | "presence" | "samples" => {}
        _ => return client_event(name, &raw),
    }
    if let Some(data) = raw.data.take() {
        if !data.get().starts_with('{') {
            return Err(bad("`data` is not an object"));
        }
        let inner: Raw<'_> =
            serde_json::from_str(data.get()).map_err(|error| bad(format!("`data`: {error}")))?;
        raw.merge(inner)?;
    }
    match &*name {
        "connect" => connect(&raw),
        "refresh" => Ok(Kind::Refresh { token: required(raw.token, "token")? }),
        "subscribe" => Ok(Kind::Subscribe(subscribe(&raw)?)),
        "unsubscribe" => Ok(Kind::Unsubscribe { channels: names(&raw)? }),
        "get_history" => get_history(&raw),
        "ping" => Ok(Kind::Ping { timestamp: timestamp(&raw)?, report: report(&raw)? }),
        "pong" => Ok(Kind::Pong { timestamp: timestamp(&raw)?, report: report(&raw)? }),
        "samples" => samples(&raw),
        "presence" => Ok(Kind::Presence { channel: required(raw.channel, "channel")?, cursor: raw.cursor }),
        _ => Ok(Kind::Receipt {
            channel: required(raw.channel, "channel")?,
            sequence: sequence(raw.sequence)?,
        }),
    }
}

fn client_event<'a>(event_type: Text<'a>, raw: &Raw<'a>) -> Result<Kind<'a>, Refusal> {
    if !EventType::is_valid(&event_type) {
        return Err(bad("`type` is not 1 to 64 bytes of A-Z a-z 0-9 _ : . - /"));
    }
    let channel = text(raw.channel, "channel")?;
    Ok(Kind::ClientEvent { event_type, channel, data: raw.data.unwrap_or(RawValue::NULL) })
}

fn connect<'a>(raw: &Raw<'a>) -> Result<Kind<'a>, Refusal> {
    let session = text(raw.session, "session")?;
    let session = session.map(|session| SessionId::parse(&session)).transpose();
    let heartbeat = text(raw.heartbeat, "heartbeat")?;
    let heartbeat = heartbeat.map(|name| match &*name {
        "frame" => Ok(Heartbeat::Frame),
        "message" => Ok(Heartbeat::Message),
        _ => Err(bad("`heartbeat` is not \"frame\" or \"message\"")),
    });
    Ok(Kind::Connect(Connect {
        token: text(raw.token, "token")?,
        session: session.map_err(|error| bad(format!("`session`: {error}")))?,
        subscribe: raw.subscribe.map(connect_subscribe).transpose()?,
        heartbeat: heartbeat.transpose()?,
    }))
}

/// `"subscribe": ["run:1", …]`, or an object with the fields of a `subscribe` message.
fn connect_subscribe(raw: &RawValue) -> Result<Subscribe<'_>, Refusal> {
    let inner = match raw.get().as_bytes().first() {
        Some(b'[') => Raw { channels: Some(raw), ..Raw::default() },
        Some(b'{') => {
            serde_json::from_str(raw.get()).map_err(|error| bad(format!("`subscribe`: {error}")))?
        }
        _ => return Err(bad("`subscribe` is not a list of channels or an object")),
    };
    subscribe(&inner)
}

fn subscribe<'a>(raw: &Raw<'a>) -> Result<Subscribe<'a>, Refusal> {
    let channels = list(raw.channels)?.into_iter().map(wanted).collect::<Result<Vec<_>, _>>()?;
    Ok(Subscribe {
        channels,
        filter: filter(raw)?,
        interval: interval(raw)?,
        compression: typed(raw.compression, "compression", "true or false")?.unwrap_or(false),
        shape: shape(raw)?,
    })
}

/// `"run:1"`, or an object with the channel, one of `since`, `last` and `replay`, and `presence`.
fn wanted(raw: &RawValue) -> Result<Wanted<'_>, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        channel: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        since: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        last: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        replay: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        state: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        history: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        presence: Option<&'a RawValue>,
    }
    if let Some(channel) = text_of(raw) {
        return Ok(Wanted { channel, replay: Replay::Live, state: false, attend: Attend::No });
    }
    if !raw.get().starts_with('{') {
        return Err(bad("a channel is a text or an object"));
    }
    let item: Item<'_> = serde_json::from_str(raw.get()).map_err(|error| bad(format!("channel: {error}")))?;
    let channel = required(item.channel, "channel")?;
    let replay = match (item.since, item.last, item.replay, item.history) {
        (None, None, None, None) => Replay::Live,
        (Some(since), None, None, None) => Replay::Since(position(since)?),
        (None, Some(_), None, None) => Replay::Last(count(item.last, "last")?.unwrap_or(0)),
        (None, None, None, Some(history)) => Replay::Past(past_ms(history)?),
        (None, None, Some(_), None) => match &*required(item.replay, "replay")? {
            "none" => Replay::Live,
            "critical" => Replay::Critical,
            _ => return Err(bad("`replay` is not \"none\" or \"critical\"")),
        },
        _ => return Err(bad("only one of `since`, `last`, `replay` and `history` can hold")),
    };
    let state = match item.state.map(RawValue::get) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(bad("`state` is not true or false")),
    };
    let attend = match item.presence.map(RawValue::get) {
        None | Some("false") => Attend::No,
        Some("true") => Attend::Join,
        Some(_) if item.presence.and_then(text_of).as_deref() == Some("watch") => Attend::Watch,
        Some(_) => return Err(bad("`presence` is not true, false or \"watch\"")),
    };
    Ok(Wanted { channel, replay, state, attend })
}

/// `"90s"`, `"15m"`, `"6h"` or `"7d"`.
fn past_ms(raw: &RawValue) -> Result<u64, Refusal> {
    let wrong = || bad("`history` is not a time such as \"90s\", \"15m\", \"6h\" or \"7d\"");
    let text = text_of(raw).ok_or_else(wrong)?;
    let unit_ms = match text.bytes().last() {
        Some(b's') => 1_000,
        Some(b'm') => 60_000,
        Some(b'h') => 3_600_000,
        Some(b'd') => 86_400_000,
        _ => return Err(wrong()),
    };
    let number = text[..text.len() - 1].parse::<u64>().ok().filter(|number| *number > 0);
    number.and_then(|number| number.checked_mul(unit_ms)).ok_or_else(wrong)
}

fn names<'a>(raw: &Raw<'a>) -> Result<Vec<Text<'a>>, Refusal> {
    let name = |raw| text_of(raw).ok_or_else(|| bad("a channel is a text"));
    list(raw.channels)?.into_iter().map(name).collect()
}

fn list(raw: Option<&RawValue>) -> Result<Vec<&RawValue>, Refusal> {
    let raw = raw.ok_or_else(|| bad("`channels` is missing: a list of channel names"))?;
    let list = json::items(raw.get(), CHANNELS_MAX).map_err(|error| match error {
        ItemsError::Other => bad("`channels` is not a list of channel names"),
        ItemsError::TooMany => {
            (ErrorCode::LimitExceeded, format!("more than {CHANNELS_MAX} channels in one message"))
        }
    })?;
    if list.is_empty() { Err(bad("`channels` is empty")) } else { Ok(list) }
}

fn publish<'a>(raw: &Raw<'a>) -> Result<Kind<'a>, Refusal> {
    let refused = |error: EventError| {
        let detail = error.to_string();
        (error.code, detail)
    };
    let Some(events) = raw.events else {
        let event = RawEvent {
            channel: raw.channel,
            event_type: raw.event,
            data: raw.data,
            id: raw.message_id,
            key: raw.key,
            tags: raw.tags,
            critical: raw.critical,
            timestamp: raw.timestamp,
        };
        return Ok(Kind::Publish(vec![event.check(None, &event::MESSAGE).map_err(refused)?]));
    };
    let beside =
        [raw.channel, raw.event, raw.data, raw.message_id, raw.key, raw.tags, raw.critical, raw.timestamp];
    if beside.iter().any(Option::is_some) {
        return Err(bad("`events` stands alone: each of its objects has its own channel, type and data"));
    }
    event::read_items(events.get(), None, BATCH_EVENTS_MAX).map(Kind::Publish).map_err(refused)
}

fn samples<'a>(raw: &Raw<'a>) -> Result<Kind<'a>, Refusal> {
    let channel = text(raw.channel, "channel")?.map(|name| ChannelName::parse(&name)).transpose();
    let channel = channel.map_err(|error| (ErrorCode::InvalidChannel, error.to_string()))?;
    let items = raw.samples.ok_or_else(|| bad("`samples` is missing: a list of samples"))?;
    let batch = metric::read_items(items.get(), channel.as_ref(), BATCH_SAMPLES_MAX);
    batch.map(Kind::Samples).map_err(|error| (error.code, error.detail))
}

fn get_history<'a>(raw: &Raw<'a>) -> Result<Kind<'a>, Refusal> {
    Ok(Kind::GetHistory(GetHistory {
        channel: required(raw.channel, "channel")?,
        since: raw.since.map(position).transpose()?,
        start_ms: time(raw.start_time, "start_time")?,
        end_ms: time(raw.end_time, "end_time")?,
        limit: count(raw.limit, "limit")?,
        interval: interval(raw)?,
        shape: shape(raw)?,
        filter: filter(raw)?,
        resolution: text(raw.resolution, "resolution")?,
    }))
}

/// RFC 3339 as in document 004, or milliseconds since 1970.
fn time(raw: Option<&RawValue>, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    let wrong = || bad(format!("`{name}` is not an RFC 3339 time or milliseconds since 1970"));
    json::moment_ms(raw).map(Some).ok_or_else(wrong)
}

fn position(raw: &RawValue) -> Result<Position, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Since<'a> {
        #[serde(borrow)]
        epoch: &'a RawValue,
        #[serde(borrow)]
        sequence: &'a RawValue,
    }
    let wrong = |detail: &str| (ErrorCode::InvalidPosition, format!("`since`: {detail}"));
    if !raw.get().starts_with('{') {
        return Err(wrong("not an object with epoch and sequence"));
    }
    let since: Since<'_> =
        serde_json::from_str(raw.get()).map_err(|_| wrong("not an object with epoch and sequence"))?;
    let epoch = text_of(since.epoch).ok_or_else(|| wrong("epoch is not a text"))?;
    let epoch = Epoch::parse(&epoch).map_err(|error| wrong(&error.to_string()))?;
    Ok(Position { epoch, sequence: sequence(Some(since.sequence))? })
}

fn sequence(raw: Option<&RawValue>) -> Result<Sequence, Refusal> {
    let raw = raw.ok_or_else(|| bad("`sequence` is missing"))?;
    Sequence::parse(raw.get()).map_err(|error| (ErrorCode::InvalidPosition, error.to_string()))
}

fn interval(raw: &Raw<'_>) -> Result<Option<Interval>, Refusal> {
    let Some(name) = text(raw.interval, "aggregation_interval")? else { return Ok(None) };
    let wrong = || bad("`aggregation_interval` is not 1s, 5s, 1m, 5m or 1h");
    Interval::from_name(&name).map(Some).ok_or_else(wrong)
}

fn filter(raw: &Raw<'_>) -> Result<Filter, Refusal> {
    Filter::read(raw.tags, raw.filter).map_err(|error| (ErrorCode::InvalidFilter, error.to_string()))
}

fn shape(raw: &Raw<'_>) -> Result<Option<Shape>, Refusal> {
    let Some(name) = text(raw.shape, "shape")? else { return Ok(None) };
    Shape::from_name(&name).map(Some).ok_or_else(|| bad("`shape` is not \"grouped\" or \"points\""))
}

/// Parsed by the standard library, because serde_json's quicker parser may be off by the last digit and the
/// timestamp of a `ping` comes back in its `pong`.
fn timestamp(raw: &Raw<'_>) -> Result<Option<f64>, Refusal> {
    let Some(raw) = raw.timestamp else { return Ok(None) };
    let number = raw.get().starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let value = raw.get().parse().ok().filter(|value: &f64| number && value.is_finite());
    value.map(Some).ok_or_else(|| bad("`timestamp` is not a number"))
}

fn report(raw: &Raw<'_>) -> Result<Option<ClientReport>, Refusal> {
    raw.report.map(ClientReport::read).transpose()
}

fn count(raw: Option<&RawValue>, name: &str) -> Result<Option<u32>, Refusal> {
    typed(raw, name, "a whole number from 0 to 4294967295")
}

fn required<'a>(raw: Option<&'a RawValue>, name: &str) -> Result<Text<'a>, Refusal> {
    text(raw, name)?.ok_or_else(|| bad(format!("`{name}` is missing")))
}

fn text<'a>(raw: Option<&'a RawValue>, name: &str) -> Result<Option<Text<'a>>, Refusal> {
    raw.map(|raw| text_of(raw).ok_or_else(|| bad(format!("`{name}` is not a text")))).transpose()
}

fn typed<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    name: &str,
    wanted: &str,
) -> Result<Option<T>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| bad(format!("`{name}` is not {wanted}")))
}
