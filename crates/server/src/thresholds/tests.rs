//! The rules over simulated time: each fires when it should, and is quiet when it should not be.

use std::sync::Arc;

use pulsewire_hub::Now;
use pulsewire_telemetry::{
    Alert, AuthFailure, Closed, Current, DisconnectReason, DropCause, EventTypeId, Initiator, Loop,
    MemoryClass, Options, Process, ReconnectOutcome, Severity, ShardMetrics, SlowAction, Telemetry,
    Transport, Visibility,
};
use pulsewire_telemetry::{Codec, MessageType};

use super::judge::{Level, State, Told};
use super::{Judge, RULES, rule, shown};
use crate::figures::Moment;
use crate::settings::{Profile, Thresholds};

struct World {
    telemetry: Arc<Telemetry>,
    shard: ShardMetrics,
    event: EventTypeId,
    at: Now,
    current: Current,
    process: Process,
    deaf: bool,
    judge: Judge,
    thresholds: Thresholds,
    told: Vec<Told>,
}

impl World {
    fn new() -> Self {
        let telemetry = Telemetry::new(Options::default());
        let (shard, event) = (telemetry.shard(), telemetry.event_types().intern("a"));
        let process = Process { fds_open: 100, fds_max: 1_000, ..Process::default() };
        Self {
            telemetry,
            shard,
            event,
            at: Now { mono_ns: 1_000_000_000, wall_ms: 1_767_225_600_000 },
            current: Current { connections_hard_limit: 1_000, ..Current::default() },
            process,
            deaf: false,
            judge: Judge::default(),
            thresholds: Thresholds::default(),
            told: Vec::new(),
        }
    }

    fn connections(&mut self, n: u64) {
        self.current.connections[Transport::WebSocket as usize][Codec::Json as usize] = n;
    }

    fn closed_after(&self, seconds: u64) {
        self.shard.connection_closed(&Closed {
            code: 1_000,
            reason: DisconnectReason::ClientClose,
            initiator: Initiator::Client,
            lasted_ns: seconds * 1_000_000_000,
        });
    }

    /// One second passes, in which that happens.
    fn second(&mut self, what: fn(&mut Self)) {
        what(self);
        self.at = self.at.plus_ms(1_000);
        let current = (!self.deaf).then(|| Arc::new(self.current.clone()));
        let totals = self.telemetry.snapshot();
        let moment = Arc::new(Moment { at: self.at, totals, process: self.process, current });
        self.told.extend(self.judge.tick(&moment, &self.thresholds));
    }

    fn seconds(&mut self, n: u64, what: fn(&mut Self)) {
        (0..n).for_each(|_| self.second(what));
    }

    fn state(&self, alert: Alert) -> State {
        self.judge.of(alert).state
    }

    fn level(&self, alert: Alert) -> Level {
        self.judge.of(alert).level
    }

    /// Seconds until it fires with this severity, at most ten minutes.
    fn until(&mut self, alert: Alert, severity: Option<Severity>, what: fn(&mut Self)) -> u64 {
        for second in 1..=600 {
            self.second(what);
            if self.state(alert).firing() == severity {
                return second;
            }
        }
        panic!("{alert} never gets to {severity:?}: {:?}", self.judge.of(alert));
    }

    fn told(&mut self, alert: Alert) -> Vec<Option<Severity>> {
        let told = std::mem::take(&mut self.told);
        told.into_iter().filter(|told| told.alert == alert).map(|told| told.severity).collect()
    }
}

