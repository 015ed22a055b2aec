//! Follows the channel of those who are shut out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use pulsewire_bus::{Accepted, Body, ReadLimit};
use pulsewire_edge::clock;
use pulsewire_protocol::{ErrorCode, Event, Sequence};
use pulsewire_telemetry::limited;
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::{CHANNEL, Change, Fact, LET_IN, OVER, SHUT_OUT, Told, channel, keep, take_in};
use crate::app::App;
use crate::reading::{self, Cursor, Filter, Start};

/// Between two tries to reach the store, and two looks for what waits to be kept.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a start waits for the first reading: a store that is not there must not keep the server from starting.
const FIRST: Duration = Duration::from_secs(3);
/// How much is read at a time.
const PAGE: ReadLimit = ReadLimit { publications: 500, bytes: 1 << 20 };
/// Looks between two at which is forgotten what is over.
const TIDY_EVERY: u32 = 60;
/// What is forgotten at one of those at most.
const TIDY_MAX: usize = 500;
/// How long after its time something is forgotten: clocks of nodes differ.
const LATE_MS: i64 = 60_000;

/// Begins to follow the channel; returns when everything that holds is known, or the store could not be read.
pub async fn start(app: &Arc<App>, stop: watch::Receiver<bool>) {
    let (ready, is_ready) = oneshot::channel();
    tokio::spawn(follow(app.clone(), stop.clone(), ready));
    tokio::spawn(tend(app.clone(), stop));
    // Nothing is sent: it is dropped when the first reading has ended in one way or the other.
    let _ = tokio::time::timeout(FIRST, is_ready).await;
}

async fn follow(app: Arc<App>, mut stop: watch::Receiver<bool>, ready: oneshot::Sender<()>) {
    let mut ready = Some(ready);
    loop {
        tokio::select! {
            code = following(&app, &mut ready) => {
                limited!(warn, %code, "who is shut out cannot be read from the store; it is tried again");
            }
            _ = stop.changed() => return,
        }
        ready = None;
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            _ = stop.changed() => return,
        }
    }
}

/// Follows the channel until the store cannot be read.
async fn following(app: &Arc<App>, ready: &mut Option<oneshot::Sender<()>>) -> ErrorCode {
    match try_following(app, ready).await {
        Ok(never) => match never {},
        Err(code) => code,
    }
}

async fn try_following(
    app: &Arc<App>,
    ready: &mut Option<oneshot::Sender<()>>,
) -> Result<std::convert::Infallible, ErrorCode> {
    let channel = reading::open(app, &channel(), Sequence::ZERO).await?;
    let mut listening = app.readers.attend(&channel);
    // From here on nothing is missed: the state is read behind this position.
    let (mut cursor, _) = Cursor::begin(channel, &Start::Now, Filter::default());
    read_state(app, &cursor).await?;
    *ready = None;
    loop {
        listening.look();
        loop {
            let step = cursor.step(app, PAGE).await?;
            if step.gap.is_some() {
                // Further behind than what is kept.
                let held = read_state(app, &cursor).await?;
                app.blocks.all().into_iter().for_each(|(address, _)| {
                    let key = Fact::Address { address, until_ms: 0 }.key();
                    if !held.contains(&key) && !app.shut_out.waiting.lock().contains_key(&key) {
                        app.blocks.unblock(address);
                    }
                });
            }
            for told in &step.events {
                if let Body::Event(accepted) = &told.publication.body {
                    hear(app, accepted).await;
                }
            }
            if step.is_empty() || !step.has_more() {
                break;
            }
        }
        if cursor.follow() {
            // The store was put back to an earlier state: it is told again what it has lost.
            listening.follow(&cursor.channel);
            let held = read_state(app, &cursor).await?;
            let now_ms = clock::now().wall_ms;
            for fact in app.shut_out_sets().all() {
                let key = fact.key();
                if fact.until_ms() > now_ms && !held.contains(&key) {
                    app.shut_out.wait(key, Change::ShutOut(fact));
                }
            }
            continue;
        }
        listening.moved().await;
    }
}

/// Takes in everything that holds. Returns the keys.
async fn read_state(app: &Arc<App>, cursor: &Cursor) -> Result<HashSet<String>, ErrorCode> {
    let mut keys = HashSet::new();
    let mut after = None;
    loop {
        let (reply, answer) = oneshot::channel();
        let reply = Box::new(move |part| drop(reply.send(part)));
        app.bus.state(clock::now(), &cursor.channel, after, PAGE, reply);
        let part = answer.await.map_err(|_| ErrorCode::StoreUnavailable)??;
        for keyed in &part.values {
            if let Some(key) = &keyed.accepted.event.key {
                keys.insert(key.to_string());
            }
            hear(app, &keyed.accepted).await;
        }
        match &part.behind {
            Some(behind) => after = Some(behind.clone()),
            None => return Ok(keys),
        }
    }
}

/// Something was said on the channel.
async fn hear(app: &Arc<App>, accepted: &Accepted) {
    let Event { event_type, data, key, .. } = &accepted.event;
    match event_type.as_str() {
        SHUT_OUT => match serde_json::from_str::<Fact>(data.get()) {
            Ok(fact) => {
                if take_in(app, &fact, Told::ByChannel).await.is_err() {
                    tracing::error!("a shard does not answer; a connection that was shut out may live on");
                }
            }
            Err(error) => {
                tracing::error!(%error, channel = CHANNEL, "an entry cannot be read; was it written by a newer version?");
            }
        },
        LET_IN => {
            if let Some(address) = key.as_deref().and_then(|key| key.strip_prefix("a:")?.parse().ok()) {
                app.blocks.unblock(address);
            }
        }
        OVER => {
            // Another operator may have shut the same out again just then: that counts.
            let key = key.as_deref().unwrap_or_default();
            if let Some(fact) = app.shut_out_sets().forget(key, clock::now().wall_ms) {
                app.shut_out.wait(key.to_owned(), Change::ShutOut(fact));
            }
        }
        other => {
            tracing::warn!(event_type = other, channel = CHANNEL, "an event of a newer version is left out");
        }
    }
}

/// Has kept what waits, and forgets what is over.
async fn tend(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let mut looks = tokio::time::interval(AGAIN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for look in 1_u32.. {
        tokio::select! {
            _ = looks.tick() => {}
            _ = stop.changed() => return,
        }
        // One after the other, and none while the store takes none.
        while let Some((key, change)) = app.shut_out.first_waiting() {
            if keep(&app, &key, &change).await.is_err() {
                break;
            }
            app.shut_out.kept(&key, &change);
        }
        let first = app.cluster.as_ref().is_none_or(|cluster| cluster.nodes.lock().is_first());
        if look % TIDY_EVERY == 0 && first {
            let over_ms = clock::now().wall_ms - LATE_MS;
            let over = app.shut_out_sets().all().into_iter().filter(|fact| fact.until_ms() <= over_ms);
            over.take(TIDY_MAX).for_each(|fact| app.shut_out.wait(fact.key(), Change::Over));
        }
    }
}
