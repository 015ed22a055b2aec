//! Filters of lists: `user:alice rtt>200ms -transport:polling`.
//!
//! Terms are separated by spaces, and all must hold. `field:value` compares texts without regard to the case of ASCII
//! letters, and a `*` at the end stands for anything; `field>number`, `<`, `>=` and `<=` compare numbers; a bare word is
//! looked for in a few fields; `-` in front of a term negates it; `"…"` keeps spaces together. A filter is compiled
//! once; to hold it against something allocates nothing.

use std::fmt;

/// The longest filter, in bytes.
pub const FILTER_BYTES_MAX: usize = 512;
/// The most terms of a filter.
pub const TERMS_MAX: usize = 16;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Any text.
    Text,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// A number of things; `k` and `m` stand for thousands and millions.
    Count,
    /// A number of bytes; `k` and `m` stand for thousands and millions.
    Bytes,
    /// A time in milliseconds; `ms`, `s`, `m` and `h` may follow.
    Time,
    /// A share of 1.
    Share,
}

/// The fields that a kind of list knows.
pub trait Field: Copy + PartialEq + fmt::Debug + 'static {
    /// Name, field and what it holds, in the order of the documentation.
    const FIELDS: &'static [(&'static str, Self, Holds)];
    /// Where a bare word is looked for: fields that hold texts.
    const WORDS_IN: &'static [Self];
    /// By what the list can be ordered.
    const SORTS: &'static [Self];
    /// By what the list can be put into groups: fields that hold texts.
    const GROUPS: &'static [Self];

    /// Its name.
    #[must_use]
    fn name(self) -> &'static str {
        Self::FIELDS.iter().find(|(_, field, _)| *field == self).map_or("", |(name, ..)| name)
    }

    /// What it holds.
    #[must_use]
    fn holds(self) -> Holds {
        Self::FIELDS.iter().find(|(_, field, _)| *field == self).map_or(Holds::Text, |(.., holds)| *holds)
    }
}

/// Something that a filter is held against.
pub trait Subject<F> {
    /// Shows each text of a field, until one will do; says whether one did.
    fn text(&self, field: F, will_do: &mut dyn FnMut(&str) -> bool) -> bool;
    /// The number of a field, in its base unit: bytes, milliseconds, or 1. `None` if it was not measured.
    fn number(&self, field: F) -> Option<f64>;
}

/// A compiled filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter<F> {
    terms: Vec<Term<F>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Term<F> {
    negated: bool,
    test: Test<F>,
}

#[derive(Debug, Clone, PartialEq)]
enum Test<F> {
    /// The field has this text, or one that begins with it.
    Text { field: F, value: Box<str>, open: bool },
    /// The field's number compares so with this one.
    Number { field: F, relation: Relation, value: f64 },
    /// One of the fields for bare words contains it.
    Word(Box<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Equal,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

/// Why a text is no filter, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {what}")]
pub struct FilterError {
    /// Which character, counted from 1.
    pub at: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl<F> Default for Filter<F> {
    fn default() -> Self {
        Self { terms: Vec::new() }
    }
}

impl<F: Field> Filter<F> {
    /// Reads a filter. An empty one passes everything.
    ///
    /// # Errors
    ///
    /// [`FilterError`] names the place, what is wrong there, and what is known.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > FILTER_BYTES_MAX {
            let what = format!("a filter has at most {FILTER_BYTES_MAX} bytes");
            return Err(FilterError { at: 1, what });
        }
        let mut terms = Vec::new();
        for token in tokens(text)? {
            if terms.len() == TERMS_MAX {
                return Err(token.wrong(format!("a filter has at most {TERMS_MAX} terms")));
            }
            terms.push(token.term()?);
        }
        Ok(Self { terms })
    }

    /// Whether everything passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether all terms hold.
    #[must_use]
    pub fn passes(&self, subject: &impl Subject<F>) -> bool {
        self.terms.iter().all(|term| term.test.holds(subject) != term.negated)
    }
}

impl<F: Field> Test<F> {
    fn holds(&self, subject: &impl Subject<F>) -> bool {
        match self {
            Self::Text { field, value, open } => subject.text(*field, &mut |text| is(text, value, *open)),
            Self::Number { field, relation, value } => {
                subject.number(*field).is_some_and(|number| relation.holds(number, *value))
            }
            Self::Word(word) => {
                F::WORDS_IN.iter().any(|field| subject.text(*field, &mut |text| contains(text, word)))
            }
        }
    }
}

impl Relation {
    fn holds(self, number: f64, value: f64) -> bool {
        match self {
            Self::Equal => number == value,
            Self::Less => number < value,
            Self::LessOrEqual => number <= value,
            Self::More => number > value,
            Self::MoreOrEqual => number >= value,
        }
    }
}

fn is(text: &str, value: &str, open: bool) -> bool {
    let (text, value) = (text.as_bytes(), value.as_bytes());
    match text.get(..value.len()) {
        Some(start) => (open || text.len() == value.len()) && start.eq_ignore_ascii_case(value),
        None => false,
    }
}

fn contains(text: &str, word: &str) -> bool {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    word.is_empty() || text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

/// A term as it was written.
struct Token<'t> {
    text: &'t str,
    at: usize,
}

/// Cuts a filter at its spaces, but for those in quotes.
fn tokens(text: &str) -> Result<Vec<Token<'_>>, FilterError> {
    let mut found = Vec::new();
    let (mut start, mut quoted) = (None, None);
    for (place, (index, letter)) in text.char_indices().enumerate() {
        match letter {
            '"' => quoted = if quoted.is_some() { None } else { Some(place + 1) },
            letter if letter.is_whitespace() && quoted.is_none() => {
                if let Some((begin, at)) = start.take() {
                    found.push(Token { text: &text[begin..index], at });
                }
                continue;
            }
            _ => {}
        }
        start.get_or_insert((index, place + 1));
    }
    if let Some(at) = quoted {
        return Err(FilterError { at, what: "this quotation mark is not closed".to_owned() });
    }
    found.extend(start.map(|(begin, at)| Token { text: &text[begin..], at }));
    Ok(found)
}