/// What a server does that is well: some of everything, so that no rule is quiet for want of things to judge.
fn well(world: &mut World) {
    world.connections(300);
    world.current.memory_bytes = [0; MemoryClass::COUNT];
    world.current.memory_bytes[MemoryClass::Connections as usize] = 300 * 700;
    world.current.store_degraded = false;
    world.deaf = false;
    world.process.fds_open = 400;
    (0..2).for_each(|_| world.shard.connection_opened());
    (0..2).for_each(|_| world.closed_after(1_200));
    (0..10).for_each(|_| world.shard.heartbeat_sent());
    (0..10).for_each(|_| world.shard.auth_succeeded());
    world.shard.delivered(world.event, 2_000_000, 50);
    world.shard.message_sent(world.event, 50, 5_000);
    world.shard.message_sent(MessageType::Ack, 10, 100);
    (0..2).for_each(|_| world.shard.client_reported(Visibility::Visible, Some(1), None, 0));
    world.telemetry.shared().loop_lag(Loop::Shards, 300_000);
    world.telemetry.shared().loop_lag(Loop::Runtime, 1_200_000);
}

/// It is well for ten minutes, then bad until it fires with this severity, then well until it ends.
fn check(alert: Alert, severity: Severity, bad: fn(&mut World)) {
    let mut world = World::new();
    world.seconds(600, well);
    assert!(world.judge.all().all(|(_, found)| found.state == State::Inactive), "{alert}: all is well");
    let judged = matches!(world.level(alert), Level::Target | Level::Ok);
    // That one is judged only while connections are short.
    assert!(judged || alert == Alert::Reconnects, "{alert}: {:?}", world.judge.of(alert));
    assert_eq!(world.told, [], "{alert}");
    let rule = rule(alert);
    let began = world.until(alert, Some(severity), bad);
    let (hold, window) = (if rule.at_once { 0 } else { 60 }, rule.window.as_secs());
    assert!(began > hold, "{alert}: {began} s are fewer than it must hold");
    assert!(began <= hold + window + 10, "{alert}: {began} s");
    assert_eq!(world.told(alert).last(), Some(&Some(severity)));
    let found = world.judge.of(alert);
    let limit = found.limit().unwrap();
    let beyond = if rule.less_is_worse { found.value.unwrap() < limit } else { found.value.unwrap() > limit };
    assert!(beyond, "{alert}: {found:?}");
    // It goes on being told once, however long it lasts.
    world.seconds(300, bad);
    assert_eq!((world.state(alert), world.told(alert)), (State::Firing(severity), vec![]), "{alert}");
    let ended = world.until(alert, None, well);
    assert!(ended > hold && ended <= hold + window + 10, "{alert}: ended after {ended} s");
    assert_eq!(world.told(alert).last(), Some(&None), "{alert}");
    let episodes = &world.judge.of(alert).episodes;
    assert!(episodes.iter().all(|episode| episode.to_ms.is_some_and(|to_ms| to_ms >= episode.from_ms)));
}

#[test]
fn connections_near_the_most_there_may_be_are_told() {
    check(Alert::Connections, Severity::Warning, |world| {
        well(world);
        world.connections(850);
    });
    check(Alert::Connections, Severity::Critical, |world| {
        well(world);
        world.connections(960);
    });
}

#[test]
fn slow_deliveries_are_told() {
    check(Alert::Latency, Severity::Critical, |world| {
        well(world);
        world.shard.delivered(world.event, 2_000_000_000, 20);
    });
    check(Alert::Latency, Severity::Warning, |world| {
        well(world);
        world.shard.delivered(world.event, 200_000_000, 20);
    });
}

#[test]
fn short_connections_are_told() {
    check(Alert::Duration, Severity::Critical, |world| {
        well(world);
        (0..10).for_each(|_| world.closed_after(3));
    });
}

#[test]
fn memory_of_connections_is_told() {
    check(Alert::Memory, Severity::Critical, |world| {
        well(world);
        world.current.memory_bytes[MemoryClass::Outboxes as usize] = 300 * 12_000;
    });
    // Memory of channels is not that of connections.
    let mut world = World::new();
    world.seconds(120, |world| {
        well(world);
        world.current.memory_bytes[MemoryClass::Channels as usize] = 300 * 12_000;
    });
    assert_eq!(world.level(Alert::Memory), Level::Target);
}

