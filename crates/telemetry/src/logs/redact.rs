//! Text from peers and settings, made safe to show.

use std::fmt::{self, Write as _};

/// Text of a peer: control characters escaped, at most 256 characters.
#[derive(Clone, Copy, Debug)]
pub struct Clean<'a>(pub &'a str);

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_clean(f, self.0, 256)
    }
}

/// A URL without its secrets: user information and the values of query and fragment parameters
/// whose names say so are `***`; control characters escaped, at most 512 characters.
#[derive(Clone, Copy)]
pub struct Redacted<'a>(pub &'a str);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_clean(f, &redact(self.0), 512)
    }
}

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Parts of parameter names whose values are secret.
const SECRET: [&str; 11] = [
    "token",
    "secret",
    "password",
    "passwd",
    "jwt",
    "key",
    "auth",
    "signature",
    "ticket",
    "session",
    "credential",
];

fn redact(url: &str) -> String {
    let (start, parameters) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let mut out = redact_user(start);
    for piece in parameters.split_inclusive(['?', '#', '&', ';']) {
        let (pair, separator) = match piece.char_indices().next_back() {
            Some((at, c)) if "?#&;".contains(c) => piece.split_at(at),
            _ => (piece, ""),
        };
        match pair.split_once('=') {
            Some((name, value)) if is_secret(name) || is_secret(value) => {
                let _ = write!(out, "{name}=***");
            }
            None if is_secret(pair) && pair.len() > 16 => out.push_str("***"),
            _ => out.push_str(pair),
        }
        out.push_str(separator);
    }
    out
}

/// `scheme://user:password@host` becomes `scheme://***@host`.
fn redact_user(start: &str) -> String {
    let Some((scheme, rest)) = start.split_once("://") else { return start.into() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // A password may hold `@` and even `/`; the host begins after the last `@`.
    match (authority.rsplit_once('@'), rest.rsplit_once('@')) {
        (Some((_, host)), _) => format!("{scheme}://***@{host}{path}"),
        (None, Some((_, host))) if authority.contains(':') => format!("{scheme}://***@{host}"),
        _ => start.into(),
    }
}

/// Whether a name, or a value that is itself a URL or a token, speaks of a secret. `%74oken` is `token`.
fn is_secret(text: &str) -> bool {
    let text = percent_decoded(text).to_ascii_lowercase();
    SECRET.iter().any(|word| text.contains(word)) || text.starts_with("eyj")
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => (bytes.push(decoded), rest = &tail[2..]).1,
            None => (bytes.push(byte), rest = tail).1,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn write_clean(f: &mut fmt::Formatter<'_>, text: &str, chars_max: usize) -> fmt::Result {
    let mut chars = text.chars();
    for c in chars.by_ref().take(chars_max) {
        if is_unsafe(c) {
            write!(f, "{}", c.escape_unicode())?;
        } else {
            f.write_char(c)?;
        }
    }
    if chars.next().is_some() { f.write_char('…') } else { Ok(()) }
}

/// Characters that move a terminal's cursor, break a line or turn the direction of text around.
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_urls_are_not_shown() {
        let cases = [
            ("/ws?token=s3cret", "/ws?token=***"),
            ("/ws?format=msgpack&token=s3cret&v=1", "/ws?format=msgpack&token=***&v=1"),
            ("/ws?ToKeN=s3cret#x", "/ws?ToKeN=***#x"),
            ("/ws?%74oken=s3cret", "/ws?%74oken=***"),
            ("/ws?a=1;access_token=s3cret", "/ws?a=1;access_token=***"),
            ("/cb#id_token=s3cret", "/cb#id_token=***"),
            ("/ws?token=a=s3cret", "/ws?token=***"),
            ("/login?next=%2Fws%3Ftoken%3Ds3cret", "/login?next=***"),
            ("/ws?x=eyJhbGciOi", "/ws?x=***"),
            ("/ws?eyJhbGciOiJIUzI1NiJ9.e30", "/ws?***"),
            ("redis://:s3cret@127.0.0.1:6379/0", "redis://***@127.0.0.1:6379/0"),
            ("postgres://u:s3@cret@db/x?sslmode=disable", "postgres://***@db/x?sslmode=disable"),
            ("postgres://u:s3/cret@db/x", "postgres://***@db/x"),
            ("wss://host:9000/a@b", "wss://***@b"),
            ("https://host/plain?q=%zz%4", "https://host/plain?q=%zz%4"),
            ("/?", "/?"),
            ("", ""),
        ];
        for (url, shown) in cases {
            assert_eq!(Redacted(url).to_string(), shown);
        }
    }

    #[test]
    fn peers_cannot_break_lines_or_fill_them() {
        assert_eq!(
            Clean("a\r\n\x1b[31mb\u{202e}\u{9b}").to_string(),
            "a\\u{d}\\u{a}\\u{1b}[31mb\\u{202e}\\u{9b}"
        );
        assert_eq!(Clean(&"é".repeat(300)).to_string(), format!("{}…", "é".repeat(256)));
        assert_eq!(Redacted(&"x".repeat(600)).to_string().chars().count(), 513);
    }
}
