//! What expressions have in common.

/// What an installation is told apart by; where a label is missing, nothing is split by it.
pub(super) const JOB: &str = "cluster, namespace, job";
/// What a server is told apart by.
pub(super) const INSTANCE: &str = "cluster, namespace, job, instance";

/// The value in a text, such as 1.2k.
pub(super) const VALUE: &str = "{{ $value | humanize }}";
/// The value in a text, a share as a percentage.
pub(super) const PERCENT: &str = "{{ $value | humanizePercentage }}";
/// The job in a text.
pub(super) const IN_JOB: &str = "{{ $labels.job }}";
/// The server in a text.
pub(super) const SERVER: &str = "{{ $labels.instance }}";

/// What happens a second, over five minutes: as long as a range must be for a scrape a minute, with one missed.
pub(super) fn rate(series: &str) -> String {
    rate_over(series, "5m")
}

pub(super) fn rate_over(series: &str, range: &str) -> String {
    format!("sum by ({JOB}) (rate({series}[{range}]))")
}

/// How often it happened in five minutes.
pub(super) fn increase(series: &str) -> String {
    increase_over(series, "5m")
}

pub(super) fn increase_over(series: &str, range: &str) -> String {
    format!("sum by ({JOB}) (increase({series}[{range}]))")
}

/// The share of `part` in `whole`, nothing where nothing happened.
pub(super) fn share(part: &str, whole: &str) -> String {
    format!("{part}\n/ ({whole} > 0)")
}

/// A quantile over all event types and servers of five minutes.
pub(super) fn quantile(q: f64, family: &str, labels: &str) -> String {
    format!("histogram_quantile({q},\n  sum by ({JOB}, le) (rate({family}_bucket{labels}[5m])))")
}

/// Where a quantile of a family is above a limit in its own unit, of at least so many observations.
pub(super) fn quantile_above(q: f64, family: &str, labels: &str, limit: &str, least: u32) -> String {
    let some = increase(&format!("{family}_count{labels}"));
    format!("{} > {limit}\nand {some} >= {least}", quantile(q, family, labels))
}

/// A limit in percent as a share.
pub(super) fn of_one(percent: f64) -> String {
    number(percent / 100.0)
}

/// A number as one writes it: what binary fractions add at the end is left out.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_one_would() {
        let written = [0.7, 5.0, 0.1, 95.0, 100.0].map(of_one);
        assert_eq!(written, ["0.007", "0.05", "0.001", "0.95", "1"]);
        assert_eq!([0.0, 10_000.0, 1e-12].map(number), ["0", "10000", "0"]);
    }
}
