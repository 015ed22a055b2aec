//! A client under test, and everything it said.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use pulsewire_client::{
    Backoff, Client, Delivery, Endpoint, Event, NewEvent, Options, Overflow, PublishError, Start, State,
    TokenError, TokenProvider,
};
use pulsewire_loadtest::proxy::{Fault, Proxy};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::world::token;

/// A publish and what became of it: its place and whether it was a repetition, or a code.
#[derive(Debug, Clone, Default)]
pub(super) struct Publish {
    pub(super) channel: String,
    pub(super) outcome: Option<Result<(Option<u64>, bool), String>>,
}

/// The publishes of a scenario, by name.
pub(super) type Publishes = Arc<Mutex<BTreeMap<String, Publish>>>;

/// What the client has delivered, in words that every client has.
#[derive(Debug, Default)]
pub(super) struct Heard {
    ever_connected: bool,
    pub(super) statuses: Vec<&'static str>,
    pub(super) subscribed: BTreeSet<String>,
    pub(super) events: BTreeMap<String, Vec<Value>>,
    /// Behind which of a channel's events another history began.
    pub(super) breaks: BTreeMap<String, Vec<usize>>,
    pub(super) gaps: Vec<Value>,
    pub(super) errors: Vec<String>,
}

impl Heard {
    fn take(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::State { to, .. } => {
                let status = match to {
                    State::Idle => "idle",
                    State::Live | State::Probing => "connected",
                    State::Polling => "polling",
                    State::Closed => "disconnected",
                    _ if self.ever_connected => "reconnecting",
                    _ => "connecting",
                };
                self.ever_connected |= status == "connected";
                if status != "connected" {
                    self.subscribed.clear();
                }
                if self.statuses.last() != Some(&status) {
                    self.statuses.push(status);
                }
            }
            Delivery::Subscribed { channel, .. } => {
                self.subscribed.insert(channel);
            }
            Delivery::Event(event) => {
                let shown = shown(&event);
                self.events.entry(event.channel).or_default().push(shown);
            }
            Delivery::Gap { channel, from, to, .. } => {
                self.gaps
                    .push(json!({ "channel": channel, "from": from.0, "to": to.0, "reason": "expired" }));
            }
            Delivery::Reset { channel, position } => {
                let before = self.events.get(&channel).map_or(0, Vec::len);
                self.breaks.entry(channel.clone()).or_default().push(before);
                self.gaps.push(json!({ "channel": channel, "to": position.sequence.0, "reason": "epoch" }));
            }
            Delivery::Refused(error) => self.errors.push(error.code),
            _ => {}
        }
    }
}

fn shown(event: &Event) -> Value {
    json!({
        "type": event.event_type,
        "data": serde_json::from_str::<Value>(event.data.get()).unwrap(),
        "sequenceNumber": event.sequence.map(|it| it.0),
        "id": event.id,
        "userId": event.user,
        "key": event.key,
        "tags": event.tags,
        "isCritical": event.critical,
        "replayed": event.replayed,
    })
}

/// A client that starts with the first thing that is asked of it, subscribed to what was named until then.
pub(super) struct Subject {
    options: Options,
    pub(super) channels: BTreeMap<String, Start>,
    /// After how many events of a channel the network resets all connections.
    pub(super) resets: BTreeMap<String, Vec<u64>>,
    client: Option<Client>,
    pub(super) heard: Arc<Mutex<Heard>>,
    /// Why tokens were asked for.
    pub(super) asked: Arc<Mutex<Vec<&'static str>>>,
    proxy: Arc<Proxy>,
    runtime: Handle,
}

impl Subject {
    pub(super) fn new(wanted: &Value, proxy: Arc<Proxy>, runtime: &Handle) -> Subject {
        let asked = Arc::default();
        let mut options = Options::new(Endpoint::parse(&format!("ws://{}", proxy.address)).unwrap());
        let ms = |name: &str| wanted.get(name).and_then(Value::as_u64).map(Duration::from_millis);
        options.token = provider(wanted.get("token"), Arc::clone(&asked));
        let (min, max) = (ms("backoff_min_ms"), ms("backoff_max_ms"));
        let of = |millis: u64| Duration::from_millis(millis);
        options.backoff =
            Backoff { min: min.unwrap_or(of(10)), max: max.unwrap_or(of(200)), ..Backoff::default() };
        let times = &mut options.timeouts;
        for (time, name) in [
            (&mut times.connect, "connect_ms"),
            (&mut times.token, "token_ms"),
            (&mut times.probe, "probe_ms"),
            (&mut times.ack, "ack_ms"),
        ] {
            *time = ms(name).unwrap_or(*time);
        }
        let queue = &wanted["queue"];
        let bound =
            |name: &str| queue.get(name).and_then(Value::as_u64).map(|it| usize::try_from(it).unwrap());
        options.queue.messages_max = bound("messages").unwrap_or(options.queue.messages_max);
        options.queue.bytes_max = bound("bytes").unwrap_or(options.queue.bytes_max);
        if queue["overflow"] == "drop_oldest" {
            options.queue.overflow = Overflow::DropOldest;
        }
        Subject {
            options,
            channels: BTreeMap::new(),
            resets: BTreeMap::new(),
            client: None,
            heard: Arc::default(),
            asked,
            proxy,
            runtime: runtime.clone(),
        }
    }

