//! The body of a publish over HTTP: no panic, and what is accepted can be sent in both encodings.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulsewire_protocol::transcode::msgpack_to_json;
use pulsewire_protocol::{Encoding, Event, Publication, Sequence, encode_event};

fuzz_target!(|body: &[u8]| {
    let Ok(events) = Event::parse_batch(body, 10) else { return };
    assert!((1..=10).contains(&events.len()));
    for event in &events {
        let sequence = Some(Sequence(1));
        let publication = Publication { event, sequence, previous: None, timestamp_ms: 1, user: Some("ada") };
        let json = encode_event(&publication, Encoding::Json);
        std::str::from_utf8(json.payload()).expect("a text frame is UTF-8");
        let packed = encode_event(&publication, Encoding::MsgPack);
        assert_ne!(packed.payload(), [0xC0], "an accepted event packs");
        let _ = msgpack_to_json(packed.payload(), &mut Vec::new());
    }
});
