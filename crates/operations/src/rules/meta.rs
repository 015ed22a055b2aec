//! What watches the watching, and the server's own troubles.

use super::query::{INSTANCE, PERCENT, SERVER, VALUE, number, of_one};
use super::{Alert, File, Group, Pair, Rule, Severity, alert};
use crate::Pack;

pub(super) fn file(pack: &Pack) -> File {
    let scrapes =
        [watchdog(pack), target(pack), targets(pack), missing(pack), slow(pack), series(pack), dropped(pack)];
    let mut own = vec![store(pack).into(), redis(pack).into(), shards(pack).into(), judged(pack).into()];
    own.extend([broker(pack).into(), broker_lag(pack).into(), node_missing(pack).into()]);
    own.extend([selfcheck(pack).into(), draining(pack).into(), reload(pack).into()]);
    own.extend(certificate(pack));
    own.extend(files(pack));
    own.extend(lag(pack));
    let scrapes = scrapes.into_iter().map(|alert| Alert { component: "meta", ..alert }.into()).collect();
    File {
        name: "meta",
        about: "What watches the watching: rules over data that is missing are silent. And the server's own troubles.",
        groups: vec![
            Group { name: "pulsewire-meta", interval: "30s", rules: scrapes },
            Group { name: "pulsewire-server", interval: "30s", rules: own },
        ],
    }
}

fn watchdog(pack: &Pack) -> Alert {
    Alert {
        expr: "vector(1)".to_owned(),
        summary: "Always fires: route it to whoever notices when it stops.".to_owned(),
        why: "A dead man's switch.",
        when: "always".to_owned(),
        from: "ours",
        ..alert(pack, "Watchdog", Severity::None, "watchdog")
    }
}

fn target(pack: &Pack) -> Alert {
    Alert {
        expr: format!("up{{job=~\"{}\"}} == 0", pack.jobs),
        hold: "2m",
        summary: format!("{SERVER} cannot be scraped"),
        description: "It is down, its address is wrong, or its token for metrics is.".to_owned(),
        when: "a server's metrics cannot be read for 2 minutes".to_owned(),
        from: "ours",
        ..alert(pack, "PulsewireTargetDown", Severity::Critical, "down")
    }
}

fn targets(pack: &Pack) -> Alert {
    Alert {
        expr: format!("absent_over_time(up{{job=~\"{}\"}}[5m])", pack.jobs),
        hold: "5m",
        summary: "Prometheus knows of no server".to_owned(),
        description: "Every rule here is silent.".to_owned(),
        when: "Prometheus has had no server to scrape for 10 minutes".to_owned(),
        from: "ours",
        ..alert(pack, "PulsewireNoTargets", Severity::Critical, "down")
    }
}

fn missing(pack: &Pack) -> Alert {
    Alert {
        expr: format!(
            "sum by ({INSTANCE}) (up{{job=~\"{}\"}}) == 1\nunless sum by ({INSTANCE}) (websocket_active_connections)",
            pack.jobs
        ),
        hold: "5m",
        summary: format!("{SERVER} is scraped and shows no connections"),
        description: "A wrong path, a renamed metric, or metrics.compat = false: most rules are silent."
            .to_owned(),
        when: "a server is scraped and has no websocket_active_connections".to_owned(),
        from: "ours",
        ..alert(pack, "PulsewireMetricsMissing", Severity::Warning, "metrics_missing")
    }
}

fn slow(pack: &Pack) -> Alert {
    Alert {
        expr: format!("scrape_duration_seconds{{job=~\"{}\"}} > 2", pack.jobs),
        hold: "5m",
        summary: format!("Scraping {SERVER} is slow"),
        description: format!("It takes {VALUE} s (limit 2 s)."),
        when: "scraping a server takes over 2 s".to_owned(),
        from: "ours",
        ..alert(pack, "PulsewireScrapeSlow", Severity::Warning, "scrape")
    }
}

fn series(pack: &Pack) -> Alert {
    Alert {
        expr: format!("scrape_samples_post_metric_relabeling{{job=~\"{}\"}} > 10000", pack.jobs),
        hold: "15m",
        summary: format!("{SERVER} has many series"),
        description: format!(
            "{VALUE} series (limit 10k); at the scrape's sample_limit the server is lost from sight."
        ),
        when: "a scrape has more than 10,000 series".to_owned(),
        from: "ours: half of the shipped `sample_limit`",
        ..alert(pack, "PulsewireCardinalityHigh", Severity::Warning, "cardinality")
    }
}

