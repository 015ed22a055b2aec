//! What is derived, by examples and against a plain recount.

use proptest::collection::vec;
use proptest::prelude::*;
use pulsewire_protocol::ChannelName;

use super::*;

const NODES: Nodes = Nodes { active: 1, total: 1 };

fn types() -> Types {
    use Meaning::*;
    Types::new([
        (TaskPending, "task:created"),
        (TaskRunning, "task:started"),
        (TaskRunning, "task:progress"),
        (TaskCompleted, "task:completed"),
        (TaskFailed, "task:failed"),
        (AgentCall, "agent:call"),
        (AgentCallCompleted, "agent:call:completed"),
        (AgentCallFailed, "agent:call:failed"),
        (AgentError, "agent:error"),
    ])
}

fn derive(window_ms: u64, tasks_max: usize) -> Derive {
    Derive::new(&DeriveOptions { window_ms, tasks_max, task_idle_ms: 3_600_000 }, 0)
}

/// Tells events written as `at_ms type key? data?`, all in the channel `run:1`; a key begins with `#`.
fn tell(derive: &mut Derive, events: &[&str]) {
    let channel = ChannelName::parse("run:1").unwrap();
    for line in events {
        let (now_ms, rest) = line.split_once(' ').unwrap();
        let (event_type, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (key, data) = match rest.strip_prefix('#') {
            Some(rest) => {
                let (key, data) = rest.split_once(' ').unwrap_or((rest, ""));
                (Some(key), data)
            }
            None => (None, rest),
        };
        let data = if data.is_empty() { "null" } else { data };
        derive.observe(&types(), event_type, key, &channel, data, now_ms.parse().unwrap());
    }
}

/// What is said at a moment: `channel name=value …`, one line for each channel.
fn said(derive: &mut Derive, now_ms: u64) -> Vec<String> {
    let line = |(channel, samples): (ChannelName, Vec<Sample>)| {
        let values: Vec<_> =
            samples.iter().map(|sample| format!("{}={}", sample.name, sample.value.as_f64())).collect();
        format!("{channel} {}", values.join(" "))
    };
    derive.collect(NODES, now_ms).into_iter().map(line).collect()
}

const ALONE: &str = "distributed.metrics nodes.active=1 nodes.total=1";

#[test]
fn nothing_is_said_before_the_first_event_of_its_kind() {
    let mut derive = derive(300_000, 10);
    assert_eq!(said(&mut derive, 5_000), [ALONE]);
    tell(&mut derive, &["6000 message:new", "6000 agent:error"]);
    let agent = "agent.metrics calls.total=0 calls.successful=0 calls.failed=0 errors.total=1";
    assert_eq!(said(&mut derive, 10_000), [agent, ALONE]);
    tell(&mut derive, &["11000 task:created #a"]);
    let distributed = format!("{ALONE} tasks.pending=1 tasks.running=0 tasks.completed=0 throughput=0");
    assert_eq!(said(&mut derive, 12_000), [agent.to_owned(), distributed]);
}

#[test]
fn executions_have_the_names_and_kinds_of_document_004() {
    let mut derive = derive(300_000, 10);
    tell(
        &mut derive,
        &[
            "1000 task:completed {\"duration_ms\":100}",
            "2000 task:completed {\"duration\":0.2}",
            "3000 task:failed {\"duration_ms\":300,\"duration\":9}",
            "3000 task:completed",
        ],
    );
    let lines = said(&mut derive, 10_000);
    assert_eq!(
        lines[0],
        "workflow.metrics executions.total=4 executions.successful=3 executions.failed=1 success_rate=75 \
         duration.avg=200 duration.p95=300"
    );
    assert_eq!(lines[1], format!("{ALONE} tasks.pending=0 tasks.running=0 tasks.completed=3 throughput=0.3"));
    let (_, samples) = derive.collect(NODES, 10_000).remove(0);
    let kinds: Vec<_> = samples.iter().map(|sample| sample.kind.name()).collect();
    assert_eq!(kinds, ["counter", "counter", "counter", "gauge", "gauge", "histogram"]);
    assert!(samples.iter().all(|sample| sample.tags.is_empty() && sample.timestamp_ms.is_none()));
}

#[test]
fn a_duration_that_is_not_told_is_the_time_since_the_tasks_first_event() {
    let check = |events: &[&str], average: Option<&str>| {
        let mut derive = derive(300_000, 10);
        tell(&mut derive, events);
        let line = said(&mut derive, 10_000).remove(0);
        let found = line.split(' ').find_map(|word| word.strip_prefix("duration.avg="));
        assert_eq!(found, average, "{events:?}: {line}");
    };
    check(&["1000 task:started #a", "1500 task:progress #a", "4000 task:completed #a"], Some("3000"));
    check(&["1000 task:progress {\"task_id\":\"a\"}", "3000 task:failed {\"taskId\":\"a\"}"], Some("2000"));
    check(&["1000 task:created {\"id\":7}", "2000 task:completed {\"id\":7}"], Some("1000"));
    check(&["1000 task:started #a", "3000 task:completed #a {\"duration_ms\":5}"], Some("5"));
    check(&["1000 task:started #a", "3000 task:completed #b"], None);
    check(&["3000 task:completed #a"], None);
    // The same task again is another execution, which begins anew.
    check(&["1000 task:started #a", "2000 task:failed #a", "2500 task:completed #a"], Some("1000"));
    // Values that cannot be one are as good as none.
    for wrong in ["\"5\"", "-1", "null", "[5]", "{\"ms\":5}", "true"] {
        let event = format!("3000 task:completed #a {{\"duration_ms\":{wrong},\"duration\":{wrong}}}");
        check(&["1000 task:started #a", &event], Some("2000"));
    }
}

#[test]
fn calls_of_agents_are_told_apart_by_type_status_and_error() {
    let mut derive = derive(300_000, 10);
    let good = ["null", "[1]", "\"failed\"", "{\"error\":null}", "{\"status\":\"ok\",\"error\":\"\"}"];
    let bad = ["{\"status\":\"failed\"}", "{\"status\":\"error\"}", "{\"error\":{}}", "{\"error\":\"no\"}"];
    for data in good.iter().chain(&bad) {
        tell(&mut derive, &[&format!("1000 agent:call {data}")]);
    }
    tell(&mut derive, &["1000 agent:call:completed {\"status\":\"failed\",\"latency_ms\":10}"]);
    tell(&mut derive, &["1000 agent:call:failed {\"duration_ms\":30,\"latency_ms\":99}"]);
    tell(&mut derive, &["1000 agent:error", "1000 agent:error"]);
    assert_eq!(
        said(&mut derive, 1_000)[0],
        "agent.metrics calls.total=11 calls.successful=6 calls.failed=5 latency.avg=20 latency.p95=30 \
         errors.total=2"
    );
}

#[test]
fn the_window_slides_and_totals_stay() {
    let mut derive = derive(30_000, 10);
    tell(&mut derive, &["0 task:completed {\"duration_ms\":100}", "20000 agent:call {\"latency_ms\":8}"]);
    assert!(said(&mut derive, 29_999)[0].ends_with("duration.avg=100 duration.p95=100"));
    let lines = said(&mut derive, 30_000);
    assert!(lines[0].ends_with("executions.failed=0 success_rate=100"), "{lines:?}");
    assert!(lines[1].contains("latency.avg=8"), "{lines:?}");
    assert!(lines[2].ends_with("tasks.completed=1 throughput=0"), "{lines:?}");
}

#[test]
fn a_task_of_another_channel_is_another_task() {
    let mut derive = derive(300_000, 10);
    for channel in ["run:1", "run:2"] {
        let channel = ChannelName::parse(channel).unwrap();
        derive.observe(&types(), "task:started", Some("a"), &channel, "null", 0);
    }
    assert!(said(&mut derive, 0)[0].contains("tasks.running=2"));
}

#[test]
fn tasks_silent_longest_are_forgotten_first_and_counted() {
    let mut derive = derive(300_000, 2);
    tell(&mut derive, &["1 task:started #a", "2 task:created #b", "3 task:progress #a", "4 task:created #c"]);
    assert_eq!(derive.forgotten(), 1);
    tell(&mut derive, &["1000 task:completed #b", "1003 task:completed #a"]);
    let lines = said(&mut derive, 1_003);
    assert!(lines[0].contains("duration.avg=1002 "), "only of the one that was known: {lines:?}");
    assert!(lines[1].contains("tasks.pending=1 tasks.running=0"), "{lines:?}");
    assert!(said(&mut derive, 3_600_003)[1].contains("tasks.pending=1"));
    assert!(said(&mut derive, 3_600_004)[1].contains("tasks.pending=0"), "an hour's silence is enough");
    assert_eq!(derive.forgotten(), 2);
}

#[test]
fn a_name_that_is_too_long_is_none() {
    let mut derive = derive(300_000, 10);
    let of = |len: usize| format!("0 task:started {{\"id\":\"{}\"}}", "x".repeat(len));
    tell(&mut derive, &[&of(256), &of(257), &of(0)]);
    assert!(said(&mut derive, 0)[0].contains("tasks.running=1"));
}

/// One event of a random history.
#[derive(Debug, Clone)]
struct Told {
    after_ms: u64,
    kind: usize,
    task: usize,
    amount_ms: Option<u32>,
}

const KINDS: [&str; 8] = [
    "task:created",
    "task:started",
    "task:completed",
    "task:failed",
    "agent:call",
    "agent:call:failed",
    "agent:error",
    "message:new",
];

fn histories() -> impl Strategy<Value = Vec<Told>> {
    let amount = prop_oneof![Just(None), (0..100_000_u32).prop_map(Some)];
    let told = (0..4_000_u64, 0..KINDS.len(), 0..6_usize, amount)
        .prop_map(|(after_ms, kind, task, amount_ms)| Told { after_ms, kind, task, amount_ms });
    vec(told, 1..120)
}

/// The same, counted from the whole history each time.
#[derive(Default)]
struct Recount {
    /// What happened to tasks: when first heard of, and whether it runs; in the order of the last event.
    tasks: Vec<(usize, u64, bool)>,
    forgotten: u64,
    ended: Vec<(u64, bool, Option<f64>)>,
    calls: Vec<(u64, bool, Option<f64>)>,
    errors: usize,
}

impl Recount {
    fn tell(&mut self, told: &Told, now_ms: u64, tasks_max: usize) {
        let known = self.tasks.iter().position(|(task, ..)| *task == told.task);
        let amount = told.amount_ms.map(f64::from);
        match told.kind {
            0 | 1 => {
                let (_, since_ms, runs) = known.map_or((0, now_ms, false), |at| self.tasks.remove(at));
                if self.tasks.len() >= tasks_max {
                    self.tasks.remove(0);
                    self.forgotten += 1;
                }
                self.tasks.push((told.task, since_ms, runs || told.kind == 1));
            }
            2 | 3 => {
                let since_ms = known.map(|at| self.tasks.remove(at).1);
                let duration = amount.or(since_ms.map(|since_ms| (now_ms - since_ms) as f64));
                self.ended.push((now_ms, told.kind == 3, duration));
            }
            4 | 5 => self.calls.push((now_ms, told.kind == 5, amount)),
            6 => self.errors += 1,
            _ => {}
        }
    }
}

fn value(lines: &[(ChannelName, Vec<Sample>)], channel: &str, name: &str) -> Option<f64> {
    let (_, samples) = lines.iter().find(|(found, _)| found.as_str() == channel)?;
    samples.iter().find(|sample| sample.name == name).map(|sample| sample.value.as_f64())
}

fn near(found: Option<f64>, expected: Option<f64>, within: f64) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= expected * within + 0.002,
        (found, expected) => found == expected,
    }
}

