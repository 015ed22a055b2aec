//! What comes over HTTP: clocks, polling, event streams, metrics, health.

use std::io;
use std::time::{Duration, Instant};

use pulsewire_client::http1::Head;
use pulsewire_edge::clock;
use serde_json::Value;

use super::super::connection::Server;
use super::finding::{Examination, Finding};
use super::line::Line;

/// Clocks that differ by more are worth a word, seconds: a header counts whole seconds.
const SKEW_WARNING_SECONDS: f64 = 5.0;
/// Tokens are refused as expired or as not yet valid by then, seconds.
const SKEW_CRITICAL_SECONDS: f64 = 60.0;
/// The first words of a stream come at once; a proxy that gathers keeps them.
const STREAM_WAIT: Duration = Duration::from_secs(3);

/// Whether the server's clock shows what ours does.
pub(super) fn clocks(server: &Server, found: &mut Examination) {
    let before = clock::now().wall_ms;
    let Ok((head, _)) = get(server, "/livez", false) else {
        found.add(Finding::skipped("clock", "no answer over HTTP"));
        return;
    };
    let after = clock::now().wall_ms;
    let date = head.header("date").and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let Some(date) = date.map(|date| date.timestamp().as_millisecond()) else {
        found.add(Finding::skipped("clock", "the answer has no Date"));
        return;
    };
    // The header tells the second in which the answer was made.
    let ahead = if date > after { date - after } else { (date + 1_000 - before).min(0) };
    found.add(skew(ahead as f64 / 1_000.0));
}

/// What is said of a server's clock that is ahead of ours, or behind it where negative.
fn skew(seconds: f64) -> Finding {
    let text = match seconds {
        0.0 => "they show the same second".to_owned(),
        ahead if ahead > 0.0 => format!("the server's is {ahead:.0} s ahead of ours"),
        behind => format!("the server's is {:.0} s behind ours", -behind),
    };
    let remedy = "set both by NTP (timedatectl set-ntp true): tokens are valid by the clock";
    let finding = match seconds.abs() {
        off if off > SKEW_CRITICAL_SECONDS => Finding::critical("clock", text, remedy),
        off if off > SKEW_WARNING_SECONDS => Finding::warning("clock", text, remedy),
        _ => Finding::ok("clock", text),
    };
    finding.value(seconds, "s")
}

pub(super) fn examine(server: &Server, channel: &str, found: &mut Examination) {
    found.add(polling(server, channel));
    found.add(streaming(server, channel));
    found.add(metrics(server));
    found.add(health(server));
}

fn get(server: &Server, target: &str, shown: bool) -> io::Result<(Head, Vec<u8>)> {
    let mut line = Line::open(&server.endpoint, &server.trust).map_err(io::Error::other)?;
    let token = server.token.as_deref().filter(|_| shown);
    line.request(&server.endpoint, target, token)
}

/// Whether clients that may not use WebSockets find their way. A refusal by the server itself came from there too.
fn polling(server: &Server, channel: &str) -> Finding {
    let remedy = "let the proxy pass /api/channels as well: clients that cannot use WebSockets read there";
    match get(server, &format!("/api/channels/{channel}/poll"), true) {
        Ok((head, _)) if head.status == 200 => Finding::ok("polling", "answered with 200"),
        Ok((head, body)) => match code(&body) {
            Some(code) => {
                Finding::ok("polling", format!("reached: {channel} is answered {} {code}", head.status))
            }
            None => Finding::warning(
                "polling",
                format!("/api/channels is answered {} by somebody else", head.status),
                remedy,
            ),
        },
        Err(error) => Finding::warning("polling", format!("/api/channels: {error}"), remedy),
    }
}

/// The code of an answer that the server itself made.
fn code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let ours = body["type"].as_str()?.starts_with("urn:pulsewire:");
    ours.then(|| body["code"].as_str().map(str::to_owned))?
}

