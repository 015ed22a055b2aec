//! What shards cannot do themselves, done on tokio.
//!
//! Requests of one connection are taken in order; each shard has a queue of its own, bounded. What can
//! be answered at once is; what waits for the network (the hook, a key that has to be fetched) runs beside
//! the queue, so a slow hook delays nobody's publish.

use std::sync::{Arc, Weak};

use pulsewire_bus::{Receipt, Refusal, Reply};
use pulsewire_edge::{Carrier, clock};
use pulsewire_hub::{
    After, Authenticated, Backend, BackendRequest, ConnKey, EventAnswer, Hub, Order, Principal, Work,
};
use pulsewire_protocol::{ChannelName, ErrorCode, Event, EventType, RequestId, SessionId};
use pulsewire_telemetry::{HookOutcome, PublishOutcome, PublishSource, RateScope, SampleSource, Telemetry};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::app::{App, Live};
use crate::auth::Refusal as Refused;
use crate::hook::ClientEvent;
use crate::http::access::Takes;
use crate::http::publish::publish_as;
use crate::http::samples::publish_batch;
use crate::reading::{history, series};

/// Requests of one shard that may wait.
const QUEUE_MAX: usize = 8_192;

/// The shards' way to the server.
pub struct Requests {
    queues: Vec<mpsc::Sender<Box<BackendRequest>>>,
}

impl Backend for Requests {
    fn request(&self, request: Box<BackendRequest>) -> Result<(), Box<BackendRequest>> {
        self.queues[request.shard].try_send(request).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(request) | mpsc::error::TrySendError::Closed(request) => request,
        })
    }
}

/// The queues' other ends, until the server is complete.
pub struct Waiting(Vec<mpsc::Receiver<Box<BackendRequest>>>);

/// Makes a queue for each shard.
#[must_use]
pub fn queues(shards: usize) -> (Requests, Waiting) {
    let (queues, waiting) = (0..shards).map(|_| mpsc::channel(QUEUE_MAX)).unzip();
    (Requests { queues }, Waiting(waiting))
}

impl Waiting {
    /// Begins to serve the queues. Ends when the shards have ended.
    pub fn serve(self, app: &Arc<App>) {
        for mut queue in self.0 {
            let app = Arc::downgrade(app);
            tokio::spawn(async move {
                while let Some(request) = queue.recv().await {
                    let Some(app) = Weak::upgrade(&app) else { return };
                    perform(&app, *request);
                }
            });
        }
    }
}

