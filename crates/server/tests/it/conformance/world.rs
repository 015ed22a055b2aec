//! A server, a network and clients for one scenario, and what is done to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pulsewire_client::{NewEvent, Start};
use pulsewire_loadtest::proxy::{Fault, Proxy};
use pulsewire_protocol::{Epoch, Position, Sequence};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::subject::{Publishes, Subject, raw};
use super::{Scenario, Step};
use crate::child::{Folder, Process, pulsewire};
use crate::harness::{SECRET, bearer};

/// How long anything may take before a scenario fails.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct World {
    arguments: Vec<String>,
    folder: Folder,
    process: Option<Process>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) subjects: BTreeMap<String, Subject>,
    pub(super) publishes: Publishes,
    /// The newest sequence of each log channel that somebody else published.
    heads: BTreeMap<String, u64>,
    /// Channels of which a client does not want everything.
    partial: BTreeSet<String>,
}

impl World {
    pub(super) fn new(scenario: &Scenario, runtime: &Handle) -> World {
        let folder = Folder::new();
        let file = folder.write("settings.toml", &scenario.server.settings);
        let mut arguments = vec!["--config".to_owned(), file.to_str().unwrap().to_owned()];
        let own = [
            format!("auth.secret={SECRET}"),
            "collector.enabled=false".to_owned(),
            "server.shards=1".to_owned(),
        ];
        for pair in own.iter().chain(&scenario.server.set) {
            arguments.extend(["--set".to_owned(), pair.clone()]);
        }
        arguments.extend(["--data".to_owned(), folder.path().join("data").to_str().unwrap().to_owned()]);
        let process = serve(&arguments);
        let proxy = Arc::new(Proxy::start(process.address).unwrap());
        let subject = |options: &Value| Subject::new(options, Arc::clone(&proxy), runtime);
        let mut subjects = BTreeMap::from([("a".to_owned(), subject(&scenario.options))]);
        subjects.extend(scenario.clients.iter().map(|(name, options)| (name.clone(), subject(options))));
        World {
            arguments,
            folder,
            process: Some(process),
            proxy,
            subjects,
            publishes: Publishes::default(),
            heads: BTreeMap::new(),
            partial: BTreeSet::new(),
        }
    }

    pub(super) fn subject(&mut self, step: Step<'_>) -> &mut Subject {
        self.subjects.get_mut(step.client()).expect("a client of the scenario")
    }

