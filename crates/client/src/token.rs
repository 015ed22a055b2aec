//! Where tokens come from.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::state::TokenReason;

/// Why a callback gives no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nobody is logged in: the client stops for good, until it is given another token.
    #[error("{0}")]
    Unauthorized(String),
    /// Not this time: the client asks again with its next attempt.
    #[error("{0}")]
    Failed(String),
}

pub(crate) type Asking = Pin<Box<dyn Future<Output = Result<Option<String>, TokenError>> + Send>>;
/// The longest ticket that is kept, bytes.
const TICKET_LEN_BYTES_MAX: usize = 8 * 1024;

type Callback = dyn Fn(TokenReason) -> Asking + Send + Sync;

/// Gives the tokens that a client shows.
#[derive(Clone, Default)]
pub enum TokenProvider {
    /// None at all, for servers that ask for none.
    #[default]
    None,
    /// Always the same. A server that refuses it ends the client.
    Fixed(String),
    /// A new one whenever one is needed; see [`TokenProvider::callback`].
    Callback(Arc<Callback>),
}

impl TokenProvider {
    /// Asks `get` for each connection, when the server has refused the last one, and before the one in use runs out; not
    /// for a connection that a ticket opens, which the server gives for the next minutes. One call at a time; one that takes longer than [`Timeouts::token`](crate::Timeouts::token) is dropped and counts
    /// as failed. `None` means to connect without a token.
    pub fn callback<F, Fut>(get: F) -> TokenProvider
    where
        F: Fn(TokenReason) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<String>, TokenError>> + Send + 'static,
    {
        TokenProvider::Callback(Arc::new(move |reason| Box::pin(get(reason))))
    }
}

impl From<String> for TokenProvider {
    fn from(token: String) -> TokenProvider {
        TokenProvider::Fixed(token)
    }
}

impl fmt::Debug for TokenProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenProvider::None => "no token",
            TokenProvider::Fixed(_) => "a fixed token",
            TokenProvider::Callback(_) => "tokens of a callback",
        })
    }
}

/// The provider, a token that the application has set meanwhile, and what the server gave to come back with.
#[derive(Debug)]
pub(crate) struct Tokens {
    provider: TokenProvider,
    /// Used until the server refuses it.
    set: Option<String>,
    /// Shown instead of a token until then, on the session's clock.
    ticket: Option<(String, Duration)>,
}

impl Tokens {
    pub(crate) fn new(provider: TokenProvider) -> Tokens {
        Tokens { provider, set: None, ticket: None }
    }

    /// Whether a token that was refused or runs out can be replaced.
    pub(crate) fn are_renewable(&self) -> bool {
        matches!(self.provider, TokenProvider::Callback(_))
    }

    /// The newest ticket and its end; `None` when the one that is kept is good for nothing any more.
    pub(crate) fn keep(&mut self, ticket: Option<(String, Duration)>) {
        // It becomes a line of a header.
        let is_plain = |ticket: &str| {
            ticket.len() <= TICKET_LEN_BYTES_MAX && ticket.bytes().all(|byte| byte.is_ascii_graphic())
        };
        self.ticket = ticket.filter(|(ticket, _)| is_plain(ticket));
    }

    /// What to show instead of a token, if there is something that still lasts. Where a token was refused a ticket made
    /// of it is none the better.
    pub(crate) fn ticket(&mut self, reason: TokenReason, now: Duration) -> Option<String> {
        self.ticket.take_if(|(_, until)| reason != TokenReason::Initial || *until <= now);
        self.ticket.as_ref().map(|(ticket, _)| ticket.clone())
    }

    pub(crate) fn set(&mut self, token: String) {
        self.ticket = None;
        match self.provider {
            TokenProvider::Callback(_) => self.set = Some(token),
            TokenProvider::None | TokenProvider::Fixed(_) => self.provider = TokenProvider::Fixed(token),
        }
    }

    /// Nobody is logged in any more: only a callback can give another one by itself.
    pub(crate) fn forget(&mut self) {
        (self.set, self.ticket) = (None, None);
        if let TokenProvider::Fixed(_) = self.provider {
            self.provider = TokenProvider::None;
        }
    }

    pub(crate) fn ask(&mut self, reason: TokenReason) -> Asking {
        if reason != TokenReason::Initial {
            self.set = None;
        }
        let token = match (&self.provider, &self.set) {
            (TokenProvider::Callback(_), Some(token)) => Some(token.clone()),
            (TokenProvider::Callback(get), None) => return get(reason),
            (TokenProvider::Fixed(token), _) => Some(token.clone()),
            (TokenProvider::None, _) => None,
        };
        Box::pin(std::future::ready(Ok(token)))
    }
}
