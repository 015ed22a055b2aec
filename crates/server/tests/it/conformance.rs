//! The scenarios of `sdk/conformance`, played by the Rust client against the real server through a network that
//! misbehaves. The TypeScript SDK plays the same ones; `sdk/conformance/README.md` has the words.

mod expectations;
mod subject;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value};
use world::World;

/// What this client can do besides the common: it knows its channels when it starts, and ends once.
const ABLE: &[&str] = &[];
/// As many scenarios are played at once: they wait more than they work.
const AT_ONCE: usize = 6;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    name: String,
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    server: ServerSettings,
    #[serde(default)]
    options: Value,
    #[serde(default)]
    clients: BTreeMap<String, Value>,
    steps: Vec<Map<String, Value>>,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ServerSettings {
    set: Vec<String>,
    settings: String,
}

/// One step, read member by member.
#[derive(Clone, Copy)]
struct Step<'a>(&'a Map<String, Value>);

impl<'a> Step<'a> {
    fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name)
    }

    fn text(self, name: &str) -> &'a str {
        self.maybe(name).unwrap_or_else(|| panic!("{name} is no text in {:?}", self.0))
    }

    fn maybe(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }

    fn number(self, name: &str) -> Option<u64> {
        self.get(name).and_then(Value::as_u64)
    }

    fn client(self) -> &'a str {
        self.maybe("client").unwrap_or("a")
    }

    /// The names in a member; `p1-p3` is three.
    fn names(self, name: &str) -> Vec<String> {
        let listed = match self.get(name) {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(one)) => vec![one.as_str()],
            _ => Vec::new(),
        };
        let split = |text: &str| {
            let (from, to) = text.split_once('-')?;
            let stem = from.trim_end_matches(|it: char| it.is_ascii_digit());
            let number = |text: &str| text.strip_prefix(stem)?.parse::<u64>().ok();
            Some((number(from)?..=number(to)?).map(|number| format!("{stem}{number}")).collect())
        };
        listed.into_iter().flat_map(|text| split(text).unwrap_or_else(|| vec![text.to_owned()])).collect()
    }

    /// The numbers in a list; `"3-5"` is three.
    fn sequences(self, name: &str) -> Option<Vec<u64>> {
        let each = |item: &Value| match item.as_str().and_then(|text| text.split_once('-')) {
            Some((from, to)) => (from.parse().unwrap()..=to.parse().unwrap()).collect(),
            None => vec![item.as_u64().unwrap()],
        };
        self.get(name)?.as_array().map(|items| items.iter().flat_map(each).collect())
    }
}

#[test]
fn the_rust_client_does_what_every_client_does() {
    let file = include_str!("../../../../sdk/conformance/scenarios.json");
    let all: Vec<Scenario> = serde_json::from_str(file).unwrap();
    let able = |it: &&Scenario| it.needs.iter().all(|need| ABLE.contains(&need.as_str()));
    let only = std::env::var("PULSEWIRE_SCENARIO").unwrap_or_default();
    let played: Vec<&Scenario> = all.iter().filter(able).filter(|it| it.name.contains(&only)).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                while let Some(scenario) = played.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = catch_unwind(AssertUnwindSafe(|| play(scenario, runtime.handle())));
                    let failure = outcome.unwrap_or_else(|panic| Err(words(panic.as_ref())));
                    if let Err(why) = failure {
                        failures.lock().unwrap().push(format!("{}: {why}", scenario.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!("{} scenarios played, {} need what this client has not", played.len(), all.len() - played.len());
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), played.len(), failures.join("\n"));
    assert!(played.len() > 40 || !only.is_empty(), "only {} scenarios are for this client", played.len());
}

fn play(scenario: &Scenario, runtime: &tokio::runtime::Handle) -> Result<(), String> {
    let mut world = World::new(scenario, runtime);
    for (number, step) in scenario.steps.iter().enumerate() {
        let step = Step(step);
        let outcome = if step.get("expect").is_some() { world.expect(step) } else { world.act(step) };
        outcome.map_err(|why| format!("step {}, {}: {why}", number + 1, Value::Object(step.0.clone())))?;
    }
    world.judge()
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// Whether a value has at least what is expected: objects may have more members, lists not more items.
fn matches(value: &Value, expected: &Value) -> bool {
    match (value, expected) {
        (Value::Object(value), Value::Object(expected)) => {
            expected.iter().all(|(name, expected)| matches(value.get(name).unwrap_or(&Value::Null), expected))
        }
        (Value::Array(value), Value::Array(expected)) => {
            value.len() == expected.len()
                && value.iter().zip(expected).all(|(one, other)| matches(one, other))
        }
        _ => value == expected,
    }
}
