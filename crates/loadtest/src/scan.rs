//! What the load tool reads out of a server message without parsing it.
//!
//! Ten thousand subscribers on one core leave about a microsecond for a message, so a publication is recognised by its
//! fixed beginning and three numbers are read where the protocol's fixed key order puts them. Anything else is looked
//! at by name.

/// A server message, as far as the load tool cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A publication.
    Event {
        /// Its sequence; none on ephemeral channels.
        sequence: Option<u64>,
        /// The sequence this subscriber got before, when the server says that it is not the one before.
        previous: Option<u64>,
        /// When the generator meant to send it: the `at` that every load event carries in its data.
        at_ns: Option<u64>,
    },
    /// Events are missing and the server says so.
    Gap {
        /// The last missing sequence.
        to: u64,
    },
    /// The subscription is accepted; the log stands at this sequence.
    Subscribed {
        /// 0 when the channel has no log.
        sequence: u64,
    },
    /// A publish is accepted.
    Ack,
    /// A pong message.
    Pong,
    /// A refusal.
    Error,
    /// Something else.
    Other,
}

/// Recognises a message.
pub fn see(text: &[u8]) -> Seen {
    let Some(rest) = text.strip_prefix(br#"{"type":""#) else { return Seen::Other };
    if let Some(rest) = rest.strip_prefix(br#"event","channel":""#) {
        return event(rest);
    }
    let name_len = rest.iter().position(|byte| *byte == b'"').unwrap_or(0);
    match &rest[..name_len] {
        b"ack" => Seen::Ack,
        b"pong" => Seen::Pong,
        b"error" => Seen::Error,
        b"subscribed" => Seen::Subscribed { sequence: number_after(rest, br#""sequence":"#).unwrap_or(0) },
        b"gap" => Seen::Gap { to: number_after(rest, br#""to":"#).unwrap_or(0) },
        _ => Seen::Other,
    }
}

/// The epoch that a message names first.
pub fn epoch(text: &[u8]) -> Option<String> {
    const KEY: &[u8] = br#""epoch":""#;
    let rest = &text[text.windows(KEY.len()).position(|window| window == KEY)? + KEY.len()..];
    let len = rest.iter().position(|byte| *byte == b'"')?;
    String::from_utf8(rest[..len].to_vec()).ok()
}

fn event(rest: &[u8]) -> Seen {
    let channel_len = rest.iter().position(|byte| *byte == b'"').unwrap_or(0);
    let mut rest = &rest[channel_len..];
    let mut number = |key: &[u8]| {
        let digits = rest.strip_prefix(key)?;
        let (number, len) = leading_number(digits)?;
        rest = &digits[len..];
        Some(number)
    };
    let sequence = number(br#"","sequence":"#);
    let previous = number(br#","previous":"#);
    let at_ns = number_after(&rest[..rest.len().min(160)], br#""data":{"at":"#);
    Seen::Event { sequence, previous, at_ns }
}

/// The whole number that follows `key` where it first stands.
pub(crate) fn number_after(text: &[u8], key: &[u8]) -> Option<u64> {
    let at = text.windows(key.len()).position(|window| window == key)?;
    leading_number(&text[at + key.len()..]).map(|(number, _)| number)
}

fn leading_number(text: &[u8]) -> Option<(u64, usize)> {
    let len = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let digits = &text[..len.min(20)];
    (!digits.is_empty()).then(|| {
        let number = digits
            .iter()
            .fold(0_u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
        (number, len)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, seen: Seen) {
        assert_eq!(see(text.as_bytes()), seen, "{text}");
    }

    #[test]
    fn the_epoch_of_a_position_is_found() {
        let subscribed =
            br#"{"type":"subscribed","channels":["a:1"],"positions":{"a:1":{"epoch":"e7","sequence":42}}}"#;
        assert_eq!(epoch(subscribed).as_deref(), Some("e7"));
        assert_eq!(epoch(br#"{"type":"subscribed","channels":["a:1"]}"#), None);
        assert_eq!(epoch(br#"{"epoch":"cut"#), None);
    }

    #[test]
    fn a_publication_is_read_where_its_numbers_are() {
        check(
            r#"{"type":"event","channel":"a:1","sequence":42,"event":"tick","data":{"at":7,"pad":"x"},"timestamp":9}"#,
            Seen::Event { sequence: Some(42), previous: None, at_ns: Some(7) },
        );
        check(
            r#"{"type":"event","channel":"a:1","sequence":42,"previous":40,"event":"t","data":null,"timestamp":9}"#,
            Seen::Event { sequence: Some(42), previous: Some(40), at_ns: None },
        );
        check(
            r#"{"type":"event","channel":"a:1","event":"t","data":{"at":1},"timestamp":9}"#,
            Seen::Event { sequence: None, previous: None, at_ns: Some(1) },
        );
    }

    #[test]
    fn other_messages_are_known_by_name() {
        check(
            r#"{"type":"subscribed","channels":["a:1"],"positions":{"a:1":{"epoch":"e","sequence":12}}}"#,
            Seen::Subscribed { sequence: 12 },
        );
        check(r#"{"type":"subscribed","channels":["a:1"]}"#, Seen::Subscribed { sequence: 0 });
        check(r#"{"type":"gap","channel":"a","from":3,"to":5,"reason":"trimmed"}"#, Seen::Gap { to: 5 });
        check(r#"{"type":"ack","id":1}"#, Seen::Ack);
        check(r#"{"type":"error","message":"no"}"#, Seen::Error);
        check(r#"{"type":"welcome"}"#, Seen::Other);
        check("", Seen::Other);
        check(r#"{"type":""#, Seen::Other);
    }
}
