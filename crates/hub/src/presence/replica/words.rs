//! What nodes say to each other about presence, as JSON.
//!
//! Each body is an array of the kind and its fields in a fixed order: it is read once, by a node of the same
//! family, a thousand times a second in the worst case. What an older node does not know it refuses, and asks for
//! what it missed.
//!
//! ```json
//! ["digest",[VERSION,ROWS]]
//! ["ask",[SINCE,NUMBER]]
//! ["rows",[FROM,TO,HEAD,NUMBER,ALL,LAST,[[CHANNEL,USER,LIVE,AWAY,SINCE,PLACED,CURSOR], …]]]
//! ```
//!
//! A row without sessions, live or away, says that the node does not count the user any more.

use std::fmt::Write as _;

use pulsewire_protocol::{ChannelName, is_shallow};
use serde_json::value::RawValue;

use crate::presence::room::Row;

/// The longest body that is read, in bytes: far more than a node writes.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;
/// The longest user id in bytes, as in tokens.
const USER_LEN_BYTES_MAX: usize = 256;
/// More sessions than a user can have on one node.
const SESSIONS_MAX: u32 = 1 << 24;

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is longer than any node writes.
    #[error("{len_bytes} bytes, more than {BODY_BYTES_MAX}")]
    TooLong {
        /// Its length.
        len_bytes: usize,
    },
    /// Not the JSON that is expected.
    #[error("not the expected JSON")]
    Json(#[from] serde_json::Error),
    /// A kind that this version does not know.
    #[error("kind is not one of digest, ask and rows")]
    Kind,
    /// A row whose channel is not a channel name.
    #[error("a row has no channel name")]
    Channel(#[from] pulsewire_protocol::ChannelNameError),
    /// A user, a count or a time that cannot be.
    #[error("a row has a user, a count or a time that cannot be")]
    Row,
    /// Versions that do not follow each other.
    #[error("rows from {from} to {to} of {head}, which do not follow each other")]
    Versions {
        /// After which version.
        from: u64,
        /// Up to which.
        to: u64,
        /// The newest.
        head: u64,
    },
}

/// Rows of one node that changed last after the version `from` and up to `to`.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) from: u64,
    pub(super) to: u64,
    /// The node's newest version.
    pub(super) head: u64,
    /// The request that this answers; 0 if it is said to everybody.
    pub(super) number: u32,
    /// Whether this begins with everything: what is not said until `head` is not there any more.
    pub(super) all: bool,
    /// Whether more has to be asked for.
    pub(super) last: bool,
    pub(super) rows: Vec<(ChannelName, String, Option<Row>)>,
}

/// What a node says.
#[derive(Debug)]
pub(super) enum Words {
    /// The newest version it has said something of, and, if it has nothing newer to say, how many rows it has.
    Digest { version: u64, rows: Option<u64> },
    /// It wants to know what changed after a version; 0 for everything.
    Ask { since: u64, number: u32 },
    /// Rows.
    Rows(Rows),
}

type RowFields<'a> = (String, String, u32, u32, i64, i64, Option<&'a RawValue>);
type RowsFields<'a> = (u64, u64, u64, u32, bool, bool, Vec<RowFields<'a>>);

/// Reads a body as a whole, or refuses it as a whole.
pub(super) fn read(body: &RawValue) -> Result<Words, Malformed> {
    let text = body.get();
    if text.len() > BODY_BYTES_MAX {
        return Err(Malformed::TooLong { len_bytes: text.len() });
    }
    let (kind, fields): (String, &RawValue) = serde_json::from_str(text)?;
    match kind.as_str() {
        "digest" => {
            let (version, rows) = serde_json::from_str(fields.get())?;
            Ok(Words::Digest { version, rows })
        }
        "ask" => {
            let (since, number) = serde_json::from_str(fields.get())?;
            Ok(Words::Ask { since, number })
        }
        "rows" => read_rows(fields.get()),
        _ => Err(Malformed::Kind),
    }
}

fn read_rows(fields: &str) -> Result<Words, Malformed> {
    let (from, to, head, number, all, last, rows): RowsFields<'_> = serde_json::from_str(fields)?;
    if from > to || to > head || (from == to && !rows.is_empty()) || (all && from != 0) {
        return Err(Malformed::Versions { from, to, head });
    }
    let rows = rows.into_iter().map(read_row).collect::<Result<_, _>>()?;
    Ok(Words::Rows(Rows { from, to, head, number, all, last, rows }))
}

fn read_row(fields: RowFields<'_>) -> Result<(ChannelName, String, Option<Row>), Malformed> {
    let (channel, user, live, away, since_ms, placed_ms, cursor) = fields;
    let channel = ChannelName::parse(&channel)?;
    let sound = !user.is_empty()
        && user.len() <= USER_LEN_BYTES_MAX
        && live.max(away) <= SESSIONS_MAX
        && since_ms >= 0
        && placed_ms >= 0
        && cursor.is_none_or(|cursor| placed_ms > 0 && is_shallow(cursor.get().as_bytes()));
    if !sound {
        return Err(Malformed::Row);
    }
    let cursor = cursor.map(|cursor| cursor.to_owned().into());
    let row = (live + away > 0).then_some(Row { live, away, since_ms, placed_ms, cursor });
    Ok((channel, user, row))
}

