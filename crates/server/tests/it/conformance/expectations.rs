//! What a step can wait for, by the word after `expect`.

use std::cell::RefCell;

use serde_json::{Value, json};

use super::world::{World, wait};
use super::{Step, matches};

impl World {
    /// Waits until it is so.
    pub(super) fn expect(&mut self, step: Step<'_>) -> Result<(), String> {
        // What is asked of a client begins it.
        let word = step.text("expect");
        if !matches!(word, "stored" | "metric" | "network" | "ack" | "refused") {
            self.subject(step).client();
        }
        let found = RefCell::new(Value::Null);
        let waited = wait("it is so", || {
            let (holds, now) = self.look(step);
            found.replace(now);
            holds
        });
        waited.map_err(|why| format!("{why}; there is {}", found.borrow()))
    }

    /// Whether it holds now, and what there is.
    fn look(&mut self, step: Step<'_>) -> (bool, Value) {
        let equal = |found: Value, expected: Value| (found == expected, found);
        let some = |found: Vec<Value>, expected: &Value| {
            (found.iter().any(|it| matches(it, expected)), Value::from(found))
        };
        let number = |name: &str| step.get(name).cloned().unwrap_or_default();
        match step.text("expect") {
            "status" => equal(json!(self.subject(step).status()), number("is")),
            "statuses" => {
                let statuses = self.subject(step).heard.lock().unwrap().statuses.clone();
                let among = step.names("among");
                let mut wanted = among.iter().peekable();
                for status in &statuses {
                    let _ = wanted.next_if(|it| *it == status);
                }
                let never = step.names("never");
                let holds =
                    wanted.peek().is_none() && !statuses.iter().any(|it| never.iter().any(|no| no == it));
                (holds, json!(statuses))
            }
            "health" => some(vec![self.subject(step).health()], &number("has")),
            "queued" => {
                let health = self.subject(step).health();
                equal(health["queuedMessages"].clone(), number("is"))
            }
            "ended" => {
                let health = self.subject(step).health();
                equal(health["ending"].clone(), number("code"))
            }
            "subscription" => {
                let subject = self.subject(step);
                let heard = subject.heard.lock().unwrap();
                let state = if heard.subscribed.contains(step.text("channel")) {
                    "subscribed"
                } else {
                    "unsubscribed"
                };
                equal(json!(state), number("is"))
            }
            "events" | "event" => {
                let subject = self.subject(step);
                let heard = subject.heard.lock().unwrap();
                let events = heard.events.get(step.text("of")).cloned().unwrap_or_default();
                if let Some(wanted) = step.get("has") {
                    return some(events, wanted);
                }
                let sequences: Vec<u64> =
                    events.iter().filter_map(|it| it["sequenceNumber"].as_u64()).collect();
                let holds = step.sequences("sequences").is_none_or(|wanted| wanted == sequences)
                    && step.number("count").is_none_or(|count| count == events.len() as u64)
                    && step.get("all").is_none_or(|all| events.iter().all(|it| matches(it, all)));
                (holds, json!(sequences))
            }
            "gap" => {
                let mut wanted = step.0.clone();
                wanted.remove("expect");
                let gaps = self.subject(step).heard.lock().unwrap().gaps.clone();
                some(gaps, &Value::Object(wanted))
            }
            "gaps" => {
                let gaps = self.subject(step).heard.lock().unwrap().gaps.clone();
                (Some(gaps.len() as u64) == step.number("count"), Value::from(gaps))
            }
            "error" => {
                let errors = self.subject(step).heard.lock().unwrap().errors.clone();
                (errors.iter().any(|it| it == step.text("code")), json!(errors))
            }
            "tokens" => {
                let asked = self.subject(step).asked.lock().unwrap().clone();
                equal(json!(asked), number("asked"))
            }
            "ack" => self.acknowledged(step),
            "refused" => {
                let publishes = self.publishes.lock().unwrap();
                let code = step.text("code");
                let outcomes: Vec<_> =
                    step.names("of").iter().map(|name| publishes[name].outcome.clone()).collect();
                let holds = outcomes.iter().all(|it| matches!(it, Some(Err(refused)) if refused == code));
                (holds, json!(format!("{outcomes:?}")))
            }
            "undeliverable" => self.failed(step, |_| true),
            "overflow" => self.failed(step, |code| code == "queue_full"),
            "stored" => {
                let history = self.history(step.text("channel"));
                let events = history["events"].as_array().unwrap();
                let ids: Vec<&str> = events.iter().map(|it| it["id"].as_str().unwrap_or_default()).collect();
                let holds = step.number("count").is_none_or(|count| count == ids.len() as u64)
                    && (step.get("ids").is_none() || step.names("ids") == ids);
                (holds, json!(ids))
            }
            "metric" => {
                let page = self.process().http("GET", "/metrics", "", "").text();
                let lines = page.lines().filter(|line| line.starts_with(step.text("series")));
                let sum = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
                figure(step, sum)
            }
            "network" => {
                let stats = serde_json::to_value(self.proxy.stats()).unwrap();
                figure(step, stats[step.text("figure")].as_f64().unwrap())
            }
            other => panic!("nobody knows how to expect {other}"),
        }
    }

    fn acknowledged(&self, step: Step<'_>) -> (bool, Value) {
        let publishes = self.publishes.lock().unwrap();
        let outcomes: Vec<_> = step.names("of").iter().map(|name| publishes[name].outcome.clone()).collect();
        let duplicate = step.get("duplicate").and_then(Value::as_bool);
        let sequences = step.sequences("sequences");
        let holds = outcomes.iter().enumerate().all(|(at, outcome)| match outcome {
            Some(Ok((sequence, repeated))) => {
                duplicate.is_none_or(|it| it == *repeated)
                    && sequences.as_ref().is_none_or(|it| it.get(at).copied() == *sequence)
            }
            _ => false,
        });
        (holds, json!(format!("{outcomes:?}")))
    }

    /// How many publishes failed with such a code: this client tells it to whoever published.
    fn failed(&self, step: Step<'_>, counts: impl Fn(&str) -> bool) -> (bool, Value) {
        let publishes = self.publishes.lock().unwrap();
        let failed = publishes.values().filter(|it| matches!(&it.outcome, Some(Err(code)) if counts(code)));
        let failed = failed.count() as u64;
        (Some(failed) == step.number("count"), json!(failed))
    }
}

fn figure(step: Step<'_>, value: f64) -> (bool, Value) {
    let is = step.get("is").and_then(Value::as_f64);
    let least = step.get("at_least").and_then(Value::as_f64);
    (is.is_none_or(|it| it == value) && least.is_none_or(|it| value >= it), json!(value))
}
