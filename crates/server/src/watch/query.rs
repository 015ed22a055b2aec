//! What a watch or a `GET` asks for: the parameters of a query, read strictly.
//!
//! A channel name carries a query with `+` for `&` and `~XX` for `%XX`; otherwise the two are the same. Nothing is
//! ignored: a parameter that nobody knows, or that stands twice, is refused with the known ones named, because a
//! filter that is silently not applied shows the wrong connections.

use std::ops::RangeInclusive;

use pulsewire_protocol::ErrorCode;

use crate::auth::carrier::{QUERY_PARAMETER, decode_percent};
use crate::http::problem::Problem;

/// The parameters of a query, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// The one thing that is asked about, such as a session.
    pub subject: Option<String>,
    parameters: Vec<(String, String)>,
}

/// What a channel name may hold beside letters and digits, without what means something in a query.
const PLAIN: &[u8] = b"._-:/@#=";

impl Query {
    /// Reads the query of a URL: what stands behind its `?`. The token's parameter is none of the query.
    ///
    /// # Errors
    ///
    /// `bad_request` for a parameter that stands twice or has no `=`.
    pub fn of_url(subject: Option<&str>, query: Option<&str>) -> Result<Self, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(wrong(format!("expected `name=value`, found `{}`", decode_percent(pair))));
            };
            let (name, value) = (decode_percent(name), decode_percent(value));
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(wrong(format!("`{name}` stands twice")));
            }
            if name != QUERY_PARAMETER {
                parameters.push((name, value));
            }
        }
        Ok(Self { subject: subject.map(str::to_owned), parameters })
    }

    /// Reads what stands behind the `:` of a channel's name; where a watch is about one thing, that is its id.
    ///
    /// # Errors
    ///
    /// As [`Query::of_url`].
    pub fn of_channel(text: &str, has_subject: bool) -> Result<Self, Problem> {
        let text = text.replace('~', "%");
        if has_subject {
            return Ok(Self { subject: Some(decode_percent(&text)), ..Self::default() });
        }
        Self::of_url(None, Some(&text.replace('+', "&")))
    }

    /// The query as a channel's name carries it; [`Query::of_channel`] reads it back.
    #[must_use]
    pub fn to_channel(&self) -> String {
        if let Some(subject) = &self.subject {
            return escaped(subject);
        }
        let pair = |(name, value): &(String, String)| format!("{}={}", escaped(name), escaped(value));
        self.parameters.iter().map(pair).collect::<Vec<_>>().join("+")
    }

    /// Refuses parameters that are not among the known.
    ///
    /// # Errors
    ///
    /// `bad_request`, with the known ones.
    pub fn allow(&self, known: &[&str]) -> Result<(), Problem> {
        match self.parameters.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) if known.is_empty() => {
                Err(wrong(format!("unknown parameter `{name}`; there are none here")))
            }
            Some((name, _)) => {
                Err(wrong(format!("unknown parameter `{name}`; there are {}", known.join(", "))))
            }
        }
    }

    /// The value of a parameter; an empty one counts as not given.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A whole number.
    ///
    /// # Errors
    ///
    /// `bad_request` if it is none or outside the range.
    pub fn count(&self, name: &str, range: RangeInclusive<usize>, default: usize) -> Result<usize, Problem> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse().ok().filter(|count| range.contains(count)).ok_or_else(|| {
            wrong(format!("`{name}` is a number from {} to {}, not `{text}`", range.start(), range.end()))
        })
    }

    /// One of some words.
    ///
    /// # Errors
    ///
    /// `bad_request`, with the words.
    pub fn word(&self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let found = words.iter().copied().find(|word| *word == text);
        found.map(Some).ok_or_else(|| wrong(format!("`{name}` is one of {}, not `{text}`", words.join(", "))))
    }
}

/// A refusal of a query.
pub(crate) fn wrong(detail: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::BadRequest, detail)
}

/// A text as a channel's name carries it.
fn escaped(text: &str) -> String {
    let one = |byte: u8| {
        if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("~{byte:02X}")
        }
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulsewire_protocol::ChannelName;

    use super::*;

    fn parsed(text: &str) -> Result<Query, String> {
        Query::of_channel(text, false).map_err(|problem| problem.detail)
    }

    #[test]
    fn a_channel_carries_the_query_of_a_url() {
        let of_channel = parsed("sort=-queue+limit=50+filter=rtt~3E200~20user:a=b").unwrap();
        let of_url =
            Query::of_url(None, Some("sort=-queue&limit=50&filter=rtt%3E200+user:a=b&token=secret")).unwrap();
        assert_eq!(of_channel, of_url);
        assert_eq!(of_channel.text("filter"), Some("rtt>200 user:a=b"));
        assert_eq!(of_channel.to_channel(), "sort=-queue+limit=50+filter=rtt~3E200~20user:a=b");
        let of_session = Query::of_channel("01J+x=1", true).unwrap();
        assert_eq!(of_session.subject.as_deref(), Some("01J x=1"), "all of it is the id");
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        let query = parsed("sort=x+limt=5").unwrap();
        let refused = query.allow(&["sort", "limit"]).unwrap_err();
        assert_eq!(refused.detail, "unknown parameter `limt`; there are sort, limit");
        assert!(query.allow(&["sort", "limt"]).is_ok());
        assert!(query.allow(&[]).is_err());
        assert_eq!(parsed("a=1+a=2"), Err("`a` stands twice".to_owned()));
        assert_eq!(parsed("a"), Err("expected `name=value`, found `a`".to_owned()));
    }

    #[test]
    fn numbers_and_words_are_checked() {
        let query = parsed("limit=5+offset=-1+tab=closed+empty=").unwrap();
        assert_eq!((query.count("limit", 1..=200, 50), query.count("other", 1..=200, 50)), (Ok(5), Ok(50)));
        assert_eq!(query.count("limit", 6..=200, 50).unwrap_err().code, ErrorCode::BadRequest);
        assert!(query.count("offset", 0..=1_000, 0).is_err());
        assert_eq!(query.word("tab", &["active", "closed"]), Ok(Some("closed")));
        assert_eq!(
            query.word("tab", &["active"]).unwrap_err().detail,
            "`tab` is one of active, not `closed`"
        );
        assert_eq!((query.text("empty"), query.word("empty", &[])), (None, Ok(None)));
    }

    proptest! {
        #[test]
        fn every_query_goes_through_a_channels_name(
            pairs in proptest::collection::btree_map("[a-z]{1,6}", any::<String>(), 1..4)
        ) {
            let parameters: Vec<_> = pairs.into_iter().filter(|(name, _)| name != QUERY_PARAMETER).collect();
            let query = Query { subject: None, parameters };
            let text = query.to_channel();
            prop_assert_eq!(&Query::of_channel(&text, false).unwrap(), &query);
            let name = format!("$sys.x:{text}");
            if name.len() <= ChannelName::LEN_BYTES_MAX && !text.is_empty() && !name.ends_with(':') {
                prop_assert!(ChannelName::parse(&name).is_ok(), "{}", name);
            }
        }

        #[test]
        fn no_text_is_too_strange(text in any::<String>()) {
            let _ = Query::of_channel(&text, false);
            let _ = Query::of_url(None, Some(&text));
        }
    }
}
