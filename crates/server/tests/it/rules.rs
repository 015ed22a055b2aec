//! `pulsewire rules`: what is printed follows the settings, and needs no server and no key.

use crate::child::{Ended, Folder, pulsewire, run};

fn generate(arguments: &[&str]) -> Ended {
    run(pulsewire().args(["rules", "generate", "--config=/dev/null"]).args(arguments))
}

/// The lines of a rule, from its name on.
fn rule(name: &str, arguments: &[&str]) -> Option<String> {
    let ended = generate(arguments);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let start = ended.out.find(&format!("- alert: {name}\n"))?;
    let rest = &ended.out[start..];
    Some(rest.split("\n      - ").next().unwrap_or(rest).to_owned())
}

#[test]
fn an_alert_has_the_limits_of_the_servers_own_rule_and_is_left_out_with_it() {
    let set = ["alerts", "--set", "thresholds.heartbeats=0% 2.5% 7%"];
    assert!(rule("HighHeartbeatTimeouts", &set).unwrap().contains("\n          > 0.025\n"));
    assert!(rule("CriticalHeartbeatTimeouts", &set).unwrap().contains("\n          > 0.07\n"));
    assert!(rule("HighHeartbeatTimeouts", &["alerts"]).unwrap().contains("\n          > 0.01\n"));
    let off = ["alerts", "--set", "thresholds.heartbeats=off"];
    assert_eq!(rule("HighHeartbeatTimeouts", &off), None);
    assert!(rule("HighAuthenticationFailures", &off).is_some());
}

/// Ruling C8.
#[test]
fn connections_are_a_share_of_the_limit_or_the_numbers_of_document_001() {
    let share = rule("CriticalWebSocketConnections", &["alerts"]).unwrap();
    assert!(
        share.contains(
            "> 0.95 * max by (cluster, namespace, job, instance) (websocket_connections_hard_limit)"
        )
    );
    let set = ["alerts", "--set", "thresholds.profile=seed-001"];
    for (name, limit) in
        [("HighWebSocketConnections", "> 500\n"), ("CriticalWebSocketConnections", "> 1000\n")]
    {
        let numbers = rule(name, &set).unwrap();
        assert!(numbers.contains(limit) && !numbers.contains("_limit"), "{numbers}");
    }
}

#[test]
fn names_of_metrics_and_jobs_and_the_runbooks_address_can_be_others() {
    let prefix = rule("CollaborationHttpFallback", &["--set", "metrics.alias_prefix=chat_ws"]).unwrap();
    assert!(prefix.contains("chat_ws_fallback_http_total") && !prefix.contains("orchestrator"), "{prefix}");
    let named = ["meta", "--jobs", "edge", "--runbooks", "https://wiki.example.org/ops/"];
    let down = rule("PulsewireTargetDown", &named).unwrap();
    assert!(down.contains("up{job=~\"edge\"} == 0"), "{down}");
    assert!(down.contains("\"https://wiki.example.org/ops/PulsewireTargetDown.md\""), "{down}");
}

#[test]
fn files_are_printed_one_by_one_or_as_one_or_written_to_a_folder() {
    let one = generate(&["slo.yml"]);
    assert_eq!((one.code, one.out.matches("\ngroups:\n").count()), (Some(0), 1));
    assert!(!one.out.contains("websocket_alerts"));
    let all = generate(&[]);
    assert_eq!(all.out.matches("\ngroups:\n").count(), 1, "Prometheus reads one document");
    assert!(all.out.contains("- name: websocket_alerts\n") && all.out.contains("- name: pulsewire-meta\n"));
    let folder = Folder::new();
    let path = folder.path().display().to_string();
    let written = generate(&["--out", &path]);
    assert_eq!((written.code, written.out.as_str()), (Some(0), ""));
    let slo = std::fs::read_to_string(folder.path().join("slo.yml")).unwrap();
    assert_eq!((std::fs::read_dir(&path).unwrap().count(), slo), (6, one.out));
    assert_eq!(generate(&["slo.yml", "--out", &format!("{path}/made")]).code, Some(0), "a folder is made");
    let refused = generate(&["--out", &format!("{path}/slo.yml")]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("error: cannot write "), "{}", refused.err);
}

#[test]
fn what_cannot_be_made_is_said() {
    let unknown = generate(&["alarms"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(2), ""));
    assert!(
        unknown.err.contains("no rules are called `alarms`; there are recording.yml, alerts.yml"),
        "{}",
        unknown.err
    );
    let wrong = generate(&["--set", "thresholds.latency=1ms"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""));
    assert!(wrong.err.contains("thresholds.latency"), "{}", wrong.err);
    let hidden = generate(&["alerts", "--set", "metrics.compat=false"]);
    assert_eq!(hidden.code, Some(0));
    assert!(hidden.err.contains("metrics.compat is false"), "{}", hidden.err);
}

/// Ruling C10: the documents' rules to the letter, which no setting changes.
#[test]
fn the_documents_own_rules_can_be_printed_to_compare() {
    let literal = generate(&["--profile", "seed-literal", "--set", "thresholds.profile=default"]);
    assert_eq!(literal.code, Some(0), "{}", literal.err);
    assert!(literal.out.contains("Do not load them"));
    assert!(literal.out.contains("          rate(websocket_heartbeat_timeouts_total[5m]) > 0.01\n"));
    assert!(literal.out.contains("          rate(websocket_auth_failures_total[5m]) > 0.05\n"));
    assert!(literal.out.contains("          websocket_active_connections > 500\n"));
}

#[test]
fn the_page_about_alerts_has_the_numbers_of_the_settings() {
    let page =
        run(pulsewire().args(["rules", "doc", "--config=/dev/null", "--set", "thresholds.slow=0 7 50"]));
    assert_eq!(page.code, Some(0), "{}", page.err);
    assert!(page.out.contains("more than 7 readers are closed in 5 minutes"), "{}", page.out);
}