    pub(super) fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// Asks over HTTP, past the network.
    pub(super) fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let admin = sign("elsewhere", "admin", 3_600, None);
        let headers = format!("{}Content-Type: application/json\r\n", bearer(&admin));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.process().http(method, path, &headers, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    pub(super) fn history(&self, channel: &str) -> Value {
        let channel = channel.replace(':', "%3A");
        self.ask("GET", &format!("/api/channels/{channel}/events?limit=1000"), &Value::Null)
    }

    /// The newest sequence of a channel that anybody was told of.
    fn head(&self, channel: &str) -> u64 {
        let publishes = self.publishes.lock().unwrap();
        let own = publishes.values().filter(|it| it.channel == channel);
        let own = own.filter_map(|it| it.outcome.as_ref()?.as_ref().ok()?.0);
        own.chain(self.heads.get(channel).copied()).max().unwrap_or(0)
    }

    pub(super) fn act(&mut self, step: Step<'_>) -> Result<(), String> {
        if step.get("fault").is_some() {
            let fault: Fault = serde_json::from_value(Value::Object(step.0.clone())).unwrap();
            self.proxy.apply(fault);
            return Ok(());
        }
        match step.text("do") {
            "connect" | "reconnect" => {
                let subject = self.subject(step);
                let begun = subject.is_started();
                let client = subject.client();
                // It connects when it starts. Later there is one word for both.
                if begun {
                    block_on(async move { client.reconnect().await });
                }
            }
            "set_token" => {
                let given = step.get("token").filter(|it| !it.is_null()).map(token);
                let client = self.subject(step).client();
                block_on(async move { client.set_token(given).await });
            }
            "subscribe" => self.subscribe(step),
            "publish" => {
                let count = step.number("count").unwrap_or(1);
                let name = step.text("as");
                let events = (1..=count).map(|number| {
                    let called = if count > 1 { format!("{name}{number}") } else { name.to_owned() };
                    let id = step.maybe("id").unwrap_or(&called).to_owned();
                    (called, new_event(step, number, id))
                });
                let (events, publishes) = (events.collect(), Arc::clone(&self.publishes));
                self.subject(step).publish(events, &publishes);
            }
            "publish_elsewhere" => {
                for number in 1..=step.number("count").unwrap_or(1) {
                    let event = serde_json::to_value(new_event(step, number, String::new())).unwrap();
                    let mut event = event.as_object().unwrap().clone();
                    event.remove("id");
                    let channel = step.text("channel");
                    let answer = self.ask("POST", "/api/publish", &Value::Object(event));
                    let sequence = answer["sequence"].as_u64().unwrap_or(0);
                    self.heads.insert(channel.to_owned(), sequence);
                }
            }
            "kill_server" => drop(self.process.take()),
            "stop_server" => {
                let mut process = self.process.take().expect("it runs");
                process.signal("TERM");
                process.wait();
            }
            "start_server" => {
                let process = serve(&self.arguments);
                self.proxy.apply(Fault::Target { to: process.address });
                self.process = Some(process);
            }
            "forget_data" => {
                std::fs::remove_dir_all(self.folder.path().join("data")).unwrap();
                self.heads.clear();
                self.publishes.lock().unwrap().clear();
            }
            "revoke" => {
                self.ask("POST", "/api/admin/revocations", &json!({ "user": step.text("user") }));
            }
            "send_away" => {
                let body = json!({ "user": step.text("user"), "code": step.number("code") });
                self.ask("POST", "/api/admin/websocket/disconnect", &body);
            }
            other => return Err(format!("nobody knows how to {other}")),
        }
        Ok(())
    }

    fn subscribe(&mut self, step: Step<'_>) {
        let channel = step.text("channel").to_owned();
        let options = step.get("options").cloned().unwrap_or_default();
        let since = match &options["since"] {
            Value::Number(sequence) => Some((
                self.history(&channel)["epoch"].as_str().unwrap().to_owned(),
                sequence.as_u64().unwrap(),
            )),
            Value::Object(since) => {
                Some((since["epoch"].as_str().unwrap().to_owned(), since["sequence"].as_u64().unwrap()))
            }
            _ => None,
        };
        let start = if let Some((epoch, sequence)) = since {
            Start::Since(Position { epoch: Epoch::parse(&epoch).unwrap(), sequence: Sequence(sequence) })
        } else if let Some(last) = options["last"].as_u64() {
            Start::Last(u32::try_from(last).unwrap())
        } else if options["replay"] == "critical" {
            self.partial.insert(channel.clone());
            Start::Critical
        } else {
            Start::Live
        };
        let resets = step.sequences("reset_after").unwrap_or_default();
        let subject = self.subject(step);
        assert!(!subject.is_started(), "a scenario that subscribes later says so in its needs");
        subject.channels.insert(channel.clone(), start);
        subject.resets.insert(channel, resets);
    }

    /// What holds at the end of every scenario: nothing lost, nothing twice, every publish settled.
    pub(super) fn judge(&mut self) -> Result<(), String> {
        let publishes = Arc::clone(&self.publishes);
        wait("all publishes are settled", || {
            publishes.lock().unwrap().values().all(|it| it.outcome.is_some())
        })?;
        for (name, subject) in &self.subjects {
            for channel in subject.channels.keys() {
                let whole = !self.partial.contains(channel);
                let serving = subject.status() == "connected" && self.process.is_some();
                let subscribed = || subject.heard.lock().unwrap().subscribed.contains(channel);
                if whole && serving && subscribed() {
                    let head = self.head(channel);
                    wait(&format!("{name} has all of {channel} up to {head}"), || {
                        let heard = subject.heard.lock().unwrap();
                        let events = heard.events.get(channel).into_iter().flatten();
                        let events = events.filter_map(|event| event["sequenceNumber"].as_u64());
                        let gaps = heard.gaps.iter().filter(|gap| gap["channel"] == **channel);
                        events.chain(gaps.filter_map(|gap| gap["to"].as_u64())).any(|it| it >= head)
                            || head == 0
                    })?;
                }
                check(subject, channel, whole)?;
            }
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.subjects.values_mut().for_each(Subject::end);
    }
}

/// Sequences of one history rise; those that are missing were announced.
fn check(subject: &Subject, channel: &str, whole: bool) -> Result<(), String> {
    let heard = subject.heard.lock().unwrap();
    let breaks = heard.breaks.get(channel).cloned().unwrap_or_default();
    let mut last = None;
    for (at, event) in heard.events.get(channel).into_iter().flatten().enumerate() {
        if breaks.contains(&at) {
            last = None;
        }
        let Some(sequence) = event["sequenceNumber"].as_u64() else { continue };
        let from = last.map_or(sequence, |last: u64| last + 1);
        if last.is_some_and(|last| sequence <= last) {
            return Err(format!("{channel}: {sequence} came after {last:?}"));
        }
        let told = |missing: u64| {
            heard.gaps.iter().any(|gap| {
                let within = gap["from"].as_u64().unwrap_or(0) <= missing;
                gap["channel"] == channel && within && gap["to"].as_u64() >= Some(missing)
            })
        };
        if let Some(missing) = (from..sequence).find(|missing| whole && !told(*missing)) {
            return Err(format!("{channel}: {missing} never came"));
        }
        last = Some(sequence);
    }
    Ok(())
}

fn serve(arguments: &[String]) -> Process {
    Process::serve(pulsewire(), &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What a step publishes.
fn new_event(step: Step<'_>, number: u64, id: String) -> NewEvent {
    let padding = step.number("bytes").map(|bytes| json!("x".repeat(usize::try_from(bytes).unwrap())));
    let data = step.get("data").cloned().or(padding).unwrap_or_else(|| json!({ "number": number }));
    let options = step.get("options").cloned().unwrap_or_default();
    NewEvent {
        channel: step.text("channel").to_owned(),
        event_type: step.maybe("type").unwrap_or("note").to_owned(),
        data: raw(&data),
        id: Some(id),
        key: options["key"].as_str().map(str::to_owned),
        tags: serde_json::from_value(options["tags"].clone()).unwrap_or_default(),
        critical: options["critical"].as_bool(),
    }
}

/// A token as a scenario describes it.
pub(super) fn token(wanted: &Value) -> String {
    if wanted == "bad" {
        return sign("ada", "user", 3_600, None) + "x";
    }
    let ttl = wanted["ttl_seconds"].as_i64().unwrap_or(3_600);
    sign(
        wanted["user"].as_str().unwrap(),
        wanted["role"].as_str().unwrap_or("user"),
        ttl,
        wanted.get("grants"),
    )
}

fn sign(user: &str, role: &str, ttl_seconds: i64, grants: Option<&Value>) -> String {
    let now = jiff::Timestamp::now().as_second();
    let all = json!({ "*": ["publish", "subscribe", "history", "presence"] });
    let claims = json!({
        "sub": user, "role": role, "caps": grants.unwrap_or(&all), "iat": now.min(now + ttl_seconds - 1), "exp": now + ttl_seconds,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

/// Waits until it is so.
pub(super) fn wait(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > end {
            return Err(format!("waited in vain until {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// For what is over as soon as the client has heard it.
fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
}
