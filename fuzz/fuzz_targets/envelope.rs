//! What comes from the broker: no panic, nothing believed that another key sealed, and what is read can be said again.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pulsewire_bus::{ENVELOPE_BYTES_MAX, Envelope, Item, Key};

static KEY: LazyLock<Key> = LazyLock::new(|| Key::new(b"fuzz"));

fuzz_target!(|text: &[u8]| {
    // Nobody guesses a seal.
    assert!(Envelope::open(text, &KEY).is_err());
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(envelope) = Envelope::open(KEY.sealed(text).as_bytes(), &KEY) else { return };
    for item in &envelope.items {
        if let Item::Committed(hint) = item {
            assert!(hint.events.windows(2).all(|two| two[0].0 < two[1].0));
            assert!(hint.events.iter().all(|(sequence, _)| sequence.0 > 0 && *sequence <= hint.head));
        }
    }
    // Numbers may differ in their last digit after being written.
    let exact = |items: &[Item]| {
        let exact: Vec<&Item> = items.iter().filter(|item| !matches!(item, Item::Samples { .. })).collect();
        format!("{} {exact:?}", items.len())
    };
    let (sent_ms, said) = (envelope.sent_ms, exact(&envelope.items));
    let again = Envelope::new(&envelope.from, sent_ms, envelope.items).seal(&KEY);
    if again.len() <= ENVELOPE_BYTES_MAX {
        let opened = Envelope::open(again.as_bytes(), &KEY).expect("it was read once");
        assert_eq!((opened.unread, exact(&opened.items)), (0, said));
    }
});
