//! Who ends a connection on which nothing is said?
//!
//! Proxies close connections that are silent for longer than they are set to: 60 s in most, 20 s in some. The server
//! pings, so a connection is never silent for longer than its heartbeat; a proxy that waits less than that ends every
//! connection, again and again. Here the client says nothing but the pongs it owes, and looks who ends it and when.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::connection::Server;
use super::bar;
use super::finding::{Examination, Finding};
use super::line::{Heard, Line};
use super::talk::Known;

pub(super) fn examine(
    server: &Server,
    known: Known,
    span: Duration,
    progress: bool,
    found: &mut Examination,
) {
    let Some(token) = &server.token else {
        found.add(Finding::skipped("idle", "without a token the server itself ends a silent connection"));
        return;
    };
    found.add(match watch(server, token, span, progress) {
        Ok(seen) => seen.finding(known.heartbeat),
        Err(why) => {
            Finding::critical("idle", why, "the connection worked a moment ago: is something restarting?")
        }
    });
}

/// What was seen of a silent connection.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    /// How long it lived, or was watched.
    lived: Duration,
    /// Why it ended, if it did.
    ended: Option<String>,
    /// Pings of the server.
    pings: u32,
    /// The longest time in which nothing came.
    silence: Duration,
}

fn watch(server: &Server, token: &str, span: Duration, progress: bool) -> Result<Seen, String> {
    let mut line = Line::open(&server.endpoint, &server.trust).map_err(|error| error.to_string())?;
    let (head, opened) = line.upgrade(&server.endpoint, None).map_err(|error| error.to_string())?;
    if !opened {
        return Err(format!("the answer was {} instead of 101", head.status));
    }
    let connect = json!({"type": "connect", "id": 1, "token": token, "heartbeat": "frame"});
    line.say(&connect.to_string()).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let bar = bar(progress, "silence", span);
    let mut seen = Seen { lived: Duration::ZERO, ended: None, pings: 0, silence: Duration::ZERO };
    let mut heard_at = begun;
    while begun.elapsed() < span && seen.ended.is_none() {
        bar.set_position(begun.elapsed().as_secs());
        let until = (Instant::now() + Duration::from_secs(1)).min(begun + span);
        match line.hear(until) {
            Heard::Silence => continue,
            Heard::Ping => seen.pings += 1,
            Heard::Text(_) | Heard::Binary(_) | Heard::Pong => {}
            Heard::Closed(code, reason) => seen.ended = Some(format!("closed with {code} {reason}")),
            Heard::Ended(why) => seen.ended = Some(why),
        }
        seen.silence = seen.silence.max(heard_at.elapsed());
        heard_at = Instant::now();
    }
    bar.finish_and_clear();
    seen.silence = seen.silence.max(heard_at.elapsed());
    seen.lived = begun.elapsed();
    line.leave();
    Ok(seen)
}

impl Seen {
    fn finding(&self, heartbeat: Option<Duration>) -> Finding {
        let lived = self.lived.as_secs_f64();
        let pinged = heartbeat.map_or_else(String::new, |heartbeat| {
            format!(", the server pings every {} s", heartbeat.as_secs())
        });
        let Some(why) = &self.ended else {
            let text = format!("alive after {lived:.0} s with {} pings{pinged}", self.pings);
            return Finding::ok("idle", text).value(lived, "s");
        };
        let silence = self.silence.as_secs_f64();
        let text = format!("it ended after {silence:.0} s of silence ({why}){pinged}");
        // Two thirds of what was seen: a ping may be late.
        let wanted = (silence * 2.0 / 3.0).floor().max(1.0);
        let remedy = format!(
            "set heartbeat.interval = \"{wanted:.0}s\", or let the proxy wait longer (nginx: proxy_read_timeout 90s; \
             HAProxy: timeout tunnel 90s)"
        );
        Finding::critical("idle", text, remedy).value(silence, "s")
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_proxy_with_less_patience_than_the_heartbeat_is_found_out() {
        let heartbeat = Some(Duration::from_secs(25));
        let alive =
            Seen { lived: Duration::from_secs(70), ended: None, pings: 2, silence: Duration::from_secs(25) };
        assert_eq!(alive.finding(heartbeat).verdict, Verdict::Ok);
        let cut = Seen {
            lived: Duration::from_secs(20),
            ended: Some("reset".to_owned()),
            pings: 0,
            silence: Duration::from_secs(20),
        };
        let finding = cut.finding(heartbeat);
        assert_eq!((finding.verdict, finding.value), (Verdict::Critical, Some(20.0)));
        assert!(
            finding.text.contains("after 20 s of silence (reset), the server pings every 25 s"),
            "{finding:?}"
        );
        assert!(finding.remedy.unwrap().contains("heartbeat.interval = \"13s\""));
    }
}
