//! Text made from the code tables: the documentation page and the SDK's constants.
//!
//! `cargo xtask generate` writes the files and `cargo xtask check` compares them, so neither can drift.

use std::fmt::Write as _;

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

/// Both tables as TypeScript constants, for the SDK.
#[must_use]
pub fn codes_typescript() -> String {
    let mut text = String::from(
        "// Generated from crates/protocol/src/code.rs by `cargo xtask generate`; do not edit.\n\n\
        export const errorCodes = {\n",
    );
    for code in ErrorCode::ALL {
        let (name, status, retryable) = (code.name(), code.http_status(), code.retryable());
        let _ = writeln!(text, "  {name}: {{ status: {status}, retryable: {retryable} }},");
    }
    text.push_str(
        "} as const;\n\nexport type ErrorCode = keyof typeof errorCodes;\n\nexport const closeCodes = {\n",
    );
    for code in CloseCode::ALL {
        let reconnect = code.reconnect() == Reconnect::Yes;
        let _ = writeln!(text, "  {}: {{ name: \"{}\", reconnect: {reconnect} }},", code.code(), code.name());
    }
    text.push_str("} as const;\n\nexport type CloseCode = keyof typeof closeCodes;\n");
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
