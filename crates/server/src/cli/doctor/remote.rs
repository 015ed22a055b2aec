//! A server as a client sees it, with everything that stands between them.
//!
//! First whether anybody answers, who that is, and whether it becomes a WebSocket; then one conversation on it
//! ([`talk`]), what comes over HTTP ([`web`]), and at the end the long silence ([`idle`]).

use std::time::Instant;

use pulsewire_client::http1::Head;

use super::super::connection::Server;
use super::finding::{Examination, Finding};
use super::line::{Line, NoLine};
use super::{Patience, idle, talk, web};

/// A certificate that ends so soon is renewed by now where that happens by itself, days.
const CERTIFICATE_WARNING_DAYS: f64 = 14.0;
/// No time is left to look for the cause, days.
const CERTIFICATE_CRITICAL_DAYS: f64 = 3.0;

pub(super) fn examine(server: &Server, patience: &Patience<'_>, found: &mut Examination) {
    found.server = Some(server.endpoint.to_string());
    let Some(mut line) = reach(server, found) else { return };
    let opened = upgrade(server, &mut line, found);
    web::clocks(server, found);
    if opened {
        let known = talk::examine(server, line, patience.channel, found);
        web::examine(server, patience.channel, found);
        match patience.silence {
            Some(span) => idle::examine(server, known, span, patience.progress, found),
            None => found.add(Finding::skipped("idle", "it takes up to 70 s; --deep looks")),
        }
    } else {
        web::examine(server, patience.channel, found);
    }
}

fn reach(server: &Server, found: &mut Examination) -> Option<Line> {
    let endpoint = &server.endpoint;
    match Line::open(endpoint, &server.trust) {
        Ok(line) => {
            let ms = line.connected_in.as_secs_f64() * 1_000.0;
            found.add(Finding::ok("reach", format!("a connection in {ms:.1} ms")).value(ms, "ms"));
            found.add(certificate(server, &line));
            Some(line)
        }
        Err(NoLine::Unreachable(why)) => {
            let remedy = "is the server running, and does --url name it? `pulsewire serve --dev` starts one";
            let text = format!("{} cannot be reached: {why}", endpoint.authority());
            found.add(Finding::critical("reach", text, remedy));
            found.unreachable = true;
            None
        }
        Err(NoLine::Tls(why)) => {
            found.add(Finding::ok("reach", "somebody answers"));
            let remedy = "use the host name that its certificate names, and renew one that has ended; --ca-file names \
                          the authority of one of your own";
            found.add(Finding::critical("tls", format!("no secure connection: {why}"), remedy));
            None
        }
    }
}

fn certificate(server: &Server, line: &Line) -> Finding {
    if !server.endpoint.is_secure() {
        return Finding::skipped("tls", "none: what is sent, the token with it, can be read on the way");
    }
    let Some(expiry) = line.expiry_seconds else {
        return Finding::skipped("tls", "the certificate does not say when it ends");
    };
    let now = pulsewire_edge::clock::now().wall_ms as f64 / 1_000.0;
    ends(expiry as f64 - now)
}

/// What is said of a certificate that ends in so many seconds.
fn ends(left_seconds: f64) -> Finding {
    let days = left_seconds / 86_400.0;
    let text = format!("the certificate ends in {days:.0} d");
    let remedy = "renew it; the server takes new files into use by itself (tls.certificate_file)";
    match days {
        days if days < CERTIFICATE_CRITICAL_DAYS => Finding::critical("tls", text, remedy),
        days if days < CERTIFICATE_WARNING_DAYS => Finding::warning("tls", text, remedy),
        _ => Finding::ok("tls", text),
    }
    .value(days, "days")
}

fn upgrade(server: &Server, line: &mut Line, found: &mut Examination) -> bool {
    let begun = Instant::now();
    match line.upgrade(&server.endpoint, None) {
        Ok((_, true)) => {
            let ms = begun.elapsed().as_secs_f64() * 1_000.0;
            found.add(Finding::ok("upgrade", format!("101 in {ms:.1} ms")).value(ms, "ms"));
            true
        }
        Ok((head, false)) => {
            let (text, remedy) = refused(&head);
            found.add(Finding::critical("upgrade", text, remedy));
            false
        }
        Err(error) => {
            let remedy =
                "a proxy that knows no WebSocket ends such requests; let it pass Upgrade and Connection";
            found.add(Finding::critical("upgrade", format!("no answer: {error}"), remedy));
            false
        }
    }
}

/// Why the request for a WebSocket was answered otherwise, and what to do.
fn refused(head: &Head) -> (String, &'static str) {
    let remedy = match head.status {
        101 => {
            "a proxy answered for the server: its 101 does not match the request; let it pass the headers unchanged"
        }
        200..=299 | 400 | 426 => {
            "a proxy took Upgrade away; let it speak HTTP/1.1 to the server and pass Upgrade and Connection (nginx: \
             proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade)"
        }
        301..=399 => "use the address it points to, with wss:// where that is https://",
        401 | 403 => {
            "something before the server asks for a login, or the server wants an Origin (origins.allow_missing)"
        }
        404 | 405 => {
            "the path is another one: the socket lives at /ws and /ws/metrics, behind a proxy perhaps elsewhere"
        }
        429 | 503 => {
            "the server is full, going away, or keeps this address out; its log and /health/websocket say which"
        }
        502 | 504 => {
            "the proxy does not reach the server: is that running, and at the address the proxy knows?"
        }
        _ => "look at the log of the proxy and of the server at this moment",
    };
    (format!("the answer was {} instead of 101", head.status), remedy)
}

#[cfg(test)]
mod tests {
    use pulsewire_client::http1;

    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_certificate_is_told_of_before_it_ends() {
        let verdict = |days: f64| ends(days * 86_400.0).verdict;
        let seen = [60.0, 14.1, 13.9, 3.1, 2.9, -1.0].map(verdict);
        let (ok, warning, critical) = (Verdict::Ok, Verdict::Warning, Verdict::Critical);
        assert_eq!(seen, [ok, ok, warning, warning, critical, critical]);
    }

    #[test]
    fn every_refusal_of_an_upgrade_has_its_remedy() {
        let remedy = |status: u16| {
            let text = format!("HTTP/1.1 {status} x\r\n\r\n");
            refused(&http1::parse_head(text.as_bytes()).unwrap().unwrap()).1
        };
        for (status, words) in [
            (101, "unchanged"),
            (200, "proxy_http_version"),
            (400, "proxy_http_version"),
            (302, "wss://"),
            (404, "/ws"),
            (503, "/health/websocket"),
            (502, "does not reach"),
            (418, "log"),
        ] {
            assert!(remedy(status).contains(words), "{status}: {}", remedy(status));
        }
    }
}
