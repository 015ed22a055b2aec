//! Expressions, written short.
//!
//! | written | spelt out |
//! |---|---|
//! | `{@}`, `{@,code="4004"}` | the labels that the variables choose: cluster, namespace, job, instance |
//! | `{#}` | the same without the instance, for what a rule recorded for a whole job |
//! | `[@]` | `[$__rate_interval]`: at least four scrapes, whatever the range of time on the page |
//!
//! Document 003's names begin with whatever the settings say they do.

use pulsewire_telemetry::catalog::ALIAS_PREFIX;

use crate::Pack;

/// What the variables choose of a whole job.
const JOB: &str = r#"cluster=~"$cluster",namespace=~"$namespace",job=~"$job""#;
const INSTANCE: &str = r#"instance=~"$instance""#;

/// Spells an expression out.
pub(super) fn spelt_out(expression: &str, pack: &Pack) -> String {
    expression
        .replace("{@", &format!("{{{JOB},{INSTANCE}"))
        .replace("{#", &format!("{{{JOB}"))
        .replace("[@]", "[$__rate_interval]")
        .replace(ALIAS_PREFIX, &pack.alias_prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_follows_the_variables_and_the_prefix() {
        let pack = Pack { alias_prefix: "acme".to_owned(), ..Pack::default() };
        let said = spelt_out(r#"rate(orchestrator_websocket_x_total{@,a="b"}[@])"#, &pack);
        let labels = r#"cluster=~"$cluster",namespace=~"$namespace",job=~"$job",instance=~"$instance",a="b""#;
        assert_eq!(said, format!("rate(acme_x_total{{{labels}}}[$__rate_interval])"));
        assert_eq!(spelt_out("job:x:sum{#}", &pack), format!("job:x:sum{{{JOB}}}"));
    }
}
