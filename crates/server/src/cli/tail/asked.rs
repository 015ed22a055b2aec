//! What may be asked of metric channels on the command line, checked before anything is connected.

use std::time::Duration;

use pulsewire_client::{Interval, Shape};
use pulsewire_protocol::Filter;
use serde_json::value::RawValue;

use crate::settings::duration_from_text;

/// One of the intervals that metric channels are rolled up over.
pub(super) fn interval(text: &str) -> Result<Interval, String> {
    Interval::from_name(text).ok_or_else(|| {
        let allowed: Vec<&str> = Interval::ALL.iter().map(|interval| interval.name()).collect();
        let (last, others) = allowed.split_last().map_or(("", &[][..]), |(last, others)| (*last, others));
        format!("windows are {} or {last} long", others.join(", "))
    })
}

/// `points` or `grouped`.
pub(super) fn shape(text: &str) -> Result<Shape, String> {
    Shape::from_name(text).ok_or_else(|| "write points or grouped".to_owned())
}

/// How far back to begin.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let span = duration_from_text(text).filter(|span| *span >= Duration::from_secs(1));
    let file =
        if text.contains(['.', '/']) { "; a log for check-history is written with --record" } else { "" };
    span.ok_or_else(|| format!("write how far back, such as 90s, 15m, 6h or 7d{file}"))
}

/// A filter as the protocol has it, handed on as it was written.
pub(super) fn filter(text: &str) -> Result<Box<RawValue>, String> {
    let raw: Box<RawValue> = serde_json::from_str(text).map_err(|error| {
        format!("this is not JSON: {error}; write such as '{{\"host\":{{\"prefix\":\"web-\"}}}}'")
    })?;
    match Filter::read(None, Some(&raw)) {
        Ok(_) => Ok(raw),
        Err(error) => Err(format!("{error}; R25 of docs/protocol.md lists the operators")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_refused_with_what_can() {
        assert_eq!(interval("5m"), Ok(Interval::M5));
        assert_eq!(interval("7s"), Err("windows are 1s, 5s, 1m, 5m or 1h long".to_owned()));
        assert_eq!(shape("points"), Ok(Shape::Points));
        assert_eq!(shape("dots"), Err("write points or grouped".to_owned()));
        assert_eq!(span("15m"), Ok(Duration::from_secs(900)));
        for wrong in ["0s", "900ms", "15", "yesterday", ""] {
            assert_eq!(
                span(wrong),
                Err("write how far back, such as 90s, 15m, 6h or 7d".to_owned()),
                "{wrong}"
            );
        }
        assert!(span("ada.jsonl").unwrap_err().ends_with("written with --record"));
    }

    #[test]
    fn a_filter_is_checked_as_the_server_would() {
        let good = r#"{"host":{"prefix":"web-"},"$name":"cpu.percent"}"#;
        assert_eq!(filter(good).unwrap().get(), good);
        let broken = filter("{host").unwrap_err();
        assert!(broken.starts_with("this is not JSON: ") && broken.contains("prefix"), "{broken}");
        let strange = filter(r#"{"host":{"like":"x"}}"#).unwrap_err();
        assert!(strange.contains("prefix, exists") && strange.contains("R25"), "{strange}");
        assert!(filter("[]").is_err());
    }
}
