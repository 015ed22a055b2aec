//! Numbers as people read them: three significant digits and a unit.
//!
//! A unit is shown only where the name of the series leaves no doubt; all others are plain numbers.

use pulsewire_client::Number;

/// What a series counts, as far as its name says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Unit {
    Plain,
    Percent,
    Bytes,
    BytesPerSecond,
    /// Values are milliseconds.
    Milliseconds,
    /// Values are seconds.
    Seconds,
}

/// The host collector's sizes, whose names alone do not say it (`docs/operate/host-metrics.md`).
const BYTES: &[&str] = &["memory.total", "memory.used", "disk.total", "disk.used"];
/// What may follow the word `bytes` without making it something else.
const AFTER_BYTES: &[&str] =
    &["sent", "recv", "received", "read", "written", "in", "out", "total", "used", "free", "per", "second"];

const SI: &[(f64, &str)] =
    &[(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P"), (1e18, "E")];
const IEC: &[(f64, &str)] = &[
    (1.0, " B"),
    (1_024.0, " KiB"),
    (1_048_576.0, " MiB"),
    (1_073_741_824.0, " GiB"),
    (1_099_511_627_776.0, " TiB"),
    (1_125_899_906_842_624.0, " PiB"),
    (1_152_921_504_606_846_976.0, " EiB"),
];
const TIME: &[(f64, &str)] = &[(1e-6, " µs"), (1e-3, " ms"), (1.0, " s")];

impl Unit {
    /// The unit of a series with this name.
    pub(in crate::cli) fn of(name: &str) -> Unit {
        if BYTES.contains(&name) {
            return Unit::Bytes;
        }
        let last = name.rsplit(['.', '/', ':']).next().unwrap_or(name);
        let words: Vec<&str> = last.split(['_', '-']).collect();
        if let Some(at) = words.iter().position(|word| *word == "bytes") {
            let after = &words[at + 1..];
            return match after {
                _ if !after.iter().all(|word| AFTER_BYTES.contains(word)) => Unit::Plain,
                [.., "per", "second"] => Unit::BytesPerSecond,
                _ if after.contains(&"per") || after.contains(&"second") => Unit::Plain,
                _ => Unit::Bytes,
            };
        }
        match &words[..] {
            [.., "percent"] => Unit::Percent,
            [.., "ms"] => Unit::Milliseconds,
            [.., "per", "seconds"] => Unit::Plain,
            [.., "seconds"] | [.., "seconds", "total"] => Unit::Seconds,
            _ => Unit::Plain,
        }
    }
}

/// A number with its unit, such as `1.23k`, `16.0 GiB` or `45.2%`; `-` for what is none.
pub(in crate::cli) fn short(value: Number, unit: Unit) -> String {
    let number = value.as_f64();
    if !number.is_finite() {
        return "-".to_owned();
    }
    match unit {
        Unit::Plain => match value {
            Number::Whole(whole) if whole.unsigned_abs() < 1_000 => whole.to_string(),
            _ => scaled(number, SI),
        },
        Unit::Percent => format!("{}%", digits(number)),
        Unit::Bytes => match value {
            Number::Whole(whole) if whole.unsigned_abs() < 1_024 => format!("{whole} B"),
            _ => scaled(number, IEC),
        },
        Unit::BytesPerSecond => format!("{}/s", short(value, Unit::Bytes)),
        Unit::Milliseconds if number == 0.0 => "0 ms".to_owned(),
        Unit::Milliseconds => scaled(number / 1e3, TIME),
        Unit::Seconds if number == 0.0 => "0 s".to_owned(),
        Unit::Seconds => scaled(number, TIME),
    }
}

/// The same of a figure that does not say whether it is whole.
pub(in crate::cli) fn number_text(value: f64, unit: Unit) -> String {
    let whole = value.fract() == 0.0 && value.abs() < 1e15;
    short(if whole { Number::Whole(value as i64) } else { Number::Float(value) }, unit)
}

/// In the largest step that is not larger than the number, looked at as it will be written: 999,960 is `1.00M`.
fn scaled(number: f64, steps: &[(f64, &str)]) -> String {
    let mut at = steps.iter().rposition(|(step, _)| number.abs() >= *step).unwrap_or(0);
    if let Some((next, _)) = steps.get(at + 1) {
        let ratio = next / steps[at].0;
        if number.abs() / steps[at].0 >= ratio - 0.5 {
            at += 1;
        }
    }
    let (step, suffix) = steps[at];
    format!("{}{suffix}", digits(number / step))
}

/// Three significant digits without a unit; more only where whole numbers have more.
fn digits(number: f64) -> String {
    let size = number.abs();
    match size {
        0.0 => "0".to_owned(),
        _ if !(0.001..1e6).contains(&size) => format!("{number:.2e}"),
        _ if size >= 99.95 => format!("{number:.0}"),
        _ if size >= 9.995 => format!("{number:.1}"),
        _ if size >= 0.9995 => format!("{number:.2}"),
        _ if size >= 0.09995 => format!("{number:.3}"),
        _ if size >= 0.009_995 => format!("{number:.4}"),
        _ => format!("{number:.5}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_significant_digits_and_the_right_prefix() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1.00"),
            (45.23, "45.2"),
            (50.0, "50.0"),
            (99.94, "99.9"),
            (99.95, "100"),
            (245.67, "246"),
            (999.4, "999"),
            (999.5, "1.00k"),
            (1_000.0, "1.00k"),
            (1_234.0, "1.23k"),
            (-1_234.0, "-1.23k"),
            (9_995.0, "10.0k"),
            (12_345.0, "12.3k"),
            (999_400.0, "999k"),
            (999_960.0, "1.00M"),
            (2_500_000.0, "2.50M"),
            (1e9, "1.00G"),
            (7.25e12, "7.25T"),
            (1e15, "1.00P"),
            (9.2e18, "9.20E"),
            (1e25, "1.00e7E"),
            (0.5, "0.500"),
            (1.0 / 3.0, "0.333"),
            (0.9996, "1.00"),
            (0.012_34, "0.0123"),
            (0.001_234, "0.00123"),
            (0.000_123_4, "1.23e-4"),
            (f64::NAN, "-"),
            (f64::INFINITY, "-"),
        ] {
            assert_eq!(short(Number::Float(value), Unit::Plain), expected, "{value}");
        }
        for (value, expected) in [
            (0, "0"),
            (8, "8"),
            (-8, "-8"),
            (999, "999"),
            (1_000, "1.00k"),
            (10_000, "10.0k"),
            (1_699_459_200, "1.70G"),
            (i64::MAX, "9.22E"),
            (i64::MIN, "-9.22E"),
        ] {
            assert_eq!(short(Number::Whole(value), Unit::Plain), expected, "{value}");
        }
    }

    #[test]
    fn units_scale_as_they_should() {
        let gibibyte = 1_073_741_824.0;
        for (value, unit, expected) in [
            (45.2, Unit::Percent, "45.2%"),
            (100.0, Unit::Percent, "100%"),
            (0.0, Unit::Percent, "0%"),
            (512.0, Unit::Bytes, "512 B"),
            (1_000.0, Unit::Bytes, "1000 B"),
            (1_023.0, Unit::Bytes, "1023 B"),
            (1_023.6, Unit::Bytes, "1.00 KiB"),
            (1_024.0, Unit::Bytes, "1.00 KiB"),
            (1_536.0, Unit::Bytes, "1.50 KiB"),
            (1_023.7 * 1_024.0, Unit::Bytes, "1.00 MiB"),
            (16.0 * gibibyte, Unit::Bytes, "16.0 GiB"),
            (-16.0 * gibibyte, Unit::Bytes, "-16.0 GiB"),
            (8_388_608_000.0, Unit::Bytes, "7.81 GiB"),
            (1_048_576.0, Unit::BytesPerSecond, "1.00 MiB/s"),
            (0.0, Unit::Milliseconds, "0 ms"),
            (45.5, Unit::Milliseconds, "45.5 ms"),
            (999.6, Unit::Milliseconds, "1.00 s"),
            (0.25, Unit::Milliseconds, "250 µs"),
            (125_500.0, Unit::Milliseconds, "126 s"),
            (0.0, Unit::Seconds, "0 s"),
            (0.045, Unit::Seconds, "45.0 ms"),
            (12.0, Unit::Seconds, "12.0 s"),
        ] {
            assert_eq!(short(Number::Float(value), unit), expected, "{value} {unit:?}");
        }
        assert_eq!(short(Number::Whole(1_023), Unit::Bytes), "1023 B");
        assert_eq!(short(Number::Whole(16_777_216_000), Unit::Bytes), "15.6 GiB");
    }

    #[test]
    fn a_unit_is_shown_only_where_the_name_leaves_no_doubt() {
        for (name, unit) in [
            ("cpu.percent", Unit::Percent),
            ("error_percent", Unit::Percent),
            ("memory.total", Unit::Bytes),
            ("disk.used", Unit::Bytes),
            ("network.bytes_sent", Unit::Bytes),
            ("network.bytes_recv_per_second", Unit::BytesPerSecond),
            ("http_response_size_bytes", Unit::Bytes),
            ("http_response_size_bytes_total", Unit::Bytes),
            ("latency_ms", Unit::Milliseconds),
            ("request.duration_seconds", Unit::Seconds),
            ("executions.total", Unit::Plain),
            ("seats.used", Unit::Plain),
            ("bytes_per_request", Unit::Plain),
            ("bytes_errors", Unit::Plain),
            ("load.one", Unit::Plain),
            ("alarms", Unit::Plain),
            ("success_rate", Unit::Plain),
            ("", Unit::Plain),
        ] {
            assert_eq!(Unit::of(name), unit, "{name}");
        }
    }
}