#[test]
fn vanished_clients_are_told() {
    check(Alert::Heartbeats, Severity::Critical, |world| {
        well(world);
        world.shard.heartbeat_timed_out();
    });
}

#[test]
fn failed_authentications_are_told() {
    check(Alert::Auth, Severity::Critical, |world| {
        well(world);
        (0..4).for_each(|_| world.shard.auth_failed(AuthFailure::InvalidToken));
    });
}

#[test]
fn fallbacks_are_told() {
    check(Alert::Fallback, Severity::Critical, |world| {
        well(world);
        world.shard.fell_back_to_http();
    });
}

/// Ruling C17.
#[test]
fn clients_that_come_back_are_told_if_they_do_not_stay() {
    let come_back = |world: &mut World| {
        well(world);
        (0..18).for_each(|_| {
            world.shard.connection_opened();
            world.shard.reconnected(ReconnectOutcome::Resumed);
        });
    };
    check(Alert::Reconnects, Severity::Critical, |world| {
        well(world);
        (0..18).for_each(|_| {
            world.shard.connection_opened();
            world.shard.reconnected(ReconnectOutcome::Resumed);
            world.closed_after(4);
        });
    });
    // After a deployment all come back once, and stay.
    let mut world = World::new();
    world.seconds(600, come_back);
    let found = world.judge.of(Alert::Reconnects);
    assert_eq!((found.value, found.level), (Some(90.0), Level::None));
    assert!(found.note.as_ref().unwrap().starts_with("judged only while"), "{found:?}");
}

#[test]
fn messages_that_do_not_arrive_are_told() {
    check(Alert::Failures, Severity::Critical, |world| {
        well(world);
        world.shard.message_failed(2);
    });
    check(Alert::Drops, Severity::Critical, |world| {
        well(world);
        world.shard.dropped(DropCause::SlowConsumer, 10);
    });
}

#[test]
fn slow_readers_and_clients_that_cannot_keep_up_are_told() {
    check(Alert::Slow, Severity::Critical, |world| {
        well(world);
        world.shard.slow(SlowAction::Close);
    });
    check(Alert::Queue, Severity::Critical, |world| {
        well(world);
        (0..2).for_each(|_| world.shard.client_reported(Visibility::Visible, Some(900), None, 0));
    });
}

#[test]
fn a_store_that_fails_and_a_shard_that_does_not_answer_are_told_at_once() {
    for (alert, bad) in [
        (Alert::Store, (|world: &mut World| world.current.store_degraded = true) as fn(&mut World)),
        (Alert::Shards, |world| world.deaf = true),
    ] {
        let mut world = World::new();
        world.seconds(60, well);
        world.second(bad);
        assert_eq!(world.state(alert), State::Firing(Severity::Critical), "{alert}");
        world.second(well);
        assert_eq!(world.state(alert), State::Inactive, "{alert}");
        assert_eq!(world.told(alert), [Some(Severity::Critical), None]);
    }
}

#[test]
fn files_and_lag_are_told() {
    check(Alert::Files, Severity::Critical, |world| {
        well(world);
        world.process.fds_open = 970;
    });
    check(Alert::Lag, Severity::Critical, |world| {
        well(world);
        world.telemetry.shared().loop_lag(Loop::Shards, 900_000_000);
    });
}

