//! Where tokens come from.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

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
    /// Asks `get` for each connection, when the server has refused the last one, and before the one in use runs out.
    /// One call at a time; one that takes longer than [`Timeouts::token`](crate::Timeouts::token) is dropped and counts
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

/// The provider, and a token that the application has set meanwhile.
#[derive(Debug)]
pub(crate) struct Tokens {
    provider: TokenProvider,
    /// Used until the server refuses it.
    set: Option<String>,
}

impl Tokens {
    pub(crate) fn new(provider: TokenProvider) -> Tokens {
        Tokens { provider, set: None }
    }

    /// Whether a token that was refused or runs out can be replaced.
    pub(crate) fn are_renewable(&self) -> bool {
        matches!(self.provider, TokenProvider::Callback(_))
    }

    pub(crate) fn set(&mut self, token: String) {
        match self.provider {
            TokenProvider::Callback(_) => self.set = Some(token),
            TokenProvider::None | TokenProvider::Fixed(_) => self.provider = TokenProvider::Fixed(token),
        }
    }

    /// Nobody is logged in any more: only a callback can give another one by itself.
    pub(crate) fn forget(&mut self) {
        self.set = None;
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