    pub(super) fn is_started(&self) -> bool {
        self.client.is_some()
    }

    /// The client, started if it was not.
    pub(super) fn client(&mut self) -> Client {
        if let Some(client) = &self.client {
            return client.clone();
        }
        let mut options = self.options.clone();
        options.channels = self.channels.iter().map(|(name, start)| (name.clone(), start.clone())).collect();
        let _inside = self.runtime.enter();
        let (client, mut deliveries) = Client::start(options);
        self.client = Some(client.clone());
        let (heard, proxy, resets) = (Arc::clone(&self.heard), Arc::clone(&self.proxy), self.resets.clone());
        self.runtime.spawn(async move {
            while let Some(delivery) = deliveries.next().await {
                let of =
                    if let Delivery::Event(event) = &delivery { Some(event.channel.clone()) } else { None };
                let mut heard = heard.lock().unwrap();
                heard.take(delivery);
                let count = of.as_ref().and_then(|channel| heard.events.get(channel)).map_or(0, Vec::len);
                drop(heard);
                if of.and_then(|channel| resets.get(&channel)).is_some_and(|it| it.contains(&(count as u64)))
                {
                    proxy.apply(Fault::Reset);
                }
            }
        });
        client
    }

    /// Publishes in this order, and keeps what becomes of each under its name.
    pub(super) fn publish(&mut self, events: Vec<(String, NewEvent)>, publishes: &Publishes) {
        let client = self.client();
        let mut waiting: Vec<Waiting> = Vec::new();
        for (name, event) in events {
            let publish = Publish { channel: event.channel.clone(), outcome: None };
            publishes.lock().unwrap().insert(name.clone(), publish);
            let client = client.clone();
            waiting.push((name, Box::pin(async move { client.publish(event).await })));
        }
        let publishes = Arc::clone(publishes);
        let (begun, all_begun) = std::sync::mpsc::channel();
        self.runtime.spawn(std::future::poll_fn(move |context| {
            // Each is handed over when it is polled first: in order.
            waiting.retain_mut(|(name, publish)| match publish.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(outcome) => {
                    let outcome = outcome
                        .map(|ack| (ack.sequence, ack.duplicate))
                        .map_err(|error| error.code().to_owned());
                    let mut publishes = publishes.lock().unwrap();
                    let publish = publishes.get_mut(name).unwrap();
                    assert!(publish.outcome.is_none(), "{name} is settled once");
                    publish.outcome = Some(outcome);
                    false
                }
            });
            // Only the first of these is heard.
            let _ = begun.send(());
            if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        }));
        all_begun.recv().unwrap();
    }

    pub(super) fn status(&self) -> &'static str {
        self.heard.lock().unwrap().statuses.last().copied().unwrap_or("idle")
    }

    pub(super) fn health(&mut self) -> Value {
        let health = self.client().health().borrow().clone();
        let status = health.status.name();
        json!({
            "status": status,
            "transport": (status == "connected").then_some("websocket"),
            "usingFallback": false,
            "queuedMessages": health.queued,
            "reconnectionCount": health.reconnections,
            "ending": health.ending.map(pulsewire_client::Ending::name),
        })
    }

    pub(super) fn end(&mut self) {
        // Dropping it would end it too, but at some time.
        if let Some(client) = self.client.take() {
            self.runtime.spawn(async move { client.close().await });
        }
    }
}

type Waiting = (String, Pin<Box<dyn Future<Output = Result<pulsewire_client::Ack, PublishError>> + Send>>);

fn provider(wanted: Option<&Value>, asked: Arc<Mutex<Vec<&'static str>>>) -> TokenProvider {
    let Some(asks) = wanted.and_then(|it| it.get("asks")).and_then(Value::as_array) else {
        return token(wanted.unwrap_or(&json!({ "user": "ada" }))).into();
    };
    let answers = asks.clone();
    TokenProvider::callback(move |reason| {
        let mut asked = asked.lock().unwrap();
        // The last answer is given again and again.
        let answer = answers.get(asked.len()).or(answers.last()).cloned().unwrap_or_default();
        asked.push(reason.name());
        async move {
            match answer.as_str() {
                Some("throws") => Err(TokenError::Failed("the application has no token now".to_owned())),
                Some("unauthorized") => Err(TokenError::Unauthorized("nobody is logged in".to_owned())),
                Some("hangs") => std::future::pending().await,
                _ => Ok(Some(token(&answer))),
            }
        }
    })
}

/// Data as the client takes it.
pub(super) fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}
