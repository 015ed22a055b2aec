//! What goes into the machine and what comes out.

use std::time::Duration;

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The application wants a connection.
    Connect,
    /// The application wants one now.
    Reconnect,
    /// The application wants none.
    Disconnect,
    /// The application has another token.
    TokenSet,
    /// The answer to [`Effect::Authorize`]: a token.
    Token,
    /// There is none this time.
    TokenFailed,
    /// There will be none: nobody is logged in.
    TokenRefused,
    /// The socket is open.
    Opened,
    /// The server welcomed the session.
    Welcome {
        /// Its heartbeat, if it said one.
        heartbeat: Option<Duration>,
        /// Its longest wait between attempts, if it said one.
        retry_max: Option<Duration>,
    },
    /// Any message came.
    Heard,
    /// The server says when to come back.
    Advice {
        /// After so long.
        retry: Duration,
    },
    /// The socket ended.
    Closed {
        /// The close code; 1006 without a close frame, 0 if it could not be opened.
        code: u16,
    },
    /// An answer is late: is anybody there?
    Suspect,
    /// The machine has a network again.
    Online,
    /// The machine says that it has none.
    Offline,
    /// The application is looked at again.
    Visible,
    /// HTTP works.
    PollOk,
    /// HTTP does not.
    PollFailed,
    /// Time has passed.
    Tick,
}

/// What is to be done, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Get a token; [`Machine::token_reason`](super::Machine::token_reason) says why.
    Authorize,
    /// Open a socket.
    Open,
    /// Send `connect` with all subscriptions.
    Greet,
    /// Messages may flow.
    Ready,
    /// Ask the server for a sign of life.
    Probe,
    /// Give up the socket or the token that is being asked for, if there is one.
    Drop,
    /// Try HTTP; it is used once it has worked.
    Poll,
    /// Stop HTTP.
    StopPoll,
}

impl Effect {
    /// The name in documentation, traces and logs.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Authorize => "authorize",
            Effect::Open => "open",
            Effect::Greet => "greet",
            Effect::Ready => "ready",
            Effect::Probe => "probe",
            Effect::Drop => "drop",
            Effect::Poll => "poll",
            Effect::StopPoll => "stop_poll",
        }
    }
}
