//! The protobuf form, read by a decoder that knows nothing but the wire format, against the text form.

use std::collections::BTreeMap;

use pulsewire_telemetry::{
    Codec, Current, Exposition, Format, Options, Telemetry, Transport, negotiate, render, render_protobuf,
};

/// A field's value as the wire has it.
#[derive(Debug, Clone, PartialEq)]
enum Field<'b> {
    Varint(u64),
    Double(f64),
    Bytes(&'b [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("a varint ends");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    unreachable!()
}

fn take<'b>(bytes: &mut &'b [u8], len: u64) -> &'b [u8] {
    let (taken, rest) = bytes.split_at(len as usize);
    *bytes = rest;
    taken
}

/// All fields of a message, in order.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)),
            1 => Field::Double(f64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let len = varint(&mut bytes);
                Field::Bytes(take(&mut bytes, len))
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn all(message: &[u8], number: u64) -> Vec<Field<'_>> {
    fields(message).into_iter().filter(|(field, _)| *field == number).map(|(_, field)| field).collect()
}

fn bytes(message: &[u8], number: u64) -> Vec<&[u8]> {
    let only = |field| match field {
        Field::Bytes(bytes) => bytes,
        other => panic!("{number} is {other:?}"),
    };
    all(message, number).into_iter().map(only).collect()
}

fn text(message: &[u8], number: u64) -> String {
    String::from_utf8(bytes(message, number).concat()).unwrap()
}

fn double(message: &[u8], number: u64) -> f64 {
    match all(message, number).as_slice() {
        [Field::Double(value)] => *value,
        other => panic!("{number} is {other:?}"),
    }
}

fn integer(message: &[u8], number: u64) -> u64 {
    match all(message, number).as_slice() {
        [Field::Varint(value)] => *value,
        other => panic!("{number} is {other:?}"),
    }
}

/// Each series as the text format writes it, with its value; and each family's type.
fn decode(mut page: &[u8]) -> (BTreeMap<String, f64>, BTreeMap<String, u64>) {
    let (mut series, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    while !page.is_empty() {
        let len = varint(&mut page);
        let family = take(&mut page, len);
        let (name, kind) = (text(family, 1), integer(family, 3));
        assert!(!text(family, 2).is_empty(), "{name} has no help");
        for metric in bytes(family, 4) {
            let labels: Vec<String> = bytes(metric, 1)
                .into_iter()
                .map(|pair| {
                    format!(
                        "{}=\"{}\"",
                        text(pair, 1),
                        text(pair, 2).replace('\\', "\\\\").replace('"', "\\\"")
                    )
                })
                .collect();
            let series_of = |suffix: &str, le: Option<f64>| {
                let le = le.map(|le| format!("le=\"{le}\""));
                let labels: Vec<String> = labels.iter().cloned().chain(le).collect();
                if labels.is_empty() {
                    format!("{name}{suffix}")
                } else {
                    format!("{name}{suffix}{{{}}}", labels.join(","))
                }
            };
            match kind {
                0 => {
                    let counter = bytes(metric, 3)[0];
                    assert!(integer(bytes(counter, 3)[0], 1) > 1_600_000_000, "{name} began in this century");
                    series.insert(series_of("", None), double(counter, 1));
                }
                1 => {
                    series.insert(series_of("", None), double(bytes(metric, 2)[0], 1));
                }
                4 | 5 => {
                    let histogram = bytes(metric, 7)[0];
                    series.insert(series_of("_count", None), integer(histogram, 1) as f64);
                    series.insert(series_of("_sum", None), double(histogram, 2));
                    for bucket in bytes(histogram, 3) {
                        series
                            .insert(series_of("_bucket", Some(double(bucket, 2))), integer(bucket, 1) as f64);
                    }
                }
                other => panic!("{name} has type {other}"),
            }
        }
        assert!(kinds.insert(name.clone(), kind).is_none(), "{name} comes twice");
    }
    (series, kinds)
}

#[test]
fn protobuf_says_the_same_as_text() {
    let telemetry = Telemetry::new(Options::default());
    let shard = telemetry.shard();
    let id = telemetry.event_types().intern("task:progress");
    let mut now = Current::default();
    for subscriptions in [0, 3, 70] {
        shard.connection_opened();
        now.connection(Transport::WebSocket, Codec::Json, subscriptions, 0, 0);
    }
    shard.delivered(id, 1_500_000, 300);
    shard.initial_state_sent(9_000_000_000);
    telemetry.custom().gauge("tasks_active", &[("agent", "a\"b\\c")], 4.5).unwrap();
    let (series, kinds) = decode(&render_protobuf(&telemetry, &now));
    let page = render(&telemetry, &now, Format::Text004);
    let mut compared = 0;
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        // Implied by the count, and not allowed (C11).
        if name.contains("le=\"+Inf\"") || name == "websocket_subscriptions_total" {
            assert!(!series.contains_key(name), "{name}");
            continue;
        }
        let found = series.get(name).unwrap_or_else(|| panic!("{name} is not there"));
        // The process's own use goes on between the two pages.
        if !name.starts_with("process_") && !name.contains("cpu") && !name.contains("rss") {
            assert_eq!(*found, value.parse::<f64>().unwrap(), "{name}");
        }
        compared += 1;
    }
    assert_eq!(compared, series.len());
    assert!(compared > 1_000);
    assert_eq!(series["tasks_active{agent=\"a\\\"b\\\\c\"}"], 4.5);
    assert_eq!(kinds["websocket_connections_total"], 0);
    assert_eq!(kinds["websocket_active_connections"], 1);
    assert_eq!(kinds["websocket_event_latency_milliseconds"], 4);
    assert_eq!(kinds["websocket_subscriptions_per_connection"], 5, "how it is spread now (C13)");
}

#[test]
fn protobuf_is_given_to_who_prefers_it() {
    let family = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let text = Exposition::Text(Format::Text004);
    for (accept, expected) in [
        (family.to_owned(), Exposition::Protobuf),
        // What Prometheus 3 sends when it is told to scrape native histograms.
        (
            format!(
                "{family};q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*;q=0.2"
            ),
            Exposition::Protobuf,
        ),
        (
            format!("{family};q=0.4,application/openmetrics-text;version=1.0.0;q=0.5"),
            Exposition::Text(Format::OpenMetrics),
        ),
        (format!("{family};q=0"), text),
        ("application/vnd.google.protobuf;proto=other.Message;encoding=delimited".to_owned(), text),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text"
                .to_owned(),
            text,
        ),
        ("application/vnd.google.protobuf".to_owned(), text),
    ] {
        assert_eq!(negotiate(Some(&accept)), expected, "{accept}");
    }
    let content_type = Exposition::Protobuf.content_type();
    assert_eq!(negotiate(Some(content_type)), Exposition::Protobuf, "what we say is what they ask for");
}