#[test]
fn one_of_one_is_no_share() {
    let mut world = World::new();
    world.shard.auth_failed(AuthFailure::InvalidToken);
    world.shard.heartbeat_sent();
    world.shard.heartbeat_timed_out();
    world.shard.fell_back_to_http();
    world.closed_after(1);
    world.shard.delivered(world.event, 3_000_000_000, 1);
    world.shard.message_failed(1);
    world.shard.dropped(DropCause::Closed, 1);
    world.connections(1);
    world.current.memory_bytes[MemoryClass::Outboxes as usize] = 50_000;
    // The first moment is what all others are compared with.
    let mut before = World::new();
    before.second(|_| {});
    before.shard.auth_failed(AuthFailure::InvalidToken);
    before.closed_after(1);
    before.shard.delivered(before.event, 3_000_000_000, 1);
    before.second(|_| {});
    let auth = before.judge.of(Alert::Auth);
    assert_eq!((auth.value, auth.level), (Some(100.0), Level::None), "shown, and not judged");
    assert_eq!(auth.note.as_deref(), Some("1 authentications in 5 minutes; judged from 20 on"));
    world.seconds(200, |_| {});
    for (rule, found) in world.judge.all().chain(before.judge.all()) {
        assert_eq!(found.state, State::Inactive, "{}: {found:?}", rule.alert);
    }
}

#[test]
fn what_is_bad_now_and_then_is_no_alert_and_what_is_well_now_and_then_ends_none() {
    let mut world = World::new();
    let full: fn(&mut World) = |world| {
        well(world);
        world.connections(960);
    };
    for _ in 0..20 {
        world.seconds(50, full);
        assert_eq!(world.state(Alert::Connections), State::Pending(Severity::Critical));
        world.seconds(5, well);
    }
    assert_eq!(world.told(Alert::Connections), []);
    world.seconds(70, full);
    for _ in 0..20 {
        world.seconds(5, full);
        world.seconds(50, well);
    }
    assert_eq!(world.state(Alert::Connections), State::Firing(Severity::Critical));
    assert_eq!(world.told(Alert::Connections), [Some(Severity::Critical)]);
}

#[test]
fn an_alert_gets_worse_and_better() {
    let mut world = World::new();
    world.seconds(70, |world| world.connections(850));
    world.seconds(70, |world| world.connections(960));
    world.seconds(70, |world| world.connections(850));
    world.seconds(70, |world| world.connections(100));
    let (warning, critical) = (Some(Severity::Warning), Some(Severity::Critical));
    assert_eq!(world.told(Alert::Connections), [warning, critical, warning, None]);
    let episodes: Vec<_> =
        world.judge.of(Alert::Connections).episodes.iter().map(|one| one.severity).collect();
    assert_eq!(episodes, [Severity::Warning, Severity::Critical, Severity::Warning]);
}

#[test]
fn a_pause_of_the_process_is_no_time_beyond_a_limit() {
    let mut world = World::new();
    world.seconds(5, |world| world.connections(960));
    world.at = world.at.plus_ms(600_000);
    world.seconds(30, |world| world.connections(960));
    assert_eq!(world.state(Alert::Connections), State::Pending(Severity::Critical));
    assert_eq!(world.judge.of(Alert::Connections).pending_ms, 29_000);
    world.seconds(40, |world| world.connections(960));
    assert_eq!(world.state(Alert::Connections), State::Firing(Severity::Critical));
}

#[test]
fn what_is_not_known_changes_nothing() {
    let mut world = World::new();
    world.seconds(70, |world| world.connections(960));
    world.seconds(120, |world| world.deaf = true);
    assert_eq!(world.state(Alert::Connections), State::Firing(Severity::Critical));
    assert_eq!(world.told(Alert::Connections).len(), 1);
}

#[test]
fn a_silenced_alert_is_shown_and_tells_nobody() {
    let mut world = World::new();
    let until_ms = world.at.wall_ms + 200_000;
    world.judge.silence(Alert::Connections, Some(until_ms));
    world.seconds(90, |world| world.connections(960));
    let now_ms = world.at.wall_ms;
    assert_eq!(world.state(Alert::Connections), State::Firing(Severity::Critical));
    assert_eq!((world.told(Alert::Connections), world.judge.critical(now_ms).count()), (vec![], 0));
    assert_eq!(world.judge.critical(until_ms).count(), 1, "it counts again when the silence has ended");
    world.judge.silence(Alert::Connections, None);
    assert_eq!(world.judge.critical(now_ms).count(), 1);
    world.seconds(90, |world| world.connections(1));
    assert_eq!(world.told(Alert::Connections), [None]);
}