fn perform(app: &Arc<App>, request: BackendRequest) {
    let BackendRequest { shard, conn, work } = request;
    let hub = &app.hub;
    match work {
        Work::Authenticate { token, remote, after } => {
            let begins = matches!(after, After::Connect(_));
            let told = move |app: &Arc<App>, outcome: Result<Principal, ErrorCode>| {
                let outcome = outcome.map(Arc::new);
                let principal = outcome.as_ref().ok().cloned();
                app.hub.order(shard, Order::Authenticated(conn, Box::new(Authenticated { outcome, after })));
                if let Some(principal) = principal {
                    app.end_if_shut_out(remote, Some(&principal));
                }
            };
            // Who refreshes has a new token to show.
            let takes = if begins { Takes::TokensAndTickets } else { Takes::Tokens };
            authenticate(app, token, takes, remote, told);
        }
        Work::Fetch { session, principal, wish } => {
            crate::cluster::sessions::fetch(app, shard, conn, session, principal, wish);
        }
        Work::Publish { id, principal, single, begun_ns, events } => {
            let hub = hub.clone();
            let reply = move |outcome| hub.order(shard, Order::Published { conn, id, single, outcome });
            publish(app, &principal, PublishSource::WebSocket, begun_ns, events, Box::new(reply));
        }
        Work::ClientEvent { id, principal, session, event_type, channel, data } => {
            let event = Said { id, principal, session, event_type, channel, data };
            answer_event(app, shard, conn, event);
        }
        Work::Open { names, wish, id } => {
            let hub = hub.clone();
            let reply = move |outcome| hub.order(shard, Order::Opened { conn, wish, id, outcome });
            app.bus.open(clock::now(), names, Box::new(reply));
        }
        Work::State { channel, after, limit, read } => {
            let hub = hub.clone();
            let reply = move |state| hub.order(shard, Order::State { conn, read, state });
            app.bus.state(clock::now(), &channel, after, limit, Box::new(reply));
        }
        Work::History { id, channel, wish } => {
            let app = app.clone();
            // It may read several pages: what else the shard asks does not wait for it.
            tokio::spawn(async move {
                let outcome = history::read(&app, &channel, &wish).await;
                let outcome = outcome.map(Box::new).map_err(|code| (code, String::new()));
                app.hub.order(shard, Order::History { conn, id, outcome });
            });
        }
        Work::Samples { id, principal, batch } => {
            let (accepted, refused) = publish_batch(app, &principal, SampleSource::WebSocket, *batch);
            hub.order(shard, Order::Sampled { conn, id, accepted, refused });
        }
        Work::Series { id, channel, query, shape, encoding, read } => {
            let app = app.clone();
            tokio::spawn(async move {
                let outcome = series::answer(&app, &channel, query, shape, id.as_ref(), encoding).await;
                let outcome = outcome.map_err(|code| (code, String::new()));
                app.hub.order(shard, Order::Series { conn, id, read, outcome });
            });
        }
        Work::Read { channel, query, read } => {
            let hub = hub.clone();
            let reply = move |page| hub.order(shard, Order::Page { conn, read, page });
            app.bus.read(clock::now(), &channel, query, Box::new(reply));
        }
    }
}

/// Says who the bearer of a token is; at once, unless its key has to be fetched first.
fn authenticate(
    app: &Arc<App>,
    token: Box<str>,
    takes: Takes,
    remote: std::net::IpAddr,
    told: impl FnOnce(&Arc<App>, Result<Principal, ErrorCode>) + Send + 'static,
) {
    let live = app.live.load_full();
    let now = clock::now();
    let per_minute = live.settings.auth.attempts_per_minute;
    if app.attempts.check(remote, per_minute, now).is_err() {
        app.telemetry.shared().rate_limited(RateScope::Address);
        return told(app, Err(ErrorCode::RateLimited));
    }
    let code = move |app: &App, refusal: Refused| {
        if refusal.is_an_attempt() {
            app.attempts.failed(remote, per_minute, now);
        }
        tracing::debug!(%remote, %refusal, "a token was refused");
        refusal.code()
    };
    let verify = move |live: &Live, token: &str| match takes {
        Takes::TokensAndTickets => live.authenticator.token_or_ticket(token, now.wall_ms),
        _ => live.authenticator.token(token, now.wall_ms),
    };
    match verify(&live, &token) {
        Err(refusal) if live.authenticator.may_learn_key(&refusal) => {
            let app = app.clone();
            tokio::spawn(async move {
                live.authenticator.look_for_key(&token, now.wall_ms).await;
                let outcome = verify(&live, &token);
                told(&app, outcome.map_err(|refusal| code(&app, refusal)));
            });
        }
        outcome => told(app, outcome.map_err(|refusal| code(app, refusal))),
    }
}

/// Publishes in the name of a principal; what becomes of it is counted, then answered.
fn publish(
    app: &App,
    principal: &Principal,
    source: PublishSource,
    begun_ns: u64,
    events: Vec<Event>,
    reply: Reply<Result<Vec<Receipt>, Refusal>>,
) {
    let telemetry = app.telemetry.clone();
    let counted = move |outcome| {
        count(&telemetry, source, &outcome);
        reply(outcome);
    };
    publish_as(app, principal, begun_ns, events, Box::new(counted));
}

