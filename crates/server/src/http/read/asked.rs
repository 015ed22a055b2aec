//! What a reader asks for: the parameters of a query, each checked, and refused with a code when it is wrong.
//!
//! Parameters nobody knows are ignored; one that is known and stands twice is refused, but for `tags`.

use std::time::Duration;

use pulsewire_bus::Only;
use pulsewire_protocol::{ErrorCode, Shape, Tags};

use crate::auth::carrier::decode_percent;
use crate::http::problem::Problem;
use crate::reading::{Filter, Start, fallbacks};

/// Events of a page unless the client says otherwise: document 003's.
const LIMIT_DEFAULT: usize = 100;
/// Events of a page at most; more is cut down to this (S16).
const LIMIT_MAX: usize = 1_000;
/// The longest key of keyed state, in bytes.
const KEY_BYTES_MAX: usize = 128;

/// What a reader asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// From where.
    pub after: Option<Start>,
    /// How many events at most.
    pub limit: usize,
    /// Which events.
    pub filter: Filter,
    /// How long it would wait.
    pub wait: Duration,
    /// The session that fell back to HTTP.
    pub fallback: Option<String>,
    /// One document or one message per value, on metric channels.
    pub shape: Option<Shape>,
}

/// What a reader of keyed state asks for.
#[derive(Debug, Clone)]
pub struct AskedState {
    /// The key behind which to begin.
    pub after_key: Option<Box<str>>,
    /// How many values at most.
    pub limit: usize,
}

impl Asked {
    /// Reads a query. `position` is what the parameter with the position is called.
    ///
    /// # Errors
    ///
    /// `invalid_position`, `invalid_filter` or `bad_request`, with what was expected.
    pub fn parse(query: Option<&str>, position: &str) -> Result<Self, Problem> {
        let parameters = Parameters::new(query);
        let after = parameters.one(position)?.map(|text| start(&text)).transpose()?;
        let only = match parameters.one("only")?.as_deref() {
            None | Some("all") => Only::All,
            Some("critical") => Only::Critical,
            Some(_) => return Err(wrong("only", "`all` or `critical`")),
        };
        let shape = match parameters.one("shape")?.as_deref() {
            None => None,
            Some("grouped") => Some(Shape::Grouped),
            Some("points") => Some(Shape::Points),
            Some(_) => return Err(wrong("shape", "`grouped` or `points`")),
        };
        let fallback = parameters.one("fallback")?;
        if fallback.as_deref().is_some_and(|name| !fallbacks::is_name(name)) {
            return Err(wrong("fallback", "1 to 64 letters, digits, `-` and `_`"));
        }
        Ok(Self {
            after,
            limit: parameters.limit()?,
            filter: Filter { only, tags: parameters.tags()? },
            wait: parameters.one("wait")?.map_or(Ok(Duration::ZERO), |text| seconds(&text))?,
            fallback,
            shape,
        })
    }

    /// Reads a query about keyed state.
    ///
    /// # Errors
    ///
    /// `bad_request`.
    pub fn parse_state(query: Option<&str>) -> Result<AskedState, Problem> {
        let parameters = Parameters::new(query);
        let after_key = parameters.one("after")?;
        if after_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
            return Err(wrong("after", "a key of 1 to 128 bytes"));
        }
        Ok(AskedState { after_key: after_key.map(Into::into), limit: parameters.limit()? })
    }
}

/// A position as text.
///
/// # Errors
///
/// `invalid_position`.
pub fn start(text: &str) -> Result<Start, Problem> {
    Start::parse(text).map_err(|error| Problem::new(ErrorCode::InvalidPosition, error.to_string()))
}

/// One parameter of a query, unescaped.
///
/// # Errors
///
/// `bad_request` if it stands there twice.
pub fn parameter(query: Option<&str>, name: &str) -> Result<Option<String>, Problem> {
    Parameters::new(query).one(name)
}

