//! Why a credential is refused.
//!
//! The client hears one sentence and one of two codes, whatever the reason (row A15); the exact
//! reason goes to the log and to `token verify`, for the person who has the key anyway. No reason
//! repeats the token.

use pulsewire_protocol::ErrorCode;
use pulsewire_telemetry::AuthFailure;

/// Why a credential is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is none.
    #[error(
        "no token: send one in the first message, `Authorization: Bearer`, a `bearer.` subprotocol or `?token=`"
    )]
    Missing,
    /// Two carriers hold different tokens.
    #[error("{one} and {two} hold different tokens: send one")]
    Conflict {
        /// The first carrier.
        one: &'static str,
        /// The other one.
        two: &'static str,
    },
    /// `Authorization` has another scheme than `Bearer`, or cannot be read.
    #[error("the Authorization header is not `Bearer` and a token")]
    Scheme,
    /// A token in the URL, where the settings forbid it.
    #[error("tokens in the URL are switched off (auth.token_in_query is false)")]
    QueryOff,
    /// Longer than any token.
    #[error("the token is {len_bytes} bytes, more than {}", super::token::TOKEN_LEN_BYTES_MAX)]
    TooLong {
        /// Its length.
        len_bytes: usize,
    },
    /// Not a signed token in the compact form.
    #[error("the token has {parts} parts separated by dots, expected header.claims.signature")]
    Parts {
        /// The number of parts.
        parts: usize,
    },
    /// A part is not base64url, or not JSON.
    #[error("the token's {part} cannot be decoded")]
    Unreadable {
        /// The part.
        part: &'static str,
    },
    /// The header has a field that is never accepted.
    #[error("the token's header has `{field}` with a value that is not accepted")]
    HeaderField {
        /// The field.
        field: &'static str,
    },
    /// Signed with another algorithm, or none.
    #[error("the token's `alg` is not {expected}, the algorithm of its key")]
    Algorithm {
        /// That of the key.
        expected: &'static str,
    },
    /// It names no key, and there is none for such tokens.
    #[error(
        "the token names no key (`kid`), and there is no auth.secret or auth.public_key_file for such a token"
    )]
    KeyIdMissing,
    /// It names a key that is not known.
    #[error("no key of auth.jwks_file or auth.jwks_url has the token's `kid`")]
    KeyUnknown,
    /// The signature is not of the configured key.
    #[error("the signature does not match: the token was changed or signed with another key")]
    Signature,
    /// The claims are not what they should be.
    #[error("the claims cannot be read: {detail}")]
    Claims {
        /// What was found where.
        detail: String,
    },
    /// A required claim is not there.
    #[error("the claim `{claim}` is missing")]
    ClaimMissing {
        /// The claim.
        claim: &'static str,
    },
    /// A claim has a value that is not accepted.
    #[error("the claim `{claim}` is not accepted: {why}")]
    Claim {
        /// The claim.
        claim: &'static str,
        /// What it should be.
        why: &'static str,
    },
    /// The token has ended.
    #[error("the token expired {ago_s} s ago")]
    Expired {
        /// How long ago, in seconds.
        ago_s: i64,
    },
    /// The token begins later.
    #[error("the token begins in {in_s} s (`nbf`); are the clocks right?")]
    NotYet {
        /// In how long, in seconds.
        in_s: i64,
    },
    /// The token, or its user's older tokens, were revoked.
    #[error("the token was revoked")]
    Revoked,
    /// A ticket that was changed, or sealed with a key that is no longer in use.
    #[error("the ticket was changed, or sealed before the keys were: connect with your token")]
    Ticket,
    /// A ticket has ended. That is ordinary: it is made for the next minutes.
    #[error("the ticket ended {ago_s} s ago: connect with your token")]
    TicketExpired {
        /// How long ago, in seconds.
        ago_s: i64,
    },
    /// A ticket where only tokens are taken.
    #[error("a ticket opens connections and reads channels, nothing else: send your token")]
    NoTickets,
    /// An API key where only tokens are taken.
    #[error("this endpoint takes tokens, not API keys")]
    NotAToken,
    /// No API key is exactly this one.
    #[error("no API key is exactly this one")]
    ApiKey,
}

impl Refusal {
    /// Whether it counts against the budget of failed attempts of the address it came from.
    #[must_use]
    pub const fn is_an_attempt(&self) -> bool {
        !matches!(self, Self::TicketExpired { .. })
    }

    /// What is counted.
    #[must_use]
    pub const fn reason(&self) -> AuthFailure {
        match self {
            Self::Missing => AuthFailure::MissingToken,
            Self::Expired { .. } | Self::TicketExpired { .. } => AuthFailure::ExpiredToken,
            _ => AuthFailure::InvalidToken,
        }
    }

    /// What the client is told.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Missing => ErrorCode::Unauthorized,
            Self::Expired { .. } | Self::TicketExpired { .. } => ErrorCode::TokenExpired,
            Self::NotAToken | Self::NoTickets => ErrorCode::WrongCredential,
            _ => ErrorCode::InvalidToken,
        }
    }
}
