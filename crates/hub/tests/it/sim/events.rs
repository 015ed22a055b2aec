//! Events that say of themselves which they are, and what should be known of them.

use pulsewire_protocol::Event;

use super::truth::{Kind, host_of, is_critical, key_of, kind, removes};

/// JSON as MessagePack.
pub fn packed(json: &str) -> Vec<u8> {
    pulsewire_protocol::transcode::json_to_msgpack(json.as_bytes()).expect("valid JSON")
}

/// An event as its JSON, in the words of a client's `publish`.
pub fn event_fields(channel: &str, payload: u64, padding: usize, id: Option<&str>) -> String {
    fields(channel, payload, padding, id, ("event", "message_id"))
}

pub fn event(channel: &str, payload: u64, padding: usize, id: Option<&str>) -> Event {
    let json = format!("{{{}}}", fields(channel, payload, padding, id, ("type", "id")));
    Event::parse_one(json.as_bytes()).expect("an event")
}

fn fields(channel: &str, payload: u64, padding: usize, id: Option<&str>, names: (&str, &str)) -> String {
    let (kind_name, id_name) = names;
    let mut data = format!(r#"{{"n":{payload},"pad":"{}"}}"#, "x".repeat(padding));
    let mut id = id.map(str::to_owned);
    let mut more = tags_of(payload);
    if kind(channel) == Kind::Log {
        if let Some(key) = key_of(payload) {
            more.push_str(&format!(r#","key":"{key}""#));
            if removes(payload) {
                data = "null".into();
                id = Some(format!("m{payload}"));
            }
        }
        if is_critical(payload) {
            more.push_str(r#","critical":true"#);
        }
    }
    let id = id.map_or(String::new(), |id| format!(r#","{id_name}":"{id}""#));
    format!(r#""channel":"{channel}","{kind_name}":"note","data":{data}{more}{id}"#)
}

/// Every third event carries no tags.
fn tags_of(payload: u64) -> String {
    match host_of(payload) {
        Some(host) => format!(r#","tags":{{"host":"{host}"}}"#),
        None => String::new(),
    }
}

pub fn payload_of(event: &Event) -> u64 {
    let data = event.data.get();
    let digits = match (data, &event.id) {
        ("null", Some(id)) => id.as_str().trim_start_matches('m'),
        _ => data.trim_start_matches("{\"n\":"),
    };
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
