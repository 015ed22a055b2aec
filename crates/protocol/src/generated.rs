//! Text made from the tables of codes and client defaults: the documentation page and the SDK's constants.
//!
//! `cargo xtask generate` writes the files and `cargo xtask check` compares them, so neither can drift.

use std::fmt::Write as _;

use crate::client;
use crate::code::{CloseCode, ErrorCode, Reconnect};

/// `docs/codes.md`.
#[must_use]
pub fn codes_markdown() -> String {
    let mut page = String::from(
        "# Codes\n\n\
        <!-- Generated from crates/protocol/src/code.rs by `cargo xtask generate`; do not edit. -->\n\n\
        What an `error` message, an HTTP problem or a close frame can say. Codes are stable: act on them, \
        never on the text.\n\n\
        ## Error codes\n\n\
        *Retry* says whether the same request may succeed later without being changed.\n\n",
    );
    page.push_str(&error_codes_table());
    page.push_str(
        "\n## Close codes\n\n\
        Codes 4000 to 4499 mean \"come back\", 4500 to 4999 mean \"something must change first\"; so a client \
        can treat a code it does not know. The reason in the close frame is the name.\n\n",
    );
    page.push_str(&close_codes_table());
    page
}

/// The error codes as a Markdown table.
#[must_use]
pub fn error_codes_table() -> String {
    let mut table = String::from("| Code | HTTP | Retry | Message | What to do |\n|---|---|---|---|---|\n");
    for code in ErrorCode::ALL {
        let retry = if code.retryable() { "yes" } else { "no" };
        let (name, status, message, help) = (code.name(), code.http_status(), code.message(), code.help());
        let _ = writeln!(table, "| `{name}` | {status} | {retry} | {message} | {help} |");
    }
    table
}

/// The close codes as a Markdown table.
#[must_use]
pub fn close_codes_table() -> String {
    let mut table = String::from("| Code | Name | Come back | Meaning |\n|---|---|---|---|\n");
    for code in CloseCode::ALL {
        let reconnect = match code.reconnect() {
            Reconnect::Yes => "yes",
            Reconnect::No => "no",
        };
        let _ = writeln!(table, "| {} | `{}` | {reconnect} | {} |", code.code(), code.name(), code.help());
    }
    table
}

/// `sdk/typescript/client/src/defaults.ts`: what every client does unless it is told otherwise.
///
/// Every default is a constant of its own, so that a bundler writes the number where it is used and nothing elsewhere.
#[must_use]
pub fn defaults_typescript() -> String {
    let mut text = String::from(
        "// Generated from crates/protocol/src/client.rs by `cargo xtask generate`; do not edit.\n\n",
    );
    for (name, value, doc) in client::ALL {
        let _ = writeln!(text, "/** {} */\nexport const {name} = {};", doc.trim(), grouped(*value));
    }
    text
}

/// `sdk/typescript/client/src/generated.ts`: the error codes and the close codes.
#[must_use]
pub fn codes_typescript() -> String {
    let mut text = String::from(
        "// Generated from crates/protocol/src/code.rs by `cargo xtask generate`; do not edit.\n\n\
        /** What the server can refuse something with, and whether the same may succeed later without being changed. */\n\
        export const RETRYABLE = {\n",
    );
    for code in ErrorCode::ALL {
        let _ = writeln!(text, "  /** {}. */\n  {}: {},", code.message(), code.name(), code.retryable());
    }
    text.push_str(
        "} as const;\n\n\
        /** What the server can refuse something with. */\n\
        export type ServerErrorCode = keyof typeof RETRYABLE;\n\n\
        /** Why the server can close a connection, by number. */\n\
        export interface CloseCodes {\n",
    );
    for code in CloseCode::ALL {
        let _ = writeln!(text, "  /** {} */\n  {}: '{}';", code.help(), code.code(), code.name());
    }
    text.push_str(
        "}\n\n\
        /** Whether to come back after a close, by number: always from 4000, never from 4500, whether known or not. */\n\
        export const RECONNECT = {\n",
    );
    for code in CloseCode::ALL.iter().filter(|code| code.code() < 4_000) {
        let _ = writeln!(text, "  {}: {},", code.code(), code.reconnect() == Reconnect::Yes);
    }
    text.push_str("} as const;\n");
    text
}

/// A number with its thousands apart, as TypeScript and Rust write them.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

/// Both tables as JSON, for any other language.
#[must_use]
pub fn constants_json() -> String {
    let errors = ErrorCode::ALL.iter().map(|code| {
        let facts = serde_json::json!({
            "status": code.http_status(), "retryable": code.retryable(),
            "message": code.message(), "help": code.help(),
        });
        (code.name().to_owned(), facts)
    });
    let closes = CloseCode::ALL.iter().map(|code| {
        let reconnect = code.reconnect() == Reconnect::Yes;
        let facts = serde_json::json!({ "name": code.name(), "reconnect": reconnect, "help": code.help() });
        (code.code().to_string(), facts)
    });
    let all = serde_json::json!({
        "errors": serde_json::Map::from_iter(errors),
        "closes": serde_json::Map::from_iter(closes),
    });
    format!("{all:#}\n")
}
