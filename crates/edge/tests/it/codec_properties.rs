//! What holds for every stream, found by random ones.

use proptest::collection::vec;
use proptest::prelude::*;
use pulsewire_edge::codec::Limits;

use crate::frames::{BINARY, Client, FIN, LIMITS, PING, PONG, TEXT, fragments, frame, outcome};

/// The bookkeeping of an unfinished message, over and above its payload.
const OVERHEAD_BYTES: usize = 256;

#[derive(Debug, Clone)]
enum Unit {
    Text(String, Vec<usize>),
    Binary(Vec<u8>, Vec<usize>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn unit() -> impl Strategy<Value = Unit> {
    let cuts = || vec(0usize..300, 0..6);
    prop_oneof![
        ("\\PC{0,90}", cuts()).prop_map(|(text, cuts)| Unit::Text(text, cuts)),
        (vec(any::<u8>(), 0..300), cuts()).prop_map(|(bytes, cuts)| Unit::Binary(bytes, cuts)),
        vec(any::<u8>(), 0..=125).prop_map(Unit::Ping),
        vec(any::<u8>(), 0..=125).prop_map(Unit::Pong),
    ]
}

/// The unit's frames, its message cut at `cuts`.
fn wire(unit: &Unit) -> Vec<u8> {
    let message = |opcode, bytes: &[u8], cuts: &[usize]| {
        let mut cuts: Vec<_> = cuts.iter().map(|&cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let parts: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        fragments(opcode, &parts)
    };
    match unit {
        Unit::Text(text, cuts) => message(TEXT, text.as_bytes(), cuts),
        Unit::Binary(bytes, cuts) => message(BINARY, bytes, cuts),
        Unit::Ping(bytes) => frame(FIN | PING, bytes),
        Unit::Pong(bytes) => frame(FIN | PONG, bytes),
    }
}

/// Bytes that look like frames often enough to get past the header.
fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let raw = vec(any::<u8>(), 0..400);
    let likely = (
        prop_oneof![Just(0u8), Just(1), Just(2), Just(0x81), Just(0x80), Just(0x89), any::<u8>()],
        0u8..=255,
    )
        .prop_flat_map(|(first, second)| {
            vec(any::<u8>(), 0..200).prop_map(move |rest| [&[first, second | 0x80][..], &rest].concat())
        });
    let framed =
        (any::<u8>(), vec(any::<u8>(), 0..300)).prop_map(|(first, bytes)| frame(first & 0x8f, &bytes));
    let unfinished = vec(vec(32u8..127, 0..400), 1..8).prop_map(|parts| {
        parts.iter().map(|part| frame(BINARY, part)).take(1).flatten().collect::<Vec<u8>>()
    });
    vec(prop_oneof![raw, likely, framed, unfinished], 1..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_stream_gives_the_same_messages_however_it_is_split(
        units in vec(unit(), 1..8),
        reads in vec(1usize..200, 1..40),
    ) {
        let bytes: Vec<u8> = units.iter().flat_map(wire).collect();
        let whole = outcome(&bytes, usize::MAX);
        prop_assert_eq!(whole.split(" | ").count() >= units.len(), true);
        prop_assert_eq!(&whole, &outcome(&bytes, 1));
        let mut client = Client::default();
        let mut rest = &bytes[..];
        for &read in reads.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at(read.min(rest.len()));
            prop_assert_eq!(client.send(head, &LIMITS, 0), Ok(()));
            rest = tail;
        }
        prop_assert_eq!(&whole, &client.delivered.join(" | "));
        prop_assert_eq!(client.decoder.held_bytes(), 0);
    }

    #[test]
    fn a_valid_stream_gives_the_same_messages_split_at_any_one_byte(units in vec(unit(), 1..4)) {
        let bytes: Vec<u8> = units.iter().flat_map(wire).collect();
        let whole = outcome(&bytes, usize::MAX);
        for split in 0..bytes.len() {
            let mut client = Client::default();
            prop_assert_eq!(client.send(&bytes[..split], &LIMITS, 0), Ok(()));
            prop_assert_eq!(client.send(&bytes[split..], &LIMITS, 0), Ok(()));
            prop_assert_eq!(&whole, &client.delivered.join(" | "), "split at {}", split);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_hold_more_than_the_bound(
        bytes in hostile_bytes(),
        reads in vec(1usize..600, 1..20),
    ) {
        let limits = Limits { message_bytes_max: 1024, fragments_max: 64, ..LIMITS };
        let mut client = Client::default();
        let mut rest = &bytes[..];
        let mut arrived = 0;
        for &read in reads.iter().cycle() {
            if rest.is_empty() || client.closed {
                break;
            }
            let (head, tail) = rest.split_at(read.min(rest.len()));
            rest = tail;
            arrived += head.len();
            let verdict = client.send(head, &limits, 0);
            let held = client.decoder.held_bytes();
            prop_assert!(held <= limits.message_bytes_max + 125 + OVERHEAD_BYTES, "{} bytes held", held);
            prop_assert!(held <= 2 * arrived + OVERHEAD_BYTES, "{} bytes held for {}", held, arrived);
            if verdict.is_err() {
                prop_assert_eq!(held, 0);
                break;
            }
        }
    }
}

#[test]
fn a_message_that_trickles_in_is_held_within_twice_what_arrived() {
    let bytes = frame(FIN | BINARY, &vec![7; LIMITS.message_bytes_max]);
    let mut client = Client::default();
    for (index, read) in bytes[..bytes.len() - 1].chunks(100).enumerate() {
        client.send(read, &LIMITS, 0).unwrap();
        let held = client.decoder.held_bytes();
        let arrived = (index + 1) * 100;
        assert!(held <= (2 * arrived).min(LIMITS.message_bytes_max) + OVERHEAD_BYTES, "{held} for {arrived}");
    }
}