fn dropped(pack: &Pack) -> Alert {
    Alert {
        expr: format!("sum by ({INSTANCE}) (increase(websocket_metrics_series_dropped_total[1h])) > 0"),
        hold: "5m",
        summary: format!("{SERVER} refuses label values"),
        description: format!("{VALUE} label values were refused within an hour, because their set was full."),
        when: "a label value was refused within an hour because its set was full".to_owned(),
        from: "ours; the sets' sizes are `metrics.event_types_max` and the bounds in docs/metrics.md",
        ..alert(pack, "PulsewireSeriesDropped", Severity::Info, "series_dropped")
    }
}

fn store(pack: &Pack) -> Alert {
    Alert {
        expr: format!("max by ({INSTANCE}) (websocket_store_degraded) == 1"),
        hold: "1m",
        summary: format!("The store of {SERVER} fails"),
        description: "Events of log channels are refused.".to_owned(),
        when: "a store has failed for a minute".to_owned(),
        from: "ours",
        ..alert(pack, "PulsewireStoreDegraded", Severity::Critical, "store")
    }
}

fn redis(pack: &Pack) -> Alert {
    Alert {
        expr: format!(
            "min by ({INSTANCE}) (pulsewire_redis_connected) == 0 or \
             min by ({INSTANCE}) (pulsewire_redis_streams_connected) == 0"
        ),
        hold: "2m",
        summary: format!("{SERVER} has lost Redis"),
        description: "Samples and events that others publish there do not arrive.".to_owned(),
        why: "A server that is told of no Redis, or of no streams, does not have these metrics.",
        when: "what is published in Redis, or its streams, has not been read for 2 minutes".to_owned(),
        from: "ours",
        ..alert(pack, "PulsewireRedisDisconnected", Severity::Warning, "redis")
    }
}

fn broker(pack: &Pack) -> Alert {
    Alert {
        expr: format!("min by ({INSTANCE}) (pulsewire_broker_connected) == 0"),
        hold: "1m",
        summary: format!("{SERVER} has lost the broker between nodes"),
        description: "Events of log channels of other nodes come up to half a second late; other events, samples and presence \
                      stay on their node."
            .to_owned(),
        why: "A server without a broker does not have this metric.",
        when: "a server has not reached the broker for a minute".to_owned(),
        from: "ours",
        ..alert(pack, "PulsewireBrokerLost", Severity::Warning, "broker")
    }
}

fn broker_lag(pack: &Pack) -> Alert {
    Alert {
        expr: format!(
            "histogram_quantile(0.9,\n  sum by ({INSTANCE}, le) (rate(pulsewire_broker_lag_seconds_bucket[5m]))) > 0.25"
        ),
        hold: "5m",
        summary: format!("The broker brings what {SERVER} says late"),
        description: format!("p90 of the way there and back is {VALUE} s (limit 250 ms)."),
        when: "p90 of the way to the broker and back is over 250 ms in 5 minutes".to_owned(),
        from: "ours: a tenth of it is usual even through PostgreSQL",
        ..alert(pack, "PulsewireBrokerLagging", Severity::Warning, "broker_lag")
    }
}

fn node_missing(pack: &Pack) -> Alert {
    Alert {
        expr: format!("max by ({INSTANCE}) (pulsewire_cluster_nodes{{state=\"missing\"}}) > 0"),
        hold: "1m",
        summary: format!("{SERVER} misses another node"),
        description: format!("{VALUE} nodes have fallen silent without saying goodbye."),
        why: "A node that is killed is missed for ten minutes, unless it comes back under its old name, which it never does.",
        when: "a node has been silent for a minute, and did not say goodbye".to_owned(),
        from: "ours; `cluster.silent_after`",
        ..alert(pack, "PulsewireNodeMissing", Severity::Warning, "node_missing")
    }
}

fn shards(pack: &Pack) -> Alert {
    Alert {
        expr: format!(
            "max by ({INSTANCE}) (pulsewire_alert_firing{{alert=\"shards\",severity=\"critical\"}}) == 1"
        ),
        hold: "30s",
        summary: format!("A shard of {SERVER} does not answer"),
        description: "Its clients get nothing.".to_owned(),
        when: "a shard has not answered for half a minute".to_owned(),
        from: "the server's own rule `shards`",
        ..alert(pack, "PulsewireShardStuck", Severity::Critical, "shards")
    }
}

fn judged(pack: &Pack) -> Alert {
    Alert {
        expr: format!("max by ({INSTANCE}, alert) (pulsewire_alert_firing{{alert!~\"store|shards\"}}) == 1"),
        summary: format!("{SERVER} itself warns: {{{{ $labels.alert }}}}"),
        description: "See its dashboard, or `pulsewire alerts ls`.".to_owned(),
        why: "The server's own judgement, every second. It has held already, and pages are for the alerts of the same \
              things; store and shards have alerts of their own.",
        when: "a rule of the server's own fires, but `store` and `shards`".to_owned(),
        from: "`thresholds.*`",
        ..alert(pack, "PulsewireAlert", Severity::Warning, "server_rule")
    }
}

