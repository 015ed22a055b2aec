//! What rules and dashboards are told of the settings.

use pulsewire_operations::{Levels, Limits, Pack};
use pulsewire_telemetry::Alert;

use crate::settings::{Settings, Thresholds};
use crate::thresholds::rule;

/// The names and limits that rules for Prometheus and dashboards are made of.
///
/// The limits are those the server judges itself by, so that an alert and the server's own rule of the same thing
/// cannot disagree.
#[must_use]
pub fn pack(settings: &Settings) -> Pack {
    Pack {
        alias_prefix: settings.metrics.alias_prefix.clone(),
        limits: limits(&settings.thresholds),
        ..Pack::default()
    }
}

fn limits(thresholds: &Thresholds) -> Limits {
    let of = |alert| {
        (rule(alert).limits)(thresholds).map(|levels| Levels {
            target: levels.target,
            warning: levels.warning,
            critical: levels.critical,
            of_maximum: levels.of_maximum,
        })
    };
    Limits {
        connections: of(Alert::Connections),
        latency: of(Alert::Latency),
        duration: of(Alert::Duration),
        memory: of(Alert::Memory),
        heartbeats: of(Alert::Heartbeats),
        auth: of(Alert::Auth),
        fallback: of(Alert::Fallback),
        reconnects: of(Alert::Reconnects),
        failures: of(Alert::Failures),
        drops: of(Alert::Drops),
        slow: of(Alert::Slow),
        queue: of(Alert::Queue),
        files: of(Alert::Files),
        lag: of(Alert::Lag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_the_server_judges_itself_by() {
        let mut settings = Settings::default();
        let limits = pack(&settings).limits;
        let shares = Levels { target: 50.0, warning: 80.0, critical: 95.0, of_maximum: true };
        assert_eq!(limits.connections, Some(shares));
        assert_eq!(limits.latency.map(|levels| (levels.warning, levels.critical)), Some((100.0, 500.0)));
        settings.thresholds.profile = crate::settings::Profile::Seed001;
        let levels = pack(&settings).limits.connections;
        assert_eq!(levels.map(|levels| (levels.warning, levels.of_maximum)), Some((500.0, false)));
    }
}