fn count(telemetry: &Telemetry, source: PublishSource, outcome: &Result<Vec<Receipt>, Refusal>) {
    let shared = telemetry.shared();
    match outcome {
        Ok(receipts) => {
            for receipt in receipts {
                let outcome =
                    if receipt.duplicate { PublishOutcome::Duplicate } else { PublishOutcome::Accepted };
                shared.publish(source, outcome);
            }
        }
        Err(refusal) if refusal.code.http_status() < 500 => shared.publish(source, PublishOutcome::Rejected),
        Err(_) => shared.publish(source, PublishOutcome::Failed),
    }
}

/// A client event on its way.
struct Said {
    id: Option<RequestId>,
    principal: Arc<Principal>,
    session: SessionId,
    event_type: Box<str>,
    channel: Option<ChannelName>,
    data: Box<RawValue>,
}

/// Lets the hook answer a client event; without one, publishes it.
fn answer_event(app: &Arc<App>, shard: usize, conn: ConnKey, said: Said) {
    let live = app.live.load_full();
    if live.hook.is_none() {
        publish_event(app, shard, conn, &live.settings.hook.channel, said);
        return;
    }
    let app = app.clone();
    tokio::spawn(async move {
        let Some(hook) = &live.hook else { return };
        let began_ns = clock::now().mono_ns;
        let event = ClientEvent {
            event_type: &said.event_type,
            session: said.session,
            user: (!said.principal.is_anonymous()).then_some(&*said.principal.sub),
            channel: said.channel.as_ref().map(ChannelName::as_str),
            data: &said.data,
            id: said.id.as_ref(),
            timestamp_ms: clock::now().wall_ms,
        };
        let answered = hook.call(event).await;
        let took_ns = clock::now().since_ns(began_ns);
        let outcome = match answered {
            Ok(answered) => {
                app.telemetry.shared().hook(HookOutcome::Ok, took_ns);
                Ok(answered.data)
            }
            Err(error) => {
                app.telemetry.shared().hook(error.outcome(), took_ns);
                tracing::debug!(%error, event_type = &*said.event_type, "the hook did not take a client event");
                Err((error.code(), error.detail().to_owned()))
            }
        };
        answer(&app.hub, shard, conn, said.id, said.event_type, outcome);
    });
}

/// Publishes a client event where the settings say. The type was allowed; the channel is the operator's choice.
fn publish_event(app: &App, shard: usize, conn: ConnKey, channel: &str, said: Said) {
    let Said { id, principal, event_type, data, .. } = said;
    let hub = app.hub.clone();
    match client_event(channel, &event_type, data) {
        Err(refused) => answer(&hub, shard, conn, id, event_type, Err(refused)),
        Ok(event) => {
            let reply = move |outcome: Result<_, Refusal>| {
                let outcome = outcome.map(|_| None).map_err(|refusal| (refusal.code, refusal.detail));
                answer(&hub, shard, conn, id, event_type, outcome);
            };
            publish(app, &principal, PublishSource::Hook, 0, vec![event], Box::new(reply));
        }
    }
}

fn client_event(channel: &str, event_type: &str, data: Box<RawValue>) -> Result<Event, (ErrorCode, String)> {
    let internal = |what: &str| (ErrorCode::Internal, format!("hook.channel `{channel}`: {what}"));
    let name = ChannelName::parse(channel).map_err(|error| internal(&error.to_string()))?;
    let event_type = EventType::parse(event_type).ok_or_else(|| internal("not an event type"))?;
    Ok(Event::new(name, event_type, data))
}

fn answer(
    hub: &Hub<Carrier>,
    shard: usize,
    conn: ConnKey,
    id: Option<RequestId>,
    event_type: Box<str>,
    outcome: Result<Option<Box<RawValue>>, (ErrorCode, String)>,
) {
    hub.order(shard, Order::EventAnswered(conn, Box::new(EventAnswer { id, event_type, outcome })));
}
