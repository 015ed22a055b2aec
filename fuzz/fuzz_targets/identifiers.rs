//! Positions, session ids, message ids and event types: no panic, and what is accepted reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulsewire_protocol::{Epoch, EventType, MessageId, Position, Sequence, SessionId};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(position) = Position::parse(text) {
        assert!(position.sequence <= Sequence::MAX);
        assert_eq!(Position::parse(&position.to_string()), Ok(position));
    }
    if let Ok(session) = SessionId::parse(text) {
        assert_eq!(session.to_string(), text);
    }
    if let Ok(epoch) = Epoch::parse(text) {
        assert_eq!(epoch.as_str(), text);
    }
    if let Some(id) = MessageId::parse(text) {
        assert_eq!(id.as_str(), text);
    }
    if let Some(event_type) = EventType::parse(text) {
        assert_eq!(event_type.as_str(), text);
    }
});