/// A whole number from 0 on.
///
/// # Errors
///
/// `bad_request`.
pub fn limit(query: Option<&str>) -> Result<usize, Problem> {
    Parameters::new(query).limit()
}

fn wrong(name: &str, expected: &str) -> Problem {
    Problem::new(ErrorCode::BadRequest, format!("`{name}`: expected {expected}"))
}

/// Seconds with up to three decimals, at most an hour.
fn seconds(text: &str) -> Result<Duration, Problem> {
    let expected = || wrong("wait", "a number of seconds from 0 to 3600, such as 20 or 0.5");
    let plain =
        (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds: f64 = text.parse().ok().filter(|_| plain).ok_or_else(expected)?;
    if seconds > 3_600.0 { Err(expected()) } else { Ok(Duration::from_secs_f64(seconds)) }
}

/// The pairs of a query, unescaped.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn new(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_percent(name), decode_percent(value))
        };
        Self(pairs.map(pair).collect())
    }

    fn one(&self, name: &str) -> Result<Option<String>, Problem> {
        let mut found = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone());
        let first = found.next();
        if found.next().is_some() { Err(wrong(name, "it once")) } else { Ok(first) }
    }

    fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.one("limit")? else { return Ok(LIMIT_DEFAULT) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || text.bytes().all(|byte| byte == b'0') {
            return Err(wrong("limit", "a whole number from 1 on; more than 1000 means 1000"));
        }
        // Too long for the type is also more than the maximum.
        Ok(text.parse().unwrap_or(LIMIT_MAX).min(LIMIT_MAX))
    }

    /// `tags=key:value`, as often as there are tags.
    fn tags(&self) -> Result<Tags, Problem> {
        let refused = |detail: &str| Problem::new(ErrorCode::InvalidFilter, detail);
        let mut pairs = Vec::new();
        for (_, tag) in self.0.iter().filter(|(name, _)| name == "tags") {
            pairs.push(tag.split_once(':').ok_or_else(|| refused("`tags` is written as key:value"))?);
        }
        Tags::new(pairs).ok_or_else(|| refused("at most 16 tags, each key and value at most 64 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: Result<(usize, Duration), ErrorCode>) {
        let asked = Asked::parse(Some(query), "after");
        let found = asked.map(|asked| (asked.limit, asked.wait)).map_err(|problem| problem.code);
        assert_eq!(found, expected, "{query}");
    }

    #[test]
    fn numbers_are_cut_down_or_refused() {
        let at_once = Duration::ZERO;
        check("", Ok((100, at_once)));
        check("limit=1", Ok((1, at_once)));
        check("limit=1000000000", Ok((1_000, at_once)));
        check("limit=99999999999999999999999", Ok((1_000, at_once)));
        for limit in ["0", "000", "-1", "1.5", "1e3", "", "ten", "+1"] {
            check(&format!("limit={limit}"), Err(ErrorCode::BadRequest));
        }
        check("wait=0.5", Ok((100, Duration::from_millis(500))));
        for wait in ["-1", "nan", "inf", "1e3", "", "3601", ".", "123456789"] {
            check(&format!("wait={wait}"), Err(ErrorCode::BadRequest));
        }
        check("limit=1&limit=2", Err(ErrorCode::BadRequest));
    }

    #[test]
    fn a_wrong_position_or_filter_has_its_own_code() {
        for after in ["-1", "abc", "e1:x", "9007199254740992", "e1%3A-1"] {
            check(&format!("after={after}"), Err(ErrorCode::InvalidPosition));
        }
        check("tags=a", Err(ErrorCode::InvalidFilter));
        check(&format!("tags=a:{}", "x".repeat(65)), Err(ErrorCode::InvalidFilter));
        check("only=some", Err(ErrorCode::BadRequest));
        check("fallback=a%20b", Err(ErrorCode::BadRequest));
        check("after=e1%3A7&tags=a:b&tags=c%3Ad&only=critical&unknown=1", Ok((100, Duration::ZERO)));
    }
}