fn selfcheck(pack: &Pack) -> Alert {
    Alert {
        expr: format!("max by ({INSTANCE}, what) (abs(pulsewire_selfcheck_mismatch)) > 0"),
        hold: "10m",
        summary: format!("{SERVER} counts {{{{ $labels.what }}}} wrong"),
        description: format!("A count differs from its table by {VALUE}: a bug, please report it."),
        when: "a count differs from the table it counts for 10 minutes".to_owned(),
        from: "ours",
        ..alert(pack, "PulsewireSelfCheckMismatch", Severity::Warning, "selfcheck")
    }
}

fn draining(pack: &Pack) -> Alert {
    Alert {
        expr: format!("max by ({INSTANCE}) (websocket_draining) == 1"),
        hold: "15m",
        summary: format!("{SERVER} drains and does not end"),
        description: "It takes nobody in. Stop it, or end the drain.".to_owned(),
        when: "a server has been draining for 15 minutes".to_owned(),
        from: "ours",
        ..alert(pack, "PulsewireDrainingTooLong", Severity::Warning, "draining")
    }
}

fn reload(pack: &Pack) -> Alert {
    Alert {
        expr: format!(
            "sum by ({INSTANCE}) (increase(pulsewire_config_reloads_total{{outcome=\"failed\"}}[15m])) > 0"
        ),
        summary: format!("{SERVER} could not read its new settings"),
        description: "The old ones stay in force; the log names the mistake.".to_owned(),
        when: "a reload of the settings failed within 15 minutes".to_owned(),
        from: "ours",
        ..alert(pack, "PulsewireReloadFailed", Severity::Warning, "reload")
    }
}

fn certificate(pack: &Pack) -> [Rule; 2] {
    let pair = Pair {
        pack,
        names: ["PulsewireCertificateExpiring", "PulsewireCertificateExpiresNow"],
        holds: ["1h", "5m"],
        condition: "certificate",
        why: "Without TLS there is no such metric.",
        from: "ours",
    };
    pair.alerts([14.0, 2.0], |alert, days| {
        let days = number(days);
        Alert {
            expr: format!(
                "min by ({INSTANCE}) (pulsewire_tls_certificate_expiry_timestamp_seconds) - time() < {days} * 86400"
            ),
            summary: format!("The certificate of {SERVER} expires"),
            description: format!("In {{{{ $value | humanizeDuration }}}} (limit {days} days)."),
            when: format!("a certificate expires within {days} days"),
            ..alert
        }
    })
}

fn files(pack: &Pack) -> Vec<Rule> {
    let Some(levels) = pack.limits.files else { return Vec::new() };
    let pair = Pair {
        pack,
        names: ["PulsewireOpenFilesHigh", "PulsewireOpenFilesCritical"],
        holds: ["5m", "2m"],
        condition: "files",
        why: "",
        from: "`thresholds.files`",
    };
    let rules = pair.alerts([levels.warning, levels.critical], |alert, limit| Alert {
        expr: format!(
            "max by ({INSTANCE}) (process_open_fds{{job=~\"{jobs}\"}})\n/ max by ({INSTANCE}) (process_max_fds{{job=~\"{jobs}\"}}) > {}",
            of_one(limit),
            jobs = pack.jobs,
        ),
        summary: format!("{SERVER} runs out of file descriptors"),
        description: format!("{PERCENT} of those allowed are open (limit {} %).", number(limit)),
        when: format!("a server has more than {} % of its file descriptors open", number(limit)),
        ..alert
    });
    rules.into()
}

fn lag(pack: &Pack) -> Vec<Rule> {
    let Some(levels) = pack.limits.lag else { return Vec::new() };
    let pair = Pair {
        pack,
        names: ["PulsewireLoopLagHigh", "PulsewireLoopLagCritical"],
        holds: ["5m", "2m"],
        condition: "loop_lag",
        why: "",
        from: "`thresholds.lag`",
    };
    let rules = pair.alerts([levels.warning, levels.critical], |alert, limit| Alert {
        expr: format!(
            "histogram_quantile(0.95,\n  sum by ({INSTANCE}, loop, le) (rate(pulsewire_loop_lag_seconds_bucket[5m]))) > {}",
            number(limit / 1000.0)
        ),
        summary: format!("The {{{{ $labels.loop }}}} of {SERVER} answers late"),
        description: format!("p95 is {VALUE} s (limit {} ms).", number(limit)),
        when: format!("p95 of how late shards or runtime answer is over {} ms in 5 minutes", number(limit)),
        ..alert
    });
    rules.into()
}
