//! Metrics that applications push.

use pulsewire_telemetry::{Current, CustomError, CustomMetrics, Format, Options, Telemetry, numbers, render};

use crate::parser::parse;

#[test]
fn pushed_values_appear_beside_ours_in_both_forms() {
    let telemetry = Telemetry::new(Options::default());
    let custom = telemetry.custom();
    custom.gauge("active_tasks", &[("agent", "a\"1"), ("team", "x")], 3.0).unwrap();
    custom.gauge("active_tasks", &[("team", "x"), ("agent", "a\"1")], 4.5).unwrap();
    custom.counter("jobs_total", &[], 2.0).unwrap();
    custom.counter("jobs_total", &[], 0.5).unwrap();
    let now = Current::default();
    let seen = numbers(&telemetry, &now);
    assert_eq!(seen["active_tasks{agent=\"a\\\"1\",team=\"x\"}"], 4.5);
    assert_eq!(seen["jobs_total"], 2.5);
    let text = parse(&render(&telemetry, &now, Format::Text004), Format::Text004);
    assert_eq!((text["active_tasks"].kind.as_str(), text["jobs_total"].kind.as_str()), ("gauge", "counter"));
    let open = parse(&render(&telemetry, &now, Format::OpenMetrics), Format::OpenMetrics);
    assert_eq!(open["jobs"].samples.len(), 2);
}

#[test]
fn names_that_are_or_could_be_ours_are_refused() {
    let telemetry = Telemetry::new(Options { alias_prefix: "acme_ws".into(), ..Options::default() });
    let gauge = |name: &str| telemetry.custom().gauge(name, &[], 1.0);
    let counter = |name: &str| telemetry.custom().counter(name, &[], 1.0);
    for family in pulsewire_telemetry::catalog::families() {
        let name = family.name.replace("orchestrator_websocket", "acme_ws");
        assert_eq!(gauge(&name), Err(CustomError::Reserved), "{name}");
    }
    for name in ["", "9a", "a b", "a-b", "ä", "a{b=\"c\"}", &"x".repeat(65)] {
        assert_eq!(gauge(name), Err(CustomError::BadName), "{name:?}");
    }
    for name in ["a_total", "a_created", "a_bucket", "a_count", "a_sum", "a_info"] {
        assert_eq!(gauge(name), Err(CustomError::BadSuffix), "{name}");
    }
    for name in ["a", "_total", "a_total_total", "a_created_total"] {
        assert_eq!(counter(name), Err(CustomError::BadSuffix), "{name}");
    }
    gauge("jobs").unwrap();
    assert_eq!(counter("jobs_total"), Err(CustomError::OtherKind));
    counter("runs_total").unwrap();
    assert_eq!(gauge("runs"), Err(CustomError::OtherKind));
}

#[test]
fn labels_are_few_named_well_and_the_same_for_each_series() {
    let telemetry = Telemetry::new(Options::default());
    let set = |labels: &[(&str, &str)]| telemetry.custom().gauge("tasks", labels, 1.0);
    for name in ["", "1a", "a-b", "__a", "le", "job", &"x".repeat(65)] {
        assert!(matches!(set(&[(name, "v")]), Err(CustomError::BadLabel { .. })), "{name:?}");
    }
    assert!(matches!(set(&[("a", "1"), ("a", "2")]), Err(CustomError::BadLabel { .. })));
    assert!(matches!(set(&[("a", &"v".repeat(65))]), Err(CustomError::BadLabel { .. })));
    assert_eq!(
        set(&[("a", ""), ("b", ""), ("c", ""), ("d", ""), ("e", "")]),
        Err(CustomError::TooManyLabels { count: 5 })
    );
    set(&[("a", "1")]).unwrap();
    assert_eq!(set(&[("b", "1")]), Err(CustomError::OtherLabels));
    assert_eq!(set(&[]), Err(CustomError::OtherLabels));
}

#[test]
fn values_are_finite_and_counters_only_grow() {
    let telemetry = Telemetry::new(Options::default());
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(telemetry.custom().gauge("tasks", &[], value), Err(CustomError::BadValue));
    }
    assert_eq!(telemetry.custom().counter("jobs_total", &[], -1.0), Err(CustomError::BadValue));
    telemetry.custom().counter("jobs_total", &[], f64::MAX).unwrap();
    assert_eq!(telemetry.custom().counter("jobs_total", &[], f64::MAX), Err(CustomError::BadValue));
    telemetry.custom().gauge("tasks", &[], -1.0).unwrap();
}

#[test]
fn what_does_not_fit_is_refused_and_counted_and_what_is_there_still_moves() {
    let telemetry = Telemetry::new(Options::default());
    let custom = telemetry.custom();
    for n in 0..CustomMetrics::SERIES_MAX {
        custom.gauge("tasks", &[("agent", &n.to_string())], 1.0).unwrap();
    }
    assert_eq!(custom.gauge("tasks", &[("agent", "more")], 1.0), Err(CustomError::Full));
    for n in 1..CustomMetrics::NAMES_MAX {
        custom.gauge(&format!("name_{n}"), &[], 1.0).unwrap();
    }
    assert_eq!(custom.gauge("name_more", &[], 1.0), Err(CustomError::Full));
    custom.gauge("tasks", &[("agent", "7")], 9.0).unwrap();
    assert_eq!(custom.refused(), 2);
    assert_eq!(numbers(&telemetry, &Current::default())["tasks{agent=\"7\"}"], 9.0);
}
