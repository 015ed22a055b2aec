//! Row P24: clients that vanish, ten thousand times, and what they leave behind.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::raw::Raw;
use super::{Bench, Progress};
use crate::report::Figure;
use crate::target::Target;

/// The longest a connection may outlive its client.
const GONE_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let repetitions = bench.connections_or(10_000);
    let target = bench.server()?;
    // What the first connections of each kind open once is not left by them.
    let mut longest = Duration::ZERO;
    for repetition in 0..40 {
        vanish(&target, repetition, &mut longest)?;
    }
    settle(&target)?;
    let before = target.scrape()?;
    longest = Duration::ZERO;
    let mut upgraded = 0;
    for repetition in 0..repetitions {
        if repetition % 500 == 0 {
            progress.say(format!("{repetition} of {repetitions} clients have vanished"));
        }
        upgraded += vanish(&target, repetition, &mut longest)?;
    }
    let begun = Instant::now();
    settle(&target)?;
    let settled = begun.elapsed();
    let after = target.scrape()?;
    let grown = |name: &str| after.sum(name, &[]) - before.sum(name, &[]);
    Ok(vec![
        Figure::new("vanish_repetitions", repetitions as f64, "")
            .note("in turn: a FIN in the handshake, a reset in a frame, a reset in a message, a half-close after a message"),
        Figure::new("vanish_descriptors_left", grown("process_open_fds"), "").at_most(0.0),
        Figure::new("vanish_miscounted", (grown("websocket_closes_total") - upgraded as f64).abs(), "")
            .at_most(0.0)
            .note(format!("closes counted beside {upgraded} connections that were upgraded")),
        Figure::new("vanish_left_open", after.sum("websocket_active_connections", &[]), "").at_most(0.0),
        Figure::new("vanish_answered_half_close_s", longest.as_secs_f64(), "s")
            .at_most(GONE_WITHIN.as_secs_f64())
            .note("the longest from a client's half-close to the server's own end"),
        Figure::new("vanish_settled_s", settled.as_secs_f64(), "s")
            .note("until the server's page showed nobody, after the last one; a page is up to a second old"),
        Figure::new("vanish_heap_bytes", grown("pulsewire_heap_allocated_bytes") / repetitions as f64, "B")
            .note("growth of what the allocator has given out, per repetition"),
    ])
}

/// One client; says how many connections were upgraded (0 or 1).
fn vanish(target: &Target, repetition: usize, longest: &mut Duration) -> anyhow::Result<u64> {
    let mut raw = Raw::connect(target)?;
    match repetition % 4 {
        0 => {
            raw.half_a_handshake()?;
            return Ok(0);
        }
        1 => {
            raw.upgrade()?;
            raw.send(&[0x81, 0xfe, 0x01])?;
            raw.reset();
        }
        2 => {
            raw.upgrade()?;
            raw.frame(0x01, b"{")?;
            raw.reset();
        }
        _ => {
            raw.upgrade()?;
            raw.frame(0x81, br#"{"type":"ping","timestamp":1}"#)?;
            let begun = Instant::now();
            raw.half_close()?;
            raw.rest()?;
            *longest = begun.elapsed().max(*longest);
        }
    }
    Ok(1)
}

/// Waits until nobody is connected.
fn settle(target: &Target) -> anyhow::Result<()> {
    let begun = Instant::now();
    while target.scrape()?.sum("websocket_active_connections", &[]) > 0.0 {
        ensure!(
            begun.elapsed() < Duration::from_secs(30),
            "connections outlive their clients by half a minute"
        );
    }
    Ok(())
}
