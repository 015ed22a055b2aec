//! What a reader asks for: the parameters of a query, each checked, and refused with a code when it is wrong.
//!
//! Parameters nobody knows are ignored; one that is known and stands twice is refused, but for `tags`.

use std::time::Duration;

use pulsewire_bus::{Only, Resolution, SeriesQuery};
use pulsewire_protocol::{ErrorCode, Filter as Passing, Interval, Shape};
use serde_json::value::RawValue;

use crate::auth::carrier::decode_percent;
use crate::http::problem::Problem;
use crate::reading::{Filter, Start, fallbacks};

/// Events of a page unless the client says otherwise: document 003's.
const LIMIT_DEFAULT: usize = 100;
/// Events of a page at most; more is cut down to this (S16).
const LIMIT_MAX: usize = 1_000;
/// How far back the history of a metric channel begins if the client does not say, milliseconds.
const PAST_DEFAULT_MS: i64 = 3_600_000;
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
    /// How long the windows are that are wanted, on metric channels.
    pub interval: Option<Interval>,
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
        let fallback = parameters.one("fallback")?;
        if fallback.as_deref().is_some_and(|name| !fallbacks::is_name(name)) {
            return Err(wrong("fallback", "1 to 64 letters, digits, `-` and `_`"));
        }
        Ok(Self {
            after,
            limit: parameters.limit()?,
            filter: Filter { only, passing: parameters.passing()? },
            wait: parameters.one("wait")?.map_or(Ok(Duration::ZERO), |text| seconds(&text))?,
            fallback,
            shape: parameters.shape()?,
            interval: parameters.interval()?,
        })
    }

    /// Reads a query about what a metric channel's series did, and the shape of the answer.
    ///
    /// # Errors
    ///
    /// `invalid_filter` or `bad_request`.
    pub fn parse_series(
        query: Option<&str>,
        now_ms: i64,
        points_max: usize,
    ) -> Result<(SeriesQuery, Shape), Problem> {
        let parameters = Parameters::new(query);
        let to_ms = parameters.time("end_time")?.unwrap_or(now_ms).min(now_ms);
        let from_ms = parameters.time("start_time")?.unwrap_or(to_ms - PAST_DEFAULT_MS).max(0);
        if from_ms > to_ms {
            return Err(wrong("start_time", "a time before `end_time`"));
        }
        let points_max = parameters.limit_of(points_max, points_max)?;
        let query = SeriesQuery {
            from_ms,
            to_ms,
            resolution: parameters.resolution()?,
            fits: points_max,
            filter: parameters.passing()?,
            points_max,
            open: true,
        };
        Ok((query, parameters.shape()?.unwrap_or(Shape::Points)))
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
        self.limit_of(LIMIT_DEFAULT, LIMIT_MAX)
    }

    fn limit_of(&self, default: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.one("limit")? else { return Ok(default) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || text.bytes().all(|byte| byte == b'0') {
            return Err(wrong("limit", &format!("a whole number from 1 on; more than {max} means {max}")));
        }
        // Too long for the type is also more than the maximum.
        Ok(text.parse().unwrap_or(max).min(max))
    }

    fn shape(&self) -> Result<Option<Shape>, Problem> {
        let Some(name) = self.one("shape")? else { return Ok(None) };
        Shape::from_name(&name).map(Some).ok_or_else(|| wrong("shape", "`grouped` or `points`"))
    }

    fn interval(&self) -> Result<Option<Interval>, Problem> {
        let Some(name) = self.one("aggregation_interval")? else { return Ok(None) };
        let interval = Interval::from_name(&name).map(Some);
        interval.ok_or_else(|| wrong("aggregation_interval", "`1s`, `5s`, `1m`, `5m` or `1h`"))
    }

    /// `resolution`, or `aggregation_interval`.
    fn resolution(&self) -> Result<Option<Resolution>, Problem> {
        match self.one("resolution")? {
            None => Ok(self.interval()?.map(Resolution::from)),
            Some(name) => Resolution::from_name(&name)
                .map(Some)
                .ok_or_else(|| wrong("resolution", "`1s`, `5s`, `10s`, `1m`, `5m` or `1h`")),
        }
    }

    /// RFC 3339 as in document 004, or milliseconds since 1970.
    fn time(&self, name: &str) -> Result<Option<i64>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let time = text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).ok();
        let time = time.or_else(|| text.parse().ok());
        time.map(Some).ok_or_else(|| wrong(name, "an RFC 3339 time or milliseconds since 1970"))
    }

    /// `tags=key:value`, as often as there are tags, and `filter`, a JSON object (R25).
    fn passing(&self) -> Result<Passing, Problem> {
        let refused = |detail: &str| Problem::new(ErrorCode::InvalidFilter, detail);
        let mut pairs = Vec::new();
        for (_, tag) in self.0.iter().filter(|(name, _)| name == "tags") {
            pairs.push(tag.split_once(':').ok_or_else(|| refused("`tags` is written as key:value"))?);
        }
        let filter = self.one("filter")?;
        let filter = filter.as_deref().map(serde_json::from_str::<&RawValue>).transpose();
        let filter = filter.map_err(|_| refused("`filter` is not a JSON object"))?;
        Passing::with(pairs, filter).map_err(|error| refused(&error.to_string()))
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
