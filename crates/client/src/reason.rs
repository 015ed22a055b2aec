//! Why a connection ended, and what that is to the machine.

use std::fmt;

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
    /// There is no token this time; the callback says why.
    Token(String),
    /// The callback says that nobody is logged in.
    Unauthorized(String),
}

impl Reason {
    /// What this is to the machine: the code of a close. A refused upgrade is what the code would have been.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Reason::Refused(401) => 4501,
            Reason::Refused(403) => 4502,
            Reason::Refused(408 | 425 | 429 | 500..=599) => 0,
            // Another attempt would end the same way.
            Reason::Refused(_) => 1002,
            Reason::Closed { code, .. } => *code,
            Reason::Client => 1000,
            // A server that speaks nonsense may be a proxy that is about to be replaced.
            Reason::Silent | Reason::Protocol(_) => 1006,
            Reason::Unreachable(_)
            | Reason::Tls(_)
            | Reason::Timeout
            | Reason::Token(_)
            | Reason::Unauthorized(_) => 0,
        }
    }

    /// Whether the credentials were the problem: another token may help, another attempt will not.
    pub fn is_unauthorized(&self) -> bool {
        match self {
            Reason::Refused(status) => matches!(status, 401 | 403),
            Reason::Closed { code, .. } => matches!(code, 4002 | 4501 | 4502 | 4505 | 4506),
            Reason::Unauthorized(_) => true,
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
            Reason::Token(why) => write!(f, "no token: {why}"),
            Reason::Unauthorized(why) => write!(f, "nobody is logged in: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Effect, Input, Machine, MachineOptions};
    use crate::state::{Ending, State};
    use std::time::Duration;

    #[test]
    fn a_refused_upgrade_is_tried_again_only_when_that_can_help() {
        let refused = |status: u16| {
            let mut machine = Machine::new(MachineOptions::default());
            let mut half = || 0.5;
            for input in [Input::Connect, Input::Token] {
                machine.step(input, Duration::ZERO, &mut half);
            }
            let input = Input::Closed { code: Reason::Refused(status).code() };
            let effects = machine.step(input, Duration::ZERO, &mut half);
            assert_eq!(effects.contains(&Effect::Drop), machine.state() == State::Closed, "{status}");
            machine.ending()
        };
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(refused(status), None, "{status}");
        }
        for (status, ending) in [
            (401, Ending::Unauthorized),
            (403, Ending::Forbidden),
            (200, Ending::Protocol),
            (302, Ending::Protocol),
            (404, Ending::Protocol),
        ] {
            assert_eq!(refused(status), Some(ending), "{status}");
        }
    }
}
