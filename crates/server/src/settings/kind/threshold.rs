//! Three limits in one text: what is aimed at, from where a warning is given, from where it is critical.

use serde_json::{Value, json};

use super::{Kind, Range, Raw};

/// Three limits, or none.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// The limits; `None` if the rule is off.
    pub levels: Option<Levels>,
    /// As it was written.
    text: String,
}

/// The limits, in the unit of their rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// What is aimed at.
    pub target: f64,
    /// Beyond this a warning is given.
    pub warning: f64,
    /// Beyond this it is critical.
    pub critical: f64,
    /// Whether they are percentages of a maximum, where the rule counts things.
    pub of_maximum: bool,
}

/// What a rule measures.
pub trait Measure {
    /// The kind's name.
    const NAME: &'static str;
    /// An accepted value.
    const EXAMPLE: &'static str;
    /// The units a limit may be written in, and what they are in that of the rule.
    const UNITS: &'static [(&'static str, f64)];
    /// Whether less is worse.
    const LESS_IS_WORSE: bool = false;
}

macro_rules! measures {
    ($( $(#[doc = $help:literal])+ $name:ident $noun:literal $example:literal $units:expr $(, $less:literal)? ; )+) => { $(
        $(#[doc = $help])+
        #[derive(Debug)]
        pub struct $name;

        impl Measure for $name {
            const NAME: &'static str = $noun;
            const EXAMPLE: &'static str = $example;
            const UNITS: &'static [(&'static str, f64)] = $units;
            $( const LESS_IS_WORSE: bool = $less; )?
        }
    )+ };
}

