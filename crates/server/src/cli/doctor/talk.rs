//! One conversation over a WebSocket: does the token let us in, and do frames of every kind come through whole?

use std::time::{Duration, Instant};

use pulsewire_edge::clock;
use serde_json::{Value, json};

use super::super::connection::Server;
use super::finding::{Examination, Finding};
use super::line::{Heard, Line, PATIENCE};

/// The bytes of the test event's text: more than a proxy's usual buffer, and less than a message may have by default.
const LARGE_BYTES: usize = 48 * 1024;
/// The collector's samples come once a second by default.
const SAMPLE_WAIT: Duration = Duration::from_secs(6);
/// Longer than this a ping should not take on any ground, milliseconds.
const PING_WARNING_MS: f64 = 1_000.0;
/// A token that ends so soon is worth a word, seconds.
const TOKEN_WARNING_SECONDS: f64 = 600.0;

/// What the server said of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// How often it pings.
    pub(super) heartbeat: Option<Duration>,
}

/// Talks for a while, and says goodbye by closing.
pub(super) fn examine(server: &Server, line: Line, channel: &str, found: &mut Examination) -> Known {
    let mut talk = Talk { line };
    let known = talk.enter(server, found);
    found.add(talk.ping());
    if known.is_some() {
        found.add(talk.frames(channel));
        found.add(talk.binary());
    } else {
        found.add(Finding::skipped("frames", "without a token nothing can be published"));
        found.add(Finding::skipped("binary", "without a token nothing can be read"));
    }
    talk.line.leave();
    known.unwrap_or_default()
}

struct Talk {
    line: Line,
}

/// Why something that was waited for did not come.
enum Missed {
    /// The server refused it: code and text.
    Refused(String, String),
    /// The connection ended, or nothing came.
    Lost(String),
}

impl Talk {
    fn enter(&mut self, server: &Server, found: &mut Examination) -> Option<Known> {
        let Some(token) = &server.token else {
            let why = "none; pass --token or set PULSEWIRE_TOKEN (`pulsewire token create` makes one)";
            found.add(Finding::skipped("token", why));
            return None;
        };
        match self
            .ask(&json!({"type": "connect", "id": 1, "token": token, "heartbeat": "frame"}), "connected")
        {
            Ok(connected) => {
                let left =
                    connected["expires_at"].as_i64().map(|at| (at - clock::now().wall_ms) as f64 / 1_000.0);
                let user = connected["user"].as_str().unwrap_or("nobody").to_owned();
                found.add(valid(&user, left));
                let heartbeat = connected["heartbeat_ms"].as_u64().map(Duration::from_millis);
                Some(Known { heartbeat })
            }
            Err(missed) => {
                let text = missed.to_string();
                let remedy = "`pulsewire token verify` says why, and `pulsewire token create` makes another";
                found.add(Finding::critical("token", format!("it was refused: {text}"), remedy));
                found.unauthorised = matches!(missed, Missed::Refused(..));
                None
            }
        }
    }

    /// Sends a request and waits for the message of this type.
    fn ask(&mut self, request: &Value, answer: &str) -> Result<Value, Missed> {
        self.line.say(&request.to_string()).map_err(|error| Missed::Lost(error.to_string()))?;
        self.wait(answer, PATIENCE)
    }

