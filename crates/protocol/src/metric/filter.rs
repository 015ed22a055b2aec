//! Which series or events a subscription wants, by their tags.
//!
//! All conditions must hold. A filter is kept in one order whatever order it was written in, so two
//! subscribers who mean the same share one feed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Sample;
use crate::event::{Tags, tags_of};

/// The member of a `filter` that means the name of a series, or the type of an event, instead of a tag.
const NAME: &str = "$name";

/// Conditions on tags, all of which must hold; at most 16.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter(Option<Arc<[Condition]>>);

impl Eq for Filter {}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
struct Condition {
    key: Box<str>,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Test {
    Equal(Box<str>),
    NotEqual(Box<str>),
    In(Box<[Box<str>]>),
    NotIn(Box<[Box<str>]>),
    Prefix(Box<str>),
    Exists(bool),
    Greater(f64),
    Less(f64),
}

impl Test {
    /// A tag that is absent is not equal to anything, and in no list.
    fn passes(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<f64>().ok());
        match self {
            Self::Equal(wanted) => value == Some(wanted),
            Self::NotEqual(other) => value != Some(other),
            Self::In(list) => value.is_some_and(|value| list.iter().any(|one| **one == *value)),
            Self::NotIn(list) => value.is_none_or(|value| list.iter().all(|one| **one != *value)),
            Self::Prefix(prefix) => value.is_some_and(|value| value.starts_with(&**prefix)),
            Self::Exists(wanted) => value.is_some() == *wanted,
            Self::Greater(bound) => number().is_some_and(|number| number > *bound),
            Self::Less(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// For people: `env=production & cpu>0.5 & host in (a, b)`.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Condition { key, test }) in self.0.iter().flat_map(|all| all.iter()).enumerate() {
            f.write_str(if place > 0 { " & " } else { "" })?;
            match test {
                Test::Equal(value) => write!(f, "{key}={value}"),
                Test::NotEqual(value) => write!(f, "{key}!={value}"),
                Test::In(values) => write!(f, "{key} in ({})", values.join(", ")),
                Test::NotIn(values) => write!(f, "{key} not in ({})", values.join(", ")),
                Test::Prefix(start) => write!(f, "{key}={start}*"),
                Test::Exists(true) => write!(f, "{key}"),
                Test::Exists(false) => write!(f, "no {key}"),
                Test::Greater(bound) => write!(f, "{key}>{bound}"),
                Test::Less(bound) => write!(f, "{key}<{bound}"),
            }?;
        }
        Ok(())
    }
}

/// Why a filter is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

impl Condition {
    fn write(&self) -> serde_json::Value {
        let (operator, operand) = match &self.test {
            Test::Equal(value) => ("eq", serde_json::Value::from(&**value)),
            Test::NotEqual(value) => ("ne", (&**value).into()),
            Test::In(values) => ("in", values.iter().map(|value| &**value).collect()),
            Test::NotIn(values) => ("nin", values.iter().map(|value| &**value).collect()),
            Test::Prefix(value) => ("prefix", (&**value).into()),
            Test::Exists(exists) => ("exists", (*exists).into()),
            Test::Greater(bound) => ("gt", (*bound).into()),
            Test::Less(bound) => ("lt", (*bound).into()),
        };
        serde_json::json!({ &*self.key: { operator: operand } })
    }
}

impl Filter {
    /// The most conditions.
    pub const COUNT_MAX: usize = Tags::COUNT_MAX;
    /// The most values of one `in` or `nin`.
    pub const LIST_MAX: usize = 32;

    /// Whether everything passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether something of this name (of a series, or an event's type) with these tags passes.
    #[must_use]
    pub fn passes(&self, name: &str, tags: &Tags) -> bool {
        let value = |key: &str| if key == NAME { Some(name) } else { tags.get(key) };
        self.0.iter().flat_map(|conditions| conditions.iter()).all(|one| one.test.passes(value(&one.key)))
    }

    /// The filter that wants each of these tags with this value.
    ///
    /// # Errors
    ///
    /// If there are too many, or one is too long or has an empty key.
    pub fn equal<'t>(pairs: impl IntoIterator<Item = (&'t str, &'t str)>) -> Result<Self, FilterError> {
        Self::with(pairs, None)
    }

    /// Reads document 004's `tags`, an object of texts that must all be equal, and `filter`, an object that gives
    /// for a tag, or `$name`, a text, or an object of operators: `eq ne in nin prefix exists gt lt`.
    ///
    /// # Errors
    ///
    /// If one of them is something else.
    pub fn read(tags: Option<&RawValue>, filter: Option<&RawValue>) -> Result<Self, FilterError> {
        let pairs = tags.map_or(Some(Vec::new()), tags_of).ok_or_else(|| {
            FilterError(format!(
                "`tags` is not an object of at most {} different keys and texts of at most {} bytes",
                Tags::COUNT_MAX,
                Tags::LEN_BYTES_MAX
            ))
        })?;
        Self::with(pairs.iter().map(|(key, value)| (&**key, &**value)), filter)
    }