measures! {
    /// Milliseconds; more is worse.
    Latency "three times" "\"50ms 100ms 500ms\"" &[("ms", 1.0), ("s", 1e3), ("m", 60e3)];
    /// Seconds; less is worse.
    Duration "three times" "\"5m 1m 30s\"" &[("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)], true;
    /// Bytes; more is worse.
    Memory "three sizes" "\"2KB 5KB 10KB\"" &[("B", 1.0), ("kB", 1e3), ("KB", 1e3), ("MB", 1e6), ("KiB", 1_024.0), ("MiB", 1_048_576.0)];
    /// Percent; more is worse.
    Share "three percentages" "\"0% 1% 5%\"" &[("%", 1.0)];
    /// Things; more is worse.
    Number "three numbers" "\"0 50 200\"" &[("", 1.0)];
    /// Things, or percentages of the most there may be; more is worse.
    NumberOrShare "three numbers or percentages" "\"50% 80% 95%\"" &[("", 1.0), ("%", 1.0)];
}

/// Three limits of a measure: target, warning and critical.
pub struct Limits<M>(std::marker::PhantomData<M>);

impl<M: Measure> Kind for Limits<M> {
    type Value = Threshold;
    const NAME: &'static str = M::NAME;
    const EXAMPLE: &'static str = M::EXAMPLE;
    fn read(raw: &Raw, _range: Range<'_>) -> Result<Threshold, String> {
        let text = raw.text().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        if text == "off" {
            return Ok(Threshold { levels: None, text });
        }
        let levels = levels::<M>(&text).map_err(|what| {
            let named = "expected target, warning and critical, or \"off\"";
            format!("{named}, such as {}: {what}, found {}", M::EXAMPLE, raw.shown())
        })?;
        Ok(Threshold { levels: Some(levels), text })
    }
    fn show(value: &Threshold) -> Value {
        json!(value.text)
    }
}

impl Threshold {
    /// The limits that a text of the program itself names.
    pub(crate) fn declared<M: Measure>(text: &str) -> Self {
        Limits::<M>::read(&Raw::Text(text.to_owned()), None)
            .expect("declared limits are limits of their kind")
    }
}

fn levels<M: Measure>(text: &str) -> Result<Levels, String> {
    let read = text.split_whitespace().map(limit::<M>).collect::<Result<Vec<_>, _>>()?;
    let [(target, unit), (warning, second), (critical, third)] = read[..] else {
        return Err(format!("there must be three, not {}", read.len()));
    };
    let of_maximum = |unit: &str| M::UNITS.len() > 1 && unit == "%";
    if of_maximum(unit) != of_maximum(second) || of_maximum(unit) != of_maximum(third) {
        return Err("all three must be percentages, or none".to_owned());
    }
    let (towards, ordered) = if M::LESS_IS_WORSE {
        ("falling", target >= warning && warning > critical)
    } else {
        ("rising", target <= warning && warning < critical)
    };
    if !ordered {
        return Err(format!("they must be {towards}, from the target to critical"));
    }
    Ok(Levels { target, warning, critical, of_maximum: of_maximum(unit) })
}

/// A limit in the unit of the rule, and the unit it was written in.
fn limit<M: Measure>(text: &str) -> Result<(f64, &'static str), String> {
    let digits =
        text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let number = text[..digits].parse::<f64>().ok().filter(|number| number.is_finite());
    let unit = M::UNITS.iter().find(|(unit, _)| *unit == &text[digits..]);
    match (number, unit) {
        (Some(number), Some((unit, scale))) => Ok((number * scale, unit)),
        _ => {
            let units: Vec<_> =
                M::UNITS.iter().map(|(unit, _)| if unit.is_empty() { "none" } else { unit }).collect();
            Err(format!("`{}` is no number with a unit ({})", text.escape_debug(), units.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<M: Measure>(text: &str) -> Result<Threshold, String> {
        Limits::<M>::read(&Raw::Text(text.to_owned()), None)
    }

    fn check<M: Measure>(text: &str, expected: [f64; 3]) {
        let levels = read::<M>(text).unwrap().levels.unwrap();
        assert_eq!([levels.target, levels.warning, levels.critical], expected, "{text}");
        assert!(!levels.of_maximum);
    }

    #[test]
    fn three_limits_are_read_in_the_unit_of_their_rule() {
        check::<Latency>("50ms 100ms 0.5s", [50.0, 100.0, 500.0]);
        check::<Duration>("5m 1m  30s", [300.0, 60.0, 30.0]);
        check::<Memory>("2KB 5KB 10KiB", [2_000.0, 5_000.0, 10_240.0]);
        check::<Share>("0% 0.1% 5%", [0.0, 0.1, 5.0]);
        check::<NumberOrShare>("500 500 1000", [500.0, 500.0, 1_000.0]);
        assert!(read::<NumberOrShare>("50% 80% 95%").unwrap().levels.unwrap().of_maximum);
        assert_eq!(read::<Share>("off").unwrap().levels, None);
    }

    #[test]
    fn what_is_wrong_is_said_with_an_example() {
        let said = |refused: Result<Threshold, String>, part: &str| {
            let said = refused.unwrap_err();
            assert!(said.contains(part) && said.contains("such as \""), "{said}");
        };
        said(read::<Latency>("50ms 100ms"), "there must be three, not 2");
        said(read::<Latency>("50 100 500"), "`50` is no number with a unit (ms, s, m)");
        said(read::<Latency>("100ms 50ms 500ms"), "they must be rising");
        said(read::<Latency>("50ms 100ms 100ms"), "they must be rising");
        said(read::<Duration>("30s 1m 5m"), "they must be falling");
        said(read::<NumberOrShare>("50% 80 95"), "all three must be percentages, or none");
        said(read::<Share>("0% 1% 5"), "`5` is no number with a unit (%)");
        said(read::<Share>("0% -1% 5%"), "`-1%` is no number");
        said(read::<Number>("1e3 2 3"), "`1e3` is no number");
        said(read::<Number>(""), "there must be three, not 0");
        said(read::<Number>("1..2 5 6"), "`1..2` is no number");
    }

    #[test]
    fn they_are_shown_as_they_were_written() {
        assert_eq!(
            Limits::<Latency>::show(&read::<Latency>(" 50ms  0.1s 1s").unwrap()),
            json!("50ms 0.1s 1s")
        );
    }
}
