//! Where a client is, in words.

use std::fmt;

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing was asked for.
    Idle,
    /// A token is being asked for.
    Authorizing,
    /// Connecting and upgrading.
    Opening,
    /// The connect frame is sent; the server has not welcomed the session yet.
    Greeting,
    /// Subscribed; events flow.
    Live,
    /// The server may be gone; a ping is out.
    Probing,
    /// The connection is gone; the next attempt comes after a wait.
    Waiting,
    /// The machine says that it has no network. This client is not told of networks, so it never is.
    Offline,
    /// A [`Fallback`](crate::Fallback) works, and WebSocket is tried beside it.
    Polling,
    /// Ended for good, or until it is revived.
    Closed,
}

impl State {
    /// The name in documentation, traces and logs.
    pub fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Authorizing => "authorizing",
            State::Opening => "opening",
            State::Greeting => "greeting",
            State::Live => "live",
            State::Probing => "probing",
            State::Waiting => "waiting",
            State::Offline => "offline",
            State::Polling => "polling",
            State::Closed => "closed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A [`State`] in words for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing was asked for.
    Idle,
    /// On the way to the first connection.
    Connecting,
    /// Messages flow.
    Connected,
    /// On the way back.
    Reconnecting,
    /// HTTP works, WebSocket does not.
    Polling,
    /// Ended.
    Disconnected,
}

impl Status {
    /// The name in documentation, traces and logs.
    pub fn name(self) -> &'static str {
        match self {
            Status::Idle => "idle",
            Status::Connecting => "connecting",
            Status::Connected => "connected",
            Status::Reconnecting => "reconnecting",
            Status::Polling => "polling",
            Status::Disconnected => "disconnected",
        }
    }
}

/// Why a client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The application said so.
    Client,
    /// The token was refused, or nobody is logged in.
    Unauthorized,
    /// The token does not allow it.
    Forbidden,
    /// The server sent it away.
    Kicked,
    /// The two do not understand each other.
    Protocol,
}

impl Ending {
    /// The name in documentation, traces and logs.
    pub fn name(self) -> &'static str {
        match self {
            Ending::Client => "client",
            Ending::Unauthorized => "unauthorized",
            Ending::Forbidden => "forbidden",
            Ending::Kicked => "kicked",
            Ending::Protocol => "protocol",
        }
    }
}

/// Why a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenReason {
    /// For a connection.
    Initial,
    /// The one in use runs out soon.
    Expiring,
    /// The server refused the last one.
    Rejected,
}

impl TokenReason {
    /// The name in documentation, traces and logs.
    pub fn name(self) -> &'static str {
        match self {
            TokenReason::Initial => "initial",
            TokenReason::Expiring => "expiring",
            TokenReason::Rejected => "rejected",
        }
    }
}