/// The mean and the 95th percentile by sorting.
fn plain(all: &[(u64, bool, Option<f64>)], oldest_ms: u64) -> (Option<f64>, Option<f64>) {
    let mut amounts: Vec<f64> =
        all.iter().filter(|(at_ms, ..)| *at_ms >= oldest_ms).filter_map(|(.., amount)| *amount).collect();
    amounts.sort_by(f64::total_cmp);
    let count = amounts.len();
    if count == 0 {
        return (None, None);
    }
    let rank = (0.95 * count as f64).ceil() as usize;
    (Some(amounts.iter().sum::<f64>() / count as f64), Some(amounts[rank - 1]))
}

proptest! {
    #[test]
    fn what_is_derived_is_what_a_plain_recount_finds(history in histories(), tasks_max in 1..8_usize) {
        const WINDOW_MS: u64 = 60_000;
        let mut derive = derive(WINDOW_MS, tasks_max);
        let mut recount = Recount::default();
        let channel = ChannelName::parse("run:1").unwrap();
        let (types, mut now_ms) = (types(), 0);
        for told in &history {
            now_ms += told.after_ms;
            let data = match told.amount_ms {
                Some(amount) => format!("{{\"task_id\":{},\"duration_ms\":{amount}}}", told.task),
                None => format!("{{\"task_id\":{}}}", told.task),
            };
            derive.observe(&types, KINDS[told.kind], None, &channel, &data, now_ms);
            recount.tell(told, now_ms, tasks_max);

            let lines = derive.collect(NODES, now_ms);
            let found = |channel: &str, name: &str| value(&lines, channel, name);
            let part_ms = WINDOW_MS / 30;
            let oldest_ms = (now_ms / part_ms).saturating_sub(29) * part_ms;
            let count = |all: &[(u64, bool, Option<f64>)], failed: bool| {
                all.iter().filter(|one| one.1 == failed).count() as f64
            };
            let some = |there: bool, value: f64| there.then_some(value);

            let ended = &recount.ended;
            let any = !ended.is_empty();
            let (good, bad) = (count(ended, false), count(ended, true));
            prop_assert_eq!(found(WORKFLOW, "executions.total"), some(any, good + bad));
            prop_assert_eq!(found(WORKFLOW, "executions.successful"), some(any, good));
            prop_assert_eq!(found(WORKFLOW, "executions.failed"), some(any, bad));
            prop_assert!(near(found(WORKFLOW, "success_rate"), some(any, 100.0 * good / (good + bad)), 0.0));
            let (average, p95) = plain(ended, oldest_ms);
            prop_assert!(near(found(WORKFLOW, "duration.avg"), average, 1e-9));
            prop_assert!(near(found(WORKFLOW, "duration.p95"), p95, 0.01), "{p95:?}: {lines:?}");

            let any = !recount.calls.is_empty() || recount.errors > 0;
            let (good, bad) = (count(&recount.calls, false), count(&recount.calls, true));
            prop_assert_eq!(found(AGENT, "calls.total"), some(any, good + bad));
            prop_assert_eq!(found(AGENT, "calls.failed"), some(any, bad));
            prop_assert_eq!(found(AGENT, "errors.total"), some(any, recount.errors as f64));
            let (average, p95) = plain(&recount.calls, oldest_ms);
            prop_assert!(near(found(AGENT, "latency.avg"), average, 1e-9));
            prop_assert!(near(found(AGENT, "latency.p95"), p95, 0.01), "{p95:?}: {lines:?}");

            let any = !ended.is_empty() || !recount.tasks.is_empty();
            let running = recount.tasks.iter().filter(|task| task.2).count() as f64;
            prop_assert_eq!(found(DISTRIBUTED, "nodes.active"), Some(1.0));
            prop_assert_eq!(found(DISTRIBUTED, "tasks.running"), some(any, running));
            prop_assert_eq!(found(DISTRIBUTED, "tasks.pending"), some(any, recount.tasks.len() as f64 - running));
            prop_assert_eq!(found(DISTRIBUTED, "tasks.completed"), some(any, count(ended, false)));
            let lately = ended.iter().filter(|one| !one.1 && one.0 >= oldest_ms).count() as f64;
            let seconds = ((now_ms - oldest_ms) as f64 / 1_000.0).max(1.0);
            prop_assert!(near(found(DISTRIBUTED, "throughput"), some(any, lately / seconds), 0.0));
            prop_assert_eq!(derive.forgotten(), recount.forgotten);
        }
    }

    #[test]
    fn no_payload_is_an_error(data in "\\PC{0,60}", type_at in 0..KINDS.len()) {
        let mut derive = derive(60_000, 10);
        let channel = ChannelName::parse("run:1").unwrap();
        derive.observe(&types(), KINDS[type_at], None, &channel, &data, 0);
        prop_assert!(derive.collect(NODES, 0).len() <= 3);
    }
}