#[test]
fn settings_count_from_the_next_second_on() {
    let mut world = World::new();
    world.seconds(3, |world| world.connections(600));
    assert_eq!(world.level(Alert::Connections), Level::Ok, "beyond 50 % of 1,000");
    world.thresholds.profile = Profile::Seed001;
    world.second(|_| {});
    assert_eq!(world.level(Alert::Connections), Level::Warning, "beyond document 001's 500");
    let levels = world.judge.of(Alert::Connections).levels.unwrap();
    assert_eq!([levels.target, levels.warning, levels.critical], [500.0, 500.0, 1_000.0]);
    world.thresholds.connections =
        Some(crate::settings::Threshold::declared::<crate::settings::kind::threshold::NumberOrShare>("off"));
    world.second(|_| {});
    let found = world.judge.of(Alert::Connections);
    assert_eq!((found.level, found.levels, found.value), (Level::None, None, Some(600.0)));
}

#[test]
fn every_rule_stands_at_the_place_of_its_alert_with_limits_in_both_profiles() {
    for (alert, rule) in Alert::ALL.iter().zip(&RULES) {
        assert_eq!(rule.alert, *alert);
        let figure =
            rule.figure.map(|id| crate::figures::FIGURES[crate::figures::index_of(id).unwrap()].unit);
        assert!(figure.is_none_or(|unit| unit == rule.unit), "{alert}: a figure that counts in the same");
        assert!(rule.help.ends_with('.') && rule.link.starts_with('/'), "{alert}");
        for profile in [Profile::Default, Profile::Seed001] {
            let thresholds = Thresholds { profile, ..Thresholds::default() };
            assert!((rule.limits)(&thresholds).is_some(), "{alert}");
        }
    }
}

/// Document 001's table.
#[test]
fn the_seed_profile_has_document_001s_numbers() {
    let thresholds = Thresholds { profile: Profile::Seed001, ..Thresholds::default() };
    let levels = |alert| {
        let levels = (rule(alert).limits)(&thresholds).unwrap();
        assert!(!levels.of_maximum);
        [levels.target, levels.warning, levels.critical]
    };
    assert_eq!(levels(Alert::Connections), [500.0, 500.0, 1_000.0]);
    assert_eq!(levels(Alert::Latency), [50.0, 100.0, 500.0]);
    assert_eq!(levels(Alert::Duration), [300.0, 60.0, 30.0]);
    assert_eq!(levels(Alert::Memory), [2_000.0, 5_000.0, 10_000.0]);
    assert_eq!(levels(Alert::Heartbeats), [0.0, 1.0, 5.0]);
    assert_eq!(levels(Alert::Auth), [1.0, 5.0, 10.0]);
}

#[test]
fn a_row_says_what_the_contract_says() {
    let mut world = World::new();
    world.seconds(90, |world| world.connections(960));
    let (rule, found) = (rule(Alert::Connections), world.judge.of(Alert::Connections));
    let row = shown::alert(rule, found, &world.thresholds, world.at.wall_ms);
    let field = |name: &str| row[name].to_string();
    assert_eq!(
        [field("id"), field("state"), field("severity")],
        [r#""connections""#, r#""firing""#, r#""critical""#]
    );
    assert_eq!([field("value"), field("limit"), field("warning")], ["960", "950", "800"]);
    assert_eq!([field("holdSeconds"), field("forSeconds"), field("pendingSeconds")], ["60", "29", "0"]);
    assert_eq!(field("expression"), r#""websocket_active_connections > 950""#);
    assert_eq!(row["history"].as_array().unwrap().len(), 1);
    assert_eq!(row["history"][0]["to"], serde_json::Value::Null);
    let told = world.told.pop().unwrap();
    assert_eq!(told.text(), "Active connections: critical at 960, limit 950");
}