    fn wait(&mut self, kind: &str, patience: Duration) -> Result<Value, Missed> {
        let until = Instant::now() + patience;
        loop {
            match self.line.hear(until) {
                Heard::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap_or_default();
                    if message["type"] == kind {
                        return Ok(message);
                    }
                    if message["type"] == "error" {
                        let word = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
                        return Err(Missed::Refused(word("code"), word("message")));
                    }
                }
                Heard::Closed(code @ 4500..=4506, reason) => {
                    return Err(Missed::Refused(code.to_string(), reason));
                }
                Heard::Closed(code, reason) => {
                    return Err(Missed::Lost(format!("closed with {code} {reason}")));
                }
                Heard::Ended(why) => return Err(Missed::Lost(why)),
                Heard::Silence => {
                    return Err(Missed::Lost(format!("nothing within {} s", patience.as_secs())));
                }
                Heard::Binary(_) | Heard::Ping | Heard::Pong => {}
            }
        }
    }

    fn ping(&mut self) -> Finding {
        let remedy = "a proxy that takes control frames away, or a network that holds them back: ask from the server's side";
        let begun = Instant::now();
        let until = begun + PATIENCE;
        if let Err(error) = self.line.ping() {
            return Finding::critical("ping", error.to_string(), remedy);
        }
        loop {
            match self.line.hear(until) {
                Heard::Pong => break,
                Heard::Closed(code, reason) => {
                    return Finding::skipped(
                        "ping",
                        format!("the server closed before, with {code} {reason}"),
                    );
                }
                Heard::Ended(why) => return Finding::critical("ping", why, remedy),
                Heard::Silence => return Finding::critical("ping", "no pong within 5 s", remedy),
                Heard::Text(_) | Heard::Binary(_) | Heard::Ping => {}
            }
        }
        let ms = begun.elapsed().as_secs_f64() * 1_000.0;
        let text = format!("answered in {ms:.1} ms");
        if ms > PING_WARNING_MS {
            return Finding::warning(
                "ping",
                text,
                "the network is far or full, or the server is: see its overview",
            )
            .value(ms, "ms");
        }
        Finding::ok("ping", text).value(ms, "ms")
    }

    /// A large event there and back.
    fn frames(&mut self, channel: &str) -> Finding {
        let subscribe = json!({"type": "subscribe", "id": 2, "channels": [channel]});
        if let Err(missed) = self.ask(&subscribe, "subscribed") {
            return missed.finding("frames", channel);
        }
        let text: String = ('a'..='z').cycle().take(LARGE_BYTES).collect();
        let publish = json!({"type": "publish", "id": 3, "channel": channel, "event": "doctor", "data": {"text": text}});
        let begun = Instant::now();
        if let Err(error) = self.line.say(&publish.to_string()) {
            return Missed::Lost(error.to_string()).finding("frames", channel);
        }
        match self.echo(channel) {
            Ok(event) if event["data"]["text"] == text.as_str() => {
                let ms = begun.elapsed().as_secs_f64() * 1_000.0;
                Finding::ok("frames", format!("48 KiB to {channel} and back in {ms:.1} ms")).value(ms, "ms")
            }
            Ok(_) => Finding::critical(
                "frames",
                "an event of 48 KiB came back changed",
                "something on the way rewrites what passes; let it pass WebSockets as they are",
            ),
            Err(missed) => missed.finding("frames", channel),
        }
    }

    /// The event itself, whose type is what was published.
    fn echo(&mut self, channel: &str) -> Result<Value, Missed> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = self.wait("event", left)?;
            if message["channel"] == channel && message["data"]["text"].is_string() {
                return Ok(message);
            }
        }
    }

    /// A frame that is no text: metric data as MessagePack.
    fn binary(&mut self) -> Finding {
        let subscribe =
            json!({"type": "subscribe", "id": 4, "channels": ["system.metrics"], "compression": true});
        if let Err(missed) = self.ask(&subscribe, "subscribed") {
            return missed.finding("binary", "system.metrics");
        }
        let until = Instant::now() + SAMPLE_WAIT;
        loop {
            match self.line.hear(until) {
                Heard::Binary(bytes) => {
                    return Finding::ok("binary", format!("{} bytes of MessagePack", bytes.len()));
                }
                Heard::Silence => {
                    return Finding::skipped(
                        "binary",
                        "system.metrics said nothing for 6 s (collector.enabled)",
                    );
                }
                Heard::Closed(code, reason) => {
                    return Missed::Lost(format!("closed with {code} {reason}"))
                        .finding("binary", "system.metrics");
                }
                Heard::Ended(why) => return Missed::Lost(why).finding("binary", "system.metrics"),
                Heard::Text(_) | Heard::Ping | Heard::Pong => {}
            }
        }
    }
}

impl std::fmt::Display for Missed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Missed::Refused(code, text) => write!(f, "{code} {text}"),
            Missed::Lost(why) => f.write_str(why),
        }
    }
}

impl Missed {
    /// What the server does not allow is no problem of the way to it; what gets lost is.
    fn finding(self, id: &'static str, channel: &str) -> Finding {
        match self {
            Missed::Refused(code, _) => Finding::skipped(
                id,
                format!("{channel} is not for this token ({code}); --channel names another"),
            ),
            Missed::Lost(why) => Finding::critical(
                id,
                why,
                "a proxy that limits or inspects messages ends such connections; let it pass WebSockets as they are",
            ),
        }
    }
}

fn valid(user: &str, left_seconds: Option<f64>) -> Finding {
    let Some(left) = left_seconds else {
        return Finding::ok("token", format!("valid: {user}, without an end"));
    };
    let minutes = left / 60.0;
    let text = if minutes < 120.0 {
        format!("valid: {user}, for {minutes:.0} min")
    } else {
        format!("valid: {user}, for {:.0} h", minutes / 60.0)
    };
    if left < TOKEN_WARNING_SECONDS {
        return Finding::warning("token", text, "fetch another in time; clients are told a minute before")
            .value(left, "s");
    }
    Finding::ok("token", text).value(left, "s")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_token_that_ends_soon_is_worth_a_word() {
        assert_eq!(valid("ada", None).verdict, Verdict::Ok);
        assert_eq!(valid("ada", Some(86_400.0)).text, "valid: ada, for 24 h");
        assert_eq!(valid("ada", Some(601.0)).verdict, Verdict::Ok);
        assert_eq!(valid("ada", Some(599.0)).verdict, Verdict::Warning);
    }

    #[test]
    fn what_is_not_allowed_is_no_fault_of_the_way() {
        let refused = Missed::Refused("forbidden".to_owned(), String::new());
        assert_eq!(refused.finding("frames", "run:1").verdict, Verdict::Skipped);
        assert_eq!(Missed::Lost("reset".to_owned()).finding("frames", "run:1").verdict, Verdict::Critical);
    }
}