/// A body with the newest version and how many rows there are.
pub(super) fn digest(version: u64, rows: Option<u64>) -> String {
    let rows = rows.map_or_else(|| "null".to_owned(), |rows| rows.to_string());
    format!(r#"["digest",[{version},{rows}]]"#)
}

/// A body that asks for what changed after a version.
pub(super) fn ask(since: u64, number: u32) -> String {
    format!(r#"["ask",[{since},{number}]]"#)
}

/// What a body of rows says about itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) head: u64,
    pub(super) number: u32,
    pub(super) all: bool,
    pub(super) last: bool,
}

/// A body of rows that [`push_row`] wrote.
pub(super) fn rows(span: Span, rows: &str) -> String {
    let Span { from, to, head, number, all, last } = span;
    format!(r#"["rows",[{from},{to},{head},{number},{all},{last},[{rows}]]]"#)
}

/// Adds a row to the text of rows; none says that the user is not counted any more.
pub(super) fn push_row(text: &mut String, channel: &ChannelName, user: &str, row: Option<&Row>) {
    if !text.is_empty() {
        text.push(',');
    }
    let user = serde_json::to_string(user).expect("a text is JSON");
    // The characters of a channel name need no escapes.
    let _ = write!(text, r#"["{}",{user},"#, channel.as_str());
    let _ = match row {
        Some(Row { live, away, since_ms, placed_ms, cursor }) => {
            let cursor = cursor.as_ref().map_or("null", |cursor| cursor.get());
            write!(text, "{live},{away},{since_ms},{placed_ms},{cursor}]")
        }
        None => write!(text, "0,0,0,0,null]"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let body = RawValue::from_string(text.to_owned()).expect("JSON");
        read(&body).expect_err(text).to_string()
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let channel = ChannelName::parse("run:1").expect("a name");
        let cursor: Box<RawValue> = serde_json::from_str(r#"{"line": 7}"#).expect("JSON");
        let row = Row { live: 2, away: 1, since_ms: 3, placed_ms: 4, cursor: Some(cursor.into()) };
        let mut text = String::new();
        push_row(&mut text, &channel, "a\"da\u{1}", Some(&row));
        push_row(&mut text, &channel, "bob", None);
        let span = Span { from: 7, to: 9, head: 12, number: 3, all: false, last: true };
        let body = RawValue::from_string(rows(span, &text)).expect("JSON");
        let Ok(Words::Rows(said)) = read(&body) else { panic!("{body}") };
        assert_eq!((said.from, said.to, said.head, said.number), (7, 9, 12, 3));
        assert!(!said.all && said.last);
        let (_, user, heard) = &said.rows[0];
        let heard = heard.as_ref().expect("a row");
        assert_eq!((user.as_str(), heard.live, heard.away), ("a\"da\u{1}", 2, 1));
        assert_eq!((heard.since_ms, heard.placed_ms), (3, 4));
        assert_eq!(heard.cursor.as_ref().map(|cursor| cursor.get()), Some(r#"{"line": 7}"#));
        assert!(said.rows[1].2.is_none());
        for (text, shown) in [
            (digest(5, Some(2)), "Digest { version: 5, rows: Some(2) }"),
            (digest(5, None), "Digest { version: 5, rows: None }"),
            (ask(5, 1), "Ask { since: 5, number: 1 }"),
        ] {
            let body = RawValue::from_string(text).expect("JSON");
            assert_eq!(format!("{:?}", read(&body).expect("it was written here")), shown);
        }
    }

    #[test]
    fn what_no_node_writes_is_refused() {
        let row =
            |row: &str| format!(r#"["rows",[0,1,1,0,false,true,[["run:1","ada",1,0,1,0,null],{row}]]]"#);
        let json = "not the expected JSON";
        let versions = |it: &str| format!("rows from {it}, which do not follow each other");
        for (text, expected) in [
            ("{}".to_owned(), json.to_owned()),
            (r#"["digest",[-1,null]]"#.to_owned(), json.to_owned()),
            (r#"["digest",[1,null],2]"#.to_owned(), json.to_owned()),
            (r#"["ask",[1]]"#.to_owned(), json.to_owned()),
            (r#"["hello",[]]"#.to_owned(), "kind is not one of digest, ask and rows".to_owned()),
            (r#"["rows",[2,1,3,0,false,true,[]]]"#.to_owned(), versions("2 to 1 of 3")),
            (r#"["rows",[1,3,2,0,false,true,[]]]"#.to_owned(), versions("1 to 3 of 2")),
            (r#"["rows",[1,2,2,0,true,true,[]]]"#.to_owned(), versions("1 to 2 of 2")),
            (row(r#"["run 1","ada",1,0,1,0,null]"#), "a row has no channel name".to_owned()),
            (row(r#"["run:1","",1,0,1,0,null]"#), Malformed::Row.to_string()),
            (row(&format!(r#"["run:1","{}",1,0,1,0,null]"#, "x".repeat(257))), Malformed::Row.to_string()),
            (row(r#"["run:1","ada",16777217,0,1,0,null]"#), Malformed::Row.to_string()),
            (row(r#"["run:1","ada",1,0,-1,0,null]"#), Malformed::Row.to_string()),
            (row(r#"["run:1","ada",1,0,1,0,7]"#), Malformed::Row.to_string()),
            (
                row(&format!(r#"["run:1","ada",1,0,1,1,{}7{}]"#, "[".repeat(99), "]".repeat(99))),
                Malformed::Row.to_string(),
            ),
            (row(r#"["run:1","ada",-1,0,1,0,null]"#), json.to_owned()),
            (
                format!(r#"["{}"]"#, "x".repeat(BODY_BYTES_MAX)),
                format!("{} bytes, more than 1048576", BODY_BYTES_MAX + 4),
            ),
        ] {
            assert_eq!(refused(&text), expected);
        }
    }
}
