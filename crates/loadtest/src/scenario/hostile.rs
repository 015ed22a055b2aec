//! Rows P11, P18 and X4: what hostile lengths, depths and numbers cost the server, by its process and its allocator.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::raw::Raw;
use super::{Bench, Progress};
use crate::report::Figure;
use crate::target::Target;

/// A message of the largest size that is allowed by default.
const MESSAGE_BYTES: usize = 64 * 1024;
/// Names in one request: as many as fit into a message.
const NAMES: usize = 3_000;
/// Channels one client asks for (X4).
const CHANNELS: usize = 1_000_000;

/// Headers that announce more than there may be: the first byte, the lengths, and the code of the answer.
const LENGTHS: [(&[u8], u16); 4] = [
    (&[0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1009),
    (&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1002),
    (&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4], 1002),
    (&[0x81, 0xfe, 0, 5, 1, 2, 3, 4], 1002),
];

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let repetitions = bench.connections_or(2_000);
    // What is kept of closed connections is bounded, but it is not what this is about: it is filled before.
    let target = bench.server()?;
    let mut figures = Vec::new();

    progress.say("lengths that cannot be");
    lengths(&target, repetitions.max(400))?;
    let before = Memory::of(&target)?;
    lengths(&target, repetitions)?;
    let after = Memory::of(&target)?;
    figures.push(
        Figure::new("hostile_lengths_resident_bytes", after.resident - before.resident, "B")
            .at_most(1_048_576.0)
            .note(format!(
                "P11: growth of resident memory over {repetitions} frames that announce up to 2⁶³ bytes"
            )),
    );

    progress.say("messages that nest");
    let mut raw = Raw::connect(&target)?;
    raw.upgrade()?;
    let shapes =
        ["[", "{\"a\":", "[{\"type\":[", "\"\\u0041"].map(|part| part.repeat(MESSAGE_BYTES / part.len()));
    let nest = |raw: &mut Raw, times: usize| -> anyhow::Result<()> {
        for time in 0..times {
            raw.frame(0x81, shapes[time % shapes.len()].as_bytes())?;
            while !raw.text()?.contains("bad_request") {}
        }
        Ok(())
    };
    nest(&mut raw, 20)?;
    let before = Memory::of(&target)?;
    nest(&mut raw, repetitions)?;
    let after = Memory::of(&target)?;
    figures.push(
        Figure::new("hostile_nesting_heap_bytes", after.heap - before.heap, "B")
            .at_most(4.0 * MESSAGE_BYTES as f64)
            .note(format!("P18: growth of what the allocator has given out over {repetitions} messages of 64 KiB; the bound is four of them")),
    );
    drop(raw);

    progress.say("a million subscriptions");
    let mut raw = Raw::connect(&target)?;
    raw.upgrade()?;
    subscribe(&mut raw, 0, 20)?;
    let before = Memory::of(&target)?;
    let begun = Instant::now();
    for first in (0..CHANNELS).step_by(NAMES) {
        subscribe(&mut raw, first, NAMES)?;
    }
    for number in 0..repetitions {
        subscribe(&mut raw, number, 1)?;
    }
    let took = begun.elapsed();
    let scraped = target.scrape()?;
    let after = Memory::of(&target)?;
    figures.push(
        Figure::new("hostile_subscriptions", scraped.sum("websocket_active_subscriptions", &[]), "")
            .at_most(1_000.0)
            .note(format!("X4: what one client has that asked for {CHANNELS} in bulk and {repetitions} singly, in {took:.1?}")),
    );
    figures.push(
        Figure::new("hostile_subscriptions_heap_bytes", after.heap - before.heap, "B")
            .at_most(1_048_576.0)
            .note("growth of what the allocator has given out, with the client still there"),
    );
    Ok(figures)
}

/// The server's memory at one moment, in bytes.
struct Memory {
    resident: f64,
    heap: f64,
}

impl Memory {
    fn of(target: &Target) -> anyhow::Result<Memory> {
        let heap = target.scrape()?.sum("pulsewire_heap_allocated_bytes", &[]);
        Ok(Memory { resident: target.usage()?.anonymous_bytes as f64, heap })
    }
}

fn lengths(target: &Target, repetitions: usize) -> anyhow::Result<()> {
    for repetition in 0..repetitions {
        let (header, expected) = LENGTHS[repetition % LENGTHS.len()];
        let mut raw = Raw::connect(target)?;
        raw.upgrade()?;
        raw.send(header)?;
        let code = raw.close_code()?;
        ensure!(code == expected, "{header:02x?} is answered {code} instead of {expected}");
    }
    let begun = Instant::now();
    while target.scrape()?.sum("websocket_active_connections", &[]) > 0.0 {
        ensure!(begun.elapsed() < Duration::from_secs(30), "connections outlive their clients");
    }
    Ok(())
}

fn subscribe(raw: &mut Raw, first: usize, count: usize) -> anyhow::Result<()> {
    let mut text = String::from(r#"{"type":"subscribe","id":7,"channels":["#);
    for number in first..first + count {
        let comma = if number == first { "" } else { "," };
        let _ = write!(text, "{comma}\"run:{number}\"");
    }
    text.push_str("]}");
    raw.frame(0x81, text.as_bytes())?;
    // Refused or not, it is answered once, by its id.
    while !raw.text()?.contains("\"id\":7") {}
    Ok(())
}
