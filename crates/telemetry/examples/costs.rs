//! What telemetry costs: nanoseconds a verb, and the time and size of a scrape.
//!
//! `cargo run --release -p pulsewire-telemetry --example costs`
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use std::hint::black_box;
use std::time::Instant;

use pulsewire_telemetry::{
    Codec, Current, Format, MessageType, Options, Proof, Telemetry, Transport, numbers, render,
};

const ROUNDS: u32 = 5_000_000;

fn time(what: &str, mut verb: impl FnMut(u64)) {
    let start = Instant::now();
    for round in 0..ROUNDS {
        verb(black_box(u64::from(round)));
    }
    let ns = start.elapsed().as_nanos() as f64 / f64::from(ROUNDS);
    println!("{what:<34} {ns:>6.2} ns");
}

fn main() {
    let telemetry = Telemetry::new(Options::default());
    let (shard, shared) = (telemetry.shard(), telemetry.shared());
    let id = telemetry.event_types().intern("agent:status");
    time("empty loop", |_| {});
    time("message_sent (shard)", |n| shard.message_sent(black_box(id), 1, n & 255));
    time("delivered (shard)", |n| shard.delivered(black_box(id), n * 100, 1));
    time("message_received (shard)", |_| shard.message_received(black_box(MessageType::Pong)));
    time("heartbeat_answered (shard)", |n| shard.heartbeat_answered(n * 100));
    time("receipt (shard)", |n| shard.receipt(black_box(id), n * 100, Proof::TcpAck));
    time("event_emitted (shared)", |_| shared.event_emitted(black_box(id), 1));
    time("event_types().intern", |_| {
        black_box(telemetry.event_types().intern(black_box("agent:status")));
    });

    for n in 0..200 {
        telemetry.event_types().intern(&format!("type-{n}"));
    }
    let shards: Vec<_> = (0..4).map(|_| telemetry.shard()).collect();
    let start = Instant::now();
    let mut now = Current::default();
    for n in 0..10_000 {
        now.connection(Transport::WebSocket, Codec::Json, n % 7, n % 900, n * 50);
        if n % 10 == 0 {
            now.subscriptions_by_project.push((format!("project-{n}"), n));
        }
    }
    println!("{:<34} {:>6.2} ms", "10,000 connections into Current", start.elapsed().as_secs_f64() * 1e3);
    for format in [Format::Text004, Format::OpenMetrics] {
        let start = Instant::now();
        let page = render(&telemetry, &now, format);
        let ms = start.elapsed().as_secs_f64() * 1e3;
        println!("{:<34} {ms:>6.2} ms, {} KiB", format!("render {format:?}, 201 types"), page.len() / 1024);
    }
    let start = Instant::now();
    let count = numbers(&telemetry, &now).len();
    println!("{:<34} {:>6.2} ms, {count} numbers", "numbers", start.elapsed().as_secs_f64() * 1e3);
    drop(shards);
}