impl Token<'_> {
    fn wrong(&self, what: impl Into<String>) -> FilterError {
        FilterError { at: self.at, what: what.into() }
    }

    fn term<F: Field>(&self) -> Result<Term<F>, FilterError> {
        let (negated, text) = match self.text.strip_prefix('-') {
            Some(rest) if !rest.is_empty() => (true, rest),
            _ => (false, self.text),
        };
        let end = text.find([':', '<', '>']).filter(|end| is_name(&text[..*end]));
        let test = match end {
            Some(end) => self.comparison(&text[..end], &text[end..])?,
            None => Test::Word(unquoted(text)),
        };
        Ok(Term { negated, test })
    }

    fn comparison<F: Field>(&self, name: &str, rest: &str) -> Result<Test<F>, FilterError> {
        let known = F::FIELDS.iter().find(|(known, ..)| *known == name);
        let Some((_, field, holds)) = known else {
            let names: Vec<_> = F::FIELDS.iter().map(|(name, ..)| *name).collect();
            return Err(self.wrong(format!("there is no field `{name}`; known are {}", names.join(", "))));
        };
        let (relation, value) = relation(rest);
        if value.is_empty() {
            return Err(self.wrong(format!("`{name}` is compared with nothing")));
        }
        match holds {
            Holds::Text | Holds::Word(_) if relation != Relation::Equal => {
                Err(self.wrong(format!("`{name}` holds a text: write {name}:value")))
            }
            Holds::Text => Ok(text_test(*field, value)),
            Holds::Word(words) => self.word_test(*field, name, value, words),
            Holds::Count | Holds::Bytes | Holds::Time | Holds::Share => {
                let value = number(value, *holds).ok_or_else(|| self.wrong(no_number(name, *holds)))?;
                Ok(Test::Number { field: *field, relation, value })
            }
        }
    }

    fn word_test<F: Field>(
        &self,
        field: F,
        name: &str,
        value: &str,
        words: &[&str],
    ) -> Result<Test<F>, FilterError> {
        let test = text_test(field, value);
        let Test::Text { value, open, .. } = &test else { return Ok(test) };
        if words.iter().any(|word| is(word, value, *open)) {
            return Ok(test);
        }
        Err(self.wrong(format!("`{name}` is never `{value}`; it is one of {}", words.join(", "))))
    }
}

fn text_test<F>(field: F, value: &str) -> Test<F> {
    match value.strip_suffix('*') {
        Some(start) => Test::Text { field, value: unquoted(start), open: true },
        None => Test::Text { field, value: unquoted(value), open: false },
    }
}

/// Whether a text could name a field; what looks otherwise (an address, a link) is a bare word.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

fn unquoted(text: &str) -> Box<str> {
    text.replace('"', "").into()
}

fn relation(rest: &str) -> (Relation, &str) {
    for (sign, relation) in [
        (">=", Relation::MoreOrEqual),
        ("<=", Relation::LessOrEqual),
        (">", Relation::More),
        ("<", Relation::Less),
    ] {
        if let Some(value) = rest.strip_prefix(sign) {
            return (relation, value);
        }
    }
    (Relation::Equal, &rest[1..])
}

fn number(text: &str, holds: Holds) -> Option<f64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match (holds, &text[digits.len()..]) {
        (Holds::Time, "ms") | (_, "") => 1.0,
        (Holds::Time, "s") => 1e3,
        (Holds::Time, "m") => 6e4,
        (Holds::Time, "h") => 3.6e6,
        (Holds::Count | Holds::Bytes, "k") => 1e3,
        (Holds::Count | Holds::Bytes, "m") => 1e6,
        _ => return None,
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = digits.parse::<f64>().ok().filter(|number| plain && number.is_finite())?;
    Some(number * factor)
}

