//! Error and close codes: one table each.
//!
//! The enums, the metric label values, `docs/codes.md` and the TypeScript constants all come from these two
//! tables. A name or number, once released, is never reused for another meaning.

use std::fmt;

/// How a code's text and the detail of one case become the message a client reads.
#[derive(Clone, Copy)]
enum Wording {
    /// The text alone: document 004 fixes it.
    Exact,
    /// The text, then `: detail`.
    Extended,
    /// Document 004's `Subscription error: <details>`; the text is the details when there are none.
    Subscription,
}

macro_rules! error_codes {
    ($($variant:ident $name:literal $status:literal $retryable:literal $wording:ident $text:literal $help:literal;)*) => {
        /// What a request or a publish can be refused with. Stable: clients act on the name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ErrorCode {
            $(#[doc = concat!("`", $name, "`: ", $text, ". ", $help)] $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name on the wire and in metric labels.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The status an HTTP answer with this code has.
            #[must_use]
            pub fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Whether the same request may succeed later without being changed.
            #[must_use]
            pub fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// What the client should do.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }

            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            fn wording(self) -> Wording {
                match self { $(Self::$variant => Wording::$wording,)* }
            }

            /// The code with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

error_codes! {
    BadRequest "bad_request" 400 false Extended "Bad request" "Correct the message; sending it again unchanged will fail again.";
    InvalidPosition "invalid_position" 400 false Subscription "invalid position" "Subscribe without a position, or with one the server gave: {\"epoch\":\"…\",\"sequence\":n}.";
    AlreadySubscribed "already_subscribed" 409 false Subscription "already subscribed" "Nothing to do; unsubscribe first to change the options.";
    NotSubscribed "not_subscribed" 409 false Subscription "not subscribed" "Nothing to do; the channel was not subscribed.";
    Unauthorized "unauthorized" 401 false Exact "Invalid authentication token" "Connect with a token first.";
    InvalidToken "invalid_token" 401 false Exact "Invalid authentication token" "Get a new token from your application; this one will never be accepted.";
    TokenExpired "token_expired" 401 false Exact "Invalid authentication token" "Get a new token from your application and connect again.";
    WrongCredential "wrong_credential" 401 false Extended "Wrong kind of credential" "Use a credential that is made for this endpoint: to publish, an API key or a token that may publish; to look on, a token with the role viewer; to administer, one with the role operator or admin; to connect, a token.";
    Forbidden "forbidden" 403 false Extended "Forbidden" "The token's capabilities do not allow this; ask for a token that does.";
    UnknownChannel "unknown_channel" 404 false Exact "Invalid subscription: unknown channel" "No namespace of the server's settings matches the channel name.";
    InvalidChannel "invalid_channel" 400 false Extended "Invalid channel name" "Use 1 to 255 bytes of A-Z a-z 0-9 . _ - : / @ # + = ~ and no empty part around ':'.";
    InvalidFilter "invalid_filter" 400 false Subscription "invalid filter" "Use at most 16 tags, each key and value at most 64 bytes.";
    UnsupportedEncoding "unsupported_encoding" 415 false Extended "Unsupported encoding" "Send text frames on a JSON connection and binary frames on a MessagePack connection.";
    Unsupported "unsupported" 400 false Extended "Not supported" "This server or this kind of channel does not offer the feature.";
    RateLimited "rate_limited" 429 true Exact "Rate limit exceeded" "Wait retry_after_ms, then send again and more slowly.";
    LimitExceeded "limit_exceeded" 429 false Extended "Limit exceeded" "Give something up first (a subscription, a connection), or ask the operator to raise the limit.";
    TooLarge "too_large" 413 false Extended "Too large" "Send less at once; the limits are in docs/protocol.md.";
    Overloaded "overloaded" 503 true Extended "Overloaded" "Wait retry_after_ms and send again.";
    IdempotencyConflict "idempotency_conflict" 409 false Extended "Message id was used for another payload" "Give every event its own id; repeat an id only with the same payload.";
    Conflict "conflict" 409 false Extended "Conflict" "Look at what is there now, then ask for something that goes with it.";
    StoreUnavailable "store_unavailable" 503 true Extended "Store unavailable" "Send again later with the same id; nothing was stored.";
    OutcomeUnknown "outcome_unknown" 503 true Extended "Outcome unknown" "Send again with the same id; the event may have been stored and is not stored twice.";
    HookFailed "hook_failed" 502 true Extended "Hook failed" "The application's hook refused or failed; send again later or tell the user.";
    HookTimeout "hook_timeout" 504 true Extended "Hook timed out" "The application's hook did not answer in time; it may have acted.";
    UnknownEvent "unknown_event" 400 false Extended "Unknown message type" "Use a message type of docs/protocol.md or a client event of the server's settings.";
    NotFound "not_found" 404 false Extended "Not found" "Check the path or the name.";
    MethodNotAllowed "method_not_allowed" 405 false Extended "Method not allowed" "Use a method named in the Allow header.";
    Internal "internal" 500 true Extended "Internal error" "Send again later; the server's log has the details.";
    Draining "draining" 503 true Extended "Server is stopping" "Connect again; another node or the restarted server will answer.";
    OriginRefused "origin_refused" 403 false Extended "Origin refused" "Ask the operator to add the page's origin to the allow-list.";
    HistoryUnavailable "history_unavailable" 404 false Extended "History unavailable" "This channel keeps no history, or not that far back.";
    UnsupportedMediaType "unsupported_media_type" 415 false Extended "Unsupported media type" "Send application/json or application/msgpack.";
    Timeout "timeout" 408 true Extended "Timed out" "Send the request again, faster.";
}

impl ErrorCode {
    /// The message without a detail, as document 004 writes it where it does.
    #[must_use]
    pub fn message(self) -> String {
        self.message_with("")
    }

    /// The message for one case. Codes whose text document 004 fixes leave `detail` out.
    #[must_use]
    pub fn message_with(self, detail: &str) -> String {
        match (self.wording(), detail) {
            (Wording::Exact, _) | (Wording::Extended, "") => self.text().to_owned(),
            (Wording::Extended, detail) => format!("{}: {detail}", self.text()),
            (Wording::Subscription, "") => format!("Subscription error: {}", self.text()),
            (Wording::Subscription, detail) => format!("Subscription error: {detail}"),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a client should connect again after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reconnect {
    /// Come back, after `retry_ms` if it was given.
    Yes,
    /// Something must change first.
    No,
}

macro_rules! close_codes {
    ($($variant:ident $code:literal $name:literal $reconnect:ident $help:literal;)*) => {
        /// Why a connection was closed: RFC 6455 §7.4.1 codes where they fit, then 4000–4499 for "come back"
        /// and 4500–4999 for "something must change first".
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum CloseCode {
            $(#[doc = concat!("`", $name, "`: ", $help)] $variant = $code,)*
        }

        impl CloseCode {
            /// Every code, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The number in the close frame.
            #[must_use]
            pub fn code(self) -> u16 {
                self as u16
            }

            /// The name in logs, metric labels and the close frame's reason.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether the client should come back.
            #[must_use]
            pub fn reconnect(self) -> Reconnect {
                match self { $(Self::$variant => Reconnect::$reconnect,)* }
            }

            /// What happened and what the client should do.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }

            /// The code with this number; `None` for numbers the table does not hold.
            #[must_use]
            pub fn from_u16(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

close_codes! {
    Normal 1000 "normal" No "The connection did its work.";
    GoingAway 1001 "going_away" Yes "The peer goes away, as a page that is left.";
    ProtocolError 1002 "protocol_error" No "A frame broke RFC 6455; correct the client.";
    UnsupportedData 1003 "unsupported_data" No "A text frame on a MessagePack connection or a binary one on a JSON connection.";
    InvalidPayload 1007 "invalid_payload" No "A text message or a close reason was not UTF-8.";
    PolicyViolation 1008 "policy_violation" No "The client did something the server never allows.";
    MessageTooBig 1009 "message_too_big" No "A message was larger than limits.message_bytes_max, or had too many fragments.";
    InternalError 1011 "internal_error" Yes "The server failed; come back.";
    ServiceRestart 1012 "service_restart" Yes "The server restarts; come back after retry_ms.";
    TryAgainLater 1013 "try_again_later" Yes "The server is overloaded; come back after retry_ms.";
    Draining 4001 "draining" Yes "The server stops in an orderly way; resume after retry_ms.";
    TokenExpired 4002 "token_expired" Yes "The token ran out; come back with a new one.";
    NoPong 4003 "no_pong" Yes "Heartbeats were not answered; come back and resume.";
    SlowConsumer 4004 "slow_consumer" Yes "The client read more slowly than its channels speak; resume to get the rest.";
    RateLimited 4005 "rate_limited" Yes "The client sent too much for too long; come back more slowly.";
    StateReset 4006 "state_reset" Yes "The session's state is gone; come back and subscribe anew.";
    Overloaded 4007 "overloaded" Yes "The server sheds load; come back after retry_ms.";
    InvalidToken 4501 "invalid_token" No "The token was refused; get a valid one.";
    Forbidden 4502 "forbidden" No "The token does not allow to connect.";
    BadProtocol 4503 "bad_protocol" No "The first message was not connect, or the conversation broke the protocol.";
    ConnectionLimit 4504 "connection_limit" No "The user or address has too many connections; close others first.";
    AuthTimeout 4505 "auth_timeout" No "No token arrived in time; send connect at once.";
    Revoked 4506 "revoked" No "The operator revoked the user's access.";
    Superseded 4508 "superseded" No "The session was resumed by another connection.";
    TooManyErrors 4509 "too_many_errors" No "Too many wrong messages within a minute; correct the client.";
}

impl CloseCode {
    /// Whether an endpoint may put this number into a close frame (RFC 6455 §7.4; IANA for 1012 to 1014).
    #[must_use]
    pub fn is_sendable(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_004_texts_are_exact() {
        let check = |code: ErrorCode, detail, text| assert_eq!(code.message_with(detail), text);
        check(ErrorCode::InvalidToken, "signature", "Invalid authentication token");
        check(ErrorCode::TokenExpired, "", "Invalid authentication token");
        check(ErrorCode::Unauthorized, "", "Invalid authentication token");
        check(ErrorCode::RateLimited, "1000 a minute", "Rate limit exceeded");
        check(ErrorCode::UnknownChannel, "x", "Invalid subscription: unknown channel");
        check(ErrorCode::InvalidFilter, "17 tags", "Subscription error: 17 tags");
        check(ErrorCode::InvalidFilter, "", "Subscription error: invalid filter");
        check(ErrorCode::BadRequest, "no type", "Bad request: no type");
    }

    #[test]
    fn every_error_code_is_found_by_its_name_and_has_an_error_status() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_name(code.name()), Some(*code));
            assert!((400..600).contains(&code.http_status()), "{code}");
            assert!(code.help().ends_with('.'), "{code}");
        }
        assert_eq!(ErrorCode::from_name("nonsense"), None);
    }

    #[test]
    fn the_range_of_a_close_code_says_whether_to_come_back() {
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_u16(code.code()), Some(*code));
            assert!(CloseCode::is_sendable(code.code()), "{code}");
            match code.code() {
                4000..=4499 => assert_eq!(code.reconnect(), Reconnect::Yes, "{code}"),
                4500..=4999 => assert_eq!(code.reconnect(), Reconnect::No, "{code}"),
                _ => {}
            }
        }
        assert!(CloseCode::ALL.is_sorted());
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            assert!(!CloseCode::is_sendable(code), "{code}");
        }
    }
}
