//! The bytes of a call: body, signature and headers.

use std::fmt::Write as _;

use hmac::{Hmac, Mac};
use reqwest::{RequestBuilder, header};
use sha2::Sha256;
use ulid::Ulid;

use super::{ClientEvent, Hook};

/// Makes the request for one event.
pub(super) fn build(hook: &Hook, event: ClientEvent<'_>) -> RequestBuilder {
    let body = body(event);
    let milliseconds = u64::try_from(event.timestamp_ms).unwrap_or(0);
    let delivery = Ulid::from_parts(milliseconds, Ulid::generate().random());
    let mut request = hook
        .client
        .post(hook.url.clone())
        .header(header::CONTENT_TYPE, "application/json")
        .header("Pulsewire-Event", event.event_type)
        .header("Pulsewire-Delivery", delivery.to_string());
    if let Some(key) = &hook.key {
        request = request.header("Pulsewire-Signature", signature(key, event.timestamp_ms / 1000, &body));
    }
    request.body(body)
}

/// The event as JSON. Payload and request id are the client's own bytes, checked when parsed.
fn body(event: ClientEvent<'_>) -> String {
    let quoted = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), quote);
    format!(
        r#"{{"type":{},"session":"{}","user":{},"channel":{},"data":{},"id":{},"timestamp":{}}}"#,
        quote(event.event_type),
        event.session,
        quoted(event.user),
        quoted(event.channel),
        event.data.get(),
        event.id.map_or("null", |id| id.as_json()),
        event.timestamp_ms,
    )
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `t=<unix seconds>,v1=<hex>`: the HMAC-SHA256 of `<t>.<body>`.
pub(super) fn signature(key: &Hmac<Sha256>, seconds: i64, body: &str) -> String {
    let mut mac = key.clone();
    mac.update(seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    let mut header = format!("t={seconds},v1=");
    for byte in mac.finalize().into_bytes() {
        write!(header, "{byte:02x}").expect("writing to a string cannot fail");
    }
    header
}

#[cfg(test)]
mod tests {
    use hmac::KeyInit;

    use super::*;

    #[test]
    fn the_signature_covers_time_and_body() {
        let key = Hmac::new_from_slice(b"0123456789abcdef0123456789abcdef").unwrap();
        assert_eq!(signature(&key, 1_700_000_000, r#"{"type":"task_assign"}"#), EXPECTED);
        assert_ne!(signature(&key, 1_700_000_001, r#"{"type":"task_assign"}"#), EXPECTED);
    }

    /// From `printf '1700000000.{"type":"task_assign"}' | openssl dgst -sha256 -hmac …`.
    const EXPECTED: &str = "t=1700000000,v1=cca1483ee4b2398ae530aa46e3e649b8beb4197561a0e6e7a0cbd4c1a8db05f8";
}