fn no_number(name: &str, holds: Holds) -> String {
    let wanted = match holds {
        Holds::Time => "a time such as 200, 200ms, 5s, 2m or 1h",
        Holds::Share => "a share such as 0.95",
        _ => "a number such as 200, 64k or 2m",
    };
    format!("`{name}` is compared with {wanted}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Thing {
        Name,
        Place,
        Size,
        Age,
        Good,
    }

    impl Field for Thing {
        const FIELDS: &'static [(&'static str, Self, Holds)] = &[
            ("name", Self::Name, Holds::Text),
            ("place", Self::Place, Holds::Word(&["here", "there"])),
            ("size", Self::Size, Holds::Bytes),
            ("age", Self::Age, Holds::Time),
            ("good", Self::Good, Holds::Share),
        ];
        const WORDS_IN: &'static [Self] = &[Self::Name];
        const SORTS: &'static [Self] = &[Self::Size];
        const GROUPS: &'static [Self] = &[Self::Place];
    }

    struct Known;

    impl Subject<Thing> for Known {
        fn text(&self, field: Thing, will_do: &mut dyn FnMut(&str) -> bool) -> bool {
            match field {
                Thing::Name => ["Ada Lovelace", "run:42"].iter().any(|name| will_do(name)),
                Thing::Place => will_do("here"),
                _ => false,
            }
        }

        fn number(&self, field: Thing) -> Option<f64> {
            match field {
                Thing::Size => Some(64_000.0),
                Thing::Age => Some(5_000.0),
                _ => None,
            }
        }
    }

    fn check(text: &str, expected: bool) {
        let filter = Filter::<Thing>::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(filter.passes(&Known), expected, "{text}");
    }

    #[test]
    fn every_term_must_hold() {
        check("", true);
        check("name:run:42 size>=64k age<6s place:here", true);
        check("name:run:42 size>64k", false);
        check("-size>64k age:5s age:5000 age<=5000ms", true);
        check("place:there", false);
        check("place:* name:*", true);
    }

    #[test]
    fn texts_are_whole_unless_they_are_left_open_and_their_case_does_not_matter() {
        check("name:ada", false);
        check("name:ada*", true);
        check("name:\"ada lovelace\"", true);
        check("lace", true);
        check("\"a l\"", true);
        check("-grace", true);
        check("127.0.0.1:5000", false);
        check("RUN:42", true);
    }

    #[test]
    fn what_was_not_measured_passes_no_comparison() {
        check("good>0", false);
        check("good<2", false);
        check("-good<2", true);
    }

    #[test]
    fn a_mistake_is_named_with_its_place_and_what_would_be_right() {
        let wrong = |text: &str| Filter::<Thing>::parse(text).expect_err(text).to_string();
        assert_eq!(
            wrong("lace size>1 colour:red"),
            "at character 13: there is no field `colour`; known are name, place, size, age, good"
        );
        assert_eq!(wrong("ü name>1"), "at character 3: `name` holds a text: write name:value");
        assert_eq!(
            wrong("place:nowhere"),
            "at character 1: `place` is never `nowhere`; it is one of here, there"
        );
        assert_eq!(
            wrong("age>5d"),
            "at character 1: `age` is compared with a time such as 200, 200ms, 5s, 2m or 1h"
        );
        assert_eq!(wrong("good>1k"), "at character 1: `good` is compared with a share such as 0.95");
        assert_eq!(wrong("name:"), "at character 1: `name` is compared with nothing");
        assert_eq!(wrong("a \"b"), "at character 3: this quotation mark is not closed");
        assert_eq!(wrong(&"a ".repeat(17)), "at character 33: a filter has at most 16 terms");
        assert_eq!(wrong(&"a".repeat(513)), "at character 1: a filter has at most 512 bytes");
        for no_number in ["size>1e400", "size>-1", "size>.", "size>1.2.3", "size>inf", "size>nan"] {
            assert!(Filter::<Thing>::parse(no_number).is_err(), "{no_number}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            if let Ok(filter) = Filter::<Thing>::parse(&text) {
                let _ = filter.passes(&Known);
            }
        }

        #[test]
        fn what_looks_like_a_filter_is_one_or_says_where_it_is_not(
            terms in prop::collection::vec("-?(name|place|size|age|good|else)(:|<|>|<=|>=)[a-z0-9.*\"]{0,5}", 0..20)
        ) {
            let text = terms.join(" ");
            match Filter::<Thing>::parse(&text) {
                Ok(filter) => {
                    let _ = filter.passes(&Known);
                }
                Err(error) => prop_assert!((1..=text.chars().count()).contains(&error.at), "{error}"),
            }
        }

        #[test]
        fn a_negated_term_holds_where_the_term_does_not(
            text in "(name:[a-z]{1,3}\\*?|size[<>][0-9]{1,6}|age:[0-9]s|[a-z]{1,4})"
        ) {
            let passes = |text: &str| Filter::<Thing>::parse(text).expect("a filter").passes(&Known);
            prop_assert_ne!(passes(&text), passes(&format!("-{text}")));
        }
    }
}