/// Whether an event stream comes as it is written, or when a proxy has gathered enough of it.
fn streaming(server: &Server, channel: &str) -> Finding {
    let target = format!("/api/channels/{channel}/sse");
    let remedy = "turn buffering and compression off for text/event-stream (nginx: proxy_buffering off)";
    let begun = Instant::now();
    let until = begun + STREAM_WAIT;
    let mut line = match Line::open(&server.endpoint, &server.trust) {
        Ok(line) => line,
        Err(error) => return Finding::warning("streaming", error.to_string(), remedy),
    };
    let head = match line.begin(&server.endpoint, &target, server.token.as_deref()) {
        Ok(head) => head,
        Err(error) => {
            return Finding::warning("streaming", format!("nothing came of a stream: {error}"), remedy);
        }
    };
    if head.status != 200 {
        let why = format!("{channel} is answered {}; --channel names another", head.status);
        return Finding::skipped("streaming", why);
    }
    while !contains(line.input(), b"subscribed") {
        match line.read(until) {
            Ok(1..) => {}
            _ => {
                let text = "the head came, and of the stream nothing within 3 s: a proxy gathers it";
                return Finding::warning("streaming", text, remedy);
            }
        }
    }
    let ms = begun.elapsed().as_secs_f64() * 1_000.0;
    Finding::ok("streaming", format!("its first words in {ms:.1} ms")).value(ms, "ms")
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

fn metrics(server: &Server) -> Finding {
    match get(server, "/metrics", true) {
        Ok((head, body)) if head.status == 200 => {
            let series = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#');
            let series = series.count();
            Finding::ok("metrics", format!("{series} series")).value(series as f64, "count")
        }
        Ok((head, _)) if matches!(head.status, 401 | 403) => Finding::skipped(
            "metrics",
            "not for this token, or only at the internal address (metrics.public)",
        ),
        Ok((head, _)) => Finding::skipped(
            "metrics",
            format!("/metrics is answered {}: it may have an address of its own", head.status),
        ),
        Err(error) => {
            Finding::warning("metrics", error.to_string(), "look at /metrics from the server's side")
        }
    }
}

fn health(server: &Server) -> Finding {
    let remedy = "the server's log has the details; docs/operate names what to do";
    let (head, body) = match get(server, "/health/websocket", false) {
        Ok(answered) => answered,
        Err(error) => return Finding::warning("health", error.to_string(), remedy),
    };
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(status) = body["status"].as_str() else {
        let text = format!("/health/websocket is answered {}", head.status);
        return Finding::skipped("health", text);
    };
    let list = |key: &str| {
        let all = body[key].as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let said: Vec<String> =
        list("reasons").into_iter().chain(body["note"].as_str().map(str::to_owned)).collect();
    let said = if said.is_empty() { String::new() } else { format!(": {}", said.join("; ")) };
    let text = format!("{status}, {} connections{said}", body["activeConnections"]);
    match status {
        "healthy" => Finding::ok("health", text),
        "degraded" => Finding::warning("health", text, remedy),
        _ => Finding::critical("health", text, remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn clocks_may_differ_a_little() {
        let seen = [0.0, 5.0, -5.0, 6.0, -61.0].map(|seconds| skew(seconds).verdict);
        assert_eq!(seen, [Verdict::Ok, Verdict::Ok, Verdict::Ok, Verdict::Warning, Verdict::Critical]);
        assert_eq!(skew(-61.0).text, "the server's is 61 s behind ours");
    }

    #[test]
    fn an_answer_of_somebody_else_is_not_ours() {
        let ours = br#"{"code":"unknown_channel","type":"urn:pulsewire:error:unknown_channel"}"#;
        assert_eq!(code(ours).as_deref(), Some("unknown_channel"));
        assert_eq!(code(br#"{"code":"unknown_channel","type":"x"}"#), None);
        assert_eq!(code(b"<html>"), None);
    }
}
