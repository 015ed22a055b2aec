//! The states of a connection and why it ended.
//!
//! The names are those of the SDK specification (`authorizing`, `offline` and `polling` belong to browsers and are not
//! reached here). What a close code means follows from its range, so a new code needs no new client: 4000–4499 come
//! back, 4500–4999 do not.

use std::fmt;
use std::time::Duration;

use pulsewire_protocol::{CloseCode, Reconnect};

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not started.
    Idle,
    /// Connecting and upgrading.
    Opening,
    /// The connect frame is sent; the server has not welcomed the session yet.
    Greeting,
    /// Subscribed; events flow.
    Live,
    /// Nothing was heard for longer than the server's ping interval; a ping is out.
    Probing,
    /// The connection is gone; the next attempt comes after the wait.
    Waiting {
        /// How long.
        wait: Duration,
    },
    /// Ended for good.
    Closed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Idle => "idle",
            State::Opening => "opening",
            State::Greeting => "greeting",
            State::Live => "live",
            State::Probing => "probing",
            State::Waiting { .. } => "waiting",
            State::Closed => "closed",
        })
    }
}

/// Why a connection ended or did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The application closed it.
    Client,
    /// Nobody listens at the address, or the name does not resolve.
    Unreachable(String),
    /// The server could not prove to be the one its URL names, or speaks no TLS.
    Tls(String),
    /// The server did not answer within the time for connecting and greeting.
    Timeout,
    /// The server refused the upgrade with this HTTP status.
    Refused(u16),
    /// The server closed with this code; 1006 stands for a connection that broke without one.
    Closed {
        /// The code.
        code: u16,
        /// The server's words.
        reason: String,
    },
    /// Nothing was heard, not even a pong.
    Silent,
    /// The server broke the protocol.
    Protocol(String),
}

impl Reason {
    /// Whether the credentials were the problem: another token may help, another attempt will not.
    pub fn is_unauthorized(&self) -> bool {
        match self {
            Reason::Refused(status) => matches!(status, 401 | 403),
            Reason::Closed { code, .. } => matches!(code, 4002 | 4501 | 4502 | 4505 | 4506),
            _ => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Client => f.write_str("closed by the client"),
            Reason::Unreachable(why) => write!(f, "{why}"),
            Reason::Tls(why) => write!(f, "no secure connection: {why}"),
            Reason::Timeout => f.write_str("no answer in time"),
            Reason::Refused(status) => write!(f, "refused with HTTP status {status}"),
            Reason::Closed { code: 1006, .. } => f.write_str("connection lost (1006)"),
            Reason::Closed { code, reason } if reason.is_empty() => {
                write!(f, "closed by the server ({code})")
            }
            Reason::Closed { code, reason } => write!(f, "closed by the server ({code} {reason})"),
            Reason::Silent => f.write_str("the server fell silent"),
            Reason::Protocol(why) => write!(f, "{why}"),
        }
    }
}

/// What follows an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: another attempt would end the same way.
    Stop,
    /// Another attempt; the server planned this and it does not count as a failure.
    Planned,
    /// Another attempt, later with every failure.
    Retry,
}

impl Reason {
    pub(crate) fn next(&self) -> Next {
        match self {
            Reason::Client => Next::Stop,
            Reason::Refused(408 | 425 | 429 | 500..=599) => Next::Retry,
            Reason::Refused(_) => Next::Stop,
            Reason::Closed { code, .. } => after_close(*code),
            Reason::Unreachable(_)
            | Reason::Tls(_)
            | Reason::Timeout
            | Reason::Silent
            | Reason::Protocol(_) => Next::Retry,
        }
    }
}

fn after_close(code: u16) -> Next {
    match code {
        1001 | 1012 | 1013 | 4001 => Next::Planned,
        4000..=4499 => Next::Retry,
        4500..=4999 => Next::Stop,
        code => match CloseCode::from_u16(code).map(CloseCode::reconnect) {
            Some(Reconnect::No) => Next::Stop,
            Some(Reconnect::Yes) | None => Next::Retry,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_code_decides_about_coming_back() {
        for (code, next) in [
            (1000, Next::Stop),
            (1002, Next::Stop),
            (1011, Next::Retry),
            (1001, Next::Planned),
            (1006, Next::Retry),
            (1012, Next::Planned),
            (4001, Next::Planned),
            (4004, Next::Retry),
            (4499, Next::Retry),
            (4500, Next::Stop),
            (4501, Next::Stop),
            (4999, Next::Stop),
        ] {
            assert_eq!(after_close(code), next, "{code}");
        }
    }

    #[test]
    fn a_refused_upgrade_is_tried_again_only_when_that_can_help() {
        assert_eq!(Reason::Refused(503).next(), Next::Retry);
        assert_eq!(Reason::Refused(429).next(), Next::Retry);
        assert_eq!(Reason::Refused(401).next(), Next::Stop);
        assert_eq!(Reason::Refused(404).next(), Next::Stop);
    }
}