    /// The filter that wants each of these tags with this value, and what a `filter` says ([`Filter::read`]).
    ///
    /// # Errors
    ///
    /// As [`Filter::equal`] and [`Filter::read`].
    pub fn with<'t>(
        pairs: impl IntoIterator<Item = (&'t str, &'t str)>,
        filter: Option<&RawValue>,
    ) -> Result<Self, FilterError> {
        let mut conditions = Vec::new();
        for (key, value) in pairs {
            conditions.push(Condition { key: key_of(key)?, test: Test::Equal(text(value, longest(key))?) });
        }
        if let Some(filter) = filter {
            if !filter.get().starts_with('{') {
                return Err(FilterError("`filter` is not an object of tags and conditions".into()));
            }
            let members: BTreeMap<Box<str>, Tests> = serde_json::from_str(filter.get())
                .map_err(|error| FilterError(format!("`filter`: {error}")))?;
            for (key, tests) in members {
                let key = key_of(&key)?;
                for test in tests.tests(longest(&key))? {
                    conditions.push(Condition { key: key.clone(), test });
                }
            }
        }
        Self::new(conditions)
    }

    /// Writes it as a list of `filter` objects, each with one condition; [`Filter::read_list`] reads it.
    #[must_use]
    pub fn write_list(&self) -> String {
        let conditions = self.0.iter().flat_map(|conditions| conditions.iter());
        let written: Vec<serde_json::Value> = conditions.map(Condition::write).collect();
        serde_json::Value::Array(written).to_string()
    }

    /// Reads what [`Filter::write_list`] wrote.
    ///
    /// # Errors
    ///
    /// If it is something else.
    pub fn read_list(text: &str) -> Result<Self, FilterError> {
        let written: Vec<&RawValue> =
            serde_json::from_str(text).map_err(|error| FilterError(format!("`filter`: {error}")))?;
        let mut conditions = Vec::new();
        for filter in written.into_iter().take(Self::COUNT_MAX + 1) {
            let read = Self::with([], Some(filter))?;
            conditions.extend(read.0.iter().flat_map(|conditions| conditions.iter()).cloned());
        }
        Self::new(conditions)
    }

    fn new(mut conditions: Vec<Condition>) -> Result<Self, FilterError> {
        conditions.sort_by(|a, b| a.partial_cmp(b).expect("no bound is NaN"));
        conditions.dedup();
        if conditions.len() > Self::COUNT_MAX {
            return Err(FilterError(format!("more than {} conditions", Self::COUNT_MAX)));
        }
        Ok(Self((!conditions.is_empty()).then(|| conditions.into())))
    }
}

/// What `filter` says of one tag.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a condition is a text, or an object of eq, ne, in, nin, prefix, exists, gt, lt"
)]
enum Tests {
    Equal(String),
    Operators(Operators),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operators {
    eq: Option<String>,
    ne: Option<String>,
    r#in: Option<Vec<String>>,
    nin: Option<Vec<String>>,
    prefix: Option<String>,
    exists: Option<bool>,
    gt: Option<f64>,
    lt: Option<f64>,
}

impl Tests {
    fn tests(self, bytes_max: usize) -> Result<Vec<Test>, FilterError> {
        let operators = match self {
            Self::Equal(value) => return Ok(vec![Test::Equal(text(&value, bytes_max)?)]),
            Self::Operators(operators) => operators,
        };
        let mut tests = Vec::new();
        if let Some(value) = operators.eq {
            tests.push(Test::Equal(text(&value, bytes_max)?));
        }
        if let Some(value) = operators.ne {
            tests.push(Test::NotEqual(text(&value, bytes_max)?));
        }
        if let Some(values) = operators.r#in {
            tests.push(Test::In(list(&values, bytes_max)?));
        }
        if let Some(values) = operators.nin {
            tests.push(Test::NotIn(list(&values, bytes_max)?));
        }
        if let Some(value) = operators.prefix {
            tests.push(Test::Prefix(text(&value, bytes_max)?));
        }
        tests.extend(operators.exists.map(Test::Exists));
        tests.extend(operators.gt.map(Test::Greater));
        tests.extend(operators.lt.map(Test::Less));
        if tests.is_empty() {
            return Err(FilterError("a condition of `filter` has no operator".into()));
        }
        Ok(tests)
    }
}

fn key_of(key: &str) -> Result<Box<str>, FilterError> {
    if key.is_empty() {
        return Err(FilterError("a tag's key is empty".into()));
    }
    text(key, Tags::LEN_BYTES_MAX)
}

/// The longest value that something under this key can have.
fn longest(key: &str) -> usize {
    if key == NAME { Sample::NAME_BYTES_MAX } else { Tags::LEN_BYTES_MAX }
}

fn text(text: &str, bytes_max: usize) -> Result<Box<str>, FilterError> {
    if text.len() > bytes_max {
        return Err(FilterError(format!("`{text}` is longer than {bytes_max} bytes")));
    }
    Ok(text.into())
}

fn list(values: &[String], bytes_max: usize) -> Result<Box<[Box<str>]>, FilterError> {
    if values.is_empty() || values.len() > Filter::LIST_MAX {
        return Err(FilterError(format!("a list of `in` or `nin` has 1 to {} values", Filter::LIST_MAX)));
    }
    let mut values = values.iter().map(|value| text(value, bytes_max)).collect::<Result<Vec<_>, _>>()?;
    values.sort_unstable();
    values.dedup();
    Ok(values.into())
}
